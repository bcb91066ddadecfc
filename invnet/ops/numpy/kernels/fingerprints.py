"""Sizes and differences of fingerprints and arrays, of which a pass measures a few: 1 us each, where NumPy's calls take
five.
"""

import numpy as np

from .simple import kernel


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


@kernel("UniTuple(float64, 2)($[:,:,:], $[:,:,:])")
def deviation(X, other):
    """The largest sum of squares of a sample of other - X, NaN where one has one, and the mean over the samples of that
    of X.
    """
    largest, total = 0.0, 0.0
    for n in range(X.shape[0]):
        square = 0.0
        for c in range(X.shape[1]):
            for i in range(X.shape[2]):
                x = np.float64(X[n, c, i])
                difference = np.float64(other[n, c, i]) - x
                square += difference * difference
                total += x * x
        if not square <= largest:
            largest = square
        if largest != largest:
            break
    return largest, total / X.shape[0]
