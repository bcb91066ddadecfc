"""Addresses: where the parameters and gradients of a group lie, for compiled functions."""

import operator

import numpy as np


class Addresses:
    """Where arrays lie, as long as their version is the same and no tensor has moved; `table` has an address of each, 0
    of None.
    """

    def __init__(self):
        self._version = self._arrays = self.table = None
        self._pointers, self._pointed = [], []  # of tensors, which may be given other memory, and where they pointed to

    def hold(self, version):
        """Whether the table is right."""
        return version == self._version and self._stay()

    def find(self, version, arrays, expected):
        """Makes the table right; False where an array has not the (shape, dtype) that is expected, or not contiguous
        memory.
        """
        if not (self._stay() and self._arrays is not None and all(map(operator.is_, arrays, self._arrays))):
            self._version = self._arrays = None
            addresses = []
            for array, shape_and_dtype in zip(map(_array, arrays), expected):
                if array is not None:
                    if (
                        type(array) is not np.ndarray
                        or (array.shape, array.dtype) != shape_and_dtype
                        or not array.flags.carray
                    ):
                        return False
                addresses.append(0 if array is None else array.ctypes.data)
            self.table, self._arrays = np.array(addresses, np.int64), arrays
            self._pointers = [array.data_ptr for array in arrays if hasattr(array, "data_ptr")]
            self._pointed = [pointer() for pointer in self._pointers]
        self._version = version
        return True

    def _stay(self):
        return [pointer() for pointer in self._pointers] == self._pointed


def _array(data):
    """An array, or a tensor as an array of the same memory."""
    return data.detach().numpy() if hasattr(data, "data_ptr") else data
