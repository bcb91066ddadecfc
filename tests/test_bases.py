"""Base distributions: densities and gradients against torch.distributions, samples against densities, errors."""

import math

import numpy as np
import pytest
import torch
from rewriting import functions, mutant
from scipy import stats
from torch import distributions as D

import invnet
from invnet.bases import DiagonalNormal, FullNormal, GaussianMixture, Normal, Uniform

f64 = {"dtype": "float64"}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def covariance(dimensions):
    A = numbers(dimensions, dimensions, seed=3)
    return A @ A.T + np.eye(dimensions)


def factor(L, log_s):
    return torch.tril(L, -1) + torch.diag(log_s.exp())


def mixture(means, log_s, logits):
    components = D.Independent(D.Normal(means, log_s.exp()), means.ndim - 1)
    return D.MixtureSameFamily(D.Categorical(logits=logits), components)


class FlatNormal(D.MultivariateNormal):
    """On arrays of any shape, as one vector each."""

    def __init__(self, mean, L, log_s):
        super().__init__(mean.flatten(), scale_tril=factor(L, log_s))

    def log_prob(self, Z):
        return super().log_prob(Z.flatten(1))


BASES = {  # name: (base, shape of Z, torch's own distribution of the state by name)
    "Normal": (Normal(), (5, 3, 2), lambda: D.Independent(D.Normal(torch.zeros(3, 2).double(), 1.0), 2)),
    "Uniform": (
        Uniform(-4, 5),
        (5, 3),
        lambda: D.Independent(D.Uniform(*torch.tensor([[-4.0], [5.0]]).double().expand(2, 3)), 1),
    ),
    "DiagonalNormal": (
        DiagonalNormal(numbers(3), np.exp(numbers(3, seed=1)), **f64),
        (5, 3),
        lambda mean, log_s: D.Independent(D.Normal(mean, log_s.exp()), 1),
    ),
    "DiagonalNormal, images": (
        DiagonalNormal(numbers(3, 2, 4), 0.7, **f64),
        (5, 3, 2, 4),
        lambda mean, log_s: D.Independent(D.Normal(mean, log_s.exp()), 3),
    ),
    "FullNormal": (FullNormal(numbers(3), covariance(3), **f64), (5, 3), FlatNormal),
    "FullNormal, images": (FullNormal(numbers(2, 3), covariance(6), **f64), (4, 2, 3), FlatNormal),
    "GaussianMixture": (
        GaussianMixture(numbers(4, 3), np.exp(numbers(4, 3, seed=1)), [1, 2, 3, 0.5], **f64),
        (5, 3),
        mixture,
    ),
    "GaussianMixture, images": (GaussianMixture(numbers(2, 3, 2), **f64), (5, 3, 2), mixture),
}


def leaves(base):
    return {name: torch.tensor(parameter.data, requires_grad=True) for name, parameter in base.named_parameters()}


def assert_close(found, expected):
    for name, want in expected.items():
        np.testing.assert_allclose(
            found[name], 0.0 if want is None else want.numpy(), rtol=1e-10, atol=1e-10, err_msg=name
        )


def check_log_prob(base, shape, make):
    """log_prob and its gradients, for random weights of the samples, are those of torch."""
    Z, weights, state = numbers(*shape, seed=5), numbers(shape[0], seed=6), leaves(base)
    z = torch.tensor(Z, requires_grad=True)
    expected = make(**state).log_prob(z)
    torch.autograd.backward(expected, torch.tensor(weights)) if expected.requires_grad else None
    base.zero_grad()
    found = {"log_prob": base.log_prob(Z), "dZ": base.log_prob_backward(weights, Z)}
    found.update((name, parameter.grad.copy()) for name, parameter in base.named_parameters())
    zeros = torch.zeros_like(z)
    assert_close(
        found,
        {
            "log_prob": expected.detach(),
            "dZ": zeros if z.grad is None else z.grad,
            **{name: leaf.grad for name, leaf in state.items()},
        },
    )


