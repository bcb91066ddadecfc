"""Random numbers that a conditioner draws: the same ones when a tile is evaluated again."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..ops.tile import Tile

#: PyTorch's generators are those of the process: one evaluation at a time may take them for itself.
_generators = threading.Lock()


class Draw:
    """The seed of one pass of a module over the tiles of a coupling, itself drawn from PyTorch's generator.

    The first tile finds out whether the module takes random numbers at all; where it does not, the others may be at
    work at the same time.

    Args:
        in_order: the tiles are to be evaluated in their order.
    """

    def __init__(self, in_order):
        self.seed, self.in_order, self.random = int(torch.randint(2**62, ())), in_order, None

    def run(self, tile: Tile | None, device, function: Callable):
        """function(), with the random numbers of a tile and no others disturbed."""
        if self.random is False:
            return function()
        with _generators, _seeded(self.seed + tile, device) as moved:
            result = function()
            self.random = self.random or moved()
            return result

    def run_back(self, function: Callable):
        """function(), a pullback, which may draw again what its evaluation drew, as a checkpoint within the module
        does.
        """
        with contextlib.nullcontext() if self.random is False else _generators:
            return function()


@contextlib.contextmanager
def _seeded(seed, device):
    """Within, PyTorch's generators begin at a seed; gives a function that says whether one has moved since."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    before = [generator.get_state() for generator in generators]
    try:
        begun = [generator.manual_seed(seed).get_state() for generator in generators]
        yield lambda: not all(torch.equal(g.get_state(), state) for g, state in zip(generators, begun))
    finally:
        for generator, state in zip(generators, before):
            generator.set_state(state)
