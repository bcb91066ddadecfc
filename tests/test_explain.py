"""explain: which code serves each layer, as the arrays at hand will find it."""

import numpy as np
import pytest

import invnet

X = np.zeros((10, 3, 16, 16), "float32")


def paths(rows):
    return {row.path for row in rows}


def test_names_and_layers_are_those_of_the_network_in_its_order():
    net = invnet.Glow(3, 8, 2, 1)
    rows = net.explain(X)
    assert [row.name for row in rows[:4]] == ["layers.0", "layers.1", "layers.2", "layers.3"]
    assert [row.layer for row in rows[:4]] == ["Squeeze", "ActNorm", "Conv1x1", "AffineCoupling"]
    modules = dict(net.named_modules())
    assert all(type(modules[row.name]).__name__ == row.layer for row in rows)
    assert {row.name for row in rows} == {name for name, part in modules.items() if part in list(net.layers_within())}


def test_what_is_fused_gives_no_reason_and_what_is_not_gives_one():
    rows = invnet.Glow(3, 8, 2, 2).explain(X)
    assert {row.layer for row in rows if row.path != "fused"} == {"Squeeze", "Unsqueeze"}
    assert all((row.path == "fused") == (row.reason == "") for row in rows)


@pytest.mark.parametrize("scale", ["bounded", "sigmoid", "doubled"])
@pytest.mark.parametrize("ndim", [0, 2])
def test_every_scale_is_fused(scale, ndim):
    net, array = (invnet.RealNVP(4, 8, 2, scale=scale), X[:, 0, 0, :4]) if ndim == 0 else (None, X)
    rows = (net or invnet.Glow(3, 8, 1, 2, scale=scale)).explain(array)
    assert {row.path for row in rows if row.layer == "AffineCoupling"} == {"fused"}


def test_a_condition_is_the_reason():
    net = invnet.Glow(3, 8, 1, 1, cond_channels=2)
    (row,) = [row for row in net.explain(X, np.zeros((10, 2), "float32")) if row.layer == "AffineCoupling"]
    assert row.path == "alone" and "condition" in row.reason
    fused = invnet.RealNVP(4, 8, 2)
    with pytest.raises(ValueError, match="cond"):
        fused.explain(X[:, 0, 0, :4], np.zeros((10, 2), "float32"))


def test_kept_activations_are_the_reason():
    net = invnet.RealNVP(4, 8, 2)
    net.memory_budget = 1 << 20
    rows = net.explain(X[:, 0, 0, :4])
    assert paths(rows) == {"alone"} and "memory_budget" in rows[0].reason


def test_a_large_image_and_another_engine_are_the_reason():
    torch = pytest.importorskip("torch")
    net = invnet.Glow(3, 512, 1, 1)
    rows = [row for row in net.explain(np.zeros((1, 3, 1024, 1024), "float32")) if row.layer == "AffineCoupling"]
    assert rows[0].path == "alone" and "tile" in rows[0].reason
    on_tensors = invnet.RealNVP(4, 8, 2).to("torch").explain(torch.zeros(10, 4))
    assert paths(on_tensors) == {"fused"}


def test_layers_without_a_description_say_so():
    layers = [invnet.Planar(4), invnet.AdditiveCoupling(4, hidden=8), invnet.SplineCoupling(4, hidden=8, tails=None)]
    rows = invnet.Chain(*layers).explain(X[:, 0, 0, :4])
    assert paths(rows) == {"alone"}
    assert "does not say" in rows[0].reason and "transform" in rows[1].reason and "tails" in rows[2].reason


def test_a_flow_a_reversed_layer_and_an_exact_one():
    flow = invnet.Flow(invnet.Reverse(invnet.RealNVP(4, 8, 2)), (4,))
    rows = flow.explain(X[:, 0, 0, :4])
    assert paths(rows) == {"fused"} and rows[0].name == "layer.layer.layers.0"
    exact = invnet.Exact(invnet.RealNVP(4, 8, 1)).explain(X[:, 0, 0, :4])
    assert paths(exact) == {"alone"} and "grid" in exact[0].reason


def test_it_is_a_table_and_computes_nothing(monkeypatch):
    net = invnet.RealNVP(4, 8, 2)
    monkeypatch.setattr(type(net.layers[0]), "forward_", lambda *a: pytest.fail("computed"))
    table = str(net.explain(X[:, 0, 0, :4]))
    assert table.splitlines()[0].split() == ["name", "layer", "path", "reason"] and len(table.splitlines()) == 4


def test_mistakes():
    net = invnet.RealNVP(4, 8, 2)
    with pytest.raises(ValueError, match="4 channels"):
        net.explain(np.zeros((10, 5), "float32"))
    with pytest.raises(TypeError, match="float64"):
        net.explain(np.zeros((10, 4)))
