"""Couplings: one half of the channels passes, and the other half is transformed given the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arguments import check_integers
from ..fused.spec import LayerSpec
from ..nets import ConvNet, DenseNet
from .conditioned import Conditioned
from .transforms import Affine, Shift

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..core import Conditioner
    from ..typing import Array, Cond, DType, Seed


class Coupling(Conditioned):
    """x1, the first ceil(C/2) channels, passes; x2, the others, is transformed given h = net(x1).

    A conditioner is given as `net`; or `hidden` is, and a new one is made: for vectors a DenseNet, for arrays with
    `ndim` spatial axes a ConvNet.
    """

    least = 2

    def __init__(
        self, channels: int, transform: Any, net: Conditioner | None, hidden: int | Sequence[int] | None, **options: Any
    ):
        super().__init__(channels, transform, net, hidden, **options)
        passing = channels - channels // 2
        self._seen, self._changed = slice(passing), slice(passing, None)

    def make_net(self, channels: int, hidden: int | Sequence[int], ndim: int, **options: Any) -> Conditioner:
        check_integers(ndim=ndim)
        C_in, C_out = channels - channels // 2, self.outputs * (channels // 2)
        if ndim == 0:
            return DenseNet(C_in, hidden, C_out, **options)
        return ConvNet(C_in, hidden, C_out, ndim=ndim, **options)

    @classmethod
    def conditioner_channels(cls, channels: int, *options: Any, **more: Any) -> tuple[int, int]:
        """Input and output channels of the conditioner of a coupling of `channels` channels.

        `options` are those of the transform by which the numbers for each channel differ: `bins` of a spline.
        """
        return channels - channels // 2, cls.transform_class.outputs_of(*options, **more) * (channels // 2)

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        return X, self._run(X, cond, self._transform.forward_)

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        return Z, self._run(Z, cond, self._transform.inverse_)

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        self._run_vjp(dZ, Z, dlogdet, cond, self._transform.backward_)
        return dZ, Z

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        self._run_vjp(dX, X, dlogdet, cond, self._transform.inverse_backward_)
        return dX, X

    def specs(self) -> list:
        net, transform, C, passing = self.net.spec(), self._transform.spec(), self.channels, self._seen.stop
        if net is None or transform is None or not net.maps(passing, self.outputs * (C - passing)):
            return []
        return [LayerSpec(conditioner=net, order=tuple(range(C)), groups=(0, passing, C), **transform)]


class AdditiveCoupling(Coupling):
    """Z = [x1, x2 + t(x1)]; logdet is 0.

    Args:
        channels: C, at least 2; x1 has ceil(C/2) of them.
        net: a conditioner from ceil(C/2) to floor(C/2) channels; or None, and `hidden` says how to make one.
        hidden: width of the hidden layers of a new conditioner, a number or one for each.
        ndim: spatial axes of the data; with 0, as None is, the new conditioner is a DenseNet, with 1 to 3 a ConvNet.
        cond_channels, seed, dtype: of the new conditioner, see ConvNet; None is 0, 0 and "float32".

    Raises:
        ValueError: an option of a new conditioner is given beside `net`.
        TypeError: neither `net` nor `hidden` is given; `net` is no conditioner.

    References:
        Dinh, Krueger & Bengio, NICE: Non-linear Independent Components Estimation, 2014, section 3.2.
    """

    transform_class = Shift

    def __init__(
        self,
        channels: int,
        net: Conditioner | None = None,
        *,
        hidden: int | Sequence[int] | None = None,
        ndim: int | None = None,
        cond_channels: int | None = None,
        seed: Seed = None,
        dtype: DType | None = None,
    ):
        super().__init__(channels, Shift(), net, hidden, ndim=ndim, cond_channels=cond_channels, seed=seed, dtype=dtype)


class AffineCoupling(Coupling):
    """Z = [x1, (x2 + t) s], with h = net(x1) = [t, raw] and s = scale(raw); logdet is sum log s.

    | scale | s | range | inverse amplifies a rounding error in z2 by 1/s |
    |---|---|---|---|
    | "bounded" | exp(a tanh(raw / a)), a = log bound | 1/bound to bound | at most `bound` at each layer |
    | "sigmoid" | sigmoid(raw + 2), as in Glow | 0 to 1 | without limit, and at the start already by 1.135 |
    | "doubled" | 2 sigmoid(raw), as in Jet | 0 to 2 | without limit |

    With "bounded" and "doubled" a zero conditioner makes the layer the identity. The sigmoid only contracts from x to
    z, so that everything rebuilt from z grows with depth: 1.135 ** 100 is 3e5 before any training.

    Args:
        channels: C, at least 2; x1 has ceil(C/2) of them.
        net: a conditioner from ceil(C/2) to 2 floor(C/2) channels, t, then raw; or None, and `hidden` says how to make
            one.
        scale: "bounded", "sigmoid" or "doubled"; None is "bounded".
        bound: the largest scale of "bounded", above 1; None is 4.
        hidden, ndim, cond_channels, seed, dtype: of a new conditioner, see AdditiveCoupling.

    Raises:
        ValueError: `scale` or `bound` is out of its range; `bound` is given with another scale than "bounded", or an
            option of a new conditioner beside `net`.
        TypeError: neither `net` nor `hidden` is given; `net` is no conditioner.

    Example:
        layer = AffineCoupling(4, hidden=64)
        layer = AffineCoupling(12, hidden=64, ndim=2)  # for images of 12 channels
        layer = AffineCoupling(4, DenseNet(2, 64, 4))

    References:
        Dinh, Sohl-Dickstein & Bengio, Density estimation using Real NVP, 2016, section 3.2. Kingma & Dhariwal, Glow,
        2018, section 3.3, and its code for the shift before the scale and sigmoid(raw + 2). Kolesnikov et al., Jet,
        2024, section 3 (2 sigmoid). On the amplification: Behrmann et al., Understanding and mitigating exploding
        inverses in invertible neural networks, 2021.
    """

    transform_class = Affine

    def __init__(
        self,
        channels: int,
        net: Conditioner | None = None,
        scale: str | None = None,
        bound: float | None = None,
        *,
        hidden: int | Sequence[int] | None = None,
        ndim: int | None = None,
        cond_channels: int | None = None,
        seed: Seed = None,
        dtype: DType | None = None,
    ):
        affine = Affine(scale, bound)
        self._meant = {"scale": affine.scale, "bound": affine.bound}
        super().__init__(channels, affine, net, hidden, ndim=ndim, cond_channels=cond_channels, seed=seed, dtype=dtype)
