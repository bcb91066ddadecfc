"""Jet: what it is made of, its start, its files and its errors; its gradients are in test_against_torch.py."""

import subprocess
import sys

import numpy as np
import pytest

import invnet
from invnet import AffineCoupling, Jet, Permute, Reverse, SplitTokens
from invnet.testing import check_layer

torch = pytest.importorskip("torch")


def small(**options):
    return Jet(3, (8, 8), **{"patch": 2, "couplings": 12, "depth": 1, "width": 8, "heads": 2, **options})


def images(n=2):
    return np.random.default_rng(0).uniform(-1, 1, (n, 3, 8, 8)).astype("float32")


def test_four_couplings_of_channels_and_one_of_positions_in_turn():
    kinds = [type(layer) for layer in small().layers]
    assert (
        kinds.count(AffineCoupling) == 12
        and kinds.count(Permute) == 10
        and kinds.count(SplitTokens) == kinds.count(Reverse) == 2
    )
    patterns = [
        (layer.pattern, layer.inverted) for layer in small(couplings=30).layers if isinstance(layer, SplitTokens)
    ]
    assert patterns == [
        (pattern, inverted) for inverted in (False, True) for pattern in ("checkerboard", "rows", "columns")
    ]


def test_the_laws():
    jet = Jet(2, (4, 4), 2, couplings=5, depth=1, width=4, heads=2, dtype="float64")
    for parameter in jet.parameters():
        parameter.data += 0.1 * np.random.default_rng(0).standard_normal(parameter.data.shape)
    check_layer(jet, np.random.default_rng(1).standard_normal((2, 2, 4, 4)))


def test_a_new_one_is_a_permutation():
    Z, logdet = small().forward(images())
    np.testing.assert_array_equal(np.sort(Z.reshape(2, -1)), np.sort(images().reshape(2, -1)))
    np.testing.assert_allclose(logdet, 0, atol=1e-4)


def test_the_seed_is_all_that_it_takes_from_chance():
    torch.manual_seed(1)
    a = small(seed=3).state_dict()
    before = torch.random.get_rng_state()
    b = small(seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(small(seed=4).state_dict()["layers.2.net.embed.weight"], a["layers.2.net.embed.weight"])


def test_it_is_saved_and_loaded(tmp_path):
    jet = small()
    for parameter in jet.parameters():
        parameter.data += 0.02
    invnet.save(jet, tmp_path / "jet.safetensors")
    loaded = invnet.load(tmp_path / "jet.safetensors")
    np.testing.assert_array_equal(loaded.forward(images())[0], jet.forward(images())[0])


def test_it_takes_a_training_step():
    jet, X = small(), images(8)
    optimizer, losses = invnet.optim.Adam(jet.parameters(), 1e-2), []
    for _ in range(10):
        Z, logdet = jet.forward(X)
        loss, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
        jet.backward(dZ, Z, dlogdet)
        invnet.optim.clip_by_global_norm(jet.parameters(), 100.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss)
    assert min(losses) < losses[0] - 1


@pytest.mark.parametrize(
    "options, match",
    [
        (dict(patch=3), "patch is a power of two from 2 that divides both of size; got patch=3"),
        (dict(patch=1), "patch is a power of two"),
        (dict(patch=16), "divides both of size"),
        (dict(couplings=0), "positive integers"),
        (dict(heads=3), "width is a multiple of heads"),
    ],
)
def test_arguments_are_checked(options, match):
    with pytest.raises(ValueError, match=match):
        small(**options)


def test_images_of_another_size():
    with pytest.raises(ValueError, match=r"this Jet is for images of 8x8; got X of shape \(2, 3, 8, 16\)"):
        small().forward(np.zeros((2, 3, 8, 16), "float32"))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 4, 3, 3), (2, 4, 8)])
def test_positions_that_cannot_be_halved(shape):
    with pytest.raises(ValueError, match="SplitTokens halves the channels, and the positions of two spatial axes"):
        SplitTokens().forward(np.zeros(shape, "float32"))


def test_an_unknown_pattern():
    with pytest.raises(ValueError, match="pattern is one of checkerboard, rows, columns; got 'stripes'"):
        SplitTokens("stripes")


def test_without_pytorch_it_says_so():
    code = "import sys; sys.modules['torch'] = None\nimport invnet\ntry:\n    invnet.Jet(3, (8, 8))\nexcept ImportError as error:\n    print(error)"
    assert (
        "Jet needs PyTorch"
        in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )
