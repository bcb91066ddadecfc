"""Exponentials, logarithms and the normal distribution in the dtype of their argument and without branches, so that
LLVM vectorises loops over them.

1.2 ns each in double precision, where libm's take 6. With x = n log 2 + r, exp(x) = 2^n exp(r), where |r| is at most
log(2) / 2 and Taylor's series short; 2^n is made of its bits. The logarithm takes n off the bits, and the series of 2
artanh of what is left. The normal distribution's tail is exp(-u^2 / 2) times a function that varies little, for which
one polynomial serves.
"""

import functools
import math

import numpy as np
from numba import types
from numba.extending import overload


def _parts(x):
    """Of the dtype: its type and that of its bits, how many of these are digits, and the bits of the exponent of 1."""
    return (np.float32, np.int32, 23, 127) if x == types.float32 else (np.float64, np.int64, 52, 1023)


def split(x):
    """2^n and exp(r) - 1 with x = n log 2 + r, for x <= 0; where 2^n would vanish, the least there is."""


@overload(split)
def _split(x):
    (real, whole, digits, bias), single = _parts(x), x == types.float32
    least, terms = (-87, 7) if single else (-700, 13)
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


def _artanh(real, terms):
    """1/3, 1/5, ... of artanh(s) = s + s^3 / 3 + s^5 / 5 + ..., and the last one's number."""
    return tuple(real(1 / (2 * k + 1)) for k in range(1, terms + 1)), terms - 1


def log(x):
    """log x, of a normal x > 0; NaN stays."""


@overload(log)
def _log(x):
    (real, whole, digits, _), single = _parts(x), x == types.float32
    one, two, ln2 = real(1), real(2), real(math.log(2))
    series, last = _artanh(real, 5 if single else 11)
    half, mask, digits = whole(real(math.sqrt(0.5)).view(whole)), whole((1 << digits) - 1), whole(digits)

    def log(x):
        bits = whole(real(x).view(whole) - half)
        m = whole(whole(bits & mask) + half).view(real)  # from sqrt(1/2) to sqrt(2)
        s = (m - one) / (m + one)
        t = s * s
        p = series[last]
        for k in range(last - 1, -1, -1):
            p = p * t + series[k]
        return real(whole(bits >> digits)) * ln2 + two * (s + s * t * p) + (x - x)

    return log


def log1p(x):
    """log(1 + x), for x from 0 to 1."""


@overload(log1p)
def _log1p(x):
    real, single = _parts(x)[0], x == types.float32
    two = real(2)
    series, last = _artanh(real, 7 if single else 17)

    def log1p(x):
        s = x / (two + x)
        t = s * s
        p = series[last]
        for k in range(last - 1, -1, -1):
            p = p * t + series[k]
        return two * (s + s * t * p)

    return log1p


#: Where a polynomial of the normal distribution's tail has its middle.
MIDDLE = 4.0


@functools.cache
def tail_series(degree):
    """Coefficients, of t^0 first, of (u + MIDDLE) exp(u^2 / 2) Q(u) for t = (u - MIDDLE) / (u + MIDDLE) from -1 to 1, Q
    being the upper tail.
    """
    from numpy.polynomial import chebyshev
    from scipy.special import erfcx

    def scaled(t):
        u = MIDDLE * (1 + t) / (1 - t)
        return 0.5 * erfcx(u * math.sqrt(0.5)) * (u + MIDDLE)

    return chebyshev.cheb2poly(chebyshev.chebinterpolate(scaled, degree)).tolist()


def normal_tail(u):
    """u, at most where the tail is about the least number; exp(-u^2 / 2); the standard normal's upper tail at u. For u
    >= 0; NaN stays.
    """


@overload(normal_tail, jit_options={"forceinline": True})
def _normal_tail(u):
    (real, whole, digits, _), single = _parts(u), u == types.float32
    most, degree = real(13 if single else 37), 11 if single else 20
    series, one, half, third, middle = (
        tuple(map(real, tail_series(degree))),
        real(1),
        real(0.5),
        real(1 / 3),
        real(MIDDLE),
    )
    mask = whole(-1 << (digits // 2 + 1))

    def normal_tail(u):
        u = most if u > most else u
        high = whole(real(u).view(whole) & mask).view(real)  # of half the digits, so that its square is exact
        power, p = split(-half * high * high)
        low = (high - u) * (high + u) * half  # exp(-u^2 / 2) is e exp(low)
        e = power * p + power
        e += e * low * (one + half * low * (one + third * low * (one + half * half * low)))
        over = one / (u + middle)
        t = (u - middle) * over
        q = series[degree]
        for k in range(degree - 1, -1, -1):
            q = q * t + series[k]
        return u, e, e * q * over

    return normal_tail


def tanh(x):
    """tanh x; NaN stays."""


@overload(tanh)
def _tanh(x):
    real = _parts(x)[0]
    one, two = real(1), real(2)

    def tanh(x):
        power, p = split(-two * abs(x))
        e = power * p + (power - one)  # exp(-2 |x|) - 1, without cancellation
        return math.copysign(e / (two + e), x)

    return tanh
