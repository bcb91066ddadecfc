"""Architectures: a Module as JSON values, its class by a public name and every argument of its constructor, and
back.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

import numpy as np

from .core import Module

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

#: What stands for an argument that an invnet-2 file lacks, since its class has gained it later: {class: {argument:
#: value}}. An argument that a class of the library gains goes here, with the value that files without it mean. (Those
#: gained since 0.1 count for its files.)
GAINED = {
    **dict.fromkeys(
        ("invnet.AdditiveCoupling", "invnet.AffineCoupling", "invnet.SplineCoupling"),
        dict.fromkeys(("hidden", "ndim", "cond_channels", "seed", "dtype")),
    ),
    **dict.fromkeys(
        ("invnet.AutoregressiveAffine", "invnet.AutoregressiveSpline"),
        dict.fromkeys(("hidden", "cond_channels", "seed", "dtype")),
    ),
    **dict.fromkeys(("invnet.Glow", "invnet.IAF", "invnet.MAF", "invnet.NSF", "invnet.RealNVP"), {"classes": 0}),
}

#: The names that classes had in files before they were renamed.
RENAMED = {"invnet.Staircase": "invnet.PartitionedAdditiveCoupling"}


def architecture(net: Module) -> dict:
    """What `describe` gives for a model, from which `build` makes one with the same parts.

    Raises:
        TypeError: a part was replaced, so that the constructors would make others; or as in `describe`.
    """
    description = describe(net)
    if net.is_altered() and _structure(build(description)) != _structure(net):
        raise TypeError(
            f"a part of this {type(net).__name__} was replaced after it was made, and its constructor makes another "
            f"from its "
            "arguments: build a Chain of the parts, or derive a class that makes them, or save the state_dict()"
        )
    return description


def _structure(net):
    """Class and arguments of every module within, and the name and shape of every array: equal where two models have
    the same parts.
    """
    modules, found = [net], []
    for module in modules:
        plain = {
            name: describe(value)
            for name, value in module.architecture().items()
            if name != "seed" and not _has_modules(value)
        }
        found.append((type(module), plain))
        modules += module.modules_within()
    return found, [(name, tuple(state.data.shape)) for name, state in net.named_state()]


def _has_modules(value):
    return isinstance(value, Module) or (isinstance(value, (tuple, list)) and any(map(_has_modules, value)))


def describe(value: object, seen: dict | None = None) -> Any:
    """A Module and its constructor's arguments as JSON values; a Module that came before is {"same": its number}."""
    seen = {} if seen is None else seen
    if isinstance(value, Module):
        if id(value) in seen:
            return {"same": seen[id(value)]}
        arguments = {name: describe(argument, seen) for name, argument in value.architecture().items()}
        seen[id(value)] = len(seen)
        return {"class": name_of(type(value)), "arguments": arguments}
    if isinstance(value, np.random.Generator):
        return None  # the weights that it drew are in the file
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [describe(item, seen) for item in value]
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"an architecture is made of numbers, texts, arrays, Modules of invnet and lists of them; got "
        f"{repr(value).splitlines()[0]}: "
        "derive a class whose constructor takes such arguments only, or save the state_dict()"
    )


def build(description: object) -> Module:
    """The Module that `describe` described, of classes that are already imported.

    Raises:
        ValueError: a class is unknown, or its constructor does not take the arguments.
    """
    return _built(completed(description), known_classes(), [])


def completed(description: object) -> Any:
    """The same description with the arguments that classes have gained since it was written.

    Raises:
        ValueError: a class is unknown; an argument is missing, or one that it does not take is there.
    """
    return _completed(description, known_classes())


def known_classes() -> dict[str, type]:
    """Every imported subclass of Module by the name that files have for it."""
    return {name_of(cls, private=True): cls for cls in _subclasses(Module)}


def name_of(cls: type, private: bool = False) -> str:
    """The name of a class in files: of one of the library that of the outermost package that offers it, so that modules
    may move.

    Raises:
        TypeError: a class of the library that no package offers, unless `private`.
    """
    path, name = cls.__module__, cls.__qualname__
    packages = path.split(".")
    if packages[0] != __package__:
        return f"{path}.{name}"
    for depth in range(1, len(packages)):
        package = ".".join(packages[:depth])
        if vars(sys.modules[package]).get(name) is cls:
            return f"{package}.{name}"
    if not private:
        raise TypeError(f"{name} is private to invnet, and no file holds it: save the layer or model that made it")
    return f"{path}.{name}"


def construct(cls: type, repeated: Sequence, arguments: dict) -> Module:
    """An object of a class, from arguments that a file holds."""
    try:
        return cls(*repeated, **arguments)
    except TypeError as error:
        raise ValueError(f"{name_of(cls, private=True)} cannot be built as described: {error}") from None


def _completed(description, classes):
    if isinstance(description, list):
        return [_completed(item, classes) for item in description]
    if not isinstance(description, dict) or description.keys() == {"same"}:
        return description
    kind, arguments = description.get("class"), description.get("arguments")
    if not isinstance(kind, str) or not isinstance(arguments, dict):
        raise ValueError(f"an architecture has class, a text, and arguments by name; got {str(description)[:200]}")
    kind = RENAMED.get(kind, kind)
    if kind not in classes:
        ours = kind.split(".")[0] == __package__
        raise ValueError(
            f"the class {kind!r} is no class of this version of invnet"
            if ours
            else f"the class {kind!r} is unknown; import the module that defines it first"
        )
    taken, ours = _parameters(classes[kind]), classes[kind].__module__.split(".")[0] == __package__
    gained = (
        GAINED.get(kind, {}) if ours else {name: p.default for name, p in taken.items() if p.default is not p.empty}
    )
    arguments = {**{name: describe(value) for name, value in gained.items()}, **arguments}
    missing, foreign = [], []
    if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        foreign = [name for name in arguments if name not in taken]
    missing = [
        name for name, p in taken.items() if name not in arguments and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if missing or foreign:
        came = [
            *([f"lacks {', '.join(missing)}"] if missing else []),
            *([f"has {', '.join(foreign)} too"] if foreign else []),
        ]
        raise ValueError(f"{kind} takes {', '.join(taken) or 'no argument'}; the architecture {' and '.join(came)}")
    return {"class": kind, "arguments": {name: _completed(value, classes) for name, value in arguments.items()}}


def _built(description, classes, made):
    if isinstance(description, list):
        return [_built(item, classes, made) for item in description]
    if not isinstance(description, dict):
        return description
    if description.keys() == {"same"}:
        if not isinstance(description["same"], int) or not 0 <= description["same"] < len(made):
            raise ValueError(f"an architecture names module {description['same']} where only {len(made)} are made")
        return made[description["same"]]
    cls = classes[description["class"]]
    arguments = {name: _built(value, classes, made) for name, value in description["arguments"].items()}
    repeated = [name for name, p in _parameters(cls).items() if p.kind is p.VAR_POSITIONAL]
    made.append(construct(cls, arguments.pop(repeated[0], ()) if repeated else (), arguments))
    return made[-1]


def _parameters(cls):
    """What a constructor takes, by name."""
    if cls.__init__ is object.__init__:
        return {}
    return dict(list(inspect.signature(cls.__init__).parameters.items())[1:])


def _subclasses(cls):
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
