"""Uniform: the base of a flow to a cube."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..arguments import check_numbers
from ..core import get_ops
from .base import Base

if TYPE_CHECKING:
    import numpy as np

    from ..typing import Array


class Uniform(Base):
    """The uniform distribution between two numbers in every dimension, on arrays of any shape.

    log p(z) = -D log(high - low) within, the edges included, and -inf outside.

    Args:
        low, high: the edges, two numbers, low below high.

    Raises:
        TypeError: an edge is no number: the edges are the same in every dimension.
        ValueError: low is not below high, or one of them not finite.
    """

    def __init__(self, low: Array = 0.0, high: Array = 1.0):
        check_numbers(low=low, high=high)
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"low lies below high, both finite; got {low} and {high}")
        self._low, self._high = (
            float(low),
            float(high),
        )  # a NumPy scalar would not be rounded to the dtype of Z in comparisons

    def log_prob(self, Z: Array) -> Array:
        self.check(Z)
        ops = get_ops(Z)
        R = ops.rows(Z)
        outside = ops.astype(~((R >= self._low) & (R <= self._high)), Z.dtype)  # NaN is outside
        inside = ops.sum_positions(outside, Z.shape[0]) == 0
        within = ops.full(Z.shape[0], -math.prod(Z.shape[1:]) * math.log(self._high - self._low), Z)
        return ops.xp.where(inside, within, within - math.inf)

    def sample(self, shape: tuple[int, ...], rng: np.random.Generator, like: Array, temperature: float = 1.0) -> Array:
        centre, width = 0.5 * (self._low + self._high), self._high - self._low
        return get_ops(like).asarray(centre + temperature * width * (rng.random(shape) - 0.5), like)

    def log_prob_backward(self, dlog_prob: Array, Z: Array) -> Array:
        self.check(Z)
        return get_ops(Z).zeros_like(Z)

    def sample_backward(self, dZ: Array, Z: Array) -> None:
        pass
