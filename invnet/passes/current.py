"""The pass that runs in this thread."""

import threading


class Current(threading.local):
    """What is known of it, each None where there is none.

    Attributes:
        layer: the outermost layer whose public method runs.
        rng: the RngReplay of its conditioners.
        kept: the ActivationCache that activations go to, or come from.
        monitor: the DriftMonitor that compares states.
        observer: see `backward_hook`.
        deferred: a list that takes the Recomputation of each backward, for its owner to look at later; see healing.py.
        evaluating: True where no backward will follow, so that a pass leaves nothing.
    """

    layer = rng = kept = monitor = observer = deferred = evaluating = None


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


def evaluation():
    """A context for passes that no backward follows: they leave nothing, and what a pass before them left stays as it
    is.
    """
    return within(evaluating=True)
