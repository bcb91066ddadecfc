"""Invertible layers, one idea a file."""

from ..deprecated import renamed
from .actnorm import ActNorm
from .autoregressive import AutoregressiveAffine
from .autoregressive_spline import AutoregressiveSpline
from .compose import Chain, FactorOut, Reverse
from .conv1x1 import Conv1x1
from .coupling import AdditiveCoupling, AffineCoupling
from .exact import Exact
from .leaky_relu import LeakyReLU
from .logit import Logit, Sigmoid
from .partitioned_coupling import PartitionedAdditiveCoupling
from .permute import Permute
from .planar import Planar, Radial
from .spline_coupling import SplineCoupling
from .split_tokens import SplitTokens
from .squeeze import Squeeze, Unsqueeze

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "AutoregressiveAffine",
    "AutoregressiveSpline",
    "Chain",
    "Conv1x1",
    "Exact",
    "FactorOut",
    "LeakyReLU",
    "Logit",
    "Permute",
    "Planar",
    "Radial",
    "Reverse",
    "Sigmoid",
    "SplineCoupling",
    "SplitTokens",
    "Squeeze",
    "PartitionedAdditiveCoupling",
    "Unsqueeze",
]

__getattr__ = renamed(__name__, {"Staircase": "invnet.layers.PartitionedAdditiveCoupling"})
