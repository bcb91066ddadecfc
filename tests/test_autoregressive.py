"""Autoregressive conditioners and layers: what sees what, deep stacks, the sweeps' end, and numbers that are not
finite.
"""

import numpy as np
import pytest
from cases import Plain

import invnet
from invnet import IAF, MAF, AutoregressiveAffine, MaskedDenseNet, Reverse
from invnet.ops import get_ops


def loud(module, gain=1.0, seed=0):
    """The module with random numbers added to all weights, `gain` times the size of He's values."""
    rng = np.random.default_rng(seed)
    for parameter in module.parameters():
        fan_in = parameter.data.shape[0] if parameter.data.ndim > 1 else 4
        parameter.data += gain * rng.standard_normal(parameter.data.shape) / np.sqrt(fan_in)
    return module


def jacobian(net, x, cond):
    """dy/dx of one sample, (outputs, C, C): the channel of y, then that of x."""
    C = x.shape[1]
    columns = [(net.forward(x + 1e-6 * e, cond) - net.forward(x - 1e-6 * e, cond)) / 2e-6 for e in np.eye(C)]
    return np.stack(columns, axis=-1).reshape(-1, C, C)


@pytest.mark.parametrize("K", [0, 2], ids=["no-cond", "cond"])
@pytest.mark.parametrize("hidden", [(), 40, (18, 40), (2, 3)], ids=str)
@pytest.mark.parametrize(
    "order",
    [[0], [0, 1], [1, 0], [2, 0, 1], np.random.default_rng(0).permutation(17)],
    ids=lambda order: f"{len(order)}-channels",
)
def test_the_jacobian_of_a_masked_net_is_strictly_triangular_in_its_order(order, hidden, K):
    C, rng = len(order), np.random.default_rng(1)
    net = loud(MaskedDenseNet(C, hidden, 3, order=order, activation="softplus", cond_channels=K, dtype="float64"))
    cond = rng.standard_normal((1, K)) if K else None
    J = jacobian(net, rng.standard_normal((1, C)), cond)[:, order][:, :, order]
    assert np.array_equal(J, np.tril(J, -1))
    if hidden != (2, 3):  # every degree has a hidden unit, and so what may be seen is seen
        assert (J[:, np.tril(np.ones((C, C)), -1) > 0] != 0).all()


@pytest.mark.parametrize("order", [None, [2, 0, 1]], ids=str)
def test_every_output_sees_the_condition(order):
    net = loud(MaskedDenseNet(3, 7, order=order, activation="softplus", cond_channels=2, dtype="float64"))
    x, cond = np.zeros((1, 3)), np.zeros((1, 2))
    assert ((net.forward(x, cond + 1) - net.forward(x, cond)) != 0).all()


def test_weights_that_a_mask_hides_have_neither_effect_nor_gradient():
    net, rng = loud(MaskedDenseNet(4, 9, dtype="float64")), np.random.default_rng(0)
    x = rng.standard_normal((5, 4))
    y, pullback = net.vjp(x)
    gradients = pullback(np.ones_like(y))[2]
    for W, mask, dW in zip(net.W, net.mask, gradients):
        hidden = ~mask.data
        assert hidden.any() and not dW[hidden].any() and dW[mask.data].any()
        W.data[hidden] = 1e3
    np.testing.assert_array_equal(net.forward(x), y)


def test_outputs_of_all_layers_have_the_size_that_he_gives():
    net, x = MaskedDenseNet(20, 400, depth=4, dtype="float64"), np.random.default_rng(0).standard_normal((500, 20))
    net.W[-1].data[...] = np.random.default_rng(1).standard_normal(net.W[-1].data.shape) / np.sqrt(
        np.maximum(1, net.mask[-1].data.sum(axis=0))
    )
    assert 0.5 < net.forward(x)[:, 1:20].std() < 2  # with He's values for all inputs it would be below 0.3


