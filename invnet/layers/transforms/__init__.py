"""Transforms: what a layer with a conditioner makes of each number, one map a file.

A layer is a coupler and a transform. The coupler (coupling.py, autoregressive.py) says which channels the conditioner
sees and in which order the others are changed. The transform says how a number is changed, given the conditioner's
outputs for it.
"""

from .affine import Affine
from .shift import Shift
from .spline import Spline
from .transform import Transform

__all__ = ["Affine", "Shift", "Spline", "Transform"]
