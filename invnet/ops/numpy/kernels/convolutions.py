"""A stack of convolutions and its gradients, each one compiled call: what a conditioner does with a tile.

In one call there is no Python between layers, and no lock of Python's between threads. What gradients need lies in one
array, `tape`, everything else in another, `work`, at the offsets of a plan: rows of whole vectors, one for each
position, and padded images where a convolution reads taps.
"""

import functools
from collections import namedtuple

import numpy as np

from ...activations import FROM_ARGUMENT
from .activations import activate, address_of, multiply_by_slope
from .products import (
    Left,
    Rows,
    add_to_rows,
    clear,
    multiples,
    place,
    place_transposed,
    product,
    product_of_transpose,
    rounded,
    sum_rows,
    take_rows,
)
from .simple import ONE, ZERO, inner, kernel, once
from .tables import numbers_at
from .taps import find_taps, pad, rows_of, sum_taps
from .vector_rows import add_rows
from .vectors import BYTES, ROWS, SLACK
from .winograd import (
    ONE_POINT,
    PATCH,
    POINTS,
    evaluate,
    evaluate_taps,
    evaluate_taps_vjp,
    evaluate_vjp,
    interpolate,
    interpolate_vjp,
)

#: rows that are worked on at one time: 16 blocks of a product, which stay near; 4 % faster than 8, and than 32
ROWS_AT_ONCE = 224

#: A row of a plan, for a layer: numbers of channels, kernel, whether it is transposed, the activation's address; at how
#: many points patches are multiplied (1: there are no patches, and each position is one), patches in a row of
#: positions, taps of that row that are left to products, and how far apart positions and points are in padded images;
#: offsets in `tape` of its input's rows, of their padded image, of its output and the same before the activation; in
#: the flat array of gradients of those of weights and bias.
(
    C_IN,
    C_OUT,
    KD,
    KH,
    KW,
    TRANSPOSED,
    ACTIVATION,
    AT,
    PATCHES,
    ALONG,
    STEP,
    PLANE,
    INPUT,
    PADDED,
    OUTPUT,
    BEFORE,
    DW,
    DB,
) = range(18)
#: The last row, offsets in `work`: zeros, the bias, weights in whole vectors, their values at points, the transpose of
#: either, columns of taps, values of some patches, some rows; two gradients of rows, a padded gradient, the gradient of
#: weights, a panel of a product. A forward pass uses what is before the first gradient.
ZEROS, BIAS, WEIGHTS, TAP_VALUES, TRANSPOSE, TAPS, VALUES, FEW_ROWS, G, OTHER, PADDED_G, PRODUCT, PANEL = range(13)

#: The table, how many floats `tape` has and `work`, forward and backward, how long each array of offsets is, and how
#: many floats all gradients are.
Plan = namedtuple("Plan", "table tape forward backward offsets gradients")


