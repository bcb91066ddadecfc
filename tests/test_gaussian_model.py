"""FlowGaussianModel: the tutorial's numbers, a free energy that never rises, the exact posterior, learning the
network.
"""

import math

import numpy as np
import pytest
from rewriting import mutant
from scipy.stats import wishart
from tutorial import EYE, HUGE, flow, gaussian_model, latent, observations

import invnet
from invnet.inference import Cubature, FlowGaussianModel, Gaussian, Linear, Unscented, Wishart, collapsed
from invnet.inference.collapsed import collapsed_free_energy
from invnet.inference.jacobians import forward_and_jacobian
from invnet.inference.tutorial import backward

SENSIBLE = {"noise": 1e-4, "mean_cov": 100.0, "df": 4, "scale": 0.25}


def test_the_latent_vectors_are_the_tutorials():
    np.testing.assert_allclose(latent().mean(axis=0), [1.44974, 0.51843], atol=5e-6)
    np.testing.assert_allclose(
        flow().forward(np.array([[1.5, 0.5]]))[0][0], [1.299879371751579, 2.455264332829879], rtol=1e-14
    )


def test_the_free_energies_that_the_tutorial_prints():
    """29485.3, 23762.9 and 23570.6, which then stays: they fix the schedule and every constant."""
    model = gaussian_model().fit(observations(), sweeps=10, tol=0.0)
    F = model.free_energy
    assert [round(value, 1) for value in F[:3]] == [29485.3, 23762.9, 23570.6]
    assert all(round(value, 1) == 23570.6 for value in F[3:]) and len(F) > 3
    np.testing.assert_allclose(F[:4], [29485.2530, 23762.9291, 23570.5875, 23570.5870], atol=6e-5)
    terms = {
        "energy of x": 22562.641,
        "energy of y": -24793.144,
        "entropy of x": 24793.144,
        "energy of mu": 29.469,
        "entropy of mu": -16.652,
        "energy of lambda": 927.545,
        "entropy of lambda": 67.584,
    }
    assert model.terms[-1] == pytest.approx(terms, abs=6e-4)
    assert math.fsum(model.terms[-1].values()) == F[-1]


def test_the_posterior_under_the_tutorials_poor_prior():
    """Its Wishart says that the precision is some 1e-12, and a thousand points do not outweigh that."""
    model = gaussian_model().fit(observations())
    np.testing.assert_allclose(model.q_lambda.mean, 1.001e-9 * EYE, rtol=1e-6, atol=1e-18)
    np.testing.assert_allclose(model.q_mu.mean, [1.44974, 0.51843], atol=5e-6)
    assert model.q_mu.cov[0, 0] ** 0.5 == pytest.approx(999.5, abs=0.1)


