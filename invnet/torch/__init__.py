"""invnet and PyTorch together: `as_module` turns a layer into an nn.Module, `TorchNet` an nn.Module into a conditioner.

PyTorch is imported only when this package is used.
"""

import torch

from ..ops.threads import single_threaded_blas
from .module import as_module
from .net import TorchNet
from .vit import ViT, transformer

__all__ = ["TorchNet", "ViT", "as_module", "transformer"]

# PyTorch uses one thread while tiles are computed in several. With its own threads in each tile, evaluations took 20 to
# 140 times as long on three cores, one of which was busy.
single_threaded_blas.include(torch)
