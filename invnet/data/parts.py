"""The parts of a data set: their names, what is taken from the training part where one is missing, and what is said of
it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from .images import Images, split

if TYPE_CHECKING:
    from ..typing import Array, Seed

#: lines about what was assumed; `logging.getLogger("invnet.data").setLevel("ERROR")` silences them
log = logging.getLogger("invnet.data")

NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
LARGEST_VALIDATION = 5000


def images_of(
    parts: dict, levels: int | None, values: Array, name: str, validation: float, test: float, seed: Seed
) -> Images:
    """Images from {"train": array} and what there is of "validation" and "test"; the rest is taken from the training
    part.

    Args:
        parts: {name: (N, C, H, W) integers below `levels`, or below `values` where `levels` is None}.
        validation, test: the share of the training images that become a part which is missing. Where there is a test
            part, of 5,000 images for validation at most.
    """
    train, said = parts["train"], parts.keys() - {"train"}
    if levels is None:
        levels = values
        _mention_few_values(parts, levels, name)
    if not said:
        return split(train, levels, name, validation, test, seed)
    if said == {"validation"}:
        train, held = _held_out(train, levels, name, test, seed)
        log.warning(
            "%s has a validation part and no test part: the test is %s of its training images, chosen at random",
            name,
            f"{len(held):,}",
        )
        return Images(train, parts["validation"], held, levels, name)
    if said == {"test"}:
        train, held = _held_out(train, levels, name, min(validation, LARGEST_VALIDATION / max(len(train), 1)), seed)
        return Images(train, held, parts["test"], levels, name)
    return Images(train, parts["validation"], parts["test"], levels, name)


def _held_out(images, levels, name, share, seed):
    """The images without a share of them, and that share."""
    both = split(images, levels, name, 0.0, share, seed)  # which has one image at least for validation too
    return np.concatenate([both.train, both.validation]), both.test


def _mention_few_values(parts, levels, name):
    """Says where a small part of all levels occurs, which costs bits, and how to have fewer."""
    found = np.zeros(levels, bool)
    for part in parts.values():
        for start in range(0, len(part), 1024):
            found[part[start : start + 1024]] = True
    (found,) = np.nonzero(found)
    if len(found) > levels // 8:
        return
    bits = next(
        (b for b in range(1, 16) if 2**b < levels and len(np.unique(found * 2**b // levels)) == len(found)), None
    )
    if bits is not None:
        advice = f"bits={bits} (--bits {bits}) tells them apart"
    else:
        advice = f"if they are all that can occur, values={found[-1] + 1} (--values {found[-1] + 1}) says so"
    log.warning(
        "%s: only %d of %s values occur, %d to %d; %s", name, len(found), f"{levels:,}", found[0], found[-1], advice
    )
