"""Arrays as tensors and tensors as arrays, with the memory shared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from ..typing import Array


def tensor_of(array: Array):
    """A tensor that shares memory with an array of any engine; a copy where PyTorch cannot: read-only, or of negative
    strides.
    """
    if isinstance(array, torch.Tensor):
        return array.detach()
    if not isinstance(array, np.ndarray):
        return torch.from_dlpack(array)
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy()
    return torch.from_numpy(array)


def array_of(tensor: Array, like: Array | None = None):
    """An array that shares memory with a tensor: of the engine of `like`, or else NumPy's of a tensor on the CPU."""
    tensor = tensor.detach()
    if isinstance(like, np.ndarray) or (like is None and tensor.device.type == "cpu"):
        return tensor.numpy()
    if like is None or isinstance(like, torch.Tensor):
        return tensor
    return like.__array_namespace__().from_dlpack(tensor)


def transforms_are_active():
    """Whether this runs within a transform of torch.func."""
    return torch._C._are_functorch_transforms_active()
