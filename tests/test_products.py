"""The products, copies and sums of taps that networks are made of, against NumPy, and on processors with shorter
vectors.

Arrays lie in larger ones, `GUARD` floats from their ends. What surrounds them is NaN, or for what is written a value
that must still be there.
"""

import itertools
import os
import platform
import subprocess
import sys

import array_api_compat.numpy
import numpy as np
import pytest
from numba import njit

from invnet import ConvNet
from invnet.ops.numpy import NumpyOps
from invnet.ops.numpy.kernels import products, taps, vector_rows
from invnet.ops.numpy.kernels.products import Left, Rows, rounded
from invnet.ops.numpy.kernels.vectors import BYTES, ROWS, SLACK
from invnet.ops.reference import Ops

#: Functions that compiled ones call, as they are called from here.
place, place_transposed, product, product_of_transpose, find_taps, pad, sum_taps = (
    njit(error_model="numpy", nogil=True)(function.py_func)
    for function in (
        products.place,
        products.place_transposed,
        products.product,
        products.product_of_transpose,
        taps.find_taps,
        taps.pad,
        taps.sum_taps,
    )
)


@njit
def add_rows(R, start, pitch, count, total, to, width):
    vector_rows.add_rows(R, start, pitch, count, total, to, width)


DTYPES = ("float32", "float64")
#: M, N, K: around one vector, two, and a block of rows, and whatever comes
SIZES = [
    *itertools.product((1, ROWS, ROWS + 1), (1, 7, 8, 9, 16, 17, 33, 70), (1, 3)),
    *(tuple(np.random.default_rng(i).integers(1, 71, 3)) for i in range(60)),
]
GUARD, KEPT = 2 * SLACK, -7.0


def surrounded(values, pitch, around=np.nan):
    """A flat array with the rows of `values` `pitch` apart, `around` between and around them; and where they begin."""
    rows = np.full((len(values), pitch), around, values.dtype)
    rows[:, : values.shape[1]] = values
    guard = np.full(GUARD, around, values.dtype)
    return np.concatenate([guard, rows.reshape(-1), guard]), GUARD


def offsets(*numbers):
    """With a few more behind, as callers have, of which none may be used."""
    return np.concatenate([*numbers, np.full(SLACK, 1 << 60)]).astype(np.int64)


def inside(flat, M, N, pitch):
    """The rows in a `surrounded` array, after a look at what lies around and between them."""
    rows, lanes = flat[GUARD : GUARD + M * pitch].reshape(M, pitch), BYTES // flat.itemsize
    assert (flat[:GUARD] == KEPT).all() and (flat[GUARD + M * pitch :] == KEPT).all()
    assert (rows[:, rounded(N, lanes) :] == KEPT).all()
    return rows[:, :N]


