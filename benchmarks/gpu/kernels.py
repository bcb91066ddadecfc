"""Times kernels of the engine beside their bound, bytes over bandwidth, and measures the rate of a large product."""

import time

import numpy as np

from invnet.ops import ops_named

from .attempts import note_of
from .contenders import engine_of
from .counters import counter_of

REPEATS = 20


def product_rate(settings, kind):
    """Returns floating-point operations a second of a product of large matrices in float32, TF32 or bfloat16."""
    n, device = settings.gemm, settings.device
    if device == "cpu":
        A = np.ones((n, n), "float32")
        return 2 * n**3 / seconds_of(lambda: A @ A, counter_of("numpy"))
    if kind == "bf16":
        import torch

        A = torch.ones((n, n), dtype=torch.bfloat16, device=device)
        return 2 * n**3 / seconds_of(lambda: A @ A, counter_of("torch:cuda"))
    import cupy

    from invnet.ops.cupy.products import product

    A = cupy.ones((n, n), "float32")
    return 2 * n**3 / seconds_of(lambda: product(A, A, kind == "tf32"), counter_of("cupy"))


def seconds_of(call, counter):
    """Returns the seconds of one call: the minimum of several turns, each of many calls and one wait at the end."""
    best, calls = float("inf"), 1
    for _ in range(4):
        counter.wait()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        counter.wait()
        best, calls = min(best, (time.perf_counter() - start) / calls), REPEATS
    return best


def calls(ops, N, size, C, hidden=256):
    """Returns {name: (call, bytes read and written)} for images of C channels."""
    rng, half, scale = np.random.default_rng(0), C // 2, ("bounded", 4.0)
    image = lambda channels, side=size: ops.copy_channels_last(
        ops.from_numpy(rng.standard_normal((N, channels, side, side), dtype=np.float32))
    )
    X, x2, dx2, h = image(C), image(half), image(half), image(C)
    X4, dX4 = image(4 * C, size // 2), image(4 * C, size // 2)
    Q, Q4 = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (C, 4 * C))
    M, M4, ones, zero, zero4 = (
        ops.from_numpy(a.astype("float32")) for a in (Q, Q4, np.ones(C), np.zeros(C), np.zeros(4 * C))
    )
    each, of_half, wide = ops.from_numpy(np.zeros(N, "float32")), image(half), image(hidden, size // 4)
    columns, small = ops.taps(of_half, (3, 3)), 4 * N * size**2
    found = {
        "copy_channels_last": (lambda: ops.copy_channels_last(X), 2 * C * small),
        "mix_": (lambda: ops.mix_(X, M, zero), 2 * C * small),
        "mix_vjp_": (lambda: ops.mix_vjp_(h, X, M, M.T, zero), 4 * C * small),
        "mix_ by a diagonal": (lambda: ops.mix_(X, ones, zero), 2 * C * small),
        "mix_vjp_ by a diagonal": (lambda: ops.mix_vjp_(h, X, ones, ones, zero), 4 * C * small),
        "couple_": (lambda: ops.couple_(x2, h, scale), (2 * half + C) * small),
        "couple_vjp_": (lambda: ops.couple_vjp_(dx2, x2, h, scale, each), (4 * half + 2 * C) * small),
        "mix_ of 4 times the channels": (lambda: ops.mix_(X4, M4, zero4), 2 * C * small),
        "mix_vjp_ of 4 times the channels": (lambda: ops.mix_vjp_(dX4, X4, M4, M4.T, zero4), 4 * C * small),
        "squeeze_": (lambda: ops.squeeze_(X), 2 * C * small),
        "taps 3x3": (lambda: ops.taps(of_half, (3, 3)), 10 * half * small),
        "shift_add 3x3": (lambda: ops.shift_add(columns, of_half.shape, (3, 3)), 10 * half * small),
    }
    if hasattr(ops, "_activate"):
        A, b = ops.rows(wide), ops.from_numpy(np.zeros(hidden, "float32"))
        size_of = 4 * N * (size // 4) ** 2 * hidden
        found["bias and ReLU"] = lambda: ops._activate(A, b, None, "relu"), 2 * size_of
        found["gradient of ReLU and bias"] = lambda: ops._activate_vjp(A, A, "relu"), 3 * size_of
    return found


def rows(settings, until):
    engine = engine_of("invnet-cupy", settings.device)
    ops, counter = ops_named(engine), counter_of(engine)
    with ops.at_work():
        table = calls(ops, **settings.kernels)
        source = ops.from_numpy(
            np.zeros(settings.kernels["N"] * settings.kernels["C"] * settings.kernels["size"] ** 2, "float32")
        )
        target = ops.copy(source)

        def copy():
            target[...] = source

        bandwidth = 2 * source.nbytes / seconds_of(copy, counter)
        for name, (call, size) in table.items():
            row = dict(part="kernels", operation=name, engine=ops.name, **settings.kernels)
            if time.monotonic() > until:
                yield row | dict(note="its time was up")
                return
            try:
                seconds = seconds_of(call, counter)
            except Exception as error:
                yield row | dict(note=note_of(error, counter.errors))
            else:
                yield row | dict(
                    microseconds=1e6 * seconds,
                    MB=size / 1e6,
                    bound_us=1e6 * size / bandwidth,
                    share=size / bandwidth / seconds,
                    copy_GB_per_s=bandwidth / 1e9,
                )
