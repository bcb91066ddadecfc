"""Recording: operations that autograd records, for derivatives of derivatives, the transforms of torch.func and
torch.export.
"""

import contextlib
import math
import threading

import array_api_compat.torch
import torch

from ..reference import Ops
from .conv_stack import how, weight_of

#: Steps of Newton's method for the inverse of a matrix: 2 log2 of its condition number, and some ten more (Söderström &
#: Stewart, On the Numerical Properties of an Iterative Method for Computing the Moore-Penrose Generalized Inverse,
#: 1974).
NEWTON = 60

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

    New arrays that are written to are made with `like`, so that they have the batch which vmap gave to that. What
    depends on values looks at those of all samples, through the wrappers of vmap; in a program that is being exported
    there are none yet.
    """

    name, guarded = "recording", False

    def __init__(self):
        super().__init__(array_api_compat.torch)

    def is_float(self, X):
        return X.dtype in (torch.float32, torch.float64)

    def detach(self, X):
        return X

    def to_numpy(self, X):
        return X.detach().cpu().numpy()

    def copy(self, X):
        return X.clone()

    def rows(self, X):
        return super().rows(X).clone()

    def copy_channels_last(self, X):
        return self.images(self.rows(X), X.shape)

    def product(self, A, B):
        return A.clone() @ B

    def normal_cdf(self, A):
        return torch.special.ndtr(A)

    def _products(self, X, W, transposed):
        kernel = W.shape[:-2]
        if math.prod(kernel) == 1:
            return super()._products(X, W, transposed)
        return None, self.rows(torch.ops.aten.convolution(X, weight_of(W), None, *how(kernel, transposed)))

    def full(self, N, value, like):
        return like.new_zeros((N,)) + value

    def empty(self, shape, like):
        return like.new_zeros(shape)

    def min_max(self, X):
        return super().min_max(_values(X))

    def lies_within(self, X, low, high, ends=True):
        if not torch.compiler.is_exporting():
            return super().lies_within(X, low, high, ends)
        inside = (X >= low) & (X <= high) if ends else (X > low) & (X < high)
        torch._assert_async(
            inside.all(), f"values between {low:g} and {high:g} are required"
        )  # the program looks when it runs
        return True

    def all_hold(self, mask):
        return not torch.compiler.is_exporting() and super().all_hold(_values(mask))

    # ONNX has no operator for an inverse, nor for the logarithm of a determinant. Nothing of this depends on the input,
    # so that its exporter may fold it into a constant.

    def inverse(self, M):
        if not torch.onnx.is_in_onnx_export():
            return super().inverse(M)
        A = M.double()
        X = A.T / (A.abs().sum(0).max() * A.abs().sum(1).max())
        for _ in range(NEWTON):
            X = 2 * X - X @ (A @ X)
        return X.to(M.dtype)

    def log_abs_det(self, M):
        return torch.linalg.det(M).abs().log() if torch.onnx.is_in_onnx_export() else super().log_abs_det(M)

    def checksum(self, X):
        return None  # nothing that is kept is for the backward of these tensors


def _values(X):
    """The tensor behind the wrappers of torch.func, with all samples of a batch of vmap."""
    while torch._C._functorch.is_functorch_wrapped_tensor(X):
        X = torch._C._functorch.get_unwrapped(X)
    return X.detach()
