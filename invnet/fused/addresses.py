"""Addresses: the memory addresses of a group's parameters or gradients, for compiled functions."""

import numpy as np

from ..core.derived import Derived


class Addresses:
    """A table of the memory addresses of arrays. It is valid until an array is replaced or a tensor gets other memory.

    Attributes:
        table: one address (int64) for each array; 0 for None.
    """

    def __init__(self):
        self._derived = self._arrays = self.table = None
        # Tensors can get other memory: functions that return their addresses, and what these returned for the table.
        self._pointers, self._pointed = [], []

    def hold(self):
        """Returns whether the table is valid."""
        return self._derived is not None and self._derived.holds() and self._stay()

    def find(self, parts, name, expected):
        """Makes the table.

        Args:
            parts: Buffers or Gradients, or None.
            name: the attribute of a part that is its array.
            expected: the (shape, dtype) of each array.

        Returns:
            whether every array has the expected shape and dtype, and contiguous memory. If not, there is no table.
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
        self._arrays, self._derived = arrays, derived  # keeps the arrays alive, so that their memory is not reused
        return True

    def _stay(self):
        return not self._pointers or [pointer() for pointer in self._pointers] == self._pointed


def _array(data):
    """Returns an array itself, or a NumPy array with the memory of a tensor."""
    return data.detach().numpy() if hasattr(data, "data_ptr") else data
