"""The words of RxInfer's tutorial: what they compile to, golden values of the original, its mistakes as errors."""

import math

import numpy as np
import pytest
from stable_rng import StableRNG
from tutorial import flow

import invnet
from invnet.inference import pushforward
from invnet.inference import tutorial as rx
from invnet.testing import check_layer

PLANAR, RADIAL = rx.PlanarFlow(), rx.RadialFlow()


def coupling(flow=PLANAR, permute=False, **options):
    return rx.AdditiveCouplingLayer(flow, permute=permute, **options)


def test_the_generator_is_that_of_the_original():
    assert StableRNG(321).integer(1, 1000) == 819
    np.testing.assert_allclose(StableRNG(42).normals(2), [-0.6702516921145671, 0.4471218424633827], rtol=1e-15)


def test_a_radial_coupling():
    model = rx.compile(rx.FlowModel(2, (coupling(RADIAL),)), [0.2, 0.7, -1.1])
    np.testing.assert_allclose(rx.forward(model, [1, 2]), [1, 2.413333333333333], rtol=1e-14)
    np.testing.assert_allclose(rx.jacobian(model, [1, 2]), [[1, 0], [0.6577777777777778, 1]], rtol=1e-14)


def test_the_tutorials_flow():
    np.testing.assert_allclose(rx.forward(flow(), [1.5, 0.5]), [1.299879371751579, 2.455264332829879], rtol=1e-14)


def reference(x, params, permutation):
    """Two couplings of planar maps of one coordinate, written out."""
    d, at = len(x), 0
    for k in range(2):
        y = x.copy()
        for i in range(1, d):
            u, w, b = params[at : at + 3]
            y[i] = x[i] + x[i - 1] + u * math.tanh(w * x[i - 1] + b)
            at += 3
        x = y[list(permutation)] if k == 0 else y
    return x


@pytest.mark.parametrize("dim", [2, 3, 7])
def test_any_dimension(dim):
    model = rx.FlowModel(dim, (coupling(permute=True), coupling()), seed=dim)
    assert rx.nr_params(model) == 2 * 3 * (dim - 1)
    rng = np.random.default_rng(dim)
    params, x = rng.standard_normal(rx.nr_params(model)), rng.standard_normal(dim)
    compiled = rx.compile(model, params)
    np.testing.assert_allclose(rx.forward(compiled, x), reference(x, params, model.layers[1].order), rtol=1e-13)
    np.testing.assert_allclose(rx.backward(compiled, rx.forward(compiled, x)), x, atol=1e-12)


