"""Densities in two dimensions to learn, each in closed form, with a sampler."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_numbers
from ..bases.base import sample_shape, start
from ..bases.mixture import log_sum_exp, mixture_log_prob, scaled
from ..core import get_ops
from .target import Target, columns, positive

if TYPE_CHECKING:
    from ..typing import Array


class Banana(Target):
    """A normal bent along a parabola: x1 of N(0, 1), then x2 of N(curvature x1^2, width^2).

    -log p is Rosenbrock's function x1^2 / 2 + (x2 - curvature x1^2)^2 / 2 width^2, plus a constant.

    Args:
        curvature: how far it is bent; 0 is a normal.
        width: deviation across, positive.

    References:
        Haario, Saksman & Tamminen, Adaptive proposal distribution for random walk Metropolis algorithm, 1999. Pagani,
        Wiegand & Nadarajah, An n-dimensional Rosenbrock distribution for Markov chain Monte Carlo testing, 2022.
    """

    def __init__(self, curvature: float = 0.5, width: float = 0.4):
        check_numbers(curvature=curvature)
        positive(width=width)
        self.curvature, self.width = curvature, width
        self.log_Z = math.log(2 * math.pi * width)
        tip = curvature * 3.5**2
        self.box = ((-3.5, 3.5), (min(0, tip) - 4 * width, max(0, tip) + 4 * width))

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        x1, x2 = columns(X)
        R = (x2 - self.curvature * x1 * x1) / self.width
        d2 = -R / self.width
        return -0.5 * (x1 * x1 + R * R), get_ops(X).xp.stack([-x1 - 2 * self.curvature * x1 * d2, d2], axis=1)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        x1, e = rng.standard_normal((2, n))
        return np.stack([x1, self.curvature * x1 * x1 + self.width * e], axis=1)


class Mixture(Target):
    """A mixture of K normals in D dimensions, log p(x) = log sum_k w_k N(x; mean_k, std_k^2).

    Args:
        means: (K, D).
        std: positive, a number or (K, D).
        weights: (K,), positive, of any sum; None is all the same.

    Raises:
        ValueError: an argument of another shape, or not finite, or a deviation or weight that is not positive.
    """

    def __init__(self, means: Array, std: float = 1.0, weights: Array | None = None):
        if np.ndim(means) != 2 or len(means) == 0:
            raise ValueError(f"the means of a mixture have shape (K, D), K at least 1; got {np.shape(means)}")
        size = np.shape(means)
        (self.dimensions,) = sample_shape(np.asarray(means)[0])
        self.means, self.std = start("means", means, size), start("std", std, size, least=0)
        weights = start("weights", 1.0 if weights is None else weights, size[:1], least=0)
        self.weights = weights / weights.sum()
        reach = 4.5 * self.std
        self.box = tuple(zip((self.means - reach).min(axis=0).tolist(), (self.means + reach).max(axis=0).tolist()))

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        ops = get_ops(X)
        means, log_s, logits = (ops.asarray(a, X) for a in (self.means, np.log(self.std), np.log(self.weights)))
        value, R = mixture_log_prob(X, means, log_s, logits)
        gradient = ops.zeros_like(X)
        for k in range(R.shape[0]):
            E, s = scaled(X, means[k], log_s[k])
            gradient -= R[k][:, None] * E / s
        return value, gradient

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        k = rng.choice(len(self.weights), n, p=self.weights)
        return self.means[k] + self.std[k] * rng.standard_normal((n, self.dimensions))


class EightGaussians(Mixture):
    """Eight round normals on a circle.

    Args:
        radius: of the circle, positive.
        std: of each normal, positive.
    """

    def __init__(self, radius: float = 4.0, std: float = 0.5):
        positive(radius=radius, std=std)
        angles = np.arange(8) * math.pi / 4
        super().__init__(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), std)


class TwoMoons(Target):
    """Two interleaved half circles of radius 1 with normal noise, centred.

    p(x) = 1/2 sum over both of 1/pi int_0^pi N(x; c(t), std^2) dt, with c(t) = +-(cos t - 1/2, sin t - 1/4).

    The integral is a Gauss-Legendre sum whose nodes lie closer than the noise is wide, hence exact but for rounding.

    Args:
        std: of the noise, from 0.02.
    """

    def __init__(self, std: float = 0.1):
        check_numbers(std=std)
        if not 0.02 <= std < math.inf:
            raise ValueError(f"std is a number from 0.02; got {std}")
        self.std = std
        nodes, weights = np.polynomial.legendre.leggauss(24 + math.ceil(2.2 * math.pi / std))
        centres = self._arc(0.5 * math.pi * (1 + nodes))
        self._sum = Mixture(np.concatenate([centres, -centres]), std, np.concatenate([weights, weights]))
        reach = 4.5 * std
        self.box = ((-1.5 - reach, 1.5 + reach), (-0.75 - reach, 0.75 + reach))

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        return self._sum.value_and_gradient(X)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        sign = rng.choice([-1.0, 1.0], (n, 1))
        return sign * self._arc(rng.uniform(0, math.pi, n)) + self.std * rng.standard_normal((n, 2))

    @staticmethod
    def _arc(t):
        return np.stack([np.cos(t) - 0.5, np.sin(t) - 0.25], axis=1)


class Pinwheel(Target):
    """Arms of a wheel, long normals about its hub that are turned the further, the further out.

    x = R(a) u with u of a mixture of `arms` normals, mean 2 and deviations (0.6, 0.2) along their arms and across, and
    R(a) a rotation by a = twist |u|. A rotation leaves |u| and, being by an angle of |u| alone, areas as they are: p(x)
    is the density of the mixture at R(-a) x.

    Args:
        arms: their number, from 1.
        twist: radians for each unit of length.

    References:
        Johnson et al., Composing graphical models with neural networks for structured representations and fast
        inference, 2016, section 5, for the data; the twist is linear here, that the density be in closed form.
    """

    ALONG, ACROSS, CENTRE = 0.6, 0.2, 2.0

    def __init__(self, arms: int = 5, twist: float = 0.6):
        check_numbers(arms=arms, twist=twist)
        if not 1 <= arms == int(arms):
            raise ValueError(f"arms is a whole number from 1; got {arms}")
        self.arms, self.twist = int(arms), twist
        self.log_Z = math.log(2 * math.pi * self.ALONG * self.ACROSS * self.arms)
        reach = self.CENTRE + 3.5 * self.ALONG
        self.box = ((-reach, reach), (-reach, reach))

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        xp = get_ops(X).xp
        x1, x2 = columns(X)
        radius = xp.sqrt(x1 * x1 + x2 * x2)
        a = self.twist * radius
        u1, u2 = xp.cos(a) * x1 + xp.sin(a) * x2, xp.cos(a) * x2 - xp.sin(a) * x1
        joint, slopes = [], []
        for angle in self._angles():
            c, s = math.cos(angle), math.sin(angle)
            A, B = (c * u1 + s * u2 - self.CENTRE) / self.ALONG, (c * u2 - s * u1) / self.ACROSS
            joint.append(-0.5 * (A * A + B * B))
            slopes.append((-A * c / self.ALONG + B * s / self.ACROSS, -A * s / self.ALONG - B * c / self.ACROSS))
        joint = xp.stack(joint)
        value = log_sum_exp(joint)
        share = xp.exp(joint - value)
        g1, g2 = (sum(share[k] * slope[i] for k, slope in enumerate(slopes)) for i in (0, 1))
        # Of u in x: the rotation, and the angle, which grows along x / |x| and turns u by a right angle.
        turning = self.twist * (g1 * u2 - g2 * u1) / xp.where(radius > 0, radius, xp.ones_like(radius))
        d1 = xp.cos(a) * g1 - xp.sin(a) * g2 + turning * x1
        d2 = xp.sin(a) * g1 + xp.cos(a) * g2 + turning * x2
        return value, xp.stack([d1, d2], axis=1)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        e1, e2 = rng.standard_normal((2, n))
        u1, u2 = self.CENTRE + self.ALONG * e1, self.ACROSS * e2
        angle = rng.choice(self._angles(), n) + self.twist * np.hypot(u1, u2)
        return np.stack([np.cos(angle) * u1 - np.sin(angle) * u2, np.sin(angle) * u1 + np.cos(angle) * u2], axis=1)

    def _angles(self):
        return 2 * math.pi * np.arange(self.arms) / self.arms


class Checkerboard(Target):
    """Uniform on every second of 4 x 4 squares that fill [-4, 4]^2; log p is -inf on the others and outside."""

    log_Z = math.log(32.0)
    box = ((-4.0, 4.0), (-4.0, 4.0))

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        xp = get_ops(X).xp
        x1, x2 = columns(X)
        odd = xp.remainder(xp.floor(x1 / 2) + xp.floor(x2 / 2), xp.asarray(2.0, dtype=X.dtype)) != 0
        empty = odd | (xp.abs(x1) > 4) | (xp.abs(x2) > 4)
        zeros = xp.zeros_like(x1)
        return xp.where(empty, zeros - math.inf, zeros), xp.zeros_like(X)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        i, j = rng.integers(0, 4, n), rng.integers(0, 2, n)
        corner = 2.0 * np.stack([i, 2 * j + i % 2], axis=1) - 4
        return corner + 2 * np.minimum(rng.random((n, 2)), 1 - 2**-23)  # more is rounded to the next square in float32
