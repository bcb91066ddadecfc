"""Models: networks that are built from layers in one call."""

from .glow import Glow

__all__ = ["Glow"]
