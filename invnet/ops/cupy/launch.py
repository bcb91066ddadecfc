"""Kernels of kernels.cu, by name and dtype, and how they are launched."""

import functools
import pathlib

import cupy
import numpy as np

TYPES = {"f": "float", "d": "double"}
BLOCK = 256
_NONE = np.uint64(0)  # a pointer to nothing


def launch(name, char, threads, *arguments):
    """Queues a kernel for a number of threads.

    Args:
        char: the character of the dtype, "f" or "d".
        arguments: arrays, of which the kernel gets the address; integers; floats, in the dtype; None for no array.
    """
    if threads:
        kernel(name, char)((-(-threads // BLOCK),), (BLOCK,), tuple([_argument(a, char) for a in arguments]))


def _argument(a, char):
    if a is None:
        return _NONE
    if isinstance(a, int):
        return np.int32(a)
    return np.dtype(char).type(a) if isinstance(a, float) else a


@functools.cache
def kernel(name, char):
    return _module(char).get_function(name)


@functools.cache
def _module(char):
    """Of one dtype; CuPy compiles it for the device at hand, and keeps what was compiled in its cache on disk."""
    source = (pathlib.Path(__file__).parent / "kernels.cu").read_text()
    return cupy.RawModule(code=source, options=(f"-DREAL={TYPES[char]}", "--std=c++14"))


# ---- arrays as kernels see them


def strided(R):
    """An array and its strides in numbers, as arguments."""
    return (R, *[s // R.itemsize for s in R.strides])


def axes(X):
    """X (N, C, *spatial) as an array, the strides and the sizes of N, C and three spatial axes, of which absent ones
    have 1.
    """
    absent, strides = [1] * (5 - X.ndim), [s // X.itemsize for s in X.strides]
    return X, [*strides[:2], *absent, *strides[2:]], [*X.shape[:2], *absent, *X.shape[2:]]


def vector(v):
    return cupy.ascontiguousarray(v)


def in_place(ops, X):
    """The rows of X to work on, and a function to call after it, where these had to be a copy."""
    R = ops.rows(X)
    if R.data.ptr == X.data.ptr or not X.size:
        return R, lambda: None

    def write_back():
        X[...] = ops.images(R, X.shape)

    return R, write_back


# ---- sums in passes, each over some 64 numbers, in an order that depends on the shape only

SHARE = 64


def parts_of(length):
    return max(1, -(-length // SHARE))


def summed(partial, groups, length, width):
    """The sums over the middle axis of (groups, length, width), as (groups, width)."""
    while length > 1:
        parts = parts_of(length)
        out = cupy.empty((groups, parts, width), partial.dtype)
        launch("sums", partial.dtype.char, out.size, partial, groups, length, width, parts, out)
        partial, length = out, parts
    return partial.reshape(groups, width) if length else cupy.zeros((groups, width), partial.dtype)
