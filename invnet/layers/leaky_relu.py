"""LeakyReLU: an invertible activation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..arguments import check_numbers
from ..core import InPlaceLayer, get_ops

if TYPE_CHECKING:
    from ..typing import Array, Cond


class LeakyReLU(InPlaceLayer):
    """Element by element, Z = X if X >= 0, and Z = slope * X if X < 0.

    Logdet is log(slope) times the number of negative elements.

    Args:
        slope: the slope for negative numbers, positive. The inverse multiplies rounding errors there by 1 / slope.

    Raises:
        ValueError: the slope is not positive and finite.
        TypeError: the slope is no number.
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
        """Returns dX and X. The derivative of logdet is zero wherever it exists, so dlogdet has no effect."""
        ops, xp, dR, R = get_ops(Z), get_ops(Z).xp, get_ops(Z).rows(dZ), get_ops(Z).rows(Z)
        dX, X = xp.where(R < 0, slope * dR, dR), xp.where(R < 0, R / slope, R)
        return ops.images(dX, Z.shape), ops.images(X, Z.shape)
