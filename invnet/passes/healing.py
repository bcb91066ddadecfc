"""Healing: if states drifted too far, backward is computed again from the input of forward, with stored states."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from .context import current, within
from .drift import DriftMonitor, ratios
from .replay import RngReplay

#: on devices: functions that wait for the measurement of a backward, and heal it. They are called before gradients are
#: read.
_unread = []


def defer(ops, read):
    """Makes `settle` call `read` on the device of these operations, before anything uses the gradients."""
    _unread.append((ops, read))


def settle():
    """Waits for the drift of each backward whose gradients have not been read; heals those that drifted too far."""
    while _unread:
        ops, read = _unread.pop(0)
        with ops.at_work():
            read()


class DeferredHealing(NamedTuple):
    """What a backward appends to `current().deferred`.

    Attributes:
        needed: whether it drifted too far.
        again: the Recomputation; None if it cannot be computed again.
        heal: a function that computes it again.
    """

    needed: bool
    again: Any
    heal: Callable


_is_zero = operator.attrgetter("is_zero")


class GradientBackup:
    """A copy of the gradients of a layer's parameters, and of a Condition, from before a backward.

    Gradients that are known to be zero are not copied.
    """

    def __init__(self, layer, ops, cond):
        self._gradients = layer.gradients()
        self._others = {}
        if not all(map(_is_zero, self._gradients)):  # with hundreds of parameters, a quarter of a loop's time
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
    """Computes the gradients of one backward again.

    Args:
        layer: the layer whose public method is running.
        ops: the operations of the arrays.
        recorded: the random states of the forward pass.
        Z: the output of the forward pass.
        forward: a function without arguments that computes Z.
        backward: a function of Z that returns dX and X, and adds to the gradients.
        cond: the condition, or None.
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
        self.output_error = 0.0  # of the recomputed Z; large if parameters or the condition have changed
        self.backup, self.precision = GradientBackup(layer, ops, cond), ops.precision()
        self.gradients = current().gradients
        self.results = ()  # dX and X that were returned to the caller

    def restore(self):
        """Restores the gradients from before the backward."""
        self.backup.restore()

    def run(self, anchors):
        """Restores the gradients, and computes them, dX and X again from stored states; returns the Drift."""
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
