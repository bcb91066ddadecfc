"""NSF: spline couplings, or autoregressive splines, that take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_flags, check_integers, condition_channels, generator
from ..layers import AutoregressiveSpline, Chain, SplineCoupling
from ..nets import DenseNet, MaskedDenseNet
from ..nets.dense import depth_of
from .alternating import alternating, checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..typing import DType, Seed


class NSF(Chain):
    """Neural spline flow: spline couplings of vectors with dense conditioners; between two of them the halves swap.

    With `autoregressive` the layers are autoregressive splines with masked conditioners instead, and the order of the
    channels is reversed from step to step, which moves no data. They fit more in fewer layers, and one of the two
    directions is slow.

    The splines work on [-bound, bound]: scale the data so that they lie within, or take `actnorm`. A new one is the
    identity but for the order of the channels, or a rotation with another `mix`. On arrays with spatial axes it acts at
    each position alone.

    Args:
        channels: C, at least 2; 1 if autoregressive.
        hidden: width of the conditioners, a number or one for each hidden layer.
        steps: how many couplings or autoregressive layers.
        bins, bound: of the splines, see SplineCoupling.
        depth: hidden layers of a conditioner, where `hidden` is a number; None is 2.
        activation: of the conditioners, see ConvNet.
        mix: "swap" for halves that change places, or the order reversed; or a Conv1x1 before every layer: "lu", as in
            the paper, "householder" or "full".
        actnorm: an ActNorm before every layer; `initialize` sets them.
        cond_channels: K of a condition (N, K), 0 for none.
        seed: an int or a numpy Generator.
        dtype: "float32" or "float64".
        autoregressive: None for couplings, RQ-NSF (C) in the paper. "forward" for autoregressive layers, RQ-NSF (AR),
            whose densities are fast, "inverse" for those whose samples are.
        classes: how many classes there are, where the condition is a class: integer labels (N,) from 0 to classes - 1,
            which become one-hot rows; 0 for none.

    Raises:
        ValueError: `autoregressive` is unknown, a number is out of range, or `depth` is given beside a list of widths.

    Example:
        >>> import numpy as np, invnet
        >>> X = np.random.default_rng(0).standard_normal((100, 2)).astype("float32")
        >>> net = invnet.NSF(2, hidden=32, steps=2)
        >>> Z, logdet = net.forward(X)
        >>> Z.shape, logdet.shape
        ((100, 2), (100,))
        >>> bool(np.allclose(net.inverse(Z), X, atol=1e-4))
        True

    References:
        Durkan, Bekasov, Murray & Papamakarios, Neural Spline Flows, 2019, section 3.
    """

    def __init__(
        self,
        channels: int,
        hidden: int | Sequence[int],
        steps: int,
        bins: int = 8,
        bound: float | None = 3.0,
        depth: int | None = None,
        activation: str = "relu",
        mix: str = "swap",
        actnorm: bool = False,
        cond_channels: int = 0,
        seed: Seed = 0,
        dtype: DType = "float32",
        autoregressive: str | None = None,
        classes: int = 0,
    ):
        if autoregressive not in (None, "forward", "inverse"):
            raise ValueError(f'autoregressive is None, "forward" or "inverse"; got {autoregressive!r}')
        checked("NSF", channels, steps, 2 if autoregressive is None else 1)
        check_integers(bins=bins)
        check_flags(actnorm=actnorm)
        cond_channels = condition_channels(cond_channels, classes)
        depth = depth_of(hidden, depth)
        self._meant = {"depth": depth}
        rng = generator(seed)

        def couple(step):
            widths = SplineCoupling.conditioner_channels(channels, bins)
            net = DenseNet(widths[0], hidden, widths[1], depth, activation, cond_channels, rng, dtype)
            return SplineCoupling(channels, net, bins, bound)

        def regress(step):
            order = np.arange(channels)[:: -1 if step % 2 and mix == "swap" else 1]
            net = MaskedDenseNet(channels, hidden, 3 * bins - 1, depth, order, activation, cond_channels, rng, dtype)
            return AutoregressiveSpline(channels, net, bins, bound, fast=autoregressive)

        layer, swaps = (couple, True) if autoregressive is None else (regress, False)
        super().__init__(*alternating(channels, steps, layer, mix, actnorm, rng, dtype, swaps))
        self.channels, self.classes = channels, classes
