"""The table of cases: every layer, model and conditioner of the library, and an input for each.

A new layer is a new row here; tests/test_laws.py runs every law of invnet.testing on every row.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import invnet
from invnet.core import get_ops
from invnet.inference import tutorial
from invnet.layers import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    AutoregressiveAffine,
    AutoregressiveSpline,
    Chain,
    Conv1x1,
    Exact,
    FactorOut,
    LeakyReLU,
    Logit,
    PartitionedAdditiveCoupling,
    Permute,
    Planar,
    Radial,
    Reverse,
    Sigmoid,
    SplineCoupling,
    Squeeze,
    Unsqueeze,
)
from invnet.nets import ConvNet, DenseNet, MaskedDenseNet, PlanarNet, RadialNet
from invnet.ops.activations import ACTIVATIONS

SPATIAL = {0: (), 1: (4,), 2: (4, 2), 3: (2, 2, 4)}


@dataclass
class Case:
    make: Callable  # () -> a module in float64
    shape: tuple  # of X
    cond: tuple | None = None  # shape of the condition
    unit: bool = False  # X lies in the unit interval
    # what is added to the parameters; less for deep splines, whose slopes differ by orders of magnitude at some seeds
    noise: float = 0.2

    def build(self):
        """The module with random parameters, X and cond."""
        rng = np.random.default_rng(7)
        module = self.make()
        for parameter in module.parameters():
            parameter.data += self.noise * rng.standard_normal(parameter.data.shape)
        X = rng.uniform(0, 1, self.shape) if self.unit else rng.standard_normal(self.shape)
        return module, X, None if self.cond is None else rng.standard_normal(self.cond)


def conditioner(C_in, C_out, ndim, **options):
    if ndim == 0:
        return DenseNet(C_in, 5, C_out, dtype="float64", **options)
    return ConvNet(C_in, 5, C_out, ndim=ndim, dtype="float64", **options)


def coupling(cls, C, ndim, *, cond_channels=0, activation="softplus", **options):
    C_in, C_out = cls.conditioner_channels(C)
    return cls(C, conditioner(C_in, C_out, ndim, cond_channels=cond_channels, activation=activation), **options)


class Plain(MaskedDenseNet):
    """An autoregressive conditioner that has what the contract asks for only."""

    @property
    def substitute(self):
        raise AttributeError("a conditioner need not have this")

    substitute_vjp = substitute


def autoregressive(
    C, fast="forward", *, scale="bounded", hidden=6, net=MaskedDenseNet, activation="softplus", **options
):
    return AutoregressiveAffine(C, net(C, hidden, activation=activation, dtype="float64", **options), fast, scale)


def spline(C, ndim, bins=4, bound=1.5, tails="linear", **options):
    """A spline coupling with bins of unequal sizes, which normal numbers fill and leave."""
    net = conditioner(*SplineCoupling.conditioner_channels(C, bins), ndim, activation="softplus", **options)
    net.b[-1].data += 0.3 * np.random.default_rng(0).standard_normal(net.b[-1].data.shape)
    return SplineCoupling(C, net, bins, bound, tails)


def autoregressive_spline(
    C,
    fast="forward",
    bins=4,
    bound=1.5,
    tails="linear",
    *,
    net=MaskedDenseNet,
    hidden=6,
    activation="softplus",
    **options,
):
    """The same for an autoregressive layer."""
    net = net(C, hidden, 3 * bins - 1, activation=activation, dtype="float64", **options)
    net.b[-1].data += 0.3 * np.random.default_rng(0).standard_normal(net.b[-1].data.shape)
    return AutoregressiveSpline(C, net, bins, bound, tails, fast)


def staircase(channels, parts, net=PlanarNet):
    """A staircase whose nets are planar or radial maps."""
    return PartitionedAdditiveCoupling(
        channels, [net(channels // parts, seed=k, dtype="float64") for k in range(1, parts)]
    )


class CubeRoot(invnet.Layer):
    """A user's own layer, by the public contract alone: Z = X + X^3 / 3 on few values, its inverse by Newton's
    method.
    """

    def __init__(self):
        self.a = invnet.Parameter(np.array([1.0]))

    def forward(self, X, cond=None):
        xp = get_ops(X).xp
        a = xp.exp(self.a.data)
        return a * (X + X**3 / 3), xp.log(a * (1 + X**2)).reshape(len(X), -1).sum(axis=1)

    def inverse(self, Z, cond=None):
        xp = get_ops(Z).xp
        Z = Z / xp.exp(self.a.data)
        X = Z / (1 + xp.abs(Z) ** (2 / 3))
        for _ in range(60):
            X = X - (X + X**3 / 3 - Z) / (1 + X**2)
        return X

    def backward(self, dZ, Z, dlogdet=None, cond=None):
        X = self.inverse(Z)
        dlogdet = invnet.core.as_dlogdet(dlogdet, Z).reshape(-1, *[1] * (Z.ndim - 1))
        self.a.add((dZ * Z + dlogdet).sum())
        return dZ * get_ops(Z).xp.exp(self.a.data) * (1 + X**2) + dlogdet * 2 * X / (1 + X**2), X


class Scaled(invnet.Layer):
    """A user's own layer that can be reversed: Z = exp(a) X."""

    def __init__(self):
        self.a = invnet.Parameter(np.array([0.3]))

    def forward(self, X, cond=None):
        ops = get_ops(X)
        return X * ops.xp.exp(self.a.data), ops.full(len(X), float(self.a.data[0]) * (X[0, ...].size), X)

    def inverse(self, Z, cond=None):
        return Z * get_ops(Z).xp.exp(-self.a.data)

    def backward(self, dZ, Z, dlogdet=None, cond=None):
        return self._both(dZ, Z, dlogdet, 1)

    def inverse_backward(self, dX, X, dlogdet=None, cond=None):
        return self._both(dX, X, dlogdet, -1)

    def _both(self, d, R, dlogdet, sign):
        exp, dlogdet = get_ops(R).xp.exp, invnet.core.as_dlogdet(dlogdet, R)
        self.a.add(sign * ((d * R).sum() + dlogdet.sum() * R[0, ...].size))
        return d * exp(sign * self.a.data), R * exp(-sign * self.a.data)


