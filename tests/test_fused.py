"""Fused groups: neighbours that an engine does in one call give what the layers give one by one, whatever happens to
their parameters.
"""

import copy
import pickle

import numpy as np
import pytest

import invnet
from invnet.fused import FusedGroup, group, vector_plan


def flow(dtype="float64", **more):
    net = invnet.Glow(4, 6, 1, 2, ndim=0, dtype=dtype, **more)
    rng = np.random.default_rng(1)
    for p in net.parameters():
        p.data += (0.3 * rng.standard_normal(p.data.shape)).astype(dtype)
    return net


def splines(dtype="float64"):
    """Couplings and both kinds of autoregressive layers of splines, some of whose numbers lie outside."""
    parts = [
        invnet.NSF(4, 6, 2, bins=5, bound=1.5, autoregressive=fast, dtype=dtype)
        for fast in (None, "forward", "inverse")
    ]
    net = invnet.Chain(*(layer for part in parts for layer in part.layers))
    rng = np.random.default_rng(1)
    for p in net.parameters():
        p.data += (0.1 * rng.standard_normal(p.data.shape)).astype(dtype)
    return net


def results(net, X, cond=None):
    """Z, logdet, dX, X and all gradients."""
    net.zero_grad()
    Z, logdet = net.forward(X, cond)
    dX, back = net.backward(np.sin(Z), Z, np.cos(logdet), cond)
    return [Z, logdet, dX, back, *(p.grad.copy() for p in net.parameters())]


def one_by_one(net, X, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(FusedGroup, "_plan", lambda *group: None)
        return results(net, X)


def data(N=20, dtype="float64"):
    return np.random.default_rng(2).standard_normal((N, 4)).astype(dtype)


def is_fused(net, X):
    return {row.path for row in net.explain(X)} == {"fused"}


def assert_alike(got, expected, rtol=1e-9):
    for a, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    "make, dtype, rtol", [(flow, "float64", 1e-9), (flow, "float32", 1e-3), (splines, "float64", 1e-9)]
)
@pytest.mark.parametrize("N", [0, 1, 15, 256, 257, 2500])
def test_a_group_gives_what_its_layers_give(make, N, dtype, rtol, monkeypatch):
    net = make(dtype)
    assert is_fused(net, data(max(N, 1), dtype))
    assert_alike(results(net, data(N, dtype)), one_by_one(net, data(N, dtype), monkeypatch), rtol)


@pytest.mark.parametrize("shape", [(20, 4), (3, 4, 6, 8)], ids=["vectors", "images"])
@pytest.mark.parametrize("scale", ["bounded", "sigmoid", "doubled"])
def test_every_scale_is_fused(scale, shape, monkeypatch):
    net = invnet.Glow(4, 6, 1, 3, ndim=len(shape) - 2, scale=scale, dtype="float64")
    rng = np.random.default_rng(1)
    for p in net.parameters():
        p.data += 0.1 * rng.standard_normal(p.data.shape)
    X = rng.standard_normal(shape)
    assert (
        is_fused(net, X)
        or X.ndim > 2
        and {row.layer for row in net.explain(X) if row.path != "fused"} <= {"Squeeze", "Unsqueeze"}
    )
    found = results(net, X)
    assert_alike(found, one_by_one(net, X, monkeypatch), 1e-8)
    assert_alike(net.inverse_logdet(found[0]), [X, -found[1]])


@pytest.mark.parametrize("make", [flow, splines])
def test_a_group_gives_the_same_bits_for_any_number_of_threads(make):
    net, before, bits = make("float32"), invnet.num_threads(), set()
    try:
        for threads in (1, 2, 4):
            invnet.set_num_threads(threads)
            bits.add(b"".join(a.tobytes() for a in results(net, data(9000, "float32"))))
    finally:
        invnet.set_num_threads(before)
    assert len(bits) == 1


def by_an_optimizer(net):
    invnet.optim.SGD(net.parameters(), 0.1)


def by_other_arrays(net):
    for p in net.parameters():
        p.data, p.grad = 1.1 * p.data, np.zeros_like(p.grad)


def by_transposed_arrays(net):
    for p in net.parameters():
        p.data = np.asfortranarray(p.data)


def by_a_state(net):
    learned = dict(net.named_parameters())
    net.load_state_dict({name: 1.1 * array if name in learned else array for name, array in net.state_dict().items()})


def by_a_network(net):
    net.layers[2].net = invnet.DenseNet(2, 7, 4, dtype="float64", seed=3)
    net.layers[2].net.b[-1].data += 0.2


def by_a_network_of_anothers(net):
    net.layers[2].net = invnet.ConvNet(2, 7, 4, kernels=(1, 1), ndim=0, dtype="float64")
    net.layers[2].net.b[-1].data += 0.2


