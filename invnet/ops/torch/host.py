"""Tensors on the CPU: NumPy's kernels and threads work on their memory."""

import functools

import numpy as np
import torch

from ..numpy import NumpyOps
from ..threads import single_threaded_blas
from . import TorchOps

_numpy = NumpyOps.on("")


def _array(value):
    """A tensor as an array of the same memory; anything else as it is."""
    return value.numpy() if isinstance(value, torch.Tensor) else value


def _tensor(value):
    """An array as a tensor of the same memory; anything else as it is."""
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _tensors(values):
    return tuple(map(_tensor, values))


def _forwarded(name):
    """A method that NumPy's engine does, on the same memory."""
    method = getattr(_numpy, name)

    @functools.wraps(method)
    def call(self, *arguments):
        result = method(*map(_array, arguments))
        return _tensors(result) if isinstance(result, (tuple, list)) else _tensor(result)

    return call


class HostOps(TorchOps):
    """Operations that NumPy's engine has kernels for are handed to it; a tensor and its NumPy array are one memory.

    That takes about a microsecond for each array. What is left to aten are element-wise layers, and where no group is
    fused the small matrices of 1x1 convolutions and the sums of gradients.
    """

    def __init__(self):
        super().__init__(torch.device("cpu"))

    def checksum(self, X):
        return _numpy.checksum(X.detach().numpy())

    def empty(self, shape, like):
        return torch.from_numpy(_numpy.empty(shape, like.numpy()))

    def copy_channels_last(self, X):
        return torch.from_numpy(_numpy.copy_channels_last(X.detach().numpy()))

    # A tape is NumPy's own and goes back to it as it came.

    def conv_stack(self, X, layers, parameters, added=None, keep=True):
        y, tape = _numpy.conv_stack(X.detach().numpy(), layers, [p.numpy() for p in parameters], _array(added), keep)
        return torch.from_numpy(y), tape

    def conv_stack_vjp(self, dY, tape, layers, parameters):
        dx, gradients, dadded = _numpy.conv_stack_vjp(
            dY.detach().numpy(), tape, layers, [p.numpy() for p in parameters]
        )
        return torch.from_numpy(dx), [torch.from_numpy(gradient) for gradient in gradients], _tensor(dadded)

    # ---- tiles: those of NumPy's engine, in its threads

    def tiles(self, shape, floats_per_position, reach, weights):
        return _numpy.tiles(shape, floats_per_position, reach, weights)

    def map_tiles(self, work, tiles, commit, memory=None):
        _numpy.map_tiles(work, tiles, commit, memory)

    def lasting_memory(self, size):
        return _numpy.lasting_memory(size)

    def at_work(self):
        return _AtWork()

    # ---- what NumPy's engine does as it stands: all that it does faster than the reference, but for what aten does

    product = _forwarded("product")
    mix_ = _forwarded("mix_")
    mix_vjp_ = _forwarded("mix_vjp_")
    split_ = _forwarded("split_")
    join_ = _forwarded("join_")
    squeeze_ = _forwarded("squeeze_")
    unsqueeze_ = _forwarded("unsqueeze_")
    log_scale = _forwarded("log_scale")
    couple_ = _forwarded("couple_")
    uncouple_ = _forwarded("uncouple_")
    couple_vjp_ = _forwarded("couple_vjp_")
    uncouple_vjp_ = _forwarded("uncouple_vjp_")
    add_ = _forwarded("add_")
    planar_ = _forwarded("planar_")
    planar_vjp_ = _forwarded("planar_vjp_")
    radial_ = _forwarded("radial_")
    radial_vjp_ = _forwarded("radial_vjp_")
    spline = _forwarded("spline")
    spline_inverse = _forwarded("spline_inverse")
    spline_vjp = _forwarded("spline_vjp")
    spline_inverse_vjp = _forwarded("spline_inverse_vjp")
    sum_positions = _forwarded("sum_positions")
    deviation = _forwarded("deviation")

    # ---- groups of layers whose parameters are tensors on the CPU too: NumPy's engine finds these by their addresses

    def host_array(self, X):
        return X.numpy()

    def fused_vectors_(self, plan, X, inverse):
        return _tensors(_numpy.fused_vectors_(plan, X.numpy(), inverse))

    def fused_vectors_vjp_(self, plan, dZ, Z, dlogdet, inverse):
        return _tensors(_numpy.fused_vectors_vjp_(plan, dZ.numpy(), Z.numpy(), dlogdet.numpy(), inverse))

    def fused_images_(self, plan, X, inverse, tapes, memory):
        return _tensors(_numpy.fused_images_(plan, X.numpy(), inverse, tapes, memory))

    def fused_images_vjp_(self, plan, dZ, Z, dlogdet, inverse, tapes):
        return _tensors(_numpy.fused_images_vjp_(plan, dZ.numpy(), Z.numpy(), dlogdet.numpy(), inverse, tapes))

    def update_(self, update, *arrays):
        _numpy.update_(update, *map(_array, arrays))


class _AtWork:
    """A context in which no graph is built, and BLAS and aten have one thread, as in NumPy's engine."""

    def __enter__(self):
        self.before = torch.is_grad_enabled(), torch.get_num_threads()
        try:
            torch.set_grad_enabled(False)
            torch.set_num_threads(1)
            single_threaded_blas.__enter__()
        except BaseException:  # Ctrl-C, for one
            self._restore()
            raise

    def __exit__(self, *error):
        single_threaded_blas.__exit__(*error)
        self._restore()

    def _restore(self):
        recorded, threads = self.before
        torch.set_grad_enabled(recorded)
        torch.set_num_threads(threads)
