"""Data: quantisation, loaders, splits and baselines, and an error for every bad input."""

import math
from fractions import Fraction

import numpy as np
import pytest

import invnet
from invnet import data, losses
from invnet.bases import Uniform


def integers(N=20, shape=(1, 4, 6), levels=256, seed=0):
    return np.random.default_rng(seed).integers(0, levels, (N, *shape)).astype(np.uint8)


# Quantisation


@pytest.mark.parametrize("bits", [1, 3, 5, 8, 12])
def test_identity_and_uniform_base_give_exactly_n_bits_per_dimension(bits):
    images = np.random.default_rng(bits).integers(0, 2**bits, (7, 3, 4, 4))
    X = data.dequantise(images, 2**bits, np.random.default_rng(0), "float64")
    flow = invnet.Flow(invnet.Chain(), (3, 4, 4), Uniform())
    assert (losses.bits_per_dim(-flow.log_prob(X), 48, 2**bits) == bits).all()


def test_uniform_has_no_density_outside_and_samples_within():
    X = np.array([[0.0, 1.0], [0.5, 1.5], [-0.1, 0.5]])
    assert Uniform().log_prob(X).tolist() == [0.0, -math.inf, -math.inf]
    S = Uniform().sample((100, 3), np.random.default_rng(0), X)
    assert S.shape == (100, 3) and 0 <= S.min() < 0.1 and 0.9 < S.max() <= 1


class Noise(np.random.Generator):
    """A generator whose numbers in [0, 1) are all the same one."""

    def __init__(self, u):
        super().__init__(np.random.PCG64(0))
        self.u = u

    def random(self, size, dtype="float64"):
        return np.full(size, self.u, dtype)


def below_one(dtype):
    return np.nextafter(np.ones((), dtype), np.zeros((), dtype))


def outside_their_cells(X, images, levels):
    """How many numbers are not in [k / levels, (k + 1) / levels), in exact arithmetic."""
    exact = np.array([Fraction(float(x)) for x in X.ravel()], object) * levels
    k = images.ravel().astype(object)
    return int(np.count_nonzero((exact < k) | (exact >= k + 1)))


def dequantise_extremes(levels, k):
    """Asserts that the levels k stay in their cells, come back and are between 0 and 1, whatever the noise is."""
    images = k.astype(np.uint16).reshape(1, 1, 1, -1)
    for dtype in ("float32", "float64"):
        for u in (0.0, 1e-9, 0.5, 1 - 2e-7, below_one(dtype)):
            X = data.dequantise(images, levels, Noise(u), dtype)
            assert X.dtype == dtype and X.min() > 0 and X.max() < 1, (levels, dtype, u)
            assert outside_their_cells(X, images, levels) == 0, (levels, dtype, u)
            for stored in (X, X.astype("float64")):
                assert (data.quantise(stored, levels) == images).all(), (levels, dtype, u)


