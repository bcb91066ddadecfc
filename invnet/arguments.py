"""Arguments of constructors: what has to be a number is one, before anything is computed with it, and no option goes
unused.
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any, TypeGuard

    from .typing import Seed


def is_integer(value: object) -> TypeGuard[int]:
    """Whether it is an integer; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is a real number; True and False are none."""
    return type(value) is float or (
        isinstance(value, numbers.Real) and not isinstance(value, bool)
    )  # the first takes a fifth of 0.6 us


def check_integers(**values: object) -> None:
    """TypeError where one of these is no integer."""
    for name, value in values.items():
        if not is_integer(value):
            raise TypeError(f"{name} is an integer; got {shown(value)}")


def check_numbers(**values: object) -> None:
    """TypeError where one of these is no real number."""
    for name, value in values.items():
        if not is_number(value):
            raise TypeError(f"{name} is a number; got {shown(value)}")


def condition_channels(cond_channels: int, classes: int) -> int:
    """K of a model's condition: `cond_channels`, or the number of `classes` of its labels.

    Raises:
        ValueError: there is one class, or both are given.
        TypeError: `classes` is no integer.
    """
    check_integers(classes=classes)
    if classes == 0:
        return cond_channels
    if classes < 2:
        raise ValueError(f"classes is how many labels there are, at least 2, or 0 for none; got {classes}")
    if cond_channels:
        raise ValueError(
            f"a condition is an array of cond_channels, or a label of one of classes; got "
            f"cond_channels={cond_channels} and classes={classes}"
        )
    return classes


def check_flags(**values: object) -> None:
    """TypeError where one of these is neither True nor False."""
    for name, value in values.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} is True or False; got {shown(value)}")


def check_unused(where: str, **options: Any) -> None:
    """ValueError where one of these options is given, i.e. not None: it would have no effect, and `where` says why."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} has no effect {where}: leave it out; got {name}={shown(value)}")


def permutation(order: Any, size: int | None = None) -> np.ndarray:
    """An array of integers, a permutation of 0 to size - 1.

    Raises:
        TypeError, ValueError: it is none.
    """
    if isinstance(order, (tuple, list)) and not all(map(is_integer, order)):
        raise TypeError(f"order is a list of integers; got {order!r}")
    array = np.asarray(order)
    size = array.size if size is None else size
    if (
        array.ndim != 1
        or array.size != size
        or not size
        or array.dtype.kind not in "iu"
        or sorted(array.tolist()) != list(range(size))
    ):
        raise ValueError(
            f"order is a permutation of 0 to {size - 1 if size else 'C-1'}, each once; got {array.tolist()}"
        )
    return array


def shown(value: object) -> str:
    """A value in an error; of a class, which stands where an object of it is meant, how to make one."""
    return (
        f"the class {value.__name__}, where an object is required: {value.__name__}(...)"
        if isinstance(value, type)
        else repr(value)
    )


def generator(seed: Seed) -> np.random.Generator:
    """A numpy Generator: `seed` itself, or a new one from an integer, from several, or from None by chance.

    Raises:
        TypeError, ValueError: it is another thing, or negative.
    """
    if seed is None or isinstance(seed, (np.random.Generator, np.random.SeedSequence)):
        return np.random.default_rng(seed)
    parts = seed if isinstance(seed, (tuple, list, np.ndarray)) and len(seed) else (seed,)
    if not all(map(is_integer, parts)):
        raise TypeError(f"seed is an integer or a numpy Generator; got {shown(seed)}")
    if min(parts) < 0:
        raise ValueError(f"seed is an integer from 0 or a numpy Generator; got {seed!r}")
    return np.random.default_rng(seed)
