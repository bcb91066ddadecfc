"""Recording: operations that autograd records, for derivatives of derivatives and the transforms of torch.func."""

import contextlib
import threading

import array_api_compat.torch
import torch

from ..reference import Ops

_here = threading.local()


@contextlib.contextmanager
def recording():
    """Within, in this thread, all tensors have RecordingOps."""
    before, _here.recording = is_recording(), True
    try:
        yield
    finally:
        _here.recording = before


def is_recording():
    return getattr(_here, "recording", False)


class RecordingOps(Ops):
    """The reference, of which nothing that autograd keeps shares memory with what is overwritten later."""

    name, guarded = "recording", False

    def __init__(self):
        super().__init__(array_api_compat.torch)

    def is_float(self, X):
        return X.dtype in (torch.float32, torch.float64)

    def plain(self, X):
        return X

    def copy(self, X):
        return X.clone()

    def rows(self, X):
        return super().rows(X).clone()

    def fresh(self, X):
        return self.images(self.rows(X), X.shape)

    def product(self, A, B):
        return A.clone() @ B

    def normal_cdf(self, A):
        return torch.special.ndtr(A)

    def fill(self, N, value, like):
        return like.new_zeros((N,)) + value  # with the batch that vmap gave like

    def span(self, X):
        return super().span(X.detach())

    def checksum(self, X):
        return None  # nothing that is kept is for the backward of these tensors
