"""Pieces of a group of images: positions as rows of channels, scaled, permuted, mixed, coupled and summed over.

R positions are at work; row r of their channels lies at o + r * pitch in `work`, with zeros after the channels.
"""

from .affine import shift_and_scale, shift_and_scale_vjp
from .convolutions import C_OUT, OUTPUT
from .convolutions import G as DY
from .products import Left, Rows, clear, multiples, place, place_transposed, product, rounded
from .rows import total
from .simple import ONE, ZERO, inner, once
from .vector_rows import copy_rows, merge_rows, pack_rows
from .vectors import SLACK

#: Where in `work` there are: the rows, as many more for what becomes of them, their gradients, small matrices, what
#: belongs to the channels that a coupling changes, and what a conditioner needs besides its tape.
ROWS, OTHER, GRADIENTS, MATRIX, CHANGED, NETWORK = range(6)


@inner
def rescale(work, o, R, pitch, p, C, to_z, fine):
    """Rows at o become Z, scaled and shifted, or X again."""
    clear(fine, 0, 2 * pitch)
    factor, shift = fine[:pitch], fine[pitch : 2 * pitch]
    for c in range(C):
        factor[c], shift[c] = (p[c], p[2 * C + c]) if to_z else (p[C + c], p[2 * C + c])
    for r in range(R):
        row = work[o + r * pitch : o + (r + 1) * pitch]
        if to_z:
            for c in range(pitch):
                row[c] = row[c] * factor[c] + shift[c]
        else:
            for c in range(pitch):
                row[c] = (row[c] - shift[c]) * factor[c]


@once
def scale_vjp(work, o, d, R, pitch, p, C, inverse, sign, g, fine):
    """Gradients at d of rows X at o, from those of Z or the other way round; adds those of scale and b to g."""
    clear(fine, 0, 4 * pitch)
    before, after, products, sums = (
        fine[:pitch],
        fine[pitch : 2 * pitch],
        fine[2 * pitch : 3 * pitch],
        fine[3 * pitch : 4 * pitch],
    )
    for c in range(C):
        before[c], after[c] = (p[C + c], p.dtype.type(1)) if inverse else (p.dtype.type(1), p[c])
    for r in range(R):
        row, drow = work[o + r * pitch : o + (r + 1) * pitch], work[d + r * pitch : d + (r + 1) * pitch]
        for c in range(pitch):
            dz = drow[c] * before[c]
            products[c] += dz * row[c]
            sums[c] += dz
            drow[c] = dz * after[c]
    for c in range(C):
        g[c] += sign * products[c]
        g[2 * C + c] += sign * sums[c]


@inner
def permute(work, o, to, R, pitch, order, C, back):
    """Rows at `to`: those at o with their channels in this order, or back."""
    for r in range(R):
        row, out = work[o + r * pitch : o + (r + 1) * pitch], work[to + r * pitch : to + (r + 1) * pitch]
        clear(out, C, pitch)
        for c in range(C):
            if back:
                out[order[c]] = row[c]
            else:
                out[c] = row[order[c]]


@inner
def mix(M, transposed, C, R, work, o, to, pitch, offsets, layout, lanes):
    """Rows at `to`: those at o times the matrix M (C, C), or its transpose, so that each becomes M times it."""
    m, zeros = layout[MATRIX], layout[MATRIX] + C * pitch
    clear(work, zeros, zeros + pitch)
    if transposed:
        place_transposed(M, C, C, work, m, pitch, lanes)
    else:
        place(M, C, C, work, m, pitch)
    multiples(offsets[0], R, pitch)
    multiples(offsets[1], C, ONE)
    A, B, Y = Left(work, o, offsets[0], offsets[1]), Rows(work, m, pitch), Rows(work, to, pitch)
    product(A, ZERO, R, C, B, C, Rows(work, zeros, ZERO), Y, lanes)


