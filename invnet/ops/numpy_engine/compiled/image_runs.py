"""A run of layers of images, and its gradients: each one compiled call for all layers, for a few images at a time.

Positions are rows of channels, of whole vectors, in `work`: a mix of channels is one product over them, and a coupling takes its
first channels into the rows of its conditioner (`convolutions`). What parameters make is in P, but for weights, which are used
where they lie; gradients are summed in an array G with the same places, and after them those of weights and biases.

`tables` has the plans of all conditioners, that of stage s from the first to the second number in starts[s]; `places` says where in
`work` there is what (`image_rows`).
"""

import numpy as np

from .convolutions import convolve_back
from .image_rows import (
    GRADIENTS, MATRIX, NETWORK, OTHER, ROWS, TAPE, add_first, couple, couple_back, evaluate, mix, permute, rescale, scale_back, sums_of_products,
)
from .kernels import kernel
from .products import rounded
from .stages import CONVOLUTIONAL, GROUPS, KIND, ORDER, PERMUTE, PLACE, SCALE, STATE
from .taps import rows_of, rows_to
from .vectors import BYTES


@kernel("void($[::1], int64[::1], int64[:,::1], float64[::1], int64[:,::1], int64[:,::1], int64[::1], boolean, $[:,:,:,:,:], $[::1], "
        "$[::1], int64[:,::1], int64[::1])")
def forward(P, addresses, stages, bounds, tables, starts, index, inverse, X, logdet, work, offsets, places):
    """X (N, D, H, W, C) becomes Z, or Z becomes X where `inverse`; adds the couplings' part of logdet."""
    (N, D, H, W, C), lanes = X.shape, BYTES // X.itemsize
    R, pitch, rows, other = N * D * H * W, rounded(C, lanes), places[ROWS], places[OTHER]
    matrix, none = work[places[MATRIX]:], np.empty((0, 1), X.dtype)
    rows_of(X, work, rows, pitch)
    for i in range(stages.shape[0]):
        s = stages.shape[0] - 1 - i if inverse else i
        t = stages[s]
        kind = t[KIND]
        if kind == SCALE:
            rescale(work, rows, R, pitch, P[t[PLACE]:], C, not inverse, matrix)
        elif kind == PERMUTE:
            permute(work, rows, other, R, pitch, index[t[ORDER]:], C, inverse)
            rows, other = other, rows
        elif kind == CONVOLUTIONAL:
            table = tables[starts[s, 0]:starts[s, 1]]
            evaluate(t, addresses, table, N, D, H, W, none, work, rows, pitch, offsets, places, lanes)
            couple(t, bounds[s], not inverse, table, N, R, C, work, rows, pitch, logdet, places, lanes)
        else:
            mix(P[t[PLACE] + (C * C if inverse else 0):], True, C, R, work, rows, other, pitch, offsets, places, lanes)
            rows, other = other, rows
    rows_to(work, rows, pitch, X)


@kernel("void($[::1], int64[::1], int64[:,::1], float64[::1], int64[:,::1], int64[:,::1], int64[::1], boolean, $[:,:,:,:,:], $[:,:,:,:,:], "
        "$[::1], $[::1], $[::1], $[::1], int64[:,::1], int64[::1])")
def backward(P, addresses, stages, bounds, tables, starts, index, inverse, dX, X, dlogdet, logdet, G, work, offsets, places):
    """Z becomes X and dZ becomes dX, or the other way round where `inverse`; adds to G, and to logdet what `forward` adds."""
    (N, D, H, W, C), lanes = X.shape, BYTES // X.itemsize
    R, pitch, rows, other, d = N * D * H * W, rounded(C, lanes), places[ROWS], places[OTHER], places[GRADIENTS]
    rebuilt = np.zeros(N, X.dtype)  # the log-determinant of the way back
    sign, matrix, none = X.dtype.type(-1 if inverse else 1), work[places[MATRIX]:], np.empty((0, 1), X.dtype)
    rows_of(X, work, rows, pitch)
    rows_of(dX, work, d, pitch)
    for i in range(stages.shape[0]):
        s = i if inverse else stages.shape[0] - 1 - i
        t = stages[s]
        kind, p, g = t[KIND], P[t[PLACE]:], G[t[PLACE]:]
        if kind == SCALE:
            if not inverse:
                rescale(work, rows, R, pitch, p, C, False, matrix)
            scale_back(work, rows, d, R, pitch, p, C, inverse, sign, g, matrix)
            if inverse:
                rescale(work, rows, R, pitch, p, C, True, matrix)
        elif kind == PERMUTE:
            permute(work, rows, other, R, pitch, index[t[ORDER]:], C, not inverse)
            rows, other = other, rows
            permute(work, d, other, R, pitch, index[t[ORDER]:], C, not inverse)
            d, other = other, d
        elif kind == CONVOLUTIONAL:
            table = tables[starts[s, 0]:starts[s, 1]]
            evaluate(t, addresses, table, N, D, H, W, none, work, rows, pitch, offsets, places, lanes)
            couple(t, bounds[s], inverse, table, N, R, C, work, rows, pitch, rebuilt, places, lanes)
            couple_back(t, inverse, table, N, R, C, work, d, pitch, dlogdet, places, lanes)
            network = work[places[NETWORK]:]
            dx = convolve_back(addresses[t[STATE]:], table, N, D, H, W, none, work[places[TAPE]:], network, offsets, g, lanes)
            add_first(network, dx, rounded(t[GROUPS], lanes), work, d, pitch, R, t[GROUPS])
        else:
            if not inverse:
                mix(p[C * C:], True, C, R, work, rows, other, pitch, offsets, places, lanes)
                rows, other = other, rows
            else:
                mix(p[C * C:], False, C, R, work, d, other, pitch, offsets, places, lanes)
                d, other = other, d
            sums_of_products(work, d, rows, C, R, pitch, sign, g, offsets, places, lanes)
            if inverse:
                mix(p, True, C, R, work, rows, other, pitch, offsets, places, lanes)
                rows, other = other, rows
            else:
                mix(p, False, C, R, work, d, other, pitch, offsets, places, lanes)
                d, other = other, d
    for n in range(N):
        logdet[n] -= rebuilt[n]
    rows_to(work, rows, pitch, X)
    rows_to(work, d, pitch, dX)
