"""The NumPy engine: BLAS products, Numba kernels, and tiles that worker threads share."""

import math

import array_api_compat.numpy
import numpy as np

from . import kernels, threads
from .reference import Ops
from .threads import scratch

#: a tile's working set: conditioner activations that stay in the second-level cache, or near it.
TILE_BYTES = 4 << 20


class NumpyOps(Ops):
    name = "numpy"

    def __init__(self):
        super().__init__(array_api_compat.numpy)

    # ---- arrays

    def is_float(self, X):
        return X.dtype.kind == "f" and X.dtype.itemsize in (4, 8)

    def same_dtype(self, a, b):
        return a == b or (a.kind, a.itemsize) == (b.kind, b.itemsize)  # byte order is mended by fresh

    def astype(self, X, dtype):
        return X.astype(dtype, copy=False)

    def asarray(self, data, like):
        return np.asarray(data, dtype=like.dtype)

    def from_numpy(self, data):
        return np.array(data)

    def to_numpy(self, X):
        return np.asarray(X)

    def fill(self, N, value, like):
        return np.full(N, value, like.dtype)

    def images(self, R, shape):
        N, C, *spatial = shape
        return R.reshape(N, *spatial, C).transpose(_FIRST[len(shape)])

    def rows(self, X):
        return X if X.ndim == 2 else X.transpose(_LAST[X.ndim]).reshape(-1, X.shape[1])

    def fresh(self, X):
        last = np.empty((X.shape[0], *X.shape[2:], X.shape[1]), X.dtype.newbyteorder("="))
        last = last.transpose(_FIRST[X.ndim])
        last[...] = X
        return last

    def sum_positions(self, R, N):
        return R.reshape(N, R.size // max(N, 1)).sum(axis=1)

    # ---- the channel mix

    def mix_(self, X, M, b):
        def work(rows):
            R = all_rows[rows]
            if M.ndim == 1:
                R *= M
                R += b
            else:
                Z = np.matmul(R, M.T, out=scratch(R.shape, R.dtype))
                kernels.add_bias(Z, b)
                R[...] = Z

        all_rows = self._rows_in_place(X)
        threads.map_tiles(work, self._row_tiles(all_rows), lambda _: None)

    def mix_backward_(self, dZ, Z, M, Minv, b):
        def work(rows):
            R, dR, db = Z_rows[rows], dZ_rows[rows], np.zeros_like(b)
            kernels.subtract_bias_sum(R, b, dR, db)
            if M.ndim == 1:
                R *= Minv
                dM = (dR * R).sum(axis=0)
                dR *= M
                return dM, db
            R[...] = np.matmul(R, Minv.T, out=scratch(R.shape, R.dtype))
            dM = dR.T @ R
            dR[...] = np.matmul(dR, M, out=scratch(R.shape, R.dtype))
            return dM, db

        def commit(part):
            dM[...] += part[0]
            db[...] += part[1]

        dM, db = np.zeros_like(M), np.zeros_like(b)
        Z_rows, dZ_rows = self._rows_in_place(Z), self._rows_in_place(dZ)
        threads.map_tiles(work, self._row_tiles(Z_rows), commit)
        return dM, db

    def _rows_in_place(self, X):
        R = self.rows(X)
        if X.size and not np.may_share_memory(R, X):
            raise ValueError("an array that is worked on in place needs channels-last memory")
        return R

    @staticmethod
    def _row_tiles(R):
        size = max(1, (1 << 20) // (R.shape[1] * R.itemsize))
        return [slice(i, i + size) for i in range(0, R.shape[0], size)]

    # ---- convolutions

    def matmul(self, A, B):
        return np.matmul(A, B, out=scratch((A.shape[0], B.shape[1]), A.dtype))

    def taps(self, X, kernel):
        if all(k == 1 for k in kernel):
            return self.rows(X)
        x, (kd, kh, kw) = _five(X), _three(kernel)
        P, T = self._padded(x.shape, kernel, X.dtype)
        kernels.pad(x, P, kd // 2, kh // 2, kw // 2)
        kernels.taps_kernels(X.shape[1], kd, kh, kw)[0](P, T, *x.shape[:4])
        return T

    def shift_add(self, T, shape, kernel):
        if all(k == 1 for k in kernel):
            return self.images(T, shape)
        N, C, *spatial = shape
        X, (kd, kh, kw) = self.images(scratch((N, *spatial, C), T.dtype), shape), _three(kernel)
        y = _five(X)
        P, _ = self._padded(y.shape, kernel, T.dtype)
        kernels.taps_kernels(C, kd, kh, kw)[1](T, P, *y.shape[:4])
        kernels.crop(P, y, kd // 2, kh // 2, kw // 2)
        return X

    @staticmethod
    def _padded(shape, kernel, dtype):
        """Scratch for an image with zeros around it, and for the columns of its taps."""
        (N, D, H, W, C), (kd, kh, kw) = shape, _three(kernel)
        P = scratch((N, D + kd - 1, H + kh - 1, (W + kw - 1) * C), dtype)
        return P, scratch((N * D * H * W, kd * kh * kw * C), dtype)

    # ---- activations

    def activate_(self, A, b, activation):
        if activation in _SLOPE:
            kernels.bias_relu(A, b, A.dtype.type(_SLOPE[activation]))
            return A, A
        A += b
        return super().activate_(A, 0, activation) if activation else (A, A)

    def activate_backward_(self, dH, S, activation):
        if activation in _SLOPE:
            db = np.zeros(S.shape[1], S.dtype)
            kernels.relu_backward(dH, S, S.dtype.type(_SLOPE[activation]), db)
            return dH, db
        return super().activate_backward_(dH, S, activation)

    # ---- the coupling

    def couple_(self, x2, h, scale):
        t, log_s, _ = self._scale(h, scale)
        logdet = self.sum_positions(log_s, x2.shape[0])
        kernels.couple(self._rows_in_place(x2), t, np.exp(log_s, out=log_s))
        return logdet

    def uncouple_(self, z2, h, scale):
        t, log_s, _ = self._scale(h, scale)
        logdet = -self.sum_positions(log_s, z2.shape[0])
        kernels.uncouple(self._rows_in_place(z2), t, np.exp(log_s, out=log_s))
        return logdet

    def couple_backward_(self, dz2, z2, h, scale, dlogdet):
        t, log_s, slope = self._scale(h, scale)
        dh = scratch((h.shape[0], *h.shape[2:], h.shape[1]), h.dtype)
        kernels.couple_backward(self._rows_in_place(dz2), self._rows_in_place(z2), t, np.exp(log_s, out=log_s), slope,
                                dlogdet, dh.reshape(-1, h.shape[1]))
        return dh.transpose(_FIRST[h.ndim])

    def _scale(self, h, scale):
        t, raw = self._halves(h)
        log_s, slope = self.log_scale(np.ascontiguousarray(raw), scale)
        return t, log_s, slope

    # ---- tiles

    def tiles(self, shape, floats_per_position, reach):
        positions = math.prod(shape[2:])
        import os
        size = max(1, int(os.environ.get("ROWS","2048"))//max(1,positions))
        return [slice(i, min(i + size, shape[0])) for i in range(0, shape[0], size)]

    def map_tiles(self, work, tiles, commit):
        threads.map_tiles(work, tiles, commit)


#: axes that make channels-last of channels-first, by the number of axes, and back
_LAST = {d: (0, *range(2, d), 1) for d in range(2, 6)}
_FIRST = {d: (0, d - 1, *range(1, d - 1)) for d in range(2, 6)}
_SLOPE = {"relu": 0.0, "leaky_relu": 0.01}


def _five(X):
    """(N, C, *spatial) as a view (N, D, H, W, C), absent axes of length 1."""
    last = X.transpose(_LAST[X.ndim])
    return last[(slice(None),) + (None,) * (5 - X.ndim)]


def _three(kernel):
    return (1,) * (3 - len(kernel)) + tuple(kernel)
