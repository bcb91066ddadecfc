"""Share: an array of a layer and a tensor of a module in the same memory."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core import Parameter
from .tensors import array_of, tensor_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..core import Buffer
    from ..typing import Array, DType


class Share:
    """An array of a layer and a tensor of a module in the same memory. If one of them is replaced, the other follows.

    Args:
        state: the Parameter or Buffer of the layer.
        places: where modules hold the tensor, pairs of a dict, as `_parameters` of one, and a key.
        inner: whether these are nn.Modules of a TorchNet.
    """

    def __init__(self, state: Buffer, places, inner: bool = False):
        self.state, self.places, self.inner = state, places, inner
        self.tensors, self.key = places[0]
        self.array = weakref.ref(state.data)  # once replaced it is to be freed
        self.pointer, self.dtype = self.tensor.data_ptr(), self.tensor.dtype

    def __getstate__(self):
        return vars(self) | {"array": _none}  # of a copy the array and the tensor meet at the first call

    @property
    def tensor(self):
        return self.tensors[self.key]

    def put(self, tensor: Array) -> None:
        """Sets the tensor in all dicts that hold it."""
        for tensors, key in self.places:
            tensors[key] = tensor

    def meet(self) -> None:
        """Makes both use the same memory again, if one of them was replaced."""
        state, tensor = self.state, self.tensors[self.key]
        before = state.data
        if before is not self.array():
            tensor.data = tensor_of(state.data)
        elif tensor.data_ptr() != self.pointer or tensor.dtype != self.dtype:
            if tensor.is_floating_point():
                check_dtype(tensor.dtype)
            state.data = array_of(tensor, before if _may_share(before, tensor) else None)
            if isinstance(state, Parameter) and _kind(state.data) != _kind(before):
                state.grad = array_of(torch.zeros_like(tensor), state.data)
        else:
            return
        self.pointer, self.dtype = tensor.data_ptr(), tensor.dtype
        self.array = weakref.ref(state.data)  # last, since tiles in several threads may meet at the same time


def _may_share(array, tensor):
    """Returns whether a tensor can share memory with an array of the same library as `array`."""
    return isinstance(array, torch.Tensor) or isinstance(array, np.ndarray) == (tensor.device.type == "cpu")


def _none():
    return None


def _kind(array):
    return type(array), array.dtype, array.device


def check_dtype(dtype: DType) -> None:
    """Raises TypeError if no layer computes in this dtype."""
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"a layer computes in float32 or float64; its module was to be of {dtype}")


@contextlib.contextmanager
def holding(shares, tensors) -> Iterator[None]:
    """Within, the modules hold these tensors, with which a graph was made. torch.func.functional_call had set others.

    An nn.Module of a TorchNet holds other tensors with the same memory, since the surrounding graph calls the hooks of
    its own parameters.
    """
    others = []
    try:
        for share, tensor in zip(shares, tensors):
            own = share.tensors[share.key]
            if share.inner or own is not tensor:
                others.append((share, own))
                share.put(tensor.detach().requires_grad_(tensor.requires_grad))
            share.meet()
        yield
    finally:
        for share, own in others:
            share.put(own)
            share.meet()
