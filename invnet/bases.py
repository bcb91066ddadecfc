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


class Uniform(Module):
    """The uniform distribution on [0, 1] in every dimension, on arrays of any shape."""

    def log_prob(self, Z):
        """log density of each sample, (N,), in nats: 0 within, -inf outside."""
        ops = get_ops(Z)
        R = ops.rows(Z)
        outside = ops.astype(~((R >= 0) & (R <= 1)), Z.dtype)  # NaN is outside
        inside = ops.sum_positions(outside, Z.shape[0]) == 0
        zeros = ops.fill(Z.shape[0], 0.0, Z)
        return ops.xp.where(inside, zeros, zeros - math.inf)

    def sample(self, shape, rng, like, temperature=1.0):
        """Samples of `shape` (N, C, *spatial), of the dtype of `like`; `temperature` scales the width about 1/2."""
        return get_ops(like).asarray(0.5 + temperature * (rng.random(shape) - 0.5), like)
