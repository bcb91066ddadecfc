"""Exact: a network on a grid of fixed-point numbers. Its backward pass rebuilds every state to the bit."""

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
    """The map of `layer` with every state rounded to a grid. X is rebuilt to the bit at any depth.

    The grid consists of the multiples of limit / 2^24 in float32, and of limit / 2^50 in float64, up to `limit` in
    absolute value. X is rounded to the grid first, and Z lies on it. Logdet and the gradients are those of `layer` at
    these states, without rounding.

    If a layer contracts, several states are mapped to one. `forward` stores which of them it was, in about log2(1/s)
    bits for a scale s < 1, until the next forward pass. So `backward` needs the Z of the last forward pass. Another Z
    is rebuilt if this needs no bits, as with additive couplings and orthogonal mixes; otherwise it is an error.
    `inverse` takes any Z and returns the nearest X.

    `encode` and `decode` are the same map between integers, which count steps of the grid, without loss.

    Args:
        layer: an AffineCoupling, AdditiveCoupling, ActNorm, Conv1x1, Permute, Squeeze or Unsqueeze; or a Chain or
            FactorOut of such layers, as Glow and RealNVP are.
        limit: the largest absolute value of a state, a power of two.

    Raises:
        TypeError: `layer` is or contains another kind of layer.
        ValueError: `limit` is no power of two; a state exceeds it; or bits that Z needs are missing.
        RuntimeError: in backward, the parameters or the condition have changed since the forward pass.

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
        self._on_grid  # raises TypeError if the layer cannot be made exact

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

    #: drift is not measured, since states are rebuilt without error
    is_composite = False

    @property
    def correction_bytes(self) -> int:
        """How many bytes of correction bits the last forward pass stored."""
        return self._corrections.nbytes if self._corrections else 0

    def check_shape(self, X: Array, name: str = "X") -> None:
        self.layer.check_shape(X, name)

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        ops, self._corrections = get_ops(X), None  # frees the bits of an earlier call
        ops.snap_(X, ops.grid(self.limit, X))
        corrections = Corrections(ops.checksum(X))
        with within(corrections=corrections, monitor=None):  # states are rebuilt to the bit, so no drift is measured
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
        """Maps integers X to integers Z and correction bits, without loss.

        Args:
            X: integers (N, C, *spatial), which count steps of the grid: x = X * step with step = limit / 2^24 in
                float32 and limit / 2^50 in float64.
            cond: the condition, or None.

        Returns:
            Z, int64 of the shape of X, and bits, a NumPy array of uint8. `decode` makes X from them, if its engine and
            processor compute the same bits.

        Raises:
            TypeError: X has no integers.
            ValueError: a number leaves the grid.
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
        """Maps the Z and bits that `encode` returned back to the integers X.

        Args:
            Z: int64, (N, C, *spatial).
            bits: the NumPy array of uint8.
            cond: the condition that encode had.

        Raises:
            ValueError: the checksum of the result differs: Z, the bits, the condition, the parameters or the
                processor's arithmetic are not those of `encode`.
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
                "this machine computes other bits"
            )
        return X

    def _floats(self, ops, X):
        """Converts integers, which count steps of the grid, to the numbers on the grid."""
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
                "two the parameters or the condition changed, or a conditioner does not give the same bits twice"
            )


def _checksum(ops, X):
    return zlib.crc32(np.ascontiguousarray(ops.to_numpy(X), "<i8"))