@pytest.mark.parametrize("model", [MAF, IAF])
@pytest.mark.parametrize("dim, steps", [(1, 20), (2, 20), (3, 20), (17, 10), (17, 20)])
def test_a_deep_stack_of_random_weights_inverts(model, dim, steps):
    net = loud(model(dim, [32, 32], steps, order="random", dtype="float64"), gain=0.2)
    X = np.random.default_rng(0).standard_normal((50, dim))
    Z, logdet = net.forward(X)
    assert np.abs(Z - X).max() > 0.3
    np.testing.assert_allclose(net.inverse(Z), X, rtol=0, atol=1e-8)
    np.testing.assert_allclose(net.forward(net.inverse(X))[0], X, rtol=0, atol=1e-8)
    np.testing.assert_allclose(net.backward(Z, Z)[1], X, rtol=0, atol=1e-8)


@pytest.mark.parametrize("model", [MAF, IAF])
@pytest.mark.parametrize("order", ["reversal", "random", "same"])
def test_a_new_model_is_the_identity(model, order):
    X = np.random.default_rng(0).standard_normal((20, 5)).astype("float32")
    Z, logdet = model(5, 16, 3, order=order).forward(X)
    np.testing.assert_array_equal(Z, X)
    np.testing.assert_array_equal(logdet, np.zeros(20))


def test_orders_change_from_step_to_step_as_asked_for():
    orders = {
        kind: [layer.net._order for layer in MAF(4, 4, 3, order=kind).layers] for kind in ("reversal", "random", "same")
    }
    assert orders["reversal"] == [[0, 1, 2, 3], [3, 2, 1, 0], [0, 1, 2, 3]]
    assert orders["same"] == [[0, 1, 2, 3]] * 3
    assert (
        all(sorted(order) == [0, 1, 2, 3] for order in orders["random"]) and orders["random"][0] != orders["random"][1]
    )


def test_the_formulas_are_those_of_the_papers():
    x = np.random.default_rng(0).standard_normal((6, 3))
    maf, iaf = (
        loud(AutoregressiveAffine(3, MaskedDenseNet(3, 8, dtype="float64"), fast)) for fast in ("forward", "inverse")
    )
    t, raw = np.split(maf.net.forward(x), 2, axis=1)
    mu, alpha = -t, -np.log(4) * np.tanh(raw / np.log(4))
    Z, logdet = maf.forward(x)
    np.testing.assert_allclose(Z, (x - mu) * np.exp(-alpha), rtol=1e-12)
    np.testing.assert_allclose(logdet, -alpha.sum(axis=1), rtol=1e-12)
    X, logdet = iaf.inverse_logdet(x)
    np.testing.assert_allclose(X, x * np.exp(alpha) + mu, rtol=1e-12)
    np.testing.assert_allclose(logdet, alpha.sum(axis=1), rtol=1e-12)


# ---- a plain conditioner: sweeps


class Counting(Plain):
    """Counts its evaluations of the whole batch."""

    evaluations = 0

    def forward(self, x, cond=None):
        self.evaluations += 1
        return super().forward(x, cond)


@pytest.mark.parametrize("fast", ["forward", "inverse"])
def test_sweeps_end_where_nothing_changes_with_the_bits_of_all(fast):
    layer, rng = AutoregressiveAffine(12, Counting(12, 32, dtype="float64"), fast), np.random.default_rng(0)
    layer.net.W[-1].data[:, ::5] = 0.1 * rng.standard_normal((32, 5))  # few channels see others
    V, ops = rng.standard_normal((30, 12)), get_ops(np.zeros(1))
    U = layer.inverse(V) if fast == "forward" else layer.forward(V)[0]
    assert 3 < layer.net.evaluations < 12
    expected = V
    for _ in range(12):
        h, expected = layer.net.forward(expected), V.copy()
        (ops.uncouple_ if fast == "forward" else ops.couple_)(expected, h, ("bounded", 4.0))
    np.testing.assert_array_equal(U, expected)


