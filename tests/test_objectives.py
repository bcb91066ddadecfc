"""Objectives: values and gradients against torch autograd and differences, the path gradient, bridges, errors,
memory.
"""

import copy
import importlib.util
import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from rewriting import mutant
from test_bases import FlatNormal, factor, mixture
from torch import distributions as D
from twins import assert_same, twin_with

import invnet
from invnet import Condition, Flow, Glow, Reverse, objectives
from invnet.bases import DiagonalNormal, FullNormal, GaussianMixture, Normal
from invnet.objectives import likelihood, variational

f64 = {"dtype": "float64"}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def flow_of(base=None, reverse=False, C=3, **options):
    """A Flow on vectors with random weights, from data to noise, or a layer from noise to data turned around."""
    net = Glow(C, 4, 1, 2, ndim=0, activation="softplus", **f64, **options)
    for i, parameter in enumerate(net.parameters()):
        parameter.data += 0.2 * noise(*parameter.data.shape, seed=i)
    return Flow(Reverse(net) if reverse else net, (C,), base)


def standard():
    return D.Independent(D.Normal(torch.zeros(3).double(), 1.0), 1)


NORMALS = {
    "Normal": (lambda: Normal(), standard),
    "DiagonalNormal": (
        lambda: DiagonalNormal([0.5, -1, 0], [0.5, 1, 2], **f64),
        lambda mean, log_s: D.Independent(D.Normal(mean, log_s.exp()), 1),
    ),
    "FullNormal": (lambda: FullNormal([0.5, -1, 0], [[2, 1, 0], [1, 1, 0.2], [0, 0.2, 3]], **f64), FlatNormal),
}
BASES = NORMALS | {"GaussianMixture": (lambda: GaussianMixture(noise(4, 3), 0.8, [1, 2, 3, 4], **f64), mixture)}


def torch_log_p(x):
    """A target with a gradient in every direction."""
    return -0.5 * (x**2).sum(1) - 0.3 * (x[:, 0] - x[:, 1] ** 2) ** 2 + torch.sin(x[:, 2])


log_p = objectives.from_torch(torch_log_p)


class Twin:
    """The flow in torch: its leaves by the names of its parameters, log q(x), and samples of a given noise."""

    def __init__(self, flow, make, cond=None):
        tensors = {id(state): torch.tensor(state.data) for _, state in flow.named_state()}
        self.leaves = {name: tensors[id(parameter)].requires_grad_() for name, parameter in flow.named_parameters()}
        self.layer, self.inverse = (
            twin_with(layer, lambda state: tensors[id(state)]).forward for layer in (flow.layer, Reverse(flow.layer))
        )
        self.base = {name.removeprefix("base."): leaf for name, leaf in self.leaves.items() if name.startswith("base.")}
        self.make, self.cond = make, None if cond is None else torch.tensor(cond, requires_grad=True)

    def log_q(self, x):
        z, logdet = self.layer(x, self.cond)
        return self.make(**self.base).log_prob(z) + logdet

    def log_q_of_constants(self, x):
        """log q whose parameters and condition are constants."""
        everything = [*self.leaves.values(), *([] if self.cond is None else [self.cond])]
        for leaf in everything:
            leaf.requires_grad_(False)
        log_q = self.log_q(x)
        for leaf in everything:
            leaf.requires_grad_(True)
        return log_q

    def sample(self, Z):
        """x with its noise reparametrised: that which gives the samples Z of the base."""
        Z, base = torch.tensor(Z), self.base
        if "L" in base:
            L = factor(base["L"], base["log_s"])
            E = torch.linalg.solve_triangular(L.detach(), (Z - base["mean"].detach()).T, upper=False).T
            Z = base["mean"] + E @ L.T
        elif base:
            Z = base["mean"] + base["log_s"].exp() * ((Z - base["mean"]) / base["log_s"].exp()).detach()
        return self.inverse(Z, self.cond)[0]

    def gradients(self):
        found = {name: leaf.grad.numpy() for name, leaf in self.leaves.items()}
        return found if self.cond is None else {**found, "cond": self.cond.grad.numpy()}


def by_hand(flow, loss, cond=None):
    found = {"loss": np.array(loss), **{name: parameter.grad.copy() for name, parameter in flow.named_parameters()}}
    return found if cond is None else {**found, "cond": cond.grad}


