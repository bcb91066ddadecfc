"""The device: that it is there and can be used, which one, and what is said when its memory ends."""

import contextlib
import traceback

import cupy

from . import settings

MiB = 2**20


def checked_device(text):
    """The number of the device that "cupy:TEXT" names, the current one of CuPy where TEXT is empty.

    Raises:
        ValueError: there is no such device.
        OSError: there is no driver, no device, or CuPy is of another CUDA version than the driver.
    """
    count = device_count()
    if not text:
        return cupy.cuda.Device().id
    if not text.isdigit() or int(text) >= count:
        raise ValueError(
            f"this machine has {count} CUDA device{'s' if count > 1 else ''}, "
            f'"cupy:0" to "cupy:{count - 1}"; got "cupy:{text}"'
        )
    return int(text)


def device_count():
    """How many CUDA devices CuPy can use, at least one."""
    runtime = cupy.cuda.runtime
    driver, own = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if not driver:
        raise OSError(
            "the CuPy engine needs NVIDIA's driver, and none was found: install it, or compute with the engine numpy"
        )
    if driver // 1000 < own // 1000:
        raise OSError(
            f"this CuPy is for CUDA {own // 1000}, and the driver takes CUDA {_version(driver)} at most: "
            f"install cupy-cuda{driver // 1000}x in place of cupy-cuda{own // 1000}x, or a newer driver"
        )
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise OSError(
            f"no CUDA device can be used: {error}; nvidia-smi lists those that the driver sees, CUDA_VISIBLE_DEVICES "
            f"hides some"
        ) from error
    if not count:
        raise OSError("the CuPy engine needs a CUDA device, and the driver sees none; CUDA_VISIBLE_DEVICES may hide it")
    try:
        cupy.cuda.nvrtc.getVersion()
    except (RuntimeError, ImportError) as error:
        raise OSError(
            f"CuPy finds no compiler for its kernels, NVRTC: pip install 'cupy-cuda{own // 1000}x[ctk]' brings it"
        ) from error
    return count


def _version(number):
    return f"{number // 1000}.{number % 1000 // 10}"


class OnDevice(contextlib.AbstractContextManager):
    """A context for a layer's public call: its device is the current one, and a lack of memory is explained."""

    def __init__(self, ops):
        self.ops, self.device = ops, ops.device

    def __enter__(self):
        self.device.__enter__()

    def __exit__(self, kind, error, trace):
        self.device.__exit__(kind, error, trace)
        if not isinstance(error, cupy.cuda.memory.OutOfMemoryError):
            return
        traceback.clear_frames(trace)  # which hold what the call had made
        free, tile = self.ops.free_memory(), settings.workspace()
        fits = min(free // 2, tile // 2) // MiB * MiB
        advice = (
            f"a tile of {fits // MiB} MiB would fit: invnet.ops.cupy.set_workspace({fits})"
            if fits >= MiB
            else "use a smaller batch"
        )
        raise MemoryError(
            f"the memory of GPU {self.device.id} ends: {free // MiB} MiB are free, a tile may take {tile // MiB} MiB, "
            f"and a step "
            f"holds four arrays of the input's size beside it; {advice}"
        ) from error