def check_sample(base, shape, make):
    """sample_backward is the gradient of torch's reparametrised samples, for the noise that gives these samples."""
    like, state = np.zeros(0), leaves(base)
    Z, dZ = base.sample(shape, np.random.default_rng(1), like), numbers(*shape, seed=2)
    E = torch.tensor(np.random.default_rng(1).standard_normal((shape[0], math.prod(shape[1:]))))
    if isinstance(base, FullNormal):
        z = state["mean"] + (E @ factor(state["L"], state["log_s"]).T).reshape(shape)
    else:
        z = state["mean"] + state["log_s"].exp() * E.reshape(shape)
    z.backward(torch.tensor(dZ))
    base.zero_grad()
    base.sample_backward(dZ, Z)
    found = {name: parameter.grad.copy() for name, parameter in base.named_parameters()}
    assert_close({"Z": Z, **found}, {"Z": z.detach(), **{name: leaf.grad for name, leaf in state.items()}})


@pytest.mark.parametrize("name", BASES)
def test_density_and_gradients_are_those_of_torch(name):
    check_log_prob(*BASES[name])


LEARNED_NORMALS = [name for name in BASES if name.startswith(("Diagonal", "Full"))]


@pytest.mark.parametrize("name", LEARNED_NORMALS)
def test_gradients_through_samples_are_those_of_torch(name):
    check_sample(*BASES[name])


@pytest.mark.parametrize("name", [name for name in BASES if "Normal" in name or "Mixture" in name])
def test_gradients_are_added_and_a_missing_weight_is_the_mean_likelihood(name):
    base, shape, _ = BASES[name]
    Z = numbers(*shape)
    base.zero_grad()
    dZ = base.log_prob_backward(None, Z)
    once = [parameter.grad.copy() for parameter in base.parameters()]
    np.testing.assert_allclose(base.log_prob_backward(-1 / shape[0], Z), dZ)
    for parameter, gradient in zip(base.parameters(), once):
        np.testing.assert_allclose(parameter.grad, 2 * gradient)


@pytest.mark.parametrize("name", BASES)
def test_samples_have_the_moments_of_torch_s(name):
    base, shape, make = BASES[name]
    N = 40000
    Z = base.sample((N, *shape[1:]), np.random.default_rng(0), np.zeros(0)).reshape(N, -1)
    torch.manual_seed(0)
    T = make(**leaves(base)).sample((N,)).numpy().reshape(N, -1)
    for z, t in zip(Z.T, T.T):
        assert stats.ks_2samp(z, t).pvalue > 1e-4
    np.testing.assert_allclose(np.cov(Z.T), np.cov(T.T), atol=0.04 * np.cov(T.T).max())


@pytest.mark.parametrize(
    "base",
    [
        Normal(),
        DiagonalNormal([0.3, -1], [0.5, 2], **f64),
        FullNormal([0.3, -1], [[2, 1.2], [1.2, 1]], **f64),
        Uniform(-2, 3),
        GaussianMixture([[1, 2], [-2, 0], [3, -3]], [[0.5, 1], [1, 0.3], [0.7, 0.7]], [1, 2, 3], **f64),
    ],
    ids=repr,
)
def test_a_density_in_two_dimensions_integrates_to_one_and_its_samples_follow_it(base):
    edges, cells = np.linspace(-9, 9, 37), 32
    axis = (np.arange(36 * cells) + 0.5) * 18 / (36 * cells) - 9
    X = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    p = np.exp(base.log_prob(X)).reshape(36, cells, 36, cells).sum(axis=(1, 3)) * (axis[1] - axis[0]) ** 2
    assert abs(p.sum() - 1) < 1e-3
    N = 20000
    Z = base.sample((N, 2), np.random.default_rng(0), np.zeros(0))
    counts = np.histogram2d(*Z.T, bins=[edges, edges])[0]
    likely = p > 5 / N
    observed, expected = (
        np.append(counts[likely], N - counts[likely].sum()),
        np.append(N * p[likely], N * (1 - p[likely].sum())),
    )
    assert expected[-1] < 5 or stats.chisquare(observed, expected * N / expected.sum()).pvalue > 1e-4


@pytest.mark.parametrize("name", BASES)
def test_temperature_zero_gives_the_centre(name):
    base, shape, _ = BASES[name]
    Z = base.sample(shape, np.random.default_rng(0), np.zeros(0), temperature=0.0)
    centres = {"mean": lambda: base.mean.data[None], "means": lambda: base.means.data}
    centre = next(
        (get() for attribute, get in centres.items() if hasattr(base, attribute)),
        np.full((1, *shape[1:]), np.median(Z)),
    )
    distances = abs(Z[:, None] - centre).reshape(len(Z), len(centre), -1).max(axis=2)
    assert distances.min(axis=1).max() < 1e-12


