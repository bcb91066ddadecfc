"""A figure that belongs to nothing, and what pictures share."""

DPI = 100
DATA, MODEL = "#1f6f8b", "#c8553d"  # the colours of data and of what a model makes


def new_figure(width, height):
    """A Figure of so many inches."""
    # A Figure made directly belongs to no window and to no global state; savefig renders it without a display.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI)
