"""Channels in other groups, within an array's memory: space to depth, and part of the channels apart."""

import math

import numpy as np

from .. import threads
from ..memory import scratch
from .arrays import LAST

#: Bytes from which part of the channels is taken out in place: a copy of less is faster.
SPLIT_IN_PLACE = 8 << 20


class Squeezes:
    def squeeze_(self, X):
        N, C, first, *rest = X.shape
        d, half = X.ndim - 2, [n // 2 for n in X.shape[2:]]
        slabs = (2, *(k for n in rest for k in (n // 2, 2)), C)
        last = self._rearrange(X, half[0], slabs, (*range(1, 2 * d - 1, 2), 2 * d - 1, *range(0, 2 * d - 1, 2)))
        return self.images(last, (N, C * 2**d, *half))

    def unsqueeze_(self, Z):
        N, C, first, *rest = Z.shape
        d = Z.ndim - 2
        slabs = (*rest, C // 2**d, *[2] * d)
        order = (d, *(k for i in range(d - 1) for k in (i, d + 1 + i)), d - 1)
        return self.images(self._rearrange(Z, first, slabs, order), (N, C // 2**d, *(2 * n for n in Z.shape[2:])))

    def _rearrange(self, X, count, shape, order):
        """X's memory with the axes of each of the `count` slabs of `shape` of a sample in another order."""
        slabs = X.transpose(LAST[X.ndim]).reshape(X.shape[0], count, math.prod(shape))
        if slabs.flags.c_contiguous:
            slabs = slabs.reshape(1, slabs.shape[0] * count, slabs.shape[2])
        order, ordered = (0, *(k + 1 for k in order)), tuple(shape[k] for k in order)

        def work(tile):
            before = scratch(slabs[tile].shape, slabs.dtype)
            before[...] = slabs[tile]
            n = before.shape[0]
            slabs[tile].reshape(n, *ordered)[...] = before.reshape(n, *shape).transpose(order)

        size = max(1, (1 << 18) // max(1, slabs.shape[2]))
        tiles = [(n, slice(i, i + size)) for n in range(slabs.shape[0]) for i in range(0, slabs.shape[1], size)]
        threads.map_tiles(work, tiles, lambda _: None)
        return slabs

    # ---- part of the channels: of a large array, each sample's memory becomes that of the two parts

    def split_(self, X, C1):
        samples = self._samples(X)
        if samples is None:
            return super().split_(X, C1)
        self._regroup(samples, X, C1, apart=True)
        return self._first(samples, X, C1)

    def join_(self, X, z1):
        samples = self._samples(X)
        if samples is None:
            return super().join_(X, z1)
        first = self._first(samples, X, z1.shape[1])
        if not np.may_share_memory(first, z1):
            first[...] = z1
        self._regroup(samples, X, z1.shape[1], apart=False)
        return X

    def _samples(self, X):
        """The memory of each sample, (N, numbers), or None where X is small or scattered."""
        samples = X.transpose(LAST[X.ndim]).reshape(X.shape[0], -1) if X.nbytes >= SPLIT_IN_PLACE else None
        return samples if samples is not None and np.may_share_memory(samples, X) else None

    def _first(self, samples, X, C1):
        return self.images(samples[:, : samples.shape[1] // X.shape[1] * C1], (X.shape[0], C1, *X.shape[2:]))

    def _regroup(self, samples, X, C1, apart):
        def work(n):
            before = scratch(sample, samples.dtype)
            before[...] = samples[n]
            channels, parts = (before, samples[n]) if apart else (samples[n], before)
            channels, cut = channels.reshape(-1, X.shape[1]), channels.size // X.shape[1] * C1
            pairs = (
                (channels[:, :C1], parts[:cut].reshape(-1, C1)),
                (channels[:, C1:], parts[cut:].reshape(-1, X.shape[1] - C1)),
            )
            for one, part in pairs:
                if apart:
                    part[...] = one
                else:
                    one[...] = part

        sample = samples.shape[1:]
        threads.map_tiles(work, range(X.shape[0]), lambda _: None)
