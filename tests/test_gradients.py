"""Gradients of parameters: None, zero and known to be zero, wherever they are added to."""

import copy
import pickle

import numpy as np
import pytest
from cases import LAYERS
from engines import engines

import invnet
from invnet.core import get_ops
from invnet.optim import EMA, SGD, Adam, clip_by_global_norm

MODELS = {
    "vectors": (lambda: invnet.RealNVP(4, 8, 3, mix="lu", actnorm=True), (5, 4)),
    "images": (lambda: invnet.Glow(2, 4, 1, 2), (3, 2, 4, 4)),
    "a user's own layer": (
        lambda: invnet.Chain(invnet.ActNorm(3), LAYERS["user's own layer"].make().to(dtype="float32")),
        (5, 3),
    ),
    "planar": (lambda: invnet.PlanarFlow(3, 2), (5, 3)),
    "autoregressive": (lambda: invnet.MAF(3, 8, 2), (5, 3)),
}


def made(name):
    make, shape = MODELS[name]
    rng, net = np.random.default_rng(0), make()
    for p in net.parameters():
        p.data += 0.1 * rng.standard_normal(p.data.shape).astype("float32")
    return net, rng.standard_normal(shape).astype("float32")


def backward(net, X):
    Z, logdet = net.forward(X)
    net.backward(Z, Z)


def gradients(net):
    return [None if p.grad is None else get_ops(p.grad).to_numpy(p.grad).copy() for p in net.parameters()]


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize("name", MODELS)
def test_none_is_as_good_as_zero(name, engine):
    net, X = made(name)
    if engine == "torch":
        torch = pytest.importorskip("torch")
        net, X = net.to("torch"), torch.from_numpy(X)
    backward(net, X)
    expected = gradients(net)
    for p in net.parameters():
        p.grad = None
    net.zero_grad()
    Z, _ = net.forward(X)
    net.inverse(Z)
    assert all(p.grad is None for p in net.parameters())  # still: nothing has added to them
    net.backward(Z, Z)
    same(gradients(net), expected)
    backward(net, X)
    same(gradients(net), [2 * gradient for gradient in expected])


@pytest.mark.parametrize("name", MODELS)
def test_an_array_that_was_read_stays_as_it_was_after_none(name):
    net, X = made(name)
    backward(net, X)
    arrays, before = [p.grad for p in net.parameters()], gradients(net)
    for p in net.parameters():
        p.grad = None
    backward(net, 2 * X)
    same(arrays, before)


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_the_loop_of_pytorch_is_that_of_zero_grad(engine):
    nets = []
    for none in (False, True):
        net, X = made("vectors")
        if engine == "torch":
            torch = pytest.importorskip("torch")
            net, X = net.to("torch"), torch.from_numpy(X)
        optimizer = Adam(net.parameters(), 1e-2)
        for _ in range(4):
            if none:
                for p in net.parameters():
                    p.grad = None
            else:
                optimizer.zero_grad()
            backward(net, X)
            assert clip_by_global_norm(net.parameters(), 1.0) > 0
            optimizer.step()
        nets.append(net)
    same(nets[0].state_dict().values(), nets[1].state_dict().values())


@pytest.mark.own_seeds  # whose matrices stay far from singular at this large a rate
@pytest.mark.parametrize("kind", [lambda p: SGD(p, 0.1, 0.9), lambda p: Adam(p, 0.1, weight_decay=0.1)])
def test_a_step_and_clipping_skip_a_parameter_without_a_gradient(kind):
    net, X = made("vectors")
    optimizer = kind(net.parameters())
    backward(net, X)
    optimizer.step()
    backward(net, X)
    skipped = net.parameters()[::2]
    for p in skipped:
        p.grad = None
    before, state = [p.data.copy() for p in net.parameters()], {k: v.copy() for k, v in optimizer.state_dict().items()}
    rest = [p for p in net.parameters() if p.grad is not None]
    norm = np.sqrt(sum(float((p.grad**2).sum()) for p in rest))
    assert clip_by_global_norm(net.parameters(), norm / 2) == pytest.approx(norm)
    assert np.sqrt(sum(float((p.grad**2).sum()) for p in rest)) == pytest.approx(norm / 2)
    optimizer.step()
    start = 0
    for p, data in zip(net.parameters(), before):
        part = slice(start, start + p.data.size)
        start += p.data.size
        assert np.array_equal(p.data, data) == (p.grad is None)
        for slot in optimizer.slots:
            if p.grad is None:
                np.testing.assert_array_equal(optimizer.state[slot][part], state[slot][part])
    optimizer.zero_grad()
    assert [p.grad is None for p in net.parameters()] == [i % 2 == 0 for i in range(len(before))]
    average = EMA(net.parameters())
    average.update()


