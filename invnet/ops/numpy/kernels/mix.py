"""The channel mix and its gradients, each one compiled call over the rows of a tile."""

import functools

import numpy as np

from .convolutions import ROWS_AT_ONCE
from .products import Left, Rows, multiples, place, place_transposed, product, rounded
from .simple import ONE, ZERO, compiled
from .vectors import BYTES, SLACK


@functools.cache
def mix(char):
    def mix(R, M, b):
        """R = R M^T + b for rows R (n, C) and a matrix M, flat."""
        (n, C), lanes, stride = R.shape, BYTES // R.itemsize, R.strides[0] // R.itemsize
        pitch = rounded(C, lanes)
        bias, out = C * pitch, (C + 1) * pitch
        work, offsets = (
            np.empty(out + ROWS_AT_ONCE * pitch + SLACK, R.dtype),
            np.empty((2, max(ROWS_AT_ONCE, C) + SLACK), np.int64),
        )
        place(b, ONE, C, work, bias, pitch)
        place_transposed(M, C, C, work, 0, pitch, lanes)
        multiples(offsets[0], ROWS_AT_ONCE, stride)
        multiples(offsets[1], C, R.strides[1] // R.itemsize)
        for r in range(0, n, ROWS_AT_ONCE):
            m = min(n - r, ROWS_AT_ONCE)
            A, B, Y = Left(R, r * stride, offsets[0], offsets[1]), Rows(work, 0, pitch), Rows(work, out, pitch)
            product(A, ZERO, m, C, B, C, Rows(work, bias, ZERO), Y, lanes)
            for i in range(m):
                row = work[out + i * pitch : out + i * pitch + C]
                for c in range(C):
                    R[r + i, c] = row[c]

    return compiled(mix, "void($[:,:], $[::1], $[::1])", char)


@functools.cache
def mix_vjp(char):
    def mix_vjp(dR, R, M, Minv, c, dM, db):
        """R = R Minv^T + c, dR = dR M; adds dR^T R (with the new R and the old dR) to dM, and the sum of dR to db."""
        (n, C), lanes, size = R.shape, BYTES // R.itemsize, R.itemsize
        pitch, stride, d_stride = rounded(C, lanes), R.strides[0] // size, dR.strides[0] // size
        matrix, d, bias, zeros = C * pitch, 2 * C * pitch, 3 * C * pitch, (3 * C + 1) * pitch
        x, dx = zeros + pitch, zeros + (1 + ROWS_AT_ONCE) * pitch
        work, offsets = (
            np.empty(dx + ROWS_AT_ONCE * pitch + SLACK, R.dtype),
            np.empty((4, max(ROWS_AT_ONCE, C) + SLACK), np.int64),
        )
        rows, channels, d_rows, d_channels = offsets[0], offsets[1], offsets[2], offsets[3]
        place(c, ONE, C, work, bias, pitch)
        work[zeros:x] = 0
        place_transposed(Minv, C, C, work, 0, pitch, lanes)
        place(M, C, C, work, matrix, pitch)
        multiples(rows, ROWS_AT_ONCE, stride)
        multiples(channels, C, R.strides[1] // size)
        multiples(d_rows, ROWS_AT_ONCE, d_stride)
        multiples(d_channels, C, dR.strides[1] // size)
        for r in range(0, n, ROWS_AT_ONCE):
            m = min(n - r, ROWS_AT_ONCE)
            A, B, Y = Left(R, r * stride, rows, channels), Rows(work, 0, pitch), Rows(work, x, pitch)
            product(A, ZERO, m, C, B, C, Rows(work, bias, ZERO), Y, lanes)
            A = Left(dR, r * d_stride, d_rows, d_channels)
            B, Y = Rows(work, matrix, pitch), Rows(work, dx, pitch)
            product(A, ZERO, m, C, B, C, Rows(work, zeros, ZERO), Y, lanes)
            for i in range(m):
                row = work[x + i * pitch : x + i * pitch + C]
                for k in range(C):
                    R[r + i, k] = row[k]
                    db[k] += dR[r + i, k]
            so, lds = (d, pitch) if r else (zeros, 0)
            A, B, Y = Left(dR, r * d_stride, d_channels, d_rows), Rows(work, x, pitch), Rows(work, d, pitch)
            product(A, ZERO, C, m, B, C, Rows(work, so, lds), Y, lanes)
            for i in range(m):
                row = work[dx + i * pitch : dx + i * pitch + C]
                for k in range(C):
                    dR[r + i, k] = row[k]
        for i in range(C if n else 0):
            for k in range(C):
                dM[i * C + k] += work[d + i * pitch + k]

    return compiled(mix_vjp, "void($[:,:], $[:,:], $[::1], $[::1], $[::1], $[::1], $[::1])", char)


@functools.cache
def scale(char):
    def scale(R, s, b):
        """R = R s + b, channel by channel."""
        for i in range(R.shape[0]):
            for c in range(R.shape[1]):
                R[i, c] = R[i, c] * s[c] + b[c]

    return compiled(scale, "void($[:,:], $[::1], $[::1])", char)


@functools.cache
def scale_vjp(char):
    def scale_vjp(dR, R, s, sinv, c, ds, db):
        """R = R sinv + c, dR = dR s; adds the sums of dR R (with the new R and the old dR) to ds, and of dR to db."""
        for i in range(R.shape[0]):
            for k in range(R.shape[1]):
                x, d = R[i, k] * sinv[k] + c[k], dR[i, k]
                R[i, k], dR[i, k] = x, d * s[k]
                ds[k] += d * x
                db[k] += d

    return compiled(scale_vjp, "void($[:,:], $[:,:], $[::1], $[::1], $[::1], $[::1], $[::1])", char)
