"""The free energy of a FlowGaussianModel with all q(x) at their optimum: what the network is learned by."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..ops.dual import Dual
from .distributions import outer
from .jacobians import inverse_and_jacobian, repeat, tangents_added

if TYPE_CHECKING:
    from ..core import Layer
    from ..typing import Array
    from .distributions import Gaussian, Wishart


def collapsed_free_energy(
    net: Layer, Y: Array, noise: Array, mean: Array, precision: float | Wishart, q_mu: Gaussian, q_lambda: Wishart
) -> float:
    """The free energy, a function of q(mu), q(Lambda) and the network; adds its gradient to the network's parameters.

        sum_k -log N(x_k; m, P^-1 + K_k R K_k^T) - log|det K_k|,  x_k = g^-1(y_k), K_k its Jacobian, P = E Lambda,

    and terms of q(mu) and q(Lambda). No x is left in it: as the noise R goes to zero it becomes the likelihood of a
    flow with a Gaussian base. The gradient is that of one backward of the inverse map, and of one on dual numbers with
    D directions of each y, since x_k and K_k both depend on the parameters.

    Args:
        net: a Layer with inverse_backward.
        Y: (N, D) in float64.
        noise: R, (D, D).
        mean, precision: the priors, a Gaussian and a Wishart.
        q_mu, q_lambda: the posteriors.
    """
    (N, D), dtype, P = Y.shape, net.dtype or float, q_lambda.mean
    X, K = inverse_and_jacobian(net, Y.astype(dtype))
    x, K = X.astype(float), K.astype(float)
    S = np.linalg.inv(P) + K @ noise @ K.mT
    S_inverse, r = np.linalg.inv(S), x - q_mu.mean
    h = np.einsum("nij,nj->ni", S_inverse, r)
    value = (
        0.5 * (N * D * math.log(2 * math.pi) + np.linalg.slogdet(S)[1].sum() + np.sum(r * h))
        - np.linalg.slogdet(K)[1].sum()
    )
    value += 0.5 * N * (np.linalg.slogdet(P)[1] - q_lambda.expected_logdet() + np.sum(P * q_mu.cov))
    value += (
        mean.cross_entropy(q_mu.mean, q_mu.cov)
        - q_mu.entropy()
        + precision.cross_entropy(q_lambda)
        - q_lambda.entropy()
    )

    dK = (S_inverse - outer(h)) @ K @ noise
    net.inverse_backward(h.astype(dtype), X, -1.0)
    with tangents_added(net):  # <dK, K>: for each column of K the gradient in x, as y moves along its axis
        columns, dcolumns = (np.ascontiguousarray(each.mT.reshape(-1, D)).astype(dtype) for each in (K, dK))
        net.inverse_backward(Dual(dcolumns), Dual(repeat(X, D).copy(), columns), 0.0)
    return float(value)
