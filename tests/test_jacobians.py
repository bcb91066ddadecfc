"""Jacobians of every layer and model: products and matrices agree with each other and with central differences."""

import numpy as np
import pytest
from cases import LAYERS as ALL
from cases import representatives

import invnet
from invnet import Condition, Reverse
from invnet.inference import inverse_jacobian, jacobian, jvp, vjp
from invnet.inference.jacobians import dual, forward_and_jacobian, gradients_aside, inverse_and_jacobian, tangents_added
from invnet.ops.dual import Dual

STEP = 1e-6

#: all but Exact, which rounds: what is rounded has no derivative
LAYERS = {name: case for name, case in ALL.items() if "Exact" not in name}


def close(got, expected, tolerance):
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(1.0, abs(expected).max(initial=0)))


def built(name):
    net, X, cond = LAYERS[name].build()
    return net, X, cond, np.random.default_rng(0).standard_normal(X.shape)


def difference(function, X, dX):
    return (function(X + STEP * dX) - function(X - STEP * dX)) / (2 * STEP)


@pytest.mark.parametrize("name", LAYERS)
def test_the_jacobian_times_a_vector(name):
    net, X, cond, V = built(name)
    Z, JV = jvp(net, X, V, cond)
    expected, J = forward_and_jacobian(net, X, cond)
    close(Z, expected, 1e-12)
    D = V[0].size
    assert J.shape == (len(X), D, D)
    close(JV, (J @ V.reshape(len(V), D, 1)).reshape(Z.shape), 1e-10)
    close(JV, difference(lambda X: net.forward(X, cond)[0], X, V), 1e-6)


@pytest.mark.parametrize("name", representatives(LAYERS))
def test_a_vector_times_the_jacobian_leaves_gradients_alone(name):
    net, X, cond, _ = built(name)
    Z = net.forward(X, cond)[0]
    U = np.random.default_rng(1).standard_normal(Z.shape)
    for parameter in net.parameters():
        parameter.grad[...] = 3.0
    before = [parameter.grad for parameter in net.parameters()]
    got, dX = vjp(net, X, U, Condition(cond) if cond is not None else None)
    J = jacobian(net, X, cond)
    assert all(parameter.grad is grad and (grad == 3).all() for parameter, grad in zip(net.parameters(), before))
    close(got, Z, 1e-12)
    close(dX, (U.reshape(len(U), 1, -1) @ J).reshape(X.shape), 1e-10)


@pytest.mark.parametrize("name", representatives(name for name in LAYERS if not name.startswith("Reverse")))
def test_the_inverse_jacobian(name):
    net, X, cond, _ = built(name)
    Z, J = forward_and_jacobian(net, X, cond)
    back, K = inverse_and_jacobian(net, Z, cond)
    close(back, X, 1e-9)
    close(K @ J, np.broadcast_to(np.eye(J.shape[1]), J.shape), 1e-9)
    if "user" not in name:
        close(jacobian(Reverse(net), Z, cond), K, 1e-8)


@pytest.mark.own_seeds  # at which no spline is near a knot, where differences are none of one polynomial
@pytest.mark.parametrize("name", representatives(LAYERS))
def test_the_gradient_of_a_product_with_the_jacobian(name):
    """The tangents of a backward on dual numbers are the change of its gradients, of the input and of every
    parameter.
    """
    net, X, cond, V = built(name)
    Zd, _ = net.forward(dual(X, V), cond)
    U = np.random.default_rng(1).standard_normal(Zd.shape)
    net.zero_grad()
    with tangents_added(net):
        dX, _ = net.backward(Dual(U), Zd, 0.3, cond)

    def gradients(X):
        Z, _ = net.forward(X, cond)
        with gradients_aside(net) as parameters:
            dX, _ = net.backward(U, Z, 0.3, cond)
            return np.concatenate([dX.ravel(), *(parameter.grad.ravel() for parameter in parameters)])

    got = np.concatenate([dX.tangent.ravel(), *(parameter.grad.ravel() for parameter in net.parameters())])
    close(got, difference(gradients, X, V), 2e-6)


def test_many_samples_in_several_calls(monkeypatch):
    monkeypatch.setattr("invnet.inference.jacobians.ROWS", 7)
    net, X, cond, _ = built("coupling, vector condition")
    J = jacobian(net, X, cond)
    monkeypatch.undo()
    assert np.array_equal(J, jacobian(net, X, cond))


def test_the_gradients_come_back_after_an_error():
    net = invnet.ActNorm(2)
    own = [parameter.grad for parameter in net.parameters()]
    with pytest.raises(ValueError, match="2 channels"), gradients_aside(net):
        net.backward(np.zeros((1, 3), "float32"), np.zeros((1, 3), "float32"))
    assert all(parameter.grad is grad for parameter, grad in zip(net.parameters(), own))


def test_float32_and_samples_of_none():
    net = invnet.RealNVP(3, 4, 2)
    assert jacobian(net, np.zeros((2, 3), "float32")).dtype == np.float32
    assert jacobian(net, np.zeros((0, 3), "float32")).shape == (0, 3, 3)
    assert inverse_jacobian(net, np.zeros((2, 3), "float32")).dtype == np.float32
    assert jvp(net, np.zeros((2, 3), "float32"), np.ones((2, 3), "float32"))[1].dtype == np.float32


@pytest.mark.parametrize(
    "X, dX, error", [([[0.0, 1.0]], np.zeros((1, 2)), TypeError), (np.zeros((1, 2)), np.zeros((2, 2)), ValueError)]
)
def test_mistakes(X, dX, error):
    with pytest.raises(error, match=r"NumPy|\(1, 2\)"):
        jvp(invnet.Chain(), X, dX)
