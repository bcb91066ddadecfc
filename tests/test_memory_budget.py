"""A memory budget spares backward its recomputing, and changes nothing else."""

import numpy as np
import pytest
from cases import LAYERS

import invnet
from invnet.core import Conditioner
from invnet.layers.coupling import Coupling

PLENTY = 1 << 30


def glow(dtype="float64", **options):
    net = invnet.Glow(3, 16, 2, 3, dtype=dtype, **options)
    X = np.random.default_rng(0).standard_normal((6, 3, 16, 16)).astype(dtype)
    net.initialize(X)
    for parameter in net.parameters():
        parameter.data += 0.05 * np.random.default_rng(1).standard_normal(parameter.data.shape)
    return net, X


def everything(net, X, cond=None, dlogdet=None):
    """All that a step gives, and how many evaluations of conditioners it took."""
    calls = []
    for layer in couplings(net):
        vjp = type(layer.net).vjp
        layer.net.vjp = lambda *args, vjp=vjp, own=layer.net: calls.append(own) or vjp(own, *args)
    net.zero_grad()
    Z, logdet = net.forward(X, cond)
    forward = len(calls)
    dX, rebuilt = net.backward(Z * 0.5, Z, dlogdet, cond)
    return (
        [Z, logdet, dX, rebuilt, *(parameter.grad.copy() for parameter in net.parameters())],
        forward,
        len(calls) - forward,
    )


def couplings(module):
    found = [module] if isinstance(module, Coupling) else []
    for _, inside in module._within():
        if isinstance(inside, invnet.core.Module):
            found += couplings(inside)
    return found


def same(one, other):
    for a, b in zip(one, other, strict=True):
        assert np.abs(a - b).max() <= 1e-11 * max(1, np.abs(b).max())


@pytest.mark.parametrize(
    "name",
    [
        "Glow",
        "Glow, conditional",
        "Glow, vectors",
        "Glow, additive, householder, no prior",
        "Reverse of Glow, conditional",
        "coupling, spatial condition",
        "MAF, 3 features",
        "Reverse of IAF, 3 features",
        "MAF, conditional, random orders",
        "NSF autoregressive forward, 17 features",
        "AutoregressiveAffine fast forward, 5 channels, plain conditioner",
    ],
)
def test_gradients_are_the_same(name):
    layer, X, cond = LAYERS[name].build()
    expected, _, recomputed = everything(layer, X, cond)
    layer.memory_budget = PLENTY
    got, forward, backward = everything(layer, X, cond)
    same(got, expected)
    assert (
        backward == 0 and recomputed <= forward
    )  # fewer where neighbours are one call of an engine, when nothing is to be kept


def test_a_run_of_images_takes_what_was_kept_and_does_not_compute_it_again():
    for budget, right in ((0, False), (PLENTY, True)):
        net, X = glow()
        net.memory_budget, net.drift_tolerance = budget, None
        Z, _ = net.forward(X)
        for name, parameter in net.named_parameters():
            if ".net.b" in name:
                parameter.data += 0.1  # of other conditioners than those that the pass back needs
        assert np.allclose(net.backward(Z, Z)[1], X, atol=1e-6) == right


@pytest.mark.parametrize("threads", [1, 3])
def test_gradients_are_the_same_in_float32_and_for_any_threads_to_the_bit(threads):
    net, X = glow("float32")
    before, results = invnet.num_threads(), []
    net.memory_budget = PLENTY
    try:
        for n in (1, threads):
            invnet.set_num_threads(n)
            results.append(b"".join(a.tobytes() for a in everything(net, X)[0]))
    finally:
        invnet.set_num_threads(before)
    assert results[0] == results[1]


