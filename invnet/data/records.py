"""The binary version of CIFAR-10 and CIFAR-100: records of labels and 3x32x32 bytes."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from .parts import images_of
from .quantise import quantise

if TYPE_CHECKING:
    from ..typing import Path, Seed
    from .images import Images

PIXELS = 3 * 32 * 32
#: by name: how many bytes of labels a record begins with, and one more than the largest of each
LABELS = {"CIFAR-10": (10,), "CIFAR-100": (20, 100)}
PICKLES = (
    "CIFAR's Python version is pickles, which can run code when they are read, and is refused: "
    "the binary version (cifar-10-binary.tar.gz or cifar-100-binary.tar.gz) loads"
)


def files_of(folder: pathlib.Path) -> dict | None:
    """{part: files} of a folder with the binary version, or None where it is none."""
    names = sorted(file.name for file in folder.glob("*.bin"))
    batches = [folder / name for name in names if name.startswith("data_batch")]
    train = batches or [folder / name for name in names if name == "train.bin"]
    test = [folder / name for name in names if name in ("test_batch.bin", "test.bin")]
    if train and test:
        return {"train": train, "test": test}
    if (folder / "data_batch_1").is_file() or (folder / "meta").is_file() and (folder / "train").is_file():
        raise ValueError(f"{folder}: {PICKLES}")
    return None


def cifar(path: Path, levels: int | None = None, validation: float = 0.1, test: float = 0.1, seed: Seed = 0) -> Images:
    """CIFAR-10 or CIFAR-100, of the folder of its binary version with its own test part, or of one of its .bin files.

    Raises:
        ValueError: the folder has not both parts, or a file holds no records of CIFAR.
    """
    path = pathlib.Path(path)
    files = {"train": [path]} if path.is_file() else files_of(path)
    if files is None:
        raise ValueError(
            f"{path} needs data_batch_1.bin to data_batch_5.bin and test_batch.bin, or train.bin and test.bin"
        )
    parts = {part: np.concatenate([_pixels(file) for file in of_part]) for part, of_part in files.items()}
    parts = {part: quantise(X, levels or 256) for part, X in parts.items()}
    return images_of(parts, levels, 256, path.resolve().stem, validation, test, seed)


def _pixels(file):
    """(N, 3, 32, 32) of a file, whose size and labels say which of the two it is."""
    raw = np.fromfile(file, np.uint8)
    for largest in LABELS.values():
        labels, size = len(largest), len(largest) + PIXELS
        if len(raw) and len(raw) % size == 0:
            records = raw.reshape(-1, size)
            if (records[:, :labels] < largest).all():
                return records[:, labels:].reshape(-1, 3, 32, 32)
    raise ValueError(
        f"{file} holds no records of CIFAR-10 (1 + 3072 bytes) or CIFAR-100 (2 + 3072 bytes): its {len(raw):,} bytes "
        "are no multiple of that, or its labels are too large"
    )
