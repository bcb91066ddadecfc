"""Numba kernels of the NumPy engine: passes over the rows of a tile, each beside its reference in reference.py.

Arrays are rows (positions, channels) or (N, D, H, W, C); every loop runs over channels innermost, so that LLVM
vectorises it without reordering a sum: results do not depend on the processor's vector width or on threads.
"""

from numba import njit

jit = njit(nogil=True, cache=True, error_model="numpy")


@jit
def taps(x, T, kd, kh, kw):
    N, D, H, W, C = x.shape
    row = 0
    for n in range(N):
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    column = 0
                    for a in range(d - kd // 2, d + kd // 2 + 1):
                        for b in range(h - kh // 2, h + kh // 2 + 1):
                            for e in range(w - kw // 2, w + kw // 2 + 1):
                                if 0 <= a < D and 0 <= b < H and 0 <= e < W:
                                    for c in range(C):
                                        T[row, column + c] = x[n, a, b, e, c]
                                else:
                                    for c in range(C):
                                        T[row, column + c] = 0
                                column += C
                    row += 1


@jit
def shift_add(T, y, kd, kh, kw):
    N, D, H, W, C = y.shape
    for n in range(N):
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    for c in range(C):
                        y[n, d, h, w, c] = 0
                    column = 0
                    for a in range(d + kd // 2, d - kd // 2 - 1, -1):
                        for b in range(h + kh // 2, h - kh // 2 - 1, -1):
                            for e in range(w + kw // 2, w - kw // 2 - 1, -1):
                                if 0 <= a < D and 0 <= b < H and 0 <= e < W:
                                    row = ((n * D + a) * H + b) * W + e
                                    for c in range(C):
                                        y[n, d, h, w, c] += T[row, column + c]
                                column += C


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
