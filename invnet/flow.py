"""Flow: a layer and a base distribution make a density."""

import numpy as np

from .bases import Normal
from .core import Module, get_ops


class Flow(Module):
    """The density of X whose image Z = layer(X) follows the base: log p(X) = log base(Z) + logdet.

    Args:
        layer: a Layer from data to noise.
        shape: shape of one sample, (C, *spatial).
        base: a distribution with log_prob and sample; None is the standard normal.
    """

    def __init__(self, layer, shape, base=None):
        self.layer, self.base = layer, base or Normal()
        self._shape = tuple(shape)

    def log_prob(self, X, cond=None):
        """log density of each sample, (N,), in nats."""
        self._check(X)
        Z, logdet = self.layer.forward(X, cond)
        return self.base.log_prob(Z) + logdet

    def sample(self, n, temperature=1.0, seed=None, cond=None):
        """n samples (n, C, *spatial); `seed` is an int or a numpy Generator, `temperature` scales the base's deviation."""
        return self.layer.inverse(self._noise(n, temperature, seed), cond)

    def sample_and_log_prob(self, n, temperature=1.0, seed=None, cond=None):
        """n samples and their log density, (n,), at temperature 1."""
        Z = self._noise(n, temperature, seed)
        X, logdet = self.layer.inverse_logdet(Z, cond)
        return X, self.base.log_prob(Z) - logdet

    def _noise(self, n, temperature, seed):
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"the temperature is not negative; got {temperature}")
        like = next((p.data for p in self.layer.parameters()), np.zeros(0, "float32"))
        return self.base.sample((n, *self._shape), np.random.default_rng(seed), like, temperature)

    def _check(self, X):
        get_ops(X)
        if tuple(X.shape[1:]) != self._shape:
            raise ValueError(f"X has shape {('N', *self._shape)} with any number N of samples; got {tuple(X.shape)}".replace("'N'", "N"))
