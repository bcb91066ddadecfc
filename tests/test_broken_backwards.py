"""The proof that the proof can fail: with one term of one hand-written gradient broken, the comparison with autograd
fails.

A row of MUTATIONS names a function, a piece of its source that occurs once, what to write instead, the case that is
compared (an id of test_against_torch.py), and an array that must be reported wrong: a gradient or the rebuilt X, or Z
where the function serves the forward pass as well. A function within another is named by both,
`ActNorm.affine.pullback`. Where a rewritten function no longer has the piece, its row is to be rewritten with it. Every
hand-written backward has a row.
"""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
import warnings

import array_api_compat.numpy
import numpy as np
import pytest
from cases import LAYERS as CASES_OF_LAWS
from engines import ENGINES, cupy_here
from numba import njit
from numba.core.dispatcher import Dispatcher
from test_against_torch import (
    BLOCKS,
    FLOWS,
    GLOWS,
    LAYERS,
    NETS,
    WITH_CONDITION,
    check,
    check_likelihood,
    f64,
    shape,
    small_tiles,
    staircase,
)
from test_against_torch import spline as spline_coupling

import invnet
from invnet import ActNorm, Chain, Conv1x1, ConvNet, DenseNet, Permute, Planar, Radial
from invnet.ops import _of_type
from invnet.ops.numpy.kernels.convolutions import plan
from invnet.ops.numpy.kernels.simple import TYPES
from invnet.ops.reference import Ops
from invnet.passes import BackwardPolicy
from invnet.testing import backward_rebuilds_the_input, gradients_are_those_of_differences

CASES = {
    **LAYERS,
    **WITH_CONDITION,
    **FLOWS,
    **NETS,
    **{f"Glow-{name}": row for name, row in GLOWS.items()},
    **{f"blocks-{name}": row for name, row in BLOCKS.items()},
    "gathers-3d": (ConvNet(2, (), 4, kernels=(3,), ndim=3, **f64), (2, 2, 3, 4, 5)),
    "scatters-3d": (ConvNet(4, (), 2, kernels=(3,), ndim=3, **f64), (2, 4, 3, 4, 5)),
    "gathers-3d-wide": (ConvNet(2, (), 4, kernels=(5,), ndim=3, **f64), (2, 2, 3, 4, 5)),
    "scatters-3d-wide": (ConvNet(4, (), 2, kernels=(5,), ndim=3, **f64), (2, 4, 3, 4, 5)),
    "many-positions-wide-kernels": (ConvNet(3, (6,), 4, kernels=(5, 5), activation="softplus", **f64), (2, 3, 13, 10)),
    "many-positions": (ConvNet(3, (6, 5), 4, activation="softplus", **f64), (2, 3, 13, 10)),
    "many-positions-narrowing": (ConvNet(7, (5, 3), 2, activation="silu", **f64), (2, 7, 13, 10)),
    "many-positions-cond": (ConvNet(3, 6, 4, cond_channels=2, **f64), (2, 3, 13, 10), (2, 2)),
    "wide": (DenseNet(3, 260, 4, **f64), (250, 3)),
    "ConvNet-square": (ConvNet(3, (3,), 3, kernels=(1, 1), ndim=0, **f64), shape(0, 3)),
    "some-rows": (Chain(ActNorm(8, **f64), Conv1x1(8, **f64)), (3, 8, 12, 13)),
    "many-rows": (Chain(ActNorm(8, **f64), Conv1x1(8, **f64)), (3, 8, 120, 130)),
    "many-rows-bent": (Chain(Planar(2, **f64), Radial(2, **f64)), (3, 2, 60, 60)),
    "staircase-twice": (Chain(*[staircase(6)] * 2), shape(0, 6)),
    "planar-twice": (Chain(*[Planar(5, **f64), Radial(5, **f64)] * 2), shape(0)),
    "many-numbers": (spline_coupling(3), (3, 3, 12, 13)),
    "run-many-rows-scaled": (Chain(*[ActNorm(3, **f64), Permute.reversal(3)] * 2), (300, 3)),
    "twice": (Chain(*[ActNorm(5, **f64), Permute.random(5)] * 2), shape(2)),
}

ACTNORM, AFFINE, COMPOSE, CONV = (
    f"invnet.layers.{name}" for name in ("actnorm", "channel_affine", "compose", "conv1x1")
)
CONDITION = "invnet.core.parameters:Condition.add"
COUPLING, LOGIT, NET, CORE = "invnet.layers.coupling", "invnet.layers.logit", "invnet.nets.conv", "invnet.core.layer"
AUTOREGRESSIVE, MASKED = "invnet.layers.autoregressive", "invnet.nets.masked"
REFERENCE, ENGINE, TILE = (f"invnet.ops.{name}" for name in ("reference", "numpy", "tile"))
KERNELS, CONVOLUTIONS, MIX, ACTIVATIONS, PRODUCTS, TAPS, WINOGRAD, MATRICES = (
    f"{ENGINE}.kernels.{name}"
    for name in ("simple", "convolutions", "mix", "activations", "products", "taps", "winograd", "matrices")
)
EXACT, GRID = "invnet.layers.exact", "invnet.layers.grid_layers"
STAGES, ROWS, AFFINE_ROWS, CONDITIONED, RUNS = (
    f"{ENGINE}.kernels.{name}" for name in ("tables", "rows", "affine", "conditioned", "fused_vectors")
)
IMAGE_ROWS, IMAGE_RUNS = (f"{ENGINE}.kernels.{name}" for name in ("image_rows", "fused_images"))
BACK, MANY = f"{CONVOLUTIONS}:convolve_vjp", "many-positions"
PLANAR, LEAKY_RELU, SPLINE = "invnet.layers.planar", "invnet.layers.leaky_relu", "invnet.layers.spline"
PLANAR_ROWS, RADIAL_ROWS, SPLINE_ROWS = (f"{ENGINE}.kernels.{name}" for name in ("planar", "radial", "spline"))
SPLINE_COUPLING = "invnet.layers.spline_coupling:SplineCoupling"
AUTOREGRESSIVE_SPLINE = "invnet.layers.autoregressive_spline:AutoregressiveSpline"
FOLD, GATHER, SCATTER = "Chain-folds-ActNorm-Conv1x1", "ConvNet-gathers-throughout", "ConvNet-scatters-throughout"
RELU, LEAKY, SILU, SOFTPLUS, GELU, TANH = (
    f"ConvNet-{name}" for name in ("relu", "leaky_relu", "silu", "softplus", "gelu", "tanh")
)

MAF_ROW, IAF_ROW, PLAIN = (
    "AutoregressiveAffine-forward-0d",
    "AutoregressiveAffine-inverse-0d",
    "AutoregressiveAffine-inverse-plain",
)

