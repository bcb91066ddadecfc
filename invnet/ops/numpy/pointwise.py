"""Planar and radial layers, and splines, by parts of the rows."""

import math

import numpy as np

from .. import threads
from ..memory import scratch
from ..reference import LEAST
from .arrays import readable
from .kernels import planar, radial, spline

#: Rows of a part: 0.2 ms and more, where the waking of a thread takes 0.1.
ROWS = 8192


class Pointwise:
    def planar_(self, X, u, w, b, inverse):
        R, kernel, (u, w, b) = self.rows(X), planar.planar(X.dtype.char), map(readable, (u, w, b))
        det = np.empty(R.shape[0], R.dtype)
        self._by_rows(lambda rows: kernel(R[rows], u, w, b, inverse, det[rows]), R)
        if R is not X:
            self._write_back(R, X)
        logdet = self._of_samples(np.log(det, out=det), X)
        return -logdet if inverse else logdet

    def planar_vjp_(self, dX, X, u, w, b, dlogdet, inverse):
        return self._backward_by_rows(planar.planar_vjp, dX, X, (u, w, b), dlogdet, inverse)

    def radial_(self, X, x0, theta, inverse):
        R, kernel, x0 = self.rows(X), radial.radial(X.dtype.char), readable(x0)
        logdet = np.empty(R.shape[0], R.dtype)
        self._by_rows(lambda rows: kernel(R[rows], x0, theta, inverse, logdet[rows]), R)
        if R is not X:
            self._write_back(R, X)
        return self._of_samples(logdet, X)

    def radial_vjp_(self, dX, X, x0, theta, dlogdet, inverse):
        return self._backward_by_rows(radial.radial_vjp, dX, X, (x0, theta), dlogdet, inverse)

    def _backward_by_rows(self, kernel, dX, X, parameters, dlogdet, inverse):
        """Calls a kernel in place on all rows; gives the gradients of the parameters."""
        parameters = [readable(p) for p in parameters]

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
        S, logdet, kernel = scratch(R.shape, R.dtype), np.empty(R.shape[0], R.dtype), spline.spline(R.dtype.char)
        self._by_rows(lambda rows: kernel(R[rows], P[rows], bound, LEAST, inverse, S[rows], logdet[rows]), R)
        return S, logdet

    def spline_vjp(self, dS, S, P, bound, dlogdet):
        return self._spline_vjp(dS, S, P, bound, dlogdet, False)

    def spline_inverse_vjp(self, dR, R, P, bound, dlogdet):
        return self._spline_vjp(dR, R, P, bound, dlogdet, True)

    def _spline_vjp(self, dS, S, P, bound, dlogdet, inverse):
        dR, R, dP = (scratch(a.shape, a.dtype) for a in (dS, S, P))
        kernel = spline.spline_vjp(S.dtype.char)
        self._by_rows(
            lambda rows: kernel(
                dS[rows], S[rows], P[rows], bound, LEAST, dlogdet[rows], inverse, dR[rows], R[rows], dP[rows]
            ),
            S,
        )
        return dR, R, dP

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
