"""The storing mode: what layers and bases compute on tensors, recorded by autograd."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core import get_ops
from ..ops.torch.recording import is_recording, recording
from .tensors import transforms_are_active

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..typing import Array


@contextlib.contextmanager
def recorded(shares, device) -> Iterator[None]:
    """Within, the arrays of a layer are its module's tensors, and autograd records what is computed on tensors.

    It is differentiable as often as wanted, and the transforms of torch.func and torch.export take part in it.
    """
    states = [share.state for share in shares]
    arrays = [state.data for state in states]
    engine = (
        None
        if is_recording()
        else get_ops(arrays[0] if arrays else np.empty(0) if device.type == "cpu" else torch.empty(0, device=device))
    )
    try:
        for state, share in zip(states, shares):
            state.data = share.tensor.view_as(share.tensor)
        with recording(engine), _without_autocast(device.type):
            yield
    finally:
        for state, array in zip(states, arrays):
            state.data = array


def with_batches_of(tensors, x: Array):
    """x, with every batch that torch.func.vmap gave to one of the tensors: what is written into x may have it too."""
    if transforms_are_active():
        for tensor in tensors:
            x = x + tensor.new_zeros((), dtype=x.dtype)
    return x


def _without_autocast(kind):
    """A context without autocast, which torch.export would make a part of the program where there is none anyway."""
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else contextlib.nullcontext()