LAYERS = {
    "ChannelOrder": Case(lambda: Permute([2, 0, 1]), (3, 3, 4, 2)),
    "Permute reversal": Case(lambda: Permute.reversal(4), (3, 4)),
    "Permute random": Case(lambda: Permute.random(5, seed=1), (3, 5, 4)),
    "Logit": Case(lambda: Logit(0.05), (3, 2, 4, 2), unit=True),
    "Logit, vectors": Case(lambda: Logit(1e-3), (3, 3), unit=True),
    "Sigmoid, inverse of Logit": Case(Sigmoid, (3, 2, 4)),
    "Sigmoid with a margin, inverse of Logit": Case(lambda: Sigmoid(0.1), (3, 2)),
    "LeakyReLU": Case(lambda: LeakyReLU(0.3), (3, 2, 4, 2)),
    "LeakyReLU, vectors": Case(lambda: LeakyReLU(0.05), (4, 3)),
    "SplineCoupling, vector condition": Case(lambda: spline(5, 2, cond_channels=3), (3, 5, 4, 2), cond=(3, 3)),
    "SplineCoupling, two bins": Case(lambda: spline(2, 0, 2), (9, 2)),
    "SplineCoupling, ten bins": Case(lambda: spline(3, 0, 10, 3.0), (9, 3)),
    "SplineCoupling, no tails": Case(lambda: spline(4, 1, bound=6.0, tails=None), (3, 4, 2)),
    "PartitionedAdditiveCoupling, two parts": Case(lambda: staircase(2, 2), (4, 2)),
    "PartitionedAdditiveCoupling, a part each channel": Case(lambda: staircase(5, 5), (4, 5)),
    "PartitionedAdditiveCoupling, parts of two, radial": Case(lambda: staircase(6, 3, RadialNet), (4, 6)),
    "PartitionedAdditiveCoupling, at positions": Case(lambda: staircase(4, 2), (3, 4, 2, 3)),
    "PartitionedAdditiveCoupling, conditional": Case(
        lambda: PartitionedAdditiveCoupling(
            6, [conditioner(2, 2, 0, cond_channels=3, activation="softplus") for _ in range(2)]
        ),
        (4, 6),
        cond=(4, 3),
    ),
    "model of RxInfer's tutorial, compiled": Case(
        lambda: tutorial.compile(
            tutorial.FlowModel(
                4,
                [
                    tutorial.AdditiveCouplingLayer(tutorial.PlanarFlow()),
                    tutorial.PermutationLayer([2, 0, 3, 1]),
                    tutorial.AdditiveCouplingLayer(tutorial.RadialFlow(), False, 2),
                ],
            )
        ),
        (4, 4),
    ),
    "user's own layer": Case(CubeRoot, (3, 3, 2)),
    "Reverse of a user's own layer": Case(lambda: Reverse(Scaled()), (3, 3, 2)),
    "Chain around a user's own layer": Case(
        lambda: Chain(ActNorm(3, dtype="float64"), CubeRoot(), Conv1x1(3, dtype="float64")), (3, 3, 2)
    ),
    "Chain of nothing": Case(lambda: Chain(), (3, 3, 2)),
    "Chain of foldable layers": Case(
        lambda: Chain(
            *[layer for i in range(2) for layer in (ActNorm(3, dtype="float64"), Conv1x1(3, seed=i, dtype="float64"))],
            ActNorm(3, dtype="float64"),
            ActNorm(3, dtype="float64"),
        ),
        (3, 3, 2, 2),
    ),
    "coupling, vector condition": Case(
        lambda: coupling(AffineCoupling, 5, 2, cond_channels=3), (3, 5, 4, 2), cond=(3, 3)
    ),
    "coupling, spatial condition": Case(
        lambda: coupling(AffineCoupling, 4, 2, cond_channels=2), (3, 4, 4, 2), cond=(3, 2, 4, 2)
    ),
    "coupling, finer condition": Case(
        lambda: coupling(AdditiveCoupling, 4, 1, cond_channels=4), (3, 4, 2), cond=(3, 1, 8)
    ),
    "Glow": Case(lambda: invnet.Glow(3, 4, 2, 1, activation="softplus", dtype="float64"), (2, 3, 4, 4)),
    "Glow, conditional": Case(
        lambda: invnet.Glow(1, 4, 2, 1, cond_channels=2, cond_spatial=True, activation="silu", dtype="float64"),
        (2, 1, 4, 8),
        cond=(2, 2, 4, 8),
    ),
    "Glow, additive, householder, no prior": Case(
        lambda: invnet.Glow(1, 4, 2, 2, coupling="additive", mix="householder", prior=False, dtype="float64"),
        (2, 1, 4, 4),
    ),
    "Glow, sigmoid scale": Case(
        lambda: invnet.Glow(2, 4, 1, 2, scale="sigmoid", mix="full", dtype="float64"), (2, 2, 2, 4)
    ),
    "Glow, one axis": Case(lambda: invnet.Glow(3, 4, 2, 1, ndim=1, dtype="float64"), (3, 3, 8)),
    "Glow, three axes": Case(lambda: invnet.Glow(1, 4, 1, 1, ndim=3, dtype="float64"), (2, 1, 2, 2, 4)),
    "Glow, vectors": Case(lambda: invnet.Glow(7, 6, 2, 2, ndim=0, dtype="float64"), (4, 7)),
    "Glow, vectors, conditional": Case(
        lambda: invnet.Glow(5, 6, 1, 2, ndim=0, cond_channels=2, dtype="float64"), (4, 5), cond=(4, 2)
    ),
}

