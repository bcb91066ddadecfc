"""The proof that the proof can fail: with one term of one hand-written gradient broken, the comparison with autograd fails.

A row of MUTATIONS names a function, a piece of its source that occurs once, what to write instead, the case that is
compared (an id of test_against_torch.py), and an array whose gradient must be reported wrong. Where a rewritten function
no longer has the piece, its row is to be rewritten with it. Every hand-written backward has a row.
"""

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
from test_against_torch import GLOWS, LAYERS, NETS, WITH_CONDITION, check, check_likelihood, f64, shape

CASES = {
    **LAYERS, **WITH_CONDITION, **NETS, **{f"Glow-{name}": row for name, row in GLOWS.items()},
    "gathers-3d": (invnet.ConvNet(2, (), 4, kernels=(3,), ndim=3, **f64), (2, 2, 3, 4, 5)),
    "scatters-3d": (invnet.ConvNet(4, (), 2, kernels=(3,), ndim=3, **f64), (2, 4, 3, 4, 5)),
    "many-rows": (invnet.Conv1x1(8, **f64), (3, 8, 90, 100)),
    "twice": (invnet.Chain(*[invnet.ActNorm(5, **f64), invnet.Permute.random(5)] * 2), shape(2)),
}

ACTNORM, AFFINE, COMPOSE, CONV = (f"invnet.layers.{name}" for name in ("actnorm", "channel_affine", "compose", "conv1x1"))
COUPLING, LOGIT, NET, CORE = "invnet.layers.coupling", "invnet.layers.logit", "invnet.nets.conv", "invnet.core"
REFERENCE, ENGINE, KERNELS = (f"invnet.ops.{name}" for name in ("reference", "numpy_engine", "kernels"))
FOLD, GATHER, SCATTER = "Chain-folds-ActNorm-Conv1x1", "ConvNet-gathers-throughout", "ConvNet-scatters-throughout"
RELU, LEAKY, SILU, SOFTPLUS = (f"ConvNet-{name}" for name in ("relu", "leaky_relu", "silu", "softplus"))

