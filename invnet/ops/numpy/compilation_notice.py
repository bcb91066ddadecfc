"""One line where kernels are compiled, which would else be a long silence."""

import logging
import multiprocessing
import os

from numba.core import event

#: `logging.getLogger("invnet.compile").setLevel("ERROR")` silences it
log = logging.getLogger("invnet.compile")
LINE = (
    "invnet: compiling kernels for this processor, 20 seconds or more for a first model; "
    "they are kept for the next time"
)


class _Once(event.Listener):
    """Logs the line at the first compilation of a function of invnet, in the first of the processes that work together.

    Numba announces what it compiles, and not what it finds in its cache.
    """

    said = False

    def on_start(self, event):
        ours = event.data["dispatcher"].py_func.__module__.startswith(__name__.partition(".")[0])
        worker = multiprocessing.parent_process() is not None or os.environ.get("LOCAL_RANK", "0") != "0"
        if ours and not self.said and not worker:
            self.said = True
            log.warning(LINE)

    def on_end(self, event):
        pass


_once = _Once()


def announced():
    """A context within which compilation is announced."""
    return event.install_listener("numba:compile", _once)
