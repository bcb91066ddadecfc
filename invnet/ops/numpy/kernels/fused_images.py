"""A group of layers of images, or its gradients: one compiled call for all layers, for a few images at a time.

Positions are rows of channels, of whole vectors, in `work`: a mix of channels is one product over them, and a coupling
takes its first channels into the rows of its conditioner (`convolutions`). What parameters make is in P, but for
weights, which are used where they lie. Gradients are summed in an array G with the same offsets; those of weights and
biases come after them.

`tables` has the plans of all conditioners, that of layer s from the first to the second number in starts[s], and its
tape begins at the third; `layout` says where in `work` there is what (`image_rows`).
"""

import numpy as np

from .convolutions import INPUT, convolve, convolve_vjp
from .image_rows import (
    GRADIENTS,
    MATRIX,
    NETWORK,
    OTHER,
    ROWS,
    add_first,
    couple,
    couple_vjp,
    mix,
    permute,
    rescale,
    scale_vjp,
    sums_of_products,
    take_first,
)
from .products import rounded
from .simple import kernel
from .tables import CONVOLUTIONAL, PERMUTE, SCALE, prepare, prepare_vjp, uncounted
from .taps import rows_of, rows_to
from .vectors import BYTES


@kernel(
    "void($[::1], int64[::1], layer[::1], float64[::1], int64[:,::1], int64[:,::1], int64[::1], boolean, boolean, "
    "boolean, "
    "$[:,:,:,:,:], $[:,:,:,:,:], $[::1], $[::1], $[::1], $[::1], $[::1], int64[:,::1], int64[::1])"
)
def through(
    P,
    addresses,
    table,
    bounds,
    tables,
    starts,
    index,
    to_z,
    back,
    kept,
    dX,
    X,
    dlogdet,
    logdet,
    G,
    tapes,
    work,
    offsets,
    layout,
):
    """X (N, D, H, W, C) becomes Z, or Z becomes X; adds to logdet what couplings have of this map's.

    On the way `back` of a pass that went the other way dX, the gradient at what is given, becomes that at what is
    rebuilt; adds to G. Else dX, dlogdet and G are not looked at. `tapes` is what conditioners leave, and where it is
    `kept` from the way out they are not computed again. It is one function since half of what is compiled is the same.
    """
    P, G, tapes, work, table, index = (
        uncounted(P),
        uncounted(G),
        uncounted(tapes),
        uncounted(work),
        uncounted(table),
        uncounted(index),
    )
    (N, D, H, W, C), lanes = X.shape, BYTES // X.itemsize
    R, pitch, rows, other, d = N * D * H * W, rounded(C, lanes), layout[ROWS], layout[OTHER], layout[GRADIENTS]
    sign, none = X.dtype.type(-1 if to_z else 1), np.empty((0, 1), X.dtype)
    matrix, network = work[layout[MATRIX] :], work[layout[NETWORK] :]
    rows_of(X, work, rows, pitch)
    if back:
        rows_of(dX, work, d, pitch)
    for i in range(table.shape[0]):
        s = i if to_z else table.shape[0] - 1 - i
        t = table[s]
        kind, p, g = t.kind, P[t.offset :], G[t.offset :]
        if kind == SCALE:
            if not to_z:
                rescale(work, rows, R, pitch, p, C, to_z, matrix)
            if back:
                scale_vjp(work, rows, d, R, pitch, p, C, to_z, sign, g, matrix)
            if to_z:
                rescale(work, rows, R, pitch, p, C, to_z, matrix)
        elif kind == PERMUTE:
            permute(work, rows, other, R, pitch, index[t.order :], C, not to_z)
            rows, other = other, rows
            if back:
                permute(work, d, other, R, pitch, index[t.order :], C, not to_z)
                d, other = other, d
        elif kind == CONVOLUTIONAL:
            net, weights = tables[starts[s, 0] : starts[s, 1]], addresses[t.state :]
            tape = tapes[starts[s, 2] :]
            if not kept:
                take_first(work, rows, pitch, tape, net[0, INPUT], R, t.groups, lanes)
                convolve(weights, net, N, D, H, W, none, tape, network, offsets, lanes)
            couple(t, bounds[s], to_z, net, N, R, C, tape, work, rows, pitch, logdet, layout, lanes)
            if back:
                couple_vjp(t, to_z, net, N, R, C, work, d, pitch, dlogdet, layout, lanes)
                dx = convolve_vjp(weights, net, N, D, H, W, none, tape, network, offsets, g, lanes)
                add_first(network, dx, rounded(t.groups, lanes), work, d, pitch, R, t.groups)
        elif to_z:
            if back:
                mix(p[C * C :], not to_z, C, R, work, d, other, pitch, offsets, layout, lanes)
                d, other = other, d
                sums_of_products(work, d, rows, C, R, pitch, sign, g, offsets, layout, lanes)
            mix(p, to_z, C, R, work, rows, other, pitch, offsets, layout, lanes)
            rows, other = other, rows
        else:
            mix(p[C * C :], not to_z, C, R, work, rows, other, pitch, offsets, layout, lanes)
            rows, other = other, rows
            if back:
                sums_of_products(work, d, rows, C, R, pitch, sign, g, offsets, layout, lanes)
                mix(p, to_z, C, R, work, d, other, pitch, offsets, layout, lanes)
                d, other = other, d
    rows_to(work, rows, pitch, X)
    if back:
        rows_to(work, d, pitch, dX)


#: As functions of their own: compiled into others that only call them they take a second more.
prepared = kernel("UniTuple(float64, 2)($[::1], int64[::1], layer[::1], units[::1], int64[::1], int64, boolean, ?)")(
    prepare.py_func
)
parameter_gradients = kernel("void($[::1], $[::1], float64, int64[::1], int64[::1], layer[::1], units[::1], int64, ?)")(
    prepare_vjp.py_func
)
