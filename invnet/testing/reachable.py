"""What a module holds on to."""

from __future__ import annotations

import gc
import types
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..core import Module
    from ..typing import Array


def reachable_bytes(module: Module, like: Array) -> int:
    """Bytes of all arrays, NumPy's and those of the type of one, that can be reached from a module."""
    seen, todo, size = set(), [module], 0
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, (type, types.ModuleType, types.BuiltinFunctionType)):
            continue
        seen.add(id(thing))
        if isinstance(thing, types.FunctionType):  # what it closes over, not its module
            todo.extend([*(thing.__closure__ or ()), thing.__defaults__, thing.__kwdefaults__])
            continue
        if isinstance(thing, (np.ndarray, type(like))):
            size += thing.nbytes
        else:
            todo.extend(gc.get_referents(thing))
    return size
