"""VectorPlan: a group of layers for vectors, as tables that compiled functions read."""

import math

import numpy as np

from ..ops.activations import FROM_ARGUMENT
from ..ops.numpy.kernels.activations import address_of
from ..ops.numpy.kernels.affine import SCALES
from ..ops.numpy.kernels.fused_vectors import AT_ONCE
from ..ops.numpy.kernels.products import rounded
from ..ops.numpy.kernels.records import LAYER, LAYOUT, UNITS
from ..ops.numpy.kernels.spline import SIZE
from ..ops.numpy.kernels.tables import KINDS
from ..ops.numpy.kernels.vectors import BYTES, SLACK, VECTORS
from ..ops.reference import LEAST
from ..ops.reference.coupling import log_bound
from ..passes.context import current
from .plan import Plan
from .spec import DenseSpec

#: The most parameters of a part with several layers. The parameters of a part are gathered, and their gradients summed,
#: in one array, whose size must not grow with depth.
LARGEST = 9000


class VectorPlan(Plan):
    """The plan of a group for vectors of one dtype.

    The files of the compiled functions describe `parts`, `table` and `layers`. These refer to lists of integers by
    their position in `index`.

    Args:
        specs: the specs of the group's layers, in order. All conditioners are dense.
        channels: C.
        dtype: the dtype of the arrays.
    """

    def __init__(self, specs, channels, dtype):
        super().__init__(specs, dtype)
        C, self.lanes = channels, BYTES // dtype.itemsize
        self._scratch = SIZE * (C if any(spec.spline for spec in specs) else 1)
        self._index, self._layers, self._layouts = list(range(max(C, AT_ONCE) + 1)), [], {}
        self._lists = {}
        self._multiples = self._place_of(C * c for c in range(C))
        self._rows, self._panel, self._widest = 3 * C, 1, 1
        parts, rows, self.size = _cut(specs, C), [], 1
        for part in parts:
            self._size = 1
            rows += [self._row(spec, C) for spec in part]
            self.size = max(self.size, self._size)
        self.parts = np.cumsum([0, *map(len, parts)])
        self.parts_apart = [self.parts[i : i + 2] for i in range(len(parts))]
        self.table, self.bounds = np.array(rows, LAYER), np.array([self._bounds(spec) for spec in specs])
        self.layers, self.index = np.array(self._layers, UNITS), np.array(self._index)
        del self._index, self._layers, self._lists, self._size
        self._spare, self._zeros = self._rows, self._rows + C

    @staticmethod
    def does(specs):
        """Returns whether there are plans of such layers."""
        return all(spec.conditioner is None or isinstance(spec.conditioner, DenseSpec) for spec in specs)

    #: the text with which `explain` says why there is a plan, but not for these arrays or parameters
    condition = "activations are kept (memory_budget), or parameters lie elsewhere than the array"

    def takes(self, ops, X):
        """Returns whether compiled functions compute this group now. They do not if activations are kept."""
        return current().cache is None

    def forward_(self, group, ops, X, inverse):
        """Returns Z, logdet and an upper bound of the matrices' condition numbers; with `inverse`, X and its logdet."""
        return ops.fused_vectors_(self, X, inverse)

    def backward_(self, group, ops, dZ, Z, dlogdet, inverse):
        """Adds to the parameters' gradients; returns dX, X and the bound."""
        return ops.fused_vectors_vjp_(self, dZ, Z, dlogdet, inverse)

    @staticmethod
    def _bounds(spec):
        """Returns log(bound) of a scale and 0; for a spline, the bound of its domain and the least size of a bin."""
        if spec.spline:
            return spec.spline[1], LEAST
        return log_bound(spec.scale) if spec.scale else 0.0, 0.0

    def _row(self, spec, C):
        """Returns the row of a layer in `table`."""
        row = np.zeros((), LAYER)
        row["kind"], row["state"], row["offset"] = KINDS[spec.kind], len(self._states), self._size
        self._add_states(spec.states, np.dtype(np.int64) if spec.kind == "permute" else self.dtype)
        if spec.kind == "scale":
            self._size += 3 * C
        elif spec.kind == "permute":  # not shared with other lists, since `prepare` writes to it
            row["order"] = len(self._index)
            self._index += range(C)
        elif spec.conditioner is not None:
            self._conditioner(spec, row, 3 * C)
        else:
            row["groups"] = spec.states[0].data.shape[0]  # reflections
            self._size += 2 * C * C
        return row

    def _place_of(self, numbers):
        """Returns the position of a list of numbers in `index`, and appends the list if it is not there yet.

        A 0 follows each list, since a product reads one number more.
        """
        numbers = tuple(numbers)
        if numbers not in self._lists:
            self._lists[numbers] = len(self._index)
            self._index += [*numbers, 0]
        return self._lists[numbers]

    def _conditioner(self, spec, row, top):
        """Adds the rows of a conditioner's layers to `layers`. They use the rows of `work` from `top` on."""
        dense, first = spec.conditioner, len(self._layers)
        self._add_states(dense.parameters, self.dtype)
        row["first"], row["last"], row["groups"] = first, first + len(dense.activations) - 1, len(spec.groups) - 1
        row["ends"], row["order"] = self._place_of(spec.groups), self._place_of(spec.order)
        row["reads_z"], row["scale"], row["bins"] = (
            spec.reads_z,
            SCALES[spec.scale[0]] if spec.scale else 0,
            spec.spline[0] if spec.spline else 0,
        )
        ends, inputs, top = [self._place_of(each) for each in dense.ends], top, top + 1 + len(dense.inputs)
        for i, activation in enumerate(dense.activations):
            n, m = dense.parameters[2 * i].data.shape
            order_in, order_out = (
                dense.inputs if i == 0 else range(n),
                dense.outputs if i == len(dense.activations) - 1 else range(m),
            )
            out, gradient = top + 1, top + 1 + m  # after a row of ones
            before = gradient + m if activation in FROM_ARGUMENT else out
            self._layers.append(
                (
                    n,
                    m,
                    address_of(activation, self.dtype.char),
                    self._size,
                    self._size + n * m,
                    inputs,
                    out,
                    before,
                    gradient,
                    ends[i],
                    ends[i + 1],
                    self._place_of([n * m, *(k * m for k in order_in)]),
                    self._place_of(order_out),
                )
            )
            self._size += n * m + m
            inputs, top = top, max(gradient, before) + m
            self._panel = max(self._panel, (n + 1) * rounded(m, self.lanes), m * rounded(n + 1, self.lanes))
            self._widest = max(self._widest, n + 1, m)
        self._rows = max(self._rows, top)

    def layout(self, samples, backward):
        """Returns the layout of `work` for this number of samples, and its size."""
        key = min(samples, AT_ONCE), backward
        if key not in self._layouts:
            lanes = self.lanes
            # An odd number of vectors, so that the rows of a block do not use the same lines of the cache.
            pitch = rounded(max(key[0], 1), VECTORS * lanes) + lanes
            zeros = rounded(max(pitch, self._widest), VECTORS * lanes) + SLACK
            panel = self._zeros + -(-zeros // pitch)
            size = (
                panel * pitch + SLACK + (pitch * rounded(self._widest, lanes) + self._panel + SLACK if backward else 0)
            )
            row = (pitch, self._multiples, self._spare, self._zeros, zeros, panel, self._widest, size)
            self._layouts[key] = np.array([row], LAYOUT), size + self._scratch
        return self._layouts[key]


def _cut(specs, C):
    """Divides the specs into parts, and returns a list of specs for each."""
    parts, size = [], 0
    for spec in specs:
        numbers = (
            2 * C * C
            if spec.conditioner is None
            else sum(math.prod(parameter.data.shape) for parameter in spec.conditioner.parameters)
        )
        if not parts or size + numbers > LARGEST:
            parts.append([])
            size = 0
        parts[-1].append(spec)
        size += numbers
    return parts
