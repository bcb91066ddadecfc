"""Parts of a module that are replaced: everything uses the new one, or the assignment raises."""

import copy

import numpy as np
import pytest
from cases import LAYERS, NETS, coupling, representatives

import invnet
from invnet.core import Buffer, Module, Parameter

rng = np.random.default_rng(3)


def holders(module, seen=None):
    """(module, attribute, index or None) of each public attribute within that holds a part, those shared once."""
    seen = set() if seen is None else seen
    if id(module) in seen:
        return
    seen.add(id(module))
    for name, value in list(vars(module).items()):
        if name[0] != "_":
            items = (
                [(None, value)]
                if isinstance(value, (Buffer, Module))
                else enumerate(value)
                if isinstance(value, (tuple, list))
                else ()
            )
            for i, part in items:
                if isinstance(part, (Buffer, Module)):
                    yield module, name, i, part
                if isinstance(part, Module):
                    yield from holders(part, seen)


def put(module, name, i, part):
    """Puts a part in the place of another, in a list or tuple by an equal one."""
    if i is None:
        setattr(module, name, part)
    else:
        some = getattr(module, name)
        setattr(module, name, type(some)(part if k == i else item for k, item in enumerate(some)))


def passes(layer, X, cond):
    """What the methods of a layer give, and its gradients, after it has been used once."""
    Z, logdet = layer.forward(X, cond)
    layer.zero_grad()
    dX, X_back = layer.backward(Z, Z, None, cond)
    return [Z, logdet, dX, X_back, layer.inverse(Z, cond), *[np.array(p.grad) for p in layer.parameters()]]


