"""Losses of a flow, with their gradients."""

import math

from .core import get_ops


def gaussian_nll(Z, logdet):
    """The negative log-likelihood under a standard normal base, mean over the batch, in nats.

    Args:
        Z: (N, C, *spatial), the flow's output.
        logdet: (N,).

    Returns:
        loss, a number; dZ, its gradient in Z; dlogdet (N,), its gradient in logdet.
    """
    if tuple(logdet.shape) != tuple(Z.shape[:1]):
        raise ValueError(f"Z is (N, C, *spatial) and logdet (N,); got {tuple(Z.shape)} and {tuple(logdet.shape)}")
    ops, N = get_ops(Z), max(Z.shape[0], 1)
    R = ops.rows(Z)
    squares = ops.sum_positions(R * R, Z.shape[0])
    D = math.prod(Z.shape[1:])
    loss = float(ops.xp.sum(0.5 * squares - logdet)) / N + 0.5 * D * math.log(2 * math.pi)
    return loss, ops.images(R / N, Z.shape), ops.fill(Z.shape[0], -1.0 / N, Z)


def bits_per_dim(nats, dimensions, levels=256):
    """Nats of dequantised data scaled to [0, 1] as bits for each dimension of the quantised data.

    Args:
        nats: negative log-likelihood of one sample, a number or an array.
        dimensions: C times the number of positions.
        levels: number of values that a quantised dimension can take, 2**n for n bits.
    """
    return nats / (dimensions * math.log(2)) + math.log2(levels)
