"""Squeeze and Unsqueeze: move positions to channels, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import Isometry, get_ops

if TYPE_CHECKING:
    from ..typing import Array


class Squeeze(Isometry):
    """Halves every spatial axis, and multiplies the number of channels by 2, 4 or 8; logdet is 0.

    (N, C, H, W) becomes (N, 4 C, H/2, W/2). Channel c at offset (dy, dx) of a 2x2 block becomes channel 4 c + 2 dy +
    dx. With one spatial axis it becomes 2 c + dx, with three 8 c + 4 dz + 2 dy + dx.

    Raises:
        ValueError: an array has no spatial axes, or one of odd length.

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
    """The inverse of Squeeze: doubles every spatial axis, and divides the number of channels by 2, 4 or 8; logdet is 0.

    Raises:
        ValueError: an array has no spatial axes, or a number of channels that cannot be divided.
    """

    halvings = -1
    apply, unapply = Squeeze.unapply, Squeeze.apply  # type: ignore[assignment]
