"""Sizes and differences of fingerprints, of which a pass measures a few: 1 us each, where NumPy's calls take five."""

import numpy as np

from .kernels import kernel


@kernel("float64($[:,:])")
def mean_square(F):
    total = 0.0
    for g in range(F.shape[0]):
        for b in range(F.shape[1]):
            total += np.float64(F[g, b]) * np.float64(F[g, b])
    return total / F.shape[0]


@kernel("float64($[:,:], $[:,:])")
def largest_square(F, other):
    """NaN where a row has one."""
    largest = 0.0
    for g in range(F.shape[0]):
        square = 0.0
        for b in range(F.shape[1]):
            difference = np.float64(F[g, b]) - np.float64(other[g, b])
            square += difference * difference
        if not square <= largest:
            largest = square
        if largest != largest:
            break
    return largest