def test_a_vague_prior_gives_the_statistics_of_the_sample():
    X = latent()
    model = gaussian_model(scale=HUGE).fit(observations())
    assert model.free_energy[-1] == pytest.approx(2889.0024, abs=6e-5)
    np.testing.assert_allclose(model.q_lambda.mean, [[1.064, 0.057], [0.057, 1.040]], atol=6e-4)
    off = X - X.mean(axis=0)
    np.testing.assert_allclose(model.q_lambda.mean, 1001 * np.linalg.inv(off.T @ off), rtol=1e-6)
    np.testing.assert_allclose(model.q_mu.mean, X.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(model.q_x.mean, X, atol=1e-9)
    np.testing.assert_allclose(model.q_mu.mean, [1.5, 0.5], atol=0.12)


def test_the_free_energies_of_a_sensible_prior():
    F = gaussian_model(noise=1e-6, mean_cov=100.0, df=4, scale=0.25).fit(observations(), tol=0.0).free_energy
    np.testing.assert_allclose([*F[:3], F[-1]], [6499.6232, 2814.8666, 2809.9845, 2809.9845], atol=6e-5)


@pytest.mark.parametrize("method", [Linear(), Unscented()], ids=["linear", "unscented"])
def test_noisy_observations(method):
    Y = observations(noise=0.05)
    model = gaussian_model(noise=0.05, mean_cov=100.0, df=4, scale=0.25, method=method).fit(Y, 60, 0.0)
    np.testing.assert_allclose(model.q_mu.mean, latent().mean(axis=0), atol=0.08)
    np.testing.assert_allclose(np.linalg.inv(model.q_lambda.mean), np.cov(latent().T), atol=0.12)
    error = lambda X: np.sqrt(np.mean((X - latent()) ** 2))
    assert error(model.q_x.mean) < 0.97 * error(backward(flow(), Y))  # what the law of x adds to each observation


PRIORS = {
    "the tutorial's": {},
    "vague": {"scale": HUGE},
    "sensible": SENSIBLE,
    "loud": {**SENSIBLE, "noise": 0.05},
    "wrong and narrow": {"noise": 0.01, "mean_cov": 1e-3, "df": 50, "scale": 10.0},
}


@pytest.mark.parametrize("method", [Linear(), Unscented(), Cubature()], ids=["linear", "unscented", "cubature"])
@pytest.mark.parametrize("prior", PRIORS)
def test_no_update_raises_the_free_energy(prior, method):
    options = PRIORS[prior]
    model = gaussian_model(**options, method=method)
    model.observe(observations(200, options.get("noise", 0.0)))
    model.update_x()
    F = [math.fsum(model.free_energy_terms().values())]
    for _ in range(15):
        for update in (model.update_lambda, model.update_mu, model.update_x):
            update()
            F.append(math.fsum(model.free_energy_terms().values()))
    assert F[-1] < F[0] and max(np.diff(F)) < 1e-9 * abs(F[0])


@pytest.mark.parametrize("what", ["mean of mu", "covariance of mu", "df", "scale", "mean of x", "covariance of x"])
def test_the_free_energy_is_least_at_the_posterior(what):
    """Away from it, in any direction, it rises: what the updates end at is an optimum of all factors."""
    model = gaussian_model(**{**SENSIBLE, "noise": 0.05}).fit(observations(50, 0.05), 500, 1e-15)
    model.update_x()
    F = math.fsum(model.free_energy_terms().values())
    rng = np.random.default_rng(0)
    for e in (0.02, -0.02):
        q_mu, q_lambda, shift, cov = model.q_mu, model.q_lambda, model._x_shift, model._x_cov
        symmetric = np.diag(rng.standard_normal(2))
        if what == "mean of mu":
            model.q_mu = Gaussian(q_mu.mean + e * rng.standard_normal(2), q_mu.cov)
        elif what == "covariance of mu":
            model.q_mu = Gaussian(q_mu.mean, q_mu.cov * (1 + e))
        elif what == "df":
            model.q_lambda = Wishart(q_lambda.df * (1 + e), q_lambda.scale)
        elif what == "scale":
            model.q_lambda = Wishart(q_lambda.df, q_lambda.scale + e * 1e-2 * symmetric)
        elif what == "mean of x":
            model._x_shift = shift + e * rng.standard_normal(shift.shape)
        else:
            model._x_cov = cov * (1 + e)
        assert math.fsum(model.free_energy_terms().values()) > F
        model.q_mu, model.q_lambda, model._x_shift, model._x_cov = q_mu, q_lambda, shift, cov


def test_the_collapsed_free_energy_is_the_sum_of_terms():
    Y = observations(100, 0.05)
    model = gaussian_model(**{**SENSIBLE, "noise": 0.05}).fit(Y, 500, 1e-15)
    model.update_x()
    F = collapsed_free_energy(model.net, Y, model.noise, model.mean, model.precision, model.q_mu, model.q_lambda)
    assert F == pytest.approx(math.fsum(model.free_energy_terms().values()), abs=1e-9)


def gibbs(net, Y, noise, mean, precision, steps, rng):
    """Samples of mu, Lambda and of the mean of all x from the exact posterior: Gibbs for mu and Lambda, Metropolis for
    x.
    """
    X, N = backward(net, Y), len(Y)
    mu, kept = X.mean(axis=0), []
    log_y = lambda X: -0.5 * np.sum((Y - net.forward(X)[0]) ** 2, axis=1) / noise
    log_p = log_y(X)
    V0_inverse, S0_inverse = np.linalg.inv(mean.cov), np.linalg.inv(precision.scale)
    for _ in range(steps):
        off = X - mu
        P = wishart.rvs(precision.df + N, np.linalg.inv(S0_inverse + off.T @ off), random_state=rng)
        V = np.linalg.inv(V0_inverse + N * P)
        mu = rng.multivariate_normal(V @ (V0_inverse @ mean.mean + P @ X.sum(axis=0)), V)
        for _ in range(2):
            proposed = X + 1.2 * noise**0.5 * rng.standard_normal(X.shape)
            log_q = log_y(proposed)
            ratio = (
                log_q
                - log_p
                - 0.5 * (((proposed - mu) @ P) * (proposed - mu)).sum(axis=1)
                + 0.5 * (((X - mu) @ P) * (X - mu)).sum(axis=1)
            )
            accepted = np.log(rng.random(N)) < ratio
            X, log_p = np.where(accepted[:, None], proposed, X), np.where(accepted, log_q, log_p)
        kept.append((mu, P[np.triu_indices(2)], X[:3].ravel()))
    return [np.array(each) for each in zip(*kept)]


@pytest.mark.exhaustive
def test_the_posterior_is_that_of_long_sampling():
    """30 observations, noise of deviation 0.05: mean field and the tangent cost little here."""
    noise, Y = 2.5e-3, observations(30, 2.5e-3)
    model = gaussian_model(**{**SENSIBLE, "noise": noise}).fit(Y, 200, 1e-13)
    mu, P, X = (
        samples[300:]
        for samples in gibbs(flow(), Y, noise, model.mean, model.precision, 4300, np.random.default_rng(1))
    )
    sd = mu.std(axis=0)
    np.testing.assert_allclose(model.q_mu.mean, mu.mean(axis=0), atol=0.15 * sd.max())
    np.testing.assert_allclose(np.diag(model.q_mu.cov) ** 0.5, sd, rtol=0.12)
    np.testing.assert_allclose(model.q_lambda.mean[np.triu_indices(2)], P.mean(axis=0), atol=0.15 * P.std(axis=0).max())
    np.testing.assert_allclose(model.q_x.mean[:3].ravel(), X.mean(axis=0), atol=0.35 * X.std(axis=0).max())
    np.testing.assert_allclose(
        np.sqrt(np.diagonal(model.q_x.cov, axis1=1, axis2=2))[:3].ravel(), X.std(axis=0), rtol=0.25
    )


def test_tangents_at_the_posterior_lead_to_modes():
    """There the exact log density of each x, given mu and Lambda, has no slope; at the tangents of g^-1(y) it has."""
    Y, noise = observations(100, 0.05), 0.05
    model = gaussian_model(**{**SENSIBLE, "noise": noise}).fit(Y, 60)

    def slopes():
        a = model.q_x.mean
        Z, J = forward_and_jacobian(model.net, a)
        return (model.q_mu.mean - a) @ model.q_lambda.mean + np.einsum("nij,ni->nj", J, Y - Z) / noise

    assert abs(slopes()).max() > 0.1
    for _ in range(30):
        model.relinearise()
        model.sweep(20)
    model.update_x()
    assert abs(slopes()).max() < 1e-6


# ---- prediction


def test_the_predictive_density_integrates_to_one():
    model = gaussian_model(**{**SENSIBLE, "noise": 0.01}).fit(observations(60, 0.01))
    box = [(-4, 6.5), (-5, 14)]
    axes = [np.linspace(*each, 400) for each in box]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.exp(model.log_prob(grid)).sum() * np.prod([axis[1] - axis[0] for axis in axes])
    assert mass == pytest.approx(1, abs=0.01)


def test_the_predictive_density_is_that_of_the_samples():
    """Without noise, many observations: that of the normal law of x through the flow."""
    model = gaussian_model(noise=1e-9, scale=HUGE).fit(observations())
    X, Y = latent(), observations()
    law = Gaussian(X.mean(axis=0), np.cov(X.T))
    expected = -law.cross_entropy(X, np.zeros((1000, 2, 2)))
    np.testing.assert_allclose(model.log_prob(Y), expected, atol=0.02)
    drawn = backward(flow(), model.sample(20_000, seed=0))
    np.testing.assert_allclose(drawn.mean(axis=0), X.mean(axis=0), atol=0.04)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(X.T), atol=0.05)
    assert np.array_equal(model.sample(5, seed=1), model.sample(5, seed=1))


