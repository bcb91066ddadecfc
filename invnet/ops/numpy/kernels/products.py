"""Matrix products of long narrow matrices, for use inside compiled functions.

The left factor is any array read by offsets, A[i, k] = A[ro[i] + ko[k]]: a matrix, its transpose, or the taps of a
padded image, which are thus never gathered. Rows of the other two have room for whole vectors.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from .simple import ONE, ZERO, inner
from .vector_rows import copy_rows, pack_rows, transpose_square
from .vectors import FEW, ROWS, VECTORS, block, low_block, narrow_block, small_block


@njit(error_model="numpy", nogil=True)
def rounded(N, lanes):
    """N columns rounded up to whole vectors."""
    return (N + lanes - 1) // lanes * lanes


class Left(NamedTuple):
    """A matrix that is read by offsets: A[i, k] = array[start + rows[i] + columns[k]]."""

    array: np.ndarray
    start: int
    rows: np.ndarray
    columns: np.ndarray


class Rows(NamedTuple):
    """A matrix whose rows are `pitch` numbers apart: A[i, j] = array[start + i * pitch + j]."""

    array: np.ndarray
    start: int
    pitch: int


@inner
def product(left, r0, r1, K, right, N, first, out, lanes):
    """out[i - r0, j] = first[i - r0, j] + sum_k left[i, k] right[k, j] for rows i from r0 to r1, K terms, N columns.

    Args:
        left: a Left.
        right, first, out: Rows. `first` may be `out`, or have a pitch of 0: one row for all, such as a bias.
    """
    A, ao, ro, ko = left
    B, bo, ldb = right
    S, so, lds = first
    C, co, ldc = out
    wide, r = lanes * VECTORS, r0
    while r < r1:
        low = r1 - r <= FEW if ROWS < 2 * FEW else r1 - r <= 2 * FEW
        to, start, j = co + (r - r0) * ldc, so + (r - r0) * lds, 0
        while j < N:
            if N - j > wide - lanes:
                if low:
                    low_block(A, ao, ro, r, r1 - 1, ko, K, B, bo + j, ldb, S, start + j, lds, C, to + j, ldc)
                else:
                    block(A, ao, ro, r, r1 - 1, ko, K, B, bo + j, ldb, S, start + j, lds, C, to + j, ldc)
                j += wide
            else:
                if low:
                    small_block(A, ao, ro, r, r1 - 1, ko, K, B, bo + j, ldb, S, start + j, lds, C, to + j, ldc)
                else:
                    narrow_block(A, ao, ro, r, r1 - 1, ko, K, B, bo + j, ldb, S, start + j, lds, C, to + j, ldc)
                j += lanes
        r += FEW if low else ROWS


@inner
def product_of_transpose(left, M, K, right, N, first, out, panel, po, rows, ones, lanes):
    """out = first + left^T right for Rows left (K, M) and right (K, N): as `product`, but a block's columns of `left`
    are copied to a panel first.

    Below 256 columns the copy does not pay. `panel` at po has room for K * ROWS rounded to vectors; `rows` and `ones`
    are scratch for offsets.
    """
    width = rounded(ROWS, lanes)
    multiples(ones, ROWS, ONE)
    multiples(rows, K, width)
    for i in range(0, M, ROWS):
        n = min(ROWS, M - i)
        copy_rows(left.array, left.start + i, left.pitch, panel, po, width, K, width, n)
        before = Rows(first.array, first.start + i * first.pitch, first.pitch)
        to = Rows(out.array, out.start + i * out.pitch, out.pitch)
        product(Left(panel, po, ones, rows), ZERO, n, K, right, N, before, to, lanes)


@inner
def clear(A, start, stop):
    """A[start:stop] = 0. (Numba compiles assignments of slices for a second each.)"""
    for i in range(start, stop):
        A[i] = 0


@inner
def multiples(offsets, count, step):
    """Where the rows of a matrix, or the numbers of a row, lie."""
    for i in range(count):
        offsets[i] = i * step


@inner
def place(B, K, N, out, oo, ldo):
    """Rows of a matrix B (K, N), ldo apart, with zeros after them; B may be a user's array: no number beyond it is
    read.
    """
    whole = max(0, (K * N - ldo) // N + 1)  # so many rows have `ldo` numbers of B from their first on
    copy_rows(B, 0, N, out, oo, ldo, whole, ldo, N)
    for k in range(whole, K):
        row = out[oo + k * ldo : oo + (k + 1) * ldo]
        for j in range(N):
            row[j] = B[k * N + j]
        clear(row, N, ldo)


@inner
def place_transposed(B, K, N, out, oo, ldo, lanes):
    """Rows of the transpose of B (K, N), ldo apart, with zeros after them."""
    N_whole = N - N % lanes
    for k in range(0, ldo, lanes):
        for j in range(0, N_whole, lanes):
            transpose_square(B, min(k, K - 1) * N + j, N, K - k, out, oo + j * ldo + k, ldo)
    for j in range(N_whole, N):
        row = oo + j * ldo  # and not a slice: arrays are counted, at 20 cycles each
        for k in range(K):
            out[row + k] = B[k * N + j]
        clear(out, row + K, row + ldo)


@inner
def add_to_rows(R, pitch, added, group):
    """Adds to rows `pitch` apart the rows of `added`, each to `group` of them."""
    for r in range(R.size // pitch):
        row, more = R[r * pitch : (r + 1) * pitch], added[r // group]
        for c in range(more.size):
            row[c] += more[c]


@inner
def sum_rows(R, pitch, sums, group):
    """The transpose of add_to_rows: adds the rows to those of `sums`."""
    for r in range(R.size // pitch):
        row, total = R[r * pitch : (r + 1) * pitch], sums[r // group]
        for c in range(total.size):
            total[c] += row[c]


@inner
def take_rows(R, pitch, out):
    """out = its rows, `pitch` apart, without what comes after them."""
    count, C = out.shape
    whole = max(0, (count * C - pitch) // C + 1)
    pack_rows(R, 0, pitch, out, 0, C, whole, pitch)
    for r in range(whole, count):
        row, to = R[r * pitch : (r + 1) * pitch], out[r]
        for c in range(C):
            to[c] = row[c]
