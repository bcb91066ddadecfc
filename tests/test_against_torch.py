"""Hand-written gradients are those of torch autograd: outputs, logdet, dX, dcond, every parameter, to 1e-10 in
float64.
"""

import array_api_compat.numpy
import numpy as np
import pytest
import torch
from cases import Plain
from twins import TWINS, assert_agrees, assert_same, randomised

import invnet
from invnet import (
    IAF,
    MAF,
    NSF,
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    AutoregressiveAffine,
    AutoregressiveSpline,
    Chain,
    Conv1x1,
    ConvNet,
    DenseNet,
    Exact,
    FactorOut,
    Glow,
    Jet,
    LeakyReLU,
    Logit,
    MaskedDenseNet,
    PartitionedAdditiveCoupling,
    Permute,
    Planar,
    PlanarFlow,
    PlanarNet,
    Radial,
    RadialFlow,
    RadialNet,
    RealNVP,
    Reverse,
    Sigmoid,
    SplineCoupling,
    SplitTokens,
    Squeeze,
    Unsqueeze,
)
from invnet.ops import _of_type, tile
from invnet.ops import numpy as numpy_engine
from invnet.ops.activations import ACTIVATIONS
from invnet.ops.numpy import NumpyOps
from invnet.ops.reference import Ops
from invnet.ops.tile import Tile

f64 = {"dtype": "float64"}
#: (N, C, *spatial) by the number of spatial axes: odd channels, unequal sizes.
SHAPES = {0: (5, 5), 1: (4, 5, 6), 2: (3, 5, 4, 6), 3: (2, 5, 4, 2, 6)}


def shape(ndim, C=5):
    return (SHAPES[ndim][0], C, *SHAPES[ndim][2:])


def net(C_in, C_out, ndim, hidden=6, **more):
    if ndim == 0:
        return DenseNet(C_in, hidden, C_out, **more, **f64)
    return ConvNet(C_in, hidden, C_out, ndim=ndim, **more, **f64)


def additive(C=5, ndim=2, **more):
    return AdditiveCoupling(C, net(*AdditiveCoupling.conditioner_channels(C), ndim, **more))


def affine(C=5, ndim=2, scale="bounded", bound=None, **more):
    return AffineCoupling(C, net(*AffineCoupling.conditioner_channels(C), ndim, **more), scale, bound)


def autoregressive(C=5, fast="forward", scale="bounded", hidden=8, net=MaskedDenseNet, **more):
    return AutoregressiveAffine(C, net(C, hidden, **more, **f64), fast, scale)


def spline(C=5, ndim=2, bins=4, bound=1.5, **more):
    """A spline coupling whose bins, all met by normal numbers, are of any sizes."""
    layer = SplineCoupling(C, net(*SplineCoupling.conditioner_channels(C, bins), ndim, **more), bins, bound)
    layer.net.b[-1].data += np.random.default_rng(0).standard_normal(layer.net.b[-1].data.shape)
    return layer


def autoregressive_spline(C=5, fast="forward", bins=4, bound=1.5, hidden=8, net=MaskedDenseNet, **more):
    """The same for an autoregressive layer."""
    layer = AutoregressiveSpline(C, net(C, hidden, 3 * bins - 1, **more, **f64), bins, bound, fast=fast)
    layer.net.b[-1].data += np.random.default_rng(0).standard_normal(layer.net.b[-1].data.shape)
    return layer


