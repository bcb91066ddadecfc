"""Pictures: what is drawn, and that no display or global state is needed."""

import io
import pickle
import sys

import numpy as np
import pytest

import invnet
from invnet import data, plot


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
        cells = drawn[
            y * scale + scale // 2 : (y + 4) * scale : scale, x * scale + scale // 2 : (x + 6) * scale : scale
        ]
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
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "original",
        "rebuilt from Z",
        "difference / 2.5e-01",
    ]
    assert pixels(figure).std() > 0.05


def test_reconstructions_of_an_exact_inverse_have_no_error():
    figure = plot.reconstructions(invnet.Chain(), images(4, 3))
    assert figure.get_suptitle() == "largest reconstruction error 0.0e+00"


def test_curves_show_training_validation_and_baselines():
    rows = [{"step": i, "train": 3 - i / 10, **({"validation": 3.2 - i / 10} if i % 2 else {})} for i in range(1, 6)]
    (axes,) = plot.training_curves([*rows, {"step": 6, "train": None}], {"histograms": 2.4}).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == ["train", "validation", "histograms 2.40"]
    assert lines["train"].get_xdata().tolist() == [1, 2, 3, 4, 5] and lines["validation"].get_xdata().tolist() == [
        1,
        3,
        5,
    ]
    assert set(lines["histograms 2.40"].get_ydata()) == {2.4}
    low, high = axes.get_ylim()
    assert low < 2.4 < high and low < 2.5 < high


def test_curves_of_nothing_are_an_empty_picture():
    assert pixels(plot.training_curves([])).std() > 0


def test_pictures_use_no_global_state_of_matplotlib():
    plot.image_grid(images()).savefig(io.BytesIO())
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def drawings():
    """A figure of each function."""
    rows = [{"step": i, "train": 2.0, "l2": 3.0, "logdet": 1.0} for i in range(3)]
    return {
        "image_grid": plot.image_grid(images()),
        "reconstructions": plot.reconstructions(invnet.Chain(), images(4)),
        "training_curves": plot.training_curves(rows),
        "likelihood_terms": plot.likelihood_terms(rows, 6),
        "samples": plot.samples(points(), points()),
        "density": plot.density(data.Banana(), points()),
        "path": plot.path([points()]),
        "latent": plot.latent(points()),
        "classes": plot.classes(Half(), points(), np.zeros(300)),
    }


def test_a_notebook_shows_every_figure():
    shown = drawings()
    assert set(shown) == set(plot.__all__) - {"near_square"}
    for name, figure in shown.items():
        png = figure._repr_png_()
        assert png.startswith(b"\x89PNG") and len(png) > 1000, name


