"""Transforms: the elementwise maps of couplings and autoregressive layers, one in each file.

Such a layer consists of a coupler and a transform. The coupler (coupling.py, autoregressive.py) decides which channels
the conditioner sees and in which order the others are changed. The transform computes the new value of each number from
the conditioner's outputs for it.
"""

from .affine import Affine
from .shift import Shift
from .spline import Spline
from .transform import Transform

__all__ = ["Affine", "Shift", "Spline", "Transform"]