def test_none_stays_in_a_copy_a_pickle_and_another_engine():
    net, X = made("vectors")
    net.parameters()[0].grad = None
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.to(dtype="float64")):
        assert [p.grad is None for p in other.parameters()] == [i == 0 for i in range(len(net.parameters()))]
    backward(net, X.astype("float64"))
    assert net.parameters()[0].grad.dtype == "float64"


@pytest.mark.parametrize(
    "value, error, text",
    [
        (0.0, TypeError, "grad is None or an array of shape"),
        ([0.0, 0.0], TypeError, "got list"),
        (np.zeros(3, "float32"), ValueError, r"the shape of data, \(2,\); got \(3,\)"),
        (np.zeros(2), TypeError, "numpy float32; got numpy float64"),
        ("tensor", TypeError, "numpy float32; got torch torch.float32"),
    ],
)
def test_a_gradient_of_another_kind_is_refused(value, error, text):
    if isinstance(value, str):
        value = pytest.importorskip("torch").zeros(2)
    parameter = invnet.Parameter(np.ones(2, "float32"))
    with pytest.raises(error, match=text):
        parameter.grad = value
    np.testing.assert_array_equal(parameter.grad, [0, 0])


@pytest.mark.parametrize("name", MODELS)
def test_a_gradient_is_known_to_be_zero_until_it_may_not_be(name):
    net, X = made(name)
    optimizer = SGD(net.parameters(), 0.1)
    known = lambda: {p.gradient.is_zero for p in net.parameters()}
    assert known() == {True}
    Z, _ = net.forward(X)
    assert known() == {True}
    net.backward(Z, Z)
    assert known() == {False}
    for zero_grad in (net.zero_grad, optimizer.zero_grad):
        zero_grad()
        assert known() == {True}
        assert not any(p.gradient.array.any() for p in net.parameters())
        clip_by_global_norm(net.parameters(), 1.0)
        optimizer.step()
        assert known() == {True}
        net.parameters()[0].grad
        assert [p.gradient.is_zero for p in net.parameters()] == [False] + [True] * (len(net.parameters()) - 1)
    optimizer.grad
    assert known() == {False}


def test_a_base_ends_the_knowledge_too():
    base = invnet.DiagonalNormal(np.zeros(3))
    base.mean.grad = None
    base.log_prob_backward(None, np.ones((2, 3), "float32"))
    assert base.mean.grad is not None and not base.log_s.gradient.is_zero


@engines()
def test_none_on_every_engine(engine):
    with engine.used():
        net, X = made("vectors")
        net, X = net.to(engine.name), engine.array(X)
        for p in net.parameters():
            p.grad = None
        backward(net, X)
        optimizer = Adam(net.parameters())
        optimizer.step()
        assert all(p.grad is not None for p in net.parameters())


def test_as_module_leaves_none_and_the_knowledge_alone():
    torch = pytest.importorskip("torch")
    net, X = made("vectors")
    module = invnet.torch.as_module(net)
    net.parameters()[0].grad = None
    z, logdet = module(torch.from_numpy(X))
    (z.sum() + logdet.sum()).backward()
    assert net.parameters()[0].gradient.array is None
    assert all(p.gradient.is_zero for p in net.parameters()[1:])
    assert all(p.grad is not None for p in module.parameters())