def test_the_budget_is_kept_and_the_coarsest_levels_go_first():
    net, X = glow()
    net.memory_budget = PLENTY
    net.forward(X)
    all_of_it, number = net.saved_pass.cache.used, len(net.saved_pass.cache._entries)
    fine, coarse = (sorted(entry.size for entry in net.saved_pass.cache._entries)[i] for i in (-1, 0))
    assert fine > coarse
    for budget in (0.2 * all_of_it, 0.5 * all_of_it, 0.9 * all_of_it):
        net.memory_budget = budget
        for _ in range(3):
            expected = everything(glow()[0], X)[0]
            net.forward(X)
            kept = [entry for entry in net.saved_pass.cache._entries if entry.value is not None]
            assert 0 < net.saved_pass.cache.used == sum(entry.size for entry in kept) <= budget
            assert 0 < len(kept) < number
            worths = {entry.worth for entry in net.saved_pass.cache._entries if entry.value is None}
            assert min(entry.worth for entry in kept) >= max(worths)
            same(everything(net, X)[0], expected)


def test_what_is_kept_is_about_what_was_planned():
    import tracemalloc

    net, X = glow()
    X = np.concatenate([X] * 20)
    net.memory_budget = PLENTY
    net.forward(X), net.forward(X)
    planned = net.saved_pass.cache.used
    net.memory_budget = PLENTY
    tracemalloc.start()
    Z, _ = net.forward(X)
    held = tracemalloc.get_traced_memory()[0] - Z.nbytes
    tracemalloc.stop()
    assert 0.7 * planned < held < 1.3 * planned


def test_another_z_is_recomputed():
    net, X = glow()
    expected = everything(net, X)[0]
    Z, _ = net.forward(X)
    net.memory_budget = PLENTY
    net.forward(X + 1)  # its activations are not those of Z
    net.zero_grad()
    dX, rebuilt = net.backward(Z * 0.5, Z)
    same([dX, rebuilt, *(parameter.grad for parameter in net.parameters())], expected[2:])


def test_backward_twice_and_a_copy_of_z():
    net, X = glow()
    expected = everything(net, X)[0]
    net.memory_budget = PLENTY
    Z, _ = net.forward(X)
    for _ in range(2):
        net.zero_grad()
        dX, rebuilt = net.backward(Z * 0.5, np.ascontiguousarray(Z))
        same([dX, rebuilt, *(parameter.grad for parameter in net.parameters())], expected[2:])
    assert net.saved_pass is None


def test_nothing_is_kept_without_a_budget_or_after_it_is_taken_away():
    net, X = glow()
    net.forward(X)
    assert net.saved_pass.cache is None
    net.memory_budget = PLENTY
    net.forward(X)
    net.memory_budget = 0
    assert net.saved_pass is None


def test_a_share_of_the_free_memory():
    net, X = glow()
    net.memory_budget = 0.25
    net.forward(X)
    assert 1 << 20 < net.saved_pass.cache.budget < 1 << 50 and net.saved_pass.cache.used > 0


class Plain(Conditioner):
    """A user's conditioner, in NumPy alone."""

    def __init__(self):
        self.W = invnet.Parameter(np.random.default_rng(0).standard_normal((2, 2)))

    def forward(self, x, cond=None):
        return np.tanh(x @ self.W.data)

    def vjp(self, x, cond=None):
        y = self.forward(x)
        return y, lambda dy: ((dy * (1 - y * y)) @ self.W.data.T, None, [x.T @ (dy * (1 - y * y))])


def test_a_users_conditioner_is_kept_too():
    chain = invnet.Chain(
        invnet.AdditiveCoupling(4, Plain()), invnet.Permute.reversal(4), invnet.AdditiveCoupling(4, Plain())
    )
    X = np.random.default_rng(0).standard_normal((5000, 4))
    expected = everything(chain, X)[0]
    chain.memory_budget = PLENTY
    got, _, recomputed = everything(chain, X)
    assert recomputed == 0
    same(got, expected)


def test_a_layer_used_twice():
    net, X = glow()
    coupling = couplings(net)[0]
    chain = invnet.Chain(coupling, invnet.Permute.reversal(12), coupling)
    X = np.random.default_rng(0).standard_normal((6, 12, 8, 8))
    expected = everything(chain, X)[0]
    chain.memory_budget = PLENTY
    same(everything(chain, X)[0], expected)


@pytest.mark.parametrize("budget", [-1, float("nan"), float("inf"), "1 GB", None])
def test_a_budget_is_a_number(budget):
    with pytest.raises(ValueError, match="memory_budget is a number of bytes, or a share of the free memory"):
        glow()[0].memory_budget = budget
