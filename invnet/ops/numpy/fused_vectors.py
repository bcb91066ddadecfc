"""Groups of layers of vectors: one compiled call for all layers."""

import functools

import numpy as np

from .. import threads
from ..memory import passing
from .kernels import fused_vectors

#: Rows of a tile: at least and at most.
ROWS = 256, 1024
#: Multiplications of a tile that are worth the waking of a thread.
WORK = 1 << 24


class FusedVectors:
    """`plan` is a VectorPlan of invnet.fused: tables of numbers."""

    def fused_vectors_(self, plan, X, inverse):
        logdet, tiles = self.full(X.shape[0], 0.0, X), _tiles(X.shape[0], plan.size)
        kernel = fused_vectors.forward(X.dtype.char, plan.reflections)
        layout, size = plan.layout(tiles[0].stop, False)

        def work(tile):
            P = np.empty(plan.size, X.dtype)
            return kernel(
                P,
                plan.addresses,
                plan.parts,
                plan.table,
                plan.bounds,
                plan.layers,
                plan.index,
                inverse,
                plan.reflections,
                X[tile],
                logdet[tile],
                passing((size,), X.dtype),
                layout,
            )

        bounds = []
        threads.map_tiles(work, tiles, bounds.append)
        return X, logdet, bounds[0]

    def fused_vectors_vjp_(self, plan, dZ, Z, dlogdet, inverse):
        tiles, total, bounds = _tiles(Z.shape[0], plan.size), float(dlogdet.sum()), []
        kernel, total = fused_vectors.backward(Z.dtype.char, plan.reflections), -total if inverse else total
        layout, size = plan.layout(tiles[0].stop, True)
        logdet = np.empty(Z.shape[0], Z.dtype)  # of the way back, which nobody asks for

        def work(tile, parts, G, alone):
            bounds.append(
                kernel(
                    np.empty_like(G),
                    G,
                    plan.addresses,
                    plan.gradients,
                    parts,
                    plan.table,
                    plan.bounds,
                    plan.layers,
                    plan.index,
                    inverse,
                    alone,
                    plan.reflections,
                    dZ[tile],
                    Z[tile],
                    dlogdet[tile],
                    logdet[tile],
                    total,
                    passing((size,), Z.dtype),
                    layout,
                )
            )
            return G

        if len(tiles) == 1:
            threads.map_tiles(
                lambda tile: work(tile, plan.parts, np.empty(plan.size, Z.dtype), True), tiles, lambda _: None
            )
        else:
            for parts in plan.parts_apart[:: 1 if inverse else -1]:
                G = None

                def commit(sums):
                    nonlocal G
                    G = sums if G is None else np.add(G, sums, out=G)

                threads.map_tiles(lambda tile: work(tile, parts, np.empty(plan.size, Z.dtype), False), tiles, commit)
                fused_vectors.add_gradients(Z.dtype.char, plan.reflections)(
                    np.empty_like(G),
                    G,
                    plan.addresses,
                    plan.gradients,
                    plan.table[slice(*parts)],
                    plan.layers,
                    plan.index,
                    total,
                    Z.shape[1],
                    plan.reflections,
                )
        return dZ, Z, max(bounds)


@functools.lru_cache(maxsize=1024)
def _tiles(N, numbers):
    """Parts of N rows, each worth the waking of a thread with so many parameters."""
    least, most = ROWS
    size = min(max(WORK // numbers, least), most)
    return tuple(slice(i, min(i + size, N)) for i in range(0, max(N, 1), size))
