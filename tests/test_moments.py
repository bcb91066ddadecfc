"""Moments through a network: exact where they must be, near to sampling elsewhere, checked arguments."""

import numpy as np
import pytest
from tutorial import flow

import invnet
from invnet.inference import Cubature, Linear, MonteCarlo, Unscented, inverse_pushforward, pushforward

METHODS = {
    "linear": Linear(),
    "unscented": Unscented(),
    "unscented, near": Unscented(1e-3, 2.0, 0.0),
    "cubature": Cubature(),
}
MEAN, COV = np.array([1.5, 0.5]), np.array([[0.3, 0.1], [0.1, 0.2]])


class Quadratic(invnet.Layer):
    """z1 = x1, z2 = x2 + x1^2 + x1 / 2: the square of a Gaussian in closed form."""

    def forward(self, X, cond=None):
        return np.stack([X[:, 0], X[:, 1] + X[:, 0] ** 2 + X[:, 0] / 2], axis=1), np.zeros(len(X))

    def inverse(self, Z, cond=None):
        return np.stack([Z[:, 0], Z[:, 1] - Z[:, 0] ** 2 - Z[:, 0] / 2], axis=1)

    def backward(self, dZ, Z, dlogdet=None, cond=None):
        X = self.inverse(Z)
        return np.stack([dZ[:, 0] + (2 * X[:, 0] + 0.5) * dZ[:, 1], dZ[:, 1]], axis=1), X