@pytest.mark.parametrize(
    "change",
    [by_an_optimizer, by_other_arrays, by_transposed_arrays, by_a_state, by_a_network, by_a_network_of_anothers],
)
def test_a_group_sees_its_parameters_replaced(change, monkeypatch):
    net = flow()
    results(net, data())
    change(net)
    assert_alike(results(net, data()), one_by_one(net, data(), monkeypatch))


def test_a_group_goes_on_in_another_dtype(monkeypatch):
    net = flow()
    results(net, data())
    net.to(dtype="float32")
    assert_alike(results(net, data(dtype="float32")), one_by_one(net, data(dtype="float32"), monkeypatch), 1e-3)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copied", "pickled"]
)
def test_a_copy_has_parameters_of_its_own(copied):
    net = flow()
    expected = results(net, data())
    other = copied(net)
    for p in other.parameters():
        p.data += 1.0
    results(other, data())
    assert_alike([p.grad for p in net.parameters()], expected[4:], 0)
    assert_alike(results(net, data()), expected, 0)


def test_a_permutation_may_be_loaded(monkeypatch):
    net, other = (invnet.RealNVP(4, 6, 2, mix="lu", dtype="float64", seed=seed) for seed in (0, 1))
    chain, loaded = (invnet.Chain(invnet.Permute.random(4, seed=seed), part) for seed, part in enumerate((net, other)))
    chain.forward(data())
    chain.load_state_dict(loaded.state_dict())
    assert_alike([chain.forward(data())[0]], [loaded.forward(data())[0]])


def test_layers_of_other_classes_take_no_part():
    class Halved(invnet.ActNorm):
        def forward_(self, X, cond=None):
            Z, logdet = super().forward_(X, cond)
            return 0.5 * Z, logdet - X.shape[1] * np.log(2)

    net = invnet.Chain(Halved(4, dtype="float64"), flow())
    assert_alike([net.forward(data())[0]], [net.layers[1].forward(0.5 * data())[0]])


class Halving:
    """A mixin that changes what a layer computes."""

    def forward_(self, X, cond=None):
        Z, logdet = super().forward_(X, cond)
        return 0.5 * Z, logdet - X.shape[1] * np.log(2)


def test_a_mixin_that_changes_a_layer_is_not_overlooked():
    class Halved(Halving, invnet.AffineCoupling):
        pass

    halved = Halved(4, hidden=6, dtype="float64")
    net = invnet.Chain(halved, flow())
    expected = net.layers[1].forward(halved.forward(data())[0])[0]
    assert halved.specs() == []
    assert_alike([net.forward(data())[0]], [expected])


def test_a_subclass_with_another_constructor_is_fused():
    class Small(invnet.AffineCoupling):
        def __init__(self, channels):
            super().__init__(channels, hidden=6, dtype="float64")

    assert is_fused(invnet.Chain(Small(4), Small(4)), data())


def test_a_condition_goes_to_the_layers():
    net, cond = flow(cond_channels=3), invnet.Condition(np.random.default_rng(0).standard_normal((20, 3)))
    results(net, data(), cond)
    assert np.abs(cond.grad).max() > 0


def test_activations_are_kept_where_that_is_asked_for():
    net = flow()
    expected = results(net, data())
    net.memory_budget = 1 << 20
    assert_alike(results(net, data()), expected)


def test_a_group_is_cut_where_its_parameters_are_many(monkeypatch):
    monkeypatch.setattr(group, "LARGEST", 150)
    net = flow()
    steps = group.group_neighbours(net.layers)
    sizes = [sum(p.data.size for p in step.parameters()) for step in steps]
    assert len(sizes) > 1 and all(size <= 150 for size, step in zip(sizes, steps) if isinstance(step, FusedGroup))
    assert_alike(results(net, data())[:4], results(flow(), data())[:4])


@pytest.mark.parametrize("N", [20, 2500])
def test_what_is_gathered_for_a_group_does_not_grow_with_it(N, monkeypatch):
    expected = results(flow(), data(N))
    monkeypatch.setattr(vector_plan, "LARGEST", 150)
    net = flow()
    assert_alike(results(net, data(N)), expected)
    made = group._plans[net._steps[0]][vector_plan.VectorPlan]
    assert len(made.parts) > 2 and made.size <= 151 + 2 * 16


def test_a_group_of_layers_is_not_made_across_numbers_of_channels():
    net = invnet.Chain(
        invnet.Permute.reversal(4), invnet.Permute.reversal(3), dtype := invnet.ActNorm(3, dtype="float64")
    )
    with pytest.raises(ValueError, match="3 channels"):
        net.forward(data())
    assert dtype.channels == 3


def test_a_layer_whose_conditioner_was_replaced_computes_as_the_new_one_does():
    single, double = invnet.DenseNet(2, 4, 4), invnet.DenseNet(2, 4, 4, dtype="float64")
    X = np.random.default_rng(0).standard_normal((3, 4))
    layer = invnet.AffineCoupling(4, single)
    assert layer.forward(X.astype("float32"))[0].dtype == "float32"
    layer.net = double
    assert layer.forward(X)[0].dtype == "float64"
