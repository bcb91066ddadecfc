"""Transform, the contract of an elementwise map whose parameters a conditioner gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class Transform:
    """An invertible map of each number, given `outputs` numbers of a conditioner.

    All methods work in place on channels x of shape (N, C, *spatial), and take the conditioner's outputs h of shape
    (N, C * outputs, *spatial).

    forward_(ops, x, h) -> logdet (N,) or 0.0: x becomes z.
    inverse_(ops, z, h) -> the inverse's logdet: z becomes x.
    backward_(ops, dz, z, h, dlogdet) -> dh: z becomes x and dz becomes dx.
    inverse_backward_(ops, dx, x, h, dlogdet) -> dh: x becomes z and dx becomes dz.
    """

    #: numbers of the conditioner for each channel
    outputs = 1

    @classmethod
    def outputs_of(cls) -> int:
        """`outputs` of a transform that is made with these arguments."""
        return cls.outputs

    #: whether the log-determinant depends on x
    measures_logdet = True
    #: what a user can choose so that the inverse amplifies rounding errors less, as texts
    steadier: Any = ()

    #: why `spec` is None, as a text for `explain`
    why_not_fused: str | None = "compiled functions do not have this transform"

    def spec(self) -> Any:
        """The fields of a LayerSpec (fused/spec.py) that say what it computes; or None where it is never fused."""
