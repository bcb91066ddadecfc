"""Chains as sequences, summaries, reprs, and chains of thousands of layers."""

import sys
import time

import numpy as np
import pytest
from cases import LAYERS, NETS, representatives

import invnet
from invnet import ActNorm, Chain, Conv1x1, Permute


def test_a_chain_takes_a_list_and_is_a_sequence():
    a, b, c = layers = [ActNorm(2), Permute([1, 0]), Conv1x1(2)]
    for chain in (Chain(layers), Chain(*layers), Chain(tuple(layers))):
        assert chain.layers == (a, b, c) and len(chain) == 3 and list(chain) == layers
        assert chain[0] is a and chain[-1] is c and c in chain
        part = chain[1:]
        assert type(part) is Chain and part.layers == (b, c)
        with pytest.raises(IndexError):
            chain[3]
    assert len(Chain()) == len(Chain([])) == 0 and Chain()
    assert type(invnet.RealNVP(4, 8, 3)[:2]) is Chain
    X = np.ones((3, 2), "float32")
    np.testing.assert_array_equal(chain.forward(X)[0], chain[1:].forward(chain[:1].forward(X)[0])[0])


def test_a_chain_is_saved_as_it_is(tmp_path):
    chain, X = Chain([ActNorm(2), Permute([1, 0])]), np.ones((3, 2), "float32")
    chain[0].b.data[...] = 1, 2
    for layers in (chain.layers, chain.layers[:1]):
        chain.layers = layers
        invnet.save(chain, tmp_path / "chain.safetensors")
        loaded = invnet.load(tmp_path / "chain.safetensors")
        assert len(loaded) == len(layers) and repr(loaded) == repr(chain)
        np.testing.assert_array_equal(loaded.forward(X)[0], chain.forward(X)[0])


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: invnet.RealNVP(4, 16, 2), "RealNVP(channels=4, hidden=16, steps=2, 776 parameters)"),
        (lambda: ActNorm(1000), "ActNorm(channels=1000, 2,000 parameters)"),
        (lambda: Permute([1, 0]), "Permute(order=[1, 0])"),
        (lambda: Chain(ActNorm(1)), "Chain(layers=(ActNorm(channels=1),), 2 parameters)"),
        (lambda: invnet.Conv1x1(1, "householder"), "Conv1x1(channels=1, parametrisation='householder', 1 parameter)"),
    ],
)
def test_a_repr_counts_the_parameters(make, text):
    assert repr(make()) == text


@pytest.mark.parametrize("name", representatives([*LAYERS, *NETS]))
def test_a_summary_says_what_a_module_learns_and_gives(name):
    module, X, cond = {**LAYERS, **NETS}[name].build()
    summary = module.summary(X.shape[1:])
    numbers = sum(p.data.size for p in module.parameters())
    assert summary[-1].parameters == numbers
    assert str(summary).splitlines()[-1].split()[-1] == f"{numbers:,}" and "\n" + repr(summary) in f"\n{summary}"
    if name in LAYERS:
        assert summary[-1].shape == module.forward(X, cond)[0].shape[1:]
    names = [row.name for row in summary[:-1]]
    assert len(set(names)) == len(names)
    states = [name for name, _ in module.named_state()]
    for row in summary[:-1]:
        if row.parameters:
            assert any(state == row.name or state.startswith(f"{row.name}.") for state in states)
    assert "output" not in str(module.summary()) or not any(
        isinstance(part, invnet.Module) for _, part in module._within()
    )


def test_a_summary_is_a_table():
    glow = invnet.Glow(1, 4, 2, 1)
    lines = str(glow.summary((1, 8, 8))).splitlines()
    assert lines[0].split() == ["name", "kind", "output", "parameters"] and len({len(line) for line in lines}) == 1
    assert "AffineCoupling (ConvNet)  (4, 4, 4)" in str(glow.summary((1, 8, 8)))
    assert [row.shape for row in glow.summary((1, 8, 8)) if row.kind == "Squeeze"] == [(4, 4, 4), (8, 2, 2)]
    shapes = {row.kind: row.shape for row in invnet.Flow(glow, (1, 8, 8)).summary()}
    assert shapes["Glow"] == (1, 8, 8)
    with pytest.raises(ValueError, match="without the number of samples"):
        glow.summary(8)
    with pytest.raises(ValueError, match="divisible by 4"):
        glow.summary((1, 6, 6))


def pieces(n):
    return {
        "couplings": lambda: invnet.RealNVP(4, 4, n),
        "ActNorms": lambda: Chain([ActNorm(4) for _ in range(n)]),
        "mixes": lambda: Chain([Conv1x1(4, "householder", seed=i) for i in range(n)]),
        "permutations": lambda: Chain([Permute([1, 0, 3, 2])] * n),
    }


@pytest.mark.parametrize("kind", pieces(0))
def test_thousands_of_layers_are_handled_without_recursion(kind, tmp_path):
    n = 1500
    before = sys.getrecursionlimit()
    assert before < n
    net, X = pieces(n)[kind](), np.random.default_rng(0).standard_normal((3, 4)).astype("float32")
    net.drift_tolerance = None
    Z, logdet = net.forward(X)
    net.backward(Z, Z)
    net.zero_grad()
    assert np.isfinite(Z).all() and np.isfinite(logdet).all() and len(repr(net)) < 300
    assert len(net.summary((4,))) > n and net.name_of(net.layers[-1])
    invnet.save(net, tmp_path / "deep.safetensors")
    loaded = invnet.load(tmp_path / "deep.safetensors")
    np.testing.assert_array_equal(loaded.forward(X)[0], Z)


def test_building_takes_time_in_proportion_to_the_layers():
    def seconds(n):
        layers = [invnet.AffineCoupling(4, invnet.DenseNet(2, 4, 4)) for _ in range(n)]
        times = []
        for _ in range(3):
            start = time.perf_counter()
            Chain(layers)
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds(800) < 30 * seconds(100)  # 8 if linear, 64 if quadratic
