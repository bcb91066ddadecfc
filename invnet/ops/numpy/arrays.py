"""NumPy's arrays: their rows, one for each position, as views of their memory, and what compiled functions take."""

import zlib

import numpy as np

from ..memory import scratch
from ..reference.arrays import PROJECTED
from .kernels import fingerprints, simple

#: Axes that make channels-last of channels-first, by the number of axes, and back.
LAST = {d: (0, *range(2, d), 1) for d in range(2, 6)}
FIRST = {d: (0, d - 1, *range(1, d - 1)) for d in range(2, 6)}
#: Numbers of a pass over all parameters: what an update computes on the way stays in cache. Of Adam on 174,000 this
#: halves the time, 1.1 ms, within a step of training.
BLOCK = 1 << 14
#: Numbers of a short row, which can be added one after the other.
SHORT = 64


class Arrays:
    def is_float(self, X):
        return X.dtype.kind == "f" and X.dtype.itemsize in (4, 8)

    def same_dtype(self, a, b):
        return a == b or (a.kind, a.itemsize) == (b.kind, b.itemsize)  # byte order is mended by fresh

    def astype(self, X, dtype):
        return X.astype(dtype, copy=False)

    def asarray(self, data, like):
        return np.asarray(data, dtype=like.dtype)

    def from_numpy(self, data):
        return np.array(data)

    def copy(self, X):
        return np.array(X)

    def to_numpy(self, X):
        return np.asarray(X)

    def full(self, N, value, like):
        each = np.empty(N, like.dtype.newbyteorder("="))
        each.fill(value)  # np.full is three times as slow for a small batch
        return each

    def empty(self, shape, like):
        return scratch(shape, like.dtype)

    def product(self, A, B):
        return np.matmul(A, B, out=scratch((A.shape[0], B.shape[1]), A.dtype))

    def images(self, R, shape):
        N, C, *spatial = shape
        return R.reshape(N, *spatial, C).transpose(FIRST[len(shape)])

    def rows(self, X):
        return X if X.ndim == 2 else X.transpose(LAST[X.ndim]).reshape(-1, X.shape[1])

    def copy_channels_last(self, X):
        return np.array(X.transpose(LAST[X.ndim]), X.dtype.newbyteorder("="), order="C").transpose(FIRST[X.ndim])

    def diagonal_matrix(self, v):
        return np.diag(v)

    def update_(self, update, *arrays):
        for start in range(0, arrays[0].shape[0], BLOCK):
            part = slice(start, start + BLOCK)
            update(self, *[array[part] for array in arrays])

    def fingerprint(self, X, window=0):
        N = X.shape[0]
        if not 0 < X.size <= PROJECTED or N > 1024:
            return super().fingerprint(X, window)
        n = X.size // N
        B = 1 if N >= 64 or n % 2 and n % 3 else 4 if n % 4 == 0 else 3 if n % 3 == 0 else 2
        R = (X if X.ndim == 2 else X.transpose(LAST[X.ndim])).reshape(N * B, n // B)
        return (R @ self._signs(n // B, window, X)).reshape(N, B)

    def mean_square(self, F):
        return fingerprints.mean_square(F.dtype.char)(F)

    def largest_square(self, F, other):
        return fingerprints.largest_square(F.dtype.char)(F, other)

    def same(self, F, other):
        return F.shape == other.shape and self.largest_square(F, other) == 0.0

    def deviation(self, X, other):
        return fingerprints.deviation(X.dtype.char)(
            readable(X.reshape(*X.shape[:2], -1)), other.reshape(*X.shape[:2], -1)
        )

    def checksum(self, X):
        return X.shape, zlib.crc32(np.ascontiguousarray(self.rows(X)))

    def _key(self, like):
        return like.dtype.char

    def sum_positions(self, R, N):
        R = R.reshape(N, R.size // max(N, 1))
        # Along a short axis einsum takes half the time; along a long one it has not the accuracy of sums of sums.
        return np.einsum("nd->n", R) if R.shape[1] <= SHORT else R.sum(axis=1)

    def adam_(self, data, grad, m, v, b1, b2, rate, root, eps):
        simple.adam(data.dtype.char)(data, grad, m, v, b1, 1 - b1, b2, 1 - b2, rate, root, eps)

    def _write_back(self, R, X):
        """X gets the values of its rows R, which were worked on in place, where these had to be a copy."""
        if not np.may_share_memory(R, X):
            X[...] = self.images(R, X.shape)


def readable(X):
    """X as compiled functions take it."""
    return X if X.flags.writeable and X.dtype.isnative else np.array(X, X.dtype.newbyteorder("="))
