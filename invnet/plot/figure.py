"""A figure, and what pictures share."""

DPI = 100
DATA, MODEL = "#1f6f8b", "#c8553d"  # the colours of data and of what a model makes


def new_figure(width, height):
    """A Figure of so many inches."""
    from .drawing import Drawing  # only here, since it imports matplotlib

    return Drawing(figsize=(width, height), dpi=DPI)
