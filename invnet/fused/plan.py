"""Plan: what plans for vectors and for images share."""

import copy

from ..core import Parameter
from ..passes.context import current
from .addresses import Addresses


class Plan:
    """A group of layers for arrays of one dtype, as tables of numbers; compiled functions find its parameters by their
    addresses.

    Args:
        specs: of the group's layers, one after the other.
        dtype: of the arrays that the group works on.
    """

    def __init__(self, specs, dtype):
        self.dtype, self._specs = dtype, specs
        #: what compiled functions take and are compiled for: whether there are products of reflections, else None
        self.reflections = True if any(spec.kind == "householder" for spec in specs) else None
        self._states, self._expected = [], []
        self._data, self._gradients = Addresses(), Addresses()

    def _add_states(self, states, dtype):
        self._states += states
        self._expected += [(tuple(state.data.shape), dtype) for state in states]

    def is_of(self, specs):
        """Whether these are the specs that the plan was made of."""
        if specs is not self._specs and specs == self._specs:
            self._specs = specs
        return specs is self._specs

    def find_parameters(self):
        """Whether compiled functions can take the parameters where they lie; then `addresses` says where.

        They are NumPy's arrays, or PyTorch's tensors on the CPU.
        """
        if not self._data.hold() and not self._data.find(self._states, "data", self._expected):
            return False
        self.addresses = self._data.table
        return True

    def with_gradients(self):
        """This plan, whose `gradients` say where the parameters' gradients lie, which are made where there is none; or
        None where compiled functions cannot take them.

        It is a copy of the plan if the pass adds to other gradients than the parameters' own.
        """
        if current().gradients is None:
            plan, gradients = self, self._gradients
        else:
            plan, gradients = copy.copy(self), Addresses()
        if not gradients.hold():
            parameters = [state if isinstance(state, Parameter) else None for state in self._states]
            for parameter in filter(None, parameters):
                parameter.gradient_array()  # makes it
            parts = [parameter and parameter.gradient for parameter in parameters]
            if not gradients.find(parts, "array", self._expected):
                return None
        plan.gradients = gradients.table
        return plan
