"""Drift: how far the states that backward rebuilds are from those that forward had, and the anchors that bound it."""

import dataclasses
import math
import operator
import sys

from .current import within

#: relative drift from which a layer warns, unless its `drift_tolerance` says otherwise
TOLERANCE = 1e-3
#: how many states of a Chain are measured, besides its anchors
MEASURED = 3


@dataclasses.dataclass
class Drift:
    """What a backward pass measured, where the forward pass before it left what to compare with.

    The drift of a state is the error of the sample that is furthest off, relative to the root mean square over the samples.
    Between anchors the error is known by its projections on a direction of random signs, whose size it has on average; at
    anchors it is exact.

    Attributes:
        states: (layer, drift) of the input of each layer that was rebuilt and compared, in the order of the pass.
        logdets: (layer, difference) of the log-determinant of the first sample, computed again from what was rebuilt, in
            nats for each number of a sample.
        redone: how many segments drifted too far, and were computed again from their anchor: they do not count otherwise.
    """

    states: list
    logdets: list
    redone: int

    @property
    def worst(self):
        """The largest drift and its layer, (0.0, None) where nothing was measured."""
        layer, drift = max(self.states, key=operator.itemgetter(1), default=(None, 0.0))
        return drift, layer

    @property
    def error(self):
        """The largest drift."""
        return self.worst[0]

    @property
    def logdet_error(self):
        """The largest difference of log-determinants."""
        return max((difference for _, difference in self.logdets), default=0.0)

    def __repr__(self):
        return f"Drift(error={self.error:.1e}, logdet_error={self.logdet_error:.1e}, redone={self.redone})"


class Walk:
    """What a pass out leaves for the pass back to compare with and to start again from: a Trail of each Chain on the way.

    Args:
        ops: the operations of the arrays.
        anchors: a copy of every `anchors`-th state is left, "auto" for the square root of the number of steps, 0 for none.
        strict: the drift above which a segment between two anchors is computed again from the first; or None.
        restarts: whether an anchor takes the place of what was rebuilt.
    """

    def __init__(self, ops, anchors=0, strict=None, restarts=True):
        self.ops, self.anchors, self.strict, self.restarts = ops, anchors, strict, restarts
        self.trails, self.rebuilding, self.redone, self.errors, self.logdets = [], None, 0, [], []

    @property
    def has_anchors(self):
        return bool(self.anchors) or self.strict is not None

    def drift(self):
        """The Drift that was measured."""
        return Drift(ratios(self.ops, self.errors), ratios(self.ops, self.logdets), self.redone)

    def of(self, chain, out_):
        """The last Trail, if it is of the pass `out_` through `chain`, which is now walked back; else None."""
        mirrored = self.trails and self.trails[-1].chain is chain and self.trails[-1].out_ == out_
        return self.trails.pop() if mirrored else None

    def computes_again(self, layer):
        """The State that `layer` is rebuilding, where its log-determinant is wanted from what is rebuilt, or None."""
        state = self.rebuilding
        return state if state is not None and state.layer is layer and state.computes_again else None


