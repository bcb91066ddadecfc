"""Planar and Radial: the layers of the first normalizing flows. They change space near a plane, or around a point."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers, generator
from ..core import InPlaceLayer, Parameter, float_dtype, get_ops

if TYPE_CHECKING:
    from ..typing import Array, Cond, DType, Seed

ONE = math.log(math.e - 1)  # softplus(ONE) = 1


class Planar(InPlaceLayer):
    """The planar map z = x + uh tanh(w.x + b); logdet is log(1 + w.uh (1 - tanh^2(w.x + b))).

    It stretches or compresses space near the plane w.x + b = 0. It is invertible if w.uh > -1. This holds for every u
    with uh = u + (softplus(w.u) - 1 - w.u) w / w.w. If w is zero, uh = u and the layer is a shift. The inverse finds
    w.x as the root of a monotone function of one number, to the precision of the dtype. A new layer is the identity,
    with a random plane.

    On arrays with spatial axes, it maps the channels at each position separately.

    Args:
        channels: C, at least 1.
        seed: an int or a numpy Generator.
        dtype: "float32" or "float64".

    Raises:
        ValueError: `channels` is not positive, or `dtype` unknown.
        TypeError: `channels` is no integer.

    References:
        Rezende & Mohamed, Variational Inference with Normalizing Flows, 2015, section 4.1 and appendix A.1.
    """

    uses_condition = False

    def __init__(self, channels: int, seed: Seed = 0, dtype: DType = "float32"):
        check_integers(channels=channels)
        if channels < 1:
            raise ValueError(f"the number of channels is positive; got {channels}")
        rng, dtype = generator(seed), float_dtype(dtype)
        self.channels = channels
        w = rng.standard_normal(channels)
        w /= np.linalg.norm(w)
        self.u = Parameter((ONE * w).astype(dtype))  # uh = 0
        self.w = Parameter(w.astype(dtype))
        self.b = Parameter(rng.standard_normal(1).astype(dtype))

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        return X, get_ops(X).planar_(X, self.u.data, self.w.data, self.b.data, False)

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        return Z, get_ops(Z).planar_(Z, self.u.data, self.w.data, self.b.data, True)

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        self._vjp(dZ, Z, dlogdet, False)
        return dZ, Z

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        self._vjp(dX, X, dlogdet, True)
        return dX, X

    def _vjp(self, dX, X, dlogdet, inverse):
        du, dw, db = get_ops(X).planar_vjp_(dX, X, self.u.data, self.w.data, self.b.data, dlogdet, inverse)
        self.u.add(du)
        self.w.add(dw)
        self.b.add(db)


class Radial(InPlaceLayer):
    """The radial map z = x + beta_h h (x - x0) with h = 1 / (alpha + r) and r = |x - x0|.

    It moves space away from the point x0, or towards it. alpha = exp(log_alpha) is positive, and beta_h =
    softplus(beta)
    - alpha is above -alpha, so the layer is invertible. Its inverse solves a quadratic equation in r. Logdet is
    (C - 1) log(1 + beta_h h) + log(1 + alpha beta_h h^2). A new layer is the identity, with a random point.

    On arrays with spatial axes, it maps the channels at each position separately.

    Args:
        channels: C, at least 1.
        seed: an int or a numpy Generator.
        dtype: "float32" or "float64".

    Raises:
        ValueError: `channels` is not positive, or `dtype` unknown.
        TypeError: `channels` is no integer.

    References:
        Rezende & Mohamed, Variational Inference with Normalizing Flows, 2015, section 4.1 and appendix A.2.
    """

    uses_condition = False

    def __init__(self, channels: int, seed: Seed = 0, dtype: DType = "float32"):
        check_integers(channels=channels)
        if channels < 1:
            raise ValueError(f"the number of channels is positive; got {channels}")
        dtype = float_dtype(dtype)
        self.channels = channels
        self.x0 = Parameter(generator(seed).standard_normal(channels).astype(dtype))
        self.log_alpha = Parameter(np.zeros(1, dtype))
        self.beta = Parameter(np.full(1, ONE, dtype))

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        return X, get_ops(X).radial_(X, self.x0.data, self._theta(), False)

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        return Z, get_ops(Z).radial_(Z, self.x0.data, self._theta(), True)

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        self._vjp(dZ, Z, dlogdet, False)
        return dZ, Z

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        self._vjp(dX, X, dlogdet, True)
        return dX, X

    def _theta(self):
        """Returns [alpha, s] with s = alpha + beta_h = softplus(beta); both are positive."""
        xp, beta = get_ops(self.beta.data).xp, self.beta.data
        s = xp.where(beta > 0, beta, xp.zeros_like(beta)) + xp.log1p(xp.exp(-xp.abs(beta)))
        return xp.concat([xp.exp(self.log_alpha.data), s])

    def _vjp(self, dX, X, dlogdet, inverse):
        xp, theta = get_ops(X).xp, self._theta()
        dx0, dtheta = get_ops(X).radial_vjp_(dX, X, self.x0.data, theta, dlogdet, inverse)
        self.x0.add(dx0)
        self.log_alpha.add(dtheta[0] * theta[0])
        self.beta.add(dtheta[1] * -xp.expm1(-theta[1]))
