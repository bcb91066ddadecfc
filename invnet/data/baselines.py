"""Baselines: what simple models of the same training part need for the test part, in bits per dimension."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..typing import Array


def independent_histograms(images: Array) -> float:
    """Each pixel alone, by its histogram over the training part with one added to every count."""
    K, D = images.levels, images.dimensions
    columns = np.arange(D) * K
    train, test, counts, total = images.train.reshape(-1, D), images.test.reshape(-1, D), np.ones(K * D), 0.0
    for start in range(0, len(train), 4096):
        counts += np.bincount((train[start : start + 4096] + columns).ravel(), minlength=K * D)
    bits = math.log2(len(train) + K) - np.log2(counts)
    for start in range(0, len(test), 4096):
        total += float(bits[test[start : start + 4096] + columns].sum())
    return total / test.size


def gaussian(images: Array) -> float:
    """One Gaussian with all covariances, for the dequantised images.

    The noise of dequantisation, uniform in [0, 1), adds 1/12 to each variance and 1/2 to each mean: with that, the
    result is the exact mean over the noise, and the covariance is never singular.
    """
    D = images.dimensions
    train = images.train.reshape(-1, D)
    mean = train.mean(axis=0)
    C = np.zeros((D, D))
    for start in range(0, len(train), 4096):
        R = train[start : start + 4096] - mean
        C += R.T @ R
    C = C / len(train) + np.eye(D) / 12
    L = np.linalg.cholesky(C)
    inverse = np.linalg.inv(L)
    R = (images.test.reshape(-1, D) - mean) @ inverse.T
    squares = float((R * R).sum()) / len(R) + float((inverse * inverse).sum()) / 12
    nats = 0.5 * squares + float(np.log(np.diag(L)).sum()) + 0.5 * D * math.log(2 * math.pi)
    return nats / (D * math.log(2))
