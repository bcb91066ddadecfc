"""Tile: the part of a batch that a layer with a conditioner computes at one time."""

import itertools
import math


class Tile:
    """Some samples: whole, or a block of their positions together with a halo that the conditioner sees.

    Args:
        samples: a slice of the batch.
        block: (start, stop) on each spatial axis; None for whole samples.
        spatial: the size of each spatial axis.
        reach: the width of the halo: how many positions around its own an output of the conditioner depends on.
    """

    def __init__(self, samples, block=None, spatial=(), reach=0):
        self.samples, self.whole, self.spatial = samples, block is None, spatial
        self._core = self._region = self._inner = (samples, slice(None))
        if block is None:
            self._inner = (slice(None), slice(None))
            return
        seen = [(max(0, a - reach), min(n, b + reach)) for (a, b), n in zip(block, spatial)]
        self._core += tuple(slice(a, b) for a, b in block)
        self._region += tuple(slice(a, b) for a, b in seen)
        self._inner = (slice(None), slice(None), *(slice(a - lo, b - lo) for (a, b), (lo, _) in zip(block, seen)))

    def core(self, X):
        """Returns the block without the halo, a view of X."""
        return X[self._core]

    def region(self, X):
        """Returns the block with its halo, a view of X."""
        return X[self._region]

    def inner(self, h):
        """Returns the part of h without the halo, where h is an array for the block with its halo."""
        return h if self.whole else h[self._inner]

    def condition(self, cond):
        """Returns the part of a condition that belongs to the block with its halo.

        Args:
            cond: an array (N, K), or (N, K, *spatial) with axes that are a multiple of those of X; or None. If it has
                one row, the result has that row.
        """
        if cond is None:
            return None
        samples = self.samples if cond.shape[0] > 1 else slice(None)
        if cond.ndim == 2 or self.whole:
            return cond[samples]
        times = [n // m for n, m in zip(cond.shape[2:], self.spatial)]
        return cond[
            (samples, slice(None)) + tuple(slice(t * s.start, t * s.stop) for t, s in zip(times, self._region[2:]))
        ]


def tiles_of(shape, samples, most, reach):
    """Divides an array into tiles of whole samples, or into blocks of one sample if a sample has too many positions.

    Args:
        shape: (N, C, *spatial).
        samples: the largest number of samples in a tile.
        most: the largest number of positions in a tile, including the halo.
        reach: how many positions around its own an output of the conditioner depends on. None means all positions; then
            samples are not divided.
    """
    N, _, *spatial = shape
    positions = math.prod(spatial)
    if positions <= most or reach is None or not spatial:
        size = max(1, min(samples, most // max(1, positions)))
        return [Tile(slice(i, min(i + size, N))) for i in range(0, N, size)]
    side = max(1, 2 * reach, int(most ** (1 / len(spatial))) - 2 * reach)  # the halo is at most as wide as the block
    cuts = [[n * i // count for i in range(count + 1)] for n, count in ((n, -(-n // side)) for n in spatial)]
    blocks = list(itertools.product(*(zip(cut, cut[1:]) for cut in cuts)))
    return [Tile(slice(n, n + 1), block, spatial, reach) for n in range(N) for block in blocks]
