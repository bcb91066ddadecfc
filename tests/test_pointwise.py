"""Planar, radial and spline layers where it is hard to be right: near the edge of invertibility, at knots, far outside,
deep.
"""

import copy
import math

import array_api_compat.numpy
import numpy as np
import pytest

import invnet
from invnet import NSF, Chain, LeakyReLU, Planar, PlanarFlow, Radial, RadialFlow, RealNVP, Sigmoid, SplineCoupling
from invnet.ops import _of_type, get_ops
from invnet.ops.reference import LEAST, Ops

f64 = {"dtype": "float64"}
EPS = {"float32": 1.2e-7, "float64": 2.3e-16}


@pytest.fixture(params=["numpy", "reference"])
def engine(request, monkeypatch):
    """The NumPy engine, and the reference operations."""
    if request.param == "reference":
        monkeypatch.setitem(_of_type, np.ndarray, lambda array, ops=Ops(array_api_compat.numpy): ops)


def planar(a, b=0.0, norm=1.0, C=2, dtype="float64"):
    """A planar layer with w.u = a and |w| = norm."""
    layer = Planar(C, seed=3, dtype=dtype)
    direction = layer.w.data / np.linalg.norm(layer.w.data)
    across = np.random.default_rng(0).standard_normal(C)
    across -= direction * (across @ direction)
    layer.w.data[...], layer.u.data[...], layer.b.data[...] = norm * direction, a / norm * direction + across, b
    return layer


# ---- planar


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm", [1e-2, 1.0, 30.0])
@pytest.mark.parametrize("a", [-700.0, -80.0, -30.0, -10.0, -3.0, 0.0, 3.0, 30.0, 1000.0])
def test_the_inverse_of_a_planar_layer_has_the_precision_of_its_condition(a, norm, dtype, engine):
    if dtype == "float32" and a < -80:
        pytest.skip("softplus(w.u) is not a number of float32")
    layer, rng = planar(a, 0.3, norm, dtype=dtype), np.random.default_rng(1)
    X = np.concatenate(
        [rng.standard_normal((500, 2)), 1e-6 * rng.standard_normal((50, 2)), 1e6 * rng.standard_normal((50, 2))]
    ).astype(dtype)
    Z, _ = layer.forward(X)
    X_back, _ = layer.inverse_logdet(Z)
    # What remains is the rounding of Z, of uh and of w.Z + b, over the slope of w.x at the point itself.
    u, w = layer.u.data.astype("float64"), layer.w.data.astype("float64")
    s = np.logaddexp(0, w @ u)
    uh, v = u + (s - 1 - w @ u) * w / (w @ w), X @ w + layer.b.data
    slope = np.tanh(v) ** 2 + s / np.cosh(np.clip(v, -300, 300)) ** 2
    rounding = 30 * EPS[dtype] * (1 + np.abs(X).max(axis=1) + np.linalg.norm(uh) + np.linalg.norm(u)) * (1 + norm)
    # Where the slope all but vanishes, w.x is found from its cube.
    allowed = rounding + np.linalg.norm(uh) * np.minimum(rounding / slope, 3 * rounding ** (1 / 3))
    assert (np.abs(X_back - X).max(axis=1) <= allowed).all()
    again, _ = layer.forward(X_back)
    assert (np.abs(again - Z).max(axis=1) <= rounding).all()


@pytest.mark.parametrize("s", [1e-300, 1e-12, 1e-3, 0.5, 1.0, 1.5, 20.0, 1e6])
def test_the_root_of_a_planar_layer_is_found_for_every_value(s, engine):
    a = math.log(math.expm1(s)) if s < 30 else s  # softplus(a) = s
    layer = planar(a, C=1)
    V = np.concatenate([[0.0], 10.0 ** np.linspace(-12, 3, 3000)])
    V = np.concatenate([-V[::-1], V])[:, None]
    w, u = layer.w.data[0], layer.u.data[0]
    s = np.logaddexp(0, w * u)
    X, _ = layer.inverse_logdet(V / w)
    v = X * w
    assert (np.abs(v + (s - 1) * np.tanh(v) - V) <= 1e-14 * (1 + np.abs(V))).all()
    assert (np.diff(X[:, 0] * np.sign(w)) >= 0).all()


