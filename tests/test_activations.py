"""Activations and their derivatives are the functions that they are named after: in the tails, at 0, at infinities, in
both dtypes.
"""

import array_api_compat.numpy
import mpmath
import numpy as np
import pytest
import torch

import invnet
from invnet.ops import get_ops
from invnet.ops.activations import ACTIVATIONS, FROM_ARGUMENT
from invnet.ops.dual import Dual
from invnet.ops.numpy import NumpyOps
from invnet.ops.reference import Ops
from invnet.torch import as_module

REFERENCE, ENGINE = Ops(array_api_compat.numpy), NumpyOps()
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
on_numpy = pytest.mark.parametrize("ops", [ENGINE, REFERENCE], ids=lambda ops: ops.name)


def normal_cdf(a):
    return mpmath.erfc(-a / mpmath.sqrt(2)) / 2


#: H and dH/dA with 40 digits
EXACT = {
    "gelu": (lambda a: a * normal_cdf(a), lambda a: normal_cdf(a) + a * mpmath.npdf(a)),
    "tanh": (mpmath.tanh, lambda a: mpmath.sech(a) ** 2),
}


def applied(ops, activation, A):
    """H and dH/dA as a network of one layer, the identity and its activation, gives them."""
    layers, one = (((1, 1), activation, False),), np.ones((1, 1), A.dtype)
    H, tape = ops.conv_stack(A[:, None].copy(), layers, [one, np.zeros(1, A.dtype)])
    slope, _, _ = ops.conv_stack_vjp(np.ones_like(H), tape, layers, [one, np.zeros(1, A.dtype)])
    return H[:, 0], slope[:, 0]


def exact(function, A):
    with mpmath.workdps(40):
        return np.array([float(function(mpmath.mpf(float(a)))) for a in A])


def arguments(dtype):
    """From the least normal H of a gelu on, densely about 0, and tiny ones."""
    rng, far = np.random.default_rng(0), 12.8 if dtype == "float32" else 37.0
    return np.concatenate(
        [
            rng.uniform(-far, far, 2000),
            rng.uniform(-3, 3, 2000),
            rng.choice([-1, 1], 500) * 10 ** rng.uniform(-30, 0, 500),
            [0],
        ]
    ).astype(dtype)


@both_dtypes
@pytest.mark.parametrize("activation", EXACT)
def test_a_compiled_activation_is_exact_to_some_units_in_the_last_place(activation, dtype):
    A, eps = arguments(dtype), np.finfo(dtype).eps
    H, slope = applied(ENGINE, activation, A)
    assert H.dtype == slope.dtype == dtype
    expected, expected_slope = (exact(function, A) for function in EXACT[activation])
    np.testing.assert_allclose(H, expected, rtol=(4 if dtype == "float32" else 45) * eps)  # 45 eps are 1e-14
    np.testing.assert_allclose(slope, expected_slope, rtol=0, atol=(4 if dtype == "float32" else 12) * eps)
    if activation == "gelu":  # whose slope has a zero at -0.75, and below that no cancellation
        tail = A < -2
        np.testing.assert_allclose(slope[tail], expected_slope[tail], rtol=(6 if dtype == "float32" else 45) * eps)


@both_dtypes
@pytest.mark.parametrize("activation", EXACT)
def test_an_activation_of_the_reference_is_exact_to_a_few_roundings(activation, dtype):
    A, eps = arguments(dtype), np.finfo(dtype).eps
    for got, function in zip(applied(REFERENCE, activation, A), EXACT[activation]):
        np.testing.assert_allclose(got, exact(function, A), rtol=8 * eps, atol=4 * eps)


@both_dtypes
@on_numpy
def test_limits_of_activations(ops, dtype):
    A = np.array([np.nan, -np.inf, -1e30, 1e30, np.inf], dtype)
    for activation, low, high, high_slope in (
        ("gelu", 0, A[3:], 1),
        ("tanh", -1, [1, 1], 0),
        ("relu", 0, A[3:], 1),
        ("softplus", 0, A[3:], 1),
    ):
        with np.errstate(invalid="ignore"):  # of the weights' gradient
            H, slope = applied(ops, activation, A)
        assert np.isnan(H[0]) and (np.isnan(slope[0]) or activation == "relu")
        np.testing.assert_allclose(H[1:3], low, rtol=0, atol=1e-36)
        np.testing.assert_array_equal(H[3:], high)
        np.testing.assert_allclose(slope[1:3], 0, rtol=0, atol=1e-35)
        np.testing.assert_array_equal(slope[3:], high_slope)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_derivative_at_zero_is_one_for_all_who_differentiate(activation):
    """Biases start at 0, and so do arguments of activations. Of a kink there is the same side everywhere."""
    ops, A = REFERENCE, np.zeros((2, 1))
    _, S = ops.activate(A, activation)
    slope = ops.activate_vjp(np.ones_like(A), S, activation)
    dual = get_ops(Dual(A)).activate(Dual(A, np.ones_like(A)), activation)[0].tangent
    np.testing.assert_allclose(dual, slope, atol=1e-15)
    net = invnet.DenseNet(1, 1, 1, depth=1, activation=activation, dtype="float64")
    for W in net.W:
        W.data[...] = 1.0
    layer = invnet.AdditiveCoupling(2, net)
    recorded = as_module(layer, memory="store")
    X = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    Z, _ = recorded(X)
    (dX,) = torch.autograd.grad(Z[0, 1], X)
    np.testing.assert_allclose(dX[0, 0].item(), slope[0, 0], atol=1e-15)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_memory_that_is_kept_for_a_position_follows_from_what_the_derivative_needs(activation):
    relu, net = (invnet.ConvNet(2, (5, 7), 4, activation=a) for a in ("relu", activation))
    assert net.kept_per_position - relu.kept_per_position == (12 if activation in FROM_ARGUMENT else 0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_saved_network_has_its_activation(activation, tmp_path):
    net = invnet.MAF(3, 5, 2, activation=activation)
    X = np.random.default_rng(0).standard_normal((4, 3), dtype="float32")
    net.initialize(X)
    invnet.save(net, tmp_path / "net")
    np.testing.assert_array_equal(invnet.load(tmp_path / "net").forward(X)[0], net.forward(X)[0])
