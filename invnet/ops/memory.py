"""The memory of tiles: scratch arrays, which are reused for the next tile, and arrays that outlive their tile."""

import ctypes
import math
import mmap
import threading
import weakref

import numpy as np


class Local(threading.local):
    """For each thread: the Work that it is in, or None, and the scratch memory of its tiles."""

    work = None

    def __init__(self):
        self.arena = Arena()


class Work:
    """A context in which this thread computes tiles. The scratch memory is kept for the next such context.

    A Work inside another Work, as of a flow inside a conditioner, uses ordinary memory.

    Args:
        lasting: a Pool for arrays that must outlive their tile; None if there are none.
    """

    def __init__(self, lasting):
        self.lasting = lasting

    def __enter__(self):
        self.outer = _local.work
        self.arena = _local.arena if self.outer is None else None
        _local.work = self
        return self

    def __exit__(self, *error):
        _local.work = self.outer

    def start_tile(self):
        if self.arena is not None:
            self.arena.start_tile()


def at_work():
    """Returns the Work that this thread is in, or None."""
    return _local.work


def in_tile():
    """Returns whether `scratch` returns memory that will be reused for the next tile."""
    work = at_work()
    return work is not None and work.arena is not None and work.lasting is None


def scratch(shape, dtype):
    """Returns an uninitialised array: lasting if the Work has a Pool, otherwise in the memory of the present tile."""
    work = at_work()
    if work is not None and work.lasting is not None:
        return work.lasting.take(shape, np.dtype(dtype))
    return passing(shape, dtype)


def passing(shape, dtype):
    """Returns an uninitialised array that never outlives the tile."""
    work = at_work()
    return np.empty(shape, dtype) if work is None or work.arena is None else work.arena.take(shape, np.dtype(dtype))


def forget():
    """Starts anew in a forked child, where no tile is being computed."""
    global _local
    _local = Local()


class Pool:
    """Memory for arrays that outlive their tile. It is reused for arrays of the same size, since new pages are slow.

    Args:
        size: how many bytes the pool may have; beyond this, unused memory is freed.
    """

    def __init__(self, size):
        self.size, self.total, self.unused, self.lock = size, 0, {}, threading.RLock()

    def take(self, shape, dtype):
        size = math.prod(shape) * dtype.itemsize
        if not size:
            return np.empty(shape, dtype)
        with self.lock:
            same = self.unused.get(size)
            if same:
                memory = same.pop()
            else:
                if self.total + size > self.size:
                    self.total -= sum(n * len(blocks) for n, blocks in self.unused.items())
                    self.unused.clear()
                self.total += size
                memory = np.empty(size, np.uint8)
        lent = (ctypes.c_char * size).from_buffer(memory)  # lives as long as the array or any view of it
        weakref.finalize(lent, self._take_back, size, memory).atexit = False
        return np.ndarray(shape, dtype, lent)

    def _take_back(self, size, memory):
        with self.lock:
            self.unused.setdefault(size, []).append(memory)


def pages(size):
    """Returns bytes on separate pages. When freed they go back to the system at once; memory in a heap may not."""
    # Private, so that they are not shared with forked children.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    return np.frombuffer(mmap.mmap(-1, size, **private), np.uint8)


class Arena:
    """The scratch memory of one tile, reused for the next. New pages would cost as much as the arithmetic on them."""

    LARGEST_KEPT, LEAST_PAGES = 64 << 20, 1 << 20

    def __init__(self):
        self.memory, self.used = np.empty(0, np.uint8), 0

    def take(self, shape, dtype):
        size = math.prod(shape) * dtype.itemsize
        start = self.used
        self.used += -(-size // 64) * 64
        if self.used > self.memory.size:
            return np.ndarray(shape, dtype, pages(size)) if size >= self.LEAST_PAGES else np.empty(shape, dtype)
        return np.ndarray(shape, dtype, self.memory, start)

    def start_tile(self):
        if self.memory.size < self.used <= self.LARGEST_KEPT:
            self.memory = np.empty(0, np.uint8)
            self.memory = pages(self.used)
        self.used = 0


_local = Local()
