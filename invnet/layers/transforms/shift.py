"""Shift: the transform of additive couplings."""

from .transform import Transform


class Shift(Transform):
    """z = x + h; logdet is 0.

    References:
        Dinh, Krueger & Bengio, NICE: Non-linear Independent Components Estimation, 2014, section 3.2.
    """

    measures_logdet = False

    def forward_(self, ops, x, h):
        x += h
        return 0.0

    def inverse_(self, ops, z, h):
        z -= h
        return 0.0

    def backward_(self, ops, dz, z, h, dlogdet):
        z -= h
        return dz

    def inverse_backward_(self, ops, dx, x, h, dlogdet):
        x += h
        return -dx
