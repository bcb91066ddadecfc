"""Corrections: the bits that an exact forward pass stores, so that backward can rebuild X to the bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..ops.reference import Ops
    from ..typing import Array


class Note:
    """The correction bits of one tile of one layer.

    Args:
        bits: an array of uint8; () if there are none; None if the inverse is to give the nearest numbers without them.
    """

    __slots__ = ("bits",)

    def __init__(self, bits: Any = ()):
        self.bits = bits


class Corrections:
    """The Notes of one pass: for each call of a layer a list with one Note per tile. Backward takes the last list
    first.

    Args:
        source: a checksum of the X of the pass, or None.
        calls: the lists of Notes, in the order of the calls.
    """

    def __init__(self, source: str | None = None, calls: Sequence = ()):
        self.source, self.mark, self.calls = source, None, list(calls)

    def put(self, tiles: int) -> list:
        """Adds and returns empty Notes for a call with this many tiles, which the call fills."""
        self.calls.append([Note() for _ in range(tiles)])
        return self.calls[-1]

    def take(self, tiles: int) -> list:
        """Removes and returns the Notes of the last call; empty ones if there is none.

        Raises:
            ValueError: that call had another number of tiles.
        """
        notes = self.calls.pop() if self.calls else [Note() for _ in range(tiles)]
        if len(notes) != tiles:
            raise ValueError(
                f"the correction bits are of {len(notes)} tiles where there are {tiles}: they are of an array of "
                f"another shape"
            )
        return notes

    def copy(self) -> Corrections:
        return Corrections(self.source, self.calls)

    @property
    def nbytes(self) -> int:
        return sum(len(note.bits) for call in self.calls for note in call)

    def packed(self, ops: Ops) -> Array:
        """Returns all in one NumPy array of uint8: the source, the numbers of tiles and bytes, then the bits."""
        sizes = [self.source, len(self.calls)]
        for call in self.calls:
            sizes += [len(call), *(len(note.bits) for note in call)]
        bits = [ops.to_numpy(note.bits) for call in self.calls for note in call if len(note.bits)]
        return np.concatenate([np.array(sizes, "<u4").view(np.uint8), *bits])

    @classmethod
    def unpacked(cls, packed: Array, ops: Ops) -> Corrections:
        """Reads what `packed` returned.

        Raises:
            ValueError: these bytes are not from `packed`.
        """
        packed = np.ascontiguousarray(packed, np.uint8)
        sizes, at = packed[: packed.size // 4 * 4].view("<u4").tolist(), 2
        try:
            source, calls = sizes[0], [[] for _ in range(min(sizes[1], len(sizes)))]
            for call in calls:
                call += sizes[at + 1 : at + 1 + sizes[at]]
                at += 1 + sizes[at]
        except IndexError:
            raise ValueError(f"these {packed.size} bytes are no correction bits") from None
        start = 4 * at
        for call in calls:
            for i, size in enumerate(call):
                call[i] = Note(ops.from_numpy(packed[start : start + size]) if size else ())
                start += size
        if start != packed.size:
            raise ValueError(
                f"correction bits of {start} bytes are expected by what they begin with; got {packed.size}"
            )
        return cls(source, calls)


class Nearest:
    """Takes the place of Corrections if the inverse is to give the nearest numbers, without bits."""

    def take(self, tiles: int) -> list:
        return [Note(None)] * tiles