for fast in ("forward", "inverse"):
    name = f"AutoregressiveAffine fast {fast}"
    for C in (1, 2, 3, 17):
        LAYERS[f"{name}, {C} channels"] = Case(lambda C=C, f=fast: autoregressive(C, f), (3, C))
    for C in (1, 2, 3):
        LAYERS[f"{name}, {C} channels, conditional"] = Case(
            lambda C=C, f=fast: autoregressive(C, f, cond_channels=2), (3, C), cond=(3, 2)
        )
    for C in (1, 2, 5):
        LAYERS[f"{name}, {C} channels, plain conditioner"] = Case(
            lambda C=C, f=fast: autoregressive(C, f, net=Plain), (3, C)
        )
    LAYERS[f"{name}, at positions, conditional, plain conditioner"] = Case(
        lambda f=fast: autoregressive(3, f, net=Plain, cond_channels=2), (3, 3, 4), cond=(3, 2)
    )
    LAYERS[f"{name}, another order"] = Case(
        lambda f=fast: autoregressive(4, f, order=[2, 0, 3, 1], activation="silu"), (3, 4)
    )
    LAYERS[f"{name}, sigmoid scale"] = Case(lambda f=fast: autoregressive(3, f, scale="sigmoid"), (3, 3))
    LAYERS[f"{name}, no hidden layer"] = Case(lambda f=fast: autoregressive(4, f, hidden=()), (3, 4))
    LAYERS[f"{name}, at positions"] = Case(lambda f=fast: autoregressive(3, f), (3, 3, 4, 2))
    LAYERS[f"{name}, at positions, conditional"] = Case(
        lambda f=fast: autoregressive(3, f, cond_channels=2), (3, 3, 4), cond=(3, 2, 4)
    )
