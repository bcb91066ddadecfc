"""The operations on arrays: engines for each array library and device, found by the type and place of an array."""

import importlib

import numpy as np

#: engine, a folder here -> its class. An engine is imported when the first of its arrays is seen.
ENGINES = {"numpy": "NumpyOps", "torch": "TorchOps", "cupy": "CupyOps"}

#: other words for an engine.
ALIASES = {"cuda": "cupy"}

_of_type = {}


def ops_named(name):
    """The engine of that name, or engine:device, as "torch:cuda:1" or "cupy:1"; "cuda" is "cupy".

    Raises:
        ValueError: there is no such engine, or it has no such device.
        ImportError: its library is not installed.
    """
    engine, _, device = str(name).partition(":")
    engine = ALIASES.get(engine, engine)
    if engine not in ENGINES:
        raise ValueError(f"the engines are {', '.join(ENGINES)}; got {name!r}")
    return _class_of(engine).on(device)


def get_ops(array):
    """The operations for an array, by its type, and by the device that it lies on.

    Raises:
        TypeError: it is not an array of an engine of invnet.
    """
    find = _of_type.get(type(array))
    if find is None:
        libraries = (cls.__module__.partition(".")[0] for cls in type(array).__mro__)  # those of subclasses too
        engine = next((library for library in libraries if library in ENGINES), None)
        if engine is None or not hasattr(array, "ndim"):
            raise TypeError(
                f"invnet computes on arrays of {', '.join(ENGINES)}; got "
                f"{type(array).__module__}.{type(array).__qualname__}"
            )
        find = _of_type[type(array)] = _class_of(engine).of
    return find(array)


def register(kind, ops):
    """Makes `ops` the operations for arrays of a type that is no library's."""
    _of_type[kind] = lambda array: ops


def _class_of(engine):
    return getattr(importlib.import_module(f"{__name__}.{engine}"), ENGINES[engine])


def float_dtype(dtype):
    """The name of a dtype that layers compute in.

    Raises:
        ValueError: it is neither float32 nor float64.
    """
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = dtype
    if name not in ("float32", "float64"):
        raise ValueError(f"dtype is float32 or float64; got {name}")
    return name
