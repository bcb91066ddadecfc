"""Parameter, Buffer and Condition: arrays that a module has or is given, with their gradients."""

import numpy as np

from ..ops import get_ops


class Buffer:
    """An array that is saved with a module but not learned (a permutation, a sign, a flag)."""

    #: How often an array of any Buffer was put in the place of another, or a part of a Module in that of another: who keeps views
    #: or addresses of arrays looks here whether these may have changed.
    replaced = 0

    def __init__(self, data):
        self.data = data

    def __setattr__(self, name, value):
        if vars(self).get(name) is not value:
            Buffer.replaced += 1
            super().__setattr__(name, value)


class Parameter(Buffer):
    """A learned array `data`, and the gradient `grad` of its shape that every backward adds to."""

    def __init__(self, data):
        data = np.asarray(data, float) if isinstance(data, (list, tuple)) else data
        ops = get_ops(data)
        super().__init__(ops.plain(data))
        self.grad = ops.zeros_like(self.data)

    def __repr__(self):
        return f"Parameter(shape={tuple(self.data.shape)}, dtype={self.data.dtype})"


class Condition:
    """A condition whose gradient is wanted: backward adds to `grad`, an array of the shape of `array`."""

    def __init__(self, array):
        array = np.asarray(array, float) if isinstance(array, (list, tuple)) else array
        ops = get_ops(array)
        if not ops.is_float(array):
            raise TypeError(f"a condition that has a gradient is a floating-point array; got dtype {array.dtype}")
        self.array = ops.plain(array)
        self.grad = ops.zeros_like(self.array)


def condition_array(cond):
    """The array of a condition, which may be None, an array or a Condition."""
    array = cond.array if isinstance(cond, Condition) else cond
    return None if array is None else get_ops(array).plain(array)
