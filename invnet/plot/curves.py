"""Curves of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .figure import DATA, MODEL, new_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure


def training_curves(rows: Sequence[Mapping], baselines: Mapping[str, float] | None = None) -> Figure:
    """Training and validation bits per dimension against steps, baselines as horizontal lines.

    Args:
        rows: of metrics, as `train.fit` returns them.
        baselines: {name: bits per dimension}; the legend has those that lie too far off to be seen.
    """
    figure = new_figure(7, 4.2)
    axes = figure.add_subplot()
    shown = []
    for name, style in (("train", "-"), ("validation", "o-")):
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            axes.plot(*zip(*points), style, markersize=3, linewidth=1.2, label=name)
            shown += [bits for _, bits in points]
    for i, (name, bits) in enumerate((baselines or {}).items()):
        axes.axhline(bits, linestyle=("--", ":", "-.")[i % 3], color="gray", linewidth=1, label=f"{name} {bits:.2f}")
    if shown:  # the first steps, and a baseline that is far off, would flatten the rest
        near = [bits for bits in (baselines or {}).values() if bits < 2 * min(shown)]
        low, high = min(shown + near), max([*near, np.quantile(shown, 0.95)])
        axes.set_ylim(low - 0.05 * (high - low) - 0.01, high + 0.1 * (high - low) + 0.01)
        axes.legend(fontsize=8)
    axes.set_xlabel("step")
    axes.set_ylabel("bits per dimension")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    return figure


def likelihood_terms(rows: Sequence[Mapping], dimensions: int) -> Figure:
    """What the likelihood consists of against steps: |z|^2 / 2, the logdet, and their difference.

    The thick lines are running means. Noise that is standard normal has |z|^2 / 2 = D / 2 on average, the dashed line:
    soon the first term is there, and what goes on changing is the logdet.

    Args:
        rows: dicts with step, l2, the batch's mean of |z|^2 / 2, and logdet, its mean; in nats.
        dimensions: D.
    """
    rows = list(rows)
    figure = new_figure(10.5, 3.3)
    panels = {
        "$|z|^2 / 2$": lambda row: row["l2"],
        "logdet": lambda row: row["logdet"],
        "$|z|^2 / 2\\ -$ logdet": lambda row: row["l2"] - row["logdet"],
    }
    for axes, (title, term), color in zip(figure.subplots(1, 3), panels.items(), (MODEL, DATA, "black")):
        steps, values = [row["step"] for row in rows], [term(row) for row in rows]
        axes.plot(steps, values, color=color, linewidth=0.6, alpha=0.35)
        axes.plot(steps, _running_mean(values), color=color, linewidth=1.6)
        if values:  # the first steps would flatten the rest
            low, high = np.quantile(values, [0.01, 0.97])
            margin = 0.12 * (high - low) + 0.05
            axes.set_ylim(low - margin, high + margin)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    first = figure.axes[0]
    level, (low, high) = 0.5 * dimensions, first.get_ylim()
    line = first.axhline(level, linestyle="--", color="gray", linewidth=1.2, label=f"normal noise, $D/2 = {level:g}$")
    first.set_ylim(min(low, level - 0.08 * (high - low)), max(high, level + 0.08 * (high - low)))
    first.legend(handles=[line], fontsize=8, frameon=False, loc="upper right")
    first.set_ylabel("nats, mean of the batch")
    figure.tight_layout(w_pad=1.5)
    return figure


def _running_mean(values):
    """Means over a fiftieth of all values about each, over fewer at the ends."""
    half = len(values) // 100
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
