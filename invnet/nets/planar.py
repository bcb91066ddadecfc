"""PlanarNet and RadialNet: the maps of planar and radial flows as conditioners, without the limits on their slopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers, generator
from ..core import SHAPES, Conditioner, Parameter, check_gradient, float_dtype, get_ops

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..typing import Array, Cond, DType, Seed


class PlanarNet(Conditioner):
    """y = x + u tanh(w.x + b), for vectors (N, C) or at each position separately. It need not be invertible.

    Args:
        channels: C, at least 1.
        seed: an int or a numpy Generator. u, w and b start as standard normal numbers.
        dtype: "float32" or "float64".

    Raises:
        ValueError: `channels` is not positive; in a call, x has another number of channels.
        TypeError: `channels` is no integer; in a call, x has another dtype.

    References:
        Rezende & Mohamed, Variational Inference with Normalizing Flows, 2015, section 4.1.
    """

    reach, cond_channels = 0, 0

    def __init__(self, channels: int, seed: Seed = 0, dtype: DType = "float32"):
        self.channels, rng, dtype = _channels(channels), generator(seed), float_dtype(dtype)
        self.u, self.w, self.b = (Parameter(rng.standard_normal(n).astype(dtype)) for n in (channels, channels, 1))
        self.floats_per_position = 5 * channels + 5

    def forward(self, x: Array, cond: Cond = None) -> Array:
        ops, R = _rows(self, x, self.u.data.dtype)
        return ops.images(self._bend(ops.xp, R)[0], x.shape)

    def vjp(self, x: Array, cond: Cond = None) -> tuple[Array, Callable]:
        ops, R = _rows(self, x, self.u.data.dtype)
        xp = ops.xp
        y, t = self._bend(xp, R)

        def pullback(dy):
            check_gradient(dy, ops, x.shape, x.dtype)
            dR = ops.rows(dy)
            dv = (1 - t * t) * (dR @ self.u.data)
            dx = ops.images(dR + dv[:, None] * self.w.data, x.shape)
            return dx, None, [t @ dR, dv @ R, xp.sum(dv, axis=0, keepdims=True)]

        return ops.images(y, x.shape), pullback

    def _bend(self, xp, R):
        t = xp.tanh(R @ self.w.data + self.b.data)
        return R + t[:, None] * self.u.data, t


class RadialNet(Conditioner):
    """y = x + beta (x - x0) / (alpha + r) with r = |x - x0| and alpha = exp(log_alpha).

    It maps vectors (N, C), or the channels at each position separately. It is invertible if beta > -alpha, which is not
    required.

    Args:
        channels: C, at least 1.
        seed: an int or a numpy Generator. x0 and beta start as standard normal numbers, alpha as a uniform number in
            (0, 1).
        dtype: "float32" or "float64".

    Raises:
        ValueError: `channels` is not positive; in a call, x has another number of channels.
        TypeError: `channels` is no integer; in a call, x has another dtype.

    References:
        Rezende & Mohamed, Variational Inference with Normalizing Flows, 2015, section 4.1.
    """

    reach, cond_channels = 0, 0

    def __init__(self, channels: int, seed: Seed = 0, dtype: DType = "float32"):
        self.channels, rng, dtype = _channels(channels), generator(seed), float_dtype(dtype)
        self.x0 = Parameter(rng.standard_normal(channels).astype(dtype))
        self.log_alpha = Parameter(np.log(1 - rng.random(1)).astype(dtype))
        self.beta = Parameter(rng.standard_normal(1).astype(dtype))
        self.floats_per_position = 6 * channels + 6

    def forward(self, x: Array, cond: Cond = None) -> Array:
        ops, R = _rows(self, x, self.x0.data.dtype)
        d, _, h = self._about(ops.xp, R)
        return ops.images(R + (self.beta.data * h)[:, None] * d, x.shape)

    def vjp(self, x: Array, cond: Cond = None) -> tuple[Array, Callable]:
        ops, R = _rows(self, x, self.x0.data.dtype)
        xp, beta = ops.xp, self.beta.data
        d, r, h = self._about(xp, R)

        def pullback(dy):
            check_gradient(dy, ops, x.shape, x.dtype)
            dR = ops.rows(dy)
            g = h * xp.sum(dR * d, axis=1)  # the gradient of beta from each row
            dr = -beta * g * h
            dd = (beta * h)[:, None] * dR + (dr / xp.where(r > 0, r, xp.ones_like(r)))[:, None] * d
            total = xp.sum(dr, axis=0, keepdims=True)  # the gradient of alpha + r, summed over the rows
            gradients = [-xp.sum(dd, axis=0), total * xp.exp(self.log_alpha.data), xp.sum(g, axis=0, keepdims=True)]
            return ops.images(dR + dd, x.shape), None, gradients

        return ops.images(R + (beta * h)[:, None] * d, x.shape), pullback

    def _about(self, xp, R):
        """Returns x - x0, its length r, and 1 / (alpha + r)."""
        d = R - self.x0.data
        r = xp.sqrt(xp.sum(d * d, axis=1))
        return d, r, 1 / (xp.exp(self.log_alpha.data) + r)


def _channels(channels):
    check_integers(channels=channels)
    if channels < 1:
        raise ValueError(f"the number of channels is positive; got {channels}")
    return channels


def _rows(net, x, dtype):
    """Checks x; returns the operations for it, and its rows."""
    ops, kind = get_ops(x), type(net).__name__
    if x.ndim not in SHAPES or x.shape[1] != net.channels:
        raise ValueError(f"this {kind} takes {net.channels} channels; got x of shape {tuple(x.shape)}")
    if not ops.same_dtype(x.dtype, dtype):
        raise TypeError(f"this {kind} computes in {dtype}; got x of dtype {x.dtype}")
    return ops, ops.rows(x)
