"""Images: a data set in three parts, as integers."""

from __future__ import annotations

import dataclasses
import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers, check_numbers, generator

if TYPE_CHECKING:
    from ..typing import Array, Seed

MOST_LEVELS = 65536


@dataclasses.dataclass(frozen=True)
class Images:
    """Integer images from 0 to levels - 1, in three parts.

    Args:
        train, validation, test: arrays (N, C, H, W) of an integer dtype, of the same C, H, W.
        levels: K, the number of values that a pixel can take, such as 256.
        name: what to call the data.

    Raises:
        ValueError: another rank, an empty part, different shapes, a value outside 0 ... levels - 1.
        TypeError: no integer dtype.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    levels: int
    name: str

    def __post_init__(self):
        for part in ("train", "validation", "test"):
            check_images(getattr(self, part), self.levels, f"{self.name}: the {part} part")
        shapes = {array.shape[1:] for array in (self.train, self.validation, self.test)}
        if len(shapes) != 1:
            raise ValueError(f"{self.name}: all parts have one image shape (C, H, W); got {sorted(shapes)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self.train.shape[1:]

    @property
    def dimensions(self) -> int:
        """C H W."""
        return math.prod(self.shape)

    @property
    def fingerprint(self) -> int:
        """A checksum of all pixels, by which a resumed run knows that its data are still the same."""
        parts = (self.train, self.validation, self.test)
        return zlib.crc32(repr([(a.shape, self.levels, zlib.crc32(np.ascontiguousarray(a))) for a in parts]).encode())  # type: ignore[arg-type]

    def __repr__(self):
        sizes = " + ".join(f"{len(array):,}" for array in (self.train, self.validation, self.test))
        return f"Images({self.name}: {sizes} of {'x'.join(map(str, self.shape))}, {self.levels} levels)"


def check_images(images: Array, levels: int, what: str) -> None:
    """Raises unless `images` are (N, C, H, W) integers from 0 to levels - 1."""
    if images.ndim != 4:
        raise ValueError(f"{what} has shape (N, C, H, W); got {tuple(images.shape)}")
    if images.size == 0:
        raise ValueError(f"{what} needs at least one image with at least one pixel; got shape {tuple(images.shape)}")
    if images.dtype.kind not in "iu":
        raise TypeError(f"{what} is of an integer dtype, see invnet.data.quantise; got {images.dtype}")
    check_integers(levels=levels)
    if not 2 <= levels <= MOST_LEVELS:
        raise ValueError(f"{what} needs from 2 to {MOST_LEVELS} levels; got levels={levels}")
    low, high = int(images.min()), int(images.max())
    if low < 0 or high >= levels:
        raise ValueError(f"{what} has values from 0 to {levels - 1}, for levels={levels}; got {low} to {high}")


def split(images: Array, levels: int, name: str, validation: float = 0.1, test: float = 0.1, seed: Seed = 0) -> Images:
    """Images from one array, in a random order.

    Args:
        images: (N, C, H, W) integers.
        validation, test: the share of each part, from 0 to 1; each has at least one image.
        seed: of the order; the same seed gives the same parts.
    """
    check_numbers(validation=validation, test=test)
    if images.ndim == 4 and len(images) < 3:
        raise ValueError(f"{name}: a split in three parts needs at least 3 images; got {len(images)}")
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ValueError(f"validation and test are shares of the data, together below 1; got {validation} and {test}")
    order = generator(seed).permutation(len(images))
    a = max(1, round(test * len(images)))
    b = min(a + max(1, round(validation * len(images))), len(images) - 1)
    return Images(images[order[b:]], images[order[a:b]], images[order[:a]], levels, name)
