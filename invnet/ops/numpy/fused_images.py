"""Groups of layers of images: one compiled call for all layers, tile by tile."""

import numpy as np

from .. import threads
from ..memory import passing
from .conv_stack import five
from .kernels import fused_images


class FusedImages:
    """`plan` is an ImagePlan of invnet.fused: tables of numbers."""

    def fused_images_(self, plan, X, inverse, tapes, memory):
        """With `tapes`, a list, adds to it what conditioners computed, in `memory`."""
        P, same, bound, x = *_prepared(plan, X, inverse), five(X)
        logdet = self.full(X.shape[0], -same if inverse else same, X)

        def work(tile):
            return _through(plan, P, not inverse, x[tile.samples], logdet[tile.samples], memory=memory)

        threads.map_tiles(work, plan.tiles(self, X), (lambda _: None) if tapes is None else tapes.append)
        return X, logdet, bound

    def fused_images_vjp_(self, plan, dZ, Z, dlogdet, inverse, tapes):
        P, _, bound, dz, z = *_prepared(plan, Z, True), five(dZ), five(Z)
        logdet, tiles = np.empty(Z.shape[0], Z.dtype), plan.tiles(self, Z)  # of the way back, which nobody asks for
        G, apart, free = np.zeros(plan.size, Z.dtype), threads.workers(len(tiles)) > 1, []

        def work(turn):
            (tile, tape), part = turn, G
            if (
                apart
            ):  # in memory of a part that has been added: new pages take as long as a tenth of a step at hidden 512
                part = free.pop() if free else np.empty_like(G)
                part[...] = 0
            _through(
                plan,
                P,
                inverse,
                z[tile.samples],
                logdet[tile.samples],
                dz[tile.samples],
                dlogdet[tile.samples],
                part,
                tape,
            )
            return part

        def commit(
            part,
        ):  # in the order of tiles, whose own sums are added in that order too where there is one thread: the same bits
            if apart:
                np.add(G, part, out=G)
                free.append(part)

        threads.map_tiles(work, list(zip(tiles, tapes or [None] * len(tiles))), commit)
        total = float(dlogdet.sum()) * Z[0, 0].size
        fused_images.parameter_gradients(Z.dtype.char, plan.reflections)(
            P,
            G,
            -total if inverse else total,
            plan.addresses,
            plan.gradients,
            plan.table,
            plan.layers,
            Z.shape[1],
            plan.reflections,
        )
        return dZ, Z, bound


def _prepared(plan, X, inverses):
    """What parameters make, the log-determinant that is the same for every sample, and a bound of the matrices'
    condition numbers.
    """
    P = np.empty(plan.numbers, X.dtype)
    same, bound = fused_images.prepared(X.dtype.char, plan.reflections)(
        P, plan.addresses, plan.table, plan.layers, plan.index, X.shape[1], inverses, plan.reflections
    )
    return P, same * X[0, 0].size, bound


def _through(plan, P, to_z, x, logdet, dx=None, dlogdet=None, G=None, tapes=None, memory=None):
    """A tile's part of a pass, in place; with gradients where these are given. Gives the tapes of conditioners, which
    last in `memory`.
    """
    back, kept = dx is not None, tapes is not None
    tables, starts, layout, floats, lasting, offsets = plan.for_tile(
        *x.shape[:4], back or memory is not None, kept or memory is not None
    )
    dx, dlogdet, G = (dx, dlogdet, G) if back else (x, logdet, P)  # that are not looked at
    if not kept:
        tapes = passing((lasting,), x.dtype) if memory is None else memory.take((lasting,), x.dtype)
    fused_images.through(x.dtype.char)(
        P,
        plan.addresses,
        plan.table,
        plan.bounds,
        tables,
        starts,
        plan.index,
        to_z,
        back,
        kept,
        dx,
        x,
        dlogdet,
        logdet,
        G,
        tapes,
        passing((floats,), x.dtype),
        passing((4, offsets), _INT),
        layout,
    )
    return tapes


_INT = np.dtype(np.int64)
