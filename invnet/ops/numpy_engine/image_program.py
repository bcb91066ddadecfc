"""ImageProgram: a run of layers of images as the tables by which compiled functions do it."""

import functools
import math

import numpy as np

from .compiled import convolutions
from .compiled.products import rounded
from .compiled.stages import BIAS, FIRST, GROUPS, KIND, KINDS, LAST, ORDER, PLACE, SIGMOID, STATE, UNITS, WEIGHTS
from .compiled.vectors import BYTES, SLACK
from .located import Located


class ImageProgram(Located):
    """A run for arrays of one dtype: `table` and `layers` are as compiled/stages.py says.

    Args:
        stages: of the run's layers, one after the other; couplings among them have Convolutions.
        channels: C.
        dtype: of the arrays.
    """

    def __init__(self, stages, channels, dtype):
        super().__init__(stages, dtype)
        C, self.channels, self.lanes = channels, channels, BYTES // dtype.itemsize
        self.bounds = np.array([math.log(stage.scale[1]) if stage.convolutions else 0.0 for stage in stages])
        self.numbers, index, self.table = 1, [], np.zeros((len(stages), 10), np.int64)
        for row, stage in zip(self.table, stages):
            row[KIND], row[STATE], row[PLACE] = KINDS["convolutional" if stage.convolutions else stage.kind], len(self.states), self.numbers
            self._states(stage.convolutions.parameters if stage.convolutions else stage.states,
                         np.dtype(np.int64) if stage.kind == "permute" else dtype)
            if stage.kind == "scale":
                self.numbers += 3 * C
            elif stage.kind == "permute":
                row[ORDER] = len(index)
                index += range(C)
            elif not stage.convolutions:
                row[GROUPS] = stage.states[0].data.shape[0]  # reflections
                self.numbers += 2 * C * C
        self.size, layers = self.numbers, []  # of P, and of G, which has weights and biases as well
        for row, stage in zip(self.table, stages):
            if stage.convolutions:
                row[PLACE], row[FIRST], row[LAST] = self.size, len(layers), len(layers) + len(stage.convolutions.layers) - 1
                row[GROUPS], row[SIGMOID] = stage.groups[1], stage.scale[0] == "sigmoid"
                for weights, bias in zip(stage.convolutions.parameters[::2], stage.convolutions.parameters[1::2]):
                    layer = np.zeros(13, np.int64)
                    layer[WEIGHTS], layer[UNITS] = self.size, math.prod(bias.data.shape)
                    layer[BIAS] = self.size + math.prod(weights.data.shape)
                    self.size = int(layer[BIAS] + layer[UNITS])
                    layers.append(layer)
        self.layers, self.index = np.array(layers, np.int64).reshape(-1, 13), np.array(index or [0])
        nets = [stage.net for stage in stages if stage.convolutions]
        self._networks = tuple(stage.convolutions.layers if stage.convolutions else None for stage in stages)
        #: as of a coupling: floats of a tile for each position, how far an output sees, and numbers of weights
        self.floats = max(net.floats_per_position for net in nets) + 3 * rounded(C, self.lanes) + 8 * (C // 2)
        self.kept = sum(getattr(net, "kept_per_position", None) or net.floats_per_position for net in nets)  # numbers of a position
        self.reach, self.weights = max(net.reach for net in nets), self.size - self.numbers

    @property
    def ndim(self):
        """Spatial axes of what the convolutions take, 0 where any will do."""
        return max(len(shape) - 2 for layers in self._networks if layers for shape, _, _ in layers)

    def plan(self, N, D, H, W, backward, tapes_apart):
        return _plan(self._networks, self.channels, self.dtype.itemsize, N, D, H, W, backward, tapes_apart)


@functools.lru_cache(maxsize=4096)
def _plan(networks, C, itemsize, N, D, H, W, backward, tapes_apart):
    """For images (N, D, H, W, C): the plans of the conditioners, with where each begins and ends and its tape, places in `work`, and how
    many numbers have `work`, all tapes, which lie in one place if not `tapes_apart`, and each array of offsets."""
    lanes, plans = BYTES // itemsize, [layers and convolutions.plan(layers, N, D, H, W, itemsize, backward) for layers in networks]
    found, lengths = [plan for plan in plans if plan], [len(plan.table) if plan else 0 for plan in plans]
    ends, rows = np.cumsum(lengths), N * D * H * W * rounded(C, lanes) + SLACK
    sizes = (rows, rows, rows, max(C + 2, 4) * rounded(C, lanes) + SLACK, 8 * (N * D * H * W * (C // 2) + SLACK),
             max(plan.backward if backward else plan.forward for plan in found))
    places = np.cumsum([0] + [rounded(size, lanes) for size in sizes])
    tapes = np.cumsum([0] + [rounded(plan.tape, lanes) if plan else 0 for plan in plans])
    starts = np.stack([ends - lengths, ends, tapes[:-1] if tapes_apart else 0 * ends], 1)
    return (np.concatenate([plan.table for plan in found]), starts, places[:-1], int(places[-1]),
            int(tapes[-1]) if tapes_apart else max(plan.tape for plan in found), max(plan.offsets for plan in found))