def test_a_figure_can_be_copied_and_sent_to_another_process():
    figure = pickle.loads(pickle.dumps(plot.image_grid(images())))
    assert (pixels(figure) == pixels(plot.image_grid(images()))).all()


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_picture_has_the_bytes_of_its_levels(levels):
    k = np.arange(levels).reshape(1, 1, 1, levels)
    drawn = pixels(plot.image_grid((k / (levels - 1)).astype("float32"), columns=1)) * 255
    scale = drawn.shape[1] // (levels + 2)
    row = drawn[scale + scale // 2, scale + scale // 2 : (levels + 1) * scale : scale, 0]
    np.testing.assert_array_equal(row.round(), np.rint(k.ravel() * (255 / (levels - 1))))


@pytest.mark.parametrize(
    "N, H, W", [(1, 8, 8), (7, 8, 8), (64, 8, 8), (1000, 8, 8), (100, 32, 8), (100, 8, 32), (3, 64, 64)]
)
def test_a_grid_of_any_number_is_near_square(N, H, W):
    picture = pixels(plot.image_grid(np.zeros((N, 1, H, W), "float32")))
    assert max(picture.shape) <= 1300 and (N < 8 or 0.5 < picture.shape[0] / picture.shape[1] < 2)


# Points, densities


def points(N=300, seed=0):
    return np.random.default_rng(seed).standard_normal((N, 2)).astype("float32")


def test_a_density_is_drawn_where_it_is_and_says_how_much_is_in_view():
    flow = invnet.Flow(invnet.Chain(), (2,), invnet.DiagonalNormal([2.0, -1.0], 0.3))
    figure = plot.density(flow, flow.sample(300, seed=0), box=((-4, 4), (-3, 3)))
    left, right = figure.axes
    (picture,) = left.get_images()
    row, column = np.unravel_index(np.argmax(picture.get_array()), picture.get_array().shape)
    assert picture.get_extent() == [-4, 4, -3, 3] and picture.origin == "lower"
    assert abs(-4 + (column + 0.5) * 8 / 200 - 2) < 0.05 and abs(-3 + (row + 0.5) * 6 / 200 + 1) < 0.05
    assert left.get_title() == "density, 100.0 % in view" and right.get_title() == "samples"
    assert len(right.collections[0].get_offsets()) == 300
    half = plot.density(flow, flow.sample(300, seed=0), box=((2, 4), (-3, 3)))
    assert half.axes[0].get_title() == "density, 50.0 % in view"
    assert pixels(figure).std() > 0.05


def test_a_target_has_its_own_box():
    target = data.Energy(2)
    assert plot.density(target, target.sample(50, 0)).axes[0].get_xlim() == target.box[0]


def test_data_and_model_have_the_same_axes_and_many_points_are_counted():
    figure = plot.samples(points(6000), 3 * points(100, 1))
    left, right = figure.axes
    assert left.get_title() == "data, 5,000 of 6,000" and right.get_title() == "model"
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim()


@pytest.mark.parametrize("shape, lines", [((200, 2), ["$z_{1}$", "$z_{2}$"]), ((50, 3, 2, 2), ["all 12 dimensions"])])
def test_quantiles_of_normal_latent_vectors_are_on_the_diagonal(shape, lines):
    figure = plot.latent(np.random.default_rng(0).standard_normal(shape))
    drawn = {line.get_label(): line for line in figure.axes[1].get_lines() if not line.get_label().startswith("_")}
    assert list(drawn) == lines
    for line in drawn.values():
        inner = abs(line.get_xdata()) < 1
        assert abs(line.get_ydata() - line.get_xdata())[inner].max() < 0.25
    assert pixels(figure).std() > 0.05


def test_quantiles_show_a_wrong_deviation():
    (line, *_) = [line for line in plot.latent(2 * points(2000)).axes[1].get_lines() if line.get_label() == "$z_{1}$"]
    assert abs(np.polyfit(line.get_xdata(), line.get_ydata(), 1)[0] - 2) < 0.1


def test_a_path_shows_every_state_in_the_colours_of_the_first():
    figure = plot.path([points(), 2 * points(), points() @ np.array([[0, 1], [-1, 0]])], columns=2)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == ["start", "after 1", "after 2"]
    colors = [axes.collections[0].get_facecolor() for axes in shown]
    assert (colors[0] == colors[1]).all() and (colors[0] == colors[2]).all() and len(np.unique(colors[0], axis=0)) > 100
    assert [axes.get_title() for axes in plot.path([points()], titles=["x"]).axes] == ["x"]


def test_the_terms_of_the_likelihood_are_drawn_with_the_line_of_noise():
    rows = [{"step": i, "l2": 3 + 1 / (1 + i), "logdet": 0.1 * i} for i in range(40)]
    figure = plot.likelihood_terms(rows, 6)
    first, second, third = figure.axes
    assert [line for line in first.get_lines() if line.get_label() == "normal noise, $D/2 = 3$"][0].get_ydata() == [
        3,
        3,
    ]
    np.testing.assert_allclose(second.get_lines()[0].get_ydata(), [0.1 * i for i in range(40)])
    np.testing.assert_allclose(third.get_lines()[0].get_ydata(), [row["l2"] - row["logdet"] for row in rows])
    low, high = first.get_ylim()
    assert low < 3 < high
    assert pixels(plot.likelihood_terms([], 2)).std() > 0 and pixels(plot.likelihood_terms(rows[:1], 2)).std() > 0


@pytest.mark.parametrize(
    "mistake, text",
    [
        (lambda: plot.samples(np.zeros((4, 3)), points()), r"\(N, 2\).*\(4, 3\)"),
        (lambda: plot.density(data.Banana(), points(), box=((1, 0), (0, 1))), "low below its high"),
        (lambda: plot.path([points(4), points(5)]), r"same samples; got \[4, 5\]"),
        (lambda: plot.path([]), "at least one state"),
        (lambda: plot.path([points()], titles=["a", "b"]), "1 states.*title for each; got 2"),
        (lambda: plot.latent(np.zeros((5, 1))), r"at least 2.*\(5, 1\)"),
    ],
)
def test_points_that_cannot_be_drawn_get_an_error(mistake, text):
    with pytest.raises(ValueError, match=text):
        mistake()


@pytest.mark.parametrize("shape", [(4, 6), (0, 1, 4, 6), (5, 2, 4, 6)])
def test_what_is_no_images_gets_an_error(shape):
    with pytest.raises(ValueError, match=r"\(N, C, H, W\).*got shape \(" + str(shape[0])):
        plot.image_grid(np.zeros(shape))


class Half:
    """Probability one where x1 is positive."""

    def predict_proba(self, X):
        return 1 / (1 + np.exp(-20 * X[:, 0]))


def test_a_map_of_classes_shows_probabilities_boundary_and_labels():
    X = np.array([[-1.0, 0.2], [-0.5, -0.4], [0.7, 0.1], [0.9, -0.8]])
    figure = plot.classes(Half(), X, [0, 0, 1, 1], ((-1, 1), (-1, 1)))
    axes = figure.axes[0]
    p = axes.images[0].get_array()
    assert p[:, :70].max() < 0.4 and p[:, 80:].min() > 0.6
    boundary = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    np.testing.assert_allclose(boundary[:, 0], 0, atol=1e-3)
    shown = [each.get_offsets() for each in axes.collections[1:]]
    np.testing.assert_allclose(np.concatenate(shown), X)
    assert pixels(figure).std() > 0.05


def test_a_map_of_classes_needs_a_label_for_each_point():
    with pytest.raises(ValueError, match=r"4 points; got shape \(3,\)"):
        plot.classes(Half(), np.zeros((4, 2)), [0, 1, 0])


def test_a_map_of_classes_needs_a_classifier():
    with pytest.raises(TypeError, match="with predict_proba; got .*ActNorm"):
        plot.classes(invnet.ActNorm(2), np.zeros((4, 2)), [0, 1, 0, 1])
