"""The CuPy engine: CUDA kernels, products by cuBLAS, and tiles that fill a GPU.

All work is queued on CuPy's current stream, and no operation waits for it. One instance of `CupyOps` serves one device.
"""

import functools
import math

try:
    import cupy
    from cupy_backends.cuda.libs import cublas  # noqa: F401, which CuPy itself looks for when it is first used
except ImportError as error:
    raise ImportError(
        f"the CuPy engine needs CuPy and the CUDA libraries: pip install 'cupy-cuda12x[ctk]', or 'cupy-cuda13x[ctk]' "
        f"for CUDA 13; got: {error}"
    ) from error
import array_api_compat.cupy

from ..reference import Ops
from ..tile import tiles_of
from . import settings
from .channels import Channels
from .conv_stack import ConvStack
from .couplings import Couplings
from .device import OnDevice, checked_device
from .pointwise import Pointwise
from .products import product
from .settings import set_tf32, set_workspace

__all__ = ["CupyOps", "set_tf32", "set_workspace"]

#: Kernels count in 32 bits.
LARGEST = 2**31 - 1


class CupyOps(Channels, ConvStack, Couplings, Pointwise, Ops):
    asynchronous = True

    def __init__(self, device):
        super().__init__(array_api_compat.cupy)
        self._number, self.name = device, f"cupy:{device}"

    @property
    def device(self):
        return cupy.cuda.Device(self._number)  # a new one for each context, since it remembers what was current before

    @classmethod
    def of(cls, array):
        return _on(array.device.id)

    @classmethod
    def on(cls, device):
        return _on(checked_device(device))

    # ---- arrays

    def is_float(self, X):
        return X.dtype.kind == "f" and X.dtype.itemsize in (4, 8)

    def astype(self, X, dtype):
        return X.astype(dtype, copy=False)

    def from_numpy(self, data):
        with self.device:
            return cupy.array(data)

    def to_numpy(self, X):
        return X.get()

    def zeros_like(self, X):
        with self.device:
            return cupy.zeros(X.shape, X.dtype)

    def copy(self, X):
        return X.copy()

    def product(self, A, B):
        return product(A, B)

    def images(self, R, shape):
        N, C, *spatial = shape
        return R.reshape(N, *spatial, C).transpose(0, len(shape) - 1, *range(1, len(shape) - 1))

    def rows(self, X):
        return X.transpose(0, *range(2, X.ndim), 1).reshape(-1, X.shape[1])

    def copy_channels_last(self, X):
        if X.size > LARGEST:
            raise ValueError(f"an array on a GPU has at most {LARGEST} numbers; got shape {tuple(X.shape)}")
        with self.device:
            last = cupy.empty((X.shape[0], *X.shape[2:], X.shape[1]), X.dtype).transpose(
                0, X.ndim - 1, *range(1, X.ndim - 1)
            )
        last[...] = X
        return last

    def at_rows(self, each, X):
        return cupy.repeat(each, math.prod(X.shape[2:]))

    def checksum(self, X):
        bits = self.rows(X).reshape(-1).view("int32" if X.dtype.itemsize == 4 else "int64")
        odd = cupy.arange(1, 2 * bits.size, 2)  # so that an exchange of two numbers is seen
        return X.shape, int((bits * odd).sum())

    def free_memory(self):
        with self.device:
            return cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()

    # ---- tiles: as many samples as fit the workspace, all of which a GPU works on at once

    def tiles(self, shape, floats_per_position, reach, weights):
        return _tiles(tuple(shape), settings.workspace() // (4 * floats_per_position), reach)

    def at_work(self):
        return OnDevice(self)

    def in_full_precision(self):
        return settings.in_full_precision()


@functools.cache
def _on(device):
    return CupyOps(device)


@functools.lru_cache(maxsize=1024)
def _tiles(shape, most, reach):
    return tiles_of(shape, shape[0], most, reach)
