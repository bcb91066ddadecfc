"""Exact rebuilds every state to the bit, at any depth and for any data on its grid, or says that it cannot."""

import array_api_compat.numpy
import numpy as np
import pytest
from cases import EXACT, LAYERS
from hypothesis import given, settings
from hypothesis import strategies as st

import invnet
from invnet import ActNorm, AdditiveCoupling, AffineCoupling, Chain, Conv1x1, DenseNet, Exact, Glow
from invnet.layers.coupling import Coupling
from invnet.ops import _of_type
from invnet.ops.grid import DIGITS, grid_of
from invnet.ops.lifting import lifting_of
from invnet.ops.numpy import NumpyOps
from invnet.ops.reference import Ops
from invnet.testing import LAYER_LAWS

ENGINES = [NumpyOps(), Ops(array_api_compat.numpy)]
OTHERS = {
    "nothing_is_kept_between_calls",
    "samples_do_not_mix",
    "batch_size_may_change_between_calls",
}  # see docs/stability.md
some = settings(max_examples=60, deadline=None)


@pytest.fixture(params=ENGINES, ids=lambda ops: ops.name)
def ops(request, monkeypatch):
    monkeypatch.setitem(_of_type, np.ndarray, lambda array: request.param)
    return request.param


def snapped(X, limit=256.0):
    step = grid_of(limit, X.dtype.itemsize).step
    return np.rint(X / step) * step + X.dtype.type(0)


