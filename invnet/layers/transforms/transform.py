"""Transform, the contract of an elementwise map whose parameters come from a conditioner."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from ...ops.reference import Ops
    from ...typing import Array


class Transform:
    """An invertible map z = f(x; h) of each number x, where a conditioner gives `outputs` numbers h for each x.

    A subclass implements four methods. They overwrite the channels x, z, dx and dz, of shape (N, C, *spatial). They do
    not change the conditioner's outputs h, of shape (N, C * outputs, *spatial). `ops` are the operations for the
    arrays, and dlogdet is (N,).

        forward_(ops, x, h) -> logdet                      x becomes z; logdet is (N,), or 0.0 for all samples
        inverse_(ops, z, h) -> logdet of the inverse       z becomes x
        backward_(ops, dz, z, h, dlogdet) -> dh            z becomes x, dz becomes dx; dh has the shape of h
        inverse_backward_(ops, dx, x, h, dlogdet) -> dh    x becomes z, dx becomes dz
    """

    #: how many numbers the conditioner gives for each channel
    outputs = 1

    @classmethod
    def outputs_of(cls) -> int:
        """Returns `outputs` of a transform with these arguments."""
        return cls.outputs

    #: whether the log-determinant depends on x
    measures_logdet = True
    #: texts that tell a user which settings make the inverse amplify rounding errors less
    steadier: tuple[str, ...] = ()

    #: the text with which `explain` says why `spec` is None
    why_not_fused: str | None = "compiled functions do not have this transform"

    def spec(self) -> dict[str, Any] | None:
        """Returns the fields of a LayerSpec (fused/spec.py) that describe this map; None if it is never fused."""

    def forward_(self, ops: Ops, x: Array, h: Array) -> Array | float:
        raise NotImplementedError(f"{type(self).__name__} needs forward_(ops, x, h) -> logdet")

    def inverse_(self, ops: Ops, z: Array, h: Array) -> Array | float:
        raise NotImplementedError(f"{type(self).__name__} needs inverse_(ops, z, h) -> logdet")

    def backward_(self, ops: Ops, dz: Array, z: Array, h: Array, dlogdet: Array) -> Array:
        raise NotImplementedError(f"{type(self).__name__} needs backward_(ops, dz, z, h, dlogdet) -> dh")

    def inverse_backward_(self, ops: Ops, dx: Array, x: Array, h: Array, dlogdet: Array) -> Array:
        raise NotImplementedError(f"{type(self).__name__} needs inverse_backward_(ops, dx, x, h, dlogdet) -> dh")
