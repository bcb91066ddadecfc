"""invnet: memory-efficient invertible networks with manual backprop."""

from . import bases, data, distributed, layers, losses, models, nets, objectives, optim, plot, testing, train
from .bases import DiagonalNormal, FullNormal, GaussianMixture, Normal, Uniform
from .core import Condition, Conditioner, Isometry, Layer, Module, Parameter
from .deprecated import renamed
from .flow import Flow
from .io import load, save
from .layers import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    AutoregressiveAffine,
    AutoregressiveSpline,
    Chain,
    Conv1x1,
    Exact,
    FactorOut,
    LeakyReLU,
    Logit,
    PartitionedAdditiveCoupling,
    Permute,
    Planar,
    Radial,
    Reverse,
    Sigmoid,
    SplineCoupling,
    SplitTokens,
    Squeeze,
    Unsqueeze,
)
from .models import IAF, MAF, NSF, Glow, Jet, PlanarFlow, RadialFlow, RealNVP
from .nets import ConvNet, DenseNet, MaskedDenseNet, PlanarNet, RadialNet
from .ops.threads import num_threads, set_num_threads

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "AutoregressiveAffine",
    "AutoregressiveSpline",
    "Chain",
    "Condition",
    "Conditioner",
    "Conv1x1",
    "ConvNet",
    "DenseNet",
    "DiagonalNormal",
    "Exact",
    "FactorOut",
    "Flow",
    "FullNormal",
    "GaussianMixture",
    "Glow",
    "IAF",
    "Isometry",
    "Jet",
    "Layer",
    "LeakyReLU",
    "Logit",
    "MAF",
    "MaskedDenseNet",
    "Module",
    "NSF",
    "Normal",
    "Parameter",
    "PartitionedAdditiveCoupling",
    "Permute",
    "Planar",
    "PlanarFlow",
    "PlanarNet",
    "Radial",
    "RadialFlow",
    "RadialNet",
    "RealNVP",
    "Reverse",
    "Sigmoid",
    "SplineCoupling",
    "SplitTokens",
    "Squeeze",
    "Uniform",
    "Unsqueeze",
    "bases",
    "data",
    "distributed",
    "layers",
    "load",
    "losses",
    "models",
    "nets",
    "num_threads",
    "objectives",
    "optim",
    "plot",
    "save",
    "set_num_threads",
    "testing",
    "torch",
    "train",
]

__version__ = "0.1.0"


_renamed = renamed(__name__, {"Net": "invnet.Conditioner", "Staircase": "invnet.PartitionedAdditiveCoupling"})


def __getattr__(name):
    # invnet.torch imports PyTorch, which takes seconds, and which few need: at its first use.
    if name == "torch":
        import importlib

        return importlib.import_module(".torch", __name__)
    return _renamed(name)
