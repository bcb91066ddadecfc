"""The channel mix and its gradients, each one compiled call over the rows of a tile.

`work` holds two matrices, the gradient of one, two rows, and twice ROWS_AT_ONCE rows; `room` says how many floats that is.
"""

import functools

from .convolutions import ROWS_AT_ONCE
from .kernels import compiled
from .products import multiples, place, place_transposed, product, rounded
from .vectors import SLACK


def room(C, lanes):
    return (3 * C + 2 + 2 * ROWS_AT_ONCE) * rounded(C, lanes) + SLACK


@functools.cache
def mix(char):
    def mix(R, M, b, work, offsets, lanes):
        """R = R M^T + b for rows R (n, C) and a matrix M, flat."""
        (n, C), rows, channels, pitch = R.shape, offsets[0], offsets[1], rounded(R.shape[1], lanes)
        bias, out = C * pitch, (C + 1) * pitch
        place(b, 1, C, work, bias, pitch)
        place_transposed(M, C, C, work, 0, pitch, lanes)
        multiples(rows, n, R.strides[0] // R.itemsize)
        multiples(channels, C, R.strides[1] // R.itemsize)
        for r in range(0, n, ROWS_AT_ONCE):
            end = min(n, r + ROWS_AT_ONCE)
            product(R, 0, rows, r, end, channels, C, work, 0, pitch, C, work, bias, 0, work, out, pitch, lanes)
            for i in range(r, end):
                row = work[out + (i - r) * pitch:out + (i - r) * pitch + C]
                for c in range(C):
                    R[i, c] = row[c]

    return compiled(mix, "void($[:,:], $[::1], $[::1], $[::1], int64[:,::1], int64)", char)


@functools.cache
def mix_backward(char):
    def mix_backward(dR, R, M, Minv, c, dM, db, work, offsets, lanes):
        """R = R Minv^T + c, dR = dR M; adds dR^T R (with the new R and the old dR) to dM, and the sum of dR to db."""
        (n, C), rows, channels, d_rows, d_channels = R.shape, offsets[0], offsets[1], offsets[2], offsets[3]
        pitch = rounded(C, lanes)
        forth, d, bias, zeros = C * pitch, 2 * C * pitch, 3 * C * pitch, (3 * C + 1) * pitch
        x, dx = zeros + pitch, zeros + (1 + ROWS_AT_ONCE) * pitch
        place(c, 1, C, work, bias, pitch)
        work[zeros:x] = 0
        place_transposed(Minv, C, C, work, 0, pitch, lanes)
        place(M, C, C, work, forth, pitch)
        multiples(rows, n, R.strides[0] // R.itemsize)
        multiples(channels, C, R.strides[1] // R.itemsize)
        multiples(d_rows, n, dR.strides[0] // R.itemsize)
        multiples(d_channels, C, dR.strides[1] // R.itemsize)
        for r in range(0, n, ROWS_AT_ONCE):
            end = min(n, r + ROWS_AT_ONCE)
            product(R, 0, rows, r, end, channels, C, work, 0, pitch, C, work, bias, 0, work, x, pitch, lanes)
            product(dR, 0, d_rows, r, end, d_channels, C, work, forth, pitch, C, work, zeros, 0, work, dx, pitch, lanes)
            for i in range(r, end):
                row = work[x + (i - r) * pitch:x + (i - r) * pitch + C]
                for k in range(C):
                    R[i, k] = row[k]
                    db[k] += dR[i, k]
            so, lds = (d, pitch) if r else (zeros, 0)
            product(dR, 0, d_channels, 0, C, d_rows[r:], end - r, work, x, pitch, C, work, so, lds, work, d, pitch, lanes)
            for i in range(r, end):
                row = work[dx + (i - r) * pitch:dx + (i - r) * pitch + C]
                for k in range(C):
                    dR[i, k] = row[k]
        for i in range(C if n else 0):
            for k in range(C):
                dM[i * C + k] += work[d + i * pitch + k]

    signature = "void($[:,:], $[:,:], $[::1], $[::1], $[::1], $[::1], $[::1], $[::1], int64[:,::1], int64)"
    return compiled(mix_backward, signature, char)


@functools.cache
def scale(char):
    def scale(R, s, b):
        """R = R s + b, channel by channel."""
        for i in range(R.shape[0]):
            for c in range(R.shape[1]):
                R[i, c] = R[i, c] * s[c] + b[c]

    return compiled(scale, "void($[:,:], $[::1], $[::1])", char)


@functools.cache
def scale_backward(char):
    def scale_backward(dR, R, s, sinv, c, ds, db):
        """R = R sinv + c, dR = dR s; adds the sums of dR R (with the new R and the old dR) to ds, and of dR to db."""
        for i in range(R.shape[0]):
            for k in range(R.shape[1]):
                x, d = R[i, k] * sinv[k] + c[k], dR[i, k]
                R[i, k], dR[i, k] = x, d * s[k]
                ds[k] += d * x
                db[k] += d

    return compiled(scale_backward, "void($[:,:], $[:,:], $[::1], $[::1], $[::1], $[::1], $[::1])", char)