def check_forward(flow, make, cond=None):
    X = noise(6, 3, seed=4)
    flow.zero_grad()
    loss = objectives.forward_kl(flow, X, cond)
    twin = Twin(flow, make, cond and cond.array)
    expected = -twin.log_q(torch.tensor(X)).mean()
    expected.backward()
    assert_same(by_hand(flow, loss, cond), {"loss": expected.item(), **twin.gradients()})


def check_reverse(flow, make, path=False, beta=0.7, cond=None):
    n = 6
    flow.zero_grad()
    loss = objectives.reverse_kl(flow, log_p, n, seed=3, beta=beta, path=path, cond=cond)
    twin = Twin(flow, make, cond and cond.array)
    x = twin.sample(flow.noise(n, seed=3))
    expected = ((twin.log_q_of_constants if path else twin.log_q)(x) - beta * torch_log_p(x)).mean()
    expected.backward()
    assert_same(by_hand(flow, loss, cond), {"loss": expected.item(), **twin.gradients()})


ORIENTATIONS = pytest.mark.parametrize("reverse", [False, True], ids=["data-to-noise", "noise-to-data"])


@ORIENTATIONS
@pytest.mark.parametrize("name", BASES)
def test_forward_kl_agrees_with_autograd(name, reverse):
    make_base, make = BASES[name]
    check_forward(flow_of(make_base(), reverse), make)


@ORIENTATIONS
@pytest.mark.parametrize("path", [False, True], ids=["total", "path"])
@pytest.mark.parametrize("name", NORMALS)
def test_reverse_kl_agrees_with_autograd(name, path, reverse):
    make_base, make = NORMALS[name]
    check_reverse(flow_of(make_base(), reverse), make, path)


@ORIENTATIONS
@pytest.mark.parametrize("path", [False, True], ids=["total", "path"])
def test_conditional_objectives_agree_with_autograd(path, reverse):
    flow = flow_of(None, reverse, cond_channels=2)
    check_forward(flow, standard, cond=Condition(noise(6, 2, seed=9)))
    check_reverse(flow, standard, path, cond=Condition(noise(6, 2, seed=9)))


def check_differences(flow, objective, h=1e-5):
    """Of the total gradient, with the same noise on both sides."""
    flow.zero_grad()
    objective()
    gradients = [parameter.grad.copy() for parameter in flow.parameters()]
    for parameter, gradient in zip(flow.parameters(), gradients):
        direction, kept, values = noise(*parameter.data.shape), parameter.data.copy(), []
        for sign in (1, -1):
            parameter.data[...] = kept + sign * h * direction
            values.append(objective())
        parameter.data[...] = kept
        rounding = 1e-15 * max(1, abs(values[0])) / h
        assert math.isclose(
            (values[0] - values[1]) / (2 * h), (gradient * direction).sum(), rel_tol=1e-6, abs_tol=10 * rounding
        )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", NORMALS)
def test_gradients_are_those_of_differences(name, reverse):
    flow, X = flow_of(NORMALS[name][0](), reverse), noise(6, 3, seed=4)
    check_differences(flow, lambda: objectives.forward_kl(flow, X))
    check_differences(flow, lambda: objectives.reverse_kl(flow, log_p, 6, seed=3, beta=0.7))


class Cubic(invnet.Layer):
    """A user's own layer from noise to data, by the public contract alone: X = a (Z + Z^3 / 3)."""

    def __init__(self):
        self.log_a = invnet.Parameter(np.array([0.3]))

    def forward(self, X, cond=None):
        a = np.exp(self.log_a.data)
        return a * (X + X**3 / 3), np.log(a * (1 + X**2)).sum(axis=1)

    def inverse(self, Z, cond=None):
        Z, X = Z / np.exp(self.log_a.data), np.cbrt(Z)
        for _ in range(100):
            X = X - (X + X**3 / 3 - Z) / (1 + X**2)
        return X

    def backward(self, dZ, Z, dlogdet=None, cond=None):
        X = self.inverse(Z)
        dlogdet = invnet.core.as_dlogdet(dlogdet, Z)[:, None]
        self.log_a.grad += np.sum(dZ * Z + dlogdet)
        return dZ * np.exp(self.log_a.data) * (1 + X**2) + dlogdet * 2 * X / (1 + X**2), X


