"""Couplings: the first half of the channels is kept, and the second half is transformed given the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arguments import check_integers
from ..fused.spec import LayerSpec
from ..nets import ConvNet, DenseNet
from .conditioned import Conditioned
from .transforms import Affine, Shift, Transform

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..core import Conditioner
    from ..typing import Array, Cond, DType, Seed


class Coupling(Conditioned):
    """The base of couplings: Z = [x1, f(x2; h)] with h = net(x1), where x1 is the first ceil(C/2) channels of X.

    The conditioner is either given as `net`, or made with hidden layers of width `hidden`: a DenseNet for vectors, a
    ConvNet for arrays with `ndim` spatial axes.

    Args:
        channels: C, at least 2.
        transform: the Transform f.
        net: a Conditioner, or None.
        hidden: the width of the hidden layers of a new conditioner: one number for all, or one for each.
        **options: other options of a new conditioner.
    """

    least = 2

    def __init__(
        self,
        channels: int,
        transform: Transform,
        net: Conditioner | None,
        hidden: int | Sequence[int] | None,
        **options: Any,
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
        """Returns how many channels the conditioner of such a coupling takes and gives.

        Args:
            channels: C.
            *options, **more: the arguments of the transform that change the number of outputs: `bins` of a spline.
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
    """The additive coupling Z = [x1, x2 + net(x1)]; logdet is 0.

    Args:
        channels: C, at least 2; x1 is the first ceil(C/2) of them.
        net: a conditioner from ceil(C/2) to floor(C/2) channels. With None, a new one is made from the options below.
        hidden: the width of the hidden layers of the new conditioner: one number for all, or one for each.
        ndim: the number of spatial axes of the data, 0 to 3; None means 0. The new conditioner is a DenseNet for 0
            axes, otherwise a ConvNet.
        cond_channels: the number of channels of the condition, 0 for none; None means 0.
        seed: an int or a numpy Generator for the initial weights; None means 0.
        dtype: "float32" or "float64"; None means "float32".

    Raises:
        ValueError: an argument is out of range, or an option of a new conditioner is given although `net` is.
        TypeError: neither `net` nor `hidden` is given, or `net` is no conditioner.

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
    """The affine coupling Z = [x1, (x2 + t) s] with [t, raw] = net(x1) and s = scale(raw); logdet is the sum of log s.

    | scale | s | range | the inverse multiplies a rounding error in z2 by 1/s |
    |---|---|---|---|
    | "bounded" | exp(a tanh(raw / a)), a = log bound | 1/bound to bound | at most `bound` at each layer |
    | "sigmoid" | sigmoid(raw + 2), as in Glow | 0 to 1 | no limit; 1.135 in a new layer |
    | "doubled" | 2 sigmoid(raw), as in Jet | 0 to 2 | no limit |

    With "bounded" and "doubled", the layer is the identity if the conditioner gives zeros. The sigmoid can only
    contract from x to z. So errors in what is rebuilt from z grow with depth: by 1.135 ** 100 = 3e5 in 100 new layers.

    Args:
        channels: C, at least 2; x1 is the first ceil(C/2) of them.
        net: a conditioner from ceil(C/2) to 2 floor(C/2) channels, first t, then raw. With None, a new one is made from
            the options of AdditiveCoupling.
        scale: "bounded", "sigmoid" or "doubled"; None means "bounded".
        bound: the largest s of "bounded", above 1; None means 4.
        hidden, ndim, cond_channels, seed, dtype: options of a new conditioner, as in AdditiveCoupling.

    Raises:
        ValueError: `scale` is unknown, or `bound` not above 1; `bound` is given for another scale than "bounded"; or an
            option of a new conditioner is given although `net` is.
        TypeError: neither `net` nor `hidden` is given, or `net` is no conditioner.

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
