"""What an engine's allocator and the device's driver say of memory, and how to wait for a device."""

import gc

from invnet.bench.peak import reset_peak, resident


def counter_of(engine):
    return {"cupy": Cupy, "torch:cuda": TorchCuda}.get(engine, Host)()


class Host:
    """The CPU: the resident memory of the process, by which the benchmark itself is tried."""

    errors = (MemoryError,)

    def start(self):
        gc.collect()
        self.before = resident("VmRSS")
        reset_peak()

    def peak(self):
        """Bytes at the peak since `start`: of the allocator above what there was, and of all that the driver counts."""
        now = resident("VmHWM")
        return now - self.before, now

    def wait(self):
        pass

    def free(self):
        gc.collect()


class TorchCuda:
    def __init__(self):
        import torch

        self.cuda, self.errors = torch.cuda, (torch.cuda.OutOfMemoryError, MemoryError)

    def start(self):
        self.free()
        self.cuda.reset_peak_memory_stats()
        self.before = self.cuda.memory_allocated()

    def peak(self):
        self.wait()
        free, total = self.cuda.mem_get_info()
        return self.cuda.max_memory_allocated() - self.before, total - free

    def wait(self):
        self.cuda.synchronize()

    def free(self):
        gc.collect()
        self.cuda.empty_cache()


class Cupy:
    def __init__(self):
        import cupy

        class Peak(cupy.cuda.MemoryHook):
            name, most = "Peak", 0

            def malloc_postprocess(self, **arguments):
                self.most = max(self.most, pool.used_bytes())

        self.cupy, self.errors, self.hook, self.pool = cupy, (MemoryError,), Peak(), cupy.get_default_memory_pool()
        pool = self.pool

    def start(self):
        self.free()
        self.before = self.hook.most = self.pool.used_bytes()
        self.hook.__enter__()

    def peak(self):
        self.hook.__exit__(None, None, None)
        self.wait()
        free, total = self.cupy.cuda.runtime.memGetInfo()
        return self.hook.most - self.before, total - free

    def wait(self):
        self.cupy.cuda.get_current_stream().synchronize()

    def free(self):
        gc.collect()
        self.pool.free_all_blocks()
