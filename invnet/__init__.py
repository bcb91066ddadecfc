"""invnet: memory-efficient invertible networks with manual backprop."""

from . import bases, data, distributed, layers, losses, models, nets, objectives, optim, plot, testing, train
from .bases import DiagonalNormal, FullNormal, GaussianMixture, Normal, Uniform
from .core import Condition, Conditioner, Isometry, Layer, Module, Parameter
from .deprecated import renamed
from .flow import Flow
from .io import load, save
from .layers import *  # noqa: F403
from .models import *  # noqa: F403
from .nets import ConvNet, DenseNet, MaskedDenseNet, PlanarNet, RadialNet
from .ops.threads import num_threads, set_num_threads

__version__ = "0.1.0"


_renamed = renamed(__name__, {"Net": "invnet.Conditioner", "Staircase": "invnet.PartitionedAdditiveCoupling"})


def __getattr__(name):
    # invnet.torch imports PyTorch, which takes seconds, and which few need: at its first use.
    if name == "torch":
        import importlib

        return importlib.import_module(".torch", __name__)
    return _renamed(name)
