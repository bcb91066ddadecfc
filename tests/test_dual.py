"""Dual numbers: the tangent of every function is its directional derivative, and none is lost."""

import numpy as np
import pytest
from scipy.special import log_ndtr

from invnet.core import get_ops
from invnet.ops.dual import CONSTANT, LINEAR, PRODUCTS, SLOPES, Dual

STEP = 1e-6


def pair(seed=0, positive=False):
    rng = np.random.default_rng(seed)
    x, dx = rng.standard_normal((2, 4, 3))
    return (abs(x) + 0.3 if positive else x), dx


def assert_tangent(function, x, dx):
    y = function(Dual(x, dx))
    expected = (function(x + STEP * dx) - function(x - STEP * dx)) / (2 * STEP)
    np.testing.assert_allclose(y.value, function(x), rtol=1e-13)
    np.testing.assert_allclose(y.tangent, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("function", SLOPES, ids=lambda function: function.__name__)
def test_functions_of_one_array(function):
    assert_tangent(function, *pair(positive=function in (np.log, np.log1p, np.sqrt)))


def test_the_slope_of_the_normal_distribution_function_far_out():
    x = np.array([-40.0, -1e3, 30.0])
    np.testing.assert_allclose(
        log_ndtr(Dual(x, np.ones(3))).tangent, [40.02496882, 1000.000999998, 0], rtol=1e-9, atol=1e-150
    )


@pytest.mark.parametrize("function", PRODUCTS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("which", ["both", "left", "right"])
def test_functions_of_two_arrays(function, which):
    x, dx = pair()
    b = np.random.default_rng(5).standard_normal((3, 3)) if function is np.matmul else 2 + 0.1 * pair(1)[0]
    if which == "left":
        assert_tangent(lambda x: function(x, b), x, dx)
    elif which == "right":
        x, dx = (x[:3], dx[:3]) if function is np.matmul else (x + 4, dx)
        assert_tangent(lambda x: function(b, x), x, dx)
    else:
        assert_tangent(lambda x: function(x, 2 + x.T @ x if function is np.matmul else 2 + x * x), x, dx)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x**3,
        lambda x: 1 / (3 + x),
        lambda x: 2 - x,
        lambda x: -x,
        lambda x: np.sum(x, axis=1, keepdims=True) * x,
        lambda x: x.sum(),
        lambda x: np.mean(x, axis=0),
        lambda x: np.where(x > 0, x * x, 3.0),
        lambda x: np.where(x > 0, 1.0, x),
        lambda x: np.clip(x, -0.5, 0.5),
        lambda x: np.max(x, axis=1),
        lambda x: np.min(x, axis=0, keepdims=True),
        lambda x: np.max(x),
        lambda x: np.concatenate([x, 0 * x, x.T[:, :3] * 2 + np.ones((3, 3))]),
        lambda x: np.stack([x, np.ones((4, 3))]),
        lambda x: np.take(x, [2, 0], axis=1),
        lambda x: x.reshape(3, 4).T[1:, ::2],
        lambda x: np.tril(x) + np.triu(x, 1) * 2,
        lambda x: np.transpose(x, (1, 0)),
        lambda x: np.broadcast_to(x[None], (2, 4, 3)),
        lambda x: np.abs(x) ** 2.5,
        lambda x: np.sqrt(x * x),
        lambda x: np.diagonal(x),
        lambda x: np.flip(x, axis=0),
        lambda x: np.repeat(x, 2, axis=0),
        lambda x: np.cumsum(x, axis=0),
        lambda x: x[:, None] + np.ones((4, 2, 3)),
    ],
)
def test_expressions(function):
    assert_tangent(function, *pair())


def test_writing_into_an_array():
    def written(x):
        y = np.zeros_like(x)
        y[:2] = x[2:]
        y[3] += x[0] * x[1]
        y *= 3.0
        y[1, 1] = 7.0
        return y

    assert_tangent(written, *pair())


def test_constants_have_no_tangent():
    x = Dual(*pair())
    for function in CONSTANT - {np.empty_like, np.full_like}:
        assert not function(x).tangent.any()


def test_what_is_decided_by_values_is_no_dual():
    x = Dual(*pair())
    assert isinstance(x > 0, np.ndarray) and isinstance(np.isfinite(x), np.ndarray)


def test_a_radius_at_its_centre_has_a_finite_tangent():
    assert np.sqrt(Dual(np.zeros(2), np.ones(2)) ** 2).tangent.tolist() == [0, 0]


@pytest.mark.parametrize(
    "lose",
    [
        lambda x: np.asarray(x),
        lambda x: np.zeros((4, 3)).__iadd__(x),
        lambda x: np.zeros((4, 3)).__setitem__(slice(None), x),
        lambda x: np.linalg.inv(x[:3]),
        lambda x: np.arctan2(x, x),
        lambda x: np.add.reduce(x),
        lambda x: np.sort(x),
    ],
)
def test_a_tangent_is_never_lost_in_silence(lose):
    with pytest.raises(TypeError, match="tangent"):
        lose(Dual(*pair()))


def test_a_tangent_of_another_shape():
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(3,\)"):
        Dual(np.zeros((4, 3)), np.zeros(3))


def test_operations_on_duals_make_duals():
    x = Dual(*pair())
    ops = get_ops(x)
    for made in (
        ops.full(2, 1.0, x),
        ops.empty((2, 2), x),
        ops.zeros_like(x),
        ops.asarray(np.ones(3), x),
        ops.copy(x),
        ops.copy_channels_last(x),
    ):
        assert isinstance(made, Dual)
    assert ops.to_numpy(x) is x.value
    assert not np.shares_memory(ops.copy(x).tangent, x.tangent)
    assert LINEAR and np.asarray(x.astype("float32").tangent).dtype == np.float32