def gaussians(N, D, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((N, D, D))
    return rng.standard_normal((N, D)), 0.1 * root @ root.mT + 0.05 * np.eye(D)


def affine():
    net = invnet.Chain(invnet.ActNorm(3, dtype="float64"), invnet.Conv1x1(3, "full", seed=1, dtype="float64"))
    net.layers[0].log_s.data[...], net.layers[0].b.data[...] = [0.3, -0.5, 0.1], [1.0, -2.0, 0.5]
    return net


def bent(D=3):
    net = invnet.NSF(D, 5, 2, bins=4, bound=4.0, activation="silu", dtype="float64")
    for i, parameter in enumerate(net.parameters()):
        parameter.data += 0.2 * np.random.default_rng(i).standard_normal(parameter.data.shape)
    return net


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_exact_where_the_network_is_affine(method):
    net, (mean, cov) = affine(), gaussians(4, 3)
    b = net.forward(np.zeros((1, 3)))[0]
    A = (net.forward(np.eye(3))[0] - b).T
    for moved, M, expected in (
        (pushforward(net, mean, cov, method), A, mean @ A.T + b),
        (inverse_pushforward(net, mean, cov, method), np.linalg.inv(A), (mean - b) @ np.linalg.inv(A).T),
    ):
        np.testing.assert_allclose(moved.mean, expected, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(moved.cov, M @ cov @ M.T, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(moved.cross, cov @ M.T, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("net", [bent(), flow()], ids=["NSF", "tutorial"])
def test_back_from_where_the_tangent_led(net):
    mean, cov = gaussians(5, 3 if net.__class__ is invnet.NSF else 2)
    there = pushforward(net, mean, cov)
    back = inverse_pushforward(net, there.mean, there.cov)
    np.testing.assert_allclose(back.mean, mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(back.cov, cov, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(back.cross.mT, there.cross, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "method",
    [Unscented(), Unscented(0.5, 1.0, 0.3), Unscented(1e-3, 2.0, 0.0), Cubature()],
    ids=["default", "wide", "near", "cubature"],
)
def test_the_mean_of_a_quadratic_is_exact(method):
    got = pushforward(Quadratic(), MEAN, COV, method).mean
    np.testing.assert_allclose(got, [1.5, 0.5 + 1.5**2 + 0.3 + 0.75], rtol=1e-8)


def test_the_default_is_exact_for_the_variance_of_a_square():
    """Cov of (x1, x2 + x1^2 + x1/2): with three deviations the fourth moment of x1 is met."""
    got = pushforward(Quadratic(), MEAN, np.diag([0.3, 0.2]), Unscented())
    slope = 2 * 1.5 + 0.5
    np.testing.assert_allclose(
        got.cov, [[0.3, slope * 0.3], [slope * 0.3, slope**2 * 0.3 + 2 * 0.3**2 + 0.2]], rtol=1e-12
    )
    np.testing.assert_allclose(got.cross, [[0.3, slope * 0.3], [0, 0.2]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("net, D", [(flow(), 2), (bent(), 3)], ids=["tutorial", "NSF"])
@pytest.mark.parametrize("move", [pushforward, inverse_pushforward])
def test_near_to_sampling_where_a_gaussian_is_narrow(net, D, move):
    mean, cov = gaussians(2, D)
    cov = 1e-5 * cov  # what a line misses of the map is then a percent of a deviation
    sampled = move(net, mean, cov, MonteCarlo(100_000))  # good to some 0.003 deviations
    scale = abs(sampled.cov).max(axis=(1, 2))
    for name, method in METHODS.items():
        got = move(net, mean, cov, method)
        assert (abs(got.mean - sampled.mean).max(axis=1) < 0.05 * scale**0.5).all(), name
        assert (abs(got.cov - sampled.cov).max(axis=(1, 2)) < 0.05 * scale).all(), name
        assert (abs(got.cross - sampled.cross).max(axis=(1, 2)) < 0.05 * scale).all(), name


def test_the_figures_of_the_tutorials_flow():
    got = {name: pushforward(flow(), MEAN, COV, method).cov[0, 0] for name, method in METHODS.items()}
    expected = {"linear": 0.6558, "unscented": 0.6372, "unscented, near": 0.6563}
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=5e-5)
    assert pushforward(flow(), MEAN, COV, MonteCarlo(1_000_000)).cov[0, 0] == pytest.approx(0.6330, abs=2e-3)


@pytest.mark.parametrize(
    "method",
    ["linear", "unscented", "cubature", MonteCarlo(50)],
    ids=["linear", "unscented", "cubature", "monte_carlo"],
)
def test_any_batch_gives_what_each_gives_alone(method):
    net, (mean, cov) = bent(), gaussians(6, 3)
    one = pushforward(net, mean, cov, method)
    batch = pushforward(net, mean.reshape(2, 3, 3), cov.reshape(2, 3, 3, 3), method)
    for a, b in zip(one, batch):
        np.testing.assert_allclose(b.reshape(a.shape), a, rtol=1e-12)
    first = pushforward(net, mean[0], cov[0], method)
    assert first.mean.shape == (3,) and first.cov.shape == first.cross.shape == (3, 3)
    np.testing.assert_allclose(first.mean, one.mean[0], rtol=1e-9)


@pytest.mark.parametrize(
    "method", ["linear", "unscented", MonteCarlo(20_000)], ids=["linear", "unscented", "monte_carlo"]
)
def test_a_condition_for_each_gaussian(method):
    net = invnet.RealNVP(2, 5, 2, activation="silu", cond_channels=2, dtype="float64")
    for i, parameter in enumerate(net.parameters()):
        parameter.data += 0.3 * np.random.default_rng(i).standard_normal(parameter.data.shape)
    (mean, cov), cond = gaussians(3, 2), np.random.default_rng(1).standard_normal((3, 2))
    together = pushforward(net, mean, 0.01 * cov, method, cond)
    alone = pushforward(net, mean[1:2], 0.01 * cov[1:2], method, cond[1:2])
    np.testing.assert_allclose(together.mean[1], alone.mean[0], atol=0.05 if isinstance(method, MonteCarlo) else 1e-12)
    assert abs(together.mean - pushforward(net, mean, 0.01 * cov, method, -cond).mean).max() > 0.1


def test_float32_networks_give_moments_in_float64():
    moved = pushforward(invnet.RealNVP(2, 4, 2), MEAN, COV)
    assert all(array.dtype == np.float64 for array in moved)


MISTAKES = {
    "not positive definite": (lambda: pushforward(flow(), MEAN, np.diag([1.0, -0.5])), "positive definite.*-0.5"),
    "singular": (lambda: pushforward(flow(), MEAN, np.ones((2, 2))), "positive definite"),
    "not symmetric": (lambda: pushforward(flow(), MEAN, [[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
    "dimensions": (lambda: pushforward(flow(), MEAN, np.eye(3)), r"\(\.\.\., 2, 2\); got \(3, 3\)"),
    "no matrix": (lambda: pushforward(flow(), MEAN, [1.0, 1.0]), r"\(2,\)"),
    "not finite": (lambda: pushforward(flow(), [np.nan, 0], COV), "not finite"),
    "covariance not finite": (lambda: pushforward(flow(), MEAN, np.diag([1.0, np.inf])), "not finite"),
    "a number": (lambda: pushforward(flow(), 1.0, COV), r"got \(\)"),
    "other channels": (lambda: pushforward(flow(), np.zeros(3), np.eye(3)), "2 channels"),
    "unknown method": (lambda: pushforward(flow(), MEAN, COV, "quadratic"), "linear, unscented.*'quadratic'"),
    "alpha": (lambda: Unscented(alpha=0.0), "alpha is positive"),
    "kappa": (lambda: pushforward(flow(), MEAN, COV, Unscented(kappa=-2.0)), "above -D; got -2"),
    "points": (lambda: MonteCarlo(1), "from 2; got 1"),
}


@pytest.mark.parametrize("mistake, text", MISTAKES.values(), ids=MISTAKES)
def test_mistakes(mistake, text):
    with pytest.raises(ValueError, match=text):
        mistake()