def test_outputs_without_their_noise():
    Y = observations(200, 0.05)
    model = gaussian_model(**{**SENSIBLE, "noise": 0.05}).fit(Y)
    assert np.mean((model.q_y.mean - observations(200)) ** 2) < np.mean((Y - observations(200)) ** 2)


# ---- any network


def of_three(make, **options):
    """A model of three dimensions through a network that changes volumes, and observations."""
    net, rng = make(3, 5, 2, activation="silu", dtype="float64", **options), np.random.default_rng(0)
    for parameter in net.parameters():
        parameter.data += 0.3 * rng.standard_normal(parameter.data.shape)
    prior = Gaussian(np.zeros(3), 10 * np.eye(3)), Wishart(4, np.eye(3) / 4)
    return FlowGaussianModel(net, 0.02 * np.eye(3), *prior), rng.standard_normal((30, 3))


@pytest.mark.parametrize(
    "make, options", [(invnet.RealNVP, {}), (invnet.NSF, {"bins": 3, "bound": 4.0, "actnorm": True, "mix": "lu"})]
)
def test_any_network_of_any_dimension(make, options):
    model, Y = of_three(make, **options)
    F = model.fit(Y, 30, 0.0).free_energy
    assert max(np.diff(F)) < 1e-9 * abs(F[0])
    check_gradient(model, Y)


