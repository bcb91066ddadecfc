"""Permute: the channels in another order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers, generator, permutation
from ..core import Buffer, Isometry, get_ops
from ..fused.spec import LayerSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..typing import Array, Seed


class Permute(Isometry):
    """A permutation of the channels, Z[:, i] = X[:, order[i]]; logdet is 0.

    Args:
        order: a permutation of 0 ... C-1. `Permute.reversal(C)` and `Permute.random(C, seed)` make two common ones.

    Raises:
        ValueError: `order` is no permutation.
        TypeError: `order` has no integers.
    """

    def __init__(self, order: Sequence[int] | np.ndarray):
        order = permutation(order)
        self.channels = order.size
        self.order = Buffer(order.astype(np.int64))
        self.back = Buffer(np.argsort(order).astype(np.int64))

    @classmethod
    def reversal(cls, channels: int) -> Permute:
        check_integers(channels=channels)
        return cls(np.arange(channels)[::-1])

    @classmethod
    def random(cls, channels: int, seed: Seed = 0) -> Permute:
        check_integers(channels=channels)
        return cls(generator(seed).permutation(channels))

    def apply(self, X: Array) -> Array:
        return self._take(X, self.order.data)

    def unapply(self, Z: Array) -> Array:
        return self._take(Z, self.back.data)

    def specs(self) -> list:
        return [LayerSpec("permute", (self.order,))]

    def _take(self, X, order):
        ops = get_ops(X)
        return ops.images(ops.xp.take(ops.rows(X), order, axis=1), X.shape)
