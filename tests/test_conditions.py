"""Conditions: rows, dtypes, layers that ignore them, and what is refused, for every layer that takes one."""

import numpy as np
import pytest
from cases import LAYERS, coupling, representatives

import invnet
from invnet import Condition, Flow
from invnet.core import condition_array, get_ops

CONDITIONAL = {name: case for name, case in LAYERS.items() if case.cond is not None}
PLAIN = {name: case for name, case in LAYERS.items() if case.cond is None and "user" not in name}
ENGINES = ["numpy", "torch"]
METHODS = ("forward", "inverse", "inverse_logdet")


def built(name, engine="numpy", cases=LAYERS):
    layer, X, cond = cases[name].build()
    if engine == "torch":
        torch = pytest.importorskip("torch")
        layer, X, cond = layer.to("torch"), torch.from_numpy(X), None if cond is None else torch.from_numpy(cond)
    return layer, X, cond


def numbers(array):
    return np.array(get_ops(array).to_numpy(array))


def results(layer, X, cond):
    """What all methods give, and the gradients of parameters and of the condition."""
    found = []
    for method in METHODS:
        result = getattr(layer, method)(X, cond)
        found += result if isinstance(result, tuple) else [result]
    Z, _ = layer.forward(X, cond)
    holder = None if cond is None else Condition(cond)
    layer.zero_grad()
    found += layer.backward(Z, Z, None, holder)
    return [numbers(a) for a in (*found, *(p.grad for p in layer.parameters()))], None if holder is None else numbers(
        holder.grad
    )


def agree(found, expected, tolerance=1e-11):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", representatives(CONDITIONAL))
def test_one_row_serves_all_samples(name, engine):
    layer, X, cond = built(name, engine)
    one = cond[:1]
    every = get_ops(cond).xp.concat([one] * X.shape[0])
    found, gradient = results(layer, X, one)
    expected, gradients = results(layer, X, every)
    agree(found, expected)
    assert gradient.shape == tuple(one.shape)
    agree([gradient], [gradients.sum(axis=0, keepdims=True)])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["int64", "int8", "bool", "float32"])
@pytest.mark.parametrize("name", representatives(CONDITIONAL))
def test_any_real_dtype_is_converted(name, dtype, engine):
    layer, X, cond = built(name, engine)
    rounded = numbers(cond).round().astype(dtype)
    ops = get_ops(X)
    Z, logdet = layer.forward(X, ops.from_numpy(rounded))
    expected = layer.forward(X, ops.asarray(rounded.astype("float64"), X))
    agree(map(numbers, (Z, logdet)), map(numbers, expected))
    agree(
        map(numbers, layer.backward(Z, Z, None, ops.from_numpy(rounded))),
        map(numbers, layer.backward(Z, Z, None, ops.asarray(rounded.astype(float), X))),
    )


def test_a_condition_of_another_dtype_has_a_gradient_in_its_own():
    net, cond = invnet.RealNVP(4, 8, 2, cond_channels=3), np.ones((5, 3))
    for p in net.parameters():
        p.data += 0.1
    X, holders = np.ones((5, 4), "float32"), [Condition(cond), Condition(cond.astype("float32"))]
    for holder in holders:
        Z, _ = net.forward(X, holder)
        net.backward(Z, Z, None, holder)
    assert holders[0].grad.dtype == "float64" and holders[0].grad.any()
    agree([holders[0].grad], [holders[1].grad], 1e-6)


@pytest.mark.parametrize("name", representatives(CONDITIONAL))
def test_none_and_another_number_of_rows_or_channels_are_refused(name):
    layer, X, cond = built(name)
    more = np.concatenate([cond] * 3)[: len(X) + 2]
    if len(X) > 2:
        with pytest.raises(ValueError, match=rf"{len(X)} samples or one row.* got .*of 2 rows"):
            layer.forward(X, cond[:2])
    for method in METHODS:
        with pytest.raises(ValueError, match="needs a condition of shape"):
            getattr(layer, method)(X)
        with pytest.raises(ValueError, match=rf"{len(X)} rows for its {len(X)} samples.*of {len(X) + 2} rows"):
            getattr(layer, method)(X, more)
        with pytest.raises(ValueError, match=r"takes a condition of shape \(N, \d+"):
            getattr(layer, method)(X, np.concatenate([cond] * 2, axis=1))
    for call in (lambda c: layer.backward(X, X, None, c), lambda c: layer.initialize(X, c)):
        with pytest.raises(ValueError, match="samples"):
            call(more)


@pytest.mark.parametrize("labels", [np.array([0, 1, 2, 0, 1]), np.zeros(5, bool)])
def test_labels_are_to_be_one_hot(labels):
    net = invnet.RealNVP(4, 8, 2, cond_channels=3)
    with pytest.raises(
        ValueError, match=r"shape \(N, 3\); got \(5,\); a model that takes integer labels is made with classes="
    ):
        net.forward(np.ones((5, 4), "float32"), labels)
    net.forward(np.ones((5, 4), "float32"), np.eye(3)[labels.astype(int)])


