"""A group of layers of vectors, and its gradients: each one compiled call for all layers.

Samples lie along rows: a row of `work` has one channel, or one unit of a conditioner, of the samples that are at work
at one time. So every loop and every product runs over samples, however few channels there are.

A group is done part by part: `parts` says where in the table of layers each begins and ends. What a part's parameters
make is in P, where `table` puts it; its gradients are summed in an array G with the same offsets. The next part has the
same memory.

`work` has the rows of channels, those of their gradients, of scales, of one conditioner, a spare one for each channel,
zeros, the panel of a product, and scratch memory of what changes a channel, `at`; `layout` says where each begins.
"""

import numpy as np

from .conditioned import couple, couple_vjp, gradients_of_units
from .products import multiples
from .rows import from_rows, mix, permute, rescale, scale_vjp, sums_of_products, to_rows
from .simple import TRUE, ZERO, kernel
from .spline import MANY
from .tables import CONDITIONED, PERMUTE, SCALE, prepare, prepare_vjp, uncounted
from .vectors import BYTES, SLACK

#: samples that are at work at one time
AT_ONCE = MANY


@kernel(
    "float64($[::1], int64[::1], int64[::1], layer[::1], float64[:,::1], units[::1], int64[::1], boolean, ?, "
    "$[:,:], $[::1], $[::1], layout[::1])"
)
def forward(P, addresses, parts, table, bounds, layers, index, inverse, reflections, X, logdet, work, layout):
    """X becomes Z, or Z becomes X where `inverse`; adds logdet, and gives the bound of `prepare`. `layout` has one
    row, of a VectorPlan.
    """
    P, table, bounds, work = uncounted(P), uncounted(table), uncounted(bounds), uncounted(work)
    layers, index = uncounted(layers), uncounted(index)
    room = layout[0]
    (N, C), lanes, pitch, worst = X.shape, BYTES // X.itemsize, room.pitch, 1.0
    ones, steps, zeros, spare = index, index[room.steps :], room.zeros * pitch, room.spare * pitch
    work[zeros : zeros + room.zeros_size] = 0
    at = work[room.scratch :]
    for part in range(parts.size - 1):
        part = parts.size - 2 - part if inverse else part
        start, stop = parts[part], parts[part + 1]
        same, bound = prepare(P, addresses, table[start:stop], layers, index, C, inverse, reflections)
        same, worst = X.dtype.type(-same if inverse else same), max(worst, bound)
        for r in range(0, N, AT_ONCE):
            n = min(AT_ONCE, N - r)
            to_rows(X, r, n, work, ZERO, pitch)
            for i in range(n):
                logdet[r + i] += same
            for i in range(stop - start):
                s = stop - 1 - i if inverse else start + i
                t = table[s]
                kind, p = t.kind, P[t.offset :]
                if kind == SCALE:
                    rescale(work, ZERO, pitch, p, C, not inverse, n)
                elif kind == PERMUTE:
                    permute(work, ZERO, spare, pitch, index, t.order, C, inverse)
                elif kind == CONDITIONED:
                    couple(
                        t,
                        bounds[s],
                        not inverse,
                        layers,
                        P,
                        index,
                        C,
                        work,
                        logdet[r : r + n],
                        zeros,
                        pitch,
                        n,
                        lanes,
                        at,
                    )
                else:
                    mix(
                        P,
                        t.offset + (C * C if inverse else 0),
                        steps,
                        ones,
                        C,
                        work,
                        ZERO,
                        spare,
                        zeros,
                        n,
                        pitch,
                        lanes,
                    )
            from_rows(work, ZERO, pitch, X, r, n)
    return worst


