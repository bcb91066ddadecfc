"""Base distributions of a flow, with the gradients of their densities and of their samples."""

from .base import Base
from .mixture import GaussianMixture
from .normal import DiagonalNormal, FullNormal, Normal
from .uniform import Uniform

__all__ = ["Base", "DiagonalNormal", "FullNormal", "GaussianMixture", "Normal", "Uniform"]
