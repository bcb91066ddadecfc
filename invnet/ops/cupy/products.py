"""Matrix products by cuBLAS, of views as they are: rows of part of the channels, transposes."""

import cupy
import numpy as np
from cupy_backends.cuda.libs import cublas

_ONE = {char: np.ones(1, char) for char in "fd"}
_ZERO = {char: np.zeros(1, char) for char in "fd"}
_TF32 = 3  # CUBLAS_TF32_TENSOR_OP_MATH, which CuPy has no name for
_GEMM = {"f": cublas.sgemm, "d": cublas.dgemm}


def product(A, B, tf32=False):
    """A B, of matrices of one dtype; with `tf32` their float32 numbers may be rounded to TensorFloat-32."""
    char, (m, k), n = A.dtype.char, A.shape, B.shape[1]
    out = cupy.empty((m, n), A.dtype)
    if not (m and n and k):
        out[...] = 0
        return out
    (A, ta, lda), (B, tb, ldb), handle = _layout(A), _layout(B), cupy.cuda.device.get_cublas_handle()
    # cuBLAS has columns where we have rows: what it is given is the transposed product, B^T A^T.
    arguments = (
        handle,
        tb,
        ta,
        n,
        m,
        k,
        _ONE[char].ctypes.data,
        B.data.ptr,
        ldb,
        A.data.ptr,
        lda,
        _ZERO[char].ctypes.data,
        out.data.ptr,
        n,
    )
    if not tf32 or char == "d":
        _GEMM[char](*arguments)
        return out
    before = cublas.getMathMode(handle)
    cublas.setMathMode(handle, _TF32)
    try:
        _GEMM[char](*arguments)
    finally:
        cublas.setMathMode(handle, before)
    return out


def _layout(A):
    """A, or a copy where its numbers lie in no way that cuBLAS takes; whether columns are contiguous; numbers from line
    to line.
    """
    (rows, columns), (down, along) = A.shape, (s // A.itemsize for s in A.strides)
    if (along == 1 or columns == 1) and (rows == 1 or down >= columns):
        return A, cublas.CUBLAS_OP_N, max(down, columns) if rows > 1 else columns
    if (down == 1 or rows == 1) and (columns == 1 or along >= rows):
        return A, cublas.CUBLAS_OP_T, max(along, rows) if columns > 1 else rows
    return cupy.ascontiguousarray(A), cublas.CUBLAS_OP_N, columns
