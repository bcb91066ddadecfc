"""Base distributions of a flow."""

import math

import numpy as np

from .core import Module, get_ops


class Normal(Module):
    """The standard normal on arrays of any shape."""

    def log_prob(self, Z):
        """log density of each sample, (N,), in nats."""
        ops = get_ops(Z)
        R = ops.rows(Z)
        return -0.5 * ops.sum_positions(R * R, Z.shape[0]) - 0.5 * math.prod(Z.shape[1:]) * math.log(2 * math.pi)

    def sample(self, shape, rng, like, temperature=1.0):
        """Samples of `shape` (N, C, *spatial), of the dtype of the array `like`; `temperature` scales the deviation."""
        return get_ops(like).asarray(temperature * rng.standard_normal(shape, dtype=np.float64), like)
