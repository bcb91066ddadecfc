"""PassContext: the objects of the running pass, for all code that its public method calls."""

import contextvars
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable)


@dataclasses.dataclass(frozen=True)
class PassContext:
    """The objects that belong to a pass. An attribute is None if there is no such object.

    Attributes:
        layer: the outermost layer whose public method is running.
        rng: the RngReplay of the conditioners.
        cache: the ActivationCache to which activations are added, or from which they are taken.
        monitor: the DriftMonitor that compares states.
        hook: a function that is called after each layer's backward; see `backward_hook`.
        deferred: a list to which each backward appends a DeferredHealing, for the owner of the list; see healing.py.
        evaluating: whether no backward will follow, so that a pass saves nothing.
        corrections: the correction bits of an exact pass; see `Exact`.
        gradients: a dict from Parameters to the Gradients that backward adds to, in place of the parameters' own.
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
        """Does the same as `dataclasses.replace`, in a quarter of its time."""
        other = object.__new__(PassContext)
        own = other.__dict__
        own.update(self.__dict__)
        own.update(changes)
        return other


_context = contextvars.ContextVar("invnet_pass", default=PassContext())  # noqa: B039

#: current() returns the PassContext of the code that calls it.
current = _context.get


class within:
    """A context in which the given attributes of `current()` have other values."""

    __slots__ = ("changes", "token")

    def __init__(self, **changes):
        self.changes = changes

    def __enter__(self):
        self.token = _context.set(_context.get().changed(self.changes))

    def __exit__(self, *error):
        _context.reset(self.token)


def isolated():
    """Returns a context for code inside a conditioner. Calls of layers there are not part of the pass."""
    return within(cache=None, monitor=None, hook=None)


def evaluation():
    """Returns a context for passes that no backward follows. They save nothing, and keep what an earlier pass saved."""
    return within(evaluating=True)


def in_own_context(method: _Function) -> _Function:
    """Makes a public method or function run in a copy of the caller's context, unless another layer's pass is running.

    So the caller's PassContext and np.errstate do not change, even if Ctrl-C comes between entering a `with` block and
    its first statement.
    """

    @functools.wraps(method)
    def run(*arguments, **options):
        if _context.get().layer is not None:
            return method(*arguments, **options)
        return contextvars.copy_context().run(method, *arguments, **options)

    return run  # type: ignore[return-value]