def test_the_inverse_jacobian_of_a_coupling_in_closed_form():
    """Entry (i, j) below the diagonal is the product of -t'_m(x_m), m from j to i - 1."""
    rng = np.random.default_rng(0)
    params, x = rng.standard_normal(9), rng.standard_normal(4)
    model = rx.compile(rx.FlowModel(4, coupling()), params)
    slopes = [1 + u * w * (1 - math.tanh(w * x[m] + b) ** 2) for m, (u, w, b) in enumerate(params.reshape(3, 3))]
    expected = [[math.prod(-slope for slope in slopes[j:i]) if j <= i else 0.0 for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(rx.inv_jacobian(model, rx.forward(model, x)), expected, atol=1e-12)


@pytest.mark.parametrize("flow, size", [(PLANAR, 2), (PLANAR, 3), (RADIAL, 2), (RADIAL, 1)])
def test_parts_of_several_coordinates(flow, size):
    model = rx.FlowModel(6, (coupling(flow, permute=True, partition_dim=size), coupling(flow, partition_dim=size)))
    assert rx.nr_params(model) == 2 * (6 // size - 1) * (2 * size + 1 if flow is PLANAR else size + 2)
    compiled = rx.compile(model, seed=1)
    check_layer(compiled, np.random.default_rng(0).standard_normal((3, 6)))


def test_a_compiled_model_is_a_layer():
    model = rx.FlowModel(
        (rx.InputLayer(3), coupling(permute=True), coupling(RADIAL, permute=True), rx.PermutationLayer(), coupling())
    )
    layer = rx.compile(model, seed=1)
    X = np.random.default_rng(0).standard_normal((4, 3))
    check_layer(layer, X)
    check_layer(invnet.Reverse(layer), X)
    Z, _ = layer.forward(X)
    dX, back = layer.backward(np.ones_like(Z), Z)
    assert isinstance(layer, invnet.Chain) and dX.shape == (4, 3)
    np.testing.assert_allclose(back, X, atol=1e-12)


def test_a_compiled_model_in_a_file(tmp_path):
    invnet.save(flow(), tmp_path / "flow.safetensors")
    X = np.random.default_rng(0).standard_normal((4, 2))
    assert np.array_equal(invnet.load(tmp_path / "flow.safetensors").forward(X)[0], flow().forward(X)[0])


def test_maps_of_one_vector_and_of_many():
    model = rx.compile(rx.FlowModel(3, (coupling(permute=True), coupling(RADIAL))), seed=2)
    x = np.random.default_rng(0).standard_normal((2, 4, 3))
    y, J = rx.forward_jacobian(model, x)
    back, K = rx.backward_inv_jacobian(model, y)
    np.testing.assert_allclose(back, x, atol=1e-12)
    np.testing.assert_allclose(J @ K, np.broadcast_to(np.eye(3), (2, 4, 3, 3)), atol=1e-11)
    np.testing.assert_allclose(J[1, 2], rx.jacobian(model, x[1, 2]), atol=1e-14)
    assert rx.logdet(model, x[0, 0]).shape == () and rx.det(model, x).shape == (2, 4)


def test_determinants():
    """Of a swap the determinant is -1, at whose logarithm the original throws."""
    model = rx.compile(rx.FlowModel(2, (coupling(permute=True), coupling())), seed=1)
    x = [0.3, -0.2]
    y = rx.forward(model, x)
    assert rx.det(model, x) == pytest.approx(-1) and rx.inv_det(model, y) == pytest.approx(-1)
    for function, at in ((rx.absdet, x), (rx.inv_absdet, y)):
        assert function(model, at) == pytest.approx(1)
    for function, at in ((rx.logdet, x), (rx.logabsdet, x), (rx.inv_logdet, y), (rx.inv_logabsdet, y)):
        assert function(model, at) == pytest.approx(0, abs=1e-15)


def test_permutations_that_are_drawn_move_the_first_coordinate():
    for dim in (2, 3, 6):
        orders = [rx.PermutationLayer.random(dim, np.random.default_rng(seed)).order for seed in range(60)]
        assert all(order[0] != 0 and sorted(order) == list(range(dim)) for order in orders)
        assert len(set(orders)) == 1 if dim == 2 else len(set(orders)) > 2
    assert [layer.order for layer in rx.FlowModel(2, coupling(permute=True)).layers[1:]] == [(1, 0)]


def test_a_permutation_by_its_matrix():
    P = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert rx.PermutationLayer(P) == rx.PermutationLayer([1, 2, 0])
    model = rx.compile(rx.FlowModel(3, rx.PermutationLayer(P)))
    np.testing.assert_array_equal(rx.forward(model, [1, 2, 3]), P @ [1, 2, 3])


def test_parameters_at_random_depend_on_the_seed():
    model = rx.FlowModel(3, (coupling(), coupling(RADIAL)))
    a, b, again = (np.concatenate([p.data for p in rx.compile(model, seed=seed).parameters()]) for seed in (0, 1, 0))
    assert np.array_equal(a, again) and not np.array_equal(a, b) and len(a) == rx.nr_params(model)


def test_methods():
    C = np.array([[0.3, 0.1], [0.1, 0.2]])
    assert pushforward(flow(), [1.5, 0.5], C, rx.Linearization()).cov[0, 0] == pytest.approx(0.6558, abs=5e-5)
    assert pushforward(flow(), [1.5, 0.5], C, rx.Unscented(2)).cov[0, 0] == pytest.approx(0.6563, abs=5e-5)


TWO = rx.FlowModel(2, coupling())
MISTAKES = {
    "uncompiled": (lambda: rx.forward(TWO, [0, 0]), TypeError, r"compile\(model\)"),
    "no dimension": (lambda: rx.FlowModel((coupling(),)), ValueError, "has a dimension"),
    "one dimension": (lambda: rx.FlowModel(1, coupling()), ValueError, "at least 2 dimensions; got 1"),
    "a layer of another kind": (
        lambda: rx.FlowModel(2, invnet.ActNorm(2)),
        TypeError,
        "AdditiveCouplingLayers and PermutationLayers",
    ),
    "parts": (lambda: rx.FlowModel(5, coupling(partition_dim=2)), ValueError, "parts of 2 coordinates; got 5"),
    "one part": (lambda: rx.FlowModel(4, coupling(partition_dim=4)), ValueError, "at least two parts"),
    "indices": (lambda: rx.FlowModel(3, rx.PermutationLayer([1, 0])), ValueError, "3 dimensions.*(1, 0)"),
    "no permutation": (lambda: rx.PermutationLayer([0, 0]), ValueError, "each once"),
    "no permutation matrix": (lambda: rx.PermutationLayer([[1, 1], [0, 1]]), ValueError, "one 1 in each row"),
    "too few parameters": (lambda: rx.compile(TWO, [1.0, 2.0]), ValueError, r"3 parameters.*\(2,\)"),
    "parameters not finite": (
        lambda: rx.compile(TWO, [1.0, np.nan, 0.0]),
        ValueError,
        "params has values that are not finite",
    ),
    "alpha": (
        lambda: rx.compile(rx.FlowModel(2, coupling(RADIAL)), [0.0, -0.5, 1.0]),
        ValueError,
        "alpha.*positive; got -0.5",
    ),
    "dimension of a vector": (lambda: rx.forward(flow(), [1.0, 2.0, 3.0]), ValueError, "2 parts|2 channels|has 2"),
    "a vector not finite": (lambda: rx.jacobian(flow(), [np.inf, 0.0]), ValueError, "not finite"),
}


@pytest.mark.parametrize("mistake, error, text", MISTAKES.values(), ids=MISTAKES)
def test_mistakes(mistake, error, text):
    with pytest.raises(error, match=text):
        mistake()
