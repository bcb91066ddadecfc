"""Tile: the part of a batch that a coupling works on at one time."""

import itertools
import math


class Tile:
    """Some samples, whole or a block of their positions with what a conditioner sees around it.

    Args:
        samples: a slice of the batch.
        block: (start, stop) on each spatial axis, or None for whole samples.
        spatial: the size of the spatial axes.
        reach: how far an output position of the conditioner sees.
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
        """The positions that the tile is for, a view of X."""
        return X[self._core]

    def region(self, X):
        """The core and what is seen around it, a view of X."""
        return X[self._region]

    def inner(self, h):
        """The core's part of an array of the region."""
        return h if self.whole else h[self._inner]

    def condition(self, cond):
        """The condition of the region: an array, (N, K) or spatial with axes that are a multiple of X's; or None.

        Of an array of one row it is that row.
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
    """Tiles of an array of `shape` (N, C, *spatial): samples, or blocks of one where it has too many positions.

    Args:
        samples: the most in a tile.
        most: positions, the most in a tile, halos included.
        reach: how far an output position of the conditioner sees; None, everything, is never cut.
    """
    N, _, *spatial = shape
    positions = math.prod(spatial)
    if positions <= most or reach is None or not spatial:
        size = max(1, min(samples, most // max(1, positions)))
        return [Tile(slice(i, min(i + size, N))) for i in range(0, N, size)]
    side = max(1, 2 * reach, int(most ** (1 / len(spatial))) - 2 * reach)  # what is around is at most as wide
    cuts = [[n * i // count for i in range(count + 1)] for n, count in ((n, -(-n // side)) for n in spatial)]
    blocks = list(itertools.product(*(zip(cut, cut[1:]) for cut in cuts)))
    return [Tile(slice(n, n + 1), block, spatial, reach) for n in range(N) for block in blocks]
