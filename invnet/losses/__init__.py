"""Losses of a flow, with their gradients: likelihood from data, variational inference from a density."""

from .bridges import from_differences, from_jax, from_torch
from .likelihood import bits_per_dim, forward_kl, gaussian_nll
from .variational import annealing, reverse_kl

__all__ = ["annealing", "bits_per_dim", "forward_kl", "from_differences", "from_jax", "from_torch", "gaussian_nll", "reverse_kl"]
