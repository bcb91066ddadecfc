"""Arguments of constructors: what has to be a number is one, before anything is computed with it."""

import numbers

import numpy as np


def check_integers(**values):
    """TypeError where one of these is no integer."""
    for name, value in values.items():
        if not isinstance(value, numbers.Integral) or isinstance(value, bool):
            raise TypeError(f"{name} is an integer; got {value!r}")


def check_numbers(**values):
    """TypeError where one of these is no real number."""
    for name, value in values.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} is a number; got {value!r}")


def check_unused(where, **options):
    """ValueError where one of these options is given, i.e. not None: it would have no effect, and `where` says why."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} has no effect {where}: leave it out; got {name}={value!r}")


def generator(seed):
    """A numpy Generator: `seed` itself, or a new one from an integer, from several, or from None by chance.

    Raises:
        TypeError, ValueError: it is another thing, or negative.
    """
    if seed is None or isinstance(seed, (np.random.Generator, np.random.SeedSequence)):
        return np.random.default_rng(seed)
    parts = seed if isinstance(seed, (tuple, list, np.ndarray)) and len(seed) else (seed,)
    if not all(isinstance(part, numbers.Integral) for part in parts):
        raise TypeError(f"seed is an integer or a numpy Generator; got {seed!r}")
    if min(parts) < 0:
        raise ValueError(f"seed is an integer from 0 or a numpy Generator; got {seed!r}")
    return np.random.default_rng(seed)
