"""A stack of convolutions and its gradients, each one compiled call: what a conditioner does with a tile.

In one call there is no Python between layers, and no lock of Python's between threads. What gradients need lies in one
array, `tape`, everything else in another, `work`, at the offsets of a plan: rows of whole vectors, one for each position,
and padded images where a convolution reads taps.
"""

import functools
from collections import namedtuple

import numpy as np

from .activations import NUMBERS, SILU, activate, activate_back
from .kernels import ONE, ZERO, kernel, once
from .products import add_to_rows, clear, multiples, place, place_transposed, product, product_of_transpose, rounded, sum_all_rows, sum_rows, take_rows
from .stages import numbers_at
from .taps import all_taps, first_taps, pad, rows_of, sum_taps
from .vectors import BYTES, ROWS, SLACK

#: rows that are worked on at one time: 16 blocks of a product, which stay near; 4 % faster than 8, and than 32
ROWS_AT_ONCE = 224

#: A row of a plan, for a layer: numbers of channels, kernel, whether it is transposed, the activation's number; offsets in
#: `tape` of its input's rows, of their padded image, of its output and the same before the activation; in `work` of weights
#: and bias; in the flat array of gradients of theirs.
C_IN, C_OUT, KD, KH, KW, TRANSPOSED, ACTIVATION, INPUT, PADDED, OUTPUT, BEFORE, WEIGHTS, BIAS, DW, DB = range(15)
#: The last row, offsets in `work`: zeros, columns of taps, two gradients of rows, a padded gradient, the gradient of
#: weights, a panel of a product. A forward pass uses the first two.
ZEROS, TAPS, G, OTHER, PADDED_G, PRODUCT, PANEL = range(7)

#: The table, how many floats `tape` has and `work`, forward and backward, how long each array of offsets is, and how many
#: floats all gradients are.
Plan = namedtuple("Plan", "table tape forward backward offsets gradients")


@functools.lru_cache(maxsize=4096)
def plan(layers, N, D, H, W, itemsize, keep):
    """The plan for layers, each (shape of the weights, activation, transposed), on images x (N, D, H, W, C).

    Without `keep`, when no gradient is wanted, the output of a layer overwrites that of the layer before the last.
    """
    lanes, R = BYTES // itemsize, N * D * H * W
    table, gradients, offsets = np.zeros((len(layers) + 1, 15), np.int64), 0, 0
    ends, largest = {"tape": 0, "work": 0}, dict.fromkeys(range(7), 0)

    def take(where, floats):
        start = ends[where]
        ends[where] += rounded(floats, lanes) + SLACK
        return start

    widths = [shape[-2] if transposed else shape[-1] for shape, _, transposed in layers]
    spare = [take("tape", R * rounded(max(widths), lanes)) for _ in range(0 if keep else 2)]
    for i, (shape, activation, transposed) in enumerate(layers):
        *kernel, narrow, wide = shape
        kd, kh, kw = (1,) * (3 - len(kernel)) + tuple(kernel)
        C_in, C_out = (wide, narrow) if transposed else (narrow, wide)
        taps, around = kd * kh * kw, N * (D + kd - 1) * (H + kh - 1) * (W + kw - 1)
        rows_in, rows = R * rounded(C_in, lanes), R * rounded(C_out, lanes)
        t = table[i]
        t[:7] = C_in, C_out, kd, kh, kw, transposed, NUMBERS[activation]
        t[INPUT] = table[i - 1, OUTPUT] if i else take("tape", rows_in)
        t[PADDED] = take("tape", around * C_in) if taps > 1 and not transposed else 0
        t[OUTPUT] = take("tape", rows) if keep else spare[i % 2]
        t[BEFORE] = take("tape", rows) if keep and t[ACTIVATION] == SILU else t[OUTPUT]
        t[WEIGHTS] = take("work", max(taps * narrow * rounded(wide, lanes), wide * rounded(taps * narrow, lanes)))
        t[BIAS] = take("work", C_out)
        t[DW], t[DB] = gradients, gradients + taps * narrow * wide
        gradients = int(t[DB]) + C_out
        offsets = max(offsets, R, taps * C_in, taps * C_out)
        for key, floats in ((ZEROS, max(taps * narrow, wide)), (TAPS, R * rounded(taps * narrow, lanes) if taps > 1 or transposed else 0),
                            (G, max(rows_in, rows)), (OTHER, max(rows_in, rows)), (PADDED_G, around * C_out if transposed else 0),
                            (PRODUCT, taps * narrow * rounded(wide, lanes)), (PANEL, ROWS_AT_ONCE * rounded(ROWS, lanes))):
            largest[key] = max(largest[key], floats)
    for key, floats in largest.items():
        if key == G:
            forward = ends["work"]
        table[-1, key] = take("work", floats)
    return Plan(table, ends["tape"], forward, ends["work"], offsets + SLACK, gradients)


