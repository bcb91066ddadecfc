"""Targets: densities by quadrature, gradients by differences, samplers by chi-square tests."""

import functools
import math

import numpy as np
import pytest
from rewriting import mutant
from scipy import integrate, stats

import invnet
from invnet import data, objectives
from invnet.bases import DiagonalNormal

TARGETS = {
    "Banana": data.Banana(),
    "Banana, bent down": data.Banana(-0.3, 1.0),
    "Mixture": data.Mixture([[1, 2], [-2, 0.0]], [[0.5, 1], [1, 0.3]], [1, 3]),
    "EightGaussians": data.EightGaussians(),
    "TwoMoons": data.TwoMoons(),
    "TwoMoons, thin": data.TwoMoons(0.03),
    "Pinwheel": data.Pinwheel(),
    "Pinwheel, 3 arms": data.Pinwheel(3, -1.0),
    "Checkerboard": data.Checkerboard(),
    **{f"Energy {k}": data.Energy(k) for k in (1, 2, 3, 4)},
    **{f"Energy {k}, cut off": data.Energy(k, wall=False) for k in (2, 3, 4)},
}
CELLS, FINE = 24, 16  # cells along each axis, and points along each cell


def grid(target):
    """Points of a fine grid over the box, and the area of each."""
    n = CELLS * FINE
    axes = [low + (np.arange(n) + 0.5) * (high - low) / n for low, high in target.box]
    X = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    return X, math.prod(high - low for low, high in target.box) / n**2


@functools.cache
def probabilities(name):
    """That of each cell, (CELLS, CELLS), by quadrature."""
    X, area = grid(TARGETS[name])
    return np.exp(TARGETS[name].log_prob(X)).reshape(CELLS, FINE, CELLS, FINE).sum(axis=(1, 3)) * area


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive if "thin" in name else []) for name in TARGETS]
)
def test_a_density_integrates_to_one(name):
    assert abs(probabilities(name).sum() - 1) < 1e-3


def check_samples(X, name):
    """A chi-square test; cells with few samples expected are one."""
    counts, expected = np.histogram2d(*X.T, bins=CELLS, range=TARGETS[name].box)[0], len(X) * probabilities(name)
    likely = expected >= 5
    observed, expected = (np.append(a[likely], len(X) - a[likely].sum()) for a in (counts, expected))
    keep = expected >= 5
    assert stats.chi2.sf(((observed - expected)[keep] ** 2 / expected[keep]).sum(), keep.sum() - 1) > 1e-4
    assert observed[~keep].sum() < 30


@pytest.mark.parametrize("name", TARGETS)
def test_samples_follow_the_density(name):
    check_samples(TARGETS[name].sample(40000, 5, "float64"), name)


def test_samples_of_another_density_are_found():
    with pytest.raises(AssertionError):
        check_samples(data.Banana(0.5, 0.42).sample(40000, 5), "Banana")


@pytest.mark.parametrize("name", TARGETS)
def test_gradients_are_those_of_differences(name):
    target = TARGETS[name]
    X = target.sample(500, 1, "float64")
    X += 0.3 * np.random.default_rng(2).standard_normal(X.shape)
    inside = np.isfinite(target(X)[0])
    inside &= (abs(abs(X) - 4) > 1e-4).all(axis=1)
    expected = objectives.from_differences(lambda X: target(X)[0], 1e-6)(X[inside])[1]
    steady = np.isfinite(expected).all(axis=1)
    np.testing.assert_allclose(target(X[inside])[1][steady], expected[steady], rtol=1e-5, atol=1e-5)
    assert steady.sum() > 200


@pytest.mark.parametrize("name", TARGETS)
def test_float32_is_kept_and_seeds_are_ints_or_generators(name):
    target = TARGETS[name]
    X = target.sample(100, 3)
    assert X.shape == (100, 2) and X.dtype == "float32"
    value, gradient = target(X)
    assert value.dtype == gradient.dtype == target.log_prob(X).dtype == "float32"
    np.testing.assert_allclose(value, target(X.astype("float64"))[0], rtol=1e-4, atol=1e-4)
    assert (target.sample(100, np.random.default_rng(3)) == X).all() and (target.sample(100, 4) != X).any()
    rng = np.random.default_rng(3)
    assert (target.sample(100, rng) != target.sample(100, rng)).any()
    assert target.sample(0).shape == (0, 2)


