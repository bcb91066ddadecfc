"""Recording: operations that autograd records, for derivatives of derivatives, the transforms of torch.func and torch.export."""

import contextlib
import threading

import array_api_compat.torch
import torch

from ..reference import Ops

_here = threading.local()


@contextlib.contextmanager
def recording(engine=None):
    """Within, in this thread, all tensors have RecordingOps; `engine` has the operations that they have outside."""
    before, was_recording = engine_outside(), is_recording()
    _here.engine, _here.recording = engine or before, True
    try:
        yield
    finally:
        _here.engine, _here.recording = before, was_recording


def is_recording():
    return getattr(_here, "recording", False)


def engine_outside():
    """The operations that tensors have outside of the recording, or None."""
    return getattr(_here, "engine", None)


class RecordingOps(Ops):
    """The reference, of which nothing that autograd keeps shares memory with what is overwritten later.

    New arrays that are written to are made with `like`, so that they have the batch which vmap gave to that. What depends on
    values looks at those of all samples, through the wrappers of vmap; in a program that is being exported there are none yet.
    """

    name, guarded = "recording", False

    def __init__(self):
        super().__init__(array_api_compat.torch)

    def is_float(self, X):
        return X.dtype in (torch.float32, torch.float64)

    def plain(self, X):
        return X

    def to_numpy(self, X):
        return X.detach().cpu().numpy()

    def copy(self, X):
        return X.clone()

    def rows(self, X):
        return super().rows(X).clone()

    def fresh(self, X):
        return self.images(self.rows(X), X.shape)

    def product(self, A, B):
        return A.clone() @ B

    def fill(self, N, value, like):
        return like.new_zeros((N,)) + value

    def empty(self, shape, like):
        return like.new_zeros(shape)

    def span(self, X):
        return super().span(_values(X))

    def lies_within(self, X, low, high, ends=True):
        if not torch.compiler.is_exporting():
            return super().lies_within(X, low, high, ends)
        inside = (X >= low) & (X <= high) if ends else (X > low) & (X < high)
        torch._assert_async(inside.all(), f"values between {low:g} and {high:g} are required")  # the program looks when it runs
        return True

    def all_hold(self, mask):
        return not torch.compiler.is_exporting() and super().all_hold(_values(mask))

    def checksum(self, X):
        return None  # nothing that is kept is for the backward of these tensors


def _values(X):
    """The tensor behind the wrappers of torch.func, with all samples of a batch of vmap."""
    while torch._C._functorch.is_functorch_wrapped_tensor(X):
        X = torch._C._functorch.get_unwrapped(X)
    return X.detach()
