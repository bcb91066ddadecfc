"""Minimising a function of parameters that adds its own gradient, as the losses do: gradient descent, L-BFGS, Adam."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..arguments import check_integers, check_numbers
from ..optim import Adam
from .line_search import HagerZhang

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..core import Parameter
    from ..typing import Array


class Minimum(NamedTuple):
    """Where a search ended; the parameters are there.

    `history` has the value and the largest entry of the gradient at the start and after each iteration.
    """

    value: float
    iterations: int
    calls: int
    history: list


class Function:
    """An objective as a function of one vector of all parameters.

    Args:
        objective: a function of nothing that gives a number and adds its gradient to the parameters'.
        parameters: of NumPy arrays.
    """

    def __init__(self, objective: Callable[[], float], parameters: Iterable[Parameter]):
        self.objective, self.parameters, self.calls = objective, list(parameters), 0
        if not self.parameters:
            raise ValueError("there is no parameter to learn")

    @property
    def x(self) -> Array:
        return np.concatenate([parameter.data.ravel() for parameter in self.parameters]).astype(float)

    def __call__(self, x: Array) -> tuple[float, Array]:
        """The value at x and its gradient; the parameters stay there."""
        start = 0
        for parameter in self.parameters:
            size = parameter.data.size
            parameter.data[...] = x[start : start + size].reshape(parameter.data.shape)
            parameter.gradient.clear()
            start += size
        self.calls += 1
        value = float(self.objective())
        gradient = np.concatenate([parameter.gradient_array().ravel() for parameter in self.parameters]).astype(float)
        for parameter in self.parameters:
            parameter.gradient.clear()
        return value, gradient


def gradient_descent(
    objective: Callable[[], float],
    parameters: Iterable[Parameter],
    iterations: int = 1000,
    tol: float = 1e-3,
    line_search: Callable | None = None,
) -> Minimum:
    """Steepest descent with the line search of Hager and Zhang; the first step tried is the last one taken, at first 1.

    It ends where |f - f_before| <= tol |f| in two iterations one after the other, by the rules of Optim.jl.
    """
    check_integers(iterations=iterations)
    check_numbers(tol=tol)
    f, search = Function(objective, parameters), line_search or HagerZhang()
    x, step, small = f.x, 1.0, 0
    value, gradient = f(x)
    history = [(value, abs(gradient).max())]
    while len(history) <= iterations and small < 2 and abs(gradient).max() > 0:

        def along(step, x=x, gradient=gradient):
            value, there = f(x - step * gradient)
            return value, -(there @ gradient)

        step = search(along, value, -(gradient @ gradient), step)
        before, x = value, x - step * gradient
        value, gradient = f(x)
        f.calls -= 1  # the search has been there
        small = small + 1 if abs(value - before) <= tol * abs(value) else 0
        history.append((value, abs(gradient).max()))
    return Minimum(value, len(history) - 1, f.calls, history)


def lbfgs(
    objective: Callable[[], float], parameters: Iterable[Parameter], iterations: int = 1000, tol: float = 1e-12
) -> Minimum:
    """SciPy's L-BFGS-B; it ends where the value falls by less than `tol` of it, or no entry of the gradient is above
    1e-8.
    """
    from scipy.optimize import minimize

    check_integers(iterations=iterations)
    check_numbers(tol=tol)
    f = Function(objective, parameters)
    value, gradient = f(f.x)
    if not math.isfinite(value):
        raise FloatingPointError(f"the objective is {value} at the start of L-BFGS")
    history, latest, highest = [(value, abs(gradient).max())], [gradient], [value]

    def evaluate(x):
        value, gradient = f(x)
        if not math.isfinite(value) or not np.isfinite(gradient).all():
            # It looks like a plateau above all else, from which the line search turns back by a fair part of its step.
            return highest[0] + abs(highest[0]) + 1, np.zeros_like(gradient)
        latest[0], highest[0] = gradient, max(value, highest[0])
        return value, gradient

    def note(intermediate_result):
        history.append((float(intermediate_result.fun), abs(latest[0]).max()))

    result = minimize(
        evaluate,
        f.x,
        jac=True,
        method="L-BFGS-B",
        callback=note,
        options={"maxiter": iterations, "maxfun": 20 * iterations, "ftol": tol, "gtol": 1e-8},
    )
    f(result.x)
    return Minimum(float(result.fun), result.nit, f.calls, history)


def adam(
    objective: Callable[[], float], parameters: Iterable[Parameter], iterations: int = 1000, lr: float = 0.1
) -> Minimum:
    """Adam with a constant learning rate, the same number of steps always."""
    check_integers(iterations=iterations)
    parameters = list(parameters)
    optimizer, history = Adam(parameters, lr), []
    for _ in range(iterations):
        optimizer.zero_grad()
        value = float(objective())
        if not math.isfinite(value):
            raise FloatingPointError(f"the objective is {value} after {len(history)} steps of Adam")
        history.append((value, float(abs(optimizer.grad).max())))
        optimizer.step()
    optimizer.zero_grad()
    value = float(objective())
    history.append((value, float(abs(optimizer.grad).max())))
    optimizer.zero_grad()
    return Minimum(value, iterations, iterations + 1, history)


OPTIMIZERS: dict[str, Callable[..., Minimum]] = {"adam": adam, "gradient_descent": gradient_descent, "lbfgs": lbfgs}


def minimise(
    objective: Callable[[], float], parameters: Iterable[Parameter], optimizer: str = "lbfgs", **options: Any
) -> Minimum:
    """The minimum that an optimizer finds.

    Args:
        objective: a function of nothing that gives a number and adds its gradient to the parameters'.
        parameters: Parameters of NumPy arrays.
        optimizer: "lbfgs", "gradient_descent" or "adam".
        **options: of that function.

    Returns:
        Minimum; the parameters are there, and their gradients zero.

    Raises:
        ValueError: there is no such optimizer, or no parameter.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"the optimizers are {', '.join(OPTIMIZERS)}; got {optimizer!r}")
    return OPTIMIZERS[optimizer](objective, parameters, **options)
