"""The CuPy engine beyond the laws and the table of operations: no waiting, memory, tiles, devices, choices, errors.

All of it runs on a GPU, marked so, or on the CPU by a stand-in for CuPy (cupy_stand_in.py).
"""

import copy
import subprocess
import sys

import numpy as np
import pytest
from cases import LAYERS
from cupy_here import ON_GPU, OPS, CUDARuntimeError, cupy, no_synchronisation, peak_memory, to_device, to_host
from engines import ENGINES
from test_engines import REFERENCE, OnArrays, array, distance, network_of

import invnet
from invnet.ops import cupy as cupy_engine
from invnet.ops import ops_named, tile
from invnet.ops.cupy import channels, launch, settings

ENGINE = OnArrays(ENGINES["cupy"])
pytestmark = [pytest.mark.gpu] if ON_GPU else []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("C", [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64, 96, 100])
def test_mixes_of_all_numbers_of_channels(C, dtype):
    numbers = np.random.default_rng(C)
    M, b, x = (
        numbers.standard_normal((C, C)) / np.sqrt(C),
        numbers.standard_normal(C),
        numbers.standard_normal((2, 2 * C, 7, 10)),
    )
    arrays = [a.astype(dtype) for a in (M, np.linalg.inv(M), b)]
    for part in (np.s_[:, :C], np.s_[:, 1::2]):
        results = []
        for ops, (W, Winv, c), of in (
            (ENGINE, arrays, x.astype(dtype)),
            (REFERENCE, [a.astype("float64") for a in arrays], x),
        ):
            X, Z, dZ = (array_of(of)[part] for _ in range(3))
            ops.mix_(X, W, c)
            results.append([X, *ops.mix_vjp_(dZ, Z, W, Winv, c), Z, dZ])
        for got, expected in zip(*results, strict=True):
            assert got.dtype == dtype
            assert distance(got, expected) < (
                1e-3 if dtype == "float32" else 1e-10
            )  # the inverse of a random matrix is ill-conditioned


