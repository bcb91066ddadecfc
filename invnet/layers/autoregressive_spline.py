"""AutoregressiveSpline: the autoregressive layer that transforms each channel by splines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .autoregressive import Autoregressive
from .transforms import Spline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core import Conditioner
    from ..typing import DType, Seed


class AutoregressiveSpline(Autoregressive):
    """The autoregressive spline layer: Z = spline(X; net(X)) with fast="forward", Z = spline(X; net(Z)) with "inverse".

    The outputs of the net for a channel depend only on the channels before it. Each number has its own monotone
    rational quadratic spline, whose formula is at `invnet.layers.transforms.Spline`. With fast="forward" densities are
    fast, with fast="inverse" samples are fast; `Autoregressive` has a table of the costs. Given the channels before, a
    spline can make several modes from one. The affine map of AutoregressiveAffine cannot.

    The spline acts from -bound to bound and is the identity outside. The layer is the identity if the conditioner gives
    zeros.

    Args:
        channels: C, at least 1.
        net: a conditioner from C to (3 bins - 1) C channels: the first parameter of all channels, then the second, and
            so on. With None, MaskedDenseNet(C, hidden, 3 * bins - 1) is made.
        bins, bound, tails: as in SplineCoupling.
        fast: the direction that needs one evaluation of the conditioner, "forward" or "inverse".
        hidden, cond_channels, seed, dtype: options of a new MaskedDenseNet, as in AutoregressiveAffine.

    Raises:
        TypeError: neither `net` nor `hidden` is given, or `net` is no conditioner.
        ValueError: `fast` is unknown, a number is out of range, or an option of a new conditioner is given although
            `net` is; or, with tails=None, an array has a value outside the domain or NaN.

    References:
        Durkan, Bekasov, Murray & Papamakarios, Neural Spline Flows, 2019, section 4, RQ-NSF (AR).
    """

    transform_class = Spline

    def __init__(
        self,
        channels: int,
        net: Conditioner | None = None,
        bins: int = 8,
        bound: float = 3.0,
        tails: str | None = "linear",
        fast: str = "forward",
        *,
        hidden: int | Sequence[int] | None = None,
        cond_channels: int | None = None,
        seed: Seed = None,
        dtype: DType | None = None,
    ):
        spline = Spline(bins, bound, tails, by_channel=False)
        super().__init__(channels, spline, net, fast, hidden, cond_channels=cond_channels, seed=seed, dtype=dtype)
