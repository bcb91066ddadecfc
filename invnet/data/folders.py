"""Folders of images: which files are read, which part each belongs to, and what becomes of their modes."""

from __future__ import annotations

import collections
import os
import pathlib
import re
import struct
from typing import TYPE_CHECKING

import numpy as np

from .parts import NAMES, images_of, log
from .quantise import quantise

if TYPE_CHECKING:
    from ..typing import Array, Path, Seed
    from .images import Images

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
GREY, COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA")
OF_THE_SYSTEM = ("Thumbs.db", "desktop.ini", "__MACOSX")


def folder(
    path: Path,
    levels: int | None = None,
    values: Array | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: Seed = 0,
) -> Images:
    """All images in a folder and those within it, of one size, upright as their EXIF data say.

    Files are .png, .jpg, .bmp, .gif, .webp, .tif and .ppm; those whose names begin with a dot are left out, and links
    are followed. Where folders are called train and test, or val, at any depth, they are these parts; folders of other
    names, such as one for each class, are no matter. Without a val, `validation` of the training part is taken, at most
    5,000. Images are grey if all are, also where they are stored in colour, else RGB; an alpha channel is dropped.

    Args:
        path: of the folder.
        levels: how many values a pixel of the result can take; None is `values`.
        values: how many values a pixel of the files takes, 0 to values - 1, if not 256.
        validation, test: the share of the training part for a part that is not there.
        seed: of the order in which these are chosen.

    Raises:
        ValueError: no images, images of several sizes, a damaged one, one of more than 8 bits or frames, one of another
            mode.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise ImportError("reading a folder of images needs Pillow: pip install pillow") from None
    path = pathlib.Path(path)
    values = 256 if values is None else values
    parts = _parts(path, _image_files(path))
    files = [file for of_part in parts.values() for file in of_part]
    X = _pixels(files, path)
    X = quantise(np.ascontiguousarray(X.transpose(0, 3, 1, 2)), levels or values, values)
    ends = np.cumsum([len(of_part) for of_part in parts.values()])
    return images_of(
        dict(zip(parts, np.split(X, ends[:-1]))), levels, values, path.resolve().name, validation, test, seed
    )


# ---- which files


def _image_files(path):
    """The image files within a folder, in order; a line says which other files there are."""
    files, others, seen = [], collections.Counter(), set()
    for place, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if _counts(name))
        if os.path.realpath(place) in seen:  # a link to a folder around it
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        for name in filter(_counts, names):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in SUFFIXES:
                files.append(pathlib.Path(place, name))
            else:
                others[suffix or "without an ending"] += 1
    listed = ", ".join(f"{number:,} {suffix}" for suffix, number in sorted(others.items()))
    if not files:
        has = f"; it has {listed}" if others else ""
        raise ValueError(f"the folder {path} has no images: no file in it ends in {', '.join(SUFFIXES)}{has}")
    if others:
        log.warning("%s: files that are not read as images: %s", path, listed)
    return sorted(files)


def _counts(name):
    return not name.startswith(".") and name not in OF_THE_SYSTEM


def _parts(path, files):
    """{part: files}, by the outermost folder within `path` that is called after a part; all are "train" where parts
    have no folders.
    """
    parts = {}
    for file in files:
        names = [name.lower() for name in file.relative_to(path).parts[:-1]]
        parts.setdefault(next((NAMES[name] for name in names if name in NAMES), None), []).append(file)
    rest = parts.pop(None, [])
    if not parts or (parts.keys() == {"train"} and not rest):
        return {"train": files}
    if "train" not in parts:
        move = (
            f"move the other {len(rest):,} images into a folder train" if rest else "give the path of the folder within"
        )
        raise ValueError(
            f"{path} has {_folders(parts)} and no train: {move}, or rename that folder where it is no part of the data "
            f"set"
        )
    if len(parts) == 1:
        log.warning(
            "%s: train is taken as a folder like its neighbours, since there is no test or val; parts are chosen at "
            "random",
            path,
        )
        return {"train": files}
    if rest:
        log.warning("%s: %s images outside %s are not used", path, f"{len(rest):,}", _folders(parts))
    return {part: parts[part] for part in ("train", "validation", "test") if part in parts}


def _folders(parts):
    return " and ".join(
        name for name, part in (("train", "train"), ("val", "validation"), ("test", "test")) if part in parts
    )


# ---- pixels


def _pixels(files, path):
    """(N, H, W, C) bytes of these files, C 1 or 3."""
    modes = collections.Counter()
    shape = None
    for file in files:  # the headers first, which is quick
        mode, size, unread = _read(file, _header)
        if unread is not None:
            raise ValueError(f"images are grey or RGB of 8 bits, one to a file; {file} has {unread}")
        shape = shape or size
        modes[mode] += 1
        _check_size(files[0], shape, file, size)
    grey = not any(modes[mode] for mode in COLOUR)
    X, transparent = np.empty((len(files), shape[1], shape[0], 1 if grey else 3), np.uint8), 0
    for i, file in enumerate(files):
        pixels, see_through = _read(file, _decoded, "L" if grey else "RGB")
        _check_size(files[0], shape, file, (pixels.shape[1], pixels.shape[0]))
        X[i] = pixels.reshape(X.shape[1:])
        transparent += see_through
    if transparent:
        log.warning("%s: %s images are not opaque; their alpha channel is dropped", path, f"{transparent:,}")
    if not grey and all(
        (image == image[..., :1]).all() for image in X
    ):  # a density of three equal numbers has no bound
        return X[..., :1]
    if not grey and any(modes[mode] for mode in GREY):
        log.warning(
            "%s: %s of %s images are grey; with the others, they are taken as RGB",
            path,
            f"{sum(modes[mode] for mode in GREY):,}",
            f"{len(files):,}",
        )
    return X


def _check_size(first, expected, file, size):
    if size != expected:
        raise ValueError(
            f"all images must have one size; {first} is {expected[0]}x{expected[1]}, {file} is {size[0]}x{size[1]}"
        )


def _read(file, function, *arguments):
    """function(image, file, ...) of an open file; what Pillow raises of a bad one says which."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return function(image, *arguments)
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        TypeError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(f"{file} is damaged or no image: {error}") from None


