"""invnet: memory-efficient invertible networks with manual backprop."""

from . import bases, data, layers, losses, models, nets, optim, plot, testing, train
from .bases import DiagonalNormal, FullNormal, GaussianMixture, Normal, Uniform
from .core import Condition, Isometry, Layer, Module, Net, Parameter
from .flow import Flow
from .io import load, save
from .layers import *  # noqa: F403
from .models import *  # noqa: F403
from .nets import ConvNet, DenseNet, MaskedDenseNet
from .ops.threads import num_threads, set_num_threads

__version__ = "0.1.0"
