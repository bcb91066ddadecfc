"""Maps of the channels: the mix in registers, its gradient in sums of outer products, and space to depth."""

import cupy

from .launch import axes, in_place, launch, parts_of, strided, summed, vector
from .products import product

#: Numbers of channels that mix_ has a kernel for. Of others, a product of some rows at a time is copied back.
MIXED = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96)
ROWS = 1 << 16
#: Up to here a thread for each number of dM reads rows faster than cuBLAS multiplies such a narrow and long pair.
OUTER = 96
#: Numbers of its sums over parts of the rows, at most, so that they take less memory than a tile.
PARTIAL = 1 << 20


class Channels:
    def mix_(self, X, M, b):
        R, write_back = in_place(self, X)
        if M.ndim == 1:
            launch("scale", X.dtype.char, R.size, *strided(R), *R.shape, vector(M), vector(b))
        else:
            _mix(R, M, None, vector(b))
        write_back()

    def mix_vjp_(self, dZ, Z, M, Minv, b):
        (dR, write_back_dX), (R, write_back_X), C = in_place(self, dZ), in_place(self, Z), Z.shape[1]
        if M.ndim == 1:
            parts = parts_of(R.shape[0])
            out = cupy.empty((parts, 2, C), Z.dtype)
            arguments = *R.shape, vector(M), vector(Minv), vector(b), parts, out
            launch("scale_vjp", Z.dtype.char, parts * C, *strided(dR), *strided(R), *arguments)
            dM, db = summed(out, 1, parts, 2 * C).reshape(2, C)
        else:
            _mix(R, Minv, vector(b), None)
            dM, db = _outer(dR, R)
            _mix(dR, M.T, None, None)
        write_back_dX()
        write_back_X()
        return dM, db

    def split_(self, X, C1):
        return self.copy_channels_last(X[:, :C1])

    def squeeze_(self, X):
        N, C, *spatial = X.shape
        Z = self._channels_last((N, C << len(spatial), *(n // 2 for n in spatial)), X)
        _squeeze(X, Z, True)
        return Z

    def unsqueeze_(self, Z):
        N, C, *half = Z.shape
        X = self._channels_last((N, C >> len(half), *(2 * n for n in half)), Z)
        _squeeze(X, Z, False)
        return X

    def _channels_last(self, shape, like):
        N, C, *spatial = shape
        return cupy.empty((N, *spatial, C), like.dtype).transpose(0, len(shape) - 1, *range(1, len(shape) - 1))


def _squeeze(fine, coarse, to_coarse):
    (fine, fine_strides, _), (coarse, strides, sizes) = axes(fine), axes(coarse)
    halved = [int(i < fine.ndim - 2) for i in (2, 1, 0)]
    launch(
        "squeeze", fine.dtype.char, coarse.size, fine, *fine_strides, coarse, *strides, *sizes, *halved, int(to_coarse)
    )


def _mix(R, M, before, after):
    """R becomes M (r - before) + after, row by row."""
    rows, C = R.shape
    if C in MIXED:
        launch(f"mix_{C}", R.dtype.char, rows, *strided(R), rows, *strided(M), before, after)
        return
    for start in range(0, rows, ROWS):
        part = R[start : start + ROWS]
        mixed = product(part if before is None else part - before, M.T)
        part[...] = mixed if after is None else mixed + after


def _outer(dR, R):
    """The sum of the outer products of the rows, (C, C), and the sum of the rows of dR."""
    rows, C = R.shape
    if C > OUTER:
        dR = cupy.ascontiguousarray(dR)
        return product(dR.T, R), summed(dR, 1, rows, C)[0]
    parts = min(parts_of(rows), max(1, PARTIAL // (C * (C + 1))))
    out = cupy.empty((parts, C, C + 1), R.dtype)
    launch("outer", R.dtype.char, out.size, *strided(dR), *strided(R), rows, C, parts, out)
    total = summed(out, 1, parts, C * (C + 1)).reshape(C, C + 1)
    return total[:, :C], total[:, C]
