"""Program: a run of layers as the tables by which compiled functions do it, and where its parameters lie."""

import math

import numpy as np

from .compiled.activations import NUMBERS
from .compiled.products import rounded
from .compiled.runs import AT_ONCE
from .compiled.stages import ENDS, FIRST, GROUPS, KIND, KINDS, LAST, ORDER, PLACE, READS_Z, SIGMOID, STATE
from .compiled.vectors import BYTES, SLACK, VECTORS
from .located import Located


class Program(Located):
    """A run for arrays of one dtype: `table` and `layers` are as the compiled functions' files say, `index` is what these point to.

    Args:
        stages: of the run's layers, one after the other.
        channels: C.
        dtype: of the arrays.
    """

    def __init__(self, stages, channels, dtype):
        super().__init__(stages, dtype)
        C, self.lanes = channels, BYTES // dtype.itemsize
        self.bounds = np.array([math.log(stage.scale[1]) if stage.kind == "affine" else 0.0 for stage in stages])
        self.size, self._index, self._layers, self._places = 1, list(range(max(C, AT_ONCE) + 1)), [], {}
        self._lists = {}
        self._multiples = self._place_of(C * c for c in range(C))
        self._rows, self._panel, self._widest = 3 * C, 1, 1
        self.table = np.array([self._row(stage, C) for stage in stages])
        self.layers, self.index = np.array(self._layers, np.int64).reshape(-1, 13), np.array(self._index)
        del self._index, self._layers, self._lists
        self._spare, self._zeros = self._rows, self._rows + C

    def _row(self, stage, C):
        """A row of the table of stages."""
        row = np.zeros(10, np.int64)
        row[KIND], row[STATE], row[PLACE] = KINDS[stage.kind], len(self.states), self.size
        self._states(stage.states, np.dtype(np.int64) if stage.kind == "permute" else self.dtype)
        if stage.kind == "scale":
            self.size += 3 * C
        elif stage.kind == "permute":  # a place of its own, since `prepare` writes there
            row[ORDER] = len(self._index)
            self._index += range(C)
        elif stage.kind == "affine":
            self._affine(stage, row, 3 * C)
        else:
            row[GROUPS] = stage.states[0].data.shape[0]  # reflections
            self.size += 2 * C * C
        return row

    def _place_of(self, numbers):
        """Where in `index` these numbers lie, with one more after them, which a product reads; the same numbers lie there once."""
        numbers = tuple(numbers)
        if numbers not in self._lists:
            self._lists[numbers] = len(self._index)
            self._index += [*numbers, 0]
        return self._lists[numbers]

    def _affine(self, stage, row, top):
        """Adds the rows of a conditioner's layers; rows of `work` from `top` on are theirs while the stage is at work."""
        units, first = stage.units, len(self._layers)
        self._states(units.parameters, self.dtype)
        row[FIRST], row[LAST], row[GROUPS] = first, first + len(units.activations) - 1, len(stage.groups) - 1
        row[ENDS], row[ORDER] = self._place_of(stage.groups), self._place_of(stage.channels)
        row[READS_Z], row[SIGMOID] = stage.reads_z, stage.scale[0] == "sigmoid"
        ends, inputs, top = [self._place_of(each) for each in units.ends], top, top + 1 + len(units.inputs)
        for i, activation in enumerate(units.activations):
            n, m = units.parameters[2 * i].data.shape
            order_in, order_out = units.inputs if i == 0 else range(n), units.outputs if i == len(units.activations) - 1 else range(m)
            out, gradient = top + 1, top + 1 + m  # after a row of ones
            before = gradient + m if activation == "silu" else out
            self._layers.append((n, m, NUMBERS[activation], self.size, self.size + n * m, inputs, out, before, gradient, ends[i], ends[i + 1],
                                 self._place_of([n * m, *(k * m for k in order_in)]), self._place_of(order_out)))
            self.size += n * m + m
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
            self._places[how] = np.array([pitch, self._multiples, self._spare, self._zeros, panel, zeros, self._widest]), size
        return self._places[how]
