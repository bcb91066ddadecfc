"""Variational inference: a flow that approximates a density known up to its constant."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..arguments import check_flags, check_numbers, is_integer, shown
from ..core import get_ops
from .finite import check_finite
from .likelihood import add_likelihood_gradient, check_flow

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..flow import Flow
    from ..typing import Array, Cond, Seed


def reverse_kl(
    flow: Flow, log_p: Callable, n: int, seed: Seed = None, beta: float = 1.0, path: bool = False, cond: Cond = None
) -> float:
    """The free energy of n samples of the flow, 1/n sum log q(x_i) - beta log p(x_i), in nats; adds its gradients.

    With beta = 1 it estimates KL(q || p) - log Z, Z being the constant that p lacks, so minus the evidence lower bound.
    The samples are a smooth map of noise, x = layer^-1(z), and the gradient goes back through it; memory does not grow
    with depth.

    The path gradient leaves out the score, d log q(x) at fixed x, whose mean is zero: it is as unbiased, has no
    variance where q = p, and costs one more backward.

    Args:
        flow: a Flow. Its base must be reparametrised, which a learned GaussianMixture is not.
        log_p: from X (n, C, *spatial) to the log density (n,) and its gradient in X, as the targets of invnet.data are;
            `from_torch`, `from_jax` and `from_differences` make one of a function that gives the density alone.
        n: number of samples, at least 1.
        seed: an int, or a numpy Generator, which goes on from call to call.
        beta: factor on log p, from 0; see `annealing`.
        path: take the path gradient; the loss is the same.
        cond: the condition, (n, ...), or None.

    Returns:
        loss, a number.

    Raises:
        TypeError: log_p does not give a pair of arrays.
        ValueError: value or gradient of log_p has a wrong shape; n or beta is out of its range.
        FloatingPointError: log q or log p is not finite at a sample, which the error shows.

    References:
        Rezende & Mohamed, Variational Inference with Normalizing Flows, 2015, section 4.2. Roeder, Wu & Duvenaud,
        Sticking the Landing: Simple, Lower-Variance Gradient Estimators for Variational Inference, 2017, section 3.
    """
    check_flow(flow, "reverse_kl")
    check_numbers(beta=beta)
    check_flags(path=path)
    if not is_integer(n) or n < 1:
        raise ValueError(f"n is a number of samples, an integer from 1; got {n!r}")
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta is a number from 0; got {beta}")
    if not flow.base.reparametrised:
        raise ValueError(
            f"reverse_kl differentiates samples; those of a learned {type(flow.base).__name__} have no gradient in its "
            "parameters: give it learn=False, or train by forward_kl"
        )
    Z = flow.noise(n, seed=seed)
    X, logdet = flow.layer.inverse_logdet(Z, cond)  # log|det dX/dZ|
    log_q = flow.base.log_prob(Z) - logdet
    check_finite(log_q, "log q", X)
    value, gradient = evaluate(log_p, X)
    loss = float((log_q - beta * value).sum()) / n

    dZ, _ = flow.layer.inverse_backward(-beta / n * gradient, X, -1.0 / n, cond)
    dZ += flow.base.log_prob_backward(1.0 / n, Z)
    flow.base.sample_backward(dZ, Z)
    if path:  # the gradient of log q at fixed x is minus that of the likelihood
        add_likelihood_gradient(flow, Z, cond)
    return loss


def evaluate(log_p: Callable, X: Array) -> tuple[Array, Array]:
    """The value (N,) and the gradient of a log density at X, checked, with the dtype of X."""
    if isinstance(log_p, type) or not callable(log_p):
        raise TypeError(f"log_p is a function from X to {_value_and_gradient_of(X)}; got {shown(log_p)}")
    ops, result = get_ops(X), log_p(X)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"log_p gives a pair, {_value_and_gradient_of(X)}; got {_described(result)}: from_torch, from_jax and "
            f"from_differences make "
            "such a log_p of a function that gives the value alone"
        )
    for array, shape in zip(result, ((X.shape[0],), tuple(X.shape))):
        if not isinstance(array, type(X)):
            raise TypeError(f"log_p gives arrays as it is given, {type(X).__name__}; got {type(array).__name__}")
        if tuple(getattr(array, "shape", ())) != shape:
            raise ValueError(
                f"log_p gives {_value_and_gradient_of(X)}; got {_described(result[0])} and {_described(result[1])}"
            )
    value, gradient = (ops.detach(ops.astype(array, X.dtype)) for array in result)
    check_finite(value, "log p", X)
    check_finite(gradient, "the gradient of log p", X)
    return value, gradient


def _value_and_gradient_of(X):
    return f"value ({X.shape[0]},) and gradient {tuple(X.shape)}"


def _described(thing):
    return f"shape {tuple(thing.shape)}" if hasattr(thing, "shape") else f"{type(thing).__name__}"


def annealing(start: float = 0.01, steps: int = 10000) -> Callable[[int], float]:
    """beta as a function of the steps done, min(1, start + step / steps).

    A small beta lets a flow spread over all modes of a density before it has to fit them.

    Args:
        start: beta at the first step, from 0 to 1.
        steps: over which beta grows by 1, positive.

    References:
        Rezende & Mohamed, Variational Inference with Normalizing Flows, 2015, section 6.1.
    """
    check_numbers(start=start, steps=steps)
    if not 0 <= start <= 1 or not 0 < steps < math.inf:
        raise ValueError(f"start is from 0 to 1 and steps positive; got {start} and {steps}")
    return lambda step: min(1.0, start + step / steps)
