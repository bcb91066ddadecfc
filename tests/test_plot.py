"""Pictures: what is drawn, and that no display or global state is needed."""

import io
import sys

import numpy as np
import pytest

import invnet
from invnet import plot


def pixels(figure):
    """The rendered figure, (height, width, 3) from 0 to 1."""
    from PIL import Image

    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB")) / 255


def images(N=5, C=1, H=4, W=6):
    return np.random.default_rng(0).random((N, C, H, W)).astype("float32")


@pytest.mark.parametrize("C", [1, 3])
def test_a_grid_shows_every_pixel_of_every_image_in_its_place(C):
    X = images(5, C)
    drawn = pixels(plot.image_grid(X, columns=3))
    scale = drawn.shape[1] // (3 * 7 + 1)
    assert drawn.shape == ((2 * 5 + 1) * scale, (3 * 7 + 1) * scale, 3)
    for i, image in enumerate(X):
        y, x = 1 + i // 3 * 5, 1 + i % 3 * 7
        cells = drawn[y * scale + scale // 2:(y + 4) * scale:scale, x * scale + scale // 2:(x + 6) * scale:scale]
        np.testing.assert_allclose(cells, np.broadcast_to(image.transpose(1, 2, 0), (4, 6, 3)), atol=1 / 255)


def test_a_grid_clips_and_takes_more_columns_than_images():
    drawn = pixels(plot.image_grid(np.array([-3.0, 5.0]).reshape(2, 1, 1, 1), columns=8))
    assert drawn.min() == 0 and drawn.max() == 1


def test_reconstructions_name_the_largest_error():
    class Lossy(invnet.Chain):
        def inverse(self, Z, cond=None):
            return Z + np.float32(0.25)

    figure = plot.reconstructions(Lossy(), images(4) / 2)
    assert figure.get_suptitle() == "largest reconstruction error 2.5e-01"
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["original", "rebuilt from Z", "difference / 2.5e-01"]
    assert pixels(figure).std() > 0.05


def test_reconstructions_of_an_exact_inverse_have_no_error():
    figure = plot.reconstructions(invnet.Chain(), images(4, 3))
    assert figure.get_suptitle() == "largest reconstruction error 0.0e+00"


def test_curves_show_training_validation_and_baselines():
    rows = [{"step": i, "train": 3 - i / 10, **({"validation": 3.2 - i / 10} if i % 2 else {})} for i in range(1, 6)]
    (axes,) = plot.training_curves([*rows, {"step": 6, "train": None}], {"histograms": 2.4}).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == ["train", "validation", "histograms 2.40"]
    assert lines["train"].get_xdata().tolist() == [1, 2, 3, 4, 5] and lines["validation"].get_xdata().tolist() == [1, 3, 5]
    assert set(lines["histograms 2.40"].get_ydata()) == {2.4}
    low, high = axes.get_ylim()
    assert low < 2.4 < high and low < 2.5 < high


def test_curves_of_nothing_are_an_empty_picture():
    assert pixels(plot.training_curves([])).std() > 0


def test_pictures_use_no_global_state_of_matplotlib():
    plot.image_grid(images()).savefig(io.BytesIO())
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


@pytest.mark.parametrize("shape", [(4, 6), (0, 1, 4, 6), (5, 2, 4, 6)])
def test_what_is_no_images_gets_an_error(shape):
    with pytest.raises(ValueError, match=r"\(N, C, H, W\).*got shape \(" + str(shape[0])):
        plot.image_grid(np.zeros(shape))
