"""What bends rows: the root that a planar layer's inverse needs, and splines, a thread for each number."""

import cupy

from ..reference.spline import LEAST, ZERO_IS_SLOPE_ONE
from .launch import launch, strided, summed, vector


class Pointwise:
    def _tanh(self, c, s, solve):
        V, T, Q = (cupy.empty(c.shape, c.dtype) for _ in range(3))
        launch("planar_tanh", c.dtype.char, c.size, vector(c), s, c.size, int(solve), V, T, Q)
        return V, T, Q

    def spline(self, R, P, bound):
        return self._spline(R, P, bound, False)

    def spline_inverse(self, S, P, bound):
        return self._spline(S, P, bound, True)

    def spline_vjp(self, dS, S, P, bound, dlogdet):
        return self._spline_vjp(dS, S, P, bound, dlogdet, False)

    def spline_inverse_vjp(self, dR, R, P, bound, dlogdet):
        return self._spline_vjp(dR, R, P, bound, dlogdet, True)

    def _spline(self, R, P, bound, inverse):
        S, logdet = cupy.empty(R.shape, R.dtype), cupy.empty(R.shape, R.dtype)
        launch(
            "spline",
            R.dtype.char,
            R.size,
            *strided(R),
            *strided(P),
            *R.shape,
            *_constants(P, bound),
            int(inverse),
            S,
            logdet,
        )
        return S, summed(logdet, R.shape[0], R.shape[1], 1)[:, 0]

    def _spline_vjp(self, dS, S, P, bound, dlogdet, inverse):
        dR, R, dP = (cupy.empty(a.shape, a.dtype) for a in (dS, S, P))
        arrays = *strided(dS), *strided(S), *strided(P), vector(dlogdet)
        launch("spline_vjp", S.dtype.char, S.size, *arrays, *S.shape, *_constants(P, bound), int(inverse), dR, R, dP)
        return dR, R, dP


def _constants(P, bound):
    return (P.shape[2] + 1) // 3, float(bound), LEAST, ZERO_IS_SLOPE_ONE