@inner
def sums_of_products(work, a, b, C, R, pitch, sign, G, offsets, layout, lanes):
    """G[i, j] += sign * sum over rows of A[r, i] B[r, j]; G is flat."""
    out, zeros = layout[MATRIX], layout[MATRIX] + C * pitch
    clear(work, zeros, zeros + pitch)
    multiples(offsets[0], R, pitch)
    multiples(offsets[1], C, ONE)
    A, B, Y = Left(work, a, offsets[1], offsets[0]), Rows(work, b, pitch), Rows(work, out, pitch)
    product(A, ZERO, C, R, B, C, Rows(work, zeros, ZERO), Y, lanes)
    for i in range(C):
        for j in range(C):
            G[i * C + j] += sign * work[out + i * pitch + j]


# ---- couplings


@once
def take_first(work, rows, pitch, out, o, R, C, lanes):
    """The first C channels of rows as rows of their own, of as few vectors as have room for them."""
    width = rounded(C, lanes)
    copy_rows(work, rows, pitch, out, o, width, R, width, C)


@inner
def changed(t, table, R, C, layout, lanes):
    """Of a coupling: how many channels it changes, where in the tape the rows of t and raw lie, and how far apart; and
    where arrays of these channels' numbers alone begin, how far apart: raw, which becomes the slope of log s, s, t, X,
    dX, and three more."""
    half, last = C - t.groups, table[table.shape[0] - 2]
    return half, last[OUTPUT], rounded(last[C_OUT], lanes), layout[CHANGED], R * half + SLACK


@once
def couple(t, bound, to_z, table, N, R, C, tape, work, rows, pitch, logdet, layout, lanes):
    """The channels that a coupling changes become Z, or X, given the conditioner's output; adds to logdet."""
    half, y, apart, raw, size = changed(t, table, R, C, layout, lanes)
    n, width, s, shift, x, log = (
        R * half,
        rounded(half, lanes),
        raw + size,
        raw + 2 * size,
        raw + 3 * size,
        raw + 5 * size,
    )
    pack_rows(tape, y + half, apart, work, raw, half, R, width)
    pack_rows(tape, y, apart, work, shift, half, R, width)
    pack_rows(work, rows + C - half, pitch, work, x, half, R, width)
    clear(work, log, log + n)
    shift_and_scale(
        work[x : x + n],
        work[shift : shift + n],
        work[raw : raw + n],
        work[s : s + n],
        to_z,
        t.scale,
        bound,
        work[log : log + n],
        work[log + size : log + size + n],
        work[log + 2 * size : log + 2 * size + n],
    )
    for i in range(N):
        logdet[i] += total(work[log + i * (n // N) : log + (i + 1) * (n // N)])
    merge_rows(work, x, half, work, rows + C - half, pitch, R, width, half)


@once
def couple_vjp(t, inverse, table, N, R, C, work, d, pitch, dlogdet, layout, lanes):
    """The gradients of what a coupling changes, after `couple` in the opposite direction; those of its conditioner's
    output begin what goes back through that."""
    half, y, apart, raw, size = changed(t, table, R, C, layout, lanes)
    n, width, at, each, draw = R * half, rounded(half, lanes), raw + 4 * size, raw + 5 * size, raw + 6 * size
    pack_rows(work, d + C - half, pitch, work, at, half, R, width)
    for i in range(N):
        for j in range(each + i * (n // N), each + (i + 1) * (n // N)):
            work[j] = dlogdet[i]
    slope, s, shift = work[raw : raw + n], work[raw + size : raw + size + n], work[raw + 2 * size : raw + 2 * size + n]
    shift_and_scale_vjp(
        work[at : at + n],
        work[raw + 3 * size : raw + 3 * size + n],
        shift,
        slope,
        s,
        inverse,
        work[each : each + n],
        shift,
        work[draw : draw + n],
    )
    merge_rows(work, at, half, work, d + C - half, pitch, R, width, half)
    dy = layout[NETWORK] + table[table.shape[0] - 1, DY]
    copy_rows(work, raw + 2 * size, half, work, dy, apart, R, apart, half)
    merge_rows(work, draw, half, work, dy + half, apart, R, width, half)


@once
def add_first(A, a, apart, B, b, pitch, R, C):
    """Adds rows at a to the first C channels of rows at b."""
    for r in range(R):
        row, more = B[b + r * pitch : b + r * pitch + C], A[a + r * apart : a + r * apart + C]
        for c in range(C):
            row[c] += more[c]
