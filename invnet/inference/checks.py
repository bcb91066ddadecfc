"""What models and moments are given: arrays of the right shapes, finite, covariances symmetric and positive
definite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arguments import shown
from ..core import Layer

if TYPE_CHECKING:
    from ..typing import Array

SYMMETRIC = 1e-8  # |C - C'| over |C|, at most


def check_layer(net: Layer, what: str) -> None:
    """TypeError where it is no Layer."""
    if not isinstance(net, Layer):
        raise TypeError(f"{what} takes a Layer; got {shown(net)}")


def vectors(x: Array, name: str, dimension: int | None = None) -> Array:
    """`x` as float64 (..., D).

    Raises:
        ValueError: it has no axis, another D, or values that are not finite.
    """
    x = np.asarray(x, float)
    if x.ndim < 1 or (dimension is not None and x.shape[-1] != dimension):
        raise ValueError(f"{name} has shape (..., {dimension or 'D'}); got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} has values that are not finite")
    return x


def covariances(C: Array, name: str, dimension: int | None = None) -> Array:
    """`C` as float64 (..., D, D).

    Raises:
        ValueError: another shape, not finite, not symmetric, or not positive definite.
    """
    C = np.asarray(C, float)
    if C.ndim < 2 or C.shape[-1] != C.shape[-2] or (dimension is not None and C.shape[-1] != dimension):
        D = dimension or "D"
        raise ValueError(f"{name} has shape (..., {D}, {D}); got {C.shape}")
    if not np.isfinite(C).all():
        raise ValueError(f"{name} has values that are not finite")
    if C.size and not abs(C - C.mT).max() <= SYMMETRIC * abs(C).max():
        raise ValueError(f"{name} is symmetric; got one that differs from its transpose by {abs(C - C.mT).max():.3g}")
    try:
        np.linalg.cholesky(C)
    except np.linalg.LinAlgError:
        least = np.linalg.eigvalsh(C).min()
        raise ValueError(f"{name} is positive definite; got one with an eigenvalue of {least:.3g}") from None
    return C


def finite_parameters(net: Layer) -> None:
    """FloatingPointError where a parameter of `net` is not finite."""
    for name, parameter in net.named_parameters():
        if not np.isfinite(parameter.data).all():
            raise FloatingPointError(
                f"the parameter {name} of {type(net).__name__} is not finite: {np.ravel(parameter.data)[:4]}"
            )
