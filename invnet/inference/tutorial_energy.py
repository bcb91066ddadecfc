"""The free energy that RxInfer's tutorial computes for its classifier: to compare with the numbers that it prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from ..ops.dual import Dual, value_of
from . import probit
from .jacobians import dual, tangents_added, vjp

if TYPE_CHECKING:
    from ..core import Layer
    from ..typing import Array


def tutorial_energy(net: Layer, X: Array, s: Array, a: Array, precision: float) -> float:
    """KL(q(x') || N(x, I / precision)) + E[-log Phi(s z)], summed; adds its gradient to the parameters of `net`.

    It is the Bethe free energy of FlowProbit but for two defects of the original, which this function has too. Points
    are taken for others: the message forward has the Jacobian at g^-1(x) where x is meant, the one back that at b where
    g^-1(b) is meant, b being the mean of the message to g(x'). And that message has the singular precision w a a^T, of
    which a Cholesky factorisation with zero pivots made one gives the mean b = (xi / (w a_1), 0, ..., 0). Where Phi
    underflows, at |z| above 38.5, the original is NaN, on which the first steps of its line search depend: so is this.

    Args:
        net: a Layer with inverse_backward.
        X: (N, D).
        s: (N,), +1 or -1.
        a: (D,).
        precision: of the inputs.
    """
    A = np.broadcast_to(a, X.shape).astype(X.dtype)
    before = net.inverse(X)
    _, J_a = vjp(net, before, A)
    Z, _ = net.forward(X)
    m, v = Z @ a, (J_a**2).sum(axis=1) / precision
    mean_back, (mean_m, mean_v) = probit.derivatives(lambda m, v: probit.site(m, v, s)[0] / a[0], m, v)
    b = np.zeros_like(X)
    b[:, 0] = mean_back
    x_back = net.inverse(b)
    _, u = vjp(net, b, A)
    value, (dm, dv, dq, dp) = probit.derivatives(
        lambda m, v, q, p: _free_energy(m, v, q, p, s, precision),
        m,
        v,
        (u * u).sum(axis=1),
        (u * (x_back - X)).sum(axis=1),
    )

    # u = J(b)^T a and x_back = g^-1(b); both depend on b
    db = _add_gradient_of_product(net, b, A, 2 * dq[:, None] * u + dp[:, None] * (x_back - X))
    db = db + net.inverse_backward(dp[:, None] * u, x_back, 0.0)[0]
    dm, dv = dm + db[:, 0] * mean_m, dv + db[:, 0] * mean_v
    dbefore = _add_gradient_of_product(net, before, A, 2 / precision * dv[:, None] * J_a)
    net.inverse_backward(dbefore, before, 0.0)
    net.backward(dm[:, None] * A, Z, 0.0)
    return float(value.sum())


def _free_energy(m, v, q, p, s, precision):
    """Of each observation, with q = |u|^2 and p = u . (x_back - x): q(x') has the precision I precision + w u u^T."""
    _, w = probit.site(m, v, s)
    mean, variance = probit.matched(m, v, s)
    total = precision + w * q
    kl = 0.5 * (precision / total - 1 + np.log(total / precision) + precision * q * (w * p / total) ** 2)
    reach = abs(value_of(mean)) + np.sqrt(2 * value_of(variance)) * probit.NODES.max()
    return kl + probit.energy(mean, variance, s) + np.where(ndtr(-reach) > 0, 0.0, np.nan)


def _add_gradient_of_product(net, x, A, du):
    """Adds the gradient of <du, J(x)^T a> to the parameters of `net`; gives that in x."""
    Z, _ = net.forward(dual(x, du))
    with tangents_added(net):
        dx, _ = net.backward(Dual(A), Z, 0.0)
    return dx.tangent
