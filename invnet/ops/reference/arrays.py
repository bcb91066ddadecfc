"""Arrays: what they are, how they lie in memory, and the tiles that they are worked on in."""

import contextlib

from ..tile import Tile


class Arrays:
    """Needs `xp`, an array-API namespace."""

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
        import numpy

        return numpy.asarray(X)

    def copy(self, X):
        return self.xp.asarray(X, copy=True)

    def zeros_like(self, X):
        return self.xp.zeros_like(X)

    def fill(self, N, value, like):
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

    def fresh(self, X):
        """A copy of X with channels-last memory."""
        return self.images(self.xp.asarray(self.rows(X), copy=True), X.shape)

    def diagonal_matrix(self, v):
        return v[:, None] * self.xp.eye(v.shape[0], dtype=v.dtype, device=v.device)

    def sum_positions(self, R, N):
        """Sums rows (N * positions, C) to one number for each sample, (N,)."""
        return self.xp.sum(self.xp.reshape(R, (N, -1)), axis=1)

    def checksum(self, X):
        """What tells X from any other array."""
        return float(self.xp.sum(X)), float(self.xp.sum(X * X))

    def lasting_memory(self, size):
        """Memory of at most `size` bytes for map_tiles, where the library's own would be slow; or None."""

    def free_memory(self):
        """Bytes that are free where the arrays are."""
        import psutil

        return psutil.virtual_memory().available

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

    def at_work(self):
        """A context for a layer's public call: what an engine prepares once for all the operations within."""
        return contextlib.nullcontext()
