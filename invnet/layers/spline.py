"""Spline: a monotone map of each number, of rational quadratic pieces, whose parameters something else gives."""

import math

from ..arguments import check_integers, check_numbers
from ..core import get_ops


class Spline:
    """Each number x of [-bound, bound] becomes a number z of it, by K rational quadratic pieces; the identity outside.

    With knots (x_k, y_k), slopes d_k at them, widths w_k, heights h_k, delta_k = h_k / w_k and xi = (x - x_k) / w_k
    from 0 to 1,

        z = y_k + h_k (delta_k xi^2 + d_k xi (1 - xi)) / (delta_k + (d_k + d_{k+1} - 2 delta_k) xi (1 - xi)).

    A number has 3 K - 1 parameters: softmax of the first K gives the widths, of the next K the heights, softplus of the
    others the slopes at the inner knots; those at the two ends are 1. A bin has a thousandth of the domain at least, a
    slope is 0.001 at least. Parameters of zero make the identity.

    All methods take rows: numbers (rows, C), their parameters (rows, C, 3 K - 1), of any strides, logdet and its
    gradient (rows,), summed over C. What they return may lie in a tile's memory.

    Args:
        bins: K, from 2 to 500.
        bound: half the width of the domain, positive.
        tails: "linear" for the identity outside the domain, or None where nothing is outside.

    Raises:
        ValueError: without tails, a number is outside the domain, or NaN.

    References:
        Durkan, Bekasov, Murray & Papamakarios, Neural Spline Flows, 2019, section 3.1. Gregory & Delbourgo, Piecewise
        rational quadratic interpolation to monotonic data, 1982.
    """

    def __init__(self, bins=8, bound=3.0, tails="linear"):
        check_integers(bins=bins)
        if not 2 <= bins <= 500:
            raise ValueError(f"bins is from 2 to 500; got {bins}")
        check_numbers(bound=bound)
        if not 0 < bound < math.inf:
            raise ValueError(f"bound is half the width of the domain, positive and finite; got {bound}")
        if tails not in ("linear", None):
            raise ValueError(f'tails is "linear" or None; got {tails!r}')
        self.bound, self.tails = float(bound), tails
        self.bins_and_bound = int(bins), self.bound
        #: parameters of one number
        self.size = 3 * int(bins) - 1

    def forward(self, x, h):
        """z and logdet."""
        return self._checked(x).spline(x, h, self.bound)

    def inverse_logdet(self, z, h):
        """x, and logdet of the inverse."""
        return self._checked(z).spline_inverse(z, h, self.bound)

    def backward(self, dz, z, h, dlogdet):
        """dx, x and dh."""
        return self._checked(z).spline_vjp(dz, z, h, self.bound, dlogdet)

    def inverse_backward(self, dx, x, h, dlogdet):
        """dz, z and dh."""
        return self._checked(x).spline_inverse_vjp(dx, x, h, self.bound, dlogdet)

    def _checked(self, x):
        """The operations for x; ValueError where it is not in the domain."""
        ops = get_ops(x)
        if self.tails is None and not ops.lies_within(x, -self.bound, self.bound):
            least, most = ops.min_max(x)
            raise ValueError(
                f"a spline with tails=None takes values in [{-self.bound:g}, {self.bound:g}]; got values from "
                f"{least:.6g} to {most:.6g}"
            )
        return ops
