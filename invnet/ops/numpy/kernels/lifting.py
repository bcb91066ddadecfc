"""Kernels of a map on a grid that is a lifting, and how a matrix becomes one: each beside its reference in
reference/fixed_point.py.

As in fixed_point.py, a map and its inverse call the same functions for what they round, in float64, and nothing may be
compiled with reassociation (fastmath). Some rows at a time are turned, so that the loops over them are vectors.
"""

import numpy as np

from .fixed_point import helper, larger
from .simple import inner, kernel

ROWS = 64


@helper
def factorise(A, rows, columns):
    """A becomes L and U of its LDU factorisation with complete pivoting, and gives D's diagonal."""
    C = A.shape[0]
    d = np.empty(C)
    for i in range(C):
        down, right = i, i
        for r in range(i, C):
            for c in range(i, C):
                if abs(A[r, c]) > abs(A[down, right]):
                    down, right = r, c
        for c in range(C):
            A[i, c], A[down, c] = A[down, c], A[i, c]
        for r in range(C):
            A[r, i], A[r, right] = A[r, right], A[r, i]
        rows[i], rows[down], columns[i], columns[right] = rows[down], rows[i], columns[right], columns[i]
        d[i] = A[i, i]
        for r in range(i + 1, C):
            f = A[r, i] / d[i]
            for c in range(i + 1, C):
                A[r, c] -= f * A[i, c]
            A[r, i] = f
    for i in range(C):
        for c in range(i + 1, C):
            A[i, c] /= d[i]
    return d


@helper
def balance(rest, pairs, k):
    """The pairs of a diagonal of these logarithms; gives how many."""
    rest -= rest.mean()
    for n in range(rest.size - 1):
        high, low = rest.argmax(), rest.argmin()
        moved = min(rest[high], -rest[low])
        if not moved > 1e-15:
            return n
        rest[high] -= moved
        rest[low] += moved
        pairs[n, 0], pairs[n, 1], k[n] = high, low, np.exp(moved)
    return max(rest.size - 1, 0)


@inner
def turn(R, order, over, X):
    """The numbers of rows in steps, X (C, rows), its channels in an order."""
    for r in range(R.shape[0]):
        for i in range(order.size):
            X[i, r] = R[r, order[i]] * over


@inner
def turn_back(X, order, step, R):
    for i in range(order.size):
        for r in range(R.shape[0]):
            R[r, order[i]] = X[i, r] * step + 0.0


@inner
def change(X, F, i, start, stop, sign, total, m):
    """X[i] + sign round(sum of F[i, j] X[j])."""
    total[:m] = 0
    for j in range(start, stop):
        f = F[i, j]
        for r in range(m):
            total[r] += f * X[j, r]
    for r in range(m):
        X[i, r] += sign * np.rint(total[r])


@inner
def add_times(X, i, f, j, sign, m):
    """X[i] + sign round(f X[j])."""
    for r in range(m):
        X[i, r] += sign * np.rint(f * X[j, r])


@inner
def hold(X, m, most, largest):
    beyond = False
    for i in range(X.shape[0]):
        for r in range(m):
            beyond |= not abs(X[i, r]) <= most
    if beyond:
        for i in range(X.shape[0]):
            for r in range(m):
                largest = larger(largest, X[i, r])
    return largest


SIGNATURE = (
    "float64($[:,:], int64[::1], int64[::1], float64[:,::1], float64[::1], int64[:,::1], float64[::1], "
    "float64, float64)"
)


@kernel(SIGNATURE)
def lift(R, rows, columns, F, signs, pairs, k, step, most):
    """P L D U Q of each row, each step rounded."""
    (n, C), X, total, largest = R.shape, np.empty((R.shape[1], ROWS)), np.empty(ROWS), 0.0
    for start in range(0, n, ROWS):
        m = min(ROWS, n - start)
        turn(R[start : start + m], columns, 1 / step, X)
        for i in range(C):
            change(X, F, i, i + 1, C, 1.0, total, m)
        largest = hold(X, m, most, largest)
        for p in range(k.size):
            i, j = pairs[p, 0], pairs[p, 1]
            add_times(X, i, 1.0, j, 1.0, m)
            add_times(X, j, 1 / k[p] - 1, i, 1.0, m)
            add_times(X, i, k[p], j, -1.0, m)
            add_times(X, j, (1 - 1 / k[p]) / k[p], i, 1.0, m)
        for i in range(C - 1, -1, -1):
            for r in range(m):
                X[i, r] *= signs[i]
        largest = hold(X, m, most, largest)
        for i in range(C - 1, -1, -1):
            change(X, F, i, 0, i, 1.0, total, m)
        largest = hold(X, m, most, largest)
        turn_back(X, rows, step, R[start : start + m])
    return largest


@kernel(SIGNATURE)
def unlift(R, rows, columns, F, signs, pairs, k, step, most):
    """The inverse of lift."""
    (n, C), X, total, largest = R.shape, np.empty((R.shape[1], ROWS)), np.empty(ROWS), 0.0
    for start in range(0, n, ROWS):
        m = min(ROWS, n - start)
        turn(R[start : start + m], rows, 1 / step, X)
        for i in range(C):
            change(X, F, i, 0, i, -1.0, total, m)
        largest = hold(X, m, most, largest)
        for i in range(C):
            for r in range(m):
                X[i, r] *= signs[i]
        for p in range(k.size - 1, -1, -1):
            i, j = pairs[p, 0], pairs[p, 1]
            add_times(X, j, (1 - 1 / k[p]) / k[p], i, -1.0, m)
            add_times(X, i, k[p], j, 1.0, m)
            add_times(X, j, 1 / k[p] - 1, i, -1.0, m)
            add_times(X, i, 1.0, j, -1.0, m)
        largest = hold(X, m, most, largest)
        for i in range(C - 1, -1, -1):
            change(X, F, i, i + 1, C, -1.0, total, m)
        largest = hold(X, m, most, largest)
        turn_back(X, columns, step, R[start : start + m])
    return largest
