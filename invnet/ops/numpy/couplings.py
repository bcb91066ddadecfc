"""Affine couplings, in place."""

import math

import numpy as np

from ..memory import scratch
from .kernels import simple


class Couplings:
    def log_scale(self, raw, scale):
        kind, bound = scale
        if kind != "bounded":
            return super().log_scale(raw, scale)
        log_s, a = scratch(raw.shape, raw.dtype), math.log(bound)
        simple.times(raw.dtype.char)(raw, 1 / a, log_s)
        np.tanh(log_s, out=log_s)
        log_s *= a
        return log_s

    def couple_(self, x2, h, scale):
        h, log_s = self._scale(h, scale)
        logdet = self.sum_positions(log_s, x2.shape[0])
        R = self.rows(x2)
        simple.couple(R.dtype.char)(R, h, np.exp(log_s, out=log_s))
        self._write_back(R, x2)
        return logdet

    def uncouple_(self, z2, h, scale):
        h, log_s = self._scale(h, scale)
        logdet = -self.sum_positions(log_s, z2.shape[0])
        R = self.rows(z2)
        simple.uncouple(R.dtype.char)(R, h, np.exp(log_s, out=log_s))
        self._write_back(R, z2)
        return logdet

    def couple_vjp_(self, dz2, z2, h, scale, dlogdet):
        shape, (h, log_s) = h.shape, self._scale(h, scale)
        s, dh, a = (
            scratch(log_s.shape, h.dtype),
            scratch(h.shape, h.dtype),
            math.log(scale[1]) if scale[0] == "bounded" else -self.log_top(scale[0]),
        )
        dR, R = self.rows(dz2), self.rows(z2)
        simple.couple_vjp(R.dtype.char)(dR, R, h, log_s, np.exp(log_s, out=s), a, dlogdet, dh)
        self._write_back(dR, dz2)
        self._write_back(R, z2)
        return self.images(dh, shape)

    def _scale(self, h, scale):
        """Rows of h, and log s."""
        R = self.rows(h)
        return R, self.log_scale(R[:, R.shape[1] // 2 :], scale)

    def add_(self, X, Y):
        R = self.rows(X)
        simple.add(R.dtype.char)(R, self.rows(Y))
        self._write_back(R, X)
