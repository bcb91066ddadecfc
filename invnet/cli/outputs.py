"""Where commands write, which is checked before they work, and samples in each form: a picture, single images,
arrays.
"""

import math
import pathlib
import tempfile

import numpy as np

from .. import plot
from ..data import quantise

LARGEST_PICTURE = 4096  # pixels along a side
ARRAYS = (".npy", ".npz")


def check_place(path):
    """Raises OSError unless a file or folder can be made at `path`, or in it where it is a folder."""
    path = pathlib.Path(path).absolute()
    there = next(place for place in (path, *path.parents) if place.exists())
    try:
        if there == path and not path.is_dir():
            raise FileExistsError(0, "it exists already")
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(f"--out is a place that can be written to; got {path}: {error.strerror}") from None


def free(path):
    """`path`, or the first of name-2, name-3, ... that does not exist."""
    place, i = path, 2
    while place.exists():
        place, i = path.with_name(f"{path.stem}-{i}{path.suffix}"), i + 1
    return place


class Samples:
    """Where and how `invnet sample` writes; its mistakes are found when it is made, before anything is drawn.

    Args:
        out: a file of arrays, a file of a picture, or a folder for single .png images; each a new one.
        n: the number of samples.
        shape: (C, H, W).
        levels: of the data.
        columns: of the picture; None makes it near square.

    Raises:
        OSError: `out` exists or cannot be made.
        ValueError: images of this number, shape or levels cannot be written so.
    """

    def __init__(self, out, n, shape, levels, columns=None):
        self.path, self.levels, self.columns = pathlib.Path(out), levels, columns
        suffix = self.path.suffix.lower()
        is_folder = self.path.is_dir() or str(out).endswith(("/", "\\")) or not suffix
        self.kind = "folder" if is_folder else "array" if suffix in ARRAYS else "picture"
        if is_folder and self.path.is_dir() and any(self.path.glob("*.png")):
            raise FileExistsError(f"the folder {out} has .png images already: choose another")
        check_place(out)
        if self.kind != "array" and shape[0] not in (1, 3):
            raise ValueError(
                f"pictures have 1 or 3 channels, these images {shape[0]}: write them to a .npy or .npz file"
            )
        if is_folder and levels > 256:
            raise ValueError(
                f"a .png image holds 256 levels, these images have {levels}: write them to a .npy or .npz file"
            )
        if columns is not None and self.kind != "picture":
            raise ValueError(f"--columns is of a picture; got --out {out}")
        if self.kind == "picture":
            self._check_picture(n, *shape[1:])

    def _check_picture(self, n, H, W):
        from matplotlib.backend_bases import FigureCanvasBase

        kinds = FigureCanvasBase.get_supported_filetypes()
        if self.path.suffix.lower()[1:] not in kinds:
            raise ValueError(
                f"--out is a folder, a .npy or .npz file, or a picture ({', '.join(sorted(kinds))}); got {self.path}"
            )
        columns = min(n, self.columns or plot.near_square(n, H, W))
        if n > 1 and max(columns * (W + 1), math.ceil(n / columns) * (H + 1)) > LARGEST_PICTURE:
            raise ValueError(
                f"a picture is at most {LARGEST_PICTURE} pixels wide and high, too few for {n:,} images of {H}x{W} in "
                f"{columns} columns: write them to a folder/, a .npy or a .npz file"
            )

    def write(self, images):
        """Writes images (N, C, H, W) of which 0 is black and 1 is white; says what it wrote, a text."""
        (self.path if self.kind == "folder" else self.path.parent).mkdir(parents=True, exist_ok=True)
        if self.kind == "picture":
            plot.image_grid(images, self.columns).savefig(self.path)
            return f"in {self.path}"
        k = quantise(np.clip(images, 0, 1), self.levels)
        if self.kind == "folder":
            return self._write_images(k)
        with open(self.path, "xb") as file:
            if self.path.suffix.lower() == ".npy":
                np.save(file, k)
            else:
                np.savez_compressed(file, images=k)
        return f"in {self.path}, integers from 0 to {self.levels - 1} of shape {k.shape}"

    def _write_images(self, k):
        from PIL import Image

        pixels = np.rint(k * (255 / (self.levels - 1))).astype(np.uint8).transpose(0, 2, 3, 1)
        digits = len(str(len(k) - 1))
        for i, image in enumerate(pixels):
            Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(self.path / f"{i:0{digits}}.png")
        return f"in {self.path}, a .png file each"
