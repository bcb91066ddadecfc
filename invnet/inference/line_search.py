"""The line search of Hager and Zhang, which finds a step that satisfies the (approximate) Wolfe conditions."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, NamedTuple

from ..arguments import check_integers, check_numbers

if TYPE_CHECKING:
    from collections.abc import Callable

EPS = sys.float_info.epsilon


class Point(NamedTuple):
    """A step, with the value and the slope there."""

    step: float
    value: float
    slope: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.value) and math.isfinite(self.slope)


class HagerZhang:
    """Brackets a minimum along a line and narrows the bracket by secants, and by halves where these are slow.

    Names of methods are the paper's stages: B0 to B3, S1 to S4, U0 to U3. A first step at which the function is not
    finite is shrunk tenfold until it is, as in LineSearches.jl, whose choices these are where the paper leaves one.

    Args:
        delta, sigma: of the Wolfe conditions, sufficient decrease and slope.
        rho: factor of a step that goes on downhill.
        epsilon: a value may lie above the first by that part of it: what rounding hides.
        gamma: a secant step that does not narrow the bracket by this factor is followed by a halving.
        most: stages, at most.

    References:
        Hager & Zhang, A new conjugate gradient method with guaranteed descent and an efficient line search, 2005,
        section 4.
    """

    def __init__(
        self,
        delta: float = 0.1,
        sigma: float = 0.9,
        rho: float = 5.0,
        epsilon: float = 1e-6,
        gamma: float = 0.66,
        most: int = 50,
    ):
        check_numbers(delta=delta, sigma=sigma, rho=rho, epsilon=epsilon, gamma=gamma)
        check_integers(most=most)
        self.delta, self.sigma, self.rho, self.epsilon, self.gamma, self.most = delta, sigma, rho, epsilon, gamma, most

    def __call__(self, evaluate: Callable, value: float, slope: float, step: float) -> float:
        """A step along the line.

        Args:
            evaluate: from a step to the value and the slope there.
            value, slope: at step 0; the slope is negative.
            step: the first to be tried, positive.

        Raises:
            ValueError: the line does not go downhill.
            ArithmeticError: no such step was found.
        """
        if not (math.isfinite(value) and slope < 0 < step):
            raise ValueError(
                f"a line search goes downhill from a finite value; got value {value}, slope {slope} and step {step}"
            )
        self._at = lambda c: Point(c, *map(float, evaluate(c)))
        self._start, self._limit = Point(0.0, value, slope), value + self.epsilon * abs(value)
        c = self._finite(step)
        found, a, b = self._bracket(c)
        for _ in range(self.most):
            if found or b.step - a.step <= math.ulp(b.step):
                return a.step
            found, A, B = self._secant2(a, b)
            if not found and B.step - A.step >= self.gamma * (b.step - a.step):
                A, B = self._update(A, B, self._at((A.step + B.step) / 2))
            a, b = A, B
        raise ArithmeticError(f"the line search found no step in {self.most} stages; the last bracket is {a} to {b}")

    def _finite(self, step):
        for _ in range(52):
            c = self._at(step)
            if c.finite:
                return c
            step *= 0.1
        raise ArithmeticError(f"the function is not finite at any step tried, down to {step}")

    def _bracket(self, c):
        """(False, a, b) with a minimum between (B0 to B3)."""
        low = [self._start]
        for _ in range(self.most):
            if c.slope >= 0:
                return False, next(p for p in reversed(low) if p.value <= self._limit), c
            if c.value > self._limit:
                return False, *self._halve(self._start, c)
            low.append(c)
            before, c = c, self._at(self.rho * c.step)
            while not c.finite and c.step > math.nextafter(before.step, math.inf):
                c = self._at((before.step + c.step) / 2)
        raise ArithmeticError(f"the function goes on downhill at a step of {c.step:.3g}")

    def _wolfe(self, c):
        value, slope = self._start[1:]
        wolfe = self.delta * slope >= (c.value - value) / c.step and c.slope >= self.sigma * slope
        return wolfe or ((2 * self.delta - 1) * slope >= c.slope >= self.sigma * slope and c.value <= self._limit)

    def _secant2(self, a, b):
        """(True, c, c) with a step that will do, or (False, a, b) with a narrower bracket (S1 to S4)."""
        c = self._at(_secant(a, b))
        if self._wolfe(c):
            return True, c, c
        A, B = self._update(a, b, c)
        if c in (A, B):
            step = _secant(b, B) if B == c else _secant(a, A)
            if A.step <= step <= B.step:
                c = self._at(step)
                if self._wolfe(c):
                    return True, c, c
                A, B = self._update(A, B, c)
        return False, A, B

    def _update(self, a, b, c):
        """The narrower bracket that c makes of a and b (U0 to U3)."""
        if not a.step <= c.step <= b.step:
            return a, b
        if c.slope >= 0:
            return a, c
        return (c, b) if c.value <= self._limit else self._halve(a, c)

    def _halve(self, a, b):
        """A bracket between a, downhill and low, and b, downhill but high (U3)."""
        while b.step - a.step > math.ulp(b.step):
            d = self._at((a.step + b.step) / 2)
            if d.slope >= 0:
                return a, d
            a, b = (d, b) if d.value <= self._limit else (a, d)
        return a, b


def _secant(a, b):
    """Where the slope is zero on the line through those of a and b."""
    if a.slope == b.slope:
        return math.nan
    return (a.step * b.slope - b.step * a.slope) / (b.slope - a.slope)
