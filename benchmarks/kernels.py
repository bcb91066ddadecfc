"""Compares each operation of the NumPy engine with its reference and with the bound of the machine.

    python -m benchmarks.kernels          one thread, a few seconds

The arrays are one tile of a Glow on RGB images: 8 images of 16x16, 12 channels, a conditioner of hidden 64 (or
--hidden). `bound` is the larger of two times: that of moving the bytes (each input read once, each output written
once) at the rate of a copy in the cache, and that of the operations at the rate of a large matrix product. Both rates
are measured in the same turns.
"""

import array_api_compat.numpy
import numpy as np

import invnet
from invnet.ops.grid import grid_of
from invnet.ops.numpy import NumpyOps
from invnet.ops.reference import Ops

from . import harness

COLUMNS = dict(operation="s", engine_us=".1f", reference_us=".1f", speedup=".1f", bound_us=".1f", share_of_bound=".0%")
COPY_BYTES = 1 << 20


def operations(hidden, N=8, size=16, C=12):
    """Returns {name: (call(ops), bytes, floating-point operations)}."""
    rng, fresh = np.random.default_rng(0), NumpyOps().fresh
    image = lambda channels: fresh(rng.standard_normal((N, channels, size, size), dtype=np.float32))
    R, half, scale = N * size * size, C // 2, ("bounded", 4.0)
    x, x1, x2, out = image(C), image(half), image(half), 1e-3 * image(C)
    shapes = (
        ((3, 3, half, hidden), "relu", False),
        ((1, 1, hidden, hidden), "relu", False),
        ((3, 3, C, hidden), None, True),
    )
    parameters = []
    for size_of, _, transposed in shapes:
        W = rng.standard_normal(size_of, dtype=np.float32) / np.sqrt(np.prod(size_of[:3]), dtype=np.float32)
        parameters += [W, np.zeros(size_of[-2] if transposed else size_of[-1], np.float32)]
    M, _ = np.linalg.qr(rng.standard_normal((C, C)))
    M, s, zero, each = M.astype(np.float32), np.ones(C, np.float32), np.zeros(C, np.float32), np.zeros(N, np.float32)
    two, each_point = np.ones(2, np.float32), np.full(R, 0.1, np.float32)
    run, vectors, vectors2 = (
        invnet.Glow(2, 16, 1, 10, ndim=0)._steps[0],
        *(rng.standard_normal((150, 2), dtype=np.float32) for _ in range(2)),
    )
    run_product, weights = 10 * 2 * 150 * (16 * 16 + 3 * 16), [np.full(174000, 0.1, np.float32) for _ in range(4)]
    points, points2, P = (rng.standard_normal((R, *more), dtype=np.float32) for more in ((2,), (2,), (1, 23)))

    grid, lifting, on_grid = grid_of(256.0, 4), NumpyOps().lifting(M), image(C)
    NumpyOps().snap_(on_grid, grid)
    half_of_it, raw = fresh(on_grid[:, half:]), 0.3 * image(C)

    def both(ops):
        y, tape = ops.conv_stack(x1, shapes, parameters)
        ops.conv_stack_vjp(fresh(y), tape, shapes, parameters)

    def there_and_back(ops):
        _, bits = ops.couple_on_grid_(half_of_it, raw, scale, grid)
        ops.uncouple_on_grid_(half_of_it, raw, scale, grid, bits)

    floats, product = lambda n: 4 * R * n, 2 * R * hidden * (9 * half + hidden + 9 * C)
    return {
        "network": (lambda ops: ops.conv_stack(x1, shapes, parameters, keep=False), floats(half + C), product),
        "network and conv_stack_vjp": (both, floats(2 * half + 2 * C), 3 * product),
        "couple_": (lambda ops: ops.couple_(x2, out, scale), floats(2 * half + C), 0),
        "uncouple_": (lambda ops: ops.uncouple_(x2, out, scale), floats(2 * half + C), 0),
        "couple_vjp_": (lambda ops: ops.couple_vjp_(x1, x2, out, scale, each), floats(4 * half + 2 * C), 0),
        "mix_": (lambda ops: ops.mix_(x, M, zero), floats(2 * C), 2 * R * C * C),
        "mix_vjp_": (lambda ops: ops.mix_vjp_(out, x, M, M.T, zero), floats(4 * C), 6 * R * C * C),
        "mix_ by a diagonal": (lambda ops: ops.mix_(x, s, zero), floats(2 * C), 0),
        "mix_vjp_ by a diagonal": (lambda ops: ops.mix_vjp_(out, x, s, s, zero), floats(4 * C), 0),
        "squeeze_ and unsqueeze_": (lambda ops: ops.unsqueeze_(ops.squeeze_(x)), floats(4 * C), 0),
        "add_": (lambda ops: ops.add_(x[:, :half], x2), floats(3 * half), 0),
        "add_on_grid_": (lambda ops: ops.add_on_grid_(on_grid, zero, grid), floats(2 * C), 0),
        "couple_on_grid_ and back": (there_and_back, floats(4 * half + 2 * C), 0),
        "lift_ and unlift_": (
            lambda ops: (ops.lift_(on_grid, lifting, grid), ops.unlift_(on_grid, lifting, grid)),
            floats(4 * C),
            4 * R * C * C,
        ),
        "lifting": (lambda ops: ops.lifting(M), 4 * 2 * C * C, 2 * C**3 // 3),
        # what no tile of an image has: 2048 rows of vectors of 2 features, and of one number with its spline of 8 bins
        "planar_": (lambda ops: ops.planar_(points, two, two, zero[:1], False), 5 * 4 * R, 0),
        "planar_ inverse": (lambda ops: ops.planar_(points, two, two, zero[:1], True), 5 * 4 * R, 0),
        "planar_vjp_": (
            lambda ops: ops.planar_vjp_(points, points2, two, two, zero[:1], each_point, False),
            9 * 4 * R,
            0,
        ),
        "radial_": (lambda ops: ops.radial_(points, zero[:2], two, False), 5 * 4 * R, 0),
        "radial_vjp_": (lambda ops: ops.radial_vjp_(points, points2, zero[:2], two, each_point, False), 9 * 4 * R, 0),
        "spline": (lambda ops: ops.spline(points[:, :1], P, 3.0), 26 * 4 * R, 0),
        "spline_inverse": (lambda ops: ops.spline_inverse(points[:, :1], P, 3.0), 26 * 4 * R, 0),
        "spline_vjp": (lambda ops: ops.spline_vjp(points2[:, :1], points[:, :1], P, 3.0, points[:, 1]), 52 * 4 * R, 0),
        # 10 steps of a Glow of 2 features, hidden 16, on 150 vectors; its reference goes layer by layer, with the
        # engine's other operations
        "run_": (lambda ops: ops.run_(run, vectors, None, False), 2 * vectors.nbytes, run_product),
        "run_backward_": (
            lambda ops: ops.run_backward_(run, vectors2, vectors, each_point[:150], None, False),
            4 * vectors.nbytes,
            3 * run_product,
        ),
        "adam_, 174,000 parameters": (
            lambda ops: ops.adam_(*weights, 0.9, 0.999, 1e-4, 1.0, 1e-8),
            7 * weights[0].nbytes,
            0,
        ),
    }


def measure(hidden, rounds):
    invnet.set_num_threads(1)
    engine, reference, seconds = NumpyOps(), Ops(array_api_compat.numpy), {}
    source = np.ones(COPY_BYTES // 4, np.float32)
    target, (product, product_flops) = source.copy(), harness.sgemm(1)
    for name, (call, _, _) in operations(hidden).items():
        for ops in (engine, reference):  # in a tile, as in use: the engine's scratch memory is warm
            seconds[name, ops.name] = lambda call=call, ops=ops: engine.map_tiles(
                lambda _: call(ops), [0], lambda _: None
            )
    with engine.at_work():
        times = harness.in_turns(
            {**seconds, "copy": lambda: np.copyto(target, source), "sgemm": product}, range(rounds)
        )
    best = {name: min(values) for name, values in times.items()}
    bandwidth, rate, rows = 2 * COPY_BYTES / best["copy"], product_flops / best["sgemm"], []
    for name, (_, size, flops) in operations(hidden).items():
        ours, plain, bound = best[name, engine.name], best[name, reference.name], max(size / bandwidth, flops / rate)
        rows.append(
            dict(
                operation=name,
                hidden=hidden,
                engine_us=1e6 * ours,
                reference_us=1e6 * plain,
                speedup=plain / ours,
                bound_us=1e6 * bound,
                share_of_bound=bound / ours,
                copy_GB_per_s=bandwidth / 1e9,
                sgemm_gflops=rate / 1e9,
            )
        )
    return rows


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    rows = measure(options.hidden, options.rounds)
    harness.print_table(rows, COLUMNS)
    print(f"copy {rows[0]['copy_GB_per_s']:.0f} GB/s, sgemm {rows[0]['sgemm_gflops']:.0f} GF/s")
    name = harness.result_name("kernels", options)
    harness.write_csv(rows, name, options.out)
    fig, axes = harness.figure(1, 1, width=9, height=6)
    ys = range(len(rows))
    axes[0, 0].barh([y - 0.2 for y in ys], [row["engine_us"] for row in rows], 0.4, color="black", label="engine")
    axes[0, 0].barh(
        [y + 0.2 for y in ys], [row["reference_us"] for row in rows], 0.4, color="tab:gray", label="reference"
    )
    axes[0, 0].plot([row["bound_us"] for row in rows], ys, "r|", markersize=14, label="bound")
    axes[0, 0].set(
        yticks=ys, yticklabels=[row["operation"] for row in rows], xscale="log", xlabel="microseconds a tile"
    )
    axes[0, 0].invert_yaxis()
    fig.subplots_adjust(left=0.3)
    axes[0, 0].legend()
    harness.write_png(fig, name, options.out)


if __name__ == "__main__":
    main()
