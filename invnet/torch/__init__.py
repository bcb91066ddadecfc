"""PyTorch around invnet and within it: as_module makes a layer an nn.Module, TorchNet any nn.Module a conditioner.
Imported on request.
"""

import torch

from ..ops.threads import single_threaded_blas
from .module import as_module
from .net import TorchNet
from .vit import ViT, transformer

__all__ = ["TorchNet", "ViT", "as_module", "transformer"]

# Tiles in threads and PyTorch's own threads within each: on three cores, one busy, that took 20 to 140 times as long.
single_threaded_blas.include(torch)
