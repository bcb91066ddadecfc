"""Affine couplings, in place."""

import numpy as np

from ..memory import scratch
from ..reference.coupling import log_bound
from .arrays import readable
from .kernels import affine, simple


class Couplings:
    def couple_(self, x2, h, scale):
        return self._coupled(x2, h, scale, True)

    def uncouple_(self, z2, h, scale):
        return self._coupled(z2, h, scale, False)

    def couple_vjp_(self, dz2, z2, h, scale, dlogdet):
        return self._coupled_vjp(dz2, z2, h, scale, dlogdet, False)

    def uncouple_vjp_(self, dx2, x2, h, scale, dlogdet):
        return self._coupled_vjp(dx2, x2, h, scale, dlogdet, True)

    def _coupled(self, X, h, scale, to_z):
        R, logdet = self.rows(X), np.zeros(X.shape[0], X.dtype)
        affine.couple(R.dtype.char)(R, self.rows(h), *self._numbers(scale), to_z, logdet)
        self._write_back(R, X)
        return logdet

    def _coupled_vjp(self, dX, X, h, scale, dlogdet, inverse):
        dR, R, rows = self.rows(dX), self.rows(X), self.rows(h)
        dh = scratch(rows.shape, h.dtype)
        affine.couple_vjp(R.dtype.char)(dR, R, rows, *self._numbers(scale), inverse, readable(dlogdet), dh)
        self._write_back(dR, dX)
        self._write_back(R, X)
        return self.images(dh, h.shape)

    def _numbers(self, scale):
        """What the kernels know a scale by: its number, and the log of its bound."""
        return affine.SCALES[scale[0]], log_bound(scale)

    def add_(self, X, Y):
        R = self.rows(X)
        simple.add(R.dtype.char)(R, self.rows(Y))
        self._write_back(R, X)
