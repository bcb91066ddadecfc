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
        self.states, self._expected, self._data, self._grads, self._version = [], [], None, None, None

    def _states(self, states, dtype):
        self.states += states
        self._expected += [(tuple(state.data.shape), dtype) for state in states]

    def current(self, version):
        """Whether the layers still have the conditioners that the program was made of."""
        return version == self._version or all(owner.net is net for owner, net in self.owners)

    def located(self, version):
        """Whether compiled functions can take the parameters where they lie; then `addresses` and `gradients` say where."""
        if version == self._version:
            return True
        learned = [state for state in self.states if hasattr(state, "grad")]
        data, grads = [state.data for state in self.states], [state.grad for state in learned]
        if not (_same(data, self._data) and _same(grads, self._grads)):
            self._data = self._grads = self._version = None
            expected = dict(zip(self.states, self._expected))
            for state, array in zip(self.states + learned, data + grads):
                if type(array) is not np.ndarray or (array.shape, array.dtype) != expected[state] or not array.flags.carray:
                    return False
            places = dict(zip(learned, grads))
            self.addresses = np.array([array.ctypes.data for array in data])
            self.gradients = np.array([places[state].ctypes.data if state in places else 0 for state in self.states])
            self._data, self._grads = data, grads
        self._version = version
        return True


def _same(arrays, others):
    return others is not None and all(map(operator.is_, arrays, others))