def test_what_is_not_learned_is_no_parameter_but_is_saved(tmp_path):
    for base in (
        DiagonalNormal([1, 2], learn=False),
        FullNormal([1, 2], learn=False),
        GaussianMixture([[1, 2], [3, 4]], learn=False),
    ):
        assert base.parameters() == [] and base.state_dict()
        base.log_prob_backward(None, numbers(3, 2).astype("float32"))
        base.sample_backward(numbers(3, 2), numbers(3, 2))
        invnet.save(invnet.Flow(invnet.ActNorm(2), (2,), base), tmp_path / "flow.safetensors")
        flow = invnet.load(tmp_path / "flow.safetensors")
        assert (flow.sample(4, seed=1) == invnet.Flow(invnet.ActNorm(2), (2,), base).sample(4, seed=1)).all()


@pytest.mark.parametrize(
    "base",
    [Normal(), DiagonalNormal([0, 0]), FullNormal([0, 0]), GaussianMixture([[0, 0], [1, 1]]), Uniform()],
    ids=repr,
)
def test_float32_is_kept(base):
    Z = base.sample((5, 2), np.random.default_rng(0), np.zeros(0, "float32"))
    assert Z.dtype == base.log_prob(Z).dtype == base.log_prob_backward(None, Z).dtype == "float32"
    assert {parameter.grad.dtype.name for parameter in base.parameters()} <= {"float32"}


def test_a_mixture_far_from_its_normals_neither_overflows_nor_underflows():
    base, Z = GaussianMixture([[0.0], [5.0]], 0.1, **f64), np.array([[1e4], [-1e4]])
    np.testing.assert_allclose(base.log_prob(Z)[0], stats.norm.logpdf(1e4, 5, 0.1) - math.log(2))
    assert np.isfinite(base.log_prob_backward(1.0, Z)).all()


def normals():
    return DiagonalNormal([0, 0]), np.zeros((3, 2), "float32")


