"""What a run's stages are in tables, and their parameters as compiled functions take them.

`prepare` gathers the parameters of all stages, and what they parametrise, in one array P. The gradients in P are an array G; `pull`
adds to the parameters' own what these make of them. Parameters are found by their addresses, so that a call has as many
arguments for a hundred of them as for one.
"""

import math

import numpy as np
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .kernels import ONE, ZERO

#: kind of a stage -> its number
KINDS = {"scale": 0, "lu": 1, "full": 2, "householder": 3, "permute": 4, "affine": 5, "spline": 5, "convolutional": 6}
SCALE, LU, FULL, HOUSEHOLDER, PERMUTE, CONDITIONED, CONVOLUTIONAL = range(7)
#: A row of the table of stages: the number of its kind, its first state's address, its place in P and G; of one with a conditioner: the
#: first and the last row of that, how many groups, where in `index` their ends lie and the order of the channels (of a permutation as
#: well), whether the conditioner sees Z, whether the scale is a sigmoid, and how many bins a spline has, or 0.
KIND, STATE, PLACE, FIRST, LAST, GROUPS, ENDS, ORDER, READS_Z, SIGMOID, BINS = range(11)
#: A row of the table of conditioners' layers: inputs, units, the activation's number; places of weights and bias; rows in `work` of
#: inputs, of units, of these before the activation, of their gradients; where in `index` lie the ends of the inputs' and of the units'
#: steps, and in a flat matrix of weights the row of each input and the column of each unit.
INPUTS, UNITS, ACTIVATION, WEIGHTS, BIAS, IN, OUT, BEFORE, D, ENDS_IN, ENDS_OUT, ROWS, COLUMNS = range(13)

#: As `inner`, for what makes arrays.
function = njit(error_model="numpy", nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)


@intrinsic
def _pointer(typing, address):
    def build(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.intp), build


@function
def numbers_at(address, size, like):
    """The array of `size` numbers at an address, of the dtype of `like`."""
    return carray(_pointer(address), size, like.dtype)


@function
def uncounted(A):
    """A contiguous array without Numba's count of who has it, which a slice changes twice, 5 ns each: a quarter of a small step."""
    return carray(_pointer(A.ctypes.data), A.shape, A.dtype)


# ---- parameters: small square matrices, flat


@function
def copy(A, a, B, b, n):
    """B[b + i] = A[a + i] for n numbers i. (Numba compiles assignments of slices for a second each.)"""
    for i in range(n):
        B[b + i] = A[a + i]


@function
def add(A, a, B):
    """B += A from a on."""
    for i in range(B.size):
        B[i] += A[a + i]


@function
def times(A, a_row, a_column, B, b_row, b_column, m, k, n):
    """The product (m, n) of matrices (m, k) and (k, n), flat; how far apart are rows, and columns, says which is transposed."""
    C, rows, apart = np.zeros(m * n, A.dtype), B, b_row
    if b_column != 1:  # rows whose numbers lie side by side become vectors
        rows, apart = np.empty(k * n, A.dtype), n
        for j in range(n):
            for l in range(k):
                rows[l * n + j] = B[l * b_row + j * b_column]
    for i in range(m):
        to = C[i * n:(i + 1) * n]
        for l in range(k):
            a, row = A[i * a_row + l * a_column], rows[l * apart:l * apart + n]
            if a != 0:  # most are, of triangles and permutations
                for j in range(n):
                    to[j] += a * row[j]
    return C


@function
def invert(A, n, inverse):
    """Fills `inverse`, and gives log|det A|: Gauss's and Jordan's, with pivots, in double precision, since it rebuilds activations."""
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


@function
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


@function
def halved(G, k):
    """The strict upper triangle of a matrix, and half of its diagonal, in place."""
    for i in range(k):
        G[i * k + i] *= 0.5
        for j in range(i):
            G[i * k + j] = 0


@function
def reflected(V, k, C):
    """B of the product of k reflections I - V^T B V, the inverse of the halved V V^T."""
    G, B = times(V, C, ONE, V, ONE, C, k, C, k), np.empty(k * k, V.dtype)
    halved(G, k)
    invert(G, k, B)
    return B


@function
def square(A, n):
    total = 0.0
    for i in range(n):
        total += A[i] * A[i]
    return total