def array_of(x):
    """A copy with channels-last memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def test_sums_of_outer_products_take_bounded_memory(monkeypatch):
    monkeypatch.setattr(channels, "PARTIAL", 60)  # three parts, of 333 rows each
    A, B = np.random.default_rng(0).standard_normal((2, 999, 4))
    dM, db = to_host(channels._outer(to_device(A), to_device(B)))
    np.testing.assert_allclose(dM, A.T @ B, atol=1e-10)
    np.testing.assert_allclose(db, A.sum(axis=0), atol=1e-10)


@pytest.mark.parametrize("length", [0, 1, 2, 63, 64, 65, 4096, 4097, 70000])
def test_sums_in_passes(length):
    x = np.random.default_rng(0).standard_normal((2, length, 3))
    got = to_host(launch.summed(to_device(x), 2, length, 3))
    np.testing.assert_allclose(got, x.sum(axis=1), atol=1e-12 * max(1, length))


NETWORKS = {
    "Glow": (lambda: invnet.Glow(3, 8, 2, 2), (4, 3, 8, 8)),
    "Glow, sigmoid, full mix": (lambda: invnet.Glow(2, 8, 1, 2, scale="sigmoid", mix="full"), (4, 2, 8, 8)),
    "Glow, additive, householder": (
        lambda: invnet.Glow(2, 8, 1, 2, coupling="additive", mix="householder"),
        (4, 2, 8, 8),
    ),
    "RealNVP": (lambda: invnet.RealNVP(5, 8, 3), (9, 5)),
    "NSF": (lambda: invnet.NSF(4, 8, 2), (9, 4)),
    "MAF": (lambda: invnet.MAF(4, 8, 2), (9, 4)),
    "planar": (lambda: invnet.PlanarFlow(3, 4), (9, 3)),
    "radial": (lambda: invnet.RadialFlow(3, 4), (9, 3)),
}


def made(name, dtype="float32", engine="cupy:0"):
    """A network with random parameters on the device, and a batch."""
    make, shape = NETWORKS[name]
    net, numbers = make(), np.random.default_rng(1)
    for p in net.parameters():
        p.data += 0.1 * numbers.standard_normal(p.data.shape).astype("float32")
    ops = ops_named(engine)
    return net.to(engine, dtype), ops.from_numpy(numbers.standard_normal(shape).astype(dtype))


def step(net, X, opt=None):
    Z, logdet = net.forward(X)
    dX, X_back = net.backward(Z, Z)
    net.inverse(Z)
    if opt is not None:
        opt.step()
        opt.zero_grad()
    return Z, logdet, dX, X_back


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_does_not_wait_for_the_device(name):
    net, X = made(name)
    opt = invnet.optim.Adam(net.parameters(), lr=1e-3)
    step(net, X, opt)  # kernels are compiled and loaded
    with no_synchronisation():
        step(net, X)
    opt.step()  # which waits once, for what backward measured
    opt.zero_grad()
    net.drift_tolerance = None
    with no_synchronisation():
        step(net, X, opt)


@pytest.mark.parametrize(
    "read",
    [lambda X: float(X[0, 0]), lambda X: X[X > 0], lambda X: cupy.nonzero(X), lambda X: bool((X > 0).any())],
    ids=["value", "mask", "nonzero", "truth"],
)
def test_waiting_is_noticed(read):
    _, X = made("planar")
    with pytest.raises(Exception, match="[Ss]ynchroni[sz]"), no_synchronisation():
        read(X)


@pytest.mark.parametrize("name", NETWORKS)
def test_numpy_and_cupy_agree(name):
    there, X = made(name, "float64")
    here = copy.deepcopy(there).to("numpy")
    for a, e in zip(step(there, X), step(here, OPS.to_numpy(X)), strict=True):
        np.testing.assert_allclose(OPS.to_numpy(a), e, rtol=1e-9, atol=1e-9)
    for p, q in zip(there.parameters(), here.parameters(), strict=True):
        np.testing.assert_allclose(OPS.to_numpy(p.grad), q.grad, rtol=1e-9, atol=1e-9)


def test_results_are_the_same_bits_every_time():
    results = []
    for _ in range(2):
        net, X = made("Glow")
        results.append([OPS.to_numpy(a).tobytes() for a in (*step(net, X), *(p.grad for p in net.parameters()))])
    assert results[0] == results[1]


def peak_of(steps, batch=8):
    """The most bytes that a step holds above what is there before."""
    net = invnet.Glow(3, 16, 2, steps).to("cupy:0")
    X = OPS.from_numpy(np.random.default_rng(0).standard_normal((batch, 3, 16, 16)).astype("float32"))
    with peak_memory() as measured:
        for _ in range(2):
            step(net, X)
            net.zero_grad()
    net.drift  # reads what waits to be read, which is held until then
    return measured()


def test_memory_does_not_grow_with_depth():
    peak_of(2)  # makes what all networks share
    assert peak_of(8) <= 1.02 * peak_of(2)


def test_memory_of_activations_does_not_grow_with_the_batch(monkeypatch):
    monkeypatch.setitem(settings._setting, "workspace", 1 << 17)
    one_input = 4 * 3 * 16 * 16
    # what a step hands out, its working copies, and dZ for a backward that may be computed again
    assert peak_of(1, 32) - peak_of(1, 16) < 16 * 9 * one_input


@pytest.mark.parametrize(
    "name", ["Glow", "Glow, conditional", "Glow, one axis", "Glow, three axes", "coupling, spatial condition"]
)
def test_blocks_of_an_image_give_what_the_whole_gives(name, monkeypatch):
    def everything():
        layer, X, cond = LAYERS[name].build()
        X, cond = (
            None if a is None else to_device(np.concatenate([np.concatenate([a, a[:, :, ::-1]], axis=2)] * 2, axis=-1))
            for a in (X, cond)
        )
        holder = None if cond is None else invnet.Condition(cond)
        layer.to("cupy:0")
        Z, logdet = layer.forward(X, cond)
        dX, X_back = layer.backward(cupy.sin(Z), Z, 0.3, holder)
        arrays = [
            Z,
            logdet,
            dX,
            X_back,
            *(p.grad for p in layer.parameters()),
            *([] if holder is None else [holder.grad]),
        ]
        return [OPS.to_numpy(a) for a in arrays]

    whole, made = everything(), []
    monkeypatch.setattr(cupy_engine, "_tiles", cupy_engine._tiles.__wrapped__)  # or it remembers tiles
    monkeypatch.setitem(settings._setting, "workspace", 2500)
    monkeypatch.setattr(cupy_engine, "tiles_of", lambda *a: made.extend(tile.tiles_of(*a)) or tile.tiles_of(*a))
    for got, expected in zip(everything(), whole, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    assert any(not tile.whole for tile in made)


# ---- what a user may choose


def test_tf32_concerns_conditioners_alone():
    # Of a size for which cuBLAS, free to round or not, takes its kernels that do.
    x, (layers, parameters) = array((4, 32, 16, 16), "float32"), network_of((32, 64, 64), 2, "silu", dtype="float32")
    M, b = array((32, 32), "float32"), np.zeros(32, "float32")
    results = []
    for allowed in (False, True):
        cupy_engine.set_tf32(allowed)
        try:
            y, tape = ENGINE.conv_stack(x, layers, parameters)
            dx, gradients, _ = ENGINE.conv_stack_vjp(y.copy(), tape, layers, parameters)
            X = x.copy()
            ENGINE.mix_(X, M, b)
            results.append(([y, dx, *gradients[::2]], [X, ENGINE.product(ENGINE.rows(x), M)]))
        finally:
            cupy_engine.set_tf32(False)
    (full, mixed), (rounded, mixed_too) = results
    for a, e in zip(rounded, full, strict=True):
        assert 1e-6 < distance(a, e) < 3e-3  # 10 bits
    for a, e in zip(mixed_too, mixed, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize(
    "model",
    [invnet.MAF, invnet.IAF, lambda *a, **o: invnet.NSF(*a, autoregressive="forward", **o)],
    ids=["MAF", "IAF", "NSF"],
)
def test_autoregressive_models_find_their_input_with_tf32(model):
    net, X = (
        model(4, 16, 2).to("cupy:0"),
        OPS.from_numpy(np.random.default_rng(0).standard_normal((32, 4)).astype("float32")),
    )
    for p in net.parameters():
        p.data += 0.1 * OPS.from_numpy(np.random.default_rng(1).standard_normal(p.data.shape).astype("float32"))
    cupy_engine.set_tf32(True)
    try:
        back = net.inverse(net.forward(X)[0])
    finally:
        cupy_engine.set_tf32(False)
    # Conditioners in TF32 that were others on the way back would bring 1e-3. A spline may be steep at a few numbers.
    assert np.quantile(np.abs(OPS.to_numpy(back) - OPS.to_numpy(X)), 0.9) < 1e-4


@pytest.mark.parametrize("size", [0, 1e9, True, (4 << 30) + 1])
def test_a_workspace_out_of_range_is_refused(size):
    with pytest.raises(ValueError, match="1 MiB to 4 GiB; got"):
        cupy_engine.set_workspace(size)


def test_the_workspace_sets_the_size_of_tiles():
    shape, floats = (64, 6, 32, 32), 100
    before = settings.workspace()
    try:
        cupy_engine.set_workspace(1 << 20)
        small = OPS.tiles(shape, floats, 2, 1000)
        cupy_engine.set_workspace(8 << 20)
        large = OPS.tiles(shape, floats, 2, 1000)
    finally:
        cupy_engine.set_workspace(before)
    assert (len(small), len(large)) == (32, 4)


def test_tf32_is_true_or_false():
    with pytest.raises(TypeError, match="True or False; got 1"):
        cupy_engine.set_tf32(1)


# ---- what goes wrong


def test_an_array_too_large_for_32_bits_is_refused(monkeypatch):
    net, X = made("planar")
    monkeypatch.setattr(cupy_engine, "LARGEST", 20)
    with pytest.raises(ValueError, match=r"at most 20 numbers; got shape \(9, 3\)"):
        net.forward(X)


def test_arrays_of_two_engines_are_told_apart():
    net, X = made("planar")
    with pytest.raises(
        TypeError, match=r'computes on arrays of cupy:0; got X of numpy: convert it, or the layer with .to\("numpy"\)'
    ):
        net.forward(OPS.to_numpy(X))


stand_in = pytest.mark.skipif(ON_GPU, reason="needs the stand-in for CuPy, whose place a GPU takes")


@stand_in
def test_arrays_of_two_devices_are_told_apart():
    (net, _), (_, X) = made("planar"), made("planar", engine="cupy:1")
    with pytest.raises(
        TypeError, match=r'computes on arrays of cupy:0; got X of cupy:1: convert it, or the layer with .to\("cupy:1"\)'
    ):
        net.forward(X)


@stand_in
def test_a_layer_works_on_a_device_that_is_not_the_current_one():
    net, X = made("Glow", engine="cupy:1")
    assert all(a.device.id == 1 for a in step(net, X))
    assert all(p.data.device.id == p.grad.device.id == 1 for p in net.parameters())
    assert cupy.cuda.Device().id == 0


@stand_in
@pytest.mark.parametrize("name, text", [("cupy:2", '"cupy:0" to "cupy:1"; got "cupy:2"'), ("cupy:x", 'got "cupy:x"')])
def test_a_device_that_is_not_there(name, text):
    with pytest.raises(ValueError, match=f"this machine has 2 CUDA devices, {text}" if "2" in name else text):
        invnet.Planar(2).to(name)


def raising(error):
    def call(*arguments):
        raise error

    return call


@stand_in
@pytest.mark.parametrize(
    "what, call, text",
    [
        ("runtime.driverGetVersion", lambda: 0, "needs NVIDIA's driver"),
        (
            "runtime.driverGetVersion",
            lambda: 11080,
            "this CuPy is for CUDA 12, and the driver takes CUDA 11.8 at most: install cupy-cuda11x",
        ),
        ("runtime.getDeviceCount", lambda: 0, "the driver sees none"),
        ("runtime.getDeviceCount", raising(CUDARuntimeError(100)), "cudaErrorNoDevice.*nvidia-smi"),
        ("nvrtc.getVersion", raising(RuntimeError("libnvrtc.so.12")), r"NVRTC: pip install 'cupy-cuda12x\[ctk\]'"),
    ],
    ids=["driver", "version", "device", "error", "compiler"],
)
def test_what_is_missing_is_named_and_nothing_is_moved(what, call, text, monkeypatch):
    owner, name = what.split(".")
    monkeypatch.setattr(getattr(cupy.cuda, owner), name, call)
    layer = invnet.Planar(2)
    with pytest.raises(OSError, match=text):
        layer.to("cupy")
    assert all(isinstance(p.data, np.ndarray) for p in layer.parameters())
    monkeypatch.undo()
    assert layer.to("cuda").forward(to_device(np.zeros((2, 2), "float32")))[0].shape == (2, 2)


@pytest.mark.parametrize("missing", ["cupy", "cupy_backends.cuda.libs"])
def test_without_cupy_the_error_says_how_to_get_it(missing):
    code = (
        f"import sys, invnet; sys.modules[{missing!r}] = None\n"
        "try: invnet.Planar(2).to('cupy')\nexcept ImportError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "needs CuPy and the CUDA libraries: pip install 'cupy-cuda12x[ctk]'" in out


@stand_in
def test_when_memory_ends_the_error_says_what_fits(monkeypatch):
    cupy_engine.set_workspace(512 << 20)
    large = cupy.zeros((64, 3, 16, 16), dtype="float32")
    net = invnet.Glow(3, 64, 1, 1).to("cupy:0")
    monkeypatch.setattr(cupy.counters.pool, "limit", cupy.counters.pool.used + (3 << 20))
    with pytest.raises(
        MemoryError,
        match=r"the memory of GPU 0 ends: \d+ MiB are free, a tile may take 512 MiB.*would fit: .*set_workspace\(1048576\)",
    ):
        net.forward(large)
    cupy_engine.set_workspace(1 << 20)
    try:
        assert net.forward(large)[0].shape == large.shape
    finally:
        cupy_engine.set_workspace(512 << 20)


@stand_in
def test_a_network_that_does_not_fit_stays_where_it_was(monkeypatch):
    net = invnet.Glow(3, 64, 2, 2)
    monkeypatch.setattr(cupy.counters.pool, "limit", cupy.counters.pool.used + 100000)
    with pytest.raises(MemoryError):
        net.to("cupy")
    assert all(isinstance(state.data, np.ndarray) for _, state in net.named_state())