def image_flow():
    flow = Flow(Glow(1, 4, 1, 1, activation="softplus", **f64), (1, 4, 2), DiagonalNormal(noise(1, 4, 2), 0.7, **f64))
    for parameter in flow.layer.parameters():
        parameter.data += 0.2 * noise(*parameter.data.shape)
    return flow


@pytest.mark.parametrize(
    "flow",
    [Flow(Reverse(Cubic()), (3,), DiagonalNormal([0.5, -1, 0], **f64)), image_flow()],
    ids=["user's own layer", "images"],
)
def test_reverse_kl_of_other_flows_has_the_gradient_of_differences(flow):
    quartic = lambda X: (-0.25 * (X**4).reshape(len(X), -1).sum(axis=1), -(X**3))
    check_differences(flow, lambda: objectives.reverse_kl(flow, quartic, 5, seed=2))


def test_gradients_are_added():
    flow = flow_of(DiagonalNormal(np.zeros(3), **f64))
    for objective in (
        lambda: objectives.forward_kl(flow, noise(4, 3)),
        lambda: objectives.reverse_kl(flow, log_p, 4, seed=1),
        lambda: objectives.reverse_kl(flow, log_p, 4, seed=1, path=True),
    ):
        flow.zero_grad()
        objective()
        once = [parameter.grad.copy() for parameter in flow.parameters()]
        objective()
        for parameter, gradient in zip(flow.parameters(), once):
            np.testing.assert_allclose(parameter.grad, 2 * gradient, rtol=1e-9, atol=1e-12)


# The path gradient


def gradient_of(flow, target, n, seed, path):
    flow.zero_grad()
    objectives.reverse_kl(flow, target, n, seed, path=path)
    return np.concatenate([parameter.grad.ravel() for parameter in flow.parameters()])


def log_density_of(flow):
    """log q of a copy of the flow, with its gradient, as a target."""
    flow = copy.deepcopy(flow)

    def log_q(X):
        Z, logdet = flow.layer.forward(X)
        return flow.base.log_prob(Z) + logdet, flow.layer.backward(flow.base.log_prob_backward(1.0, Z), Z, 1.0)[0]

    return log_q


@ORIENTATIONS
@pytest.mark.parametrize("name", NORMALS)
def test_where_q_is_p_the_path_gradient_is_zero_for_every_batch_and_the_total_gradient_is_not(name, reverse):
    flow = flow_of(NORMALS[name][0](), reverse)
    target = log_density_of(flow)
    for n in (1, 7):
        path, total = (gradient_of(flow, target, n, n, path) for path in (True, False))
        assert abs(path).max() < 1e-12 * abs(total).max() * 10
        assert abs(total).max() > 0.1


def test_path_and_total_gradient_have_the_same_mean():
    flow = flow_of(DiagonalNormal([0.5, -1, 0], **f64))
    difference = np.array(
        [gradient_of(flow, log_p, 50, seed, True) - gradient_of(flow, log_p, 50, seed, False) for seed in range(300)]
    )
    errors = difference.std(axis=0) / math.sqrt(len(difference))
    assert (abs(difference.mean(axis=0)) < 4.5 * errors + 1e-12).all() and abs(difference).max() > 0.01


# What it is for


def test_reverse_kl_finds_a_normal_and_its_constant():
    """q is exact at the end: minus the loss is log Z, for every batch where q is p."""
    covariance, log_Z = np.array([[2.0, 1.2], [1.2, 1.0]]), 3.0
    precision = np.linalg.inv(covariance)
    constant = log_Z - 0.5 * np.log(np.linalg.det(2 * math.pi * covariance))

    def log_p(X):
        R = (X - np.array([1.0, -2.0])) @ precision
        return constant - 0.5 * (R * (X - np.array([1.0, -2.0]))).sum(axis=1), -R

    flow = Flow(invnet.Chain(invnet.ActNorm(2, **f64), invnet.Conv1x1(2, **f64)), (2,))
    opt, rng = (
        invnet.optim.Adam(flow.parameters(), lr=invnet.optim.schedule(0.05, cosine=600)),
        np.random.default_rng(0),
    )
    for _ in range(600):
        loss = objectives.reverse_kl(flow, log_p, 64, rng, path=True)
        invnet.optim.clip_by_global_norm(flow.parameters(), 10.0)
        opt.step()
        flow.zero_grad()
    assert abs(loss + log_Z) < 1e-6
    np.testing.assert_allclose(np.cov(flow.sample(100000, seed=1).T), covariance, atol=0.05)


