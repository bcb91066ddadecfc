"""Couplings: each a pass over x2 and h, with the log-determinant in sums over parts of each sample."""

import math

import cupy

from ..reference.coupling import log_bound
from .launch import in_place, launch, parts_of, strided, summed, vector


class Couplings:
    def couple_(self, x2, h, scale):
        return self._coupled(x2, h, scale, False)

    def uncouple_(self, z2, h, scale):
        return self._coupled(z2, h, scale, True)

    def couple_vjp_(self, dz2, z2, h, scale, dlogdet):
        return self._coupled_vjp(dz2, z2, h, scale, dlogdet, False)

    def uncouple_vjp_(self, dx2, x2, h, scale, dlogdet):
        return self._coupled_vjp(dx2, x2, h, scale, dlogdet, True)

    def _coupled(self, X, h, scale, inverse):
        (R, write_back), h, N, C = in_place(self, X), cupy.ascontiguousarray(self.rows(h)), X.shape[0], X.shape[1]
        positions = math.prod(X.shape[2:])
        parts = parts_of(positions)
        out = cupy.empty((N, parts, C), X.dtype)
        launch(
            "couple",
            X.dtype.char,
            out.size,
            *strided(R),
            h,
            N,
            positions,
            C,
            self._bound(scale),
            int(inverse),
            parts,
            out,
        )
        write_back()
        return summed(out, N, parts * C, 1)[:, 0]

    def _coupled_vjp(self, dX, X, h, scale, dlogdet, inverse):
        (dR, write_back_d), (R, write_back), shape = in_place(self, dX), in_place(self, X), h.shape
        h = cupy.ascontiguousarray(self.rows(h))
        dh, sizes = cupy.empty_like(h), (X.shape[0], math.prod(X.shape[2:]), X.shape[1])
        launch(
            "couple_vjp",
            X.dtype.char,
            R.size,
            *strided(dR),
            *strided(R),
            h,
            vector(dlogdet),
            *sizes,
            self._bound(scale),
            int(inverse),
            dh,
        )
        write_back_d()
        write_back()
        return self.images(dh, shape)

    def _bound(self, scale):
        """The number by which the kernels know a scale."""
        return log_bound(scale) if scale[0] == "bounded" else -log_bound(scale)
