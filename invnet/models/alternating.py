"""What RealNVP and NSF share: couplings of vectors that take turns in which channels they change."""

import numbers

import numpy as np

from ..layers import ActNorm, Conv1x1, Permute


def alternating(channels, steps, couple, mix, actnorm, seed, dtype):
    """Yields, `steps` times, what couple() makes, before it ActNorm and a Conv1x1 or a swap of the halves as asked for."""
    for step in range(steps):
        if actnorm:
            yield ActNorm(channels, dtype=dtype)
        if mix != "swap":
            yield Conv1x1(channels, mix, seed=seed, dtype=dtype)
        elif step:
            # In reverse order the middle one of an odd number of channels would keep its place, and never be changed.
            yield Permute(np.roll(np.arange(channels), channels // 2))
        yield couple()


def checked(kind, channels, steps):
    """An error where there is no flow of couplings of that many channels and steps."""
    if not all(isinstance(n, numbers.Integral) for n in (channels, steps)):
        raise TypeError(f"channels and steps are integers; got {channels!r} and {steps!r}")
    if channels < 2 or steps < 0:
        raise ValueError(f"{kind} splits the channels, which must be at least 2, and steps is not negative; got {channels} and {steps}")
