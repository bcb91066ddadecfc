"""Losses: functions of arrays that return a number and its gradients, and change nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .arguments import check_integers, is_number, shown
from .bases.base import check_batch
from .core import get_ops
from .deprecated import renamed

if TYPE_CHECKING:
    from .typing import Array

__all__ = ["bits_per_dim", "gaussian_nll"]

__getattr__ = renamed(
    __name__,
    {
        name: f"invnet.objectives.{name}"
        for name in ("annealing", "forward_kl", "from_differences", "from_jax", "from_torch", "reverse_kl")
    },
)


def gaussian_nll(Z: Array, logdet: Array) -> tuple[float, Array, Array]:
    """The negative log-likelihood under a standard normal base, mean over the batch, in nats.

    Args:
        Z: (N, C, *spatial), the flow's output.
        logdet: (N,).

    Returns:
        loss, a number; dZ, its gradient in Z; dlogdet (N,), its gradient in logdet.
    """
    ops = get_ops(Z)
    if not hasattr(logdet, "shape") or tuple(logdet.shape) != tuple(Z.shape[:1]):
        raise ValueError(
            f"Z is (N, C, *spatial) and logdet (N,); got {tuple(Z.shape)} and {getattr(logdet, 'shape', logdet)!r}"
        )
    check_batch(Z, "a likelihood")
    if not get_ops(logdet).is_float(logdet):
        raise TypeError(f"logdet is an array of float32 or float64; got dtype {logdet.dtype}")
    logdet, R, N = ops.detach(logdet), ops.rows(ops.detach(Z)), max(Z.shape[0], 1)
    D = math.prod(Z.shape[1:])
    with ops.errstate():
        loss = float(0.5 * (R * R).sum() - logdet.sum()) / N + 0.5 * D * math.log(2 * math.pi)
    return loss, ops.images(R / N, Z.shape), ops.full(Z.shape[0], -1.0 / N, Z)


def bits_per_dim(nats: float, dimensions: int, levels: int = 256) -> float:
    """Nats of dequantised data scaled to [0, 1] as bits for each dimension of the quantised data.

    Args:
        nats: negative log-likelihood of one sample, a number or an array.
        dimensions: C times the number of positions.
        levels: number of values that a quantised dimension can take, 2**n for n bits.

    Raises:
        TypeError: nats is no number or array, dimensions or levels is no integer.
        ValueError: dimensions or levels is below 1.
    """
    if not is_number(nats) and (isinstance(nats, type) or not hasattr(nats, "shape")):
        raise TypeError(f"nats is a number or an array of numbers; got {shown(nats)}")
    check_integers(dimensions=dimensions, levels=levels)
    for name, value in (("dimensions", dimensions), ("levels", levels)):
        if value < 1:
            raise ValueError(f"{name} is a number from 1; got {value}")
    return nats / (dimensions * math.log(2)) + math.log2(levels)