#: log Z on the plane with the wall, and on [-4, 4]^2 with the entropy there, by quadrature on a grid of 4001^2 points.
PUBLISHED = {
    1: (None, 1.877502, 2.660012),
    2: (2.200167, 2.082089, 2.582089),
    3: (2.759783, 2.641705, 2.626707),
    4: (2.828776, 2.684568, 2.766181),
}


@pytest.mark.parametrize("k", PUBLISHED)
def test_log_Z_and_entropy_of_the_energies(k):
    walled, cut, entropy = PUBLISHED[k]
    if walled is not None:
        assert abs(data.Energy(k).log_Z - walled) < 1e-6
    target = data.Energy(k, wall=None if k == 1 else False)
    assert abs(target.log_Z - cut) < 1e-6
    n = 1200
    axis = (np.arange(n) + 0.5) * 8 / n - 4
    X = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    p = np.exp(target(X)[0]) * (8 / n) ** 2
    assert abs(math.log(p.sum()) - cut) < 1e-5
    assert abs(-(p * target.log_prob(X)).sum() / p.sum() - entropy) < 1e-4


@pytest.mark.parametrize("std", [0.03, 0.1, 1.0])
def test_the_density_of_the_moons_is_the_integral_over_their_arcs(std):
    target = data.TwoMoons(std)
    X = target.sample(20, 0, "float64")

    def p(t, x):
        c = np.array([math.cos(t) - 0.5, math.sin(t) - 0.25])
        return 0.5 * sum(stats.norm.pdf(x, sign * c, std).prod() for sign in (1, -1)) / math.pi

    parts = np.linspace(0, math.pi, 33)
    expected = [
        sum(integrate.fixed_quad(np.vectorize(lambda t, x=x: p(t, x)), a, b, n=20)[0] for a, b in zip(parts, parts[1:]))
        for x in X
    ]
    np.testing.assert_allclose(np.exp(target.log_prob(X)), expected, rtol=1e-9)


def test_the_crescents_have_a_finite_gradient_at_the_cusp():
    assert np.isfinite(data.Energy(1)(np.zeros((1, 2)))[1]).all()
    assert np.isfinite(data.Pinwheel()(np.zeros((1, 2)))[1]).all()


def test_a_mixture_in_more_dimensions_is_that_of_scipy():
    means, std = (
        np.random.default_rng(0).standard_normal((3, 4)),
        np.exp(np.random.default_rng(1).standard_normal((3, 4))),
    )
    target, X = data.Mixture(means, std, [1, 2, 1]), np.random.default_rng(2).standard_normal((10, 4))
    expected = np.log(sum(w * stats.norm.pdf(X, m, s).prod(axis=1) for w, m, s in zip([0.25, 0.5, 0.25], means, std)))
    np.testing.assert_allclose(target.log_prob(X), expected)
    assert target.sample(7, 0).shape == (7, 4) and len(target.box) == 4


@pytest.mark.parametrize("name", ["Banana", "Energy 1", "Energy 2", "Energy 3", "Energy 4", "TwoMoons", "Pinwheel"])
def test_the_free_energy_is_never_below_minus_log_Z(name):
    target = TARGETS[name]
    flow = invnet.Flow(invnet.Glow(2, 16, 1, 2, ndim=0), (2,), DiagonalNormal([0, 0], 1.0))
    opt, rng = invnet.optim.Adam(flow.parameters(), lr=0.01), np.random.default_rng(0)
    start = None
    for _ in range(150):
        loss = objectives.reverse_kl(flow, target, 256, rng, path=True)
        start = loss if start is None else start
        invnet.optim.clip_by_global_norm(flow.parameters(), 100.0)
        opt.step()
        flow.zero_grad()
    X, log_q = flow.sample_and_log_prob(20000, seed=1)
    gap = log_q - target.log_prob(X)
    assert gap.mean() > 3 * -gap.std() / math.sqrt(len(X)) and gap.mean() - target.log_Z < start - 0.1


