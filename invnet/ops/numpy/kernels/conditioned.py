"""Layers of a group that have a conditioner: couplings and autoregressive layers with dense ones, and their gradients.

A conditioner's units come step by step, as fused/spec.py says, each once: so a layer costs the same in both directions.
Its units are rows of `work`, samples along them, after a row of ones: a bias is the weight of an input that is one.
What a channel becomes given its rows of outputs is said in affine.py and spline.py.
"""

from .activations import activate, multiply_by_slope
from .affine import shift_and_scale, shift_and_scale_vjp
from .matrices import add, copy
from .products import place_transposed, product, rounded
from .simple import ZERO, inner
from .spline import MANY, SIZE, bend, bend_vjp
from .tables import (
    ACTIVATION,
    BEFORE,
    BINS,
    COLUMNS,
    ENDS,
    ENDS_IN,
    ENDS_OUT,
    FIRST,
    GROUPS,
    IN,
    INPUTS,
    LAST,
    ORDER,
    OUT,
    READS_Z,
    ROWS,
    SCALED_BY,
    UNITS,
    WEIGHTS,
    D,
)


@inner
def units(first, last, g, layers, P, index, work, zeros, pitch, n, lanes):
    """The units of step g in the layers of a conditioner, of the inputs that there are."""
    for l in range(first, last + 1):
        t = layers[l]
        seen, new, stop = index[t[ENDS_IN] + g + 1], index[t[ENDS_OUT] + g], index[t[ENDS_OUT] + g + 1]
        if new == stop:
            continue
        o = (t[OUT] + new) * pitch
        product(
            P,
            t[WEIGHTS],
            index[t[COLUMNS] :],
            new,
            stop,
            index[t[ROWS] :],
            1 + seen,
            work,
            t[IN] * pitch,
            pitch,
            n,
            work,
            zeros,
            ZERO,
            work,
            o,
            pitch,
            lanes,
        )
        before = (t[BEFORE] + new) * pitch
        activate(work[o : o + (stop - new) * pitch], work[before : before + (stop - new) * pitch], t[ACTIVATION])


@inner
def row(work, r, pitch, n):
    return work[r * pitch : r * pitch + n]


@inner
def couple(t, limits, to_z, layers, P, index, C, work, logdet, zeros, pitch, n, lanes, at):
    """A layer to Z or to X: the rows of the channels are changed; what `couple_vjp` needs stays in those of scales and
    outputs, and in `at`.
    """
    first, last = t[FIRST], t[LAST]
    net, outputs = layers[first], layers[last]
    reads_before, sign, whole = t[READS_Z] != to_z, 1.0 if to_z else -1.0, rounded(n, lanes)
    for l in range(first, last + 1):
        work[layers[l, IN] * pitch : (layers[l, IN] + 1) * pitch] = 1
    for g in range(t[GROUPS]):
        units(first, last, g, layers, P, index, work, zeros, pitch, n, lanes)
        start, stop = index[t[ENDS] + g], index[t[ENDS] + g + 1]
        out, changed = index[outputs[ENDS_OUT] + g], index[outputs[ENDS_OUT] + g + 1] > index[outputs[ENDS_OUT] + g]
        for j in range(start, stop):
            c = index[t[ORDER] + j]
            x, seen = row(work, c, pitch, pitch), row(work, net[IN] + 1 + j, pitch, pitch)
            if reads_before and j < net[INPUTS]:
                copy(x, ZERO, seen, ZERO, pitch)
            if changed and t[BINS]:
                o = outputs[OUT] + out + (j - start) * (3 * t[BINS] - 1)
                bend(
                    x[:n],
                    work,
                    o * pitch,
                    pitch,
                    t[BINS],
                    limits[0],
                    limits[1],
                    not to_z,
                    sign,
                    logdet,
                    at[c * SIZE : (c + 1) * SIZE],
                )
            elif changed:
                o = outputs[OUT] + out + j - start
                shift, raw, s = (
                    row(work, o, pitch, whole),
                    row(work, o + stop - start, pitch, whole),
                    row(work, 2 * C + c, pitch, whole),
                )
                Y, E = at[:whole], at[MANY : MANY + whole]
                shift_and_scale(x[:whole], shift, raw, s, to_z, t[SCALED_BY], limits[0], logdet, Y, E)
            if not reads_before and j < net[INPUTS]:
                copy(x, ZERO, seen, ZERO, pitch)


