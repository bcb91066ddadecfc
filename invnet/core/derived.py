"""Derived: what follows from modules and arrays, until one of these is replaced."""

from __future__ import annotations

import operator
import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

_lock = threading.Lock()


class Derived:
    """Results by name, `values`, which hold as long as the parts that they follow from.

    Each part knows what was derived from it, and marks that as stale when a part of its own, or its array, is replaced.
    Lists tell nobody that they have changed, so they are compared.

    Args:
        parts: the Modules, Buffers and Gradients that were looked at.
        lists: the lists of parts among their attributes.
    """

    __slots__ = ("__weakref__", "_copies", "is_stale", "lists", "values")

    def __init__(self, parts: Iterable[Any], lists: Sequence[list] = ()) -> None:
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
        """Whether everything is still as it was looked at."""
        return not self.is_stale and (not self.lists or all(map(_same, self.lists, self._copies)))

    def __reduce__(self):
        return _stale, ()  # the parts know nothing of a copy


def _is_in_use(dependant):
    derived = dependant()
    return derived is not None and not derived.is_stale


def _stale():
    derived = Derived(())
    derived.is_stale = True
    return derived


def part_replaced(part: Any) -> None:
    """Marks all that was derived from a Module, Buffer or Gradient as stale, as something in it was replaced."""
    for dependant in getattr(part, "_dependants", ()):
        derived = dependant()
        if derived is not None:
            derived.is_stale = True


def _same(some, others):
    """Whether two lists have the same objects."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _start_anew():
    """In a forked child: a thread of the parent may have had the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
