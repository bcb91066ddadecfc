"""Parameter, Buffer and Condition: the arrays of a module, and the array that it is given, with their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..ops import get_ops
from ..passes.context import current, within
from ..passes.healing import settle
from .derived import part_replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..ops.tile import Tile
    from ..typing import Array, Cond


class Buffer:
    """An array that is saved with a module but not learned, such as a permutation or signs.

    Args:
        data: an array.
    """

    def __init__(self, data: Array):
        self.data = data

    def __setattr__(self, name, value):
        replaced = name == "data" and vars(self).get("data") is not value
        super().__setattr__(name, value)
        if replaced:
            part_replaced(self)

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "_dependants"}  # of this process alone


class Gradient:
    """The gradient of a Parameter, for internal use. Unlike reading `grad`, reading it has no side effect.

    Attributes:
        array: the gradient, of the parameter's shape and dtype, or None.
        is_zero: whether `array` is known to hold zeros only.
    """

    __slots__ = ("_dependants", "array", "is_zero")

    def __init__(self, array: Array | None):
        self.array, self.is_zero = array, array is not None

    def replace(self, array: Array | None, is_zero: bool = False) -> None:
        """Sets the gradient to another array, or to None."""
        replaced = array is not self.array
        self.array, self.is_zero = array, is_zero and array is not None
        if replaced:
            part_replaced(self)

    def __getstate__(self):
        return None, {"array": self.array, "is_zero": self.is_zero}

    def clear(self) -> None:
        """Sets the array to zero, if there is one."""
        if self.array is not None:
            get_ops(self.array).zero_([self.array])
            self.is_zero = True


class Parameter(Buffer):
    """A learned array `data` with its gradient `grad`. Every backward pass adds to the gradient, by `add`.

    Args:
        data: an array of floating-point numbers of any shape, or a list of numbers. A new gradient is zero.

    Attributes:
        data: the array.
        grad: the gradient of the shape and dtype of `data`, or None.
        gradient: the Gradient behind `grad`, for internal use.
    """

    def __init__(self, data: Array):
        data = np.asarray(data, float) if isinstance(data, (list, tuple)) else data
        ops = get_ops(data)
        super().__init__(ops.detach(data))
        self._gradient = Gradient(ops.zeros_like(self.data))

    @property
    def gradient(self) -> Gradient:
        """Returns the Gradient: the parameter's own, or the one that the pass that runs adds to instead."""
        instead = current().gradients
        return self._gradient if instead is None else instead.get(self, self._gradient)

    @property
    def grad(self) -> Array | None:
        """The gradient, or None. If it is None, the next backward pass makes an array of zeros and adds to it.

        It can be set to None, or to an array of the shape, dtype and engine of `data`. Optimizers and clipping skip a
        parameter whose gradient is None, and `zero_grad` leaves it None.

        Raises:
            TypeError: the new value is no array, or has another dtype or engine.
            ValueError: the new array has another shape.
        """
        settle()
        self.gradient.is_zero = False  # the caller may write to the array
        return self.gradient.array

    @grad.setter
    def grad(self, value: Array | None) -> None:
        self.gradient.replace(None if value is None else self._checked(value))

    def add(self, gradient: Array) -> None:
        """Adds an array of the shape of `data` to the gradient; a gradient that is None counts as zeros."""
        total = self.gradient
        total.is_zero = False
        if total.array is None:
            self.gradient_array()
        total.array += gradient

    def gradient_array(self) -> Array:
        """Returns the array that backward adds to. If `grad` is None, a new array of zeros becomes the gradient."""
        gradient = self.gradient
        gradient.is_zero = False
        if gradient.array is None:
            gradient.replace(get_ops(self.data).zeros_like(self.data))
        return gradient.array

    def _checked(self, value):
        """Returns `value` if it can be the gradient; raises an error otherwise."""
        try:
            ops = get_ops(value)
        except TypeError:
            raise TypeError(
                f"grad is None or an array of shape {tuple(self.data.shape)}; got {type(value).__name__}"
            ) from None
        own = get_ops(self.data)
        if ops.name != own.name or not ops.same_dtype(value.dtype, self.data.dtype):
            raise TypeError(
                f"grad needs the engine and dtype of data, {own.name} {self.data.dtype}; got {ops.name} {value.dtype}"
            )
        if tuple(value.shape) != tuple(self.data.shape):
            raise ValueError(f"grad needs the shape of data, {tuple(self.data.shape)}; got {tuple(value.shape)}")
        return ops.detach(value)

    def __repr__(self):
        return f"Parameter(shape={tuple(self.data.shape)}, dtype={self.data.dtype})"


def other_gradients(
    parameters: Iterable[Parameter], of: Callable[[Array], Array] = lambda data: get_ops(data).zeros_like(data)
) -> tuple[within, dict[Parameter, Gradient]]:
    """A context in which backward adds to other gradients of these parameters than to their own.

    Args:
        parameters: Parameters.
        of: a function of a parameter's data that makes an array of zeros.

    Returns:
        the context, and the Gradients by Parameter.
    """
    gradients = {parameter: Gradient(of(parameter.data)) for parameter in parameters}
    return within(gradients={**(current().gradients or {}), **gradients}), gradients


class Condition:
    """A condition whose gradient is wanted. Every backward pass adds to `grad`.

    Args:
        array: floating-point numbers, (N, K) or (N, K, *spatial). One row, (1, K, ...), serves all samples; its
            gradient is the sum over the samples.

    Attributes:
        array: the condition.
        grad: its gradient, an array of the same shape and dtype, zero at first.

    Raises:
        TypeError: the array has no floating-point numbers.

    Example:
        cond = invnet.Condition(np.zeros((100, 3), "float32"))
        Z, logdet = layer.forward(X, cond)
        layer.backward(dZ, Z, cond=cond)  # adds to cond.grad
    """

    def __init__(self, array: Array):
        array = np.asarray(array, float) if isinstance(array, (list, tuple)) else array
        ops = get_ops(array)
        if not ops.is_float(array):
            raise TypeError(f"a condition that has a gradient is a floating-point array; got dtype {array.dtype}")
        self.array = ops.detach(array)
        self.grad = ops.zeros_like(self.array)

    def add(self, gradient: Array, tile: Tile | None = None) -> None:
        """Adds to `grad` what one layer contributes, for all samples or for those of one tile."""
        part = self.grad if tile is None else tile.condition(self.grad)
        if self.grad.shape[0] == 1 != gradient.shape[0]:
            gradient = get_ops(gradient).xp.sum(gradient, axis=0, keepdims=True)
        part[...] += gradient


def condition_array(cond: Cond) -> Array | None:
    """Returns the array of a condition, which is a Condition, an array, or None."""
    array = cond.array if isinstance(cond, Condition) else cond
    return None if array is None else get_ops(array).detach(array)


def condition_rows(cond: Cond, N: int) -> Array | None:
    """Returns the array of a condition with N rows, or None. One row is repeated without a copy."""
    array = condition_array(cond)
    if array is None or array.shape[0] == N or array.shape[0] != 1:
        return array
    return get_ops(array).xp.broadcast_to(array, (N, *array.shape[1:]))
