"""PassContext: what is known of the pass that runs, for all code beneath the public method that began it."""

import contextvars
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable)


@dataclasses.dataclass(frozen=True)
class PassContext:
    """What is known of a pass; None where there is nothing.

    Attributes:
        layer: the outermost layer whose public method runs.
        rng: the RngReplay of its conditioners.
        cache: the ActivationCache that activations go to, or come from.
        monitor: the DriftMonitor that compares states.
        hook: a function that is called after each layer's backward; see `backward_hook`.
        deferred: a list that takes the Recomputation of each backward, for its owner to look at later; see healing.py.
        evaluating: whether no backward will follow, so that a pass leaves nothing.
        corrections: the bits that an exact pass takes or leaves; see `Exact`.
        gradients: a dict by Parameter of the Gradients that a backward adds to instead of the parameters' own.
    """

    layer: Any = None
    rng: Any = None
    cache: Any = None
    monitor: Any = None
    hook: Any = None
    deferred: Any = None
    evaluating: bool = False
    corrections: Any = None
    gradients: Any = None

    def changed(self, changes):
        """`dataclasses.replace`, in a quarter of its time."""
        other = object.__new__(PassContext)
        own = other.__dict__
        own.update(self.__dict__)
        own.update(changes)
        return other


_context = contextvars.ContextVar("invnet_pass", default=PassContext())  # noqa: B039

#: current() is the PassContext of the code that calls it.
current = _context.get


class within:
    """A context in which the attributes of `current()` are those given, and otherwise as they were."""

    __slots__ = ("changes", "token")

    def __init__(self, **changes):
        self.changes = changes

    def __enter__(self):
        self.token = _context.set(_context.get().changed(self.changes))

    def __exit__(self, *error):
        _context.reset(self.token)


def isolated():
    """A context for what runs inside a conditioner, whose calls are not part of the pass."""
    return within(cache=None, monitor=None, hook=None)


def evaluation():
    """A context for passes that no backward follows: they leave nothing, and what a pass before them left stays as it
    is.
    """
    return within(evaluating=True)


def in_own_context(method: _Function) -> _Function:
    """Has a public method or function run in a copy of the caller's context, unless it runs within another layer's.

    Whatever Ctrl-C leaves unfinished, such as a `with` block that was entered and not begun, ends with that copy: the
    caller's PassContext and np.errstate are as before.
    """

    @functools.wraps(method)
    def run(*arguments, **options):
        if _context.get().layer is not None:
            return method(*arguments, **options)
        return contextvars.copy_context().run(method, *arguments, **options)

    return run  # type: ignore[return-value]
