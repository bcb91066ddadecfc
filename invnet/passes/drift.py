"""Drift: how far the states that backward rebuilds are from those of the forward pass."""

import dataclasses
import math
import operator
import sys

#: Log-determinants are compared in this many first passes of a network, and then in every pass of this number. In a
#: pass of 0.13 ms the comparison takes 0.02 ms.
LOGDETS_EVERY = 16
#: the default of `drift_tolerance`: the relative drift above which a backward is computed again
TOLERANCE = 1e-3


@dataclasses.dataclass
class Drift:
    """What a backward pass measured, if the forward pass before saved states to compare with.

    The drift of a state is the largest error of a sample, relative to the root mean square of the samples. It is exact
    for the network's input and at anchors. For other states it is estimated from projections on directions of random
    signs, which differ from pass to pass; on average a projection is as large as the error.

    Attributes:
        states: (layer, drift) for the input of each layer that was rebuilt and compared, in the order of the pass.
        logdets: (layer, difference) of log-determinants that were computed from rebuilt states, compared with those of
            the forward pass, in nats for each number of a sample. Only the first sample and one layer of each Chain are
            compared, in the first 16 passes of a network and in every 16th pass after.
        redone: how many segments drifted too far and were computed again from their anchor. The drift of their states
            counts as zero, since they are those of forward to the bit.
        healed: the drift because of which the whole backward was computed again from stored states; None if it was not.
    """

    states: list
    logdets: list
    redone: int
    healed: float | None = None

    @property
    def worst(self):
        """The largest drift and its layer; (None, None) if nothing was measured."""
        layer, drift = max(self.states, key=operator.itemgetter(1), default=(None, 0.0 if self.redone else None))
        return drift, layer

    @property
    def error(self):
        """The largest drift; None if nothing was measured."""
        return self.worst[0]

    @property
    def logdet_error(self):
        """The largest difference of log-determinants; None if none was compared."""
        return max((difference for _, difference in self.logdets), default=0.0 if self.redone else None)

    def __repr__(self):
        def shown(value):
            return "None" if value is None else f"{value:.1e}"

        healed = "" if self.healed is None else f", healed={shown(self.healed)}"
        return (
            f"Drift(error={shown(self.error)}, logdet_error={shown(self.logdet_error)}, redone={self.redone}{healed})"
        )


class DriftMonitor:
    """The states of a forward pass that backward compares with and restarts from: one ChainTrace for each Chain.

    Args:
        ops: the operations of the arrays.
        anchors: k, for a copy of every k-th state; "auto" for the square root of the number of steps; 0 for none.
        strict: the drift above which a segment between two anchors is computed again; or None.
        restarts: whether backward continues from an anchor instead of the rebuilt state.
        window: where the directions of projections begin in a long sequence of random signs.
        logdets_too: whether log-determinants are compared as well.
    """

    def __init__(self, ops, anchors=0, strict=None, restarts=True, window=0, logdets_too=True):
        self.ops, self.anchors, self.strict, self.restarts, self.window = ops, anchors, strict, restarts, window
        self.logdets_too = logdets_too
        self.traces, self.redone, self.errors, self.logdets = [], 0, [], []
        # the mark of the array that the public method was given, the layer that took it, and whether an anchor is there
        self.X_mark = self.first = None
        self.anchored_at_X = False
        self.sames, self.are_same = [], ()  # on a device: differences of fingerprints, and whether each is zero

    @property
    def has_anchors(self):
        return bool(self.anchors) or self.strict is not None

    def drift(self):
        """Returns the Drift that was measured."""
        found = ratios(self.ops, [*self.errors, *self.logdets, *self.sames])  # one wait for all
        errors, logdets = len(self.errors), len(self.errors) + len(self.logdets)
        self.are_same = [difference == 0 for _, difference in found[logdets:]]
        return Drift(found[:errors], found[errors:logdets], self.redone)

    def fingerprint(self, X):
        return self.ops.fingerprint(X, self.window)

    def of_X_alone(self):
        """Returns a monitor without states, except for the input of the public method."""
        other = DriftMonitor(self.ops, window=self.window)
        other.X_mark, other.first = self.X_mark, self.first
        return other

    def mark(self, X):
        """Saves a fingerprint of the input of a public method, before it is overwritten."""
        self.X_mark = self.fingerprint(X)

    def confirm(self, X):
        """Returns whether X still has the saved fingerprint; on a device True, and `drift` compares later."""
        if self.ops.asynchronous:
            self.expect_same(self.fingerprint(X), self.X_mark)
            return True
        return self.ops.same(self.fingerprint(X), self.X_mark)

    def expect_same(self, mark, other):
        """Has `drift` compare two fingerprints, when it waits for the device."""
        self.sames.append((None, self.ops.largest_square(mark, other), 1.0))

    def compare(self, X, rebuilt, tolerance):
        """Compares the rebuilt input with X, number by number; or with its fingerprint, if X was changed since.

        Returns:
            whether X is unchanged. If the two differ by less than the tolerance, this is not checked separately.
        """
        error, size = self.ops.deviation(X, rebuilt)
        known = not self.ops.asynchronous and error <= tolerance * tolerance * size or self.confirm(X)
        if not known:
            error, size = (
                self.ops.largest_square(self.fingerprint(rebuilt), self.X_mark),
                self.ops.mean_square(self.X_mark),
            )
        self.errors.append((self.first, error, size))
        return known

    def of(self, chain, out_):
        """Removes and returns the last ChainTrace if it is that of the pass `out_` through `chain`; else None."""
        mirrored = self.traces and self.traces[-1].chain is chain and self.traces[-1].out_ == out_
        return self.traces.pop() if mirrored else None


def ratios(ops, measured):
    """Returns (layer, sqrt(error / size)) for each (layer, error, size). On a device it waits once."""
    if measured and ops.asynchronous:
        like = next(number for each in measured for number in each[1:] if hasattr(number, "dtype"))
        pairs = [
            [number if hasattr(number, "dtype") else ops.full(1, number, like)[0] for number in each[1:]]
            for each in measured
        ]
        pairs = ops.to_numpy(ops.xp.stack([ops.xp.stack(pair) for pair in pairs])).tolist()
        measured = [(layer, *pair) for (layer, *_), pair in zip(measured, pairs)]
    return [(layer, _ratio(float(error), float(size))) for layer, error, size in measured]


def _ratio(error, size):
    square = error / (size + sys.float_info.min)
    return math.sqrt(square) if square == square else math.inf  # NaN counts as an infinite drift


def squares(ops, R, N):
    """Returns the sum of squares of each of N samples, (N,), from their rows R."""
    R = ops.xp.reshape(R, (N, -1))
    return ops.astype(ops.xp.vecdot(R, R), "float64")