MISTAKES = {
    "dimensions": (lambda: data.Banana().log_prob(np.zeros((4, 3))), ValueError, r"Banana.*\(N, 2\).*\(4, 3\)"),
    "one point": (lambda: data.Energy(1)(np.zeros(2)), ValueError, r"\(N, 2\).*\(2,\)"),
    "integers": (lambda: data.TwoMoons()(np.zeros((4, 2), int)), ValueError, "float.*int64"),
    "number of samples": (lambda: data.Pinwheel().sample(-1), ValueError, "-1"),
    "energy": (lambda: data.Energy(5), ValueError, "1, 2, 3 and 4; got 5"),
    "width": (lambda: data.Banana(width=0), ValueError, "width.*0"),
    "std": (lambda: data.TwoMoons(0.001), ValueError, "0.02.*0.001"),
    "arms": (lambda: data.Pinwheel(0), ValueError, "arms.*0"),
    "means": (lambda: data.Mixture([1.0, 2.0]), ValueError, r"\(K, D\).*\(2,\)"),
    "weights": (lambda: data.Mixture([[0.0, 1.0]], weights=[0]), ValueError, "weights.*positive.*0"),
    "radius": (lambda: data.EightGaussians(-1), ValueError, "radius.*-1"),
    "an unfinished target": (lambda: data.Target()(np.zeros((1, 2))), NotImplementedError, "value_and_gradient"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_error_says_what_was_required_and_what_came(name):
    mistake, kind, text = MISTAKES[name]
    with pytest.raises(kind, match=text):
        mistake()


MUTATIONS = [  # function, piece, replacement, the target whose gradient must be found wrong
    ("densities:Banana.value_and_gradient", "2 * self.curvature", "self.curvature", "Banana"),
    ("densities:Banana.value_and_gradient", "d2 = -R", "d2 = R", "Banana"),
    ("densities:Mixture.value_and_gradient", " / s", "", "EightGaussians"),
    ("densities:Mixture.value_and_gradient", "R[k][:, None] * ", "", "Mixture"),
    ("densities:Pinwheel.value_and_gradient", "(g1 * u2 - g2 * u1)", "(g1 * u1 - g2 * u2)", "Pinwheel"),
    ("densities:Pinwheel.value_and_gradient", "+ B * s / self.ACROSS", "- B * s / self.ACROSS", "Pinwheel"),
    ("densities:Pinwheel.value_and_gradient", "xp.sin(a) * g1 +", "-xp.sin(a) * g1 +", "Pinwheel, 3 arms"),
    ("energies:Energy.value_and_gradient", "R * dw1 / 0.4", "R / 0.4", "Energy 2"),
    ("energies:Energy.value_and_gradient", "d1 - xp.sign", "d1 + xp.sign", "Energy 2"),
    ("energies:Energy.value_and_gradient", "(dw1 - dw)", "dw1", "Energy 3"),
    ("energies:Energy.value_and_gradient", "p * R * dw1 / s", "p * R * dw1 / 0.35", "Energy 4"),
    ("energies:Energy._crescents", "2 * xp.tanh(a) - z1", "2 * xp.tanh(a) + z1", "Energy 1"),
    ("energies:Energy._crescents", "2 / radius - 1", "1 / radius - 1", "Energy 1"),
    ("energies:Energy._branch", "(1 - p) / 0.3", "(1 - p)", "Energy 4"),
]


@pytest.mark.parametrize("function, piece, replacement, name", MUTATIONS)
def test_a_broken_term_is_found(function, piece, replacement, name, monkeypatch):
    monkeypatch.setattr(*mutant(f"invnet.data.{function}", piece, piece))
    test_gradients_are_those_of_differences(name)
    monkeypatch.setattr(*mutant(f"invnet.data.{function}", piece, replacement))
    with pytest.raises(AssertionError):
        test_gradients_are_those_of_differences(name)
