"""The condition of a call. The outermost public method checks and converts it once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import array_api_compat

from ..ops import get_ops
from ..passes.context import current
from .gradients import same_engine
from .parameters import Condition, condition_array, condition_rows

if TYPE_CHECKING:
    from ..typing import Array, Cond, DType
    from . import Layer

REAL = ("bool", "integral", "real floating")


class Given(Condition):
    """The Condition that inner layers get if the user's has another dtype, or one row for all samples.

    Args:
        array: the converted array.
        condition: the user's Condition. Gradients are added to its `grad`, summed over the samples if it has one row.
    """

    def __init__(self, array: Array, condition: Condition):
        self.array, self.grad = array, condition.grad


def given_condition(layer: Layer, X: Array, cond: Cond) -> Cond:
    """Checks the condition of X, and converts it for the layers within `layer`.

    Any real dtype is converted to that of the layer. One row is repeated for all samples without a copy. Integer labels
    (N,) become one-hot rows if a model within has `classes`.

    Returns:
        None, or an array or Condition with N rows in the dtype of the layer.

    Raises:
        ValueError: the condition is missing although a layer within needs one; no layer takes one; or its shape is
            wrong.
        TypeError: it is of another engine, or has no real numbers.
    """
    sizes = layer.derived("conditions", layer.conditions)
    if cond is None:
        if sizes and all(K for K, _ in sizes):
            raise ValueError(f"{_name(layer)} needs a condition of shape {_shapes(layer, X)}; got none")
        return None
    array, N, dtype = condition_array(cond), X.shape[0], layer.dtype or X.dtype
    if not sizes:
        if current().layer is not None:  # inside a composition, a layer that takes no condition ignores it
            return None
        raise ValueError(
            f"{_name(layer)} takes no condition, and no layer within it does; got one of shape {tuple(array.shape)}"
        )
    ops = get_ops(X)
    same_engine("the condition", array, X)
    array = vectors_of_labels(layer, array, dtype)
    _check_shape(layer, ops, X, array)
    if not ops.same_dtype(array.dtype, dtype):
        if not ops.xp.isdtype(array.dtype, REAL):
            raise TypeError(f"a condition has real numbers; got dtype {array.dtype}")
        array = ops.astype(array, dtype)
    array = condition_rows(array, N)
    if not isinstance(cond, Condition):
        return array
    return cond if array is cond.array else Given(array, cond)


def vectors_of_labels(layer: Layer, cond: Cond, dtype: DType) -> Array:
    """Converts integer labels (N,) to one-hot rows (N, classes) if a model within `layer` has `classes`.

    Any other condition is returned as it is.

    Raises:
        ValueError: a label is negative, or not below `classes`.
    """
    ops = get_ops(cond)
    if cond.ndim != 1 or not ops.xp.isdtype(cond.dtype, "integral"):
        return cond
    classes = layer.derived("classes", lambda: _classes(layer))
    if classes is None:
        return cond
    if not ops.lies_within(cond, 0, classes - 1):
        least, most = ops.min_max(cond)
        raise ValueError(f"labels are integers from 0 to {classes - 1}; got {least:g} to {most:g}")
    columns = ops.xp.arange(classes, device=array_api_compat.device(cond))
    return ops.astype(cond[:, None] == columns, dtype)


def _classes(layer):
    """Returns `classes` of the first model within that takes labels, or None."""
    modules = (layer, *(module for _, module in layer.named_modules()))
    return next((module.classes for module in modules if getattr(module, "classes", None)), None)


def _check_shape(layer, ops, X, array):
    shape, N = tuple(array.shape), X.shape[0]
    if len(shape) < 2:
        labels = len(shape) == 1 and ops.xp.isdtype(array.dtype, ("bool", "integral"))
        advice = "; a model that takes integer labels is made with classes=" if labels else ""
        raise ValueError(f"a condition has shape {_shapes(layer, X)}; got {shape}{advice}")
    times = [n // m if m and n % m == 0 else 0 for n, m in zip(shape[2:], X.shape[2:])]
    fits = len(shape) == 2 or (len(shape) == X.ndim and len(set(times)) == 1 and 0 not in times)
    vector, spatial = _channels(layer, X)
    if len(shape) == 2:
        fits = vector is None or shape[1] == vector
    elif fits and spatial is not None:
        fits = shape[1] * times[0] ** len(times) == spatial
    if not fits or shape[0] not in (1, N):
        raise ValueError(
            f"{_name(layer)} takes a condition of shape {_shapes(layer, X)} for X {tuple(X.shape)}, {N} rows for its "
            f"{N} samples "
            f"or one row for all; got {shape}, of {shape[0]} rows"
        )


def _channels(layer, X):
    """Returns the number of channels of a condition (N, K), and of one (N, K, *spatial) with the axes of X.

    Each is None if it is unknown, and 0 if no such condition fits.
    """
    sizes, d = layer.derived("conditions", layer.conditions), X.ndim - 2
    if any(K is None for K, _ in sizes):
        return None, None
    vectors = {K for K, _ in sizes}
    vector = vectors.pop() if len(vectors) == 1 else 0
    if not d or layer.halvings:
        return vector, None if d else 0
    at_x = {K / 2 ** (d * level) for K, level in sizes}  # before it was squeezed
    return vector, at_x.pop() if len(at_x) == 1 and min(at_x).is_integer() else 0


def _shapes(layer, X):
    """Describes the shapes that a condition may have, for an error."""
    vector, spatial = _channels(layer, X)
    shapes = [] if vector == 0 else [f"(N, {vector or 'K'})"]
    if X.ndim > 2 and spatial != 0:
        shapes.append(
            f"(N, {'K' if spatial is None else int(spatial)}, *spatial), whose axes are those of X or all the same "
            f"number of times as long,"
        )
    return " or ".join(shapes) or "(N, K)"


def _name(layer):
    return f"this {type(layer).__name__}"
