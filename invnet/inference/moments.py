"""Moments through a network: mean and covariance of what it makes of a Gaussian, forward and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..arguments import check_integers, check_numbers, generator, shown
from ..core import condition_rows
from .checks import check_layer, covariances, vectors
from .jacobians import forward_and_jacobian, inverse_and_jacobian, repeat

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..core import Layer
    from ..typing import Array, Cond, Seed


class Moments(NamedTuple):
    """Of y = f(x): mean (..., D), covariance (..., D, D), and cross = Cov(x, y) (..., D, D)."""

    mean: np.ndarray
    cov: np.ndarray
    cross: np.ndarray


class Linear:
    """By the tangent at the mean: f(m), J C J^T and C J^T; exact where f is affine. It costs D vector-Jacobian
    products.
    """

    def moments(self, f: Callable, f_and_jacobian: Callable, mean: Array, cov: Array) -> Moments:
        y, J = f_and_jacobian(mean)
        cross = cov @ J.mT
        return Moments(y, _symmetric(J @ cross), cross)


class Unscented:
    """By 2 D + 1 points, m and m +- the columns of sqrt((D + lambda) C), with D + lambda = alpha^2 (D + kappa).

    The mean is exact where f is quadratic. The covariance adds (1 - alpha^2 + beta) to the weight of the middle point.
    With a small alpha, as the usual 1e-3, the points are so near that this is the tangent with a correction of second
    order; the default spreads them to sqrt(3) deviations, where in each direction the fourth moment of a Gaussian is
    met. Above 3 dimensions its middle weight is negative, and a covariance may be indefinite; `Cubature` has none.

    Args:
        alpha: the spread, positive.
        beta: 2 is usual with a small alpha.
        kappa: above -D; None is 3 - D.

    References:
        Julier & Uhlmann, Unscented filtering and nonlinear estimation, 2004. Wan & van der Merwe, The unscented Kalman
        filter for nonlinear estimation, 2000 (alpha and beta).
    """

    def __init__(self, alpha: float = 1.0, beta: float = 0.0, kappa: float | None = None):
        check_numbers(alpha=alpha, beta=beta, kappa=0 if kappa is None else kappa)
        if not 0 < alpha < math.inf or not math.isfinite(beta) or not (kappa is None or math.isfinite(kappa)):
            raise ValueError(f"alpha is positive, beta and kappa are finite; got {alpha}, {beta} and {kappa}")
        self.alpha, self.beta, self.kappa = alpha, beta, kappa

    def moments(self, f: Callable, f_and_jacobian: Callable, mean: Array, cov: Array) -> Moments:
        D = mean.shape[1]
        kappa = 3 - D if self.kappa is None else self.kappa
        if D + kappa <= 0:
            raise ValueError(f"kappa is above -D; got {kappa} in {D} dimensions")
        spread = self.alpha**2 * (D + kappa)
        root = math.sqrt(spread) * _square_root(cov)
        deviations = np.concatenate([np.zeros_like(root[:, :1]), root, -root], axis=1)
        y = f(mean[:, None] + deviations)
        # Relative to the middle: its weight is -1e6 with alpha = 1e-3, and would cancel against the others'.
        from_middle, weight = y[:, 1:] - y[:, :1], 0.5 / spread
        shift = weight * from_middle.sum(axis=1)
        middle = 1 - 2 * D * weight + 1 - self.alpha**2 + self.beta
        off = from_middle - shift[:, None]
        C = weight * (off.mT @ off) + middle * shift[:, :, None] * shift[:, None, :]
        return Moments(y[:, 0] + shift, _symmetric(C), weight * (deviations[:, 1:].mT @ off))


class Cubature(Unscented):
    """By 2 D points at sqrt(D) deviations, all of the same weight: covariances are never indefinite.

    References:
        Arasaratnam & Haykin, Cubature Kalman filters, 2009.
    """

    def __init__(self):
        super().__init__(1.0, 0.0, 0.0)


class MonteCarlo:
    """By random points; errors fall with the square root of their number.

    Args:
        points: of each Gaussian, at least 2.
        seed: an int or a numpy Generator.
    """

    def __init__(self, points: int = 10_000, seed: Seed = 0):
        check_integers(points=points)
        generator(seed)
        if points < 2:
            raise ValueError(f"points is a number from 2; got {points}")
        self.points, self.seed = points, seed

    def moments(self, f: Callable, f_and_jacobian: Callable, mean: Array, cov: Array) -> Moments:
        rng, root = np.random.default_rng(self.seed), np.linalg.cholesky(cov)
        result = Moments(np.empty_like(mean), np.empty(cov.shape), np.empty(cov.shape))
        for n in range(len(mean)):  # one after the other: points are many
            x = rng.standard_normal((self.points, mean.shape[1])) @ root[n].T
            y = f(mean[n] + x[None], slice(n, n + 1))[0]
            result.mean[n], off = y.mean(axis=0), y - y.mean(axis=0)
            result.cov[n], result.cross[n] = off.T @ off / (self.points - 1), x.T @ off / (self.points - 1)
        return result


METHODS = {"linear": Linear, "unscented": Unscented, "cubature": Cubature, "monte_carlo": MonteCarlo}


def pushforward(
    net: Layer, mean: Array, cov: Array, method: object = "linear", cond: Cond = None
) -> tuple[Array, Array]:
    """The moments of Z where X is Gaussian.

    Args:
        net: a Layer of NumPy arrays on vectors.
        mean: (..., D).
        cov: (..., D, D), positive definite.
        method: "linear", "unscented", "cubature" or "monte_carlo", or one of these as an object with its options:
            `Linear()`, `Unscented(alpha, beta, kappa)`, `Cubature()`, `MonteCarlo(points, seed)`.
        cond: the condition of each Gaussian, or None.

    Returns:
        Moments: mean, cov, cross.

    Raises:
        ValueError: shapes that do not fit, a covariance that is not positive definite, or an unknown method.
    """
    return _moved(net, mean, cov, method, cond, lambda X, c: net.forward(X, c)[0], forward_and_jacobian)


def inverse_pushforward(
    net: Layer, mean: Array, cov: Array, method: object = "linear", cond: Cond = None
) -> tuple[Array, Array]:
    """The moments of X where Z is Gaussian; arguments and result as those of pushforward."""
    return _moved(net, mean, cov, method, cond, lambda Z, c: net.inverse(Z, c), inverse_and_jacobian)


def _moved(net, mean, cov, method, cond, map_, map_and_jacobian):
    check_layer(net, "moments through a network")
    mean, method = vectors(mean, "the mean"), method_of(method)
    D, batch = mean.shape[-1], mean.shape[:-1]
    cov = np.broadcast_to(covariances(cov, "the covariance", D), (*batch, D, D))
    dtype, cond = net.dtype or np.dtype(float), condition_rows(cond, math.prod(batch))

    def f(points, samples=slice(None)):
        """What becomes of points (n, S, D) of these samples."""
        c = None if cond is None else repeat(cond[samples], points.shape[1])
        return map_(points.reshape(-1, D).astype(dtype), c).reshape(points.shape).astype(float)

    def f_and_jacobian(X):
        return tuple(each.astype(float) for each in map_and_jacobian(net, X.astype(dtype), cond))

    moments = method.moments(f, f_and_jacobian, mean.reshape(-1, D), cov.reshape(-1, D, D))
    return Moments(moments.mean.reshape(mean.shape), moments.cov.reshape(cov.shape), moments.cross.reshape(cov.shape))


def method_of(method: object) -> Any:
    """The object of a method's name, or itself."""
    if isinstance(method, tuple(METHODS.values())):
        return method
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"the methods are {', '.join(METHODS)}, or an object of one; got {shown(method)}")
    return METHODS[method]()


def _square_root(C):
    """The symmetric square root of each matrix."""
    values, V = np.linalg.eigh(C)
    return (V * np.sqrt(values)[:, None, :]) @ V.mT


def _symmetric(C):
    return (C + C.mT) / 2
