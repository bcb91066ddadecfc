"""Images of .npy and .npz files: which arrays they are, which axis is which, and which levels."""

from __future__ import annotations

import pathlib
import re
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from .parts import NAMES, images_of, log
from .quantise import quantise

if TYPE_CHECKING:
    from ..typing import Array, Path, Seed
    from .images import Images

LABELS = {"y", "label", "labels", "target", "targets", "class", "classes"}
IMAGES = {"x", "image", "images", "img", "imgs", "data"}
LAYOUTS = ("NCHW", "NHWC")
WANTED = (
    "x_train and x_test (or train and test, train_images and test_images), "
    "or one array of images (N, H, W) or (N, C, H, W)"
)


def npy(
    path: Path,
    levels: int | None = None,
    values: Array | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: Seed = 0,
    layout: str | None = None,
) -> Images:
    """Images of a .npy file, one array as `npz` takes them, in random parts."""
    path = pathlib.Path(path)
    return _images({"train": (str(path), _read(path))}, path, levels, values, validation, test, seed, layout)


def npz(
    path: Path,
    levels: int | None = None,
    values: Array | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: Seed = 0,
    layout: str | None = None,
) -> Images:
    """Images of a .npz file: an array for each part, or one array.

    An array belongs to the part that its name says: x_train and x_test, train and test, or train_images, val_images and
    test_images. Without a validation part, `validation` of the training part is taken, at most 5,000. What is called y
    or labels, as in y_train, and what has no images, such as a list of numbers, is ignored.

    Args:
        path: of the file.
        levels: how many values a pixel of the result can take; None is `values`.
        values: how many values a pixel of the arrays can take, which are integers from 0 to values - 1, or floats in
            [0, 1]; None is 256.
        validation, test: the share of the training part for a part that is not there.
        seed: of the order in which these are chosen.
        layout: of arrays of rank 4, "NCHW" or "NHWC"; None is what their shape says.

    Raises:
        ValueError: the file is damaged, or it is not clear which arrays are the images or which axis is the channels.
    """
    path = pathlib.Path(path)
    arrays = _read(path)
    found = {}
    for key, array in arrays.items():
        if array.ndim >= 2:
            found.setdefault(next((NAMES[word] for word in _words(key) if word in NAMES), None), []).append(key)
    images = {part: [key for key in keys if arrays[key].ndim in (3, 4)] or keys for part, keys in found.items() if part}
    alone = [key for key, array in arrays.items() if array.ndim in (3, 4)]
    if "train" in images and len(images) > 1 and all(len(keys) == 1 for keys in images.values()):
        chosen = {part: keys[0] for part, keys in images.items()}
        if unused := [key for key in alone if key not in chosen.values()]:
            log.warning("%s: %s belong to no part and are not used", path, ", ".join(unused))
    elif len(alone) == 1:
        chosen = {"train": alone[0]}
    else:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays.items()) or "nothing"
        raise ValueError(f"{path} needs {WANTED}; it has {shapes}")
    chosen = {part: (f"{path}: {key}", arrays[key]) for part, key in chosen.items()}
    return _images(chosen, path, levels, values, validation, test, seed, layout)


def _images(arrays, path, levels, values, validation, test, seed, layout):
    """Images from {part: (what it is, array)}."""
    values = 256 if values is None else values
    if layout not in (None, *LAYOUTS):
        raise ValueError(f"layout is NCHW or NHWC; got {layout!r}")
    if layout is not None and all(array.ndim == 3 for _, array in arrays.values()):
        raise ValueError(f"layout is of arrays of rank 4; {path} has grey images (N, H, W), which need none")
    parts = {
        part: _levels(_channels_first(X, what, layout), what, levels, values) for part, (what, X) in arrays.items()
    }
    return images_of(parts, levels, values, path.stem, validation, test, seed)


def _words(key):
    """The words of an array's name."""
    return re.split("[^a-z]+", key.lower())


