"""Located: the parameters of a run, and where they lie."""

import operator

import numpy as np


class Located:
    """The states of a run's layers, which compiled functions find by their addresses.

    Args:
        stages: of the run's layers, one after the other.
        dtype: of the arrays that the run works on.
    """

    def __init__(self, stages, dtype):
        self.dtype, self._stages = dtype, stages
        #: what kernels take and are compiled for: whether mixes are products of reflections, else None
        self.reflections = True if any(stage.kind == "householder" for stage in stages) else None
        self.states, self._expected = [], []
        self._data, self._gradients = Addresses(), Addresses()

    def _states(self, states, dtype):
        self.states += states
        self._expected += [(tuple(state.data.shape), dtype) for state in states]

    def current(self, stages):
        """Whether the stages of the run are those that the program was made of."""
        if stages is not self._stages and stages == self._stages:
            self._stages = stages
        return stages is self._stages

    def located(self, version):
        """Whether compiled functions can take the parameters where they lie; then `addresses` says where.

        They are NumPy's arrays, or PyTorch's tensors on the CPU.
        """
        if not self._data.hold(version) and not self._data.find(version, [state.data for state in self.states], self._expected):
            return False
        self.addresses = self._data.table
        return True

    def gradients_located(self, version):
        """The same of the parameters' gradients, which are made where there is none; then `gradients` says where."""
        if not self._gradients.hold(version):
            gradients = [state.gradient_array() if hasattr(state, "held") else None for state in self.states]
            if not self._gradients.find(version, gradients, self._expected):
                return False
        self.gradients = self._gradients.table
        return True


class Addresses:
    """Where arrays lie, as long as their version is the same and no tensor has moved; `table` has an address of each, 0 of None."""

    def __init__(self):
        self._version = self._arrays = self.table = None
        self._pointers, self._pointed = [], []  # of tensors, which may be given other memory, and where they pointed to

    def hold(self, version):
        """Whether the table is right."""
        return version == self._version and self._stay()

    def find(self, version, arrays, expected):
        """Makes the table right; False where an array has not the (shape, dtype) that is expected, or not contiguous memory."""
        if not (self._stay() and self._arrays is not None and all(map(operator.is_, arrays, self._arrays))):
            self._version = self._arrays = None
            places = []
            for array, shape_and_dtype in zip(map(_array, arrays), expected):
                if array is not None:
                    if type(array) is not np.ndarray or (array.shape, array.dtype) != shape_and_dtype or not array.flags.carray:
                        return False
                places.append(0 if array is None else array.ctypes.data)
            self.table, self._arrays = np.array(places, np.int64), arrays
            self._pointers = [array.data_ptr for array in arrays if hasattr(array, "data_ptr")]
            self._pointed = [pointer() for pointer in self._pointers]
        self._version = version
        return True

    def _stay(self):
        return [pointer() for pointer in self._pointers] == self._pointed


def _array(data):
    """An array, or a tensor as an array of the same memory."""
    return data.detach().numpy() if hasattr(data, "data_ptr") else data
