"""Backward sees how far its states drifted and computes again what drifted too far; with anchors and `strict` it never
does.
"""

import copy
import threading
import warnings

import numpy as np
import pytest

import invnet
from invnet.passes.context import current
from invnet.passes.policy import CALM
from invnet.testing import reconstruction_error

#: How far the networks here amplify roundings is known for these weights.
pytestmark = pytest.mark.own_seeds


def deep(steps, gain, channels=6, activation="softplus", **options):
    """A Glow of vectors whose inverse amplifies rounding errors by a factor that grows with its depth and the gain,
    while ActNorm keeps forward and the gradients in bounds."""
    net = invnet.Glow(channels, 16, 1, steps, ndim=0, mix="householder", activation=activation, **options)
    numbers = np.random.default_rng(0)
    for layer in net.layers:
        if isinstance(layer, invnet.AffineCoupling):
            W = layer.net.W[-1].data
            W[...] = gain * numbers.standard_normal(W.shape) / np.sqrt(len(W))
    X = np.random.default_rng(1).standard_normal((20, channels)).astype("float32")
    net.initialize(X, None if not options else np.zeros((20, options["cond_channels"]), "float32"))
    return net, X


def glow():
    net = invnet.Glow(3, 8, 2, 6, activation="softplus")
    X = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype("float32")
    net.initialize(X)
    for parameter in net.parameters():
        parameter.data += (0.03 * np.random.default_rng(1).standard_normal(parameter.data.shape)).astype("float32")
    return net, X


def unhealed(net):
    """The same net, that measures and neither warns nor computes again."""
    net = copy.deepcopy(net)
    net.drift_tolerance = np.inf
    return net


def step(net, X, cond=None, reverse=False):
    """All that a step gives, without warnings."""
    net.zero_grad()
    out, back = (net.inverse_logdet, net.inverse_backward) if reverse else (net.forward, net.backward)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Z, _ = out(X, cond)
        dX, rebuilt = back(Z / len(Z), Z, None, cond)
    return Z, dX, rebuilt, [parameter.grad.copy() for parameter in net.parameters()]


def stored(chain, X, cond=None, reverse=False):
    """The same from states that were all stored, each layer's backward being given the very Z that its forward gave."""
    chain.zero_grad()
    steps = chain._short_steps[::-1] if reverse else chain._short_steps
    out, back = ("inverse_logdet", "inverse_backward") if reverse else ("forward", "backward")
    states = [X]
    for layer in steps:
        states.append(getattr(layer, out)(states[-1], cond)[0])
    dX = states[-1] / len(X)
    for layer, Z in zip(reversed(steps), reversed(states[1:])):
        dX, _ = getattr(layer, back)(dX, Z, None, cond)
    return states[-1], dX, X, [parameter.grad.copy() for parameter in chain.parameters()]


def error(gradients, expected):
    return max(np.linalg.norm(g - e) / np.linalg.norm(e) for g, e in zip(gradients, expected))


# ---- seeing it


def test_drift_is_what_was_rebuilt_against_what_was():
    net, X = deep(64, 0.3)
    _, _, rebuilt, _ = step(net, X)
    true = np.max(np.linalg.norm(rebuilt - X, axis=1)) / np.sqrt(np.mean(np.sum(X * X, axis=1)))
    ((layer, measured),) = net.drift.states[-1:]
    assert layer.known_as is net.layers[0]
    assert true > 1e-5
    assert measured == pytest.approx(true, rel=1e-5)  # of X itself, every number


@pytest.mark.parametrize("reverse", [False, True])
def test_the_layer_where_states_went_wrong_is_named(reverse):
    net, X = glow()
    out, back = (net.inverse_logdet, net.inverse_backward) if reverse else (net.forward, net.backward)
    Z, _ = out(X)
    net.layers[4].b.data += 0.05  # so that what is rebuilt is another state
    with pytest.warns(
        RuntimeWarning,
        match=r"layers\.\d+, \w+, was rebuilt with a relative error of .* parameters or the condition changed",
    ):
        back(Z, Z)
    assert net.drift.healed > 1e-3


