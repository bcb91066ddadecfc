"""Conditioners: the networks inside couplings and autoregressive layers. They need not be invertible."""

from .conv import ConvNet
from .dense import DenseNet
from .masked import MaskedDenseNet
from .planar import PlanarNet, RadialNet

__all__ = ["ConvNet", "DenseNet", "MaskedDenseNet", "PlanarNet", "RadialNet"]