for fast in ("forward", "inverse"):
    name = f"AutoregressiveSpline fast {fast}"
    for C in (1, 2, 3, 17):
        LAYERS[f"{name}, {C} channels"] = Case(lambda C=C, f=fast: autoregressive_spline(C, f), (3, C))
    for C in (1, 3):
        LAYERS[f"{name}, {C} channels, conditional"] = Case(
            lambda C=C, f=fast: autoregressive_spline(C, f, cond_channels=2), (3, C), cond=(3, 2)
        )
    LAYERS[f"{name}, two bins"] = Case(lambda f=fast: autoregressive_spline(2, f, 2), (9, 2))
    LAYERS[f"{name}, ten bins"] = Case(lambda f=fast: autoregressive_spline(2, f, 10, 3.0), (9, 2))
    LAYERS[f"{name}, no tails"] = Case(lambda f=fast: autoregressive_spline(3, f, bound=6.0, tails=None), (3, 3))
    LAYERS[f"{name}, another order"] = Case(
        lambda f=fast: autoregressive_spline(4, f, order=[2, 0, 3, 1], activation="silu"), (3, 4)
    )
    LAYERS[f"{name}, plain conditioner"] = Case(lambda f=fast: autoregressive_spline(4, f, net=Plain), (3, 4))
    LAYERS[f"{name}, at positions"] = Case(lambda f=fast: autoregressive_spline(3, f), (3, 3, 4, 2))
    LAYERS[f"{name}, at positions, conditional"] = Case(
        lambda f=fast: autoregressive_spline(3, f, 3, cond_channels=2), (3, 3, 4), cond=(3, 2, 4)
    )
    for C in (1, 2, 3, 17):
        LAYERS[f"NSF autoregressive {fast}, {C} features"] = Case(
            lambda C=C, f=fast: invnet.NSF(
                C, 5, 2, bins=3, bound=2.0, activation="silu", dtype="float64", autoregressive=f
            ),
            (4, C),
            noise=0.1,
        )
    LAYERS[f"NSF autoregressive {fast}, mix"] = Case(
        lambda f=fast: invnet.NSF(
            4,
            5,
            2,
            depth=1,
            activation="softplus",
            mix="householder",
            actnorm=True,
            cond_channels=2,
            dtype="float64",
            autoregressive=f,
        ),
        (4, 4),
        cond=(4, 2),
        noise=0.1,
    )
for model in (invnet.MAF, invnet.IAF):
    for C in (1, 2, 3, 17):
        LAYERS[f"{model.__name__}, {C} features"] = Case(
            lambda C=C, m=model: m(C, 5, 2, activation="softplus", dtype="float64"), (3, C)
        )
    LAYERS[f"{model.__name__}, conditional, random orders"] = Case(
        lambda m=model: m(4, (5, 6), 3, order="random", activation="silu", cond_channels=2, dtype="float64"),
        (3, 4),
        cond=(3, 2),
    )
