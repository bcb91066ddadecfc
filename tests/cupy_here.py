"""CuPy for the tests: itself where it has a device, else the stand-in."""

import contextlib
import shutil
import sys

import numpy as np
import pytest


def _has_device():
    try:
        import cupy

        return cupy.cuda.runtime.getDeviceCount() > 0
    except Exception:  # whatever is missing: CuPy, its libraries, a driver or a device
        return False


ON_GPU = _has_device()
if not ON_GPU:
    if shutil.which("g++") is None:
        pytest.skip("without a GPU the kernels are run on the CPU, which needs g++", allow_module_level=True)
    for name in [
        name
        for name in sys.modules
        if name.startswith(("cupy.", "cupyx", "cupy_backends", "array_api_compat.cupy")) or name == "cupy"
    ]:
        del sys.modules[name]
    import cupy_stand_in

    cupy_stand_in.install()

import cupy  # noqa: E402

from invnet.ops import ops_named  # noqa: E402

OPS = ops_named("cupy:0")
CUDARuntimeError = cupy.cuda.runtime.CUDARuntimeError


@contextlib.contextmanager
def no_synchronisation():
    """Within, an operation that waits for the device is an error."""
    if ON_GPU:
        import warnings

        import cupyx

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with cupyx.allow_synchronize(False):
                yield
    else:
        before = cupy.counters.synchronizations
        yield
        assert cupy.counters.synchronizations == before, f"synchronized {cupy.counters.synchronizations - before} times"


@contextlib.contextmanager
def peak_memory():
    """Gives a function for the most bytes that arrays took within, above what they take before."""
    pool = cupy.get_default_memory_pool()
    if ON_GPU:
        hook, before = _Peak(pool), pool.used_bytes()
        with hook:
            yield lambda: hook.peak - before
    else:
        before = pool.peak = pool.used
        yield lambda: pool.peak - before


if ON_GPU:

    class _Peak(cupy.cuda.MemoryHook):
        name, peak = "Peak", 0

        def __init__(self, pool):
            self.pool = pool

        def malloc_postprocess(self, **options):
            self.peak = max(self.peak, self.pool.used_bytes())


def to_device(value):
    """NumPy's arrays within lists and tuples as CuPy's: of the stand-in in the same memory, with the same strides."""
    if isinstance(value, np.ndarray):
        return cupy.array(value) if ON_GPU else cupy.ndarray(value)
    return type(value)(map(to_device, value)) if type(value) in (list, tuple) else value


def to_host(value):
    if isinstance(value, cupy.ndarray):
        return value.get() if ON_GPU else value._a
    return type(value)(map(to_host, value)) if type(value) in (list, tuple) else value