@pytest.mark.parametrize("base", [lambda: DiagonalNormal([0.0, 0.0]), lambda: FullNormal([0.0, 0.0])])
def test_forward_kl_trains_a_base_alone(base):
    X = noise(4000, 2).astype("float32") * np.float32([0.5, 2]) + np.float32([3, -1])
    flow = Flow(invnet.Chain(), (2,), base())
    opt = invnet.optim.Adam(flow.parameters(), lr=0.05)
    for _ in range(300):
        objectives.forward_kl(flow, X)
        invnet.optim.clip_by_global_norm(flow.parameters(), 10.0)
        opt.step()
        flow.zero_grad()
    np.testing.assert_allclose(flow.base.mean.data, X.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(np.cov(flow.sample(50000, seed=0).T), np.cov(X.T), atol=0.1)


def test_a_mixture_base_learns_two_modes():
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((2000, 1)) * 0.3 + np.where(rng.random((2000, 1)) < 0.25, -2, 2)).astype("float32")
    flow = Flow(invnet.Chain(), (1,), GaussianMixture([[-1.0], [1.0]]))
    opt = invnet.optim.Adam(flow.parameters(), lr=0.03)
    for _ in range(400):
        objectives.forward_kl(flow, X)
        invnet.optim.clip_by_global_norm(flow.parameters(), 10.0)
        opt.step()
        flow.zero_grad()
    np.testing.assert_allclose(flow.base.means.data.ravel(), [-2, 2], atol=0.06)
    weights = np.exp(flow.base.logits.data)
    assert abs(weights[0] / weights.sum() - (X < 0).mean()) < 0.02


def test_annealing_is_that_of_the_paper():
    beta = objectives.annealing()
    assert [beta(step) for step in (0, 1, 5000, 9900, 10**6)] == [0.01, 0.01 + 1e-4, 0.51, 1.0, 1.0]
    assert objectives.annealing(0.5, 10)(2) == 0.7


@pytest.mark.parametrize("objective", ["forward", "reverse", "path"])
def test_memory_does_not_grow_with_depth(objective):
    def peak(steps):
        flow = Flow(Glow(8, 32, 1, steps, ndim=0), (8,))
        objectives.reverse_kl(
            flow, lambda X: (-0.5 * (X * X).sum(axis=1), -X), 2, 0, path=True
        )  # makes an engine's tables of the model
        flow.zero_grad()
        X = noise(20000, 8).astype("float32")
        tracemalloc.start()
        if objective == "forward":
            objectives.forward_kl(flow, X)
        else:
            objectives.reverse_kl(flow, lambda X: (-0.5 * (X * X).sum(axis=1), -X), 20000, 0, path=objective == "path")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    before = invnet.num_threads()
    invnet.set_num_threads(1)
    try:
        peak(4)  # compiles kernels, makes the thread's tile of scratch memory
        peaks = {steps: peak(steps) for steps in (4, 16, 64)}
    finally:
        invnet.set_num_threads(before)
    assert max(peaks.values()) <= 1.02 * min(peaks.values()) + 16384, peaks


# Bridges


def numpy_log_p(X):
    return -0.5 * (X**2).sum(axis=1) - 0.3 * (X[:, 0] - X[:, 1] ** 2) ** 2 + np.sin(X[:, 2])


def closed_form(X):
    R = 0.6 * (X[:, 0] - X[:, 1] ** 2)
    return numpy_log_p(X), -X + np.stack([-R, 2 * X[:, 1] * R, np.cos(X[:, 2])], axis=1)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
def test_a_torch_function_gives_value_and_gradient(dtype, tolerance):
    X = noise(50, 3).astype(dtype)
    for found, expected in zip(log_p(X), closed_form(X)):
        assert isinstance(found, np.ndarray) and found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_torch_gets_the_memory_of_the_array():
    X, seen = noise(5, 3), []
    objectives.from_torch(lambda x: seen.append(x.data_ptr()) or x.sum(1))(X)
    assert seen == [X.ctypes.data]


def test_torch_takes_read_only_arrays_and_works_without_gradients_around_it():
    X = noise(5, 3)
    X.flags.writeable = False
    with torch.no_grad():
        np.testing.assert_allclose(log_p(X)[1], closed_form(X)[1])


