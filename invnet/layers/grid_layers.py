"""The layers that Exact computes with: the same maps, with the same parameters, on the numbers of a grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..core import InPlaceLayer, get_ops
from ..passes.context import current
from .channel_affine import ChannelAffine
from .compose import Chain, FactorOut
from .coupling import AdditiveCoupling, AffineCoupling
from .permute import Permute
from .squeeze import Squeeze

if TYPE_CHECKING:
    from typing import Any

    from ..core import Layer
    from ..typing import Array, Cond


def on_grid(layer: Any, limit: float) -> Layer:
    """Makes a layer on the grid that shares the parameters of `layer`.

    Args:
        layer: a layer that Exact takes.
        limit: the largest absolute value on the grid.

    Raises:
        TypeError: this kind of layer has no version on the grid.
    """
    if isinstance(layer, Chain):
        return Chain(*[on_grid(step, limit) for step in layer._folded])
    if isinstance(layer, FactorOut):
        return FactorOut(
            layer.channels, on_grid(layer.inner, limit), None if layer.prior is None else on_grid(layer.prior, limit)
        )
    if type(layer) in (AdditiveCoupling, AffineCoupling):
        return (GridAffine if type(layer) is AffineCoupling else GridAdditive)(layer, limit)
    if isinstance(layer, ChannelAffine):
        return GridMix(layer, limit)
    if isinstance(layer, (Permute, Squeeze)):
        return layer
    raise TypeError(
        f"Exact takes Chain, FactorOut, AffineCoupling, AdditiveCoupling, ActNorm, Conv1x1, Permute, Squeeze and "
        f"Unsqueeze; got {layer!r} within"
    )


class GridLayer(InPlaceLayer):
    """The base of layers on a grid.

    Args:
        layer: the layer whose map and parameters are used.
        limit: the largest absolute value on the grid.
    """

    def __init__(self, layer: Any, limit: float):
        self.layer, self._limit = layer, limit

    def check_shape(self, X: Array, name: str = "X") -> None:
        self.layer.check_shape(X, name)

    def _grid(self, X):
        return get_ops(X).grid(self._limit, X)


class GridAdditive(GridLayer):
    """The additive coupling z2 = x2 + round(t). It is one to one on the grid, so it needs no bits."""

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        return X, self.layer._run(X, cond, self._couple, current().corrections.put(self._tiles(X)))

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        return Z, self.layer._run(Z, cond, self._uncouple, current().corrections.take(self._tiles(Z)))

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        self.layer._run_vjp(dZ, Z, dlogdet, cond, self._couple_vjp, current().corrections.take(self._tiles(Z)))
        return dZ, Z

    def _tiles(self, X):
        return len(self.layer._tiles(get_ops(X), X))

    def _couple_vjp(self, ops, dz2, z2, h, dlogdet, note):
        # The layer's own backward_ rebuilds x2 with rounding errors, so it gets a copy; the gradient needs z2 only.
        dh = self.layer._transform.backward_(ops, dz2, ops.copy_channels_last(z2), h, dlogdet)
        self._uncouple(ops, z2, h, note)
        return dh

    def _couple(self, ops, x2, h, note):
        ops.add_on_grid_(x2, h, self._grid(x2))
        return 0.0

    def _uncouple(self, ops, z2, h, note):
        ops.subtract_on_grid_(z2, h, self._grid(z2))
        return 0.0


class GridAffine(GridAdditive):
    """The affine coupling z2 = round((x2 + round(t)) s). Bits tell which x2 it was, of those with the same z2."""

    def _couple(self, ops, x2, h, note):
        logdet, note.bits = ops.couple_on_grid_(x2, h, self.layer._transform.scale_and_bound, self._grid(x2))
        return logdet

    def _uncouple(self, ops, z2, h, note):
        return ops.uncouple_on_grid_(z2, h, self.layer._transform.scale_and_bound, self._grid(z2), note.bits)


class GridMix(GridLayer):
    """z = round(M x) + round(b): a scale |det M| ** (1 / C), then a matrix of determinant 1 or -1, by lifting.

    A diagonal M is a scale for each channel. A scale below 1 needs correction bits.
    """

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        M, b, logdet, _ = self.layer.affine()
        ops, grid, s, lifting = get_ops(X), self._grid(X), *self._parts(M, logdet)

        def work(turn):
            tile, note = turn
            x = tile.core(X)
            if s is not None:
                note.bits = ops.scale_on_grid_(x, s, grid)
            if lifting is not None:
                ops.lift_(x, lifting, grid)
            ops.add_on_grid_(x, b, grid)

        tiles = self._tiles(X)
        ops.map_tiles(work, list(zip(tiles, current().corrections.put(len(tiles)))), lambda _: None)  # type: ignore[has-type]
        return X, self.layer._logdet(logdet, X)

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        M, b, logdet, _ = self.layer.affine()
        self._rebuild(Z, M, b, logdet)
        return Z, self.layer._logdet(-logdet, Z)

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        M, b, logdet, pullback = self.layer.affine()
        self._rebuild(Z, M, b, logdet)
        ops = get_ops(Z)
        one = ops.xp.ones_like(M) if M.ndim == 1 else ops.diagonal_matrix(ops.xp.ones_like(b))
        dM, db = ops.mix_vjp_(dZ, Z, M, one, 0 * b)  # the identity in place of the inverse leaves X unchanged
        pullback(dM, db, self.layer._dlogdet(dlogdet, Z))
        return dZ, Z

    def _rebuild(self, Z, M, b, logdet):
        ops, grid, s, lifting = get_ops(Z), self._grid(Z), *self._parts(M, logdet)

        def work(turn):
            tile, note = turn
            z = tile.core(Z)
            ops.subtract_on_grid_(z, b, grid)
            if lifting is not None:
                ops.unlift_(z, lifting, grid)
            if s is not None:
                ops.unscale_on_grid_(z, s, grid, note.bits)

        tiles = self._tiles(Z)
        ops.map_tiles(work, list(zip(tiles, current().corrections.take(len(tiles)))), lambda _: None)

    def _parts(self, M, logdet):
        """Returns the scale (C,), None if it is 1; and the Lifting, None if M is diagonal."""
        ops, C = get_ops(M), M.shape[0]
        if M.ndim == 1:
            return M, None
        g = math.exp(float(logdet) / C)
        return None if g == 1 else ops.full(C, g, M), ops.lifting(M)

    def _tiles(self, X):
        C = X.shape[1]
        return get_ops(X).tiles(X.shape, 8 * C, 0, C * C)
