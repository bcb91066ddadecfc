"""The probit factor, y ~ Bernoulli(Phi(z)) with z ~ N(m, v): its evidence, what it makes of z, and free energies.

All are functions of m and v (N,), and of the sign s = 2 y - 1, +1 or -1; they take dual numbers, and so have
derivatives.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr

from ..ops.dual import Dual

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..typing import Array

NODES, WEIGHTS = np.polynomial.hermite.hermgauss(32)


def curvature(m: Array, v: Array, s: Array) -> tuple[Array, Array]:
    """The first derivative of log P(y) in m, rho, and minus the second, kappa."""
    c = np.sqrt(1 + v)
    gamma = s * m / c
    ratio = np.exp(-0.5 * gamma * gamma - log_ndtr(gamma)) / math.sqrt(
        2 * math.pi
    )  # phi / Phi, without under- or overflow
    return s * ratio / c, ratio * (gamma + ratio) / (1 + v)


def matched(m: Array, v: Array, s: Array) -> tuple[Array, Array]:
    """Mean and variance of z given y (the moments of the product of N(m, v) and the factor)."""
    rho, kappa = curvature(m, v, s)
    return m + v * rho, v * (1 - v * kappa)


def site(m: Array, v: Array, s: Array) -> tuple[Array, Array]:
    """The factor's message to z, mean and precision: the Gaussian which makes of N(m, v) what matched gives."""
    rho, kappa = curvature(m, v, s)
    return m + rho / kappa, kappa / (1 - v * kappa)


def energy(mean: Array, variance: Array, s: Array) -> Array:
    """E[-log Phi(s z)] of z ~ N(mean, variance), by Gauss-Hermite quadrature."""
    z = mean[:, None] + np.sqrt(2 * variance)[:, None] * NODES
    return -(log_ndtr(s[:, None] * z) @ (WEIGHTS / math.sqrt(math.pi)))


def evidence(m: Array, v: Array, s: Array) -> Array:
    """-log p(y) of each observation."""
    return -log_ndtr(s * m / np.sqrt(1 + v))


def bethe(m: Array, v: Array, s: Array) -> Array:
    """The Bethe free energy of each observation, KL(q(z) || N(m, v)) + E[-log Phi(s z)], with q of the moments of
    matched.
    """
    mean, variance = matched(m, v, s)
    off = mean - m
    return 0.5 * (variance / v + off * off / v - 1 - np.log(variance / v)) + energy(mean, variance, s)


def derivatives(function: Callable, *arguments: Array) -> tuple[Array, list[Array]]:
    """The value (N,), and the derivatives in each argument (N,), of a function of each sample by itself."""

    def along(i):
        return function(*[Dual(x, np.ones_like(x)) if i == j else x for j, x in enumerate(arguments)])

    columns = [along(i) for i in range(len(arguments))]
    return columns[0].value, [column.tangent for column in columns]
