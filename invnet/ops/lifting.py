"""Lifting: a matrix of determinant 1 or -1 as steps that each add to one channel a multiple of others."""

import math
from typing import NamedTuple

import numpy as np


class Lifting(NamedTuple):
    """M / g = P L D U Q with g = |det M| ** (1 / C); all arrays float64, but for the integer orders and pairs.

    P and Q put channels in another order; L and U are unit triangular; D, diagonal with determinant 1 or -1, is made of
    signs and of pairs that are scaled by k and 1/k.
    """

    rows: np.ndarray  # (C,), P: entry i of the product goes to channel rows[i]
    columns: np.ndarray  # (C,), Q: entry i is taken from channel columns[i]
    factors: np.ndarray  # (C, C), L below the diagonal and U above
    signs: np.ndarray  # (C,)
    pairs: np.ndarray  # (n, 2), the entries that become larger and smaller
    k: np.ndarray  # (n,), by how much: at least 1


def lifting_of(M):
    """The Lifting of a regular matrix (C, C), by complete pivoting: no entry of L and U is above 1."""
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
    """Pairs and their k, of which the product is a diagonal matrix with the logarithms log_d, less their mean."""
    rest, pairs, k = (log_d - log_d.mean()).tolist(), [], []
    for _ in range(len(rest) - 1):
        high, low = rest.index(max(rest)), rest.index(min(rest))
        moved = min(rest[high], -rest[low])  # the smaller is done with: C - 1 pairs at most
        if not moved > 1e-15:
            break
        rest[high] -= moved
        rest[low] += moved
        pairs.append((high, low))
        k.append(math.exp(moved))
    return np.array(pairs, np.int64).reshape(-1, 2), np.array(k)
