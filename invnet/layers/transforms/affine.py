"""Affine: the transform of affine couplings and of affine autoregressive layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...arguments import check_numbers, check_unused
from .transform import Transform

if TYPE_CHECKING:
    from ...ops.reference import Ops
    from ...typing import Array

SCALES = ("bounded", "sigmoid", "doubled")
LARGEST_SCALE = 4.0


def scale_and_bound(scale: str | None, bound: float | None) -> tuple[str, float | None]:
    """Returns the scale and its bound, with defaults in place of None. Only the scale "bounded" has a bound.

    Raises:
        ValueError: the scale is unknown, the bound is not above 1, or it is given for another scale than "bounded".
        TypeError: the bound is no number.
    """
    scale = "bounded" if scale is None else scale
    if scale not in SCALES:
        raise ValueError(f'scale is "bounded", "sigmoid" or "doubled"; got {scale!r}')
    if scale != "bounded":
        check_unused(f'with scale="{scale}"', bound=bound)
        return scale, None
    bound = LARGEST_SCALE if bound is None else bound
    check_numbers(bound=bound)
    if not 1 < bound < math.inf:
        raise ValueError(f"bound is the largest scale, above 1 and finite; got {bound}")
    return scale, bound


class Affine(Transform):
    """The affine map z = (x + t) s, where h = [t, raw] and s = scale(raw); logdet is the sum of log s.

    Args:
        scale: "bounded", "sigmoid" or "doubled", as in AffineCoupling; None means "bounded".
        bound: the largest s of "bounded", above 1; None means 4.

    Raises:
        ValueError: the scale is unknown, the bound is not above 1, or it is given for another scale than "bounded".
        TypeError: the bound is no number.

    References:
        Dinh, Sohl-Dickstein & Bengio, Density estimation using Real NVP, 2016, section 3.2.
    """

    outputs = 2

    def __init__(self, scale: str | None = None, bound: float | None = None):
        self.scale, self.bound = scale_and_bound(scale, bound)
        #: the scale in the form in which operations take it
        self.scale_and_bound = self.scale, float(self.bound or LARGEST_SCALE)

    @property
    def steadier(self) -> tuple[str, ...]:
        return ("a smaller `bound`",) if self.scale == "bounded" else ('scale="bounded"',)

    def forward_(self, ops: Ops, x: Array, h: Array) -> Array | float:
        return ops.couple_(x, h, self.scale_and_bound)

    def inverse_(self, ops: Ops, z: Array, h: Array) -> Array | float:
        return ops.uncouple_(z, h, self.scale_and_bound)

    def backward_(self, ops: Ops, dz: Array, z: Array, h: Array, dlogdet: Array | float | None) -> Array:
        return ops.couple_vjp_(dz, z, h, self.scale_and_bound, dlogdet)

    def inverse_backward_(
        self, ops: Ops, dx: Array, x: Array, h: Array, dlogdet: Array | float | None
    ) -> tuple[Array, Array]:
        return ops.uncouple_vjp_(dx, x, h, self.scale_and_bound, dlogdet)

    def spec(self) -> object:
        return {"kind": "affine", "scale": self.scale_and_bound}
