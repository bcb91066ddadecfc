"""Healing: a backward whose states drifted too far is computed again, from the array that forward was given, with
stored states between.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from .context import current, within
from .drift import DriftMonitor, ratios
from .replay import RngReplay

#: on devices: functions that wait for what a backward measured, and heal it, until something reads the gradients
_unread = []


def defer(ops, read):
    """Has `settle` call `read` on the device of these operations, before anything uses the gradients."""
    _unread.append((ops, read))


def settle():
    """Reads the drift of every backward whose gradients nobody has read yet, and computes those again that drifted too
    far.
    """
    while _unread:
        ops, read = _unread.pop(0)
        with ops.at_work():
            read()


class DeferredHealing(NamedTuple):
    """What a backward leaves to the owner of `current().deferred`: whether it drifted too far, and how it is computed
    again.

    `again` is None where that is not possible.
    """

    needed: bool
    again: Any
    heal: Callable


_is_zero = operator.attrgetter("is_zero")


class GradientBackup:
    """The gradients of a layer's parameters, and of a Condition, before a backward. What is known to be zero is not
    copied.
    """

    def __init__(self, layer, ops, cond):
        self._gradients = layer.gradients()
        self._others = {}
        if not all(map(_is_zero, self._gradients)):  # of hundreds of parameters, in a quarter of the time
            self._others = {
                id(gradient): (gradient.array, None if gradient.array is None else ops.copy(gradient.array))
                for gradient in self._gradients
                if not gradient.is_zero
            }
        grad = getattr(cond, "grad", None)
        self._cond = None if grad is None else (grad, ops.copy(grad))

    def restore(self):
        for gradient in self._gradients:
            array, before = self._others.get(id(gradient), (gradient.array, None))
            if array is None:
                gradient.replace(None)
            elif before is None:
                gradient.clear()
            else:
                gradient.array[...] = before
        if self._cond is not None:
            grad, before = self._cond
            grad[...] = before


class Recomputation:
    """All that computes the gradients of one backward again.

    Args:
        layer: the layer whose public method runs.
        ops: the operations of the arrays.
        recorded: the random states of the forward pass.
        Z: the output of the forward pass.
        forward: a function without arguments that gives Z.
        backward: of Z gives dX and X, and adds to the gradients.
        cond: the condition.
    """

    def __init__(self, layer, ops, recorded, Z, forward, backward, cond):
        self.layer, self.ops, self.recorded, self.Z, self.forward, self.backward = (
            layer,
            ops,
            recorded,
            Z,
            forward,
            backward,
        )
        self.output_error = 0.0  # of Z as it was computed again: large where parameters or the condition are others now
        self.backup, self.precision = GradientBackup(layer, ops, cond), ops.precision()
        self.gradients = current().gradients
        self.results = ()  # dX and X that the caller has already

    def restore(self):
        """The gradients as they were before."""
        self.backup.restore()

    def run(self, anchors):
        """Restores the gradients and computes them again, to the bit from stored states, dX and X too; gives what it
        measured.
        """
        monitor, rng = DriftMonitor(self.ops, anchors, strict=0.0), RngReplay(self.recorded)
        with (
            self.ops.at_work(),
            self.precision(),
            within(
                layer=self.layer,
                rng=rng,
                cache=None,
                monitor=monitor,
                hook=None,
                deferred=None,
                gradients=self.gradients,
            ),
        ):
            self.restore()
            self.layer.make_gradients()
            rng.seek(0, forward=True)
            Z = self.forward()
            self.output_error = ratios(self.ops, [(None, *self.ops.deviation(self.Z, Z))])[0][1]
            rng.seek(len(self.recorded), forward=False)
            for array, value in zip(self.results, self.backward(Z)):
                array[...] = value
        return monitor.drift()
