"""Runs of layers of vectors: one compiled call for all layers."""

import weakref

import numpy as np

from .. import threads
from ..memory import passing
from ..stage import stages_of
from ...passes.kept import current
from .compiled import runs, stages
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
        tiles, P = self._tiles_of_run(X, program.size), np.empty(program.size, X.dtype)
        same, bound = stages.prepare(X.dtype.char)(P, program.addresses, program.table, program.layers, program.index, X.shape[1])
        if inverse:
            run.check_conditions(bound, X.dtype)
        logdet, kernel = self.fill(X.shape[0], -same if inverse else same, X), runs.forward(X.dtype.char)
        places, size = program.places(X[tiles[0]].shape[0], False)

        def work(tile):
            kernel(P, program.table, program.limits, program.layers, program.index, inverse, X[tile], logdet[tile], passing((size,), X.dtype), places)

        threads.map_tiles(work, tiles, lambda _: None)
        return X, logdet

    def run_backward_(self, run, dZ, Z, dlogdet, cond, inverse):
        program = self._program(run, Z, cond)
        if program is None:
            return super().run_backward_(run, dZ, Z, dlogdet, cond, inverse)
        char, tiles, P = Z.dtype.char, self._tiles_of_run(Z, program.size), np.empty(program.size, Z.dtype)
        _, bound = stages.prepare(char)(P, program.addresses, program.table, program.layers, program.index, Z.shape[1])
        run.check_conditions(bound, Z.dtype)
        kernel, (places, size), G = runs.backward(char), program.places(Z[tiles[0]].shape[0], True), None

        def work(tile):
            part = np.zeros(program.size, Z.dtype)
            kernel(P, program.table, program.limits, program.layers, program.index, inverse, dZ[tile], Z[tile], dlogdet[tile], part,
                   passing((size,), Z.dtype), places)
            return part

        def commit(part):
            nonlocal G
            G = part if G is None else np.add(G, part, out=G)

        threads.map_tiles(work, tiles, commit)
        total = float(dlogdet.sum())
        stages.pull(char)(P, G, -total if inverse else total, program.addresses, program.gradients, program.table, program.layers, Z.shape[1])
        return dZ, Z

    def _program(self, run, X, cond):
        """How compiled functions do a run on such arrays, or None: on images, with a condition, or with activations to keep."""
        if X.ndim != 2 or cond is not None or current() is not None:
            return None
        program = _programs.get(run)
        if program is None or program.dtype != X.dtype or not program.current():
            stages_of_layers = [stages_of(layer) for layer in run.layers]
            if not all(stages_of_layers):  # a coupling got a conditioner of another kind
                return None
            program = _programs[run] = Program(sum(stages_of_layers, []), X.shape[1], X.dtype)
        return program if program.located(run.version) else None

    @staticmethod
    def _tiles_of_run(X, numbers):
        """Parts of the rows, each worth the waking of a thread with so many parameters."""
        least, most = ROWS
        size = min(max(WORK // numbers, least), most)
        return [slice(i, i + size) for i in range(0, max(X.shape[0], 1), size)]
