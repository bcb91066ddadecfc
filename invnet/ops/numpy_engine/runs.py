"""Runs of layers of vectors: one compiled call for all layers."""

import functools
import weakref

import numpy as np

from .. import threads
from ..memory import passing
from ...passes.current import current
from .compiled import runs
from .program import Program

#: Rows of a part: at least and at most.
ROWS = 256, 1024
#: Multiplications of a part that are worth the waking of a thread.
WORK = 1 << 24

_programs = weakref.WeakKeyDictionary()  # of runs: a copied or unpickled run has none


class Runs:
    def run_(self, run, X, cond, inverse):
        program = self._program(run, X, cond)
        if program is None:
            return super().run_(run, X, cond, inverse)
        logdet, tiles = self.fill(X.shape[0], 0.0, X), _tiles(X.shape[0], program.size)
        kernel = runs.forward(X.dtype.char, program.reflections)
        places, size = program.places(tiles[0].stop, False)

        def work(tile):
            P = np.empty(program.size, X.dtype)
            return kernel(P, program.addresses, program.parts, program.stages, program.limits, program.layers, program.index, inverse, program.reflections,
                          X[tile], logdet[tile], passing((size,), X.dtype), places)

        bounds = []
        threads.map_tiles(work, tiles, bounds.append)
        if inverse:
            run.check_conditions(bounds[0], X.dtype)
        return X, logdet

    def run_backward_(self, run, dZ, Z, dlogdet, cond, inverse):
        program = self._program(run, Z, cond)
        if program is None or not program.gradients_located(run.gradients_version):
            return super().run_backward_(run, dZ, Z, dlogdet, cond, inverse)
        tiles, total, bounds = _tiles(Z.shape[0], program.size), float(dlogdet.sum()), []
        kernel, total = runs.backward(Z.dtype.char, program.reflections), -total if inverse else total
        places, size = program.places(tiles[0].stop, True)
        logdet = self.fill(Z.shape[0], 0.0, Z)

        def work(tile, parts, G, alone):
            bounds.append(kernel(np.empty_like(G), G, program.addresses, program.gradients, parts, program.stages, program.limits, program.layers,
                                 program.index, inverse, alone, program.reflections, dZ[tile], Z[tile], dlogdet[tile], logdet[tile], total,
                                 passing((size,), Z.dtype), places))
            return G

        if len(tiles) == 1:
            threads.map_tiles(lambda tile: work(tile, program.parts, np.empty(program.size, Z.dtype), True), tiles, lambda _: None)
        else:
            for parts in program.parts_apart[::1 if inverse else -1]:
                G = None

                def commit(sums):
                    nonlocal G
                    G = sums if G is None else np.add(G, sums, out=G)

                threads.map_tiles(lambda tile: work(tile, parts, np.empty(program.size, Z.dtype), False), tiles, commit)
                runs.add_gradients(Z.dtype.char, program.reflections)(
                    np.empty_like(G), G, program.addresses, program.gradients, program.stages[slice(*parts)], program.layers, program.index,
                    total, Z.shape[1], program.reflections)
        run.check_conditions(max(bounds), Z.dtype)
        if current.monitor is not None:
            current.monitor.rebuilt_logdet(run, -logdet)
        return dZ, Z

    def _program(self, run, X, cond):
        """How compiled functions do a run on such arrays, or None: on images, with a condition, or with activations to keep."""
        if X.ndim != 2 or cond is not None or current.kept is not None:
            return None
        program = _programs.get(run)
        if program is None or program.dtype != X.dtype or not program.current(run.stages_of_layers):
            of_run = run.stages_of_layers
            if of_run is None or not all(stage.owner is None or stage.units for stage in of_run):
                return None  # a conditioner of another kind, or of images
            program = _programs[run] = Program(of_run, X.shape[1], X.dtype)
        return program if program.located(run.version) else None


@functools.lru_cache(maxsize=1024)
def _tiles(N, numbers):
    """Parts of N rows, each worth the waking of a thread with so many parameters."""
    least, most = ROWS
    size = min(max(WORK // numbers, least), most)
    return tuple(slice(i, min(i + size, N)) for i in range(0, max(N, 1), size))