@inner
def couple_vjp(t, limits, inverse, layers, P, index, C, work, dlogdet, zeros, spare, pitch, n, lanes, at):
    """The gradients of a layer, after `couple` in the opposite direction: rows of channels', and of all units'."""
    first, last = t[FIRST], t[LAST]
    net, outputs = layers[first], layers[last]
    reads_before = t[READS_Z] == inverse  # the conditioner sees what the map is of, not what it gives
    for back in range(t[GROUPS]):
        g = t[GROUPS] - 1 - back
        start, stop, later = index[t[ENDS] + g], index[t[ENDS] + g + 1], index[net[ENDS_OUT] + g + 1]
        out, changed = index[outputs[ENDS_OUT] + g], index[outputs[ENDS_OUT] + g + 1] > index[outputs[ENDS_OUT] + g]
        seen = net[UNITS] > later and start < net[INPUTS]
        if seen:
            product(
                P,
                net[WEIGHTS],
                index[net[ROWS] + 1 :],
                start,
                stop,
                index[net[COLUMNS] + later :],
                net[UNITS] - later,
                work,
                (net[D] + later) * pitch,
                pitch,
                n,
                work,
                zeros,
                ZERO,
                work,
                spare,
                pitch,
                lanes,
            )
        for o in range(outputs[D] + out, outputs[D] + index[outputs[ENDS_OUT] + g + 1]):
            work[o * pitch + n : (o + 1) * pitch] = 0
        for j in range(start, stop):
            c, arrived = index[t[ORDER] + j], row(work[spare:], j - start, pitch, n)
            x, d, s = row(work, c, pitch, n), row(work, C + c, pitch, n), row(work, 2 * C + c, pitch, n)
            if seen and not reads_before:
                for i in range(n):
                    d[i] += arrived[i]
            if changed and t[BINS]:
                o = out + (j - start) * (3 * t[BINS] - 1)
                bend_vjp(
                    d,
                    work,
                    (outputs[OUT] + o) * pitch,
                    work,
                    (outputs[D] + o) * pitch,
                    pitch,
                    t[BINS],
                    limits[0],
                    limits[1],
                    inverse,
                    dlogdet,
                    at[c * SIZE : (c + 1) * SIZE],
                )
            elif changed:
                o, more = out + j - start, stop - start
                shift, slope = row(work, outputs[OUT] + o, pitch, n), row(work, outputs[OUT] + o + more, pitch, n)
                dshift, draw = row(work, outputs[D] + o, pitch, n), row(work, outputs[D] + o + more, pitch, n)
                shift_and_scale_vjp(d, x, shift, slope, s, inverse, dlogdet, dshift, draw)
            if seen and reads_before:
                for i in range(n):
                    d[i] += arrived[i]
        for l in range(last - 1, first - 1, -1):
            h, after = layers[l], layers[l + 1]
            new, stop, later = index[h[ENDS_OUT] + g], index[h[ENDS_OUT] + g + 1], index[after[ENDS_OUT] + g]
            if new == stop:
                continue
            o, H, before = (h[D] + new) * pitch, (h[OUT] + new) * pitch, (h[BEFORE] + new) * pitch
            if after[UNITS] > later:
                product(
                    P,
                    after[WEIGHTS],
                    index[after[ROWS] + 1 :],
                    new,
                    stop,
                    index[after[COLUMNS] + later :],
                    after[UNITS] - later,
                    work,
                    (after[D] + later) * pitch,
                    pitch,
                    n,
                    work,
                    zeros,
                    ZERO,
                    work,
                    o,
                    pitch,
                    lanes,
                )
            else:
                work[o : o + (stop - new) * pitch] = 0
            size = (stop - new) * pitch
            multiply_by_slope(work[o : o + size], work[H : H + size], work[before : before + size], h[ACTIVATION])


@inner
def gradients_of_units(t, layers, index, work, zeros, panel, steps, ones, pitch, n, G, lanes):
    """Adds the gradients of a conditioner's weights and biases to G: sums over samples.

    Of the two factors, inputs and gradients of units, the one with more rows becomes a panel, with a row for each
    sample.
    """
    for l in range(t[FIRST], t[LAST] + 1):
        h = layers[l]
        narrowing = 2 * h[UNITS] < h[INPUTS]
        left, right, count = (h[D], h[IN], 1 + h[INPUTS]) if narrowing else (h[IN], h[D], h[UNITS])
        width = rounded(count, lanes)
        out = panel + pitch * width
        place_transposed(
            work[right * pitch :], width, pitch, work, panel, width, lanes
        )  # rows beyond `count` become columns of no use
        for g in range(t[GROUPS]):
            seen, new, stop = 1 + index[h[ENDS_IN] + g + 1], index[h[ENDS_OUT] + g], index[h[ENDS_OUT] + g + 1]
            rows, columns, W = index[h[ROWS] :], index[h[COLUMNS] + new :], h[WEIGHTS]
            if new == stop:
                continue
            if narrowing:
                product(
                    work,
                    left * pitch,
                    steps,
                    new,
                    stop,
                    ones,
                    n,
                    work,
                    panel,
                    width,
                    seen,
                    work,
                    zeros,
                    ZERO,
                    work,
                    out,
                    width,
                    lanes,
                )
                for i in range(stop - new):
                    for k in range(seen):
                        G[W + rows[k] + columns[i]] += work[out + i * width + k]
                continue
            product(
                work,
                left * pitch,
                steps,
                ZERO,
                seen,
                ones,
                n,
                work,
                panel + new,
                width,
                stop - new,
                work,
                zeros,
                ZERO,
                work,
                out,
                width,
                lanes,
            )
            for k in range(seen):
                if l < t[LAST]:  # units are in order, but for the last
                    add(work, out + k * width, G[W + rows[k] + new : W + rows[k] + stop])
                else:
                    for i in range(stop - new):
                        G[W + rows[k] + columns[i]] += work[out + k * width + i]