def some_levels(levels):
    ends = np.array([0, 1, levels // 2, levels - 2, levels - 1])
    return np.unique(np.concatenate([ends, np.random.default_rng(levels).integers(0, levels, 20)]).clip(0))


@pytest.mark.parametrize("levels", [*range(2, 20), 100, 128, 255, 256, 257, 1000, 4096])
def test_every_level_stays_in_its_cell_whatever_the_noise(levels):
    dequantise_extremes(levels, np.arange(levels))


def test_levels_stay_in_their_cells_for_numbers_of_levels_to_65536():
    for levels in [*range(2, 65536, 1997), *(2**b + d for b in range(5, 17) for d in (-1, 0, 1) if 2**b + d <= 65536)]:
        dequantise_extremes(levels, some_levels(levels))


@pytest.mark.nightly
def test_levels_stay_in_their_cells_for_every_number_of_levels():
    for levels in range(2, 65537):
        dequantise_extremes(levels, some_levels(levels)[-3:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dequantised_images_are_uniform_in_their_cells(dtype):
    images = np.full((1000, 1, 40, 50), 200, np.uint8)
    X = data.dequantise(images, 256, np.random.default_rng(0), dtype)
    inside = X.astype("float64") * 256 - images
    assert inside.min() >= 0 and inside.max() < 1
    counts = np.histogram(inside, 16, (0, 1))[0] / images.size
    assert abs(counts - 1 / 16).max() < 5 * math.sqrt(1 / 16 / images.size)


@pytest.mark.parametrize("alpha", [0.0, 1e-9, 1e-5])
@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_images_go_through_a_logit_whatever_the_noise(alpha, level):
    images = np.full((2, 1, 2, 2), level)
    for u in (0.0, below_one("float32")):
        Z, logdet = invnet.Logit(alpha).forward(data.dequantise(images, 256, Noise(u)))
        assert np.isfinite(Z).all() and np.isfinite(logdet).all()


@pytest.mark.parametrize("levels", [2, 17, 100, 256, 1000, 65536])
def test_floats_at_the_edges_of_cells_belong_to_the_upper_cell(levels):
    for dtype in ("float32", "float64"):
        edges = (np.arange(levels) / levels).astype(dtype)
        assert (data.quantise(edges, levels) == np.arange(levels)).all()
        assert (data.quantise(np.nextafter(edges[1:], np.zeros((), dtype)), levels) == np.arange(levels - 1)).all()


@pytest.mark.parametrize("u", [0.0, 1 - 2**-26, 1 - 2**-24, float(below_one("float64"))])
def test_samples_of_bounded_densities_stay_where_the_density_is(u):
    X = data.Checkerboard().sample(500, Noise(u))
    assert np.isfinite(data.Checkerboard().log_prob(X)).all()
    for low, high in np.sort(np.random.default_rng(0).standard_normal((100, 2))):
        base = Uniform(low, high)
        assert np.isfinite(base.log_prob(base.sample((1, 3), Noise(u), np.zeros(1, "float32")))).all()


def test_integers_of_many_values_do_not_overflow():
    images = np.array([0, 2**29, 2**30 - 1])
    assert data.quantise(images, 256, 2**30).tolist() == [0, 128, 255]


def test_floats_made_by_division_by_255_come_back():
    images = np.arange(256, dtype=np.uint8)
    for dtype in ("float32", "float64"):
        assert (data.quantise((images / 255).astype(dtype)) == images).all()


@pytest.mark.parametrize("bits", [1, 5, 7])
def test_fewer_bits_keep_the_highest(bits):
    images = integers()
    reduced = data.quantise(images, 2**bits)
    assert reduced.dtype == np.uint8 and (reduced == images >> (8 - bits)).all()


def test_many_levels_take_16_bits():
    assert data.quantise(np.array([0.0, 1.0]), 1024).tolist() == [0, 1023]
    assert data.quantise(np.array([0.0, 1.0]), 1024).dtype == np.uint16


# Images and splits


def test_split_is_a_partition_that_the_seed_decides():
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)
    a, b, c = (data.split(images, 256, "x", 0.2, 0.1, seed) for seed in (0, 0, 1))
    assert (len(a.train), len(a.validation), len(a.test)) == (35, 10, 5)
    assert sorted(np.concatenate([a.train, a.validation, a.test]).ravel()) == list(range(50))
    assert (a.train == b.train).all() and a.fingerprint == b.fingerprint
    assert (a.train != c.train).any() and a.fingerprint != c.fingerprint


@pytest.mark.parametrize("N", [3, 4, 5, 9])
def test_each_part_has_an_image_however_few_there_are(N):
    images = data.split(integers(N), 256, "few")
    assert min(len(images.train), len(images.validation), len(images.test)) >= 1
    assert len(images.train) + len(images.validation) + len(images.test) == N


def test_digits_are_1797_images_of_17_levels():
    images = data.digits()
    assert images.shape == (1, 8, 8) and images.levels == 17 and images.train.max() == 16
    assert len(images.train) + len(images.validation) + len(images.test) == 1797
    assert data.digits(levels=4).train.max() == 3


# Baselines


def test_histograms_of_uniform_noise_need_all_bits_and_of_constants_almost_none():
    noise = data.split(integers(20000, (1, 1, 2), 16), 16, "noise")
    assert 4 <= data.independent_histograms(noise) < 4.02
    constant = data.split(np.full((1000, 1, 2, 2), 3), 16, "constant")
    assert math.isclose(data.independent_histograms(constant), math.log2(816 / 801))


def test_the_gaussian_is_the_mean_over_the_noise_of_dequantisation():
    images = data.split(integers(60, (1, 2, 2), 8), 8, "x")
    rng = np.random.default_rng(0)
    repeated = (np.repeat(part.reshape(-1, 4), 4000, axis=0) for part in (images.train, images.test))
    train, test = (part + rng.random(part.shape) for part in repeated)
    R, C = test - train.mean(0), np.cov(train.T, bias=True)
    nats = 0.5 * np.einsum("ni,ij,nj->n", R, np.linalg.inv(C), R).mean() + 0.5 * np.linalg.slogdet(2 * math.pi * C)[1]
    assert abs(data.gaussian(images) - nats / (4 * math.log(2))) < 0.01


def test_the_gaussian_knows_covariances_and_constant_pixels():
    grey = np.random.default_rng(0).integers(0, 200, (500, 1, 1, 1))
    images = data.split(np.concatenate([grey, grey, np.full_like(grey, 7)], axis=3), 256, "x")
    alone = data.split(grey, 256, "x")
    assert (
        3 * data.gaussian(images) < data.gaussian(alone) + 1.2
    )  # a pixel that is known costs log2 sqrt(2 pi e / 12) = 0.25


def test_baselines_on_the_digits_are_those_of_the_issue():
    images = data.digits()
    assert abs(data.independent_histograms(images) - 2.42) < 0.05
    assert abs(data.gaussian(images) - 2.95) < 0.07


# Loaders


def saved(path, **arrays):
    np.savez(path / "images.npz", **arrays)
    return path / "images.npz"


@pytest.mark.parametrize("names", [("x_train", "x_test"), ("train", "test")])
def test_an_npz_with_parts_keeps_its_test_part(tmp_path, names):
    train, test = integers(40), integers(10, seed=1)
    path = saved(tmp_path, **{names[0]: train[:, 0], names[1]: test[:, 0], "y_train": np.zeros(40)})
    images = data.load(path)
    assert images.name == "images" and images.levels == 256 and images.shape == (1, 4, 6)
    assert (images.test == test).all() and (len(images.train), len(images.validation)) == (36, 4)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "float"])
def test_an_npz_of_one_array_is_split(tmp_path, layout):
    images = integers(30, (3, 8, 6))
    stored = {"NCHW": images, "NHWC": images.transpose(0, 2, 3, 1), "float": images / 255}[layout]
    loaded = data.load(saved(tmp_path, anything=stored, labels=np.arange(30)))
    assert loaded.shape == (3, 8, 6)
    assert (loaded.train == data.split(images, 256, "x").train).all()


def test_bits_and_values_choose_the_levels(tmp_path):
    path = saved(tmp_path, images=integers(30, levels=17))
    assert data.load(path, values=17).levels == 17
    assert data.load(path, bits=3).levels == 8


def write_images(path, images, names):
    from PIL import Image

    for image, name in zip(images, names):
        (path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(path / name)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_is_all_images_within_it(tmp_path, channels):
    images = integers(5, (channels, 6, 4))
    write_images(tmp_path, images, ["a.png", "b.PNG", "in/c.png", "in/d.png", "in/e.png"])
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    loaded = data.load(tmp_path)
    assert loaded.shape == (channels, 6, 4) and loaded.name == tmp_path.name
    everything = np.concatenate([loaded.train, loaded.validation, loaded.test])
    assert sorted(map(bytes, everything)) == sorted(map(bytes, images))


def test_a_folder_with_one_colour_image_is_colour(tmp_path):
    write_images(tmp_path, integers(3, (1, 4, 4)), ["a.png", "b.png", "c.png"])
    write_images(tmp_path, integers(1, (3, 4, 4)), ["d.jpg"])
    assert data.load(tmp_path).shape == (3, 4, 4)


# Bad input


def npz_of(**arrays):
    return lambda path: data.load(saved(path, **arrays))


def text_npz(path):
    (path / "x.npz").write_text("not a zip file")
    return data.load(path / "x.npz")


def cut_npz(path):
    file = saved(path, x=integers(100))
    file.write_bytes(file.read_bytes()[:500])
    return data.load(file)


def folder_of(*shapes):
    def load(path):
        for i, shape in enumerate(shapes):
            write_images(path, integers(1, shape), [f"{i}.png"])
        return data.load(path)

    return load


def damaged_folder(path):
    write_images(path, integers(3), ["a.png", "b.png", "c.png"])
    (path / "b.png").write_bytes((path / "b.png").read_bytes()[:60])
    return data.load(path)


def deep_folder(path):
    from PIL import Image

    Image.fromarray(np.zeros((4, 4), np.uint16)).save(path / "a.png")
    return data.load(path)


MISTAKES = {
    "NaN": (npz_of(x=np.full((5, 4, 4), np.nan)), ValueError, "80 of 80 are NaN"),
    "one NaN": (npz_of(x=np.where(np.arange(48).reshape(3, 4, 4) == 5, np.nan, 0.5)), ValueError, "1 of 48"),
    "infinity": (npz_of(x=np.full((5, 4, 4), np.inf)), ValueError, "infinite"),
    "floats to 255": (npz_of(x=np.full((5, 4, 4), 255.0)), ValueError, r"\[0, 1\].*255"),
    "negative floats": (npz_of(x=np.full((5, 4, 4), -0.5)), ValueError, r"\[0, 1\].*-0.5"),
    "integers above 255": (npz_of(x=np.full((5, 4, 4), 256)), ValueError, "0 to 255.*256"),
    "negative integers": (npz_of(x=np.full((5, 4, 4), -1)), ValueError, "0 to 255.*-1"),
    "booleans": (npz_of(x=np.ones((5, 4, 4), bool)), TypeError, "bool"),
    "texts": (npz_of(x=np.full((5, 4, 4), "a")), TypeError, "<U1"),
    "objects": (npz_of(x=np.full((5, 4, 4), {})), ValueError, "plain arrays"),
    "rank too low": (npz_of(x=np.zeros((5, 16))), ValueError, r"\(N, H, W\).*x \(5, 16\)"),
    "rank too high": (
        npz_of(train=np.zeros((5, 1, 4, 4, 4)), test=np.zeros((5, 1, 4, 4, 4))),
        ValueError,
        r"\(5, 1, 4, 4, 4\)",
    ),
    "two arrays": (
        npz_of(a=np.zeros((5, 4, 4)), b=np.zeros((5, 4, 4))),
        ValueError,
        r"x_train and x_test.*a \(5, 4, 4\), b",
    ),
    "no array": (npz_of(), ValueError, "nothing"),
    "no image": (npz_of(x=np.zeros((0, 4, 4))), ValueError, r"at least one.*\(0, 1, 4, 4\)"),
    "no pixel": (npz_of(x=np.zeros((5, 0, 4))), ValueError, r"at least one pixel.*\(5, 1, 0, 4\)"),
    "too few images": (npz_of(x=np.zeros((2, 4, 4))), ValueError, "at least 3.*2"),
    "parts of two sizes": (
        npz_of(train=np.zeros((9, 4, 4)), test=np.zeros((9, 4, 6))),
        ValueError,
        r"one.*\(1, 4, 4\), \(1, 4, 6\)",
    ),
    "no npz": (text_npz, ValueError, "damaged"),
    "npz cut short": (cut_npz, ValueError, "damaged"),
    "no such npz": (lambda path: data.load(path / "none.npz"), FileNotFoundError, "no file.*none.npz"),
    "no such source": (lambda path: data.load("digit"), FileNotFoundError, "\"digits\".*folder.*'digit'"),
    "folder without images": (data.load, ValueError, "no images.*png"),
    "folder of two sizes": (folder_of((1, 4, 4), (1, 4, 6)), ValueError, "0.png is 4x4.*1.png is 6x4"),
    "folder with a damaged image": (damaged_folder, ValueError, "b.png is damaged"),
    "folder of 16 bits": (deep_folder, ValueError, "8 bits.*a.png.*I;16"),
    "bits": (lambda path: data.load("digits", bits=0), ValueError, "bits.*0"),
    "more bits than there are": (lambda path: data.load("digits", bits=8), ValueError, "17 values.*256"),
    "more levels than values": (lambda path: data.quantise(integers(), 512), ValueError, "256.*512"),
    "one level": (lambda path: data.quantise(integers(), 1), ValueError, "2 to 65536.*1"),
    "shares": (lambda path: data.digits(validation=0.5, test=0.5), ValueError, "below 1.*0.5"),
    "negative share": (lambda path: data.digits(test=-0.1), ValueError, "-0.1"),
    "rank of dequantise": (
        lambda path: data.dequantise(np.zeros((5, 4), int), 9, None),
        ValueError,
        r"\(N, C, H, W\).*\(5, 4\)",
    ),
    "floats to dequantise": (
        lambda path: data.dequantise(np.zeros((5, 1, 4, 4)), 256, None),
        TypeError,
        "integer.*float64",
    ),
    "levels of dequantise": (lambda path: data.dequantise(integers(), 16, None), ValueError, "0 to 15"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_bad_data_get_an_error_that_says_what_was_required_and_what_came(mistake, tmp_path):
    call, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        call(tmp_path)
