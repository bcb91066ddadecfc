"""Permute: another order of the channels."""

import numpy as np

from ..arguments import check_integers, generator, permutation
from ..core import Buffer, Isometry, get_ops
from ..fused.spec import LayerSpec


class Permute(Isometry):
    """Z[:, i] = X[:, order[i]].

    Args:
        order: a permutation of 0 ... C-1; see `reversal` and `random` for two common ones.

    Raises:
        ValueError: `order` is no permutation.
    """

    def __init__(self, order):
        order = permutation(order)
        self.channels = order.size
        self.order = Buffer(order.astype(np.int64))
        self.back = Buffer(np.argsort(order).astype(np.int64))

    @classmethod
    def reversal(cls, channels):
        check_integers(channels=channels)
        return cls(np.arange(channels)[::-1])

    @classmethod
    def random(cls, channels, seed=0):
        check_integers(channels=channels)
        return cls(generator(seed).permutation(channels))

    def apply(self, X):
        return self._take(X, self.order.data)

    def unapply(self, Z):
        return self._take(Z, self.back.data)

    def specs(self):
        return [LayerSpec("permute", (self.order,))]

    def _take(self, X, order):
        ops = get_ops(X)
        return ops.images(ops.xp.take(ops.rows(X), order, axis=1), X.shape)