MUTATIONS = [  # function, piece, replacement, case, what must be reported
    # ActNorm
    (f"{ACTNORM}:ActNorm.affine.pullback", " * scale", "", "ActNorm-2d", "log_s"),
    (f"{ACTNORM}:ActNorm.affine.pullback", " + dlogdet", "", "ActNorm-0d", "log_s"),
    (f"{ACTNORM}:ActNorm.affine.pullback", "add(db)", "add(-db)", "ActNorm-1d", "b"),
    (f"{ACTNORM}:ActNorm.affine.pullback", "self.b.add(db)", "self.b.grad[...] = db", "twice", "layers.0.b"),
    (f"{ACTNORM}:ActNorm.affine.pullback", "linalg.diagonal(dM)", "sum(dM, axis=0)", FOLD, "layers.0.log_s"),
    # the channel mix and its inverse
    (f"{AFFINE}:ChannelAffine.backward_", "self._dlogdet", "-self._dlogdet", "Conv1x1-lu-2d", "log_s"),
    (f"{AFFINE}:ChannelAffine._dlogdet", " * math.prod(X.shape[2:])", "", "ActNorm-2d", "log_s"),
    (f"{AFFINE}:ChannelAffine.inverse_backward_", "db = -_times", "db = _times", "Reverse-ActNorm-2d", "layer.b"),
    (
        f"{AFFINE}:ChannelAffine.inverse_backward_",
        "_times(_transpose(Minv), dc)",
        "_times(Minv, dc)",
        "Reverse-Chain-folds-ActNorm-Conv1x1",
        "layer.layers.0.b",
    ),
    (f"{AFFINE}:ChannelAffine.inverse_backward_", "(dMinv - dc * b)", "dMinv", "Reverse-ActNorm-2d", "layer.log_s"),
    (
        f"{AFFINE}:ChannelAffine.inverse_backward_",
        "(dMinv - dc[:, None] * b[None, :])",
        "dMinv",
        "Reverse-Chain-folds-five",
        "layer.layers.2.L",
    ),
    (f"{AFFINE}:ChannelAffine.inverse_backward_", "@ Minv.T\n", "@ Minv\n", "Reverse-Conv1x1-full-2d", "layer.W"),
    (
        f"{AFFINE}:ChannelAffine.inverse_backward_",
        "dM = -Minv.T",
        "dM = Minv.T",
        "Reverse-Conv1x1-householder-2d",
        "layer.V",
    ),
    (
        f"{AFFINE}:ChannelAffine.inverse_backward_",
        "-self._dlogdet",
        "self._dlogdet",
        "Reverse-Conv1x1-lu-2d",
        "layer.log_s",
    ),
    (f"{AFFINE}:Folded.affine.pullback", "db[:, None] * b1[None, :]", "0", FOLD, "layers.1.L"),
    (f"{AFFINE}:Folded.affine.pullback", "(db * b1 if", "(0 if", "Chain-folds-ActNorm-ActNorm", "layers.1.log_s"),
    (
        f"{AFFINE}:Folded.affine.pullback",
        "_product(dM, _transpose(M1))",
        "_product(dM, M1)",
        "Chain-folds-Conv1x1-Conv1x1",
        "layers.1.W",
    ),
    (
        f"{AFFINE}:Folded.affine.pullback",
        "_product(_transpose(M2), dM)",
        "_product(M2, dM)",
        "Chain-folds-Conv1x1-Conv1x1",
        "layers.0.L",
    ),
    (f"{AFFINE}:Folded.affine.pullback", "_times(_transpose(M2), db)", "_times(M2, db)", FOLD, "layers.0.b"),
    (
        f"{AFFINE}:Folded.affine.pullback",
        "first_pullback(dM, db, dlogdet)",
        "first_pullback(dM, db, 0)",
        FOLD,
        "layers.0.log_s",
    ),
    (f"{AFFINE}:Folded.affine.pullback", "b1[None, :]), db, dlogdet", "b1[None, :]), db, 0", FOLD, "layers.1.log_s"),
    # the three parametrisations of the 1x1 convolution
    (f"{CONV}:Conv1x1.affine", "pullback(dM, dlogdet)", "pullback(dM.T, dlogdet)", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._full.pullback", " + dlogdet * get_ops(W).inverse(W).T", "", "Conv1x1-full-2d", "W"),
    (f"{CONV}:Conv1x1._full.pullback", "inverse(W).T", "inverse(W)", "Conv1x1-full-2d", "W"),
    (f"{CONV}:Conv1x1._lu.pullback", "P.T @ dW", "P @ dW", "Conv1x1-lu-2d", "L"),
    (f"{CONV}:Conv1x1._lu.pullback", "L.T @ dLU", "L @ dLU", "Conv1x1-lu-2d", "U"),
    (f"{CONV}:Conv1x1._lu.pullback", "dLU @ U.T", "dLU @ U", "Conv1x1-lu-2d", "L"),
    (f"{CONV}:Conv1x1._lu.pullback", "(dLU @ U.T) * below", "dLU @ U.T", "Conv1x1-lu-2d", "L"),
    (f"{CONV}:Conv1x1._lu.pullback", " * below.T", "", "Conv1x1-lu-2d", "U"),
    (f"{CONV}:Conv1x1._lu.pullback", " * s + dlogdet", " + dlogdet", "Conv1x1-lu-2d", "log_s"),
    (f"{CONV}:Conv1x1._lu.pullback", " * s + dlogdet", " * s", "Conv1x1-lu-2d", "log_s"),
    (f"{CONV}:Conv1x1._householder.pullback", "-V @ dW @ V.T", "-V @ dW.T @ V.T", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder.pullback", "-B @ V @ dW.T", "-B @ V @ dW", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder.pullback", " - B.T @ V @ dW", "", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder.pullback", "- B.T @ V @ dW", "- B @ V @ dW", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder.pullback", " + (dG + dG.T) @ V", "", "Conv1x1-householder-one-reflection", "V"),
    (f"{CONV}:Conv1x1._householder.pullback", "(dG + dG.T)", "2 * dG", "Conv1x1-householder-three-reflections", "V"),
    (f"{CONV}:Conv1x1._householder.pullback", "half * (", "(", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder.pullback", "-B.T @ dB @ B.T", "-B @ dB @ B", "Conv1x1-householder-2d", "V"),
    # couplings
    (
        f"{COUPLING}:Coupling._vjp.work",
        "tile.inner(h), dlogdet[tile.samples]",
        "tile.inner(h), 0 * dlogdet[tile.samples]",
        "AffineCoupling-bounded-2d",
        "net.W.2",
    ),
    (
        f"{COUPLING}:Coupling._vjp.work",
        "ops.add_(tile.region(dz1), ops.astype(self._same(dx1, z), Z.dtype))",
        "tile.region(dz1)[...] = dx1",
        "AffineCoupling-bounded-2d",
        "dX",
    ),
    (
        f"{COUPLING}:Coupling._vjp.work",
        "ops.add_(tile.region(dz1), ops.astype(self._same(dx1, z), Z.dtype))",
        "pass",
        "AdditiveCoupling-2d",
        "dX",
    ),
    (
        f"{COUPLING}:Coupling._add",
        "parameter.add(gradient)",
        "parameter.gradient_array()[...] = gradient",
        "Chain-shares-a-layer",
        "layers.0.net.W.0",
    ),
    (CONDITION, "[...] += gradient", "[...] = gradient", "Chain-vector", "dcond"),
    (f"{COUPLING}:Coupling.backward_", "self.couple_vjp_", "self.uncouple_vjp_", "AdditiveCoupling-2d", "net.W.0"),
    (
        f"{COUPLING}:Coupling.inverse_backward_",
        "self.uncouple_vjp_",
        "self.couple_vjp_",
        "Reverse-AdditiveCoupling-2d",
        "layer.net.W.0",
    ),
    (f"{COUPLING}:AdditiveCoupling.couple_vjp_", "return dz2", "return -dz2", "AdditiveCoupling-0d", "net.b.2"),
    (f"{COUPLING}:AdditiveCoupling.couple_vjp_", "z2 -= h", "pass", "AdditiveCoupling-2d", "X"),
    (
        f"{COUPLING}:AdditiveCoupling.uncouple_vjp_",
        "return -dx2",
        "return dx2",
        "Reverse-AdditiveCoupling-2d",
        "layer.net.b.2",
    ),
    (
        f"{COUPLING}:AffineCoupling.couple_vjp_",
        "_scale, dlogdet",
        "_scale, 0 * dlogdet",
        "AffineCoupling-sigmoid-2d",
        "net.W.2",
    ),
    (
        f"{COUPLING}:AffineCoupling.uncouple_vjp_",
        "_scale, dlogdet",
        "_scale, 0 * dlogdet",
        "Reverse-AffineCoupling-bounded-2d",
        "layer.net.W.2",
    ),
    (f"{KERNELS}:couple_vjp", "dz * z + dlogdet[n]", "dz * z", "AffineCoupling-bounded-2d", "net.W.2"),
    (f"{KERNELS}:couple_vjp", "dlogdet[n])", "dlogdet[0])", "AffineCoupling-sigmoid-0d", "net.b.2"),
    (f"{KERNELS}:couple_vjp", "(dz * z +", "(dx * z +", "AffineCoupling-bounded-2d", "net.b.2"),
    (f"{KERNELS}:couple_vjp", " * slope", "", "AffineCoupling-sigmoid-2d", "net.b.2"),
    (f"{KERNELS}:couple_vjp", "(log_s[r, c] / a) ** 2", "log_s[r, c] ** 2", "AffineCoupling-bounded-2d", "net.b.2"),
    (f"{KERNELS}:couple_vjp", "else -math.expm1(", "else math.exp(", "AffineCoupling-sigmoid-2d", "net.b.2"),
    (f"{KERNELS}:couple_vjp", "log_s[r, c] + a", "log_s[r, c]", "AffineCoupling-doubled-2d", "net.b.2"),
    (f"{KERNELS}:couple_vjp", "dh[r, c] = dx", "dh[r, c] = dz", "AffineCoupling-bounded-2d", "net.b.2"),
    (f"{KERNELS}:couple_vjp", "dz2[r, c] = dx", "dz2[r, c] = dz", "AffineCoupling-bounded-2d", "dX"),
    (f"{KERNELS}:couple_vjp", " - h[r, c]", "", "AffineCoupling-bounded-2d", "X"),
    (
        f"{ENGINE}.couplings:Couplings.couple_vjp_",
        "log(scale[1])",
        "log(2 * scale[1])",
        "AffineCoupling-bounded-2d",
        "net.b.2",
    ),
    (
        f"{ENGINE}.couplings:Couplings.couple_vjp_",
        "dlogdet, dh)",
        "-dlogdet, dh)",
        "AffineCoupling-sigmoid-2d",
        "net.b.2",
    ),
    (f"{ENGINE}.couplings:Couplings.add_", "self.rows(Y)", "-self.rows(Y)", "AdditiveCoupling-2d", "dX"),
    (f"{KERNELS}:add", "+= B[r, c]", "= B[r, c]", "AffineCoupling-bounded-2d", "dX"),
    (f"{REFERENCE}.coupling:Couplings.add_", "X += Y", "X -= Y", "AdditiveCoupling-2d", "dX"),
    (
        f"{REFERENCE}.coupling:Couplings.couple_vjp_",
        " + self.at_positions(dlogdet, z2)",
        "",
        "AffineCoupling-bounded-2d",
        "net.b.2",
    ),
    (f"{REFERENCE}.coupling:Couplings.couple_vjp_", " * slope", "", "AffineCoupling-sigmoid-2d", "net.b.2"),
    (
        f"{REFERENCE}.coupling:Couplings.couple_vjp_",
        "[dx2, draw]",
        "[-dx2, draw]",
        "AffineCoupling-sigmoid-2d",
        "net.b.2",
    ),
    (
        f"{REFERENCE}.coupling:Couplings.couple_vjp_",
        "dx2 = dR * self.xp.exp(log_s)",
        "dx2 = dR",
        "AffineCoupling-sigmoid-2d",
        "dX",
    ),
    (
        f"{REFERENCE}.coupling:Couplings.uncouple_vjp_",
        "draw = -(",
        "draw = (",
        "Reverse-AffineCoupling-bounded-2d",
        "layer.net.b.2",
    ),
    (
        f"{REFERENCE}.coupling:Couplings.uncouple_vjp_",
        " + self.at_positions(dlogdet, x2)",
        "",
        "Reverse-AffineCoupling-sigmoid-2d",
        "layer.net.b.2",
    ),
    (
        f"{REFERENCE}.coupling:Couplings.uncouple_vjp_",
        "[-dR, draw]",
        "[dR, draw]",
        "Reverse-AffineCoupling-bounded-2d",
        "layer.net.b.2",
    ),
    (
        f"{REFERENCE}.coupling:Couplings.uncouple_vjp_",
        "self.rows(x2) + t",
        "self.rows(x2)",
        "Reverse-AffineCoupling-bounded-2d",
        "layer.net.b.2",
    ),
    (
        f"{REFERENCE}.coupling:Couplings.uncouple_vjp_",
        "dR * self.xp.exp(-log_s)",
        "dR",
        "Reverse-AffineCoupling-bounded-2d",
        "dX",
    ),
    (
        f"{REFERENCE}.coupling:Couplings.uncouple_vjp_",
        "R * self.xp.exp(log_s)",
        "R",
        "Reverse-AffineCoupling-sigmoid-2d",
        "X",
    ),
    (
        f"{REFERENCE}.coupling:Couplings.uncouple_vjp_",
        ") * slope",
        ")",
        "Reverse-AffineCoupling-bounded-2d",
        "layer.net.b.2",
    ),
    (
        f"{REFERENCE}.coupling:Couplings.log_scale_slope",
        "-self.xp.expm1(log_s -",
        "self.xp.exp(log_s -",
        "AffineCoupling-sigmoid-2d",
        "net.b.2",
    ),
    (f"{REFERENCE}.coupling:Couplings.log_scale_slope", " ** 2", "", "AffineCoupling-bounded-2d", "net.b.2"),
    (
        f"{REFERENCE}.coupling:Couplings.log_scale_slope",
        "math.log(bound)",
        "bound",
        "Reverse-AffineCoupling-bounded-2d",
        "layer.net.b.2",
    ),
    # blocks of an image and what the conditioner sees around them
    (f"{COUPLING}:Coupling._vjp.work", "ops.zeros_like(h)", "h", "blocks-AffineCoupling", "dX"),
    (
        f"{COUPLING}:Coupling._vjp.work",
        "around = ops.zeros_like(h)",
        "around = ops.zeros_like(h) + 1",
        "blocks-AdditiveCoupling",
        "net.W.0",
    ),
    (f"{COUPLING}:Coupling._vjp.work", "[...] = dh", "[...] = -dh", "blocks-AffineCoupling-1d", "net.b.2"),
    (
        f"{COUPLING}:Coupling._vjp.work",
        "ops.copy(ops.astype(self._same(dx1, z), Z.dtype))",
        "-ops.copy(dx1)",
        "blocks-AffineCoupling-3d",
        "dX",
    ),
    (f"{COUPLING}:Coupling._vjp.commit", "if dx1 is not None", "if False", "blocks-AdditiveCoupling", "dX"),
    (
        f"{COUPLING}:Coupling._vjp.commit",
        "ops.add_(tile.region(dz1), dx1)",
        "ops.add_(tile.core(dz1), tile.inner(dx1))",
        "blocks-AffineCoupling",
        "dX",
    ),
    (
        f"{COUPLING}:Coupling._vjp.commit",
        "ops.add_(tile.region(dz1), dx1)",
        "tile.region(dz1)[...] = dx1",
        "blocks-Glow",
        "dX",
    ),
    (
        f"{COUPLING}:Coupling._add",
        "parameter.add(gradient)",
        "parameter.gradient_array()[...] = gradient",
        "blocks-AffineCoupling-reach-0",
        "net.W.0",
    ),
    (CONDITION, "[...] += gradient", "[...] = gradient", "blocks-AffineCoupling-vector", "dcond"),
    (CONDITION, "[...] += gradient", "[...] = gradient", "blocks-AffineCoupling-finer", "dcond"),
    (f"{TILE}:Tile.__init__", "max(0, a - reach)", "max(0, a)", "blocks-AffineCoupling", "Z"),
    (f"{TILE}:Tile.__init__", "min(n, b + reach)", "b", "blocks-AffineCoupling-1d", "Z"),
    (f"{TILE}:Tile.__init__", "slice(a - lo, b - lo)", "slice(0, b - a)", "blocks-AffineCoupling-3d", "Z"),
    (
        f"{TILE}:Tile.condition",
        "slice(t * s.start, t * s.stop)",
        "slice(0, t * (s.stop - s.start))",
        "blocks-AffineCoupling-spatial",
        "Z",
    ),
    (f"{TILE}:Tile.condition", "return cond[samples]", "return cond[:1]", "blocks-AffineCoupling-vector", "Z"),
    (f"{TILE}:tiles_of", "block, spatial, reach", "block, spatial, reach - 1", "blocks-AffineCoupling-reach-6", "Z"),
    (f"{ENGINE}.arrays:Arrays._write_back", "X[...] = self", "self", "blocks-AffineCoupling", "Z"),
    # autoregressive layers and their conditioner
    (
        f"{AUTOREGRESSIVE}:Autoregressive.backward_",
        "self.couple_vjp_, dZ, Z, dlogdet, cond)\n        else",
        "self.couple_vjp_, dZ, Z, 0 * dlogdet, cond)\n        else",
        MAF_ROW,
        "net.b.2",
    ),
    (
        f"{AUTOREGRESSIVE}:Autoregressive.backward_",
        "self._solved_vjp(self.couple_vjp_",
        "self._solved_vjp(self.uncouple_vjp_",
        IAF_ROW,
        "X",
    ),
    (
        f"{AUTOREGRESSIVE}:Autoregressive.inverse_backward_",
        "self._solved_vjp(self.uncouple_vjp_",
        "self._solved_vjp(self.couple_vjp_",
        f"Reverse-{MAF_ROW}",
        "X",
    ),
    (
        f"{AUTOREGRESSIVE}:Autoregressive.inverse_backward_",
        "_vjp(self.couple_, self.uncouple_vjp_, dX, X, dlogdet",
        "_vjp(self.couple_, self.uncouple_vjp_, dX, X, -dlogdet",
        f"Reverse-{IAF_ROW}",
        "layer.net.b.2",
    ),
    (f"{AUTOREGRESSIVE}:Autoregressive._vjp.work", "ops.add_(dv, self._same(du, v))", "pass", MAF_ROW, "dX"),
    (
        f"{AUTOREGRESSIVE}:Autoregressive._vjp.work",
        "dlogdet[tile.samples]",
        "0 * dlogdet[tile.samples]",
        MAF_ROW,
        "net.W.2",
    ),
    (
        f"{AUTOREGRESSIVE}:Autoregressive._vjp.work",
        "nearly(tile), tile",
        "ops.copy_channels_last(v), tile",
        MAF_ROW,
        "X",
    ),
    (
        f"{AUTOREGRESSIVE}:Autoregressive._nearly_solved.substituted",
        "uncouple_(ops, u[:, i:i + 1], self._of_one(h))",
        "0",
        MAF_ROW,
        "X",
    ),
    (f"{AUTOREGRESSIVE}:Autoregressive._swept", "self.channels - 1", "self.channels - 3", f"{MAF_ROW[:-3]}-plain", "X"),
    (
        f"{AUTOREGRESSIVE}:Autoregressive._swept.work",
        "not ops.all_hold(before == after)",
        "False",
        f"{MAF_ROW[:-3]}-plain",
        "X",
    ),
    (
        f"{AUTOREGRESSIVE}:Autoregressive._solved_vjp.work",
        "dlogdet[tile.samples]",
        "0 * dlogdet[tile.samples]",
        IAF_ROW,
        "net.W.2",
    ),
    (
        f"{AUTOREGRESSIVE}:Autoregressive._solved_vjp.substituted_vjp",
        "return uncouple",
        "return -uncouple",
        IAF_ROW,
        "net.W.0",
    ),
    (f"{AUTOREGRESSIVE}:Autoregressive._solved_vjp.substituted_vjp.step", "du_i += dx", "pass", IAF_ROW, "dX"),
    (
        f"{AUTOREGRESSIVE}:Autoregressive._solved_vjp.substituted_vjp.step",
        "du_i += dx",
        "du_i -= dx",
        IAF_ROW,
        "net.W.0",
    ),
    (
        f"{AUTOREGRESSIVE}:Autoregressive._solved_vjp.swept_vjp",
        "du + self._same(dx, u)",
        "total + self._same(dx, u)",
        PLAIN,
        "dX",
    ),
    (
        f"{AUTOREGRESSIVE}:Autoregressive._solved_vjp.swept_vjp",
        "du + self._same(dx, u)",
        "du - self._same(dx, u)",
        PLAIN,
        "net.W.0",
    ),
    (
        f"{AUTOREGRESSIVE}:Autoregressive._solved_vjp.swept_vjp",
        "in range(self.channels)",
        "in range(self.channels - 2)",
        PLAIN,
        "net.W.0",
    ),
    (f"{AUTOREGRESSIVE}:Autoregressive._solved_vjp.swept_vjp", "ops.all_hold(", "ops.xp.any(", PLAIN, "net.W.0"),
    (
        f"{AUTOREGRESSIVE}:Autoregressive._solved_vjp.swept_vjp",
        "du[...], u[...] = dv, v",
        "du[...], u[...] = total, v",
        PLAIN,
        "dX",
    ),
    (
        f"{COUPLING}:Coupling._add",
        "parameter.add(gradient)",
        "parameter.gradient_array()[...] = gradient",
        "Chain-shares-an-autoregressive-layer",
        "layers.0.net.W.0",
    ),
    (CONDITION, "[...] += gradient", "[...] = gradient", "MAF-cond", "dcond"),
    (f"{COUPLING}:Coupling._outliving", "ops.copy(dcond)", "-ops.copy(dcond)", "IAF-cond", "dcond"),
    (
        f"{MASKED}:MaskedDenseNet.vjp.pullback",
        "map(_masked, gradients, self.mask)",
        "gradients[:len(self.mask)]",
        "MaskedDenseNet-5-channels",
        "W.0",
    ),
    (
        f"{MASKED}:MaskedDenseNet.vjp.pullback",
        "_masked, gradients",
        "lambda W, mask: W.T.T * 2, gradients",
        "MaskedDenseNet-5-channels",
        "W.2",
    ),
    (f"{MASKED}:_masked", "W * ", "W - ", "MaskedDenseNet-5-channels", "Z"),
    *[
        (f"{MASKED}:MaskedDenseNet.substitute_vjp", piece, wrong, IAF_ROW, reported)
        for piece, wrong, reported in (
            ("W[0][k:k + 1, later].T", "-W[0][k:k + 1, later].T", "dX"),
            ("slice(ends[1][k + 1], None)", "slice(ends[1][-1], None)", "dX"),
            ("[:, new] = ops.rows(step", "[:, new] = -ops.rows(step", "net.W.1"),
            ("slice(ends[l + 2][k], None)", "slice(ends[l + 2][k + 1], None)", "net.W.0"),
            (" * slopes[l][:, new]", "", "net.W.0"),
            ("ones[...] = 1.0", "ones[...] = 2.0", "net.W.0"),
            ("t.T @ da for", "t.T @ -da for", "net.W.1"),
            ("ops.xp.sum(da", "-ops.xp.sum(da", "net.b.1"),
            ("_masked, dW", "lambda W, mask: W, dW", "net.W.1"),
            ("[_masked(W.data, mask) for", "[W.data for", "X"),
        )
    ],
    *[
        (f"{MASKED}:MaskedDenseNet.substitute_vjp", piece, wrong, "AutoregressiveAffine-inverse-order", reported)
        for piece, wrong, reported in (
            ("dW[0] = ops.xp.take(dW[0], self.original[0].data, axis=0)", "pass", "net.W.0"),
            ("for d in (dW[-1], db[-1], dA[-1])", "if False else d for d in (dW[-1], db[-1], dA[-1])", "net.b.2"),
        )
    ],
    *[
        (
            f"{MASKED}:MaskedDenseNet.substitute_vjp",
            piece,
            wrong,
            "AutoregressiveAffine-inverse-3-channels-cond",
            reported,
        )
        for piece, wrong, reported in (
            ("[rows.T @ dadded]", "[-rows.T @ dadded]", "net.V"),
            ("_vjp(ops, dadded", "_back(ops, -dadded", "dcond"),
        )
    ],
    (
        f"{MASKED}:MaskedDenseNet._added_rows",
        "return added if len(self.W) > 1 else",
        "return added if True else",
        "AutoregressiveAffine-inverse-no-hidden-cond",
        "Z",
    ),
    # planar and radial layers
    *[
        (
            f"{PLANAR}:{cls}.{method}",
            f"dlogdet, {turned}",
            f"0 * dlogdet, {turned}",
            f"{reverse}{cls}-2d",
            f"{layer}{parameter}",
        )
        for cls, parameter in (("Planar", "w"), ("Radial", "beta"))
        for method, turned, reverse, layer in (
            ("backward_", "False", "", ""),
            ("inverse_backward_", "True", "Reverse-", "layer."),
        )
    ],
    *[(f"{PLANAR}:Planar._vjp", f"self.{name}.add(d", f"self.{name}.add(-d", "Planar-2d", name) for name in "uwb"],
    (f"{PLANAR}:Planar._vjp", "self.u.add(du)", "self.u.grad[...] = du", "planar-twice", "layers.0.u"),
    (f"{PLANAR}:Radial._vjp", "self.x0.add(dx0)", "self.x0.grad[...] = dx0", "planar-twice", "layers.1.x0"),
    (f"{PLANAR}:Radial._vjp", "self.x0.add(d", "self.x0.add(-d", "Radial-2d", "x0"),
    (f"{PLANAR}:Radial._vjp", " * theta[0]", "", "Radial-2d", "log_alpha"),
    (f"{PLANAR}:Radial._vjp", " * -xp.expm1(-theta[1])", "", "Radial-2d", "beta"),
    *[
        (f"{PLANAR_ROWS}:planar_vjp", piece, wrong, case, reported)
        for piece, wrong, case, reported in (
            (" - 2 * m * t * dl / det", "", "Planar-2d", "dX"),
            ("2 * m * t * dl / det", "2 * t * dl / det", "Reverse-Planar-2d", "dX"),
            ("-dv / det", "-dv", "Reverse-Planar-2d", "dX"),
            ("-dl, -t", "dl, -t", "Reverse-Planar-2d", "layer.u"),
            ("dm += dl * q / det", "pass", "Planar-0d", "u"),
            ("dl * q / det", "dl * q", "Planar-2d", "w"),
            ("dlogdet[r]", "dlogdet[0]", "Planar-3d", "dX"),
            ("dv_sum += dv", "dv_sum -= dv", "Planar-1d", "b"),
            ("(before if inverse else R[r, c])", "before", "Planar-2d", "w"),
            ("(before if inverse else R[r, c])", "R[r, c]", "Reverse-Planar-2d", "layer.w"),
            ("t * dR[r, c]\n                    dR", "dR[r, c]\n                    dR", "Planar-2d", "u"),
            ("t * dR[r, c]\n                else", "dR[r, c]\n                else", "Reverse-Planar-2d", "layer.u"),
            ("dR[r, c] += w[c] * dv\n    dk", "dR[r, c] -= w[c] * dv\n    dk", "Planar-2d", "dX"),
            ("- uh[c] * t", "- uh[c] * t * t", "Planar-2d", "X"),
            ("V[i], A[i]) - b[0]", "V[i], A[i])", "Planar-steep", "X"),
            ("dk += duh[c] * w[c]", "pass", "Planar-2d", "u"),
            ("(dm + dk * over_n) * slope", "dm * slope", "Planar-2d", "w"),
            (" * slope - dk * over_n", " * slope", "Planar-2d", "u"),
            (" * slope - dk", " - dk", "Planar-2d", "u"),
            (" + da * w[c]", "", "Planar-2d", "u"),
            (" + k * duh[c]", "", "Planar-2d", "w"),
            (" + da * u[c]", "", "Planar-2d", "w"),
            (" - 2 * dk * k * over_n * w[c]", "", "Planar-2d", "w"),
        )
    ],
    *[
        (f"{REFERENCE}.pointwise:Pointwise.planar_vjp_", piece, wrong, case, reported)
        for piece, wrong, case, reported in (
            (" - 2 * (s - 1) * t * dl / det", "", "Planar-2d", "dX"),
            ("-dv / det", "-dv", "Reverse-Planar-2d", "dX"),
            ("-dl, -t", "dl, -t", "Reverse-Planar-2d", "layer.u"),
            ("dv[:, None] * w", "0 * w", "Planar-2d", "dX"),
            ("dv @ other", "dv @ R", "Planar-2d", "w"),
            ("dv @ R)", "dv @ other)", "Reverse-Planar-2d", "layer.w"),
            ("t @ dother", "t @ dR", "Reverse-Planar-2d", "layer.u"),
            ("t @ dR", "t @ dother", "Planar-2d", "u"),
            ("v - b, t, uh", "v, t, uh", "Planar-2d", "X"),
            ("xp.sum(duh * w)", "0", "Planar-2d", "u"),
            ("dl * q / det", "dl * q", "Planar-2d", "w"),
            ("xp.sum(dl * q / det) + dk * over_n", "xp.sum(dl * q / det)", "Planar-2d", "u"),
            (" * slope - dk * over_n", " * slope", "Planar-2d", "u"),
            (" + da * w,", ",", "Planar-2d", "u"),
            (" + k * duh", "", "Planar-2d", "w"),
            (" + da * u", "", "Planar-2d", "w"),
            (" - 2 * dk * k * over_n * w", "", "Planar-2d", "w"),
            ("xp.sum(dv, keepdims=True)", "-xp.sum(dv, keepdims=True)", "Planar-2d", "b"),
        )
    ],
    *[
        (f"{RADIAL_ROWS}:radial_vjp", piece, wrong, case, reported)
        for piece, wrong, case, reported in (
            (" - dl * dell_dr / p", "", "Reverse-Radial-2d", "dX"),
            (" + dl * dell_dr", "", "Radial-2d", "dX"),
            ("(C - 1) / (s + r) + 2", "2", "Radial-2d", "dX"),
            (" + 2 * alpha / q", "", "Radial-2d", "dX"),
            ("(1 / p - 1 / stretch)", "(1 / p)", "Reverse-Radial-2d", "dX"),
            (" + along * r * r", "", "Reverse-Radial-2d", "layer.log_alpha"),
            ("dl = -dl", "pass", "Reverse-Radial-2d", "layer.beta"),
            ("dlogdet[i]", "dlogdet[0]", "Radial-3d", "dX"),
            ("g *= factor", "pass", "Radial-2d", "beta"),
            ("-g * stretch * h + ", "", "Radial-2d", "log_alpha"),
            ("(s / q + 2 * r / q - (C + 1) * h)", "(s / q + 2 * r / q)", "Radial-2d", "log_alpha"),
            ("s / q + 2", "2", "Radial-0d", "log_alpha"),
            ("ds += g * h + ", "ds += ", "Radial-2d", "beta"),
            (" + alpha / q", "", "Radial-1d", "beta"),
            ("before - after", "before", "Radial-2d", "x0"),
            (" + along * d", "", "Radial-2d", "dX"),
            ("(1 / stretch if inverse else stretch)", "stretch", "Reverse-Radial-2d", "dX"),
            ("x0[c] + d * factor", "x0[c] + d", "Radial-2d", "X"),
        )
    ],
    *[
        (f"{REFERENCE}.pointwise:Pointwise.radial_vjp_", piece, wrong, case, reported)
        for piece, wrong, case, reported in (
            (" - dl * dell_dr / p", "", "Reverse-Radial-2d", "dX"),
            (" + dl * dell_dr", "", "Radial-2d", "dX"),
            ("(C - 1) / (s + r) + 2", "2", "Radial-2d", "dX"),
            (" + 2 * alpha / q", "", "Radial-2d", "dX"),
            ("(1 / p - 1 / stretch)", "(1 / p)", "Reverse-Radial-2d", "dX"),
            ("-xp.sum(after * d, axis=1), -dl", "-xp.sum(dR * d, axis=1), -dl", "Reverse-Radial-2d", "layer.log_alpha"),
            ("axis=1), -dl", "axis=1), dl", "Reverse-Radial-2d", "layer.beta"),
            ("g * dstretch_dr + ", "", "Radial-2d", "dX"),
            ("-g * stretch * h + ", "", "Radial-2d", "log_alpha"),
            (" - (C + 1) * h", "", "Radial-2d", "log_alpha"),
            ("ds = g * h + ", "ds = ", "Radial-2d", "beta"),
            (" + alpha / q)\n", ")\n", "Radial-2d", "beta"),
            ("dR - after", "dR", "Radial-2d", "x0"),
            ("inverse else d)", "inverse else R)", "Radial-2d", "X"),
        )
    ],
    *[
        (
            f"{ENGINE}.pointwise:Pointwise.{name}_vjp_",
            "), dlogdet, inverse)",
            "), 0 * dlogdet, inverse)",
            f"{name.title()}-2d",
            "dX",
        )
        for name in ("planar", "radial")
    ],
    (f"{ENGINE}.pointwise:Pointwise._backward_by_rows", "total + each", "each", "many-rows-bent", "layers.0.w"),
    (
        f"{ENGINE}.pointwise:Pointwise._backward_by_rows",
        "dl[rows]",
        "dl[:len(dl[rows])]",
        "many-rows-bent",
        "layers.1.beta",
    ),
    # staircases, and planar and radial conditioners
    *[
        (f"invnet.layers.partitioned_coupling:PartitionedAdditiveCoupling.{method}", piece, wrong, case, reported)
        for method, piece, wrong, case, reported in (
            ("backward_", "in self._couplings", "in reversed(self._couplings)", "PartitionedAdditiveCoupling-0d", "X"),
            ("backward_", "dZ[:, parts]", "0 * dZ[:, parts]", "PartitionedAdditiveCoupling-2d", "dX"),
            (
                "inverse_backward_",
                "in reversed(self._couplings)",
                "in self._couplings",
                "Reverse-PartitionedAdditiveCoupling-0d",
                "X",
            ),
            (
                "inverse_backward_",
                "dX[:, parts]",
                "0 * dX[:, parts]",
                "Reverse-PartitionedAdditiveCoupling-radial",
                "dX",
            ),
        )
    ],
    (CONDITION, "[...] += gradient", "[...] = gradient", "PartitionedAdditiveCoupling-vector", "dcond"),
    *[
        ("invnet.nets.planar:PlanarNet.vjp.pullback", piece, wrong, f"PlanarNet-{case}", reported)
        for piece, wrong, case, reported in (
            ("(1 - t * t) * ", "", "3-channels", "w"),
            ("dR + dv", "dv", "at-each-position", "dX"),
            ("t @ dR", "t @ R", "1-channels", "u"),
            ("dv @ R", "dv @ dR", "3-channels", "w"),
            ("xp.sum(dv", "-xp.sum(dv", "3-channels", "b"),
        )
    ],
    *[
        ("invnet.nets.planar:RadialNet.vjp.pullback", piece, wrong, f"RadialNet-{case}", reported)
        for piece, wrong, case, reported in (
            ("g = h * ", "g = ", "3-channels", "beta"),
            ("-beta * g * h", "-beta * g", "3-channels", "log_alpha"),
            ("(beta * h)[:, None] * dR", "0 * dR", "at-each-position", "dX"),
            ("dr / xp", "0 * dr / xp", "3-channels", "x0"),
            ("-xp.sum(dd", "xp.sum(dd", "1-channels", "x0"),
            (" * xp.exp(self.log_alpha.data)", "", "3-channels", "log_alpha"),
            ("dR + dd", "dR", "1-channels", "dX"),
        )
    ],
    # splines
    (f"{SPLINE}:Spline.backward", "self.bound, dlogdet)", "self.bound, 0 * dlogdet)", "SplineCoupling-2d", "net.b.2"),
    (
        f"{SPLINE}:Spline.inverse_backward",
        "self.bound, dlogdet)",
        "self.bound, 0 * dlogdet)",
        "Reverse-SplineCoupling-2d",
        "layer.net.b.2",
    ),
    (f"{SPLINE_COUPLING}.couple_vjp_", "dlogdet, self", "0 * dlogdet, self", "SplineCoupling-2d", "net.b.2"),
    (
        f"{SPLINE_COUPLING}.uncouple_vjp_",
        "dlogdet, self",
        "0 * dlogdet, self",
        "Reverse-SplineCoupling-2d",
        "layer.net.b.2",
    ),
    (
        f"{SPLINE_COUPLING}._bend_vjp",
        "ops.at_rows(dlogdet, z2)",
        "-ops.at_rows(dlogdet, z2)",
        "SplineCoupling-0d",
        "dX",
    ),
    (f"{SPLINE_COUPLING}._bend_vjp", "ops.images(dR", "ops.images(-dR", "SplineCoupling-2d", "dX"),
    (
        f"{SPLINE_COUPLING}._bend_vjp",
        "_of_channels(ops, dh)",
        "_of_channels(ops, dh[:, ::-1])",
        "SplineCoupling-2d",
        "net.W.0",
    ),
    (f"{SPLINE_COUPLING}._bend_vjp", "ops.images(R", "ops.images(-R", "SplineCoupling-2d", "X"),
    # the autoregressive spline
    *[
        (f"{AUTOREGRESSIVE_SPLINE}.{method}", piece, wrong, f"AutoregressiveSpline-{case}", reported)
        for method, piece, wrong, case, reported in (
            ("_of_channels", "ops.xp.permute_dims(P, (0, 2, 1))", "P", "forward-0d", "net.b.2"),
            ("_of_channels", "permute_dims(P, ", "permute_dims(P[:, ::-1], ", "forward-plain", "net.W.0"),
            ("_of_channels", "permute_dims(P, ", "permute_dims(-P, ", "inverse-0d", "net.W.0"),
            (
                "_of_numbers",
                "ops.xp.permute_dims(ops.xp.reshape(ops.rows(h), (-1, self.outputs, x.shape[1])), (0, 2, 1))",
                "ops.xp.reshape(ops.rows(h), (-1, x.shape[1], self.outputs))",
                "forward-2d",
                "Z",
            ),
        )
    ],
    *[
        (
            f"{SPLINE_COUPLING}.{method}",
            "dlogdet, self",
            "0 * dlogdet, self",
            f"{reverse}AutoregressiveSpline-{fast}-2d",
            f"{layer}net.b.2",
        )
        for method, reverse, layer in (("couple_vjp_", "", ""), ("uncouple_vjp_", "Reverse-", "layer."))
        for fast in ("forward", "inverse")
    ],
    *[
        (
            f"{ENGINE}.pointwise:Pointwise.{method}",
            f"dlogdet, {turned}",
            f"0 * dlogdet, {turned}",
            f"{reverse}SplineCoupling-2d",
            f"{layer}net.b.2",
        )
        for method, turned, reverse, layer in (
            ("spline_vjp", "False", "", ""),
            ("spline_inverse_vjp", "True", "Reverse-", "layer."),
        )
    ],
    (f"{ENGINE}.pointwise:Pointwise._spline_vjp", "dlogdet[rows]", "-dlogdet[rows]", "SplineCoupling-2d", "dX"),
    *[
        (f"{SPLINE_ROWS}:bend_vjp", piece, wrong, case, reported)
        for piece, wrong, case, reported in (
            (" - dl * log_xi / w", "", "Reverse-SplineCoupling-2d", "dX"),
            ("rest), -dl", "rest), dl", "Reverse-SplineCoupling-2d", "layer.net.b.2"),
            ("-(dvalue - dl", "(dvalue - dl", "Reverse-SplineCoupling-2d", "layer.net.b.2"),
            (" * below * below / (delta * delta * rest)", " / delta", "Reverse-SplineCoupling-2d", "dX"),
            ("dlogdet[i]", "dlogdet[0]", "SplineCoupling-2d", "dX"),
            ("d[i] if inside", "0 * d[i] if inside", "SplineCoupling-2d", "dX"),
            ("else d[i]", "else zero", "SplineCoupling-2d", "dX"),
            (" + dl * log_xi\n", "\n", "SplineCoupling-2d", "dX"),
            ("two * (d1 * xi + delta", "two * (delta", "SplineCoupling-2d", "dX"),
            ("delta * turn -", "delta -", "SplineCoupling-2d", "dX"),
            (" - d0 * left) / rest", ") / rest", "SplineCoupling-2d", "dX"),
            (" - two * curve * turn / below", "", "SplineCoupling-2d", "dX"),
            ("g * delta * rest + ", "", "SplineCoupling-2d", "dX"),
            ("g * between * (d1 * xi * xi - d0 * left * left) + ", "", "SplineCoupling-2d", "net.b.2"),
            ("(two / delta + ", "(", "SplineCoupling-2d", "net.b.2"),
            ("two * between / rest - two * (one", "-two * (one", "SplineCoupling-2d", "net.b.2"),
            (" - two * (one - two * between) / below", "", "SplineCoupling-2d", "net.b.2"),
            ("at[DX + i], at[DV + i] = -dxi / w", "at[DX + i], at[DV + i] = zero", "SplineCoupling-2d", "net.b.2"),
            ("(dxi * xi + ddelta * delta)", "ddelta * delta", "SplineCoupling-2d", "net.b.2"),
            ("(dxi * xi + ddelta * delta)", "dxi * xi", "SplineCoupling-2d", "net.b.2"),
            (
                "dvalue * (delta * xi * xi + d0 * between) / below + ddelta / w",
                "ddelta / w",
                "SplineCoupling-2d",
                "net.b.2",
            ),
            (" + ddelta / w", "", "SplineCoupling-2d", "net.b.2"),
            ("else -at[DX + i]", "else at[DX + i]", "SplineCoupling-2d", "dX"),
            ("change = -at[DV + i]", "change = at[DV + i]", "Reverse-SplineCoupling-2d", "dX"),
            ("at[MEAN_X + i] += widths[i]", "at[MEAN_X + i] = widths[i]", "SplineCoupling-2d", "net.b.2"),
            ("at[MEAN_Y + i] += heights[i]", "at[MEAN_Y + i] = heights[i]", "SplineCoupling-2d", "net.b.2"),
            ("(at[DW + i] if here", "(zero if here", "SplineCoupling-2d", "net.b.2"),
            ("(at[DH + i] if here", "(zero if here", "SplineCoupling-2d", "net.b.2"),
            ("(dsize - at[mean + i])", "dsize", "SplineCoupling-2d", "net.b.2"),
            ("at[bins_before + i] if before", "zero if before", "SplineCoupling-2d", "net.b.2"),
            ("scale * shares[i]", "shares[i]", "SplineCoupling-2d", "net.b.2"),
            ("g * between * (delta * left * left + d1 * between) + ", "", "SplineCoupling-2d", "net.b.2"),
            ("(left * left / rest - two * between / below)", "zero", "SplineCoupling-2d", "net.b.2"),
            ("-g * between * (delta * xi * xi + d0 * between) + ", "", "SplineCoupling-2d", "net.b.2"),
            ("(xi * xi / rest - two * between / below)", "zero", "SplineCoupling-2d", "net.b.2"),
            ("dd0 * at[S0 + i]", "dd0", "SplineCoupling-2d", "net.b.2"),
            ("dd1 * at[S1 + i]", "dd1", "SplineCoupling-2d", "net.b.2"),
            ("== left else at[G0 + i]", "== left else at[G1 + i]", "SplineCoupling-2d", "net.b.2"),
        )
    ],
    *[
        (f"{SPLINE_ROWS}:spline_vjp", piece, wrong, "many-numbers", reported)
        for piece, wrong, reported in (
            ("dlogdet[r + i]", "dlogdet[i]", "dX"),
            ("= v[i], d[i]", "= d[i], v[i]", "dX"),
            ("dQ[k * MANY + i]", "dQ[i]", "net.b.2"),
            ("least, not inverse", "least, inverse", "X"),
        )
    ],
    (f"{REFERENCE}.spline:Splines.spline_vjp", "dlogdet, xi", "0 * dlogdet, xi", "SplineCoupling-2d", "net.b.2"),
    (
        f"{REFERENCE}.spline:Splines.spline_vjp",
        "(at.inside, dR, dS)",
        "(at.inside, dR, 0 * dS)",
        "SplineCoupling-2d",
        "dX",
    ),
    (f"{REFERENCE}.spline:Splines.spline_vjp", "at.x + at.w * xi", "at.x", "SplineCoupling-2d", "X"),
    (
        f"{REFERENCE}.spline:Splines.spline_inverse_vjp",
        " - dlogdet[:, None] * log_xi / at.w",
        "",
        "Reverse-SplineCoupling-2d",
        "dX",
    ),
    (
        f"{REFERENCE}.spline:Splines.spline_inverse_vjp",
        "-self._spline_log_slope",
        "self._spline_log_slope",
        "Reverse-SplineCoupling-2d",
        "dX",
    ),
    (
        f"{REFERENCE}.spline:Splines.spline_inverse_vjp",
        "(-dS, -dlogdet",
        "(dS, -dlogdet",
        "Reverse-SplineCoupling-2d",
        "layer.net.b.2",
    ),
    (
        f"{REFERENCE}.spline:Splines.spline_inverse_vjp",
        "(-dS, -dlogdet",
        "(-dS, dlogdet",
        "Reverse-SplineCoupling-2d",
        "layer.net.b.2",
    ),
    *[
        (f"{REFERENCE}.spline:Splines._spline_derivatives", piece, wrong, "SplineCoupling-2d", reported)
        for piece, wrong, reported in (
            ("delta * rest / below**2", "delta / below**2", "dX"),
            ("delta * (1 - 2 * xi) -", "delta -", "dX"),
            ("between * (d1 * xi**2 - d0 * left**2)", "(d1 * xi**2 - d0 * left**2)", "net.b.2"),
            ("2 / delta + ", "", "net.b.2"),
            ("between * (delta * left**2 + d1 * between)", "0", "net.b.2"),
            ("left**2 / rest - ", "-", "net.b.2"),
            ("-between * (delta", "between * (delta", "net.b.2"),
            ("            xi**2 / rest - ", "            -", "net.b.2"),
        )
    ],
    *[
        (f"{REFERENCE}.spline:Splines._spline_gradient", piece, wrong, "SplineCoupling-2d", reported)
        for piece, wrong, reported in (
            ("dS * at.h * rise_xi + ", "", "dX"),
            (" + dl * log_xi,", ",", "dX"),
            ("dS * at.h * rise_delta + ", "", "net.b.2"),
            (" + dl * log_delta", "", "net.b.2"),
            ("dS * at.h * rise_d0 + ", "", "net.b.2"),
            (" + dl * log_d0", "", "net.b.2"),
            ("dS * at.h * rise_d1 + ", "", "net.b.2"),
            (" + dl * log_d1\n", "\n", "net.b.2"),
            ("dxi * xi + ", "", "net.b.2"),
            (" + ddelta * at.delta", "", "net.b.2"),
            (" + ddelta / at.w", "", "net.b.2"),
            ("dS * self._spline_rise(xi, at) + ", "", "net.b.2"),
            ("k=-1", "k=0", "net.b.2"),
            ("dw, -dR", "dw, dR", "net.b.2"),
            ("dh, dS", "dh, -dS", "net.b.2"),
            (" - xp.sum(p * dp, axis=-1, keepdims=True)", "", "net.b.2"),
            ("2 * bound * ", "", "net.b.2"),
            ("here[..., 1:] * dd0", "here[..., :-1] * dd0", "net.b.2"),
            ("here[..., :-1] * dd1", "here[..., 1:] * dd1", "net.b.2"),
            (" * self._sigmoid(P[..., 2 * K:] + ZERO_IS_SLOPE_ONE)", "", "net.b.2"),
        )
    ],
    # LeakyReLU
    (f"{LEAKY_RELU}:LeakyReLU.backward_", "self._slope", "1 / self._slope", "LeakyReLU-2d", "dX"),
    (f"{LEAKY_RELU}:LeakyReLU.inverse_backward_", "1 / self._slope", "self._slope", "Reverse-LeakyReLU-2d", "dX"),
    (f"{LEAKY_RELU}:LeakyReLU._bend_vjp", "slope * dR", "dR", "LeakyReLU-0d", "dX"),
    (f"{LEAKY_RELU}:LeakyReLU._bend_vjp", "R / slope", "R", "LeakyReLU-1d", "X"),
    # Logit, compositions, isometries, the default of dlogdet
    (f"{LOGIT}:Logit.backward_", "(2 * p - 1)", "(1 - 2 * p)", "Logit-2d", "dX"),
    (f"{LOGIT}:Logit.backward_", "** 2 / e", "** 2 * e", "Logit-2d", "dX"),
    (f"{LOGIT}:Logit.backward_", "(p - self._alpha)", "p", "Logit-2d", "X"),
    (f"{LOGIT}:Logit.inverse_backward_", "(1 - 2 * p)", "(2 * p - 1)", "Reverse-Logit-2d", "dX"),
    (f"{LOGIT}:Logit.inverse_backward_", " / (1 - 2 * self._alpha)", "", "Reverse-Logit-2d", "dX"),
    (
        f"{COMPOSE}:Chain.backward_",
        'dZ, Z, dlogdet, cond, "Z")',
        'dZ, Z, 0 * dlogdet, cond, "Z")',
        "Chain-shares-a-layer",
        "dX",
    ),
    (
        f"{COMPOSE}:Chain.inverse_backward_",
        'dX, X, dlogdet, cond, "X")',
        'dX, X, 0 * dlogdet, cond, "X")',
        "Reverse-Chain-shares-a-layer",
        "dX",
    ),
    (
        "invnet.passes.trace:ChainTrace._through",
        "self.states.pop()",
        "self.states.pop(0)",
        "Chain-shares-a-layer",
        "dX",
    ),
    (f"{COMPOSE}:Chain._back_through.back", "(dZ, Z, dlogdet", "(dZ, Z, 0 * dlogdet", "Chain-shares-a-layer", "dX"),
    (
        f"{COMPOSE}:FactorOut.backward_",
        "ops.split_(Z, self._C1), dlogdet",
        "ops.split_(Z, self._C1), 0 * dlogdet",
        "FactorOut-plain-2d",
        "inner.layers.0.log_s",
    ),
    (f"{COMPOSE}:FactorOut.backward_", "(dZ, Z, dlogdet", "(dZ, Z, 0 * dlogdet", "FactorOut-prior-2d", "prior.net.b.2"),
    (f"{COMPOSE}:FactorOut.backward_", "if self.prior is None", "if True", "FactorOut-prior-2d", "dX"),
    (
        f"{COMPOSE}:FactorOut.inverse_backward_",
        "ops.split_(X, self._C1), dlogdet",
        "ops.split_(X, self._C1), 0 * dlogdet",
        "Reverse-FactorOut-plain-2d",
        "layer.inner.layers.0.log_s",
    ),
    (
        f"{COMPOSE}:FactorOut.inverse_backward_",
        "(dX, X, dlogdet",
        "(dX, X, 0 * dlogdet",
        "Reverse-FactorOut-prior-2d",
        "layer.prior.net.b.2",
    ),
    (f"{COMPOSE}:Reverse.backward_", "dlogdet, cond)\n", "-dlogdet, cond)\n", "Reverse-ActNorm-2d", "layer.log_s"),
    (
        f"{COMPOSE}:Reverse.inverse_backward_",
        "(dX, X, dlogdet",
        "(dX, X, -dlogdet",
        "Reverse-Reverse",
        "layer.layer.layers.0.log_s",
    ),
    (f"{CORE}:Isometry.backward_", "self.unapply(dZ)", "self.apply(dZ)", "Permute-2d", "dX"),
    (f"{CORE}:Isometry.inverse_backward_", "self.apply(dX)", "self.unapply(dX)", "Reverse-Permute-2d", "dX"),
    (f"{CORE}:InPlaceLayer._back", "as_dlogdet(dlogdet, Z)", "as_dlogdet(0.0, Z)", "Glow-three-levels", "dX"),
    ("invnet.core.gradients:as_dlogdet", "-1.0 / max(N, 1)", "-1.0", "dlogdet-None", "log_s"),
    ("invnet.losses:gaussian_nll", "R / N", "R", "likelihood", "dZ"),
    ("invnet.losses:gaussian_nll", "-1.0 / N, Z", "1.0 / N, Z", "likelihood", "dlogdet"),
    # conditioners
    (f"{NET}:ConvNet.vjp.pullback", "gradients[::2]", "gradients[1::2]", "ConvNet-square", "W.0"),
    (f"{NET}:ConvNet.vjp.pullback", "+ gradients[1::2]", "+ [-g for g in gradients[1::2]]", RELU, "b.1"),
    (f"{NET}:ConvNet.vjp.pullback", "return dx, None", "return -dx, None", RELU, "dX"),
    (f"{NET}:ConvNet.vjp.pullback", "return dx, dcond", "return -dx, dcond", "ConvNet-vector-cond-1d", "dX"),
    (f"{NET}:ConvNet.vjp.pullback", "rows.T @ dadded", "-rows.T @ dadded", "ConvNet-spatial-cond-2d", "V"),
    (
        f"{NET}:ConvNet._condition_vjp",
        "dadded @ self.V.data.T",
        "-dadded @ self.V.data.T",
        "ConvNet-vector-cond-0d",
        "dcond",
    ),
    (
        f"{NET}:ConvNet._condition_vjp",
        "unsqueeze_(dcond)",
        "unsqueeze_(ops.xp.flip(dcond, axis=1))",
        "ConvNet-finer-cond-2d",
        "dcond",
    ),
    # their network, by the reference
    (
        f"{REFERENCE}.conv_stack:ConvStack.conv_stack_vjp",
        "gradients += [db, dW]",
        "gradients += [-db, dW]",
        RELU,
        "b.1",
    ),
    (
        f"{REFERENCE}.conv_stack:ConvStack.conv_stack_vjp",
        "gradients += [db, dW]",
        "gradients += [db, -dW]",
        RELU,
        "W.1",
    ),
    (
        f"{REFERENCE}.conv_stack:ConvStack.conv_stack_vjp",
        "(dA, groups)",
        "(-dA, groups)",
        "ConvNet-vector-cond-2d",
        "dcond",
    ),
    (f"{REFERENCE}.conv_stack:ConvStack.conv_stack_vjp", "return dY", "return -dY", RELU, "dX"),
    (f"{REFERENCE}.conv_stack:ConvStack._convolve_vjp", "T.T @ dA", "-T.T @ dA", GATHER, "W.0"),
    (f"{REFERENCE}.conv_stack:ConvStack._convolve_vjp", "dA @ M.T", "dA @ M[::-1].T", GATHER, "dX"),
    (f"{REFERENCE}.conv_stack:ConvStack._convolve_vjp", "columns.T @ T", "columns[:, ::-1].T @ T", SCATTER, "W.0"),
    (f"{REFERENCE}.conv_stack:ConvStack._convolve_vjp", "columns @ M", "columns @ M[::-1]", SCATTER, "dX"),
    (f"{REFERENCE}.conv_stack:ConvStack._convolve_vjp", "self.xp.sum(dA", "-self.xp.sum(dA", RELU, "b.0"),
    (f"{REFERENCE}.conv_stack:ConvStack._convolve_vjp", "S, activation", "S, None", SILU, "W.0"),
    (f"{REFERENCE}.activations:Activations.activate_vjp", "xp.zeros_like(dH)", "dH", RELU, "W.0"),
    (f"{REFERENCE}.activations:Activations.activate_vjp", "0.01 * dH", "0.02 * dH", LEAKY, "W.0"),
    (f"{REFERENCE}.activations:Activations.activate_vjp", "-dH * xp.expm1(-S)", "dH * xp.exp(-S)", SOFTPLUS, "W.0"),
    (f"{REFERENCE}.activations:Activations.activate_vjp", "(1 - sigmoid)", "sigmoid", SILU, "W.0"),
    *[
        (f"{REFERENCE}.activations:Activations.activate_vjp", piece, wrong, case, "W.0")
        for piece, wrong, case in (
            ("self.normal_cdf(A) + ", "", GELU),
            (" + A * xp.exp", " + xp.exp", GELU),
            ("-0.5 * A", "-A", GELU),
            (" / math.sqrt(2 * math.pi)", "", GELU),
            ("(1 - S)", "(1 + S)", TANH),
            (" * (1 + S)", "", TANH),
        )
    ],
    (
        f"{REFERENCE}.conv_stack:ConvStack.shift_add",
        "X[there] += part[here]",
        "X[here] += part[there]",
        "gathers-3d",
        "dX",
    ),
    (f"{REFERENCE}.conv_stack:ConvStack.taps", "T[here] = X[there]", "T[there] = X[here]", "scatters-3d", "dX"),
    # by the engine
    (f"{ENGINE}.conv_stack:ConvStack.conv_stack_vjp", "start += a.size", "start += 0", RELU, "W.1"),
    (f"{ENGINE}.conv_stack:ConvStack.conv_stack_vjp", "images(dx", "images(-dx", RELU, "dX"),
    (BACK, "before:before + R * pitch]", "y:y + R * pitch]", SILU, "W.0"),
    (BACK, "t[ACTIVATION])", "0)", RELU, "W.0"),
    (BACK, "R, work, db, pitch)", "R - 1, work, db, pitch)", RELU, "b.1"),
    (BACK, "gradients[t[DB] + c] += ", "gradients[t[DB] + c] -= ", RELU, "b.0"),
    (BACK, "clear(work, db, db + pitch)", "pass", RELU, "b.0"),
    (BACK, "dadded, group)", "dadded[::-1], group)", "ConvNet-vector-cond-2d", "dcond"),
    (BACK, "if l == 0 and dadded", "if dadded", "ConvNet-vector-cond-2d", "dcond"),
    (BACK, "ZERO, K, rows[r:], n", "ZERO, K, rows, n", MANY, "W.0"),
    (
        BACK,
        "if r else zeros, pitch_wide if r else ZERO",
        "if r < 0 else zeros, pitch_wide if r < 0 else ZERO",
        MANY,
        "W.0",
    ),
    (
        BACK,
        "if r else zeros, pitch_wide if r else ZERO",
        "if r < 0 else zeros, pitch_wide if r < 0 else ZERO",
        "many-positions-narrowing",
        "W.0",
    ),
    (
        BACK,
        "if r else zeros, pitch_wide if r else ZERO",
        "if r < 0 else zeros, pitch_wide if r < 0 else ZERO",
        "many-positions-wide-kernels",
        "W.0",
    ),
    (BACK, "product_of_transpose(X, x + r * pitch_in", "product_of_transpose(X, x", "wide", "W.1"),
    (BACK, "dW + i * K * pitch_wide, dW", "dW, dW", MANY, "W.0"),
    (BACK, "f + i * plane, pitch_wide", "f, pitch_wide", MANY, "W.0"),
    (BACK, "f + i * plane, steps", "f, steps", MANY, "dX"),
    (BACK, "bo + i * pitch_wide * column", "bo", MANY, "dX"),
    (BACK, "bo + i * K * pitch_wide", "bo", "many-positions-narrowing", "dX"),
    (BACK, "(i * P + r) * column", "(i * P) * column", MANY, "dX"),
    (BACK, "(i * P + r) * column", "r * column", MANY, "dX"),
    (BACK, "x + i * t[PLANE], rows, r, r + n", "x + i * t[PLANE], rows, 0, n", "many-positions-narrowing", "dX"),
    (BACK, "x + i * t[PLANE], columns", "x, columns", "many-positions-narrowing", "W.0"),
    (BACK, "s + r * pitch_wide", "s", "many-positions-wide-kernels", "W.0"),
    (BACK, "K, not transposed, work", "K, transposed, work", GATHER, "dX"),
    (BACK, "evaluate(S, s, pitch_wide, r,", "evaluate(S, s, pitch_wide, 0,", MANY, "W.0"),
    (BACK, "work, other, pitch_in, r, n", "work, other, pitch_in, 0, n", "many-positions-narrowing", "dX"),
    (BACK, "pad_images(work, g", "pad_images(-work, g", SCATTER, "W.2"),
    (f"{CONVOLUTIONS}:right_factor", "i * K * pitch:]", "0:]", RELU, "dX"),
    (f"{CONVOLUTIONS}:take_gradient", "sums[c] += row[c]", "sums[c] -= row[c]", RELU, "W.0"),
    (
        f"{CONVOLUTIONS}:take_gradient",
        "(j * along + k) * narrow",
        "(k * (taps // along) + j) * narrow",
        "gathers-3d",
        "W.0",
    ),
    (
        f"{CONVOLUTIONS}:take_gradient",
        "(k * (taps // along) + j) * size",
        "(j * along + k) * size",
        "gathers-3d",
        "W.0",
    ),
    (f"{CONVOLUTIONS}:backward", "take_rows(work[g:]", "take_rows(-work[g:]", RELU, "dX"),
    (BACK, "clear(work, zeros, db)", "work[zeros:db] = 1", RELU, "dX"),
    # patches and their values
    (f"{WINOGRAD}:evaluate", "first_of(p, Q, W)", "p * PATCH", "many-positions-narrowing", "W.2"),
    (f"{WINOGRAD}:evaluate", "if count == PATCH", "if count", "gathers-3d", "W.0"),
    (f"{WINOGRAD}:evaluate_vjp", "first_of(p, Q, W)", "p * PATCH", "many-positions-narrowing", "dX"),
    (f"{WINOGRAD}:interpolate", "(pd - i)", "0", "gathers-3d", "dX"),
    (f"{WINOGRAD}:interpolate", "ph - j) * Q", "0) * Q", "gathers-3d", "dX"),
    (f"{WINOGRAD}:interpolate", "(i * kh + j) * C", "(j * kd + i) * C", "gathers-3d", "dX"),
    (f"{WINOGRAD}:interpolate", "0 <= d + pd - i < D", "0 < d + pd - i < D", "gathers-3d", "dX"),
    (f"{WINOGRAD}:interpolate", "0 <= h + ph - j < H", "0 < h + ph - j < H", "gathers-3d", "dX"),
    (f"{WINOGRAD}:interpolate", "spare + q * PATCH", "spare + q * (PATCH - 1)", "gathers-3d", "dX"),
    (f"{WINOGRAD}:interpolate", "spare + out_pitch, out_pitch, Y", "spare, out_pitch, Y", "gathers-3d", "dX"),
    (f"{WINOGRAD}:interpolate", "pack_rows(work, bias, ZERO", "pack_rows(work, spare, ZERO", "gathers-3d", "dX"),
    (f"{WINOGRAD}:interpolate_vjp", "0 <= d - kd // 2 < D", "0 < d - kd // 2 < D", "scatters-3d", "dX"),
    (f"{WINOGRAD}:interpolate_vjp", "0 <= h - kh // 2 < H", "0 < h - kh // 2 < H", "scatters-3d", "dX"),
    (f"{WINOGRAD}:interpolate_vjp", "spare + pitch, pitch, W", "spare, pitch, W", "scatters-3d", "dX"),
    (f"{WINOGRAD}:evaluate_taps_vjp", "range(count)", "range(count - 1)", "gathers-3d", "W.0"),
    # on a grid; a rebuilt X that is wrong is no row, since Exact itself refuses it
    (
        f"{EXACT}:Exact.backward_",
        "Z, dlogdet, cond)",
        "Z, 0 * dlogdet, cond)",
        "Exact-AffineCoupling-bounded-2d",
        "layer.net.W.2",
    ),
    (f"{GRID}:GridAdditive.backward_", "Z, dlogdet, cond, ", "Z, 0 * dlogdet, cond, ", "Exact-vector", "dcond"),
    (f"{GRID}:GridAdditive._vjp", "return dh", "return -dh", "Exact-AdditiveCoupling-2d", "layer.net.W.2"),
    (
        f"{GRID}:GridMix.backward_",
        "self.layer._dlogdet",
        "-self.layer._dlogdet",
        "Exact-Chain-folds-five",
        "layer.layers.0.log_s",
    ),
    (
        f"{GRID}:GridMix.backward_",
        "mix_vjp_(dZ, Z, M, one, 0 * b)",
        "mix_vjp_(dZ, Z, one, one, 0 * b)",
        "Exact-Conv1x1-full-0d",
        "dX",
    ),
    # what that is made of; forward it stays as it is
    (f"{ACTIVATIONS}:relu_vjp", "dH[i] = zero if", "dH[i] = g if", RELU, "W.0"),
    (f"{ACTIVATIONS}:leaky_relu_vjp", "slope * g", "g", LEAKY, "W.0"),
    (f"{ACTIVATIONS}:softplus_vjp", "-dH[i] * math.expm1(-H[i])", "dH[i] * math.exp(-H[i])", SOFTPLUS, "W.0"),
    (f"{ACTIVATIONS}:silu_vjp", "(1 - s)", "s", SILU, "W.0"),
    (f"{ACTIVATIONS}:silu_vjp", "else e / (1 + e)", "else 1 / (1 + e)", SILU, "W.0"),
    *[
        (f"{ACTIVATIONS}:gelu_vjp", piece, wrong, GELU, "W.0")
        for piece, wrong in (
            ("tail - density", "density"),
            ("- density * u * e", ""),
            ("density * u * e", "density * e"),
            ("one - slope if", "slope if"),
        )
    ],
    (f"{ACTIVATIONS}:tanh_vjp", "(one - H[i])", "one", TANH, "W.0"),
    (f"{ACTIVATIONS}:tanh_vjp", " * (one + H[i])", "", TANH, "W.0"),
    (f"{PRODUCTS}:sum_rows", "total[c] += row[c]", "total[c] = row[c]", "many-positions-cond", "dcond"),
    (f"{PRODUCTS}:sum_rows", "r // group", "0", "many-positions-cond", "dcond"),
    (f"{PRODUCTS}:product_of_transpose", "copy_rows(A, ao + i", "copy_rows(A, ao", "wide", "W.1"),
    (
        f"{PRODUCTS}:product_of_transpose",
        "so + i * lds, lds, C, co + i * ldc",
        "so, lds, C, co + i * ldc",
        "wide",
        "W.1",
    ),
    (f"{TAPS}:pad", "row, position = rows[at:at + C]", "row, position = -rows[at:at + C]", "scatters-3d-wide", "W.0"),
    (f"{TAPS}:pad", "range(kd // 2, kd // 2 + D)", "range(D)", "scatters-3d-wide", "dX"),
    (f"{TAPS}:pad", "range(kh // 2, kh // 2 + H)", "range(H)", "scatters-3d-wide", "dX"),
    (f"{TAPS}:pad", " + kw // 2) * C", ") * C", "scatters-3d-wide", "dX"),
    (f"{TAPS}:sum_taps", "(pd - i)", "0", "gathers-3d-wide", "dX"),
    (f"{TAPS}:sum_taps", "ph - j) * W", "0) * W", "gathers-3d-wide", "dX"),
    (f"{TAPS}:sum_taps", "pw - k)", "0)", "gathers-3d-wide", "dX"),
    (f"{TAPS}:sum_taps", "* kw + k) * C", "* kw + kw - 1 - k) * C", "gathers-3d-wide", "dX"),
    (f"{TAPS}:sum_taps", "0 <= d + pd - i < D", "0 < d + pd - i < D", "gathers-3d-wide", "dX"),
    (f"{TAPS}:sum_taps", "0 <= h + ph - j < H", "0 < h + ph - j < H", "gathers-3d-wide", "dX"),
    (f"{TAPS}:sum_taps", "0 <= w + pw - i % kw < W", "0 < w + pw - i % kw < W", "gathers-3d-wide", "dX"),
    (f"{TAPS}:sum_taps", "pw <= w < W - pw", "pw <= w <= W - pw", "gathers-3d-wide", "dX"),
    (f"{TAPS}:find_taps", "(D + kd - 1) * d", "D * d", "scatters-3d-wide", "dX"),
    (f"{TAPS}:find_taps", "(H + kh - 1) * h", "H * h", "scatters-3d", "dX"),
    (f"{TAPS}:find_taps", "(W + kw - 1) * step", "W * step", "scatters-3d-wide", "dX"),
    (f"{TAPS}:find_taps", "kd, kh, kw, C, d, h, w, ONE", "kd, kh, kw, C, h, d, w, ONE", "gathers-3d", "W.0"),
    (f"{TAPS}:lattice", "l * w", "0", "gathers-3d", "W.0"),
    (f"{TAPS}:lattice", "k * h", "0", "gathers-3d", "W.0"),
    (f"{TAPS}:lattice", "j * d", "0", "gathers-3d", "W.0"),
    (f"{TAPS}:lattice", "i * n", "0", "gathers-3d", "W.0"),
    # the channel mix
    (f"{MIX}:mix_vjp.mix_vjp", "place(c, ONE", "place(-c, ONE", FOLD, "X"),
    (
        f"{MIX}:mix_vjp.mix_vjp",
        "place_transposed(Minv, C, C, work, 0, pitch, lanes)",
        "place(Minv, C, C, work, 0, pitch)",
        FOLD,
        "X",
    ),
    (
        f"{MIX}:mix_vjp.mix_vjp",
        "place(M, C, C, work, forth, pitch)",
        "place_transposed(M, C, C, work, forth, pitch, lanes)",
        "Conv1x1-full-2d",
        "dX",
    ),
    (f"{MIX}:mix_vjp.mix_vjp", "db[k] += dR[r + i, k]", "db[k] += R[r + i, k]", FOLD, "layers.0.b"),
    (f"{MIX}:mix_vjp.mix_vjp", "db[k] += dR[r + i, k]", "db[k] = dR[r + i, k]", FOLD, "layers.0.b"),
    (f"{MIX}:mix_vjp.mix_vjp", "d_rows, m, work, x", "d_rows, m, work, dx", "Conv1x1-lu-2d", "L"),
    (f"{MIX}:mix_vjp.mix_vjp", "r * d_stride, d_channels", "0, d_channels", "some-rows", "layers.1.L"),
    (f"{MIX}:mix_vjp.mix_vjp", "(d, pitch) if r else (zeros, 0)", "(zeros, 0)", "some-rows", "layers.1.L"),
    (f"{MIX}:mix_vjp.mix_vjp", "dM[i * C + k] +=", "dM[k * C + i] +=", "Conv1x1-lu-2d", "L"),
    (f"{MIX}:mix_vjp.mix_vjp", "dR[r + i, k] = row[k]", "dR[r + i, k] += row[k]", "Conv1x1-full-2d", "dX"),
    (f"{MIX}:scale_vjp.scale_vjp", " + c[k]", "", "ActNorm-2d", "X"),
    (f"{MIX}:scale_vjp.scale_vjp", "R[i, k] * sinv[k]", "R[i, k] * s[k]", "ActNorm-2d", "X"),
    (f"{MIX}:scale_vjp.scale_vjp", "x, d * s[k]", "x, d * sinv[k]", "ActNorm-2d", "dX"),
    (f"{MIX}:scale_vjp.scale_vjp", "ds[k] += d * x", "ds[k] += d", "ActNorm-2d", "log_s"),
    (f"{MIX}:scale_vjp.scale_vjp", "ds[k] += d * x", "ds[k] = d * x", "ActNorm-2d", "log_s"),
    (f"{MIX}:scale_vjp.scale_vjp", "db[k] += d", "db[k] -= d", "ActNorm-2d", "b"),
    (f"{ENGINE}.channels:Channels.mix_vjp_", "-(Minv @ b if", "(Minv @ b if", FOLD, "X"),
    (f"{ENGINE}.channels:Channels.mix_vjp_", "else Minv * b)", "else b)", "ActNorm-2d", "X"),
    (f"{ENGINE}.channels:Channels.mix_vjp_", "total + part", "part", "many-rows", "layers.1.L"),
    (f"{ENGINE}.channels:Channels.mix_vjp_", "total[M.size:]", "-total[M.size:]", FOLD, "layers.0.b"),
    (f"{ENGINE}.channels:Channels.mix_vjp_", "total[:M.size]", "-total[:M.size]", "Conv1x1-lu-2d", "L"),
    # fused groups
    (f"{STAGES}:prepare_vjp", "dM[c] * p[c] + dlogdet", "dM[c] + dlogdet", "run", "layers.0.log_s"),
    (f"{STAGES}:prepare_vjp", "dM[c] * p[c] + dlogdet", "dM[c] * p[c]", "run", "layers.0.log_s"),
    (f"{STAGES}:prepare_vjp", "db[c] += dM[2 * C + c]", "db[c] -= dM[2 * C + c]", "run", "layers.0.b"),
    (f"{STAGES}:prepare_vjp", "db[c] += dM[2 * C + c]", "db[c] = dM[C + c]", "run", "layers.0.b"),
    (f"{STAGES}:prepare_vjp", "add(G, h[WEIGHTS], ", "add(-G, h[WEIGHTS], ", "run", "layers.2.net.W.1"),
    (f"{STAGES}:prepare_vjp", "add(G, h[BIAS], ", "add(-G, h[BIAS], ", "run", "layers.2.net.b.1"),
    (
        f"{STAGES}:prepare_vjp",
        "numbers_at(states[3], n, P), ONE, C, dM",
        "numbers_at(states[3], n, P), C, ONE, dM",
        "run",
        "layers.1.L",
    ),
    (f"{STAGES}:prepare_vjp", "upper, ONE, C", "upper, C, ONE", "run", "layers.1.L"),
    (f"{STAGES}:prepare_vjp", "lower, ONE, C", "lower, C, ONE", "run", "layers.1.U"),
    (f"{STAGES}:prepare_vjp", " * upper[i * C + i]", "", "run", "layers.1.log_s"),
    (f"{STAGES}:prepare_vjp", "upper[i * C + i] + dlogdet", "upper[i * C + i]", "run", "layers.1.log_s"),
    (
        f"{STAGES}:prepare_vjp",
        "dL[i * C + j] += dlower[i * C + j]",
        "dL[i * C + j] += dlower[j * C + i]",
        "run",
        "layers.1.L",
    ),
    (
        f"{STAGES}:prepare_vjp",
        "dU[i * C + j] += dupper[i * C + j]",
        "dU[i * C + j] += dupper[j * C + i]",
        "run",
        "layers.1.U",
    ),
    (f"{STAGES}:prepare_vjp", " + dlogdet * p[n + j * C + i]", "", "run", "layers.4.W"),
    (f"{STAGES}:prepare_vjp", "p[n + j * C + i]", "p[n + i * C + j]", "run", "layers.4.W"),
    (
        f"{MATRICES}:reflect_vjp",
        "dB = times(VdM, C, ONE, V, ONE, C, k, C, k)",
        "dB = times(V, C, ONE, VdM, ONE, C, k, C, k)",
        "run-householder",
        "layers.1.V",
    ),
    (
        f"{MATRICES}:reflect_vjp",
        "times(B, ONE, k, times(dB",
        "times(B, k, ONE, times(dB",
        "run-householder",
        "layers.1.V",
    ),
    (f"{MATRICES}:reflect_vjp", "halved(dG, k)", "pass", "run-householder", "layers.1.V"),
    (f"{MATRICES}:reflect_vjp", "add(one, ZERO, dV)", "pass", "run-householder", "layers.1.V"),
    (f"{MATRICES}:reflect_vjp", "add(other, ZERO, dV)", "pass", "run-householder", "layers.1.V"),
    (f"{MATRICES}:reflect_vjp", "first[i] + second[i]", "first[i] - second[i]", "run-householder", "layers.1.V"),
    (f"{MATRICES}:reflect_vjp", "dM, ONE, C, k, C, C)", "dM, C, ONE, k, C, C)", "run-householder", "layers.1.V"),
    (f"{ROWS}:scale_vjp", "p[C + c if inverse else c]", "p[c]", "Reverse-run", "dX"),
    (f"{ROWS}:scale_vjp", "+= sign * dot(drow, row)", "-= sign * dot(drow, row)", "run", "layers.0.log_s"),
    (f"{ROWS}:scale_vjp", "sign * total(drow)", "total(drow)", "Reverse-run", "layer.layers.0.b"),
    (f"{ROWS}:scale_vjp", "g[c] += sign", "g[c] = sign", "run-many-rows-scaled", "layers.0.log_s"),
    (f"{ROWS}:sums_of_products", "+= sign * dot", "-= sign * dot", "run", "layers.1.L"),
    (f"{AFFINE_ROWS}:shift_and_scale_vjp", "d[i] * draw[i] + dlogdet[i]", "d[i] * draw[i]", "run", "layers.2.net.W.2"),
    (
        f"{AFFINE_ROWS}:shift_and_scale_vjp",
        "(d[i] * draw[i] + dlogdet[i]) * slope[i]",
        "d[i] * draw[i] + dlogdet[i]",
        "run",
        "layers.5.net.W.2",
    ),
    (
        f"{AFFINE_ROWS}:shift_and_scale_vjp",
        "draw[i] = (x[i] + shift[i]) * s[i]",
        "draw[i] = x[i] + shift[i]",
        "run",
        "layers.2.net.W.2",
    ),
    (f"{AFFINE_ROWS}:shift_and_scale_vjp", "dshift[i] = d[i] * s[i]", "dshift[i] = d[i]", "run", "dX"),
    (
        f"{AFFINE_ROWS}:shift_and_scale_vjp",
        "-(d[i] * x[i] + dlogdet[i]) * slope[i]",
        "-(d[i] * x[i]) * slope[i]",
        "Reverse-run",
        "layer.layers.2.net.W.2",
    ),
    (
        f"{AFFINE_ROWS}:shift_and_scale_vjp",
        "-(d[i] * x[i] + dlogdet[i])",
        "(d[i] * x[i] + dlogdet[i])",
        "Reverse-run",
        "layer.layers.2.net.W.2",
    ),
    (
        f"{AFFINE_ROWS}:shift_and_scale_vjp",
        "dshift[i] = -d[i]",
        "dshift[i] = d[i]",
        "Reverse-run",
        "layer.layers.2.net.W.2",
    ),
    (f"{AFFINE_ROWS}:shift_and_scale_vjp", "d[i] /= s[i]", "d[i] *= s[i]", "Reverse-run", "dX"),
    (f"{CONDITIONED}:couple_vjp", "t[READS_Z] == inverse", "t[READS_Z] != inverse", "run-autoregressive", "dX"),
    (
        f"{CONDITIONED}:couple_vjp",
        "index[net[ENDS_OUT] + g + 1]",
        "index[net[ENDS_OUT] + g]",
        "run-autoregressive",
        "dX",
    ),
    (f"{CONDITIONED}:couple_vjp", "index[net[ROWS] + 1:]", "index[net[ROWS]:]", "run", "dX"),
    (
        f"{CONDITIONED}:couple_vjp",
        "index[after[ENDS_OUT] + g]",
        "index[after[ENDS_OUT] + g + 1]",
        "run-autoregressive",
        "layers.0.net.W.0",
    ),
    (f"{CONDITIONED}:couple_vjp", "index[after[ROWS] + 1:]", "index[after[ROWS]:]", "run", "layers.2.net.W.0"),
    (f"{CONDITIONED}:couple_vjp", "h[ACTIVATION])", "0)", "run", "layers.2.net.W.0"),
    (f"{CONDITIONED}:couple_vjp", "work[before:before + size]", "work[H:H + size]", "run-silu", "layers.0.net.W.0"),
    (f"{CONDITIONED}:couple_vjp", "work[before:before + size]", "work[H:H + size]", "run-gelu", "layers.0.net.W.0"),
    (
        f"{CONDITIONED}:gradients_of_units",
        "1 + index[h[ENDS_IN] + g + 1]",
        "index[h[ENDS_IN] + g + 1]",
        "run",
        "layers.2.net.W.0",
    ),
    (
        f"{CONDITIONED}:gradients_of_units",
        "+= work[out + k * width + i]",
        "-= work[out + k * width + i]",
        "run",
        "layers.2.net.W.2",
    ),
    (
        f"{CONDITIONED}:gradients_of_units",
        "+= work[out + i * width + k]",
        "= work[out + i * width + k]",
        "run-many-rows",
        "layers.1.net.W.2",
    ),
    (f"{CONDITIONED}:couple_vjp", "bend_vjp(d, work", "bend_vjp(-d, work", "run-splines", "dX"),
    (f"{CONDITIONED}:couple_vjp", "limits[1], inverse", "limits[1], not inverse", "run-splines", "dX"),
    (f"{CONDITIONED}:couple_vjp", "(outputs[D] + o)", "(outputs[D] + o + 1)", "run-splines", "layers.0.net.W.2"),
    (f"{RUNS}:backward", "dlogdet[r:r + n]", "dlogdet[:n]", "run-many-rows", "layers.1.net.W.2"),
    (f"{RUNS}:backward", "type(-1 if inverse else 1)", "type(1)", "Reverse-run", "layer.layers.0.b"),
    (f"{RUNS}:backward", "t[ORDER], C, not inverse)", "t[ORDER], C, inverse)", "run", "dX"),
    (f"{RUNS}:backward", "couple(t, limits[s], inverse", "couple(t, limits[s], not inverse", "run", "X"),
    (
        f"{RUNS}:backward",
        "mix(P, t[PLACE], ones, steps, C, work, d",
        "mix(P, t[PLACE], steps, ones, C, work, d",
        "run",
        "dX",
    ),
    (
        f"{RUNS}:backward",
        "mix(P, t[PLACE] + C * C, ones, steps, C, work, d",
        "mix(P, t[PLACE] + C * C, steps, ones, C, work, d",
        "Reverse-run",
        "dX",
    ),
    (
        f"{ENGINE}.fused_vectors:FusedVectors.fused_vectors_vjp_",
        "-total if inverse else total",
        "total",
        "Reverse-run",
        "layer.layers.0.log_s",
    ),
    (
        f"{ENGINE}.fused_vectors:FusedVectors.fused_vectors_vjp_",
        "np.add(G, sums, out=G)",
        "sums",
        "run-tiles",
        "layers.1.net.W.2",
    ),
    (
        f"{ENGINE}.fused_vectors:FusedVectors.fused_vectors_vjp_",
        "total, Z.shape[1], plan",
        "0 * total, Z.shape[1], plan",
        "run-tiles",
        "layers.0.log_s",
    ),
    (f"{RUNS}:backward", "prepare_vjp(P, G, total", "pullback(P, G, 0 * total", "run", "layers.0.log_s"),
    # fused groups of images
    *[
        (f"{IMAGE_ROWS}:scale_vjp", piece, wrong, case, reported)
        for piece, wrong, case, reported in (
            ("products[c] += dz * row[c]", "products[c] += dz", "run-images", "layers.0.log_s"),
            ("sums[c] += dz", "sums[c] -= dz", "run-images", "layers.0.b"),
            ("drow[c] = dz * after[c]", "drow[c] = dz", "run-images", "dX"),
            ("sign * products", "products", "Reverse-run-images", "layer.layers.0.log_s"),
            ("sign * sums", "sums", "Reverse-run-images", "layer.layers.0.b"),
            (
                "(p[C + c], p.dtype.type(1)) if inverse",
                "(p[c], p.dtype.type(1)) if inverse",
                "Reverse-run-images",
                "dX",
            ),
        )
    ],
    (f"{IMAGE_ROWS}:sums_of_products", "+= sign * work", "-= sign * work", "run-images", "layers.1.L"),
    (f"{IMAGE_ROWS}:sums_of_products", "+= sign * work", "+= work", "Reverse-run-images", "layer.layers.1.L"),
    (f"{IMAGE_ROWS}:sums_of_products", "G[i * C + j] += sign", "G[j * C + i] += sign", "run-images", "layers.4.W"),
    *[
        (f"{IMAGE_ROWS}:couple_vjp", piece, wrong, case, reported)
        for piece, wrong, case, reported in (
            ("T[i] = -D[i]", "T[i] = D[i]", "Reverse-run-images", "layer.layers.2.net.W.2"),
            ("D[i] /= S[i]", "D[i] *= S[i]", "Reverse-run-images", "dX"),
            ("(X[i] + T[i]) * S[i]", "X[i] * S[i]", "run-images", "layers.2.net.W.2"),
            ("T[i] = D[i] * S[i]", "T[i] = D[i]", "run-images", "dX"),
            ("X[i] *= D[i]", "X[i] = D[i]", "run-images", "layers.5.net.W.2"),
            ("X[j] + dlogdet[i]", "X[j]", "run-images", "layers.5.net.W.2"),
            ("dlogdet[i]", "dlogdet[0]", "run-images", "layers.2.net.W.2"),
            ("slope[i] = -slope[i]", "pass", "Reverse-run-images", "layer.layers.5.net.W.2"),
            ("copy(T, ZERO, D, ZERO, n)", "pass", "run-images", "dX"),
            ("merge_rows(work, raw, half", "merge_rows(work, raw + size, half", "run-images", "layers.2.net.b.2"),
        )
    ],
    (f"{IMAGE_ROWS}:add_first", "row[c] += more[c]", "row[c] = more[c]", "run-images", "dX"),
    *[
        (f"{IMAGE_RUNS}:through", piece, wrong, case, reported)
        for piece, wrong, case, reported in (
            ("type(-1 if to_z else 1)", "type(1)", "Reverse-run-images", "layer.layers.0.b"),
            (
                "permute(work, d, other, R, pitch, index[t[ORDER]:], C, not to_z)",
                "permute(work, d, other, R, pitch, index[t[ORDER]:], C, to_z)",
                "run-images",
                "dX",
            ),
            ("couple_vjp(t, to_z", "couple_vjp(t, not to_z", "run-images", "dX"),
            ("mix(p, to_z, C, R, work, d", "mix(p, not to_z, C, R, work, d", "run-images", "dX"),
            (
                "mix(p[C * C:], not to_z, C, R, work, d",
                "mix(p[C * C:], to_z, C, R, work, d",
                "Reverse-run-images",
                "dX",
            ),
            ("offsets, g, lanes)", "offsets, -g, lanes)", "run-images", "layers.2.net.W.0"),
        )
    ],
    (
        f"{ENGINE}.fused_images:FusedImages.fused_images_vjp_",
        "-total if inverse else total",
        "total",
        "Reverse-run-images",
        "layer.layers.0.log_s",
    ),
    (f"{ENGINE}.fused_images:FusedImages.fused_images_vjp_", " * Z[0, 0].size", "", "run-images", "layers.0.log_s"),
    (
        f"{ENGINE}.fused_images:FusedImages.fused_images_vjp_",
        "np.add(G, part, out=G)",
        "part",
        "run-images-tiles",
        "layers.1.net.W.2",
    ),
    (
        f"{ENGINE}.fused_images:FusedImages.fused_images_vjp_.work",
        "dlogdet[tile.samples]",
        "dlogdet[:len(z[tile.samples])]",
        "run-images-tiles",
        "layers.1.net.W.2",
    ),
    (
        "invnet.fused.group:FusedGroup._backward",
        "in self.layers if inverse else reversed(self.layers)",
        "in self.layers",
        "run",
        "dX",
    ),
    (
        "invnet.fused.group:FusedGroup.backward_",
        "dlogdet, cond, inverse",
        "0 * dlogdet, cond, inverse",
        "run",
        "layers.0.log_s",
    ),
    (
        "invnet.fused.group:FusedGroup.inverse_backward_",
        "dlogdet, cond, inverse",
        "0 * dlogdet, cond, inverse",
        "Reverse-run",
        "layer.layers.0.log_s",
    ),
    (f"{REFERENCE}.channels:Channels.mix_vjp_", "self.rows(Z) - b", "self.rows(Z)", "ActNorm-2d", "log_s"),
    (f"{REFERENCE}.channels:Channels.mix_vjp_", "dM = dR.T @ R", "dM = R.T @ dR", "Conv1x1-lu-2d", "L"),
    (f"{REFERENCE}.channels:Channels.mix_vjp_", "dR @ M\n", "dR @ M.T\n", "Conv1x1-full-2d", "dX"),
    (f"{REFERENCE}.channels:Channels.mix_vjp_", "sum(dR * R, axis=0)", "sum(dR, axis=0)", "ActNorm-2d", "log_s"),
    (f"{REFERENCE}.channels:Channels.mix_vjp_", "db = self.xp.sum(dR", "db = -self.xp.sum(dR", "ActNorm-2d", "b"),
]


TORCH, HOST, NETWORKS = (f"invnet.ops.torch{name}" for name in ("", ".host", ".conv_stack"))

TORCH_MUTATIONS = [  # the same of PyTorch's engine, with a case of cases.py, on which a law must fail
    (f"{TORCH}:TorchOps.mix_vjp_", "db = dR.sum(0)", "db = -dR.sum(0)", "ActNorm, 2 axes, 3 channels"),
    (f"{TORCH}:TorchOps.mix_vjp_", "dM = (dR * R)", "dM = (dR * dR)", "ActNorm, 2 axes, 3 channels"),
    (f"{TORCH}:TorchOps.mix_vjp_", "-Minv * b", "-b", "ActNorm, 0 axes, 3 channels"),
    (f"{TORCH}:TorchOps.mix_vjp_", "dR * M", "dR", "ActNorm, 0 axes, 3 channels"),
    (f"{TORCH}:TorchOps.mix_vjp_", "dR @ M\n", "dR @ M.T\n", "Conv1x1 lu, 1 axes, 4 channels"),
    (f"{TORCH}:TorchOps.mix_vjp_", "dM = dR.T @ R", "dM = R.T @ dR", "Conv1x1 full, 3 axes, 3 channels"),
    (f"{TORCH}:TorchOps.mix_vjp_", "-(Minv @ b)", "-b", "Chain of foldable layers"),
    (
        f"{TORCH}:TorchOps.couple_vjp_",
        ".add_(dlogdet.reshape(-1, *[1] * (h.ndim - 1)))",
        "",
        "AffineCoupling bounded, 2 axes, 3 channels",
    ),
    (
        f"{TORCH}:TorchOps.couple_vjp_",
        "dt.copy_(dz2.mul_(s))",
        "dt.copy_(dz2); dz2.mul_(s)",
        "AffineCoupling sigmoid, 1 axes, 4 channels",
    ),
    (f"{TORCH}:TorchOps.couple_vjp_", "z2.div_(s)", "z2.mul_(s)", "AffineCoupling bounded, 0 axes, 3 channels"),
    (
        f"{TORCH}:TorchOps.couple_vjp_",
        ".mul_(self.log_scale_slope(log_s, scale))",
        "",
        "AffineCoupling sigmoid, 2 axes, 3 channels",
    ),
    (
        f"{NETWORKS}:ConvStack.conv_stack_vjp",
        "sum(1, dtype=dtype)",
        "mean(1, dtype=dtype)",
        "coupling, vector condition",
    ),
    (
        f"{NETWORKS}:ConvStack.conv_stack_vjp",
        "[db.to(dtype)",
        "[-db.to(dtype)",
        "AffineCoupling bounded, 0 axes, 3 channels",
    ),
    (
        f"{NETWORKS}:ConvStack.conv_stack_vjp",
        "(dH, S)",
        "(dH, S) if activation else 2 * dH",
        "AffineCoupling bounded, 2 axes, 3 channels",
    ),
    (f"{NETWORKS}:_convolve_vjp", "@ (M if transposed else M.T)", "@ (0 * M.T)", "RealNVP, 2 features"),
    (f"{NETWORKS}:_convolve_vjp", "T.T @ dR)", "-T.T @ dR)", "RealNVP, 3 features"),
    (f"{NETWORKS}:_convolve_vjp", "dW.permute", "-dW.permute", "AdditiveCoupling, 2 axes, 4 channels"),
    (f"{HOST}:HostOps.conv_stack_vjp", "_tensor(dadded)", "-_tensor(dadded)", "coupling, vector condition"),
    (
        f"{HOST}:HostOps.fused_vectors_vjp_",
        "Z.numpy(), dlogdet.numpy()",
        "Z.numpy(), 0 * dlogdet.numpy()",
        "RealNVP, 2 features",
    ),
    (f"{HOST}:HostOps.fused_images_vjp_", "Z.numpy(), dlogdet.numpy()", "Z.numpy(), 0 * dlogdet.numpy()", "Glow"),
]

CUPY = {part: f"invnet.ops.cupy.{part}" for part in ("channels", "conv_stack", "couplings", "pointwise")}

CUPY_MUTATIONS = (
    [  # and of CuPy's engine; the terms of its kernels are in test_cuda_kernels.py
        (f"{CUPY['channels']}:Channels.mix_vjp_", "dM, db = summed", "db, dM = summed", "ActNorm, 2 axes, 3 channels"),
        (
            f"{CUPY['channels']}:Channels.mix_vjp_",
            "_mix(R, Minv, vector(b), None)",
            "_mix(R, Minv, None, None)",
            "Chain of foldable layers",
        ),
        (f"{CUPY['channels']}:Channels.mix_vjp_", "_outer(dR, R)", "_outer(R, dR)", "Conv1x1 full, 3 axes, 3 channels"),
        (
            f"{CUPY['channels']}:Channels.mix_vjp_",
            "_mix(dR, M.T, None, None)",
            "_mix(dR, M, None, None)",
            "Conv1x1 lu, 1 axes, 4 channels",
        ),
        (
            f"{CUPY['conv_stack']}:ConvStack._convolve_vjp",
            "_product(dA, M.T)",
            "_product(dA, 0 * M.T)",
            "RealNVP, 2 features",
        ),
        (
            f"{CUPY['conv_stack']}:ConvStack._convolve_vjp",
            "dW = _product(self",
            "dW = -_product(self",
            "AdditiveCoupling, 2 axes, 4 channels",
        ),
        (
            f"{CUPY['conv_stack']}:ConvStack._convolve_vjp",
            "_product(columns, M)",
            "-_product(columns, M)",
            "AdditiveCoupling, 2 axes, 4 channels",
        ),
        (
            f"{CUPY['conv_stack']}:ConvStack._convolve_vjp",
            "_product(columns.T, self",
            "-_product(columns.T, self",
            "AdditiveCoupling, 2 axes, 4 channels",
        ),
        (
            f"{CUPY['conv_stack']}:ConvStack._activate_vjp",
            "summed(dH",
            "-summed(dH",
            "AffineCoupling bounded, 0 axes, 3 channels",
        ),
        (
            f"{CUPY['conv_stack']}:ConvStack._activate_vjp",
            "summed(db",
            "-summed(db",
            "AffineCoupling bounded, 2 axes, 3 channels",
        ),
        (
            f"{CUPY['conv_stack']}:ConvStack.activate_vjp",
            "dH.copy()",
            "-dH.copy()",
            "AutoregressiveAffine fast inverse, 3 channels",
        ),
        (f"{CUPY['couplings']}:Couplings.couple_vjp_", "False", "True", "AffineCoupling bounded, 2 axes, 3 channels"),
        (
            f"{CUPY['couplings']}:Couplings.uncouple_vjp_",
            "True",
            "False",
            "Reverse of AffineCoupling bounded, 0 axes, 3 channels",
        ),
        (
            f"{CUPY['couplings']}:Couplings._coupled_vjp",
            "vector(dlogdet)",
            "vector(0 * dlogdet)",
            "AffineCoupling sigmoid, 1 axes, 4 channels",
        ),
        (
            f"{CUPY['pointwise']}:Pointwise.spline_vjp",
            "dlogdet, False",
            "0 * dlogdet, False",
            "SplineCoupling, 1 axes, 3 channels",
        ),
        (
            f"{CUPY['pointwise']}:Pointwise.spline_inverse_vjp",
            "dlogdet, True",
            "-dlogdet, True",
            "Reverse of SplineCoupling, 1 axes, 3 channels",
        ),
        (
            f"{CUPY['pointwise']}:Pointwise._spline_vjp",
            "return dR, R, dP",
            "return dR, R, 0 * dP",
            "SplineCoupling, 1 axes, 3 channels",
        ),
    ]
    if cupy_here
    else []
)


#: What a copied kernel is made with: left uncompiled, it meets neither Numba's files nor the caches of the original.
#: Of an array that Numba does not count Python would not know when it ends.
UNCOMPILED = {
    "kernel": lambda signature: lambda function: lambda char, part=None: function,
    "compiled": lambda function, *how: function,
    "uncounted": lambda array: array,
}
#: An activation is called by its address, so a copy is compiled too.
COMPILED = {
    "kernel": lambda signature: (
        lambda function: functools.cache(
            lambda char: njit(signature.replace("$", TYPES[char]), error_model="numpy")(function)
        )
    )
}
#: Modules whose functions Python can run; those of others call vectors.
INTERPRETED = (MATRICES, STAGES, ROWS, AFFINE_ROWS, CONDITIONED, PLANAR_ROWS, RADIAL_ROWS, SPLINE_ROWS)
_inner = njit(error_model="numpy", nogil=True)
FORWARD = {"Z", "logdet", "forward", "loss"}


@functools.cache
def callable_here(function):
    """Of a function that compiled ones call only, one that may be called from Python too."""
    return _inner(function.py_func)


def namespace(module):
    return (
        {
            name: callable_here(value)
            if isinstance(value, Dispatcher) and value.targetoptions.get("no_cpython_wrapper")
            else value
            for name, value in vars(module).items()
        }
        | UNCOMPILED
        | (COMPILED if module.__name__ == ACTIVATIONS else {})
        | {"inner": (lambda function: function) if module.__name__ in INTERPRETED else _inner}
    )


@functools.cache
def functions(module):
    """The source of every function in a module, decorators included, by its name: Class.method, Class.method.inner."""
    source, found = inspect.getsource(importlib.import_module(module)), {}
    lines = source.splitlines(keepends=True)

    def visit(node, names):
        for child in ast.iter_child_nodes(node):
            inside = names
            if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
                inside = (*names, child.name)
                start = min(line.lineno for line in (child, *child.decorator_list))
                if isinstance(child, ast.FunctionDef):
                    found[".".join(inside)] = "".join(lines[start - 1 : child.end_lineno])
            visit(child, inside)

    visit(ast.parse(source), ())
    return found


def places_of(piece, source):
    """Where a piece stands in a source, whatever the line breaks, other white space and commas that end a list in
    brackets.
    """

    def letters(text):
        kept = [(c, i) for i, c in enumerate(text) if not c.isspace()]
        return [
            (c, i)
            for (c, i), (following, _) in zip(kept, [*kept[1:], ("", 0)])
            if c != "," or following not in (")", "]", "}")
        ]

    wanted, there = "".join(c for c, _ in letters(piece)), letters(source)
    text = "".join(c for c, _ in there)
    starts = [match.start() for match in re.finditer(f"(?={re.escape(wanted)})", text)]
    return [(there[k][1], there[k + len(wanted) - 1][1] + 1) for k in starts]


def mutant(target, piece, replacement):
    """A class or module, the name of its function, and a copy of that function with one piece of its source
    replaced.
    """
    module, _, path = target.partition(":")
    sources, module, names = functions(module), importlib.import_module(module), path.split(".")
    found = places_of(piece, sources.get(path, ""))
    assert len(found) == 1, f"{target} has {piece!r} {len(found)} times: rewrite this row of MUTATIONS"
    holder = getattr(module, names[0])
    depth, holder = (2, holder) if isinstance(holder, type) else (1, module)
    whole, name = sources[".".join(names[:depth])], names[depth - 1]
    (start, stop), inner = found[0], sources[path]
    source = whole.replace(inner, inner[:start] + replacement + inner[stop:])
    made = {}
    body = textwrap.indent(textwrap.dedent(source), "    ")
    exec(f"def make(__class__):\n{body}\n    return {name}", namespace(module), made)
    return holder, name, made["make"](holder)


#: What calls the functions of a module, or one of them, that compiled ones call: from the inside out.
BACKWARD_OF_NETWORKS = ((CONVOLUTIONS, "convolve_vjp"), (CONVOLUTIONS, "backward"))
CALLERS = {
    **dict.fromkeys((PRODUCTS, TAPS, WINOGRAD, CONVOLUTIONS), BACKWARD_OF_NETWORKS),
    BACK: ((CONVOLUTIONS, "backward"),),
    **{
        f"{TAPS}:{name}": (caller, *BACKWARD_OF_NETWORKS)
        for name, caller in (
            ("pad", (CONVOLUTIONS, "pad_images")),
            ("sum_taps", (CONVOLUTIONS, "sum_columns")),
            ("lattice", (TAPS, "find_taps")),
        )
    },
    **{
        f"{WINOGRAD}:{name}": ((CONVOLUTIONS, caller), *BACKWARD_OF_NETWORKS)
        for name, caller in (
            ("interpolate", "sum_columns"),
            ("interpolate_vjp", "pad_images"),
            ("evaluate_taps_vjp", "take_gradient"),
        )
    },
    MATRICES: ((STAGES, "pullback"), (RUNS, "backward")),
    **dict.fromkeys((ROWS, STAGES, CONDITIONED), ((RUNS, "backward"),)),
    AFFINE_ROWS: ((CONDITIONED, "couple_vjp"), (RUNS, "backward")),
    f"{SPLINE_ROWS}:bend_vjp": ((SPLINE_ROWS, "spline_vjp"),),
    IMAGE_ROWS: ((IMAGE_RUNS, "through"),),
}


def install(monkeypatch, holder, name, made):
    """Puts the copy in its place; that of a function which compiled ones call, in copies of these, uncompiled."""
    module = getattr(holder, "__name__", None)
    for caller, outer in CALLERS.get(f"{module}:{name}", CALLERS.get(module, ())):
        if name == "backward":  # which is called from outside
            break
        rebuilt, holder = {}, importlib.import_module(caller)
        exec(functions(caller)[outer], namespace(holder) | {name: made}, rebuilt)
        name, made = outer, rebuilt[outer]
    original = vars(holder)[name]
    for module in [module for module in sys.modules.values() if getattr(module, "__name__", "").startswith("invnet.")]:
        if vars(module).get(name) is original:  # which imported it
            monkeypatch.setattr(module, name, made)
    monkeypatch.setattr(holder, name, made)


@pytest.fixture(autouse=True)
def measured_and_not_healed(monkeypatch):
    """Or what a broken term rebuilt would be computed again, rightly."""
    monkeypatch.setattr(BackwardPolicy, "_drift_tolerance", np.inf)


def compare(case):
    plan.cache_clear()  # which has addresses of activations
    if case == "likelihood":
        check_likelihood((4, 3, 4, 8))
    elif case == "dlogdet-None":
        check(*LAYERS["ActNorm-2d"], dlogdet=None)
    else:
        check(*CASES[case])


def row_id(target, piece, replacement, case):
    return f"{target.partition(':')[2]}: {piece.strip()} -> {replacement.strip() or 'nothing'}, {case}"


@pytest.fixture
def two_threads():
    """Sums of tiles are then apart, and are added."""
    before = invnet.num_threads()
    invnet.set_num_threads(2)
    yield
    invnet.set_num_threads(before)
    plan.cache_clear()


def mutations(rows):
    """Parameters of a test: the first row of each function every day, the others in `make test-all`."""
    seen, found = set(), []
    for row in rows:
        found.append(pytest.param(*row, id=row_id(*row[:4]), marks=[pytest.mark.exhaustive] if row[0] in seen else []))
        seen.add(row[0])
    return found


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("target, piece, replacement, case, reported", mutations(MUTATIONS))
def test_a_broken_term_is_found(target, piece, replacement, case, reported, monkeypatch):
    if target.startswith(REFERENCE) or target.endswith("FusedGroup._backward"):  # which calls layers one by one there
        monkeypatch.setitem(_of_type, np.ndarray, lambda array, ops=Ops(array_api_compat.numpy): ops)
    if case.startswith("blocks-"):
        small_tiles(monkeypatch)
    install(monkeypatch, *mutant(target, piece, piece))
    compare(case)  # making the copy is not what breaks it
    install(monkeypatch, *mutant(target, piece, replacement))
    with pytest.raises(AssertionError) as failure:
        compare(case)
    wrong = set(re.findall(r"(?:^|; )([\w.]+): differs", str(failure.value)))
    assert reported in wrong
    assert reported in FORWARD or not FORWARD & wrong, "the forward pass was broken too"


@pytest.mark.parametrize("target, piece, replacement, case", mutations(TORCH_MUTATIONS + CUPY_MUTATIONS))
def test_a_broken_term_of_another_engine_is_found(target, piece, replacement, case, monkeypatch):
    engine = ENGINES["cupy" if "cupy" in target else "torch" if target.startswith(HOST) else "torch-aten"]

    def obeys(law):
        with engine.used(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of drift, which a broken term brings too
            module, X, cond = CASES_OF_LAWS[case].build()
            law(module.to(engine.name), engine.array(X), engine.array(cond), np.random.default_rng(0))

    laws = (backward_rebuilds_the_input, gradients_are_those_of_differences)
    install(monkeypatch, *mutant(target, piece, piece))
    for law in laws:
        obeys(law)
    install(monkeypatch, *mutant(target, piece, replacement))
    with pytest.raises(AssertionError, match="gradient of|X of backward"):
        for law in laws:
            obeys(law)


REFERENCES = [
    f"{REFERENCE}.{name}" for name in ("arrays", "channels", "conv_stack", "coupling", "pointwise", "spline")
] + ["invnet.fused.group"]
HOST_SIDE = [
    f"{ENGINE}.{name}"
    for name in ("arrays", "channels", "conv_stack", "couplings", "pointwise", "fused_vectors", "fused_images")
]
BACKWARD = re.compile(
    r"(backward_?|pullback|vjp_?|scale_slope|product_of_transpose|sum_rows|sums_of_products|add_first|sum_taps|pad|find_taps|lattice|right_factor|take_gradient|evaluate|interpolate)$"
)


def hand_written_backwards():
    packages = [
        f"{package.__name__}.{info.name}"
        for package in (invnet.layers, invnet.nets)
        for info in pkgutil.iter_modules(package.__path__)
    ]
    for module in [
        *packages,
        *REFERENCES,
        *HOST_SIDE,
        KERNELS,
        CONVOLUTIONS,
        MIX,
        ACTIVATIONS,
        PRODUCTS,
        TAPS,
        WINOGRAD,
        MATRICES,
        PLANAR_ROWS,
        RADIAL_ROWS,
        SPLINE_ROWS,
        TORCH,
        HOST,
        NETWORKS,
        STAGES,
        ROWS,
        AFFINE_ROWS,
        CONDITIONED,
        RUNS,
        IMAGE_ROWS,
        IMAGE_RUNS,
        *(CUPY.values() if cupy_here else ()),
    ]:
        for path, source in functions(module).items():
            if BACKWARD.search(path) and "raise NotImplementedError" not in source:
                yield f"{module}:{path}"


def test_every_hand_written_backward_is_broken_at_least_once():
    broken = {f"{row[0]}." for row in (*MUTATIONS, *TORCH_MUTATIONS, *CUPY_MUTATIONS)}
    missing = [name for name in hand_written_backwards() if not any(target.startswith(f"{name}.") for target in broken)]
    assert not missing, f"no row of MUTATIONS breaks {', '.join(missing)}"
