"""Integer labels as the condition of a model with `classes`."""

import numpy as np
import pytest
import torch

import invnet

MODELS = {
    "Glow": (lambda **options: invnet.Glow(2, 8, 2, 1, seed=0, **options), (2, 4, 4)),
    "RealNVP": (lambda **options: invnet.RealNVP(3, 8, 2, seed=0, **options), (3,)),
    "MAF": (lambda **options: invnet.MAF(3, 8, 2, seed=0, **options), (3,)),
    "IAF": (lambda **options: invnet.IAF(3, 8, 2, seed=0, **options), (3,)),
    "NSF": (lambda **options: invnet.NSF(3, 8, 2, seed=0, **options), (3,)),
    "NSF autoregressive": (lambda **options: invnet.NSF(3, 8, 2, seed=0, autoregressive="forward", **options), (3,)),
}


@pytest.fixture(params=MODELS)
def pair(request, rng):
    """A model with classes=4, the same one with cond_channels=4, samples and their labels."""
    make, shape = MODELS[request.param]
    model, twin = make(classes=4), make(cond_channels=4)
    for p, q in zip(model.parameters(), twin.parameters()):
        p.data += 0.1 * rng.normal(size=p.data.shape).astype("f")
        q.data[...] = p.data
    return model, twin, rng.normal(size=(6, *shape)).astype("f"), np.array([0, 3, 1, 1, 2, 0])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_labels_are_one_hot_rows(pair, kind):
    model, twin, X, labels = pair
    labels, rows = labels.astype(kind), np.eye(4)[labels]
    (Z, logdet), (Z2, logdet2) = model.forward(X, labels), twin.forward(X, rows)
    assert np.array_equal(Z, Z2) and np.array_equal(logdet, logdet2)
    assert not np.array_equal(Z, model.forward(X, (labels + 1) % 4)[0])
    Z, _ = model.forward(X, labels)  # the pass whose backward follows
    for found, expected in zip(model.backward(Z, Z, cond=labels), twin.backward(Z2, Z2, cond=rows)):
        assert np.array_equal(found, expected)
    assert all(np.array_equal(p.grad, q.grad) for p, q in zip(model.parameters(), twin.parameters()))
    assert np.array_equal(model.inverse(Z, labels), twin.inverse(Z2, rows))


def test_one_label_serves_all_samples(pair):
    model, _, X, _ = pair
    Z, _ = model.forward(X, np.array([2]))
    assert np.array_equal(Z, model.forward(X, np.full(6, 2))[0])


def test_a_flow_samples_for_labels(pair):
    model, twin, X, labels = pair
    flow, other = invnet.Flow(model, X.shape[1:]), invnet.Flow(twin, X.shape[1:])
    rows = np.eye(4)[labels]
    assert np.array_equal(flow.log_prob(X, labels), other.log_prob(X, rows))
    assert np.array_equal(flow.sample(6, labels, seed=1), other.sample(6, rows, seed=1))
    assert np.array_equal(flow.sample_for(3, labels, seed=1), other.sample_for(3, rows, seed=1))


def test_tensors(pair):
    model, _, X, labels = pair
    Z, logdet = model.forward(X, labels)
    module = invnet.torch.as_module(model)
    z, log = module(torch.tensor(X), torch.tensor(labels))
    torch.testing.assert_close(z, torch.tensor(Z), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log, torch.tensor(logdet), rtol=1e-4, atol=1e-4)
    storing = invnet.torch.as_module(model, memory="store")
    torch.testing.assert_close(storing(torch.tensor(X), torch.tensor(labels))[0], z, rtol=1e-4, atol=1e-4)


def test_a_saved_model_still_takes_labels(pair, tmp_path):
    model, _, X, labels = pair
    invnet.save(model, tmp_path / "model.safetensors")
    again = invnet.load(tmp_path / "model.safetensors")
    assert np.array_equal(again.forward(X, labels)[0], model.forward(X, labels)[0])


@pytest.mark.parametrize("labels", [[0, 4], [-1, 0]])
def test_a_label_that_is_no_class_is_refused(labels):
    with pytest.raises(ValueError, match="labels are integers from 0 to 3; got"):
        invnet.RealNVP(3, 8, 2, classes=4).forward(np.zeros((2, 3), "f"), np.array(labels))


def test_options_are_checked():
    with pytest.raises(ValueError, match="got cond_channels=3 and classes=3"):
        invnet.MAF(3, 8, 2, cond_channels=3, classes=3)
    with pytest.raises(ValueError, match="at least 2, or 0 for none; got 1"):
        invnet.MAF(3, 8, 2, classes=1)
    with pytest.raises(ValueError, match="made with classes="):
        invnet.MAF(3, 8, 2, cond_channels=3).forward(np.zeros((2, 3), "f"), np.array([0, 1]))


def test_temperature_before_the_condition_still_works_and_warns():
    flow = invnet.Flow(invnet.RealNVP(3, 8, 2), (3,))
    with pytest.warns(DeprecationWarning, match="name temperature="):
        old = flow.sample(4, 0.5, 3)
    assert np.array_equal(old, flow.sample(4, temperature=0.5, seed=3))
