"""Affine stages of a run: couplings and autoregressive layers with dense conditioners, and their gradients.

A conditioner's units come step by step, as ops/stage.py says, each once: so a layer costs the same in both directions. Its units
are rows of `work`, samples along them, after a row of ones: a bias is the weight of an input that is one.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

from .activations import activate, activate_back
from .products import place_transposed, product, rounded
from .stages import (
    ACTIVATION, BEFORE, COLUMNS, D, ENDS, ENDS_IN, ENDS_OUT, FIRST, GROUPS, IN, INPUTS, LAST, ORDER, OUT, READS_Z, ROWS, SIGMOID, UNITS, WEIGHTS, add,
    copy, function,
)

# ---- exponentials, in the dtype of the numbers, without branches, which LLVM vectorises


def split(x):
    """2^n and exp(r) - 1 with x = n log 2 + r, for x <= 0, as in `bending`; where 2^n would vanish, the least there is."""


@overload(split)
def _split(x):
    single = x == types.float32
    real, whole, digits, bias, least, terms = (np.float32, np.int32, 23, 127, -87, 7) if single else (np.float64, np.int64, 52, 1023, -700, 13)
    least, log2e, shift = real(least), real(1 / math.log(2)), real(1.5 * 2.0**digits)
    ln2 = real(0.693359375 if single else 0.693147180369123816490)  # of few bits, so that its multiples are exact
    rest, one = real(math.log(2) - float(ln2)) if single else real(1.90821492927058770002e-10), whole(bias << digits)
    taylor = tuple(real(1 / math.factorial(k)) for k in range(2, terms + 1))
    last, digits = terms - 2, whole(digits)

    def split(x):
        x = least if x < least else x  # NaN stays
        y = x * log2e + shift
        n = y - shift
        r = (x - n * ln2) - n * rest
        p = taylor[last]
        for k in range(last - 1, -1, -1):
            p = p * r + taylor[k]
        return whole(whole(real(y).view(whole) << digits) + one).view(real), p * r * r + r

    return split


# ---- conditioners and what they change


@function
def units(first, last, g, layers, P, index, work, zeros, pitch, n, lanes):
    """The units of step g in the layers of a conditioner, of the inputs that there are."""
    for l in range(first, last + 1):
        t = layers[l]
        seen, new, stop = index[t[ENDS_IN] + g + 1], index[t[ENDS_OUT] + g], index[t[ENDS_OUT] + g + 1]
        if new == stop:
            continue
        o = (t[OUT] + new) * pitch
        product(P, t[WEIGHTS], index[t[COLUMNS]:], new, stop, index[t[ROWS]:], 1 + seen, work, t[IN] * pitch, pitch, n, work, zeros, 0,
                work, o, pitch, lanes)
        before = (t[BEFORE] + new) * pitch
        activate(work[o:o + (stop - new) * pitch], work[before:before + (stop - new) * pitch], t[ACTIVATION])


@function
def row(work, r, pitch, n):
    return work[r * pitch:r * pitch + n]


@function
def scales(raw, s, logdet, sigmoid, a, sign, Y, E):
    """s of raw, which becomes the slope of log s; adds log s to logdet with a sign. Y and E are scratch."""
    n, one, two, four, over_a = s.size, s.dtype.type(1), s.dtype.type(2), s.dtype.type(4), s.dtype.type(1 / a)
    a, sign = s.dtype.type(a), s.dtype.type(sign)
    if sigmoid:
        for i in range(n):
            power, p = split(-abs(raw[i] + two))
            Y[i], E[i] = raw[i] + two, power * p + power
        for i in range(n):
            large, small = one / (one + E[i]), E[i] / (one + E[i])
            s[i], raw[i] = (large, small) if Y[i] > 0 else (small, large)
        for i in range(n):
            logdet[i] += sign * (min(Y[i], 0) - math.log1p(E[i]))
        return
    for i in range(n):  # tanh and its slope, without cancellation, from exp(-2 |raw / a|) - 1
        power, p = split(-two * abs(raw[i]) * over_a)
        e = power * p + (power - one)
        over = one / (two + e)
        Y[i] = math.copysign(-a * e * over, raw[i])
        raw[i] = four * (power * p + power) * over * over
    for i in range(n):
        logdet[i] += sign * Y[i]
    for i in range(n):
        power, p = split(-abs(Y[i]))
        e = power * p + power
        s[i] = one / e if Y[i] > 0 else e


@function
def affine(t, a, to_z, layers, P, index, C, work, logdet, zeros, pitch, n, lanes, fine):
    """An affine stage, to Z or to X: the rows of the channels are changed; t, s and the slopes of log s stay in theirs."""
    first, last = t[FIRST], t[LAST]
    net, outputs = layers[first], layers[last]
    reads_before, sign = t[READS_Z] != to_z, 1.0 if to_z else -1.0
    for l in range(first, last + 1):
        work[layers[l, IN] * pitch:(layers[l, IN] + 1) * pitch] = 1
    for g in range(t[GROUPS]):
        units(first, last, g, layers, P, index, work, zeros, pitch, n, lanes)
        start, stop = index[t[ENDS] + g], index[t[ENDS] + g + 1]
        out, changed = index[outputs[ENDS_OUT] + g], index[outputs[ENDS_OUT] + g + 1] > index[outputs[ENDS_OUT] + g]
        for j in range(start, stop):
            c = index[t[ORDER] + j]
            x, seen = row(work, c, pitch, pitch), row(work, net[IN] + 1 + j, pitch, pitch)
            if reads_before and j < net[INPUTS]:
                copy(x, 0, seen, 0, pitch)
            if changed:
                o = outputs[OUT] + out + j - start
                shift, raw, s = row(work, o, pitch, n), row(work, o + stop - start, pitch, n), row(work, 2 * C + c, pitch, n)
                scales(raw, s, logdet, t[SIGMOID], a, sign, fine[0], fine[1])
                if to_z:
                    for i in range(n):
                        x[i] = (x[i] + shift[i]) * s[i]
                else:
                    for i in range(n):
                        x[i] = x[i] / s[i] - shift[i]
            if not reads_before and j < net[INPUTS]:
                copy(x, 0, seen, 0, pitch)


@function
def affine_back(t, inverse, layers, P, index, C, work, dlogdet, zeros, spare, pitch, n, lanes):
    """The gradients of an affine stage, after `affine` in the opposite direction: rows of channels', and of all units'."""
    first, last = t[FIRST], t[LAST]
    net, outputs = layers[first], layers[last]
    reads_before = t[READS_Z] == inverse  # the conditioner sees what the map is of, not what it gives
    for back in range(t[GROUPS]):
        g = t[GROUPS] - 1 - back
        start, stop, later = index[t[ENDS] + g], index[t[ENDS] + g + 1], index[net[ENDS_OUT] + g + 1]
        out, changed = index[outputs[ENDS_OUT] + g], index[outputs[ENDS_OUT] + g + 1] > index[outputs[ENDS_OUT] + g]
        seen = net[UNITS] > later and start < net[INPUTS]
        if seen:
            product(P, net[WEIGHTS], index[net[ROWS] + 1:], start, stop, index[net[COLUMNS] + later:], net[UNITS] - later,
                    work, (net[D] + later) * pitch, pitch, n, work, zeros, 0, work, spare, pitch, lanes)
        for j in range(start, stop):
            c, arrived = index[t[ORDER] + j], row(work[spare:], j - start, pitch, n)
            x, d, s = row(work, c, pitch, n), row(work, C + c, pitch, n), row(work, 2 * C + c, pitch, n)
            if seen and not reads_before:
                for i in range(n):
                    d[i] += arrived[i]
            if changed:
                o, more = out + j - start, stop - start
                shift, slope = row(work, outputs[OUT] + o, pitch, n), row(work, outputs[OUT] + o + more, pitch, n)
                dshift, draw = row(work, outputs[D] + o, pitch, pitch), row(work, outputs[D] + o + more, pitch, pitch)
                dshift[n:] = draw[n:] = 0
                if inverse:  # x is z now
                    for i in range(n):
                        dshift[i] = -d[i]
                    for i in range(n):
                        d[i] /= s[i]
                    for i in range(n):
                        draw[i] = -(d[i] * x[i] + dlogdet[i]) * slope[i]
                else:
                    for i in range(n):
                        draw[i] = (x[i] + shift[i]) * s[i]
                    for i in range(n):
                        draw[i] = (d[i] * draw[i] + dlogdet[i]) * slope[i]
                    for i in range(n):
                        dshift[i] = d[i] * s[i]
                    copy(dshift, 0, d, 0, n)
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
                product(P, after[WEIGHTS], index[after[ROWS] + 1:], new, stop, index[after[COLUMNS] + later:], after[UNITS] - later,
                        work, (after[D] + later) * pitch, pitch, n, work, zeros, 0, work, o, pitch, lanes)
            else:
                work[o:o + (stop - new) * pitch] = 0
            size = (stop - new) * pitch
            activate_back(work[o:o + size], work[H:H + size], work[before:before + size], h[ACTIVATION])


@function
def gradients_of_units(t, layers, index, work, zeros, panel, steps, ones, pitch, n, G, lanes):
    """Adds the gradients of a conditioner's weights and biases to G: sums over samples.

    Of the two factors, inputs and gradients of units, the one with more rows becomes a panel, with a row for each sample.
    """
    for l in range(t[FIRST], t[LAST] + 1):
        h = layers[l]
        narrowing = 2 * h[UNITS] < h[INPUTS]
        left, right, count = (h[D], h[IN], 1 + h[INPUTS]) if narrowing else (h[IN], h[D], h[UNITS])
        width = rounded(count, lanes)
        out = panel + pitch * width
        place_transposed(work[right * pitch:], width, pitch, work, panel, width, lanes)  # rows beyond `count` become columns of no use
        for g in range(t[GROUPS]):
            seen, new, stop = 1 + index[h[ENDS_IN] + g + 1], index[h[ENDS_OUT] + g], index[h[ENDS_OUT] + g + 1]
            rows, columns, W = index[h[ROWS]:], index[h[COLUMNS] + new:], h[WEIGHTS]
            if new == stop:
                continue
            if narrowing:
                product(work, left * pitch, steps, new, stop, ones, n, work, panel, width, seen, work, zeros, 0, work, out, width, lanes)
                for i in range(stop - new):
                    for k in range(seen):
                        G[W + rows[k] + columns[i]] += work[out + i * width + k]
                continue
            product(work, left * pitch, steps, 0, seen, ones, n, work, panel + new, width, stop - new, work, zeros, 0, work, out, width, lanes)
            for k in range(seen):
                if l < t[LAST]:  # units are in order, but for the last
                    add(work, out + k * width, G[W + rows[k] + new:W + rows[k] + stop])
                else:
                    for i in range(stop - new):
                        G[W + rows[k] + columns[i]] += work[out + k * width + i]
