"""The pass that runs in this thread."""

import threading


class Current(threading.local):
    """What is known of it, each None where there is none.

    Attributes:
        layer: the outermost layer whose public method runs.
        draws: the Draws of its conditioners.
        kept: the Kept that activations go to, or come from.
        walk: the Walk that compares states.
        observer: see `watching`.
    """

    layer = draws = kept = walk = observer = None


current = Current()


class within:
    """A context in which `current` has these attributes."""

    def __init__(self, **attributes):
        self.attributes = attributes

    def __enter__(self):
        own = vars(current)
        self.before = own.copy()
        own.update(self.attributes)

    def __exit__(self, *error):
        own = vars(current)
        own.clear()
        own.update(self.before)
