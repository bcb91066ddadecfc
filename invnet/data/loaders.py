"""Loaders: `load` finds out which kind of data a source is."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers, check_numbers, check_unused
from .arrays import npy, npz
from .folders import folder
from .images import split
from .quantise import quantise
from .records import PICKLES, cifar, files_of

if TYPE_CHECKING:
    from typing import Any

    from ..typing import Array, Seed
    from .images import Images

PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".joblib")
SOURCES = '"digits", a .npz or .npy file, a folder of images, or CIFAR\'s binary version'


def load(
    source: str,
    bits: int | None = None,
    values: Array | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: Seed = 0,
    layout: str | None = None,
) -> Images:
    """Images from "digits", a file of arrays, a folder of images or the binary version of CIFAR.

    What is not certain, such as which axis is the channels, is an error that says how to be clear, or a warning of the
    logger "invnet.data".

    Args:
        source: "digits", or the path of a .npz or .npy file, see `npz`; of a folder of images, see `folder`; or of the
            folder or a .bin file of the binary version of CIFAR, see `cifar`.
        bits: reduce the images to 2**bits levels; None keeps them.
        values: how many values a pixel can take in a file of arrays or a folder; None is 256.
        validation, test, seed: of the random split, where the source has no parts of its own.
        layout: "NCHW" or "NHWC", of arrays of rank 4 whose shape does not say it.

    Raises:
        ValueError: it is not certain how to read the source, or an option is out of its range or has no effect on this
            source.
    """
    options: dict[str, Any] = dict(validation=validation, test=test, seed=seed)
    check_numbers(validation=validation, test=test)
    if bits is not None:
        check_integers(bits=bits)
    if bits is not None and not 1 <= bits <= 16:
        raise ValueError(f"bits is a number from 1 to 16; got {bits}")
    levels = None if bits is None else 2**bits
    path = pathlib.Path(source)
    suffix = path.suffix.lower()
    if source != "digits" and suffix in (".npz", ".npy") and not path.is_dir():
        return (npz if suffix == ".npz" else npy)(path, levels, values, layout=layout, **options)
    check_unused("on what is no .npz or .npy file", layout=layout)
    if source == "digits":
        check_unused("on the digits, which have 17 values", values=values)
        return digits(levels, **options)
    if path.is_dir() and files_of(path) is None:
        return folder(path, levels, values, **options)
    if path.is_dir() or suffix == ".bin" and path.is_file():
        check_unused("on CIFAR, which has 256 values", values=values)
        return cifar(path, levels, **options)
    if suffix in PICKLE_SUFFIXES:
        raise ValueError(
            f"the data are {SOURCES}; {str(source)!r} is a pickle, which can run code when it is read: store arrays "
            "with numpy.savez"
        )
    if path.is_file() and path.name.startswith(("data_batch", "test_batch")):
        raise ValueError(PICKLES)
    raise FileNotFoundError(f"the data are {SOURCES}; {str(source)!r} is none of these")


def digits(levels: int | None = None, validation: float = 0.1, test: float = 0.1, seed: Seed = 0) -> Images:
    """The 1,797 handwritten digits that come with scikit-learn: 1x8x8, 17 grey levels, no network needed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("the digits come with scikit-learn: pip install scikit-learn") from None
    images = load_digits().images[:, None].astype(np.uint8)
    return split(quantise(images, levels or 17, 17), levels or 17, "digits", validation, test, seed)
