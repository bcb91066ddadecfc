"""Checks for layers of your own: the laws that every one obeys, and how well a network gives back what it was given."""

from .laws import LAYER_LAWS, backward_rebuilds_the_input, check_layer, gradients_are_those_of_differences
from .net_laws import NET_LAWS, check_net
from .reconstruction import Reconstruction, reconstruction_error

__all__ = [
    "LAYER_LAWS",
    "NET_LAWS",
    "Reconstruction",
    "backward_rebuilds_the_input",
    "check_layer",
    "check_net",
    "gradients_are_those_of_differences",
    "reconstruction_error",
]