@function
def prepare(P, addresses, stages, layers, index, C, inverses):
    """Fills P, and the permutations in `index`, of the mixes' inverses where these are wanted; gives the logdet of all that is the same for
    every sample, and the largest |M| |Minv| of inverses, which is a bound of their condition numbers."""
    logdet, worst, n = 0.0, 1.0, C * C
    for s in range(stages.shape[0]):
        t = stages[s]
        kind, p, states = t[KIND], P[t[PLACE]:], addresses[t[STATE]:]
        if kind == SCALE:
            log_s, b = numbers_at(states[0], C, P), numbers_at(states[1], C, P)
            for c in range(C):
                scale = math.exp(log_s[c])
                p[c], p[C + c], p[2 * C + c] = scale, 1 / scale, b[c]
                logdet += log_s[c]
        elif kind == PERMUTE:
            copy(numbers_at(states[0], C, index), ZERO, index, t[ORDER], C)
        elif kind == CONVOLUTIONAL:  # whose weights serve where they lie
            continue
        elif kind == CONDITIONED:
            for l in range(t[FIRST], t[LAST] + 1):
                h, i = layers[l], 2 * (l - t[FIRST])
                copy(numbers_at(states[i], h[BIAS] - h[WEIGHTS], P), ZERO, P, h[WEIGHTS], h[BIAS] - h[WEIGHTS])
                copy(numbers_at(states[i + 1], h[UNITS], P), ZERO, P, h[BIAS], h[UNITS])
        elif kind == HOUSEHOLDER:
            k = t[GROUPS]
            V = numbers_at(states[0], k * C, P)
            M = times(V, ONE, C, times(reflected(V, k, C), k, ONE, V, C, ONE, k, k, C), C, ONE, C, k, C)
            for i in range(C):
                for j in range(C):
                    p[i * C + j] = (1.0 if i == j else 0.0) - M[i * C + j]
            if inverses:
                invert(p, C, p[n:])  # the transpose is one but for rounding, ten times that of the inverse
        else:
            if kind == LU:
                log_s = numbers_at(states[2], C, P)
                lower, upper = triangles(numbers_at(states[0], n, P), numbers_at(states[1], n, P), log_s, numbers_at(states[4], C, P), C)
                copy(times(numbers_at(states[3], n, P), C, ONE, times(lower, C, ONE, upper, C, ONE, C, C, C), C, ONE, C, C, C), ZERO, p, ZERO, n)
            else:
                copy(numbers_at(states[0], n, P), ZERO, p, ZERO, n)
            if kind == LU and not inverses:
                logdet += numbers_at(states[2], C, P).sum()
                continue
            logdet += invert(p, C, p[n:])
            bound = math.sqrt(square(p, n) * square(p[n:], n))
            worst = max(worst, bound if bound < math.inf else math.inf)  # of NaN too
    return logdet, worst


@function
def pull(P, G, dlogdet, addresses, gradients, stages, layers, C):
    """Adds to the gradients of the parameters, at the addresses `gradients`, those of what `prepare` made of them, G, and of logdet."""
    n = C * C
    for s in range(stages.shape[0]):
        t = stages[s]
        kind, p, dM, states, grads = t[KIND], P[t[PLACE]:], G[t[PLACE]:], addresses[t[STATE]:], gradients[t[STATE]:]
        if kind == SCALE:
            dlog_s, db = numbers_at(grads[0], C, P), numbers_at(grads[1], C, P)
            for c in range(C):
                dlog_s[c] += dM[c] * p[c] + dlogdet
                db[c] += dM[2 * C + c]
        elif kind == CONDITIONED or kind == CONVOLUTIONAL:
            for l in range(t[FIRST], t[LAST] + 1):
                h, i = layers[l], 2 * (l - t[FIRST])
                add(G, h[WEIGHTS], numbers_at(grads[i], h[BIAS] - h[WEIGHTS], P))
                add(G, h[BIAS], numbers_at(grads[i + 1], h[UNITS], P))
        elif kind == LU:
            lower, upper = triangles(numbers_at(states[0], n, P), numbers_at(states[1], n, P), numbers_at(states[2], C, P),
                                     numbers_at(states[4], C, P), C)
            dLU = times(numbers_at(states[3], n, P), ONE, C, dM, C, ONE, C, C, C)
            dlower, dupper = times(dLU, C, ONE, upper, ONE, C, C, C, C), times(lower, ONE, C, dLU, C, ONE, C, C, C)
            dL, dU, dlog_s = numbers_at(grads[0], n, P), numbers_at(grads[1], n, P), numbers_at(grads[2], C, P)
            for i in range(C):
                dlog_s[i] += dupper[i * C + i] * upper[i * C + i] + dlogdet
                for j in range(i):
                    dL[i * C + j] += dlower[i * C + j]
                for j in range(i + 1, C):
                    dU[i * C + j] += dupper[i * C + j]
        elif kind == FULL:
            dW = numbers_at(grads[0], n, P)
            for i in range(C):
                for j in range(C):
                    dW[i * C + j] += dM[i * C + j] + dlogdet * p[n + j * C + i]
        elif kind == HOUSEHOLDER:
            k = t[GROUPS]
            V, dV = numbers_at(states[0], k * C, P), numbers_at(grads[0], k * C, P)
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
