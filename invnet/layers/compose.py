"""Compositions: Chain, layers in a row; FactorOut, a layer on part of the channels; Reverse, the inverse of a layer."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ..arguments import check_integers, shown
from ..core import Condition, InPlaceLayer, Layer, condition_array, get_ops, given_condition
from ..core.summary import output_shape
from ..fused import group_neighbours
from ..passes.context import current
from ..passes.trace import ChainTrace
from .channel_affine import ChannelAffine, Folded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from ..typing import Array, Cond


class Chain(InPlaceLayer):
    """Layers one after the other, Z = layers[-1](... layers[0](X)); logdet is the sum of theirs.

    `backward` goes through the layers from the last to the first, and each computes its input from its output. So two
    arrays of the size of the input are alive, for any number of layers. Neighbours that map channels at every position
    are folded into one product. Neighbours that say what they compute become a FusedGroup, which an engine may compute
    in one call.

    `len(chain)`, `chain[3]`, slices and iteration work as on a list of the layers. A slice is a Chain with the same
    parameters.

    Args:
        *layers: Layers, or one list of them.

    Raises:
        TypeError: one is no Layer.
        ValueError: they compute in several dtypes, or neighbours have other numbers of channels.
    """

    uses_condition = False

    def __init__(self, *layers: Layer | Sequence[Layer]):
        self.layers = layers[0] if len(layers) == 1 and isinstance(layers[0], (list, tuple)) else layers

    def __setattr__(self, name, value):
        if name == "layers":
            value = tuple(value)
            folded = _folded(value)  # an error leaves the chain as it was
            self._folded, self._steps, self._beginning, self._short = (
                folded,
                group_neighbours(folded),
                _beginning(value),
                None,
            )
            if type(self) is Chain:
                self._arguments = value, {}  # which repr shows and save writes
        super().__setattr__(name, value)

    @property
    def _short_steps(self):
        """The steps with at most one conditioner each, so that states between them can be stored; the same bits."""
        if self._short is None:
            self._short = group_neighbours(self._folded, one_conditioner=True)
        return self._short

    def __len__(self):
        return len(self.layers)

    def __bool__(self):
        return True  # an empty Chain is true as well, although its length is 0

    def __iter__(self):
        return iter(self.layers)

    def __getitem__(self, index):
        return Chain(*self.layers[index]) if isinstance(index, slice) else self.layers[index]

    @property
    def halvings(self) -> int:
        return sum(layer.halvings for layer in self.layers)

    def conditions(self, level: int = 0) -> set[tuple[int | None, int]]:
        found = set()
        for layer in self.layers:
            found |= layer.conditions(level)
            level += layer.halvings
        return found

    def parts_to_show(self, shape: Any) -> Iterator:
        for i, layer in enumerate(self.layers):
            yield f"layers.{i}", layer, shape
            shape = output_shape(layer, shape)

    def explained(self, X: Array, cond: Cond) -> Iterator:
        ops = get_ops(X)
        for step in self._in_order(current().monitor, "forward_"):
            yield from step.explained(X, cond)
            shape = output_shape(step, tuple(X.shape[1:]))
            X = X if shape is None else ops.empty((X.shape[0], *shape), X)

    is_composite, measures_logdet = True, False  # drift is measured by the layers within

    def states(self, X: Array, cond: Cond = None) -> list[Array]:
        """Returns a list of X and the output of each layer, the last of which is Z. Use it for pictures.

        All arrays are in memory at once. `inverse_states` does the same from Z to X.

        Args:
            X: (N, C, *spatial).
            cond: the condition, or None.
        """
        states, cond = [X], given_condition(self, X, cond)
        for layer in self.layers:
            states.append(layer.forward(states[-1], cond if layer.conditions() else None)[0])
        return states

    def inverse_states(self, Z: Array, cond: Cond = None) -> list[Array]:
        """Returns a list of Z and the output of each layer's inverse, from the last layer to the first, which gives X.

        Args:
            Z: (N, C, *spatial).
            cond: the condition, or None.
        """
        states, cond = [Z], given_condition(self, Z, cond)
        for layer in reversed(self.layers):
            states.append(layer.inverse(states[-1], cond if layer.conditions() else None))
        return states

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        return self._through("forward_", X, cond, "X")

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        return self._through("inverse_logdet_", Z, cond, "Z")

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        return self._back_through("backward_", "forward_", dZ, Z, dlogdet, cond, "Z")

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        return self._back_through("inverse_backward_", "inverse_logdet_", dX, X, dlogdet, cond, "X")

    def _through(self, out_, X, cond, name):
        ops, monitor = get_ops(X), current().monitor
        logdet, steps = ops.full(X.shape[0], 0.0, X), self._in_order(monitor, out_)
        trace = None if monitor is None else ChainTrace(monitor, self, out_, len(steps))
        for layer in steps:
            layer.check_shape(X, name)
            state = None if trace is None else trace.leave(layer, X)
            X, part = getattr(layer, out_)(X, cond)
            logdet += part
            if state is not None:
                trace.leave_logdet(state, part)
        if trace is not None:
            trace.end()
        return X, logdet

    def _back_through(self, back_, out_, dZ, Z, dlogdet, cond, name):
        context = current()
        monitor = context.monitor
        # In a recomputation the gradients are not final, so the hook is not called.
        hook = context.hook if monitor is None or monitor.strict is None else None

        def back(layer, dZ, Z):
            layer.check_shape(Z, name)
            dZ, Z = getattr(layer, back_)(dZ, Z, dlogdet, cond)
            if hook is not None:
                hook(layer, dZ, Z)
            return dZ, Z

        def out(layer, X, samples):
            return getattr(layer, out_)(X, condition_of(cond, samples))

        trace = None if monitor is None else monitor.of(self, out_)
        if trace is not None:
            kept_gradients = [cond.grad] if isinstance(cond, Condition) else []
            return trace.back(back, out, dZ, Z, kept_gradients)
        for layer in reversed(self._in_order(monitor, out_)):
            dZ, Z = back(layer, dZ, Z)
        return dZ, Z

    def _in_order(self, monitor, out_):
        """Returns the steps in the order of the pass `out_`; the short steps if there are anchors between them."""
        steps = self._short_steps if monitor is not None and monitor.has_anchors else self._steps
        return steps if out_ == "forward_" else steps[::-1]

    def initialize_(self, X: Array, cond: Cond = None) -> Array:
        for layer in self._beginning:
            layer.check_shape(X)
            X = layer.initialize_(X, cond)
        return X


def condition_of(cond: Cond, samples: slice) -> Cond:
    """Returns the part of a condition that belongs to some samples of a batch."""
    array = condition_array(cond)
    return cond if array is None or samples == slice(None) else array[samples]


def _folded(layers):
    """Returns the layers, with neighbouring ChannelAffine layers as one."""
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"Chain takes Layers; got {shown(layer)}")
    dtypes = {str(layer.dtype) for layer in layers} - {"None"}
    if len(dtypes) > 1:
        raise ValueError(f"the layers of a Chain compute in one dtype; got {' and '.join(sorted(dtypes))}")
    steps = []
    for maps_channels, some in itertools.groupby(layers, lambda layer: isinstance(layer, ChannelAffine)):
        some = list(some)
        for before, layer in zip(some, some[1:] if maps_channels else ()):
            if layer.channels != before.channels:
                raise ValueError(f"a layer of {layer.channels} channels follows one of {before.channels} in a Chain")
        steps += [Folded(some)] if maps_channels and len(some) > 1 else some
    return steps


def _beginning(layers):
    """Returns the steps of `initialize`. Layers with their own `initialize_` are not put into groups."""
    steps = []
    for plain, some in itertools.groupby(layers, lambda layer: type(layer).initialize_ is InPlaceLayer.initialize_):
        steps += group_neighbours(some) if plain else some  # noqa: B031
    return steps


class FactorOut(InPlaceLayer):
    """Z = [inner(x1), x2]: x1, the first ceil(C/2) channels, passes through `inner`; x2 leaves the network unchanged.

    If there is a `prior`, it is applied to all C channels before. With an AffineCoupling as prior, this is Glow's
    learned prior of x2: the coupling normalises x2 by the mean and deviation that it predicts from x1.

    Args:
        channels: C, at least 2.
        inner: a Layer on ceil(C/2) channels.
        prior: a Layer on C channels, or None.

    Raises:
        ValueError: there are fewer than 2 channels.
        TypeError: `inner` or `prior` is no Layer, or `channels` no integer.

    References:
        Dinh, Sohl-Dickstein & Bengio, Density estimation using Real NVP, 2016, section 3.6. Kingma & Dhariwal, Glow,
        2018, and its code for the learned prior.
    """

    channels: int
    measures_logdet = uses_condition = False

    def __init__(self, channels: int, inner: Layer, prior: Layer | None = None):
        check_integers(channels=channels)
        if channels < 2:
            raise ValueError(f"FactorOut splits the channels, which must be at least 2; got {channels}")
        if not isinstance(inner, Layer) or not (prior is None or isinstance(prior, Layer)):
            raise TypeError(f"inner and prior are Layers; got {shown(inner)} and {shown(prior)}")
        self.channels, self.prior, self.inner = channels, prior, inner
        self._C1 = channels - channels // 2

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "prior":
            self._prior = None if value is None else group_neighbours([value])[0]

    def explained(self, X: Array, cond: Cond) -> Iterator:
        if self.prior is not None:
            yield from self._prior.explained(X, cond)
        yield from self.inner.explained(X[:, : self._C1], cond)

    def parts_to_show(self, shape: Any) -> Iterator:
        if self.prior is not None:
            yield "prior", self.prior, shape
        yield "inner", self.inner, None if shape is None else (self._C1, *shape[1:])

    def check_shape(self, X: Array, name: str = "X") -> None:
        super().check_shape(X, name)
        self.inner.check_shape(X[:, : self._C1], name)
        if self.prior is not None:
            self.prior.check_shape(X, name)

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        ops = get_ops(X)
        logdet = ops.full(X.shape[0], 0.0, X)
        if self.prior is not None:
            X, logdet = self._prior.forward_(X, cond)
        z1, part = self.inner.forward_(ops.split_(X, self._C1), cond)
        return ops.join_(X, z1), logdet + part

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        ops = get_ops(Z)
        x1, logdet = self.inner.inverse_logdet_(ops.split_(Z, self._C1), cond)
        Z = ops.join_(Z, x1)
        if self.prior is None:
            return Z, logdet
        X, part = self._prior.inverse_logdet_(Z, cond)
        return X, logdet + part

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        ops = get_ops(Z)
        dx1, x1 = self.inner.backward_(ops.split_(dZ, self._C1), ops.split_(Z, self._C1), dlogdet, cond)
        dZ, Z = ops.join_(dZ, dx1), ops.join_(Z, x1)
        return (dZ, Z) if self.prior is None else self._prior.backward_(dZ, Z, dlogdet, cond)

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        if self.prior is not None:
            dX, X = self._prior.inverse_backward_(dX, X, dlogdet, cond)
        ops = get_ops(X)
        dz1, z1 = self.inner.inverse_backward_(ops.split_(dX, self._C1), ops.split_(X, self._C1), dlogdet, cond)
        return ops.join_(dX, dz1), ops.join_(X, z1)

    def initialize_(self, X: Array, cond: Cond = None) -> Array:
        if self.prior is not None:
            X = self._prior.initialize_(X, cond)
        ops = get_ops(X)
        return ops.join_(X, self.inner.initialize_(ops.split_(X, self._C1), cond))


class Reverse(InPlaceLayer):
    """The inverse of a layer as a layer, Z = layer.inverse(X). It shares the parameters; `initialize` sets none.

    Args:
        layer: a Layer that implements `inverse_backward`, as all layers of invnet do.

    Raises:
        TypeError: `layer` is no Layer.
    """

    uses_condition = False

    def __init__(self, layer: Layer):
        if not isinstance(layer, Layer):
            raise TypeError(f"Reverse takes a Layer; got {shown(layer)}")
        self.layer = layer

    @property
    def measures_logdet(self) -> bool:
        return self.layer.measures_logdet

    @property
    def halvings(self) -> int:
        return -self.layer.halvings

    def check_shape(self, X: Array, name: str = "X") -> None:
        self.layer.check_shape(X, name)

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        return self.layer.inverse_logdet_(X, cond)

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        return self.layer.forward_(Z, cond)

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        return self.layer.inverse_backward_(dZ, Z, dlogdet, cond)

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        return self.layer.backward_(dX, X, dlogdet, cond)
