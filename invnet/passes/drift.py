"""Drift: how far the states that backward rebuilds are from those that forward had."""

import dataclasses
import math
import operator
import sys

#: Log-determinants are computed again in so many passes of a network at first, and then in one of so many: in a pass of
#: 0.13 ms they take 0.02 ms.
LOGDETS_EVERY = 16
#: relative drift from which a backward is computed again, unless the layer's `drift_tolerance` says otherwise
TOLERANCE = 1e-3


@dataclasses.dataclass
class Drift:
    """What a backward pass measured, where the forward pass before it left what to compare with.

    The drift of a state is the error of the sample that is furthest off, relative to the root mean square over the
    samples. It is exact for the array that the network's method was given, and at anchors. The states between are known
    by their projections on directions of random signs, other ones in each pass; a projection has the size of the error
    on average.

    Attributes:
        states: (layer, drift) of the input of each layer that was rebuilt and compared, in the order of the pass.
        logdets: (layer, difference) of log-determinants computed again from what was rebuilt, against those of forward,
            in nats for each number of a sample; of the first sample, at one layer of each Chain, in the
            first 16 passes of the network and in every 16th after them.
        redone: how many segments drifted too far, and were computed again from their anchor. Their states are those of
            forward to the bit, and count as zero.
        healed: the drift for which the whole backward was computed again from stored states, or None where it was not.
    """

    states: list
    logdets: list
    redone: int
    healed: float | None = None

    @property
    def worst(self):
        """The largest drift and its layer, (None, None) where nothing was measured."""
        layer, drift = max(self.states, key=operator.itemgetter(1), default=(None, 0.0 if self.redone else None))
        return drift, layer

    @property
    def error(self):
        """The largest drift, or None where nothing was measured."""
        return self.worst[0]

    @property
    def logdet_error(self):
        """The largest difference of log-determinants, or None where none was computed again."""
        return max((difference for _, difference in self.logdets), default=0.0 if self.redone else None)

    def __repr__(self):
        def shown(value):
            return "None" if value is None else f"{value:.1e}"

        healed = "" if self.healed is None else f", healed={shown(self.healed)}"
        return (
            f"Drift(error={shown(self.error)}, logdet_error={shown(self.logdet_error)}, redone={self.redone}{healed})"
        )


class DriftMonitor:
    """What a forward pass leaves for its backward to compare with and to start again from: a ChainTrace of each Chain
    on the way.

    Args:
        ops: the operations of the arrays.
        anchors: a copy of every `anchors`-th state is left, "auto" for the square root of the number of steps, 0 for
            none.
        strict: the drift above which a segment between two anchors is computed again from the first; or None.
        restarts: whether an anchor takes the place of what was rebuilt.
        window: where in a long sequence of random signs the directions of projections begin.
        logdets_too: whether log-determinants are computed again as well.
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
        """The Drift that was measured."""
        found = ratios(self.ops, [*self.errors, *self.logdets, *self.sames])  # one wait for all
        errors, logdets = len(self.errors), len(self.errors) + len(self.logdets)
        self.are_same = [difference == 0 for _, difference in found[logdets:]]
        return Drift(found[:errors], found[errors:logdets], self.redone)

    def fingerprint(self, X):
        return self.ops.fingerprint(X, self.window)

    def of_X_alone(self):
        """A monitor that knows no states but the array that the public method was given."""
        other = DriftMonitor(self.ops, window=self.window)
        other.X_mark, other.first = self.X_mark, self.first
        return other

    def mark(self, X):
        """Marks the array that a public method was given, before it is overwritten."""
        self.X_mark = self.fingerprint(X)

    def confirm(self, X):
        """Whether X is still the array that was marked; on a device True, and `drift` looks."""
        if self.ops.asynchronous:
            self.expect_same(self.fingerprint(X), self.X_mark)
            return True
        return self.ops.same(self.fingerprint(X), self.X_mark)

    def expect_same(self, mark, other):
        """Has `drift` look whether two fingerprints are equal, when it waits for the device."""
        self.sames.append((None, self.ops.largest_square(mark, other), 1.0))

    def compare(self, X, rebuilt, tolerance):
        """Compares what was rebuilt with X, every number of it; or with its mark, where X is not that array any more.

        Gives whether it is that array. Where they differ by less than the tolerance nobody need look.
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
        """The last ChainTrace, if it is of the pass `out_` through `chain`, whose backward begins; else None."""
        mirrored = self.traces and self.traces[-1].chain is chain and self.traces[-1].out_ == out_
        return self.traces.pop() if mirrored else None


def ratios(ops, measured):
    """(layer, root of the square of an error over that of a size) of each, computed at one time."""
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
    return math.sqrt(square) if square == square else math.inf  # what is not a number drifted without limit


def squares(ops, R, N):
    """The sum of squares of each of N samples, whose numbers are the rows R, (N,)."""
    R = ops.xp.reshape(R, (N, -1))
    return ops.astype(ops.xp.vecdot(R, R), "float64")
