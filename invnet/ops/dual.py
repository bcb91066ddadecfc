"""Dual numbers: arrays with a tangent, their derivative in one direction.

A `Dual` is a value and a tangent of the same shape. A function of NumPy arrays maps it to the function's value and
directional derivative, exact to rounding and without a step size. A layer's forward pass on Duals gives the Jacobian
times a vector. Its backward pass on Duals gives second derivatives: how the gradient changes in a direction. The
operations are those of the reference.

References:
    Griewank & Walther, Evaluating Derivatives, 2008, sections 3.1 (tangents) and 5.1 (tangents of a gradient).
"""

import math

import array_api_compat.numpy as standard
import numpy as np
from scipy.special import log_ndtr, ndtr

from . import register
from .reference import Ops


def value_of(x):
    return x.value if isinstance(x, Dual) else x


def tangent_of(x):
    """Returns the tangent; zeros for a constant."""
    return x.tangent if isinstance(x, Dual) else np.zeros_like(x, dtype=np.result_type(x, np.float32))


#: function of one array -> its derivative, from its value y and its argument x
SLOPES = {
    np.negative: lambda y, x: -1.0,
    np.positive: lambda y, x: 1.0,
    np.exp: lambda y, x: y,
    np.expm1: lambda y, x: y + 1,
    np.log: lambda y, x: 1 / x,
    np.log1p: lambda y, x: 1 / (1 + x),
    np.sqrt: lambda y, x: 0.5 / np.where(y > 0, y, np.inf),  # 0 at x = 0, such as the radius at a centre
    np.square: lambda y, x: 2 * x,
    np.abs: lambda y, x: np.sign(x),
    np.sin: lambda y, x: np.cos(x),
    np.cos: lambda y, x: -np.sin(x),
    np.sinh: lambda y, x: np.cosh(x),
    np.cosh: lambda y, x: np.sinh(x),
    np.tanh: lambda y, x: 1 - y * y,
    np.arctan: lambda y, x: 1 / (1 + x * x),
    np.arcsinh: lambda y, x: 1 / np.sqrt(1 + x * x),
    ndtr: lambda y, x: np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi),
    log_ndtr: lambda y, x: np.exp(-0.5 * x * x - y) / math.sqrt(2 * math.pi),
}
#: function of two arrays a and b -> the contributions of their tangents da and db to its tangent
PRODUCTS = {
    np.add: (lambda a, b, da: da, lambda a, b, db: db),
    np.subtract: (lambda a, b, da: da, lambda a, b, db: -db),
    np.multiply: (lambda a, b, da: da * b, lambda a, b, db: a * db),
    np.divide: (lambda a, b, da: da / b, lambda a, b, db: -a / (b * b) * db),
    np.matmul: (lambda a, b, da: da @ b, lambda a, b, db: a @ db),
    np.maximum: (lambda a, b, da: np.where(a >= b, da, 0), lambda a, b, db: np.where(a >= b, 0, db)),
    np.minimum: (lambda a, b, da: np.where(a <= b, da, 0), lambda a, b, db: np.where(a <= b, 0, db)),
}
#: functions that are constant between jumps, so that they have no tangent
DECISIONS = {
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    np.equal,
    np.not_equal,
    np.isfinite,
    np.isnan,
    np.sign,
    np.floor,
}
#: linear functions of their first argument, which is an array or a list of arrays
LINEAR = {
    np.sum,
    np.mean,
    np.reshape,
    np.transpose,
    np.swapaxes,
    np.moveaxis,
    np.broadcast_to,
    np.concatenate,
    np.stack,
    np.take,
    np.tril,
    np.triu,
    np.diagonal,
    np.flip,
    np.repeat,
    np.cumsum,
    np.copy,
    np.squeeze,
    np.expand_dims,
}
#: functions that make a constant array of the shape of their first argument. It may be written to.
CONSTANT = {np.zeros_like, np.ones_like, np.full_like, np.empty_like}


