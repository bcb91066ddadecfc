"""Likelihood: losses of a flow on data."""

import math

from ..arguments import check_integers, is_number, shown
from ..bases.base import check_batch
from ..core import get_ops
from ..flow import Flow
from .finite import check_finite


def gaussian_nll(Z, logdet):
    """The negative log-likelihood under a standard normal base, mean over the batch, in nats.

    Args:
        Z: (N, C, *spatial), the flow's output.
        logdet: (N,).

    Returns:
        loss, a number; dZ, its gradient in Z; dlogdet (N,), its gradient in logdet.
    """
    ops = get_ops(Z)
    if not hasattr(logdet, "shape") or tuple(logdet.shape) != tuple(Z.shape[:1]):
        raise ValueError(f"Z is (N, C, *spatial) and logdet (N,); got {tuple(Z.shape)} and {getattr(logdet, 'shape', logdet)!r}")
    check_batch(Z, "a likelihood")
    if not get_ops(logdet).is_float(logdet):
        raise TypeError(f"logdet is an array of float32 or float64; got dtype {logdet.dtype}")
    logdet, R, N = ops.plain(logdet), ops.rows(ops.plain(Z)), max(Z.shape[0], 1)
    D = math.prod(Z.shape[1:])
    with ops.quiet():
        loss = float(0.5 * (R * R).sum() - logdet.sum()) / N + 0.5 * D * math.log(2 * math.pi)
    return loss, ops.images(R / N, Z.shape), ops.fill(Z.shape[0], -1.0 / N, Z)


def bits_per_dim(nats, dimensions, levels=256):
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


def forward_kl(flow, X, cond=None):
    """The negative log-likelihood of data, -1/N sum log q(x_n), in nats; adds its gradients to the flow's parameters.

    It is KL(p || q) but for the entropy of the data, which no parameter changes. Those of the base are trained too. As
    everywhere, backward rebuilds what it needs: memory does not grow with depth.

    Args:
        flow: a Flow.
        X: (N, C, *spatial), N at least 1.
        cond: the condition, or None.

    Returns:
        loss, a number.

    Raises:
        ValueError: X is not of the flow's shape, or has no samples.
        FloatingPointError: log q is not finite at a sample, which the error shows.
    """
    check_flow(flow, "forward_kl")
    flow.check_shape(X)
    if X.shape[0] == 0:
        raise ValueError(f"a likelihood is of at least one sample; got X of shape {tuple(X.shape)}")
    Z, logdet = flow.layer.forward(X, cond)
    log_q = flow.base.log_prob(Z) + logdet
    check_finite(log_q, "log q", X)
    add_likelihood_gradient(flow, Z, cond)
    return -float(log_q.mean())


def check_flow(flow, what):
    """TypeError where it is no Flow."""
    if not isinstance(flow, Flow):
        raise TypeError(f"{what} takes a Flow; got {shown(flow)}")


def add_likelihood_gradient(flow, Z, cond=None):
    """Adds the gradient of -1/N sum log q(x_n) to the flow's parameters, for the fixed x_n whose image is Z."""
    N = Z.shape[0]
    dZ = flow.base.log_prob_backward(-1.0 / N, Z)
    flow.layer.backward(dZ, Z, -1.0 / N, cond)