for activation in ("gelu", "tanh"):
    LAYERS[f"Glow, {activation}"] = Case(
        lambda a=activation: invnet.Glow(1, 4, 1, 1, activation=a, dtype="float64"), (2, 1, 4, 4)
    )
    LAYERS[f"RealNVP, {activation}"] = Case(
        lambda a=activation: invnet.RealNVP(3, 5, 2, activation=a, dtype="float64"), (4, 3)
    )
    LAYERS[f"NSF, {activation}"] = Case(
        lambda a=activation: invnet.NSF(3, 5, 1, bins=3, bound=2.0, activation=a, dtype="float64"), (4, 3)
    )
    for model in (invnet.MAF, invnet.IAF):  # with a condition units come one after the other without compiled code
        LAYERS[f"{model.__name__}, conditional, {activation}"] = Case(
            lambda m=model, a=activation: m(3, (5, 6), 1, activation=a, cond_channels=2, dtype="float64"),
            (3, 3),
            cond=(3, 2),
        )
for C in (1, 2, 3, 17):
    for cls in (Planar, Radial, invnet.PlanarFlow, invnet.RadialFlow):
        length = (3,) if issubclass(cls, Chain) else ()
        LAYERS[f"{cls.__name__}, {C} features"] = Case(
            lambda C=C, cls=cls, n=length: cls(C, *n, seed=C, dtype="float64"), (4, C)
        )
    if C > 1:
        LAYERS[f"RealNVP, {C} features"] = Case(
            lambda C=C: invnet.RealNVP(C, 5, 3, activation="silu", dtype="float64"), (4, C)
        )
        LAYERS[f"NSF, {C} features"] = Case(
            lambda C=C: invnet.NSF(C, 5, 3, bins=3, bound=2.0, activation="silu", dtype="float64"), (4, C), noise=0.1
        )
LAYERS["RealNVP, mix"] = Case(
    lambda: invnet.RealNVP(
        4, (5, 6), 2, activation="softplus", mix="lu", actnorm=True, cond_channels=2, dtype="float64"
    ),
    (4, 4),
    cond=(4, 2),
)
LAYERS["NSF, mix"] = Case(
    lambda: invnet.NSF(
        4, 5, 2, depth=1, activation="softplus", mix="householder", actnorm=True, cond_channels=2, dtype="float64"
    ),
    (4, 4),
    cond=(4, 2),
    noise=0.1,
)

for pattern in ("checkerboard", "rows", "columns"):
    for inverted in (False, True):
        LAYERS[f"SplitTokens, {pattern}, {inverted}"] = Case(
            lambda p=pattern, i=inverted: invnet.SplitTokens(p, i), (3, 4, 2, 4)
        )

for d, size in SPATIAL.items():
    for C in (3, 4):
        shape, axes = (3, C, *size), f"{d} axes, {C} channels"
        LAYERS[f"ActNorm, {axes}"] = Case(lambda C=C: ActNorm(C, dtype="float64"), shape)
        for parametrisation in ("lu", "householder", "full"):
            LAYERS[f"Conv1x1 {parametrisation}, {axes}"] = Case(
                lambda C=C, p=parametrisation: Conv1x1(C, p, dtype="float64"), shape
            )
        LAYERS[f"AdditiveCoupling, {axes}"] = Case(lambda C=C, d=d: coupling(AdditiveCoupling, C, d), shape)
        for scale in ("bounded", "sigmoid", "doubled"):
            LAYERS[f"AffineCoupling {scale}, {axes}"] = Case(
                lambda C=C, d=d, s=scale: coupling(AffineCoupling, C, d, scale=s), shape
            )
        LAYERS[f"SplineCoupling, {axes}"] = Case(
            lambda C=C, d=d: spline(C, d % 3), shape
        )  # dense on 3 axes: a spline's condition must stay small
        LAYERS[f"Planar, {axes}"] = Case(lambda C=C: Planar(C, dtype="float64"), shape)
        LAYERS[f"Radial, {axes}"] = Case(lambda C=C: Radial(C, dtype="float64"), shape)
        LAYERS[f"FactorOut, {axes}"] = Case(lambda C=C, d=d: FactorOut(C, Conv1x1(2, dtype="float64")), shape)
        LAYERS[f"FactorOut with prior, {axes}"] = Case(
            lambda C=C, d=d: FactorOut(C, coupling(AffineCoupling, 2, d), coupling(AffineCoupling, C, d)), shape
        )
    if d:
        LAYERS[f"Squeeze, {d} axes"] = Case(Squeeze, (3, 1, *size))
        LAYERS[f"Unsqueeze, {d} axes"] = Case(Unsqueeze, (3, 2**d, *size))
