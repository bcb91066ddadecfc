"""What the laws are written in: arrays of any engine as numbers, comparisons that name both, central differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core import get_ops

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core import Module
    from ..typing import Array, Cond

STEP = 1e-6  # of central differences, whose relative error is then some 1e-9 in float64
CLOSE = 1e-6  # what is allowed between a gradient and central differences
EXACT = 1e-9  # what is allowed between two ways to compute the same in float64


def normal(rng: np.random.Generator, like: Array) -> Array:
    """Normal numbers as an array like another."""
    return get_ops(like).asarray(rng.standard_normal(tuple(like.shape)), like)


def numbers(array: Array) -> np.ndarray:
    """A NumPy array of the same numbers."""
    return get_ops(array).to_numpy(array)


def total(array: Array) -> float:
    return float(get_ops(array).xp.sum(array))


def equal(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise AssertionError(f"{what} is {got}; expected {expected}")


def same_shape(name: str, array: Array, X: Array) -> None:
    equal(f"the shape of {name}", tuple(array.shape), tuple(X.shape))


def close(what: str, got: Array, expected: Array, tolerance: float) -> None:
    """|got - expected| is at most tolerance times the size of what is expected, or times one."""
    got, expected = numbers(got), numbers(expected)
    equal(f"the shape of {what}", tuple(got.shape), tuple(expected.shape))
    if got.size == 0:
        return
    error = np.abs(got - expected)
    worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
    if not error[worst] <= tolerance * max(1.0, np.abs(expected).max()):
        raise AssertionError(
            f"{what}: {got[worst]:.12g} and {expected[worst]:.12g} at {tuple(map(int, worst))} differ by "
            f"{error[worst]:.3g}, more than {tolerance:.1g} relative"
        )


def differences_agree(
    module: Module, loss: Callable, X: Array, cond: Cond, dX: Array, dcond: Array | None, rng: np.random.Generator
) -> None:
    """Central differences of `loss` in random directions, of X, of cond and of every parameter."""

    def agree(name, gradient, moved):
        gradient, direction = numbers(gradient), normal(rng, gradient)
        difference = (moved(STEP * direction) - moved(-STEP * direction)) / (2 * STEP)
        direction = numbers(direction)
        bound = CLOSE * max(1.0, np.linalg.norm(gradient) * np.linalg.norm(direction))
        got = np.sum(gradient * direction)
        if not abs(got - difference) <= bound:
            raise AssertionError(
                f"the gradient of {name} gives {got:.12g} in a direction, central differences {difference:.12g}"
            )

    for _ in range(3):
        agree("the input", dX, lambda E: loss(X + E, cond))
        if cond is not None:
            agree("the condition", dcond, lambda E: loss(X, cond + E))
        for name, parameter in module.named_parameters():
            agree(name, parameter.grad, lambda E, p=parameter: _with(p, E, lambda: loss(X, cond)))


def _with(parameter, change, value):
    kept = get_ops(parameter.data).copy(parameter.data)
    parameter.data[...] = kept + change
    try:
        return value()
    finally:
        parameter.data[...] = kept
