"""Between integer images and the continuous ones that a flow takes."""

import numpy as np

from ..arguments import check_integers, check_unused
from .images import check_images


def quantise(images, levels=256, values=None):
    """Images as integers 0 ... levels - 1, of the smallest unsigned dtype.

    Args:
        images: integers from 0 to values - 1, which become floor(x levels / values); or floats in [0, 1], which become
            floor(x levels), and 1 the last level. So x = k / 255 with 256 levels gives k.
        levels: how many values the result can take: 2**n for n bits.
        values: how many values integer images can take; None is 256.

    Raises:
        ValueError: NaN or infinity, floats outside [0, 1], integers outside 0 ... values - 1, levels above values; `values` given with floats.
        TypeError: neither integers nor floats.
    """
    images = np.asarray(images)
    check_integers(levels=levels, values=256 if values is None else values)
    if not 2 <= levels <= 65536:
        raise ValueError(f"levels is a number from 2 to 65536; got {levels}")
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
            raise ValueError(f"float images have values in [0, 1]; got {low:.6g} to {high:.6g}: divide them by their range, "
                             "or store them as integers")
        return np.minimum(np.floor(images * levels), levels - 1).astype(dtype)
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
    return (images.astype(np.uint32) * levels // values).astype(dtype)


def dequantise(images, levels, rng, dtype="float32"):
    """(x + u) / levels with u uniform in [0, 1): continuous images in [0, 1].

    The density of the result, averaged over u, is a lower bound of the probability of the integers; see
    `losses.bits_per_dim`.

    Args:
        images: (N, C, H, W) integers from 0 to levels - 1.
        rng: a numpy Generator.
        dtype: "float32" or "float64".

    References:
        Theis, van den Oord & Bethge, A note on the evaluation of generative models, 2016, section 3.1.
    """
    check_images(images, levels, "dequantise: images")
    X = rng.random(images.shape, dtype=np.dtype(dtype))
    X += images
    X *= np.dtype(dtype).type(1 / levels)
    return X
