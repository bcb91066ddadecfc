"""Glow: the multiscale flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arguments import check_flags, check_integers, check_unused, condition_channels, generator
from ..core import SHAPES
from ..layers import ActNorm, AdditiveCoupling, AffineCoupling, Chain, Conv1x1, FactorOut, Squeeze, Unsqueeze
from ..layers.transforms.affine import scale_and_bound
from ..nets import ConvNet, DenseNet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..typing import Array, DType, Seed


class Glow(Chain):
    """Multiscale Glow: at each level Squeeze, `steps` times (ActNorm, Conv1x1, coupling), half of the channels leave.

    Z has the shape of X. `ndim=0` is the version for vectors (N, C), dense and without squeezing.

    Args:
        channels: C of the data.
        hidden: width of the conditioners.
        levels: how often the spatial axes are halved; each must be divisible by 2 ** levels.
        steps: flow steps at each level.
        ndim: spatial axes, 0 to 3.
        coupling: "affine" or "additive".
        scale, bound: of affine couplings, the priors' too, see AffineCoupling.
        mix: parametrisation of the 1x1 convolution, "lu", "householder" or "full".
        prior: learn the density of the channels that leave, given those that stay (Glow's split prior); None is True
            where channels leave, that is with two levels or more.
        kernels: kernel sizes of the conditioners; with ndim=0 their number is what counts.
        activation: of the conditioners.
        cond_channels: K of the condition, an array (N, K) or (N, K, *spatial) with the data's spatial axes; 0 for none.
        cond_spatial: the condition has spatial axes.
        seed: an int; the same seed gives the same bits.
        dtype: "float32" or "float64".
        classes: how many classes there are, where the condition is a class: integer labels (N,) from 0 to classes - 1,
            which become one-hot rows; 0 for none.

    Raises:
        ValueError: a number or a name is out of range; an array's spatial axes are not divisible by 2 ** levels. An
            option has no effect: `scale` or `bound` where no coupling is affine, `bound` with another scale than
                "bounded", `prior` with one level,
            `cond_spatial` without a condition or without spatial axes.
        TypeError: a size is no integer.

    Example:
        >>> import numpy as np, invnet
        >>> X = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype("float32")
        >>> net = invnet.Glow(3, hidden=16, levels=2, steps=2)
        >>> Z = net.initialize(X)
        >>> Z, logdet = net.forward(X)
        >>> loss, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
        >>> dX, rebuilt = net.backward(dZ, Z, dlogdet)
        >>> bool(np.allclose(rebuilt, X, atol=1e-4))
        True

    References:
        Kingma & Dhariwal, Glow: Generative Flow with Invertible 1x1 Convolutions, 2018.
    """

    def __init__(
        self,
        channels: int,
        hidden: int | Sequence[int],
        levels: int,
        steps: int,
        ndim: int = 2,
        coupling: str = "affine",
        scale: str | None = None,
        bound: float | None = None,
        mix: str = "lu",
        prior: bool | None = None,
        kernels: Sequence[int] = (3, 1, 3),
        activation: str = "relu",
        cond_channels: int = 0,
        cond_spatial: bool = False,
        seed: Seed = 0,
        dtype: DType = "float32",
        classes: int = 0,
    ):
        if coupling not in ("affine", "additive"):
            raise ValueError(f'coupling is "affine" or "additive"; got {coupling!r}')
        cond_channels = condition_channels(cond_channels, classes)
        _check_sizes(channels, hidden, levels, steps, ndim, cond_channels)
        scale, bound, prior = self._check_effects(
            coupling, scale, bound, levels, prior, ndim, cond_channels, cond_spatial
        )
        self._meant = {"scale": scale, "bound": bound, "prior": prior}
        self._levels, self._ndim = levels, ndim
        rng = generator(seed)

        def net(C_in, C_out, kernels, level):
            options = dict(activation=activation, seed=rng, dtype=dtype)
            if ndim == 0:
                return DenseNet(C_in, (hidden,) * (len(kernels) - 1), C_out, cond_channels=cond_channels, **options)
            K = cond_channels * 2 ** (ndim * level) if cond_spatial else cond_channels
            return ConvNet(C_in, hidden, C_out, kernels, ndim, cond_channels=K, **options)

        def affine(C, kernels, level):
            return AffineCoupling(C, net(*AffineCoupling.conditioner_channels(C), kernels, level), scale, bound)

        def additive(C, kernels, level):
            return AdditiveCoupling(C, net(*AdditiveCoupling.conditioner_channels(C), kernels, level))

        def layers(C, level):
            """The layers of a level, on its C channels after squeezing, and of all deeper ones."""
            couple = affine if coupling == "affine" else additive
            for _ in range(steps):
                yield ActNorm(C, dtype=dtype)
                yield Conv1x1(C, mix, seed=rng, dtype=dtype)
                yield couple(C, kernels, level)
            if level < levels:
                going_on = C - C // 2
                inner = Chain(*squeezed(going_on, level + 1))
                yield FactorOut(C, inner, affine(C, kernels[:1], level) if prior else None)

        def squeezed(C, level):
            if ndim == 0:
                return layers(C, level)
            return (Squeeze(), *layers(C * 2**ndim, level), Unsqueeze())

        super().__init__(*squeezed(channels, 1))
        self.channels, self.classes = channels, classes

    @staticmethod
    def _check_effects(coupling, scale, bound, levels, prior, ndim, cond_channels, cond_spatial):
        """scale, bound and prior, where None was the default; those that concern nothing are None."""
        check_flags(cond_spatial=cond_spatial, prior=prior is not None and prior)
        if levels == 1:
            check_unused("with levels=1, where no channels leave", prior=prior or None)
        elif prior is None:
            prior = True
        if cond_spatial and (ndim == 0 or not cond_channels):
            check_unused(
                "with ndim=0, without spatial axes" if ndim == 0 else "without a condition: give cond_channels",
                cond_spatial=True,
            )
        if coupling == "affine" or prior:
            return *scale_and_bound(scale, bound), prior
        check_unused('with coupling="additive" and no prior', scale=scale, bound=bound)
        return None, None, prior

    def check_shape(self, X: Array, name: str = "X") -> None:
        super().check_shape(X, name)
        if X.ndim != self._ndim + 2 or any(size % 2**self._levels for size in X.shape[2:]):
            raise ValueError(
                f"this Glow takes {SHAPES[self._ndim + 2]} with spatial axes divisible by {2**self._levels}, for "
                f"levels={self._levels}; got {name} of shape {tuple(X.shape)}"
            )


def _check_sizes(channels, hidden, levels, steps, ndim, cond_channels):
    check_integers(channels=channels, hidden=hidden, levels=levels, steps=steps, ndim=ndim, cond_channels=cond_channels)
    if ndim not in (0, 1, 2, 3):
        raise ValueError(f"ndim is the number of spatial axes, 0 to 3; got {ndim}")
    if min(channels, hidden, levels) < 1 or steps < 0:
        raise ValueError(
            f"channels, hidden and levels are positive and steps not negative; got {channels}, {hidden}, {levels}, "
            f"{steps}"
        )
    if ndim == 0 and channels < 2**levels:
        raise ValueError(
            f"with ndim=0 each level but the last halves the features, and 2 must remain: levels={levels} needs "
            f"{2**levels}; "
            f"got channels={channels}"
        )
