"""Numba kernels of the NumPy engine: passes over the rows of a tile, each beside its reference in reference.py.

A kernel is found by the character of its dtype, as in `bias_relu("f")(A, b, slope)`. Arrays are rows (positions,
channels) or images (N, D, H, W, C). Every loop runs over channels innermost, so that LLVM vectorises it without
reordering a sum: results depend neither on the processor's vector width nor on threads.
"""

import functools
import math
import types

from numba import njit

TYPES = {"f": "float32", "d": "float64"}


def compiled(function, signature, char, *constants):
    """The function compiled for one dtype, $ in its signature, and for the constants that it closes over.

    Each has a name of its own and so its own file in Numba's cache. Under one name two processes that compile two
    versions at once can each find the other's code under its own key, with no sign of it but wrong numbers.
    """
    name = "_".join(map(str, (function.__name__, TYPES[char], *constants)))
    own = types.FunctionType(function.__code__, function.__globals__, name, None, function.__closure__)
    own.__qualname__ = name
    return njit(signature.replace("$", TYPES[char]), nogil=True, cache=True, error_model="numpy")(own)


def kernel(signature):
    return lambda function: functools.cache(lambda char: compiled(function, signature, char))


# ---- taps: the taps of a position are kd * kh runs of kw * C neighbouring numbers of a padded image
# P (N, D + kd - 1, H + kh - 1, (W + kw - 1) C). Lengths known to the compiler halve the time: a row of 9 * 12 columns
# takes 21 ns to gather and 38 ns to add instead of 55 and 95.


@functools.cache
def taps(char, C, kd, kh, kw):
    """taps(x, P, T): the columns T (N * D * H * W, taps * C) of x (N, D, H, W, C); P is scratch."""
    pd, ph, pw, run = kd // 2, kh // 2, kw // 2, kw * C

    def taps(x, P, T):
        N, D, H, W, _ = x.shape
        for n in range(N):
            for d in range(D + 2 * pd):
                for h in range(H + 2 * ph):
                    line = P[n, d, h]
                    inside = pd <= d < pd + D and ph <= h < ph + H
                    for i in range(pw * C if inside else line.shape[0]):
                        line[i] = 0
                    if inside:
                        for w in range(W):
                            for c in range(C):
                                line[(pw + w) * C + c] = x[n, d - pd, h - ph, w, c]
                        for i in range((pw + W) * C, line.shape[0]):
                            line[i] = 0
        row = 0
        for n in range(N):
            for d in range(D):
                for h in range(H):
                    for w in range(W):
                        for i in range(kd):
                            for j in range(kh):
                                for c in range(run):
                                    T[row, (i * kh + j) * run + c] = P[n, d + i, h + j, w * C + c]
                        row += 1

    return compiled(taps, "void($[:,:,:,:,:], $[:,:,:,::1], $[:,::1])", char, C, kd, kh, kw)


@functools.cache
def shift_add(char, C, kd, kh, kw):
    """shift_add(T, P, b, slope, y): the transpose of taps plus the bias b, rectified, into y (N, D, H, W, C)."""
    pd, ph, pw, run = kd // 2, kh // 2, kw // 2, kw * C

    def shift_add(T, P, b, slope, y):
        N, D, H, W, _ = y.shape
        P[:] = 0
        row = 0
        for n in range(N):
            for d in range(D):
                for h in range(H):
                    for w in range(W):
                        for i in range(kd):
                            for j in range(kh):
                                for c in range(run):
                                    P[n, d + i, h + j, w * C + c] += T[row, (i * kh + j) * run + c]
                        row += 1
        for n in range(N):
            for d in range(D):
                for h in range(H):
                    for w in range(W):
                        for c in range(C):
                            a = P[n, d + pd, h + ph, (pw + w) * C + c] + b[c]
                            y[n, d, h, w, c] = a if a > 0 else slope * a

    return compiled(shift_add, "void($[:,::1], $[:,:,:,::1], $[::1], $, $[:,:,:,:,::1])", char, C, kd, kh, kw)


# ---- activations: ReLU with a slope below zero, which is 1 for none


@kernel("void($[:,::1], $[::1], $)")
def bias_relu(A, b, slope):
    for r in range(A.shape[0]):
        for c in range(A.shape[1]):
            a = A[r, c] + b[c]
            A[r, c] = a if a > 0 else slope * a


@kernel("void($[:,::1], $[:,::1], $, $[::1])")
def relu_backward(dH, H, slope, db):
    for r in range(H.shape[0]):
        for c in range(H.shape[1]):
            g = dH[r, c] if H[r, c] > 0 else slope * dH[r, c]
            dH[r, c] = g
            db[c] += g


# ---- rows


@kernel("void($[:,:], $[:,:], $[::1])")
def add_to(R, A, b):
    """R = A + b."""
    for r in range(R.shape[0]):
        for c in range(R.shape[1]):
            R[r, c] = A[r, c] + b[c]


@kernel("void($[:,:], $[:,:])")
def add(A, B):
    for r in range(A.shape[0]):
        for c in range(A.shape[1]):
            A[r, c] += B[r, c]


@kernel("void($[:,:], $[::1])")
def column_sums(R, sums):
    for r in range(R.shape[0]):
        for c in range(R.shape[1]):
            sums[c] += R[r, c]


@kernel("void($[:,:], $, $[:,::1])")
def times(A, factor, B):
    for r in range(A.shape[0]):
        for c in range(A.shape[1]):
            B[r, c] = factor * A[r, c]


# ---- couplings: the rows of h are [t, raw], s are scales


@kernel("void($[:,:], $[:,:], $[:,::1])")
def couple(x2, h, s):
    for r in range(x2.shape[0]):
        for c in range(x2.shape[1]):
            x2[r, c] = (x2[r, c] + h[r, c]) * s[r, c]


@kernel("void($[:,:], $[:,:], $[:,::1])")
def uncouple(z2, h, s):
    for r in range(z2.shape[0]):
        for c in range(z2.shape[1]):
            z2[r, c] = z2[r, c] / s[r, c] - h[r, c]


@kernel("void($[:,:], $[:,:], $[:,:], $[:,::1], $[:,::1], $, $[::1], $[:,::1])")
def couple_backward(dz2, z2, h, log_s, s, a, dlogdet, dh):
    """`a` is the log of the bound of a "bounded" scale, 0 for "sigmoid"."""
    C = z2.shape[1]
    positions = z2.shape[0] // dlogdet.shape[0]
    for n in range(dlogdet.shape[0]):
        for r in range(n * positions, (n + 1) * positions):
            for c in range(C):
                z, dz = z2[r, c], dz2[r, c]
                dx = dz * s[r, c]
                dz2[r, c] = dx
                dh[r, c] = dx
                slope = 1 - (log_s[r, c] / a) ** 2 if a > 0 else -math.expm1(log_s[r, c])
                dh[r, C + c] = (dz * z + dlogdet[n]) * slope
                z2[r, c] = z / s[r, c] - h[r, c]
