"""Logit and Sigmoid: maps from the unit interval to the real line, and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..arguments import check_numbers
from ..core import InPlaceLayer, get_ops
from .compose import Reverse

if TYPE_CHECKING:
    from ..typing import Array, Cond


class Logit(InPlaceLayer):
    """Element by element, Z = log(p / (1 - p)) with p = alpha + (1 - 2 alpha) X, for data X in [0, 1].

    Args:
        alpha: the margin that keeps p away from 0 and 1, at least 0 and below 0.5. With 0, X must not be 0 or 1.

    Raises:
        ValueError: alpha is out of range; or, in forward, a p is not between 0 and 1. With a positive alpha, X may lie
            a little outside [0, 1], as samples can.
        TypeError: alpha is no number.

    References:
        Dinh, Sohl-Dickstein & Bengio, Density estimation using Real NVP, 2016, section 4.1.
    """

    uses_condition = False

    def __init__(self, alpha: float = 0.05):
        check_numbers(alpha=alpha)
        if not 0 <= alpha < 0.5:
            raise ValueError(f"alpha is a margin from 0 to below 0.5; got {alpha}")
        self._alpha = alpha

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        ops, xp, p = get_ops(X), get_ops(X).xp, self._p_of(X)
        return ops.images(xp.log(p) - xp.log1p(-p), X.shape), -self._log_slope(ops, xp.log(p) + xp.log1p(-p), X)

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        ops, xp = get_ops(Z), get_ops(Z).xp
        R = ops.rows(Z)
        log_p_q = -xp.abs(R) - 2 * xp.log1p(xp.exp(-xp.abs(R)))  # log p (1 - p)
        X = ops.images((self._p(xp, R) - self._alpha) / (1 - 2 * self._alpha), Z.shape)
        return X, self._log_slope(ops, log_p_q, Z)

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        ops, xp = get_ops(Z), get_ops(Z).xp
        p, e = self._p(xp, ops.rows(Z)), xp.exp(-xp.abs(ops.rows(Z)))
        slope = (1 - 2 * self._alpha) * (1 + e) ** 2 / e  # dZ/dX; 1 / (p (1 - p)) would lose digits in the difference
        dR = (ops.rows(dZ) + ops.at_positions(dlogdet, Z) * (2 * p - 1)) * slope
        return ops.images(dR, Z.shape), ops.images((p - self._alpha) / (1 - 2 * self._alpha), Z.shape)

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        ops, xp, p = get_ops(X), get_ops(X).xp, self._p_of(X)
        dR = ops.rows(dX) * (p * (1 - p) / (1 - 2 * self._alpha)) + ops.at_positions(dlogdet, X) * (1 - 2 * p)
        return ops.images(dR, X.shape), ops.images(xp.log(p) - xp.log1p(-p), X.shape)

    def _p_of(self, X):
        """Returns p (rows, C) for X."""
        ops = get_ops(X)
        p = self._alpha + (1 - 2 * self._alpha) * ops.rows(X)
        if not ops.lies_within(p, 0, 1, ends=False):
            least, most = ops.min_max(X)
            raise ValueError(
                f"Logit takes values in [0, 1], or a little beyond with p in (0, 1); got values from {least:.6g} to "
                f"{most:.6g}"
            )
        return p

    def _p(self, xp, R):
        e = xp.exp(-xp.abs(R))
        return xp.where(R > 0, 1 / (1 + e), e / (1 + e))

    def _log_slope(self, ops, log_p_q, X):
        """Returns log|det dX/dZ| (N,), from log(p (1 - p))."""
        dimensions = math.prod(X.shape[1:])
        return ops.sum_positions(log_p_q, X.shape[0]) - dimensions * math.log(1 - 2 * self._alpha)


class Sigmoid(Reverse):
    """Element by element, Z = (sigmoid(X) - alpha) / (1 - 2 alpha), the inverse of Logit(alpha).

    With alpha = 0, Z = 1 / (1 + exp(-X)) lies between 0 and 1. With a positive alpha, Z reaches a little beyond.

    Args:
        alpha: the margin, at least 0 and below 0.5.

    Raises:
        ValueError: alpha is out of range; or inverse or backward gets a number that no X gives, such as 1 with alpha =
            0. In float32 the sigmoid of numbers above 17 is rounded to 1.
    """

    def __init__(self, alpha: float = 0.0):
        super().__init__(Logit(alpha))
