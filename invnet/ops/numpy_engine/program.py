"""Program: a run of layers as the tables by which compiled functions do it, and where its parameters lie."""

import math

import numpy as np

from ..activations import FROM_ARGUMENT
from ..reference import LEAST
from .compiled.activations import address_of
from .compiled.products import rounded
from .compiled.runs import AT_ONCE
from .compiled.spline import SIZE
from .compiled.stages import BINS, ENDS, FIRST, GROUPS, KIND, KINDS, LAST, ORDER, PLACE, READS_Z, SIGMOID, STATE
from .compiled.vectors import BYTES, SLACK, VECTORS
from .located import Located

#: Numbers of a part's parameters at most, if it has more than one stage: they are gathered, and their gradients summed, for a part at a
#: time, in memory that is not to grow with depth.
LARGEST = 9000


class Program(Located):
    """A run for arrays of one dtype: `parts`, `stages`, `layers` are as the compiled functions' files say, `index` is what these point to.

    Args:
        stages: of the run's layers, one after the other.
        channels: C.
        dtype: of the arrays.
    """

    def __init__(self, stages, channels, dtype):
        super().__init__(stages, dtype)
        C, self.lanes = channels, BYTES // dtype.itemsize
        self._scratch = SIZE * (C if any(stage.spline for stage in stages) else 1)
        self._index, self._layers, self._places = list(range(max(C, AT_ONCE) + 1)), [], {}
        self._lists = {}
        self._multiples = self._place_of(C * c for c in range(C))
        self._rows, self._panel, self._widest = 3 * C, 1, 1
        parts, rows, self.size = _cut(stages, C), [], 1
        for part in parts:
            self._size = 1
            rows += [self._row(stage, C) for stage in part]
            self.size = max(self.size, self._size)
        self.parts = np.cumsum([0, *map(len, parts)])
        self.parts_apart = [self.parts[i:i + 2] for i in range(len(parts))]
        self.stages, self.limits = np.array(rows), np.array([self._limits(stage) for stage in stages])
        self.layers, self.index = np.array(self._layers, np.int64).reshape(-1, 13), np.array(self._index)
        del self._index, self._layers, self._lists, self._size
        self._spare, self._zeros = self._rows, self._rows + C

    @staticmethod
    def _limits(stage):
        """The logarithm of the bound of a scale; of splines the bound of their domain, and the least size of a bin."""
        if stage.spline:
            return stage.spline[1], LEAST
        return math.log(stage.scale[1]) if stage.scale else 0.0, 0.0

    def _row(self, stage, C):
        """A row of the table of stages."""
        row = np.zeros(11, np.int64)
        row[KIND], row[STATE], row[PLACE] = KINDS[stage.kind], len(self.states), self._size
        self._states(stage.states, np.dtype(np.int64) if stage.kind == "permute" else self.dtype)
        if stage.kind == "scale":
            self._size += 3 * C
        elif stage.kind == "permute":  # a place of its own, since `prepare` writes there
            row[ORDER] = len(self._index)
            self._index += range(C)
        elif stage.units is not None:
            self._conditioner(stage, row, 3 * C)
        else:
            row[GROUPS] = stage.states[0].data.shape[0]  # reflections
            self._size += 2 * C * C
        return row

    def _place_of(self, numbers):
        """Where in `index` these numbers lie, with one more after them, which a product reads; the same numbers lie there once."""
        numbers = tuple(numbers)
        if numbers not in self._lists:
            self._lists[numbers] = len(self._index)
            self._index += [*numbers, 0]
        return self._lists[numbers]

    def _conditioner(self, stage, row, top):
        """Adds the rows of a conditioner's layers; rows of `work` from `top` on are theirs while the stage is at work."""
        units, first = stage.units, len(self._layers)
        self._states(units.parameters, self.dtype)
        row[FIRST], row[LAST], row[GROUPS] = first, first + len(units.activations) - 1, len(stage.groups) - 1
        row[ENDS], row[ORDER] = self._place_of(stage.groups), self._place_of(stage.channels)
        row[READS_Z], row[SIGMOID], row[BINS] = stage.reads_z, "sigmoid" in stage.scale, stage.spline[0] if stage.spline else 0
        ends, inputs, top = [self._place_of(each) for each in units.ends], top, top + 1 + len(units.inputs)
        for i, activation in enumerate(units.activations):
            n, m = units.parameters[2 * i].data.shape
            order_in, order_out = units.inputs if i == 0 else range(n), units.outputs if i == len(units.activations) - 1 else range(m)
            out, gradient = top + 1, top + 1 + m  # after a row of ones
            before = gradient + m if activation in FROM_ARGUMENT else out
            self._layers.append((n, m, address_of(activation, self.dtype.char), self._size, self._size + n * m, inputs, out, before, gradient, ends[i], ends[i + 1],
                                 self._place_of([n * m, *(k * m for k in order_in)]), self._place_of(order_out)))
            self._size += n * m + m
            inputs, top = top, max(gradient, before) + m
            self._panel = max(self._panel, (n + 1) * rounded(m, self.lanes), m * rounded(n + 1, self.lanes))
            self._widest = max(self._widest, n + 1, m)
        self._rows = max(self._rows, top)

    def places(self, samples, backward):
        """What the compiled functions need to know of `work`, for so many samples, and how many numbers it has."""
        how = min(samples, AT_ONCE), backward
        if how not in self._places:
            lanes = self.lanes
            # An odd number of vectors, so that the rows of a block do not fall into the same lines of the cache.
            pitch = rounded(max(how[0], 1), VECTORS * lanes) + lanes
            zeros = rounded(max(pitch, self._widest), VECTORS * lanes) + SLACK
            panel = self._zeros + -(-zeros // pitch)
            size = panel * pitch + SLACK + (pitch * rounded(self._widest, lanes) + self._panel + SLACK if backward else 0)
            self._places[how] = np.array([pitch, self._multiples, self._spare, self._zeros, panel, zeros, self._widest, size]), size + self._scratch
        return self._places[how]


def _cut(stages, C):
    """The stages of each part."""
    parts, size = [], 0
    for stage in stages:
        numbers = 2 * C * C if stage.units is None else sum(math.prod(parameter.data.shape) for parameter in stage.units.parameters)
        if not parts or size + numbers > LARGEST:
            parts.append([])
            size = 0
        parts[-1].append(stage)
        size += numbers
    return parts
