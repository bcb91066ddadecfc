"""Models: networks that are built from layers in one call."""

from .autoregressive import IAF, MAF
from .glow import Glow

__all__ = ["Glow", "IAF", "MAF"]
