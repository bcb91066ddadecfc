"""The proof that the proof can fail: with one term of one hand-written gradient broken, the comparison with autograd fails.

A row of MUTATIONS names a function, a piece of its source that occurs once, what to write instead, the case that is
compared (an id of test_against_torch.py), and an array that must be reported wrong: a gradient or the rebuilt X, or Z
where the function serves the forward pass as well. A function within another is named by both, `ActNorm.affine.pull`.
Where a rewritten function no longer has the piece, its row is to be rewritten with it. Every hand-written backward has
a row.
"""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import textwrap

import array_api_compat.numpy
import invnet
import numpy as np
import pytest
from invnet.ops import _of_type
from invnet.ops.reference import Ops
from test_against_torch import BLOCKS, GLOWS, LAYERS, NETS, WITH_CONDITION, check, check_likelihood, f64, shape, small_tiles

CASES = {
    **LAYERS, **WITH_CONDITION, **NETS, **{f"Glow-{name}": row for name, row in GLOWS.items()},
    **{f"blocks-{name}": row for name, row in BLOCKS.items()},
    "gathers-3d": (invnet.ConvNet(2, (), 4, kernels=(3,), ndim=3, **f64), (2, 2, 3, 4, 5)),
    "scatters-3d": (invnet.ConvNet(4, (), 2, kernels=(3,), ndim=3, **f64), (2, 4, 3, 4, 5)),
    "many-rows": (invnet.Chain(invnet.ActNorm(8, **f64), invnet.Conv1x1(8, **f64)), (3, 8, 120, 130)),
    "twice": (invnet.Chain(*[invnet.ActNorm(5, **f64), invnet.Permute.random(5)] * 2), shape(2)),
}

ACTNORM, AFFINE, COMPOSE, CONV = (f"invnet.layers.{name}" for name in ("actnorm", "channel_affine", "compose", "conv1x1"))
COUPLING, LOGIT, NET, CORE = "invnet.layers.coupling", "invnet.layers.logit", "invnet.nets.conv", "invnet.core"
AUTOREGRESSIVE, MASKED = "invnet.layers.autoregressive", "invnet.nets.masked"
REFERENCE, ENGINE, KERNELS, TILE = (f"invnet.ops.{name}" for name in ("reference", "numpy_engine", "kernels", "tile"))
FOLD, GATHER, SCATTER = "Chain-folds-ActNorm-Conv1x1", "ConvNet-gathers-throughout", "ConvNet-scatters-throughout"
RELU, LEAKY, SILU, SOFTPLUS = (f"ConvNet-{name}" for name in ("relu", "leaky_relu", "silu", "softplus"))

MAF_ROW, IAF_ROW, PLAIN = "AutoregressiveAffine-forward-0d", "AutoregressiveAffine-inverse-0d", "AutoregressiveAffine-inverse-plain"