def _header(image):
    """Mode and upright size (W, H) of an image that is not decoded yet, and what it has that is not read, None for
    nothing.
    """
    turned = image.format != "TIFF" and _orientation(image) > 4  # Pillow turns a TIFF itself
    size = image.size[::-1] if turned else image.size
    if image.mode not in GREY + COLOUR:
        return (
            image.mode,
            size,
            f"mode {image.mode!r}: convert it, or store arrays of integers, and say how many --values they take",
        )
    if any(map(_is_deep, image.tile)):
        return (
            image.mode,
            size,
            "16 bits in each channel: convert it, or store arrays of integers, and say --values 65536",
        )
    frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1  # which is a photo, with smaller ones of it
    return image.mode, size, None if frames == 1 else f"{frames} frames"


def _is_deep(tile):
    """Whether Pillow reads numbers of 16 bits here and keeps the upper 8 of each."""
    decoder, arguments = tile[0], tile[3] if isinstance(tile[3], tuple) else (tile[3],)
    return bool(re.search(";16[BLN]", str(arguments[0]))) or decoder.startswith("ppm") and arguments[-1] > 255


def _orientation(image):
    """The EXIF orientation, where reading it does not decode the image."""
    known = image.format != "PNG" or "exif" in image.info
    return image.getexif().get(0x0112, 1) if known else 1


def _decoded(image, mode):
    """The upright pixels of an image, and whether it is transparent anywhere."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    transparent = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    transparent = transparent and image.convert("RGBA").getextrema()[3][0] < 255
    return np.asarray(image.convert(mode)), transparent
