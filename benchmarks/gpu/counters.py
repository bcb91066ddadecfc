"""Memory as an engine's allocator and the device's driver report it, and how to wait for a device."""

import contextlib
import gc

from invnet.bench.peak import reset_peak, resident


def counter_of(engine):
    return {"cupy": Cupy, "torch:cuda": TorchCuda}.get(engine, Host)()


class Host:
    """The CPU, on which the benchmark itself is tested. It counts the resident memory of the process."""

    errors = (MemoryError,)

    @contextlib.contextmanager
    def counting(self):
        """Gives a function for the bytes at the peak within: of the allocator above what there was, and of all that the
        driver counts.
        """
        gc.collect()
        before = resident("VmRSS")
        reset_peak()
        yield lambda: (resident("VmHWM") - before, resident("VmHWM"))

    def wait(self):
        pass

    def free(self):
        gc.collect()


class TorchCuda:
    def __init__(self):
        import torch

        self.cuda, self.errors = torch.cuda, (torch.cuda.OutOfMemoryError, MemoryError)

    @contextlib.contextmanager
    def counting(self):
        self.free()
        self.cuda.reset_peak_memory_stats()
        before = self.cuda.memory_allocated()

        def peak():
            free, total = self.cuda.mem_get_info()
            return self.cuda.max_memory_allocated() - before, total - free

        yield peak
        self.wait()

    def wait(self):
        self.cuda.synchronize()

    def free(self):
        gc.collect()
        self.cuda.empty_cache()


class Cupy:
    def __init__(self):
        import cupy

        self.cupy, self.errors, self.pool = cupy, (MemoryError,), cupy.get_default_memory_pool()

    @contextlib.contextmanager
    def counting(self):
        pool = self.pool

        class Peak(self.cupy.cuda.MemoryHook):
            name = "Peak"

            def malloc_postprocess(self, **arguments):
                self.most = max(self.most, pool.used_bytes())

        self.free()
        before, hook = pool.used_bytes(), Peak()
        hook.most = before

        def peak():
            free, total = self.cupy.cuda.runtime.memGetInfo()
            return hook.most - before, total - free

        with hook:
            yield peak
        self.wait()

    def wait(self):
        self.cupy.cuda.get_current_stream().synchronize()

    def free(self):
        gc.collect()
        self.pool.free_all_blocks()
