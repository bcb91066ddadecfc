"""Lifting: a matrix of determinant 1 or -1 as steps, each of which adds multiples of other channels to one channel."""

import math
from typing import NamedTuple

import numpy as np


class Lifting(NamedTuple):
    """The factors of M / g = P L D U Q, where g = |det M| ** (1 / C).

    P and Q permute the channels. L and U are triangular with ones on the diagonal. D is diagonal with determinant 1 or
    -1: signs, and pairs of channels that are scaled by k and 1/k. Orders and pairs are integers, other arrays float64.
    """

    rows: np.ndarray  # (C,), P: entry i of L D U Q x becomes channel rows[i]
    columns: np.ndarray  # (C,), Q: entry i of Q x is channel columns[i] of x
    factors: np.ndarray  # (C, C), L below the diagonal and U above it
    signs: np.ndarray  # (C,)
    pairs: np.ndarray  # (n, 2), the channels that are scaled by k and by 1/k
    k: np.ndarray  # (n,), at least 1


def lifting_of(M: np.ndarray) -> Lifting:
    """Computes the Lifting of a regular matrix (C, C). By complete pivoting, no entry of L and U is above 1."""
    A = np.array(M, np.float64)
    C = len(A)
    rows, columns = np.arange(C), np.arange(C)
    for i in range(C):
        down, right = divmod(int(np.argmax(np.abs(A[i:, i:]))), C - i)
        rows[[i, i + down]], A[[i, i + down]] = rows[[i + down, i]], A[[i + down, i]]
        columns[[i, i + right]], A[:, [i, i + right]] = columns[[i + right, i]], A[:, [i + right, i]]
        A[i + 1 :, i] /= A[i, i]
        A[i + 1 :, i + 1 :] -= np.outer(A[i + 1 :, i], A[i, i + 1 :])
    d = np.diag(A).copy()
    A[np.triu_indices(C, 1)] /= np.repeat(d, range(C - 1, -1, -1))
    pairs, k = _balanced(np.log(np.abs(d)))
    return Lifting(rows, columns, A, np.sign(d), pairs, k)


def _balanced(log_d):
    """Returns pairs and their k. Their product is diagonal; its logarithms are log_d minus the mean of log_d."""
    rest, pairs, k = (log_d - log_d.mean()).tolist(), [], []
    for _ in range(len(rest) - 1):
        high, low = rest.index(max(rest)), rest.index(min(rest))
        moved = min(rest[high], -rest[low])  # one of the two is finished, so there are at most C - 1 pairs
        if not moved > 1e-15:
            break
        rest[high] -= moved
        rest[low] += moved
        pairs.append((high, low))
        k.append(math.exp(moved))
    return np.array(pairs, np.int64).reshape(-1, 2), np.array(k)
