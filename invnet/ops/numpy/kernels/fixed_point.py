"""Kernels of shifts and scales on a grid, each beside its reference in reference/fixed_point.py: rows in place, all
arithmetic in float64.

A bit that differed between a map and its inverse would be a wrong state, so both call the same function for what they
round, and nothing here may be compiled with reassociation (fastmath).
"""

import numpy as np
from numba import njit

from .simple import kernel

helper = njit(
    nogil=True, cache=True, error_model="numpy"
)  # for float64 alone, so that the cache has one version of each


# What a kernel gives is the largest number in steps where one is beyond the grid, NaN if that is one, and else 0.0: a
# maximum that minds NaN would take as long as the rest.


@helper
def larger(largest, n):
    n = abs(n)
    return n if n > largest or n != n else largest


@kernel("float64($[:,:], $[:,:], float64, float64, float64)")
def add(R, t, sign, step, most):
    """R + sign round(t)."""
    largest, over = 0.0, 1 / step
    for r in range(R.shape[0]):
        for c in range(R.shape[1]):
            n = R[r, c] * over + sign * np.rint(t[r, c] * over)
            if not abs(n) <= most:
                largest = larger(largest, n)
            R[r, c] = n * step
    return largest


# ---- scales, and the bits that tell the numbers of a fibre apart


@helper
def scaled(n, s):
    """round(n s), halves upwards: halves to even numbers would make fibres of 3 and 5 where s is 1/4, and not all of
    4.
    """
    return np.floor(n * s + 0.5)


@helper
def first(m, s, most):
    """The first n on the grid with scaled(n, s) >= m, or one beyond the last."""
    n = np.ceil((m - 0.5) / s)  # at most one off
    if scaled(n - 1, s) >= m:
        n -= 1
    elif scaled(n, s) < m:
        n += 1
    return min(max(n, -most), most + 1)


@helper
def width(length):
    """How many bits tell the numbers of a fibre apart."""
    last, bits = np.int64(length) - 1, 0
    while last > 0:
        last >>= 1
        bits += 1
    return bits


# numbers that are worked on at a time: what is done for all of them in passes that are vectors, the fibres one by one
BLOCK = 512


@helper
def images(N, S, M, shared, size, most):
    """M = scaled(N, S), and which of them share theirs with a neighbour; gives whether all are on the grid."""
    inside = True
    for k in range(size):
        n, s = N[k], S[k]
        m = scaled(n, s)
        M[k] = m
        shared[k] = (scaled(n - 1, s) == m) | (scaled(n + 1, s) == m)
        inside &= (abs(n) <= most) & (abs(m) <= most)
    return inside


@helper
def preimages(M, S, N, shared, size, most):
    """N = first(M, S), and which of them are not alone; gives whether each has M as its image."""
    found = True
    for k in range(size):
        m, s = M[k], S[k]
        n = np.ceil((m - 0.5) / s)
        n = n - (scaled(n - 1, s) >= m) + (scaled(n, s) < m)
        n = -most if n < -most else most + 1 if n > most + 1 else n
        N[k] = n
        found &= scaled(n, s) == m
        shared[k] = scaled(n + 1, s) == m
    return found


@kernel("Tuple((float64, int64))($[:,:], $[:,:], $[:,:], float64, float64, uint8[::1])")
def scale(R, t, s, step, most, bits):
    """round((R + round(t)) s); fills `bits`, and gives how many bytes of it."""
    (rows, C), over, largest, used, held, have = R.shape, 1 / step, 0.0, 0, np.int64(0), 0
    each = max(1, BLOCK // C)
    N, S, M, shared = np.empty(each * C), np.empty(each * C), np.empty(each * C), np.empty(each * C, np.uint8)
    for start in range(0, rows, each):
        stop, k = min(rows, start + each), 0
        for r in range(start, stop):
            for c in range(C):
                N[k], S[k] = R[r, c] * over + np.rint(t[r, c] * over), s[r, c]
                k += 1
        if not images(N, S, M, shared, k, most):
            for k in range((stop - start) * C):
                largest = larger(larger(largest, N[k]), M[k])
            return largest, 0
        for k in range((stop - start) * C):
            if shared[k]:
                low = first(M[k], S[k], most)
                held |= np.int64(N[k] - low) << have
                have += width(first(M[k] + 1, S[k], most) - low)
                while have >= 8:
                    bits[used] = held & 255
                    used, held, have = used + 1, held >> 8, have - 8
        k = 0
        for r in range(start, stop):
            for c in range(C):
                R[r, c] = M[k] * step + 0.0
                k += 1
    if have:
        bits[used] = held
        used += 1
    return largest, used


@kernel("Tuple((float64, boolean))($[:,:], $[:,:], $[:,:], float64, float64, uint8[::1], boolean)")
def unscale(R, t, s, step, most, bits, nearest):
    """The inverse of scale, and whether each number was found; or what is nearest to it."""
    (rows, C), over, largest, used, held, have = R.shape, 1 / step, 0.0, 0, np.int64(0), 0
    each = max(1, BLOCK // C)
    N, S, M, shared = np.empty(each * C), np.empty(each * C), np.empty(each * C), np.empty(each * C, np.uint8)
    for start in range(0, rows, each):
        stop, k = min(rows, start + each), 0
        for r in range(start, stop):
            for c in range(C):
                M[k], S[k] = R[r, c] * over, s[r, c]
                k += 1
        if nearest:
            for k in range((stop - start) * C):
                N[k] = np.rint(M[k] / S[k])
        elif not preimages(M, S, N, shared, k, most):
            return largest, False
        else:
            for k in range((stop - start) * C):
                if shared[k]:
                    need = width(first(M[k] + 1, S[k], most) - N[k])
                    while have < need:
                        if used == bits.size:
                            return largest, False
                        held |= np.int64(bits[used]) << have
                        used, have = used + 1, have + 8
                    N[k] += held & ((np.int64(1) << need) - 1)
                    held, have = held >> need, have - need
        k = 0
        for r in range(start, stop):
            for c in range(C):
                x = N[k] - np.rint(t[r, c] * over)
                if not (abs(N[k]) <= most and abs(x) <= most):
                    largest = larger(larger(largest, N[k]), x)
                R[r, c] = x * step + 0.0
                k += 1
    return largest, True