def test_it_warns_once():
    net, X = deep(64, 0.5)
    Z, _ = net.forward(X)
    with pytest.warns(RuntimeWarning, match="was rebuilt with a relative error"):
        net.backward(Z, Z)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Z, _ = net.forward(X)
        net.backward(Z, Z)
    assert net.on_guard == CALM - 1


@pytest.mark.parametrize("make", [glow, lambda: deep(6, 0.2)])
def test_a_healthy_net_does_not_warn(make):
    net, X = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Z, _ = net.forward(X)
        net.backward(Z, Z)
    assert 0 < net.drift.error < 1e-4
    assert net.drift.logdet_error < 1e-5
    assert {type(layer).__name__ for layer, _ in net.drift.logdets} <= {"AffineCoupling", "FusedGroup"}


def test_logdets_are_computed_again():
    net, X = deep(64, 0.5)
    net = unhealed(net)
    step(net, X)
    assert net.drift.logdet_error > 0
    net.anchors = 1
    step(net, X)
    assert net.drift.logdet_error == 0


def test_logdets_are_computed_again_in_the_first_passes_and_then_now_and_then():
    net, X = glow()
    measured = []
    for number in range(1, 50):
        step(net, X)
        measured += [number] if net.drift.logdet_error is not None else []
    assert measured == [*range(1, 17), 32, 48]


def test_a_backward_of_another_forward_is_not_measured():
    net, X = glow()
    Z, _ = net.forward(X)
    net.forward(X + 1)
    net.backward(Z, Z)
    assert net.drift is None
    Z, _ = net.forward(X)
    net.backward(Z, Z.copy())
    assert net.drift is not None
    net.inverse_backward(Z, net.inverse_logdet(Z)[0])
    assert net.drift is not None


def test_the_warning_points_at_the_call():
    net, X = deep(64, 0.5)
    Z, _ = net.forward(X)
    with pytest.warns(RuntimeWarning, match="was rebuilt") as caught:
        net.backward(Z, Z)
    assert caught[0].filename == __file__


def test_samples_in_between_do_not_end_the_measurement():
    net, X = glow()
    Z, _ = net.forward(X)
    net.inverse(Z)
    net.backward(Z, Z)
    assert net.drift.states


