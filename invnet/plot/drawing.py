"""Drawing: a matplotlib figure that a notebook shows."""

import io

from matplotlib.figure import Figure


class Drawing(Figure):
    """A Figure that belongs to no window and to no global state, so that savefig renders it without a display.

    A notebook shows it where it is the last line of a cell, whether pyplot was imported or not.
    """

    def _repr_png_(self):
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
