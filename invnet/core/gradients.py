"""Checks of gradients: their engine, shape and dtype; and dlogdet as an array."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arguments import is_number
from ..ops import get_ops

if TYPE_CHECKING:
    from ..ops.reference import Ops
    from ..typing import Array, DType


def same_engine(name: str, array: Array, X: Array) -> None:
    """Raises TypeError if `array` is not of the engine and device of X; `name` is for the error."""
    if get_ops(array).name != get_ops(X).name:
        raise TypeError(f"{name} needs the engine and device of X, {get_ops(X).name}; got one of {get_ops(array).name}")


def check_gradient(dZ: Array, ops: Ops, shape: tuple[int, ...], dtype: DType) -> None:
    """Checks that dZ can be the gradient of an array of this engine, shape and dtype.

    Raises:
        TypeError: dZ is of another engine.
        ValueError: it has another shape or dtype.
    """
    if get_ops(dZ).name != ops.name:
        raise TypeError(
            f"the gradient needs the engine and device of its array, {ops.name}; got one of {get_ops(dZ).name}"
        )
    if tuple(dZ.shape) != tuple(shape) or not ops.same_dtype(dZ.dtype, dtype):
        raise ValueError(
            f"the gradient needs the shape and dtype of its array, {tuple(shape)} {dtype}; got {tuple(dZ.shape)} "
            f"{dZ.dtype}"
        )


def as_dlogdet(dlogdet: Array | float | None, Z: Array, name: str = "dlogdet") -> Array:
    """Returns the gradient with respect to logdet as an array (N,).

    Args:
        dlogdet: an array (N,); a number, which is repeated; or None for -1/N.
        Z: (N, ...), which gives the dtype and engine.
        name: how errors name the gradient, if it is that of another number per sample.

    Raises:
        ValueError: it has another shape.
        TypeError: it is of another engine, or has no real numbers.
    """
    N, ops = Z.shape[0], get_ops(Z)
    if dlogdet is None:
        dlogdet = -1.0 / max(N, 1)
    if is_number(dlogdet):
        return ops.full(N, float(dlogdet), Z)
    if tuple(getattr(dlogdet, "shape", (None,))) not in ((), (N,)):
        raise ValueError(f"{name} is a number or an array of shape ({N},); got {getattr(dlogdet, 'shape', dlogdet)!r}")
    same_engine(name, dlogdet, Z)
    if dlogdet.dtype != Z.dtype and not ops.xp.isdtype(dlogdet.dtype, ("real floating", "integral")):
        raise TypeError(f"{name} is a real number or an array of such; got dtype {dlogdet.dtype}")
    each = ops.full(N, 0.0, Z)
    each[...] = ops.detach(dlogdet)
    return each
