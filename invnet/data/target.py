"""Target: a density in closed form, with its gradient and a sampler."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers, check_numbers, generator
from ..core import get_ops

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..typing import Array, DType, Seed


class Target:
    """A density on vectors (N, D). Called, it gives log p and its gradient, as `objectives.reverse_kl` takes it.

    A subclass gives value_and_gradient and draw; log_Z and box too.
    """

    #: D
    dimensions = 2
    #: log of the integral of exp(target(X)[0])
    log_Z = 0.0
    #: ((low, high), ...) for each dimension: all but less than a thousandth of the density lies within
    box: tuple | None = None

    def __call__(self, X: Array) -> tuple[Array, Array]:
        """log p(X) up to the constant -log_Z, (N,), and its gradient, (N, D)."""
        self._check(X)
        return self.value_and_gradient(X)

    def log_prob(self, X: Array) -> Array:
        """log density of each sample, (N,), in nats, normalised."""
        return self(X)[0] - self.log_Z

    def sample(self, n: int, seed: Seed = None, dtype: DType = "float32") -> Array:
        """n samples (n, D) as a NumPy array; `seed` is an int or a numpy Generator."""
        check_integers(n=n)
        if n < 0:
            raise ValueError(f"n is a number of samples, from 0; got {n}")
        return self.draw(n, generator(seed)).astype(dtype)

    def value_and_gradient(self, X: Array) -> tuple[Array, Array]:
        """What a call gives, for an array X that was checked."""
        raise NotImplementedError(f"{type(self).__name__} needs value_and_gradient(X) -> (N,), (N, D)")

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """n samples, float64."""
        raise NotImplementedError(f"{type(self).__name__} needs draw(n, rng) -> (n, D)")

    def __repr__(self):
        return f"{type(self).__name__}()"

    def _check(self, X):
        if tuple(X.shape[1:]) != (self.dimensions,) or not get_ops(X).is_float(X):
            raise ValueError(
                f"{type(self).__name__} is a density on float arrays (N, {self.dimensions}); got "
                f"{tuple(X.shape)} {X.dtype}"
            )


def columns(X: Array) -> tuple[Array, Array]:
    """x1 and x2, (N,) each."""
    return X[:, 0], X[:, 1]


def positive(**values: float) -> None:
    """Raises unless each value is a positive number."""
    check_numbers(**values)
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is a positive number; got {value}")


def accepted(n: int, propose: Callable) -> Array:
    """n samples of those that propose(m) gives of m proposals."""
    found = [np.zeros((0, 2))]
    while (missing := n - sum(map(len, found))) > 0:
        found.append(propose(2 * missing + 64))
    return np.concatenate(found)[:n]
