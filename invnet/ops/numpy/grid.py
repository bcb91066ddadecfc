"""Numbers on a grid, which layers move without rounding."""

import numpy as np

from ..lifting import Lifting
from ..memory import passing
from ..reference.fixed_point import MISSING
from .arrays import readable
from .kernels import fixed_point
from .kernels.lifting import balance, factorise, lift, unlift


class GridNumbers:
    def add_on_grid_(self, X, t, grid):
        self._add_on_grid(X, t, 1.0, grid)

    def subtract_on_grid_(self, X, t, grid):
        self._add_on_grid(X, t, -1.0, grid)

    def _add_on_grid(self, X, t, sign, grid):
        R = self.rows(X)
        t = _at_each_row(t, R) if t.ndim == 1 else self.rows(readable(t))
        grid.check(fixed_point.add(R.dtype.char)(R, t, sign, grid.step, grid.most))
        self._write_back(R, X)

    def _scale_on_grid(self, X, t, s, grid):
        R = self.rows(X)
        bits = passing((8 * R.size,), np.dtype(np.uint8))
        largest, used = fixed_point.scale(R.dtype.char)(
            R, _at_each_row(t, R), _at_each_row(s, R), grid.step, grid.most, bits
        )
        grid.check(largest)
        self._write_back(R, X)
        return bits[:used].copy()

    def _unscale_on_grid(self, Z, t, s, grid, bits):
        R = self.rows(Z)
        given = np.asarray(() if bits is None else bits, np.uint8)
        largest, found = fixed_point.unscale(R.dtype.char)(
            R, _at_each_row(t, R), _at_each_row(s, R), grid.step, grid.most, given, bits is None
        )
        if not found:
            raise ValueError(MISSING)
        grid.check(largest)
        self._write_back(R, Z)

    def lifting(self, M):
        A, C = np.array(M, np.float64), len(M)
        rows, columns, pairs, k = np.arange(C), np.arange(C), np.empty((C, 2), np.int64), np.empty(C)
        d = factorise(A, rows, columns)
        n = balance(np.log(np.abs(d)), pairs, k)
        return Lifting(rows, columns, A, np.sign(d), pairs[:n], k[:n])

    def lift_(self, X, lifting, grid):
        self._lift(lift, X, lifting, grid)

    def unlift_(self, Z, lifting, grid):
        self._lift(unlift, Z, lifting, grid)

    def _lift(self, kernel, X, lifting, grid):
        R = self.rows(X)
        grid.check(kernel(R.dtype.char)(R, *lifting, grid.step, grid.most))
        self._write_back(R, X)


def _at_each_row(v, R):
    """A view with v (C,) in each row of R, or v itself where it is rows; one that may be written to, as compiled
    functions take it.
    """
    return v if v.ndim == 2 else np.lib.stride_tricks.as_strided(readable(v), R.shape, (0, *v.strides))