@once
def convolve(addresses, table, N, D, H, W, added, tape, work, offsets, lanes):
    """From x's rows to y's, both in `tape`, for images (N, D, H, W). The weights and biases in turn are at `addresses`.

    `added` (groups, C_out of the first layer), or nothing of it, goes into the first activation, one row of it for
    as many positions as there are.
    """
    R, L, scratch = N * D * H * W, table.shape[0] - 1, table[table.shape[0] - 1]
    rows, columns, group = offsets[0], offsets[1], R // max(1, added.shape[0])
    clear(work, scratch[ZEROS], scratch[TAPS])
    for l in range(L):
        t = table[l]
        C_in, C_out, kd, kh, kw, transposed = t[C_IN], t[C_OUT], t[KD], t[KH], t[KW], t[TRANSPOSED]
        taps, pitch_in, pitch, A, wide = kd * kh * kw, rounded(C_in, lanes), rounded(C_out, lanes), t[INPUT], 0
        V = numbers_at(addresses[2 * l], taps * C_in * C_out, tape)
        place(numbers_at(addresses[2 * l + 1], C_out, tape), ONE, C_out, work, t[BIAS], pitch)
        multiples(rows, R, pitch_in)
        multiples(columns, C_in, ONE)
        if transposed:
            wide = rounded(taps * C_out, lanes)
            place_transposed(V, taps * C_out, C_in, work, t[WEIGHTS], wide, lanes)
            product(tape, A, rows, ZERO, R, columns, C_in, work, t[WEIGHTS], wide, taps * C_out, work, scratch[ZEROS], ZERO,
                    work, scratch[TAPS], wide, lanes)
            sum_taps(work, scratch[TAPS], wide, t[BIAS], tape, t[OUTPUT], pitch, N, D, H, W, C_out, kd, kh, kw, rows, columns)
        else:
            if C_out % lanes:
                place(V, taps * C_in, C_out, work, t[WEIGHTS], pitch)
            if taps > 1:
                pad(tape[A:], pitch_in, tape, t[PADDED], N, D, H, W, C_in, kd, kh, kw)
                first_taps(rows, N, D, H, W, C_in, kd, kh, kw)
                all_taps(columns, H, W, C_in, kd, kh, kw)
                A = t[PADDED]
        B, bo = (work, t[WEIGHTS]) if C_out % lanes else (V, 0)  # rows of whole vectors serve where they are
        for r in range(0, R, ROWS_AT_ONCE):
            n, at = min(ROWS_AT_ONCE, R - r), t[OUTPUT] + r * pitch
            if not transposed:
                product(tape, A, rows, r, r + n, columns, taps * C_in, B, bo, pitch, C_out, work, t[BIAS], ZERO,
                        tape, at, pitch, lanes)
            if l == 0 and added.size > 0:
                add_to_rows(tape[at:at + n * pitch], pitch, added, r, group)
            activate(tape[at:at + n * pitch], tape[t[BEFORE] + r * pitch:t[BEFORE] + (r + n) * pitch], t[ACTIVATION])


