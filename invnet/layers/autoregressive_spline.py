"""AutoregressiveSpline: the autoregressive layer whose map of every channel is a spline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .autoregressive import Autoregressive
from .transforms import Spline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core import Conditioner
    from ..typing import DType, Seed


class AutoregressiveSpline(Autoregressive):
    """Z = spline(X; net(X)), or X = spline^-1(Z; net(Z)), each number by a monotone rational quadratic spline of its
    own: see Spline.

    The net's outputs for a channel depend on the channels before it only. With fast="forward" it is the first of the
    two that holds and densities are fast, with fast="inverse" the second, and samples are fast; `Autoregressive` says
    what the other direction costs. Unlike the affine map of AutoregressiveAffine, a spline makes several modes of one,
    given the channels before.

    Its pieces reach from -bound to bound, outside it is the identity. A zero conditioner makes the layer the identity.

    Args:
        channels: C, at least 1.
        net: a conditioner from C to (3 bins - 1) C channels: the first parameter of all channels, then the second, and
            so on, as MaskedDenseNet(C, hidden, 3 * bins - 1) has them, which None makes.
        bins, bound, tails: as in SplineCoupling.
        fast: "forward" or "inverse", the direction that is one evaluation.
        hidden, cond_channels, seed, dtype: of a new MaskedDenseNet, see AutoregressiveAffine.

    Raises:
        TypeError: neither `net` nor `hidden` is given; `net` is no conditioner.
        ValueError: `fast` is unknown, a number is out of range, or an option of a new conditioner is given beside
            `net`; without tails, an array has a value outside the domain, or NaN.

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