def staircase(C=5, net=PlanarNet):
    """A staircase of parts of one channel, or of two."""
    size = 1 if C % 2 else 2
    return PartitionedAdditiveCoupling(C, [net(size, seed=k, **f64) for k in range(1, C // size)])


def steep():
    """A planar layer of slope 9 across its plane."""
    layer = Planar(5, **f64)
    layer.u.data[...] = 9 * layer.w.data
    return layer


def factor_out(C, ndim, prior):
    inner = Chain(ActNorm(C - C // 2, **f64), affine(C - C // 2, ndim))
    return FactorOut(C, inner, affine(C, ndim, activation="silu") if prior else None)


def shared_autoregressive():
    layer = autoregressive(4)
    return Chain(layer, Permute.reversal(4), Reverse(layer))


def shared():
    layer = affine(4)
    return Chain(layer, Permute.reversal(4), Reverse(layer), Permute.random(4), layer)


def twice():
    layer = affine(4, 0)
    return Chain(layer, Permute.reversal(4), layer)


LAYERS = {}  # id: (layer, shape of X)
for d in range(4):
    LAYERS[f"ActNorm-{d}d"] = ActNorm(5, **f64), shape(d)
    LAYERS[f"Permute-{d}d"] = Permute([1, 2, 0, 4, 3]), shape(d)
    if d == 2:
        for pattern in ("checkerboard", "rows", "columns"):
            LAYERS[f"SplitTokens-{pattern}"] = SplitTokens(pattern, pattern == "rows"), (3, 6, 4, 2)
    LAYERS[f"Logit-{d}d"] = Logit(0.05), shape(d)
    LAYERS[f"Sigmoid-{d}d"] = Sigmoid(), shape(d)
    LAYERS[f"LeakyReLU-{d}d"] = LeakyReLU(0.2), shape(d)
    LAYERS[f"Planar-{d}d"] = Planar(5, seed=d, **f64), shape(d)
    LAYERS[f"Radial-{d}d"] = Radial(5, seed=d, **f64), shape(d)
    LAYERS[f"PartitionedAdditiveCoupling-{d}d"] = staircase(), shape(d)
    LAYERS[f"AdditiveCoupling-{d}d"] = additive(5, d), shape(d)
    LAYERS[f"SplineCoupling-{d}d"] = spline(5, d), shape(d)
    for scale in ("bounded", "sigmoid", "doubled"):
        LAYERS[f"AffineCoupling-{scale}-{d}d"] = affine(5, d, scale), shape(d)
    for fast in ("forward", "inverse"):
        LAYERS[f"AutoregressiveAffine-{fast}-{d}d"] = autoregressive(5, fast), shape(d)
        LAYERS[f"AutoregressiveSpline-{fast}-{d}d"] = autoregressive_spline(5, fast), shape(d)
    for prior in (False, True):
        LAYERS[f"FactorOut-{'prior' if prior else 'plain'}-{d}d"] = factor_out(5, d, prior), shape(d)
    for kind in ("lu", "householder", "full"):
        LAYERS[f"Conv1x1-{kind}-{d}d"] = Conv1x1(5, kind, seed=d, **f64), shape(d)
    # permutations that are not their own inverses, which would hide that one was taken for the other
    LAYERS[f"Conv1x1-lu-{d}d"][0].P.data[...] = np.roll(np.eye(5), 1, axis=0)
    if d:
        LAYERS[f"Squeeze-{d}d"] = Squeeze(), shape(d)
        LAYERS[f"Unsqueeze-{d}d"] = Unsqueeze(), shape(d, 3 * 2**d)
LAYERS |= {
    "Conv1x1-householder-one-reflection": (Conv1x1(5, "householder", reflections=1, **f64), shape(2)),
    "Conv1x1-householder-three-reflections": (Conv1x1(6, "householder", reflections=3, **f64), shape(1, 6)),
    "Conv1x1-lu-one-channel": (Conv1x1(1, "lu", **f64), shape(2, 1)),
    "Logit-wide-margin": (Logit(0.3), shape(2)),
    "Sigmoid-with-a-margin": (Sigmoid(0.1), shape(2)),
    "LeakyReLU-steep": (LeakyReLU(3.0), shape(2)),
    **{
        f"{cls.__name__}-{C}-channels": (cls(C, seed=C, **f64), (7, C))
        for cls in (Planar, Radial)
        for C in (1, 2, 3, 17)
    },
    **{f"SplineCoupling-{C}-channels": (spline(C, 0), (7, C)) for C in (2, 3, 17)},
    "PartitionedAdditiveCoupling-parts-of-two": (staircase(6), shape(2, 6)),
    "PartitionedAdditiveCoupling-radial": (staircase(6, RadialNet), shape(0, 6)),
    "Planar-steep": (steep(), shape(2)),
    "SplineCoupling-two-bins": (spline(2, 0, bins=2), (17, 2)),
    "SplineCoupling-ten-bins": (spline(2, 0, bins=10, bound=5.0), (17, 2)),
    "SplineCoupling-dense-at-each-position": (spline(5, 0), shape(2)),
    "AffineCoupling-narrow-bound": (affine(5, bound=1.2), shape(2)),
    "AffineCoupling-two-channels": (affine(2), shape(2, 2)),
    "AffineCoupling-three-channels": (affine(3, ndim=0), shape(0, 3)),
    "AffineCoupling-dense-at-each-position": (affine(5, ndim=0), shape(2)),
    "AdditiveCoupling-dense-at-each-position": (additive(5, ndim=0), shape(3)),
    "FactorOut-two-channels": (FactorOut(2, ActNorm(1, **f64), affine(2)), shape(2, 2)),
    "FactorOut-additive-prior": (FactorOut(4, Conv1x1(2, **f64), additive(4)), shape(2, 4)),
    "Chain-empty": (Chain(), shape(2)),
    "Chain-folds-ActNorm-Conv1x1": (Chain(ActNorm(5, **f64), Conv1x1(5, "lu", **f64)), shape(2)),
    "Chain-folds-Conv1x1-ActNorm": (Chain(Conv1x1(5, "householder", **f64), ActNorm(5, **f64)), shape(2)),
    "Chain-folds-ActNorm-ActNorm": (Chain(ActNorm(5, **f64), ActNorm(5, **f64)), shape(1)),
    "Chain-folds-Conv1x1-Conv1x1": (
        Chain(Conv1x1(5, "lu", seed=1, **f64), Conv1x1(5, "full", seed=2, **f64)),
        shape(2),
    ),
    "Chain-folds-five": (
        Chain(
            ActNorm(5, **f64),
            ActNorm(5, **f64),
            Conv1x1(5, "lu", **f64),
            Conv1x1(5, "householder", **f64),
            ActNorm(5, **f64),
        ),
        shape(2),
    ),
    "Chain-of-all": (
        Chain(
            Logit(),
            Squeeze(),
            ActNorm(12, **f64),
            Conv1x1(12, **f64),
            affine(12),
            Permute.reversal(12),
            factor_out(12, 2, True),
            Unsqueeze(),
            Chain(ActNorm(3, **f64), additive(3)),
        ),
        shape(2, 3),
    ),
    "Chain-with-Reverse": (
        Chain(ActNorm(5, **f64), Reverse(Conv1x1(5, **f64)), Reverse(affine(5)), ActNorm(5, **f64)),
        shape(2),
    ),
    "Chain-shares-a-layer": (shared(), shape(2, 4)),
    "Chain-shares-an-autoregressive-layer": (shared_autoregressive(), shape(1, 4)),
}
for fast in ("forward", "inverse"):
    row = f"AutoregressiveAffine-{fast}"
    LAYERS |= {f"{row}-{C}-channels": (autoregressive(C, fast), shape(0, C)) for C in (1, 2, 3, 17)}
    LAYERS |= {
        f"{row}-order": (autoregressive(5, fast, order=[3, 0, 4, 1, 2], activation="silu"), shape(0)),
        f"{row}-plain": (autoregressive(5, fast, net=Plain), shape(0)),
        f"{row}-plain-2d": (autoregressive(3, fast, net=Plain, order=[2, 0, 1]), shape(2, 3)),
        f"{row}-sigmoid": (autoregressive(5, fast, "sigmoid"), shape(0)),
        f"{row}-few-hidden": (autoregressive(5, fast, hidden=(3, 9, 2), activation="softplus"), shape(0)),
        f"{row}-no-hidden": (autoregressive(5, fast, hidden=()), shape(0)),
    }
    row = f"AutoregressiveSpline-{fast}"
    LAYERS |= {f"{row}-{C}-channels": (autoregressive_spline(C, fast), (9, C)) for C in (1, 2, 3, 17)}
    LAYERS |= {
        f"{row}-two-bins": (autoregressive_spline(2, fast, 2), (17, 2)),
        f"{row}-ten-bins": (autoregressive_spline(2, fast, 10, 5.0), (17, 2)),
        f"{row}-order": (autoregressive_spline(5, fast, order=[3, 0, 4, 1, 2], activation="silu"), shape(0)),
        f"{row}-plain": (autoregressive_spline(5, fast, net=Plain), shape(0)),
        f"{row}-plain-2d": (autoregressive_spline(3, fast, net=Plain, order=[2, 0, 1]), shape(2, 3)),
    }
for model in (MAF, IAF):
    LAYERS |= {
        f"{model.__name__}-two": (model(2, 8, 4, **f64), shape(0, 2)),
        f"{model.__name__}-random-orders": (model(5, (8, 7), 3, order="random", scale="sigmoid", **f64), shape(0)),
        f"{model.__name__}-same-order": (
            model(3, 8, 2, depth=1, order="same", bound=2.0, activation="silu", **f64),
            shape(0, 3),
        ),
        f"{model.__name__}-no-steps": (model(3, 8, 0, **f64), shape(0, 3)),
    }
LAYERS |= {
    f"Reverse-{name}": (Reverse(layer), layer.forward(np.full(size, 0.5))[0].shape)
    for name, (layer, size) in LAYERS.items()
}
LAYERS |= {
    f"Exact-{name}": (Exact(LAYERS[name][0], 16), LAYERS[name][1])
    for name in (
        "ActNorm-2d",
        "AdditiveCoupling-2d",
        "AffineCoupling-bounded-2d",
        "AffineCoupling-sigmoid-0d",
        "Conv1x1-lu-2d",
        "Conv1x1-full-0d",
        "Conv1x1-householder-3d",
        "FactorOut-prior-2d",
        "Chain-folds-five",
        "Chain-folds-ActNorm-Conv1x1",
    )
}
LAYERS["Reverse-Reverse"] = Reverse(Reverse(Chain(ActNorm(5, **f64), affine(5)))), shape(2)

WITH_CONDITION = {  # id: (layer, shape of X, shape of cond)
    "PartitionedAdditiveCoupling-vector": (
        PartitionedAdditiveCoupling(6, [net(2, 2, 0, cond_channels=3) for _ in range(2)]),
        shape(0, 6),
        (5, 3),
    ),
    "Reverse-PartitionedAdditiveCoupling-vector": (
        Reverse(PartitionedAdditiveCoupling(6, [net(2, 2, 0, cond_channels=3) for _ in range(2)])),
        shape(0, 6),
        (5, 3),
    ),
    "SplineCoupling-vector": (spline(5, 2, cond_channels=3), shape(2), (3, 3)),
    "SplineCoupling-spatial": (spline(5, 2, cond_channels=3), shape(2), (3, 3, 4, 6)),
    "RealNVP-vector": (RealNVP(5, 6, 2, cond_channels=3, **f64), shape(0), (5, 3)),
    "NSF-vector": (NSF(5, 6, 2, bins=3, cond_channels=3, **f64), shape(0), (5, 3)),
    **{
        f"AutoregressiveSpline-{fast}-vector": (autoregressive_spline(5, fast, cond_channels=3), shape(0), (5, 3))
        for fast in ("forward", "inverse")
    },
    **{
        f"AutoregressiveSpline-{fast}-spatial": (
            autoregressive_spline(3, fast, cond_channels=3),
            shape(2, 3),
            (3, 3, 4, 6),
        )
        for fast in ("forward", "inverse")
    },
    **{
        f"NSF-{fast}-vector": (NSF(3, 6, 2, bins=3, cond_channels=3, autoregressive=fast, **f64), shape(0, 3), (5, 3))
        for fast in ("forward", "inverse")
    },
    "AdditiveCoupling-vector": (additive(5, 2, cond_channels=3), shape(2), (3, 3)),
    "AffineCoupling-vector-to-vectors": (affine(5, 0, cond_channels=3), shape(0), (5, 3)),
    "AffineCoupling-vector": (affine(5, 2, cond_channels=3), shape(2), (3, 3)),
    "AffineCoupling-one-condition": (affine(5, 2, cond_channels=3), shape(2), (1, 3)),
    "AffineCoupling-vector-3d": (affine(5, 3, cond_channels=3), shape(3), (2, 3)),
    "AffineCoupling-spatial": (affine(5, 2, cond_channels=3), shape(2), (3, 3, 4, 6)),
    "AffineCoupling-spatial-1d": (affine(5, 1, cond_channels=3), shape(1), (4, 3, 6)),
    "AffineCoupling-finer": (affine(5, 2, cond_channels=12), shape(2), (3, 3, 8, 12)),
    "AffineCoupling-much-finer-1d": (affine(5, 1, cond_channels=12), shape(1), (4, 3, 24)),
    **{
        f"AutoregressiveAffine-{fast}-{C}-channels-cond": (
            autoregressive(C, fast, cond_channels=3),
            shape(0, C),
            (5, 3),
        )
        for fast in ("forward", "inverse")
        for C in (1, 2, 3, 17)
    },
    **{
        f"AutoregressiveAffine-{fast}-plain-cond": (
            autoregressive(5, fast, net=Plain, cond_channels=3),
            shape(0),
            (5, 3),
        )
        for fast in ("forward", "inverse")
    },
    **{
        f"AutoregressiveAffine-{fast}-no-hidden-cond": (
            autoregressive(5, fast, hidden=(), cond_channels=3),
            shape(0),
            (5, 3),
        )
        for fast in ("forward", "inverse")
    },
    **{
        f"AutoregressiveAffine-{fast}-spatial": (autoregressive(5, fast, cond_channels=3), shape(2), (3, 3, 4, 6))
        for fast in ("forward", "inverse")
    },
    **{f"{model.__name__}-cond": (model(4, 8, 3, cond_channels=3, **f64), shape(0, 4), (5, 3)) for model in (MAF, IAF)},
    "Exact-vector": (Exact(affine(5, cond_channels=3), 16), shape(2), (3, 3)),
    "Chain-vector": (
        Chain(ActNorm(5, **f64), affine(5, cond_channels=3), Permute.reversal(5), additive(5, cond_channels=3)),
        shape(2),
        (3, 3),
    ),
}
WITH_CONDITION |= {
    f"Reverse-{name}": (Reverse(layer), *sizes)
    for name, (layer, *sizes) in WITH_CONDITION.items()
    if "Exact" not in name
}

FLOWS = {  # id: (flow of vectors, shape of X)
    **{f"RealNVP-{C}": (RealNVP(C, 6, 3, **f64), (7, C)) for C in (2, 3, 17)},
    "Jet": (Jet(2, (8, 4), 2, couplings=10, depth=1, width=8, heads=2, **f64), (3, 2, 8, 4)),
    "RealNVP-mix": (
        RealNVP(5, (6, 4), 2, scale="sigmoid", activation="leaky_relu", mix="householder", actnorm=True, **f64),
        (7, 5),
    ),
    **{f"NSF-{C}": (NSF(C, 6, 3, bins=3, bound=2.0, **f64), (7, C)) for C in (2, 3, 17)},
    "NSF-mix": (NSF(5, 6, 2, depth=1, activation="silu", mix="lu", actnorm=True, **f64), (7, 5)),
    **{
        f"NSF-{fast}-{C}": (NSF(C, 6, 3, bins=3, bound=2.0, autoregressive=fast, **f64), (7, C))
        for fast in ("forward", "inverse")
        for C in (1, 2, 3, 17)
    },
    "NSF-forward-mix": (
        NSF(5, 6, 2, depth=1, activation="silu", mix="lu", actnorm=True, autoregressive="forward", **f64),
        (7, 5),
    ),
    **{f"PlanarFlow-{C}": (PlanarFlow(C, 4, **f64), (7, C)) for C in (1, 2, 3, 17)},
    **{f"RadialFlow-{C}": (RadialFlow(C, 4, **f64), (7, C)) for C in (1, 2, 3, 17)},
}
FLOWS |= {  # neighbours that an engine does in one call
    **{
        f"{model.__name__}-{C}": (model(C, (6, 5), 2, order="random", **f64), (7, C))
        for model in (MAF, IAF)
        for C in (1, 2, 5)
    },
    "run": (
        Chain(
            ActNorm(4, **f64),
            Conv1x1(4, seed=2, **f64),
            affine(4, 0),
            Permute([1, 2, 3, 0]),
            Conv1x1(4, "full", **f64),
            affine(4, 0, "sigmoid"),
        ),
        (7, 4),
    ),
    "run-householder": (
        Chain(ActNorm(5, **f64), Conv1x1(5, "householder", 2, **f64), affine(5, 0, hidden=(), bound=2.0)),
        (7, 5),
    ),
    "run-autoregressive": (
        Chain(autoregressive(4, order=[2, 0, 3, 1]), autoregressive(4, "inverse", "sigmoid", hidden=(8, 3, 9))),
        (7, 4),
    ),
    **{
        f"run-{a}": (Chain(affine(3, 0, activation=a), Permute.reversal(3), autoregressive(3, activation=a)), (7, 3))
        for a in ACTIVATIONS
    },
    "run-splines": (
        Chain(
            spline(4, 0),
            Permute.reversal(4),
            autoregressive_spline(4, order=[2, 0, 3, 1]),
            autoregressive_spline(4, "inverse"),
        ),
        (7, 4),
    ),
    "run-splines-many-rows": (Chain(spline(3, 0, 9), Permute.reversal(3), spline(3, 0, 2)), (300, 3)),
    "run-shares-a-layer": (twice(), (7, 4)),
    "run-wide": (Chain(affine(5, 0, hidden=(40, 70)), Permute.reversal(5), affine(5, 0, hidden=33)), (150, 5)),
    "run-many-rows": (RealNVP(3, 6, 2, mix="lu", **f64), (300, 3)),
    "run-images": (
        Chain(
            ActNorm(4, **f64),
            Conv1x1(4, seed=2, **f64),
            affine(4),
            Permute([1, 2, 3, 0]),
            Conv1x1(4, "full", **f64),
            affine(4, 2, "sigmoid"),
            ActNorm(4, **f64),
        ),
        (3, 4, 3, 5),
    ),
    "run-images-wide": (
        Chain(ActNorm(19, **f64), affine(19, 1, kernels=(1, 3), hidden=(21,)), Conv1x1(19, "householder", 3, **f64)),
        (4, 19, 33),
    ),
    "run-images-tiles": (Chain(ActNorm(6, **f64), affine(6), ActNorm(6, **f64)), (5, 6, 24, 24)),
    "run-tiles": (RealNVP(3, 6, 2, mix="lu", **f64), (1100, 3)),
}
FLOWS |= {f"Reverse-{name}": (Reverse(flow), size) for name, (flow, size) in FLOWS.items()}

NETS = {  # id: (conditioner, shape of x, shape of cond)
    **{f"ConvNet-{d}d": (ConvNet(3, 6, 4, ndim=d, **f64), shape(d, 3), None) for d in range(4)},
    **{f"ConvNet-{a}": (ConvNet(3, 6, 4, activation=a, **f64), shape(2, 3), None) for a in ACTIVATIONS},
    **{f"DenseNet-{a}": (DenseNet(3, 6, 4, activation=a, **f64), shape(0, 3), None) for a in ACTIVATIONS},
    **{
        f"ConvNet-vector-cond-{d}d": (ConvNet(3, 6, 4, ndim=d, cond_channels=2, **f64), shape(d, 3), (SHAPES[d][0], 2))
        for d in range(4)
    },
    **{
        f"ConvNet-spatial-cond-{d}d": (ConvNet(3, 6, 4, ndim=d, cond_channels=2, **f64), shape(d, 3), shape(d, 2))
        for d in range(1, 4)
    },
    "ConvNet-finer-cond-1d": (ConvNet(3, 6, 4, ndim=1, cond_channels=8, **f64), (4, 3, 3), (4, 2, 12)),
    "ConvNet-finer-cond-2d": (ConvNet(3, 6, 4, cond_channels=8, **f64), shape(2, 3), (3, 2, 8, 12)),
    "ConvNet-finer-cond-3d": (ConvNet(3, 6, 4, ndim=3, cond_channels=8, **f64), (2, 3, 2, 3, 2), (2, 1, 4, 6, 4)),
    "ConvNet-one-layer": (ConvNet(3, (), 4, kernels=(3,), **f64), shape(2, 3), None),
    "ConvNet-one-layer-cond": (ConvNet(5, (), 3, kernels=(3,), cond_channels=2, **f64), shape(2), (3, 2)),
    "ConvNet-1x1": (ConvNet(3, 6, 4, kernels=(1, 1, 1), **f64), shape(2, 3), None),
    "ConvNet-5-3": (ConvNet(3, 6, 4, kernels=(5, 3), ndim=1, **f64), shape(1, 3), None),
    "ConvNet-1-5-1": (ConvNet(3, 6, 4, kernels=(1, 5, 1), **f64), shape(2, 3), None),
    "ConvNet-deep": (ConvNet(3, 6, 4, kernels=(3, 3, 3, 1, 3), **f64), shape(2, 3), None),
    "ConvNet-kernel-wider-than-x": (ConvNet(3, 6, 4, kernels=(7, 3), **f64), (3, 3, 2, 1), None),
    "ConvNet-one-position": (ConvNet(3, 6, 4, **f64), (3, 3, 1, 1), None),
    "ConvNet-gathers-throughout": (ConvNet(2, (3, 5), 7, **f64), shape(2, 2), None),
    "ConvNet-scatters-throughout": (ConvNet(7, (5, 3), 2, **f64), shape(2, 7), None),
    "ConvNet-batch-of-one": (ConvNet(3, 6, 4, **f64), (1, 3, 4, 6), None),
    "DenseNet-depth-0": (DenseNet(3, 6, 4, depth=0, **f64), shape(0, 3), None),
    "DenseNet-depth-4": (DenseNet(3, 6, 4, depth=4, **f64), shape(0, 3), None),
    "DenseNet-widths": (DenseNet(3, (7, 2), 4, **f64), shape(0, 3), None),
    "DenseNet-cond": (DenseNet(3, 6, 4, cond_channels=2, **f64), shape(0, 3), (5, 2)),
    **{
        f"{bent.__name__}-{C}-channels": (bent(C, **f64), shape(0, C), None)
        for bent in (PlanarNet, RadialNet)
        for C in (1, 3)
    },
    **{f"{bent.__name__}-at-each-position": (bent(3, **f64), shape(2, 3), None) for bent in (PlanarNet, RadialNet)},
    **{f"MaskedDenseNet-{C}-channels": (MaskedDenseNet(C, 8, **f64), shape(0, C), None) for C in (1, 2, 5, 17)},
    "MaskedDenseNet-outputs": (
        MaskedDenseNet(3, (7, 4), 5, order=[2, 0, 1], activation="silu", **f64),
        shape(0, 3),
        None,
    ),
    "MaskedDenseNet-cond": (MaskedDenseNet(3, 6, cond_channels=2, **f64), shape(0, 3), (5, 2)),
    "MaskedDenseNet-depth-0-cond": (MaskedDenseNet(3, (), cond_channels=2, **f64), shape(0, 3), (5, 2)),
    "MaskedDenseNet-at-each-position": (MaskedDenseNet(3, 6, **f64), shape(2, 3), None),
    "DenseNet-at-each-position": (DenseNet(3, 6, 4, **f64), shape(2, 3), None),
    "DenseNet-at-each-position-cond": (DenseNet(3, 6, 4, cond_channels=2, **f64), shape(3, 3), (2, 2)),
}

small = dict(hidden=6, steps=2, **f64)
GLOWS = {  # id: (Glow, shape of X, shape of cond)
    "one-level": (Glow(3, levels=1, **small), (3, 3, 4, 6), None),
    "three-levels": (Glow(3, levels=3, **small), (2, 3, 8, 16), None),
    "grey": (Glow(1, levels=2, **small), (3, 1, 8, 8), None),
    "sigmoid": (Glow(3, levels=2, scale="sigmoid", **small), (3, 3, 4, 8), None),
    "additive": (Glow(3, levels=2, coupling="additive", **small), (3, 3, 4, 8), None),
    "householder": (Glow(3, levels=2, mix="householder", **small), (3, 3, 4, 8), None),
    "full": (Glow(3, levels=2, mix="full", **small), (3, 3, 4, 8), None),
    "no-prior": (Glow(3, levels=2, prior=False, **small), (3, 3, 4, 8), None),
    "silu-bound-2": (Glow(3, levels=2, activation="silu", bound=2.0, **small), (3, 3, 4, 8), None),
    "kernels-1-3": (Glow(3, levels=2, kernels=(1, 3), **small), (3, 3, 4, 8), None),
    "no-steps": (Glow(3, 6, 2, 0, **f64), (3, 3, 4, 8), None),
    "1d": (Glow(3, levels=3, ndim=1, **small), (3, 3, 16), None),
    "3d": (Glow(1, levels=2, ndim=3, **small), (2, 1, 4, 4, 8), None),
    "vectors": (Glow(11, levels=3, ndim=0, **small), (6, 11), None),
    "vectors-additive": (Glow(7, levels=2, ndim=0, coupling="additive", **small), (6, 7), None),
    "vectors-cond": (Glow(7, levels=2, ndim=0, cond_channels=3, **small), (6, 7), (6, 3)),
    "cond-vector": (Glow(3, levels=2, cond_channels=4, **small), (3, 3, 4, 8), (3, 4)),
    "cond-spatial": (Glow(3, levels=2, cond_channels=2, cond_spatial=True, **small), (3, 3, 4, 8), (3, 2, 4, 8)),
    "cond-spatial-1d": (Glow(2, levels=3, ndim=1, cond_channels=2, cond_spatial=True, **small), (3, 2, 16), (3, 2, 16)),
    "exact": (Exact(Glow(3, levels=2, **small), 64), (3, 3, 4, 8), None),
}


def rows(table):
    """The rows of a table as pytest parameters with their ids."""
    return [pytest.param(*row, *[None] * (3 - len(row)), id=name) for name, row in table.items()]


def check(thing, size, cond_size=None, dlogdet="random"):
    rng = np.random.default_rng(1)
    inputs = rng.random(size) if takes_unit_interval(thing) else rng.standard_normal(size)
    assert_agrees(randomised(thing), inputs, None if cond_size is None else rng.standard_normal(cond_size), dlogdet)


def check_likelihood(size):
    rng = np.random.default_rng(0)
    Z, logdet = rng.standard_normal(size), rng.standard_normal(size[0])
    loss, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
    z, ld = torch.tensor(Z, requires_grad=True), torch.tensor(logdet, requires_grad=True)
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    expected = -(normal.log_prob(z).flatten(1).sum(1) + ld).mean()
    expected.backward()
    assert_same(
        {"loss": loss, "dZ": dZ, "dlogdet": dlogdet},
        {"loss": expected.item(), "dZ": z.grad.numpy(), "dlogdet": ld.grad.numpy()},
    )


def takes_unit_interval(thing):
    first = thing.layers[0] if isinstance(thing, Chain) and thing.layers else thing
    return isinstance(first, Logit) or (isinstance(first, Reverse) and isinstance(first.layer, Sigmoid))


@pytest.fixture(params=["numpy", "reference"])
def engine(request, monkeypatch):
    """The NumPy engine, and the reference operations that the other engines are built on."""
    if request.param == "reference":
        monkeypatch.setitem(_of_type, np.ndarray, lambda array, ops=Ops(array_api_compat.numpy): ops)


@pytest.mark.parametrize("dlogdet", ["random", None], ids=["dlogdet", "dlogdet-None"])
@pytest.mark.parametrize("layer, size, cond_size", rows(LAYERS) + rows(WITH_CONDITION) + rows(FLOWS))
def test_a_layer_and_its_gradients_agree_with_autograd(layer, size, cond_size, dlogdet, engine):
    check(layer, size, cond_size, dlogdet)


@pytest.mark.parametrize("net, size, cond_size", rows(NETS))
def test_a_conditioner_and_its_gradients_agree_with_autograd(net, size, cond_size, engine):
    check(net, size, cond_size)


@pytest.mark.parametrize("dlogdet", ["random", None], ids=["dlogdet", "dlogdet-None"])
@pytest.mark.parametrize("glow, size, cond_size", rows(GLOWS))
def test_glow_and_its_gradients_agree_with_autograd(glow, size, cond_size, dlogdet, engine):
    check(glow, size, cond_size, dlogdet)


@pytest.mark.parametrize("name", ["three-levels", "sigmoid", "vectors", "cond-spatial"])
def test_glow_turned_around_agrees_with_autograd(name):
    glow, size, cond_size = GLOWS[name]
    check(Reverse(glow), size, cond_size)


@pytest.mark.parametrize("dlogdet", [0.0, -0.7], ids=str)
def test_a_number_as_dlogdet_stands_for_every_sample(dlogdet):
    check(*GLOWS["three-levels"], dlogdet)


@pytest.fixture(params=[1, 3], ids=["1-thread", "3-threads"])
def threads(request):
    before = invnet.num_threads()
    invnet.set_num_threads(request.param)
    yield
    invnet.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    "thing, size, cond_size",
    rows(
        {
            "AdditiveCoupling": (additive(5), (7, 5, 4, 6)),
            "AffineCoupling": (affine(5, cond_channels=3), (7, 5, 4, 6), (7, 3, 4, 6)),
            "SplineCoupling": (spline(5), (7, 5, 4, 6)),
            "NSF": (NSF(5, 6, 2, bins=3, **f64), (7, 5)),
            "vectors": (affine(5, 0, cond_channels=3), (7, 5), (7, 3)),
            **{f"AutoregressiveAffine-{fast}": (autoregressive(4, fast), (7, 4)) for fast in ("forward", "inverse")},
            **{
                f"AutoregressiveSpline-{fast}": (autoregressive_spline(4, fast), (7, 4))
                for fast in ("forward", "inverse")
            },
            **{
                f"AutoregressiveAffine-{fast}-{net.__name__}-cond": (
                    autoregressive(4, fast, net=net, cond_channels=3),
                    (7, 4),
                    (7, 3),
                )
                for fast in ("forward", "inverse")
                for net in (MaskedDenseNet, Plain)
            },
            "Glow": (Glow(3, levels=2, **small), (7, 3, 4, 8)),
        }
    ),
)
def test_gradients_summed_over_samples_agree_with_autograd(thing, size, cond_size, monkeypatch):
    monkeypatch.setattr(NumpyOps, "tiles", lambda ops, size, *_: [Tile(slice(n, n + 1)) for n in range(size[0])])
    check(thing, size, cond_size)
    check(Reverse(thing), size, cond_size)


BLOCKS = {  # id: (layer, shape of X, shape of cond): cut into blocks where small_tiles is in force
    "AdditiveCoupling": (additive(5), (2, 5, 7, 9)),
    "AffineCoupling": (affine(5), (2, 5, 7, 9)),
    "AffineCoupling-sigmoid": (affine(5, scale="sigmoid", activation="silu"), (2, 5, 9, 7)),
    "AffineCoupling-1d": (affine(5, 1), (2, 5, 75)),
    "AffineCoupling-3d": (affine(4, 3), (2, 4, 3, 4, 5)),
    "AffineCoupling-vector": (affine(5, cond_channels=3), (2, 5, 7, 9), (2, 3)),
    "AffineCoupling-spatial": (affine(5, cond_channels=3), (2, 5, 7, 9), (2, 3, 7, 9)),
    "AffineCoupling-finer": (affine(5, cond_channels=12), (2, 5, 7, 9), (2, 3, 14, 18)),
    "AffineCoupling-dense-at-each-position": (affine(5, ndim=0), (2, 5, 11, 13)),
    "SplineCoupling": (spline(5), (2, 5, 7, 9)),
    "AffineCoupling-reach-0": (affine(5, kernels=(1, 1)), (2, 5, 13, 11)),
    "AffineCoupling-reach-6": (affine(5, kernels=(5, 5, 5)), (1, 5, 4, 15)),
    "Glow": (Glow(3, levels=2, **small), (2, 3, 16, 20)),
}


def small_tiles(monkeypatch):
    """From now on images as large as those of BLOCKS are cut; gives the list of the tiles that are made."""
    made = []
    monkeypatch.setattr(numpy_engine, "_tiles", numpy_engine._tiles.__wrapped__)  # or it remembers tiles
    monkeypatch.setattr(
        numpy_engine, "TILE_BYTES", 14_000
    )  # 36 positions of affine(5): blocks of 2 x 2 and a halo of 2
    monkeypatch.setattr(
        tile, "tiles_of", lambda *how, tiles_of=tile.tiles_of: [made.append(each) or each for each in tiles_of(*how)]
    )
    return made


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("thing, size, cond_size", rows(BLOCKS))
def test_gradients_summed_over_blocks_of_an_image_agree_with_autograd(thing, size, cond_size, monkeypatch):
    made = small_tiles(monkeypatch)
    check(thing, size, cond_size)
    check(Reverse(thing), size, cond_size)
    assert any(not tile.whole for tile in made)


@pytest.mark.parametrize(
    "layer",
    [ActNorm(8, **f64), Conv1x1(8, **f64), Chain(ActNorm(8, **f64), Conv1x1(8, "full", **f64))],
    ids=["ActNorm", "Conv1x1", "folded"],
)
def test_channel_maps_of_more_rows_than_a_tile_agree_with_autograd(layer):
    check(layer, (3, 8, 120, 130))  # 46800 rows; a tile has at most 32768


@pytest.mark.parametrize("size", [(4, 3, 4, 8), (4, 7)], ids=["images", "vectors"])
def test_the_gradient_of_the_gaussian_likelihood_agrees_with_autograd(size):
    check_likelihood(size)


def test_every_layer_and_conditioner_has_a_twin():
    public = {value for value in vars(invnet).values() if isinstance(value, type)}
    contracts = {invnet.Layer, invnet.Isometry, invnet.Conditioner}
    assert {cls for cls in public - contracts if issubclass(cls, (invnet.Layer, invnet.Conditioner))} <= TWINS.keys()