MUTATIONS = [  # function, piece, replacement, case, what must be reported
    # ActNorm
    (f"{ACTNORM}:ActNorm.pull", "ds * xp.exp(self.log_s.data)", "ds", "ActNorm-2d", "log_s"),
    (f"{ACTNORM}:ActNorm.pull", " + dlogdet", "", "ActNorm-0d", "log_s"),
    (f"{ACTNORM}:ActNorm.pull", "+= db", "-= db", "ActNorm-1d", "b"),
    (f"{ACTNORM}:ActNorm.pull", "self.b.grad += db", "self.b.grad[...] = db", "twice", "layers.0.b"),
    (f"{ACTNORM}:ActNorm.pull", "linalg.diagonal(dM)", "sum(dM, axis=0)", FOLD, "layers.0.log_s"),
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
    (f"{AFFINE}:Folded.pull", "db[:, None] * b1[None, :]", "0", FOLD, "layers.1.L"),
    (f"{AFFINE}:Folded.pull", "(db * b1 if", "(0 if", "Chain-folds-ActNorm-ActNorm", "layers.1.log_s"),
    (f"{AFFINE}:Folded.pull", "_product(dM, M1.T)", "_product(dM, M1)", "Chain-folds-Conv1x1-Conv1x1", "layers.1.W"),
    (f"{AFFINE}:Folded.pull", "_product(M2.T, dM)", "_product(M2, dM)", "Chain-folds-Conv1x1-Conv1x1", "layers.0.L"),
    (f"{AFFINE}:Folded.pull", "_times(M2.T, db)", "_times(M2, db)", FOLD, "layers.0.b"),
    (f"{AFFINE}:Folded.pull", "_times(M2.T, db), dlogdet", "_times(M2.T, db), 0", FOLD, "layers.0.log_s"),
    (f"{AFFINE}:Folded.pull", "b1[None, :]), db, dlogdet", "b1[None, :]), db, 0", FOLD, "layers.1.log_s"),
    # the three parametrisations of the 1x1 convolution
    (f"{CONV}:Conv1x1.pull", "(dM, dlogdet)", "(dM.T, dlogdet)", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._full_pull", " + dlogdet * Winv.T", "", "Conv1x1-full-2d", "W"),
    (f"{CONV}:Conv1x1._full_pull", "dlogdet * Winv.T", "dlogdet * Winv", "Conv1x1-full-2d", "W"),
    (f"{CONV}:Conv1x1._lu_pull", "self.P.data.T @", "self.P.data @", "Conv1x1-lu-2d", "L"),
    (f"{CONV}:Conv1x1._lu_pull", "L.T @ dLU", "L @ dLU", "Conv1x1-lu-2d", "U"),
    (f"{CONV}:Conv1x1._lu_pull", "dLU @ U.T", "dLU @ U", "Conv1x1-lu-2d", "L"),
    (f"{CONV}:Conv1x1._lu_pull", "k=-1", "k=0", "Conv1x1-lu-2d", "L"),
    (f"{CONV}:Conv1x1._lu_pull", "k=1", "k=0", "Conv1x1-lu-2d", "U"),
    (f"{CONV}:Conv1x1._lu_pull", " * s + dlogdet", " + dlogdet", "Conv1x1-lu-2d", "log_s"),
    (f"{CONV}:Conv1x1._lu_pull", " * s + dlogdet", " * s", "Conv1x1-lu-2d", "log_s"),
    (f"{CONV}:Conv1x1._householder_pull", "-B @ V @ dW.T", "-B @ V @ dW", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder_pull", " - B.T @ V @ dW", "", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder_pull", "- B.T @ V @ dW", "- B @ V @ dW", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder_pull", " + (dG + dG.T) @ V", "", "Conv1x1-householder-one-reflection", "V"),
    (f"{CONV}:Conv1x1._householder_pull", "(dG + dG.T)", "2 * dG", "Conv1x1-householder-three-reflections", "V"),
    (f"{CONV}:Conv1x1._householder_pull", "half * (", "(", "Conv1x1-householder-2d", "V"),
    (f"{CONV}:Conv1x1._householder_pull", "-B.T @ dB @ B.T", "-B @ dB @ B", "Conv1x1-householder-2d", "V"),
    # couplings
    (f"{COUPLING}:Coupling._pull", "dZ[tile, :self._C1] += dx1", "dZ[tile, :self._C1] = dx1",
     "AffineCoupling-bounded-2d", "dX"),
    (f"{COUPLING}:Coupling._pull", "dZ[tile, :self._C1] += dx1", "pass", "AdditiveCoupling-2d", "dX"),
    (f"{COUPLING}:Coupling._pull", "parameter.grad += gradient", "parameter.grad[...] = gradient",
     "Chain-shares-a-layer", "layers.0.net.W.0"),
    (f"{COUPLING}:Coupling._pull", "cond.grad[tile] += dcond", "cond.grad[tile] = dcond", "Chain-vector", "dcond"),
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
    (f"{KERNELS}:couple_backward", " * slope[r, c]", "", "AffineCoupling-sigmoid-2d", "net.b.2"),
    (f"{KERNELS}:couple_backward", "dh[r, c] = dx", "dh[r, c] = dz", "AffineCoupling-bounded-2d", "net.b.2"),
    (f"{KERNELS}:couple_backward", "dz2[r, c] = dx", "dz2[r, c] = dz", "AffineCoupling-bounded-2d", "dX"),
    (f"{KERNELS}:couple_backward", " - t[r, c]", "", "AffineCoupling-bounded-2d", "X"),
    (f"{ENGINE}:NumpyOps.couple_backward_", "slope,", "-slope,", "AffineCoupling-bounded-2d", "net.b.2"),
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
    (f"{REFERENCE}:Ops.log_scale", "-xp.expm1(log_s)", "xp.exp(log_s)", "AffineCoupling-sigmoid-2d", "net.b.2"),
    (f"{REFERENCE}:Ops.log_scale", "1 - th * th", "1 - th", "AffineCoupling-bounded-2d", "net.b.2"),
    # Logit, compositions, isometries, the default of dlogdet
    (f"{LOGIT}:Logit.backward_", "(2 * p - 1)", "(1 - 2 * p)", "Logit-2d", "dX"),
    (f"{LOGIT}:Logit.backward_", "/ (p * (1 - p))", "* (p * (1 - p))", "Logit-2d", "dX"),
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
    ("invnet.losses:gaussian_nll", "R / N", "R", "likelihood", "dZ"),
    ("invnet.losses:gaussian_nll", "-1.0 / N, Z", "1.0 / N, Z", "likelihood", "dlogdet"),
    # conditioners
    (f"{NET}:ConvNet.vjp", "insert(0, dW)", "insert(0, -dW)", RELU, "W.0"),
    (f"{NET}:ConvNet.vjp", "insert(0, db)", "insert(0, 0 * db)", RELU, "b.1"),
    (f"{NET}:ConvNet.vjp", "self._activations[i])", "None)", RELU, "dX"),
    (f"{NET}:ConvNet.vjp", "dV.append(rows.T @ each)", "dV.append(-rows.T @ each)", "ConvNet-vector-cond-2d", "V"),
    (f"{NET}:ConvNet.vjp", "dV.append(rows.T @ each)", "dV.append(rows.T @ (0 * each))", "ConvNet-spatial-cond-2d", "V"),
    (f"{NET}:ConvNet.vjp", "each @ self.V.data.T", "-each @ self.V.data.T", "ConvNet-vector-cond-2d", "dcond"),
    (f"{NET}:ConvNet._condition", "ops.xp.sum(ops.xp.reshape(dA", "ops.xp.mean(ops.xp.reshape(dA",
     "ConvNet-vector-cond-1d", "V"),
    (f"{NET}:ConvNet._condition_back", "unsqueeze(dcond)", "unsqueeze(ops.xp.flip(dcond, axis=1))",
     "ConvNet-finer-cond-2d", "dcond"),
    (f"{NET}:ConvNet._convolve_back", "ops.xp.reshape(T.T @ dA", "-ops.xp.reshape(T.T @ dA", GATHER, "W.0"),
    (f"{NET}:ConvNet._convolve_back", "(dA, M.T)", "(dA, ops.xp.flip(M, axis=0).T)", GATHER, "dX"),
    (f"{NET}:ConvNet._convolve_back", "columns.T @ T", "ops.xp.flip(columns, axis=1).T @ T", SCATTER, "W.0"),
    (f"{NET}:ConvNet._convolve_back", "(columns, M)", "(columns, ops.xp.flip(M, axis=0))", SCATTER, "dX"),
    (f"{REFERENCE}:Ops.activate_backward_", "(S > 0, dH, xp.zeros_like(dH))", "(S > 0, dH, dH)", RELU, "W.0"),
    (f"{REFERENCE}:Ops.activate_backward_", "0.01 * dH", "0.02 * dH", LEAKY, "W.0"),
    (f"{REFERENCE}:Ops.activate_backward_", "-dH * xp.expm1(-S)", "dH * xp.exp(-S)", SOFTPLUS, "W.0"),
    (f"{REFERENCE}:Ops.activate_backward_", "(1 - sigmoid)", "sigmoid", SILU, "W.0"),
    (f"{REFERENCE}:Ops.activate_backward_", "xp.sum(dH", "-xp.sum(dH", RELU, "b.0"),
    (f"{ENGINE}:NumpyOps.activate_backward_", "_SLOPE[activation]", "0.02", RELU, "W.0"),
    (f"{ENGINE}:NumpyOps.activate_backward_", "_SLOPE[activation]", "0.02", LEAKY, "W.0"),
    (f"{KERNELS}:relu_backward", "if H[r, c] > 0", "if dH[r, c] > 0", RELU, "W.0"),
    (f"{KERNELS}:relu_backward", "db[c] += g", "db[c] = g", LEAKY, "b.0"),
    # the operations below them
    (f"{REFERENCE}:Ops.shift_add", "X[there] += part[here]", "X[here] += part[there]", "gathers-3d", "dX"),
    (f"{REFERENCE}:Ops.taps", "T[here] = X[there]", "T[there] = X[here]", "scatters-3d", "dX"),
    *[(f"{KERNELS}:taps_kernels", tap, tap.replace(index, wrong), case, "dX")
      for tap, case in (("P[n, d + i, h + j, w * C + c] += ", "gathers-3d"), (" = P[n, d + i, h + j, w * C + c]", "scatters-3d"))
      for index, wrong in (("d + i", "d + kd - 1 - i"), ("h + j", "h + kh - 1 - j"), ("w * C + c", "w * C + (c + C) % run"))],
    (f"{KERNELS}:pad", "pd <= d < pd + D", "pd <= d < D", "scatters-3d", "W.0"),
    (f"{KERNELS}:pad", "ph <= h < ph + H", "ph <= h < H", "scatters-3d", "W.0"),
    (f"{KERNELS}:crop", "P[n, d + pd, h + ph]", "P[n, d, h]", "gathers-3d", "dX"),
    (f"{KERNELS}:crop", "(pw + w) * C", "w * C", "gathers-3d", "dX"),
    (f"{KERNELS}:subtract_bias_sum", "R[r, c] -= b[c]", "pass", FOLD, "X"),
    (f"{KERNELS}:subtract_bias_sum", "db[c] += dR", "db[c] -= dR", "ActNorm-2d", "b"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "dM = dR.T @ R", "dM = R.T @ dR", "Conv1x1-lu-2d", "L"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "np.matmul(dR, M,", "np.matmul(dR, M.T,", "Conv1x1-full-2d", "dX"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "(dR * R)", "dR", "ActNorm-2d", "log_s"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "dR *= M", "dR *= Minv", "ActNorm-2d", "dX"),
    (f"{ENGINE}:NumpyOps.mix_backward_", "dM[...] += part[0]", "dM[...] = part[0]", "many-rows", "L"),
    (f"{REFERENCE}:Ops.mix_backward_", "self.rows(Z) - b", "self.rows(Z)", "ActNorm-2d", "log_s"),
    (f"{REFERENCE}:Ops.mix_backward_", "dM = dR.T @ R", "dM = R.T @ dR", "Conv1x1-lu-2d", "L"),
    (f"{REFERENCE}:Ops.mix_backward_", "dR @ M\n", "dR @ M.T\n", "Conv1x1-full-2d", "dX"),
    (f"{REFERENCE}:Ops.mix_backward_", "sum(dR * R, axis=0)", "sum(dR, axis=0)", "ActNorm-2d", "log_s"),
    (f"{REFERENCE}:Ops.mix_backward_", "db = self.xp.sum(dR", "db = -self.xp.sum(dR", "ActNorm-2d", "b"),
]


def locate(target):
    """The module of "module:Class.function" or "module:function", what holds the function, and the function's name."""
    module, _, path = target.partition(":")
    module, (*cls, name) = importlib.import_module(module), path.split(".")
    return module, getattr(module, cls[0]) if cls else module, name


def mutant(target, piece, replacement):
    """The function with one piece of its source replaced; kernels are left uncompiled."""
    module, holder, name = locate(target)
    function = vars(holder)[name]
    source = inspect.getsource(getattr(function, "py_func", function))
    source = textwrap.dedent(source)[textwrap.dedent(source).index("def "):]
    assert source.count(piece) == 1, f"{target} has {piece!r} {source.count(piece)} times: rewrite this row of MUTATIONS"
    body = textwrap.indent(source.replace(piece, replacement), "    ")
    made = {}
    exec(f"def make(__class__):\n{body}\n    return {name}", {**vars(module), "jit": lambda kernel: kernel}, made)
    return made["make"](holder)


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
    compare(case)
    _, holder, name = locate(target)
    monkeypatch.setattr(holder, name, mutant(target, piece, replacement))
    with pytest.raises(AssertionError) as failure:
        compare(case)
    wrong = re.findall(r"(?:^|; )([\w.]+): differs", str(failure.value))
    assert reported in wrong
    assert not {"Z", "logdet", "forward", "loss"} & set(wrong), "the forward pass was broken too"


def hand_written_backwards():
    modules = [importlib.import_module(info.name) for package in (invnet.layers, invnet.nets)
               for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    for module in [*modules, *map(importlib.import_module, (REFERENCE, ENGINE, KERNELS))]:
        classes = [value for value in vars(module).values() if isinstance(value, type)]
        for function in [function for holder in [module, *classes] for function in vars(holder).values()]:
            function = getattr(function, "py_func", function)
            if (inspect.isfunction(function) and function.__module__ == module.__name__
                    and re.search(r"(backward_?|pull|vjp|_back)$", function.__name__)
                    and "raise NotImplementedError" not in inspect.getsource(function)):
                yield f"{module.__name__}:{function.__qualname__}"


def test_every_hand_written_backward_is_broken_at_least_once():
    missing = sorted(set(hand_written_backwards()) - {row[0] for row in MUTATIONS})
    assert not missing, f"no row of MUTATIONS breaks {', '.join(missing)}"
