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
    """A network y = net(x, cond) inside a coupling or an autoregressive layer. It need not be invertible.

    A subclass implements `forward` and `vjp`, with gradients written by hand. Both take x (N, C_in, *spatial) and give
    y (N, C_out, *spatial). The condition is None, (N, K) or (N, K, *spatial).
    """

    #: how many floats one evaluation needs for each position; layers choose the size of a tile by it
    floats_per_position = 1024
    #: how many of these a pullback keeps; None for all
    kept_per_position: int | None = None
    #: how many positions around its own an output depends on, along each spatial axis; None for all positions
    reach: int | None = None
    #: the number of channels K of the condition that it needs; 0 if it takes none, None if unknown
    cond_channels: int | None = None
    #: cost of a call beside its arithmetic: layers divide the number of weights by it, which makes small tiles larger
    overhead = 1

    def forward(self, x: Array, cond: Cond = None) -> Array:
        """Returns y, and keeps nothing for a gradient.

        Args:
            x: (N, C_in, *spatial). It must not be changed.
            cond: None, (N, K) or (N, K, *spatial).

        Returns:
            y (N, C_out, *spatial), of the dtype of x.

        Raises:
            ValueError, TypeError: x or the condition has a wrong shape, dtype or engine.
        """
        raise NotImplementedError(f"{type(self).__name__} needs forward(x, cond) -> y")

    def vjp(self, x: Array, cond: Cond = None) -> tuple[Array, Callable]:
        """Returns y, and a function that maps the gradient of y to those of x, of the condition and of the parameters.

        Args:
            x: (N, C_in, *spatial). It must not be changed.
            cond: None, (N, K) or (N, K, *spatial).

        Returns:
            y (N, C_out, *spatial), and pullback(dy) -> dx, dcond, gradients. dy has the shape and dtype of y, dx those
            of x, and dcond those of the condition; dcond is None without a condition. `gradients` is a list with
            one array for each of `parameters()`, in that order and of that shape.

            The pullback adds to no `grad`: the caller sums the gradients of its tiles in a fixed order. The arrays in
            `gradients` must not be views of an operation's result, whose memory is reused after the tile.

        Raises:
            ValueError, TypeError: as in `forward`; by the pullback, if dy has a wrong shape, dtype or engine.
        """
        raise NotImplementedError(f"{type(self).__name__} needs vjp(x, cond) -> y, pullback")

    def spec(self) -> Any:
        """Describes what this conditioner computes, so that an engine can compute several layers in one call.

        A subclass that adds a method other than `__init__` may compute something else, so it does not inherit the
        description.

        Returns:
            a DenseSpec or ConvSpec (invnet/fused/spec.py); None if layers with this conditioner are not fused.
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
        """Returns the random state of one forward pass, such as a seed of dropout, which backward uses again.

        None means that the conditioner draws no random numbers.
        """

    def with_rng(self, draw: object, tile: Tile | None, again: bool) -> object:
        """Returns this conditioner with fixed random numbers.

        Args:
            draw: what `rng_state` returned.
            tile: the number of the tile that it will be evaluated on.
            again: whether the evaluation repeats one of the forward pass.
        """
        return self
