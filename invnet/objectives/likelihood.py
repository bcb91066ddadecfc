"""The likelihood of data as an objective: the number, and its gradients added to the flow's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arguments import shown
from ..flow import Flow
from .finite import check_finite

if TYPE_CHECKING:
    from ..typing import Array, Cond


def forward_kl(flow: Flow, X: Array, cond: Cond = None) -> float:
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


def check_flow(flow: Flow, what: str) -> None:
    """TypeError where it is no Flow."""
    if not isinstance(flow, Flow):
        raise TypeError(f"{what} takes a Flow; got {shown(flow)}")


def add_likelihood_gradient(flow: Flow, Z: Array, cond: Cond = None) -> None:
    """Adds the gradient of -1/N sum log q(x_n) to the flow's parameters, for the fixed x_n whose image is Z."""
    N = Z.shape[0]
    dZ = flow.base.log_prob_backward(-1.0 / N, Z)
    flow.layer.backward(dZ, Z, -1.0 / N, cond)
