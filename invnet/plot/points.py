"""Pictures of densities and samples in two dimensions, of latent vectors, of the way through the layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers
from ..core import get_ops
from .figure import DATA, MODEL, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from matplotlib.figure import Figure

    from ..typing import Array

CELLS = 200  # along each axis of a density
MOST_POINTS = 5000  # of a scatter: more hide each other
MOST_LINES = 6  # of a QQ plot: one for each dimension


def density(model: Any, X: Array, box: tuple | None = None, title: str = "density") -> Figure:
    """The density of a model on a grid, beside samples; the title says how much of it is in view.

    Args:
        model: a Flow or a target of invnet.data: what has log_prob.
        X: (N, 2) samples, of the model's dtype and engine.
        box: ((low, high), (low, high)) of the picture; None is that of the target, or of the samples.
    """
    points = _pairs(X)
    box = _box(box or getattr(model, "box", None), points)
    axes_of = [low + (np.arange(CELLS) + 0.5) * (high - low) / CELLS for low, high in box]
    grid = np.stack(np.meshgrid(*axes_of), axis=-1).reshape(-1, 2)
    ops = get_ops(X)
    p = np.exp(ops.to_numpy(model.log_prob(ops.asarray(grid, X))).astype(float)).reshape(CELLS, CELLS)
    mass = p.sum() * math.prod(high - low for low, high in box) / CELLS**2
    figure, (left, right) = _panels(box, 2)
    left.imshow(
        p, origin="lower", extent=(*box[0], *box[1]), cmap="magma", vmin=0, aspect="auto", interpolation="bilinear"
    )
    left.set_title(f"{title}, {100 * mass:.1f} % in view", fontsize=10)
    _scatter(right, points, MODEL)
    right.set_title(_count(points, "samples"), fontsize=10)
    return figure


def samples(X: Array, Y: Array, box: tuple | None = None, titles: Sequence[str] | Any = ("data", "model")) -> Figure:
    """Samples of the data X beside those of a model Y, with the same axes.

    Args:
        X, Y: (N, 2), of any N.
        box: ((low, high), (low, high)); None holds nearly all of X.
    """
    parts = [_pairs(X), _pairs(Y)]
    box = _box(box, parts[0])
    figure, panels = _panels(box, 2)
    for axes, points, color, title in zip(panels, parts, (DATA, MODEL), titles):
        _scatter(axes, points, color)
        axes.set_title(_count(points, title), fontsize=10)
    return figure


def latent(Z: Array) -> Figure:
    """Latent vectors: the first two dimensions, and quantiles against those of the standard normal (a QQ plot).

    The circles have radius 1, 2 and 3. The band holds 99 % of what N normal numbers do at each quantile. Up to six
    dimensions have a line each; more have one together.

    Args:
        Z: (N, D) or (N, C, *spatial), N at least 2 and D at least 2.
    """
    from scipy.special import betaincinv, ndtri

    Z = get_ops(Z).to_numpy(Z).reshape(len(Z), -1).astype(float)
    N, D = Z.shape
    if N < 2 or D < 2:
        raise ValueError(f"latent vectors are (N, D) with at least 2 of 2 dimensions; got {Z.shape}")
    figure = new_figure(9.2, 4.5)
    left, right = figure.subplots(1, 2)
    edge = max(3.4, 1.05 * np.quantile(abs(Z[:, :2]), 0.999))
    _scatter(left, Z[:, :2], MODEL)
    circle = np.linspace(0, 2 * math.pi, 200)
    for radius in (1, 2, 3):
        left.plot(radius * np.cos(circle), radius * np.sin(circle), color="black", linewidth=0.8, alpha=0.6)
    left.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    left.set_title(_count(Z, "latent vectors" if D == 2 else f"latent vectors, 2 of {D} dimensions"), fontsize=10)

    lines = {f"$z_{{{d + 1}}}$": Z[:, d] for d in range(D)} if D <= MOST_LINES else {f"all {D} dimensions": Z.ravel()}
    n = len(next(iter(lines.values())))
    ranks = np.unique(np.geomspace(1, n, 200).round().astype(int))
    ranks = np.unique(np.concatenate([ranks, n + 1 - ranks]))  # dense at both ends, where tails show
    normal = ndtri((ranks - 0.5) / n)
    band = [ndtri(betaincinv(ranks, n + 1 - ranks, q)) for q in (0.005, 0.995)]
    right.fill_between(normal, *band, color="gray", alpha=0.25, linewidth=0, label="99 % band")
    right.plot(normal, normal, color="black", linewidth=0.8)
    for i, (name, values) in enumerate(lines.items()):
        right.plot(
            normal, np.sort(values)[ranks - 1], color=f"C{i}" if len(lines) > 1 else MODEL, linewidth=1.4, label=name
        )
    right.set(xlabel="quantile of the standard normal", ylabel="quantile of $z$")
    right.set_title("QQ plot", fontsize=10)
    right.grid(alpha=0.3)
    right.legend(fontsize=8, loc="upper left", frameon=False)
    figure.tight_layout(w_pad=2)
    return figure


def path(states: Sequence[Array], titles: Sequence[str] | Any = None, columns: int = 5) -> Figure:
    """Samples as they go through the layers, each in the colour of where it began.

    Args:
        states: a list of arrays (N, 2): the first, then after each layer, such as those of
            `for layer in net.layers: states.append(layer.forward(states[-1])[0])`.
        titles: one for each; None numbers them.
        columns: pictures in a row.
    """
    check_integers(columns=columns)
    states = [_pairs(state) for state in states]
    if not states or len({len(state) for state in states}) > 1:
        raise ValueError(
            f"a path has at least one state, all of the same samples; got {[len(state) for state in states]} samples"
        )
    titles = (
        [str(title) for title in titles]
        if titles is not None
        else ["start", *[f"after {i}" for i in range(1, len(states))]]
    )
    if len(titles) != len(states):
        raise ValueError(f"a path of {len(states)} states has a title for each; got {len(titles)}")
    from matplotlib.colors import hsv_to_rgb

    centred = states[0] - np.median(states[0], axis=0)
    hue = np.arctan2(centred[:, 1], centred[:, 0]) / (2 * math.pi) + 0.5
    colors = hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.8), np.full_like(hue, 0.8)], axis=1))
    box = _square(_box(None, np.concatenate(states)))
    columns = min(columns, len(states))
    rows = math.ceil(len(states) / columns)
    figure = new_figure(2.1 * columns + 0.3, 2.3 * rows + 0.2)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for column in range(columns):  # the lowest picture of a column has the numbers
        lowest = (len(states) - 1 - column) // columns
        grid[lowest, column].tick_params(labelbottom=True)
    for axes in grid.flat[len(states) :]:
        axes.set_axis_off()
    for axes, points, title in zip(grid.flat, states, titles):
        _scatter(axes, points, colors)
        axes.set(xlim=box[0], ylim=box[1], aspect="equal")
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
    figure.tight_layout(pad=0.6)
    return figure


def _pairs(X):
    X = get_ops(X).to_numpy(X)
    if X.ndim != 2 or X.shape[1] != 2 or len(X) == 0:
        raise ValueError(f"points in two dimensions are (N, 2), N at least 1; got {tuple(X.shape)}")
    return X.astype(float)


def _box(box, points):
    """A box that was given, or one that holds nearly all points, and a margin."""
    if box is None:
        low, high = np.quantile(points, [0.002, 0.998], axis=0)
        margin = 0.12 * np.maximum(high - low, 1e-3)
        box = tuple(zip((low - margin).tolist(), (high + margin).tolist()))
    if len(box) != 2 or not all(-math.inf < low < high < math.inf for low, high in box):
        raise ValueError(f"a box is ((low, high), (low, high)), each low below its high; got {box}")
    return box


def _square(box):
    """A box with the same centre whose sides are the longer one."""
    half = max(high - low for low, high in box) / 2
    return tuple(((low + high) / 2 - half, (low + high) / 2 + half) for low, high in box)


def _panels(box, number):
    """A figure with panels of the box's shape, unless that is very long."""
    (x_low, x_high), (y_low, y_high) = box
    ratio = min(max((y_high - y_low) / (x_high - x_low), 0.5), 1.6)
    figure = new_figure(4.4 * number, 4 * ratio + 0.8)
    panels = figure.subplots(1, number, sharex=True, sharey=True)
    for axes in panels:
        axes.set(xlim=box[0], ylim=box[1], box_aspect=ratio, xlabel="$x_1$")
    panels[0].set_ylabel("$x_2$")
    figure.tight_layout(w_pad=1.5)
    return figure, panels


def _scatter(axes, points, color):
    shown = slice(0, MOST_POINTS)
    size = min(8.0, max(3.0, 6000 / len(points[shown])))
    color = color if isinstance(color, str) else color[shown]
    axes.scatter(*points[shown].T, s=size, c=color, alpha=0.55, linewidths=0, rasterized=True)


def _count(points, what):
    """A title with the number of points, where not all are shown."""
    return what if len(points) <= MOST_POINTS else f"{what}, {MOST_POINTS:,} of {len(points):,}"
