"""The random numbers of the reference tutorial: StableRNGs.jl's generator and the normals that Julia makes of it.

The ziggurat's tables are computed here to 60 digits, which gives Julia's bits.

References:
    Rackauckas et al., StableRNGs.jl (a Lehmer generator). Marsaglia & Tsang, The Ziggurat Method for Generating Random
    Variables, 2000, and Julia's Random/normal.jl (256 layers).
"""

import functools
import math
from decimal import Decimal, getcontext

import numpy as np

MULTIPLIER, MASK = 0x45A31EFC5A35D971261FD0407A968ADD, (1 << 128) - 1
R = "3.6541528853610087963519472518"


@functools.cache
def tables():
    """k, w and f of the 256 layers."""
    getcontext().prec = 60
    r = Decimal(R)
    f = lambda x: (-x * x / 2).exp()
    tail, n = Decimal(0), 0
    # the integral of exp(-x^2/2) beyond r, by its continued fraction r + 1/(r + 2/(r + 3/...)), from far inside
    below = r
    for n in range(4000, 0, -1):
        below = r + Decimal(n) / below
    tail = f(r) / below
    area = r * f(r) + tail
    x = [None] * 256
    x[255] = r
    for i in range(254, 0, -1):
        x[i] = (-2 * (area / x[i + 1] + f(x[i + 1])).ln()).sqrt()
    scale = Decimal(2) ** 51
    k = [int(r * f(r) / area * scale), 0] + [int(x[i] / x[i + 1] * scale) for i in range(1, 255)]
    w = [float(area / f(r) / scale)] + [float(x[i] / scale) for i in range(1, 256)]
    return k, w, [1.0] + [float(f(x[i])) for i in range(1, 256)]


class StableRNG:
    def __init__(self, seed):
        self.state = 2 * seed + 1

    def bits(self):
        self.state = self.state * MULTIPLIER & MASK
        return self.state >> 64

    def uniform(self):
        return (self.bits() & (1 << 52) - 1) * 2.0**-52

    def integer(self, low, high):
        mask = (1 << (high - low).bit_length()) - 1
        while (value := self.bits() & mask) > high - low:
            pass
        return low + value

    def normal(self):
        k, w, f = tables()
        while True:
            r = self.bits() & (1 << 52) - 1
            a, i = r >> 1, (r >> 1) & 255
            x = a * w[i] * (-1 if r & 1 else 1)
            if a < k[i]:
                return x
            if i == 0:
                while True:
                    xx, yy = -math.log(self.uniform()) / float(R), -math.log(self.uniform())
                    if 2 * yy > xx * xx:
                        return -(float(R) + xx) if a >> 8 & 1 else float(R) + xx
            if (f[i - 1] - f[i]) * self.uniform() + f[i] < math.exp(-0.5 * x * x):
                return x

    def normals(self, n):
        return np.array([self.normal() for _ in range(n)])
