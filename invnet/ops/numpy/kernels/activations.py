"""Activations and their derivatives over rows, compiled one by one when a network first has them.

Other compiled functions call them by their addresses. As branches of these they would be compiled with every network,
for a second. An activation is two kernels here: `gelu` has H = act(H), and of those FROM_ARGUMENT A gets what went in;
`gelu_vjp` has dH = dH act'(A), of the rows H and A that the first left.
"""

import functools
import math

import numpy as np
from numba import types
from numba.extending import intrinsic

from .exponentials import normal_tail
from .exponentials import tanh as tanh_of
from .simple import inner, kernel

SLOPE, DENSITY = 0.01, 1 / math.sqrt(2 * math.pi)


def address_of(activation, char):
    """Where the addresses of the two kernels for a dtype lie; 0 for no activation."""
    if activation is None:
        return 0
    return _lying(*(_entry(globals()[name](char)) for name in (activation, f"{activation}_vjp"))).ctypes.data


@functools.cache
def _lying(*addresses):
    return np.array(addresses)


def _entry(dispatcher):
    (version,) = dispatcher.overloads.values()
    return version.library.get_pointer_to_function(version.fndesc.llvm_func_name)


@intrinsic
def _call(typing, address, number, arrays):
    """Calls the kernel whose address is the number-th at an address with these arrays."""

    def build(context, b, signature, args):
        address, number, arrays = args
        kinds = signature.args[2].types
        unpacked = [b.extract_value(arrays, i) for i in range(len(kinds))]
        integer = context.get_value_type(types.intp)
        entry = b.load(b.gep(b.inttoptr(address, integer.as_pointer()), [number]))
        kind = context.call_conv.get_function_type(types.none, kinds)
        context.call_conv.call_function(b, b.inttoptr(entry, kind.as_pointer()), types.none, kinds, unpacked)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, arrays), build


@inner
def activate(H, A, activation):
    """H = act(H), and A, by the activation's address."""
    if activation:
        _call(activation, 0, (H, A))


@inner
def multiply_by_slope(dH, H, A, activation):
    """dH = dH act'(A), of rows H and A that `activate` gave."""
    if activation:
        _call(activation, 1, (dH, H, A))


@kernel("void($[::1], $[::1])")
def relu(H, A):
    zero = H.dtype.type(0)
    for i in range(H.size):
        h = H[i]
        H[i] = zero if h <= zero else h


@kernel("void($[::1], $[::1], $[::1])")
def relu_vjp(dH, H, A):
    zero = H.dtype.type(0)
    for i in range(H.size):
        g, h = dH[i], H[i]  # both read before the choice, or it becomes a branch, 3 ns a number
        dH[i] = zero if h <= zero else g


@kernel("void($[::1], $[::1])")
def leaky_relu(H, A):
    zero, slope = H.dtype.type(0), H.dtype.type(SLOPE)
    for i in range(H.size):
        h = H[i]
        H[i] = slope * h if h <= zero else h


@kernel("void($[::1], $[::1], $[::1])")
def leaky_relu_vjp(dH, H, A):
    zero, slope = H.dtype.type(0), H.dtype.type(SLOPE)
    for i in range(H.size):
        g, h = dH[i], H[i]
        dH[i] = slope * g if h <= zero else g


@kernel("void($[::1], $[::1])")
def softplus(H, A):
    zero = H.dtype.type(0)
    for i in range(H.size):
        H[i] = max(H[i], zero) + math.log1p(math.exp(-abs(H[i])))


@kernel("void($[::1], $[::1], $[::1])")
def softplus_vjp(dH, H, A):
    for i in range(H.size):
        dH[i] = -dH[i] * math.expm1(-H[i])


@kernel("void($[::1], $[::1])")
def silu(H, A):
    for i in range(H.size):
        A[i] = H[i]
        e = math.exp(-abs(A[i]))
        H[i] = A[i] / (1 + e) if A[i] > 0 else A[i] * e / (1 + e)


@kernel("void($[::1], $[::1], $[::1])")
def silu_vjp(dH, H, A):
    for i in range(H.size):
        e = math.exp(-abs(A[i]))
        s = 1 / (1 + e) if A[i] > 0 else e / (1 + e)
        dH[i] = dH[i] * s * (1 + A[i] * (1 - s))


@kernel("void($[::1], $[::1])")
def gelu(H, A):
    zero = H.dtype.type(0)
    for i in range(
        H.size
    ):  # apart, since A is H where nothing is kept, and LLVM makes vectors of one array or of two that do not overlap
        A[i] = H[i]
    for i in range(H.size):
        a = H[i]
        u, _, tail = normal_tail(abs(a))
        H[i] = (a if a > zero else zero) - u * tail


@kernel("void($[::1], $[::1], $[::1])")
def gelu_vjp(dH, H, A):
    zero, one, density = H.dtype.type(0), H.dtype.type(1), H.dtype.type(DENSITY)
    for i in range(H.size):
        g, a = dH[i], A[i]
        u, e, tail = normal_tail(abs(a))
        slope = tail - density * u * e  # at -|a|
        dH[i] = g * (one - slope if a > zero else slope)


@kernel("void($[::1], $[::1])")
def tanh(H, A):
    for i in range(H.size):
        H[i] = tanh_of(H[i])


@kernel("void($[::1], $[::1], $[::1])")
def tanh_vjp(dH, H, A):
    one = H.dtype.type(1)
    for i in range(H.size):
        dH[i] *= (one - H[i]) * (one + H[i])