def check_gradient(model, Y, parameters=None):
    """The gradient with the posteriors held is that of differences of the free energy of refitted posteriors."""
    net, rng = model.net, np.random.default_rng(3)

    def refitted():
        model.fit(Y, 3000, 1e-15)
        return model.free_energy[-1]

    net.zero_grad()
    refitted()
    collapsed.collapsed_free_energy(net, Y, model.noise, model.mean, model.precision, model.q_mu, model.q_lambda)
    gradients = [parameter.grad.copy() for parameter in net.parameters()]
    directions = [rng.standard_normal(gradient.shape) for gradient in gradients]
    start = [parameter.data.copy() for parameter in net.parameters()]

    def at(step):
        for parameter, data, direction in zip(net.parameters(), start, directions):
            parameter.data[...] = data + step * direction
        return refitted()

    difference = (at(1e-5) - at(-1e-5)) / 2e-5
    at(0.0)
    got = sum(np.sum(gradient * direction) for gradient, direction in zip(gradients, directions))
    assert got == pytest.approx(difference, rel=1e-5, abs=1e-4)  # of differences of 1e-5


@pytest.mark.parametrize("noise", [0.05, 1e-4])
def test_the_gradient_of_the_tutorials_flow(noise):
    check_gradient(gaussian_model(**{**SENSIBLE, "noise": noise}), observations(40, noise))


