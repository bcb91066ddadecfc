"""SavedPass: what a public pass through a layer, forward or inverse_logdet, leaves for the backward that is given its
output.
"""

import threading

import numpy as np

from .context import current, within
from .replay import RngReplay

#: the public names of a pass and of its backward, by the method that a composition calls
NAMES = {"forward_": ("forward", "backward"), "inverse_logdet_": ("inverse_logdet", "inverse_backward")}


class SavedPass:
    """One pass: the random states of its conditioners, activations, states to compare with, and the array that it was
    given.

    Args:
        out_: "forward_" or "inverse_logdet_".
        cache: the ActivationCache that takes activations, or None.
        monitor: the DriftMonitor, or None.
    """

    def __init__(self, out_, cache=None, monitor=None):
        self.out_, self.cache, self.monitor, self.rng = out_, cache, monitor, RngReplay()
        self.X = self.Z_mark = self.shape = None
        self.Z_mark_now = None  # on a device: of what backward is given, which is compared later

    def running(self, layer):
        """A context for the pass itself; a public pass within another shares its random states."""
        around = current()
        self.rng = around.rng or self.rng
        return within(layer=around.layer or layer, rng=self.rng, cache=self.cache, monitor=self.monitor)

    def end(self, ops, X, Z):
        """Takes the marks of the array that was given, which is held where backward may need it, and of the output."""
        monitor = self.monitor
        compares = monitor is not None and (monitor.traces or monitor.strict is not None)
        if compares or self.cache is not None or self.rng.is_random:
            self.Z_mark, self.shape = ops.fingerprint(Z), tuple(Z.shape)
        if compares and monitor.X_mark is not None:
            self.X = X

    def backward(self, layer):
        """A context for its backward."""
        around = current()
        rng = around.rng or RngReplay(self.rng.recorded, NAMES[self.out_][0])
        return within(layer=around.layer or layer, rng=rng, cache=self.cache, monitor=self.monitor)

    def is_of(self, ops, Z):
        """Whether Z is the output of this pass. Of one with NaN only the random states are known."""
        if self.Z_mark is None or self.shape != tuple(Z.shape):
            return False
        mark = ops.fingerprint(Z)
        if ops.same(self.Z_mark, mark):
            return True
        if self.rng.is_random and np.array_equal(ops.to_numpy(self.Z_mark), ops.to_numpy(mark), equal_nan=True):
            self.X = self.cache = self.monitor = None
            return True
        return False

    def once_more(self):
        """What another backward from the same output needs: random states, and the array that was given, but no states
        between.
        """
        other = SavedPass(self.out_, None, None if self.X is None else self.monitor.of_X_alone())
        other.rng, other.Z_mark, other.shape, other.X = self.rng, self.Z_mark, self.shape, self.X
        return other


class LastPass(threading.local):
    """The SavedPass that a layer's last public pass in this thread left, or None."""

    saved = None
