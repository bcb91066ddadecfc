"""Conditioned: a layer that transforms some channels, given what a conditioner computes from other channels.

Conditioners run only here. This file divides the work into tiles, replays random numbers, checks what conditioners
return, and adds their gradients.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from ..arguments import check_integers, check_unused, shown
from ..core import Condition, Conditioner, InPlaceLayer, condition_array, get_ops
from ..passes.context import current, isolated
from ..passes.replay import TileNets
from .transforms import Transform

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


#: the values of options of a new conditioner that are None
DEFAULTS_OF_NETS = {"ndim": 0, "cond_channels": 0, "seed": 0, "dtype": "float32"}


class Conditioned(InPlaceLayer):
    """The base of couplings and autoregressive layers.

    The work is done tile by tile. A tile is a few samples, or a block of a large image together with the surrounding
    positions that the conditioner sees. Activations exist for one tile at a time. So the memory does not grow with the
    depth, the batch or the size of the images.

    Args:
        channels: C.
        transform: a Transform, which changes channels.
        net: a Conditioner. With None, a new one is made from the other options.
        hidden: the width of the hidden layers of a new conditioner: one number for all, or one for each.
        **options: other options of a new conditioner, under the names that the public layers use.

    Raises:
        ValueError: there are too few channels, or an option of a new conditioner is given although `net` is.
        TypeError: neither `net` nor `hidden` is given, or `net` is no conditioner.
    """

    #: the class of this layer's transform
    transform_class: type[Transform]
    channels: int
    any_dtype, uses_condition = True, False
    #: the fewest channels of such a layer
    least = 1
    #: the channels that the conditioner sees, and the channels that are changed
    _seen = _changed = slice(None)

    def __init__(
        self,
        channels: int,
        transform: Transform,
        net: Conditioner | None,
        hidden: int | Sequence[int] | None,
        **options: Any,
    ):
        check_integers(channels=channels)
        if channels < self.least:
            raise ValueError(f"{type(self).__name__} takes at least {self.least} channels; got {channels}")
        self._transform, self.outputs = transform, transform.outputs
        if net is not None:
            check_unused("beside a net, which is a whole conditioner", hidden=hidden, **options)
        elif hidden is None:
            raise TypeError(
                f"{type(self).__name__} takes a conditioner, net=..., or the width of one to make, hidden=...; got "
                f"neither"
            )
        else:
            options = {name: DEFAULTS_OF_NETS[name] if value is None else value for name, value in options.items()}
            net, self._meant = self.make_net(channels, hidden, **options), {**self._meant, **options}
        for method in ("forward", "vjp", "parameters"):
            if isinstance(net, type) or not callable(getattr(net, method, None)):
                raise TypeError(
                    f"a conditioner has forward, vjp and parameters, as a subclass of invnet.Conditioner has; got "
                    f"{shown(net)}"
                )
        self.channels, self.net = channels, net

    def make_net(self, channels: int, hidden: int | Sequence[int], **options: Any) -> Conditioner:
        """Makes a conditioner for a layer of this many channels, with hidden layers of width `hidden`."""
        raise NotImplementedError

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "net":
            self._floats, self._reach, self._overhead = (
                getattr(value, name, getattr(Conditioner, name))
                for name in ("floats_per_position", "reach", "overhead")
            )
            self._kept_floats = getattr(value, "kept_per_position", None) or self._floats

    @property
    def _parameters(self):
        return self.derived("parameters of the conditioner", self.net.parameters)

    @property
    def _weights(self):
        return self.derived("weights", lambda: sum(math.prod(parameter.data.shape) for parameter in self._parameters))

    @property
    def measures_logdet(self) -> bool:
        return self._transform.measures_logdet

    @property
    def steadier(self) -> tuple[str, ...]:
        return self._transform.steadier

    def why_not_fused(self) -> str | None:
        kind = type(self.net).__name__
        if self.specs():
            return super().why_not_fused()
        if getattr(self.net, "cond_channels", 0):
            return "its conditioner takes a condition"
        if getattr(self.net, "spec", lambda: None)() is None:
            return f"its conditioner, {kind}, does not say what it computes (spec)"
        if self._transform.spec() is None:
            return self._transform.why_not_fused
        return f"compiled functions do not have this map with a {kind}"

    def conditions(self, level: int = 0) -> set[tuple[int | None, int]]:
        return {(getattr(self.net, "cond_channels", None), level)} - {(0, level)}

    # `transform_` is a method of a transform. If `notes` is given, a list with one note for each tile, each call also
    # receives the note of its tile.

    def _run(self, V, cond, transform_, *notes):
        """Transforms the changed channels of V in place; returns logdet (N,)."""
        ops, c, cache = get_ops(V), self._condition_of(V, cond), current().cache
        logdet, tiles = ops.full(V.shape[0], 0.0, V), self._tiles(ops, V)
        seen, changed, nets = V[:, self._seen], V[:, self._changed], TileNets(self.net)
        saved = None if cache is None else cache.place(self, self._kept_bytes(V), self._weights / self._kept_floats)

        def work(turn):
            i, tile, *note = turn
            u, net = self._narrowed(ops, tile.region(seen)), nets.of(i)
            if saved is None:
                h, pullback = net.forward(u, tile.condition(c)), None
            else:
                h, pullback = net.vjp(self._lasting(ops, u), tile.condition(c))
            nets.check()
            h = self._checked(h, u)
            return tile, transform_(ops, tile.core(changed), tile.inner(ops.astype(h, V.dtype)), *note), (h, pullback)

        def commit(result):
            tile, part, evaluation = result
            logdet[tile.samples] += part
            if saved is not None:
                saved.append(evaluation)

        with isolated():
            for turns in self._turns(nets, tiles, *notes):
                ops.map_tiles(work, turns, commit, None if saved is None else cache.memory)
        return logdet

    def _run_vjp(self, dV, V, dlogdet, cond, transform_vjp_, *notes, seen_by=None):
        """The gradient of `_run`. V is its result, and is overwritten with its argument; dV likewise.

        Args:
            seen_by: a function without arguments. It returns a function of a tile, which returns what the conditioner
                saw in that tile. None if V still contains it, because the channels that it sees are not changed.
        """
        ops, c, cache = get_ops(V), self._condition_of(V, cond), current().cache
        seen, dseen, changed, dchanged = V[:, self._seen], dV[:, self._seen], V[:, self._changed], dV[:, self._changed]
        tiles, saved, nets = self._tiles(ops, V), None if cache is None else cache.take(self), TileNets(self.net)
        rebuilt = None if saved or seen_by is None else seen_by()

        def work(turn):
            i, tile, evaluation, *note = turn
            u = self._narrowed(ops, tile.region(seen) if rebuilt is None else rebuilt(tile))
            h, pullback = evaluation or nets.of(i).vjp(u, tile.condition(c))
            nets.check()
            h = ops.astype(self._checked(h, u), V.dtype)
            dh = transform_vjp_(
                ops, tile.core(dchanged), tile.core(changed), tile.inner(h), dlogdet[tile.samples], *note
            )
            if tile.whole:
                du, dcond, gradients = pullback(ops.astype(dh, u.dtype))
                ops.add_(tile.region(dseen), ops.astype(self._same(du, u), V.dtype))
                return tile, None, self._outliving(ops, dcond, cond), gradients
            around = ops.zeros_like(h)
            tile.inner(around)[...] = dh
            du, dcond, gradients = pullback(ops.astype(around, u.dtype))
            du = ops.copy(ops.astype(self._same(du, u), V.dtype))
            return tile, du, self._outliving(ops, dcond, cond), gradients

        def commit(result):
            tile, du, dcond, gradients = result
            if du is not None:  # regions overlap
                ops.add_(tile.region(dseen), du)
            self._add(cond, tile, dcond, gradients)

        with isolated():
            for turns in self._turns(nets, tiles, saved or [None] * len(tiles), *notes):
                ops.map_tiles(work, turns, commit)

    @staticmethod
    def _turns(nets, *of_tiles):
        """Numbers the tiles, and groups them into lists of tiles that may be computed at the same time.

        All are in one list, unless the conditioner depends on the order of the tiles; then each has its own list. An
        element is (number, tile, ...), with one element from each further list.
        """
        turns = list(zip(itertools.count(), *of_tiles))
        return [[turn] for turn in turns] if nets.in_order else [turns]

    def _lasting(self, ops, u):
        """Returns what the conditioner sees, in memory that stays the same while channels are changed."""
        return u

    def _narrowed(self, ops, x):
        """Converts x to the dtype of the conditioner."""
        return ops.astype(x, self._parameters[0].data.dtype) if self._parameters else x

    @staticmethod
    def _outliving(ops, dcond, cond):
        """Copies the gradient of a condition, so that it outlives the tile; None if it is not wanted."""
        return ops.copy(dcond) if isinstance(cond, Condition) and dcond is not None else None

    def _add(self, cond, tile, dcond, gradients):
        """Adds the gradients that a tile's pullback returned to those of the parameters and of the condition."""
        if len(gradients) != len(self._parameters):
            raise ValueError(
                f"the conditioner has {len(self._parameters)} parameters; its pullback gave {len(gradients)} gradients"
            )
        for parameter, gradient in zip(self._parameters, gradients):
            if gradient.shape != parameter.data.shape:
                raise ValueError(
                    f"a parameter of the conditioner has shape {tuple(parameter.data.shape)}; "
                    f"its gradient {tuple(gradient.shape)}"
                )
            parameter.add(gradient)
        if dcond is not None:
            cond.add(dcond, tile)

    def _kept_bytes(self, X):
        return self._kept_floats * math.prod(X.shape) // X.shape[1] * X.dtype.itemsize

    def _same(self, dx, x):
        if dx.shape != x.shape or dx.dtype != x.dtype:
            raise ValueError(
                f"the pullback of a conditioner gives dx of the shape and dtype of x, {tuple(x.shape)} {x.dtype}; "
                f"got {tuple(dx.shape)} {dx.dtype}"
            )
        return dx

    def _tiles(self, ops, X):
        return ops.tiles(X.shape, self._floats, self._reach, self._weights // self._overhead)

    def _condition_of(self, X, cond):
        """Returns the array of the condition, or None if the conditioner takes none.

        Raises:
            ValueError: it does not fit X. This must be known before it is divided into tiles.
        """
        c = None if getattr(self.net, "cond_channels", None) == 0 else condition_array(cond)
        if c is None:
            return None
        times = [n // m if m and n % m == 0 else 0 for n, m in zip(c.shape[2:], X.shape[2:])]
        if c.shape[0] != X.shape[0] or (c.ndim != 2 and (c.ndim != X.ndim or len(set(times)) != 1 or 0 in times)):
            raise ValueError(
                f"the condition of X {tuple(X.shape)} has shape ({X.shape[0]}, K), or ({X.shape[0]}, K, *spatial) with "
                f"X's "
                f"spatial axes, all the same number of times; got {tuple(c.shape)}"
            )
        return c

    def _checked(self, h, x):
        changed = len(range(self.channels)[self._changed])
        expected = (x.shape[0], self.outputs * changed, *x.shape[2:])
        if tuple(h.shape) != expected:
            raise ValueError(
                f"the conditioner of {type(self).__name__} must give shape {expected}; got {tuple(h.shape)}"
            )
        if h.dtype != x.dtype:
            raise TypeError(f"the conditioner of {type(self).__name__} must give dtype {x.dtype}; got {h.dtype}")
        return h
