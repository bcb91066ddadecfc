"""Models: networks that are built from layers in one call."""

from .autoregressive import IAF, MAF
from .glow import Glow
from .jet import Jet
from .nsf import NSF
from .planar import PlanarFlow, RadialFlow
from .realnvp import RealNVP

__all__ = ["Glow", "IAF", "Jet", "MAF", "NSF", "PlanarFlow", "RadialFlow", "RealNVP"]
