"""Mixtures of normals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..core import as_dlogdet, get_ops
from .base import ParametricBase, add_gradient, for_each, sample_shape, start, state

if TYPE_CHECKING:
    from ..typing import Array, DType


class GaussianMixture(ParametricBase):
    """K normals, each with its means and deviations: log p(z) = log sum_k w_k N(z; mean_k, s_k^2), s_k = exp(log_s_k).

    The weights are w = softmax(logits). A sample is one of a normal that is drawn first, hence no smooth map of noise:
    a mixture that is learned is trained by `objectives.forward_kl`, and one with learn=False serves
    `objectives.reverse_kl` too.

    Args:
        means: (K, C, *spatial), at the start.
        std: s at the start, positive, a number or (K, C, *spatial).
        weights: (K,) at the start, positive, of any sum; None is all the same.
        learn: means, log_s and logits are Parameters; otherwise they stay as they are.
        dtype: "float32" or "float64".

    Raises:
        ValueError: a start value of another shape, or not finite, or a deviation or weight that is not positive.
    """

    def __init__(
        self, means: Array, std: Array = 1.0, weights: Array | None = None, learn: bool = True, dtype: DType = "float32"
    ):
        if np.ndim(means) < 2 or len(means) == 0:
            raise ValueError(f"the means of a mixture have shape (K, C, *spatial), K at least 1; got {np.shape(means)}")
        self.shape, size = sample_shape(np.asarray(means)[0]), np.shape(means)
        weights = start("weights", 1.0 if weights is None else weights, size[:1], least=0)
        self.means = state(start("means", means, size), learn, dtype)
        self.log_s = state(np.log(start("std", std, size, least=0)), learn, dtype)
        self.logits = state(np.log(weights / weights.sum()), learn, dtype)
        self.reparametrised = not learn

    def log_prob(self, Z: Array) -> Array:
        self.check(Z)
        return mixture_log_prob(Z, self.means.data, self.log_s.data, self.logits.data)[0]

    def sample(self, shape: tuple[int, ...], rng: np.random.Generator, like: Array, temperature: float = 1.0) -> Array:
        self.check_shape(shape)
        ops = get_ops(like)
        logits = ops.to_numpy(self.logits.data).astype(np.float64)
        weights = np.exp(logits - logits.max())
        K = len(weights)
        # One-hot rows times the rows of means: a choice that needs no indexing by arrays.
        chosen = ops.asarray(np.eye(K)[rng.choice(K, shape[0], p=weights / weights.sum())], like)
        pick = lambda rows: ops.xp.reshape(chosen @ ops.xp.reshape(rows, (K, -1)), tuple(shape))
        E = ops.asarray(temperature * rng.standard_normal(shape), like)
        return pick(self.means.data) + pick(ops.xp.exp(self.log_s.data)) * E

    def log_prob_backward(self, dlog_prob: Array, Z: Array) -> Array:
        self.check(Z)
        ops, xp = get_ops(Z), get_ops(Z).xp
        _, R = mixture_log_prob(Z, self.means.data, self.log_s.data, self.logits.data)
        dZ, dmeans, dlog_s = ops.zeros_like(Z), [], []
        for k in range(R.shape[0]):
            E, s = scaled(Z, self.means.data[k], self.log_s.data[k])
            d = for_each(dlog_prob, Z) * for_each(R[k], Z)
            dmean = d * E / s
            dZ -= dmean
            dmeans.append(xp.sum(dmean, axis=0))
            dlog_s.append(xp.sum(d * (E * E - 1), axis=0))
        add_gradient(self.means, xp.stack(dmeans))
        add_gradient(self.log_s, xp.stack(dlog_s))
        weights = xp.exp(self.logits.data - log_sum_exp(self.logits.data))
        add_gradient(self.logits, xp.sum(as_dlogdet(dlog_prob, Z) * (R - weights[:, None]), axis=1))
        return dZ

    def sample_backward(self, dZ: Array, Z: Array) -> None:
        if not self.reparametrised:
            raise NotImplementedError(
                "a sample of a GaussianMixture is no smooth map of noise, and has no gradient in parameters"
            )


def mixture_log_prob(Z: Array, means: Array, log_s: Array, logits: Array) -> tuple:
    """log p (N,), and the responsibilities (K, N), p(k | z)."""
    xp, joint = get_ops(Z).xp, []
    halves = xp.ones((math.prod(Z.shape[1:]),), dtype=Z.dtype, device=Z.device) / 2
    for k in range(means.shape[0]):  # one normal at a time: memory is that of a sample, and K numbers
        E, _ = scaled(Z, means[k], log_s[k])
        # A product, since NumPy's sum over an axis of length 2 takes three times as long.
        joint.append(-(xp.reshape(E * E, (Z.shape[0], math.prod(Z.shape[1:]))) @ halves) - xp.sum(log_s[k]))
    joint = xp.stack(joint) + (logits - log_sum_exp(logits))[:, None]
    log_p = log_sum_exp(joint)
    return log_p - 0.5 * math.prod(Z.shape[1:]) * math.log(2 * math.pi), xp.exp(joint - log_p)


def log_sum_exp(A: Array) -> Array:
    """log sum exp along the first axis."""
    xp = get_ops(A).xp
    largest = xp.max(A, axis=0)
    return largest + xp.log(xp.sum(xp.exp(A - largest), axis=0))


def scaled(Z: Array, mean: Array, log_s: Array) -> tuple[Array, Array]:
    """e = (z - mean) / s, and s."""
    s = get_ops(Z).xp.exp(log_s)
    return (Z - mean) / s, s
