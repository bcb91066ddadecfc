"""A backward that drifted too far is computed again from stored states, and says so; what a pass leaves belongs to its
Z.
"""

import copy
import re
import threading
import warnings

import numpy as np
import pytest
from cases import LAYERS, representatives
from engines import aten_on_the_cpu
from test_drift import deep

import invnet
from invnet.core import Conditioner, get_ops
from invnet.layers.autoregressive import Autoregressive
from invnet.layers.coupling import Coupling
from invnet.passes import drift
from invnet.passes.policy import CALM

pytestmark = pytest.mark.own_seeds  # how far a network drifts is known for its weights

float32 = np.float32


def numbers(shape, seed=0, dtype=float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def drifting(steps=64, noise=0.06, seed=0, **options):
    """A Glow with ordinary perturbed weights, whose backward loses all digits, and a batch."""
    net, X, rng = invnet.Glow(3, 16, 1, steps, **options), numbers((4, 3, 8, 8)), np.random.default_rng(seed + 1)
    net.initialize(X)
    for parameter in net.parameters():
        parameter.data += (noise * rng.standard_normal(parameter.data.shape)).astype(float32)
    net.initialize(X)
    return net, X


def step(net, X, cond=None):
    """What a step of README's loop gives, without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Z, _ = net.forward(X, cond)
        dX, rebuilt = net.backward(Z / len(Z), Z, None, cond)
    return [
        get_ops(array).to_numpy(array).copy()
        for array in (Z, dX, rebuilt, *(parameter.grad for parameter in net.parameters()))
    ]


def strictly(net, X, cond=None):
    """The same of a copy that computes every segment again."""
    net = copy.deepcopy(net)
    net.strict = 0.0
    net.zero_grad()
    return step(net, X, cond)


def equal(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def total_error(got, expected):
    a, b = (np.concatenate([g.ravel() for g in gradients]).astype("float64") for gradients in (got, expected))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


# ---- gradients are right


def test_256_steps_of_ordinary_weights_have_the_gradients_of_float64():
    net, X = drifting(256, 0.02)
    double = copy.deepcopy(net).to(dtype="float64")
    double.strict = 0.0
    unguarded = copy.deepcopy(net)
    unguarded.drift_tolerance = None
    truth, wrong, got = step(double, X.astype("float64"))[3:], step(unguarded, X)[3:], step(net, X)
    assert net.drift.healed > drift.TOLERANCE and net.drift.redone > 0 and net.drift.error == 0
    # what float32 itself costs here, 0.5 to 4 % as its rounding falls, is all that is left
    assert total_error(got[3:], truth) < 0.1 < total_error(wrong, truth)


def adversarial(make, bias):
    """A network whose scales are at their bounds, contracting in one channel and stretching in the next."""
    net = make()
    for layer in net.layers:
        if isinstance(layer, invnet.AffineCoupling):
            b = layer.net.b[-1].data
            b[len(b) // 2 :] = bias * (-1.0) ** np.arange(len(b) - len(b) // 2)
    return net


NETS = {
    "256 steps": lambda: drifting(256, 0.02),
    "levels": lambda: (drifting(24, 0.1)[0], numbers((4, 3, 8, 8), 1)),
    "1,024 steps of vectors": lambda: deep(1024, 0.12),
    "scales at their bounds": lambda: (adversarial(lambda: invnet.Glow(3, 8, 1, 32), 20.0), numbers((4, 3, 8, 8))),
    "scales of vectors at their bounds": lambda: (
        adversarial(lambda: invnet.RealNVP(6, 16, 64, mix="lu"), 20.0),
        numbers((300, 6)),
    ),
    "additive": lambda: drifting(64, 0.1, coupling="additive"),
    "spline": lambda: (perturbed(invnet.NSF(5, 16, 24, mix="lu"), numbers((300, 5)), 0.3), numbers((300, 5))),
    "MAF": lambda: (perturbed(invnet.MAF(6, 16, 12), numbers((300, 6)), 0.4), numbers((300, 6))),
}


def perturbed(net, X, noise):
    rng = np.random.default_rng(3)
    net.initialize(X)
    for parameter in net.parameters():
        parameter.data += (noise * rng.standard_normal(parameter.data.shape)).astype(float32)
    net.initialize(X)
    return net


@pytest.mark.parametrize("name", NETS)
def test_healed_gradients_are_to_the_bit_those_of_stored_states(name):
    net, X = NETS[name]()
    expected = strictly(net, X)
    got = step(net, X)
    assert net.drift.healed > drift.TOLERANCE
    equal(got, expected)
    np.testing.assert_array_equal(got[2], X)


@pytest.mark.parametrize("reverse", [False, True])
def test_either_direction_heals(reverse):
    net, X = drifting()
    layer = invnet.Reverse(net) if reverse else net
    Z, _ = (layer.inverse_logdet if reverse else layer.forward)(X)
    back = layer.inverse_backward if reverse else layer.backward
    with pytest.warns(RuntimeWarning, match="were computed again"):
        _, rebuilt = back(Z / 4, Z)
    np.testing.assert_array_equal(rebuilt, X)


def test_gradients_that_were_there_are_added_to():
    net, X = drifting()
    for i, parameter in enumerate(net.parameters()):
        parameter.grad = np.full_like(parameter.data, 1e6 * (i % 3))
    before = [parameter.grad.copy() for parameter in net.parameters()]
    got = step(net, X)[3:]
    for g, b, e in zip(got, before, strictly(net, X)[3:], strict=True):
        np.testing.assert_allclose(g, b + e, rtol=1e-5)


def test_gradients_that_were_none_are_made():
    net, X = drifting()
    for parameter in net.parameters():
        parameter.grad = None
    equal(step(net, X), strictly(net, X))


def test_the_gradient_of_a_condition_heals_too():
    net = invnet.Glow(3, 16, 1, 64, cond_channels=2)
    X, c = numbers((4, 3, 8, 8)), numbers((4, 2), 5)
    rng = np.random.default_rng(1)
    net.initialize(X, c)
    for parameter in net.parameters():
        parameter.data += (0.06 * rng.standard_normal(parameter.data.shape)).astype(float32)
    net.initialize(X, c)
    results = []
    for strict in (None, 0.0):
        net.strict, cond = strict, invnet.Condition(c)
        net.zero_grad()
        results.append([*step(net, X, cond), cond.grad])
        assert strict == 0 or net.drift.healed
    equal(*results)


def test_tensors_and_modules_of_pytorch_heal():
    torch = pytest.importorskip("torch")
    net, X = drifting()
    expected, x = strictly(net, X)[3:], torch.from_numpy(X)
    tensors = copy.deepcopy(net).to("torch")
    equal(step(tensors, x)[3:], expected)
    module = invnet.torch.as_module(copy.deepcopy(net))
    graphs = [module(x), module(x + 1)]  # two at one time, of which each has what its forward left
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        z, logdet = graphs[0]
        (0.5 * z.square().sum() / 4 - logdet.mean()).backward(retain_graph=True)
        assert module.layer.drift.healed and module.layer.drift.error == 0
        once = [p.grad.clone() for p in module.parameters()]
        (0.5 * z.square().sum() / 4 - logdet.mean()).backward()
    for p, g, e in zip(module.parameters(), once, expected):
        assert torch.equal(p.grad, 2 * g)
        np.testing.assert_allclose(g, e, rtol=1e-3, atol=1e-3 * abs(e).max())


def test_a_device_is_not_waited_for_and_who_first_needs_the_gradients_heals_them(monkeypatch):
    torch = pytest.importorskip("torch")
    from invnet.ops import torch as torch_engine
    from invnet.passes import healing

    net, X = drifting()
    net, x = net.to("torch"), torch.from_numpy(X)
    with aten_on_the_cpu():
        expected = strictly(net, x)
        monkeypatch.setattr(torch_engine._on_device(torch.device("cpu")), "asynchronous", True)
        for need in (
            lambda: net.drift,
            lambda: invnet.optim.clip_by_global_norm(net.parameters(), 1e30),
            lambda: net.parameters()[0].grad,
            lambda: invnet.optim.SGD(net.parameters(), 1e-30).step(),
        ):
            net.zero_grad()
            net.go_on(0, 0)
            Z, _ = net.forward(x)
            dZ = Z / 4
            dX, rebuilt = net.backward(dZ, Z)
            dZ.zero_()
            assert len(healing._unread) == 1 and not torch.equal(rebuilt, x)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                need()
            assert not healing._unread and net.drift.healed
            equal([dX.numpy(), rebuilt.numpy(), *(p.grad.numpy() for p in net.parameters())], expected[1:])


# ---- what it says, and how long it lasts


@pytest.mark.parametrize(
    "options, advice, never",
    [
        ({}, ["a smaller `bound`", 'mix="householder"', 'state_dtype="float64"'], []),
        ({"mix": "householder"}, ["a smaller `bound`"], ['householder"']),
        ({"coupling": "additive", "noise": 0.1}, ['mix="householder"'], ["bound"]),
        ({"scale": "sigmoid"}, ['scale="bounded"'], ["`bound`"]),
    ],
)
def test_it_says_so_once_with_the_name_of_a_layer_and_advice_that_fits(options, advice, never):
    net, X = drifting(**options)
    Z, _ = net.forward(X)
    with pytest.warns(RuntimeWarning) as caught:
        net.backward(Z / 4, Z)
        Z, _ = net.forward(X)
        net.backward(Z / 4, Z)
    (text,) = (str(warning.message) for warning in caught)
    name, kind = re.match(r"the input of (layers\.\d+), (\w+), was rebuilt with a relative error of", text).groups()
    assert type(net.layers[int(name.split(".")[1])]).__name__ == kind
    assert all(part in text for part in advice) and not any(part in text for part in never), text
    assert caught[0].filename == __file__


def test_a_network_stays_on_guard_until_it_is_calm():
    net, X = drifting()
    step(net, X)
    assert net.on_guard == CALM
    calm = invnet.Glow(3, 16, 1, 64, seed=0)
    net.load_state_dict(calm.state_dict())
    for left in reversed(range(CALM)):
        step(net, X)
        assert net.on_guard == left and net.drift.redone == 0
    step(net, X)
    assert net.on_guard == 0 and net.drift.healed is None


def test_a_network_on_guard_redoes_what_drifts():
    net, X = drifting()
    net.drift_tolerance = 1e-6
    step(net, X)
    net.zero_grad()
    got = step(net, X)
    assert net.on_guard == CALM and net.drift.redone > 0 and net.drift.error <= 1e-6
    assert total_error(got[3:], strictly(net, X)[3:]) < 1e-3


def test_no_tolerance_heals_nothing():
    net, X = drifting()
    net.drift_tolerance = None
    rebuilt = step(net, X)[2]
    assert net.drift is None and not np.array_equal(rebuilt, X)


def test_x_that_was_changed_in_place_is_seen_and_backward_only_warns():
    net, X = drifting()
    expected = step(copy.deepcopy(net), X)
    without = copy.deepcopy(net)
    without.drift_tolerance = None
    drifted = step(without, X)
    Z, _ = net.forward(X)
    X[0, 0, 0, 0] += 1e-3
    with pytest.warns(RuntimeWarning, match="may be as wrong: they are computed again only where .* X is unchanged"):
        _, rebuilt = net.backward(Z / 4, Z)
    assert net.drift.healed is None and net.drift.error > drift.TOLERANCE
    equal([rebuilt, *(p.grad for p in net.parameters())], drifted[2:])
    assert not np.array_equal(rebuilt, expected[2])


def test_parameters_that_changed_between_are_named_as_the_cause():
    net, X = drifting(8, 0.02)
    Z, _ = net.forward(X)
    net.parameters()[0].data += 0.1
    with pytest.warns(RuntimeWarning, match="parameters or the condition changed between forward and backward"):
        net.backward(Z / 4, Z)


def test_the_array_that_forward_was_given_is_held_until_backward_and_by_compositions_alone():
    import weakref

    net, X = drifting(8, 0.02)
    for layer, held in ((net, True), (net.layers[1], False)):
        x = numbers((4, layer.channels if layer.channels else 3, 8, 8), 7)
        gone = weakref.ref(x)
        Z, _ = layer.forward(x)
        del x
        assert (gone() is not None) == held
        layer.backward(Z, Z)
        assert gone() is None


def test_a_training_heals_and_its_metrics_say_so():
    net = invnet.Chain(invnet.Logit(), drifting()[0])
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8)).astype("uint8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = invnet.train.fit(
            net, invnet.data.split(images, 256, "noise"), epochs=1, batch=8, lr=1e-6, progress=False
        )
    assert max(row["drift"] for row in rows) > drift.TOLERANCE
    assert all(np.isfinite(row["train"]) for row in rows)


# ---- what is measured


def test_errors_that_cancel_in_a_projection_are_seen_at_x():
    """Two equal components of an error, whose signs are opposite in half of all projections."""

    class Off(invnet.core.InPlaceLayer):
        def forward_(self, X, cond=None):
            return X, np.zeros(len(X), X.dtype)

        def backward_(self, dZ, Z, dlogdet, cond=None):
            Z[0] += 0.05
            return dZ, Z

    chain, X = invnet.Chain(Off()), numbers((2000, 2))
    chain.drift_tolerance = np.inf
    for _ in range(20):
        Z, _ = chain.forward(X)
        chain.backward(Z, Z)
        assert chain.drift.error == pytest.approx(0.05 * np.sqrt(2) / np.sqrt(np.mean(np.sum(X * X, axis=1))), rel=1e-4)


def test_states_between_are_projected_on_other_signs_in_each_pass():
    ops, D = get_ops(np.zeros(1)), np.ones((2000, 2), float32)
    seen = [float(np.abs(ops.fingerprint(D, n * 997 % 4096)).max()) for n in range(64)]
    assert 10 < sum(value > 0 for value in seen) < 54  # the same signs every time would give none or all
    net, X = drifting(4, 0.0)
    windows = []
    for _ in range(3):
        Z, _ = net.forward(X)
        windows.append(net.saved_pass.monitor.window)
    assert len(set(windows)) == 3


@pytest.mark.parametrize("name", ["vectors", "images", "images apart", "tensors", "planar", "logit", "apart"])
def test_log_determinants_are_measured_on_every_path(name):
    X = numbers((70, 4), dtype="float64")
    net = {
        "vectors": lambda: invnet.RealNVP(4, 8, 6, actnorm=True, dtype="float64"),
        "images": lambda: invnet.Glow(2, 8, 1, 3, dtype="float64"),
        "images apart": lambda: invnet.Glow(2, 8, 1, 3, cond_channels=1, dtype="float64"),
        "tensors": lambda: invnet.RealNVP(4, 8, 6, dtype="float64").to("torch"),
        "planar": lambda: invnet.PlanarFlow(4, 5, dtype="float64"),
        "logit": lambda: invnet.Chain(invnet.Logit(), invnet.Permute.reversal(4)),
        "apart": lambda: invnet.RealNVP(4, 8, 6, cond_channels=1, dtype="float64"),
    }[name]()
    cond = np.ones((8 if name == "images apart" else 70, 1)) if "apart" in name else None
    if "images" in name:
        X = numbers((8, 2, 4, 4), dtype="float64")
    if name == "tensors":
        import torch

        X = torch.from_numpy(X)
    if name == "logit":
        X = 0.5 + 0.05 * X
    for parameter in net.parameters():
        noise = 0.1 * numbers(tuple(parameter.data.shape), 9, "float64")
        parameter.data += noise if name != "tensors" else torch.from_numpy(noise)
    net.drift_tolerance = np.inf
    Z, logdet = net.forward(X, cond)
    net.backward(Z, Z, None, cond)
    assert 0 <= net.drift.logdet_error < 1e-12
    Z, logdet = net.forward(X, cond)
    if net.parameters():
        net.parameters()[-1].data += 0.3  # the log-determinant of what is rebuilt is another
        net.backward(Z, Z, None, cond)
        assert net.drift.logdet_error > 1e-5


def test_unknown_is_none():
    chain = invnet.Chain(invnet.Permute.reversal(3))
    chain.drift_tolerance = 1.0
    Z, _ = chain.forward(numbers((4, 3)))
    chain.backward(Z, Z)
    assert chain.drift.logdet_error is None  # it is 0 whatever is rebuilt, and nobody looked
    nothing = drift.Drift([], [], 0)
    assert nothing.error is None and nothing.worst == (None, None) and nothing.logdet_error is None
    assert repr(nothing) == "Drift(error=None, logdet_error=None, redone=0)"


# ---- a pass belongs to its Z


class Drawing(Conditioner):
    """A conditioner whose outputs are multiplied by a number that is drawn anew in each pass, another one for each
    tile.
    """

    numbers = np.random.default_rng(0)

    def __init__(self, net):
        self.net = net
        for name in ("floats_per_position", "reach", "cond_channels"):
            setattr(self, name, getattr(net, name))

    def rng_state(self):
        return int(Drawing.numbers.integers(1 << 30))

    def with_rng(self, draw, tile, again):
        return _OnTile(self.net, np.random.default_rng((draw, tile)).uniform(0.5, 1.5))


class _OnTile:
    def __init__(self, net, factor):
        self.net, self.factor = net, factor

    def forward(self, x, cond=None):
        return self.net.forward(x, cond) * self.factor

    def vjp(self, x, cond=None):
        h, pullback = self.net.vjp(x, cond)
        return h * self.factor, lambda dh: pullback(dh * self.factor)


def with_draws(layer):
    """Gives all conditioners within random numbers; whether there are any, and whether one is in a layer that
    solves.
    """
    found = solves = False
    for part in layer.layers_within():
        if isinstance(part, Coupling):
            part.net, found, solves = Drawing(part.net), True, solves or isinstance(part, Autoregressive)
        elif isinstance(part, invnet.layers.PartitionedAdditiveCoupling):
            part.nets, found = tuple(map(Drawing, part.nets)), True
    return found, solves


@pytest.mark.parametrize("name", representatives(LAYERS))
def test_every_layer_with_a_conditioner_replays_what_that_drew(name):
    layer, X, cond = LAYERS[name].build()
    found, solves = with_draws(layer)
    if not found or type(layer).__name__ == "Exact":
        pytest.skip("no conditioner of invnet's in it, or its own bits")
    if solves:
        with pytest.raises(TypeError, match="draws random numbers in each"):
            layer.forward(X, cond)
        return
    Z, _ = layer.forward(X, cond)
    layer.inverse(Z, cond)
    flow = invnet.Flow(layer, X.shape[1:])
    flow.log_prob(X, cond), flow.sample(2, cond=None if cond is None else cond[:2])
    _, rebuilt = layer.backward(Z, Z, None, cond)
    np.testing.assert_allclose(rebuilt, X, atol=1e-8)
    _, rebuilt = layer.backward(Z, Z, None, cond)  # twice from one Z, as with two losses
    np.testing.assert_allclose(rebuilt, X, atol=1e-8)
    Y, _ = layer.inverse_logdet(Z, cond)
    _, back = layer.inverse_backward(Y, Y, None, cond)
    np.testing.assert_allclose(back, Z, atol=1e-8)


@pytest.mark.parametrize("strict", [0.0, 1e-9])
def test_segments_that_are_computed_again_replay_too(strict):
    net, X = drifting(16, 0.05)
    with_draws(net)
    net.strict = strict
    rebuilt = step(net, X)[2]
    assert net.drift.redone > 0
    np.testing.assert_array_equal(rebuilt, X)


def test_a_healed_backward_replays():
    net, X = drifting()
    with_draws(net)
    results = []
    for strict in (None, 0.0):
        net.strict = strict
        net.zero_grad()
        Drawing.numbers = np.random.default_rng(3)
        results.append(step(net, X))
        assert strict == 0 or net.drift.healed
    equal(*results)


def test_what_another_pass_drew_is_not_taken_and_the_error_says_which_call_is_missing():
    net, X = drifting(4, 0.02)
    with_draws(net)
    Z, _ = net.forward(X)
    net.forward(X + 1)
    with pytest.raises(
        ValueError, match="backward needs those of the pass that gave its argument: call forward right before it"
    ):
        net.backward(Z, Z)
    net.inverse_logdet(Z)
    with pytest.raises(ValueError, match="call inverse_logdet right before it"):
        net.inverse_backward(X, X)


def test_what_is_not_a_number_is_replayed_and_is_no_drift():
    net, X = drifting(4, 0.02)
    with_draws(net)
    X[1, 0, 0, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Z, _ = net.forward(X)
        _, rebuilt = net.backward(Z, Z)
    np.testing.assert_allclose(rebuilt[[0, 2, 3]], X[[0, 2, 3]], atol=1e-3)


def test_log_prob_beside_a_training_in_another_thread():
    net, X = drifting(4, 0.02)
    with_draws(net)
    flow, failures, stop = invnet.Flow(net, (3, 8, 8)), [], threading.Event()

    def evaluate():
        while not stop.is_set():
            if not np.isfinite(flow.log_prob(X)).all():
                failures.append("log_prob")

    thread = threading.Thread(target=evaluate)
    thread.start()
    try:
        for _ in range(20):
            np.testing.assert_allclose(step(net, X)[2], X, atol=1e-3)
    finally:
        stop.set()
        thread.join()
    assert not failures
