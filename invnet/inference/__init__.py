"""Bayesian inference through a network: Jacobians, moments, and models whose observations are a network's outputs."""

from ..deprecated import renamed
from .distributions import Gaussian, Wishart
from .flow_probit import FlowProbit
from .gaussian_model import FlowGaussianModel
from .jacobians import forward_and_jacobian, inverse_and_jacobian, inverse_jacobian, jacobian, jvp, vjp
from .minimise import Minimum, minimise
from .moments import Cubature, Linear, Moments, MonteCarlo, Unscented, inverse_pushforward, pushforward

__all__ = [
    "Cubature",
    "FlowGaussianModel",
    "FlowProbit",
    "Gaussian",
    "Linear",
    "Minimum",
    "Moments",
    "MonteCarlo",
    "Unscented",
    "Wishart",
    "forward_and_jacobian",
    "inverse_and_jacobian",
    "inverse_jacobian",
    "inverse_pushforward",
    "jacobian",
    "jvp",
    "minimise",
    "pushforward",
    "vjp",
]

__getattr__ = renamed(__name__, {"pullback": "invnet.inference.inverse_pushforward"})
