"""The affine map of a row of numbers, given rows t and raw, and its gradient: z = (x + t) s, s = scale(raw).

Every affine layer of the NumPy engine computes it here: those of fused groups, and `couple`, `uncouple` and
`couple_vjp`, which take rows of channels as they lie.
"""

import math

import numpy as np

from .exponentials import log1p, split
from .matrices import copy
from .simple import ZERO, inner, kernel

#: Numbers of the scales. With BOUNDED goes a = log bound, with the others a = log of the largest scale.
BOUNDED, SIGMOID, DOUBLED = range(3)
#: scale -> its number
SCALES = {"bounded": BOUNDED, "sigmoid": SIGMOID, "doubled": DOUBLED}
#: Numbers that are computed at a time where rows are short.
BLOCK = 512


@inner
def scales(raw, s, logdet, scale, a, sign, Y, E):
    """s of raw, which becomes the slope of log s; adds log s to logdet with a sign. Y and E are scratch.

    Rows may be longer than logdet, by what makes them whole vectors: up to 15 numbers more take less time than these
    one by one.
    """
    n, zero, one, two, four = s.size, s.dtype.type(0), s.dtype.type(1), s.dtype.type(2), s.dtype.type(4)
    sign = s.dtype.type(sign)
    if scale != BOUNDED:  # top * sigmoid(raw + shift)
        shift, top = (two, one) if scale == SIGMOID else (zero, two)
        log_top = s.dtype.type(a)
        for i in range(n):
            power, p = split(-abs(raw[i] + shift))
            Y[i], E[i] = raw[i] + shift, power * p + power
        for i in range(n):
            large, small = one / (one + E[i]), E[i] / (one + E[i])
            s[i], raw[i] = (top * large, small) if Y[i] > 0 else (top * small, large)
        for i in range(logdet.size):
            logdet[i] += sign * (min(Y[i], zero) - log1p(E[i]) + log_top)
        return
    a, over_a = s.dtype.type(a), s.dtype.type(1 / a)
    for i in range(n):  # tanh and its slope, without cancellation, from exp(-2 |raw / a|) - 1
        power, p = split(-two * abs(raw[i]) * over_a)
        e = power * p + (power - one)
        over = one / (two + e)
        Y[i] = math.copysign(-a * e * over, raw[i])
        raw[i] = four * (power * p + power) * over * over
    for i in range(logdet.size):
        logdet[i] += sign * Y[i]
    for i in range(n):
        power, p = split(-abs(Y[i]))
        e = power * p + power
        s[i] = one / e if Y[i] > 0 else e


@inner
def shift_and_scale(x, shift, raw, s, to_z, scale, a, logdet, Y, E):
    """x becomes z, or z becomes x; s is set, raw becomes the slope of log s, and log s is added to logdet, or
    subtracted
    on the way to x. Y and E are scratch.
    """
    scales(raw, s, logdet, scale, a, 1.0 if to_z else -1.0, Y, E)
    if to_z:
        for i in range(x.size):
            x[i] = (x[i] + shift[i]) * s[i]
    else:
        for i in range(x.size):
            x[i] = x[i] / s[i] - shift[i]


@inner
def shift_and_scale_vjp(d, x, shift, slope, s, inverse, dlogdet, dshift, draw):
    """The gradient after `shift_and_scale` in the opposite direction: d in place, dshift, which may be `shift`, and
    draw.
    """
    n = d.size
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
        copy(dshift, ZERO, d, ZERO, n)


# ---- rows (positions, channels) as they lie; those of h are [t, raw]


@inner
def scratch(C, like):
    """As many arrays as `gather` and `shift_and_scale` need, each for whole rows, and how many rows that is."""
    rows = max(BLOCK // max(C, 1), 1)
    return np.empty((9, rows * C), like.dtype), rows


@inner
def gather(A, first, r, C, out):
    """The numbers of channels `first` to `first + C` of rows from r on, one row after the other."""
    for i in range(out.size // C):
        for c in range(C):
            out[i * C + c] = A[r + i, first + c]


@inner
def spread(values, A, first, r, C):
    """The opposite."""
    for i in range(values.size // C):
        for c in range(C):
            A[r + i, first + c] = values[i * C + c]


@inner
def add_to_samples(log, r, C, positions, logdet):
    """Adds the log-determinants of numbers of rows from r on to those of their samples, a sum for each sample."""
    rows, start = log.size // C, 0
    while start < rows:
        sample = (r + start) // positions
        stop, part = min((sample + 1) * positions - r, rows), log.dtype.type(0)
        for i in range(start * C, stop * C):
            part += log[i]
        logdet[sample] += part
        start = stop


@kernel("void($[:,:], $[:,:], int64, float64, boolean, $[::1])")
def couple(R, h, scale, a, to_z, logdet):
    """Rows become Z, or X; logdet is of samples."""
    C = R.shape[1]
    work, many = scratch(C, R)
    for r in range(0, R.shape[0], many):
        n = min(many, R.shape[0] - r) * C
        x, shift, raw, s, log, Y, E = (
            work[0, :n],
            work[1, :n],
            work[2, :n],
            work[3, :n],
            work[4, :n],
            work[5, :n],
            work[6, :n],
        )
        gather(R, 0, r, C, x)
        gather(h, 0, r, C, shift)
        gather(h, C, r, C, raw)
        log[:] = 0
        shift_and_scale(x, shift, raw, s, to_z, scale, a, log, Y, E)
        spread(x, R, 0, r, C)
        add_to_samples(log, r, C, R.shape[0] // logdet.size, logdet)


@kernel("void($[:,:], $[:,:], $[:,:], int64, float64, boolean, $[::1], $[:,::1])")
def couple_vjp(dR, R, h, scale, a, inverse, dlogdet, dh):
    """Z becomes X and dZ becomes dX, or with `inverse` the other way round; dh is set."""
    C = R.shape[1]
    work, many = scratch(C, R)
    positions = R.shape[0] // dlogdet.size if dlogdet.size else 1
    for r in range(0, R.shape[0], many):
        n = min(many, R.shape[0] - r) * C
        x, shift, raw, s, log, Y, E = (
            work[0, :n],
            work[1, :n],
            work[2, :n],
            work[3, :n],
            work[4, :n],
            work[5, :n],
            work[6, :n],
        )
        d, draw = work[7, :n], work[8, :n]
        gather(R, 0, r, C, x)
        gather(dR, 0, r, C, d)
        gather(h, 0, r, C, shift)
        gather(h, C, r, C, raw)
        shift_and_scale(x, shift, raw, s, inverse, scale, a, log[:0], Y, E)
        spread(x, R, 0, r, C)
        for i in range(n // C):
            for c in range(C):
                log[i * C + c] = dlogdet[(r + i) // positions]
        shift_and_scale_vjp(d, x, shift, raw, s, inverse, log, shift, draw)
        spread(d, dR, 0, r, C)
        spread(shift, dh, 0, r, C)
        spread(draw, dh, C, r, C)
