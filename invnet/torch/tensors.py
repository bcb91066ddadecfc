"""Conversions between arrays and tensors that share memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from ..typing import Array


def tensor_of(array: Array):
    """Returns a tensor that shares memory with an array of any engine.

    PyTorch cannot share read-only arrays or negative strides; then the tensor is a copy.
    """
    if isinstance(array, torch.Tensor):
        return array.detach()
    if not isinstance(array, np.ndarray):
        return torch.from_dlpack(array)
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy()
    return torch.from_numpy(array)


def array_of(tensor: Array, like: Array | None = None):
    """Returns an array that shares memory with a tensor, of the engine of `like`, or of NumPy for one on the CPU."""
    tensor = tensor.detach()
    if isinstance(like, np.ndarray) or (like is None and tensor.device.type == "cpu"):
        return tensor.numpy()
    if like is None or isinstance(like, torch.Tensor):
        return tensor
    return like.__array_namespace__().from_dlpack(tensor)


def transforms_are_active():
    """Returns whether a transform of torch.func is active."""
    return torch._C._are_functorch_transforms_active()
