"""Explanation: which code computes each layer of a network, and why no faster code does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from . import Module


class ExplanationRow(NamedTuple):
    """A layer of a network.

    Attributes:
        name: as in `named_parameters`; "" for the network itself.
        layer: the name of its class.
        path: "fused" if an engine computes it and its neighbours in one compiled call; "folded" if it and its
            neighbours are multiplied into one map of channels; otherwise "alone".
        reason: why it is not fused; "" if it is.
    """

    name: str
    layer: str
    path: str
    reason: str


class Explanation(tuple):
    """The ExplanationRows of a network, in the order of its layers. `str` and `repr` show them as a table."""

    @classmethod
    def of(cls, module: Module, explained: Iterable) -> Explanation:
        """Makes the Explanation of a module from the (layer, path, reason) that `Layer.explained` yields."""
        names = {id(part): name for name, part in module.named_modules()}
        return cls(
            ExplanationRow(names.get(id(layer), ""), type(layer).__name__, path, reason)
            for layer, path, reason in explained
        )

    def __repr__(self):
        table = [("name", "layer", "path", "reason"), *((row.name or "itself", *row[1:]) for row in self)]
        widths = [max(map(len, column)) for column in zip(*table)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table)

    __str__ = __repr__
