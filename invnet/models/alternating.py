"""What RealNVP and NSF share: layers of vectors that take turns in which channels they change, or see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers
from ..layers import ActNorm, Conv1x1, Permute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..core import Layer
    from ..typing import DType, Seed


def alternating(
    channels: int,
    steps: int,
    couple: Callable[[int], Layer],
    mix: str,
    actnorm: bool,
    seed: Seed,
    dtype: DType,
    swaps: bool = True,
) -> Iterator[Layer]:
    """Yields, `steps` times, what couple(step) makes, before it ActNorm and a Conv1x1 or a swap of the halves as asked
    for.

    swaps=False: with mix="swap" couple(step) sees to the change itself.
    """
    for step in range(steps):
        if actnorm:
            yield ActNorm(channels, dtype=dtype)
        if mix != "swap":
            yield Conv1x1(channels, mix, seed=seed, dtype=dtype)
        elif step and swaps:
            # In reverse order the middle one of an odd number of channels would keep its place, and never be changed.
            yield Permute(np.roll(np.arange(channels), channels // 2))
        yield couple(step)


def checked(kind: str, channels: int, steps: int, least: int = 2) -> None:
    """An error where there is no flow of that many channels and steps."""
    check_integers(channels=channels, steps=steps)
    if channels < least or steps < 0:
        must = "splits the channels, which must be at least 2," if least == 2 else "takes at least 1 channel,"
        raise ValueError(f"{kind} {must} and steps is not negative; got {channels} and {steps}")