@once
def convolve_back(addresses, table, N, D, H, W, dadded, tape, work, offsets, gradients, lanes):
    """Where in `work` the rows of dx are, made of those of dy at G, after `convolve` with this tape.

    Fills the gradients of weights and biases in turn, flat, and dadded, which start at zero.
    """
    R, L, scratch = N * D * H * W, table.shape[0] - 1, table[table.shape[0] - 1]
    rows, columns, steps, ones, group = offsets[0], offsets[1], offsets[2], offsets[3], R // max(1, dadded.shape[0])
    multiples(ones, ones.size, ONE)
    g, other, zeros = scratch[G], scratch[OTHER], scratch[ZEROS]
    clear(work, zeros, scratch[TAPS])
    for back in range(L):
        l = L - 1 - back
        t = table[l]
        C_in, C_out, kd, kh, kw, transposed = t[C_IN], t[C_OUT], t[KD], t[KH], t[KW], t[TRANSPOSED]
        taps, pitch_in, pitch, A, target = kd * kh * kw, rounded(C_in, lanes), rounded(C_out, lanes), t[INPUT], other
        V = numbers_at(addresses[2 * l], taps * C_in * C_out, tape)
        narrow, wide = (taps * C_out, C_in) if transposed else (taps * C_in, C_out)
        pitch_wide, pitch_narrow, reads = rounded(wide, lanes), rounded(narrow, lanes), taps > 1 and not transposed
        db = gradients[t[DB]:t[DB] + C_out]
        multiples(steps, R, pitch)
        if transposed:
            if wide % lanes:
                place(V, narrow, wide, work, t[WEIGHTS], pitch_wide)
            first_taps(rows, N, D, H, W, C_out, kd, kh, kw)
            all_taps(columns, H, W, C_out, kd, kh, kw)
        else:
            place_transposed(V, narrow, wide, work, t[WEIGHTS], pitch_narrow, lanes)
            multiples(rows, R, pitch_in)
            multiples(columns, C_in, ONE)
            if reads:
                first_taps(rows, N, D, H, W, C_in, kd, kh, kw)
                all_taps(columns, H, W, C_in, kd, kh, kw)
                A, target = t[PADDED], scratch[TAPS]
        for r in range(0, R, ROWS_AT_ONCE):
            n, at, dW = min(ROWS_AT_ONCE, R - r), g + r * pitch, scratch[PRODUCT]
            activate_back(work[at:at + n * pitch], tape[t[OUTPUT] + r * pitch:t[OUTPUT] + (r + n) * pitch],
                          tape[t[BEFORE] + r * pitch:t[BEFORE] + (r + n) * pitch], t[ACTIVATION])
            sum_all_rows(work[at:at + n * pitch], pitch, db)
            if l == 0 and dadded.size > 0:
                sum_rows(work[at:at + n * pitch], pitch, dadded, r, group)
            if not transposed:
                so, lds = (dW, pitch_wide) if r else (zeros, ZERO)
                if reads or wide < 256:
                    product(tape, A, columns, ZERO, narrow, rows[r:], n, work, at, pitch, wide, work, so, lds, work, dW, pitch_wide, lanes)
                else:
                    product_of_transpose(tape, A + r * pitch_in, pitch_in, narrow, n, work, at, pitch, wide, work, so, lds,
                                         work, dW, pitch_wide, work, scratch[PANEL], rows, columns, lanes)
                product(work, g, steps, r, r + n, ones, wide, work, t[WEIGHTS], pitch_narrow, narrow, work, zeros, ZERO,
                        work, target + r * pitch_narrow, pitch_narrow, lanes)
        if reads:
            sum_taps(work, target, pitch_narrow, zeros, work, other, pitch_in, N, D, H, W, C_in, kd, kh, kw, rows, columns)
        if transposed:
            B, bo = (work, t[WEIGHTS]) if wide % lanes else (V, 0)
            pad(work[g:], pitch, work, scratch[PADDED_G], N, D, H, W, C_out, kd, kh, kw)
            for r in range(0, R, ROWS_AT_ONCE):
                n, at, dW = min(ROWS_AT_ONCE, R - r), A + r * pitch_in, scratch[PRODUCT]
                so, lds = (dW, pitch_wide) if r else (zeros, ZERO)
                product(work, scratch[PADDED_G], columns, ZERO, narrow, rows[r:], n, tape, at, pitch_in, wide, work, so, lds,
                        work, dW, pitch_wide, lanes)
                product(work, scratch[PADDED_G], rows, r, r + n, columns, narrow, B, bo, pitch_wide, wide, work, zeros, ZERO,
                        work, other + r * pitch_in, pitch_in, lanes)
        if R > 0:
            take_rows(work[scratch[PRODUCT]:], pitch_wide, gradients[t[DW]:t[DW] + narrow * wide].reshape((narrow, wide)))
        g, other = other, g
    return g


@kernel("void(int64[::1], int64[:,::1], $[:,:,:,:,:], $[:,::1], $[::1], $[::1], int64[:,::1], $[:,::1], int64)")
def forward(addresses, table, x, added, tape, work, offsets, y, lanes):
    """y (R, C_out) of x (N, D, H, W, C_in), R = N D H W, by `convolve`."""
    N, D, H, W, _ = x.shape
    L = table.shape[0] - 1
    rows_of(x, tape, table[0, INPUT], rounded(table[0, C_IN], lanes))
    convolve(addresses, table, N, D, H, W, added, tape, work, offsets, lanes)
    take_rows(tape[table[L - 1, OUTPUT]:], rounded(table[L - 1, C_OUT], lanes), y)


@kernel("void(int64[::1], int64[:,::1], $[::1], $[::1], int64[:,::1], $[:,:,:,:,:], $[:,::1], $[::1], $[:,::1], int64)")
def backward(addresses, table, tape, work, offsets, dy, dx, gradients, dadded, lanes):
    """dx (R, C_in), gradients and dadded, by `convolve_back`."""
    N, D, H, W, _ = dy.shape
    L = table.shape[0] - 1
    rows_of(dy, work, table[L, G], rounded(table[L - 1, C_OUT], lanes))
    g = convolve_back(addresses, table, N, D, H, W, dadded, tape, work, offsets, gradients, lanes)
    take_rows(work[g:], rounded(table[0, C_IN], lanes), dx)
