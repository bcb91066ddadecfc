"""Jacobians of a layer: their products with vectors, and the matrices themselves, one for each sample."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import numpy as np

from ..core import condition_array, condition_rows, get_ops, other_gradients
from ..ops.dual import Dual
from ..passes.context import in_own_context
from .checks import check_layer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..core import Layer, Parameter
    from ..typing import Array, Cond

ROWS = 1 << 15  # samples of one backward call, at most: a Jacobian of N samples takes N D


@in_own_context
def vjp(net: Layer, X: Array, dZ: Array, cond: Cond = None) -> tuple[Array, Array]:
    """Z and J^T dZ, J being the Jacobian dZ/dX of each sample; the parameters' gradients are left as they are.

    Args:
        net: a Layer.
        X, dZ: (N, C, *spatial).
        cond: the condition, or None.
    """
    cond = condition_array(cond)
    Z, _ = net.forward(X, cond)
    with gradients_aside(net):
        return Z, net.backward(dZ, Z, 0.0, cond)[0]


def jvp(net: Layer, X: Array, dX: Array, cond: Cond = None) -> tuple[Array, Array]:
    """Z and J dX, the derivative of Z in the direction dX; exact, in one forward pass on dual numbers.

    That pass runs the reference operations, twice: six to ten times the time of a forward by the engine's kernels.

    Args:
        net: a Layer of NumPy arrays.
        X, dX: (N, C, *spatial).
        cond: the condition, or None.

    Raises:
        TypeError: X is no NumPy array, or a layer of your own calls a function whose derivative `Dual` does not know.
    """
    Z, _ = net.forward(dual(X, dX), condition_array(cond))
    return Z.value, Z.tangent


def jacobian(net: Layer, X: Array, cond: Cond = None) -> Array:
    """J, (N, D, D) with J[n, i, j] = dz_i / dx_j of sample n; of an array with spatial axes D counts all entries, (C,
    *spatial).

    It is D vector-Jacobian products, D backward calls' worth of arithmetic in few calls.
    """
    return forward_and_jacobian(net, X, cond)[1]


@in_own_context
def forward_and_jacobian(net: Layer, X: Array, cond: Cond = None) -> tuple[Array, Array]:
    """Z and J."""
    check_layer(net, "a Jacobian")
    cond = condition_rows(cond, X.shape[0])
    Z, _ = net.forward(X, cond)
    ops, xp, (N, *shape) = get_ops(Z), get_ops(Z).xp, Z.shape
    D = math.prod(shape)
    units = ops.asarray(np.eye(D).reshape(D, *shape), Z)
    J = ops.asarray(np.zeros((N, D, D)), Z)
    step = max(1, ROWS // max(1, D))
    with gradients_aside(net):
        for n in range(0, N, step):
            some = Z[n : n + step]
            rows = xp.broadcast_to(units[None], (some.shape[0], D, *shape))
            c = None if cond is None else repeat(cond[n : n + step], D)
            dX, _ = net.backward(xp.reshape(rows, (-1, *shape)), repeat(some, D), 0.0, c)
            J[n : n + step] = xp.reshape(dX, (some.shape[0], D, D))
    return Z, J


def inverse_jacobian(net: Layer, Z: Array, cond: Cond = None) -> Array:
    """K = J^-1, (N, D, D) with K[n, i, j] = dx_i / dz_j, at the X of which Z is the image."""
    return inverse_and_jacobian(net, Z, cond)[1]


def inverse_and_jacobian(net: Layer, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
    """X and K."""
    X = net.inverse(Z, condition_array(cond))
    return X, get_ops(Z).xp.linalg.inv(jacobian(net, X, cond))


def repeat(X: Array, times: int) -> Array:
    """Each sample of X that many times, one after the other."""
    xp = get_ops(X).xp
    return xp.reshape(xp.broadcast_to(X[:, None], (X.shape[0], times, *X.shape[1:])), (-1, *X.shape[1:]))


def dual(X: Array, dX: Array) -> Dual:
    """The dual number of X and its change dX.

    Raises:
        TypeError: these are no NumPy arrays.
        ValueError: their shapes differ.
    """
    if not isinstance(X, np.ndarray) or not isinstance(dX, np.ndarray):
        raise TypeError(
            f"tangents are computed on NumPy arrays; got {type(X).__name__} and {type(dX).__name__}: "
            'net.to("numpy") moves a network'
        )
    return Dual(X, dX)


@contextlib.contextmanager
def tangents_added(net: Layer) -> Iterator[None]:
    """Within, gradients are dual numbers; after it, their tangents are added to the gradients of `net`'s parameters.

    A backward on dual numbers gives the change of its gradients in a direction, and so the gradient of a Jacobian: with
    fixed vectors a and v, d/dtheta of a^T J v is the tangent of the gradient of a^T z, as x goes in the direction v.
    """
    context, gradients = other_gradients(net.parameters(), lambda data: Dual(np.zeros_like(data)))
    with context:
        yield
    for parameter, gradient in gradients.items():
        parameter.add(gradient.array.tangent)


@contextlib.contextmanager
def gradients_aside(net: Layer) -> Iterator[list[Parameter]]:
    """Within, backward leaves the gradients of `net`'s parameters as they are: these have others, zeros at first. Gives
    the parameters.
    """
    parameters = net.parameters()
    with other_gradients(parameters)[0]:
        yield parameters