MUTATIONS = [
    ("collapsed:collapsed_free_energy", piece, wrong)
    for piece, wrong in (
        ("net.inverse_backward(h.astype(dtype), X, -1.0)", "net.inverse_backward(h.astype(dtype), X, 0.0)"),
        ("net.inverse_backward(h.astype(dtype), X, -1.0)", "net.inverse_backward(0 * h.astype(dtype), X, -1.0)"),
        (" - outer(h)", ""),
        ("(S_inverse - outer(h)) @ K @ noise", "0 * K"),
        ("@ K @ noise\n", "@ K\n"),
    )
] + [
    ("jacobians:tangents_added", "parameter.add(gradient", "parameter.add(-gradient"),
]


@pytest.mark.parametrize("target, piece, wrong", MUTATIONS, ids=lambda value: value)
def test_a_broken_gradient_is_found(target, piece, wrong, monkeypatch):
    def patch(replacement):
        _, name, function = mutant(f"invnet.inference.{target}", piece, replacement)
        monkeypatch.setattr(collapsed, name, function)

    patch(piece)
    check_gradient(*of_three(invnet.RealNVP))
    patch(wrong)
    with pytest.raises(AssertionError):
        check_gradient(*of_three(invnet.RealNVP))


@pytest.mark.parametrize(
    "method, piece, wrong",
    [
        ("update_x", "np.linalg.inv(P + precision)", "np.linalg.inv(P + 2 * precision)"),
        ("update_x", "self.q_mu.mean - point", "point"),
        ("update_lambda", " + len(self._x_cov)", ""),
        ("update_lambda", " + self._scatter()", ""),
        ("update_mu", "n * P", "P"),
        ("update_mu", "P @ self._x_mean.sum(axis=0)", "self._x_mean.sum(axis=0)"),
        ("_scatter", "self._x_cov.sum(axis=0) + ", ""),
        ("_scatter", "len(off) * self.q_mu.cov + ", ""),
        ("free_energy_terms", '"energy of mu": self', '"energy of mu": 2 * self'),
    ],
)
def test_a_broken_update_is_found(method, piece, wrong, monkeypatch):
    monkeypatch.setattr(*mutant(f"invnet.inference.gaussian_model:FlowGaussianModel.{method}", piece, wrong))
    with pytest.raises(AssertionError):
        for prior in ("sensible", "loud", "wrong and narrow"):
            test_no_update_raises_the_free_energy(prior, Linear())
            test_the_free_energies_that_the_tutorial_prints()


# ---- learning


@pytest.mark.exhaustive
def test_learning_the_flow_reaches_the_free_energy_of_the_true_one():
    """From the best of three starts."""
    options, Y = {**SENSIBLE, "noise": 0.01}, observations(150, 0.01)
    true, values = gaussian_model(**options).fit(Y, 200).free_energy[-1], []
    for seed in range(3):
        rng, net = np.random.default_rng(seed), flow()
        for parameter in net.parameters():
            parameter.data[...] = rng.standard_normal(parameter.data.shape)
        model = gaussian_model(net, **options)
        start = model.fit(Y).free_energy[-1]
        minimum = model.fit_network(Y)
        values.append(minimum.value)
        assert minimum.value < start
        assert model.free_energy[-1] == pytest.approx(minimum.value, abs=1e-5)
        assert minimum.history[0][0] == pytest.approx(start, abs=1e-5)
    assert min(values) <= true


def test_learning_goes_on_where_a_step_leads_too_far(monkeypatch):
    """Parameters at which the network overflows are a wall, not an error."""
    options, Y = {**SENSIBLE, "noise": 0.01}, observations(20, 0.01)
    net = flow()
    model, calls = gaussian_model(net, **options), []
    start = model.fit(Y).free_energy[-1]
    fit = FlowGaussianModel.fit

    def failing(self, *how, **options):
        calls.append(1)
        if len(calls) == 3:
            raise FloatingPointError("overflow")
        return fit(self, *how, **options)

    monkeypatch.setattr(FlowGaussianModel, "fit", failing)
    assert model.fit_network(Y, iterations=10).value < start


