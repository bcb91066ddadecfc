"""Pieces of a run of images: positions as rows of channels, scaled, permuted, mixed, coupled and summed over.

R positions are at work; row r of their channels lies at o + r * pitch in `work`, with zeros after the channels.
"""

from .affine import scales
from .convolutions import C_OUT, G as DY, INPUT, OUTPUT, convolve
from .products import multiples, place, place_transposed, product, rounded
from .rows import total
from .stages import GROUPS, SIGMOID, STATE, function
from .vectors import copy_rows

#: Where in `work` there are: the rows, as many more for what becomes of them, their gradients, small matrices, what belongs to the
#: channels that a coupling changes, a conditioner's tape, and what it needs besides.
ROWS, OTHER, GRADIENTS, MATRIX, CHANGED, TAPE, NETWORK = range(7)


@function
def rescale(work, o, R, pitch, p, C, to_z, fine):
    """Rows at o become Z, scaled and shifted, or X again."""
    fine[:2 * pitch] = 0
    factor, shift = fine[:pitch], fine[pitch:2 * pitch]
    for c in range(C):
        factor[c], shift[c] = (p[c], p[2 * C + c]) if to_z else (p[C + c], p[2 * C + c])
    for r in range(R):
        row = work[o + r * pitch:o + (r + 1) * pitch]
        if to_z:
            for c in range(pitch):
                row[c] = row[c] * factor[c] + shift[c]
        else:
            for c in range(pitch):
                row[c] = (row[c] - shift[c]) * factor[c]


@function
def scale_back(work, o, d, R, pitch, p, C, inverse, sign, g, fine):
    """Gradients at d of rows X at o, from those of Z or the other way round; adds those of scale and b to g."""
    fine[:4 * pitch] = 0
    before, after, products, sums = fine[:pitch], fine[pitch:2 * pitch], fine[2 * pitch:3 * pitch], fine[3 * pitch:4 * pitch]
    for c in range(C):
        before[c], after[c] = (p[C + c], p.dtype.type(1)) if inverse else (p.dtype.type(1), p[c])
    for r in range(R):
        row, drow = work[o + r * pitch:o + (r + 1) * pitch], work[d + r * pitch:d + (r + 1) * pitch]
        for c in range(pitch):
            dz = drow[c] * before[c]
            products[c] += dz * row[c]
            sums[c] += dz
            drow[c] = dz * after[c]
    for c in range(C):
        g[c] += sign * products[c]
        g[2 * C + c] += sign * sums[c]


@function
def permute(work, o, to, R, pitch, order, C, back):
    """Rows at `to`: those at o with their channels in this order, or back."""
    for r in range(R):
        row, out = work[o + r * pitch:o + (r + 1) * pitch], work[to + r * pitch:to + (r + 1) * pitch]
        out[C:] = 0
        for c in range(C):
            if back:
                out[order[c]] = row[c]
            else:
                out[c] = row[order[c]]


@function
def mix(M, transposed, C, R, work, o, to, pitch, offsets, places, lanes):
    """Rows at `to`: those at o times the matrix M (C, C), or its transpose, so that each becomes M times it."""
    m, zeros = places[MATRIX], places[MATRIX] + C * pitch
    work[zeros:zeros + pitch] = 0
    if transposed:
        place_transposed(M, C, C, work, m, pitch, lanes)
    else:
        place(M, C, C, work, m, pitch)
    multiples(offsets[0], R, pitch)
    multiples(offsets[1], C, 1)
    product(work, o, offsets[0], 0, R, offsets[1], C, work, m, pitch, C, work, zeros, 0, work, to, pitch, lanes)


@function
def sums_of_products(work, a, b, C, R, pitch, sign, G, offsets, places, lanes):
    """G[i, j] += sign * sum over rows of A[r, i] B[r, j]; G is flat."""
    out, zeros = places[MATRIX], places[MATRIX] + C * pitch
    work[zeros:zeros + pitch] = 0
    multiples(offsets[0], R, pitch)
    multiples(offsets[1], C, 1)
    product(work, a, offsets[1], 0, C, offsets[0], R, work, b, pitch, C, work, zeros, 0, work, out, pitch, lanes)
    for i in range(C):
        for j in range(C):
            G[i * C + j] += sign * work[out + i * pitch + j]


