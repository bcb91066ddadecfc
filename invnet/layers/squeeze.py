"""Squeeze and Unsqueeze: space to channels and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import Isometry, get_ops

if TYPE_CHECKING:
    from ..typing import Array


class Squeeze(Isometry):
    """Halves every spatial axis and multiplies the channels by 2, 4 or 8.

    The channel of input channel c and offset (dy, dx) in its 2x2 block is c*4 + dy*2 + dx; c*2 + dx on one axis and
    c*8 + dz*4 + dy*2 + dx on three.

    References:
        Dinh, Sohl-Dickstein & Bengio, Density estimation using Real NVP, 2016, section 3.6.
    """

    halvings = 1

    def apply(self, X: Array) -> Array:
        if X.ndim < 3 or any(size % 2 for size in X.shape[2:]):
            raise ValueError(
                f"Squeeze halves the spatial axes, which must exist and be even; got shape {tuple(X.shape)}"
            )
        return get_ops(X).squeeze_(X)

    def unapply(self, Z: Array) -> Array:
        if Z.ndim < 3 or Z.shape[1] % 2 ** (Z.ndim - 2):
            raise ValueError(
                f"Unsqueeze divides the channels by 2 for each spatial axis, which must go; got shape {tuple(Z.shape)}"
            )
        return get_ops(Z).unsqueeze_(Z)


class Unsqueeze(Squeeze):
    """The inverse of Squeeze: doubles every spatial axis and divides the channels by 2, 4 or 8."""

    halvings = -1
    apply, unapply = Squeeze.unapply, Squeeze.apply  # type: ignore[assignment]