@pytest.mark.parametrize("net", [MaskedDenseNet, Plain])
@pytest.mark.parametrize("fast", ["forward", "inverse"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_sample_that_is_not_finite_ends_and_spoils_no_other(value, fast, net):
    layer = loud(AutoregressiveAffine(5, net(5, 16, dtype="float64"), fast))
    X = np.random.default_rng(0).standard_normal((4, 5))
    spoilt = X.copy()
    spoilt[1, 0] = value
    for method in (
        lambda A: layer.forward(A)[0],
        layer.inverse,
        lambda A: layer.backward(A, A)[0],
        lambda A: layer.inverse_backward(A, A)[0],
    ):
        expected, got = method(X), method(spoilt)
        np.testing.assert_allclose(got[[0, 2, 3]], expected[[0, 2, 3]], rtol=1e-12)


@pytest.mark.parametrize("fast", ["forward", "inverse"])
@pytest.mark.parametrize("K", [0, 2], ids=["no-cond", "cond"])
def test_a_plain_conditioner_gives_what_substitution_gives(fast, K):
    rng = np.random.default_rng(0)
    X, cond = rng.standard_normal((300, 6)), rng.standard_normal((300, K)) if K else None
    results = []
    for net in (MaskedDenseNet, Plain):
        layer = Reverse(loud(AutoregressiveAffine(6, net(6, 20, cond_channels=K, dtype="float64"), fast)))
        holder = invnet.Condition(cond) if K else None
        Z, logdet = layer.forward(X, cond)
        dX, X_back = layer.backward(Z, Z, None, holder)
        results.append([Z, logdet, dX, X_back, *(p.grad for p in layer.parameters()), *([holder.grad] if K else [])])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("model", [MAF, IAF])
def test_results_are_the_same_bits_for_any_number_of_threads(model):
    X, before = np.random.default_rng(0).standard_normal((5000, 3)).astype("float32"), invnet.num_threads()
    results = []
    try:
        for n in (1, 2, 4):
            invnet.set_num_threads(n)
            net = loud(model(3, 16, 3))
            Z, _ = net.forward(X)
            results.append([Z, net.inverse(X), *net.backward(Z, Z), *(p.grad for p in net.parameters())])
    finally:
        invnet.set_num_threads(before)
    for others in zip(*results):
        assert all(np.array_equal(others[0], other) for other in others[1:])


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0)], ids=str)
@pytest.mark.parametrize("fast", ["forward", "inverse"])
@pytest.mark.parametrize("net", [MaskedDenseNet, Plain])
def test_empty_batches_pass_through(shape, fast, net):
    layer, X = AutoregressiveAffine(3, net(3, 8), fast), np.zeros(shape, "float32")
    Z, logdet = layer.forward(X)
    dX, X_back = layer.backward(Z, Z)
    assert layer.inverse(Z).shape == Z.shape == dX.shape == X_back.shape == shape and logdet.shape == shape[:1]


@pytest.mark.parametrize("model", [MAF, IAF])
def test_a_saved_model_gives_the_same_bits(model, tmp_path):
    net, X = (
        loud(model(4, [8, 6], 3, order="random", cond_channels=2, seed=5)),
        np.random.default_rng(0).standard_normal((7, 4)).astype("float32"),
    )
    cond = X[:, :2]
    invnet.save(net, tmp_path / "net.safetensors")
    again = invnet.load(tmp_path / "net.safetensors")
    for a, b in (
        (net.forward(X, cond), again.forward(X, cond)),
        (net.inverse_logdet(X, cond), again.inverse_logdet(X, cond)),
    ):
        assert all(np.array_equal(x, y) for x, y in zip(a, b))


@pytest.mark.parametrize("model", [MAF, IAF])
def test_both_learn_the_two_moons_by_likelihood(model):
    rng = np.random.default_rng(0)

    def moons(n):
        angle, upper = np.pi * rng.random(n), rng.random(n) < 0.5
        X = np.stack(
            [np.where(upper, np.cos(angle), 1 - np.cos(angle)), np.where(upper, np.sin(angle), 0.5 - np.sin(angle))],
            axis=1,
        )
        return (X + 0.1 * rng.standard_normal((n, 2))).astype("float32")

    net = model(2, [32, 32], 5, activation="silu")
    opt, losses = invnet.optim.Adam(net.parameters(), lr=5e-3), []
    for _ in range(250):
        Z, logdet = net.forward(moons(256))
        loss, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
        net.zero_grad()
        net.backward(dZ, Z, dlogdet)
        invnet.optim.clip_by_global_norm(net.parameters(), 10.0)
        opt.step()
        losses.append(loss)
    assert np.mean(losses[-20:]) < 1.6 < losses[0]  # a Gaussian of the same moments reaches some 1.9
