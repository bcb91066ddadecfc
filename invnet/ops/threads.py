"""Worker threads that share the tiles of a layer.

BLAS uses one thread while tiles are computed. Its own threads would wait for ours whenever a core is busy with
something else, which can take 10 times as long and more.
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
    """Sets how many threads share the work of a layer. The results have the same bits for every number.

    Args:
        n: the number of threads, at least 1.

    Raises:
        ValueError: it is no positive integer.
    """
    if not isinstance(n, numbers.Integral) or isinstance(n, bool) or n < 1:
        raise ValueError(f"the number of threads is an integer from 1; got {n!r}")
    _setting["threads"] = n


def num_threads():
    """Returns the number of threads: by default, the number of cores that this process may use."""
    if _setting["threads"] is None:
        _setting["threads"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _setting["threads"]


class _OfThread(threading.local):
    """How often a thread has entered SingleThreadedBlas, and what libraries had whose setting is that of a thread."""

    entered, held = 0, ()


class SingleThreadedBlas:
    """A context in which BLAS uses one thread. Several threads may enter it; the last to leave restores BLAS."""

    def __init__(self):
        self.libraries, self.others, self.users, self.held, self.lock = None, [], 0, (), threading.Lock()
        self.own = _OfThread()

    def include(self, library):
        """Limits another library as well: anything with get_num_threads() and set_num_threads(n).

        These two functions must apply to the calling thread only.
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
        except BaseException:  # such as Ctrl-C while the lock is released
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
        """Starts anew in a forked child; threads of the parent may have been within the context."""
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
    """Returns get_num_threads and set_num_threads of a BLAS library.

    For OpenBLAS with pthreads they are the library's own functions, which take a fifth of the time of threadpoolctl's.
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
    """Returns how many threads `map_tiles` uses for this many tiles, including the calling thread."""
    # A tile within a tile, as of a flow inside a conditioner, gets no other thread, since all may wait for such tiles.
    return 1 if tiles < 2 or at_work() else min(num_threads(), tiles)


def map_tiles(work, tiles, commit, lasting=None):
    """Calls commit(work(tile)) for every tile. `work` runs in several threads, `commit` in the order of the tiles.

    Each thread works in a copy of the caller's context variables, which include np.errstate and the PassContext.

    Args:
        work: a function of a tile. Its result must not be in scratch memory, unless there is a `lasting` pool.
        tiles: a list of tiles.
        commit: a function of a result. Only one call runs at a time.
        lasting: a Pool for arrays that outlive their tile, or None.
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
            except RuntimeError:  # the interpreter is shutting down: this thread works alone
                pass
            try:
                turns.run()
            finally:
                turns.stop()
                wait(futures)
            for future in futures:
                future.result()


class InterruptLater:
    """Delays Ctrl-C until the end of the context; a second Ctrl-C is not delayed.

    `map_tiles` uses it until its threads are done, since an interrupt could leave Python's locks locked.
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
    """Gives out tiles in order, and commits their results in order. At most `ahead` results wait to be committed."""

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
            self.stop()  # no tiles are left, or this thread failed and the others need not go on

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
    """Makes new locks and no threads in a forked child, since those of the parent are not there."""
    global _lock
    _lock = threading.Lock()
    forget()
    _pool.update(executor=None, pid=None, size=0)
    single_threaded_blas.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
