"""A figure, and what pictures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100
DATA, MODEL = "#1f6f8b", "#c8553d"  # the colours of data and of what a model makes


def new_figure(width: float, height: float) -> Figure:
    """A Figure of so many inches."""
    from .drawing import Drawing  # only here, since it imports matplotlib

    return Drawing(figsize=(width, height), dpi=DPI)
