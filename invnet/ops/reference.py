"""The operations that layers and conditioners are written in, on any array-API namespace.

Shapes are channels-first, (N, C, *spatial); the memory of what is made here is channels-last, so that the rows
(N * positions, C) of an array are a view of it and a 1x1 convolution is one matrix product. An engine overrides what
it does measurably faster; this file says what is computed.
"""

import contextlib
import math
from collections import namedtuple
from itertools import product

from .tile import Tile

#: Of a spline: the least width and height of a bin, as a share of the domain, and the least slope at a knot.
LEAST = 1e-3
ZERO_IS_SLOPE_ONE = math.log(math.expm1(1 - LEAST))  # softplus of it is 1 - LEAST
#: For each value: which is its bin, whether it is in the domain, the value there and 0 elsewhere, the left and lower knot of the
#: bin, its width, height and mean slope, and the slopes at its ends.
SplineBin = namedtuple("SplineBin", "bins inside value x y w h delta d0 d1")


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
            A = self._softplus(A)
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

    def _softplus(self, A):
        return self.xp.where(A > 0, A, self.xp.zeros_like(A)) + self.xp.log1p(self.xp.exp(-self.xp.abs(A)))

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

    def at_rows(self, each, X):
        """(N,) repeated for every row of X."""
        return self.at_positions(each, X)[:, 0]

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

    # ---- planar: z = x + uh tanh(w.x + b), uh = u + k w with w.uh = s - 1 > -1; `inverse` says that x is made of z

    def planar_(self, X, u, w, b, inverse):
        """X becomes Z, or Z becomes X; gives log|det| of the map taken, (N,)."""
        (uh, s, _, _, over_n), R = self._steered(u, w), self.rows(X)
        v, t, q = self._tanh(R @ w + b, s, inverse)
        logdet = self.sum_positions(self.xp.log(t * t + s * q), X.shape[0])
        X[...] = self.images(self._planar_x(R, v - b, t, uh, w, over_n) if inverse else R + t[:, None] * uh, X.shape)
        return -logdet if inverse else logdet

    def planar_backward_(self, dX, X, u, w, b, dlogdet, inverse):
        """The gradient of planar_, from its outputs to its inputs, in place; gives du, dw and db."""
        xp, (uh, s, slope, k, over_n) = self.xp, self._steered(u, w)
        dR, R, dl = self.rows(dX), self.rows(X), self.at_rows(dlogdet, X)
        v, t, q = self._tanh(R @ w + b, s, not inverse)
        other = R + t[:, None] * uh if inverse else self._planar_x(R, v - b, t, uh, w, over_n)
        det = t * t + s * q
        dv = q * (dR @ uh - 2 * (s - 1) * t * dl / det)
        if inverse:  # the gradients of the forward map for the two that it would return, with the sign turned
            dv, dl, t = -dv / det, -dl, -t
        dother = dR + dv[:, None] * w
        duh, dw = (t @ dother, dv @ R) if inverse else (t @ dR, dv @ other)
        X[...], dX[...] = self.images(other, X.shape), self.images(dother, X.shape)
        # uh = u + k w with k = (s - 1 - a) / n, a = w.u, n = w.w and s = softplus(a)
        dk = xp.sum(duh * w)
        da = (xp.sum(dl * q / det) + dk * over_n) * slope - dk * over_n
        return duh + da * w, dw + k * duh + da * u - 2 * dk * k * over_n * w, xp.sum(dv, keepdims=True)

    @staticmethod
    def _planar_x(R, a, t, uh, w, over_n):
        """x = z - uh t, and then w.x made a, which is known better where uh t is much larger than x."""
        R = R - t[:, None] * uh
        return R + ((a - R @ w) * over_n)[:, None] * w

    def _steered(self, u, w):
        """uh, s = softplus(w.u), its slope in w.u, k and 1 / w.w; uh is u where w is zero."""
        xp = self.xp
        a, n = xp.sum(u * w), xp.sum(w * w)
        some, zero = n >= xp.finfo(n.dtype).smallest_normal, xp.zeros_like(n)
        s = xp.where(some, self._softplus(a), zero + 1)
        over_n = xp.where(some, 1 / xp.where(some, n, zero + 1), zero)
        k = (s - 1 - a) * over_n
        return u + k * w, s, xp.where(some, self._sigmoid(a), zero), k, over_n

    def _tanh(self, c, s, solve):
        """v = c, or where `solve` the v with v + (s - 1) tanh(v) = c; t = tanh(v), and 1 - t^2.

        Halley's method from that end of a bracket of the root that lies on the good side by convexity; where a step would
        leave the bracket, its middle is taken.
        """
        xp, y, tiny, eps = self.xp, self.xp.abs(c), self.xp.finfo(c.dtype).smallest_normal, self.xp.finfo(c.dtype).eps
        v = y
        if solve:
            one, other = y + (1 - s), xp.where(s > 1e-6, y / xp.where(s > 1e-6, s, xp.ones_like(s)), y + 1)
            v = xp.where((one > other) == (s > 1), one, other)  # the larger for s > 1, else the smaller
            low, high = xp.where(v < y, v, y), xp.where(v < y, y, v)
            for _ in range(100):
                t, q = self._tanh_of(v)
                f, slope = y - (v - t) - s * t, t * t + s * q
                step = f * slope / (slope * slope - f * (s - 1) * t * q + tiny)
                low, high = xp.where(f > 0, v, low), xp.where(f < 0, v, high)
                inside = (v + step >= low) & (v + step <= high)
                step = xp.where(inside, step, (low + high) / 2 - v)
                # Convergence is cubic: after a step this small comes none. Where f is rounding alone, steps say nothing.
                going = xp.any((xp.abs(step) > eps**0.35 * v) & (xp.abs(f) > 4 * eps * (v + y)))
                v = v + step
                if not bool(going):
                    break
        t, q = self._tanh_of(v)
        return xp.where(c < 0, -v, v), xp.where(c < 0, -t, t), q

    def _tanh_of(self, v):
        """tanh(v) of v >= 0, and 1 - tanh(v)^2 without cancellation."""
        E = self.xp.expm1(-2 * v)
        return -E / (2 + E), 4 * (1 + E) / (2 + E) ** 2

    # ---- radial: with d = x - x0 and r = |d|, z = x0 + d (s + r) / (alpha + r); theta is [alpha, s], both positive

    def radial_(self, X, x0, theta, inverse):
        """X becomes Z, or Z becomes X; gives log|det| of the map taken, (N,)."""
        xp, R, alpha, s = self.xp, self.rows(X) - x0, theta[0], theta[1]
        r = self._radius(R, alpha, s, inverse)
        h, stretch = 1 / (alpha + r), (s + r) / (alpha + r)
        logdet = (R.shape[1] - 1) * xp.log(stretch) + xp.log(r * h * (r * h + 2 * alpha * h) + alpha * h * (s * h))
        X[...] = self.images(x0 + R * (1 / stretch if inverse else stretch)[:, None], X.shape)
        logdet = self.sum_positions(logdet, X.shape[0])
        return -logdet if inverse else logdet

    def radial_backward_(self, dX, X, x0, theta, dlogdet, inverse):
        """The gradient of radial_, from its outputs to its inputs, in place; gives dx0 and dtheta."""
        xp, alpha, s = self.xp, theta[0], theta[1]
        dR, R, dl = self.rows(dX), self.rows(X) - x0, self.at_rows(dlogdet, X)
        C, r = R.shape[1], self._radius(R, alpha, s, not inverse)
        h, q = 1 / (alpha + r), r * (r + 2 * alpha) + alpha * s
        stretch, dstretch_dr = (s + r) * h, (alpha - s) * h * h
        dell_dr = (alpha - s) * h * ((C - 1) / (s + r) + 2 * alpha / q)
        d = R if inverse else R / stretch[:, None]  # x - x0
        e = d / xp.where(r > 0, r, xp.ones_like(r))[:, None]
        if inverse:  # with J = stretch I + (p - stretch) e e^T, then the forward map's gradients with the sign turned
            p = q * h * h
            along = xp.sum(dR * e, axis=1) * (1 / p - 1 / stretch) - dl * dell_dr / p
            after = dR / stretch[:, None] + along[:, None] * e
            g, dl = -xp.sum(after * d, axis=1), -dl
        else:
            g = xp.sum(dR * d, axis=1)
            after = dR * stretch[:, None] + (g * dstretch_dr + dl * dell_dr)[:, None] * e
        dalpha = -g * stretch * h + dl * ((s + 2 * r) / q - (C + 1) * h)
        ds = g * h + dl * ((C - 1) / (s + r) + alpha / q)
        dx0 = xp.sum(dR - after, axis=0)
        X[...] = self.images(x0 + (d * stretch[:, None] if inverse else d), X.shape)
        dX[...] = self.images(after, X.shape)
        return dx0, xp.stack([xp.sum(dalpha), xp.sum(ds)])

    def _radius(self, d, alpha, s, solve):
        """|d|, or where `solve` the r whose image r (s + r) / (alpha + r) it is."""
        xp, rho = self.xp, self.xp.sqrt(self.xp.sum(d * d, axis=1))
        if not solve:
            return rho
        h = rho - s
        D = xp.sqrt(h * h + 4 * alpha * rho)
        tiny = xp.finfo(d.dtype).smallest_normal
        return xp.where(h > 0, (h + D) / 2, 2 * alpha * rho / (xp.where(h > 0, D, D - h) + tiny))

    # ---- the spline: monotone, of rational quadratic pieces, from [-bound, bound] onto itself, the identity outside
    # R holds values (rows, C), P their parameters (rows, C, 3 bins - 1): widths and heights of the bins as logits, then the
    # slopes at the knots between them. Log-determinants and their gradients are of rows, (rows,).

    def spline(self, R, P, bound):
        """The image S of R, and log|det|."""
        xi, at = self._spline_at(R, P, bound)
        S = self.xp.clip(at.y + at.h * self._spline_rise(xi, at), -bound, bound)
        return self._spline_result(R, S, self._spline_log_slope(xi, at), at)

    def spline_inverse(self, S, P, bound):
        """R of its image S, and log|det| of this inverse."""
        xi, at = self._spline_back_at(S, P, bound)
        R = self.xp.clip(at.x + at.w * xi, -bound, bound)
        return self._spline_result(S, R, -self._spline_log_slope(xi, at), at)

    def spline_backward(self, dS, S, P, bound, dlogdet):
        """dR, R and dP."""
        xp, (xi, at) = self.xp, self._spline_back_at(S, P, bound)
        dR, dP = self._spline_gradient(dS, dlogdet, xi, at, P, bound)
        R = xp.clip(at.x + at.w * xi, -bound, bound)
        return xp.where(at.inside, dR, dS), xp.where(at.inside, R, S), dP

    def spline_inverse_backward(self, dR, R, P, bound, dlogdet):
        """dS, S and dP of the inverse, `dlogdet` being the gradient in its log|det|."""
        xp, (xi, at) = self.xp, self._spline_at(R, P, bound)
        S = xp.clip(at.y + at.h * self._spline_rise(xi, at), -bound, bound)
        _, log_xi, *_ = self._spline_derivatives(xi, at)
        dS = (dR - dlogdet[:, None] * log_xi / at.w) * xp.exp(-self._spline_log_slope(xi, at))
        dS = xp.where(at.inside, dS, dR)
        # the gradients of the forward map for the two that it would return, with the sign turned
        return dS, xp.where(at.inside, S, R), self._spline_gradient(-dS, -dlogdet, xi, at, P, bound)[1]

    def _spline_at(self, R, P, bound):
        """xi, the place of each value in the width of its bin, from 0 to 1, and the bin."""
        at = self._spline_bin(R, P, bound, 0)
        return self.xp.clip((at.value - at.x) / at.w, 0, 1), at

    def _spline_back_at(self, S, P, bound):
        """xi of the preimage of each value, and the bin."""
        at = self._spline_bin(S, P, bound, 1)
        return self._spline_root(self.xp.clip((at.value - at.y) / at.h, 0, 1), at), at

    def _spline_bin(self, R, P, bound, axis):
        """What belongs to the bin of each value, found among the knots in x (axis 0) or in y (axis 1)."""
        xp, K = self.xp, (P.shape[2] + 1) // 3
        sizes, knots = [], []
        for logits in (P[..., :K], P[..., K:2 * K]):
            p = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
            p = p / xp.sum(p, axis=-1, keepdims=True)
            sizes.append(2 * bound * (LEAST + (1 - K * LEAST) * p))
            before = xp.triu(xp.ones((K, K), dtype=P.dtype, device=P.device), k=1)
            knots.append(sizes[-1] @ before - bound)
        ends = xp.ones((*R.shape, 1), dtype=P.dtype, device=P.device)
        slopes = xp.concat([ends, LEAST + self._softplus(P[..., 2 * K:] + ZERO_IS_SLOPE_ONE), ends], axis=-1)
        inside = (R > -bound) & (R < bound)
        value = xp.where(inside, R, xp.zeros_like(R))
        passed = value[..., None] >= knots[axis][..., 1:]
        first, last = xp.ones_like(passed[..., :1]), xp.zeros_like(passed[..., :1])
        bins = xp.concat([first, passed], axis=-1) & ~xp.concat([passed, last], axis=-1)
        pick = lambda of_bins: xp.sum(xp.where(bins, of_bins, xp.zeros_like(of_bins)), axis=-1)
        w, h = pick(sizes[0]), pick(sizes[1])
        return SplineBin(bins, inside, value, pick(knots[0]), pick(knots[1]), w, h, h / w,
                         pick(slopes[..., :-1]), pick(slopes[..., 1:]))

    def _spline_result(self, R, S, log_slope, at):
        xp = self.xp
        return xp.where(at.inside, S, R), xp.sum(xp.where(at.inside, log_slope, xp.zeros_like(R)), axis=1)

    @staticmethod
    def _spline_rise(xi, at):
        """(S - y) / h, from 0 to 1 with xi = (R - x) / w."""
        between = xi * (1 - xi)
        return (at.delta * xi**2 + at.d0 * between) / (at.delta + (at.d0 + at.d1 - 2 * at.delta) * between)

    def _spline_log_slope(self, xi, at):
        between, xp = xi * (1 - xi), self.xp
        rest = at.d1 * xi**2 + 2 * at.delta * between + at.d0 * (1 - xi) ** 2
        return 2 * xp.log(at.delta) + xp.log(rest) - 2 * xp.log(at.delta + (at.d0 + at.d1 - 2 * at.delta) * between)

    def _spline_root(self, eta, at):
        """xi with rise(xi) = eta: the root of a xi^2 + b xi = delta eta in [0, 1]; its discriminant is a sum of squares."""
        xp, u = self.xp, at.d0 * (1 - eta) - at.d1 * eta
        a, b = at.delta * (1 - 2 * eta) - u, u + 2 * at.delta * eta
        D, one = xp.sqrt(u * u + 4 * at.delta**2 * eta * (1 - eta)), xp.ones_like(b)
        return xp.where(b > 0, 2 * at.delta * eta / xp.where(b > 0, b + D, one), (D - b) / xp.where(b > 0, one, 2 * a))

    @staticmethod
    def _spline_derivatives(xi, at):
        """Of the rise and of the log slope in xi, then of both in delta, in d0 and in d1."""
        delta, d0, d1 = at.delta, at.d0, at.d1
        between, left = xi * (1 - xi), 1 - xi
        below = delta + (d0 + d1 - 2 * delta) * between
        rest = d1 * xi**2 + 2 * delta * between + d0 * left**2
        return (delta * rest / below**2,
                2 * (d1 * xi + delta * (1 - 2 * xi) - d0 * left) / rest - 2 * (d0 + d1 - 2 * delta) * (1 - 2 * xi) / below,
                between * (d1 * xi**2 - d0 * left**2) / below**2,
                2 / delta + 2 * between / rest - 2 * (1 - 2 * between) / below,
                between * (delta * left**2 + d1 * between) / below**2,
                left**2 / rest - 2 * between / below,
                -between * (delta * xi**2 + d0 * between) / below**2,
                xi**2 / rest - 2 * between / below)

    def _spline_gradient(self, dS, dlogdet, xi, at, P, bound):
        """dR, where that is in the domain, and dP."""
        xp, K, zero = self.xp, (P.shape[2] + 1) // 3, self.xp.zeros_like(xi)
        dS, dl = xp.where(at.inside, dS, zero), xp.where(at.inside, dlogdet[:, None], zero)
        rise_xi, log_xi, rise_delta, log_delta, rise_d0, log_d0, rise_d1, log_d1 = self._spline_derivatives(xi, at)
        dxi, ddelta = dS * at.h * rise_xi + dl * log_xi, dS * at.h * rise_delta + dl * log_delta
        dd0, dd1 = dS * at.h * rise_d0 + dl * log_d0, dS * at.h * rise_d1 + dl * log_d1
        dR = dxi / at.w
        # xi = (R - x) / w, delta = h / w, S = y + h rise; x and y are the sums of the sizes before
        dw, dh = -(dxi * xi + ddelta * at.delta) / at.w, dS * self._spline_rise(xi, at) + ddelta / at.w
        here = xp.astype(at.bins, P.dtype)
        before = here @ xp.tril(xp.ones((K, K), dtype=P.dtype, device=P.device), k=-1)
        parts = []
        for logits, dsize, dknot in ((P[..., :K], dw, -dR), (P[..., K:2 * K], dh, dS)):
            p = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
            p = p / xp.sum(p, axis=-1, keepdims=True)
            dp = 2 * bound * (1 - K * LEAST) * (here * dsize[..., None] + before * dknot[..., None])
            parts.append(p * (dp - xp.sum(p * dp, axis=-1, keepdims=True)))
        dslopes = here[..., 1:] * dd0[..., None] + here[..., :-1] * dd1[..., None]
        parts.append(dslopes * self._sigmoid(P[..., 2 * K:] + ZERO_IS_SLOPE_ONE))
        return dR, xp.concat(parts, axis=-1)

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
