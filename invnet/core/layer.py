"""Layer, the contract of an invertible map; and two kinds of it, that work in place and that are isometries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..ops import get_ops
from ..passes import BackwardPolicy
from ..passes.context import current, in_own_context, within
from ..passes.replay import RngReplay
from .conditions import Given, given_condition
from .explanation import Explanation
from .gradients import as_dlogdet, check_gradient
from .module import Module, describes_itself
from .parameters import Condition, Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..ops.reference import Ops
    from ..typing import Array, Cond

SHAPES = {2: "(N, C)", 3: "(N, C, L)", 4: "(N, C, H, W)", 5: "(N, C, D, H, W)"}


class Layer(Module):
    """An invertible map of arrays (N, C, *spatial), with 0 to 3 spatial axes.

    A subclass gives forward, inverse and backward. They keep no array between calls, change no argument and return
    the same number of values always.
    """

    def forward(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        """Z and logdet (N,), log|det dZ/dX| of each sample in nats."""
        raise NotImplementedError(f"{type(self).__name__} needs forward(X, cond) -> Z, logdet")

    def inverse(self, Z: Array, cond: Cond = None) -> Array:
        """X with forward(X) = Z."""
        raise NotImplementedError(f"{type(self).__name__} needs inverse(Z, cond) -> X")

    def backward(
        self, dZ: Array, Z: Array, dlogdet: Array | float | None = None, cond: Cond = None
    ) -> tuple[Array, Array]:
        """dX and the rebuilt X; adds to the parameters' gradients, parameter.add(...).

        Args:
            dZ: the loss's gradient in Z.
            Z: the output of forward.
            dlogdet: its gradient in logdet, a number or (N,); None is -1/N, the mean negative log-likelihood, and
                0.0 gives the plain vector-Jacobian product.
        """
        raise NotImplementedError(f"{type(self).__name__} needs backward(dZ, Z, dlogdet, cond) -> dX, X")

    #: whether it may use a condition itself, beside the layers and conditioners within; a layer of your own may
    uses_condition = True
    #: how often it halves the spatial axes, less how often it doubles them
    halvings: Any = 0

    def checked_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        shape = super().checked_shape(shape)
        self.check_shape(np.empty((1, *shape), "float32"))
        return shape

    @property
    def is_composed(self) -> bool:
        return any(isinstance(part, Layer) for part in self.modules_within())

    def parts_to_show(self, shape: tuple[int, ...]) -> list:
        layers = [(name, part, None) for name, part in self._within() if isinstance(part, Layer)]
        return layers or super().parts_to_show(shape)

    def conditions(self, level: int = 0) -> set[tuple[int | None, int]]:
        """The set of (K, level) of the conditions that are used within: K channels, None where that is not known, where
        the spatial axes have been halved `level` times."""
        found: set[tuple[int | None, int]] = {(None, level)} if self.uses_condition else set()
        for _, part in self._within():
            if isinstance(part, Layer):
                found |= part.conditions(level)
        return found

    def specs(self) -> list:
        """What it computes, as a list of LayerSpec (invnet/fused/spec.py) by which engines do several layers in one
        call; or [].

        They hold for the class that gives them, and for subclasses that add no method but `__init__`.
        """
        return []

    def why_not_fused(self) -> str | None:
        """Why no compiled function computes it together with its neighbours, as a text for `explain`."""
        if self.specs():
            return "it has no neighbours in a Chain to be fused with, or too many channels"
        return f"{type(self).__name__} does not say what it computes (specs)"

    def explain(self, X: Array, cond: Cond = None) -> Explanation:
        """Which code serves each layer on such arrays, and why not a faster one. Nothing is computed.

            print(invnet.RealNVP(4, 16, 2).explain(np.zeros((100, 4), "float32")))

        Args:
            X: an array as for `forward`; only its shape, dtype and engine matter.
            cond: the condition, or None.

        Returns:
            an Explanation, a tuple of an ExplanationRow for each layer.

        Raises:
            ValueError, TypeError: this layer does not take such an X or such a condition.
        """
        self.check_shape(X)
        return Explanation.of(self, self.explained(X, given_condition(self, X, cond)))

    def explained(self, X: Array, cond: Cond) -> Iterator:
        """Yields (layer, path, reason) of an ExplanationRow for this layer, or for each of those within.

        X has the shape of this layer's input, and no contents that matter.
        """
        layers = [layer for _, layer in self._within() if isinstance(layer, Layer)]
        for layer in layers:
            yield from layer.explained(X, cond)
        if not layers:
            yield self, "alone", self.why_not_fused()

    def __init_subclass__(cls, **more):
        super().__init_subclass__(**more)
        if not describes_itself(cls, "specs"):
            cls.specs = Layer.specs

    def check_condition(self) -> None:
        """Warns, or raises FloatingPointError, where this layer's matrix loses too many digits when it is inverted."""

    #: whether it computes in the dtype of its argument, whatever that of its parameters
    @property
    def any_dtype(self) -> bool:
        return not self.parameters()

    def layers_within(self) -> Iterator[Layer]:
        """Yields the layers that this one is made of, or itself."""
        inside = [module for _, module in self._within() if isinstance(module, Layer)]
        for layer in inside:
            yield from layer.layers_within()
        if not inside:
            yield self

    @property
    def is_composite(self) -> bool:
        """Whether it is made of layers."""
        return any(isinstance(module, Layer) for _, module in self._within())

    @property
    def known_as(self) -> Layer:
        """The layer that a user knows this one by."""
        return self

    #: whether a backward compares this layer's log-determinant with that of what it rebuilt; not where it is the same
    #: for every X
    measures_logdet: Any = True
    #: what a user can choose so that this layer amplifies rounding errors less, as texts
    steadier: Any = ()

    def initialize(self, X: Array, cond: Cond = None) -> Array:
        """Sets data-dependent parameters from a batch, and returns Z."""
        return self.forward(X, cond)[0]

    def check_shape(self, X: Array, name: str = "X") -> None:
        """ValueError where this layer cannot take an array of the shape of X; what a composition asks before a call."""

    def inverse_logdet(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        """X, and the inverse's logdet (N,), log|det dX/dZ|."""
        X = self.inverse(Z, cond)
        return X, -self.forward(X, cond)[1]

    def inverse_backward(
        self, dX: Array, X: Array, dlogdet: Array | float | None = None, cond: Cond = None
    ) -> tuple[Array, Array]:
        """dZ and the rebuilt Z, of the inverse map: backward with the roles of X and Z exchanged.

        `dlogdet` is the gradient in the inverse's logdet. Only `Reverse` needs this method.
        """
        raise NotImplementedError(
            f"to be reversed, {type(self).__name__} needs inverse_backward(dX, X, dlogdet, cond) -> dZ, Z"
        )

    # What a composition calls: the same maps on channels-last arrays that the callee owns, with dlogdet (N,).
    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        Z, logdet = self.forward(X, cond)
        return self._own(Z, X), logdet

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        X, logdet = self.inverse_logdet(Z, cond)
        return self._own(X, Z), logdet

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        dX, X = self._with_own_condition(self.backward, dZ, Z, dlogdet, cond)
        return self._own(dX, dZ), self._own(X, Z)

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        dZ, Z = self._with_own_condition(self.inverse_backward, dX, X, dlogdet, cond)
        return self._own(dZ, dX), self._own(Z, X)

    @staticmethod
    def _with_own_condition(backward, dZ, Z, dlogdet, cond):
        """backward(dZ, Z, dlogdet, cond) with a Condition that has the shape of the samples, for a layer that adds to
        its `grad`.
        """
        if not isinstance(cond, Given):
            return backward(dZ, Z, dlogdet, cond)
        own = Condition(get_ops(Z).copy(cond.array))
        result = backward(dZ, Z, dlogdet, own)
        cond.add(own.grad)
        return result

    def initialize_(self, X: Array, cond: Cond = None) -> Array:
        return self._own(self.initialize(X, cond), X)

    def _own(self, output, argument):
        """A copy with channels-last memory, of an output that must have the dtype of its argument."""
        if output.dtype != argument.dtype:
            raise TypeError(
                f"{type(self).__name__} must give what it is given, {argument.dtype}; it gave {output.dtype}"
            )
        return get_ops(output).copy_channels_last(output)


class InPlaceLayer(BackwardPolicy, Layer):
    """A layer that saves memory by overwriting. A subclass gives the maps and gradients of both directions:

    forward_(X, cond) -> Z, logdet                     inverse_logdet_(Z, cond) -> X, logdet of the inverse
    backward_(dZ, Z, dlogdet, cond) -> dX, X           inverse_backward_(dX, X, dlogdet, cond) -> dZ, Z

    These are handed arrays that they own: of a shape that check_shape passed, of the layer's dtype, channels-last in
    memory, and dlogdet (N,).
    The public methods check and copy once, so that a chain of any depth works in two arrays.
    """

    #: how many channels the layer takes, where that is fixed.
    channels: Any = None

    def check_shape(self, X: Array, name: str = "X") -> None:
        if X.ndim not in SHAPES or X.shape[1] == 0:
            shapes = ", ".join(SHAPES.values())
            raise ValueError(
                f"{type(self).__name__} takes arrays of shape {shapes}, C at least 1; got {name} of shape "
                f"{tuple(X.shape)}"
            )
        if self.channels is not None and X.shape[1] != self.channels:
            raise ValueError(
                f"{type(self).__name__} has {self.channels} channels and takes (N, {self.channels}, *spatial); "
                f"got {name} of shape {tuple(X.shape)}"
            )

    def check(self, X: Array, name: str = "X") -> Ops:
        """The operations for X; ValueError or TypeError where this layer cannot take it."""
        ops, kind = get_ops(X), type(self).__name__
        self.check_shape(X, name)
        if not ops.is_float(X):
            raise TypeError(f"{kind} takes float32 or float64; got {name} of dtype {X.dtype}")
        own = self.first_state
        if own is not None and get_ops(own.data).name != ops.name:
            raise TypeError(
                f"{kind} computes on arrays of {get_ops(own.data).name}; got {name} of {ops.name}: "
                f'convert it, or the layer with .to("{ops.name}")'
            )
        dtype = own.data.dtype if isinstance(own, Parameter) else None
        if dtype is not None and not ops.same_dtype(X.dtype, dtype) and not self.state_dtype:
            raise TypeError(
                f"{kind} computes in {dtype}; got {name} of dtype {X.dtype}: convert the array, or the layer with "
                f".to(dtype=...)"
            )
        return ops

    def _own_copy(self, ops, X):
        """What an underscored method is given: a copy of X with channels-last memory, in the dtype of the states."""
        return (
            ops.copy_channels_last(ops.astype(X, self.state_dtype)) if self.state_dtype else ops.copy_channels_last(X)
        )

    @in_own_context
    def explain(self, X: Array, cond: Cond = None) -> Explanation:
        ops = self.check(X)
        cond = given_condition(self, X, cond)
        with self._new_pass(ops, "forward_", X.shape[0]).running(self):
            return Explanation.of(self, self.explained(X, cond))

    @in_own_context
    def forward(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        return self._out("forward_", X, cond)

    @in_own_context
    def inverse(self, Z: Array, cond: Cond = None) -> Array:
        ops = self.check(Z, "Z")
        cond, around = given_condition(self, Z, cond), current()
        with (
            ops.at_work(),
            within(layer=around.layer or self, rng=around.rng or RngReplay(), cache=None, monitor=None),
        ):
            return self.inverse_logdet_(self._own_copy(ops, Z), cond)[0]

    @in_own_context
    def inverse_logdet(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        return self._out("inverse_logdet_", Z, cond, "Z")

    @in_own_context
    def backward(
        self, dZ: Array, Z: Array, dlogdet: Array | float | None = None, cond: Cond = None
    ) -> tuple[Array, Array]:
        return self._back("backward_", "forward_", dZ, Z, dlogdet, cond, "Z")

    @in_own_context
    def inverse_backward(
        self, dX: Array, X: Array, dlogdet: Array | float | None = None, cond: Cond = None
    ) -> tuple[Array, Array]:
        return self._back("inverse_backward_", "inverse_logdet_", dX, X, dlogdet, cond)

    def _out(self, out_, X, cond, name="X"):
        ops = self.check(X, name)
        cond = given_condition(self, X, cond)
        with ops.at_work():
            saved, own = self._new_pass(ops, out_, X.shape[0]), self._own_copy(ops, X)
            if current().layer is None and self._may_heal(saved) and self.is_composite:
                saved.monitor.mark(own)
            with saved.running(self):
                Z, logdet = getattr(self, out_)(own, cond)
                saved.end(ops, X, Z)
            self._save(saved)
        return Z, logdet

    def _back(self, back_, out_, dZ, Z, dlogdet, cond, name="X"):
        ops = self.check(Z, name)
        check_gradient(dZ, ops, Z.shape, Z.dtype)
        cond = given_condition(self, Z, cond)
        with ops.at_work():
            saved = self._take_pass(ops, out_, Z)

            def forward():
                return getattr(self, out_)(self._own_copy(ops, saved.X), cond)[0]

            def backward(Z):
                return getattr(self, back_)(self._own_copy(ops, dZ), Z, as_dlogdet(dlogdet, Z), cond)

            again = self._recomputation(ops, saved, Z, forward, backward, cond)
            if again is not None and ops.asynchronous:
                dZ = ops.copy(dZ)  # which is needed when gradients are healed later
            self.make_gradients()
            with saved.backward(self):
                dX, X = backward(self._own_copy(ops, Z))
            self._finish(ops, saved, again, (dX, X))
        return dX, X

    @in_own_context
    def initialize(self, X: Array, cond: Cond = None) -> Array:
        ops = self.check(X)
        cond = given_condition(self, X, cond)
        with ops.at_work():
            return self.initialize_(self._own_copy(ops, X), cond)

    def initialize_(self, X: Array, cond: Cond = None) -> Array:
        return self.forward_(X, cond)[0]

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        raise NotImplementedError(
            f"to be reversed, {type(self).__name__} needs inverse_backward_(dX, X, dlogdet, cond) -> dZ, Z"
        )


class Isometry(InPlaceLayer):
    """A linear layer whose transpose is its inverse (a permutation, a squeeze): logdet is 0, dX is the inverse of dZ.

    A subclass gives apply(X) and unapply(Z), which own their argument and may use its memory.
    """

    measures_logdet = uses_condition = False

    def why_not_fused(self) -> str | None:
        return super().why_not_fused() if self.specs() else "it only moves numbers"

    def apply(self, X: Array) -> Array:
        raise NotImplementedError(f"{type(self).__name__} needs apply(X) -> Z")

    def unapply(self, Z: Array) -> Array:
        raise NotImplementedError(f"{type(self).__name__} needs unapply(Z) -> X")

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        return self.apply(X), get_ops(X).full(X.shape[0], 0.0, X)

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        return self.unapply(Z), get_ops(Z).full(Z.shape[0], 0.0, Z)

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        return self.unapply(dZ), self.unapply(Z)

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        return self.apply(dX), self.apply(X)
