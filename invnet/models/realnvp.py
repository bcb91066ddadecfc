"""RealNVP: affine couplings that take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arguments import check_flags, condition_channels, generator
from ..layers import AffineCoupling, Chain
from ..layers.transforms.affine import scale_and_bound
from ..nets import DenseNet
from ..nets.dense import depth_of
from .alternating import alternating, checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..typing import DType, Seed


class RealNVP(Chain):
    """Affine couplings of vectors with dense conditioners; between two of them the halves of the channels change
    places.

    A new one is the identity but for the order of the channels, or a rotation with another `mix`. On arrays with
    spatial axes it acts at each position alone.

    Args:
        channels: C, at least 2.
        hidden: width of the conditioners, a number or one for each hidden layer.
        steps: how many couplings.
        depth: hidden layers of a conditioner, where `hidden` is a number; None is 2.
        scale, bound: of the couplings, see AffineCoupling.
        activation: of the conditioners, see ConvNet.
        mix: "swap" for halves that change places, or a Conv1x1 before every coupling: "lu", "householder" or "full".
        actnorm: an ActNorm before every coupling; `initialize` sets them.
        cond_channels: K of a condition (N, K), 0 for none.
        seed: an int or a numpy Generator.
        dtype: "float32" or "float64".
        classes: how many classes there are, where the condition is a class: integer labels (N,) from 0 to classes - 1,
            which become one-hot rows; 0 for none.

    Raises:
        ValueError: a number or a name is out of range, or an option has no effect: `depth` beside a list of widths,
            `bound` with another scale than "bounded".
        TypeError: a size is no integer.

    Example:
        >>> import numpy as np, invnet
        >>> X = np.random.default_rng(0).standard_normal((100, 2)).astype("float32")
        >>> net = invnet.RealNVP(2, hidden=32, steps=4)
        >>> Z, logdet = net.forward(X)
        >>> Z.shape, logdet.shape
        ((100, 2), (100,))
        >>> bool(np.allclose(net.inverse(Z), X, atol=1e-4))
        True

    References:
        Dinh, Sohl-Dickstein & Bengio, Density estimation using Real NVP, 2016, sections 3.2 to 3.5.
    """

    def __init__(
        self,
        channels: int,
        hidden: int | Sequence[int],
        steps: int,
        depth: int | None = None,
        scale: str | None = None,
        bound: float | None = None,
        activation: str = "relu",
        mix: str = "swap",
        actnorm: bool = False,
        cond_channels: int = 0,
        seed: Seed = 0,
        dtype: DType = "float32",
        classes: int = 0,
    ):
        checked("RealNVP", channels, steps)
        check_flags(actnorm=actnorm)
        cond_channels = condition_channels(cond_channels, classes)
        depth, (scale, bound) = depth_of(hidden, depth), scale_and_bound(scale, bound)
        self._meant = {"depth": depth, "scale": scale, "bound": bound}
        rng, widths = generator(seed), AffineCoupling.conditioner_channels(channels)

        def couple(step):
            net = DenseNet(widths[0], hidden, widths[1], depth, activation, cond_channels, rng, dtype)
            return AffineCoupling(channels, net, scale, bound)

        super().__init__(*alternating(channels, steps, couple, mix, actnorm, rng, dtype))
        self.channels, self.classes = channels, classes
