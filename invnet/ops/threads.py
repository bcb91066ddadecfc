"""Tiles shared by worker threads.

BLAS runs with one thread while tiles are at work: its own threads, alternating with ours, wait for each other
whenever a core is busy with something else, and that costs a factor of 10 and more.
"""

import contextvars
import itertools
import numbers
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor, wait

from threadpoolctl import ThreadpoolController

from .memory import Work, at_work, forget

_setting = {"threads": None}
_lock = threading.Lock()
_pool = {"executor": None, "pid": None, "size": 0}


def set_num_threads(n):
    """Sets how many threads share the work of a layer; results are the same bits for every n."""
    if not isinstance(n, numbers.Integral) or isinstance(n, bool) or n < 1:
        raise ValueError(f"the number of threads is an integer from 1; got {n!r}")
    _setting["threads"] = n


def num_threads():
    """The number of threads: what set_num_threads set, or the cores that this process may use."""
    if _setting["threads"] is None:
        _setting["threads"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _setting["threads"]


class _OfThread(threading.local):
    """How often a thread has entered SingleThreadedBlas, and what libraries had whose setting is that of a thread."""

    entered, held = 0, ()


class SingleThreadedBlas:
    """A context in which BLAS has one thread, until the last of its users leaves."""

    def __init__(self):
        self.libraries, self.others, self.users, self.held, self.lock = None, [], 0, (), threading.Lock()
        self.own = _OfThread()

    def include(self, library):
        """Holds another library to one thread too, anything with get_num_threads() and set_num_threads(n), which are of
        the thread that calls them.
        """
        self.others.append((library.get_num_threads, library.set_num_threads))

    def __enter__(self):
        entered = False
        try:
            with self.lock:
                if not self.users:
                    self._hold()
                self.users += 1
                self.own.entered += 1
                entered = True
            if self.own.entered == 1 and self.others:
                self.own.held = _held_to_one(self.others)
        except BaseException:  # Ctrl-C, for one, as the lock is released
            if entered:
                self.__exit__()
            raise

    def __exit__(self, *error):
        own = self.own
        own.entered -= 1
        if not own.entered and own.held:
            _let_go(own.held)
            own.held = ()
        with self.lock:
            self.users -= 1
            if not self.users:
                _let_go(self.held)

    def forget(self):
        """In a forked child, whose parent's threads may have been at work."""
        if self.users:
            _let_go(self.held)
            _let_go(self.own.held)
        self.users, self.lock, self.own = 0, threading.Lock(), _OfThread()

    def _hold(self):
        if self.libraries is None:
            self.libraries = [
                _functions_of(library) for library in ThreadpoolController().select(user_api="blas").lib_controllers
            ]
        self.held = _held_to_one(self.libraries)


def _held_to_one(libraries):
    """Sets libraries to one thread; gives the functions that set those which had more, and how many they had."""
    held = []
    for get, set_ in libraries:
        n = get()
        if n != 1:
            held.append((set_, n))
            set_(1)
    return held


def _let_go(held):
    for set_, n in held:
        set_(n)


def _functions_of(library):
    """get_num_threads and set_num_threads of a BLAS library; of OpenBLAS with threads of its own the library's own
    functions, which take a fifth of the time of threadpoolctl's.
    """
    found = library.get_num_threads, library.set_num_threads
    if library.internal_api == "openblas" and getattr(library, "threading_layer", "") == "pthreads":
        for prefix, suffix in itertools.product(("scipy_", ""), ("64_", "_64", "")):
            names = [f"{prefix}openblas_{action}_num_threads{suffix}" for action in ("get", "set")]
            if all(hasattr(library.dynlib, name) for name in names):
                return tuple(getattr(library.dynlib, name) for name in names)
    return found


single_threaded_blas = SingleThreadedBlas()


def _executor(size):
    with _lock:
        if _pool["pid"] != os.getpid() or _pool["size"] < size:
            _pool.update(
                executor=ThreadPoolExecutor(size, thread_name_prefix="invnet"),
                pid=os.getpid(),
                size=size,
            )
        return _pool["executor"]


def workers(tiles):
    """How many threads `map_tiles` has for so many tiles, this one among them."""
    # A tile within a tile, as of a flow inside a conditioner, finds no free thread: all may be waiting for such as it.
    return 1 if tiles < 2 or at_work() else min(num_threads(), tiles)


def map_tiles(work, tiles, commit, lasting=None):
    """commit(work(tile)) for all tiles, the work in threads, the commits one by one in the order of tiles.

    Each thread works in a copy of the caller's context, its np.errstate and its PassContext among it.

    What `work` returns must not lie in scratch memory, unless that is `lasting`, a Pool.
    """
    together = workers(len(tiles))
    with single_threaded_blas:
        if together < 2:
            with Work(lasting) as memory:
                for tile in tiles:
                    memory.start_tile()
                    commit(work(tile))
            return
        turns = _Turns(work, tiles, commit, lasting, ahead=2 * together)
        with InterruptLater():
            futures = []
            try:
                for _ in range(together - 1):
                    futures.append(_executor(together - 1).submit(contextvars.copy_context().run, turns.run))
            except RuntimeError:  # the interpreter is shutting down: this thread does it alone
                pass
            try:
                turns.run()
            finally:
                turns.stop()
                wait(futures)
            for future in futures:
                future.result()


class InterruptLater:
    """Holds Ctrl-C back until its end; a second one is not held.

    In map_tiles until the threads are done, since Python's locks do not survive it.
    """

    def __enter__(self):
        self.held, self.handler = None, None
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self.handler = signal.signal(signal.SIGINT, self._hold)

    def __exit__(self, *error):
        if self.handler is not None:
            signal.signal(signal.SIGINT, self.handler)
            if self.held:
                self.handler(*self.held)

    def _hold(self, *event):
        if self.held:
            signal.signal(signal.SIGINT, self.handler)
            self.handler(*event)
        self.held = event


class _Turns:
    """Hands out tiles in order and commits their results in order, at most `ahead` of them waiting."""

    def __init__(self, work, tiles, commit, lasting, ahead):
        self.work, self.tiles, self.commit, self.lasting, self.ahead = work, tiles, commit, lasting, ahead
        self.taken, self.committed, self.done = 0, 0, {}
        self.changed = threading.Condition()

    def run(self):
        try:
            with Work(self.lasting) as memory:
                while (turn := self._take()) is not None:
                    memory.start_tile()
                    self._put(turn[0], self.work(turn[1]))
        finally:
            self.stop()  # there is no more to take, or this thread failed and the others need not go on

    def stop(self):
        with self.changed:
            self.taken = len(self.tiles)
            self.changed.notify_all()

    def _take(self):
        with self.changed:
            self.changed.wait_for(lambda: self.taken == len(self.tiles) or self.taken - self.committed < self.ahead)
            if self.taken == len(self.tiles):
                return None
            self.taken += 1
            return self.taken - 1, self.tiles[self.taken - 1]

    def _put(self, i, result):
        with self.changed:
            self.done[i] = result
            while self.committed in self.done:
                self.commit(self.done.pop(self.committed))
                self.committed += 1
            self.changed.notify_all()


def _start_anew():
    """In a forked child: no thread and no lock of the parent is there."""
    global _lock
    _lock = threading.Lock()
    forget()
    _pool.update(executor=None, pid=None, size=0)
    single_threaded_blas.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
