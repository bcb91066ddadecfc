"""Arrays: what they are, how they lie in memory, and the tiles that they are worked on in."""

import contextlib
import math

import numpy

from ..tile import Tile

#: Numbers of which a fingerprint is taken at one time, since an array that is a part of another is copied for it.
PROJECTED = 1 << 20
#: How many windows of a sequence of random signs a fingerprint may be taken with.
WINDOWS = 4096


class Arrays:
    """Needs `xp`, an array-API namespace."""

    #: whether a number of an array has to be waited for
    asynchronous = False
    #: whether passes through layers measure how exactly they rebuild
    guarded = True

    # ---- arrays

    def is_float(self, X):
        return self.xp.isdtype(X.dtype, "real floating")

    def same_dtype(self, a, b):
        return a == b

    def astype(self, X, dtype):
        return self.xp.astype(X, getattr(self.xp, dtype) if isinstance(dtype, str) else dtype)

    def asarray(self, data, like):
        """`data` (numbers or a NumPy array) as an array of the library, dtype and device of `like`."""
        return self.xp.asarray(data, dtype=like.dtype, device=like.device)

    def from_numpy(self, data):
        return self.xp.asarray(data)

    def to_numpy(self, X):
        return numpy.asarray(X)

    def detach(self, X):
        """X as data alone: without the record that a library which differentiates has of it."""
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
        """(N,) of one value, with the dtype and device of `like`."""
        return self.xp.full((N,), value, dtype=like.dtype, device=like.device)

    def empty(self, shape, like):
        """An array of any numbers, with the dtype and device of `like`, that lives no longer than the tile at work."""
        return self.xp.empty(shape, dtype=like.dtype, device=like.device)

    def product(self, A, B):
        """The matrix product, which lives no longer than the tile at work."""
        return A @ B

    def images(self, R, shape):
        """Rows (N * positions, C) as an array of shape (N, C, *spatial)."""
        N, C, *spatial = shape
        last = self.xp.reshape(R, (N, *spatial, C))
        return self.xp.permute_dims(last, (0, len(shape) - 1, *range(1, len(shape) - 1)))

    def rows(self, X):
        """(N * positions, C): a view of X where its memory is channels-last."""
        return self.xp.reshape(self.xp.permute_dims(X, (0, *range(2, X.ndim), 1)), (-1, X.shape[1]))

    def copy_channels_last(self, X):
        """A copy of X with channels-last memory."""
        return self.images(self.xp.asarray(self.rows(X), copy=True), X.shape)

    def diagonal_matrix(self, v):
        return v[:, None] * self.xp.eye(v.shape[0], dtype=v.dtype, device=v.device)

    def sum_positions(self, R, N):
        """Sums rows (N * positions, C) to one number for each sample, (N,)."""
        return self.xp.sum(self.xp.reshape(R, (N, -1)), axis=1)

    def min_max(self, X):
        """The least and the largest value, as numbers."""
        return float(self.xp.min(X)), float(self.xp.max(X))

    def lies_within(self, X, low, high, ends=True):
        """Whether all values lie between two numbers, which `ends` includes; NaN does not."""
        if not math.prod(X.shape):
            return True
        least, most = self.min_max(X)
        return low <= least and most <= high if ends else low < least and most < high

    def all_hold(self, mask):
        """Whether a boolean array is True everywhere; also False where values are not known yet, in a program that is
        being exported.
        """
        return bool(self.xp.all(mask))

    def adam_(self, data, grad, m, v, b1, b2, rate, root, eps):
        """A step of Adam: m and v become the means of the gradient and of its square, data -= rate m / (root sqrt(v) +
        eps).
        """
        m *= b1
        m += (1 - b1) * grad
        v *= b2
        v += (1 - b2) * grad * grad
        data -= rate * m / (root * self.xp.sqrt(v) + eps)

    def checksum(self, X):
        """What tells X from any other array."""
        return float(self.xp.sum(X)), float(self.xp.sum(X * X))

    def fingerprint(self, X, window=0):
        """(G, B): the projection of each sample on a direction of random signs, those from `window` on in a long
        sequence; of few samples, of B equal parts, up to 4, of each; of more than 1,024, the sums of those of as many
        groups."""
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
        """(N, B), the projection of each of B equal parts of each sample on a direction of random signs."""
        N, n = X.shape[0], math.prod(X.shape[1:]) // B
        return self.xp.reshape(self.xp.reshape(self.rows(X), (N * B, n)) @ self._signs(n, window, X), (N, B))

    def mean_square(self, F):
        """Of a fingerprint F (G, B), the mean over its rows of the sum of their squares, in double precision."""
        F = self.astype(F, "float64")
        return self.xp.mean(self.xp.vecdot(F, F))

    def largest_square(self, F, other):
        """The largest sum of squares of a row of the difference of two fingerprints, in double precision."""
        D = self.astype(F, "float64") - self.astype(other, "float64")
        return self.xp.max(self.xp.vecdot(D, D))

    def same(self, F, other):
        """Whether two fingerprints are equal, and without NaN."""
        return F.shape == other.shape and bool(self.xp.all(F == other))

    def deviation(self, X, other):
        """The largest sum of squares of a sample of the difference of two arrays, and the mean over the samples of that
        of X, in double precision."""
        N, some = X.shape[0], max(1, PROJECTED // max(1, math.prod(X.shape[1:])))
        largest, sizes = [], []
        for i in range(0, N, some):
            R, S = self.rows(X[i : i + some]), self.rows(other[i : i + some])
            n = min(some, N - i)
            largest.append(self.xp.max(self._sums_of_squares(S - R, n)))
            sizes.append(self.xp.sum(self._sums_of_squares(R, n)))
        return self.xp.max(self.xp.stack(largest)), self.xp.sum(self.xp.stack(sizes)) / N

    def _sums_of_squares(self, R, N):
        """Of each of N samples, whose numbers are the rows R."""
        R = self.xp.reshape(self.astype(R, "float64"), (N, -1))
        return self.xp.vecdot(R, R)

    def _signs(self, n, window, like):
        """(n,) numbers 1 and -1, those from `window` on in a sequence that is the same for every n."""
        signs = self._of_dtype.get(key := self._key(like))
        if signs is None or signs.shape[0] < n + window:
            signs = self._of_dtype[key] = self.asarray(
                2.0 * numpy.random.default_rng(0).integers(0, 2, n + WINDOWS) - 1, like
            )
        return signs[window : window + n]

    def _key(self, like):
        return str(like.dtype)  # of a device there is an Ops

    def lasting_memory(self, size):
        """Memory of at most `size` bytes for map_tiles, where the library's own would be slow; or None."""

    def free_memory(self):
        """Bytes that are free where the arrays are."""
        import psutil

        return psutil.virtual_memory().available

    def update_(self, update, *arrays):
        """update(operations, *arrays) of flat arrays, in place and number by number, so that it may be done part by
        part.
        """
        update(self, *arrays)

    # ---- tiles

    def tiles(self, shape, floats_per_position, reach, weights):
        """Tiles of an array of `shape`: the parts that are worked on at one time.

        `floats_per_position` says what a conditioner holds for each position, `reach` how far it sees (None: all),
        `weights` how many it has, which are its multiplications for each position.
        """
        return [Tile(slice(0, shape[0]))]

    def map_tiles(self, work, tiles, commit, memory=None):
        """commit(work(tile)) for every tile; work may run in threads, commits come one by one in the order of tiles.

        What operations give within `work` lives for that tile, or, in lasting `memory`, as long as anyone holds it.
        """
        for tile in tiles:
            commit(work(tile))

    def errstate(self):
        """A context in which infinity and NaN are answers, which nothing warns of."""
        return contextlib.nullcontext()

    def host_array(self, X):
        """X as a NumPy array of the same memory where this engine has the operations of fused groups (`fused_vectors_`
        ...), else None.
        """
        return

    def at_work(self):
        """A context for a layer's public call: what an engine prepares once for all the operations within."""
        return contextlib.nullcontext()

    def precision(self):
        """What makes a context in which networks are computed in the precision of now."""
        return contextlib.nullcontext

    def in_full_precision(self):
        """A context in which no network is computed in less than its dtype, whatever the library's user asked for."""
        return contextlib.nullcontext()
