"""The affine map of a row of numbers, given rows t and raw, and its gradient, for use inside compiled functions: (x +
t) s, s = scale(raw).
"""

import math

from .exponentials import log1p, split
from .matrices import copy
from .simple import ZERO, inner
from .spline import MANY


@inner
def scales(raw, s, logdet, sigmoid, a, sign, Y, E):
    """s of raw, which becomes the slope of log s; adds log s to logdet with a sign. Y and E are scratch.

    Rows may be longer than logdet, by what makes them whole vectors: up to 15 numbers more take less time than these
    one by one.
    """
    n, zero, one, two, four, over_a = (
        s.size,
        s.dtype.type(0),
        s.dtype.type(1),
        s.dtype.type(2),
        s.dtype.type(4),
        s.dtype.type(1 / a),
    )
    a, sign = s.dtype.type(a), s.dtype.type(sign)
    if sigmoid:
        for i in range(n):
            power, p = split(-abs(raw[i] + two))
            Y[i], E[i] = raw[i] + two, power * p + power
        for i in range(n):
            large, small = one / (one + E[i]), E[i] / (one + E[i])
            s[i], raw[i] = (large, small) if Y[i] > 0 else (small, large)
        for i in range(logdet.size):
            logdet[i] += sign * (min(Y[i], zero) - log1p(E[i]))
        return
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
def shift_and_scale(x, shift, raw, s, to_z, sigmoid, a, sign, logdet, at):
    """x becomes z, or z becomes x; s is set, raw becomes the slope of log s, and sign log s is added to logdet."""
    n = x.size
    scales(raw, s, logdet, sigmoid, a, sign, at[:n], at[MANY : MANY + n])
    if to_z:
        for i in range(n):
            x[i] = (x[i] + shift[i]) * s[i]
    else:
        for i in range(n):
            x[i] = x[i] / s[i] - shift[i]


@inner
def shift_and_scale_vjp(d, x, shift, slope, s, inverse, dlogdet, dshift, draw):
    """The gradient after `shift_and_scale` in the opposite direction: d in place, dshift and draw."""
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
