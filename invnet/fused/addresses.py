"""Addresses: where the parameters and gradients of a group lie, for compiled functions."""

import numpy as np

from ..core.derived import Derived


class Addresses:
    """Where the arrays of Buffers or Gradients lie, until one is replaced or a tensor has moved; `table` has an address
    of each, 0 of None.
    """

    def __init__(self):
        self._derived = self._arrays = self.table = None
        self._pointers, self._pointed = [], []  # of tensors, which may be given other memory, and where they pointed to

    def hold(self):
        """Whether the table is right."""
        return self._derived is not None and self._derived.holds() and self._stay()

    def find(self, parts, name, expected):
        """Makes the table right; False where an array has not the (shape, dtype) that is expected, or not contiguous
        memory.

        Args:
            parts: Buffers or Gradients, or None.
            name: the attribute that is the array.
            expected: (shape, dtype) of each.
        """
        self._derived, places = None, []
        derived = Derived(filter(None, parts))  # first, since another thread may replace an array
        arrays = [None if part is None else getattr(part, name) for part in parts]
        for array, shape_and_dtype in zip(map(_array, arrays), expected):
            if array is not None:
                if (
                    type(array) is not np.ndarray
                    or (array.shape, array.dtype) != shape_and_dtype
                    or not array.flags.carray
                ):
                    return False
            places.append(0 if array is None else array.ctypes.data)
        self.table = np.array(places, np.int64)
        self._pointers = [array.data_ptr for array in arrays if hasattr(array, "data_ptr")]
        self._pointed = [pointer() for pointer in self._pointers]
        self._arrays, self._derived = arrays, derived  # the arrays, so that nothing else comes to lie there
        return True

    def _stay(self):
        return not self._pointers or [pointer() for pointer in self._pointers] == self._pointed


def _array(data):
    """An array, or a tensor as an array of the same memory."""
    return data.detach().numpy() if hasattr(data, "data_ptr") else data