def agree(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", representatives(LAYERS))
def test_a_layer_uses_the_parameters_that_replaced_others(name):
    layer, X, cond = LAYERS[name].build()
    passes(layer, X, cond)
    for module, attribute, i, part in list(holders(layer)):
        if isinstance(part, Parameter):
            put(module, attribute, i, Parameter(part.data + 0.01 * rng.standard_normal(part.data.shape)))
            part.data[...] = np.nan  # whoever looks at the old one gives NaN
            part.gradient.array[...] = np.nan
    found = passes(layer, X, cond)
    assert all(np.isfinite(array).all() for array in found)
    other = LAYERS[name].make()
    other.load_state_dict(layer.state_dict())
    agree(found, passes(other, X, cond))


@pytest.mark.parametrize("name", representatives(LAYERS))
def test_a_layer_uses_the_layers_and_conditioners_that_replaced_others(name):
    layer, X, cond = LAYERS[name].build()
    passes(layer, X, cond)
    for module, attribute, i, part in list(holders(layer)):
        if isinstance(part, Module) and any(
            part is now for *_, now in holders(layer)
        ):  # not one that went with what held it
            twin = copy.deepcopy(part)
            for p in twin.parameters():
                p.data += 0.01 * rng.standard_normal(p.data.shape)
            put(module, attribute, i, twin)
    found = passes(layer, X, cond)
    other = LAYERS[name].make()
    other.load_state_dict(layer.state_dict())
    agree(found, passes(other, X, cond))


@pytest.mark.parametrize("name", representatives(NETS))
def test_a_conditioner_uses_the_parameters_that_replaced_others(name):
    net, x, cond = NETS[name].build()
    net.vjp(x, cond)[1](net.forward(x, cond))
    for module, attribute, i, part in list(holders(net)):
        if isinstance(part, Parameter):
            put(module, attribute, i, Parameter(part.data + 0.01))
            part.data[...] = np.nan
    other = NETS[name].make()
    other.load_state_dict(net.state_dict())
    y, pullback = net.vjp(x, cond)
    expected, expected_pullback = other.vjp(x, cond)
    agree([y, *pullback(y)[2]], [expected, *expected_pullback(y)[2]])


def test_what_was_derived_holds_until_a_part_of_its_own_module_is_replaced():
    net, other = (invnet.RealNVP(2, 4, 2) for _ in range(2))
    makes = []

    def derived():
        return net.derived("number", lambda: makes.append(0) or len(makes))

    assert derived() == 1
    coupling = next(layer for layer in net.layers if isinstance(layer, invnet.AffineCoupling))
    changes = [
        lambda: setattr(coupling, "net", copy.deepcopy(coupling.net)),
        lambda: setattr(coupling.net.W[0], "data", coupling.net.W[0].data.copy()),
        lambda: setattr(net, "layers", net.layers[1:]),
        lambda: setattr(net, "more", Parameter(np.zeros(2))),
        lambda: delattr(net, "more"),
    ]
    for count, change in enumerate(changes, 1):
        other.layers = other.layers[::-1]
        other.parameters()[0].data = other.parameters()[0].data.copy()
        coupling.net.W[0].data[...] = 0
        assert derived() == count
        change()
        assert derived() == count + 1
    assert copy.deepcopy(net).derived("number", lambda: 0) == 0


CHAINS = {
    "vectors": (lambda: invnet.Chain(invnet.ActNorm(4), invnet.Conv1x1(4), coupling_of(4)), (5, 4)),
    "images": (lambda: invnet.Chain(invnet.ActNorm(4), invnet.Conv1x1(4), coupling_of(4, 2)), (3, 4, 4, 4)),
}


def coupling_of(C, ndim=0, **options):
    return coupling(invnet.AffineCoupling, C, ndim, **options).to(dtype="float32")


@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize("kind", CHAINS)
def test_a_compiled_run_sees_what_was_replaced(kind, engine):
    make, shape = CHAINS[kind]
    net, X = make(), np.random.default_rng(0).standard_normal(shape).astype("float32")
    if engine == "torch":
        net, X = net.to("torch"), pytest.importorskip("torch").from_numpy(X)
    doubled = lambda p: Parameter(2 * p.data)
    before = net.forward(X)[0]
    net.layers[1].log_s = doubled(net.layers[1].log_s)
    assert not bool((net.forward(X)[0] == before).all())
    old = net.layers[2].net.b[-1]
    net.layers[2].net.b = (*net.layers[2].net.b[:-1], new := Parameter(old.data + 1))
    Z, _ = net.forward(X)
    net.backward(Z, Z)
    assert not old.gradient.array.any() and new.gradient.array.any()
    with pytest.raises(TypeError, match="item assignment"):
        net.layers[2].net.b[-1] = old
    net.layers = net.layers[:1]
    assert len(net.parameters()) == 2
    expected = net.layers[0].forward(X)[0]
    assert bool((net.forward(X)[0] == expected).all())
    with pytest.raises(TypeError, match="Chain takes Layers"):
        net.layers = [net.layers[0], 3]
    assert len(net) == 1


class WithLists(invnet.Layer):
    """A user's own layer, whose parts are in a list that is changed in place."""

    def __init__(self):
        self.parts = []

    def forward(self, X, cond=None):
        for part in self.parts:
            X, _ = part.forward(X)
        return X, X[:, 0] * 0

    def backward(self, dZ, Z, dlogdet=None, cond=None):
        for part in reversed(self.parts):
            dZ, Z = part.backward(dZ, Z, 0.0)
        return dZ, Z


def test_a_list_of_parts_may_be_changed_in_place():
    net, X = invnet.Chain(WithLists()), np.ones((2, 3), "float32")
    parts = net.layers[0].parts
    for change in (
        lambda: parts.append(invnet.ActNorm(3)),
        lambda: parts.insert(0, invnet.ActNorm(3)),
        lambda: parts.__setitem__(0, invnet.ActNorm(3)),
        lambda: parts.reverse(),
        lambda: parts.pop(0),
    ):
        net.zero_grad()
        change()
        for p in net.parameters():
            p.grad = None
        Z, _ = net.forward(X)
        net.backward(Z, Z)
        assert all(p.grad is not None for p in net.parameters())
        net.zero_grad()
        assert not any(p.grad.any() for p in net.parameters())


def test_an_attribute_that_is_new_or_gone_counts():
    class Two(invnet.Module):
        pass

    module = Two()
    module.zero_grad()
    module.a = Parameter(np.ones(2))
    module.a.grad[...] = 1
    module.zero_grad()
    assert not module.a.grad.any()
    a = module.a
    del module.a
    a.grad[...] = 1
    module.zero_grad()
    assert a.grad.all() and module.first_state is None


def test_a_module_of_pytorch_refuses_a_layer_whose_parameters_were_replaced():
    torch = pytest.importorskip("torch")
    net = CHAINS["vectors"][0]()
    module, x = invnet.torch.as_module(net), torch.ones(2, 4)
    module(x)
    net.layers[1].log_s = Parameter(2 * net.layers[1].log_s.data)
    with pytest.raises(RuntimeError, match="as_module"):
        module(x)


def test_weights_of_another_shape_are_refused_before_they_are_read():
    net, x = invnet.DenseNet(3, 8, 4), np.ones((2, 3), "float32")
    net.forward(x)
    net.W[1].data = np.ones((2, 2), "float32")
    with pytest.raises(ValueError, match=r"\(8, 8\).*\(2, 2\)"):
        net.forward(x)


def test_what_is_saved_is_what_there_is(tmp_path):
    path, X = tmp_path / "net.safetensors", np.random.default_rng(0).standard_normal((3, 4)).astype("float32")
    layer = coupling_of(4, activation="relu")
    layer.net = coupling_of(4, activation="silu").net
    layer.net.b[-1].data += np.arange(4)
    for saved in (layer, invnet.Chain(layer, invnet.Permute.reversal(4)), invnet.Reverse(layer)):
        invnet.save(saved, path)
        np.testing.assert_array_equal(invnet.load(path).forward(X)[0], saved.forward(X)[0])
    net = invnet.RealNVP(4, 5, 2)
    net.layers[2].net = invnet.DenseNet(2, 5, 4, activation="silu")
    with pytest.raises(TypeError, match="RealNVP was replaced"):
        invnet.save(net, path)
    net.layers[2].net = invnet.DenseNet(2, 5, 4)
    invnet.save(net, path)
    net.layers = net.layers[:1]
    with pytest.raises(TypeError, match="RealNVP was replaced"):
        invnet.save(net, path)
    invnet.save(invnet.Chain(*net.layers), path)
