"""Gaussian and Wishart: what priors and posteriors of the models are, with what their free energies need."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln, psi

from ..arguments import check_numbers
from .checks import covariances, vectors

if TYPE_CHECKING:
    from ..typing import Array


@dataclass(frozen=True)
class Gaussian:
    """N(mean, cov), or a batch of them.

    Args:
        mean: (..., D).
        cov: (..., D, D), symmetric and positive definite.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, no covariance.
    """

    mean: np.ndarray
    cov: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "mean", vectors(self.mean, "the mean"))
        object.__setattr__(self, "cov", covariances(self.cov, "the covariance", self.mean.shape[-1]))

    def entropy(self) -> Array:
        """In nats, (...)."""
        D = self.mean.shape[-1]
        return 0.5 * (D * math.log(2 * math.pi * math.e) + np.linalg.slogdet(self.cov)[1])

    def cross_entropy(self, mean: Array, cov: Array) -> Array:
        """E[-log N(x; self)] of any x with that mean and covariance."""
        second = cov + outer(mean - self.mean)
        energy = np.einsum("...ij,...ji->...", np.linalg.inv(self.cov), second)
        return 0.5 * (self.mean.shape[-1] * math.log(2 * math.pi) + np.linalg.slogdet(self.cov)[1] + energy)


@dataclass(frozen=True)
class Wishart:
    """W(df, scale) of precision matrices; its mean is df scale.

    Args:
        df: degrees of freedom, above D - 1.
        scale: (D, D), symmetric and positive definite. A vague prior has a large one: its inverse counts like the sum
            of squares of observations.

    Raises:
        ValueError: df is too small, or scale is no covariance.

    References:
        Bishop, Pattern Recognition and Machine Learning, 2006, appendix B.
    """

    df: float
    scale: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "scale", covariances(self.scale, "the scale"))
        check_numbers(df=self.df)
        if self.scale.ndim != 2 or not len(self.scale) - 1 < self.df < math.inf:
            raise ValueError(
                f"a Wishart has a scale (D, D) and df above D - 1; got shape {self.scale.shape} and df {self.df}"
            )

    @property
    def mean(self) -> Array:
        return self.df * self.scale

    def expected_logdet(self) -> Array:
        """E log|precision|."""
        D = len(self.scale)
        return _psi_sum(self.df, D) + D * math.log(2) + np.linalg.slogdet(self.scale)[1]

    def entropy(self) -> Array:
        D, logdet = len(self.scale), np.linalg.slogdet(self.scale)[1]
        return (
            (D + 1) / 2 * logdet
            + D * (D + 1) / 2 * math.log(2)
            + _log_gamma(self.df / 2, D)
            - (self.df - D - 1) / 2 * _psi_sum(self.df, D)
            + self.df * D / 2
        )

    def cross_entropy(self, other: Wishart) -> Array:
        """E[-log W(x; self)] of x ~ other."""
        D, logdet = len(self.scale), np.linalg.slogdet(self.scale)[1]
        trace = np.trace(np.linalg.solve(self.scale, other.mean))
        return 0.5 * (
            self.df * (logdet + D * math.log(2)) - (self.df - D - 1) * other.expected_logdet() + trace
        ) + _log_gamma(self.df / 2, D)


def outer(e: Array) -> Array:
    """e e^T of each vector."""
    return e[..., :, None] * e[..., None, :]


def _psi_sum(df, D):
    return psi((df - np.arange(D)) / 2).sum()


def _log_gamma(a, D):
    """The logarithm of the multivariate gamma function."""
    return D * (D - 1) / 4 * math.log(math.pi) + gammaln(a - np.arange(D) / 2).sum()
