"""Layers of a group that have a conditioner: couplings and autoregressive layers with dense ones, and their gradients.

A conditioner's units come step by step, as fused/spec.py says, each once: so a layer costs the same in both directions.
Its units are rows of `work`, samples along them, after a row of ones: a bias is the weight of an input that is one.
What a channel becomes given its rows of outputs is said in affine.py and spline.py.
"""

from .activations import activate, multiply_by_slope
from .affine import shift_and_scale, shift_and_scale_vjp
from .matrices import add, copy
from .products import Left, Rows, place_transposed, product, rounded
from .simple import ZERO, inner
from .spline import MANY, SIZE, rational_quadratic, rational_quadratic_vjp


@inner
def units(first, last, g, layers, P, index, work, zeros, pitch, n, lanes):
    """The units of step g in the layers of a conditioner, of the inputs that there are."""
    for l in range(first, last + 1):
        t = layers[l]
        seen, new, stop = index[t.ends_in + g + 1], index[t.ends_out + g], index[t.ends_out + g + 1]
        if new == stop:
            continue
        o = (t.rows_out + new) * pitch
        A = Left(P, t.weights, index[t.weight_columns :], index[t.weight_rows :])
        B, Y = Rows(work, t.rows_in * pitch, pitch), Rows(work, o, pitch)
        product(A, new, stop, 1 + seen, B, n, Rows(work, zeros, ZERO), Y, lanes)
        before = (t.rows_before + new) * pitch
        activate(work[o : o + (stop - new) * pitch], work[before : before + (stop - new) * pitch], t.activation)


@inner
def row(work, r, pitch, n):
    return work[r * pitch : r * pitch + n]


@inner
def couple(t, bounds, to_z, layers, P, index, C, work, logdet, zeros, pitch, n, lanes, at):
    """A layer to Z or to X: the rows of the channels are changed; what `couple_vjp` needs stays in those of scales and
    outputs, and in `at`.
    """
    first, last = t.first, t.last
    net, outputs = layers[first], layers[last]
    reads_before, sign, whole = t.reads_z != to_z, 1.0 if to_z else -1.0, rounded(n, lanes)
    for l in range(first, last + 1):
        work[layers[l].rows_in * pitch : (layers[l].rows_in + 1) * pitch] = 1
    for g in range(t.groups):
        units(first, last, g, layers, P, index, work, zeros, pitch, n, lanes)
        start, stop = index[t.ends + g], index[t.ends + g + 1]
        out, changed = index[outputs.ends_out + g], index[outputs.ends_out + g + 1] > index[outputs.ends_out + g]
        for j in range(start, stop):
            c = index[t.order + j]
            x, seen = row(work, c, pitch, pitch), row(work, net.rows_in + 1 + j, pitch, pitch)
            if reads_before and j < net.inputs:
                copy(x, ZERO, seen, ZERO, pitch)
            if changed and t.bins:
                o = outputs.rows_out + out + (j - start) * (3 * t.bins - 1)
                rational_quadratic(
                    x[:n],
                    work,
                    o * pitch,
                    pitch,
                    t.bins,
                    bounds[0],
                    bounds[1],
                    not to_z,
                    sign,
                    logdet,
                    at[c * SIZE : (c + 1) * SIZE],
                )
            elif changed:
                o = outputs.rows_out + out + j - start
                shift, raw, s = (
                    row(work, o, pitch, whole),
                    row(work, o + stop - start, pitch, whole),
                    row(work, 2 * C + c, pitch, whole),
                )
                Y, E = at[:whole], at[MANY : MANY + whole]
                shift_and_scale(x[:whole], shift, raw, s, to_z, t.scale, bounds[0], logdet, Y, E)
            if not reads_before and j < net.inputs:
                copy(x, ZERO, seen, ZERO, pitch)


