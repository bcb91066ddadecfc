"""Activations and their derivatives over rows, for use inside compiled functions."""

import math

from .exponentials import normal_tail, tanh
from .kernels import inner

#: activation -> its number in compiled functions
NUMBERS = {None: 0, "relu": 1, "leaky_relu": 2, "softplus": 3, "silu": 4, "gelu": 5, "tanh": 6}
RELU, LEAKY_RELU, SOFTPLUS, SILU, GELU, TANH = 1, 2, 3, 4, 5, 6
SLOPE, DENSITY = 0.01, 1 / math.sqrt(2 * math.pi)


@inner
def activate(H, A, activation):
    """H = act(H); of those FROM_ARGUMENT, whose derivative needs what went in, A gets that."""
    zero, slope = H.dtype.type(0), H.dtype.type(SLOPE)
    if activation == RELU:
        for i in range(H.size):
            h = H[i]
            H[i] = zero if h <= zero else h
    elif activation == LEAKY_RELU:
        for i in range(H.size):
            h = H[i]
            H[i] = slope * h if h <= zero else h
    elif activation == SOFTPLUS:
        for i in range(H.size):
            H[i] = max(H[i], zero) + math.log1p(math.exp(-abs(H[i])))
    elif activation == SILU:
        for i in range(H.size):
            A[i] = H[i]
            e = math.exp(-abs(A[i]))
            H[i] = A[i] / (1 + e) if A[i] > 0 else A[i] * e / (1 + e)
    elif activation == GELU:
        for i in range(H.size):
            a = H[i]
            A[i] = a
            u, _, tail = normal_tail(abs(a))
            H[i] = (a if a > zero else zero) - u * tail
    elif activation == TANH:
        for i in range(H.size):
            H[i] = tanh(H[i])


@inner
def activate_back(dH, H, A, activation):
    """dH = dH act'(A), of rows H = act(A) that `activate` gave."""
    zero, slope = H.dtype.type(0), H.dtype.type(SLOPE)
    if activation == RELU:
        for i in range(H.size):
            g, h = dH[i], H[i]  # both read before the choice, or it becomes a branch, 3 ns a number
            dH[i] = zero if h <= zero else g
    elif activation == LEAKY_RELU:
        for i in range(H.size):
            g, h = dH[i], H[i]
            dH[i] = slope * g if h <= zero else g
    elif activation == SOFTPLUS:
        for i in range(H.size):
            dH[i] = -dH[i] * math.expm1(-H[i])
    elif activation == SILU:
        for i in range(H.size):
            e = math.exp(-abs(A[i]))
            s = 1 / (1 + e) if A[i] > 0 else e / (1 + e)
            dH[i] = dH[i] * s * (1 + A[i] * (1 - s))
    elif activation == GELU:
        density, one = H.dtype.type(DENSITY), H.dtype.type(1)
        for i in range(H.size):
            g, a = dH[i], A[i]
            u, e, tail = normal_tail(abs(a))
            slope = tail - density * u * e  # at -|a|
            dH[i] = g * (one - slope if a > zero else slope)
    elif activation == TANH:
        one = H.dtype.type(1)
        for i in range(H.size):
            dH[i] *= (one - H[i]) * (one + H[i])
