"""Numba kernels of the NumPy engine: passes over the rows of a tile, each beside its reference in reference.py.

Arrays are rows (positions, channels) or (N, D, H, W, C); every loop runs over channels innermost, so that LLVM
vectorises it without reordering a sum: results do not depend on the processor's vector width or on threads.
"""

import functools

from numba import njit

jit = njit(nogil=True, cache=True, error_model="numpy")


@jit
def pad(x, P, pd, ph, pw):
    """x (N, D, H, W, C) with zeros around it into P (N, D + 2 pd, H + 2 ph, (W + 2 pw) C)."""
    N, D, H, W, C = x.shape
    for n in range(N):
        for d in range(P.shape[1]):
            for h in range(P.shape[2]):
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


@jit
def crop(P, y, pd, ph, pw):
    """The inside of P, padded as by pad, into y."""
    N, D, H, W, C = y.shape
    for n in range(N):
        for d in range(D):
            for h in range(H):
                line = P[n, d + pd, h + ph]
                for w in range(W):
                    for c in range(C):
                        y[n, d, h, w, c] = line[(pw + w) * C + c]


@functools.cache
def taps_kernels(C, kd, kh, kw):
    """taps(P, T, N, D, H, W) and its transpose shift_add(T, P, N, D, H, W), compiled for C channels.

    The taps of a position are kd * kh runs of kw * C neighbouring numbers of P. With lengths known to the compiler a
    row of 9 * 12 columns takes 21 and 38 ns instead of 55 and 95.
    """
    run = kw * C

    @jit
    def taps(P, T, N, D, H, W):
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

    @jit
    def shift_add(T, P, N, D, H, W):
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

    return taps, shift_add


@jit
def bias_relu(A, b, slope):
    for r in range(A.shape[0]):
        for c in range(A.shape[1]):
            a = A[r, c] + b[c]
            A[r, c] = a if a > 0 else slope * a


@jit
def relu_backward(dH, H, slope, db):
    for r in range(H.shape[0]):
        for c in range(H.shape[1]):
            g = dH[r, c] if H[r, c] > 0 else slope * dH[r, c]
            dH[r, c] = g
            db[c] += g


@jit
def couple(x2, t, s):
    for r in range(x2.shape[0]):
        for c in range(x2.shape[1]):
            x2[r, c] = (x2[r, c] + t[r, c]) * s[r, c]


@jit
def uncouple(z2, t, s):
    for r in range(z2.shape[0]):
        for c in range(z2.shape[1]):
            z2[r, c] = z2[r, c] / s[r, c] - t[r, c]


@jit
def couple_backward(dz2, z2, t, s, slope, dlogdet, dh):
    C = z2.shape[1]
    positions = z2.shape[0] // dlogdet.shape[0]
    for n in range(dlogdet.shape[0]):
        for r in range(n * positions, (n + 1) * positions):
            for c in range(C):
                z, dz = z2[r, c], dz2[r, c]
                dx = dz * s[r, c]
                dz2[r, c] = dx
                dh[r, c] = dx
                dh[r, C + c] = (dz * z + dlogdet[n]) * slope[r, c]
                z2[r, c] = z / s[r, c] - t[r, c]


@jit
def add_bias(A, b):
    for r in range(A.shape[0]):
        for c in range(A.shape[1]):
            A[r, c] += b[c]


@jit
def subtract_bias_sum(R, b, dR, db):
    """R - b in place, and the column sums of dR into db."""
    for r in range(R.shape[0]):
        for c in range(R.shape[1]):
            R[r, c] -= b[c]
            db[c] += dR[r, c]
