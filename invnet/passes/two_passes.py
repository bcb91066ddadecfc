"""What a layer's pass out, forward or inverse_logdet, leaves for the pass back, and the settings for it."""

import math
import warnings
import weakref

from ..arguments import is_integer, is_number
from ..ops import float_dtype
from . import drift
from .current import current, within
from .draws import Draws, forth
from .kept import Kept

#: layer -> a function that gives what its last backward measured on a device, and waits for it
_unread = weakref.WeakKeyDictionary()


def name_in_pass(layer):
    """The name of `layer` in the one whose public method runs, and its class."""
    name, kind = "" if current.layer is None else current.layer.name_of(layer), type(layer).__name__
    return kind if name in ("", kind) else f"{name}, {kind},"


class TwoPasses:
    """The settings of a layer for what its public methods leave; those of layers within do not count.

    A pass out, forward or inverse_logdet, leaves a few numbers for each sample of a few states, and what the settings ask for,
    until the pass back that is given its output, or until the next pass out. The parameters stay as they are between the two.
    """

    _left, _kept_before, _draws, _drift, _warned = None, None, (), None, False
    _memory_budget, _anchors, _strict, _drift_tolerance, _state_dtype = 0, 0, None, drift.TOLERANCE, None

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name not in ("_left", "_kept_before", "_drift")}

    @property
    def memory_budget(self):
        """Bytes, or a share of the free memory below 1, for activations that spare backward its recomputing; 0 for none.

        `forward` keeps what its couplings' conditioners computed, as far as that fits. Gradients are the same.
        """
        return self._memory_budget

    @memory_budget.setter
    def memory_budget(self, budget):
        if not is_number(budget) or not budget >= 0 or budget == math.inf:
            raise ValueError(f"memory_budget is a number of bytes, or a share of the free memory below 1; got {budget!r}")
        self._memory_budget, self._left, self._kept_before = budget, None, None

    @property
    def anchors(self):
        """k: of every k-th state of a Chain a copy is left, from which backward goes on when it comes there; 0 for none.

        "auto" is the square root of the number of steps. It costs steps / k arrays of the state's size.
        """
        return self._anchors

    @anchors.setter
    def anchors(self, k):
        if k != "auto" and not (is_integer(k) and k >= 0):
            raise ValueError(f'anchors is a number of steps from state to state that is kept, 0 for none, or "auto"; got {k!r}')
        self._anchors, self._left = k, None

    @property
    def strict(self):
        """The drift above which backward computes a segment between two anchors again from the first, or None.

        Gradients are then those of stored states, to that drift; with 0.0 every segment is computed again, at the cost of
        another forward, and gradients are to the bit those of stored states. It needs `anchors`, and takes "auto" where
        there are none. Each backward is then given what the last forward gave, or raises ValueError.
        """
        return self._strict

    @strict.setter
    def strict(self, drift):
        if drift is not None and not (is_number(drift) and drift >= 0):
            raise ValueError(f"strict is the largest drift that is allowed, a number from 0, or None; got {drift!r}")
        self._strict, self._left = drift, None

    @property
    def drift_tolerance(self):
        """The drift above which backward warns, once for this layer; None: drift is measured at anchors only."""
        return self._drift_tolerance

    @drift_tolerance.setter
    def drift_tolerance(self, tolerance):
        if tolerance is not None and not (is_number(tolerance) and tolerance > 0):
            raise ValueError(f"drift_tolerance is a positive number, or None; got {tolerance!r}")
        self._drift_tolerance, self._warned, self._left = tolerance, False, None

    @property
    def state_dtype(self):
        """The dtype of the states between layers, where it is not that of the parameters, or None.

        With "float64" states are rebuilt in double precision, conditioners compute in the parameters' float32, and their
        activations, which are nearly all of a step's memory, stay as they are. X is taken in either dtype; Z is of this one.
        """
        return self._state_dtype

    @state_dtype.setter
    def state_dtype(self, dtype):
        dtype = None if dtype is None else float_dtype(dtype)
        fixed = {type(layer).__name__ for layer in self.layers_within() if not layer.any_dtype} if dtype else ()
        if fixed:
            raise TypeError(f"state_dtype is for couplings and maps of the channels; {', '.join(sorted(fixed))} computes in the dtype "
                            "of its parameters")
        self._state_dtype, self._left = dtype, None

    @property
    def drift(self):
        """The Drift that the last backward measured, or None where it had nothing to compare with.

        On a device backward does not wait for what it measures: it is to be had, and warned of, when this is read.
        """
        if self in _unread:
            self._take(_unread.pop(self)(), 4)
        return self._drift

    def _to_leave(self, ops, out_):
        """What the pass `out_` is to leave, and what an earlier one left is freed."""
        self._left, walk = None, None
        strict = self._strict is not None
        if ops.guarded and (self._drift_tolerance is not None or self._anchors or strict):
            walk = drift.Walk(ops, self._anchors or ("auto" if strict else 0), self._strict)
        kept = self._new_kept(ops) if self._memory_budget and out_ == "forward_" else None
        return _Left(out_, kept, walk)

    def _leave(self, left):
        """Keeps that for the pass back."""
        if left.mark is not None:
            self._left, self._kept_before = left, left.kept

    def _new_kept(self, ops):
        before, budget = self._kept_before, self._memory_budget
        if before is not None:
            return Kept(before.budget, before.memory, before)
        budget = budget if budget >= 1 else budget * ops.free_memory()
        return Kept(budget, ops.lasting_memory(budget))

    def _take_left(self, ops, out_, Z):
        """What the pass `out_` left, for the pass back from Z, where this is its output."""
        left, self._left, self._drift = self._left, None, None
        _unread.pop(self, None)
        waits = not ops.asynchronous or (left is not None and (left.kept is not None or left.walk.has_anchors))
        if left is None or left.out_ != out_ or left.shape != tuple(Z.shape) or (waits and not left.marked(ops, ops.fingerprint(Z))):
            # this is the pass back of another, or there was none
            if self._strict is not None and bool(ops.xp.all(ops.xp.isfinite(Z))):
                out, back = ("forward", "backward") if out_ == "forward_" else ("inverse_logdet", "inverse_backward")
                raise ValueError(f"with strict, {back} takes what the last {out} gave, once, to go back to the states of that pass; got other values")
            left = _Left(out_, None, None)
        left.came_from = None if waits or left.mark is None else ops.fingerprint(Z)
        return left

    def _measured(self, ops, left):
        """Takes the drift that the pass back measured."""
        if left.walk is not None and left.came_from is None:
            self._take(left.walk.drift(), 6)
        elif left.walk is not None:
            _unread[self] = lambda: left.walk.drift() if left.marked(ops, left.came_from) else None

    def _take(self, measured, stacklevel):
        self._drift = measured
        if measured is not None:
            self._warn(*measured.worst, stacklevel)

    def _warn(self, error, layer, stacklevel):
        tolerance = self._drift_tolerance
        if self._warned or tolerance is None or error <= max(tolerance, self._strict or 0):
            return
        self._warned = True
        with within(layer=current.layer or self):
            name = name_in_pass(layer.known_as)
        warnings.warn(
            f"the input of {name} was rebuilt with a relative error of {error:.1e}, above drift_tolerance={tolerance:g}: the "
            f"gradients of this {type(self).__name__} may be as wrong. Set `anchors` or `strict`, or state_dtype = \"float64\", or take a "
            f"smaller `bound`, or mix=\"householder\" (docs/stability.md)", RuntimeWarning, stacklevel=stacklevel)


class _Left:
    """What a pass out left: the activations that are kept, the trails, the fingerprint of its output, and on a device that of what came back."""

    def __init__(self, out_, kept, walk):
        self.out_, self.kept, self.walk, self.mark, self.shape, self.came_from = out_, kept, walk, None, None, None

    def end(self, ops, Z):
        if self.kept is not None or (self.walk is not None and (self.walk.trails or self.walk.strict is not None)):
            self.mark, self.shape = ops.fingerprint(Z), tuple(Z.shape)

    def marked(self, ops, fingerprint):
        return bool((self.mark == fingerprint).all())
