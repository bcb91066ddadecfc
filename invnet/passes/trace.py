"""ChainTrace: the states that a forward pass through a Chain saves, and the backward pass that uses them."""

import math

from .context import current, isolated, within
from .drift import ratios, squares
from .replay import RngReplay

#: how many states of a Chain are measured, in addition to its anchors
MEASURED = 3


class ChainTrace:
    """The states of one pass through the steps of a Chain, some with a fingerprint, some with a copy (anchors).

    Args:
        monitor: the DriftMonitor, to which `end` adds this trace.
        chain: the Chain.
        out_: the method of the pass.
        steps: the number of steps.
    """

    def __init__(self, monitor, chain, out_, steps):
        self.monitor, self.chain, self.out_, self.states = monitor, chain, out_, []
        self._anchored = math.isqrt(steps) if monitor.anchors == "auto" else monitor.anchors
        self._measured = -(-steps // MEASURED) | 1  # odd, so that couplings are measured as well
        self._logdet = None  # a state, and the log-determinant (1,) of its layer for the first sample
        self._outermost, self._rng = current().layer is chain, self._rng_now()

    def leave(self, layer, X):
        """Saves a Snapshot of X, which `layer` will overwrite, and returns it."""
        monitor, ops, position = self.monitor, self.monitor.ops, len(self.states)
        # The output of a layer with its own traces begins a segment, since no segment contains such a layer.
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
            pass  # `DriftMonitor.compare` compares this state
        elif state.measured or monitor.strict:  # with `strict`, every state is measured
            state.fingerprint = monitor.fingerprint(X)
            state.size = ops.mean_square(state.fingerprint)
        self.states.append(state)
        return state

    def leave_logdet(self, state, logdet):
        """Saves the logdet of the first measured state's layer, where drift is largest; `logdet` is (N,)."""
        if self.monitor.logdets_too and self._logdet is None and state.measured and state.layer.measures_logdet:
            self._logdet = state, self.monitor.ops.copy(logdet[:1])

    def end(self):
        if self.states:
            self.states[-1].random_after = self._rng.position
        self.monitor.traces.append(self)

    @staticmethod
    def _rng_now():
        """Returns the RngReplay of the running pass."""
        return current().rng or RngReplay()

    def _has_traces_within(self, state):
        return len(self.monitor.traces) > state.traces_before

    def back(self, back, out, dZ, Z, kept_gradients):
        """Does the backward pass; returns dX and X.

        Args:
            back: a function of (layer, dZ, Z) that returns dX and X.
            out: a function of (layer, X, samples) that returns Z and logdet, where X has these samples of the batch.
            kept_gradients: arrays that `back` adds to, in addition to the gradients of the layers' parameters.
        """
        monitor = self.monitor
        if monitor.strict is None:
            return self._through(len(self.states), back, out, dZ, Z)
        while self.states:
            measured = len(monitor.errors), len(monitor.logdets)
            n = next(n for n, state in enumerate(reversed(self.states), 1) if state.anchor is not None)
            within = self._has_traces_within(self.states[-1])
            # The segments of that layer are within it. What it rebuilt has drifted, which counts for the steps before.
            if within:
                dZ, Z = self._through(1, back, out, dZ, Z)
                n -= 1
            if n:
                dZ, Z = self._through_segment(n, measured, not within, back, out, dZ, Z, kept_gradients)
        return dZ, Z

    def _through(self, n, back, out, dZ, Z):
        """Goes back n steps, each of which rebuilds its input."""
        monitor, rng = self.monitor, self._rng_now()
        for _ in range(n):
            state = self.states.pop()
            rng.seek(state.random_after, False)
            dZ, Z = back(state.layer, dZ, Z)
            if len(monitor.traces) > state.traces_before:  # left by layers whose backward does not mirror forward
                del monitor.traces[state.traces_before :]
            if state.size is not None:
                self._measure(state, Z)
            if self._logdet is not None and self._logdet[0] is state:
                self._measure_logdet(state, Z, out)
        return dZ, Z

    def _measure(self, state, X):
        monitor, ops = self.monitor, self.monitor.ops
        if state.anchor is not None:
            monitor.errors.append(
                (state.layer, ops.xp.max(squares(ops, ops.rows(X - state.anchor), X.shape[0])), state.size)
            )
            if monitor.restarts:
                X[...] = state.anchor
        else:
            monitor.errors.append(
                (state.layer, ops.largest_square(monitor.fingerprint(X), state.fingerprint), state.size)
            )

    def _measure_logdet(self, state, X, out):
        """Compares the log-determinant of the first sample, computed from its rebuilt state, with that of forward."""
        if not X.shape[0] or state.random_before != state.random_after:  # one sample would get other random numbers
            return
        try:
            with isolated():
                _, logdet = out(state.layer, self.monitor.ops.copy_channels_last(X[:1]), slice(0, 1))
        except ValueError:  # rounding moved it out of the layer's domain, such as that of Logit
            return
        square = self.monitor.ops.largest_square(logdet[:, None], self._logdet[1][:, None])
        self.monitor.logdets.append((state.layer, square, float(math.prod(X.shape[1:])) ** 2))

    def _through_segment(self, n, measured, exact, back, out, dZ, Z, kept_gradients):
        """Goes back n steps to an anchor, and computes them again from there if they drift too far.

        Args:
            measured: the numbers of errors and of logdets that were measured before this segment.
            exact: whether Z is that of the forward pass to the bit.
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
    """The state before a layer.

    Attributes:
        fingerprint: its fingerprint, or None.
        anchor: a copy of it, or None.
        size: the mean square of a sample if the state is measured, or None.
        measured: whether it is measured if there are no anchors.
        random_before, random_after: how many random states conditioners had drawn before and after the layer.
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
    )

    def __init__(self, layer, traces_before, random_before):
        self.layer, self.traces_before, self.random_before, self.random_after = (
            layer,
            traces_before,
            random_before,
            random_before,
        )
        self.fingerprint = self.anchor = self.size = None
