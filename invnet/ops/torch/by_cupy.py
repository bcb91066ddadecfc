"""Tensors on CUDA devices that the CuPy engine's kernels work on, through DLPack: where a program asks for it."""

import functools

import cupy
import torch

from .. import torch as torch_engine
from ..cupy import CupyOps
from . import TorchOps


def _array(value):
    """A tensor as an array of the same memory; anything else as it is."""
    return cupy.from_dlpack(value.detach()) if isinstance(value, torch.Tensor) else value


def _tensor(value):
    """An array as a tensor of the same memory; anything else as it is."""
    return torch.from_dlpack(value) if isinstance(value, cupy.ndarray) else value


def _forwarded(name):
    """A method that the CuPy engine does, on the same memory."""
    method = getattr(CupyOps, name)

    @functools.wraps(method)
    def call(self, *arguments):
        with self.cupy.device, self.stream():
            result = method(self.cupy, *map(_array, arguments))
            return tuple(map(_tensor, result)) if isinstance(result, (tuple, list)) else _tensor(result)

    return call


class ByCupy(TorchOps):
    """Operations that the CuPy engine has kernels for are handed to it, on PyTorch's current stream; convolutions are
    aten's.

    A tensor and its CuPy array are one memory. Args as of TorchOps.
    """

    def __init__(self, device):
        super().__init__(device)
        self.cupy = CupyOps.on(str(device.index or 0))

    def stream(self):
        """A context in which CuPy queues its work on PyTorch's current stream."""
        return cupy.cuda.Stream.from_external(torch.cuda.current_stream(self.device))

    mix_ = _forwarded("mix_")
    mix_vjp_ = _forwarded("mix_vjp_")
    squeeze_ = _forwarded("squeeze_")
    unsqueeze_ = _forwarded("unsqueeze_")
    couple_ = _forwarded("couple_")
    uncouple_ = _forwarded("uncouple_")
    couple_vjp_ = _forwarded("couple_vjp_")
    uncouple_vjp_ = _forwarded("uncouple_vjp_")
    _tanh = _forwarded("_tanh")
    spline = _forwarded("spline")
    spline_inverse = _forwarded("spline_inverse")
    spline_vjp = _forwarded("spline_vjp")
    spline_inverse_vjp = _forwarded("spline_inverse_vjp")


def share_with_torch():
    """From now on the CuPy engine's kernels serve PyTorch's tensors on CUDA devices, and one allocator, PyTorch's,
    serves both.

    So neither library holds memory that the other could use, and torch.cuda.max_memory_allocated counts all of it. Call
    it before the first array or tensor is made.

    Raises:
        ImportError: CuPy or its CUDA libraries are missing.
        OSError: there is no driver, no device, or CuPy is of another CUDA version than the driver.
    """
    CupyOps.on("")  # says what is missing

    def allocate(size, device):
        try:
            return torch.cuda.caching_allocator_alloc(size, device, cupy.cuda.get_current_stream().ptr)
        except torch.OutOfMemoryError as error:
            raise cupy.cuda.memory.OutOfMemoryError(size, torch.cuda.memory_allocated(device)) from error

    def free(pointer, device):
        torch.cuda.caching_allocator_delete(pointer)

    cupy.cuda.set_allocator(cupy.cuda.PythonFunctionAllocator(allocate, free).malloc)
    torch_engine.CLASSES["cuda"] = ByCupy
    torch_engine._on_device.cache_clear()
