"""SplineCoupling: the coupling whose map of x2 is a spline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .coupling import Coupling
from .transforms import Spline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core import Conditioner
    from ..typing import DType, Seed


class SplineCoupling(Coupling):
    """Z = [x1, spline(x2; h)], h = net(x1), each number of x2 by a monotone rational quadratic spline of its own: see
    Spline.

    Its pieces reach from -bound to bound, outside it is the identity; so the data should be scaled to lie within for
    the most part. A zero conditioner makes the layer the identity.

    Args:
        channels: C, at least 2; x1 has ceil(C/2) of them.
        net: a conditioner from ceil(C/2) to (3 bins - 1) floor(C/2) channels: all parameters of the first of x2, then
            the next; or None, and `hidden` says how to make one.
        bins: how many pieces a spline has, from 2.
        bound: half the width of the domain, positive.
        tails: "linear" for the identity outside the domain, or None where x2 is never outside.
        hidden, ndim, cond_channels, seed, dtype: of a new conditioner, see AdditiveCoupling.

    Raises:
        ValueError: a number is out of its range, or an option of a new conditioner is given beside `net`; without
            tails, x2 has a value outside the domain, or NaN.
        TypeError: neither `net` nor `hidden` is given; `net` is no conditioner.

    References:
        Durkan, Bekasov, Murray & Papamakarios, Neural Spline Flows, 2019, sections 3.1 and 3.2.
    """

    transform_class = Spline

    def __init__(
        self,
        channels: int,
        net: Conditioner | None = None,
        bins: int = 8,
        bound: float = 3.0,
        tails: str | None = "linear",
        *,
        hidden: int | Sequence[int] | None = None,
        ndim: int | None = None,
        cond_channels: int | None = None,
        seed: Seed = None,
        dtype: DType | None = None,
    ):
        spline = Spline(bins, bound, tails)
        super().__init__(channels, spline, net, hidden, ndim=ndim, cond_channels=cond_channels, seed=seed, dtype=dtype)
