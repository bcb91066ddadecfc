"""The random numbers of a conditioner, which are the same when a tile is evaluated again."""

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
    """The seed with which a module is evaluated on all tiles of one pass. It is drawn from PyTorch's generator.

    The first tile shows whether the module draws random numbers at all. If not, the others may be computed in parallel.

    Args:
        in_order: the tiles are to be evaluated in their order.
    """

    def __init__(self, in_order):
        self.seed, self.in_order, self.random = int(torch.randint(2**62, ())), in_order, None

    def run(self, tile: Tile | None, device, function: Callable):
        """Calls function() with the random numbers of a tile, and restores PyTorch's generators."""
        if self.random is False:
            return function()
        with _generators, _seeded(self.seed + tile, device) as moved:
            result = function()
            self.random = self.random or moved()
            return result

    def run_back(self, function: Callable):
        """Calls function(), a pullback. Checkpoints within the module may restore and use the generators."""
        with contextlib.nullcontext() if self.random is False else _generators:
            return function()


@contextlib.contextmanager
def _seeded(seed, device):
    """Within, PyTorch's generators start from a seed. Gives a function that returns whether one was used since."""
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
