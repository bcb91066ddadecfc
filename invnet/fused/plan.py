"""Plan: the base of plans for vectors and for images."""

import copy

from ..core import Parameter
from ..passes.context import current
from .addresses import Addresses


class Plan:
    """A group of layers for arrays of one dtype, as tables of numbers. Compiled functions get addresses of parameters.

    Args:
        specs: the specs of the group's layers, in order.
        dtype: the dtype of the arrays that the group maps.
    """

    def __init__(self, specs, dtype):
        self.dtype, self._specs = dtype, specs
        #: True if there are products of reflections, otherwise None; compiled functions are compiled for either case
        self.reflections = True if any(spec.kind == "householder" for spec in specs) else None
        self._states, self._expected = [], []
        self._data, self._gradients = Addresses(), Addresses()

    def _add_states(self, states, dtype):
        self._states += states
        self._expected += [(tuple(state.data.shape), dtype) for state in states]

    def is_of(self, specs):
        """Returns whether the plan was made from these specs."""
        if specs is not self._specs and specs == self._specs:
            self._specs = specs
        return specs is self._specs

    def find_parameters(self):
        """Sets `addresses` to the addresses of the parameters: NumPy arrays, or PyTorch tensors on the CPU.

        Returns:
            whether compiled functions can use the parameters in their present memory.
        """
        if not self._data.hold() and not self._data.find(self._states, "data", self._expected):
            return False
        self.addresses = self._data.table
        return True

    def with_gradients(self):
        """Returns a plan whose `gradients` are the addresses of the gradients. A gradient that is None is made first.

        It is this plan, or a copy if the pass adds to other gradients than the parameters' own. It is None if compiled
        functions cannot use the gradients in their present memory.
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