def test_an_error_names_the_models_own_channels():
    glow = invnet.Glow(1, 4, 2, 1, cond_channels=2, cond_spatial=True)
    X = np.ones((2, 1, 8, 8), "float32")
    with pytest.raises(ValueError, match=r"Glow takes a condition of shape \(N, 2, \*spatial\).*got \(2, 3, 8, 8\)"):
        glow.forward(X, np.ones((2, 3, 8, 8)))
    with pytest.raises(ValueError, match=r"\(N, 2, \*spatial\).*got \(2, 2\)"):
        invnet.Chain(invnet.Logit(), glow).forward(X, np.ones((2, 2)))
    glow.forward(X, np.ones((1, 2, 8, 8)))
    with pytest.raises(ValueError, match=r"\(N, 3\) for X .*got \(2, 3, 8, 8\)"):
        invnet.Glow(1, 4, 2, 1, cond_channels=3).forward(X, np.ones((2, 3, 8, 8)))


@pytest.mark.parametrize("name", representatives(PLAIN))
def test_what_takes_no_condition_refuses_one_only_at_the_door(name):
    layer, X, _ = built(name)
    cond = np.ones((len(X), 3))
    with pytest.raises(ValueError, match=r"takes no condition.*\d+, 3\)"):
        layer.forward(X, cond)
    C = X.shape[1]
    if C < 2 or "Logit" in name or "Sigmoid" in name:
        return
    conditional = coupling(invnet.AffineCoupling, C, 0, cond_channels=3)
    chain = invnet.Chain(layer, conditional) if layer.halvings == 0 else None
    if chain is None:
        return
    found, _ = results(chain, X, cond)
    Z, logdet = layer.forward(X)
    agree([found[0]], [conditional.forward(Z, cond)[0]])


class Shifted(invnet.Layer):
    """A user's own layer that takes a condition."""

    def __init__(self):
        self.a = invnet.Parameter(np.ones(3))

    def forward(self, X, cond=None):
        return X + condition_array(cond) * self.a.data, np.zeros(len(X))

    def inverse(self, Z, cond=None):
        return Z - condition_array(cond) * self.a.data

    def backward(self, dZ, Z, dlogdet=None, cond=None):
        X = self.inverse(Z, cond)
        self.a.add((dZ * condition_array(cond)).sum(axis=0))
        if isinstance(cond, Condition):
            cond.grad += dZ * self.a.data
        return dZ, X


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_users_own_layer_adds_to_grad_as_ever(rows, dtype):
    chain = invnet.Chain(invnet.ActNorm(3, dtype="float64"), Shifted())
    holder = Condition(np.random.default_rng(0).standard_normal((rows, 3)).astype(dtype))
    Z, _ = chain.forward(np.ones((4, 3)), holder)
    chain.backward(Z, Z, None, holder)
    agree([holder.grad], [Z.sum(axis=0, keepdims=True) if rows == 1 else Z], 1e-6)