@functools.lru_cache(maxsize=4096)
def plan(layers, N, D, H, W, itemsize, keep):
    """The plan for layers, each (shape of the weights, activation, transposed), on images x (N, D, H, W, C).

    Without `keep`, when no gradient is wanted, the output of a layer overwrites that of the layer before the last.
    """
    lanes, R = BYTES // itemsize, N * D * H * W
    table, gradients, offsets = np.zeros((len(layers) + 1, 18), np.int64), 0, 0
    ends, largest = {"tape": 0, "work": 0}, dict.fromkeys(range(13), 0)

    def take(where, floats):
        start = ends[where]
        ends[where] += rounded(floats, lanes) + SLACK
        return start

    widths = [shape[-2] if transposed else shape[-1] for shape, _, transposed in layers]
    spare = [take("tape", (R + PATCH) * rounded(max(widths), lanes)) for _ in range(0 if keep else 2)]
    for i, (shape, activation, transposed) in enumerate(layers):
        *kernel, narrow, wide = shape
        kd, kh, kw = (1,) * (3 - len(kernel)) + tuple(kernel)
        C_in, C_out = (wide, narrow) if transposed else (narrow, wide)
        points, Q, k = (POINTS, -(-W // PATCH), 1) if kw == 3 and W > 2 else (1, W, kw)
        taps, pitch, K, step = (
            kd * kh * kw,
            rounded(wide, lanes),
            kd * kh * k * narrow,
            rounded(narrow, lanes) if points > 1 else narrow,
        )
        plane, column = N * (D + kd - 1) * (H + kh - 1) * (Q + k - 1) * step, rounded(K, lanes)
        rows_in, rows = (R + PATCH) * rounded(C_in, lanes), (R + PATCH) * rounded(C_out, lanes)
        t = table[i]
        t[:12] = (
            C_in,
            C_out,
            kd,
            kh,
            kw,
            transposed,
            address_of(activation, "f" if itemsize == 4 else "d"),
            points,
            Q,
            k,
            step,
            plane,
        )
        t[INPUT] = table[i - 1, OUTPUT] if i else take("tape", rows_in)
        t[PADDED] = take("tape", points * plane) if taps > 1 and not transposed else 0
        t[OUTPUT] = take("tape", rows) if keep else spare[i % 2]
        t[BEFORE] = take("tape", rows) if keep and activation in FROM_ARGUMENT else t[OUTPUT]
        t[DW], t[DB] = gradients, gradients + taps * narrow * wide
        gradients = int(t[DB]) + C_out
        offsets = max(offsets, R, 2 * taps, taps * C_in, taps * C_out)
        patched = points > 1
        for key, floats in (
            (ZEROS, max(column, pitch)),
            (BIAS, C_out),
            (WEIGHTS, taps * narrow * pitch),
            (TAP_VALUES, points * K * pitch * patched),
            (TRANSPOSE, points * pitch * column),
            (TAPS, points * N * D * H * Q * column if taps > 1 or transposed else 0),
            (VALUES, points * (ROWS_AT_ONCE // PATCH * pitch + SLACK) * patched),
            (FEW_ROWS, max(PATCH * pitch, (PATCH * Q + 2 + POINTS) * step) * patched),
            (G, max(rows_in, rows)),
            (OTHER, max(rows_in, rows)),
            (PADDED_G, points * plane if transposed else 0),
            (PRODUCT, points * K * pitch),
            (PANEL, ROWS_AT_ONCE * rounded(ROWS, lanes)),
        ):
            largest[key] = max(largest[key], floats)
    for key, floats in largest.items():
        if key == G:
            forward = ends["work"]
        table[-1, key] = take("work", floats)
    return Plan(table, ends["tape"], forward, ends["work"], offsets + SLACK, gradients)


@inner
def right_factor(V, t, narrow, wide, K, transposed, work, scratch, lanes):
    """Weights as right factors (K, wide) of products, one after the other where there is one for each point, or the
    transposes: the array, and where they begin."""
    B, bo, pitch, column = V, 0, rounded(wide, lanes), rounded(K, lanes)
    taps = t[KD] * t[KH] * t[KW]
    if wide % lanes:  # else rows of whole vectors serve where they are
        B, bo = work, scratch[WEIGHTS]
        place(V, taps * narrow, wide, work, bo, pitch)
    if t[AT] > 1:
        evaluate_taps(B, bo, taps // 3, narrow * pitch, work, scratch[TAP_VALUES])
        B, bo = work, scratch[TAP_VALUES]
    if transposed:
        for i in range(t[AT]):
            place_transposed(
                B[bo + i * K * pitch :], K, pitch, work, scratch[TRANSPOSE] + i * pitch * column, column, lanes
            )
        B, bo = work, scratch[TRANSPOSE]
    return B, bo


@inner
def pad_images(X, x, pitch, out, o, t, narrow, N, D, H, W, work, few):
    """Images of the rows at x with zeros around them at o, or their patches, as products read them."""
    if t[AT] > 1:
        interpolate_vjp(X, x, pitch, out, o, t[PLANE], N, D, H, W, t[KD], t[KH], work, few)
    else:
        pad(X[x:], pitch, out, o, N, D, H, W, narrow, t[KD], t[KH], t[KW])


@inner
def sum_columns(work, scratch, column, bias, Y, y, pitch, t, narrow, N, D, H, W, offsets):
    """Rows at y: the bias and the columns of all taps that reach a position."""
    if t[AT] > 1:
        interpolate(
            work,
            scratch[TAPS],
            column,
            bias,
            Y,
            y,
            pitch,
            N,
            D,
            H,
            W,
            narrow,
            t[KD],
            t[KH],
            scratch[FEW_ROWS],
            scratch[ZEROS],
            offsets,
        )
    else:
        sum_taps(work, scratch[TAPS], column, bias, Y, y, pitch, N, D, H, W, narrow, t[KD], t[KH], t[KW], offsets)


@once
def take_gradient(work, dW, t, taps, narrow, wide, pitch, gradients):
    """Adds to those of the weights what is in rows `pitch` apart, a plane of them for each point."""
    along, size = t[KW] if t[AT] > 1 else ONE, narrow * pitch
    if t[AT] > 1:
        evaluate_taps_vjp(work, dW, taps // along, size)
    for j in range(taps // along):
        for k in range(along):
            to, at = t[DW] + (j * along + k) * narrow * wide, dW + (k * (taps // along) + j) * size
            for r in range(narrow):
                row, sums = work[at + r * pitch : at + (r + 1) * pitch], gradients[to + r * wide : to + (r + 1) * wide]
                for c in range(wide):
                    sums[c] += row[c]


@once
def convolve(addresses, table, N, D, H, W, added, tape, work, offsets, lanes):
    """From x's rows to y's, both in `tape`, for images (N, D, H, W). The weights and biases in turn are at `addresses`.

    `added` (groups, C_out of the first layer), or nothing of it, goes into the first activation, one row of it for
    as many positions as there are.
    """
    R, L, scratch = N * D * H * W, table.shape[0] - 1, table[table.shape[0] - 1]
    rows, columns, group, zeros, bias = (
        offsets[0],
        offsets[1],
        R // max(1, added.shape[0]),
        scratch[ZEROS],
        scratch[BIAS],
    )
    clear(work, zeros, bias)
    for l in range(L):
        t = table[l]
        C_in, C_out, transposed, points, Q = t[C_IN], t[C_OUT], t[TRANSPOSED] > 0, t[AT], t[PATCHES]
        narrow, wide = (C_out, C_in) if transposed else (C_in, C_out)
        K, P, patch = t[KD] * t[KH] * t[ALONG] * narrow, N * D * H * Q, PATCH if points > 1 else 1
        pitch_in, pitch, column, some, A = (
            rounded(C_in, lanes),
            rounded(C_out, lanes),
            rounded(K, lanes),
            ROWS_AT_ONCE // patch,
            t[INPUT],
        )
        values, plane = scratch[VALUES], some * rounded(wide, lanes) + SLACK
        V = numbers_at(addresses[2 * l], t[KD] * t[KH] * t[KW] * C_in * C_out, tape)
        place(numbers_at(addresses[2 * l + 1], C_out, tape), ONE, C_out, work, bias, pitch)
        multiples(rows, R, pitch_in)
        multiples(columns, C_in, ONE)
        B, bo = right_factor(V, t, narrow, wide, K, transposed, work, scratch, lanes)
        if t[KD] * t[KH] * t[KW] > 1 and not transposed:
            pad_images(tape, A, pitch_in, tape, t[PADDED], t, narrow, N, D, H, W, work, scratch[FEW_ROWS])
            find_taps(rows, columns, N, D, H, Q, narrow, t[STEP], t[KD], t[KH], t[ALONG])
            A = t[PADDED]
        for r in range(0, P, some):
            n = min(some, P - r)
            if transposed:
                if points > 1:
                    evaluate(tape, A, pitch_in, r, n, Q, W, work, values, plane, scratch[FEW_ROWS])
                for i in range(points):
                    X, x = (work, values + i * plane) if points > 1 else (tape, A + r * pitch_in)
                    left, right = Left(X, x, rows, columns), Rows(B, bo + i * pitch_in * column, column)
                    out = Rows(work, scratch[TAPS] + (i * P + r) * column, column)
                    product(left, ZERO, n, wide, right, K, Rows(work, zeros, ZERO), out, lanes)
            else:
                for i in range(points):
                    Y, y = (work, values + i * plane) if points > 1 else (tape, t[OUTPUT] + r * pitch)
                    left, right = Left(tape, A + i * t[PLANE], rows, columns), Rows(B, bo + i * K * pitch, pitch)
                    first = Rows(work, bias if points == 1 or i == ONE_POINT else zeros, ZERO)
                    product(left, r, r + n, K, right, wide, first, Rows(Y, y, pitch), lanes)
                if points > 1:
                    evaluate_vjp(work, values, plane, tape, t[OUTPUT], pitch, r, n, Q, W)
        if transposed:
            sum_columns(work, scratch, column, bias, tape, t[OUTPUT], pitch, t, narrow, N, D, H, W, rows)
        y, before = t[OUTPUT], t[BEFORE]
        if l == 0 and added.size > 0:
            add_to_rows(tape[y : y + R * pitch], pitch, added, group)
        activate(tape[y : y + R * pitch], tape[before : before + R * pitch], t[ACTIVATION])


@once
def convolve_vjp(addresses, table, N, D, H, W, dadded, tape, work, offsets, gradients, lanes):
    """Where in `work` the rows of dx are, made of those of dy at G, after `convolve` with this tape.

    Adds to the gradients of weights and biases in turn, flat, and to dadded.
    """
    R, L, scratch = N * D * H * W, table.shape[0] - 1, table[table.shape[0] - 1]
    rows, columns, steps, ones, group = offsets[0], offsets[1], offsets[2], offsets[3], R // max(1, dadded.shape[0])
    multiples(ones, ones.size, ONE)
    g, other, zeros, values, dW = scratch[G], scratch[OTHER], scratch[ZEROS], scratch[VALUES], scratch[PRODUCT]
    db, nothing = scratch[BIAS], Rows(work, zeros, ZERO)
    clear(work, zeros, db)
    for back in range(L):
        l = L - 1 - back
        t = table[l]
        C_in, C_out, transposed, points, Q = t[C_IN], t[C_OUT], t[TRANSPOSED] > 0, t[AT], t[PATCHES]
        narrow, wide = (C_out, C_in) if transposed else (C_in, C_out)
        taps, K = t[KD] * t[KH] * t[KW], t[KD] * t[KH] * t[ALONG] * narrow
        P, patch = N * D * H * Q, PATCH if points > 1 else 1
        pitch_in, pitch = rounded(C_in, lanes), rounded(C_out, lanes)
        pitch_wide, column = rounded(wide, lanes), rounded(K, lanes)
        some, reads, A = ROWS_AT_ONCE // patch, taps > 1 and not transposed, t[INPUT]
        plane = some * pitch_wide + SLACK
        V = numbers_at(addresses[2 * l], taps * C_in * C_out, tape)
        clear(work, db, db + pitch)
        multiples(steps, R, pitch_wide)
        y, before = t[OUTPUT], t[BEFORE]
        dy = work[g : g + R * pitch]
        multiply_by_slope(dy, tape[y : y + R * pitch], tape[before : before + R * pitch], t[ACTIVATION])
        add_rows(work, g, pitch, R, work, db, pitch)
        if l == 0 and dadded.size > 0:
            sum_rows(dy, pitch, dadded, group)
        B, bo = right_factor(V, t, narrow, wide, K, not transposed, work, scratch, lanes)
        if transposed:
            pad_images(work, g, pitch, work, scratch[PADDED_G], t, narrow, N, D, H, W, work, scratch[FEW_ROWS])
        else:
            multiples(rows, R, pitch_in)
            multiples(columns, C_in, ONE)
        if transposed or reads:
            find_taps(rows, columns, N, D, H, Q, narrow, t[STEP], t[KD], t[KH], t[ALONG])
        if reads:
            A = t[PADDED]
        # the wide rows and the images of narrow ones
        S, s, X, x = (tape, A, work, scratch[PADDED_G]) if transposed else (work, g, tape, A)
        for r in range(0, P, some):
            n = min(some, P - r)
            F, f = (work, values) if points > 1 else (S, s + r * pitch_wide)
            if points > 1:
                evaluate(S, s, pitch_wide, r, n, Q, W, work, values, plane, scratch[FEW_ROWS])
            for i in range(points):
                factor, sums = Rows(F, f + i * plane, pitch_wide), Rows(work, dW + i * K * pitch_wide, pitch_wide)
                first = sums if r else nothing
                if reads or transposed or wide < 256:
                    taps_of_x = Left(X, x + i * t[PLANE], columns, rows[r:])
                    product(taps_of_x, ZERO, K, n, factor, wide, first, sums, lanes)
                else:
                    left, panel = Rows(X, x + r * pitch_in, pitch_in), scratch[PANEL]
                    product_of_transpose(left, K, n, factor, wide, first, sums, work, panel, rows, columns, lanes)
                if transposed:  # the values of points that are done give way to those of gradients
                    left, right = Left(X, x + i * t[PLANE], rows, columns), Rows(B, bo + i * K * pitch_wide, pitch_wide)
                    out = Rows(work, values + i * plane if points > 1 else other + r * pitch_in, pitch_wide)
                    product(left, r, r + n, K, right, wide, nothing, out, lanes)
                else:
                    left, right = Left(F, f + i * plane, steps, ones), Rows(B, bo + i * pitch_wide * column, column)
                    out = Rows(work, (scratch[TAPS] if reads else other) + (i * P + r) * column, column)
                    product(left, ZERO, n, wide, right, K, nothing, out, lanes)
            if transposed and points > 1:
                evaluate_vjp(work, values, plane, work, other, pitch_in, r, n, Q, W)
        if reads:
            sum_columns(work, scratch, column, zeros, work, other, pitch_in, t, narrow, N, D, H, W, rows)
        if R > 0:
            take_gradient(work, dW, t, taps, narrow, wide, pitch_wide, gradients)
        for c in range(C_out):
            gradients[t[DB] + c] += work[db + c]
        g, other = other, g
    return g


@kernel("void(int64[::1], int64[:,::1], $[:,:,:,:,:], $[:,::1], $[::1], $[::1], int64[:,::1], $[:,::1], int64)")
def forward(addresses, table, x, added, tape, work, offsets, y, lanes):
    """y (R, C_out) of x (N, D, H, W, C_in), R = N D H W, by `convolve`."""
    N, D, H, W, _ = x.shape
    L = table.shape[0] - 1
    rows_of(x, tape, table[0, INPUT], rounded(table[0, C_IN], lanes))
    convolve(addresses, table, N, D, H, W, added, tape, work, offsets, lanes)
    take_rows(tape[table[L - 1, OUTPUT] :], rounded(table[L - 1, C_OUT], lanes), y)


@kernel("void(int64[::1], int64[:,::1], $[::1], $[::1], int64[:,::1], $[:,:,:,:,:], $[:,::1], $[::1], $[:,::1], int64)")
def backward(addresses, table, tape, work, offsets, dy, dx, gradients, dadded, lanes):
    """dx (R, C_in), gradients and dadded, by `convolve_vjp`."""
    N, D, H, W, _ = dy.shape
    L = table.shape[0] - 1
    rows_of(dy, work, table[L, G], rounded(table[L - 1, C_OUT], lanes))
    g = convolve_vjp(addresses, table, N, D, H, W, dadded, tape, work, offsets, gradients, lanes)
    take_rows(work[g:], rounded(table[0, C_IN], lanes), dx)
