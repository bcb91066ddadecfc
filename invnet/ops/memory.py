"""The memory of tiles: arrays that live as long as a tile is at work, and arrays that last."""

import ctypes
import math
import mmap
import threading
import weakref

import numpy as np


class Local(threading.local):
    """The Work that a thread is in, or None, and the memory of its tiles."""

    work = None

    def __init__(self):
        self.arena = Arena()


class Work:
    """A context for tiles at work in this thread, whose memory outlives it; within it another finds ordinary memory.

    Args:
        lasting: a Pool for what is to outlive its tile, or None.
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
    """The Work that this thread is in, or None."""
    return _local.work


def in_tile():
    """Whether what `scratch` gives is the memory of a tile at work."""
    work = at_work()
    return work is not None and work.arena is not None and work.lasting is None


def scratch(shape, dtype):
    """An uninitialised array: in the tile's memory while a tile is at work, or lasting where that is wanted."""
    work = at_work()
    if work is not None and work.lasting is not None:
        return work.lasting.take(shape, np.dtype(dtype))
    return passing(shape, dtype)


def passing(shape, dtype):
    """As `scratch`, for what does not outlive the tile in any case."""
    work = at_work()
    return np.empty(shape, dtype) if work is None or work.arena is None else work.arena.take(shape, np.dtype(dtype))


def forget():
    """In a forked child, where no tile is at work."""
    global _local
    _local = Local()


class Pool:
    """Memory for arrays that last: what an array leaves goes to the next of its size, since fresh pages are slow.

    Args:
        size: bytes; beyond so many, unused memory is given back.
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
        lent = (ctypes.c_char * size).from_buffer(
            memory
        )  # whatever views an array has, this lives as long as one of them
        weakref.finalize(lent, self._take_back, size, memory).atexit = False
        return np.ndarray(shape, dtype, lent)

    def _take_back(self, size, memory):
        with self.lock:
            self.unused.setdefault(size, []).append(memory)


def pages(size):
    """Bytes on pages of their own, which go back to the system at once; a heap keeps what lies below a block that is in
    use.
    """
    private = (
        {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    )  # not shared with forked children
    return np.frombuffer(mmap.mmap(-1, size, **private), np.uint8)


class Arena:
    """Memory for the arrays of one tile, used again for the next: fresh pages cost as much as the arithmetic on
    them.
    """

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
