"""Conditioners that are stacks of convolutions: one compiled call, and one for the gradients."""

import functools

import numpy as np

from ..memory import in_tile, passing, scratch
from .arrays import LAST, readable
from .kernels import convolutions
from .kernels.vectors import BYTES

_INT, _LANES = np.dtype(np.int64), {4: BYTES // 4, 8: BYTES // 8}


class ConvStack:
    def conv_stack(self, X, layers, parameters, added=None, keep=True):
        X = readable(X)
        x, arrays, dtype = five(X), [readable(a).reshape(-1) for a in parameters], X.dtype
        N, D, H, W, _ = x.shape
        how = convolutions.plan(layers, N, D, H, W, dtype.itemsize, keep)
        tape, (work, offsets) = (
            scratch((how.tape,), dtype),
            self._work(how, how.backward if keep else how.forward, dtype),
        )
        y, rows = scratch((N * D * H * W, parameters[-1].size), dtype), _none(dtype) if added is None else added
        convolutions.forward(dtype.char)(
            _addresses(arrays), how.table, x, rows, tape, work, offsets, y, _LANES[dtype.itemsize]
        )
        kept = (work, offsets) if in_tile() else None
        groups = None if added is None else added.shape
        return self.images(y, (N, y.shape[1], *X.shape[2:])), (how, arrays, tape, kept, groups, X.shape)

    def conv_stack_vjp(self, dY, tape, layers, parameters):
        dY = readable(dY)
        (how, arrays, tape, kept, groups, shape), dtype = tape, dY.dtype
        dy, dx = five(dY), scratch((dY.size // dY.shape[1], shape[1]), dtype)
        work, offsets = kept or self._work(how, how.backward, dtype)
        flat, dadded = np.zeros(how.gradients, dtype), _none(dtype) if groups is None else np.zeros(groups, dtype)
        convolutions.backward(dtype.char)(
            _addresses(arrays), how.table, tape, work, offsets, dy, dx, flat, dadded, _LANES[dtype.itemsize]
        )
        gradients, start = [], 0
        for a in parameters:
            gradients.append(flat[start : start + a.size].reshape(a.shape))
            start += a.size
        return self.images(dx, shape), gradients, None if groups is None else dadded

    @staticmethod
    def _work(how, floats, dtype):
        return passing((floats,), dtype), passing((4, how.offsets), _INT)


def _addresses(arrays):
    return np.array([a.ctypes.data for a in arrays])


@functools.cache
def _none(dtype):
    """No rows."""
    return np.empty((0, 1), dtype)


def five(X):
    """(N, C, *spatial) as a view (N, D, H, W, C), absent axes of length 1."""
    last = X.transpose(LAST[X.ndim])
    return last[(slice(None),) + (None,) * (5 - X.ndim)]
