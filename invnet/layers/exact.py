"""Exact: a network on a grid of fixed-point numbers, whose backward rebuilds every state to the bit."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import shown
from ..core import InPlaceLayer, Layer, get_ops, given_condition
from ..ops.grid import is_power_of_two
from ..passes.context import in_own_context, within
from .corrections import Corrections, Nearest
from .grid_layers import on_grid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..typing import Array, Cond


class Exact(InPlaceLayer):
    """The map of `layer` with every state rounded to a grid, and the bits kept that rounding loses: X is rebuilt to the
    bit at any depth.

    The numbers of the grid are the multiples of limit / 2^24 in float32, of limit / 2^50 in float64, up to `limit` in
    absolute value. X is rounded to it first, and Z lies on it. Logdet and the gradients are those of `layer`, without
    rounding, at these states.

    Where a layer contracts, several states become one; `forward` keeps which of them it was, about log2(1/s) bits for a
    scale s < 1, until the next forward. `backward` takes the Z of the last forward. Any other Z is rebuilt where this
    needs no bits, as with additive couplings and orthogonal mixes, and refused elsewhere. `inverse` takes any Z and
    gives the nearest X.

    `encode` and `decode` are the same map without loss between integers, the multiples of the grid's step.

    Args:
        layer: a Chain, as Glow and RealNVP are, or one of what it may hold: AffineCoupling, AdditiveCoupling, ActNorm,
            Conv1x1, Permute, Squeeze, Unsqueeze, FactorOut, Chain.
        limit: the largest absolute value of a state, a power of two.

    Raises:
        TypeError: another layer is within.
        ValueError: a state leaves the grid; a Z needs bits that are not there.

    References:
        MacKay, Vicol, Ba & Grosse, Reversible Recurrent Neural Networks, 2018 (what is forgotten must be stored). Hao &
        Shi, Matrix factorizations for reversible integer mapping, 2001 (lifting). Hoogeboom et al., Integer Discrete
        Flows, 2019.
    """

    uses_condition = False

    def __init__(self, layer: Layer, limit: float = 256.0):
        if not isinstance(layer, Layer):
            raise TypeError(f"Exact takes a Layer; got {shown(layer)}")
        if not is_power_of_two(limit):
            raise ValueError(f"limit is a power of two, as 256 or 0.5; got {shown(limit)}")
        self.layer, self.limit = layer, float(limit)
        self._corrections: Corrections | None = None
        self._on_grid  # refuses what cannot be made exact

    @property
    def _on_grid(self):
        return self.derived("on a grid", lambda: on_grid(self.layer, self.limit))

    @property
    def halvings(self) -> int:
        return self.layer.halvings

    def explained(self, X: Array, cond: Cond) -> Iterator:
        for layer in self.layer.layers_within():
            yield layer, "alone", "Exact computes on a grid"

    def parts_to_show(self, shape: tuple[int, ...]) -> list:
        return [("layer", self.layer, shape)]

    #: its states are not rebuilt with an error, and are not measured
    is_composite = False

    @property
    def correction_bytes(self) -> int:
        """How many bytes of correction bits the last forward left."""
        return self._corrections.nbytes if self._corrections else 0

    def check_shape(self, X: Array, name: str = "X") -> None:
        self.layer.check_shape(X, name)

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        ops, self._corrections = get_ops(X), None  # frees what an earlier call left
        ops.snap_(X, ops.grid(self.limit, X))
        corrections = Corrections(ops.checksum(X))
        with within(corrections=corrections, monitor=None):  # what is rebuilt to the bit needs no monitor
            Z, logdet = self._on_grid.forward_(X, cond)
        corrections.mark, self._corrections = ops.checksum(Z), corrections
        return Z, logdet

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        ops = get_ops(Z)
        ops.snap_(Z, ops.grid(self.limit, Z))
        with within(corrections=Nearest(), monitor=None):
            return self._on_grid.inverse_logdet_(Z, cond)

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        ops, kept = get_ops(Z), self._corrections
        ops.snap_(Z, ops.grid(self.limit, Z))
        if kept is None or kept.mark != ops.checksum(Z):
            kept = Corrections()
        with within(corrections=kept.copy(), monitor=None):
            dX, X = self._on_grid.backward_(dZ, Z, dlogdet, cond)
        self._confirm(ops, X, kept)
        return dX, X

    def initialize_(self, X: Array, cond: Cond = None) -> Array:
        ops = get_ops(X)
        self.layer.initialize_(ops.copy_channels_last(X), cond)
        return self.forward_(X, cond)[0]

    @in_own_context
    def encode(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        """Z and the correction bits of integers X: the same map without loss, in steps of the grid.

        Args:
            X: integers, (N, C, *spatial): x = X * step with step = limit / 2^24 in float32, limit / 2^50 in float64.

        Returns:
            Z, an array of int64 of X's shape, and bits, a NumPy array of uint8, from which `decode` makes X again, with
            an engine and on a processor whose floating-point results are the same bits.
        """
        ops = get_ops(X)
        floats = self._floats(ops, X)
        cond = given_condition(self, floats, cond)
        corrections = Corrections(_checksum(ops, X))
        with ops.at_work(), within(corrections=corrections):
            Z, _ = self._on_grid.forward_(floats, cond)
        return ops.integers(Z, ops.grid(self.limit, Z)), corrections.packed(ops)

    @in_own_context
    def decode(self, Z: Array, bits: int | None, cond: Cond = None) -> Array:
        """The integers X of which `encode` made Z and bits.

        Raises:
            ValueError: it is not sure that these are they.
        """
        ops = get_ops(Z)
        floats, corrections = self._floats(ops, Z), Corrections.unpacked(bits, ops)
        cond = given_condition(self, floats, cond)
        with ops.at_work(), within(corrections=corrections):
            X, _ = self._on_grid.inverse_logdet_(floats, cond)
        X = ops.integers(X, ops.grid(self.limit, X))
        if _checksum(ops, X) != corrections.source:
            raise ValueError(
                "what was decoded is not what was encoded: the parameters, the condition, Z or the bits are others, or "
                "this "
                "machine computes other bits"
            )
        return X

    def _floats(self, ops, X):
        """The numbers of the grid that integers stand for."""
        if not ops.xp.isdtype(X.dtype, "integral"):
            raise TypeError(f"encode and decode take integers, which count the steps of the grid; got dtype {X.dtype}")
        floats = ops.copy_channels_last(ops.astype(X, "float64" if self.dtype is None else self.dtype))
        grid = ops.grid(self.limit, floats)
        if floats.shape[0]:
            grid.check(float(ops.xp.max(ops.xp.abs(X))))
        floats *= grid.step
        self.check(floats)
        return floats

    @staticmethod
    def _confirm(ops, X, corrections):
        if corrections.source not in (None, ops.checksum(X)):
            raise RuntimeError(
                "the X that was rebuilt is not that of forward, and the gradients just added are wrong: between the "
                "two the "
                "parameters or the condition changed, or a conditioner does not give the same bits twice"
            )


def _checksum(ops, X):
    return zlib.crc32(np.ascontiguousarray(ops.to_numpy(X), "<i8"))
