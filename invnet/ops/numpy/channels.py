"""The channel mix, in place on the rows of parts of an array."""

import math

import numpy as np

from .. import threads
from .arrays import readable
from .kernels import mix


class Channels:
    def mix_(self, X, M, b):
        M, b = readable(M), readable(b)
        kernel, flat = (mix.scale if M.ndim == 1 else mix.mix)(b.dtype.char), M.reshape(-1)
        self._map_rows(lambda R: kernel(R, flat, b), lambda _: None, X)

    def mix_vjp_(self, dZ, Z, M, Minv, b):
        def work(dR, R):
            part = np.zeros(M.size + b.size, b.dtype)
            kernel(dR, R, flat, flat_inverse, c, part[: M.size], part[M.size :])
            return part

        def commit(part):
            nonlocal total
            total = part if total is None else total + part

        M, Minv, b = map(readable, (M, Minv, b))
        kernel = (mix.scale_vjp if M.ndim == 1 else mix.mix_vjp)(b.dtype.char)
        flat, flat_inverse, total, c = M.reshape(-1), Minv.reshape(-1), None, -(Minv @ b if M.ndim == 2 else Minv * b)
        self._map_rows(work, commit, dZ, Z)
        total = np.zeros(M.size + b.size, b.dtype) if total is None else total
        return total[: M.size].reshape(M.shape), total[M.size :]

    def _map_rows(self, work, commit, *arrays):
        """commit(work(rows)) for the rows, in place, of parts of the arrays."""
        tiles = self._row_tiles(arrays[0])
        if len(tiles) == 1:
            commit(self._on_rows(work, *arrays))
        else:
            threads.map_tiles(lambda tile: self._on_rows(work, *[X[tile] for X in arrays]), tiles, commit)

    def _on_rows(self, work, *arrays):
        """work(rows of the arrays, in place)."""
        rows = [self.rows(X) for X in arrays]
        result = work(*rows)
        for R, X in zip(rows, arrays):
            self._write_back(R, X)
        return result

    @staticmethod
    def _row_tiles(X):
        """Indices of parts of X, samples or slabs of one along its first spatial axis, for a pass over its rows."""
        numbers, most = math.prod(X.shape[1:]), 1 << 18  # less is done before another thread wakes
        if numbers <= most or X.ndim == 2:
            size = max(1, most // max(1, numbers))
            return [slice(i, i + size) for i in range(0, X.shape[0], size)]
        size = max(1, most * X.shape[2] // numbers)
        return [
            (slice(n, n + 1), slice(None), slice(i, i + size))
            for n in range(X.shape[0])
            for i in range(0, X.shape[2], size)
        ]
