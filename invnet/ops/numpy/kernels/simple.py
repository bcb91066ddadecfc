"""How functions are compiled with Numba, and the small ones of the NumPy engine: passes over the rows of a tile.

A kernel is found by the character of its dtype, as in `add("f")(A, B)`; its reference is a method of `Ops` in
invnet/ops/reference. Arrays are rows (positions, channels). Loops run over channels innermost, so that LLVM vectorises
them without reordering a sum.
"""

import functools
import hashlib
import math
import pathlib
import types

import numba
import numpy as np
from numba import njit

from ..compilation_notice import announced
from . import records

#: For use inside compiled functions alone: without what makes a function ready for callers of other kinds, a fifth of
#: what is compiled.
inner = njit(error_model="numpy", nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)

#: As `inner`, for what is called at one place of a function: part of that from the start, which is optimised once and
#: not twice.
once = njit(error_model="numpy", nogil=True, inline="always")

#: For arguments of compiled functions: of literals Numba makes versions of their own.
ZERO, ONE, TRUE = np.int64(0), np.int64(1), np.bool_(True)

TYPES = {"f": "float32", "d": "float64"}


def compiled(function, signature, char, *constants):
    """The function compiled for one dtype, $ in its signature, and for the constants that it closes over or what else
    tells it from others. The names in a signature are Numba's, and those of records.py.

    Each has a name of its own and so its own file in Numba's cache. Under one name two processes that compile two
    versions at once can each find the other's code under its own key, with no sign of it but wrong numbers.
    """
    name = "_".join(map(str, (function.__name__, TYPES[char], *constants, _digest())))
    own = types.FunctionType(function.__code__, function.__globals__, name, None, function.__closure__)
    own.__qualname__ = name
    with announced():
        typed = eval(signature.replace("$", TYPES[char]), {**vars(numba.types), **records.TYPES})
        return njit(typed, nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)(own)


@functools.cache
def _digest():
    """Of the files whose functions are compiled into others: Numba looks at the outer function's file only."""
    files = sorted(pathlib.Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def kernel(signature):
    """A decorator that compiles at the first call of kernel(char), or kernel(char, part) where ? in the signature
    stands for an argument that is True if there is that part of a task and None if not: functions given a None are
    compiled without what it is for."""

    def versions(function):
        @functools.cache
        def version(char, part=None):
            return compiled(
                function, signature.replace("?", "boolean" if part else "none"), char, *(["part"] if part else [])
            )

        return version

    return versions


# ---- rows


@kernel("void($[:,:], $[:,:])")
def add(A, B):
    for r in range(A.shape[0]):
        for c in range(A.shape[1]):
            A[r, c] += B[r, c]


# ---- the optimizer


@kernel("void($[::1], $[::1], $[::1], $[::1], $, $, $, $, $, $, $)")
def adam(data, grad, m, v, b1, rest1, b2, rest2, rate, root, eps):
    """With rest = 1 - b. A mean that has decayed to almost nothing is 0: below 1e-38 arithmetic takes ten times as
    long.
    """
    least, zero = data.dtype.type(1e-37), data.dtype.type(0)
    for i in range(data.size):
        mean = b1 * m[i] + rest1 * grad[i]
        m[i] = zero if abs(mean) < least else mean
        v[i] = b2 * v[i] + rest2 * grad[i] * grad[i]
        data[i] -= rate * m[i] / (root * math.sqrt(v[i]) + eps)