MUTATIONS = [  # function, piece, replacement, case, what must be reported
    # ActNorm
    (f"{ACTNORM}:ActNorm.affine.pull", " * scale", "", "ActNorm-2d", "log_s"),
    (f"{ACTNORM}:ActNorm.affine.pull", " + dlogdet", "", "ActNorm-0d", "log_s"),
    (f"{ACTNORM}:ActNorm.affine.pull", "+= db", "-= db", "ActNorm-1d", "b"),
    (f"{ACTNORM}:ActNorm.affine.pull", "self.b.grad += db", "self.b.grad[...] = db", "twice", "layers.0.b"),
    (f"{ACTNORM}:ActNorm.affine.pull", "linalg.diagonal(dM)", "sum(dM, axis=0)", FOLD, "layers.0.log_s"),
    # the channel mix and its inverse
    (f"{AFFINE}:ChannelAffine.backward_", "self._dlogdet", "-self._dlogdet", "Conv1x1-lu-2d", "log_s"),
    (f"{AFFINE}:ChannelAffine._dlogdet", " * math.prod(X.shape[2:])", "", "ActNorm-2d", "log_s"),
    (f"{AFFINE}:ChannelAffine.inverse_backward_", "db = -_times", "db = _times", "Reverse-ActNorm-2d", "layer.b"),
    (f"{AFFINE}:ChannelAffine.inverse_backward_", "_times(Minv.T, dc)", "_times(Minv, dc)",
     "Reverse-Chain-folds-ActNorm-Conv1x1", "layer.layers.0.b"),
    (f"{AFFINE}:ChannelAffine.inverse_backward_", "(dMinv - dc * b)", "dMinv", "Reverse-ActNorm-2d", "layer.log_s"),
    (f"{AFFINE}:ChannelAffine.inverse_backward_", "(dMinv - dc[:, None] * b[None, :])", "dMinv",
     "Reverse-Chain-folds-five", "layer.layers.2.L"),
    (f"{AFFINE}:ChannelAffine.inverse_backward_", "@ Minv.T\n", "@ Minv\n", "Reverse-Conv1x1-full-2d", "layer.W"),
    (f"{AFFINE}:ChannelAffine.inverse_backward_", "dM = -Minv.T", "dM = Minv.T",
     "Reverse-Conv1x1-householder-2d", "layer.V"),
    (f"{AFFINE}:ChannelAffine.inverse_backward_", "-self._dlogdet", "self._dlogdet", "Reverse-Conv1x1-lu-2d", "layer.log_s"),
    (f"{AFFINE}:Folded.affine.pull", "db[:, None] * b1[None, :]", "0", FOLD, "layers.1.L"),
    (f"{AFFINE}:Folded.affine.pull", "(db * b1 if", "(0 if", "Chain-folds-ActNorm-ActNorm", "layers.1.log_s"),
    (f"{AFFINE}:Folded.affine.pull", "_product(dM, M1.T)", "_product(dM, M1)", "Chain-folds-Conv1x1-Conv1x1", "layers.1.W"),
    (f"{AFFINE}:Folded.affine.pull", "_product(M2.T, dM)", "_product(M2, dM)", "Chain-folds-Conv1x1-Conv1x1", "layers.0.L"),
    (f"{AFFINE}:Folded.affine.pull", "_times(M2.T, db)", "_times(M2, db)", FOLD, "layers.0.b"),
    (f"{AFFINE}:Folded.affine.pull", "_times(M2.T, db), dlogdet", "_times(M2.T, db), 0", FOLD, "layers.0.log_s"),
    (f"{AFFINE}:Folded.affine.pull", "b1[None, :]), db, dlogdet", "b1[None, :]), db, 0", FOLD, "layers.1.log_s"),
    # the three parametrisations of the 1x1 convolution
    (f"{CONV}:Conv1x1.affine", "pull(dM, dlogdet)", "pull(dM.T, dlogdet)", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._full.pull", " + dlogdet * self.inverse_of(W).T", "", "Conv1x1-full-2d", "W"),
    (f"{CONV}:Conv1x1._full.pull", "inverse_of(W).T", "inverse_of(W)", "Conv1x1-full-2d", "W"),
    (f"{CONV}:Conv1x1._lu.pull", "P.T @ dW", "P @ dW", "Conv1x1-lu-2d", "L"),
    (f"{CONV}:Conv1x1._lu.pull", "L.T @ dLU", "L @ dLU", "Conv1x1-lu-2d", "U"),
    (f"{CONV}:Conv1x1._lu.pull", "dLU @ U.T", "dLU @ U", "Conv1x1-lu-2d", "L"),
    (f"{CONV}:Conv1x1._lu.pull", "(dLU @ U.T) * below", "dLU @ U.T", "Conv1x1-lu-2d", "L"),
    (f"{CONV}:Conv1x1._lu.pull", " * below.T", "", "Conv1x1-lu-2d", "U"),
    (f"{CONV}:Conv1x1._lu.pull", " * s + dlogdet", " + dlogdet", "Conv1x1-lu-2d", "log_s"),
    (f"{CONV}:Conv1x1._lu.pull", " * s + dlogdet", " * s", "Conv1x1-lu-2d", "log_s"),
    (f"{CONV}:Conv1x1._householder.pull", "-V @ dW @ V.T", "-V @ dW.T @ V.T", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder.pull", "-B @ V @ dW.T", "-B @ V @ dW", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder.pull", " - B.T @ V @ dW", "", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder.pull", "- B.T @ V @ dW", "- B @ V @ dW", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder.pull", " + (dG + dG.T) @ V", "", "Conv1x1-householder-one-reflection", "V"),
    (f"{CONV}:Conv1x1._householder.pull", "(dG + dG.T)", "2 * dG", "Conv1x1-householder-three-reflections", "V"),
    (f"{CONV}:Conv1x1._householder.pull", "half * (", "(", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder.pull", "-B.T @ dB @ B.T", "-B @ dB @ B", "Conv1x1-householder-2d", "V"),
    # couplings
    (f"{COUPLING}:Coupling._pull.work", "tile.inner(h), dlogdet[tile.samples]", "tile.inner(h), 0 * dlogdet[tile.samples]",
     "AffineCoupling-bounded-2d", "net.W.2"),
    (f"{COUPLING}:Coupling._pull.work", "ops.add_(tile.region(dz1), self._same(dx1, z))", "tile.region(dz1)[...] = dx1",
     "AffineCoupling-bounded-2d", "dX"),
    (f"{COUPLING}:Coupling._pull.work", "ops.add_(tile.region(dz1), self._same(dx1, z))", "pass", "AdditiveCoupling-2d", "dX"),
    (f"{COUPLING}:Coupling._pull.commit", "grad += gradient", "grad[...] = gradient",
     "Chain-shares-a-layer", "layers.0.net.W.0"),
    (f"{COUPLING}:Coupling._pull.commit", "[...] += dcond", "[...] = dcond", "Chain-vector", "dcond"),
    (f"{COUPLING}:Coupling.backward_", "self.couple_backward_", "self.uncouple_backward_", "AdditiveCoupling-2d", "net.W.0"),
    (f"{COUPLING}:Coupling.inverse_backward_", "self.uncouple_backward_", "self.couple_backward_",
     "Reverse-AdditiveCoupling-2d", "layer.net.W.0"),
    (f"{COUPLING}:AdditiveCoupling.couple_backward_", "return dz2", "return -dz2", "AdditiveCoupling-0d", "net.b.2"),
    (f"{COUPLING}:AdditiveCoupling.couple_backward_", "z2 -= h", "pass", "AdditiveCoupling-2d", "X"),
    (f"{COUPLING}:AdditiveCoupling.uncouple_backward_", "return -dx2", "return dx2",
     "Reverse-AdditiveCoupling-2d", "layer.net.b.2"),
    (f"{COUPLING}:AffineCoupling.couple_backward_", "_scale, dlogdet", "_scale, 0 * dlogdet",
     "AffineCoupling-sigmoid-2d", "net.W.2"),
    (f"{COUPLING}:AffineCoupling.uncouple_backward_", "_scale, dlogdet", "_scale, 0 * dlogdet",
     "Reverse-AffineCoupling-bounded-2d", "layer.net.W.2"),
    (f"{KERNELS}:couple_backward", "dz * z + dlogdet[n]", "dz * z", "AffineCoupling-bounded-2d", "net.W.2"),
    (f"{KERNELS}:couple_backward", "dlogdet[n])", "dlogdet[0])", "AffineCoupling-sigmoid-0d", "net.b.2"),
    (f"{KERNELS}:couple_backward", "(dz * z +", "(dx * z +", "AffineCoupling-bounded-2d", "net.b.2"),
    (f"{KERNELS}:couple_backward", " * slope", "", "AffineCoupling-sigmoid-2d", "net.b.2"),
    (f"{KERNELS}:couple_backward", "(log_s[r, c] / a) ** 2", "log_s[r, c] ** 2", "AffineCoupling-bounded-2d", "net.b.2"),
    (f"{KERNELS}:couple_backward", "else -math.expm1(", "else math.exp(", "AffineCoupling-sigmoid-2d", "net.b.2"),
    (f"{KERNELS}:couple_backward", "dh[r, c] = dx", "dh[r, c] = dz", "AffineCoupling-bounded-2d", "net.b.2"),
    (f"{KERNELS}:couple_backward", "dz2[r, c] = dx", "dz2[r, c] = dz", "AffineCoupling-bounded-2d", "dX"),
    (f"{KERNELS}:couple_backward", " - h[r, c]", "", "AffineCoupling-bounded-2d", "X"),
    (f"{ENGINE}:NumpyOps.couple_backward_", "log(scale[1])", "log(2 * scale[1])", "AffineCoupling-bounded-2d", "net.b.2"),
    (f"{ENGINE}:NumpyOps.couple_backward_", "dlogdet, dh)", "-dlogdet, dh)", "AffineCoupling-sigmoid-2d", "net.b.2"),
    (f"{ENGINE}:NumpyOps.add_", "self.rows(Y)", "-self.rows(Y)", "AdditiveCoupling-2d", "dX"),
    (f"{KERNELS}:add", "+= B[r, c]", "= B[r, c]", "AffineCoupling-bounded-2d", "dX"),
    (f"{REFERENCE}:Ops.add_", "X += Y", "X -= Y", "AdditiveCoupling-2d", "dX"),
    (f"{REFERENCE}:Ops.couple_backward_", " + self.at_positions(dlogdet, z2)", "", "AffineCoupling-bounded-2d", "net.b.2"),
    (f"{REFERENCE}:Ops.couple_backward_", " * slope", "", "AffineCoupling-sigmoid-2d", "net.b.2"),
    (f"{REFERENCE}:Ops.couple_backward_", "[dx2, draw]", "[-dx2, draw]", "AffineCoupling-sigmoid-2d", "net.b.2"),
    (f"{REFERENCE}:Ops.couple_backward_", "dx2 = dR * self.xp.exp(log_s)", "dx2 = dR", "AffineCoupling-sigmoid-2d", "dX"),
    (f"{REFERENCE}:Ops.uncouple_backward_", "draw = -(", "draw = (", "Reverse-AffineCoupling-bounded-2d", "layer.net.b.2"),
    (f"{REFERENCE}:Ops.uncouple_backward_", " + self.at_positions(dlogdet, x2)", "",
     "Reverse-AffineCoupling-sigmoid-2d", "layer.net.b.2"),
    (f"{REFERENCE}:Ops.uncouple_backward_", "[-dR, draw]", "[dR, draw]",
     "Reverse-AffineCoupling-bounded-2d", "layer.net.b.2"),
    (f"{REFERENCE}:Ops.uncouple_backward_", "self.rows(x2) + t", "self.rows(x2)",
     "Reverse-AffineCoupling-bounded-2d", "layer.net.b.2"),
    (f"{REFERENCE}:Ops.uncouple_backward_", "dR * self.xp.exp(-log_s)", "dR", "Reverse-AffineCoupling-bounded-2d", "dX"),
    (f"{REFERENCE}:Ops.uncouple_backward_", "R * self.xp.exp(log_s)", "R", "Reverse-AffineCoupling-sigmoid-2d", "X"),
    (f"{REFERENCE}:Ops.uncouple_backward_", ") * slope", ")", "Reverse-AffineCoupling-bounded-2d", "layer.net.b.2"),
    (f"{REFERENCE}:Ops.log_scale_slope", "-self.xp.expm1(log_s)", "self.xp.exp(log_s)",
     "AffineCoupling-sigmoid-2d", "net.b.2"),
    (f"{REFERENCE}:Ops.log_scale_slope", " ** 2", "", "AffineCoupling-bounded-2d", "net.b.2"),
    (f"{REFERENCE}:Ops.log_scale_slope", "math.log(bound)", "bound", "Reverse-AffineCoupling-bounded-2d", "layer.net.b.2"),
    # blocks of an image and what the conditioner sees around them
    (f"{COUPLING}:Coupling._pull.work", "ops.zeros_like(h)", "h", "blocks-AffineCoupling", "dX"),
    (f"{COUPLING}:Coupling._pull.work", "(h)\n", "(h) + 1\n", "blocks-AdditiveCoupling", "net.W.0"),
    (f"{COUPLING}:Coupling._pull.work", "[...] = dh", "[...] = -dh", "blocks-AffineCoupling-1d", "net.b.2"),
    (f"{COUPLING}:Coupling._pull.work", "ops.copy(self._same(dx1, z))", "-ops.copy(dx1)", "blocks-AffineCoupling-3d", "dX"),
    (f"{COUPLING}:Coupling._pull.commit", "if dx1 is not None", "if False", "blocks-AdditiveCoupling", "dX"),
    (f"{COUPLING}:Coupling._pull.commit", "ops.add_(tile.region(dz1), dx1)", "ops.add_(tile.core(dz1), tile.inner(dx1))",
     "blocks-AffineCoupling", "dX"),
    (f"{COUPLING}:Coupling._pull.commit", "ops.add_(tile.region(dz1), dx1)", "tile.region(dz1)[...] = dx1",
     "blocks-Glow", "dX"),
    (f"{COUPLING}:Coupling._pull.commit", "grad += gradient", "grad[...] = gradient",
     "blocks-AffineCoupling-reach-0", "net.W.0"),
    (f"{COUPLING}:Coupling._pull.commit", "[...] += dcond", "[...] = dcond", "blocks-AffineCoupling-vector", "dcond"),
    (f"{COUPLING}:Coupling._pull.commit", "[...] += dcond", "[...] = dcond", "blocks-AffineCoupling-finer", "dcond"),
    (f"{TILE}:Tile.__init__", "max(0, a - reach)", "max(0, a)", "blocks-AffineCoupling", "Z"),
    (f"{TILE}:Tile.__init__", "min(n, b + reach)", "b", "blocks-AffineCoupling-1d", "Z"),
    (f"{TILE}:Tile.__init__", "slice(a - lo, b - lo)", "slice(0, b - a)", "blocks-AffineCoupling-3d", "Z"),
    (f"{TILE}:Tile.condition", "slice(t * s.start, t * s.stop)", "slice(0, t * (s.stop - s.start))",
     "blocks-AffineCoupling-spatial", "Z"),
    (f"{TILE}:Tile.condition", "cond[self.samples]", "cond[:1]", "blocks-AffineCoupling-vector", "Z"),
    (f"{ENGINE}:NumpyOps.tiles", "block, spatial, reach", "block, spatial, reach - 1", "blocks-AffineCoupling-reach-6", "Z"),
    (f"{ENGINE}:NumpyOps._write_back", "X[...] = self", "self", "blocks-AffineCoupling", "Z"),
    # autoregressive layers and their conditioner
    (f"{AUTOREGRESSIVE}:Autoregressive.backward_", "self.couple_backward_, dZ, Z, dlogdet, cond)\n        else",
     "self.couple_backward_, dZ, Z, 0 * dlogdet, cond)\n        else", MAF_ROW, "net.b.2"),
    (f"{AUTOREGRESSIVE}:Autoregressive.backward_", "self._solved_pull(self.couple_backward_", "self._solved_pull(self.uncouple_backward_", IAF_ROW, "X"),
    (f"{AUTOREGRESSIVE}:Autoregressive.inverse_backward_", "self._solved_pull(self.uncouple_backward_", "self._solved_pull(self.couple_backward_",
     f"Reverse-{MAF_ROW}", "X"),
    (f"{AUTOREGRESSIVE}:Autoregressive.inverse_backward_", "_pull(self.couple_, self.uncouple_backward_, dX, X, dlogdet",
     "_pull(self.couple_, self.uncouple_backward_, dX, X, -dlogdet", f"Reverse-{IAF_ROW}", "layer.net.b.2"),
    (f"{AUTOREGRESSIVE}:Autoregressive._pull.work", "ops.add_(dv, self._same(du, u))", "pass", MAF_ROW, "dX"),
    (f"{AUTOREGRESSIVE}:Autoregressive._pull.work", "dlogdet[tile.samples]", "0 * dlogdet[tile.samples]", MAF_ROW, "net.W.2"),
    (f"{AUTOREGRESSIVE}:Autoregressive._pull.work", "nearly(tile), tile", "ops.fresh(tile.core(V)), tile", MAF_ROW, "X"),
    (f"{AUTOREGRESSIVE}:Autoregressive._nearly_solved.substituted", "uncouple_(ops, u[:, i:i + 1], self._of_one(h))", "0", MAF_ROW, "X"),
    (f"{AUTOREGRESSIVE}:Autoregressive._swept", "self.channels - 1", "self.channels - 3", f"{MAF_ROW[:-3]}-plain", "X"),
    (f"{AUTOREGRESSIVE}:Autoregressive._swept.work", "not ops.xp.all(before == after)", "False", f"{MAF_ROW[:-3]}-plain", "X"),
    (f"{AUTOREGRESSIVE}:Autoregressive._solved_pull.work", "dlogdet[tile.samples]", "0 * dlogdet[tile.samples]", IAF_ROW, "net.W.2"),
    (f"{AUTOREGRESSIVE}:Autoregressive._solved_pull.substituted_back", "return uncouple", "return -uncouple", IAF_ROW, "net.W.0"),
    (f"{AUTOREGRESSIVE}:Autoregressive._solved_pull.substituted_back.step", "du_i += dx", "pass", IAF_ROW, "dX"),
    (f"{AUTOREGRESSIVE}:Autoregressive._solved_pull.substituted_back.step", "du_i += dx", "du_i -= dx", IAF_ROW, "net.W.0"),
    (f"{AUTOREGRESSIVE}:Autoregressive._solved_pull.swept_back", "du + self._same(dx, u)", "total + self._same(dx, u)", PLAIN, "dX"),
    (f"{AUTOREGRESSIVE}:Autoregressive._solved_pull.swept_back", "du + self._same(dx, u)", "du - self._same(dx, u)", PLAIN, "net.W.0"),
    (f"{AUTOREGRESSIVE}:Autoregressive._solved_pull.swept_back", "in range(self.channels)", "in range(self.channels - 2)", PLAIN, "net.W.0"),
    (f"{AUTOREGRESSIVE}:Autoregressive._solved_pull.swept_back", "ops.xp.all(", "ops.xp.any(", PLAIN, "net.W.0"),
    (f"{AUTOREGRESSIVE}:Autoregressive._solved_pull.swept_back", "du[...], u[...] = dv, v", "du[...], u[...] = total, v", PLAIN, "dX"),
    (f"{AUTOREGRESSIVE}:Autoregressive._add", "grad += gradient", "grad[...] = gradient", "Chain-shares-an-autoregressive-layer", "layers.0.net.W.0"),
    (f"{AUTOREGRESSIVE}:Autoregressive._add", "[...] += dcond", "[...] = dcond", "MAF-cond", "dcond"),
    (f"{AUTOREGRESSIVE}:Autoregressive._kept", "ops.copy(dcond)", "-ops.copy(dcond)", "IAF-cond", "dcond"),
    (f"{MASKED}:MaskedDenseNet.vjp.pullback", "map(_masked, gradients, self.mask)", "gradients[:len(self.mask)]", "MaskedDenseNet-5-channels", "W.0"),
    (f"{MASKED}:MaskedDenseNet.vjp.pullback", "_masked, gradients", "lambda W, mask: W.T.T * 2, gradients", "MaskedDenseNet-5-channels", "W.2"),
    (f"{MASKED}:_masked", "W * ", "W - ", "MaskedDenseNet-5-channels", "Z"),
    *[(f"{MASKED}:MaskedDenseNet.substitute_back", piece, wrong, IAF_ROW, reported) for piece, wrong, reported in (
        ("W[0][k:k + 1, later].T", "-W[0][k:k + 1, later].T", "dX"),
        ("slice(ends[1][k + 1], None)", "slice(ends[1][-1], None)", "dX"),
        ("[:, new] = ops.rows(step", "[:, new] = -ops.rows(step", "net.W.1"),
        ("slice(ends[l + 2][k], None)", "slice(ends[l + 2][k + 1], None)", "net.W.0"),
        (" * slopes[l][:, new]", "", "net.W.0"),
        ("ones[...] = 1.0", "ones[...] = 2.0", "net.W.0"),
        ("t.T @ da for", "t.T @ -da for", "net.W.1"),
        ("ops.xp.sum(da", "-ops.xp.sum(da", "net.b.1"),
        ("_masked, dW", "lambda W, mask: W, dW", "net.W.1"),
        ("[_masked(W.data, mask) for", "[W.data for", "X"))],
    *[(f"{MASKED}:MaskedDenseNet.substitute_back", piece, wrong, "AutoregressiveAffine-inverse-order", reported) for piece, wrong, reported in (
        ("dW[0] = ops.xp.take(dW[0], self.original[0].data, axis=0)", "pass", "net.W.0"),
        ("for d in (dW[-1], db[-1], dA[-1])", "if False else d for d in (dW[-1], db[-1], dA[-1])", "net.b.2"))],
    *[(f"{MASKED}:MaskedDenseNet.substitute_back", piece, wrong, "AutoregressiveAffine-inverse-3-channels-cond", reported) for piece, wrong, reported in (
        ("dV.append(dV_0)", "dV.append(-dV_0)", "net.V"),
        ("dA[0], cond, x.shape)\n            dV", "-dA[0], cond, x.shape)\n            dV", "dcond"))],
    (f"{MASKED}:MaskedDenseNet._added", "return added if len(self.W) > 1 else", "return added if True else", "AutoregressiveAffine-inverse-no-hidden-cond", "Z"),
    # Logit, compositions, isometries, the default of dlogdet
    (f"{LOGIT}:Logit.backward_", "(2 * p - 1)", "(1 - 2 * p)", "Logit-2d", "dX"),
    (f"{LOGIT}:Logit.backward_", "** 2 / e", "** 2 * e", "Logit-2d", "dX"),
    (f"{LOGIT}:Logit.backward_", "(p - self._alpha)", "p", "Logit-2d", "X"),
    (f"{LOGIT}:Logit.inverse_backward_", "(1 - 2 * p)", "(2 * p - 1)", "Reverse-Logit-2d", "dX"),
    (f"{LOGIT}:Logit.inverse_backward_", " / (1 - 2 * self._alpha)", "", "Reverse-Logit-2d", "dX"),
    (f"{COMPOSE}:Chain.backward_", "reversed(self._steps)", "self._steps", "Chain-shares-a-layer", "dX"),
    (f"{COMPOSE}:Chain.inverse_backward_", "in self._steps", "in reversed(self._steps)",
     "Reverse-Chain-shares-a-layer", "dX"),
    (f"{COMPOSE}:FactorOut.backward_", "self._part(Z), dlogdet", "self._part(Z), 0 * dlogdet",
     "FactorOut-plain-2d", "inner.layers.0.log_s"),
    (f"{COMPOSE}:FactorOut.backward_", "(dZ, Z, dlogdet", "(dZ, Z, 0 * dlogdet", "FactorOut-prior-2d", "prior.net.b.2"),
    (f"{COMPOSE}:FactorOut.backward_", "if self.prior is None", "if True", "FactorOut-prior-2d", "dX"),
    (f"{COMPOSE}:FactorOut.inverse_backward_", "self._part(X), dlogdet", "self._part(X), 0 * dlogdet",
     "Reverse-FactorOut-plain-2d", "layer.inner.layers.0.log_s"),
    (f"{COMPOSE}:FactorOut.inverse_backward_", "(dX, X, dlogdet", "(dX, X, 0 * dlogdet",
     "Reverse-FactorOut-prior-2d", "layer.prior.net.b.2"),
    (f"{COMPOSE}:Reverse.backward_", "dlogdet, cond)\n", "-dlogdet, cond)\n", "Reverse-ActNorm-2d", "layer.log_s"),
    (f"{COMPOSE}:Reverse.inverse_backward_", "(dX, X, dlogdet", "(dX, X, -dlogdet",
     "Reverse-Reverse", "layer.layer.layers.0.log_s"),
    (f"{CORE}:Isometry.backward_", "self.unapply(dZ)", "self.apply(dZ)", "Permute-2d", "dX"),
    (f"{CORE}:Isometry.inverse_backward_", "self.apply(dX)", "self.unapply(dX)", "Reverse-Permute-2d", "dX"),
    (f"{CORE}:InPlaceLayer.backward", "as_dlogdet(dlogdet, Z)", "as_dlogdet(0.0, Z)", "Glow-three-levels", "dX"),
    (f"{CORE}:as_dlogdet", "-1.0 / max(N, 1)", "-1.0", "dlogdet-None", "log_s"),
    ("invnet.losses.likelihood:gaussian_nll", "R / N", "R", "likelihood", "dZ"),
    ("invnet.losses.likelihood:gaussian_nll", "-1.0 / N, Z", "1.0 / N, Z", "likelihood", "dlogdet"),
    # conditioners
    (f"{NET}:ConvNet.vjp.pullback", "dW.append(dW_i)", "dW.append(-dW_i)", RELU, "W.0"),
    (f"{NET}:ConvNet.vjp.pullback", "db.append(db_i)", "db.append(0 * db_i)", RELU, "b.1"),
    (f"{NET}:ConvNet.vjp.pullback", "self._activations[i]", "None", RELU, "dX"),
    (f"{NET}:ConvNet.vjp.pullback", "dV.append(dV_0)", "dV.append(0 * dV_0)", "ConvNet-spatial-cond-2d", "V"),
    (f"{NET}:ConvNet._condition_back", "ops.xp.sum(", "ops.xp.mean(", "ConvNet-vector-cond-1d", "V"),
    (f"{NET}:ConvNet._condition_back", "rows.T @ each", "-rows.T @ each", "ConvNet-vector-cond-2d", "V"),
    (f"{NET}:ConvNet._condition_back", "each @ self.V.data.T", "-each @ self.V.data.T", "ConvNet-vector-cond-0d", "dcond"),
    (f"{NET}:ConvNet._condition_back", "unsqueeze_(dcond)", "unsqueeze_(ops.xp.flip(dcond, axis=1))",
     "ConvNet-finer-cond-2d", "dcond"),
    (f"{REFERENCE}:Ops.convolve_back", "T.T @ dA", "-T.T @ dA", GATHER, "W.0"),
    (f"{REFERENCE}:Ops.convolve_back", "dA @ M.T", "dA @ M[::-1].T", GATHER, "dX"),
    (f"{REFERENCE}:Ops.convolve_back", "columns.T @ T", "columns[:, ::-1].T @ T", SCATTER, "W.0"),
    (f"{REFERENCE}:Ops.convolve_back", "columns @ M", "columns @ M[::-1]", SCATTER, "dX"),
    (f"{ENGINE}:NumpyOps.convolve_back", "T.T @ dA", "-T.T @ dA", GATHER, "W.0"),
    (f"{ENGINE}:NumpyOps.convolve_back", "(dA, M.T)", "(dA, M[::-1].T)", GATHER, "dX"),
    (f"{ENGINE}:NumpyOps.convolve_back", "columns.T @ T", "columns[:, ::-1].T @ T", SCATTER, "W.0"),
    (f"{ENGINE}:NumpyOps.convolve_back", "(columns, M)", "(columns, M[::-1])", SCATTER, "dX"),
    (f"{REFERENCE}:Ops.activate_backward_", "(S > 0, dH, xp.zeros_like(dH))", "(S > 0, dH, dH)", RELU, "W.0"),
    (f"{REFERENCE}:Ops.activate_backward_", "0.01 * dH", "0.02 * dH", LEAKY, "W.0"),
    (f"{REFERENCE}:Ops.activate_backward_", "-dH * xp.expm1(-S)", "dH * xp.exp(-S)", SOFTPLUS, "W.0"),
    (f"{REFERENCE}:Ops.activate_backward_", "(1 - sigmoid)", "sigmoid", SILU, "W.0"),
    (f"{REFERENCE}:Ops.activate_backward_", "xp.sum(dH", "-xp.sum(dH", RELU, "b.0"),
    (f"{ENGINE}:NumpyOps.activate_backward_", "_SLOPE[activation]", "0.02", RELU, "W.0"),
    (f"{ENGINE}:NumpyOps.activate_backward_", "_SLOPE[activation]", "0.02", LEAKY, "W.0"),
    (f"{ENGINE}:NumpyOps.activate_backward_", "(dH, db)", "(-dH, db)", RELU, "b.2"),
    (f"{KERNELS}:relu_backward", "if H[r, c] > 0", "if dH[r, c] > 0", RELU, "W.0"),
    (f"{KERNELS}:relu_backward", "db[c] += g", "db[c] = g", LEAKY, "b.0"),
    # the operations below them
    (f"{REFERENCE}:Ops.shift_add", "X[there] += part[here]", "X[here] += part[there]", "gathers-3d", "dX"),
    (f"{REFERENCE}:Ops.taps", "T[here] = X[there]", "T[there] = X[here]", "scatters-3d", "dX"),
    *[(f"{KERNELS}:{kernel}", tap, wrong, case, "dX")
      for kernel, case in (("shift_add", "gathers-3d"), ("taps", "scatters-3d"))
      for tap, wrong in ((" d + i", "d + kd - 1 - i"), (" h + j", "h + kh - 1 - j"), ("w * C + c]", "w * C + (c + C) % run]"))],
    *[(f"{KERNELS}:taps", inside, wrong, "scatters-3d", "W.0") for inside, wrong in (
        ("pd <= d < pd + D", "pd <= d < D"), ("ph <= h < ph + H", "ph <= h < H"), ("(pw + w) * C", "w * C"))],
    *[(f"{KERNELS}:shift_add", inside, wrong, "gathers-3d", "dX") for inside, wrong in (
        ("d + pd, h", "d, h"), ("h + ph, (", "h, ("), ("(pw + w) * C", "w * C"))],
    (f"{KERNELS}:column_sums", "sums[c] += ", "sums[c] -= ", "ActNorm-2d", "b"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "Minv.T), c)", "Minv.T), -c)", FOLD, "X"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "(dR, db)", "(R, db)", FOLD, "layers.0.b"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "dM = dR.T @ R", "dM = R.T @ dR", "Conv1x1-lu-2d", "L"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "(dR * R)", "dR", "ActNorm-2d", "log_s"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "_times(dR, M)", "_times(dR, M.T)", "Conv1x1-full-2d", "dX"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "_times(dR, M)", "_times(dR, Minv)", "ActNorm-2d", "dX"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "dM += part[0]", "dM[...] = part[0]", "many-rows", "layers.1.L"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "db += part[1]", "db[...] = part[1]", "many-rows", "layers.0.b"),
    (f"{REFERENCE}:Ops.mix_backward_", "self.rows(Z) - b", "self.rows(Z)", "ActNorm-2d", "log_s"),
    (f"{REFERENCE}:Ops.mix_backward_", "dM = dR.T @ R", "dM = R.T @ dR", "Conv1x1-lu-2d", "L"),
    (f"{REFERENCE}:Ops.mix_backward_", "dR @ M\n", "dR @ M.T\n", "Conv1x1-full-2d", "dX"),
    (f"{REFERENCE}:Ops.mix_backward_", "sum(dR * R, axis=0)", "sum(dR, axis=0)", "ActNorm-2d", "log_s"),
    (f"{REFERENCE}:Ops.mix_backward_", "db = self.xp.sum(dR", "db = -self.xp.sum(dR", "ActNorm-2d", "b"),
]


#: What a copied kernel is made with: left uncompiled, it meets neither Numba's files nor the caches of the original.
UNCOMPILED = {"kernel": lambda signature: lambda function: lambda char: function, "compiled": lambda function, *how: function}
FORWARD = {"Z", "logdet", "forward", "loss"}


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
                    found[".".join(inside)] = "".join(lines[start - 1:child.end_lineno])
            visit(child, inside)

    visit(ast.parse(source), ())
    return found


def mutant(target, piece, replacement):
    """A class or module, the name of its function, and a copy of that function with one piece of its source replaced."""
    module, _, path = target.partition(":")
    sources, module, names = functions(module), importlib.import_module(module), path.split(".")
    count = sources.get(path, "").count(piece)
    assert count == 1, f"{target} has {piece!r} {count} times: rewrite this row of MUTATIONS"
    holder = getattr(module, names[0])
    depth, holder = (2, holder) if isinstance(holder, type) else (1, module)
    whole, name = sources[".".join(names[:depth])], names[depth - 1]
    source = whole.replace(sources[path], sources[path].replace(piece, replacement))
    made = {}
    body = textwrap.indent(textwrap.dedent(source), "    ")
    exec(f"def make(__class__):\n{body}\n    return {name}", {**vars(module), **UNCOMPILED}, made)
    return holder, name, made["make"](holder)


def compare(case):
    if case == "likelihood":
        check_likelihood((4, 3, 4, 8))
    elif case == "dlogdet-None":
        check(*LAYERS["ActNorm-2d"], dlogdet=None)
    else:
        check(*CASES[case])


def row_id(target, piece, replacement, case, reported):
    return f"{target.partition(':')[2]}: {piece.strip()} -> {replacement.strip() or 'nothing'}, {case}"


@pytest.mark.parametrize("target, piece, replacement, case, reported", MUTATIONS, ids=[row_id(*row) for row in MUTATIONS])
def test_a_broken_term_is_found(target, piece, replacement, case, reported, monkeypatch):
    if target.startswith(REFERENCE):
        monkeypatch.setitem(_of_type, np.ndarray, Ops(array_api_compat.numpy))
    if case.startswith("blocks-"):
        small_tiles(monkeypatch)
    monkeypatch.setattr(*mutant(target, piece, piece))
    compare(case)  # making the copy is not what breaks it
    monkeypatch.setattr(*mutant(target, piece, replacement))
    with pytest.raises(AssertionError) as failure:
        compare(case)
    wrong = set(re.findall(r"(?:^|; )([\w.]+): differs", str(failure.value)))
    assert reported in wrong
    assert reported in FORWARD or not FORWARD & wrong, "the forward pass was broken too"


BACKWARD = re.compile(r"(backward_?|pull|pullback|vjp|back|scale_slope)$")


def hand_written_backwards():
    packages = [f"{package.__name__}.{info.name}" for package in (invnet.layers, invnet.nets)
                for info in pkgutil.iter_modules(package.__path__)]
    for module in [*packages, REFERENCE, ENGINE, KERNELS]:
        for path, source in functions(module).items():
            if BACKWARD.search(path) and "raise NotImplementedError" not in source:
                yield f"{module}:{path}"


def test_every_hand_written_backward_is_broken_at_least_once():
    broken = {f"{row[0]}." for row in MUTATIONS}
    missing = [name for name in hand_written_backwards() if not any(target.startswith(f"{name}.") for target in broken)]
    assert not missing, f"no row of MUTATIONS breaks {', '.join(missing)}"
