"""Base: what a distribution of noise gives a flow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_flags, is_number
from ..core import SHAPES, Buffer, Module, Parameter, as_dlogdet, float_dtype, get_ops

if TYPE_CHECKING:
    from typing import Any

    from ..typing import Array, DType


class Base(Module):
    """A distribution on arrays (N, C, *spatial), a sample along the first axis. It keeps no array between calls.

    A subclass gives log_prob and sample; the two gradients too where it is to be trained, or trained through.
    """

    #: sample_backward exists: a sample is a smooth map of noise that has no parameters.
    reparametrised = True

    def check(self, Z: Array) -> None:
        """ValueError or TypeError where Z is no batch of samples of this distribution."""
        check_batch(Z, type(self).__name__)

    def log_prob(self, Z: Array) -> Array:
        """log density of each sample, (N,), in nats."""
        raise NotImplementedError(f"{type(self).__name__} needs log_prob(Z) -> (N,)")

    def sample(self, shape: tuple[int, ...], rng: np.random.Generator, like: Array, temperature: float = 1.0) -> Array:
        """Samples of `shape` (N, C, *spatial).

        Args:
            rng: a numpy Generator.
            like: an array whose library, dtype and device the samples get.
            temperature: a factor on the deviation from the centre, at least 0.
        """
        raise NotImplementedError(f"{type(self).__name__} needs sample(shape, rng, like, temperature) -> Z")

    def log_prob_backward(self, dlog_prob: Array, Z: Array) -> Array:
        """dZ; adds to the parameters' grad.

        Args:
            dlog_prob: the loss's gradient in log_prob(Z), a number or (N,); None is -1/N.
        """
        raise NotImplementedError(f"{type(self).__name__} needs log_prob_backward(dlog_prob, Z) -> dZ")

    def sample_backward(self, dZ: Array, Z: Array) -> bool:
        """Adds to the parameters' grad what reaches them through samples Z of temperature 1.

        Args:
            dZ: the loss's gradient in Z.
        """
        raise NotImplementedError(f"{type(self).__name__} needs sample_backward(dZ, Z)")


class ParametricBase(Base):
    """A Base with state of the shape of a sample: what its subclasses share."""

    #: (C, *spatial), the shape of a sample
    shape: Any = None

    def check(self, Z: Array) -> None:
        super().check(Z)
        self.check_shape(Z.shape)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        if tuple(shape[1:]) != self.shape:
            raise ValueError(
                f"this {type(self).__name__} is a distribution on arrays {batch_of(self.shape)}; got {tuple(shape)}"
            )


def check_batch(Z: Array, kind: str) -> None:
    """ValueError or TypeError where Z is no batch of samples."""
    if not get_ops(Z).is_float(Z):
        raise TypeError(f"{kind} takes float32 or float64; got dtype {Z.dtype}")
    if Z.ndim not in SHAPES or Z.shape[1] == 0:
        raise ValueError(
            f"{kind} takes arrays of shape {', '.join(SHAPES.values())}, C at least 1; got {tuple(Z.shape)}"
        )


def state(value: object, learn: bool, dtype: DType) -> Parameter | Buffer:
    """A Parameter, or a Buffer where it is not learned."""
    check_flags(learn=learn)
    return (Parameter if learn else Buffer)(np.array(value, float_dtype(dtype)))


def add_gradient(parameter: Any, gradient: Array) -> None:
    """Adds to the gradient of what is learned."""
    if isinstance(parameter, Parameter):
        parameter.add(gradient)


def numbers_of(name: str, value: object) -> np.ndarray:
    """An array of float64."""
    try:
        if not any(isinstance(item, bool) for item in np.asarray(value, object).flat):  # which float() would take
            return np.asarray(value, float)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{name} is a number or an array of numbers; got {value!r}")


def start(name: str, value: object, shape: Any, least: float = -math.inf) -> np.ndarray:
    """A start value from numbers, an array or nested lists, finite and above `least`, repeated to `shape`."""
    value = numbers_of(name, value)
    try:
        value = np.broadcast_to(value, shape)
    except ValueError:
        raise ValueError(f"{name} is a number or has shape {shape}; got {value.shape}") from None
    if not (np.isfinite(value).all() and (value > least).all()):
        raise ValueError(
            f"{name} is {'positive and ' if least == 0 else ''}finite; got {value.min():.6g} to {value.max():.6g}"
        )
    return value


def sample_shape(mean: Array) -> tuple[int, ...]:
    """(C, *spatial) of a mean."""
    try:
        shape = np.shape(mean)
    except ValueError:
        raise ValueError(f"the mean is an array of numbers (C, *spatial); got {mean!r}") from None
    if len(shape) not in (1, 2, 3, 4) or 0 in shape:
        raise ValueError(f"the mean has the shape of one sample, (C, *spatial) with 0 to 3 spatial axes; got {shape}")
    return shape


def for_each(dlog_prob: Array, Z: Array) -> Array | float:
    """The gradient in log_prob, a number or shaped to broadcast against Z; None is -1/N, as dlogdet is in a layer."""
    if is_number(dlog_prob):
        return float(dlog_prob)
    return get_ops(Z).xp.reshape(as_dlogdet(dlog_prob, Z, "dlog_prob"), (-1,) + (1,) * (Z.ndim - 1))


def batch_of(shape: tuple[int, ...]) -> str:
    """(N, C, *spatial) as a text."""
    return f"({', '.join(['N', *map(str, shape)])})"
