"""Conditioners: networks inside couplings, which need not be invertible."""

from .planar import PlanarNet, RadialNet
from .conv import ConvNet
from .dense import DenseNet
from .masked import MaskedDenseNet

__all__ = ["ConvNet", "DenseNet", "MaskedDenseNet", "PlanarNet", "RadialNet"]
