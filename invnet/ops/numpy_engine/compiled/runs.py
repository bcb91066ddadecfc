"""A run of layers of vectors, and its gradients: each one compiled call for all layers.

Samples lie along rows: a row of `work` has one channel, or one unit of a conditioner, of the samples that are at work at one
time. So every loop and every product runs over samples, however few channels there are. What parameters make is in P, where
`stages` puts it; gradients are summed in an array G with the same places.

`work` has the rows of channels, those of their gradients, of scales, of one conditioner, a spare one for each channel, zeros,
and the panel of a product.
"""

import numpy as np

from .conditioned import couple, couple_back, gradients_of_units
from .kernels import kernel
from .products import multiples
from .rows import from_rows, mix, permute, rescale, scale_back, sums_of_products, to_rows
from .spline import MANY
from .stages import CONDITIONED, KIND, ORDER, PERMUTE, PLACE, SCALE
from .vectors import BYTES, SLACK

#: samples that are at work at one time
AT_ONCE = MANY


@kernel("void($[::1], int64[:,::1], float64[:,::1], int64[:,::1], int64[::1], boolean, $[:,:], $[::1], $[::1], int64[::1])")
def forward(P, stages, limits, layers, index, inverse, X, logdet, work, places):
    """X becomes Z, or Z becomes X where `inverse`; adds the couplings' part of logdet. `places` are those of a plan."""
    (N, C), lanes, pitch = X.shape, BYTES // X.itemsize, places[0]
    ones, steps, zeros, spare = index, index[places[1]:], places[3] * pitch, places[2] * pitch
    work[zeros:zeros + places[5]] = 0
    at = np.empty(places[7], X.dtype)
    for r in range(0, N, AT_ONCE):
        n = min(AT_ONCE, N - r)
        to_rows(X, r, n, work, 0, pitch)
        for i in range(stages.shape[0]):
            s = stages.shape[0] - 1 - i if inverse else i
            t = stages[s]
            kind, p = t[KIND], P[t[PLACE]:]
            if kind == SCALE:
                rescale(work, 0, pitch, p, C, not inverse, n)
            elif kind == PERMUTE:
                permute(work, 0, spare, pitch, index, t[ORDER], C, inverse)
            elif kind == CONDITIONED:
                couple(t, limits[s], not inverse, layers, P, index, C, work, logdet[r:r + n], zeros, pitch, n, lanes, at)
            else:
                mix(P, t[PLACE] + (C * C if inverse else 0), steps, ones, C, work, 0, spare, zeros, n, pitch, lanes)
        from_rows(work, 0, pitch, X, r, n)


@kernel("void($[::1], int64[:,::1], float64[:,::1], int64[:,::1], int64[::1], boolean, $[:,:], $[:,:], $[::1], $[::1], $[::1], int64[::1])")
def backward(P, stages, limits, layers, index, inverse, dX, X, dlogdet, G, work, places):
    """Z becomes X and dZ becomes dX, or the other way round where `inverse`; adds to G."""
    (N, C), lanes, pitch = X.shape, BYTES // X.itemsize, places[0]
    ones, steps, zeros, spare, panel, d = index, index[places[1]:], places[3] * pitch, places[2] * pitch, places[4] * pitch, C * pitch
    work[zeros:zeros + places[5]] = 0
    at, unused, rows = np.empty(places[7], X.dtype), np.empty(pitch, X.dtype), np.empty(places[6] + SLACK, np.int64)
    multiples(rows, places[6], pitch)
    sign = X.dtype.type(-1 if inverse else 1)
    for r in range(0, N, AT_ONCE):
        n = min(AT_ONCE, N - r)
        to_rows(X, r, n, work, 0, pitch)
        to_rows(dX, r, n, work, d, pitch)
        for i in range(stages.shape[0]):
            s = i if inverse else stages.shape[0] - 1 - i
            t = stages[s]
            kind, p, g = t[KIND], P[t[PLACE]:], G[t[PLACE]:]
            if kind == SCALE:
                if not inverse:
                    rescale(work, 0, pitch, p, C, False, n)
                scale_back(work, 0, d, pitch, p, C, inverse, n, sign, g)
                if inverse:
                    rescale(work, 0, pitch, p, C, True, n)
            elif kind == PERMUTE:
                for o in (0, d):
                    permute(work, o, spare, pitch, index, t[ORDER], C, not inverse)
            elif kind == CONDITIONED:
                couple(t, limits[s], inverse, layers, P, index, C, work, unused, zeros, pitch, n, lanes, at)
                couple_back(t, limits[s], inverse, layers, P, index, C, work, dlogdet[r:r + n], zeros, spare, pitch, n, lanes, at)
                gradients_of_units(t, layers, index, work, zeros, panel, rows, ones, pitch, n, G, lanes)
            elif inverse:
                mix(P, t[PLACE] + C * C, ones, steps, C, work, d, spare, zeros, n, pitch, lanes)
                sums_of_products(work, d, work, 0, C, n, pitch, sign, g)
                mix(P, t[PLACE], steps, ones, C, work, 0, spare, zeros, n, pitch, lanes)
            else:
                mix(P, t[PLACE] + C * C, steps, ones, C, work, 0, spare, zeros, n, pitch, lanes)
                sums_of_products(work, d, work, 0, C, n, pitch, sign, g)
                mix(P, t[PLACE], ones, steps, C, work, d, spare, zeros, n, pitch, lanes)
        from_rows(work, 0, pitch, X, r, n)
        from_rows(work, d, pitch, dX, r, n)