class Dual(np.lib.mixins.NDArrayOperatorsMixin):
    """A NumPy array with its tangent, the derivative in one direction.

    Args:
        value: an array of float32 or float64.
        tangent: an array of the same shape; None means zeros.

    Raises:
        ValueError: the tangent has another shape.
    """

    device = "cpu"

    def __init__(self, value, tangent=None):
        self.value = np.asarray(value)
        self.tangent = np.zeros_like(self.value) if tangent is None else np.asarray(tangent, self.value.dtype)
        if self.tangent.shape != self.value.shape:
            raise ValueError(f"a tangent has the shape of its value, {self.value.shape}; got {self.tangent.shape}")

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)
    T = property(lambda self: Dual(self.value.T, self.tangent.T))

    def __repr__(self):
        return f"Dual({self.value!r}, {self.tangent!r})"

    def __len__(self):
        return len(self.value)

    def __float__(self):
        return float(self.value)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a Dual would lose its tangent in a NumPy array; .value is the array without it")

    def __getitem__(self, index):
        return Dual(self.value[index], self.tangent[index])

    def __setitem__(self, index, x):
        self.value[index], self.tangent[index] = value_of(x), tangent_of(x)

    def reshape(self, *shape):
        return Dual(self.value.reshape(*shape), self.tangent.reshape(*shape))

    def sum(self, axis=None, keepdims=False):
        return np.sum(self, axis=axis, keepdims=keepdims)

    def astype(self, dtype, copy=True):
        return Dual(self.value.astype(dtype, copy=copy), self.tangent.astype(dtype, copy=copy))

    def copy(self):
        return Dual(self.value.copy(), self.tangent.copy())

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if method != "__call__" or options:
            raise TypeError(f"there is no tangent of {ufunc.__name__}.{method} with {options}")
        values = [value_of(x) for x in inputs]
        y = ufunc(*values)
        if ufunc in DECISIONS:
            return y
        if ufunc in SLOPES:
            tangent = SLOPES[ufunc](y, values[0]) * inputs[0].tangent
        elif ufunc in PRODUCTS:
            parts = [part(*values, x.tangent) for part, x in zip(PRODUCTS[ufunc], inputs) if isinstance(x, Dual)]
            tangent = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        elif ufunc is np.power and not isinstance(inputs[1], Dual):
            x, n = values
            tangent = n * x ** (n - 1) * inputs[0].tangent
        else:
            raise TypeError(f"there is no tangent of {ufunc.__name__}")
        if np.shape(tangent) != np.shape(y):  # a constant was broadcast
            tangent = np.broadcast_to(tangent, np.shape(y)).copy()
        if out is None:
            return Dual(y, tangent)
        if not isinstance(out[0], Dual):
            raise TypeError("a Dual would lose its tangent in a NumPy array, where it was to be written")
        out[0][...] = Dual(y, tangent)
        return out[0]

    def __array_function__(self, function, types, arguments, options):
        if function in LINEAR:
            first, *others = arguments
            if isinstance(first, (list, tuple)):
                return Dual(
                    function([*map(value_of, first)], *others, **options),
                    function([*map(tangent_of, first)], *others, **options),
                )
            return Dual(function(first.value, *others, **options), function(first.tangent, *others, **options))
        if function in CONSTANT:
            return Dual(function(self.value, *arguments[1:], **options))
        if function is np.where:
            condition, a, b = arguments
            return Dual(
                np.where(condition, value_of(a), value_of(b)), np.where(condition, tangent_of(a), tangent_of(b))
            )
        if function in (np.max, np.min, np.amax, np.amin):
            return self._extreme(function, **options)
        if function is np.clip:
            x, low, high = arguments
            return np.where((value_of(x) >= low) & (value_of(x) <= high), x, np.clip(x.value, low, high))
        raise TypeError(f"there is no tangent of {function.__name__}")

    def _extreme(self, function, axis=None, keepdims=False):
        """Returns the largest or smallest entry, with the tangent of the first entry that has this value."""
        y = function(self.value, axis=axis, keepdims=True)
        chosen = self.value == y
        first = chosen & (
            np.cumsum(chosen.reshape(-1) if axis is None else chosen, axis=axis).reshape(chosen.shape) == 1
        )
        return (
            Dual(y, np.sum(np.where(first, self.tangent, 0.0), axis=axis, keepdims=True))
            if keepdims
            else Dual(function(self.value, axis=axis), np.sum(np.where(first, self.tangent, 0.0), axis=axis))
        )


class DualNamespace:
    """The array API of NumPy, with `asarray` and `clip` for Duals."""

    def __getattr__(self, name):
        return getattr(standard, name)

    def asarray(self, x, *, copy=None, **options):
        if isinstance(x, Dual):
            return x.copy() if copy else x
        return standard.asarray(x, copy=copy, **options)

    def clip(self, x, low, high):
        return np.clip(x, low, high)


class DualOps(Ops):
    """The reference's operations. New arrays are Duals, so that Duals can be written to them."""

    name, guarded = "numpy", False  # parameters remain NumPy arrays

    def __init__(self):
        super().__init__(DualNamespace())

    def asarray(self, data, like):
        return Dual(np.asarray(value_of(data), like.dtype), tangent_of(data))

    def from_numpy(self, data):
        return Dual(data) if data.dtype.kind == "f" else data  # an order of channels must remain an index

    def to_numpy(self, X):
        return value_of(X)

    def full(self, N, value, like):
        return Dual(np.full(N, value, like.dtype))

    def empty(self, shape, like):
        return Dual(np.empty(shape, like.dtype))

    def checksum(self, X):
        return float(np.sum(X.value)), float(np.sum(X.tangent))


register(Dual, DualOps())
