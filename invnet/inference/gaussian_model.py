"""FlowGaussianModel: what produced noisy outputs of a network, and the law of that, by variational message passing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..arguments import check_integers, check_numbers, generator
from .checks import check_layer, covariances, finite_parameters, vectors
from .collapsed import collapsed_free_energy
from .distributions import Gaussian, Wishart, outer
from .jacobians import forward_and_jacobian
from .minimise import minimise
from .moments import Linear, inverse_pushforward, method_of, pushforward

if TYPE_CHECKING:
    from typing import Any

    from ..core import Layer
    from ..typing import Array, Seed
    from .minimise import Minimum


class Messages(NamedTuple):
    """What the observations say of each x, N(point, cov), whatever the law of x is."""

    point: np.ndarray
    cov: np.ndarray
    precision: np.ndarray


class FlowGaussianModel:
    """Observations y_k = g(x_k) + noise of latent x_k ~ N(mu, Lambda^-1), mu ~ a Gaussian, Lambda ~ a Wishart; g is a
    network.

    `fit` finds q(mu) q(Lambda) prod q(x_k), the nearest to the posterior in the sense of the free energy, minus a bound
    on the log evidence. The observations are carried back through the network once; then each sweep updates q(x),
    q(Lambda) and q(mu), all x at a time, and no update raises the free energy.

    Args:
        net: a Layer on vectors (N, D) of NumPy arrays, from x to y; float64, where the noise is small.
        noise: (D, D), the covariance of the noise.
        mean: the prior of mu, a Gaussian.
        precision: the prior of Lambda, a Wishart. A vague one has df = D and a large scale.
        method: how Gaussians go through the network, as in pushforward: "linear", "unscented", "cubature", or an
            object.

    After `fit`:
        q_mu, q_lambda, q_x: the posteriors, a Gaussian, a Wishart and a batch of Gaussians.
        free_energy: after each sweep, in nats.
        terms: its parts after each sweep, by name; they add up to it.

    Raises:
        ValueError: no covariance, or dimensions that do not fit.

    References:
        Winn & Bishop, Variational Message Passing, 2005. Bagaev & de Vries, Reactive Message Passing for Scalable
        Bayesian Inference, 2021, and the tutorial on invertible networks of its RxInfer.jl. docs/math.md has the
        derivation.
    """

    def __init__(self, net: Layer, noise: Array, mean: Array, precision: float | Wishart, method: str = "linear"):
        check_layer(net, "a FlowGaussianModel")
        if not isinstance(mean, Gaussian) or not isinstance(precision, Wishart):
            raise TypeError(f"the priors are a Gaussian of mu and a Wishart of Lambda; got {mean!r} and {precision!r}")
        D = mean.mean.size
        covariances(noise, "the noise", D)
        covariances(precision.scale, "the scale of the Wishart", D)
        self.net, self.noise, self.mean, self.precision, self.method = (
            net,
            np.asarray(noise, float),
            mean,
            precision,
            method_of(method),
        )
        self.q_mu, self.q_lambda, self.free_energy, self.terms = mean, precision, [], []
        self._D = D

    def fit(self, Y: Array, sweeps: int = 100, tol: float = 1e-10) -> FlowGaussianModel:
        """The posteriors given Y (N, D), from the priors; ends where the free energy changes by at most `tol` of it."""
        self.observe(Y)
        self.q_mu, self.q_lambda = self.mean, self.precision
        return self.sweep(sweeps, tol)

    def observe(self, Y: Array) -> None:
        """Carries the observations back through the network."""
        Y = vectors(Y, "Y", self._D)
        if Y.ndim != 2 or not len(Y):
            raise ValueError(f"Y has shape (N, {self._D}), N at least 1; got {Y.shape}")
        finite_parameters(self.net)
        self._Y, self.messages = Y, self._carried_back(Y)

    def relinearise(self) -> None:
        """Takes the tangents at the posterior means of the x in the place of those at g^-1(y), for noise that is not
        small.

        Alternated with `sweep` this is Gauss-Newton's method: where it ends, the q(x) have their means at modes. Each
        relinearisation changes the model that the free energy is of, so that it may rise there.
        """
        X = self._x_mean
        Z, J = forward_and_jacobian(self.net, X.astype(self.net.dtype or float))
        K = np.linalg.inv(J.astype(float))
        cov = K @ self.noise @ K.mT
        self.messages = Messages(X + np.einsum("nij,nj->ni", K, self._Y - Z), cov, np.linalg.inv(cov))
        self.update_x()

    def sweep(self, sweeps: int = 1, tol: float = 0.0) -> FlowGaussianModel:
        """Goes on from the posteriors as they are; gives the model."""
        check_integers(sweeps=sweeps)
        check_numbers(tol=tol)
        self.free_energy, self.terms = [], []
        for _ in range(sweeps):
            self.update_x()
            self.update_lambda()
            self.update_mu()
            self.terms.append(self.free_energy_terms())
            self.free_energy.append(math.fsum(self.terms[-1].values()))
            if len(self.free_energy) > 1 and abs(self.free_energy[-2] - self.free_energy[-1]) <= tol * abs(
                self.free_energy[-1]
            ):
                break
        return self

    # ---- the three updates; each uses the latest of the others

    def update_x(self) -> None:
        P, (point, _, precision) = self.q_lambda.mean, self.messages
        A = np.linalg.inv(P + precision)
        self._x_cov = (A + A.mT) / 2
        # The mean is written from the message's point: where the noise is small, no digits are lost.
        self._x_shift = np.einsum("nij,nj->ni", self._x_cov, (self.q_mu.mean - point) @ P)

    def update_lambda(self) -> None:
        prior = self.precision
        scale = np.linalg.inv(np.linalg.inv(prior.scale) + self._scatter())
        self.q_lambda = Wishart(prior.df + len(self._x_cov), (scale + scale.T) / 2)

    def update_mu(self) -> None:
        n, P, prior = len(self._x_cov), self.q_lambda.mean, self.mean
        prior_precision = np.linalg.inv(prior.cov)
        V = np.linalg.inv(prior_precision + n * P)
        self.q_mu = Gaussian(V @ (prior_precision @ prior.mean + P @ self._x_mean.sum(axis=0)), (V + V.T) / 2)

    def free_energy_terms(self) -> dict[str, float]:
        """Energies and entropies that add up to the free energy."""
        n, P, D = len(self._x_cov), self.q_lambda.mean, self._D
        off = self._x_cov + outer(self._x_shift)
        log_2pi = D * math.log(2 * math.pi)
        return {
            "energy of x": 0.5 * (n * (log_2pi - self.q_lambda.expected_logdet()) + np.sum(P * self._scatter())),
            "energy of y": 0.5
            * (n * (log_2pi + np.linalg.slogdet(self.noise)[1]) + np.sum(self.messages.precision * off)),
            "entropy of x": -0.5 * (n * (log_2pi + D) + np.linalg.slogdet(self._x_cov)[1].sum()),
            "energy of mu": self.mean.cross_entropy(self.q_mu.mean, self.q_mu.cov),
            "entropy of mu": -self.q_mu.entropy(),
            "energy of lambda": self.precision.cross_entropy(self.q_lambda),
            "entropy of lambda": -self.q_lambda.entropy(),
        }

    # ---- learning the network

    def fit_network(self, Y: Array, optimizer: str = "lbfgs", **options: Any) -> Minimum:
        """Learns the network's parameters with the posteriors: minimises the free energy that `fit` arrives at.

        By linearisation. The gradient is that of the collapsed free energy with the posteriors held, which is the whole
        one, since they are at their optimum.

        Args:
            Y: (N, D).
            optimizer, **options: as in `minimise`.

        Returns:
            Minimum.
        """
        if not isinstance(self.method, Linear):
            raise ValueError(f'a network is learned with method="linear"; this model has {type(self.method).__name__}')

        self.observe(Y)

        def objective():
            try:
                with np.errstate(all="ignore"):
                    self.fit(Y, tol=1e-13)
                    return collapsed_free_energy(
                        self.net, self._Y, self.noise, self.mean, self.precision, self.q_mu, self.q_lambda
                    )
            except (ArithmeticError, ValueError):  # a search may try parameters at which nothing is finite
                return math.nan

        minimum = minimise(objective, self.net.parameters(), optimizer, **options)
        self.fit(Y)
        return minimum

    # ---- what follows from the posteriors

    @property
    def q_x(self) -> Gaussian:
        return Gaussian(self._x_mean, self._x_cov)

    @property
    def q_y(self) -> tuple[Array, Array]:
        """The moments of g(x_k), the outputs without their noise."""
        return pushforward(self.net, self._x_mean, self._x_cov, self.method)

    def log_prob(self, Y: Array) -> Array:
        """The log density of new observations (N, D), given those of `fit`, in nats.

        The next x has the mean of q(mu) and the covariance E[Lambda^-1] + cov(mu), and counts as Gaussian.
        """
        point, cov, _ = self._carried_back(vectors(Y, "Y", self._D))
        # log|det| of the way back, which is in the message's covariance, K R K^T
        logdet = 0.5 * (np.linalg.slogdet(cov)[1] - np.linalg.slogdet(self.noise)[1])
        return logdet - Gaussian(self.q_mu.mean, cov + self._next_x().cov).cross_entropy(point, np.zeros_like(cov))

    def sample(self, n: int, seed: Seed = None) -> Array:
        """n new observations (n, D); `seed` is an int or a numpy Generator."""
        from scipy.stats import wishart  # half a second to import

        check_integers(n=n)
        rng, D = generator(seed), self._D
        mu = rng.multivariate_normal(self.q_mu.mean, self.q_mu.cov, n)
        precision = wishart.rvs(self.q_lambda.df, self.q_lambda.scale, n, rng).reshape(n, D, D)
        root = np.linalg.cholesky(np.linalg.inv(precision))
        X = mu + np.einsum("nij,nj->ni", root, rng.standard_normal((n, D)))
        Y = self.net.forward(X.astype(self.net.dtype or float))[0]
        return Y + rng.multivariate_normal(np.zeros(D), self.noise, n)

    def _next_x(self):
        df, D = self.q_lambda.df, self._D
        if df <= D + 1:
            raise ValueError(
                f"the covariance of the next x is finite for df above {D + 1}; q(Lambda) has {df}: fit to more "
                f"observations"
            )
        return Gaussian(self.q_mu.mean, np.linalg.inv(self.q_lambda.scale) / (df - D - 1) + self.q_mu.cov)

    def _carried_back(self, Y):
        point, cov, _ = inverse_pushforward(self.net, Y, self.noise, self.method)
        vectors(point, "what the network makes of Y")
        covariances(cov, "the covariance of Y carried back")
        return Messages(point, cov, np.linalg.inv(cov))

    @property
    def _x_mean(self):
        return self.messages.point + self._x_shift

    def _scatter(self):
        """The sum of E (x_k - mu) (x_k - mu)^T."""
        off = self._x_mean - self.q_mu.mean
        return self._x_cov.sum(axis=0) + len(off) * self.q_mu.cov + off.T @ off
