"""Explanation: which code serves each layer of a network, and why not a faster one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from . import Module


class ExplanationRow(NamedTuple):
    """A layer of a network.

    Attributes:
        name: as in `named_parameters`, "" of the network itself.
        layer: its class.
        path: "fused" if an engine computes it with its neighbours in one compiled call; "folded" if it is multiplied
            with its neighbours to one map of channels; else "alone".
        reason: why it is not fused, or "" where it is.
    """

    name: str
    layer: str
    path: str
    reason: str


class Explanation(tuple):
    """The ExplanationRows of a network in the order of its layers, of which `str` and `repr` are a table."""

    @classmethod
    def of(cls, module: Module, explained: Iterable) -> Explanation:
        """The Explanation of a module, from what `Layer.explained` gives: (layer, path, reason) of each layer."""
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
