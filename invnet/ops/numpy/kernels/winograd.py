"""Convolutions whose kernels have three taps along the last axis by half of the multiplications, for use inside
compiled functions.

A patch, four neighbours of a row, has the coefficients of a polynomial, and the three taps those of another; their
product has what the patch adds to six neighbours. Multiplied are its values at six points, 0, 1, -1, 2, -2 and
infinity, where coefficients take twelve multiplications. So a kernel (kd, kh, 3) on rows of W positions is six of (kd,
kh, 1), one for each point, on rows of W / 4 patches; reading taps is the transpose of adding them (docs/math.md).
Rounding is two to three times that of the sums of products.

References:
    Winograd, Arithmetic Complexity of Computations, 1980. Lavin & Gray, Fast Algorithms for Convolutional Neural
    Networks, 2016.
"""

import numpy as np

from .products import clear
from .simple import ZERO, inner, once
from .vector_rows import combination, pack_rows, sum_runs

#: positions of a patch
PATCH = 4


def _values_of(n):
    """A matrix: of a polynomial with n coefficients the values at 0, 1, -1, 2, -2, and at infinity, where the last
    alone counts.
    """
    return np.vstack([np.vander([0.0, 1, -1, 2, -2], n, increasing=True), np.eye(n)[-1:]])


#: With these factors of the taps' values the numbers of all other matrices are whole.
_scale = np.array([[1 / 4], [-1 / 6], [-1 / 6], [1 / 24], [1 / 24], [1]])
_values, _taps, _product = _values_of(PATCH), _scale * _values_of(3), np.rint(np.linalg.inv(_values_of(6)) / _scale.T)
POINTS = len(_values)
#: The point 1, where all coefficients count the same: what is added to values there is added to every position of a
#: patch.
ONE_POINT = 1

_evaluate, _evaluate_vjp = combination(_values), combination(_values.T)
_interpolate, _interpolate_vjp = combination(_product, added=True), combination(_product.T)
_evaluate_taps, _evaluate_taps_vjp = combination(_taps), combination(_taps.T)


@inner
def first_of(patch, Q, W):
    """The first position of a patch, of the Q of each row of W; where there are as many as positions they are these."""
    return patch if Q == W else patch // Q * W + patch % Q * PATCH


@inner
def evaluate(Y, y, pitch, r, n, Q, W, out, o, plane, spare):
    """The values of n patches from number r: those at each point at o, a plane for each.

    `spare` is where in `out` there is room for the rows of a patch.
    """
    for p in range(r, r + n):
        at, count, to = y + first_of(p, Q, W) * pitch, min(PATCH, W - p % Q * PATCH), o + (p - r) * pitch
        if count == PATCH:
            _evaluate(Y, at, pitch, out, to, plane, pitch)
        else:
            pack_rows(Y, at, pitch, out, spare, pitch, count, pitch)
            clear(out, spare + count * pitch, spare + PATCH * pitch)
            _evaluate(out, spare, pitch, out, to, plane, pitch)


@inner
def evaluate_vjp(out, o, plane, Y, y, pitch, r, n, Q, W):
    """The transpose of `evaluate`. What goes beyond a row of positions is overwritten by the next, and beyond the last
    there is room.
    """
    for p in range(r, r + n):
        _evaluate_vjp(out, o + (p - r) * pitch, plane, Y, y + first_of(p, Q, W) * pitch, pitch, pitch)


@once
def interpolate(work, columns, pitch, bias, Y, out, out_pitch, N, D, H, W, C, kd, kh, spare, zeros, offsets):
    """Y[out + p] = bias + what all patches add to the position p: products of values, with a column for each tap of
    (kd, kh) and each channel.

    Their planes lie at `columns`; `spare` has room for a row of positions and of values, `offsets` for those of the
    taps inside the image.
    """
    pd, ph, Q, row, none = kd // 2, kh // 2, (W + PATCH - 1) // PATCH, 0, work[zeros:]
    plane, sums = N * D * H * Q * pitch, spare + (Q * PATCH + 2) * out_pitch
    for n in range(N):
        for d in range(D):
            for h in range(H):
                count = 0
                for i in range(kd):
                    for j in range(kh):
                        if 0 <= d + pd - i < D and 0 <= h + ph - j < H:
                            offsets[count] = ((pd - i) * H + ph - j) * Q * pitch + (i * kh + j) * C
                            count += 1
                pack_rows(work, bias, ZERO, work, spare, out_pitch, Q * PATCH + 2, out_pitch)
                for q in range(Q):
                    for i in range(POINTS):
                        sum_runs(
                            work,
                            sums + i * out_pitch,
                            none,
                            work,
                            columns + i * plane + row * pitch,
                            offsets,
                            ZERO,
                            count,
                            C,
                        )
                    _interpolate(work, sums, out_pitch, work, spare + q * PATCH * out_pitch, out_pitch, out_pitch)
                    row += 1
                pack_rows(
                    work,
                    spare + out_pitch,
                    out_pitch,
                    Y,
                    out + ((n * D + d) * H + h) * W * out_pitch,
                    out_pitch,
                    W,
                    out_pitch,
                )


@once
def interpolate_vjp(X, x, pitch, out, o, plane, N, D, H, W, kd, kh, work, spare):
    """The transpose of `interpolate`, but for the taps of (kd, kh): a plane for each point of images with zeros around
    them, of Q patches a row.
    """
    Q, row = (W + PATCH - 1) // PATCH, x
    clear(work, spare, spare + pitch)
    clear(work, spare + (W + 1) * pitch, spare + (Q * PATCH + 2) * pitch)
    for n in range(N):
        for d in range(D + kd - 1):
            for h in range(H + kh - 1):
                to = o + ((n * (D + kd - 1) + d) * (H + kh - 1) + h) * Q * pitch
                if 0 <= d - kd // 2 < D and 0 <= h - kh // 2 < H:
                    pack_rows(X, row, pitch, work, spare + pitch, pitch, W, pitch)
                    row += W * pitch
                    for q in range(Q):
                        _interpolate_vjp(work, spare + q * PATCH * pitch, pitch, out, to + q * pitch, plane, pitch)
                else:
                    for i in range(POINTS):
                        clear(out, to + i * plane, to + i * plane + Q * pitch)


@once
def evaluate_taps(V, o, count, size, out, to):
    """Weights' values: of `count` times three taps of `size` numbers each, of whole vectors, `count` for each point."""
    for j in range(count):
        _evaluate_taps(V, o + 3 * j * size, size, out, to + j * size, count * size, size)


@once
def evaluate_taps_vjp(work, o, count, size):
    """The transpose of `evaluate_taps`, in place: the first three planes become the gradients of the three taps."""
    for j in range(count):
        _evaluate_taps_vjp(work, o + j * size, count * size, work, o + j * size, count * size, size)
