"""A classifier's probabilities on the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .figure import DATA, MODEL, new_figure
from .points import _box, _pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..core import Module
    from ..typing import Array

CELLS = 150  # along each axis


def classes(model: Module, X: Array, y: Array, box: tuple | None = None, title: str = "P(y = 1)") -> Figure:
    """The map of a classifier's probabilities, its boundary, and labelled points over it.

    Args:
        model: what has predict_proba, from (N, 2) to (N,), as a FlowProbit has.
        X: (N, 2).
        y: (N,), 0 or 1.
        box: ((low, high), (low, high)) of the picture; None holds nearly all of X.

    Raises:
        TypeError: the model has no predict_proba.
        ValueError: X are no points of the plane, or y has not a label for each.
    """
    if not hasattr(model, "predict_proba"):
        raise TypeError(f"classes draws a classifier, with predict_proba; got {model!r}")
    points, y = _pairs(X), np.asarray(y)
    if y.shape != (len(points),):
        raise ValueError(f"y has a label for each of {len(points)} points; got shape {y.shape}")
    box = _box(box, points)
    axes_of = [low + (np.arange(CELLS) + 0.5) * (high - low) / CELLS for low, high in box]
    grid = np.stack(np.meshgrid(*axes_of), axis=-1).reshape(-1, 2)
    p = np.asarray(model.predict_proba(grid)).reshape(CELLS, CELLS)
    figure = new_figure(5, 4.2)
    axes = figure.add_subplot()
    image = axes.imshow(
        p, origin="lower", extent=(*box[0], *box[1]), cmap="RdBu_r", vmin=0, vmax=1, alpha=0.6, aspect="auto"
    )
    if p.min() < 0.5 < p.max():
        axes.contour(*axes_of, p, levels=[0.5], colors="black", linewidths=1)
    for label, color in ((0, DATA), (1, MODEL)):
        axes.scatter(*points[y == label].T, s=18, color=color, edgecolors="white", linewidths=0.5, label=f"y = {label}")
    figure.colorbar(image, ax=axes)
    axes.set(xlim=box[0], ylim=box[1], xlabel="$x_1$", ylabel="$x_2$")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, loc="upper right")
    figure.tight_layout()
    return figure
