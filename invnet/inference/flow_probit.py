"""FlowProbit: two classes, told apart by the sum of what a network makes of noisy inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from ..arguments import check_numbers
from ..ops.dual import Dual
from . import probit
from .checks import check_layer, finite_parameters, vectors
from .jacobians import dual, tangents_added, vjp
from .minimise import minimise
from .tutorial_energy import tutorial_energy

if TYPE_CHECKING:
    from typing import Any

    from ..core import Layer
    from ..typing import Array
    from .minimise import Minimum

OBJECTIVES = ("evidence", "bethe", "rxinfer")


class FlowProbit:
    """P(y = 1) = Phi(z), z = a . g(x'), of x' ~ N(x, I / precision); g is a network, which is learned.

    z counts as Gaussian with mean m = a . g(x) and variance v = |J^T a|^2 / precision, J being the Jacobian at x; so
    P(y = 1) = Phi(m / sqrt(1 + v)).

    | objective | what is summed over the observations |
    |---|---|
    | "evidence" | -log P(y) |
    | "bethe" | the Bethe free energy, which moment matching gives: at least the evidence's, usually by little |
    | "rxinfer" | what RxInfer's tutorial computes, with its two defects: to compare with its numbers only |

    Args:
        net: a Layer on vectors (N, D) of NumPy arrays.
        weights: a, (D,); None is ones.
        precision: of the inputs, positive.
        objective: see above.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, section 3.6 (the moments). Bagaev & de
        Vries, RxInfer.jl, its tutorial on invertible networks.
    """

    def __init__(self, net: Layer, weights: Array | None = None, precision: float = 1e3, objective: str = "evidence"):
        check_layer(net, "a FlowProbit")
        check_numbers(precision=precision)
        if not 0 < precision < np.inf:
            raise ValueError(f"precision is positive and finite; got {precision}")
        if objective not in OBJECTIVES:
            raise ValueError(f"the objectives are {', '.join(OBJECTIVES)}; got {objective!r}")
        if objective == "rxinfer" and net.dtype != np.float64:
            raise ValueError(f'the objective "rxinfer" takes a network in float64; got {net.dtype}')
        self.net, self.precision, self.objective = net, float(precision), objective
        self.weights = None if weights is None else vectors(weights, "the weights")

    def fit(self, X: Array, y: Array, optimizer: str = "lbfgs", **options: Any) -> Minimum:
        """Learns the network.

        Args:
            X: (N, D).
            y: (N,), 0 or 1.
            optimizer, **options: as in `minimise`.

        Returns:
            Minimum.
        """
        self._signs(y, self._inputs(X))
        finite_parameters(self.net)
        return minimise(lambda: self.loss(X, y), self.net.parameters(), optimizer, **options)

    def loss(self, X: Array, y: Array) -> float:
        """The objective, in nats, the sum over observations; adds its gradient to the network's parameters.

        Where parameters are so large that it is not finite, it is NaN or inf.
        """
        X = self._inputs(X)
        s, a = self._signs(y, X), self._weights(X)
        with np.errstate(all="ignore"):
            if self.objective == "rxinfer":
                return tutorial_energy(self.net, X, s, a, self.precision)
            m, v, J_a = self._projected(X, a)
            value, (dm, dv) = probit.derivatives(lambda m, v: getattr(probit, self.objective)(m, v, s), m, v)
            # v is |J^T a|^2 / precision: as x goes along its gradient, the gradient of a . g(x) changes by that of v.
            Z, _ = self.net.forward(dual(X, (2 / self.precision * dv[:, None] * J_a).astype(X.dtype)))
            A = np.broadcast_to(a, X.shape).astype(X.dtype)
            with tangents_added(self.net):
                self.net.backward(Dual(A, dm[:, None] * A), Z, 0.0)
            return float(value.sum())

    def latent(self, X: Array) -> tuple[Array, Array]:
        """Mean and variance of z, (N,) each."""
        X = self._inputs(X)
        return self._projected(X, self._weights(X))[:2]

    def predict_proba(self, X: Array) -> Array:
        """P(y = 1) of each input, (N,)."""
        m, v = self.latent(X)
        return ndtr(m / np.sqrt(1 + v))

    def _projected(self, X, a):
        """m, v and J^T a."""
        Z, J_a = vjp(self.net, X, np.broadcast_to(a, X.shape).astype(X.dtype))
        return Z.astype(float) @ a, (J_a.astype(float) ** 2).sum(axis=1) / self.precision, J_a.astype(float)

    def _inputs(self, X):
        X = vectors(X, "X", None if self.weights is None else len(self.weights))
        if X.ndim != 2 or not len(X):
            raise ValueError(f"X has shape (N, D), N at least 1; got {X.shape}")
        return X.astype(self.net.dtype or float)

    def _weights(self, X):
        return np.ones(X.shape[1]) if self.weights is None else self.weights

    @staticmethod
    def _signs(y, X):
        y = np.asarray(y)
        if y.shape != (len(X),):
            raise ValueError(f"y has a label for each of {len(X)} inputs; got shape {y.shape}")
        if not np.isin(y, (0, 1)).all():
            raise ValueError(f"labels are 0 or 1; got {np.unique(y)[:5]}")
        return np.where(y == 1, 1.0, -1.0)
