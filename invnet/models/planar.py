"""PlanarFlow and RadialFlow: many layers of a few parameters each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arguments import check_integers, generator
from ..layers import Chain, Planar, Radial

if TYPE_CHECKING:
    from ..typing import DType, Seed


class PlanarFlow(Chain):
    """Planar layers one after the other. A new one is the identity.

    Args:
        channels: C.
        length: how many layers.
        seed: an int or a numpy Generator.
        dtype: "float32" or "float64".

    Raises:
        ValueError: a number is out of range.
        TypeError: a size is no integer.

    Example:
        >>> import numpy as np, invnet
        >>> X = np.random.default_rng(0).standard_normal((100, 2)).astype("float32")
        >>> net = invnet.PlanarFlow(2, length=8)
        >>> Z, logdet = net.forward(X)
        >>> Z.shape, logdet.shape
        ((100, 2), (100,))
        >>> bool(np.allclose(net.inverse(Z), X, atol=1e-4))
        True

    References:
        Rezende & Mohamed, Variational Inference with Normalizing Flows, 2015, section 4.1.
    """

    layer: type[Planar] | type[Radial] = Planar

    def __init__(self, channels: int, length: int, seed: Seed = 0, dtype: DType = "float32"):
        check_integers(length=length)
        if length < 0:
            raise ValueError(f"length is not negative; got {length}")
        rng = generator(seed)
        super().__init__(*[self.layer(channels, rng, dtype) for _ in range(length)])
        self.channels = channels


class RadialFlow(PlanarFlow):
    """Radial layers one after the other. A new one is the identity.

    Args:
        channels, length, seed, dtype: as in PlanarFlow.

    Example:
        >>> import numpy as np, invnet
        >>> X = np.random.default_rng(0).standard_normal((100, 2)).astype("float32")
        >>> net = invnet.RadialFlow(2, length=8)
        >>> Z, logdet = net.forward(X)
        >>> Z.shape, logdet.shape
        ((100, 2), (100,))
        >>> bool(np.allclose(net.inverse(Z), X, atol=1e-4))
        True

    References:
        Rezende & Mohamed, Variational Inference with Normalizing Flows, 2015, section 4.1.
    """

    layer = Radial