@pytest.mark.parametrize("few", [5, 1000])
@pytest.mark.parametrize("shape", [(2,), (3,), (6,), (17,), (4, 3), (6, 4, 2)])
def test_a_fingerprint_has_on_average_the_size_of_what_it_is_of(shape, few):
    ops, X = invnet.core.get_ops(np.zeros(1)), np.random.default_rng(0).standard_normal((20000, *shape))
    squares = np.concatenate([np.sum(ops.fingerprint(x) ** 2, axis=1) for x in np.split(X, 20000 // few)])
    sizes = np.sum(X.reshape(len(X), -1) ** 2, axis=1)
    assert abs(np.mean(squares) - np.mean(sizes)) < 5 * np.std(squares - sizes) / np.sqrt(len(X)) + 1e-12


def test_a_fingerprint_of_many_samples_is_that_of_groups():
    ops, X = invnet.core.get_ops(np.zeros(1)), np.random.default_rng(0).standard_normal((2500, 3, 2))
    each = np.concatenate([ops.fingerprint(x) for x in np.split(X, 25)])[:, 0]
    expected = each[:1024] + each[1024:2048]
    expected[:452] += each[2048:]
    np.testing.assert_allclose(ops.fingerprint(X)[:, 0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("change", [0, -1])
def test_a_fingerprint_sees_a_change_of_any_number(change):
    ops, X = invnet.core.get_ops(np.zeros(1)), np.random.default_rng(0).standard_normal((3, 5, 2, 2))
    changed = X.copy()
    changed[1].flat[change] += 1e-9
    assert [bool(np.all(a == b)) for a, b in zip(ops.fingerprint(X), ops.fingerprint(changed))] == [True, False, True]


def test_a_single_sample():
    net, X = deep(64, 0.3)
    for x in X:
        _, _, rebuilt, _ = step(net, x[None])
        assert net.drift.states[-1][1] == pytest.approx(np.linalg.norm(rebuilt - x) / np.linalg.norm(x), rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"anchors": 3}, {"strict": 0.0}, {"strict": 1e-3}])
def test_an_empty_batch(settings):
    net, X = glow()
    for name, value in settings.items():
        setattr(net, name, value)
    assert [a.shape for a in _flat(step(net, X[:0]))[:3]] == [X[:0].shape] * 3


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e25])
@pytest.mark.parametrize("settings", [{}, {"anchors": 3}, {"strict": 0.0}, {"strict": 1e-3}])
def test_values_beyond_all_bounds_are_no_drift(settings, value):
    net, X = deep(8, 0.01)
    for name, setting in settings.items():
        setattr(net, name, setting)
    X[3, 1] = value
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error")
        Z, _ = net.forward(X)
        dX, _ = net.backward(np.ones_like(Z), Z)
    assert np.isfinite(dX[0]).all()


def test_a_pass_that_fails_leaves_nothing_behind():
    net, X = glow()
    net.strict = 0.0
    expected = _flat(step(net, X))
    layer = net.layers[-2]
    for name in ("forward_", "backward_"):
        setattr(layer, name, lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            step(net, X)
        delattr(layer, name)
        assert current().monitor is None and net.saved_pass is None
        for got, e in zip(_flat(step(net, X)), expected, strict=True):
            np.testing.assert_array_equal(got, e)


def test_one_net_in_two_threads():
    net, X = glow()
    Xs, found, barrier = [X, X[::-1] + 1], [None, None], threading.Barrier(2)
    expected = [net.forward(X)[0] for X in Xs]

    def work(i):
        for _ in range(5):
            barrier.wait()
            Z, _ = net.forward(Xs[i])
            barrier.wait()
            found[i] = Z, net.backward(Z, Z)[1]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        np.testing.assert_array_equal(found[i][0], expected[i])
        np.testing.assert_allclose(found[i][1], Xs[i], atol=1e-4)


def test_no_tolerance_measures_nothing():
    net, X = deep(64, 0.5)
    net.drift_tolerance = None
    Z, _ = net.forward(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.backward(Z, Z)
    assert net.drift is None


def test_reconstruction_error_of_every_layer():
    net, X = deep(64, 0.3)
    net._steps = net._short_steps  # step by step, as the report goes
    report = reconstruction_error(net, X)
    rebuilt = step(net, X)[2]
    assert report.error == pytest.approx(
        np.max(np.linalg.norm(rebuilt - X, axis=1)) / np.sqrt(np.mean(np.sum(X * X, axis=1))), rel=1e-3
    )
    assert [name for name, _ in report.layers] == [f"layers.{3 * i}" for i in range(64)]
    errors = [error for _, error in report.layers]
    assert errors[0] == pytest.approx(report.error) and errors[0] > 10 * errors[-1]
    assert 0 < report.logdet_error < 1e-3


# ---- bounding it


@pytest.mark.parametrize("anchors", [1, 5, "auto"])
def test_anchors_end_the_drift(anchors):
    net, X = deep(64, 0.5)
    expected = stored(net, X)[3]
    unguarded = step(unhealed(net), X)
    net.anchors = anchors
    Z, dX, rebuilt, gradients = step(net, X)
    np.testing.assert_array_equal(rebuilt, X)
    assert error(gradients, expected) < error(unguarded[3], expected) / 50


def test_states_in_double_precision():
    net, X = deep(64, 0.5)
    expected = copy.deepcopy(net).to(dtype="float64")
    truth = stored(expected, X.astype("float64"))[3]
    single = step(unhealed(net), X)
    net.state_dtype = "float64"
    Z, dX, rebuilt, gradients = step(net, X)
    assert Z.dtype == rebuilt.dtype == np.float64 and all(g.dtype == np.float32 for g in gradients)
    assert np.abs(rebuilt - X).max() < 1e-5 * np.abs(single[2] - X).max()
    assert error(gradients, truth) < 1e-3 < error(single[3], truth)


def test_states_in_double_precision_of_a_glow():
    net, X = glow()
    truth = stored(copy.deepcopy(net).to(dtype="float64"), X.astype("float64"))[3]
    net.state_dtype = "float64"
    assert error(step(net, X)[3], truth) < 1e-4
    net.state_dtype = None
    assert step(net, X)[0].dtype == np.float32


def test_states_in_double_precision_beside_conditioners_in_bfloat16():
    torch = pytest.importorskip("torch")
    net, X = glow()
    net.to("torch")
    net.state_dtype, X = "float64", torch.from_numpy(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        Z, _ = net.forward(X)
        _, rebuilt = net.backward(Z / len(Z), Z)
    assert Z.dtype == torch.float64 and float((rebuilt - X).abs().max()) < 1e-12
    assert 0 < net.drift.error < 1e-13


def test_a_layer_that_computes_in_its_own_dtype_refuses_another():
    with pytest.raises(TypeError, match="state_dtype is for couplings .*AutoregressiveAffine"):
        invnet.MAF(3, 8, 2).state_dtype = "float64"
    with pytest.raises(ValueError, match="float32 or float64"):
        glow()[0].state_dtype = "float16"


# ---- guaranteeing it


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("make", [lambda: deep(64, 0.5), lambda: deep(20, 1.0, activation="relu")])
def test_strict_0_is_to_the_bit_what_stored_states_give(make, reverse):
    net, X = make()
    expected = stored(net, X, reverse=reverse)
    net.strict = 0.0
    for got, e in zip(_flat(step(net, X, reverse=reverse)), _flat(expected), strict=True):
        np.testing.assert_array_equal(got, e)


@pytest.mark.parametrize("reverse", [False, True])
def test_strict_0_of_a_multiscale_net_is_what_every_state_stored_gives(reverse):
    net, X = glow()
    net.anchors = 1
    expected = _flat(step(net, X, reverse=reverse))
    net.anchors, net.strict = "auto", 0.0
    for got, e in zip(_flat(step(net, X, reverse=reverse)), expected, strict=True):
        np.testing.assert_array_equal(got, e)


def _flat(results):
    return [*results[:3], *results[3]]


@pytest.mark.parametrize("anchors", [pytest.param(0, marks=pytest.mark.exhaustive), 16])
@pytest.mark.parametrize(
    "steps, gain, strict", [(1024, 0.12, 3e-7), pytest.param(128, 0.5, 3e-6, marks=pytest.mark.exhaustive)]
)  # 0.12: 1e-6 a segment, more or less by the processor
def test_many_steps_whose_inverse_amplifies(steps, gain, strict, anchors):
    net, X = deep(steps, gain)
    expected = stored(net, X)[3]
    assert all(np.isfinite(g).all() for g in expected)
    assert not error(step(unhealed(net), X)[3], expected) < 0.1  # without
    net.anchors, net.strict = anchors, strict
    assert error(step(net, X)[3], expected) < 1e-3
    assert net.drift.redone > 0
    net.strict = 0.0
    for got, e in zip(step(net, X)[3], expected, strict=True):
        np.testing.assert_array_equal(got, e)


def test_a_segment_that_drifts_is_redone_and_others_are_not():
    net, X = deep(64, 0.3)
    net.anchors, net.strict = 8, 1.0
    step(net, X)
    assert net.drift.redone == 0
    drifts = sorted(value for _, value in net.drift.states)
    net.strict = drifts[-2]
    step(net, X)
    assert 1 <= net.drift.redone < 8
    assert net.drift.error <= net.strict


def test_strict_leaves_the_gradient_of_a_condition_and_of_shared_layers_right():
    numbers = np.random.default_rng(0)
    net, X = deep(16, 0.2, cond_channels=3)
    chain = invnet.Chain(*net.layers, invnet.Permute.reversal(6), *net.layers[:9])
    c = numbers.standard_normal((20, 3)).astype("float32")
    results = []
    for strict in (0.0, 1e-7):
        chain.strict, cond = strict, invnet.Condition(c)
        results.append([*_flat(step(chain, X, cond)), cond.grad])
    assert chain.drift.redone > 0
    truth = copy.deepcopy(chain).to(dtype="float64")
    truth.strict, cond = None, invnet.Condition(c.astype("float64"))
    expected = [*_flat(step(truth, X.astype("float64"), cond)), cond.grad]
    for result in results:
        assert error(result[3:], expected[3:]) < 1e-3


def test_strict_with_a_memory_budget():
    net, X = deep(32, 0.5)
    expected = stored(net, X)
    net.strict, net.memory_budget = 0.0, 1 << 30
    for _ in range(2):
        for got, e in zip(_flat(step(net, X)), _flat(expected), strict=True):
            np.testing.assert_array_equal(got, e)


class Around(invnet.core.InPlaceLayer):
    """A user's composition: a map, and a Chain in a private attribute, back through which it goes as such, or layer by
    layer.
    """

    def __init__(self, *layers, mirrored=True):
        self.layers, self._chain = layers, invnet.Chain(*layers)
        self._back = [self._chain] if mirrored else layers[::-1]

    def forward_(self, X, cond=None):
        return self._chain.forward_(X * 3, cond)

    def backward_(self, dZ, Z, dlogdet, cond=None):
        for layer in self._back:
            dZ, Z = layer.backward_(dZ, Z, dlogdet, cond)
        return dZ * 3, Z / 3


@pytest.mark.parametrize("strict", [0.0, 1e-6])
def test_strict_through_compositions_of_users(strict):
    net, X = deep(48, 0.4)
    chain = invnet.Chain(*net.layers[:31], Around(*net.layers[31:90]), Around(*net.layers[90:100]), *net.layers[100:])
    chain.anchors = 1
    expected = _flat(step(chain, X))
    unguarded = unhealed(chain)
    unguarded.anchors = 0
    assert not error(step(unguarded, X)[3], expected[3:]) < 0.1  # or NaN
    chain.anchors, chain.strict = 7, strict
    got = _flat(step(chain, X))
    assert chain.drift.redone > 2
    assert error(got[3:], expected[3:]) < 1e-3
    if strict == 0:
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_composition_that_goes_back_otherwise_does_not_disturb_the_rest():
    net, X = deep(16, 0.3)
    chain = invnet.Chain(*net.layers[:20], Around(*net.layers[20:30], mirrored=False), *net.layers[30:])
    chain.anchors = 1
    expected = _flat(step(chain, X))
    chain.strict = 0.0
    for got, e in zip(_flat(step(chain, X)), expected, strict=True):
        np.testing.assert_array_equal(got, e)


def test_strict_refuses_what_it_cannot_guarantee():
    net, X = glow()
    net.strict = 1e-3
    Z, _ = net.forward(X)
    with pytest.raises(ValueError, match="with strict, backward takes what the last forward gave, once"):
        net.backward(Z, Z + 1)
    Z, _ = net.forward(X)
    net.backward(Z, Z)
    with pytest.raises(ValueError, match="once"):
        net.backward(Z, Z)
    X, _ = net.inverse_logdet(Z)
    net.inverse_backward(X, X)
    with pytest.raises(ValueError, match="inverse_backward takes what the last inverse_logdet gave"):
        net.inverse_backward(X, net.inverse(Z))


def test_strict_of_a_layer_alone():
    layer, X = invnet.Conv1x1(3), np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    layer.strict = 0.0
    Z, _ = layer.forward(X)
    np.testing.assert_allclose(layer.backward(Z, Z)[1], X, atol=1e-5)


@pytest.mark.parametrize(
    "name, value, match",
    [
        ("anchors", -1, "anchors is a number of steps"),
        ("anchors", 1.5, "anchors is"),
        ("anchors", "all", "anchors is"),
        ("strict", -1.0, "strict is the largest drift"),
        ("strict", "0", "strict is"),
        ("strict", float("nan"), "strict is"),
        ("drift_tolerance", 0, "drift_tolerance is a positive number"),
        ("drift_tolerance", "no", "drift_tolerance is"),
    ],
)
def test_settings_are_checked(name, value, match):
    with pytest.raises(ValueError, match=match):
        setattr(glow()[0], name, value)


# ---- 1x1 mixes that are nearly singular


def mixing(condition, parametrisation="full", channels=4):
    """A net whose second mix, layers.4, has that condition number."""
    net = invnet.Chain(
        *(
            layer
            for i in range(3)
            for layer in (
                invnet.ActNorm(channels),
                invnet.Conv1x1(channels, parametrisation, seed=i),
                invnet.AffineCoupling(channels, invnet.DenseNet(channels // 2, 8, channels)),
            )
        )
    )
    s = np.geomspace(1, 1 / condition, channels)
    if parametrisation == "full":
        net.layers[4].W.data[...] *= s
    else:
        net.layers[4].log_s.data[...] = np.log(s)
    return net, np.random.default_rng(0).standard_normal((20, channels)).astype("float32")


@pytest.mark.parametrize("parametrisation", ["full", "lu"])
@pytest.mark.parametrize("method", ["inverse", "backward"])
def test_a_mix_that_is_nearly_singular_is_named_with_its_condition_number_once(method, parametrisation):
    net, X = mixing(1e5, parametrisation)
    Z, _ = net.forward(X)
    call = {"inverse": lambda: net.inverse(Z), "backward": lambda: net.backward(Z, Z)}[method]
    net.drift_tolerance = None
    true = np.linalg.cond(net.layers[4].affine()[0])
    with pytest.warns(RuntimeWarning) as caught:
        call(), call()
    assert len(caught) == 1
    assert f"layers.4, Conv1x1, maps channels by a matrix of condition number {true:.1e}" in str(caught[0].message)
    assert "householder" in str(caught[0].message) and "float32" in str(caught[0].message)


@pytest.mark.parametrize("method", ["inverse", "backward"])
def test_a_singular_mix_is_an_error(method):
    net, X = mixing(1)
    net.layers[4].W.data[1] = net.layers[4].W.data[0]
    with np.errstate(divide="ignore"):
        Z, _ = net.forward(X)
    with pytest.raises(FloatingPointError, match=r"layers\.4, Conv1x1, maps .* condition number inf: it is singular"):
        {"inverse": lambda: net.inverse(Z), "backward": lambda: net.backward(Z, Z)}[method]()


@pytest.mark.parametrize("make", [lambda: mixing(1e3), lambda: mixing(1e5, channels=2)])
def test_a_mix_of_usual_condition_or_in_double_precision_is_not_reported(make):
    net, X = make()
    if np.linalg.cond(net.layers[4].W.data) > 1e4:
        net.state_dtype = "float64"
    for layer in net.layers[::3]:
        layer.log_s.data[...] = np.linspace(
            -6, 6, net.layers[0].channels
        )  # of channels of unlike sizes, which is no mix
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.inverse(net.forward(X)[0])


def test_weights_that_are_not_finite_are_no_singular_mix():
    net, X = mixing(1)
    net.layers[4].W.data[0, 0] = np.nan
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(net.inverse(X)).any()
