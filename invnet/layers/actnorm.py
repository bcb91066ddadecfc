"""ActNorm: a scale and a shift for each channel, set from the first batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .. import process_group
from ..arguments import check_integers, check_numbers
from ..core import Parameter, float_dtype, get_ops
from ..fused.spec import LayerSpec
from .channel_affine import ChannelAffine

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..typing import Array, Cond, DType


class ActNorm(ChannelAffine):
    """A scale and a shift for each channel, Z = exp(log_s) X + b; logdet is the number of positions times sum(log_s).

    `initialize(X)` sets log_s and b so that each channel of Z has mean 0 and variance 1 over the batch and all
    positions. If several processes train together, it uses the batches of all. The variance of a channel is taken to be
    at least `floor` times the mean variance of all channels, so that a constant channel is not amplified. If all
    channels are constant, the scale is 1.

    Args:
        channels: C, at least 1.
        floor: the smallest variance of a channel, relative to the mean of all channels; positive.
        dtype: "float32" or "float64".

    Raises:
        ValueError: an argument is out of range; or, in `initialize`, X has no samples or values that are not finite.
        TypeError: `channels` is no integer or `floor` no number.

    References:
        Kingma & Dhariwal, Glow: Generative Flow with Invertible 1x1 Convolutions, 2018, section 3.1.
    """

    def __init__(self, channels: int, floor: float = 1e-4, dtype: DType = "float32"):
        check_integers(channels=channels)
        check_numbers(floor=floor)
        if channels < 1 or not 0 < floor < math.inf:
            raise ValueError(f"channels and floor are positive; got {channels} and {floor}")
        self.channels, self.floor, dtype = channels, floor, float_dtype(dtype)
        self.log_s = Parameter(np.zeros(channels, dtype))
        self.b = Parameter(np.zeros(channels, dtype))

    def initialize_(self, X: Array, cond: Cond = None) -> Array:
        ops = get_ops(X)
        R = ops.rows(X)
        if R.shape[0] == 0:
            raise ValueError(f"ActNorm needs at least one sample to initialize; got X of shape {tuple(X.shape)}")
        mean, variance = process_group.current().moments(ops, R)
        typical = float(ops.xp.mean(variance))
        if not math.isfinite(typical):
            raise ValueError(
                "ActNorm needs finite values to initialize; got X with NaN, inf or a variance beyond its dtype"
            )
        least = self.floor * typical if typical > 0 else 1.0
        variance = ops.xp.where(variance > least, variance, ops.xp.full_like(variance, least))
        self.log_s.data[...] = -0.5 * ops.xp.log(variance)
        self.b.data[...] = -mean * ops.xp.exp(self.log_s.data)
        return self.forward_(X)[0]

    def affine(self) -> tuple[Array, Array, Array, Callable]:
        xp = get_ops(self.b.data).xp
        scale = xp.exp(self.log_s.data)

        def pullback(dM, db, dlogdet):
            self.log_s.add((dM if dM.ndim == 1 else xp.linalg.diagonal(dM)) * scale + dlogdet)
            self.b.add(db)

        return scale, self.b.data, xp.sum(self.log_s.data), pullback

    def specs(self) -> list:
        return [LayerSpec("scale", (self.log_s, self.b))]
