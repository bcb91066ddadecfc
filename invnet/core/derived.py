"""Derived: cached results that depend on modules and arrays, and become invalid when one of these is replaced."""

from __future__ import annotations

import operator
import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

_lock = threading.Lock()


class Derived:
    """A cache, `values`, of results that depend on some parts: Modules, Buffers and Gradients.

    Each part keeps references to the caches that depend on it, and marks them as stale when its array or one of its own
    parts is replaced. Python's lists do not report changes, so lists of parts are compared with copies.

    Args:
        parts: the Modules, Buffers and Gradients that the results depend on.
        lists: the lists of parts among their attributes.
    """

    __slots__ = ("__weakref__", "_copies", "is_stale", "lists", "values")

    def __init__(self, parts: Iterable, lists: Sequence[list] = ()) -> None:
        self.values: dict[str, Any] = {}
        self.is_stale = False
        self.lists, self._copies = lists, list(map(list.copy, lists))
        own = weakref.ref(self)
        alone = (own,)
        with _lock:
            for part in parts:
                others = getattr(part, "_dependants", ())
                part._dependants = (*filter(_is_in_use, others), own) if others else alone

    def holds(self) -> bool:
        """Returns whether no part has been replaced since, so that `values` may be used."""
        return not self.is_stale and (not self.lists or all(map(_same, self.lists, self._copies)))

    def __reduce__(self):
        return _stale, ()  # the parts do not refer to a copy, which is therefore stale


def _is_in_use(dependant):
    derived = dependant()
    return derived is not None and not derived.is_stale


def _stale():
    derived = Derived(())
    derived.is_stale = True
    return derived


def part_replaced(part: object) -> None:
    """Marks every cache that depends on a Module, Buffer or Gradient as stale, because its content was replaced."""
    for dependant in getattr(part, "_dependants", ()):
        derived = dependant()
        if derived is not None:
            derived.is_stale = True


def _same(some, others):
    """Returns whether two lists hold the same objects."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _start_anew():
    """Makes a new lock in a forked child, since a thread of the parent may have held the old one."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
