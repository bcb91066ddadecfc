"""SplitTokens: moves one half of the positions to the first half of the channels, and the other half to the second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_flags
from ..core import Isometry, get_ops

if TYPE_CHECKING:
    from ..typing import Array

PATTERNS = ("checkerboard", "rows", "columns")


class SplitTokens(Isometry):
    """Moves one half of the positions to the first half of the channels, and the other half to the second; logdet is 0.

    A coupling between a SplitTokens and its Reverse then changes half of the positions given the other half. Its
    conditioner sees as many positions as before, with half of the channels. The k-th position of a half, in row-major
    order, becomes positions 2k and 2k + 1: the first of these gets the first half of its channels.

    Args:
        pattern: which positions are the first half: "checkerboard", "rows" or "columns" means every second position,
            row or column, from the first.
        inverted: whether the two halves are exchanged.

    Raises:
        ValueError: the pattern is unknown; or an array has not two spatial axes, or an odd number of channels, or its
            positions cannot be halved by this pattern.
        TypeError: `inverted` is neither True nor False.

    References:
        Kolesnikov, Pinto & Tschannen, Jet: A Modern Transformer-Based Normalizing Flow, 2024, section 3 (spatial
        couplings). Dinh, Sohl-Dickstein & Bengio, Density estimation using Real NVP, 2016, section 3.4 (the
        checkerboard).
    """

    def __init__(self, pattern: str = "checkerboard", inverted: bool = False):
        if pattern not in PATTERNS:
            raise ValueError(f"pattern is one of {', '.join(PATTERNS)}; got {pattern!r}")
        check_flags(inverted=inverted)
        self.pattern, self.inverted = pattern, bool(inverted)

    def check_shape(self, X: Array, name: str = "X") -> None:
        super().check_shape(X, name)
        even = (
            X.ndim == 4
            and {
                "rows": X.shape[2] % 2 == 0,
                "columns": X.shape[3] % 2 == 0,
                "checkerboard": X.shape[2] * X.shape[3] % 2 == 0,
            }[self.pattern]
        )
        if not even or X.shape[1] % 2:
            raise ValueError(
                f"SplitTokens halves the channels, and the positions of two spatial axes by {self.pattern}: both must "
                f"be even; got {name} of shape {tuple(X.shape)}"
            )

    def apply(self, X: Array) -> Array:
        ops, (N, C, H, W) = get_ops(X), X.shape
        tokens = ops.xp.take(ops.xp.reshape(ops.rows(X), (N, H * W, C)), self._order(ops, H, W), axis=1)
        halves = ops.xp.reshape(tokens, (N, 2, H * W, C // 2))
        return ops.images(ops.xp.reshape(ops.xp.permute_dims(halves, (0, 2, 1, 3)), (N * H * W, C)), X.shape)

    def unapply(self, Z: Array) -> Array:
        ops, (N, C, H, W) = get_ops(Z), Z.shape
        halves = ops.xp.permute_dims(ops.xp.reshape(ops.rows(Z), (N, H * W, 2, C // 2)), (0, 2, 1, 3))
        back = ops.xp.argsort(self._order(ops, H, W))
        tokens = ops.xp.take(ops.xp.reshape(halves, (N, H * W, C)), back, axis=1)
        return ops.images(ops.xp.reshape(tokens, (N * H * W, C)), Z.shape)

    def _order(self, ops, H, W):
        """Returns the indices of the positions: those of the first half, then those of the second."""
        row, column = np.divmod(np.arange(H * W), W)
        second = {"checkerboard": row + column, "rows": row, "columns": column}[self.pattern] % 2 != self.inverted
        return ops.from_numpy(np.argsort(second, kind="stable"))
