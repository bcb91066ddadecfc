"""The same module and arrays otherwise: in another dtype, with another order of memory."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from ..core import get_ops

if TYPE_CHECKING:
    from ..core import Module
    from ..typing import Array, Cond, DType


def in_dtype(dtype: DType, module: Module, X: Array, cond: Cond) -> tuple:
    """A copy of the module in a dtype, X and cond."""
    as_dtype = lambda array: None if array is None else get_ops(array).astype(array, dtype)
    return copy.deepcopy(module).to(dtype=dtype), as_dtype(X), as_dtype(cond)


def c_order(X: Array) -> Array:
    return _laid_out(X, range(X.ndim))


def fortran_order(X: Array) -> Array:
    return _laid_out(X, reversed(range(X.ndim)))


def every_second(X: Array) -> Array:
    """The values of X in every second place of a larger array."""
    larger = get_ops(X).xp.zeros((*X.shape[:-1], 2 * X.shape[-1]), dtype=X.dtype, device=X.device)
    larger[..., ::2] = X
    return larger[..., ::2]


def _laid_out(X, axes):
    """The values of X in memory in which the last of the axes varies fastest."""
    axes, xp = tuple(axes), get_ops(X).xp
    laid_out = xp.permute_dims(
        xp.zeros([X.shape[i] for i in axes], dtype=X.dtype, device=X.device),
        sorted(range(X.ndim), key=axes.__getitem__),
    )
    laid_out[...] = X
    return laid_out