@inner
def couple_vjp(t, bounds, inverse, layers, P, index, C, work, dlogdet, zeros, spare, pitch, n, lanes, at):
    """The gradients of a layer, after `couple` in the opposite direction: rows of channels', and of all units'."""
    first, last = t.first, t.last
    net, outputs = layers[first], layers[last]
    reads_before = t.reads_z == inverse  # the conditioner sees what the map is of, not what it gives
    for back in range(t.groups):
        g = t.groups - 1 - back
        start, stop, later = index[t.ends + g], index[t.ends + g + 1], index[net.ends_out + g + 1]
        out, changed = index[outputs.ends_out + g], index[outputs.ends_out + g + 1] > index[outputs.ends_out + g]
        seen = net.units > later and start < net.inputs
        if seen:
            A = Left(P, net.weights, index[net.weight_rows + 1 :], index[net.weight_columns + later :])
            B, Y = Rows(work, (net.rows_gradient + later) * pitch, pitch), Rows(work, spare, pitch)
            product(A, start, stop, net.units - later, B, n, Rows(work, zeros, ZERO), Y, lanes)
        for o in range(outputs.rows_gradient + out, outputs.rows_gradient + index[outputs.ends_out + g + 1]):
            work[o * pitch + n : (o + 1) * pitch] = 0
        for j in range(start, stop):
            c, arrived = index[t.order + j], row(work[spare:], j - start, pitch, n)
            x, d, s = row(work, c, pitch, n), row(work, C + c, pitch, n), row(work, 2 * C + c, pitch, n)
            if seen and not reads_before:
                for i in range(n):
                    d[i] += arrived[i]
            if changed and t.bins:
                o = out + (j - start) * (3 * t.bins - 1)
                rational_quadratic_vjp(
                    d,
                    work,
                    (outputs.rows_out + o) * pitch,
                    work,
                    (outputs.rows_gradient + o) * pitch,
                    pitch,
                    t.bins,
                    bounds[0],
                    bounds[1],
                    inverse,
                    dlogdet,
                    at[c * SIZE : (c + 1) * SIZE],
                )
            elif changed:
                o, more = out + j - start, stop - start
                shift, slope = (
                    row(work, outputs.rows_out + o, pitch, n),
                    row(work, outputs.rows_out + o + more, pitch, n),
                )
                dshift, draw = (
                    row(work, outputs.rows_gradient + o, pitch, n),
                    row(work, outputs.rows_gradient + o + more, pitch, n),
                )
                shift_and_scale_vjp(d, x, shift, slope, s, inverse, dlogdet, dshift, draw)
            if seen and reads_before:
                for i in range(n):
                    d[i] += arrived[i]
        for l in range(last - 1, first - 1, -1):
            h, after = layers[l], layers[l + 1]
            new, stop, later = index[h.ends_out + g], index[h.ends_out + g + 1], index[after.ends_out + g]
            if new == stop:
                continue
            o, H, before = (h.rows_gradient + new) * pitch, (h.rows_out + new) * pitch, (h.rows_before + new) * pitch
            if after.units > later:
                A = Left(P, after.weights, index[after.weight_rows + 1 :], index[after.weight_columns + later :])
                B, Y = Rows(work, (after.rows_gradient + later) * pitch, pitch), Rows(work, o, pitch)
                product(A, new, stop, after.units - later, B, n, Rows(work, zeros, ZERO), Y, lanes)
            else:
                work[o : o + (stop - new) * pitch] = 0
            size = (stop - new) * pitch
            multiply_by_slope(work[o : o + size], work[H : H + size], work[before : before + size], h.activation)


@inner
def gradients_of_units(t, layers, index, work, zeros, panel, steps, ones, pitch, n, G, lanes):
    """Adds the gradients of a conditioner's weights and biases to G: sums over samples.

    Of the two factors, inputs and gradients of units, the one with more rows becomes a panel, with a row for each
    sample.
    """
    for l in range(t.first, t.last + 1):
        h = layers[l]
        narrowing = 2 * h.units < h.inputs
        left, right, count = (
            (h.rows_gradient, h.rows_in, 1 + h.inputs) if narrowing else (h.rows_in, h.rows_gradient, h.units)
        )
        width = rounded(count, lanes)
        out = panel + pitch * width
        place_transposed(
            work[right * pitch :], width, pitch, work, panel, width, lanes
        )  # rows beyond `count` become columns of no use
        for g in range(t.groups):
            seen, new, stop = 1 + index[h.ends_in + g + 1], index[h.ends_out + g], index[h.ends_out + g + 1]
            rows, columns, W = index[h.weight_rows :], index[h.weight_columns + new :], h.weights
            if new == stop:
                continue
            if narrowing:
                A = Left(work, left * pitch, steps, ones)
                B, Y = Rows(work, panel, width), Rows(work, out, width)
                product(A, new, stop, n, B, seen, Rows(work, zeros, ZERO), Y, lanes)
                for i in range(stop - new):
                    for k in range(seen):
                        G[W + rows[k] + columns[i]] += work[out + i * width + k]
                continue
            A = Left(work, left * pitch, steps, ones)
            B, Y = Rows(work, panel + new, width), Rows(work, out, width)
            product(A, ZERO, seen, n, B, stop - new, Rows(work, zeros, ZERO), Y, lanes)
            for k in range(seen):
                if l < t.last:  # units are in order, but for the last
                    add(work, out + k * width, G[W + rows[k] + new : W + rows[k] + stop])
                else:
                    for i in range(stop - new):
                        G[W + rows[k] + columns[i]] += work[out + k * width + i]