LAYERS["Conv1x1 householder, 2 reflections"] = Case(lambda: Conv1x1(5, "householder", 2, dtype="float64"), (3, 5, 2))
LAYERS.update(
    {
        f"Reverse of {name}": Case(lambda case=case: Reverse(case.make()), case.shape, case.cond)
        for name, case in LAYERS.items()
        if "user" not in name and "Logit" not in name and not name.startswith("Squeeze")
    }
)
LAYERS["Reverse of Logit"] = Case(lambda: Reverse(Logit(0.05)), (3, 2, 4))
LAYERS["Reverse of Sigmoid"] = Case(lambda: Reverse(Sigmoid(0.01)), (3, 2, 4), unit=True)
LAYERS["Reverse of Reverse"] = Case(lambda: Reverse(Reverse(Logit(0.05))), (3, 2, 4), unit=True)
LAYERS["Exact of additive couplings and reflections"] = Case(
    lambda: Exact(
        Chain(
            Conv1x1(4, "householder", dtype="float64"),
            coupling(AdditiveCoupling, 4, 2),
            Squeeze(),
            Conv1x1(16, "householder", 3, dtype="float64"),
            Unsqueeze(),
            Permute.reversal(4),
        ),
        16,
    ),
    (3, 4, 4, 2),
)

#: Exact where it needs correction bits: what it keeps for a backward makes three laws others (tests/test_exact.py).
EXACT = {
    name: Case(lambda case=case: Exact(case.make(), 64), case.shape, case.cond)
    for name, case in LAYERS.items()
    if name
    in (
        "Glow",
        "Glow, conditional",
        "Glow, sigmoid scale",
        "Glow, one axis",
        "Glow, three axes",
        "Glow, vectors, conditional",
        "RealNVP, 3 features",
        "RealNVP, mix",
        "coupling, finer condition",
        "Chain of foldable layers",
        "ActNorm, 2 axes, 3 channels",
        "Conv1x1 full, 2 axes, 4 channels",
        "Conv1x1 lu, 0 axes, 3 channels",
        "AffineCoupling bounded, 1 axes, 3 channels",
        "FactorOut with prior, 2 axes, 4 channels",
        "Permute random",
        "Squeeze, 2 axes",
        "Chain of nothing",
    )
}

NETS = {
    **{
        f"{net.__name__}, {C} channels": Case(lambda C=C, net=net: net(C, seed=C, dtype="float64"), (4, C))
        for C in (1, 3)
        for net in (PlanarNet, RadialNet)
    },
    **{
        f"{net.__name__} at positions": Case(lambda net=net: net(2, dtype="float64"), (2, 2, 3, 2))
        for net in (PlanarNet, RadialNet)
    },
    "ConvNet, one layer": Case(lambda: ConvNet(3, (), 4, kernels=(3,), dtype="float64"), (2, 3, 4, 3)),
    "ConvNet 5-3-1": Case(lambda: ConvNet(2, (4, 3), 3, kernels=(5, 3, 1), dtype="float64"), (2, 2, 4, 5)),
    "ConvNet, narrowing": Case(lambda: ConvNet(6, (4, 2), 1, kernels=(3, 3, 3), dtype="float64"), (2, 6, 3, 4)),
    "ConvNet, vector condition": Case(
        lambda: ConvNet(3, 4, 2, cond_channels=2, dtype="float64"), (2, 3, 4, 3), cond=(2, 2)
    ),
    "ConvNet, finer condition": Case(
        lambda: ConvNet(3, 4, 2, cond_channels=4, dtype="float64"), (2, 3, 2, 3), cond=(2, 1, 4, 6)
    ),
    "DenseNet, deep": Case(lambda: DenseNet(3, 6, 4, depth=4, dtype="float64"), (5, 3)),
    "DenseNet at positions": Case(lambda: DenseNet(3, 6, 4, dtype="float64"), (2, 3, 2, 2)),
    "MaskedDenseNet": Case(lambda: MaskedDenseNet(3, 6, dtype="float64"), (4, 3)),
    "MaskedDenseNet, one channel": Case(lambda: MaskedDenseNet(1, 4, 3, dtype="float64"), (4, 1)),
    "MaskedDenseNet, order, condition": Case(
        lambda: MaskedDenseNet(4, (7, 5), 3, order=[3, 1, 0, 2], activation="silu", cond_channels=2, dtype="float64"),
        (4, 4),
        cond=(4, 2),
    ),
    "MaskedDenseNet, no hidden layer": Case(lambda: MaskedDenseNet(4, (), dtype="float64"), (3, 4)),
    "DenseNet, condition": Case(lambda: DenseNet(3, (6, 4), 2, cond_channels=3, dtype="float64"), (4, 3), cond=(4, 3)),
}
for d, size in SPATIAL.items():
    for activation in ACTIVATIONS:
        NETS[f"conditioner {activation}, {d} axes"] = Case(
            lambda d=d, a=activation: conditioner(3, 2, d, activation=a), (2, 3, *size)
        )