class Trail:
    """What a pass through the steps of one Chain leaves: their states, some with a fingerprint, some as anchors.

    Args:
        walk: the Walk, which gets it when the pass through the chain is done (`end`).
        chain, out_: the Chain and the name of its method.
        steps: how many there are.
    """

    def __init__(self, walk, chain, out_, steps):
        self.walk, self.chain, self.out_, self.states = walk, chain, out_, []
        self._anchored = math.isqrt(steps) if walk.anchors == "auto" else walk.anchors
        self._measured = -(-steps // MEASURED) | 1  # odd, so that couplings have their turn

    def leave(self, layer, X):
        """The State of X, which `layer` is about to overwrite."""
        ops, position = self.walk.ops, len(self.states)
        # what comes out of a layer with trails of its own begins a segment, since no segment goes through such a layer
        begins = position == 0 or self._has_trails_within(self.states[-1])
        state = State(layer, len(self.walk.trails))
        state.computes_again = position % self._measured == 0
        if self._anchored and (begins or position % self._anchored == 0):
            state.anchor, state.size = ops.copy(X), ops.xp.mean(squares(ops, ops.rows(X), X.shape[0]))
        elif state.computes_again or self.walk.strict:  # which looks at every state
            state.fingerprint = ops.fingerprint(X)
            state.size = ops.mean_square(state.fingerprint)
        self.states.append(state)
        return state

    def end(self):
        self.walk.trails.append(self)

    def _has_trails_within(self, state):
        return len(self.walk.trails) > state.trails_before

    def back(self, back, out, dZ, Z, kept_gradients):
        """The pass back: dX and X.

        Args:
            back: of (layer, dZ, Z) gives dX, X.
            out: of (layer, X) gives Z.
            kept_gradients: arrays that `back` adds to besides the gradients of the layers' parameters.
        """
        walk = self.walk
        if walk.strict is None:
            return self._through(len(self.states), back, dZ, Z)
        while self.states:
            measured = len(walk.errors), len(walk.logdets)
            n = next(n for n, state in enumerate(reversed(self.states), 1) if state.anchor is not None)
            within = self._has_trails_within(self.states[-1])
            if within:  # that layer's segments are within it; what it rebuilt has drifted since, and counts for the steps before
                dZ, Z = self._through(1, back, dZ, Z)
                n -= 1
            if n:
                dZ, Z = self._through_segment(n, measured, not within, back, out, dZ, Z, kept_gradients)
        return dZ, Z

    def _through(self, n, back, dZ, Z):
        """n steps back, each rebuilding its state from the one before."""
        walk = self.walk
        for _ in range(n):
            state = walk.rebuilding = self.states.pop()
            dZ, Z = back(state.layer, dZ, Z)
            del walk.trails[state.trails_before:]  # of layers that do not go back as they went
            if state.size is not None:
                self._measure(state, Z)
        walk.rebuilding = None
        return dZ, Z

    def _measure(self, state, X):
        walk, ops = self.walk, self.walk.ops
        if state.anchor is None:
            error = ops.largest_square(ops.fingerprint(X), state.fingerprint)
        else:
            error = ops.xp.max(squares(ops, ops.rows(X - state.anchor), X.shape[0]))
            if walk.restarts:
                X[...] = state.anchor
        walk.errors.append((state.layer, error, state.size))
        if state.again is not None:
            difference = ops.astype(state.again - state.logdet, "float64")
            walk.logdets.append((state.layer, difference[0] ** 2, ops.fill(1, float(math.prod(X.shape[1:])) ** 2, difference)[0]))

    def _through_segment(self, n, measured, exact, back, out, dZ, Z, kept_gradients):
        """n steps back to an anchor, which are computed again from there if they drift too far, counted from what was `measured`.

        `exact` says that Z is what it was on the way out, to the bit.
        """
        walk, ops, states = self.walk, self.walk.ops, self.states[-n:]
        if walk.strict > 0:
            gradients = {id(p.gradient): p.gradient for state in states for p in state.layer.parameters()}.values()
            before = [(a, ops.copy(a)) for a in (*gradients, *kept_gradients)]
            given, exact = ops.copy(dZ), False
            dZ, Z = self._through(n, back, dZ, Z)
            if max(drift for _, drift in ratios(ops, walk.errors[measured[0]:])) <= walk.strict:
                return dZ, Z
            dZ = given
            for a, value in before:
                a[...] = value
        else:
            del self.states[-n:]
        del walk.errors[measured[0]:], walk.logdets[measured[1]:]
        walk.redone += 1
        anchor = states[0].anchor
        with within(kept=None, observer=None):
            passed = [anchor]
            for state in states[:n - 1 if exact else n]:
                passed.append(out(state.layer, ops.copy(passed[-1])))
            if exact:
                passed.append(Z)
            for state in reversed(states):
                dZ, Z = back(state.layer, dZ, passed.pop())
        Z[...] = anchor
        return dZ, Z


class State:
    """The state before a layer: its fingerprint, or as an anchor a copy of it, and the mean square of a sample, where it is measured.

    Attributes:
        computes_again: whether the log-determinant is to be computed from what is rebuilt.
        logdet, again: the layer's log-determinant (1,) of the first sample, on the way out and from what was rebuilt, or None.
    """

    __slots__ = ("layer", "trails_before", "fingerprint", "anchor", "size", "computes_again", "logdet", "again")

    def __init__(self, layer, trails_before):
        self.layer, self.trails_before = layer, trails_before
        self.fingerprint = self.anchor = self.size = self.logdet = self.again = None


def ratios(ops, measured):
    """(layer, root of the square of an error over that of a size) of each, computed at one time."""
    if measured and ops.asynchronous:  # one wait for all
        pairs = ops.to_numpy(ops.xp.stack([ops.xp.stack(each[1:]) for each in measured])).tolist()
        measured = [(layer, *pair) for (layer, *_), pair in zip(measured, pairs)]
    return [(layer, _ratio(float(error), float(size))) for layer, error, size in measured]


def _ratio(error, size):
    square = error / (size + sys.float_info.min)
    return math.sqrt(square) if square == square else math.inf  # what is not a number drifted without limit


def squares(ops, R, N):
    """The sum of squares of each of N samples, whose numbers are the rows R, (N,)."""
    R = ops.xp.reshape(R, (N, -1))
    return ops.astype(ops.xp.vecdot(R, R), "float64")