# ---- mistakes

PRIOR = Gaussian(np.zeros(2), EYE), Wishart(3, EYE)


def broken_flow():
    net = flow()
    net.parameters()[0].data[...] = np.nan
    return net


MISTAKES = {
    "noise is no covariance": (
        lambda: FlowGaussianModel(flow(), -EYE, *PRIOR),
        ValueError,
        "the noise is positive definite",
    ),
    "noise of another dimension": (
        lambda: FlowGaussianModel(flow(), np.eye(3), *PRIOR),
        ValueError,
        r"the noise has shape.*\(3, 3\)",
    ),
    "prior of another dimension": (
        lambda: FlowGaussianModel(flow(), EYE, PRIOR[0], Wishart(4, np.eye(3))),
        ValueError,
        r"Wishart.*\(3, 3\)",
    ),
    "a prior that is none": (
        lambda: FlowGaussianModel(flow(), EYE, np.zeros(2), PRIOR[1]),
        TypeError,
        "a Gaussian of mu",
    ),
    "degrees of freedom": (lambda: Wishart(1.0, EYE), ValueError, "above D - 1.*1.0"),
    "scale": (lambda: Wishart(3, -EYE), ValueError, "scale is positive definite"),
    "scales": (lambda: Wishart(3, np.stack([EYE, EYE])), ValueError, r"\(2, 2, 2\)"),
    "covariance of a prior": (lambda: Gaussian(np.zeros(2), [[1, 2], [2, 1]]), ValueError, "positive definite.*-1"),
    "mean of a prior": (lambda: Gaussian([np.inf, 0], EYE), ValueError, "not finite"),
    "observations": (lambda: gaussian_model().fit(np.zeros((4, 3))), ValueError, r"\(\.\.\., 2\); got \(4, 3\)"),
    "one observation as a vector": (lambda: gaussian_model().fit(np.zeros(2)), ValueError, r"\(N, 2\)"),
    "no observations": (lambda: gaussian_model().fit(np.zeros((0, 2))), ValueError, "at least 1"),
    "observations not finite": (lambda: gaussian_model().fit(np.full((3, 2), np.nan)), ValueError, "Y has values"),
    "parameters not finite": (
        lambda: gaussian_model(broken_flow()).fit(np.zeros((3, 2))),
        FloatingPointError,
        "layers.0.nets.0.u",
    ),
    "learning by points": (
        lambda: gaussian_model(method="unscented").fit_network(observations(5)),
        ValueError,
        "linear.*Unscented",
    ),
    "learning from what is not finite": (
        lambda: gaussian_model().fit_network(np.full((3, 2), np.inf)),
        ValueError,
        "Y has values",
    ),
    "prediction from nothing": (lambda: gaussian_model().log_prob(np.zeros((1, 2))), ValueError, "fit to more"),
}


@pytest.mark.parametrize("mistake, error, text", MISTAKES.values(), ids=MISTAKES)
def test_mistakes(mistake, error, text):
    with pytest.raises(error, match=text):
        mistake()


def test_the_entropies_are_scipys():
    scale = np.array([[0.5, 0.1], [0.1, 0.3]])
    assert Wishart(5.5, scale).entropy() == pytest.approx(wishart(5.5, scale).entropy(), rel=1e-12)
    samples = wishart.rvs(5.5, scale, 20_000, random_state=0)
    assert np.mean(np.linalg.slogdet(samples)[1]) == pytest.approx(Wishart(5.5, scale).expected_logdet(), abs=0.02)
    expected = -np.mean(wishart(7.0, EYE).logpdf(np.moveaxis(samples, 0, -1)))
    assert Wishart(7.0, EYE).cross_entropy(Wishart(5.5, scale)) == pytest.approx(expected, abs=0.05)
