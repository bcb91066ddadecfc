"""Losses and densities: against SciPy, against differences, and the sampler against the density."""

import math
import pickle

import numpy as np
import pytest
from scipy import stats

import invnet
from invnet import losses


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def flow(seed=0):
    """A Flow on vectors with random weights, in float64."""
    net = invnet.Glow(3, 4, 1, 2, ndim=0, dtype="float64")
    for p in net.parameters():
        p.data += 0.2 * noise(*p.data.shape, seed=seed)
    return invnet.Flow(net, (3,))


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2, 5)])
def test_the_loss_is_the_mean_negative_log_density(shape):
    Z, logdet = noise(*shape), noise(shape[0])
    densities = stats.norm.logpdf(Z).reshape(shape[0], -1).sum(axis=1) + logdet
    assert math.isclose(losses.gaussian_nll(Z, logdet)[0], -densities.mean(), rel_tol=1e-12)


def test_the_gradients_of_the_loss_are_its_differences():
    Z, logdet = noise(2, 3, 2), noise(2)
    _, dZ, dlogdet = losses.gaussian_nll(Z, logdet)
    dZ_direction, dl_direction, h = noise(2, 3, 2, seed=1), noise(2, seed=2), 1e-6
    above, below = (losses.gaussian_nll(Z + s * h * dZ_direction, logdet + s * h * dl_direction)[0] for s in (1, -1))
    expected = (dZ * dZ_direction).sum() + (dlogdet * dl_direction).sum()
    assert math.isclose((above - below) / (2 * h), expected, rel_tol=1e-7)


@pytest.mark.own_seeds  # whose density is within the grid
def test_a_density_integrates_to_one():
    net = invnet.Glow(2, 4, 1, 2, ndim=0, dtype="float64")
    for p in net.parameters():
        p.data += 0.2 * noise(*p.data.shape)
    axis = np.linspace(-12, 12, 401)
    X = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    total = np.exp(invnet.Flow(net, (2,)).log_prob(X)).sum() * (axis[1] - axis[0]) ** 2
    assert abs(total - 1) < 1e-3


def test_samples_have_the_density_that_comes_with_them():
    model = flow()
    X, log_density = model.sample_and_log_prob(50, seed=1)
    assert X.shape == (50, 3) and X.dtype == np.float64
    np.testing.assert_allclose(model.log_prob(X), log_density, rtol=1e-9, atol=1e-9)
    assert (model.sample(50, seed=1) == X).all() and (model.sample(50, seed=2) != X).any()


def test_temperature_scales_the_noise():
    model = invnet.Flow(invnet.Chain(), (2,))
    np.testing.assert_allclose(model.sample(5, temperature=0.5, seed=3), model.sample(5, seed=3) / 2, rtol=1e-6)
    assert (model.sample(5, temperature=0.0) == 0).all()


def test_a_flow_names_the_shape_that_it_takes():
    with pytest.raises(ValueError, match=r"\(N, 3\).*got \(2, 4\)"):
        flow().log_prob(np.zeros((2, 4)))


def test_an_unpickled_flow_samples_in_the_dtype_of_its_own_layer():
    model = flow()
    model.sample(1)
    model.layer = invnet.Glow(3, 4, 1, 2, ndim=0, dtype="float32")
    assert pickle.loads(pickle.dumps(model)).sample(1, seed=0).dtype == np.float32
