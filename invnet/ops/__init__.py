"""The operations on arrays: one engine for each array library, found by the type of an array."""

import importlib
import sys

from .reference import Ops

#: engine -> (its file in this folder, its class). An engine is imported when the first of its arrays is seen.
ENGINES = {"numpy": ("numpy_engine", "NumpyOps")}

_of_type = {}
_of_name = {}


def ops_named(name):
    """The engine of that name.

    Raises:
        ValueError: there is no such engine.
    """
    if name not in _of_name:
        if name not in ENGINES:
            raise ValueError(f"the engines are {', '.join(ENGINES)}; got {name!r}")
        file, cls = ENGINES[name]
        _of_name[name] = getattr(importlib.import_module(f"{__name__}.{file}"), cls)()
    return _of_name[name]


def get_ops(array):
    """The operations for an array, by its type.

    Raises:
        TypeError: it is not an array of an engine of invnet.
    """
    ops = _of_type.get(type(array))
    if ops is None:
        library = type(array).__module__.partition(".")[0]
        if library not in ENGINES or library not in sys.modules or not hasattr(array, "ndim"):
            raise TypeError(f"invnet computes on arrays of {', '.join(ENGINES)}; got {type(array).__module__}.{type(array).__qualname__}")
        ops = _of_type[type(array)] = ops_named(library)
    return ops