# ---- couplings


@function
def evaluate(t, addresses, table, N, D, H, W, none, work, rows, pitch, offsets, places, lanes):
    """The rows of a conditioner's output, in its tape, for the first channels of rows."""
    tape, pitch_in = work[places[TAPE]:], rounded(t[GROUPS], lanes)
    copy_rows(work, rows, pitch, tape, table[0, INPUT], pitch_in, N * D * H * W, pitch_in, t[GROUPS])
    convolve(addresses[t[STATE]:], table, N, D, H, W, none, tape, work[places[NETWORK]:], offsets, lanes)


@function
def output(t, table, N, positions, C, places, lanes):
    """Of a coupling: how many channels it changes; where are the rows of t and raw, and how far apart; where are, for the channels
    that it changes, raw, which becomes the slope of log s, and s, each of all samples; and how many of these numbers a sample has."""
    half, last = C - t[GROUPS], table[table.shape[0] - 2]
    each = positions * half
    return half, places[TAPE] + last[OUTPUT], rounded(last[C_OUT], lanes), places[CHANGED], places[CHANGED] + N * each, each


@function
def couple(t, bound, to_z, table, N, positions, C, work, rows, pitch, logdet, places, lanes):
    """The channels that a coupling changes become Z, or X, given the conditioner's output; adds to logdet."""
    half, y, apart, raw, s, each = output(t, table, N, positions, C, places, lanes)
    fine, sign = s + N * each, 1.0 if to_z else -1.0
    for n in range(N):
        at, slope, scale, log = n * positions, raw + n * each, s + n * each, work[fine:fine + each]
        for r in range(positions):
            of, out = y + (at + r) * apart + half, slope + r * half
            for c in range(half):
                work[out + c] = work[of + c]
        log[:] = 0
        scales(work[slope:slope + each], work[scale:scale + each], log, t[SIGMOID], bound, sign, work[fine + each:fine + 2 * each],
               work[fine + 2 * each:fine + 3 * each])
        logdet[n] += total(log)
        for r in range(positions):
            x, of, by = rows + (at + r) * pitch + C - half, y + (at + r) * apart, scale + r * half
            if to_z:
                for c in range(half):
                    work[x + c] = (work[x + c] + work[of + c]) * work[by + c]
            else:
                for c in range(half):
                    work[x + c] = work[x + c] / work[by + c] - work[of + c]


@function
def couple_back(t, inverse, table, N, positions, C, work, rows, d, pitch, dlogdet, places, lanes):
    """The gradients of what a coupling changes, after `couple` in the opposite direction; those of its conditioner's output begin
    what goes back through that."""
    half, y, apart, raw, s, each = output(t, table, N, positions, C, places, lanes)
    dy = places[NETWORK] + table[table.shape[0] - 1, DY]
    for n in range(N):
        for r in range(n * positions, (n + 1) * positions):
            x, dx, of, to, at = rows + r * pitch + C - half, d + r * pitch + C - half, y + r * apart, dy + r * apart, r * half
            work[to + 2 * half:to + apart] = 0
            for c in range(half):
                g, scale, slope = work[dx + c], work[s + at + c], work[raw + at + c]
                if inverse:  # x is z now
                    work[to + c] = -g
                    g /= scale
                    work[to + half + c] = -(g * work[x + c] + dlogdet[n]) * slope
                else:
                    work[to + half + c] = (g * (work[x + c] + work[of + c]) * scale + dlogdet[n]) * slope
                    g *= scale
                    work[to + c] = g
                work[dx + c] = g


@function
def add_first(A, a, apart, B, b, pitch, R, C):
    """Adds rows at a to the first C channels of rows at b."""
    for r in range(R):
        row, more = B[b + r * pitch:b + r * pitch + C], A[a + r * apart:a + r * apart + C]
        for c in range(C):
            row[c] += more[c]
