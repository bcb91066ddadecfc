"""Loaders: scikit-learn's digits, a .npz file, a folder of images."""

import pathlib
import zipfile
import zlib

import numpy as np

from ..arguments import check_integers, check_numbers, check_unused
from .images import Images, split
from .quantise import quantise

SUFFIXES = (".png", ".jpg", ".jpeg")
LARGEST_VALIDATION = 5000


def load(source, bits=None, values=None, validation=0.1, test=0.1, seed=0):
    """Images from "digits", a .npz file or a folder.

    Args:
        source: "digits", or the path of a .npz file or of a folder of .png and .jpg images.
        bits: reduce the images to 2**bits levels; None keeps them.
        values: how many values a pixel can take in a .npz file of integers; None is 256.
        validation, test, seed: of the random split, where the source has no parts of its own.

    Raises:
        ValueError: there is nothing to load, or an option is out of its range or has no effect on this source.
    """
    options = dict(validation=validation, test=test, seed=seed)
    check_numbers(validation=validation, test=test)
    if bits is not None:
        check_integers(bits=bits)
    if bits is not None and not 1 <= bits <= 16:
        raise ValueError(f"bits is a number from 1 to 16; got {bits}")
    levels = None if bits is None else 2**bits
    if source == "digits":
        check_unused("on the digits, which have 17 values", values=values)
        return digits(levels, **options)
    path = pathlib.Path(source)
    if path.suffix == ".npz" and not path.is_dir():
        return npz(path, levels, values, **options)
    if path.is_dir():
        check_unused("on a folder of images, which have 256 values", values=values)
        return folder(path, levels, **options)
    raise FileNotFoundError(f'the data are "digits", a .npz file or a folder of images; {str(source)!r} is none of these')


def digits(levels=None, validation=0.1, test=0.1, seed=0):
    """The 1,797 handwritten digits that come with scikit-learn: 1x8x8, 17 grey levels, no network needed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("the digits come with scikit-learn: pip install scikit-learn") from None
    images = load_digits().images[:, None].astype(np.uint8)
    return split(quantise(images, levels or 17, 17), levels or 17, "digits", validation, test, seed)


def npz(path, levels=None, values=None, validation=0.1, test=0.1, seed=0):
    """Images of a .npz file: x_train and x_test, or train and test, or the only array of rank 3 or 4.

    Arrays are (N, H, W), (N, C, H, W), or (N, H, W, C) where C is at most 4 and H more than 4; integers from 0 to
    values - 1, for 256 `values` where it is None, or floats in [0, 1]. The validation part is taken from the training part: `validation` of it, at most
    5,000. Arrays without images, such as labels, are ignored.
    """
    path, arrays = pathlib.Path(path), _read_npz(path)
    levels, name = levels or values or 256, path.stem
    for train, rest in (("x_train", "x_test"), ("train", "test")):
        if train in arrays and rest in arrays:
            X = quantise(_channels_first(arrays[train], f"{path}: {train}"), levels, values)
            share = min(validation, LARGEST_VALIDATION / max(len(X), 1))
            parts = split(X, levels, name, 0.0, share, seed)  # its "test" part is our validation
            test_part = quantise(_channels_first(arrays[rest], f"{path}: {rest}"), levels, values)
            return Images(np.concatenate([parts.train, parts.validation]), parts.test, test_part, levels, name)
    images = [key for key, array in arrays.items() if array.ndim in (3, 4)]
    if len(images) != 1:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays.items()) or "nothing"
        raise ValueError(f"{path} needs x_train and x_test, or train and test, or one array of images (N, H, W) or "
                         f"(N, C, H, W); it has {shapes}")
    X = quantise(_channels_first(arrays[images[0]], f"{path}: {images[0]}"), levels, values)
    return split(X, levels, name, validation, test, seed)


def _read_npz(path):
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, AttributeError, EOFError) as error:
        raise ValueError(f"{path} is damaged, or no .npz file of plain arrays: {error}") from None


def _channels_first(X, what):
    if X.ndim == 3:
        return X[:, None]
    if X.ndim != 4:
        raise ValueError(f"{what} holds images (N, H, W), (N, C, H, W) or (N, H, W, C); got shape {X.shape}")
    return X.transpose(0, 3, 1, 2) if X.shape[3] <= 4 < X.shape[1] else X


def folder(path, levels=None, validation=0.1, test=0.1, seed=0):
    """All .png and .jpg images in a folder and those within it: grey if all are, else RGB; an alpha channel is dropped.

    Raises:
        ValueError: no images, images of several sizes, a damaged one, one of more than 8 bits.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ImportError("reading a folder of images needs Pillow: pip install pillow") from None
    path = pathlib.Path(path)
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    if not files:
        raise ValueError(f"the folder {path} has no images: no file in it ends in {', '.join(SUFFIXES)}")
    first, grey = None, True
    try:
        for file in files:  # the headers first, which is quick
            with Image.open(file) as image:
                if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
                    raise ValueError(f"images are grey or RGB of 8 bits; {file} has mode {image.mode!r}")
                first = first or image.size
                if image.size != first:
                    raise ValueError(f"all images must have one size; {files[0]} is {first[0]}x{first[1]}, "
                                     f"{file} is {image.size[0]}x{image.size[1]}")
                grey = grey and image.mode in ("1", "L", "LA")
        X = np.empty((len(files), first[1], first[0], 1 if grey else 3), np.uint8)
        for i, file in enumerate(files):
            with Image.open(file) as image:
                X[i] = np.asarray(image.convert("L" if grey else "RGB")).reshape(X.shape[1:])
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{file} is damaged or no image: {error}") from None
    X = quantise(np.ascontiguousarray(X.transpose(0, 3, 1, 2)), levels or 256)
    return split(X, levels or 256, path.resolve().name, validation, test, seed)
