"""The operations that layers and conditioners are written in, on any array-API namespace.

Shapes are channels-first, (N, C, *spatial); the memory of what is made here is channels-last, so that the rows
(N * positions, C) of an array are a view of it and a 1x1 convolution is one matrix product. An engine overrides what
it does measurably faster; this file says what is computed.
"""

import contextlib
import math
from itertools import product

from .tile import Tile


class Ops:
    name = "reference"

    def __init__(self, xp):
        self.xp = xp

    # ---- arrays

    def is_float(self, X):
        return self.xp.isdtype(X.dtype, "real floating")

    def same_dtype(self, a, b):
        return a == b

    def astype(self, X, dtype):
        return self.xp.astype(X, getattr(self.xp, dtype) if isinstance(dtype, str) else dtype)

    def asarray(self, data, like):
        """`data` (numbers or a NumPy array) as an array of the library, dtype and device of `like`."""
        return self.xp.asarray(data, dtype=like.dtype, device=like.device)

    def from_numpy(self, data):
        return self.xp.asarray(data)

    def to_numpy(self, X):
        import numpy

        return numpy.asarray(X)

    def copy(self, X):
        return self.xp.asarray(X, copy=True)

    def zeros_like(self, X):
        return self.xp.zeros_like(X)

    def fill(self, N, value, like):
        """(N,) of one value, with the dtype and device of `like`."""
        return self.xp.full((N,), value, dtype=like.dtype, device=like.device)

    def empty(self, shape, like):
        """An array of any numbers, with the dtype and device of `like`, that lives no longer than the tile at work."""
        return self.xp.empty(shape, dtype=like.dtype, device=like.device)

    def product(self, A, B):
        """The matrix product, which lives no longer than the tile at work."""
        return A @ B

    def images(self, R, shape):
        """Rows (N * positions, C) as an array of shape (N, C, *spatial)."""
        N, C, *spatial = shape
        last = self.xp.reshape(R, (N, *spatial, C))
        return self.xp.permute_dims(last, (0, len(shape) - 1, *range(1, len(shape) - 1)))

    def rows(self, X):
        """(N * positions, C): a view of X where its memory is channels-last."""
        return self.xp.reshape(self.xp.permute_dims(X, (0, *range(2, X.ndim), 1)), (-1, X.shape[1]))

    def fresh(self, X):
        """A copy of X with channels-last memory."""
        return self.images(self.xp.asarray(self.rows(X), copy=True), X.shape)

    def diagonal_matrix(self, v):
        return v[:, None] * self.xp.eye(v.shape[0], dtype=v.dtype, device=v.device)

    def sum_positions(self, R, N):
        """Sums rows (N * positions, C) to one number for each sample, (N,)."""
        return self.xp.sum(self.xp.reshape(R, (N, -1)), axis=1)

    def checksum(self, X):
        """What tells X from any other array."""
        return float(self.xp.sum(X)), float(self.xp.sum(X * X))

    def lasting_memory(self, size):
        """Memory of at most `size` bytes for map_tiles, where the library's own would be slow; or None."""

    def free_memory(self):
        """Bytes that are free where the arrays are."""
        import psutil

        return psutil.virtual_memory().available

    # ---- the channel mix, in place

    def mix_(self, X, M, b):
        """X becomes M x + b at every position; M is (C, C), or (C,) for a diagonal."""
        R = self.rows(X)
        X[...] = self.images((R * M if M.ndim == 1 else R @ M.T) + b, X.shape)

    def mix_backward_(self, dZ, Z, M, Minv, b):
        """Z becomes X = Minv (Z - b), dZ becomes dX; gives dM, of the shape of M, and db."""
        dR, R = self.rows(dZ), self.rows(Z) - b
        db = self.xp.sum(dR, axis=0)
        if M.ndim == 1:
            R, dX = R * Minv, dR * M
            dM = self.xp.sum(dR * R, axis=0)
        else:
            R, dX = R @ Minv.T, dR @ M
            dM = dR.T @ R
        Z[...], dZ[...] = self.images(R, Z.shape), self.images(dX, Z.shape)
        return dM, db

    # ---- a network: convolutions one after the other, each one matrix product of rows
    # The weights (*kernel, narrow, wide) are a matrix M (taps * narrow, wide). To more channels, the taps of the input are
    # gathered and multiplied by M. To fewer (`transposed`) the input times M^T has a column for every tap and channel,
    # and these are shifted and added: the transpose of the first kind.

    def network(self, X, layers, parameters, added=None, keep=True):
        """Y = act(W_k * ... act(W_1 * X + added + b_1) ... + b_k), and a tape for network_back.

        Args:
            layers: (shape of the weights, activation, transposed) of each, hashable.
            parameters: weights and bias of each, in turn.
            added: rows (n, C) of which each goes to N * positions / n neighbouring positions, or None.
            keep: whether the tape is wanted.
        """
        tapes = []
        for i, (_, activation, transposed) in enumerate(layers):
            X, tape = self._convolve(X, *parameters[2 * i:2 * i + 2], activation, transposed, None if i else added)
            if keep:
                tapes.append(tape)
        return X, (tapes, None if added is None else added.shape[0])

    def network_back(self, dY, tape, layers, parameters):
        """dX, the gradients of the parameters in their order, and that of `added` or None; dY may be overwritten."""
        (tapes, groups), gradients, dadded = tape, [], None
        for (_, activation, transposed), W, saved in zip(reversed(layers), reversed(parameters[::2]), reversed(tapes)):
            dY, dW, db, dA = self._convolve_back(dY, saved, W, activation, transposed)
            gradients += [db, dW]
        if groups is not None:
            dadded = self.xp.sum(self._grouped(dA, groups), axis=1)
        return dY, gradients[::-1], dadded

    def _convolve(self, X, W, b, activation, transposed, added):
        kernel, M = W.shape[:-2], self.xp.reshape(W, (-1, W.shape[-1]))
        if transposed:
            T = self.rows(X)
            A = self.rows(self.shift_add(T @ M.T, (X.shape[0], W.shape[-2], *X.shape[2:]), kernel))
        else:
            T = self.taps(X, kernel)
            A = T @ M
        A = A + b
        if added is not None:
            A = self.xp.reshape(self._grouped(A, added.shape[0]) + added[:, None, :], A.shape)
        H, S = self.activate(A, activation)
        return self.images(H, (X.shape[0], H.shape[1], *X.shape[2:])), (T, S)

    def _grouped(self, R, groups):
        """Rows as (groups, rows of a group, C)."""
        return self.xp.reshape(R, (groups, R.shape[0] // max(1, groups), R.shape[1]))

    def _convolve_back(self, dY, tape, W, activation, transposed):
        (T, S), kernel, M = tape, W.shape[:-2], self.xp.reshape(W, (-1, W.shape[-1]))
        dA = self.activate_backward(self.rows(dY), S, activation)
        if transposed:
            columns = self.taps(self.images(dA, dY.shape), kernel)
            dX = self.images(columns @ M, (dY.shape[0], W.shape[-1], *dY.shape[2:]))
            dW = columns.T @ T
        else:
            dX = self.shift_add(dA @ M.T, (dY.shape[0], W.shape[-2], *dY.shape[2:]), kernel)
            dW = T.T @ dA
        return dX, self.xp.reshape(dW, W.shape), self.xp.sum(dA, axis=0), dA

    def taps(self, X, kernel):
        """The neighbours p + o of every position, zero outside: columns (N * positions, taps * C), channels fastest."""
        columns = []
        for offsets in self._offsets(kernel):
            T = self.xp.zeros_like(X)
            here, there = self._overlap(offsets, X.shape)
            T[here] = X[there]
            columns.append(self.rows(T))
        return self.xp.concat(columns, axis=1)

    def shift_add(self, T, shape, kernel):
        """The transpose of taps: columns (N * positions, taps * C) to an array of `shape` (N, C, *spatial)."""
        C, X = shape[1], None
        for j, offsets in enumerate(self._offsets(kernel)):
            part = self.images(T[:, j * C:(j + 1) * C], shape)
            if X is None:
                X = self.xp.zeros_like(part)
            here, there = self._overlap(offsets, shape)
            X[there] += part[here]
        return X

    @staticmethod
    def _offsets(kernel):
        return product(*(range(-(k // 2), k // 2 + 1) for k in kernel))

    @staticmethod
    def _overlap(offsets, shape):
        """Slices `here` and `there` with position there = here + offset, both inside."""
        here, there = [slice(None)] * 2, [slice(None)] * 2
        for o, size in zip(offsets, shape[2:]):
            here.append(slice(max(0, -o), max(0, size - max(0, o))))
            there.append(slice(max(0, o), max(0, size + min(0, o))))
        return tuple(here), tuple(there)

    # ---- activations

    def activate(self, A, activation):
        """H = act(A), and S, from which activate_backward finds the derivative: H or A."""
        xp = self.xp
        if activation is None:
            return A, A
        if activation == "relu":
            A = xp.where(A <= 0, xp.zeros_like(A), A)  # NaN stays
            return A, A
        if activation == "leaky_relu":
            A = xp.where(A <= 0, 0.01 * A, A)
            return A, A
        if activation == "softplus":
            A = xp.where(A > 0, A, xp.zeros_like(A)) + xp.log1p(xp.exp(-xp.abs(A)))
            return A, A
        return A * self._sigmoid(A), A  # silu

    def activate_backward(self, dH, S, activation):
        """dA = dH act'(A)."""
        xp = self.xp
        if activation == "relu":
            return xp.where(S <= 0, xp.zeros_like(dH), dH)
        if activation == "leaky_relu":
            return xp.where(S <= 0, 0.01 * dH, dH)
        if activation == "softplus":
            return -dH * xp.expm1(-S)
        if activation == "silu":
            sigmoid = self._sigmoid(S)
            return dH * sigmoid * (1 + S * (1 - sigmoid))
        return dH

    def _sigmoid(self, A):
        e = self.xp.exp(-self.xp.abs(A))
        return self.xp.where(A > 0, 1 / (1 + e), e / (1 + e))

    # ---- the coupling: z2 = (x2 + t) s(raw), h = [t, raw]; scale is ("sigmoid", _) or ("bounded", bound)

    def log_scale(self, raw, scale):
        """log s."""
        xp, (kind, bound) = self.xp, scale
        if kind == "sigmoid":
            u = raw + 2
            return xp.where(u < 0, u, xp.zeros_like(u)) - xp.log1p(xp.exp(-xp.abs(u)))
        a = math.log(bound)
        return a * xp.tanh(raw / a)

    def log_scale_slope(self, log_s, scale):
        """The derivative of log s in raw."""
        kind, bound = scale
        return -self.xp.expm1(log_s) if kind == "sigmoid" else 1 - (log_s / math.log(bound)) ** 2

    def couple_(self, x2, h, scale):
        """x2 becomes z2; gives log|det|, (N,)."""
        t, raw = self._halves(h)
        log_s = self.log_scale(raw, scale)
        x2[...] = self.images((self.rows(x2) + t) * self.xp.exp(log_s), x2.shape)
        return self.sum_positions(log_s, x2.shape[0])

    def uncouple_(self, z2, h, scale):
        """z2 becomes x2; gives log|det| of this inverse, (N,)."""
        t, raw = self._halves(h)
        log_s = self.log_scale(raw, scale)
        z2[...] = self.images(self.rows(z2) * self.xp.exp(-log_s) - t, z2.shape)
        return -self.sum_positions(log_s, z2.shape[0])

    def couple_backward_(self, dz2, z2, h, scale, dlogdet):
        """z2 becomes x2, dz2 becomes dx2; gives dh."""
        t, raw = self._halves(h)
        log_s = self.log_scale(raw, scale)
        slope = self.log_scale_slope(log_s, scale)
        R, dR = self.rows(z2), self.rows(dz2)
        draw = (dR * R + self.at_positions(dlogdet, z2)) * slope
        dx2 = dR * self.xp.exp(log_s)  # the gradient of t as well
        z2[...] = self.images(R * self.xp.exp(-log_s) - t, z2.shape)
        dz2[...] = self.images(dx2, z2.shape)
        return self.images(self.xp.concat([dx2, draw], axis=1), h.shape)

    def uncouple_backward_(self, dx2, x2, h, scale, dlogdet):
        """The gradient of uncouple_: x2 becomes z2, dx2 becomes dz2; gives dh."""
        t, raw = self._halves(h)
        log_s = self.log_scale(raw, scale)
        slope = self.log_scale_slope(log_s, scale)
        R, dR = self.rows(x2) + t, self.rows(dx2)
        draw = -(dR * R + self.at_positions(dlogdet, x2)) * slope
        dh = self.xp.concat([-dR, draw], axis=1)
        dx2[...] = self.images(dR * self.xp.exp(-log_s), x2.shape)
        x2[...] = self.images(R * self.xp.exp(log_s), x2.shape)
        return self.images(dh, h.shape)

    def at_positions(self, each, X):
        """(N,) repeated for every row and channel of X."""
        each = self.xp.reshape(each, (X.shape[0],) + (1,) * (X.ndim - 1))
        return self.rows(self.xp.broadcast_to(each, X.shape))

    def _halves(self, h):
        R = self.rows(h)
        C = R.shape[1] // 2
        return R[:, :C], R[:, C:]

    def add_(self, X, Y):
        """X becomes X + Y."""
        X += Y

    # ---- part of the channels

    def split_(self, X, C1):
        """The first C1 channels as an array of their own, in X's memory or not: X is not to be used until `join_`."""
        return self.fresh(X[:, :C1])

    def join_(self, X, z1):
        """X with z1 in the place of the channels that `split_` gave."""
        X[:, :z1.shape[1]] = z1
        return X

    # ---- space to depth

    def squeeze_(self, X):
        """(N, C, *spatial) to (N, C * 2**d, *spatial / 2), channel c * 2**d + offset in the block; X's memory may be used."""
        xp, d = self.xp, X.ndim - 2
        N, C, *spatial = X.shape
        half = [s // 2 for s in spatial]
        blocks = xp.reshape(xp.permute_dims(X, (0, *range(2, X.ndim), 1)), (N, *[k for s in half for k in (s, 2)], C))
        order = (0, *range(1, 2 * d, 2), 2 * d + 1, *range(2, 2 * d + 1, 2))
        return self.images(xp.reshape(xp.permute_dims(blocks, order), (-1, C * 2**d)), (N, C * 2**d, *half))

    def unsqueeze_(self, Z):
        """The inverse of squeeze_."""
        xp, d = self.xp, Z.ndim - 2
        N, C, *half = Z.shape
        C = C // 2**d
        blocks = xp.reshape(xp.permute_dims(Z, (0, *range(2, Z.ndim), 1)), (N, *half, C, *[2] * d))
        order = (0, *[k for i in range(d) for k in (1 + i, d + 2 + i)], d + 1)
        return self.images(xp.reshape(xp.permute_dims(blocks, order), (-1, C)), (N, C, *[2 * s for s in half]))

    # ---- tiles

    def tiles(self, shape, floats_per_position, reach, weights):
        """Tiles of an array of `shape`: the parts that are worked on at one time.

        `floats_per_position` says what a conditioner holds for each position, `reach` how far it sees (None: all),
        `weights` how many it has, which are its multiplications for each position.
        """
        return [Tile(slice(0, shape[0]))]

    def map_tiles(self, work, tiles, commit, memory=None):
        """commit(work(tile)) for every tile; work may run in threads, commits come one by one in the order of tiles.

        What operations give within `work` lives for that tile, or, in lasting `memory`, as long as anyone holds it.
        """
        for tile in tiles:
            commit(work(tile))

    def at_work(self):
        """A context for a layer's public call: what an engine prepares once for all the operations within."""
        return contextlib.nullcontext()
