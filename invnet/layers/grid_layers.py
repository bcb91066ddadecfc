"""What Exact makes of layers: the same maps, with the same parameters, on numbers of a grid."""

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
    """A layer on the grid up to `limit` that shares the parameters of `layer`.

    Raises:
        TypeError: there is none for a layer of this kind.
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
        f"Unsqueeze; "
        f"got {layer!r} within"
    )


class GridLayer(InPlaceLayer):
    """What these layers share: the layer whose map this is, and the grid.

    Args:
        layer: with the parameters.
        limit: of the grid.
    """

    def __init__(self, layer: Any, limit: float):
        self.layer, self._limit = layer, limit

    def check_shape(self, X: Array, name: str = "X") -> None:
        self.layer.check_shape(X, name)

    def _grid(self, X):
        return get_ops(X).grid(self._limit, X)


class GridAdditive(GridLayer):
    """z2 = x2 + round(t): one to one."""

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
        # What the layer itself would make of z2 is near x2; its gradient needs z2 alone.
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
    """z2 = round((x2 + round(t)) s), with the bits that tell x2 from others of the same z2."""

    def _couple(self, ops, x2, h, note):
        logdet, note.bits = ops.couple_on_grid_(x2, h, self.layer._transform.scale_and_bound, self._grid(x2))
        return logdet

    def _uncouple(self, ops, z2, h, note):
        return ops.uncouple_on_grid_(z2, h, self.layer._transform.scale_and_bound, self._grid(z2), note.bits)


class GridMix(GridLayer):
    """z = round(M x) + round(b) by lifting: x times |det M| ** (1 / C) first, then a matrix of determinant 1 or -1.

    A diagonal M is a scale for each channel. Bits are needed where a scale is below one.
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
        dM, db = ops.mix_vjp_(dZ, Z, M, one, 0 * b)  # by the matrix one X stays as it is
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
        """The scale (C,), or None where it is one, and the Lifting, or None for a diagonal."""
        ops, C = get_ops(M), M.shape[0]
        if M.ndim == 1:
            return M, None
        g = math.exp(float(logdet) / C)
        return None if g == 1 else ops.full(C, g, M), ops.lifting(M)

    def _tiles(self, X):
        C = X.shape[1]
        return get_ops(X).tiles(X.shape, 8 * C, 0, C * C)
