"""Between integer images and the continuous ones that a flow takes.

The cell of level k is [k / levels, (k + 1) / levels). `dequantise` keeps to it in exact arithmetic, so that `quantise`
gives k back whatever the noise was.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers, check_unused
from .images import MOST_LEVELS, check_images

if TYPE_CHECKING:
    from ..typing import Array, DType


def quantise(images: Array, levels: int = 256, values: Array | None = None) -> Array:
    """Images as integers 0 ... levels - 1, of the smallest unsigned dtype.

    Args:
        images: integers from 0 to values - 1, which become floor(x levels / values); or floats in [0, 1], which become
            the k with k / levels <= x < (k + 1) / levels, these bounds rounded to the dtype of x, and 1 the last level.
            So x = k / 255 with 256 levels gives k, and so does what `dequantise` makes of k.
        levels: how many values the result can take: 2**n for n bits.
        values: how many values integer images can take; None is 256.

    Raises:
        ValueError: NaN or infinity, floats outside [0, 1], integers outside 0 ... values - 1, levels above values;
            `values` given with floats.
        TypeError: neither integers nor floats.
    """
    images = np.asarray(images)
    check_integers(levels=levels, values=256 if values is None else values)
    if not 2 <= levels <= MOST_LEVELS:
        raise ValueError(f"levels is a number from 2 to {MOST_LEVELS}; got {levels}")
    dtype = np.uint8 if levels <= 256 else np.uint16
    if images.size == 0:
        raise ValueError(f"quantise needs at least one image with at least one pixel; got shape {images.shape}")
    if images.dtype.kind == "f":
        check_unused("on floats in [0, 1]", values=values)
        low, high = float(images.min()), float(images.max())
        if not np.isfinite(low + high):
            bad = np.count_nonzero(~np.isfinite(images))
            raise ValueError(f"images must be finite numbers; {bad:,} of {images.size:,} are NaN or infinite")
        if low < 0 or high > 1:
            raise ValueError(
                f"float images have values in [0, 1]; got {low:.6g} to {high:.6g}: divide them by their range, "
                "or store them as integers"
            )
        return _cell_of(images, levels).astype(dtype)
    if images.dtype.kind not in "iu":
        raise TypeError(f"images are integers or floats; got dtype {images.dtype}")
    values = 256 if values is None else values
    if levels > values:
        raise ValueError(f"integer images of {values} values have at most as many levels; got levels={levels}")
    low, high = int(images.min()), int(images.max())
    if low < 0 or high >= values:
        raise ValueError(f"integer images have values from 0 to {values - 1}, for values={values}; got {low} to {high}")
    if levels == values:
        return images.astype(dtype)
    wide = np.uint32 if values <= MOST_LEVELS else np.uint64
    return (images.astype(wide) * levels // values).astype(dtype)


def dequantise(images: Array, levels: int, rng: np.random.Generator, dtype: DType = "float32") -> Array:
    """(x + u) / levels with u uniform in [0, 1): continuous images above 0 and below 1, each number in the cell of its
    level.

    The density of the result, averaged over u, is a lower bound of the probability of the integers; see
    `losses.bits_per_dim`.

    Args:
        images: (N, C, H, W) integers from 0 to levels - 1.
        levels: from 2 to 65536.
        rng: a numpy Generator.
        dtype: "float32" or "float64".

    References:
        Theis, van den Oord & Bethge, A note on the evaluation of generative models, 2016, section 3.1.
    """
    check_images(images, levels, "dequantise: images")
    X = rng.random(images.shape, dtype=np.dtype(dtype))
    # Rounding: of 200 + u one in 100,000 becomes 201 in float32. Three roundings and the ends of a cell, less than an
    # eps each.
    near_an_end = np.flatnonzero(np.abs(X - 0.5) >= 0.5 - 4 * levels * np.finfo(X.dtype).eps)
    X += images
    X *= X.dtype.type(1 / levels)
    first, last = _ends_of_cells(levels, X.dtype)
    k = images.ravel()[near_an_end]
    X.ravel()[near_an_end] = np.clip(X.ravel()[near_an_end], first[k], last[k])
    return X


def _cell_of(X, levels):
    """k with k / levels <= x < (k + 1) / levels, where these are rounded to the dtype of X, for X in [0, 1]."""
    X = X.astype(np.float32) if X.dtype == np.float16 else X  # which has no 65536
    k = np.floor(X * levels)  # at most one off
    k -= X < k / levels
    k += X >= (k + 1) / levels
    return np.minimum(k, levels - 1, out=k)


@functools.lru_cache(maxsize=4)
def _ends_of_cells(levels, dtype):
    """The first and the last number of each cell, in this dtype, both for exact bounds and for bounds rounded to it.

    The first cell begins above 0, where a logit is finite.
    """
    k = np.arange(levels + 1)
    edges = k.astype(dtype) / levels
    near = edges.astype(np.float32).astype(np.float64)  # the products of these 24 bits and of the rest have no rounding
    below = (near * levels - k) + (edges - near) * levels < 0
    first = np.where(below, np.nextafter(edges, dtype.type(2)), edges)[:-1]
    first[0] = np.finfo(dtype).eps / 4 / levels  # half of the least noise that is not 0
    return first, np.nextafter(edges[1:], dtype.type(0))
