"""Compares the rate of the engine's matrix products with OpenBLAS, at the shapes of conditioners.

    python -m benchmarks.products [--full]    one thread, half a minute either way

There are 2048 positions, in float32. `out` multiplies a layer's input by its weights, which lie in memory as a
conditioner places them. `gradient` is the transpose of the input times the gradient of the output, summed over
positions.
"""

import numpy as np
from numba import njit

import invnet
from invnet.ops.numpy.kernels.convolutions import ROWS_AT_ONCE
from invnet.ops.numpy.kernels.products import Left, Rows, multiples, place, product, product_of_transpose, rounded
from invnet.ops.numpy.kernels.vectors import BYTES, SLACK
from invnet.ops.threads import single_threaded_blas

from . import harness

POSITIONS, LANES = 2048, BYTES // 4
COLUMNS = {"product": "s", "in": "d", "out": "d", "engine_gflops": ".0f", "openblas_gflops": ".0f", "ratio": ".2f"}
SHAPES = [(54, 64), (64, 64), (64, 108), (108, 128), (128, 128), (256, 256), (512, 512)]


@njit(error_model="numpy", nogil=True)
def out(A, W, M, K, N, work, zeros, C, offsets):
    pitch = rounded(N, LANES)
    multiples(offsets[0], M, K)
    multiples(offsets[1], K, 1)
    place(W, K, N, work, 0, pitch)
    left, right, first = Left(A, 0, offsets[0], offsets[1]), Rows(work, 0, pitch), Rows(zeros, 0, 0)
    for r in range(0, M, ROWS_AT_ONCE):
        product(left, r, min(M, r + ROWS_AT_ONCE), K, right, N, first, Rows(C, r * pitch, pitch), LANES)


@njit(error_model="numpy", nogil=True)
def gradient(A, D, M, K, N, work, zeros, C, offsets):
    pitch = rounded(N, LANES)
    sums = Rows(C, 0, pitch)
    for r in range(0, M, ROWS_AT_ONCE):
        n, right = min(M - r, ROWS_AT_ONCE), Rows(D, r * pitch, pitch)
        first = sums if r else Rows(zeros, 0, 0)
        if N < 256:
            multiples(offsets[0], n, K)
            multiples(offsets[1], K, 1)
            product(Left(A, r * K, offsets[1], offsets[0]), 0, K, n, right, N, first, sums, LANES)
        else:
            left = Rows(A, r * K, K)
            product_of_transpose(left, K, n, right, N, first, sums, work, 0, offsets[0], offsets[1], LANES)


def measure(K, N, rounds):
    rng, pitch = np.random.default_rng(0), rounded(N, LANES)
    numbers = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
    room = lambda size: np.zeros(size + SLACK, np.float32)
    A, W, D = numbers(POSITIONS, K), numbers(K, N), numbers(POSITIONS, N)
    work, zeros, C, offsets = (
        room(512 * 512 + 64 * 512),
        room(1024),
        room(POSITIONS * 1024),
        np.zeros((2, POSITIONS + SLACK), np.int64),
    )
    padded = room(POSITIONS * pitch)
    padded[: POSITIONS * pitch].reshape(POSITIONS, pitch)[:, :N] = D
    ours = {
        "out": lambda: out(A.reshape(-1), W.reshape(-1), POSITIONS, K, N, work, zeros, C, offsets),
        "gradient": lambda: gradient(A.reshape(-1), padded, POSITIONS, K, N, work, zeros, C, offsets),
    }
    results = {"out": np.empty((POSITIONS, N), np.float32), "gradient": np.empty((K, N), np.float32)}
    theirs = {
        "out": lambda: np.matmul(A, W, out=results["out"]),
        "gradient": lambda: np.matmul(A.T, D, out=results["gradient"]),
    }
    rows = []
    for name in ours:
        ours[name](), theirs[name]()
        count = results[name].shape[0]
        np.testing.assert_allclose(C[: count * pitch].reshape(count, pitch)[:, :N], results[name], rtol=1e-3, atol=1e-2)
        with single_threaded_blas:
            seconds = harness.in_turns({"engine": ours[name], "openblas": theirs[name]}, range(rounds), repeats=5)
        rates = {key: 2 * POSITIONS * K * N / min(values) / 1e9 for key, values in seconds.items()}
        rows.append(
            {
                "product": name,
                "in": K,
                "out": N,
                "engine_gflops": rates["engine"],
                "openblas_gflops": rates["openblas"],
                "ratio": rates["engine"] / rates["openblas"],
            }
        )
    return rows


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    invnet.set_num_threads(1)
    rows = [row for K, N in SHAPES for row in measure(K, N, options.rounds)]
    harness.print_table(rows, COLUMNS)
    harness.write_csv(rows, harness.result_name("products", options), options.out)


if __name__ == "__main__":
    main()
