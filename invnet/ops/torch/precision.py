"""Precision: what torch.autocast asks for is for conditioners alone; the state and all else stay in the layer's
dtype.
"""

import contextlib
import threading

import torch

_asked = threading.local()


@contextlib.contextmanager
def in_full(kind):
    """Within, nothing is recorded for autograd, and autocast is off on devices of a kind ("cuda"), but remembered.

    It is no inference mode, whose tensors could never enter an autograd graph.
    """
    with torch.no_grad():
        dtype = reduced(kind)
        if dtype is None:
            yield
            return
        before, _asked.dtype = getattr(_asked, "dtype", None), dtype
        try:
            with torch.autocast(kind, enabled=False):
                yield
        finally:
            _asked.dtype = before


@contextlib.contextmanager
def never_reduced(kind):
    """Within, what autocast asks for is forgotten."""
    with in_full(kind):
        before, _asked.dtype = getattr(_asked, "dtype", None), None
        try:
            yield
        finally:
            _asked.dtype = before


def reduced(kind):
    """The dtype that autocast asks for, here or outside of `in_full`; or None."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else getattr(_asked, "dtype", None)
