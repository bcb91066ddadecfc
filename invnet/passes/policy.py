"""BackwardPolicy: the settings that protect a layer's backward from drift, and what its forward pass saves for it."""

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

#: how many backward passes in a row without a recomputed segment return a network to the default
CALM = 10


def name_in_pass(layer):
    """Returns the name of `layer` within the layer whose public method is running, and its class."""
    name, kind = "" if current().layer is None else current().layer.name_of(layer), type(layer).__name__
    return kind if name in ("", kind) else f"{name}, {kind},"


def _level_of_the_caller():
    """Returns the `stacklevel` for which a warning of the calling function names the line that called the library."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "invnet":
        frame, level = frame.f_back, level + 1
    return level


class BackwardPolicy:
    """Settings for the public methods of a layer. Settings of layers within it have no effect.

    `forward` and `inverse_logdet` save a SavedPass: a few numbers per sample for a few states, a reference to their
    input, and what the settings require. It is kept until backward gets the output, or until the next such pass in the
    same thread. The parameters must not change between the two.

    If states drift beyond `drift_tolerance`, backward is computed again from the input, with stored states. The network
    then stores anchors and measures every segment, until no segment was recomputed in `CALM` backward passes.
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
        """The SavedPass of this layer's last public pass in this thread, or None."""
        last = vars(self).get("_last_pass")
        return None if last is None else last.saved

    # What changes in every pass is set by methods: a Module takes an attribute that is set for a part that is replaced.

    def keep_pass(self, saved):
        """Sets the SavedPass of this thread, or None."""
        own = vars(self)
        last = own.get("_last_pass")
        if last is None:
            if saved is None:
                return
            own["_last_pass"] = last = LastPass()
        last.saved = saved

    @property
    def on_guard(self):
        """How many more calm backward passes a network needs to return to the default after healing; 0 if none."""
        return self._on_guard

    def go_on(self, passes, on_guard):
        """Restores the number of passes, which selects the directions of projections, and `on_guard`.

        A training that is resumed calls it.
        """
        vars(self).update(_passes=passes, _on_guard=on_guard)

    @property
    def memory_budget(self):
        """How much memory `forward` may use to store activations of conditioners: bytes, or a share of the free memory.

        A number below 1 is a share; 0 stores none. Backward need not compute stored activations again. The gradients
        are the same.

        Raises:
            ValueError: it is set to something other than a finite number from 0.
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
        """k: `forward` stores a copy of every k-th state of a Chain, and backward continues from it. 0 stores none.

        "auto" is the square root of the number of steps. The copies need the memory of steps / k states.

        Raises:
            ValueError: it is set to something other than an integer from 0 or "auto".
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
        """The drift above which backward computes a segment between two anchors again, from its anchor; or None.

        Gradients are then those of stored states, up to that drift. With 0.0 every segment is computed again: this
        costs another forward pass, and the gradients equal those of stored states to the bit. If `anchors` is 0, "auto"
        is used. Backward then accepts only the output of the last forward pass, and raises ValueError for any other.

        Raises:
            ValueError: it is set to something other than a number from 0 or None.
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
        """The drift above which a backward is computed again from the input of forward, with one warning per layer.

        If the input does not exist any more, or was changed in place, there is only the warning. None turns off both;
        drift is then measured at anchors only.

        Raises:
            ValueError: it is set to something other than a positive number or None.
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
        """The dtype of the states between layers; None for that of the parameters.

        With "float64", states are rebuilt in double precision, while conditioners compute in the float32 of the
        parameters. So their activations, which are most of a step's memory, need no more memory. X may have either
        dtype; Z has this one.

        Raises:
            ValueError: it is set to another dtype than float32 or float64.
            TypeError: a layer within computes only in the dtype of its parameters.
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
        """The Drift that the last backward measured; None if it had nothing to compare with.

        On a device backward does not wait for the measurement. Reading the gradients, or this property, does.
        """
        settle()
        return self._drift

    # ---- called by InPlaceLayer's public methods

    def _new_pass(self, ops, out_, N):
        """Makes the SavedPass for a pass `out_` of N samples, and frees that of an earlier pass."""
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
        """Keeps a SavedPass until its backward."""
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
        """Returns the SavedPass of the pass whose output is Z; an empty one if it was not saved."""
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
        """Returns whether backward is computed again as a whole if it drifts; `strict` recomputes segments instead."""
        return saved.monitor is not None and self._strict is None and self._drift_tolerance is not None

    def _recomputation(self, ops, saved, Z, forward, backward, cond):
        """Returns the Recomputation of this backward; None if X is not available or `strict` is set."""
        return None if saved.X is None else Recomputation(self, ops, saved.rng.recorded, Z, forward, backward, cond)

    def _finish(self, ops, saved, again, results):
        """Reads the drift that a backward measured, and computes its results, dX and X, again if it is too large."""
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
        """Sets `drift`, and heals the gradients if it is too large."""
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
        # names the first state in the order of backward that drifted too far; later states inherit its error
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
