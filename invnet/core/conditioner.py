"""Conditioner, the contract of the network inside a coupling."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from .module import Module, describes_itself

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..ops.tile import Tile
    from ..typing import Array, Cond


class Conditioner(Module):
    """A conditioner: a network that need not be invertible, with its pullback written by hand.

    Inputs are (N, C_in, *spatial), outputs (N, C_out, *spatial), `cond` None, (N, K) or (N, K, *spatial).
    """

    #: floats that one evaluation holds per position: a coupling chooses its tile by it.
    floats_per_position = 1024
    #: how many of them a pullback keeps; None: all.
    kept_per_position: int | None = None
    #: how far an output position sees along each spatial axis, or None where it sees everything.
    reach: int | None = None
    #: K of the condition that it needs, 0 where it takes none, None where it does not say
    cond_channels: int | None = None
    #: what calling it takes beside its arithmetic: a coupling makes small tiles so many times larger.
    overhead = 1

    def forward(self, x: Array, cond: Cond = None) -> Array:
        """y; keeps nothing."""
        raise NotImplementedError(f"{type(self).__name__} needs forward(x, cond) -> y")

    def vjp(self, x: Array, cond: Cond = None) -> tuple[Array, Callable]:
        """y, and pullback(dy) -> dx, dcond (None without cond), gradients in the order of parameters().

        The pullback adds to nothing: the caller sums the gradients of its tiles in a fixed order, so that these must be
        arrays of their own, not views of what an operation gave, which lives as long as the tile.
        """
        raise NotImplementedError(f"{type(self).__name__} needs vjp(x, cond) -> y, pullback")

    def spec(self) -> Any:
        """What it computes, as a DenseSpec or ConvSpec (invnet/fused/spec.py) by which engines do several layers in one
        call; or None.

        It holds for the class that gives it, and for subclasses that add no method but `__init__`.
        """

    def __init_subclass__(cls, **more):
        super().__init_subclass__(**more)
        for old, new in (("draw", "rng_state"), ("drawn", "with_rng")):
            if old in vars(cls):
                warnings.warn(
                    f"{cls.__name__}.{old} is {new} now; the old name goes with invnet 0.3",
                    DeprecationWarning,
                    stacklevel=2,
                )
                setattr(cls, new, vars(cls)[old])
        if not describes_itself(cls, "spec"):
            cls.spec = Conditioner.spec

    def rng_state(self) -> None:
        """What the evaluations of one pass draw, as a seed of dropout, for the pass back to use again; None where they
        draw nothing.
        """

    def with_rng(self, draw: object, tile: Tile | None, again: bool) -> object:
        """This net, to be evaluated with a `rng_state` on the tile of that number; `again` on the way back."""
        return self
