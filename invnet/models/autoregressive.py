"""MAF and IAF: stacks of autoregressive layers for vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers, condition_channels, generator
from ..core import SHAPES
from ..layers import AutoregressiveAffine, Chain
from ..layers.transforms.affine import Affine, scale_and_bound
from ..nets import MaskedDenseNet
from ..nets.dense import depth_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..typing import Array, DType, Seed


class MAF(Chain):
    """Masked autoregressive flow: `steps` times z_i = (x_i + t_i) s_i with t and s of the channels before i, densities
    fast.

    The channels' order changes from step to step, which is a permutation between the steps that moves no data.

    Args:
        channels: C of the data (N, C), at least 1.
        hidden: width of the conditioners' hidden layers, a number or one for each.
        steps: autoregressive layers.
        depth: number of hidden layers, where `hidden` is a number; None is 2.
        order: "reversal" (from step to step), "random" (another in every step) or "same".
        scale, bound: as in AffineCoupling.
        activation, cond_channels: as in MaskedDenseNet.
        seed: an int; the same seed gives the same bits.
        dtype: "float32" or "float64".
        classes: how many classes there are, where the condition is a class: integer labels (N,) from 0 to classes - 1,
            which become one-hot rows; 0 for none.

    Raises:
        ValueError: `order` is unknown, a number is out of range, or an option has no effect: `depth` beside a list of
            widths, `bound` with another scale than "bounded".

    Example:
        >>> import numpy as np, invnet
        >>> X = np.random.default_rng(0).standard_normal((100, 2)).astype("float32")
        >>> net = invnet.MAF(2, hidden=32, steps=3)
        >>> Z, logdet = net.forward(X)
        >>> Z.shape, logdet.shape
        ((100, 2), (100,))
        >>> bool(np.allclose(net.inverse(Z), X, atol=1e-4))
        True

    References:
        Papamakarios, Pavlakou & Murray, Masked Autoregressive Flow for Density Estimation, 2017, section 3.
    """

    #: the direction of every layer that is one evaluation of its conditioner
    fast = "forward"

    def __init__(
        self,
        channels: int,
        hidden: int | Sequence[int],
        steps: int,
        depth: int | None = None,
        order: str = "reversal",
        scale: str | None = None,
        bound: float | None = None,
        activation: str = "relu",
        cond_channels: int = 0,
        seed: Seed = 0,
        dtype: DType = "float32",
        classes: int = 0,
    ):
        check_integers(channels=channels, steps=steps)
        if channels < 1 or steps < 0:
            raise ValueError(f"channels is positive and steps not negative; got {channels} and {steps}")
        if order not in ("reversal", "random", "same"):
            raise ValueError(f'order is "reversal", "random" or "same"; got {order!r}')
        cond_channels = condition_channels(cond_channels, classes)
        depth, (scale, bound) = depth_of(hidden, depth), scale_and_bound(scale, bound)
        self._meant = {"depth": depth, "scale": scale, "bound": bound}
        rng, layers = generator(seed), []
        for step in range(steps):
            own_order = {
                "reversal": np.arange(channels)[:: -1 if step % 2 else 1],
                "random": rng.permutation(channels),
                "same": None,
            }[order]
            net = MaskedDenseNet(
                channels, hidden, Affine.outputs, depth, own_order, activation, cond_channels, rng, dtype
            )
            layers.append(AutoregressiveAffine(channels, net, self.fast, scale, bound))
        super().__init__(*layers)
        self.channels, self.classes = channels, classes

    def check_shape(self, X: Array, name: str = "X") -> None:
        super().check_shape(X, name)
        if X.ndim != 2:
            raise ValueError(f"{type(self).__name__} takes {SHAPES[2]}; got {name} of shape {tuple(X.shape)}")


class IAF(MAF):
    """Inverse autoregressive flow: `steps` times x_i = z_i / s_i - t_i with t and s of the noise's channels before i,
    samples fast.

    Args:
        channels: C of the data (N, C), at least 1.
        hidden: width of the conditioners' hidden layers, a number or one for each.
        steps: autoregressive layers.
        depth: number of hidden layers, where `hidden` is a number; None is 2.
        order: "reversal" (from step to step), "random" (another in every step) or "same".
        scale, bound: as in AffineCoupling.
        activation, cond_channels: as in MaskedDenseNet.
        seed: an int; the same seed gives the same bits.
        dtype: "float32" or "float64".
        classes: how many classes there are, where the condition is a class: integer labels (N,) from 0 to classes - 1,
            which become one-hot rows; 0 for none.

    Raises:
        ValueError: as of MAF.

    Example:
        >>> import numpy as np, invnet
        >>> X = np.random.default_rng(0).standard_normal((100, 2)).astype("float32")
        >>> net = invnet.IAF(2, hidden=32, steps=3)
        >>> Z, logdet = net.forward(X)
        >>> Z.shape, logdet.shape
        ((100, 2), (100,))
        >>> bool(np.allclose(net.inverse(Z), X, atol=1e-4))
        True

    References:
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow, 2016, section 3.
    """

    fast = "inverse"
