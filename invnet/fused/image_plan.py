"""ImagePlan: a group of layers for images, as tables that compiled functions read."""

import functools
import math

import numpy as np

from ..ops.numpy.kernels import convolutions
from ..ops.numpy.kernels.affine import SCALES
from ..ops.numpy.kernels.products import rounded
from ..ops.numpy.kernels.records import LAYER, UNITS
from ..ops.numpy.kernels.tables import KINDS
from ..ops.numpy.kernels.vectors import BYTES, SLACK
from ..ops.reference.coupling import log_bound
from ..passes.context import current
from .plan import Plan


class ImagePlan(Plan):
    """The plan of a group for images of one dtype. kernels/tables.py describes `table` and `layers`.

    Args:
        specs: the specs of the group's layers, in order. All conditioners are stacks of convolutions.
        channels: C.
        dtype: the dtype of the arrays.
    """

    def __init__(self, specs, channels, dtype):
        super().__init__(specs, dtype)
        C, self.channels, self.lanes = channels, channels, BYTES // dtype.itemsize
        self.bounds = np.array([log_bound(spec.scale) if spec.conv else 0.0 for spec in specs])
        self.numbers, index, self.table = 1, [], np.zeros(len(specs), LAYER)
        for row, spec in zip(self.table, specs):
            row["kind"], row["state"], row["offset"] = (
                KINDS["convolutional" if spec.conv else spec.kind],
                len(self._states),
                self.numbers,
            )
            self._add_states(
                spec.conv.parameters if spec.conv else spec.states,
                np.dtype(np.int64) if spec.kind == "permute" else dtype,
            )
            if spec.kind == "scale":
                self.numbers += 3 * C
            elif spec.kind == "permute":
                row["order"] = len(index)
                index += range(C)
            elif not spec.conv:
                row["groups"] = spec.states[0].data.shape[0]  # reflections
                self.numbers += 2 * C * C
        self.size, layers = self.numbers, []  # of P, and of G, which has weights and biases as well
        for row, spec in zip(self.table, specs):
            if spec.conv:
                row["offset"], row["first"], row["last"] = (
                    self.size,
                    len(layers),
                    len(layers) + len(spec.conv.layers) - 1,
                )
                row["groups"], row["scale"] = spec.groups[1], SCALES[spec.scale[0]]
                for weights, bias in zip(spec.conv.parameters[::2], spec.conv.parameters[1::2]):
                    layer = np.zeros((), UNITS)
                    layer["weights"], layer["units"] = self.size, math.prod(bias.data.shape)
                    layer["bias"] = self.size + math.prod(weights.data.shape)
                    self.size = int(layer["bias"] + layer["units"])
                    layers.append(layer)
        self.layers, self.index = np.array(layers, UNITS), np.array(index or [0])
        nets = [spec.conv for spec in specs if spec.conv]
        self._networks = tuple(spec.conv.layers if spec.conv else None for spec in specs)
        #: as for a coupling: how many floats a tile needs for each position, the reach, and the number of weights
        self.floats = max(net.floats_per_position for net in nets) + 3 * rounded(C, self.lanes) + 8 * (C // 2)
        self.kept = sum(net.kept_per_position or net.floats_per_position for net in nets)  # numbers of a position
        self.reach, self.weights = max(net.reach for net in nets), self.size - self.numbers

    @staticmethod
    def does(specs):
        """Returns whether there are plans of such layers: all conditioners are stacks of convolutions, at least one."""
        return any(spec.conv for spec in specs) and all(spec.conv or not spec.conditioner for spec in specs)

    #: the text with which `explain` says why there is a plan, but not for these arrays or parameters
    condition = "an image is larger than a tile, or parameters lie elsewhere than the array"

    def takes(self, ops, X):
        """Returns whether compiled functions compute this group on arrays like X, whose tiles must be whole samples."""
        # The spatial axes of the convolutions' kernels; networks with 0 axes take any arrays.
        axes = max(len(shape) - 2 for layers in self._networks if layers for shape, _, _ in layers)
        return X.size > 0 and axes in (0, X.ndim - 2) and self.tiles(ops, X)[0].whole

    def tiles(self, ops, X):
        return ops.tiles(X.shape, self.floats, self.reach, self.weights)

    def forward_(self, group, ops, X, inverse):
        """Returns Z, logdet and an upper bound of the matrices' condition numbers; with `inverse`, X and its logdet."""
        cache, size = current().cache, self.kept * X.shape[0] * math.prod(X.shape[2:]) * self.dtype.itemsize
        tapes = None if cache is None else cache.place(group, size, self.weights / self.kept)
        return ops.fused_images_(self, X, inverse, tapes, None if tapes is None else cache.memory)

    def backward_(self, group, ops, dZ, Z, dlogdet, inverse):
        """Adds to the parameters' gradients; returns dX, X and the bound."""
        cache = current().cache
        return ops.fused_images_vjp_(self, dZ, Z, dlogdet, inverse, None if cache is None else cache.take(group))

    def for_tile(self, N, D, H, W, backward, tapes_apart):
        """Returns the tables for a tile of this shape; see `_plan`."""
        return _plan(self._networks, self.channels, self.dtype.itemsize, N, D, H, W, backward, tapes_apart)


@functools.lru_cache(maxsize=4096)
def _plan(networks, C, itemsize, N, D, H, W, backward, tapes_apart):
    """Makes the tables that compiled functions need for a tile of images (N, D, H, W, C).

    Returns:
        the plans of all conditioners in one table; for each layer, the rows at which its plan begins and ends, and the
        offset of its tape, which is 0 for all unless `tapes_apart`; the layout of `work`; and the sizes of `work`, of
        the tapes, and of each array of offsets.
    """
    lanes, plans = (
        BYTES // itemsize,
        [layers and convolutions.plan(layers, N, D, H, W, itemsize, backward) for layers in networks],
    )
    found, lengths = [plan for plan in plans if plan], [len(plan.table) if plan else 0 for plan in plans]
    ends, rows = np.cumsum(lengths), N * D * H * W * rounded(C, lanes) + SLACK
    sizes = (
        rows,
        rows,
        rows,
        max(C + 2, 4) * rounded(C, lanes) + SLACK,
        8 * (N * D * H * W * (C // 2) + SLACK),
        max(plan.backward if backward else plan.forward for plan in found),
    )
    layout = np.cumsum([0] + [rounded(size, lanes) for size in sizes])
    tapes = np.cumsum([0] + [rounded(plan.tape, lanes) if plan else 0 for plan in plans])
    starts = np.stack([ends - lengths, ends, tapes[:-1] if tapes_apart else 0 * ends], 1)
    return (
        np.concatenate([plan.table for plan in found]),
        starts,
        layout[:-1],
        int(layout[-1]),
        int(tapes[-1]) if tapes_apart else max(plan.tape for plan in found),
        max(plan.offsets for plan in found),
    )