#: A row of each kind. What belongs to no formula, such as memory, strides or errors, and what other engines compute, is
#: shown on these rows every day, and on all rows by `make test-all`.
REPRESENTATIVES = {
    "Permute random",
    "Logit",
    "Sigmoid with a margin, inverse of Logit",
    "LeakyReLU",
    "SplineCoupling, vector condition",
    "SplineCoupling, no tails",
    "PartitionedAdditiveCoupling, conditional",
    "user's own layer",
    "Chain around a user's own layer",
    "Chain of nothing",
    "Chain of foldable layers",
    "coupling, vector condition",
    "coupling, spatial condition",
    "coupling, finer condition",
    "Glow",
    "Glow, conditional",
    "Glow, three axes",
    "Glow, vectors, conditional",
    "AutoregressiveAffine fast forward, 3 channels, conditional",
    "AutoregressiveAffine fast inverse, at positions, conditional",
    "AutoregressiveAffine fast inverse, 5 channels, plain conditioner",
    "AutoregressiveSpline fast forward, 3 channels, conditional",
    "AutoregressiveSpline fast inverse, no tails",
    "NSF autoregressive forward, 3 features",
    "MAF, conditional, random orders",
    "IAF, conditional, random orders",
    "NSF, gelu",
    "RealNVP, tanh",
    "PlanarFlow, 3 features",
    "RadialFlow, 3 features",
    "SplitTokens, checkerboard, True",
    "ActNorm, 2 axes, 3 channels",
    "Conv1x1 lu, 2 axes, 4 channels",
    "Conv1x1 householder, 1 axes, 3 channels",
    "Conv1x1 full, 0 axes, 3 channels",
    "AdditiveCoupling, 3 axes, 3 channels",
    "AffineCoupling bounded, 2 axes, 4 channels",
    "AffineCoupling sigmoid, 1 axes, 3 channels",
    "AffineCoupling doubled, 0 axes, 4 channels",
    "FactorOut with prior, 2 axes, 3 channels",
    "Squeeze, 2 axes",
    "Unsqueeze, 3 axes",
    "Reverse of Glow",
    "Reverse of RealNVP, 3 features",
    "Reverse of IAF, 3 features",
    "Reverse of coupling, spatial condition",
    "PlanarNet, 3 channels",
    "RadialNet at positions",
    "ConvNet 5-3-1",
    "ConvNet, narrowing",
    "ConvNet, vector condition",
    "ConvNet, finer condition",
    "DenseNet, deep",
    "DenseNet at positions",
    "DenseNet, condition",
    "MaskedDenseNet, order, condition",
    "conditioner gelu, 2 axes",
    "conditioner softplus, 3 axes",
}


def marks_of(name):
    """The marks of a test that is run on representatives every day, for one row."""
    return [] if name in REPRESENTATIVES else [pytest.mark.exhaustive]


def representatives(names):
    """Parameters of a test: rows of which all but the representatives are left to `make test-all`."""
    return [pytest.param(name, id=name, marks=marks_of(name)) for name in names]