MISTAKES = {
    "shape of Z": (lambda: normals()[0].log_prob(np.zeros((3, 4))), ValueError, r"DiagonalNormal.*\(N, 2\).*\(3, 4\)"),
    "shape of a sample": (
        lambda: FullNormal([0, 0]).sample((3, 4), np.random.default_rng(0), np.zeros(0)),
        ValueError,
        r"\(N, 2\).*\(3, 4\)",
    ),
    "dlog_prob": (
        lambda: normals()[0].log_prob_backward(np.zeros(2), normals()[1]),
        ValueError,
        r"dlog_prob.*\(3,\).*\(2,\)",
    ),
    "mean of no axes": (lambda: DiagonalNormal(0.0), ValueError, r"\(C, \*spatial\).*\(\)"),
    "mean that is NaN": (lambda: DiagonalNormal([math.nan, 0]), ValueError, "finite.*nan"),
    "std": (lambda: DiagonalNormal([0, 0], 0.0), ValueError, "std is positive.*0"),
    "shape of std": (lambda: DiagonalNormal([0, 0], [1, 1, 1]), ValueError, r"std.*\(2,\).*\(3,\)"),
    "shape of a covariance": (lambda: FullNormal([0, 0], np.eye(3)), ValueError, r"\(2, 2\).*\(3, 3\)"),
    "no covariance": (lambda: FullNormal([0, 0], [[1, 2], [2, 1]]), ValueError, "positive definite.*-1"),
    "asymmetric covariance": (lambda: FullNormal([0, 0], [[1, 0.5], [0, 1]]), ValueError, "symmetric"),
    "means of one normal": (lambda: GaussianMixture([0.0, 1.0]), ValueError, r"\(K, C, \*spatial\).*\(2,\)"),
    "weights": (lambda: GaussianMixture([[0, 0], [1, 1]], weights=[1, -1]), ValueError, "weights is positive.*-1"),
    "number of weights": (
        lambda: GaussianMixture([[0, 0], [1, 1]], weights=[1, 1, 1]),
        ValueError,
        r"weights.*\(2,\).*\(3,\)",
    ),
    "edges": (lambda: Uniform(1, 1), ValueError, "low lies below high.*1 and 1"),
    "dtype": (lambda: DiagonalNormal([0, 0], dtype="float16"), ValueError, "float16"),
    "base of another shape": (
        lambda: invnet.Flow(invnet.ActNorm(3), (3,), normals()[0]),
        ValueError,
        r"\(2,\).*\(3,\)",
    ),
    "base of another dtype": (
        lambda: invnet.Flow(invnet.ActNorm(2), (2,), DiagonalNormal([0, 0], learn=False, **f64)),
        ValueError,
        "float32 and float64",
    ),
    "no layer": (lambda: invnet.Flow(Normal(), (2,)), TypeError, r"Layer.*Normal\(\)"),
    "an unfinished base": (
        lambda: invnet.bases.Base().log_prob_backward(None, np.zeros((3, 2))),
        NotImplementedError,
        "Base needs log_prob_backward",
    ),
    "samples of a learned mixture": (
        lambda: GaussianMixture([[0, 0]]).sample_backward(np.zeros((1, 2)), np.zeros((1, 2))),
        NotImplementedError,
        "smooth",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_error_says_what_was_required_and_what_came(name):
    mistake, kind, text = MISTAKES[name]
    with pytest.raises(kind, match=text):
        mistake()


MUTATIONS = [  # function, piece, replacement, the base whose comparison must fail
    ("normal:Normal.log_prob_backward", "-for_each", "for_each", "Normal"),
    ("uniform:Uniform.log_prob_backward", "zeros_like(Z)", "copy(Z)", "Uniform"),
    ("normal:DiagonalNormal.log_prob_backward", "E * xp.exp(-self", "E * xp.exp(self", "DiagonalNormal"),
    ("normal:DiagonalNormal.log_prob_backward", "(E * E - 1)", "(E * E)", "DiagonalNormal"),
    ("normal:DiagonalNormal.log_prob_backward", "return -dmean", "return dmean", "DiagonalNormal"),
    ("normal:DiagonalNormal.sample_backward", "(Z - self.mean.data)", "Z", "DiagonalNormal"),
    ("normal:DiagonalNormal.sample_backward", "xp.sum(dZ, axis", "-xp.sum(dZ, axis", "DiagonalNormal"),
    ("normal:FullNormal.log_prob_backward", "(xp).T, E.T", "(xp), E.T", "FullNormal"),
    ("normal:FullNormal.log_prob_backward", "G.T @ E, xp", "E.T @ G, xp", "FullNormal"),
    ("normal:FullNormal.log_prob_backward", 'xp.sum(as_dlogdet(dlog_prob, Z, "dlog_prob")))', "0.0)", "FullNormal"),
    ("normal:FullNormal.log_prob_backward", "return -xp", "return xp", "FullNormal"),
    ("normal:FullNormal.sample_backward", "G.T @ self._noise(Z)", "self._noise(Z).T @ G", "FullNormal"),
    ("normal:FullNormal.sample_backward", "xp.sum(G, axis=0)", "-xp.sum(G, axis=0)", "FullNormal"),
    ("normal:FullNormal._add", "k=-1", "k=0", "FullNormal"),
    ("normal:FullNormal._add", " * xp.exp(self.log_s.data)", "", "FullNormal"),
    ("mixture:GaussianMixture.log_prob_backward", " / s", "", "GaussianMixture"),
    ("mixture:GaussianMixture.log_prob_backward", "dZ -= dmean", "dZ += dmean", "GaussianMixture"),
    ("mixture:GaussianMixture.log_prob_backward", "(E * E - 1)", "(E * E)", "GaussianMixture"),
    ("mixture:GaussianMixture.log_prob_backward", "(R - weights[:, None])", "R", "GaussianMixture"),
    ("mixture:GaussianMixture.log_prob_backward", " * for_each(R[k], Z)", "", "GaussianMixture"),
]


def compare(target, name):
    (check_sample if "sample_backward" in target else check_log_prob)(*BASES[name])
    if target.endswith("_add"):
        check_sample(*BASES[name])


@pytest.mark.parametrize("target, piece, replacement, name", MUTATIONS)
def test_a_broken_term_is_found(target, piece, replacement, name, monkeypatch):
    target = f"invnet.bases.{target}"
    monkeypatch.setattr(*mutant(target, piece, piece))
    compare(target, name)
    monkeypatch.setattr(*mutant(target, piece, replacement))
    with pytest.raises(AssertionError):
        compare(target, name)


def test_every_gradient_is_broken_at_least_once():
    broken = {target for target, *_ in MUTATIONS}
    for module in ("normal", "mixture", "uniform"):
        for path, source in functions(f"invnet.bases.{module}").items():
            trivial = source.rstrip().endswith(":\n        pass") or "raise NotImplementedError" in source
            assert trivial or not path.endswith("_backward") or f"{module}:{path}" in broken, path
