"""Invertible layers, one idea a file."""

from .actnorm import ActNorm
from .autoregressive import AutoregressiveAffine
from .compose import Chain, FactorOut, Reverse
from .conv1x1 import Conv1x1
from .coupling import AdditiveCoupling, AffineCoupling
from .logit import Logit
from .permute import Permute
from .squeeze import Squeeze, Unsqueeze

__all__ = ["ActNorm", "AdditiveCoupling", "AffineCoupling", "AutoregressiveAffine", "Chain", "Conv1x1", "FactorOut", "Logit",
           "Permute", "Reverse", "Squeeze", "Unsqueeze"]
