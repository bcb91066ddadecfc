"""The NumPy engine: compiled networks, mixes and couplings, and tiles that worker threads share."""

import functools
import math
import weakref
import zlib

import array_api_compat.numpy
import numpy as np

from .. import threads, tile
from ..lifting import Lifting
from ..memory import Pool, in_tile, passing, scratch
from ..reference import LEAST, Ops
from ..reference.fixed_point import MISSING
from ..stage import stages_of
from ...passes.kept import current
from . import bending, convolutions, fixed_point, kernels, mix, runs, stages
from .program import Program
from .vectors import BYTES

# A tile is a few images: a part of the batch that leaves work for some threads, but with multiplications enough to be worth
# the waking of one, and positions enough for a matrix product to reach its rate. Where one image needs more memory than a
# tile may have, a tile is a block of it.
TILES, TILE_WORK, TILE_POSITIONS, TILE_BYTES = 4, 1 << 24, 2048, 28 << 20
#: Bytes from which part of the channels is taken out in place: a copy of less is faster.
SPLIT_IN_PLACE = 8 << 20
#: Numbers of a pass over all parameters: what an update computes on the way stays in cache. Of Adam on 174,000 this halves the
#: time, 1.1 ms, within a step of training.
BLOCK = 1 << 14
#: Of an element-wise or planar layer: 0.2 ms and more, where the waking of a thread takes 0.1.
ROWS = 8192
#: Of a run of vector layers: at least and at most.
RUN_ROWS = 256, 1024


