"""The NumPy engine: BLAS products, Numba kernels, and tiles that worker threads share."""

import functools
import itertools
import math
from collections import namedtuple

import array_api_compat.numpy
import numpy as np

from . import bending_kernels, kernels, threads
from .reference import LEAST, Ops
from .tile import Tile
from .threads import scratch

# A tile is a few images: a part of the batch that leaves work for some threads, but with multiplications enough to be worth
# the waking of one, and positions enough for a matrix product to reach its rate. Where one image needs more memory than a
# tile may have, a tile is a block of it.
TILES, TILE_WORK, TILE_POSITIONS, TILE_BYTES = 4, 1 << 24, 2048, 48 << 20
ROWS = 8192  # of an element-wise or planar layer: 0.2 ms and more, where the waking of a thread takes 0.1


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
        return np.full(N, value, like.dtype.newbyteorder("="))

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

    def diagonal_matrix(self, v):
        return np.diag(v)

    def sum_positions(self, R, N):
        return R.reshape(N, R.size // max(N, 1)).sum(axis=1)

    # ---- the channel mix

    def mix_(self, X, M, b):
        def work(rows):
            R = all_rows[rows]
            kernels.add_to(R.dtype.char)(R, _times(R, M.T), b)

        all_rows = self.rows(X)
        threads.map_tiles(work, self._row_tiles(all_rows), lambda _: None)
        self._write_back(all_rows, X)

    def mix_backward_(self, dZ, Z, M, Minv, b):
        def work(rows):
            R, dR, db = Z_rows[rows], dZ_rows[rows], np.zeros_like(b)
            kernels.column_sums(char)(dR, db)
            kernels.add_to(char)(R, _times(R, Minv.T), c)
            dM = dR.T @ R if M.ndim == 2 else (dR * R).sum(axis=0)
            dR[...] = _times(dR, M)
            return dM, db

        def commit(part):
            nonlocal dM, db
            dM += part[0]
            db += part[1]

        char, c, dM, db = b.dtype.char, -(Minv @ b if M.ndim == 2 else Minv * b), np.zeros_like(M), np.zeros_like(b)
        Z_rows, dZ_rows = self.rows(Z), self.rows(dZ)
        threads.map_tiles(work, self._row_tiles(Z_rows), commit)
        self._write_back(Z_rows, Z)
        self._write_back(dZ_rows, dZ)
        return dM, db

    def _write_back(self, R, X):
        """X gets the values of its rows R, which were worked on in place, where these had to be a copy."""
        if not np.may_share_memory(R, X):
            X[...] = self.images(R, X.shape)

    @staticmethod
    def _row_tiles(R):
        size = max(1, (1 << 18) // R.shape[1])  # less is done before another thread wakes
        return [slice(i, i + size) for i in range(0, R.shape[0], size)]

    # ---- convolutions

    def convolve(self, X, W, b, activation, transposed):
        M, slope = W.reshape(-1, W.shape[-1]), _SLOPE.get(activation, 1.0)
        if not X.flags.writeable or not X.dtype.isnative:  # a kernel takes neither
            X = self.fresh(X)
        if transposed:
            T = self.rows(X)
            Y = self._shift_add(_product(T, M.T), (X.shape[0], W.shape[-2], *X.shape[2:]), W.shape[:-2], b, slope)
            A = self.rows(Y)
        else:
            T = self.taps(X, W.shape[:-2])
            A = _product(T, M)
            kernels.bias_relu(A.dtype.char)(A, b, slope)
            Y = self.images(A, (X.shape[0], W.shape[-1], *X.shape[2:]))
        if activation is None or activation in _SLOPE:
            return Y, (T, A)
        H, S = super().activate_(A, 0, activation)
        return self.images(H, Y.shape), (T, S)

    def convolve_back(self, dY, tape, W, activation, transposed):
        (T, S), M, N, spatial = tape, W.reshape(-1, W.shape[-1]), dY.shape[0], dY.shape[2:]
        dA, db = self.activate_backward_(self.rows(dY), S, activation)
        if transposed:
            columns = self.taps(self.images(dA, dY.shape), W.shape[:-2])
            return self.images(_product(columns, M), (N, W.shape[-1], *spatial)), (columns.T @ T).reshape(W.shape), db, dA
        dX = self.shift_add(_product(dA, M.T), (N, W.shape[-2], *spatial), W.shape[:-2])
        return dX, (T.T @ dA).reshape(W.shape), db, dA

    def taps(self, X, kernel):
        k = _on_three_axes(kernel)
        if k is None:
            return self.rows(X)
        x = _five(X)
        N, D, H, W, C = x.shape
        P = scratch((N, D + k.d - 1, H + k.h - 1, (W + k.w - 1) * C), X.dtype)
        T = scratch((N * D * H * W, k.taps * C), X.dtype)
        kernels.taps(X.dtype.char, C, k.d, k.h, k.w)(x, P, T)
        return T

    def shift_add(self, T, shape, kernel):
        return self._shift_add(T, shape, kernel, np.zeros(shape[1], T.dtype), 1.0)

    def _shift_add(self, T, shape, kernel, b, slope):
        k = _on_three_axes(kernel)
        if k is None:
            return self.images(T, shape)
        N, C, *spatial = shape
        D, H, W = (1,) * (3 - len(spatial)) + tuple(spatial)
        P, y = scratch((N, D + k.d - 1, H + k.h - 1, (W + k.w - 1) * C), T.dtype), scratch((N, D, H, W, C), T.dtype)
        kernels.shift_add(T.dtype.char, C, k.d, k.h, k.w)(T, P, b, slope, y)
        return self.images(y, shape)

    # ---- activations

    def activate_(self, A, b, activation):
        A = A if A.flags.c_contiguous else np.ascontiguousarray(A)
        kernels.bias_relu(A.dtype.char)(A, b, _SLOPE.get(activation, 1.0))
        return (A, A) if activation is None or activation in _SLOPE else super().activate_(A, 0, activation)

    def activate_backward_(self, dH, S, activation):
        if activation is not None and activation not in _SLOPE:
            return super().activate_backward_(dH, S, activation)
        db = np.zeros(dH.shape[1], dH.dtype)
        if activation is None:
            kernels.column_sums(db.dtype.char)(dH, db)
        else:
            kernels.relu_backward(db.dtype.char)(dH, S, _SLOPE[activation], db)
        return dH, db

    # ---- the coupling

    def log_scale(self, raw, scale):
        kind, bound = scale
        if kind == "sigmoid":
            return super().log_scale(raw, scale)
        log_s, a = scratch(raw.shape, raw.dtype), math.log(bound)
        kernels.times(raw.dtype.char)(raw, 1 / a, log_s)
        np.tanh(log_s, out=log_s)
        log_s *= a
        return log_s

    def couple_(self, x2, h, scale):
        h, log_s = self._scale(h, scale)
        logdet = self.sum_positions(log_s, x2.shape[0])
        R = self.rows(x2)
        kernels.couple(R.dtype.char)(R, h, np.exp(log_s, out=log_s))
        self._write_back(R, x2)
        return logdet

    def uncouple_(self, z2, h, scale):
        h, log_s = self._scale(h, scale)
        logdet = -self.sum_positions(log_s, z2.shape[0])
        R = self.rows(z2)
        kernels.uncouple(R.dtype.char)(R, h, np.exp(log_s, out=log_s))
        self._write_back(R, z2)
        return logdet

    def couple_backward_(self, dz2, z2, h, scale, dlogdet):
        shape, (h, log_s) = h.shape, self._scale(h, scale)
        s, dh, a = scratch(log_s.shape, h.dtype), scratch(h.shape, h.dtype), math.log(scale[1]) if scale[0] == "bounded" else 0.0
        dR, R = self.rows(dz2), self.rows(z2)
        kernels.couple_backward(R.dtype.char)(dR, R, h, log_s, np.exp(log_s, out=s), a, dlogdet, dh)
        self._write_back(dR, dz2)
        self._write_back(R, z2)
        return self.images(dh, shape)

    def _scale(self, h, scale):
        """Rows of h, and log s."""
        R = self.rows(h)
        return R, self.log_scale(R[:, R.shape[1] // 2:], scale)

    def add_(self, X, Y):
        R = self.rows(X)
        kernels.add(R.dtype.char)(R, self.rows(Y))
        self._write_back(R, X)

    # ---- space to depth: two neighbouring planes of the first axis keep their memory, and are rearranged within it

    def squeeze_(self, X):
        N, C, first, *rest = X.shape
        d, half = X.ndim - 2, [n // 2 for n in X.shape[2:]]
        slabs = (2, *(k for n in rest for k in (n // 2, 2)), C)
        last = self._rearrange(X, N * half[0], slabs, (*range(1, 2 * d - 1, 2), 2 * d - 1, *range(0, 2 * d - 1, 2)))
        return self.images(last, (N, C * 2**d, *half))

    def unsqueeze_(self, Z):
        N, C, first, *rest = Z.shape
        d = Z.ndim - 2
        slabs = (*rest, C // 2**d, *[2] * d)
        order = (d, *(k for i in range(d - 1) for k in (i, d + 1 + i)), d - 1)
        return self.images(self._rearrange(Z, N * first, slabs, order), (N, C // 2**d, *(2 * n for n in Z.shape[2:])))

    def _rearrange(self, X, count, shape, order):
        """X's memory with the axes of each of its `count` slabs of `shape` in another order."""
        flat = np.ascontiguousarray(X.transpose(_LAST[X.ndim])).reshape(count, math.prod(shape))
        order, ordered = (0, *(k + 1 for k in order)), tuple(shape[k] for k in order)

        def work(tile):
            before = scratch(flat[tile].shape, flat.dtype)
            before[...] = flat[tile]
            n = before.shape[0]
            flat[tile].reshape(n, *ordered)[...] = before.reshape(n, *shape).transpose(order)

        size = max(1, (1 << 18) // max(1, flat.shape[1]))
        threads.map_tiles(work, [slice(i, i + size) for i in range(0, count, size)], lambda _: None)
        return flat

    # ---- tiles

    def tiles(self, shape, floats_per_position, reach, weights):
        N, _, *spatial = shape
        positions, most = math.prod(spatial), TILE_BYTES // (4 * floats_per_position)
        if positions <= most or reach is None or not spatial:
            least = min(max(TILE_WORK // max(1, weights), 256), 1024)
            size = min(max(N * positions // TILES, least), TILE_POSITIONS) // max(1, positions)
            size = min(max(1, size), max(1, most // max(1, positions)))
            return [Tile(slice(i, min(i + size, N))) for i in range(0, N, size)]
        side = max(1, 2 * reach, int(most ** (1 / len(spatial))) - 2 * reach)  # what is around is at most as wide
        cuts = [np.linspace(0, n, -(-n // side) + 1).astype(int) for n in spatial]
        blocks = list(itertools.product(*(zip(cut.tolist(), cut[1:].tolist()) for cut in cuts)))
        return [Tile(slice(n, n + 1), block, spatial, reach) for n in range(N) for block in blocks]

    def map_tiles(self, work, tiles, commit):
        threads.map_tiles(work, tiles, commit)

    def at_work(self):
        return threads.single_threaded_blas

    # ---- planar and radial layers

    def planar_(self, X, u, w, b, inverse):
        R, kernel = self.rows(X), bending_kernels.planar(X.dtype.char)
        det = np.empty(R.shape[0], R.dtype)
        self._by_rows(lambda rows: kernel(R[rows], u, w, b, inverse, det[rows]), R)
        if R is not X:
            self._write_back(R, X)
        logdet = self._of_samples(np.log(det, out=det), X)
        return -logdet if inverse else logdet

    def planar_backward_(self, dX, X, u, w, b, dlogdet, inverse):
        return self._backward_by_rows(bending_kernels.planar_backward, dX, X, (u, w, b), dlogdet, inverse)

    def radial_(self, X, x0, theta, inverse):
        R, kernel = self.rows(X), bending_kernels.radial(X.dtype.char)
        logdet = np.empty(R.shape[0], R.dtype)
        self._by_rows(lambda rows: kernel(R[rows], x0, theta, inverse, logdet[rows]), R)
        if R is not X:
            self._write_back(R, X)
        return self._of_samples(logdet, X)

    def radial_backward_(self, dX, X, x0, theta, dlogdet, inverse):
        return self._backward_by_rows(bending_kernels.radial_backward, dX, X, (x0, theta), dlogdet, inverse)

    def _backward_by_rows(self, kernel, dX, X, parameters, dlogdet, inverse):
        """Calls a kernel in place on all rows; gives the gradients of the parameters."""
        def work(rows):
            gradients = [np.empty(p.size, p.dtype) for p in parameters]
            kernel(dR[rows], R[rows], *parameters, dl[rows], inverse, *gradients)
            return gradients

        def commit(part):
            nonlocal sums
            sums = part if sums is None else [total + each for total, each in zip(sums, part)]

        kernel, dR, R, dl, sums = kernel(X.dtype.char), self.rows(dX), self.rows(X), self.at_rows(dlogdet, X), None
        self._by_rows(work, R, commit)
        if R is not X:
            self._write_back(dR, dX)
            self._write_back(R, X)
        return sums

    # ---- the spline

    def spline(self, R, P, bound):
        return self._spline(R, P, bound, False)

    def spline_inverse(self, S, P, bound):
        return self._spline(S, P, bound, True)

    def _spline(self, R, P, bound, inverse):
        S, logdet, kernel = scratch(R.shape, R.dtype), np.empty(R.shape[0], R.dtype), bending_kernels.spline(R.dtype.char)
        self._by_rows(lambda rows: kernel(R[rows], P[rows], bound, LEAST, inverse, S[rows], logdet[rows]), R)
        return S, logdet

    def spline_backward(self, dS, S, P, bound, dlogdet):
        return self._spline_backward(dS, S, P, bound, dlogdet, False)

    def spline_inverse_backward(self, dR, R, P, bound, dlogdet):
        return self._spline_backward(dR, R, P, bound, dlogdet, True)

    def _spline_backward(self, dS, S, P, bound, dlogdet, inverse):
        dR, R, dP = (scratch(a.shape, a.dtype) for a in (dS, S, P))
        kernel = bending_kernels.spline_backward(S.dtype.char)
        self._by_rows(lambda rows: kernel(dS[rows], S[rows], P[rows], bound, LEAST, dlogdet[rows], inverse, dR[rows], R[rows], dP[rows]), S)
        return dR, R, dP

    # ---- what these have in common

    @staticmethod
    def _by_rows(work, R, commit=lambda _: None):
        """commit(work(rows)) for parts of the rows, each worth the waking of a thread."""
        if R.shape[0] <= ROWS:
            commit(work(slice(None)))
        else:
            threads.map_tiles(work, [slice(i, i + ROWS) for i in range(0, R.shape[0], ROWS)], commit)

    def _of_samples(self, each, X):
        """Numbers of rows summed to one for each sample."""
        return each if X.ndim == 2 else self.sum_positions(each, X.shape[0])

    def at_rows(self, each, X):
        """A number of each sample for each of its rows."""
        return each if X.ndim == 2 else np.repeat(each, math.prod(X.shape[2:]))


#: axes that make channels-last of channels-first, by the number of axes, and back
_LAST = {d: (0, *range(2, d), 1) for d in range(2, 6)}
_FIRST = {d: (0, d - 1, *range(1, d - 1)) for d in range(2, 6)}
_SLOPE = {"relu": 0.0, "leaky_relu": 0.01}


def _five(X):
    """(N, C, *spatial) as a view (N, D, H, W, C), absent axes of length 1."""
    last = X.transpose(_LAST[X.ndim])
    return last[(slice(None),) + (None,) * (5 - X.ndim)]


Kernel = namedtuple("Kernel", "d h w taps")


@functools.cache
def _on_three_axes(kernel):
    """A kernel on three axes, or None for a 1x1 kernel."""
    sizes = (1,) * (3 - len(kernel)) + tuple(kernel)
    return None if math.prod(sizes) == 1 else Kernel(*sizes, math.prod(sizes))


def _product(A, B):
    return np.matmul(A, B, out=scratch((A.shape[0], B.shape[1]), A.dtype))


def _times(R, M):
    """R M in scratch memory, where M is a matrix or the diagonal of one."""
    return _product(R, M) if M.ndim == 2 else np.multiply(R, M, out=scratch(R.shape, R.dtype))
