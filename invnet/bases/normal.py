"""Normal distributions: standard, with a deviation for each dimension, with all covariances."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..core import as_dlogdet, get_ops
from .base import Base, ParametricBase, add_gradient, for_each, numbers_of, sample_shape, start, state

if TYPE_CHECKING:
    from ..typing import Array, DType

LOG_2PI = math.log(2 * math.pi)


class Normal(Base):
    """The standard normal on arrays of any shape, log p(z) = -|z|^2 / 2 - D/2 log 2 pi."""

    def log_prob(self, Z: Array) -> Array:
        self.check(Z)
        ops = get_ops(Z)
        R = ops.rows(Z)
        return -0.5 * ops.sum_positions(R * R, Z.shape[0]) - 0.5 * math.prod(Z.shape[1:]) * LOG_2PI

    def sample(self, shape: tuple[int, ...], rng: np.random.Generator, like: Array, temperature: float = 1.0) -> Array:
        return get_ops(like).asarray(temperature * rng.standard_normal(shape, dtype=np.float64), like)

    def log_prob_backward(self, dlog_prob: Array, Z: Array) -> Array:
        self.check(Z)
        return -for_each(dlog_prob, Z) * Z

    def sample_backward(self, dZ: Array, Z: Array) -> None:
        pass


class DiagonalNormal(ParametricBase):
    """A normal with a mean and a deviation for each dimension, z = mean + s e with s = exp(log_s), e standard normal.

    log p(z) = sum -((z - mean) / s)^2 / 2 - log_s - log(2 pi) / 2

    Args:
        mean: (C, *spatial), at the start.
        std: s at the start, positive, a number or (C, *spatial).
        learn: mean and log_s are Parameters; otherwise they stay as they are.
        dtype: "float32" or "float64".

    Raises:
        ValueError: a start value of another shape, or not finite, or a deviation that is not positive.
    """

    def __init__(self, mean: Array, std: Array = 1.0, learn: bool = True, dtype: DType = "float32"):
        self.shape = sample_shape(mean)
        self.mean = state(start("mean", mean, self.shape), learn, dtype)
        self.log_s = state(np.log(start("std", std, self.shape, least=0)), learn, dtype)

    def log_prob(self, Z: Array) -> Array:
        self.check(Z)
        xp, E = get_ops(Z).xp, self._noise(Z)
        squares = xp.sum(E * E, axis=tuple(range(1, Z.ndim)))
        return -0.5 * squares - xp.sum(self.log_s.data) - 0.5 * math.prod(self.shape) * LOG_2PI

    def sample(self, shape: tuple[int, ...], rng: np.random.Generator, like: Array, temperature: float = 1.0) -> Array:
        self.check_shape(shape)
        E = get_ops(like).asarray(temperature * rng.standard_normal(shape), like)
        return self.mean.data + get_ops(like).xp.exp(self.log_s.data) * E

    def log_prob_backward(self, dlog_prob: Array, Z: Array) -> Array:
        self.check(Z)
        xp, E, d = get_ops(Z).xp, self._noise(Z), for_each(dlog_prob, Z)
        dmean = d * E * xp.exp(-self.log_s.data)
        add_gradient(self.mean, xp.sum(dmean, axis=0))
        add_gradient(self.log_s, xp.sum(d * (E * E - 1), axis=0))
        return -dmean

    def sample_backward(self, dZ: Array, Z: Array) -> None:
        xp = get_ops(Z).xp
        add_gradient(self.mean, xp.sum(dZ, axis=0))
        add_gradient(self.log_s, xp.sum(dZ * (Z - self.mean.data), axis=0))

    def _noise(self, Z):
        """e = (z - mean) / s."""
        return (Z - self.mean.data) * get_ops(Z).xp.exp(-self.log_s.data)


class FullNormal(ParametricBase):
    """A normal with all covariances, z = mean + L' e with L' = tril(L, -1) + diag(exp(log_s)), e standard normal.

    log p(z) = -|e|^2 / 2 - sum log_s - D/2 log 2 pi with e = L'^-1 (z - mean); the covariance is L' L'^T. A sample
    (C, *spatial) is one vector of D numbers, the last axis varying fastest.

    Args:
        mean: (C, *spatial), at the start.
        covariance: (D, D) at the start, symmetric and positive definite; None is the identity.
        learn: mean, L and log_s are Parameters; otherwise they stay as they are.
        dtype: "float32" or "float64".

    Raises:
        ValueError: a start value of another shape, or not finite, or no covariance.
    """

    def __init__(self, mean: Array, covariance: Array | None = None, learn: bool = True, dtype: DType = "float32"):
        self.shape = sample_shape(mean)
        D = math.prod(self.shape)
        covariance = np.eye(D) if covariance is None else numbers_of("covariance", covariance)
        if covariance.shape != (D, D):
            raise ValueError(f"the covariance of {D} dimensions has shape {(D, D)}; got {covariance.shape}")
        try:
            L = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            L = None
        if L is None or not np.allclose(covariance, covariance.T):
            raise ValueError(
                "a covariance is symmetric and positive definite; got one with eigenvalues from "
                f"{np.linalg.eigvals(covariance).real.min():.6g}, or not symmetric"
            )
        self.mean = state(start("mean", mean, self.shape), learn, dtype)
        self.L = state(np.tril(L, -1), learn, dtype)
        self.log_s = state(np.log(np.diagonal(L)), learn, dtype)

    def log_prob(self, Z: Array) -> Array:
        self.check(Z)
        xp, E = get_ops(Z).xp, self._noise(Z)
        return -0.5 * xp.sum(E * E, axis=1) - xp.sum(self.log_s.data) - 0.5 * E.shape[1] * LOG_2PI

    def sample(self, shape: tuple[int, ...], rng: np.random.Generator, like: Array, temperature: float = 1.0) -> Array:
        self.check_shape(shape)
        xp, D = get_ops(like).xp, math.prod(self.shape)
        E = get_ops(like).asarray(temperature * rng.standard_normal((shape[0], D)), like)
        return self.mean.data + xp.reshape(E @ self._factor(xp).T, tuple(shape))

    def log_prob_backward(self, dlog_prob: Array, Z: Array) -> Array:
        self.check(Z)
        xp, E = get_ops(Z).xp, self._noise(Z)
        d = for_each(dlog_prob, E)
        G = d * xp.linalg.solve(self._factor(xp).T, E.T).T  # d L'^-T e
        self._add(xp.sum(G, axis=0), G.T @ E, xp.sum(as_dlogdet(dlog_prob, Z, "dlog_prob")))
        return -xp.reshape(G, Z.shape)

    def sample_backward(self, dZ: Array, Z: Array) -> None:
        xp, G = get_ops(Z).xp, self._rows(dZ)
        self._add(xp.sum(G, axis=0), G.T @ self._noise(Z), 0.0)

    def _add(self, dmean, dL, dlog_prob):
        """Adds the gradients of mean and L', and what log_s contributes to log_prob itself."""
        xp = get_ops(dL).xp
        add_gradient(self.mean, xp.reshape(dmean, self.shape))
        add_gradient(self.L, xp.tril(dL, k=-1))
        add_gradient(self.log_s, xp.linalg.diagonal(dL) * xp.exp(self.log_s.data) - dlog_prob)

    def _factor(self, xp):
        """L'."""
        return xp.tril(self.L.data, k=-1) + get_ops(self.L.data).diagonal_matrix(xp.exp(self.log_s.data))

    def _noise(self, Z):
        """e = L'^-1 (z - mean), in rows (N, D)."""
        xp = get_ops(Z).xp
        return xp.linalg.solve(self._factor(xp), self._rows(Z - self.mean.data).T).T

    def _rows(self, Z):
        return get_ops(Z).xp.reshape(Z, (Z.shape[0], math.prod(Z.shape[1:])))