def _is_labels(key):
    return bool(LABELS & {*_words(key)}) and not IMAGES & {*_words(key)}


def _read(path):
    """The array of a .npy file, or {name: array} of a .npz file but for labels."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with open(path, "rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if isinstance(file, np.ndarray) != (path.suffix.lower() == ".npy"):
                raise ValueError("the ending of its name and what it holds do not agree")
            return (
                file if isinstance(file, np.ndarray) else {key: file[key] for key in file.files if not _is_labels(key)}
            )
    except (
        ValueError,
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        AttributeError,
        EOFError,
    ) as error:
        raise ValueError(
            f"{path} is damaged, or no file of plain arrays (objects are pickles, which can run code): {error}"
        ) from None


def _channels_first(X, what, layout):
    """(N, C, H, W), from (N, H, W) or one of the layouts.

    The axis of 1 to 4 numbers is the channels, of two such axes the one of 1 or 3. What could be either is refused.
    """
    if X.ndim not in (3, 4):
        raise ValueError(f"{what} holds images (N, H, W), (N, C, H, W) or (N, H, W, C); got shape {X.shape}")
    if X.ndim == 3:
        if X.shape[2] in (3, 4) and X.shape[1] > 4 and X.shape[0] > 4:
            raise ValueError(
                f"{what} holds images (N, H, W), (N, C, H, W) or (N, H, W, C); got shape {X.shape}, which looks "
                "like one image in colour: store several, of rank 4"
            )
        return X[:, None]
    if layout is None:
        layout = _layout_of(*X.shape[1:])
        if layout is None:
            raise ValueError(
                f"{what} of shape {X.shape} may be (N, C, H, W) or (N, H, W, C): say which by layout= "
                "(--layout NCHW or --layout NHWC)"
            )
        if layout == "NCHW" and X.shape[1] > 4:
            log.warning(
                "%s of shape %s is taken as (N, C, H, W), %d channels; layout='NHWC' (--layout NHWC) says otherwise",
                what,
                X.shape,
                X.shape[1],
            )
    return X if layout == "NCHW" else X.transpose(0, 3, 1, 2)


def _layout_of(first, middle, last):
    """The layout that the lengths of the last three axes say, or None."""
    few = [1 <= first <= 4, 1 <= last <= 4]
    if few == [False, False] or 0 in (first, middle, last):
        return "NCHW"
    if all(few):
        few = [first in (1, 3), last in (1, 3)]
    elif few[1] and middle <= 4:  # (N, 8, 4, 4): 8 channels, or 4
        return None
    return {(True, False): "NCHW", (False, True): "NHWC"}.get(tuple(few))


def _levels(X, what, levels, values):
    """X as integers below `levels`: floats made by division by values - 1 are taken as the integers they were."""
    if X.dtype.kind == "b":
        raise TypeError(
            f"{what} holds integers or floats; got bool: store them as integers, and say values=2 (--values 2)"
        )
    if X.dtype.kind != "f":
        return quantise(X, levels or values, values)
    k = quantise(X, levels or values)  # which refuses what is outside [0, 1]
    if (levels is None or levels <= values) and _on_grid(X, values - 1):
        return quantise(np.rint(X.astype(np.float64) * (values - 1)).astype(np.uint32), levels or values, values)
    if levels is None and not _on_grid(np.where(X < 1, X, 0), values):
        log.warning(
            "%s holds floats that are no multiples of 1/%d and are rounded to %d levels; bits=16 (--bits 16) keeps "
            "most",
            what,
            values - 1,
            values,
        )
    return k


def _on_grid(X, steps):
    """Whether all of X are k / steps, as their dtype rounds it."""
    parts = (X[i : i + 1024] for i in range(0, len(X), 1024))
    return all(
        bool(((np.rint(part.astype(np.float64) * steps) / steps).astype(part.dtype) == part).all()) for part in parts
    )
