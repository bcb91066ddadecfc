"""The four energies of Rezende & Mohamed, as densities exp(-U)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_flags, check_integers, check_unused
from ..core import get_ops
from .target import Target, accepted, columns

if TYPE_CHECKING:
    from types import ModuleType

    from ..typing import Array

EDGE, WALL = 4.0, 0.4
ROOT_2PI = math.sqrt(2 * math.pi)


class Energy(Target):
    """exp(-U_k) on the plane, k from 1 to 4: a pair of crescents, a wave, a wave that splits, a wave with a branch.

    U_1 = ((|z| - 2) / .4)^2 / 2 - log(exp(-((z1 - 2) / .6)^2 / 2) + exp(-((z1 + 2) / .6)^2 / 2)) U_2 = ((z2 - w1) /
    .4)^2 / 2 U_3 = -log(exp(-((z2 - w1) / .35)^2 / 2) + exp(-((z2 - w1 + w2) / .35)^2 / 2)) U_4 = -log(exp(-((z2 - w1)
    / .4)^2 / 2) + exp(-((z2 - w1 + w3) / .35)^2 / 2)) w1 = sin(2 pi z1 / 4), w2 = 3 exp(-((z1 - 1) / .6)^2 / 2), w3 = 3
    sigmoid((z1 - 1) / .3)

    U_2 to U_4 do not fall off along z1, so that exp(-U) has no finite integral over the plane. A wall,
    (max(|z1| - 4, 0) / .4)^2 / 2 added to U, gives it one and leaves it smooth. Without the wall the density is that of
    the paper's pictures, cut off at the edges of [-4, 4]^2: log p is -inf outside.

    log_Z comes from the integral of a normal where it is one, and from quadrature elsewhere.

    Args:
        k: 1, 2, 3 or 4.
        wall: of U_2 to U_4, the wall, as None is, or the cut. U_1 needs neither, and takes None only.

    References:
        Rezende & Mohamed, Variational Inference with Normalizing Flows, 2015, section 6.1 and table 1.
    """

    def __init__(self, k: int, wall: float | None = None):
        check_integers(k=k)
        if k not in (1, 2, 3, 4):
            raise ValueError(f"the energies are 1, 2, 3 and 4; got {k!r}")
        if k == 1:
            check_unused("on U_1", wall=wall)
        wall = k > 1 if wall is None else wall
        check_flags(wall=wall)
        self.k, self.wall = k, wall
        width = 2 * EDGE + (WALL * ROOT_2PI if self.wall else 0.0)
        self.log_Z = {
            1: 1.877502,
            2: math.log(width * 0.4 * ROOT_2PI),
            3: math.log(width * 0.7 * ROOT_2PI),
            4: math.log(width * 0.75 * ROOT_2PI) if self.wall else 2.684568,  # the lower branch leaves [-4, 4]^2
        }[k]
        edge = EDGE + 4 * WALL if self.wall else EDGE
        self.box = ((-edge, edge), (-edge if k == 4 else -EDGE, EDGE))

    def __repr__(self):
        return f"Energy({self.k}{', wall=False' if self.k > 1 and not self.wall else ''})"

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        xp = get_ops(X).xp
        z1, z2 = columns(X)
        if self.k == 1:
            return self._crescents(xp, X, z1, z2)
        w1, dw1 = xp.sin(0.5 * math.pi * z1), 0.5 * math.pi * xp.cos(0.5 * math.pi * z1)
        if self.k == 2:
            R = (z2 - w1) / 0.4
            value, d1, d2 = -0.5 * R * R, R * dw1 / 0.4, -R / 0.4
        else:
            w, dw, s = self._branch(xp, z1)
            R, S = (z2 - w1) / s, (z2 - w1 + w) / 0.35
            value, (p, q) = log_add(xp, -0.5 * R * R, -0.5 * S * S)
            d2 = -p * R / s - q * S / 0.35
            d1 = p * R * dw1 / s + q * S * (dw1 - dw) / 0.35
        if self.wall:
            out = xp.abs(z1) - EDGE
            out = xp.where(out > 0, out, xp.zeros_like(out)) / WALL
            return value - 0.5 * out * out, xp.stack([d1 - xp.sign(z1) * out / WALL, d2], axis=1)
        outside = (xp.abs(z1) > EDGE) | (xp.abs(z2) > EDGE)
        return xp.where(outside, value - math.inf, value), xp.stack([d1, d2], axis=1)

    def _crescents(self, xp, X, z1, z2):
        squares, a = z1 * z1, z1 / 0.18
        radius = xp.sqrt(squares + z2 * z2 + 1e-30)  # which rounds the cusp at the origin off: the gradient is 0 there
        # The two squares in the exponents differ by 8 z1, so that their sum is one square times e^a + e^-a.
        value = xp.logaddexp(a, -a) - (squares + 4) / 0.72 - (radius - 2) ** 2 / 0.32
        gradient = ((2 / radius - 1) / 0.16)[:, None] * X
        gradient[:, 0] += (2 * xp.tanh(a) - z1) / 0.36
        return value, gradient

    def _branch(self, xp, z1):
        """w2 or w3, its slope, and the deviation of the upper branch."""
        if self.k == 3:
            w = 3 * xp.exp(-0.5 * ((z1 - 1) / 0.6) ** 2)
            return w, -w * (z1 - 1) / 0.36, 0.35
        p = 0.5 * (1 + xp.tanh((z1 - 1) / 0.6))  # sigmoid((z1 - 1) / 0.3)
        return 3 * p, 3 * p * (1 - p) / 0.3, 0.4

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        return accepted(n, lambda m: self._two_crescents(m, rng) if self.k == 1 else self._waves(m, rng))

    def _two_crescents(self, m, rng):
        """Rejection from r of N(2, .4^2) and a uniform angle: the other factors are r / 6 and a sum below 1.001."""
        r, angle = 2 + 0.4 * rng.standard_normal(m), rng.uniform(0, 2 * math.pi, m)
        z1 = r * np.cos(angle)
        bumps = np.exp(-0.5 * ((z1 - 2) / 0.6) ** 2) + np.exp(-0.5 * ((z1 + 2) / 0.6) ** 2)
        keep = rng.random(m) < np.clip(r / 6, 0, None) * bumps / 1.001
        return np.stack([z1, r * np.sin(angle)], axis=1)[keep]

    def _waves(self, m, rng):
        """z1, which every energy leaves uniform between the walls, then a branch, then z2 normal about it."""
        tail = WALL * ROOT_2PI if self.wall else 0.0
        z1, beyond = rng.uniform(-EDGE, EDGE, m), rng.random(m) < tail / (2 * EDGE + tail)
        out = WALL * rng.standard_normal(m)
        z1 = np.where(beyond, out + np.copysign(EDGE, out), z1)
        centre, s = np.sin(0.5 * math.pi * z1), np.full(m, 0.4)
        if self.k > 2:
            w, _, s_upper = self._branch(get_ops(z1).xp, z1)
            lower = rng.random(m) < 0.35 / (0.35 + s_upper)
            centre, s = centre - np.where(lower, w, 0), np.where(lower, 0.35, s_upper)
        z2 = centre + s * rng.standard_normal(m)
        Z = np.stack([z1, z2], axis=1)
        return Z if self.wall else Z[abs(z2) <= EDGE]


def log_add(xp: ModuleType, a: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
    """log(e^a + e^b), and its slopes in a and b."""
    high = xp.where(a > b, a, b)
    total = high + xp.log1p(xp.exp(-xp.abs(a - b)))
    return total, (xp.exp(a - total), xp.exp(b - total))
