"""Log densities with their gradients: of a function in PyTorch, in JAX, or of a function without a gradient.

Each makes `log_p(X) -> value (N,), gradient (N, C, *spatial)`, which `reverse_kl` takes. PyTorch and JAX are imported
by the function that needs them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_numbers
from ..core import get_ops

if TYPE_CHECKING:
    from collections.abc import Callable


def from_torch(function: Callable) -> Callable:
    """The log density that a function of torch tensors gives, with its gradient by autograd.

    The array is handed over without a copy where its memory allows (DLPack), and keeps its dtype.

    Args:
        function: from a tensor (N, C, *spatial) to a tensor (N,), each sample by itself.

    Raises:
        TypeError: the function gives no tensor.
        ValueError: it does not give one number for each sample, or one that no gradient flows from.
    """
    import torch

    def log_p(X):
        ops = get_ops(X)
        try:
            x = torch.from_dlpack(X)
        except (BufferError, RuntimeError, TypeError):  # read-only, or with strides that torch has not
            x = torch.from_dlpack(ops.copy(X))
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            value = function(x)
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"the function of from_torch gives a torch tensor; got {type(value).__name__}")
        if tuple(value.shape) != (X.shape[0],):
            raise ValueError(
                f"the function of from_torch gives a tensor (N,), here ({X.shape[0]},); got {tuple(value.shape)}"
            )
        if not value.requires_grad:
            raise ValueError(
                "the function of from_torch is differentiated by autograd; its value does not depend on x or was "
                "detached from it"
            )
        (gradient,) = torch.autograd.grad(value, x, torch.ones_like(value))
        return ops.xp.from_dlpack(value.detach()), ops.xp.from_dlpack(gradient)

    return log_p


def from_jax(function: Callable) -> Callable:
    """The log density that a function of JAX arrays gives, with its gradient by jax.grad.

    JAX computes in float32 unless `jax_enable_x64` is set. A function through jax.jit is compiled once for each shape.

    Args:
        function: from an array (N, C, *spatial) to an array (N,), each sample by itself.

    Raises:
        ValueError: the function does not give one number for each sample.
    """
    import jax

    def total(x):
        value = function(x)
        return value.sum(), value

    with_gradient = jax.value_and_grad(total, has_aux=True)

    def log_p(X):
        ops = get_ops(X)
        (_, value), gradient = with_gradient(jax.numpy.asarray(ops.to_numpy(X)))
        if tuple(value.shape) != (X.shape[0],):
            raise ValueError(
                f"the function of from_jax gives an array (N,), here ({X.shape[0]},); got {tuple(value.shape)}"
            )
        return ops.asarray(np.asarray(value), X), ops.asarray(np.asarray(gradient), X)

    return log_p


def from_differences(function: Callable, step: float = 1e-5) -> Callable:
    """A log density with its gradient by central differences, (f(x + h e_i) - f(x - h e_i)) / 2 h, in float64.

    For a function that no one differentiates: it is called 2 D + 1 times for D numbers in a sample.

    Args:
        function: from a float64 array (N, C, *spatial) to (N,), each sample by itself.
        step: h, positive. The error is of the order of h^2 and 1e-16 / h, times the scale of the function.

    Raises:
        ValueError: the function does not give one number for each sample, or the step is not positive.
    """
    check_numbers(step=step)
    if not 0 < step < math.inf:
        raise ValueError(f"step is a positive number; got {step}")

    def log_p(X):
        ops = get_ops(X)
        xp, Y = ops.xp, ops.copy(ops.astype(X, "float64"))

        def value_at(Y):
            value = function(Y)
            if tuple(getattr(value, "shape", ())) != (X.shape[0],):
                raise ValueError(
                    f"the function of from_differences gives an array (N,), here ({X.shape[0]},); got "
                    f"{getattr(value, 'shape', value)!r}"
                )
            return value

        value, gradient = value_at(Y), xp.zeros_like(Y)
        for i in np.ndindex(*X.shape[1:]):
            entry = (slice(None), *i)
            above, below = ops.copy(Y), ops.copy(Y)
            above[entry] += step
            below[entry] -= step
            gradient[entry] = (value_at(above) - value_at(below)) / (2 * step)
        return ops.astype(value, X.dtype), ops.astype(gradient, X.dtype)

    return log_p