def assert_close(got, expected, scale):
    assert np.abs(got - expected).max(initial=0.0) <= 4 * np.finfo(got.dtype).eps * max(1.0, scale.max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_product(dtype):
    lanes = BYTES // np.dtype(dtype).itemsize
    for M, N, K in SIZES:
        rng = np.random.default_rng(M + 100 * N + 10000 * K)
        A, B, S = (rng.standard_normal(size).astype(dtype) for size in ((M, K), (K, N), (M, N)))
        pitch = int(rounded(N, lanes))
        expected, scale = A.astype("f8") @ B + S, np.abs(A.astype("f8")) @ np.abs(B) + np.abs(S)
        for transposed in (False, True):
            a, ao = surrounded(A.T if transposed else A, (M if transposed else K) + 3)
            rows, columns = offsets(np.arange(M) * (K + 3)), offsets(np.arange(K))
            if transposed:
                rows, columns = offsets(np.arange(M)), offsets(np.arange(K) * (M + 3))
            (b, bo), (s, so), (c, co) = (
                surrounded(B, pitch),
                surrounded(S, pitch + lanes),
                surrounded(0 * S, pitch + lanes, KEPT),
            )
            product(
                Left(a, ao, rows, columns),
                0,
                M,
                K,
                Rows(b, bo, pitch),
                N,
                Rows(s, so, pitch + lanes),
                Rows(c, co, pitch + lanes),
                lanes,
            )
            assert_close(inside(c, M, N, pitch + lanes), expected, scale)
        c, co = surrounded(S, pitch, KEPT)  # S is C, and the rows of A from the second on
        product(
            Left(a, ao, rows, columns),
            1,
            M,
            K,
            Rows(b, bo, pitch),
            N,
            Rows(c, co + pitch, pitch),
            Rows(c, co + pitch, pitch),
            lanes,
        )
        assert_close(inside(c, M, N, pitch)[1:], expected[1:], scale)
        assert (inside(c, M, N, pitch)[:1] == S[:1]).all()
        c, co = surrounded(0 * S, pitch, KEPT)  # one row of S for all
        product(Left(a, ao, rows, columns), 0, M, K, Rows(b, bo, pitch), N, Rows(s, so, 0), Rows(c, co, pitch), lanes)
        assert_close(inside(c, M, N, pitch), expected - S + S[:1], scale + np.abs(S[:1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_product_of_transpose(dtype):
    lanes = BYTES // np.dtype(dtype).itemsize
    for M, N, K in SIZES:
        rng = np.random.default_rng(M + 100 * N + 10000 * K)
        A, B, S = (rng.standard_normal(size).astype(dtype) for size in ((K, M), (K, N), (M, N)))
        pitch, width = int(rounded(N, lanes)), int(rounded(ROWS, lanes))
        (a, ao), (b, bo) = surrounded(A, M + 2), surrounded(B, pitch)
        (s, so), (c, co) = surrounded(S, pitch), surrounded(0 * S, pitch, KEPT)
        panel, po = surrounded(np.zeros((K, width), dtype), width, KEPT)
        rows, ones = offsets(np.zeros(K)), offsets(np.zeros(ROWS))
        product_of_transpose(
            Rows(a, ao, M + 2),
            M,
            K,
            Rows(b, bo, pitch),
            N,
            Rows(s, so, pitch),
            Rows(c, co, pitch),
            panel,
            po,
            rows,
            ones,
            lanes,
        )
        expected, scale = A.T.astype("f8") @ B + S, np.abs(A.T.astype("f8")) @ np.abs(B) + np.abs(S)
        assert_close(inside(c, M, N, pitch), expected, scale)
        inside(panel, K, width, width)


@pytest.mark.parametrize("dtype", DTYPES)
def test_place_and_place_transposed(dtype):
    lanes = BYTES // np.dtype(dtype).itemsize
    for _, N, K in SIZES:
        B = np.random.default_rng(N + 100 * K).standard_normal((K, N)).astype(dtype)
        memory = np.concatenate([B.reshape(-1), np.full(GUARD, np.nan, dtype)])
        for expected, call in (
            (B, lambda out, oo, ldo: place(memory[: B.size], K, N, out, oo, ldo)),
            (B.T, lambda out, oo, ldo: place_transposed(memory[: B.size], K, N, out, oo, ldo, lanes)),
        ):
            M, n = expected.shape
            ldo = int(rounded(n, lanes))
            out, oo = surrounded(np.full((M, ldo), np.nan, dtype), ldo, KEPT)
            call(out, oo, ldo)
            rows = inside(out, M, ldo, ldo)
            np.testing.assert_array_equal(rows[:, :n], expected)
            assert (rows[:, n:] == 0).all()


IMAGES = [
    ((2, 3, 4, 5), (3, 1, 3)),
    ((1, 1, 4, 5), (1, 3, 3)),
    ((2, 1, 1, 7), (1, 1, 5)),
    ((2, 2, 2, 1), (3, 5, 7)),
    ((3, 1, 1, 1), (1, 3, 3)),
]


def neighbours(x, kernel):
    """(N, D, H, W, taps, C): what a kernel sees of images (N, D, H, W, C)."""
    padded = np.pad(x, [(0, 0), *((k // 2, k // 2) for k in kernel), (0, 0)])
    D, H, W = x.shape[1:4]
    return np.stack(
        [padded[:, d : d + D, h : h + H, w : w + W] for d, h, w in itertools.product(*map(range, kernel))], axis=4
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size, kernel", IMAGES, ids=str)
def test_taps_are_read_and_summed(size, kernel, dtype):
    lanes, R, taps = BYTES // np.dtype(dtype).itemsize, int(np.prod(size)), int(np.prod(kernel))
    for C in (1, 3, lanes, lanes + 1):
        rng, pitch = np.random.default_rng(C), int(rounded(C, lanes))
        x, Y, bias = rng.standard_normal((*size, C)), rng.standard_normal((R, taps * C)), rng.standard_normal((1, C))
        x, Y, bias = (a.astype(dtype) for a in (x, Y, bias))
        # read: a padded image at the offsets of taps
        (rows, start), around = surrounded(x.reshape(R, C), pitch), size[0] * int(np.prod(np.add(size[1:], kernel) - 1))
        image, o = surrounded(np.zeros((around, C), dtype), C, KEPT)
        pad(rows[start:], pitch, image, o, *size, C, *kernel)
        padded = image[o : o + around * C]
        assert (image[:o] == KEPT).all() and (image[o + around * C :] == KEPT).all()
        first, after = offsets(np.zeros(R)), offsets(np.zeros(taps * C))
        find_taps(first, after, *size, C, C, *kernel)
        read = padded[first[:R, None] + after[: taps * C]]
        np.testing.assert_array_equal(read, neighbours(x, kernel).reshape(R, taps * C))
        # summed: its transpose
        columns = int(rounded(taps * C, lanes))
        (work, at), (out, to) = surrounded(Y, columns), surrounded(np.zeros((R, C), dtype), pitch, KEPT)
        (more, b), inner = surrounded(bias, pitch), offsets(np.zeros(2 * taps))
        sum_taps(np.concatenate([work, more]), at, columns, work.size + b, out, to, pitch, *size, C, *kernel, inner)
        summed = inside(out, R, C, pitch)
        expected, images = np.zeros((R, C)), np.eye(R).reshape(R, *size[0:])
        for p in range(R):  # <summed, e> = <Y, read(e)>
            mask = neighbours(images[p][..., None], kernel).reshape(R, taps)
            expected[p] = (Y.reshape(R, taps, C) * mask[..., None]).sum(axis=(0, 1)) + bias[0]
        np.testing.assert_allclose(summed, expected, atol=4 * taps * np.finfo(dtype).eps)


@pytest.mark.parametrize("count", (1, 3, 4, 7, 200))
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_added_up(dtype, count):
    lanes = BYTES // np.dtype(dtype).itemsize
    for C in (lanes, 3 * lanes):
        rows, before = np.random.default_rng(C).standard_normal((count, C)), np.arange(C, dtype=dtype)
        (R, start), (total, to) = surrounded(rows.astype(dtype), C + lanes), surrounded(before[None], C, KEPT)
        add_rows(R, start, C + lanes, count, total, to, C)
        assert_close(inside(total, 1, C, C), (before + rows.sum(axis=0))[None], np.abs(rows).sum(axis=0) + before)


@pytest.mark.parametrize("W", (3, 4, 7, 12))
def test_patches_round_little_more_than_sums_of_products(W):
    net, reference = ConvNet(5, (40,), 6, kernels=(3, 3), dtype="float64"), Ops(array_api_compat.numpy)
    rng = np.random.default_rng(W)
    for parameter in net.parameters():
        parameter.data = rng.standard_normal(parameter.data.shape)
    x, dy = rng.standard_normal((4, 5, 6, W)), rng.standard_normal((4, 6, 6, W))
    weights = [parameter.data for pair in zip(net.W, net.b) for parameter in pair]

    def results(ops, dtype):
        arrays = [a.astype(dtype) for a in weights]
        y, tape = ops.conv_stack(x.astype(dtype), net._layers, arrays)
        dx, gradients, _ = ops.conv_stack_vjp(dy.astype(dtype), tape, net._layers, arrays)
        return [y, dx, *gradients]

    exact = results(reference, "float64")
    error = lambda ops: [
        np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(results(ops, "float32"), exact, strict=True)
    ]
    for of_patches, of_sums in zip(error(NumpyOps()), error(reference), strict=True):
        assert of_patches <= 5 * of_sums + np.finfo("float32").eps


# ---- other processes: memory that ends behind every array, and shorter vectors

START = """
import sys
import numpy as np, invnet
from invnet.ops.numpy.kernels import vectors
from invnet.ops.numpy import NumpyOps

assert vectors.BYTES == int(sys.argv[1]), vectors.BYTES
"""

GUARDED = """
import ctypes, mmap

libc, kept = ctypes.CDLL(None), []

def last_before_nothing(a):
    size = -(-a.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    kept.append(memory)
    end = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + size
    assert libc.mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0) == 0
    b = np.frombuffer(memory, a.dtype, a.size, size - a.nbytes).reshape(a.shape)
    b[...] = a
    return b

def image(*shape):
    return last_before_nothing(np.ones(shape, "float32")).transpose(0, 3, 1, 2)

net, ops = invnet.ConvNet(3, (7, 9), 5, cond_channels=2), NumpyOps()
for p in net.parameters():
    p.data = last_before_nothing(p.data)
for W in (2, 4, 5):
    y, pullback = net.vjp(image(2, 4, W, 3), last_before_nothing(np.ones((2, 2), "float32")))
    pullback(image(2, 4, W, 5))
M, b = last_before_nothing(np.eye(3, dtype="float32")), last_before_nothing(np.ones(3, "float32"))
ops.mix_(image(2, 4, 4, 3), M, b)
ops.mix_vjp_(image(2, 4, 4, 3), image(2, 4, 4, 3), M, M, b)
chain = invnet.Chain(invnet.ActNorm(6), invnet.Conv1x1(6), invnet.AffineCoupling(6, invnet.ConvNet(3, (7, 16), 6)))
for p in chain.parameters():
    p.data, p.grad = last_before_nothing(p.data), last_before_nothing(p.grad)
run, = chain._steps
for inverse in (False, True):
    (run.inverse_logdet_ if inverse else run.forward_)(image(2, 4, 4, 6))
    (run.inverse_backward_ if inverse else run.backward_)(image(2, 4, 4, 6), image(2, 4, 4, 6), last_before_nothing(np.ones(2, "float32")))
assert run._plan(ops, image(2, 4, 4, 6), None) is not None
"""

GLOW = """
import array_api_compat.numpy
from invnet.ops import _of_type
from invnet.ops.reference import Ops

def gradient(dtype, hidden, shape):
    net = invnet.Glow(shape[1], hidden, 1, 2, ndim=len(shape) - 2, activation="silu", dtype=dtype)
    for p in net.parameters():
        p.data += (0.1 / hidden ** 0.5 * np.random.default_rng(1).standard_normal(p.data.shape)).astype(dtype)
    X = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    Z, logdet = net.forward(X)
    dX, X_back = net.backward(np.sin(Z), Z, 0.3)
    return [Z, logdet, dX, X_back, *(p.grad for p in net.parameters())]

for dtype, tolerance in (("float32", 1e-4), ("float64", 1e-11)):
    for hidden, shape in ((20, (2, 3, 8, 10)), (260, (2, 3, 8, 10))):
        results = []
        for ops in (NumpyOps(), Ops(array_api_compat.numpy)):
            _of_type[np.ndarray] = lambda array: ops
            results.append(gradient(dtype, hidden, shape))
        for a, b in zip(*results, strict=True):
            assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b), (dtype, hidden, a.shape)
"""

X86 = platform.machine().lower() in ("x86_64", "amd64")
PROCESSORS = {  # name: its variables for Numba, bytes of a vector
    "this": ({}, BYTES),
    "haswell": ({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+sse2"}, 32),
    "generic": ({"NUMBA_CPU_NAME": "generic"}, 16),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("processor", PROCESSORS)
def test_memory_that_ends_and_shorter_vectors(processor, tmp_path):
    # this processor's gradients have tests enough
    runs_on(processor, START + GUARDED * hasattr(os, "fork") + GLOW * (processor != "this"), tmp_path)


def test_a_glow_on_shorter_vectors(tmp_path):
    """A part of what the test above does for other processors: float32 and few channels alone."""
    script = GLOW.replace(', ("float64", 1e-11)', ",").replace(", (260, (2, 3, 8, 10))", ",")
    assert script != GLOW
    runs_on("haswell", START + script, tmp_path)


def runs_on(processor, script, tmp_path):
    variables, size = PROCESSORS[processor]
    if variables and (not X86 or BYTES < size):
        pytest.skip("not a kind of this processor")
    env = {**os.environ, **variables, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script, str(size)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr}"
