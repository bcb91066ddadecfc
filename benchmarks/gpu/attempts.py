"""Attempts: if a measurement fails, its error becomes a note of one line, and the rest is still measured."""


def note_of(error, out_of_memory=(MemoryError,)):
    """Returns the first line of an error, which says why something failed."""
    first = next(iter(str(error).strip().splitlines()), "")[:150]
    return f"out of memory: {first}" if isinstance(error, out_of_memory) else f"{type(error).__name__}: {first}"


class Attempt:
    """A step that does nothing once it has failed; `note` says why, and is None as long as it has not.

    Args:
        make: gives the step.
        counter: of the engine's memory (counters.py); it waits for the step, and frees what a step that failed has
            left.
    """

    def __init__(self, make, counter):
        self.counter, self.note, self.step = counter, None, None
        self._do(lambda: setattr(self, "step", make()))

    def __call__(self):
        if self.note is None:
            self._do(self.step)

    def _do(self, call):
        try:
            call()
            self.counter.wait()
        except Exception as error:
            self.note, self.step = note_of(error, self.counter.errors), None
        if self.note is not None:
            self.counter.free()