def same(a, b):
    """Whether two arrays are the same in every bit."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()
    )


# ---- the laws


@pytest.mark.own_seeds  # whose states are within the limits of Exact
@pytest.mark.parametrize("law", [law for law in LAYER_LAWS if law.__name__ not in OTHERS], ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", EXACT)
def test_laws(name, law):
    law(*EXACT[name].build(), np.random.default_rng(0))


@pytest.mark.parametrize("name", EXACT)
def test_a_sample_gives_what_it_gives_in_its_batch(name):
    layer, X, cond = EXACT[name].build()
    Z, logdet = layer.forward(X, cond)
    dZ, one = np.random.default_rng(0).standard_normal(Z.shape), None if cond is None else cond[1:2]
    dX, _ = layer.backward(dZ, Z, 0.5, cond)
    Z1, logdet1 = layer.forward(X[1:2], one)
    dX1, X1 = layer.backward(dZ[1:2], Z1, 0.5, one)
    for a, b in ((Z1, Z[1:2]), (logdet1, logdet[1:2]), (dX1, dX[1:2])):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    assert same(X1, snapped(X[1:2], 64))


@pytest.mark.parametrize("name", EXACT)
def test_inverse_after_a_forward_of_another_batch_size(name):
    layer, X, cond = EXACT[name].build()
    Z, _ = layer.forward(X, cond)
    layer.forward(np.concatenate([X, X]), None if cond is None else np.concatenate([cond, cond]))
    np.testing.assert_allclose(layer.inverse(Z, cond), X, atol=1e-9)


# ---- operations: any scale, any matrix, any number of the grid

SCALES = [0.0, 1e-30, 1e-9, 0.25, 1 / 3, 0.5, 1 - 2**-53, 1 - 2**-24, 1.0, 1 + 2**-52, 1 + 2**-23, 1.5, 2.0, 3.999]


@some
@given(seed=st.integers(0, 2**32), dtype=st.sampled_from(["float32", "float64"]), spread=st.integers(0, 50))
@pytest.mark.parametrize("ops", ENGINES, ids=lambda ops: ops.name)
def test_a_scale_is_undone_to_the_bit(ops, seed, dtype, spread):
    rng, grid = np.random.default_rng(seed), grid_of(256.0, np.dtype(dtype).itemsize)
    most = min(2**spread, int(grid.most))
    n = np.concatenate([rng.integers(-most, most, 300, endpoint=True), [most, -most, 0, 1, -1]])
    s = np.where(rng.random(n.size) < 0.5, rng.choice(SCALES, n.size), 2.0 ** rng.uniform(-20, 0, n.size)).astype(dtype)
    n[np.abs(n * s.astype("float64")) > grid.most] = 0
    X = (n * grid.step).astype(dtype)[:, None]
    Z, t = X.copy(), np.zeros_like(X)
    bits = ops._scale_on_grid(Z, t, s[:, None], grid)
    assert np.array_equal(Z[:, 0] / grid.step, np.floor(n * s.astype("float64") + 0.5))
    ops._unscale_on_grid(Z, t, s[:, None], grid, bits)
    assert same(Z, X)


def test_the_bits_are_those_that_the_scale_takes(ops):
    X = snapped(np.random.default_rng(0).standard_normal((50000, 2)).astype("float32"))
    grid = grid_of(256.0, 4)
    for s in (0.25, 0.5, 0.8, 0.99, 1.0, 1.7):
        bits = ops.scale_on_grid_(X.copy(), np.array([s, s], "float32"), grid)
        needed = max(0, -np.log2(s)) * X.size / 8
        assert needed <= len(bits) <= needed + 0.15 * X.size / 8 + 1, s


@some
@given(
    seed=st.integers(0, 2**32),
    C=st.integers(1, 9),
    dtype=st.sampled_from(["float32", "float64"]),
    spread=st.integers(0, 40),
)
@pytest.mark.parametrize("ops", ENGINES, ids=lambda ops: ops.name)
def test_a_lifting_is_undone_to_the_bit(ops, seed, C, dtype, spread):
    rng, grid = np.random.default_rng(seed), grid_of(256.0, np.dtype(dtype).itemsize)
    lifting, most = ops.lifting(rng.standard_normal((C, C))), 2 ** min(spread, 14 if dtype == "float32" else 40)
    X = (rng.integers(-most, most, (70, C), endpoint=True) * grid.step).astype(dtype)
    Z = X.copy()
    ops.lift_(Z, lifting, grid)
    ops.unlift_(Z, lifting, grid)
    assert same(Z, X)


@pytest.mark.parametrize("C", [1, 2, 5, 12, 48])
def test_a_lifting_is_the_matrix_without_its_volume(C, ops):
    rng, grid = np.random.default_rng(C), grid_of(256.0, 8)
    M = rng.standard_normal((C, C))
    M /= abs(np.linalg.det(M)) ** (1 / C)
    X = rng.standard_normal((100, C))
    Z = X.copy()
    ops.lift_(Z, ops.lifting(3 * M), grid)
    np.testing.assert_allclose(Z, X @ M.T, atol=1e3 * C * grid.step * np.linalg.cond(M))
    for ours, reference in zip(ops.lifting(M), lifting_of(M)):
        np.testing.assert_allclose(ours, reference, rtol=1e-9, atol=1e-9)
    assert (
        np.abs(np.triu(ops.lifting(M).factors, 1)).max(initial=0) <= 1
        and np.abs(np.tril(ops.lifting(M).factors, -1)).max(initial=0) <= 1
    )


# ---- depth


def deep(layers, C, dtype="float32", gain=0.3, bias=2.0, mix="lu"):
    """Steps of ActNorm, 1x1 and affine couplings whose scales are driven to the bounds, 1/4 and 4, and ActNorm undoes
    it.
    """
    rng, chain = np.random.default_rng(0), []
    for i in range(layers // 3):
        net = DenseNet(C - C // 2, 8, 2 * (C // 2), activation="silu", seed=i, dtype=dtype)
        net.W[-1].data += (gain / np.sqrt(8) * rng.standard_normal(net.W[-1].data.shape)).astype(dtype)
        net.b[-1].data[C // 2 :] = rng.choice([-bias, bias], C // 2)
        chain += [ActNorm(C, dtype=dtype), Conv1x1(C, mix, seed=i, dtype=dtype), AffineCoupling(C, net)]
    return Chain(*chain, ActNorm(C, dtype=dtype))


def gradients(module):
    return [parameter.grad.copy() for parameter in module.parameters()]


@pytest.fixture(scope="module")
def deepest():
    """1,024 layers in float32, what Exact makes of them, and an input."""
    net, X = deep(1023, 4), np.random.default_rng(1).standard_normal((32, 4)).astype("float32")
    net.initialize(X)
    return net, Exact(net), X


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 0.1, 1.0])
def test_1024_layers_are_rebuilt_to_the_bit(deepest, scale):
    net, exact, X = deepest
    Z, _ = exact.forward(scale * X)
    _, rebuilt = exact.backward(Z, Z)
    assert same(rebuilt, snapped(scale * X))


def test_1024_layers_without_it_are_not(deepest):
    net, _, X = deepest
    net.drift_tolerance = None  # or its gradients would be computed again
    Z, _ = net.forward(X)
    with np.errstate(all="ignore"):
        rebuilt = net.backward(Z, Z)[1]
    assert not np.abs(rebuilt - X).max() < 1e-3  # NaN, or nothing like the 1e-7 of one layer


def test_gradients_of_1024_layers_are_those_of_stored_states(deepest):
    """All layers in one backward against each alone, with its stored input and output; a coupling's is the ordinary
    backward.
    """
    net, exact, X = deepest
    steps, states = [Exact(step) for step in net._folded], [snapped(X)]
    for step in steps:
        states.append(step.forward(states[-1])[0])
    Z, _ = exact.forward(X)
    assert same(Z, states[-1])
    dZ = (1e-6 * np.random.default_rng(2).standard_normal(Z.shape)).astype("float32")
    net.zero_grad()
    dX, _ = exact.backward(dZ, Z, 0.01)
    found, d = gradients(net), dZ
    net.zero_grad()
    for step, before, after in zip(reversed(steps), reversed(states[:-1]), reversed(states[1:])):
        if isinstance(step.layer, Coupling):  # whose gradient needs what it gave alone, not what it rebuilds
            d = step.layer.backward(d, after, 0.01)[0]
        else:
            d, rebuilt = step.backward(d, after, 0.01)
            assert same(rebuilt, before)
    assert same(dX, d)
    assert all(same(a, b) for a, b in zip(found, gradients(net), strict=True))
    assert np.isfinite(dX).all() and all(np.isfinite(g).all() for g in found)


@some
@given(
    seed=st.integers(0, 2**32),
    log_scale=st.floats(-3, 1.5),
    dtype=st.sampled_from(["float32", "float64"]),
    C=st.integers(2, 7),
)
def test_any_data_are_rebuilt_to_the_bit(seed, log_scale, dtype, C):
    rng = np.random.default_rng(seed)
    net = deep(30, C, dtype, rng.uniform(0, 0.3), rng.uniform(0, 5), rng.choice(["lu", "full", "householder"]))
    X = (10**log_scale * rng.standard_t(3, (17, C)).clip(-50, 50)).astype(dtype)
    net.initialize(X)
    exact = Exact(net, 4096)
    Z, _ = exact.forward(X)
    assert same(exact.backward(Z, Z)[1], snapped(X, 4096))


def glow(dtype="float32", size=16, **options):
    net, rng = Glow(3, 16, 2, 3, dtype=dtype, **options), np.random.default_rng(1)
    X = rng.uniform(-1, 1, (6, 3, size, size)).astype(dtype)
    for parameter in net.parameters():
        parameter.data += (0.05 * rng.standard_normal(parameter.data.shape)).astype(dtype)
    net.initialize(X)
    return net, X


@pytest.mark.parametrize(
    "options", [{}, {"scale": "sigmoid", "mix": "full"}, {"coupling": "additive", "mix": "householder"}], ids=str
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_images_are_rebuilt_to_the_bit_whatever_the_threads(options, dtype):
    net, X = glow(dtype, **options)
    exact, before, results = Exact(net), invnet.num_threads(), []
    try:
        for threads in (1, 3):
            invnet.set_num_threads(threads)
            net.zero_grad()
            Z, logdet = exact.forward(X)
            invnet.set_num_threads(4 - threads)  # backward may have others
            dX, rebuilt = exact.backward(Z, Z)
            assert same(rebuilt, snapped(X))
            results.append([Z, logdet, dX, *gradients(net)])
    finally:
        invnet.set_num_threads(before)
    assert all(same(a, b) for a, b in zip(*results, strict=True))


def test_images_in_blocks_are_rebuilt_to_the_bit(monkeypatch):
    monkeypatch.setattr("invnet.ops.numpy.TILE_BYTES", 1 << 16)
    net, X = glow(size=32)
    exact = Exact(net)
    Z, _ = exact.forward(X)
    assert same(exact.backward(Z, Z)[1], snapped(X))


def test_it_is_the_layer_to_within_the_grid():
    net, X = glow()
    Z, logdet = Exact(net).forward(X)
    ordinary, its_logdet = net.forward(X)
    np.testing.assert_allclose(Z, ordinary, atol=1e-2)
    np.testing.assert_allclose(logdet, its_logdet, atol=1e-2)


# ---- what is kept


def test_the_bits_of_a_step_are_less_than_a_32nd_of_its_state(deepest):
    """With the scales at their bounds, 1/4 and 4: two bits for a half of the channels where they contract."""
    _, exact, X = deepest
    exact.forward(X)
    assert 0.7 / 32 < exact.correction_bytes / (341 * X.nbytes) < 0.85 / 32


def test_what_is_held_after_forward_is_the_bits_and_goes_with_the_next(monkeypatch):
    import tracemalloc

    net, X = glow(size=64)
    exact = Exact(net)
    exact.forward(X)
    exact._corrections = None
    tracemalloc.start()
    Z, _ = exact.forward(X)
    arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)  # not what Python or Numba happen to keep
    held = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([arrays]).traces) - Z.nbytes
    tracemalloc.stop()
    assert exact.correction_bytes <= held < 1.1 * exact.correction_bytes + 20000
    first = exact.correction_bytes
    exact.forward(X[:3])
    assert exact.correction_bytes < 0.6 * first


def test_additive_couplings_and_reflections_need_no_bits():
    layer, X, cond = LAYERS["Exact of additive couplings and reflections"].build()
    Z, _ = layer.forward(X)
    assert layer.correction_bytes == 0
    other = snapped(Z + 1, 16)  # any number of the grid has one X
    assert same(layer.forward(layer.backward(Z, other)[1])[0], other)


# ---- what it works with


def test_a_memory_budget_spares_the_recomputing_and_changes_nothing():
    net, X = glow()
    results = []
    for budget in (0, 1 << 30):
        exact = Exact(net)
        exact.memory_budget = budget
        net.zero_grad()
        Z, logdet = exact.forward(X)
        results.append([Z, logdet, *exact.backward(Z, Z), *gradients(net)])
    assert all(same(a, b) for a, b in zip(*results, strict=True))


def test_training_and_files(tmp_path):
    net, X = glow()
    exact = Exact(net)
    flow, opt = invnet.Flow(exact, X.shape[1:]), invnet.optim.Adam(exact.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        exact.zero_grad()
        losses.append(invnet.objectives.forward_kl(flow, X))
        invnet.optim.clip_by_global_norm(exact.parameters(), 100.0)
        opt.step()
    assert min(losses) < losses[0]
    assert np.isfinite(flow.sample(3, seed=0)).all()
    invnet.save(exact, tmp_path / "exact.safetensors")
    loaded = invnet.load(tmp_path / "exact.safetensors")
    assert same(loaded.forward(X)[0], exact.forward(X)[0])


def test_within_a_chain():
    chain = Chain(invnet.Logit(0.05), Exact(glow()[0]), invnet.Permute.reversal(3))
    X = np.random.default_rng(0).random((4, 3, 8, 8)).astype("float32")
    Z, _ = chain.forward(X)
    np.testing.assert_allclose(chain.backward(Z, Z)[1], X, atol=1e-5)


# ---- integers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_integers_go_to_integers_and_bits_and_back(ops, dtype):
    net, X = glow(dtype, size=8)
    N = np.random.default_rng(0).integers(0, 256, X.shape) << 8
    exact = Exact(net)
    Z, bits = exact.encode(N)
    assert Z.dtype == np.int64 and bits.dtype == np.uint8 and np.array_equal(exact.decode(Z, bits), N)
    assert bits.size < N.size / 8 * 3
    step = grid_of(256.0, np.dtype(dtype).itemsize).step
    assert same((Z * step).astype(dtype), exact.forward((N * step).astype(dtype))[0])


def test_what_cannot_be_decoded_is_refused():
    net, X = glow(size=8)
    exact = Exact(net)
    Z, bits = exact.encode(np.random.default_rng(0).integers(-99999, 99999, X.shape))
    damaged, other = bits.copy(), Z.copy()
    damaged[-10] ^= 4
    other[0, 0, 0, 0] += 1
    for numbers, those in (
        (Z, damaged),
        (other, bits),
        (Z, bits[:-1]),
        (Z, bits[:3]),
        (Z, bits[:0]),
        (Z[:3], bits),
        (Z, np.full(50, 255, np.uint8)),
    ):
        with pytest.raises(ValueError, match="bits"):
            exact.decode(numbers, those)
    net.layers[1].b.data += 0.01
    with pytest.raises(ValueError, match="bits"):
        exact.decode(Z, bits)


# ---- what it refuses


def test_a_state_beyond_the_grid_is_refused(ops):
    exact = Exact(Chain(ActNorm(2), AdditiveCoupling(2, DenseNet(1, 4, 1))), 16)
    exact.layer.layers[0].log_s.data[...] = np.log(4)
    exact.forward(np.full((3, 2), 4.0, "float32"))
    for value in (4.1, 17, 1e30, np.inf, np.nan):
        with pytest.raises(ValueError, match="from -16 to 16, in steps of 9.54e-07; got"):
            exact.forward(np.full((3, 2), value, "float32"))
        with pytest.raises(ValueError, match="from -16 to 16"):
            exact.inverse(np.full((3, 2), 4 * value, "float32"))
    exact.layer.layers[1].net.b[-1].data[...] = 1
    with pytest.raises(ValueError, match="from -16 to 16.*got 17"):
        exact.forward(np.full((3, 2), 4.0, "float32"))


def test_a_z_whose_bits_are_gone_is_refused(ops):
    net, X = glow(size=8)
    exact = Exact(net)
    Z, _ = exact.forward(X)
    with pytest.raises(ValueError, match="only with the correction bits"):
        exact.backward(Z, Z + 0.5)
    exact.forward(X + 0.5)
    with pytest.raises(ValueError, match="only with the correction bits"):
        exact.backward(Z, Z)


def test_parameters_that_changed_before_backward_are_noticed():
    net, X = glow(size=8)
    exact = Exact(net)
    Z, _ = exact.forward(X)
    net.layers[1].b.data += 2e-5
    with pytest.raises((RuntimeError, ValueError), match="bits"):
        exact.backward(Z, Z)


@pytest.mark.parametrize("inverse", ["unlift_", "_unscale_on_grid", "_add_on_grid"])
def test_one_number_that_is_rebuilt_one_step_off_is_noticed(inverse, monkeypatch):
    net, X = glow(size=8)
    exact, right, calls = Exact(net), getattr(NumpyOps, inverse), []

    def wrong(self, X, *arguments):
        right(self, X, *arguments)
        calls.append(X)
        if len(calls) == 5:
            X[0, 0] += grid_of(256.0, 4).step

    Z, _ = exact.forward(X)
    monkeypatch.setattr(NumpyOps, inverse, wrong)
    with pytest.raises((RuntimeError, ValueError), match="bits"):
        exact.backward(Z, Z)
    assert len(calls) >= 5


class Restless(DenseNet):
    """A conditioner that gives other bits each time."""

    def vjp(self, x, cond=None):
        y, pullback = super().vjp(x, cond)
        return y * 1.001, pullback


def test_a_conditioner_that_gives_other_bits_is_noticed():
    net = Restless(1, 4, 1)
    net.b[-1].data += 1
    exact = Exact(AdditiveCoupling(2, net))
    Z, _ = exact.forward(np.ones((3, 2), "float32"))
    with pytest.raises(RuntimeError, match="does not give the same bits twice"):
        exact.backward(Z, Z)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Exact(DenseNet(1, 4, 1)), TypeError, "takes a Layer; got DenseNet"),
        (lambda: Exact(Chain(invnet.Planar(2))), TypeError, "AffineCoupling.*got Planar.* within"),
        (lambda: Exact(invnet.Reverse(ActNorm(2))), TypeError, "got Reverse"),
        (lambda: Exact(invnet.MAF(3, 4, 1)), TypeError, "got AutoregressiveAffine"),
        (lambda: Exact(ActNorm(2), 100), ValueError, "a power of two.*got 100"),
        (lambda: Exact(ActNorm(2), 0), ValueError, "a power of two.*got 0"),
        (lambda: Exact(ActNorm(2), "256"), ValueError, "a power of two.*got '256'"),
        (lambda: Exact(ActNorm(2)).encode(np.zeros((3, 2))), TypeError, "integers.*float64"),
        (lambda: Exact(ActNorm(2)).encode(np.full((3, 2), 1 << 25)), ValueError, "got 512"),
        (lambda: Exact(ActNorm(2)).forward(np.zeros((3, 4), "float32")), ValueError, "2 channels"),
    ],
)
def test_a_mistake_gets_an_error(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_grids_hold_their_numbers():
    for itemsize, digits in DIGITS.items():
        grid, dtype = grid_of(256.0, itemsize), np.dtype(f"f{itemsize}")
        n = np.array([2**digits, 2**digits - 1, 1, 0])
        assert np.array_equal((n * grid.step).astype(dtype).astype("float64") / grid.step, n)
