"""Objectives of training: functions that return a number and add its gradients to a flow's parameters.

`forward_kl` trains a flow by likelihood on data, `reverse_kl` on a density; `from_torch`, `from_jax` and
`from_differences` make that density of a function.
"""

from .bridges import from_differences, from_jax, from_torch
from .likelihood import forward_kl
from .variational import annealing, reverse_kl

__all__ = ["annealing", "forward_kl", "from_differences", "from_jax", "from_torch", "reverse_kl"]
