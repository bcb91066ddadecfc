"""Arrays: conversions, memory layout, fingerprints, and tiles."""

import contextlib
import math

import numpy

from ..tile import Tile

#: How many numbers are projected at one time for a fingerprint, since parts of arrays are copied for it.
PROJECTED = 1 << 20
#: How many windows of a sequence of random signs a fingerprint may be taken with.
WINDOWS = 4096


class Arrays:
    """Needs `xp`, an array-API namespace."""

    #: whether reading a number of an array has to wait for a device
    asynchronous = False
    #: whether passes through layers measure drift
    guarded = True

    # ---- arrays

    def is_float(self, X):
        return self.xp.isdtype(X.dtype, "real floating")

    def same_dtype(self, a, b):
        return a == b

    def astype(self, X, dtype):
        return self.xp.astype(X, getattr(self.xp, dtype) if isinstance(dtype, str) else dtype)

    def asarray(self, data, like):
        """Converts numbers or a NumPy array to an array of the library, dtype and device of `like`."""
        return self.xp.asarray(data, dtype=like.dtype, device=like.device)

    def from_numpy(self, data):
        return self.xp.asarray(data)

    def to_numpy(self, X):
        return numpy.asarray(X)

    def detach(self, X):
        """Returns X without the record of autograd, if the library has one."""
        return X

    def copy(self, X):
        return self.xp.asarray(X, copy=True)

    def zeros_like(self, X):
        return self.xp.zeros_like(X)

    def zero_(self, arrays):
        """Sets all numbers of these arrays to zero."""
        for X in arrays:
            X[...] = 0

    def full(self, N, value, like):
        """Makes an array (N,) of one value, with the dtype and device of `like`."""
        return self.xp.full((N,), value, dtype=like.dtype, device=like.device)

    def empty(self, shape, like):
        """Makes an uninitialised array with the dtype and device of `like`. It does not outlive the present tile."""
        return self.xp.empty(shape, dtype=like.dtype, device=like.device)

    def product(self, A, B):
        """Returns the matrix product. It does not outlive the present tile."""
        return A @ B

    def images(self, R, shape):
        """Returns rows (N * positions, C) as an array of shape (N, C, *spatial)."""
        N, C, *spatial = shape
        last = self.xp.reshape(R, (N, *spatial, C))
        return self.xp.permute_dims(last, (0, len(shape) - 1, *range(1, len(shape) - 1)))

    def rows(self, X):
        """Returns X as rows (N * positions, C); a view if its memory is channels-last."""
        return self.xp.reshape(self.xp.permute_dims(X, (0, *range(2, X.ndim), 1)), (-1, X.shape[1]))

    def copy_channels_last(self, X):
        """Returns a copy of X with channels-last memory."""
        return self.images(self.xp.asarray(self.rows(X), copy=True), X.shape)

    def diagonal_matrix(self, v):
        return v[:, None] * self.xp.eye(v.shape[0], dtype=v.dtype, device=v.device)

    def sum_positions(self, R, N):
        """Sums rows (N * positions, C) to one number for each sample, (N,)."""
        return self.xp.sum(self.xp.reshape(R, (N, -1)), axis=1)

    def min_max(self, X):
        """Returns the smallest and the largest value, as Python numbers."""
        return float(self.xp.min(X)), float(self.xp.max(X))

    def lies_within(self, X, low, high, ends=True):
        """Returns whether all values lie between two numbers, including these if `ends`. NaN does not."""
        if not math.prod(X.shape):
            return True
        least, most = self.min_max(X)
        return low <= least and most <= high if ends else low < least and most < high

    def all_hold(self, mask):
        """Returns whether a boolean array is True everywhere; False if its values are unknown, during an export."""
        return bool(self.xp.all(mask))

    def adam_(self, data, grad, m, v, b1, b2, rate, root, eps):
        """Does a step of Adam in place: updates the running means m of the gradient and v of its square, then `data`.

        data -= rate * m / (root * sqrt(v) + eps)
        """
        m *= b1
        m += (1 - b1) * grad
        v *= b2
        v += (1 - b2) * grad * grad
        data -= rate * m / (root * self.xp.sqrt(v) + eps)

    def checksum(self, X):
        """Returns numbers that differ for different arrays."""
        return float(self.xp.sum(X)), float(self.xp.sum(X * X))

    def fingerprint(self, X, window=0):
        """Returns projections of the samples on a direction of random signs, (G, B).

        If there are fewer than 64 samples, each is divided into B equal parts, at most 4, which are projected
        separately. If there are more than 1,024, the projections are summed in G = 1,024 groups; otherwise G = N.

        Args:
            X: (N, C, *spatial).
            window: where the random signs begin in a long sequence.
        """
        N, n = X.shape[0], math.prod(X.shape[1:])
        B = next(B for B in (4, 3, 2, 1) if n % B == 0) if N < 64 else 1
        some = max(1, PROJECTED // max(1, n))
        projections = (
            self._project(X, B, window)
            if N <= some
            else self.xp.concat([self._project(X[i : i + some], B, window) for i in range(0, N, some)])
        )
        if N <= 1024:
            return projections
        whole = N // 1024 * 1024
        groups = self.xp.sum(self.xp.reshape(projections[:whole], (-1, 1024)), axis=0)
        groups[: N - whole] += projections[whole:, 0]
        return self.xp.reshape(groups, (1024, 1))

    def _project(self, X, B, window):
        """Projects each of B equal parts of each sample on a direction of random signs, (N, B)."""
        N, n = X.shape[0], math.prod(X.shape[1:]) // B
        return self.xp.reshape(self.xp.reshape(self.rows(X), (N * B, n)) @ self._signs(n, window, X), (N, B))

    def mean_square(self, F):
        """Returns the mean over the rows of a fingerprint (G, B) of their sums of squares, in double precision."""
        F = self.astype(F, "float64")
        return self.xp.mean(self.xp.vecdot(F, F))

    def largest_square(self, F, other):
        """Returns the largest sum of squares of a row of F - other, in double precision."""
        D = self.astype(F, "float64") - self.astype(other, "float64")
        return self.xp.max(self.xp.vecdot(D, D))

    def same(self, F, other):
        """Returns whether two fingerprints are equal and have no NaN."""
        return F.shape == other.shape and bool(self.xp.all(F == other))

    def deviation(self, X, other):
        """Returns the largest sum of squares of a sample of X - other, and the mean sum of squares of a sample of X.

        Both are in double precision.
        """
        N, some = X.shape[0], max(1, PROJECTED // max(1, math.prod(X.shape[1:])))
        largest, sizes = [], []
        for i in range(0, N, some):
            R, S = self.rows(X[i : i + some]), self.rows(other[i : i + some])
            n = min(some, N - i)
            largest.append(self.xp.max(self._sums_of_squares(S - R, n)))
            sizes.append(self.xp.sum(self._sums_of_squares(R, n)))
        return self.xp.max(self.xp.stack(largest)), self.xp.sum(self.xp.stack(sizes)) / N

    def _sums_of_squares(self, R, N):
        """Returns the sum of squares of each of N samples, (N,), from their rows R."""
        R = self.xp.reshape(self.astype(R, "float64"), (N, -1))
        return self.xp.vecdot(R, R)

    def _signs(self, n, window, like):
        """Returns n random signs, 1 and -1, which begin at `window` in a sequence that is the same for every n."""
        signs = self._of_dtype.get(key := self._key(like))
        if signs is None or signs.shape[0] < n + window:
            signs = self._of_dtype[key] = self.asarray(
                2.0 * numpy.random.default_rng(0).integers(0, 2, n + WINDOWS) - 1, like
            )
        return signs[window : window + n]

    def _key(self, like):
        return str(like.dtype)  # each device has its own Ops

    def lasting_memory(self, size):
        """Returns a Pool of at most `size` bytes for map_tiles; None if the library's own memory is fast enough."""

    def free_memory(self):
        """Returns how many bytes are free on the device of the arrays."""
        import psutil

        return psutil.virtual_memory().available

    def update_(self, update, *arrays):
        """Calls update(operations, *arrays), which changes flat arrays in place, element by element.

        An engine may divide the arrays into parts and call it for each.
        """
        update(self, *arrays)

    # ---- tiles

    def tiles(self, shape, floats_per_position, reach, weights):
        """Divides an array into tiles: the parts that are computed at one time.

        Args:
            shape: the shape of the array, (N, C, *spatial).
            floats_per_position: how many floats the conditioner needs for each position.
            reach: how many positions around its own an output of the conditioner depends on; None for all.
            weights: the conditioner's number of weights, which is its number of multiplications for each position.
        """
        return [Tile(slice(0, shape[0]))]

    def map_tiles(self, work, tiles, commit, memory=None):
        """Calls commit(work(tile)) for every tile. `work` may run in threads, `commit` runs in the order of the tiles.

        Results of operations within `work` exist for that tile only; with a lasting `memory`, as long as they are used.
        """
        for tile in tiles:
            commit(work(tile))

    def errstate(self):
        """Returns a context in which infinity and NaN cause no warnings."""
        return contextlib.nullcontext()

    def host_array(self, X):
        """Returns X as a NumPy array in the same memory if this engine computes fused groups; else None."""
        return

    def at_work(self):
        """Returns a context for a public call of a layer, which prepares the engine once for all operations within."""
        return contextlib.nullcontext()

    def precision(self):
        """Returns a function that makes a context in which conditioners have the precision that is set now."""
        return contextlib.nullcontext

    def in_full_precision(self):
        """Returns a context in which conditioners compute in their full dtype, even if autocast is on."""
        return contextlib.nullcontext()
