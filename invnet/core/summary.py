"""Summary: the layers of a module as a table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from .parameters import Parameter

if TYPE_CHECKING:
    from typing import Any

    from ..typing import Shape
    from . import Module


class Row(NamedTuple):
    """A part of a module.

    Attributes:
        name: as in `named_parameters`; "" for the module itself.
        kind: the name of its class, followed by that of its conditioner in brackets.
        shape: the shape of one sample of its output; None if it is unknown.
        parameters: how many numbers it learns.
    """

    name: str
    kind: str
    shape: tuple | None
    parameters: int


class Summary(tuple):
    """The Rows of a module; `str` and `repr` show them as a table.

    The last row is the module itself; it counts parameters that several parts share only once.
    """

    def __repr__(self):
        heads = ["name", "kind", "output", "parameters"]
        table = [heads] + [
            [row.name or "total", row.kind, "" if row.shape is None else str(row.shape), f"{row.parameters:,}"]
            for row in self
        ]
        if all(not line[2] for line in table[1:]):
            for line in table:
                del line[2]
        widths = [max(map(len, column)) for column in zip(*table)]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(line[:-1], widths)), line[-1].rjust(widths[-1])])
            for line in table
        )

    __str__ = __repr__


def summary_of(module: Module, shape: Shape | None) -> Summary:
    """Returns the Summary of a module for samples of this shape; None if the shape is unknown."""
    rows = list(_rows(module, "", shape))
    rows.append(Row("", type(module).__name__, output_shape(module, shape), count(module)))
    return Summary(rows)


def _rows(module, prefix, shape):
    parts = list(module.parts_to_show(shape))
    for name, part, shape_in in parts:
        if isinstance(part, Parameter):
            yield Row(prefix + name, "Parameter", tuple(part.data.shape), math.prod(part.data.shape))
            continue
        inner = (
            [row for row in _rows(part, f"{prefix}{name}.", shape_in) if row.kind != "Parameter"]
            if part.is_composed
            else []
        )
        net = "" if inner else ", ".join(dict.fromkeys(type(each).__name__ for each in part.modules_within()))
        yield Row(
            prefix + name, type(part).__name__ + (f" ({net})" if net else ""), output_shape(part, shape_in), count(part)
        )
        yield from inner


def output_shape(module: Module, shape: Any) -> tuple[int, ...] | None:
    """Returns the shape of one output sample for an input sample of this shape; None if either is unknown."""
    halvings = getattr(module, "halvings", None)
    if shape is None or halvings is None:
        return None
    C, *spatial = shape
    if halvings >= 0:
        return (C * 2 ** (halvings * len(spatial)), *(size // 2**halvings for size in spatial))
    return (C // 2 ** (-halvings * len(spatial)), *(size * 2**-halvings for size in spatial))


def count(module: Module) -> int:
    """Counts the numbers that a module learns."""
    return sum(math.prod(parameter.data.shape) for parameter in module.parameters())
