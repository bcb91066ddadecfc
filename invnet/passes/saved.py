"""SavedPass: what a public pass, forward or inverse_logdet, saves for the backward pass from its output."""

import threading

import numpy as np

from .context import current, within
from .replay import RngReplay

#: the public names of a pass and of its backward, by the method that a composition calls
NAMES = {"forward_": ("forward", "backward"), "inverse_logdet_": ("inverse_logdet", "inverse_backward")}


class SavedPass:
    """What one pass saves: random states of conditioners, activations, states to compare with, and its input array.

    Args:
        out_: the method of the pass, "forward_" or "inverse_logdet_".
        cache: the ActivationCache, or None.
        monitor: the DriftMonitor, or None.
    """

    def __init__(self, out_, cache=None, monitor=None):
        self.out_, self.cache, self.monitor, self.rng = out_, cache, monitor, RngReplay()
        self.X = self.Z_mark = self.shape = None
        self.Z_mark_now = None  # on a device: the mark of the Z that backward gets, to be compared later

    def running(self, layer):
        """Returns a context for the pass itself. A public pass inside another shares its random states."""
        around = current()
        self.rng = around.rng or self.rng
        return within(layer=around.layer or layer, rng=self.rng, cache=self.cache, monitor=self.monitor)

    def end(self, ops, X, Z):
        """Saves a fingerprint of the output, and a reference to the input if backward may need it."""
        monitor = self.monitor
        compares = monitor is not None and (monitor.traces or monitor.strict is not None)
        if compares or self.cache is not None or self.rng.is_random:
            self.Z_mark, self.shape = ops.fingerprint(Z), tuple(Z.shape)
        if compares and monitor.X_mark is not None:
            self.X = X

    def backward(self, layer):
        """Returns a context for the backward of this pass."""
        around = current()
        rng = around.rng or RngReplay(self.rng.recorded, NAMES[self.out_][0])
        return within(layer=around.layer or layer, rng=rng, cache=self.cache, monitor=self.monitor)

    def is_of(self, ops, Z):
        """Returns whether Z is the output of this pass. If Z has NaN, only the random states are used from then on."""
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
        """Returns a SavedPass for another backward from the same output: with random states and the input only."""
        other = SavedPass(self.out_, None, None if self.X is None else self.monitor.of_X_alone())
        other.rng, other.Z_mark, other.shape, other.X = self.rng, self.Z_mark, self.shape, self.X
        return other


class LastPass(threading.local):
    """For each thread: the SavedPass of a layer's last public pass, or None."""

    saved = None