def test_a_planar_layer_whose_w_is_zero_is_a_shift(engine):
    layer, X = planar(0.5, 0.7, C=3), np.random.default_rng(0).standard_normal((5, 3))
    layer.w.data[...] = 0
    Z, logdet = layer.forward(X)
    np.testing.assert_allclose(Z, X + layer.u.data * np.tanh(0.7), rtol=1e-14)
    np.testing.assert_allclose(logdet, 0, atol=1e-15)
    dX, X_back = layer.backward(np.ones_like(Z), Z)
    np.testing.assert_allclose(X_back, X, atol=1e-14)
    assert all(np.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize(
    "make",
    [
        lambda: planar(1.0),
        lambda: Radial(2, **f64),
        lambda: NSF(2, 4, 2, **f64),
        lambda: LeakyReLU(),
        lambda: Sigmoid(),
    ],
    ids=["Planar", "Radial", "NSF", "LeakyReLU", "Sigmoid"],
)
def test_nan_and_infinity_stay_in_their_sample(make, engine):
    X = np.random.default_rng(0).standard_normal((5, 2))
    Z, logdet = make().forward(X)
    X[1, 0], X[3, 1] = np.nan, np.inf
    with np.errstate(all="ignore"):
        Z_bad, logdet_bad = make().forward(X)
    np.testing.assert_array_equal(Z_bad[::2], Z[::2])
    np.testing.assert_array_equal(logdet_bad[::2], logdet[::2])
    assert np.isnan(Z_bad[1]).any()


# ---- radial


@pytest.mark.parametrize("beta", [-30.0, -3.0, 0.0, 3.0, 30.0])
@pytest.mark.parametrize("log_alpha", [-10.0, 0.0, 5.0])
def test_a_radial_layer_is_inverted_from_its_centre_to_far_away(log_alpha, beta, engine):
    layer = Radial(3, **f64)
    layer.log_alpha.data[...], layer.beta.data[...] = log_alpha, beta
    d = np.random.default_rng(0).standard_normal((400, 3))
    d *= np.concatenate([[0.0], 10.0 ** np.linspace(-8, 8, 399)])[:, None] / np.linalg.norm(d, axis=1, keepdims=True)
    Z, logdet = layer.forward(layer.x0.data + d)
    X, inverse_logdet = layer.inverse_logdet(Z)
    # The Jacobian has two eigenvalues: the stretch across, and its change along d.
    r, alpha, s = np.linalg.norm(d, axis=1), math.exp(log_alpha), np.logaddexp(0, beta)
    least = np.minimum((s + r) / (alpha + r), (r * r + 2 * alpha * r + alpha * s) / (alpha + r) ** 2)
    allowed = 1e-14 * (1 + np.abs(Z).max(axis=1)) / np.minimum(1, least)
    assert (np.abs(X - layer.x0.data - d).max(axis=1) <= allowed).all()
    assert np.isfinite(logdet).all() and np.isfinite(inverse_logdet).all()
    dX, X_back = layer.backward(np.ones_like(Z), Z)
    assert np.isfinite(dX).all() and np.isfinite(X_back).all()


# ---- the spline


def knots_of(P, bound):
    """Knots in x and y, as numbers of their own."""
    K = (P.size + 1) // 3
    sizes = [2 * bound * (LEAST + (1 - K * LEAST) * np.exp(p) / np.exp(p).sum()) for p in (P[:K], P[K : 2 * K])]
    return [np.concatenate([[0.0], np.cumsum(size)]) - bound for size in sizes]


class Spline:
    """The operations of splines of one number of bins and one bound, on rows."""

    def __init__(self, bins, bound=3.0):
        self.bound, self.size = bound, 3 * bins - 1

    def forward(self, x, P):
        return get_ops(x).spline(x, P, self.bound)

    def inverse_logdet(self, z, P):
        return get_ops(z).spline_inverse(z, P, self.bound)

    def backward(self, dz, z, P, dlogdet):
        return get_ops(z).spline_vjp(dz, z, P, self.bound, dlogdet)

    def inverse_backward(self, dx, x, P, dlogdet):
        return get_ops(x).spline_inverse_vjp(dx, x, P, self.bound, dlogdet)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bins", [2, 8, 40])
def test_a_spline_maps_its_knots_to_its_knots_and_back(bins, seed, engine):
    spline = Spline(bins, 2.5)
    p = np.random.default_rng(seed).standard_normal(spline.size)
    x, y = knots_of(p, 2.5)
    P = np.broadcast_to(p, (bins + 1, 1, p.size)).copy()
    z, logdet = spline.forward(x[:, None], P)
    np.testing.assert_allclose(z[:, 0], y, atol=1e-13)
    back, inverse_logdet = spline.inverse_logdet(z, P)
    np.testing.assert_allclose(back[:, 0], x, atol=1e-12)
    np.testing.assert_allclose(inverse_logdet, -logdet, atol=1e-11)
    slopes = np.concatenate([[1.0], LEAST + np.logaddexp(0, p[2 * bins :] + math.log(math.expm1(1 - LEAST))), [1.0]])
    np.testing.assert_allclose(logdet, np.log(slopes), atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_spline_is_monotone_stays_in_its_domain_and_comes_back(dtype, engine):
    rng, bound = np.random.default_rng(0), 3.0
    spline = Spline(6, bound)
    x = np.linspace(-bound, bound, 4001, dtype=dtype)[:, None]
    for scale in (0.0, 1.0, 5.0, 100.0):  # of the logits: at 100 every bin but one is of the least size
        P = np.broadcast_to((scale * rng.standard_normal(spline.size)).astype(dtype), (x.size, 1, spline.size)).copy()
        z, logdet = spline.forward(x, P)
        assert np.isfinite(z).all() and np.isfinite(logdet).all() and np.abs(z).max() <= bound
        assert (np.diff(z[:, 0]) >= -8 * EPS[dtype] * bound).all()
        back, _ = spline.inverse_logdet(z, P)
        assert np.isfinite(back).all() and np.abs(back).max() <= bound
        again, _ = spline.forward(back, P)
        # z is back within its rounding, magnified where a slope of thousands follows one of a thousandth
        assert np.abs(again - z).max() <= EPS[dtype] * bound * (100 if scale < 5 else 1e5)


def test_a_spline_of_zeros_is_the_identity(engine):
    x, P = np.random.default_rng(0).standard_normal((50, 3)) * 4, np.zeros((50, 3, 23))
    z, logdet = Spline(8, 3.0).forward(x, P)
    np.testing.assert_allclose(z, x, atol=1e-15)
    np.testing.assert_allclose(logdet, 0, atol=1e-14)


def test_outside_its_domain_a_spline_is_the_identity_with_the_same_gradients(engine):
    spline, rng = Spline(4, 2.0), np.random.default_rng(0)
    x = np.array([[-np.inf], [-1e300], [-2.0 - 1e-12], [-2.0], [2.0], [np.nextafter(2.0, 3)], [1e300], [np.inf]])
    P, dz, dlogdet = rng.standard_normal((8, 1, 11)), rng.standard_normal((8, 1)), np.zeros(8)
    z, logdet = spline.forward(x, P)
    np.testing.assert_array_equal(z, x)
    np.testing.assert_allclose(logdet, 0, atol=1e-13)
    for dx, back, dP in (spline.backward(dz, z, P, dlogdet), spline.inverse_backward(dz, x, P, dlogdet)):
        np.testing.assert_array_equal(back, x)
        np.testing.assert_allclose(dx, dz, rtol=1e-12)
        np.testing.assert_allclose(dP, 0, atol=1e-12)


def test_the_gradient_of_a_spline_is_continuous_at_its_ends(engine):
    spline, P = Spline(4, 2.0), np.random.default_rng(0).standard_normal((1, 1, 11))
    for end in (-2.0, 2.0):
        inside, outside = np.array([[end * (1 - 1e-9)]]), np.array([[end * (1 + 1e-9)]])
        one, none = np.ones((1, 1)), np.zeros(1)
        np.testing.assert_allclose(
            spline.backward(one, inside, P, none)[0], spline.backward(one, outside, P, none)[0], atol=1e-6
        )


def test_a_spline_passes_nan_as_nan(engine):
    spline, rng = Spline(4), np.random.default_rng(0)
    x, P = rng.standard_normal((4, 2)), rng.standard_normal((4, 2, 11))
    x[0, 1], P[1, 0, 2], P[2, 1, 6] = np.nan, np.nan, np.nan
    for method in (spline.forward, spline.inverse_logdet):
        z, _ = method(x, P)
        np.testing.assert_array_equal(np.isnan(z), [[False, True], [True, False], [False, True], [False, False]])


def test_a_spline_takes_parameters_of_any_strides():
    spline, rng = Spline(4), np.random.default_rng(0)
    x, P, dlogdet = rng.standard_normal((7, 3)), rng.standard_normal((7, 3, 11)), rng.standard_normal(7)
    other = np.ascontiguousarray(P.transpose(2, 0, 1)).transpose(1, 2, 0)
    for a, b in zip(spline.backward(x, x, P, dlogdet), spline.backward(x, x, other, dlogdet)):
        np.testing.assert_array_equal(a, b)


def test_without_tails_the_spline_is_the_same_within_its_domain():
    net = invnet.DenseNet(1, 8, 23, **f64)
    net.b[-1].data += np.random.default_rng(0).standard_normal(23)
    X = np.random.default_rng(1).uniform(-3, 3, (200, 2))
    X[:2, 1] = -3, 3
    with_tails, without = SplineCoupling(2, net), SplineCoupling(2, net, tails=None)
    Z, _ = without.forward(X)
    np.testing.assert_array_equal(Z, with_tails.forward(X)[0])
    np.testing.assert_allclose(without.inverse(Z), X, atol=1e-11)


# ---- deep stacks


def shaken(net, size, seed=0):
    """A copy with every parameter moved, weights in proportion to their fan-in."""
    net, rng = copy.deepcopy(net), np.random.default_rng(seed)
    for p in net.parameters():
        p.data += size / math.sqrt(math.prod(p.data.shape[:-1])) * rng.standard_normal(p.data.shape)
    return net


def moved_by_rounding(net, Z, X, rng):
    """How far the inverse of each sample moves from X when Z is off by a rounding."""
    return np.max(
        [np.abs(net.inverse(Z * (1 + 2.2e-16 * rng.choice([-1, 1], Z.shape))) - X).max(axis=1) for _ in range(4)],
        axis=0,
    )


@pytest.mark.parametrize(
    "net, size",
    [
        *[
            pytest.param(cls(C, 32, seed=1, **f64), 1.0, id=f"{cls.__name__}-{C}")
            for cls in (PlanarFlow, RadialFlow)
            for C in (1, 2, 3, 17)
        ],
        *[pytest.param(RealNVP(C, 16, 32, activation="leaky_relu", **f64), 0.3, id=f"RealNVP-{C}") for C in (2, 3)],
        *[pytest.param(NSF(C, 16, 32, **f64), 0.2, id=f"NSF-{C}") for C in (2, 3)],
        *[
            pytest.param(NSF(C, 16, 32, autoregressive=fast, **f64), 0.2, id=f"NSF-{fast}-{C}")
            for fast in ("forward", "inverse")
            for C in (1, 2, 3)
        ],
    ],
)
def test_32_layers_with_random_parameters_are_inverted_to_1e8(net, size):
    """But for samples that the rounding of Z alone moves by a hundredth of that."""
    net, rng = shaken(net, size), np.random.default_rng(5)
    X = rng.standard_normal((500, net.channels))
    Z, logdet = net.forward(X)
    assert np.abs(Z - X).max() > 0.5 and np.ptp(logdet) > 0.1  # parameters that matter
    X_back, inverse_logdet = net.inverse_logdet(Z)
    _, rebuilt = net.backward(Z / len(X), Z)
    for found in (X_back, rebuilt):
        assert (np.abs(found - X).max(axis=1) <= np.maximum(1e-8, 100 * moved_by_rounding(net, Z, X_back, rng))).all()
    np.testing.assert_allclose(inverse_logdet, -net.forward(X_back)[1], atol=1e-6)


@pytest.mark.parametrize(
    "net",
    [RealNVP(17, 16, 32, **f64), NSF(2, 16, 32, **f64), NSF(17, 16, 32, **f64)],
    ids=["RealNVP-17", "NSF-2", "NSF-17"],
)
def test_what_an_inverse_loses_is_what_the_rounding_of_its_argument_costs(net):
    net, rng = shaken(net, 0.3), np.random.default_rng(5)
    X = rng.standard_normal((500, net.channels))
    Z, _ = net.forward(X)
    X_back = net.inverse(Z)
    moved = moved_by_rounding(net, Z, X_back, rng)
    assert np.median(np.abs(X_back - X).max(axis=1) / np.maximum(moved, 1e-16)) < 10


# ---- models


@pytest.mark.parametrize("fast", ["forward", "inverse"])
def test_autoregressive_splines_take_turns_in_what_they_see_and_are_a_new_identity(fast):
    X, net = np.random.default_rng(0).standard_normal((20, 4)), NSF(4, 8, 3, autoregressive=fast, **f64)
    np.testing.assert_allclose(net.forward(X)[0], X, atol=1e-13)
    assert [layer.net._order for layer in net.layers] == [[0, 1, 2, 3], [3, 2, 1, 0], [0, 1, 2, 3]]
    mixed = NSF(4, 8, 3, mix="lu", autoregressive=fast, **f64)
    assert [layer.net._order for layer in mixed.layers[1::2]] == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize("cls", [RealNVP, NSF])
@pytest.mark.parametrize("C", [2, 3, 4, 5, 17])
def test_three_couplings_change_every_channel(cls, C):
    net = shaken(cls(C, 8, 3, activation="softplus", **f64), 1.0)
    order = np.arange(C, dtype="float64")[None]
    for layer in net.layers:
        order = layer.forward(order)[0] if isinstance(layer, invnet.Permute) else order
    X = np.random.default_rng(0).uniform(-1, 1, (20, C))
    assert (np.abs(net.forward(X)[0] - X[:, order[0].astype(int)]) > 1e-6).any(axis=0).all()


@pytest.mark.parametrize(
    "net",
    [PlanarFlow(3, 5, **f64), RadialFlow(3, 5, **f64), RealNVP(3, 8, 5, **f64), NSF(3, 8, 5, **f64)],
    ids=lambda net: type(net).__name__,
)
def test_a_new_flow_is_the_identity_but_for_the_order_of_channels(net):
    X = np.random.default_rng(0).standard_normal((20, 3))
    Z, logdet = net.forward(X)
    np.testing.assert_allclose(np.sort(Z), np.sort(X), atol=1e-13)
    np.testing.assert_allclose(logdet, 0, atol=1e-13)


def test_layers_of_a_new_planar_flow_differ():
    for flow in (PlanarFlow(1, 6), RadialFlow(1, 6)):
        places = [
            float(layer.b.data[0] / layer.w.data[0]) if isinstance(layer, Planar) else float(layer.x0.data[0])
            for layer in flow.layers
        ]
        assert len({round(place, 3) for place in places}) == 6


def test_states_are_what_each_layer_makes_of_the_last():
    net = shaken(Chain(invnet.ActNorm(2, **f64), PlanarFlow(2, 3, **f64), RealNVP(2, 4, 2, **f64)), 0.5)
    X = np.random.default_rng(0).standard_normal((7, 2))
    Z, _ = net.forward(X)
    states, back = net.states(X), net.inverse_states(Z)
    assert len(states) == len(back) == 4 and states[0] is X and back[0] is Z
    for i, layer in enumerate(net.layers):
        np.testing.assert_array_equal(layer.forward(states[i])[0], states[i + 1])
    np.testing.assert_allclose(states[-1], Z, atol=1e-12)
    for there, here in zip(states, reversed(back)):
        np.testing.assert_allclose(here, there, atol=1e-10)


@pytest.mark.parametrize(
    "net",
    [
        PlanarFlow(2, 12),
        RadialFlow(2, 12),
        RealNVP(2, 32, 6, actnorm=True),
        NSF(2, 32, 4, mix="lu", actnorm=True),
        *[NSF(2, 32, 2, actnorm=True, autoregressive=fast) for fast in ("forward", "inverse")],
    ],
    ids=lambda net: " ".join([type(net).__name__, net.arguments().get("autoregressive", "")]),
)
def test_a_flow_learns_a_bent_density(net):
    rng = np.random.default_rng(0)
    a = rng.standard_normal(1000)
    X = np.stack([a, 0.7 * a**2 - 0.7 + 0.3 * rng.standard_normal(1000)], axis=1).astype("float32")
    gaussian = 0.5 * np.linalg.slogdet(np.cov(X.T))[1] + math.log(2 * math.pi) + 1
    net = copy.deepcopy(net)
    net.initialize(X)
    opt, losses = invnet.optim.Adam(net.parameters(), lr=0.02), []
    for _ in range(150):
        Z, logdet = net.forward(X)
        loss, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
        net.zero_grad()
        net.backward(dZ, Z, dlogdet)
        invnet.optim.clip_by_global_norm(net.parameters(), 2.0)
        opt.step()
        losses.append(loss)
    assert np.mean(losses[-20:]) < gaussian - 0.7
