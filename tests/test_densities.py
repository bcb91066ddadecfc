"""The flows of the plane are densities: exp(log_prob) integrates to one, and the samples have it."""

import math

import numpy as np
import pytest
from scipy import stats

from invnet import IAF, MAF, NSF, Flow, Glow, PlanarFlow, RadialFlow, RealNVP, Reverse

pytestmark = pytest.mark.own_seeds  # of which a grid of 500 x 500 cells resolves the densities

SIDE, SAMPLES, STRIPS = 500, 20000, 14
f64 = {"dtype": "float64"}
LAYERS = {  # id: a layer of the plane, and how far its parameters are moved from where it is the identity, or near it
    "Glow": (lambda: Glow(2, 16, 1, 4, ndim=0, **f64), 0.5),
    "Glow, additive, householder": (
        lambda: Glow(2, 16, 1, 4, ndim=0, coupling="additive", mix="householder", **f64),
        0.7,
    ),
    "RealNVP": (lambda: RealNVP(2, 16, 4, activation="silu", **f64), 0.5),
    "NSF": (lambda: NSF(2, 16, 3, bins=6, mix="lu", activation="silu", **f64), 0.4),
    "NSF autoregressive forward": (
        lambda: NSF(2, 16, 2, bins=6, activation="silu", autoregressive="forward", **f64),
        0.3,
    ),
    "NSF autoregressive inverse": (
        lambda: NSF(2, 16, 2, bins=6, activation="silu", autoregressive="inverse", **f64),
        0.3,
    ),
    "MAF": (lambda: MAF(2, 16, 3, activation="silu", **f64), 0.7),
    "IAF": (lambda: IAF(2, 16, 3, activation="silu", **f64), 0.7),
    "PlanarFlow": (lambda: PlanarFlow(2, 6, seed=1, **f64), 1.0),
    "RadialFlow": (lambda: RadialFlow(2, 6, seed=1, **f64), 1.0),
}


def flow(name, reverse, seed=0):
    """The flow of a layer with random parameters, the layer from data to noise, or from noise to data with
    `reverse`.
    """
    make, size = LAYERS[name]
    layer, rng = make(), np.random.default_rng(seed)
    for p in layer.parameters():
        p.data += size / math.sqrt(math.prod(p.data.shape[:-1])) * rng.standard_normal(p.data.shape)
    return Flow(Reverse(layer) if reverse else layer, (2,))


def masses(flow, X, log_prob=None):
    """The edges of a grid about the samples X, and the mass of each of its cells by the density at its centre."""
    low, high = X.min(axis=0), X.max(axis=0)
    low, high = low - 0.2 * (high - low), high + 0.2 * (high - low)
    edges = [np.linspace(a, b, SIDE + 1) for a, b in zip(low, high)]
    centres = np.stack(np.meshgrid(*[(e[1:] + e[:-1]) / 2 for e in edges], indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp((log_prob or flow.log_prob)(centres)).reshape(SIDE, SIDE)
    return edges, density * math.prod((high - low) / SIDE)


def bins(cells):
    """A number for each cell of the grid, that of the bin it belongs to: bins have nearly equal masses."""
    cut = lambda mass: np.minimum((np.cumsum(mass) - mass / 2) / max(mass.sum(), 1e-300) * STRIPS, STRIPS - 1).astype(
        int
    )
    strip = cut(cells.sum(axis=1))
    return np.concatenate(
        [
            k * STRIPS + np.broadcast_to(cut(cells[strip == k].sum(axis=0)), ((strip == k).sum(), SIDE))
            for k in range(STRIPS)
        ]
    )


def p_value(X, edges, cells):
    """Of the chi-square test that X has the masses of the cells."""
    where = [np.searchsorted(e, x) - 1 for e, x in zip(edges, X.T)]
    number = bins(cells)
    expected = len(X) * np.bincount(number.ravel(), cells.ravel(), STRIPS**2)
    found = np.bincount(number[tuple(where)], minlength=STRIPS**2)
    rare = expected < 10  # where a strip is narrower than the cells
    assert rare.sum() < STRIPS**2 / 4
    found, expected = (np.append(each[~rare], each[rare].sum()) for each in (found, expected))
    return stats.chi2.sf(np.sum((found - expected) ** 2 / np.maximum(expected, 1)), len(found) - 1)


@pytest.mark.parametrize("reverse", [False, True], ids=["layer", "Reverse"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_density_integrates_to_one_and_its_samples_have_it(name, reverse):
    q = flow(name, reverse)
    X, log_q = q.sample_and_log_prob(SAMPLES, seed=1)
    np.testing.assert_allclose(q.log_prob(X), log_q, atol=1e-6)
    edges, cells = masses(q, X)
    assert abs(cells.sum() - 1) < 1e-3
    assert p_value(X, edges, cells) > 1e-3
    assert kl_from_a_normal(X, log_q) > 0.02  # there is something to get wrong


def kl_from_a_normal(X, log_q):
    """An estimate of KL(q || the normal of the same moments)."""
    normal = 0.5 * np.linalg.slogdet(np.cov(X.T))[1] + math.log(2 * math.pi) + 1
    return log_q.mean() + normal


@pytest.mark.parametrize(
    "mistake", ["density without logdet", "logdet of one layer", "samples too close", "samples moved"]
)
def test_a_mistake_is_found(mistake):
    q = flow("NSF autoregressive forward", False)
    X = q.sample(SAMPLES, temperature=0.96 if mistake == "samples too close" else 1.0, seed=1)
    log_prob = {
        "density without logdet": lambda X: q.base.log_prob(q.layer.forward(X)[0]),
        "logdet of one layer": lambda X: q.log_prob(X) - q.layer.layers[1].forward(q.layer.layers[0].forward(X)[0])[1],
    }.get(mistake)
    if mistake == "samples moved":
        X = X + 0.05
    edges, cells = masses(q, X, log_prob)
    if log_prob is None:
        assert p_value(X, edges, cells) < 1e-4
    else:
        assert abs(cells.sum() - 1) > 1e-2
