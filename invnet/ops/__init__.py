"""Operations on arrays. There is an engine for each array library; `get_ops` finds it by the type of an array."""

import importlib

import numpy as np

#: the engines: folder here -> class. An engine is imported when the first of its arrays is used.
ENGINES = {"numpy": "NumpyOps", "torch": "TorchOps", "cupy": "CupyOps"}

#: other names of engines
ALIASES = {"cuda": "cupy"}

_of_type = {}


def ops_named(name):
    """Returns the operations of an engine.

    Args:
        name: the name of an engine, or engine:device, such as "torch:cuda:1" or "cupy:1"; "cuda" means "cupy".

    Raises:
        ValueError: the engine is unknown, or has no such device.
        ImportError: its library is not installed.
    """
    engine, _, device = str(name).partition(":")
    engine = ALIASES.get(engine, engine)
    if engine not in ENGINES:
        raise ValueError(f"the engines are {', '.join(ENGINES)}; got {name!r}")
    return _class_of(engine).on(device)


def get_ops(array):
    """Returns the operations for an array, which depend on its type and device.

    Raises:
        TypeError: no engine of invnet computes on such arrays.
    """
    find = _of_type.get(type(array))
    if find is None:
        libraries = (cls.__module__.partition(".")[0] for cls in type(array).__mro__)  # also of base classes
        engine = next((library for library in libraries if library in ENGINES), None)
        if engine is None or not hasattr(array, "ndim"):
            raise TypeError(
                f"invnet computes on arrays of {', '.join(ENGINES)}; got "
                f"{type(array).__module__}.{type(array).__qualname__}"
            )
        find = _of_type[type(array)] = _class_of(engine).of
    return find(array)


def register(kind, ops):
    """Makes `ops` the operations for arrays of type `kind`, which belongs to no array library."""
    _of_type[kind] = lambda array: ops


def _class_of(engine):
    return getattr(importlib.import_module(f"{__name__}.{engine}"), ENGINES[engine])


def float_dtype(dtype):
    """Returns the name of a dtype, "float32" or "float64".

    Raises:
        ValueError: it is another dtype.
    """
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = dtype
    if name not in ("float32", "float64"):
        raise ValueError(f"dtype is float32 or float64; got {name}")
    return name