def test_torch_takes_images_of_any_strides():
    X = noise(5, 2, 3, 4).transpose(0, 3, 1, 2)[:, ::2]
    value, gradient = objectives.from_torch(lambda x: (x**3).flatten(1).sum(1))(X)
    np.testing.assert_allclose(gradient, 3 * X**2)
    np.testing.assert_allclose(value, (X**3).sum(axis=(1, 2, 3)))


def test_differences_give_value_and_gradient():
    for dtype, tolerance in (("float64", 1e-8), ("float32", 1e-6)):
        X = noise(50, 3).astype(dtype)
        value, gradient = objectives.from_differences(numpy_log_p)(X)
        assert value.dtype == gradient.dtype == dtype
        np.testing.assert_allclose(gradient, closed_form(X.astype("float64"))[1], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(value, numpy_log_p(X), rtol=1e-6, atol=1e-6)
    images = noise(4, 2, 3)
    np.testing.assert_allclose(
        objectives.from_differences(lambda X: (X**2).sum(axis=(1, 2)))(images)[1], 2 * images, atol=1e-8
    )


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_a_jax_function_gives_value_and_gradient():
    import jax
    import jax.numpy as jnp

    def function(x):
        return -0.5 * (x**2).sum(1) - 0.3 * (x[:, 0] - x[:, 1] ** 2) ** 2 + jnp.sin(x[:, 2])

    for dtype in ("float32", "float64"):
        X = noise(50, 3).astype(dtype)
        for jax_log_p in (objectives.from_jax(function), objectives.from_jax(jax.jit(function))):
            for found, expected in zip(jax_log_p(X), closed_form(X)):
                assert isinstance(found, np.ndarray) and found.dtype == dtype
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"from_jax.*\(5,\).*\(5, 3\)"):
        objectives.from_jax(lambda x: x)(noise(5, 3))


def test_nothing_is_imported_before_a_bridge_is_called():
    code = "import invnet, sys; assert not {'torch', 'jax', 'cupy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Mistakes


def reverse(log_p, **options):
    return objectives.reverse_kl(flow_of(), log_p, **{"n": 4, "seed": 0, **options})


def at_third(value, gradient):
    """A density that is `value`, `gradient` at the third sample."""

    def log_p(X):
        values, gradients = np.zeros(len(X)), np.zeros_like(X)
        values[2], gradients[2, 1] = value, gradient
        return values, gradients

    return log_p


