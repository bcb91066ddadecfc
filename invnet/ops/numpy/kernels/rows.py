"""Pieces of a group, but for conditioners: samples as rows of channels, scaled, permuted, mixed and summed over.

`n` samples are at work; row c of their channels lies at o + c * pitch in `work`.
"""

from numba import njit

from .matrices import copy
from .products import Left, Rows, product
from .simple import ZERO, inner

reordering = njit(error_model="numpy", nogil=True, fastmath={"reassoc"})  # so that a sum becomes a sum of vectors


@inner
def to_rows(X, start, n, work, o, pitch):
    """Rows of `n` samples, with zeros after them: what is computed there is never used, but could be slow with numbers
    near 0.
    """
    for c in range(X.shape[1]):
        row = work[o + c * pitch : o + (c + 1) * pitch]
        for i in range(n):
            row[i] = X[start + i, c]
        row[n:] = 0


@inner
def from_rows(work, o, pitch, X, start, n):
    for c in range(X.shape[1]):
        row = work[o + c * pitch : o + c * pitch + n]
        for i in range(n):
            X[start + i, c] = row[i]


@inner
def rescale(work, o, pitch, p, C, to_z, n):
    """Rows at o become Z, scaled and shifted, or X again."""
    for c in range(C):
        row, scale, over, b = work[o + c * pitch : o + c * pitch + n], p[c], p[C + c], p[2 * C + c]
        if to_z:
            for i in range(n):
                row[i] = row[i] * scale + b
        else:
            for i in range(n):
                row[i] = (row[i] - b) * over


@inner
def scale_vjp(work, o, d, pitch, p, C, inverse, n, sign, g):
    """Gradients at d of rows X at o, from those of Z or the other way round; adds those of scale and b to g."""
    for c in range(C):
        row, drow, factor = (
            work[o + c * pitch : o + c * pitch + n],
            work[d + c * pitch : d + c * pitch + n],
            p[C + c if inverse else c],
        )
        if inverse:
            for i in range(n):
                drow[i] *= factor
        g[c] += sign * dot(drow, row)
        g[2 * C + c] += sign * total(drow)
        if not inverse:
            for i in range(n):
                drow[i] *= factor


@inner
def permute(work, o, spare, pitch, index, order, C, back):
    """Rows at o in the order that lies in `index`, or back."""
    copy(work, o, work, spare, C * pitch)
    for c in range(C):
        to, at = (index[order + c], c) if back else (c, index[order + c])
        copy(work, spare + at * pitch, work, o + to * pitch, pitch)


@inner
def mix(P, M, rows, columns, C, work, o, spare, zeros, n, pitch, lanes):
    """Rows at o become M times them; with rows and columns exchanged, its transpose times them."""
    A, B, Y = Left(P, M, rows, columns), Rows(work, o, pitch), Rows(work, spare, pitch)
    product(A, ZERO, C, C, B, n, Rows(work, zeros, ZERO), Y, lanes)
    copy(work, spare, work, o, C * pitch)


@inner
def sums_of_products(A, a, B, b, C, n, pitch, sign, G):
    """G[i, j] += sign * sum over samples of A[i] B[j], for C rows each; G is flat."""
    for i in range(C):
        for j in range(C):
            G[i * C + j] += sign * dot(A[a + i * pitch : a + i * pitch + n], B[b + j * pitch : b + j * pitch + n])


@reordering
def dot(x, y):
    """The sum of x y, in as many partial sums as LLVM has lanes for: the same on any processor of this kind."""
    result = x.dtype.type(0)
    for i in range(x.size):
        result += x[i] * y[i]
    return result


@reordering
def total(x):
    """The sum of x, as `dot`."""
    result = x.dtype.type(0)
    for i in range(x.size):
        result += x[i]
    return result
