"""Small matrices, flat: products, inverses, and what parametrises the mixes of groups. For use inside compiled
functions.
"""

import math

import numpy as np

from .simple import ONE, ZERO, inner


@inner
def copy(A, a, B, b, n):
    """B[b + i] = A[a + i] for n numbers i. (Numba compiles assignments of slices for a second each.)"""
    for i in range(n):
        B[b + i] = A[a + i]


@inner
def add(A, a, B):
    """B += A from a on."""
    for i in range(B.size):
        B[i] += A[a + i]


@inner
def times(A, a_row, a_column, B, b_row, b_column, m, k, n):
    """The product (m, n) of matrices (m, k) and (k, n), flat; how far apart are rows, and columns, says which is
    transposed.
    """
    C, rows, apart = np.zeros(m * n, A.dtype), B, b_row
    if b_column != 1:  # rows whose numbers lie side by side become vectors
        rows, apart = np.empty(k * n, A.dtype), n
        for j in range(n):
            for l in range(k):
                rows[l * n + j] = B[l * b_row + j * b_column]
    for i in range(m):
        to = C[i * n : (i + 1) * n]
        for l in range(k):
            a, row = A[i * a_row + l * a_column], rows[l * apart : l * apart + n]
            if a != 0:  # most are, of triangles and permutations
                for j in range(n):
                    to[j] += a * row[j]
    return C


@inner
def invert(A, n, inverse):
    """Fills `inverse`, and gives log|det A|: Gauss's and Jordan's, with pivots, in double precision, since it rebuilds
    activations.
    """
    log, M, row, order = 0.0, np.empty((n, n)), np.empty(n), np.empty(n, np.int64)
    for i in range(n):
        order[i] = i
        for j in range(n):
            M[i, j] = A[i * n + j]
    for k in range(n):
        best = k
        for i in range(k + 1, n):
            if abs(M[i, k]) > abs(M[best, k]):
                best = i
        pivot = M[best, k]
        log += math.log(abs(pivot))
        order[k], order[best] = order[best], order[k]
        for j in range(n):
            row[j], M[best, j] = M[best, j] / pivot, M[k, j]
        row[k] = 1 / pivot
        for i in range(n):
            to, factor = M[i], M[i, k]
            to[k] = 0
            for j in range(n):
                to[j] -= factor * row[j]
        for j in range(n):
            M[k, j] = row[j]
    for i in range(n):  # the inverse of the rows in another order has its columns in that order
        for j in range(n):
            inverse[i * n + order[j]] = M[i, j]
    return log


@inner
def triangles(L, U, log_s, sign, n):
    """The factors of P L (U + diag s), the ones and s in their diagonals."""
    lower, upper = np.zeros(n * n, L.dtype), np.zeros(n * n, L.dtype)
    for i in range(n):
        lower[i * n + i], upper[i * n + i] = 1, sign[i] * math.exp(log_s[i])
        for j in range(i):
            lower[i * n + j] = L[i * n + j]
        for j in range(i + 1, n):
            upper[i * n + j] = U[i * n + j]
    return lower, upper


@inner
def square(A, n):
    total = 0.0
    for i in range(n):
        total += A[i] * A[i]
    return total


# ---- products of Householder's reflections; most groups have none, and then these are not compiled


@inner
def halved(G, k):
    """The strict upper triangle of a matrix, and half of its diagonal, in place."""
    for i in range(k):
        G[i * k + i] *= 0.5
        for j in range(i):
            G[i * k + j] = 0


@inner
def reflected(V, k, C):
    """B of the product of k reflections I - V^T B V, the inverse of the halved V V^T."""
    G, B = times(V, C, ONE, V, ONE, C, k, C, k), np.empty(k * k, V.dtype)
    halved(G, k)
    invert(G, k, B)
    return B


@inner
def reflect(V, k, C, p, inverses):
    """Fills p with the product of k reflections, and after it the inverse where that is wanted."""
    M = times(V, ONE, C, times(reflected(V, k, C), k, ONE, V, C, ONE, k, k, C), C, ONE, C, k, C)
    for i in range(C):
        for j in range(C):
            p[i * C + j] = (1.0 if i == j else 0.0) - M[i * C + j]
    if inverses:
        invert(p, C, p[C * C :])  # the transpose is one but for rounding, ten times that of the inverse


@inner
def reflect_vjp(V, k, C, dM, dV):
    """Adds to the gradients of the k vectors, given those of the product of their reflections."""
    B = reflected(V, k, C)
    VdM = times(V, C, ONE, dM, C, ONE, k, C, C)
    dB = times(VdM, C, ONE, V, ONE, C, k, C, k)  # with the sign turned twice: here, and in what B is the inverse of
    dG = times(B, ONE, k, times(dB, k, ONE, B, ONE, k, k, k, k), k, ONE, k, k, k)
    halved(dG, k)
    one, other = times(dG, k, ONE, V, C, ONE, k, k, C), times(dG, ONE, k, V, C, ONE, k, k, C)
    add(one, ZERO, dV)
    add(other, ZERO, dV)
    first = times(times(B, k, ONE, V, C, ONE, k, k, C), C, ONE, dM, ONE, C, k, C, C)
    second = times(B, ONE, k, VdM, C, ONE, k, k, C)
    for i in range(k * C):
        dV[i] -= first[i] + second[i]
