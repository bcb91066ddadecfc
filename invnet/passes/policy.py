"""BackwardPolicy: how a layer's backward is guarded against drift, and what its forward leaves for it."""

import dataclasses
import math
import sys
import warnings

from ..arguments import is_integer, is_number
from ..ops import float_dtype
from ..ops.reference.arrays import WINDOWS
from . import drift
from .activation_cache import ActivationCache
from .context import current, within
from .healing import DeferredHealing, Recomputation, defer, settle
from .saved import NAMES, LastPass, SavedPass

#: backward passes without a segment that is computed again, after which a network goes back to the default
CALM = 10


def name_in_pass(layer):
    """The name of `layer` in the one whose public method runs, and its class."""
    name, kind = "" if current().layer is None else current().layer.name_of(layer), type(layer).__name__
    return kind if name in ("", kind) else f"{name}, {kind},"


def _level_of_the_caller():
    """The `stacklevel` of a warning that points at the line that called the library, from the function that warns."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "invnet":
        frame, level = frame.f_back, level + 1
    return level


class BackwardPolicy:
    """The settings of a layer for its public methods; those of layers within do not count.

    forward, and inverse_logdet, leave a SavedPass: a few numbers for each sample of a few states, the array that they
    were given, and what the settings ask for. It stays until the backward that is given its output, or until the next
    such pass in the same thread. The parameters stay as they are between the two.

    A backward whose states drifted beyond `drift_tolerance` is computed again from that array, with stored states
    between. The network then leaves anchors and measures every segment, until `CALM` backward passes needed none of it.
    """

    _kept_before, _drift, _warned = None, None, False
    _memory_budget, _anchors, _strict, _drift_tolerance, _state_dtype = 0, 0, None, drift.TOLERANCE, None
    _passes, _on_guard = 0, 0

    def __getstate__(self):
        return {
            name: value
            for name, value in super().__getstate__().items()
            if name not in ("_last_pass", "_kept_before", "_drift")
        }

    @property
    def saved_pass(self):
        """The SavedPass that the last public pass of this layer in this thread left, or None."""
        last = vars(self).get("_last_pass")
        return None if last is None else last.saved

    # What changes in every pass is set by methods: a Module takes an attribute that is set for a part that is replaced.

    def keep_pass(self, saved):
        """Puts a SavedPass, or None, in the place of the one that this thread has."""
        own = vars(self)
        last = own.get("_last_pass")
        if last is None:
            if saved is None:
                return
            own["_last_pass"] = last = LastPass()
        last.saved = saved

    @property
    def on_guard(self):
        """How many more calm backward passes it takes for a network whose gradients were computed again to go back to
        the default; or 0.
        """
        return self._on_guard

    def go_on(self, passes, on_guard):
        """Goes on as after so many passes, each of which projects errors on other directions, with that `on_guard`: for
        a training that is resumed."""
        vars(self).update(_passes=passes, _on_guard=on_guard)

    @property
    def memory_budget(self):
        """Bytes, or a share of the free memory below 1, for activations that spare backward its recomputing; 0 for
        none.

        `forward` keeps what its couplings' conditioners computed, as far as that fits. Gradients are the same.
        """
        return self._memory_budget

    @memory_budget.setter
    def memory_budget(self, budget):
        if not is_number(budget) or not budget >= 0 or budget == math.inf:
            raise ValueError(
                f"memory_budget is a number of bytes, or a share of the free memory below 1; got {budget!r}"
            )
        self._memory_budget, self._kept_before = budget, None
        self.keep_pass(None)

    @property
    def anchors(self):
        """k: of every k-th state of a Chain a copy is left, from which backward goes on when it comes there; 0 for
        none.

        "auto" is the square root of the number of steps. It costs steps / k arrays of the state's size.
        """
        return self._anchors

    @anchors.setter
    def anchors(self, k):
        if k != "auto" and not (is_integer(k) and k >= 0):
            raise ValueError(
                f'anchors is a number of steps from state to state that is kept, 0 for none, or "auto"; got {k!r}'
            )
        self._anchors = k
        self.keep_pass(None)

    @property
    def strict(self):
        """The drift above which backward computes a segment between two anchors again from the first, or None.

        Gradients are then those of stored states, to that drift; with 0.0 every segment is computed again, at the cost
        of another forward, and gradients are to the bit those of stored states. It needs `anchors`, and takes "auto"
        where there are none. Each backward is then given what the last forward gave, or raises ValueError.
        """
        return self._strict

    @strict.setter
    def strict(self, drift):
        if drift is not None and not (is_number(drift) and drift >= 0):
            raise ValueError(f"strict is the largest drift that is allowed, a number from 0, or None; got {drift!r}")
        self._strict = drift
        self.keep_pass(None)

    @property
    def drift_tolerance(self):
        """The drift above which a backward is computed again from the array that forward was given, and warns, once for
        this layer.

        Where that array is not there, or was changed in place, it only warns. None turns both off: drift is then
        measured at anchors only.
        """
        return self._drift_tolerance

    @drift_tolerance.setter
    def drift_tolerance(self, tolerance):
        if tolerance is not None and not (is_number(tolerance) and tolerance > 0):
            raise ValueError(f"drift_tolerance is a positive number, or None; got {tolerance!r}")
        self._drift_tolerance, self._warned, self._on_guard = tolerance, False, 0
        self.keep_pass(None)

    @property
    def state_dtype(self):
        """The dtype of the states between layers, where it is not that of the parameters, or None.

        With "float64" states are rebuilt in double precision, conditioners compute in the parameters' float32, and
        their activations, which are nearly all of a step's memory, stay as they are. X is taken in either dtype; Z is
        of this one.
        """
        return self._state_dtype

    @state_dtype.setter
    def state_dtype(self, dtype):
        dtype = None if dtype is None else float_dtype(dtype)
        fixed = {type(layer).__name__ for layer in self.layers_within() if not layer.any_dtype} if dtype else ()
        if fixed:
            raise TypeError(
                f"state_dtype is for couplings and maps of the channels; {', '.join(sorted(fixed))} computes in the "
                f"dtype "
                "of its parameters"
            )
        self._state_dtype = dtype
        self.keep_pass(None)

    @property
    def drift(self):
        """The Drift that the last backward measured, or None where it had nothing to compare with.

        On a device backward does not wait for what it measures: whoever first reads the gradients, or this, does.
        """
        settle()
        return self._drift

    # ---- what InPlaceLayer's public methods call

    def _new_pass(self, ops, out_, N):
        """The SavedPass that `out_` is to fill, on N samples; what an earlier one left is freed."""
        if current().evaluating:
            return SavedPass(out_)
        self.keep_pass(None)
        monitor = None
        tolerance, strict, anchors = self._drift_tolerance, self._strict, self._anchors
        if strict is None and self._on_guard:
            strict = tolerance
        if ops.guarded and N and (tolerance is not None or anchors or strict is not None):
            own = vars(self)  # faster than attributes, which a Module looks through for parts
            own["_passes"] = passes = self._passes + 1
            window = passes * 997 % WINDOWS
            anchors = anchors or ("auto" if strict is not None else 0)
            logdets_too = passes <= drift.LOGDETS_EVERY or passes % drift.LOGDETS_EVERY == 0
            monitor = drift.DriftMonitor(ops, anchors, strict, window=window, logdets_too=logdets_too)
        # with strict = 0.0 no activation is used twice, since every segment is computed again
        kept = self._new_kept(ops) if self._memory_budget and out_ == "forward_" and self._strict != 0 else None
        return SavedPass(out_, kept, monitor)

    def _save(self, saved):
        """Keeps a pass for its backward."""
        if saved.Z_mark is not None and not current().evaluating:
            self.keep_pass(saved)
            vars(self)["_kept_before"] = saved.cache

    def _new_kept(self, ops):
        before, budget = self._kept_before, self._memory_budget
        if before is not None:
            return ActivationCache(before.budget, before.memory, before)
        budget = budget if budget >= 1 else budget * ops.free_memory()
        return ActivationCache(budget, ops.lasting_memory(budget))

    def _take_pass(self, ops, out_, Z):
        """The SavedPass whose output Z is, for its backward, or one that knows nothing."""
        if ops.asynchronous:
            settle()
        saved, vars(self)["_drift"] = self.saved_pass, None
        # On a device the comparison is made later, where nothing but the measurement depends on it.
        waits = not ops.asynchronous or (
            saved is not None
            and (
                saved.cache is not None
                or saved.rng.is_random
                or (saved.monitor is not None and saved.monitor.has_anchors)
            )
        )
        found = (
            saved is not None
            and saved.out_ == out_
            and saved.shape == tuple(Z.shape)
            and (not waits or saved.is_of(ops, Z))
        )
        if not found:
            # this is the backward of another pass, or there was none
            if self._strict is not None and Z.shape[0] and bool(ops.xp.all(ops.xp.isfinite(Z))):
                out, back = NAMES[out_]
                raise ValueError(
                    f"with strict, {back} takes what the last {out} gave, once, to go back to the states of that pass; "
                    f"got other values"
                )
            return SavedPass(out_)
        if saved.rng.is_random:
            left = saved.once_more()
            left.X = left.monitor = None
            self.keep_pass(left)
        else:
            self.keep_pass(None)
        saved.Z_mark_now = None if waits else ops.fingerprint(Z)
        return saved

    def _may_heal(self, saved):
        """Whether a backward that drifts is to be computed again, other than segment by segment as `strict` does it."""
        return saved.monitor is not None and self._strict is None and self._drift_tolerance is not None

    def _recomputation(self, ops, saved, Z, forward, backward, cond):
        """What computes the gradients of this backward again; None where X is not at hand, or where `strict` sees to
        it.
        """
        return None if saved.X is None else Recomputation(self, ops, saved.rng.recorded, Z, forward, backward, cond)

    def _finish(self, ops, saved, again, results):
        """Takes the drift that a backward measured; its results, dX and X, are computed again where that is too
        large.
        """
        monitor = saved.monitor
        if monitor is None:
            return
        if again is not None:
            X, again.results = self._in_state_dtype(ops, saved.X), results
            known = (
                monitor.confirm(X)
                if monitor.anchored_at_X
                else monitor.compare(X, results[1], self._drift_tolerance or 0.0)
            )
            again = again if known else None
        if saved.Z_mark_now is None:
            self._judge(saved, again)
        else:
            monitor.expect_same(saved.Z_mark, saved.Z_mark_now)
            defer(ops, lambda: self._judge(saved, again))

    def _judge(self, saved, again):
        """Takes the drift that was measured, and has the gradients computed again where it is too large."""
        own, measured, tolerance, X_is_same = vars(self), saved.monitor.drift(), self._drift_tolerance, True
        if saved.monitor.are_same:
            *X_is_same, Z_is_same = saved.monitor.are_same
            X_is_same = all(X_is_same)
            if not Z_is_same:  # this was the backward of another pass
                return
        if self._on_guard:
            own["_on_guard"] = CALM if measured.redone else self._on_guard - 1
        own["_drift"], error = measured, None if tolerance is None else measured.error
        drifted = error is not None and error > max(tolerance, self._strict or 0)
        heals = drifted and again is not None and X_is_same
        if current().deferred is not None:
            current().deferred.append(DeferredHealing(heals, again, lambda: self._heal(again, measured)))
        elif heals:
            self._heal(again, measured)
        if drifted and not self._warned:
            own["_warned"] = True
            self._warn(measured, again if heals else None)

    def _heal(self, again, measured):
        healed = dataclasses.replace(again.run(self._anchors or "auto"), healed=measured.error)
        vars(self).update(_drift=healed, _on_guard=CALM)

    def _in_state_dtype(self, ops, X):
        return ops.astype(X, self._state_dtype) if self._state_dtype else X

    def _warn(self, measured, again):
        # of the first state, as backward goes, that drifted too far: what comes after it inherits its error
        layer, error = next(pair for pair in measured.states if pair[1] > self._drift_tolerance)
        with within(layer=current().layer or self):
            name = name_in_pass(layer.known_as)
        found = (
            f"the input of {name} was rebuilt with a relative error of {error:.1e}, and X with at most "
            f"{measured.error:.1e}, above "
            f"drift_tolerance={self._drift_tolerance:g}"
        )
        parts = list(self.layers_within())
        advice = [step for part in parts for step in part.steadier]
        if all(part.any_dtype for part in parts):
            advice.append('state_dtype="float64"')
        advice = " or ".join(dict.fromkeys(advice))
        if again is not None and again.output_error > self._drift_tolerance:
            text = (
                f"{found}. What forward gives now is off by {again.output_error:.1e} from the Z that it gave: "
                f"parameters or the condition "
                "changed between forward and backward. The gradients are those of now"
            )
            remedy = ""
        elif again is not None:
            text = (
                f"{found}. The gradients of this {type(self).__name__} were computed again from X, with stored states "
                f"between, and are right. "
                f"The next steps take longer, and memory for some states, until {CALM} in a row were calm."
            )
            remedy = f" To avoid this, choose {advice}" if advice else ""
        else:
            text = (
                f"{found}. The gradients of this {type(self).__name__} may be as wrong: they are computed again only "
                f"where backward gets the Z of "
                "the last forward, and X is unchanged."
            )
            remedy = f" What helps besides: `anchors` or `strict`{' or ' * bool(advice)}{advice}"
        warnings.warn(f"{text}{remedy} (docs/stability.md)", RuntimeWarning, stacklevel=_level_of_the_caller())