class NumpyOps(Ops):
    name = "numpy"

    def __init__(self):
        super().__init__(array_api_compat.numpy)
        self._programs = weakref.WeakKeyDictionary()  # of runs: a copied or unpickled run has none

    @classmethod
    def of(cls, array):
        return _numpy

    @classmethod
    def on(cls, device):
        if device:
            raise ValueError(f"NumPy's arrays lie in the host's memory, and its engine is \"numpy\"; got \"numpy:{device}\"")
        return _numpy

    # ---- arrays

    def is_float(self, X):
        return X.dtype.kind == "f" and X.dtype.itemsize in (4, 8)

    def same_dtype(self, a, b):
        return a == b or (a.kind, a.itemsize) == (b.kind, b.itemsize)  # byte order is mended by fresh

    def astype(self, X, dtype):
        return X.astype(dtype, copy=False)

    def asarray(self, data, like):
        return np.asarray(data, dtype=like.dtype)

    def from_numpy(self, data):
        return np.array(data)

    def to_numpy(self, X):
        return np.asarray(X)

    def fill(self, N, value, like):
        return np.full(N, value, like.dtype.newbyteorder("="))

    def empty(self, shape, like):
        return scratch(shape, like.dtype)

    def product(self, A, B):
        return np.matmul(A, B, out=scratch((A.shape[0], B.shape[1]), A.dtype))

    def images(self, R, shape):
        N, C, *spatial = shape
        return R.reshape(N, *spatial, C).transpose(_FIRST[len(shape)])

    def rows(self, X):
        return X if X.ndim == 2 else X.transpose(_LAST[X.ndim]).reshape(-1, X.shape[1])

    def fresh(self, X):
        last = np.empty((X.shape[0], *X.shape[2:], X.shape[1]), X.dtype.newbyteorder("="))
        last = last.transpose(_FIRST[X.ndim])
        last[...] = X
        return last

    def diagonal_matrix(self, v):
        return np.diag(v)

    def update_(self, update, *arrays):
        for start in range(0, arrays[0].shape[0], BLOCK):
            update(self, *(array[start:start + BLOCK] for array in arrays))

    def fingerprint(self, X):
        N = X.shape[0]
        if not 64 <= N <= 1024:
            return super().fingerprint(X)
        R = X if X.ndim == 2 else X.transpose(_LAST[X.ndim]).reshape(N, -1)
        return (R @ self._signs(R.shape[1], X))[:, None]

    def checksum(self, X):
        return X.shape, zlib.crc32(np.ascontiguousarray(self.rows(X)))

    def _key(self, like):
        return like.dtype.char

    def sum_positions(self, R, N):
        return R.reshape(N, R.size // max(N, 1)).sum(axis=1)

    def adam_(self, data, grad, m, v, b1, b2, rate, root, eps):
        kernels.adam(data.dtype.char)(data, grad, m, v, b1, 1 - b1, b2, 1 - b2, rate, root, eps)

    # ---- the channel mix

    def mix_(self, X, M, b):
        M, b = _readable(M), _readable(b)
        kernel, flat = (mix.scale if M.ndim == 1 else mix.mix)(b.dtype.char), M.reshape(-1)
        self._map_rows(lambda R: kernel(R, flat, b), lambda _: None, X)

    def mix_backward_(self, dZ, Z, M, Minv, b):
        def work(dR, R):
            part = np.zeros(M.size + b.size, b.dtype)
            kernel(dR, R, flat, flat_inverse, c, part[:M.size], part[M.size:])
            return part

        def commit(part):
            nonlocal total
            total = part if total is None else total + part

        M, Minv, b = map(_readable, (M, Minv, b))
        kernel = (mix.scale_backward if M.ndim == 1 else mix.mix_backward)(b.dtype.char)
        flat, flat_inverse, total, c = M.reshape(-1), Minv.reshape(-1), None, -(Minv @ b if M.ndim == 2 else Minv * b)
        self._map_rows(work, commit, dZ, Z)
        total = np.zeros(M.size + b.size, b.dtype) if total is None else total
        return total[:M.size].reshape(M.shape), total[M.size:]

    def _map_rows(self, work, commit, *arrays):
        """commit(work(rows)) for the rows, in place, of parts of the arrays."""
        tiles = self._row_tiles(arrays[0])
        if len(tiles) == 1:
            commit(self._on_rows(work, *arrays))
        else:
            threads.map_tiles(lambda tile: self._on_rows(work, *[X[tile] for X in arrays]), tiles, commit)

    def _on_rows(self, work, *arrays):
        """work(rows of the arrays, in place)."""
        rows = [self.rows(X) for X in arrays]
        result = work(*rows)
        for R, X in zip(rows, arrays):
            self._write_back(R, X)
        return result

    def _write_back(self, R, X):
        """X gets the values of its rows R, which were worked on in place, where these had to be a copy."""
        if not np.may_share_memory(R, X):
            X[...] = self.images(R, X.shape)

    @staticmethod
    def _row_tiles(X):
        """Indices of parts of X, samples or slabs of one along its first spatial axis, for a pass over its rows."""
        numbers, most = math.prod(X.shape[1:]), 1 << 18  # less is done before another thread wakes
        if numbers <= most or X.ndim == 2:
            size = max(1, most // max(1, numbers))
            return [slice(i, i + size) for i in range(0, X.shape[0], size)]
        size = max(1, most * X.shape[2] // numbers)
        return [(slice(n, n + 1), slice(None), slice(i, i + size)) for n in range(X.shape[0]) for i in range(0, X.shape[2], size)]

    # ---- networks

    def network(self, X, layers, parameters, added=None, keep=True):
        X = _readable(X)
        x, arrays, dtype = _five(X), tuple([_readable(a).reshape(-1) for a in parameters]), X.dtype
        N, D, H, W, _ = x.shape
        how = convolutions.plan(layers, N, D, H, W, dtype.itemsize, keep)
        tape, (work, offsets) = scratch((how.tape,), dtype), self._work(how, how.backward if keep else how.forward, dtype)
        y, rows = scratch((N * D * H * W, parameters[-1].size), dtype), _none(dtype) if added is None else added
        convolutions.forward(dtype.char, len(layers))(arrays, how.table, x, rows, tape, work, offsets, y, _LANES[dtype.itemsize])
        kept = (work, offsets) if in_tile() else None
        groups = None if added is None else added.shape
        return self.images(y, (N, y.shape[1], *X.shape[2:])), (how, arrays, tape, kept, groups, X.shape)

    def network_back(self, dY, tape, layers, parameters):
        dY = _readable(dY)
        (how, arrays, tape, kept, groups, shape), dtype = tape, dY.dtype
        dy, dx = _five(dY), scratch((dY.size // dY.shape[1], shape[1]), dtype)
        work, offsets = kept or self._work(how, how.backward, dtype)
        flat, dadded = np.zeros(how.gradients, dtype), _none(dtype) if groups is None else np.zeros(groups, dtype)
        convolutions.backward(dtype.char, len(layers))(arrays, how.table, tape, work, offsets, dy, dx, flat, dadded, _LANES[dtype.itemsize])
        gradients, start = [], 0
        for a in parameters:
            gradients.append(flat[start:start + a.size].reshape(a.shape))
            start += a.size
        return self.images(dx, shape), gradients, None if groups is None else dadded

    @staticmethod
    def _work(how, floats, dtype):
        return passing((floats,), dtype), passing((4, how.offsets), _INT)

    # ---- the coupling

    def log_scale(self, raw, scale):
        kind, bound = scale
        if kind != "bounded":
            return super().log_scale(raw, scale)
        log_s, a = scratch(raw.shape, raw.dtype), math.log(bound)
        kernels.times(raw.dtype.char)(raw, 1 / a, log_s)
        np.tanh(log_s, out=log_s)
        log_s *= a
        return log_s

    def couple_(self, x2, h, scale):
        h, log_s = self._scale(h, scale)
        logdet = self.sum_positions(log_s, x2.shape[0])
        R = self.rows(x2)
        kernels.couple(R.dtype.char)(R, h, np.exp(log_s, out=log_s))
        self._write_back(R, x2)
        return logdet

    def uncouple_(self, z2, h, scale):
        h, log_s = self._scale(h, scale)
        logdet = -self.sum_positions(log_s, z2.shape[0])
        R = self.rows(z2)
        kernels.uncouple(R.dtype.char)(R, h, np.exp(log_s, out=log_s))
        self._write_back(R, z2)
        return logdet

    def couple_backward_(self, dz2, z2, h, scale, dlogdet):
        shape, (h, log_s) = h.shape, self._scale(h, scale)
        s, dh, a = scratch(log_s.shape, h.dtype), scratch(h.shape, h.dtype), math.log(scale[1]) if scale[0] == "bounded" else -self.log_top(scale[0])
        dR, R = self.rows(dz2), self.rows(z2)
        kernels.couple_backward(R.dtype.char)(dR, R, h, log_s, np.exp(log_s, out=s), a, dlogdet, dh)
        self._write_back(dR, dz2)
        self._write_back(R, z2)
        return self.images(dh, shape)

    def _scale(self, h, scale):
        """Rows of h, and log s."""
        R = self.rows(h)
        return R, self.log_scale(R[:, R.shape[1] // 2:], scale)

    def add_(self, X, Y):
        R = self.rows(X)
        kernels.add(R.dtype.char)(R, self.rows(Y))
        self._write_back(R, X)

    # ---- space to depth: two neighbouring planes of the first axis keep their memory, and are rearranged within it

    def squeeze_(self, X):
        N, C, first, *rest = X.shape
        d, half = X.ndim - 2, [n // 2 for n in X.shape[2:]]
        slabs = (2, *(k for n in rest for k in (n // 2, 2)), C)
        last = self._rearrange(X, half[0], slabs, (*range(1, 2 * d - 1, 2), 2 * d - 1, *range(0, 2 * d - 1, 2)))
        return self.images(last, (N, C * 2**d, *half))

    def unsqueeze_(self, Z):
        N, C, first, *rest = Z.shape
        d = Z.ndim - 2
        slabs = (*rest, C // 2**d, *[2] * d)
        order = (d, *(k for i in range(d - 1) for k in (i, d + 1 + i)), d - 1)
        return self.images(self._rearrange(Z, first, slabs, order), (N, C // 2**d, *(2 * n for n in Z.shape[2:])))

    def _rearrange(self, X, count, shape, order):
        """X's memory with the axes of each of the `count` slabs of `shape` of a sample in another order."""
        slabs = X.transpose(_LAST[X.ndim]).reshape(X.shape[0], count, math.prod(shape))
        if slabs.flags.c_contiguous:
            slabs = slabs.reshape(1, slabs.shape[0] * count, slabs.shape[2])
        order, ordered = (0, *(k + 1 for k in order)), tuple(shape[k] for k in order)

        def work(tile):
            before = scratch(slabs[tile].shape, slabs.dtype)
            before[...] = slabs[tile]
            n = before.shape[0]
            slabs[tile].reshape(n, *ordered)[...] = before.reshape(n, *shape).transpose(order)

        size = max(1, (1 << 18) // max(1, slabs.shape[2]))
        tiles = [(n, slice(i, i + size)) for n in range(slabs.shape[0]) for i in range(0, slabs.shape[1], size)]
        threads.map_tiles(work, tiles, lambda _: None)
        return slabs

    # ---- part of the channels: of a large array, each sample's memory becomes that of the two parts

    def split_(self, X, C1):
        samples = self._samples(X)
        if samples is None:
            return super().split_(X, C1)
        self._regroup(samples, X, C1, apart=True)
        return self._first(samples, X, C1)

    def join_(self, X, z1):
        samples = self._samples(X)
        if samples is None:
            return super().join_(X, z1)
        first = self._first(samples, X, z1.shape[1])
        if not np.may_share_memory(first, z1):
            first[...] = z1
        self._regroup(samples, X, z1.shape[1], apart=False)
        return X

    def _samples(self, X):
        """The memory of each sample, (N, numbers), or None where X is small or scattered."""
        samples = X.transpose(_LAST[X.ndim]).reshape(X.shape[0], -1) if X.nbytes >= SPLIT_IN_PLACE else None
        return samples if samples is not None and np.may_share_memory(samples, X) else None

    def _first(self, samples, X, C1):
        return self.images(samples[:, :samples.shape[1] // X.shape[1] * C1], (X.shape[0], C1, *X.shape[2:]))

    def _regroup(self, samples, X, C1, apart):
        def work(n):
            before = scratch(sample, samples.dtype)
            before[...] = samples[n]
            channels, parts = (before, samples[n]) if apart else (samples[n], before)
            channels, cut = channels.reshape(-1, X.shape[1]), channels.size // X.shape[1] * C1
            pairs = (channels[:, :C1], parts[:cut].reshape(-1, C1)), (channels[:, C1:], parts[cut:].reshape(-1, X.shape[1] - C1))
            for one, part in pairs:
                if apart:
                    part[...] = one
                else:
                    one[...] = part

        sample = samples.shape[1:]
        threads.map_tiles(work, range(X.shape[0]), lambda _: None)

    # ---- numbers on a grid

    def add_on_grid_(self, X, t, grid):
        self._add_on_grid(X, t, 1.0, grid)

    def subtract_on_grid_(self, X, t, grid):
        self._add_on_grid(X, t, -1.0, grid)

    def _add_on_grid(self, X, t, sign, grid):
        R = self.rows(X)
        t = _at_each_row(t, R) if t.ndim == 1 else self.rows(_readable(t))
        grid.check(fixed_point.add(R.dtype.char)(R, t, sign, grid.step, grid.most))
        self._write_back(R, X)

    def _scale_on_grid(self, X, t, s, grid):
        R = self.rows(X)
        bits = passing((8 * R.size,), np.dtype(np.uint8))
        largest, used = fixed_point.scale(R.dtype.char)(R, _at_each_row(t, R), _at_each_row(s, R), grid.step, grid.most, bits)
        grid.check(largest)
        self._write_back(R, X)
        return bits[:used].copy()

    def _unscale_on_grid(self, Z, t, s, grid, bits):
        R = self.rows(Z)
        given = np.asarray(() if bits is None else bits, np.uint8)
        largest, found = fixed_point.unscale(R.dtype.char)(R, _at_each_row(t, R), _at_each_row(s, R), grid.step, grid.most, given, bits is None)
        if not found:
            raise ValueError(MISSING)
        grid.check(largest)
        self._write_back(R, Z)

    def lifting(self, M):
        A, C = np.array(M, np.float64), len(M)
        rows, columns, pairs, k = np.arange(C), np.arange(C), np.empty((C, 2), _INT), np.empty(C)
        d = fixed_point.factorise(A, rows, columns)
        n = fixed_point.balance(np.log(np.abs(d)), pairs, k)
        return Lifting(rows, columns, A, np.sign(d), pairs[:n], k[:n])

    def lift_(self, X, lifting, grid):
        self._lift(fixed_point.lift, X, lifting, grid)

    def unlift_(self, Z, lifting, grid):
        self._lift(fixed_point.unlift, Z, lifting, grid)

    def _lift(self, kernel, X, lifting, grid):
        R = self.rows(X)
        grid.check(kernel(R.dtype.char)(R, *lifting, grid.step, grid.most))
        self._write_back(R, X)

    # ---- tiles

    def tiles(self, shape, floats_per_position, reach, weights):
        return _tiles(tuple(shape), TILE_BYTES // (4 * floats_per_position), reach, weights)

    def map_tiles(self, work, tiles, commit, memory=None):
        threads.map_tiles(work, tiles, commit, memory)

    def lasting_memory(self, size):
        return Pool(size)

    def quiet(self):
        return np.errstate(all="ignore")

    def at_work(self):
        return _AtWork()

    # ---- planar and radial layers

    def planar_(self, X, u, w, b, inverse):
        R, kernel, (u, w, b) = self.rows(X), bending.planar(X.dtype.char), map(_readable, (u, w, b))
        det = np.empty(R.shape[0], R.dtype)
        self._by_rows(lambda rows: kernel(R[rows], u, w, b, inverse, det[rows]), R)
        if R is not X:
            self._write_back(R, X)
        logdet = self._of_samples(np.log(det, out=det), X)
        return -logdet if inverse else logdet

    def planar_backward_(self, dX, X, u, w, b, dlogdet, inverse):
        return self._backward_by_rows(bending.planar_backward, dX, X, (u, w, b), dlogdet, inverse)

    def radial_(self, X, x0, theta, inverse):
        R, kernel, x0 = self.rows(X), bending.radial(X.dtype.char), _readable(x0)
        logdet = np.empty(R.shape[0], R.dtype)
        self._by_rows(lambda rows: kernel(R[rows], x0, theta, inverse, logdet[rows]), R)
        if R is not X:
            self._write_back(R, X)
        return self._of_samples(logdet, X)

    def radial_backward_(self, dX, X, x0, theta, dlogdet, inverse):
        return self._backward_by_rows(bending.radial_backward, dX, X, (x0, theta), dlogdet, inverse)

    def _backward_by_rows(self, kernel, dX, X, parameters, dlogdet, inverse):
        """Calls a kernel in place on all rows; gives the gradients of the parameters."""
        parameters = [_readable(p) for p in parameters]

        def work(rows):
            gradients = [np.empty(p.size, p.dtype) for p in parameters]
            kernel(dR[rows], R[rows], *parameters, dl[rows], inverse, *gradients)
            return gradients

        def commit(part):
            nonlocal sums
            sums = part if sums is None else [total + each for total, each in zip(sums, part)]

        kernel, dR, R, dl, sums = kernel(X.dtype.char), self.rows(dX), self.rows(X), self.at_rows(dlogdet, X), None
        self._by_rows(work, R, commit)
        if R is not X:
            self._write_back(dR, dX)
            self._write_back(R, X)
        return sums

    # ---- the spline

    def spline(self, R, P, bound):
        return self._spline(R, P, bound, False)

    def spline_inverse(self, S, P, bound):
        return self._spline(S, P, bound, True)

    def _spline(self, R, P, bound, inverse):
        S, logdet, kernel = scratch(R.shape, R.dtype), np.empty(R.shape[0], R.dtype), bending.spline(R.dtype.char)
        self._by_rows(lambda rows: kernel(R[rows], P[rows], bound, LEAST, inverse, S[rows], logdet[rows]), R)
        return S, logdet

    def spline_backward(self, dS, S, P, bound, dlogdet):
        return self._spline_backward(dS, S, P, bound, dlogdet, False)

    def spline_inverse_backward(self, dR, R, P, bound, dlogdet):
        return self._spline_backward(dR, R, P, bound, dlogdet, True)

    def _spline_backward(self, dS, S, P, bound, dlogdet, inverse):
        dR, R, dP = (scratch(a.shape, a.dtype) for a in (dS, S, P))
        kernel = bending.spline_backward(S.dtype.char)
        self._by_rows(lambda rows: kernel(dS[rows], S[rows], P[rows], bound, LEAST, dlogdet[rows], inverse, dR[rows], R[rows], dP[rows]), S)
        return dR, R, dP

    # ---- runs of layers of vectors

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
            kernel(P, program.table, program.bounds, program.layers, program.index, inverse, X[tile], logdet[tile], passing((size,), X.dtype), places)

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
            kernel(P, program.table, program.bounds, program.layers, program.index, inverse, dZ[tile], Z[tile], dlogdet[tile], part,
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
        program = self._programs.get(run)
        if program is None or program.dtype != X.dtype or not program.current():
            stages_of_layers = [stages_of(layer) for layer in run.layers]
            if not all(stages_of_layers):  # a coupling got a conditioner of another kind
                return None
            program = self._programs[run] = Program(sum(stages_of_layers, []), X.shape[1], X.dtype)
        return program if program.located(run.version) else None

    @staticmethod
    def _tiles_of_run(X, numbers):
        """Parts of the rows, each worth the waking of a thread with so many parameters."""
        least, most = RUN_ROWS
        size = min(max(TILE_WORK // numbers, least), most)
        return [slice(i, i + size) for i in range(0, max(X.shape[0], 1), size)]

    # ---- what these have in common

    @staticmethod
    def _by_rows(work, R, commit=lambda _: None):
        """commit(work(rows)) for parts of the rows, each worth the waking of a thread."""
        if R.shape[0] <= ROWS:
            commit(work(slice(None)))
        else:
            threads.map_tiles(work, [slice(i, i + ROWS) for i in range(0, R.shape[0], ROWS)], commit)

    def _of_samples(self, each, X):
        """Numbers of rows summed to one for each sample."""
        return each if X.ndim == 2 else self.sum_positions(each, X.shape[0])

    def at_rows(self, each, X):
        """A number of each sample for each of its rows."""
        return each if X.ndim == 2 else np.repeat(each, math.prod(X.shape[2:]))


_numpy = NumpyOps()


class _AtWork:
    """BLAS has one thread, and NumPy is quiet: what is told of infinity and NaN is told once, by who sees what they did."""

    def __enter__(self):
        self.quiet = _numpy.quiet()
        self.quiet.__enter__()
        threads.single_threaded_blas.__enter__()

    def __exit__(self, *error):
        threads.single_threaded_blas.__exit__()
        self.quiet.__exit__(*error)


@functools.lru_cache(maxsize=1024)
def _tiles(shape, most, reach, weights):
    positions, least = math.prod(shape[2:]), min(max(TILE_WORK // max(1, weights), 256), 1024)
    samples = min(max(shape[0] * positions // TILES, least), TILE_POSITIONS) // max(1, positions)
    return tile.tiles_of(shape, samples, most, reach)


#: axes that make channels-last of channels-first, by the number of axes, and back
_LAST = {d: (0, *range(2, d), 1) for d in range(2, 6)}
_FIRST = {d: (0, d - 1, *range(1, d - 1)) for d in range(2, 6)}
_INT, _LANES = np.dtype(np.int64), {4: BYTES // 4, 8: BYTES // 8}


@functools.cache
def _none(dtype):
    """No rows."""
    return np.empty((0, 1), dtype)


def _readable(X):
    """X as compiled functions take it."""
    return X if X.flags.writeable and X.dtype.isnative else np.array(X, X.dtype.newbyteorder("="))


def _at_each_row(v, R):
    """A view with v (C,) in each row of R, or v itself where it is rows; one that may be written to, as compiled functions take it."""
    return v if v.ndim == 2 else np.lib.stride_tricks.as_strided(_readable(v), R.shape, (0, *v.strides))


def _five(X):
    """(N, C, *spatial) as a view (N, D, H, W, C), absent axes of length 1."""
    last = X.transpose(_LAST[X.ndim])
    return last[(slice(None),) + (None,) * (5 - X.ndim)]
