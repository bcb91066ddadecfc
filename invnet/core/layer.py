"""Layer, the contract of an invertible map, and two kinds of layers: those that work in place, and isometries."""

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

    from ..ops.reference import Ops
    from ..typing import Array, Cond

SHAPES = {2: "(N, C)", 3: "(N, C, L)", 4: "(N, C, H, W)", 5: "(N, C, D, H, W)"}


class Layer(Module):
    """An invertible map Z = f(X) of arrays (N, C, *spatial), with 0 to 3 spatial axes.

    A subclass implements `forward`, `inverse` and `backward`. These methods keep no array between calls, do not change
    their arguments, and always return the same number of values.

    All of them take a condition `cond`: None, an array (N, K) or (N, K, *spatial), or a `Condition` if its gradient is
    wanted. One row, (1, K, ...), serves all samples. A layer that uses no condition ignores it.
    """

    def forward(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        """Maps X to Z.

        Args:
            X: (N, C, *spatial), of the dtype and engine of the parameters.
            cond: the condition of the samples, or None.

        Returns:
            Z, with the shape of X (Squeeze, Unsqueeze and compositions of them excepted), and logdet (N,), the value
            log|det dZ/dX| of each sample in nats.

        Raises:
            ValueError: X has a shape that this layer does not take; the condition is missing or has another shape.
            TypeError: X or the condition has another dtype or engine.
        """
        raise NotImplementedError(f"{type(self).__name__} needs forward(X, cond) -> Z, logdet")

    def inverse(self, Z: Array, cond: Cond = None) -> Array:
        """Returns the X for which forward(X, cond) gives Z.

        Args:
            Z: (N, C, *spatial), as `forward` returns it.
            cond: the condition that forward had.

        Raises:
            ValueError, TypeError: as in `forward`.
        """
        raise NotImplementedError(f"{type(self).__name__} needs inverse(Z, cond) -> X")

    def backward(
        self, dZ: Array, Z: Array, dlogdet: Array | float | None = None, cond: Cond = None
    ) -> tuple[Array, Array]:
        """Rebuilds X from Z, and computes the gradients of a loss.

        The gradients of the parameters are added to those that are there, by `parameter.add(...)`; the gradient of a
        `Condition` is added to its `grad`.

        Args:
            dZ: the gradient of the loss with respect to Z, of the shape and dtype of Z.
            Z: the output of `forward`, (N, C, *spatial).
            dlogdet: the gradient of the loss with respect to logdet: (N,), or a number for all samples. None is -1/N,
                for the mean negative log-likelihood; 0.0 gives the plain vector-Jacobian product.
            cond: the condition that forward had.

        Returns:
            dX, the gradient of the loss with respect to X, and the rebuilt X, both of the shape of X.

        Raises:
            ValueError: dZ or Z has a wrong shape, or dlogdet is neither a number nor an array (N,).
            TypeError: one of them has another dtype or engine.
        """
        raise NotImplementedError(f"{type(self).__name__} needs backward(dZ, Z, dlogdet, cond) -> dX, X")

    #: whether this layer itself may use a condition, apart from the layers and conditioners within it
    uses_condition = True
    #: how many times it halves the spatial axes; negative if it doubles them
    halvings: int = 0

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
        """Returns the conditions that are used within, as a set of (K, level).

        K is the number of channels, None if it is unknown. `level` counts how many times the spatial axes have been
        halved before.
        """
        found: set[tuple[int | None, int]] = {(None, level)} if self.uses_condition else set()
        for _, part in self._within():
            if isinstance(part, Layer):
                found |= part.conditions(level)
        return found

    def specs(self) -> list:
        """Describes what this layer computes, so that an engine can compute several layers in one call.

        A subclass that adds a method other than `__init__` may compute something else, so it does not inherit the
        description.

        Returns:
            a list of LayerSpec (invnet/fused/spec.py); empty if this layer is never fused.
        """
        return []

    def why_not_fused(self) -> str | None:
        """Returns the text with which `explain` says why this layer is not fused with its neighbours."""
        if self.specs():
            return "it has no neighbours in a Chain to be fused with, or too many channels"
        return f"{type(self).__name__} does not say what it computes (specs)"

    def explain(self, X: Array, cond: Cond = None) -> Explanation:
        """Tells which code computes each layer on arrays like X, and why no faster code does. Nothing is computed.

            print(invnet.RealNVP(4, 16, 2).explain(np.zeros((100, 4), "float32")))

        Args:
            X: an array as for `forward`; only its shape, dtype and engine matter.
            cond: the condition, or None.

        Returns:
            an Explanation, a tuple of an ExplanationRow for each layer.

        Raises:
            ValueError, TypeError: this layer does not take arrays like X, or such a condition.
        """
        self.check_shape(X)
        return Explanation.of(self, self.explained(X, given_condition(self, X, cond)))

    def explained(self, X: Array, cond: Cond) -> Iterator:
        """Yields (layer, path, reason) for this layer, or for each layer within it: the entries of an ExplanationRow.

        Only the shape, dtype and engine of X matter, not its values.
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
        """Checks that inverting this layer's matrix does not lose too many digits.

        A layer without a matrix does nothing. A matrix that is close to singular causes a RuntimeWarning.

        Raises:
            FloatingPointError: the matrix is singular.
        """

    #: whether the layer computes in the dtype of its argument, even if its parameters have another dtype
    @property
    def any_dtype(self) -> bool:
        return not self.parameters()

    def layers_within(self) -> Iterator[Layer]:
        """Yields the innermost layers within this one; the layer itself if there are none."""
        inside = [module for _, module in self._within() if isinstance(module, Layer)]
        for layer in inside:
            yield from layer.layers_within()
        if not inside:
            yield self

    @property
    def is_composite(self) -> bool:
        """Whether there are layers within this one."""
        return any(isinstance(module, Layer) for _, module in self._within())

    @property
    def known_as(self) -> Layer:
        """The layer that messages name in place of this one. A fused group returns its first layer."""
        return self

    #: whether the backward pass measures drift by the log-determinant of this layer; False if logdet is the same for
    #: every X
    measures_logdet: bool = True
    #: texts that tell a user which settings make this layer amplify rounding errors less
    steadier: tuple[str, ...] = ()

    def initialize(self, X: Array, cond: Cond = None) -> Array:
        """Sets the parameters that start from data, such as those of ActNorm, and returns Z.

        Args:
            X: a batch, (N, C, *spatial).
            cond: its condition, or None.

        Raises:
            ValueError, TypeError: as in `forward`.
        """
        return self.forward(X, cond)[0]

    def check_shape(self, X: Array, name: str = "X") -> None:
        """Raises ValueError if this layer cannot take an array of the shape of X. Compositions call it before a layer.

        Args:
            X: an array, of which only the shape matters.
            name: how the error names the array.
        """

    def inverse_logdet(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        """Maps Z back to X, as `inverse`, and returns the log-determinant as well.

        Args:
            Z: (N, C, *spatial).
            cond: the condition, or None.

        Returns:
            X, and logdet (N,), the value log|det dX/dZ| of each sample in nats.

        Raises:
            ValueError, TypeError: as in `inverse`.
        """
        X = self.inverse(Z, cond)
        return X, -self.forward(X, cond)[1]

    def inverse_backward(
        self, dX: Array, X: Array, dlogdet: Array | float | None = None, cond: Cond = None
    ) -> tuple[Array, Array]:
        """Does for the inverse map what `backward` does for the map. Only `Reverse` needs this method.

        Args:
            dX: the gradient of the loss with respect to X, of the shape and dtype of X.
            X: the output of `inverse`, (N, C, *spatial).
            dlogdet: the gradient with respect to the logdet of `inverse_logdet`, as in `backward`.
            cond: the condition that inverse had.

        Returns:
            dZ, and the rebuilt Z.

        Raises:
            ValueError, TypeError: as in `backward`.
            NotImplementedError: this layer cannot be reversed.
        """
        raise NotImplementedError(
            f"to be reversed, {type(self).__name__} needs inverse_backward(dX, X, dlogdet, cond) -> dZ, Z"
        )

    # Compositions call the methods below. They are the same maps, but they may overwrite the arrays that they are
    # given. These arrays are channels-last in memory, and dlogdet is an array (N,).
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
        """Calls backward(dZ, Z, dlogdet, cond) with a Condition of N rows, for a layer that adds to `cond.grad`."""
        if not isinstance(cond, Given):
            return backward(dZ, Z, dlogdet, cond)
        own = Condition(get_ops(Z).copy(cond.array))
        result = backward(dZ, Z, dlogdet, own)
        cond.add(own.grad)
        return result

    def initialize_(self, X: Array, cond: Cond = None) -> Array:
        return self._own(self.initialize(X, cond), X)

    def _own(self, output, argument):
        """Copies an output into channels-last memory; it must have the dtype of its argument."""
        if output.dtype != argument.dtype:
            raise TypeError(
                f"{type(self).__name__} must give what it is given, {argument.dtype}; it gave {output.dtype}"
            )
        return get_ops(output).copy_channels_last(output)


class InPlaceLayer(BackwardPolicy, Layer):
    """A layer that saves memory by overwriting arrays. A subclass implements the maps and gradients of both directions:

        forward_(X, cond) -> Z, logdet                     inverse_logdet_(Z, cond) -> X, logdet of the inverse
        backward_(dZ, Z, dlogdet, cond) -> dX, X           inverse_backward_(dX, X, dlogdet, cond) -> dZ, Z

    These methods may overwrite their arguments X, Z, dX and dZ. The arrays have a shape that `check_shape` accepts, the
    dtype of the layer and channels-last memory; `dlogdet` is an array (N,). The public methods check and copy once, so
    that a chain of any depth needs two arrays only.
    """

    #: the number of channels that the layer takes; None if it takes any number
    channels: int | None = None

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
        """Returns the operations for X.

        Raises:
            ValueError: this layer cannot take an array of the shape of X.
            TypeError: X has a wrong dtype or engine.
        """
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
        """Returns the copy of X that underscored methods may overwrite: channels-last, in the dtype of the states."""
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
                dZ = ops.copy(dZ)  # gradients that are healed later need it
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
    """A linear layer whose transpose is its inverse, such as a permutation: logdet is 0, and dX = inverse(dZ).

    A subclass implements `apply` and `unapply`, which may overwrite their argument.
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
