"""SplineCoupling: the coupling that transforms x2 by splines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .coupling import Coupling
from .transforms import Spline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core import Conditioner
    from ..typing import DType, Seed


class SplineCoupling(Coupling):
    """The spline coupling Z = [x1, spline(x2; h)] with h = net(x1).

    Each number of x2 has its own monotone rational quadratic spline, whose formula is at
    `invnet.layers.transforms.Spline`. The spline acts from -bound to bound and is the identity outside, so most of the
    data should lie within. The layer is the identity if the conditioner gives zeros.

    Args:
        channels: C, at least 2; x1 is the first ceil(C/2) of them.
        net: a conditioner from ceil(C/2) to (3 bins - 1) floor(C/2) channels: all parameters of the first channel of
            x2, then those of the next. With None, a new one is made from the options of AdditiveCoupling.
        bins: the number of pieces of a spline, 2 to 500.
        bound: half the width of the domain, positive.
        tails: "linear" for the identity outside the domain; None if values outside the domain are errors.
        hidden, ndim, cond_channels, seed, dtype: options of a new conditioner, as in AdditiveCoupling.

    Raises:
        ValueError: an argument is out of range, or an option of a new conditioner is given although `net` is; or, with
            tails=None, x2 has a value outside the domain or NaN.
        TypeError: neither `net` nor `hidden` is given, or `net` is no conditioner.

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
