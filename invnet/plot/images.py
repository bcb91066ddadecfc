"""Pictures of images: grids, reconstructions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers
from ..core import get_ops
from .figure import DPI, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..core import Layer
    from ..typing import Array


def near_square(N: int, H: int, W: int) -> int:
    """The number of columns that makes a grid of N images of HxW pixels about as wide as high."""
    return min(N, max(1, math.ceil(math.sqrt(N * H / W))))


def image_grid(images: Array, columns: int | None = None) -> Figure:
    """Images in rows of `columns`, clipped to [0, 1].

    Args:
        images: (N, C, H, W), N at least 1, C 1 or 3, black 0 and white 1.
        columns: images in a row; None makes a grid near square.
    """
    if columns is not None:
        check_integers(columns=columns)
    images = _drawable(images)
    N, _, H, W = images.shape
    columns = min(N, columns or near_square(N, H, W))
    scale = max(1, min(8, 640 // (columns * W), 1280 // (math.ceil(N / columns) * H)))
    picture = np.kron(_mosaic(images, columns), np.ones((scale, scale, 1)))
    figure = new_figure(picture.shape[1] / DPI, picture.shape[0] / DPI)
    _show(figure.add_axes((0, 0, 1, 1)), picture)
    return figure


def reconstructions(net: Layer, images: Array) -> Figure:
    """Originals, what the network rebuilds from their Z, and the difference, magnified to fill [0, 1].

    Args:
        net: a Layer.
        images: (N, C, H, W) of the network's engine and dtype, in [0, 1].
    """
    rebuilt = net.inverse(net.forward(images)[0])
    to_numpy = get_ops(images).to_numpy
    error = np.abs(to_numpy(rebuilt) - to_numpy(images))
    largest = float(error.max())
    magnified = error / largest if largest > 0 else error
    rows = {"original": to_numpy(images), "rebuilt from Z": to_numpy(rebuilt), f"difference / {largest:.1e}": magnified}
    figure = new_figure(8, 0.7 + 3 * (0.3 + 7.6 * images.shape[2] / (images.shape[3] * len(images))))
    for axes, (title, row) in zip(figure.subplots(3, 1), rows.items()):
        _show(axes, _mosaic(_drawable(row), len(row)))
        axes.set_title(title, fontsize=9, loc="left", pad=3)
    figure.suptitle(f"largest reconstruction error {largest:.1e}", fontsize=11)
    figure.tight_layout(pad=0.6)
    return figure


def _drawable(images):
    images = get_ops(images).to_numpy(images)
    if images.ndim != 4 or len(images) == 0 or images.shape[1] not in (1, 3):
        raise ValueError(f"pictures are drawn of images (N, C, H, W), N at least 1, C 1 or 3; got shape {images.shape}")
    return np.clip(images.astype(np.float64), 0, 1)


def _mosaic(images, columns, gap=1):
    """One picture (height, width, 3) of all images, with white gaps."""
    N, _, H, W = images.shape
    rows = math.ceil(N / columns)
    picture = np.ones((rows * (H + gap) + gap, columns * (W + gap) + gap, 3))
    for i, image in enumerate(images):
        y, x = gap + i // columns * (H + gap), gap + i % columns * (W + gap)
        picture[y : y + H, x : x + W] = image.transpose(1, 2, 0)
    return picture


def _show(axes, picture):
    axes.imshow(
        np.rint(255 * picture).astype(np.uint8), interpolation="nearest"
    )  # of floats matplotlib drops the fraction
    axes.set_axis_off()
