"""The reference: the operations that layers and conditioners are written in, on any array-API namespace.

Shapes are channels-first, (N, C, *spatial); the memory of what is made here is channels-last, so that the rows
(N * positions, C) of an array are a view of it and a 1x1 convolution is one matrix product. An engine overrides what
it does measurably faster; these files say what is computed.
"""

from .activations import Activations
from .arrays import Arrays
from .channels import Channels
from .conv_stack import ConvStack
from .coupling import Couplings
from .fixed_point import FixedPoint
from .pointwise import Pointwise
from .spline import LEAST, Splines

__all__ = ["LEAST", "Ops"]


class Ops(Arrays, Channels, ConvStack, Activations, Couplings, Pointwise, Splines, FixedPoint):
    """All operations.

    Args:
        xp: an array-API namespace.
    """

    name = "reference"

    def __init__(self, xp):
        self.xp, self._of_dtype = xp, {}
