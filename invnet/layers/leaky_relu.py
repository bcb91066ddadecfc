"""LeakyReLU: an invertible activation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..arguments import check_numbers
from ..core import InPlaceLayer, get_ops

if TYPE_CHECKING:
    from ..typing import Array, Cond


class LeakyReLU(InPlaceLayer):
    """Z = X where X is positive, slope X elsewhere, element by element; logdet is log(slope) times the number of the
    latter.

    Args:
        slope: below zero, positive; the inverse multiplies an error there by 1 / slope.
    """

    uses_condition = False

    def __init__(self, slope: float = 0.01):
        check_numbers(slope=slope)
        if not 0 < slope < math.inf:
            raise ValueError(f"slope is positive and finite; got {slope}")
        self._slope = float(slope)

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        return self._bend(X, self._slope)

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        return self._bend(Z, 1 / self._slope)

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        return self._slope_vjp(dZ, Z, self._slope)

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        return self._slope_vjp(dX, X, 1 / self._slope)

    def _bend(self, X, slope):
        ops, xp, R = get_ops(X), get_ops(X).xp, get_ops(X).rows(X)
        logdet = math.log(slope) * ops.sum_positions(ops.astype(R < 0, X.dtype), X.shape[0])
        return ops.images(xp.where(R < 0, slope * R, R), X.shape), logdet

    def _slope_vjp(self, dZ, Z, slope):
        """dX and X; logdet is constant but for jumps, so that its gradient is none."""
        ops, xp, dR, R = get_ops(Z), get_ops(Z).xp, get_ops(Z).rows(dZ), get_ops(Z).rows(Z)
        dX, X = xp.where(R < 0, slope * dR, dR), xp.where(R < 0, R / slope, R)
        return ops.images(dX, Z.shape), ops.images(X, Z.shape)