def conditional_flow(engine="numpy", spatial=False):
    if spatial:
        flow = Flow(invnet.Glow(1, 4, 1, 1, cond_channels=1, cond_spatial=True), (1, 4, 4))
    else:
        flow = Flow(invnet.RealNVP(3, 8, 2, cond_channels=2), (3,))
    for p in flow.parameters():
        p.data += 0.1 * np.random.default_rng(0).standard_normal(p.data.shape).astype("float32")
    return flow.to(engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spatial", [False, True])
def test_a_flow_samples_and_evaluates_given_one_observation(spatial, engine):
    flow = conditional_flow(engine, spatial)
    size = (1, 4, 4) if spatial else (2,)
    rows = np.random.default_rng(1).standard_normal((3, *size)).astype("float32")
    if engine == "torch":
        rows = pytest.importorskip("torch").from_numpy(rows)
    one, xp = rows[:1], get_ops(rows).xp
    X = flow.sample(6, seed=0, cond=one)
    many = xp.concat([one] * 6)
    agree([numbers(X)], [numbers(flow.sample(6, seed=0, cond=many))], 1e-6)
    both = flow.sample_and_log_prob(6, seed=0, cond=one)
    agree([numbers(both[0]), numbers(both[1])], [numbers(X), numbers(flow.log_prob(X, one))], 1e-4)
    agree([numbers(flow.log_prob(X, one))], [numbers(flow.log_prob(X, many))], 1e-6)
    samples = flow.sample_for(4, rows, seed=0)
    assert tuple(samples.shape) == (3, 4, *X.shape[1:])
    every = xp.concat([rows[m : m + 1] for m in range(3) for _ in range(4)])
    agree([numbers(samples).reshape(12, *X.shape[1:])], [numbers(flow.sample(12, seed=0, cond=every))], 1e-6)
    assert tuple(flow.sample_for(0, rows).shape) == (3, 0, *X.shape[1:])
    with pytest.raises(ValueError, match="6 samples.*of 3 rows"):
        flow.sample(6, cond=rows)
    with pytest.raises(ValueError, match="sample_for takes a condition"):
        flow.sample_for(2, None)


def test_moments_and_jacobians_take_one_row():
    from invnet.inference.jacobians import jacobian
    from invnet.inference.moments import pushforward

    flow, X = conditional_flow(), np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    one = np.ones((1, 2), "float32")
    agree([jacobian(flow.layer, X, one)], [jacobian(flow.layer, X, np.repeat(one, 4, axis=0))], 1e-6)
    moments = [pushforward(flow.layer, X, np.eye(3), "unscented", cond=c) for c in (one, np.repeat(one, 4, axis=0))]
    agree(
        moments[0][:2] if isinstance(moments[0], tuple) else [moments[0].mean],
        moments[1][:2] if isinstance(moments[1], tuple) else [moments[1].mean],
        1e-6,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_of_pytorch_takes_one_row_integers_and_ignores_what_it_does_not_take(engine):
    torch = pytest.importorskip("torch")

    class Conditioner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(4, 4)

        def forward(self, x, cond):
            return self.first(torch.cat([x, cond], 1))

    taking = invnet.torch.TorchNet(Conditioner(), (2,), (2,))
    not_taking = invnet.torch.TorchNet(torch.nn.Linear(2, 4), (2,))
    net = invnet.Chain(
        invnet.AffineCoupling(4, taking), invnet.Permute.reversal(4), invnet.AffineCoupling(4, not_taking)
    )
    X, one = np.random.default_rng(0).standard_normal((5, 4)).astype("float32"), np.array([[1, 2]])
    many = np.repeat(one, 5, axis=0).astype("float32")
    if engine == "torch":
        net, X, one, many = net.to("torch"), *map(torch.from_numpy, (X, one, many))
    agree(map(numbers, net.forward(X, one)), map(numbers, net.forward(X, many)), 1e-6)
    holders = Condition(many[:1]), Condition(many)
    for holder in holders:
        Z, _ = net.forward(X, holder)
        net.backward(Z, Z, None, holder)
    agree([numbers(holders[0].grad)], [numbers(holders[1].grad).sum(0, keepdims=True)], 1e-5)
    with pytest.raises(ValueError, match="takes no condition"):
        net.layers[2].forward(X, one)


def test_a_module_of_pytorch_takes_one_row_and_integers():
    torch = pytest.importorskip("torch")
    net = invnet.RealNVP(4, 8, 2, cond_channels=3)
    for p in net.parameters():
        p.data += 0.1
    x, cond = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.ones(1, 3)
    for memory in ("rebuild", "store"):
        module, gradients = invnet.torch.as_module(net, memory), []
        for c in (cond.clone().requires_grad_(), cond.expand(5, 3).clone().requires_grad_()):
            z, logdet = module(x, c)
            (z.sum() + logdet.sum()).backward()
            gradients.append(c.grad.sum(0, keepdim=True))
        torch.testing.assert_close(*gradients)
        torch.testing.assert_close(module(x, torch.ones(1, 3, dtype=int)), module(x, cond))


def test_one_spatial_row_is_not_repeated_in_memory():
    import tracemalloc

    net = invnet.Glow(1, 2, 1, 1, cond_channels=32, cond_spatial=True)
    X, one = np.zeros((1024, 1, 16, 16), "float32"), np.zeros((1, 32, 16, 16), "float32")
    holder = Condition(one)
    Z, _ = net.forward(X, holder)
    net.backward(Z, Z, None, holder)
    tracemalloc.start()
    Z, _ = net.forward(X, holder)
    net.backward(Z, Z, None, holder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < one.nbytes * len(X) / 2


@pytest.mark.parametrize("shape", [(3,), (3, 4, 4), (3, 8, 8)])
@pytest.mark.parametrize("kind", ["ConvNet", "DenseNet", "MaskedDenseNet"])
def test_a_conditioner_alone_takes_one_row_for_all_samples(kind, shape):
    rng, K = np.random.default_rng(0), 12 if shape == (3, 8, 8) else 3
    options = dict(cond_channels=K, seed=0, dtype="float64")
    if kind == "ConvNet":
        net, x = invnet.ConvNet(2, 5, 4, **options), rng.normal(size=(6, 2, 4, 4))
    elif len(shape) > 1:
        pytest.skip("vectors have no spatial axes")
    else:
        net = invnet.DenseNet(2, 5, 4, **options) if kind == "DenseNet" else invnet.MaskedDenseNet(2, 5, **options)
        x = rng.normal(size=(6, 2))
    for parameter in net.parameters():
        parameter.data += 0.1 * rng.normal(size=parameter.data.shape)
    one = rng.normal(size=(1, *shape))
    every = np.repeat(one, 6, axis=0)
    (y, pullback), (y_every, pullback_every) = net.vjp(x, one), net.vjp(x, every)
    agree([net.forward(x, one), y], [net.forward(x, every), y_every])
    dy = rng.normal(size=y.shape)
    (dx, dcond, dW), (dx_every, dcond_every, dW_every) = pullback(dy), pullback_every(dy)
    assert dcond.shape == one.shape
    agree([dx, dcond, *dW], [dx_every, dcond_every.sum(axis=0, keepdims=True), *dW_every])
