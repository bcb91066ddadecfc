"""Spline: the transform of spline couplings and of autoregressive spline layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...arguments import check_integers, check_numbers
from .transform import Transform

if TYPE_CHECKING:
    from ...ops.reference import Ops
    from ...typing import Array


class Spline(Transform):
    """A monotone rational quadratic spline. It maps the domain [-bound, bound] to itself by K pieces.

    Between the knots (x_k, y_k) and (x_{k+1}, y_{k+1}), with slopes d_k at the knots, widths w_k = x_{k+1} - x_k,
    heights h_k = y_{k+1} - y_k, delta_k = h_k / w_k and xi = (x - x_k) / w_k,

        z = y_k + h_k (delta_k xi^2 + d_k xi (1 - xi)) / (delta_k + (d_k + d_{k+1} - 2 delta_k) xi (1 - xi)).

    The conditioner gives 3 K - 1 parameters for each number. The softmax of the first K gives the widths, that of the
    next K the heights. The softplus of the last K - 1 gives the slopes at the inner knots. The slopes at the two ends
    are 1. Each width and height is at least a thousandth of the domain, and each slope at least 0.001. If all
    parameters are zero, the spline is the identity.

    Args:
        bins: the number of pieces K, from 2 to 500.
        bound: half the width of the domain, positive.
        tails: "linear" for the identity outside the domain; None if values outside the domain are errors.
        by_channel: the order of the conditioner's outputs. True: all parameters of the first channel, then all of the
            next, as in a coupling. False: the first parameter of all channels, then the second, as in an autoregressive
            layer.

    Raises:
        ValueError: an argument is out of its range; or, with tails=None, a number is outside the domain or NaN.
        TypeError: `bins` is no integer or `bound` no number.

    References:
        Durkan, Bekasov, Murray & Papamakarios, Neural Spline Flows, 2019, section 3.1. Gregory & Delbourgo, Piecewise
        rational quadratic interpolation to monotonic data, 1982.
    """

    why_not_fused = "with tails=None every number is checked, which compiled functions do not do"

    def __init__(self, bins: int = 8, bound: float = 3.0, tails: str | None = "linear", by_channel: bool = True):
        check_integers(bins=bins)
        if not 2 <= bins <= 500:
            raise ValueError(f"bins is from 2 to 500; got {bins}")
        check_numbers(bound=bound)
        if not 0 < bound < math.inf:
            raise ValueError(f"bound is half the width of the domain, positive and finite; got {bound}")
        if tails not in ("linear", None):
            raise ValueError(f'tails is "linear" or None; got {tails!r}')
        self.bins, self.bound, self.tails, self.by_channel = int(bins), float(bound), tails, by_channel
        self.outputs = self.outputs_of(bins)

    @staticmethod
    def outputs_of(bins: int = 8) -> int:
        return 3 * int(bins) - 1

    def forward_(self, ops: Ops, x: Array, h: Array) -> Array | float:
        return self._map(ops, x, h, ops.spline)

    def inverse_(self, ops: Ops, z: Array, h: Array) -> Array | float:
        return self._map(ops, z, h, ops.spline_inverse)

    def backward_(self, ops: Ops, dz: Array, z: Array, h: Array, dlogdet: Array | float | None) -> Array:
        return self._map_vjp(ops, dz, z, h, dlogdet, ops.spline_vjp)

    def inverse_backward_(
        self, ops: Ops, dx: Array, x: Array, h: Array, dlogdet: Array | float | None
    ) -> tuple[Array, Array]:
        return self._map_vjp(ops, dx, x, h, dlogdet, ops.spline_inverse_vjp)

    def spec(self) -> object:
        return None if self.tails is None else {"kind": "spline", "spline": (self.bins, self.bound)}

    # ---- operations take numbers as rows (rows, C), and their parameters as (rows, C, 3 K - 1)

    def _map(self, ops, x, h, spline):
        self._check_domain(ops, x)
        R, logdet = spline(ops.rows(x), self._parameters(ops, x, h), self.bound)
        x[...] = ops.images(R, x.shape)
        return ops.sum_positions(logdet, x.shape[0])

    def _map_vjp(self, ops, dz, z, h, dlogdet, spline_vjp):
        self._check_domain(ops, z)
        P, each = self._parameters(ops, z, h), ops.at_rows(dlogdet, z)
        dR, R, dP = spline_vjp(ops.rows(dz), ops.rows(z), P, self.bound, each)
        dz[...], z[...] = ops.images(dR, z.shape), ops.images(R, z.shape)
        if not self.by_channel:
            dP = ops.xp.permute_dims(dP, (0, 2, 1))
        return ops.images(ops.xp.reshape(dP, (-1, dP.shape[1] * dP.shape[2])), h.shape)

    def _parameters(self, ops, x, h):
        """Returns h as an array (rows, C, 3 K - 1)."""
        if self.by_channel:
            return ops.xp.reshape(ops.rows(h), (-1, x.shape[1], self.outputs))
        return ops.xp.permute_dims(ops.xp.reshape(ops.rows(h), (-1, self.outputs, x.shape[1])), (0, 2, 1))

    def _check_domain(self, ops, x):
        if self.tails is None and not ops.lies_within(x, -self.bound, self.bound):
            least, most = ops.min_max(x)
            raise ValueError(
                f"a spline with tails=None takes values in [{-self.bound:g}, {self.bound:g}]; got values from "
                f"{least:.6g} to {most:.6g}"
            )
