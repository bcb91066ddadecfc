"""Drift: how far the states that backward rebuilds are from those that forward had, and the anchors that bound it."""

import dataclasses
import math
import operator
import sys

from .context import current, isolated, within
from .replay import RngReplay

#: relative drift from which a backward is computed again, unless the layer's `drift_tolerance` says otherwise
TOLERANCE = 1e-3
#: how many states of a Chain are measured, besides its anchors, and of how many samples the log-determinants
MEASURED, LOGDETS = 3, 256


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
            in nats for each number of a sample; the largest of the samples that were looked at.
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
    """

    def __init__(self, ops, anchors=0, strict=None, restarts=True, window=0):
        self.ops, self.anchors, self.strict, self.restarts, self.window = ops, anchors, strict, restarts, window
        self.traces, self.rebuilding, self.redone, self.errors, self.logdets = [], None, 0, [], []
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

    def rebuilt_logdet(self, layer, logdet):
        """Takes the log-determinants (N,) of forward that `layer` computed from what it rebuilt, from who has them for
        nothing.
        """
        state = self.rebuilding
        if state is not None and state.layer is layer:
            state.again = logdet


class ChainTrace:
    """What a pass through the steps of one Chain leaves: their states, some with a fingerprint, some as anchors.

    Args:
        monitor: the DriftMonitor, which gets it when the pass through the chain is done (`end`).
        chain, out_: the Chain and the name of its method.
        steps: how many there are.
    """

    def __init__(self, monitor, chain, out_, steps):
        self.monitor, self.chain, self.out_, self.states = monitor, chain, out_, []
        self._anchored = math.isqrt(steps) if monitor.anchors == "auto" else monitor.anchors
        self._measured = -(-steps // MEASURED) | 1  # odd, so that couplings have their turn
        self._nearest = None  # the first state with a log-determinant, where drift has grown most
        self._outermost, self._rng = current().layer is chain, self._rng_now()

    def leave(self, layer, X):
        """The Snapshot of X, which `layer` is about to overwrite."""
        monitor, ops, position = self.monitor, self.monitor.ops, len(self.states)
        # what comes out of a layer with traces of its own begins a segment, since no segment goes through such a layer
        begins = position == 0 or self._has_traces_within(self.states[-1])
        state = Snapshot(layer, len(monitor.traces), self._rng.position)
        if position:
            self.states[-1].random_after = state.random_before
        elif monitor.first is None:
            monitor.first = layer
        state.measured = position % self._measured == 0
        if self._anchored and (begins or position % self._anchored == 0):
            state.anchor, state.size = ops.copy(X), ops.xp.mean(squares(ops, ops.rows(X), X.shape[0]))
            monitor.anchored_at_X |= position == 0 and self._outermost
        elif position == 0 and self._outermost and monitor.X_mark is not None:
            pass  # `compare` is for this one
        elif state.measured or monitor.strict:  # which looks at every state
            state.fingerprint = monitor.fingerprint(X)
            state.size = ops.mean_square(state.fingerprint)
        self.states.append(state)
        return state

    def leave_logdet(self, state, logdet):
        """Takes the log-determinants (N,) of a measured state's layer."""
        state.logdet = self.monitor.ops.copy(logdet[:LOGDETS])
        if self._nearest is None:
            self._nearest = state

    def end(self):
        if self.states:
            self.states[-1].random_after = self._rng.position
        self.monitor.traces.append(self)

    @staticmethod
    def _rng_now():
        """The random states of the pass that runs."""
        return current().rng or RngReplay()

    def _has_traces_within(self, state):
        return len(self.monitor.traces) > state.traces_before

    def back(self, back, out, dZ, Z, kept_gradients):
        """The backward pass: dX and X.

        Args:
            back: of (layer, dZ, Z) gives dX, X.
            out: of (layer, X, samples) gives Z and logdet, X being these samples of the batch.
            kept_gradients: arrays that `back` adds to besides the gradients of the layers' parameters.
        """
        monitor = self.monitor
        if monitor.strict is None:
            return self._through(len(self.states), back, out, dZ, Z)
        while self.states:
            measured = len(monitor.errors), len(monitor.logdets)
            n = next(n for n, state in enumerate(reversed(self.states), 1) if state.anchor is not None)
            within = self._has_traces_within(self.states[-1])
            # that layer's segments are within it; what it rebuilt has drifted since, and counts for the steps before
            if within:
                dZ, Z = self._through(1, back, out, dZ, Z)
                n -= 1
            if n:
                dZ, Z = self._through_segment(n, measured, not within, back, out, dZ, Z, kept_gradients)
        return dZ, Z

    def _through(self, n, back, out, dZ, Z):
        """n steps back, each rebuilding its state from the one before."""
        monitor, rng = self.monitor, self._rng_now()
        for _ in range(n):
            state = monitor.rebuilding = self.states.pop()
            rng.seek(state.random_after, False)
            dZ, Z = back(state.layer, dZ, Z)
            if len(monitor.traces) > state.traces_before:  # of layers that do not go back as they went
                del monitor.traces[state.traces_before :]
            if state.size is not None or state.logdet is not None:
                self._measure(state, Z, out)
        monitor.rebuilding = None
        return dZ, Z

    def _measure(self, state, X, out):
        monitor, ops = self.monitor, self.monitor.ops
        if state.logdet is not None:
            self._measure_logdet(state, X, out)
        if state.anchor is not None:
            monitor.errors.append(
                (state.layer, ops.xp.max(squares(ops, ops.rows(X - state.anchor), X.shape[0])), state.size)
            )
            if monitor.restarts:
                X[...] = state.anchor
        elif state.size is not None:
            monitor.errors.append(
                (state.layer, ops.largest_square(monitor.fingerprint(X), state.fingerprint), state.size)
            )

    def _measure_logdet(self, state, X, out):
        """Of the samples whose log-determinant the layer computed on its way; else, at the state nearest to the input,
        of the first sample.
        """
        monitor, ops, again = self.monitor, self.monitor.ops, state.again
        if again is None:
            if (
                state is not self._nearest or state.random_before != state.random_after
            ):  # one sample alone would get other random numbers
                return
            try:
                with isolated():
                    again = out(state.layer, ops.copy_channels_last(X[:1]), slice(0, 1))[1]
            except ValueError:  # rounding took it out of the layer's domain, as of a Logit
                return
        n = min(again.shape[0], state.logdet.shape[0])
        square = ops.largest_square(again[:n, None], state.logdet[:n, None])
        monitor.logdets.append((state.layer, square, float(math.prod(X.shape[1:])) ** 2))

    def _through_segment(self, n, measured, exact, back, out, dZ, Z, kept_gradients):
        """n steps back to an anchor, which are computed again from there if they drift too far, counted from what was
        `measured`.

        `exact` says that Z is what it was in the forward pass, to the bit.
        """
        monitor, ops, states = self.monitor, self.monitor.ops, self.states[-n:]
        if monitor.strict > 0:
            gradients = {id(p): p.gradient_array() for state in states for p in state.layer.parameters()}.values()
            before = [(a, ops.copy(a)) for a in (*gradients, *kept_gradients)]
            given, exact = ops.copy(dZ), False
            dZ, Z = self._through(n, back, out, dZ, Z)
            if max(drift for _, drift in ratios(ops, monitor.errors[measured[0] :])) <= monitor.strict:
                return dZ, Z
            dZ = given
            for a, value in before:
                a[...] = value
        else:
            del self.states[-n:]
        del monitor.errors[measured[0] :], monitor.logdets[measured[1] :]
        monitor.redone += 1
        anchor, rng = states[0].anchor, self._rng_now()
        with within(cache=None, hook=None):
            passed = [anchor]
            for state in states[: n - 1 if exact else n]:
                rng.seek(state.random_before, True)
                passed.append(out(state.layer, ops.copy(passed[-1]), slice(None))[0])
            if exact:
                passed.append(Z)
            for state in reversed(states):
                rng.seek(state.random_after, False)
                dZ, Z = back(state.layer, dZ, passed.pop())
        Z[...] = anchor
        return dZ, Z


class Snapshot:
    """The state before a layer: its fingerprint, or as an anchor a copy of it, and the mean square of a sample, where
    it is measured.

    Attributes:
        measured: whether it is one of those that are compared without anchors.
        logdet, again: the layer's log-determinant (N,) of forward, and as computed from what was rebuilt, or None.
        random_before, random_after: how many random states conditioners had drawn before the layer, and after it.
    """

    __slots__ = (
        "layer",
        "traces_before",
        "random_before",
        "random_after",
        "fingerprint",
        "anchor",
        "size",
        "measured",
        "logdet",
        "again",
    )

    def __init__(self, layer, traces_before, random_before):
        self.layer, self.traces_before, self.random_before, self.random_after = (
            layer,
            traces_before,
            random_before,
            random_before,
        )
        self.fingerprint = self.anchor = self.size = self.logdet = self.again = None


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
