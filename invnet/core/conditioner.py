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
        """Computes the outputs y (N, C_out, *spatial) for x (N, C_in, *spatial), and keeps nothing.

        Args:
            x: the inputs.
            cond: the condition, (N, K) or (N, K, *spatial), or None.

        Raises:
            TypeError, ValueError: an array has another dtype, engine or shape than the conditioner takes.
        """
        raise NotImplementedError(f"{type(self).__name__} needs forward(x, cond) -> y")

    def vjp(self, x: Array, cond: Cond = None) -> tuple[Array, Callable]:
        """Computes y as `forward`, and returns it with its pullback.

        Returns:
            y (N, C_out, *spatial), and a function pullback(dy) -> dx, dcond, gradients. dx has the shape of x. dcond
            has that of cond, and is None without a condition. `gradients` is a list of arrays with the shapes of the
            `parameters()`, in their order.

            The pullback adds to no gradient. Its caller sums the gradients of all tiles in a fixed order. So they must
            be arrays of their own: views of an operation's result live only as long as the tile.

        Raises:
            TypeError, ValueError: as of `forward`.
        """
        raise NotImplementedError(f"{type(self).__name__} needs vjp(x, cond) -> y, pullback")

    def spec(self) -> Any:
        """Returns what it computes, as a DenseSpec or ConvSpec (invnet/fused/spec.py), or None.

        With it, engines compute several layers in one call.

        It holds for the class that defines it, and for subclasses that add no method except `__init__`.
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
        """Returns what the evaluations of one forward pass draw, such as a seed of dropout. The backward pass uses it
        again. None if they draw nothing.
        """

    def with_rng(self, draw: object, tile: Tile | None, again: bool) -> object:
        """Returns this conditioner, to be evaluated with a `rng_state` on one tile; `again` in the backward pass."""
        return self
