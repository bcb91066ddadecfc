"""Activations and their derivatives over rows, for use inside compiled functions."""

import math

from .kernels import inner

#: activation -> its number in compiled functions
NUMBERS = {None: 0, "relu": 1, "leaky_relu": 2, "softplus": 3, "silu": 4}
RELU, LEAKY_RELU, SOFTPLUS, SILU = 1, 2, 3, 4
SLOPE = 0.01


@inner
def activate(H, A, activation):
    """H = act(H); of a silu, whose derivative needs what went in, A gets that."""
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
