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
        self.dtype, self.owners = dtype, [(stage.owner, stage.net) for stage in stages if stage.owner is not None]
        #: what kernels take and are compiled for: whether mixes are products of reflections, else None
        self.reflections = True if any(stage.kind == "householder" for stage in stages) else None
        self.states, self._expected, self._data, self._grads, self._version = [], [], None, None, None
        self._pointers, self._pointed = [], []  # of tensors, which may be given other memory, and where they pointed to

    def _states(self, states, dtype):
        self.states += states
        self._expected += [(tuple(state.data.shape), dtype) for state in states]

    def current(self, version):
        """Whether the layers still have the conditioners that the program was made of."""
        return version == self._version or all(owner.net is net for owner, net in self.owners)

    def located(self, version):
        """Whether compiled functions can take the parameters where they lie; then `addresses` and `gradients` say where.

        They are NumPy's arrays, or PyTorch's tensors on the CPU.
        """
        stay = [pointer() for pointer in self._pointers] == self._pointed
        if version == self._version and stay:
            return True
        learned = [state for state in self.states if hasattr(state, "grad")]
        data, grads = [state.data for state in self.states], [state.grad for state in learned]
        if not (stay and _same(data, self._data) and _same(grads, self._grads)):
            self._data = self._grads = self._version = None
            expected, arrays = dict(zip(self.states, self._expected)), list(map(_array, data + grads))
            for state, array in zip(self.states + learned, arrays):
                if type(array) is not np.ndarray or (array.shape, array.dtype) != expected[state] or not array.flags.carray:
                    return False
            places = [array.ctypes.data for array in arrays]
            of_gradients = dict(zip(learned, places[len(data):]))
            self.addresses, self.gradients = np.array(places[:len(data)]), np.array([of_gradients.get(state, 0) for state in self.states])
            self._data, self._grads = data, grads
            self._pointers = [array.data_ptr for array in data + grads if hasattr(array, "data_ptr")]
            self._pointed = [pointer() for pointer in self._pointers]
        self._version = version
        return True


def _array(data):
    """An array, or a tensor as an array of the same memory."""
    return data.detach().numpy() if hasattr(data, "data_ptr") else data


def _same(arrays, others):
    return others is not None and all(map(operator.is_, arrays, others))
