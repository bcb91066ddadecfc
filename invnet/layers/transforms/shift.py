"""Shift: the transform of additive couplings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .transform import Transform

if TYPE_CHECKING:
    from ...ops.reference import Ops
    from ...typing import Array


class Shift(Transform):
    """The shift z = x + h; logdet is 0.

    References:
        Dinh, Krueger & Bengio, NICE: Non-linear Independent Components Estimation, 2014, section 3.2.
    """

    measures_logdet = False

    def forward_(self, ops: Ops, x: Array, h: Array) -> Array | float:
        x += h
        return 0.0

    def inverse_(self, ops: Ops, z: Array, h: Array) -> Array | float:
        z -= h
        return 0.0

    def backward_(self, ops: Ops, dz: Array, z: Array, h: Array, dlogdet: Array | float | None) -> Array:
        z -= h
        return dz

    def inverse_backward_(
        self, ops: Ops, dx: Array, x: Array, h: Array, dlogdet: Array | float | None
    ) -> tuple[Array, Array]:
        x += h
        return -dx
