"""The two models of RxInfer's tutorial on invertible networks, with its very parameters and data."""

import functools

import numpy as np
from stable_rng import StableRNG

from invnet.inference import FlowGaussianModel, Gaussian, Wishart
from invnet.inference.tutorial import AdditiveCouplingLayer, FlowModel, PlanarFlow, compile, forward

TINY, HUGE, EYE = 1e-12, 1e12, np.eye(2)


def network(couplings, seed=None, params=None):
    """A chain of planar couplings with swaps between; its parameters are those of StableRNG(seed)."""
    layers = [AdditiveCouplingLayer(PlanarFlow(), permute=k < couplings - 1) for k in range(couplings)]
    return compile(FlowModel(2, layers), StableRNG(seed).normals(3 * couplings) if params is None else params)


@functools.cache
def latent():
    """The 1000 latent vectors behind the observations of the first model."""
    return np.array([1.5, 0.5]) + StableRNG(123).normals(2000).reshape(1000, 2)


def flow():
    return network(2, 321)


def observations(n=1000, noise=0.0):
    Y = forward(flow(), latent()[:n])
    return Y + noise**0.5 * np.random.default_rng(0).standard_normal(Y.shape)


def gaussian_model(net=None, noise=TINY, mean_cov=HUGE, df=2, scale=TINY, method="linear"):
    """The first model, with the tutorial's priors."""
    prior = Gaussian(np.zeros(2), mean_cov * EYE), Wishart(df, scale * EYE)
    return FlowGaussianModel(net or flow(), noise * EYE, *prior, method)


@functools.cache
def classified():
    """The 50 points of the classifier, and their labels."""
    rng = StableRNG(123)
    X = np.array([rng.uniform() for _ in range(100)]).reshape(2, 50).T.copy()
    return X, ((X[:, 0] > 0.5) & (X[:, 1] < 0.5)).astype(int)


def classifier_network():
    return network(4, 42)