@kernel(
    "float64($[::1], $[::1], int64[::1], int64[::1], int64[::1], layer[::1], float64[:,::1], units[::1], "
    "int64[::1], boolean, boolean, ?, $[:,:], $[:,:], $[::1], $[::1], float64, $[::1], layout[::1])"
)
def backward(
    P,
    G,
    addresses,
    gradients,
    parts,
    table,
    bounds,
    layers,
    index,
    inverse,
    alone,
    reflections,
    dX,
    X,
    dlogdet,
    logdet,
    total,
    work,
    layout,
):
    """Z becomes X and dZ becomes dX, or the other way round where `inverse`; gives the bound of `prepare`.

    To `logdet` is added what the forward of the opposite direction would, of the states that are rebuilt: minus the
    log-determinants. Where these samples are `alone`, adds to the parameters' gradients, given the total of dlogdet
    over all samples; else there is one part, and its gradients are in G.
    """
    P, G, table, bounds, work = uncounted(P), uncounted(G), uncounted(table), uncounted(bounds), uncounted(work)
    layers, index = uncounted(layers), uncounted(index)
    room = layout[0]
    (N, C), lanes, pitch, worst = X.shape, BYTES // X.itemsize, room.pitch, 1.0
    ones, steps, zeros, spare, panel, d = (
        index,
        index[room.steps :],
        room.zeros * pitch,
        room.spare * pitch,
        room.panel * pitch,
        C * pitch,
    )
    work[zeros : zeros + room.zeros_size] = 0
    at, rows = work[room.scratch :], np.empty(room.widest + SLACK, np.int64)
    multiples(rows, room.widest, pitch)
    sign = X.dtype.type(-1 if inverse else 1)
    for part in range(parts.size - 1):
        part = part if inverse else parts.size - 2 - part
        start, stop = parts[part], parts[part + 1]
        same, bound = prepare(P, addresses, table[start:stop], layers, index, C, TRUE, reflections)
        same, worst = X.dtype.type(same if inverse else -same), max(worst, bound)
        for i in range(G.size):
            G[i] = 0
        for r in range(0, N, AT_ONCE):
            n = min(AT_ONCE, N - r)
            to_rows(X, r, n, work, ZERO, pitch)
            to_rows(dX, r, n, work, d, pitch)
            for i in range(n):
                logdet[r + i] += same
            for i in range(stop - start):
                s = start + i if inverse else stop - 1 - i
                t = table[s]
                kind, p, g = t.kind, P[t.offset :], G[t.offset :]
                if kind == SCALE:
                    if not inverse:
                        rescale(work, ZERO, pitch, p, C, inverse, n)
                    scale_vjp(work, ZERO, d, pitch, p, C, inverse, n, sign, g)
                    if inverse:
                        rescale(work, ZERO, pitch, p, C, inverse, n)
                elif kind == PERMUTE:
                    for o in (ZERO, d):
                        permute(work, o, spare, pitch, index, t.order, C, not inverse)
                elif kind == CONDITIONED:
                    couple(
                        t, bounds[s], inverse, layers, P, index, C, work, logdet[r : r + n], zeros, pitch, n, lanes, at
                    )
                    couple_vjp(
                        t,
                        bounds[s],
                        inverse,
                        layers,
                        P,
                        index,
                        C,
                        work,
                        dlogdet[r : r + n],
                        zeros,
                        spare,
                        pitch,
                        n,
                        lanes,
                        at,
                    )
                    gradients_of_units(t, layers, index, work, zeros, panel, rows, ones, pitch, n, G, lanes)
                elif inverse:
                    mix(P, t.offset + C * C, ones, steps, C, work, d, spare, zeros, n, pitch, lanes)
                    sums_of_products(work, d, work, ZERO, C, n, pitch, sign, g)
                    mix(P, t.offset, steps, ones, C, work, ZERO, spare, zeros, n, pitch, lanes)
                else:
                    mix(P, t.offset + C * C, steps, ones, C, work, ZERO, spare, zeros, n, pitch, lanes)
                    sums_of_products(work, d, work, ZERO, C, n, pitch, sign, g)
                    mix(P, t.offset, ones, steps, C, work, d, spare, zeros, n, pitch, lanes)
            from_rows(work, ZERO, pitch, X, r, n)
            from_rows(work, d, pitch, dX, r, n)
        if alone:
            prepare_vjp(P, G, total, addresses, gradients, table[start:stop], layers, C, reflections)
    return worst


@kernel("void($[::1], $[::1], int64[::1], int64[::1], layer[::1], units[::1], int64[::1], float64, int64, ?)")
def add_gradients(P, G, addresses, gradients, table, layers, index, total, C, reflections):
    """Adds to the parameters' gradients what a part's G, summed over all samples, makes of them."""
    prepare(P, addresses, table, layers, index, C, TRUE, reflections)
    prepare_vjp(P, G, total, addresses, gradients, table, layers, C, reflections)
