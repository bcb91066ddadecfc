"""What only a GPU can show: pytest -m gpu. The laws, the operations and tests/test_cupy_engine.py run there too, under
the same mark.
"""

import numpy as np
import pytest

cupy_here = pytest.importorskip("cupy_here", reason="neither a GPU nor g++")

import invnet  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not cupy_here.ON_GPU, reason="there is no CUDA device with CuPy")]
OPS, cupy = cupy_here.OPS, cupy_here.cupy


def glow(steps=4, hidden=64, size=64, batch=8, dtype="float32"):
    net = invnet.Glow(3, hidden, 3, steps).to("cupy:0", dtype)
    return net, OPS.from_numpy(np.random.default_rng(0).standard_normal((batch, 3, size, size)).astype(dtype))


def step(net, X, opt=None):
    Z, logdet = net.forward(X)
    dX, X_back = net.backward(Z / len(X), Z)
    if opt is not None:
        opt.step()
        opt.zero_grad()
    return Z, X_back


def test_a_thousand_steps_take_no_more_memory_than_ten():
    net, X = glow(steps=1, hidden=32, size=16)
    opt, pool = invnet.optim.Adam(net.parameters(), lr=1e-4), cupy.get_default_memory_pool()
    for _ in range(10):
        step(net, X, opt)
    used, held = pool.used_bytes(), pool.total_bytes()
    free, _ = cupy.cuda.runtime.memGetInfo()
    for _ in range(990):
        step(net, X, opt)
    cupy.cuda.get_current_stream().synchronize()
    assert pool.used_bytes() <= used and pool.total_bytes() <= held
    assert cupy.cuda.runtime.memGetInfo()[0] >= free - (16 << 20)  # of the driver


def peak_of(steps):
    net, X = glow(steps)
    step(net, X)
    with cupy_here.peak_memory() as measured:
        step(net, X)
    return measured()


def test_the_peak_of_the_pool_is_the_same_at_4_and_64_steps():
    assert peak_of(64) <= 1.02 * peak_of(4)


def test_a_megapixel_image_takes_little_more_than_its_four_arrays_and_a_tile():
    net, X = glow(steps=1, hidden=256, size=1024)
    with cupy_here.peak_memory() as measured:
        step(net, X)
    assert measured() <= 4 << 30


@pytest.mark.parametrize("hidden", [64, 256])
def test_float32_is_as_near_to_float64_as_numpys(hidden):
    (net, X), errors = glow(hidden=hidden, size=16), {}
    exact = step(*glow(hidden=hidden, size=16, dtype="float64"))[0].get()
    errors["cupy"] = np.abs(step(net, X)[0].get() - exact).max()
    errors["numpy"] = np.abs(step(net.to("numpy"), X.get())[0] - exact).max()
    assert errors["cupy"] <= 4 * errors["numpy"] + 1e-6


def test_a_step_is_queued_before_it_is_done():
    net, X = glow(
        steps=2, hidden=512, size=128, batch=64
    )  # a tile keeps the device busy for longer than the host takes to queue it
    step(net, X)
    stream = cupy.cuda.get_current_stream()
    stream.synchronize()
    step(net, X)
    assert not stream.done  # the host is ahead of the device
    stream.synchronize()


def test_a_step_runs_on_the_current_stream():
    net, X = glow(size=16)
    expected = step(net, X)[0].get()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        got = step(net, X)[0]
    stream.synchronize()
    np.testing.assert_allclose(got.get(), expected, rtol=1e-4, atol=1e-4)


def test_memory_that_ends_says_what_fits_and_the_next_step_works():
    net, X = glow(hidden=512, size=64)
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + (128 << 20))
    try:
        with pytest.raises(MemoryError, match="the memory of GPU 0 ends"):
            step(*glow(hidden=512, size=512))
    finally:
        pool.set_limit(size=0)
    step(net, X)
