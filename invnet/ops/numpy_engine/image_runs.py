"""Runs of layers of images: one compiled call for all layers, tile by tile."""

import weakref

import numpy as np

from .. import threads
from ..memory import passing
from ...passes.current import current
from .compiled import image_runs
from .image_program import ImageProgram
from .networks import five

_programs = weakref.WeakKeyDictionary()  # of runs: a copied or unpickled run has none


class ImageRuns:
    def run_(self, run, X, cond, inverse):
        program, tiles = self._image_program(run, X, cond)
        if program is None:
            return super().run_(run, X, cond, inverse)
        P, same, bound, x = *self._prepared(program, X, inverse), five(X)
        if inverse:
            run.check_conditions(bound, X.dtype)
        logdet, kept = self.fill(X.shape[0], -same if inverse else same, X), current.kept
        size = program.kept * X[:, 0].size * X.dtype.itemsize
        saved = None if kept is None else kept.place(run, size, program.weights / program.kept)
        memory = None if saved is None else kept.memory

        def work(tile):
            return _through(program, P, not inverse, x[tile.samples], logdet[tile.samples], memory=memory)

        threads.map_tiles(work, tiles, (lambda _: None) if saved is None else saved.append)
        return X, logdet

    def run_backward_(self, run, dZ, Z, dlogdet, cond, inverse):
        program, tiles = self._image_program(run, Z, cond)
        if program is None or not program.gradients_located(run.gradients_version):
            return super().run_backward_(run, dZ, Z, dlogdet, cond, inverse)
        P, same, bound, dz, z = *self._prepared(program, Z, True), five(dZ), five(Z)
        run.check_conditions(bound, Z.dtype)
        logdet, kept = self.fill(Z.shape[0], same if inverse else -same, Z), current.kept  # of the way back
        saved = (None if kept is None else kept.take(run)) or [None] * len(tiles)

        G, apart, free = np.zeros(program.size, Z.dtype), threads.workers(len(tiles)) > 1, []

        def work(turn):
            (tile, tapes), part = turn, G
            if apart:  # in memory of a part that has been added: new pages take as long as a tenth of a step at hidden 512
                part = free.pop() if free else np.empty_like(G)
                part[...] = 0
            _through(program, P, inverse, z[tile.samples], logdet[tile.samples], dz[tile.samples], dlogdet[tile.samples], part, tapes)
            return part

        def commit(part):  # in the order of tiles, whose own sums are added in that order too where there is one thread: the same bits
            if apart:
                np.add(G, part, out=G)
                free.append(part)

        threads.map_tiles(work, list(zip(tiles, saved)), commit)
        total = float(dlogdet.sum()) * Z[0, 0].size
        image_runs.pulled(Z.dtype.char, program.reflections)(P, G, -total if inverse else total, program.addresses, program.gradients, program.table,
                                                             program.layers, Z.shape[1], program.reflections)
        if current.monitor is not None:
            current.monitor.rebuilt_logdet(run, -logdet)
        return dZ, Z

    @staticmethod
    def _prepared(program, X, inverses):
        """What parameters make, the log-determinant that is the same for every sample, and a bound of the mixes' condition numbers."""
        P = np.empty(program.numbers, X.dtype)
        same, bound = image_runs.prepared(X.dtype.char, program.reflections)(P, program.addresses, program.table, program.layers, program.index,
                                                                             X.shape[1], inverses, program.reflections)
        return P, same * X[0, 0].size, bound

    def _image_program(self, run, X, cond):
        """How compiled functions do a run on such images, and tiles of them, of whole samples; or None where they do not."""
        if X.ndim == 2 or not X.size or cond is not None:
            return None, None
        program = _programs.get(run)
        if program is None or program.dtype != X.dtype or not program.current(run.stages_of_layers):
            of_run = run.stages_of_layers
            if of_run is None or not all(stage.owner is None or stage.convolutions for stage in of_run):
                return None, None
            if not any(stage.convolutions for stage in of_run):
                return None, None
            program = _programs[run] = ImageProgram(of_run, X.shape[1], X.dtype)
        if program.ndim not in (0, X.ndim - 2) or not program.located(run.version):
            return None, None
        tiles = self.tiles(X.shape, program.floats, program.reach, program.weights)
        return (program, tiles) if tiles[0].whole else (None, None)


def _through(program, P, to_z, x, logdet, dx=None, dlogdet=None, G=None, tapes=None, memory=None):
    """A tile's part of a pass, in place; with gradients where these are given. Gives the tapes of conditioners, which last in `memory`."""
    back, kept = dx is not None, tapes is not None
    tables, starts, places, floats, lasting, offsets = program.plan(*x.shape[:4], back or memory is not None, kept or memory is not None)
    dx, dlogdet, G = (dx, dlogdet, G) if back else (x, logdet, P)  # that are not looked at
    if not kept:
        tapes = passing((lasting,), x.dtype) if memory is None else memory.take((lasting,), x.dtype)
    image_runs.through(x.dtype.char)(P, program.addresses, program.table, program.bounds, tables, starts, program.index, to_z, back, kept, dx, x,
                                     dlogdet, logdet, G, tapes, passing((floats,), x.dtype), passing((4, offsets), _INT), places)
    return tapes


_INT = np.dtype(np.int64)