MISTAKES = {
    "no gradient": (
        lambda: reverse(numpy_log_p),
        TypeError,
        r"value \(4,\) and gradient \(4, 3\); got shape \(4,\): from_torch",
    ),
    "tensors": (
        lambda: reverse(lambda X: (torch_log_p(torch.tensor(X)), torch.tensor(X))),
        TypeError,
        "ndarray; got Tensor",
    ),
    "shape of the value": (lambda: reverse(lambda X: (X, X)), ValueError, r"value \(4,\).*got shape \(4, 3\) and"),
    "shape of the gradient": (
        lambda: reverse(lambda X: (X[:, 0], X[:, :2])),
        ValueError,
        r"gradient \(4, 3\); got shape \(4,\) and shape \(4, 2\)",
    ),
    "one value for all": (lambda: reverse(lambda X: (X.sum(), X)), TypeError, "ndarray; got float64"),
    "NaN": (
        lambda: reverse(at_third(math.nan, 0)),
        FloatingPointError,
        r"log p is not finite at 1 of 4.*sample 2 it is nan, with x = \[.*,.*,.*\]",
    ),
    "outside the support": (lambda: reverse(at_third(-math.inf, 0)), FloatingPointError, "sample 2 it is -inf"),
    "infinite gradient": (
        lambda: reverse(at_third(0, math.inf)),
        FloatingPointError,
        r"gradient of log p.*sample 2 it is \[ *0., inf, *0.\]",
    ),
    "density of another dimension": (lambda: reverse(invnet.data.Banana()), ValueError, r"Banana.*\(N, 2\).*\(4, 3\)"),
    "no samples": (lambda: reverse(log_p, n=0), ValueError, "integer from 1; got 0"),
    "a half sample": (lambda: reverse(log_p, n=1.5), ValueError, "1.5"),
    "beta": (lambda: reverse(log_p, beta=-1), ValueError, "beta.*-1"),
    "a learned mixture": (
        lambda: objectives.reverse_kl(flow_of(GaussianMixture(noise(2, 3), **f64)), log_p, 4),
        ValueError,
        "learned GaussianMixture.*learn=False",
    ),
    "shape of the data": (lambda: objectives.forward_kl(flow_of(), noise(4, 2)), ValueError, r"\(N, 3\).*\(4, 2\)"),
    "no data": (lambda: objectives.forward_kl(flow_of(), noise(0, 3)), ValueError, r"at least one.*\(0, 3\)"),
    "data that are NaN": (
        lambda: objectives.forward_kl(flow_of(), noise(3, 3) * np.nan),
        FloatingPointError,
        "log q.*3 of 3 samples.*sample 0",
    ),
    "data outside the base": (
        lambda: objectives.forward_kl(Flow(invnet.Chain(), (2,), invnet.Uniform()), np.array([[0.5, 0.5], [2.0, 0.5]])),
        FloatingPointError,
        r"sample 1 it is -inf, with x = \[2. *, 0.5 *\]",
    ),
    "no tensor": (
        lambda: reverse(objectives.from_torch(lambda x: x.detach().numpy()[:, 0])),
        TypeError,
        "tensor; got ndarray",
    ),
    "detached": (lambda: reverse(objectives.from_torch(lambda x: x.detach().sum(1))), ValueError, "detached from it"),
    "shape in torch": (lambda: reverse(objectives.from_torch(lambda x: x.sum())), ValueError, r"\(4,\); got \(\)"),
    "shape of differences": (
        lambda: reverse(objectives.from_differences(lambda X: X)),
        ValueError,
        r"\(4,\); got \(4, 3\)",
    ),
    "step": (lambda: objectives.from_differences(numpy_log_p, 0.0), ValueError, "positive.*0.0"),
    "start of annealing": (lambda: objectives.annealing(start=2), ValueError, "0 to 1.*2"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_error_says_what_was_required_and_what_came(name):
    mistake, kind, text = MISTAKES[name]
    with pytest.raises(kind, match=text):
        mistake()


def test_a_mistake_leaves_the_gradients_as_they_were():
    flow = flow_of()
    with pytest.raises(FloatingPointError):
        objectives.reverse_kl(flow, at_third(math.nan, 0), 4, 0)
    assert all((parameter.grad == 0).all() for parameter in flow.parameters())


# Broken once


MUTATIONS = [  # function, piece, replacement, comparison
    ("likelihood:forward_kl", "+ logdet", "- logdet", check_forward),
    ("likelihood:forward_kl", "return -float", "return float", check_forward),
    ("likelihood:add_likelihood_gradient", "(-1.0 / N, Z)", "(1.0 / N, Z)", check_forward),
    ("likelihood:add_likelihood_gradient", "Z, -1.0 / N, cond", "Z, 1.0 / N, cond", check_forward),
    ("likelihood:add_likelihood_gradient", "(-1.0 / N, Z)", "(-1.0, Z)", check_forward),
    ("variational:reverse_kl", "- logdet", "+ logdet", check_reverse),
    ("variational:reverse_kl", "log_q - beta * value", "log_q - value", check_reverse),
    ("variational:reverse_kl", "-beta / n * gradient", "-1 / n * gradient", check_reverse),
    ("variational:reverse_kl", "-beta / n * gradient", "beta / n * gradient", check_reverse),
    ("variational:reverse_kl", "X, -1.0 / n", "X, 1.0 / n", check_reverse),
    ("variational:reverse_kl", "dZ += flow.base.log_prob_backward(1.0 / n, Z)", "pass", check_reverse),
    ("variational:reverse_kl", "flow.base.sample_backward(dZ, Z)", "pass", check_reverse),
    (
        "variational:reverse_kl",
        "add_likelihood_gradient(flow, Z, cond)",
        "pass",
        lambda *how: check_reverse(*how, path=True),
    ),
]


@pytest.mark.parametrize(
    "target, piece, replacement, check", MUTATIONS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_broken_term_is_found(target, piece, replacement, check, monkeypatch):
    def compare():
        make_base, make = NORMALS["DiagonalNormal"]
        check(flow_of(make_base()), make)

    def patch(replacement):
        module, name, function = mutant(f"invnet.objectives.{target}", piece, replacement)
        for place in (module, objectives, likelihood, variational):
            if hasattr(place, name):
                monkeypatch.setattr(place, name, function)

    patch(piece)
    compare()
    patch(replacement)
    with pytest.raises(AssertionError):
        compare()
