"""The storing mode: autograd records what layers and bases compute on tensors."""

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
    """Within, a layer computes with the tensors of its module, and autograd records it.

    The result can be differentiated any number of times. The transforms of torch.func and torch.export work as well.
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
    """Gives x the batch dimensions of torch.func.vmap that any tensor has, so that these can be written to x."""
    if transforms_are_active():
        for tensor in tensors:
            x = x + tensor.new_zeros((), dtype=x.dtype)
    return x


def _without_autocast(kind):
    """Returns a context without autocast. Without autocast it does nothing, so that torch.export records nothing."""
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else contextlib.nullcontext()
