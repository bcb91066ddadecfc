"""TorchNet: any nn.Module as a conditioner."""

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import invnet
from invnet.testing import check_layer, check_net
from invnet.torch import TorchNet


@pytest.fixture(autouse=True)
def threads():
    ours, theirs = invnet.num_threads(), torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    invnet.set_num_threads(ours)
    torch.set_num_threads(theirs)


class ViT(nn.Module):
    """Tokens of patches, transformer blocks, and patches again."""

    def __init__(self, C_in, C_out, size=4, patch=2, width=12, depth=2, dropout=0.0):
        super().__init__()
        self.patch = patch
        self.embed = nn.Conv2d(C_in, width, patch, stride=patch)
        self.position = nn.Parameter(0.1 * torch.randn(1, (size // patch) ** 2, width))
        block = nn.TransformerEncoderLayer(
            width, 3, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, C_out * patch**2)

    def forward(self, x):
        h = self.embed(x)
        tokens = self.blocks(h.flatten(2).mT + self.position)
        return F.pixel_shuffle(self.head(tokens).mT.unflatten(2, h.shape[2:]), self.patch)


class UNet(nn.Module):
    """Two resolutions with a skip connection; the condition shifts the channels between."""

    def __init__(self, C_in, C_out, width=6, cond=0):
        super().__init__()
        self.enter, self.down = (
            nn.Conv2d(C_in, width, 3, padding=1),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        )
        self.norm, self.up = nn.GroupNorm(2, 2 * width), nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.leave = nn.Conv2d(2 * width, C_out, 3, padding=1)
        self.cond = nn.Linear(cond, 2 * width) if cond else None

    def forward(self, x, cond=None):
        fine = F.silu(self.enter(x))
        coarse = F.silu(self.norm(self.down(fine)))
        if cond is not None:
            coarse = coarse + self.cond(cond)[:, :, None, None]
        return self.leave(torch.cat([fine, self.up(coarse)], 1))


class Odd(nn.Module):
    """What people do: parameters tied, frozen, unused and of no axes, a step in place, an output that is its input's
    view.
    """

    def __init__(self, C):
        super().__init__()
        self.a, self.b = nn.Linear(C, C), nn.Linear(C, C)
        self.b.weight = self.a.weight
        self.scale, self.unused = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.ones(2))
        self.frozen = nn.Parameter(torch.randn(C), requires_grad=False)
        self.register_buffer("shift", torch.randn(C))

    def forward(self, x):
        x.mul_(2.0)
        h = self.b(torch.tanh(self.a(x.view(len(x), -1)))) * self.frozen + self.shift
        return torch.cat([torch.tanh(h * self.scale), x], 1)


def double(module):
    return module.double().eval()


CASES = {
    "ViT": (lambda: double(ViT(2, 4)), (3, 4, 4, 4), None),
    "U-Net": (lambda: double(UNet(2, 4)), (3, 4, 4, 4), None),
    "U-Net, condition": (lambda: double(UNet(2, 4, cond=3)), (3, 4, 4, 4), (3, 3)),
    "odd": (lambda: double(Odd(3)), (4, 6), None),
    "no parameters": (
        lambda: nn.Sequential(nn.Tanh(), nn.Conv1d(2, 4, 1).double().requires_grad_(False)),
        (3, 4, 5),
        None,
    ),
}


def made(case, couplings=1, **options):
    """Couplings that share a module, mixes between them, X and cond, in float64."""
    make, shape, cond = CASES[case]
    torch.manual_seed(0)
    rng, module = np.random.default_rng(0), make()
    C = shape[1]
    layers = [
        layer
        for i in range(couplings)
        for layer in (invnet.Conv1x1(C, seed=i, dtype="float64"), invnet.AffineCoupling(C, TorchNet(module, **options)))
    ]
    return (
        module,
        invnet.Chain(*layers),
        rng.standard_normal(shape),
        None if cond is None else rng.standard_normal(cond),
    )


@pytest.mark.parametrize("case", CASES)
def test_the_laws_of_conditioners_and_layers_hold(case):
    module, layer, X, cond = made(case, 2)
    check_net(layer.layers[1].net, X[:, : X.shape[1] // 2], cond)
    check_layer(layer, X, cond)


def twin(layer, module, X, cond, evaluate=None):
    """Z and logdet by autograd alone."""
    logdet = 0.0
    for i, (mix, coupling) in enumerate(zip(layer.layers[::2], layer.layers[1::2])):
        W = torch.from_numpy(mix.affine()[0])
        X = torch.einsum("ij,nj...->ni...", W, X)
        logdet = logdet + torch.linalg.slogdet(W)[1] * math.prod(X.shape[2:])
        x1, x2 = X.tensor_split([X.shape[1] - X.shape[1] // 2], 1)
        arguments = (x1.clone(),) if cond is None else (x1.clone(), cond)
        t, raw = (evaluate(i, coupling.net, arguments) if evaluate else module(*arguments)).chunk(2, 1)
        log_s = math.log(4.0) * torch.tanh(raw / math.log(4.0))
        X, logdet = torch.cat([x1, (x2 + t) * log_s.exp()], 1), logdet + log_s.flatten(1).sum(1)
    return X, logdet


def gradients_agree(module, layer, X, cond=None, evaluate=None):
    """After layer.forward, backward's gradients are those of the twin under autograd."""
    Z, logdet = layer.forward(X, cond)
    x, c = torch.from_numpy(X).requires_grad_(), None if cond is None else torch.from_numpy(cond).requires_grad_()
    z, ld = twin(layer, module, x, c, evaluate)
    np.testing.assert_allclose(Z, z.detach(), atol=1e-10)
    np.testing.assert_allclose(logdet, ld.detach(), atol=1e-10)
    weights = [p for p in module.parameters() if p.requires_grad]
    wanted = [x, *([] if c is None else [c]), *weights]
    expected = torch.autograd.grad((z * z).sum() / 2 - ld.mean(), wanted, allow_unused=True)
    expected = [np.zeros(t.shape) if g is None else g.numpy() for t, g in zip(wanted, expected)]
    holder = None if cond is None else invnet.Condition(cond)
    layer.zero_grad()
    dX, _ = layer.backward(Z, Z, None, holder)
    shared = list(dict.fromkeys(p for coupling in layer.layers[1::2] for p in coupling.net.parameters()))
    got = [dX, *([] if c is None else [holder.grad]), *(p.grad for p in shared)]
    assert len(got) == len(expected)
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_autograd_through_everything(case):
    module, layer, X, cond = made(case, 3)
    gradients_agree(module, layer, X, cond)


def many_tiles(layer, X, n=64):
    """X with so many samples that a coupling works in several tiles."""
    X = np.tile(X, (n, *[1] * (X.ndim - 1))) * np.linspace(0.5, 1.5, n * len(X)).reshape(-1, *[1] * (X.ndim - 1))
    coupling = layer.layers[1]
    assert len(coupling._tiles(invnet.core.get_ops(X), X)) > 2
    return X


def dropped():
    module = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.Dropout(0.4), nn.Tanh(), nn.Conv2d(8, 4, 1)).double()
    layers = [
        layer
        for i in range(3)
        for layer in (invnet.Conv1x1(4, seed=i, dtype="float64"), invnet.AffineCoupling(4, TorchNet(module)))
    ]
    return module, invnet.Chain(*layers), np.random.default_rng(0).standard_normal((3, 4, 8, 8))


def test_dropout_masks_of_every_coupling_are_used_again():
    module, layer, X = dropped()

    def evaluate(i, net, arguments):
        torch.manual_seed(layer.saved_pass.rng.recorded[i][1].seed)
        return module(*arguments)

    gradients_agree(module, layer, X, None, evaluate)


@pytest.mark.parametrize("budget", [0, 1e9])
def test_dropout_is_replayed_in_every_tile_for_any_number_of_threads(budget):
    module, layer, X = dropped()
    X, results = many_tiles(layer, X), []
    layer.memory_budget = budget
    for n in (1, 3, 3):
        invnet.set_num_threads(n)
        torch.manual_seed(5)
        layer.zero_grad()
        Z, _ = layer.forward(X)
        dX, X_back = layer.backward(Z, Z)
        np.testing.assert_allclose(X_back, X, atol=1e-9)
        results.append([Z, dX, *(p.grad.copy() for p in layer.parameters())])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))
    assert not np.array_equal(layer.forward(X)[0], Z)  # the next pass has other masks


def test_dropout_is_replayed_when_the_inverse_is_differentiated():
    module, layer, X = dropped()
    Z, _ = layer.inverse_logdet(X)
    np.testing.assert_allclose(layer.inverse_backward(Z, Z)[1], X, atol=1e-9)


def test_the_callers_random_numbers_go_on_as_after_any_draw():
    module, layer, X = dropped()
    torch.manual_seed(3)
    layer.forward(X)
    after = torch.rand(())
    torch.manual_seed(3)
    Z, _ = layer.forward(X)
    before_backward = torch.get_rng_state()
    layer.backward(Z, Z)
    assert torch.equal(before_backward, torch.get_rng_state())
    assert torch.rand(()) == after
    module.eval()
    state = torch.get_rng_state()
    layer.forward(X)
    assert torch.equal(state, torch.get_rng_state())


def test_results_do_not_depend_on_the_number_of_threads():
    module, layer, X, cond = made("U-Net, condition", 2)
    X = many_tiles(layer, X)
    cond, results = np.tile(cond, (len(X) // len(cond), 1)), []
    for n, torch_threads in ((1, 1), (3, 1), (2, 2)):
        invnet.set_num_threads(n)
        torch.set_num_threads(torch_threads)
        layer.zero_grad()
        Z, _ = layer.forward(X, cond)
        results.append([Z, layer.backward(Z, Z, None, cond)[0], *(p.grad.copy() for p in layer.parameters())])
        assert torch.get_num_threads() == torch_threads
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


def normed(**options):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 8, 1), nn.BatchNorm2d(8), nn.Tanh(), nn.Conv2d(8, 4, 1)).double()
    layer = invnet.Chain(invnet.Conv1x1(4, dtype="float64"), invnet.AffineCoupling(4, TorchNet(module, **options)))
    return module, layer, np.random.default_rng(0).standard_normal((3, 4, 8, 8))


def test_batch_norm_in_training_is_refused():
    module, layer, X = normed()
    with pytest.raises(RuntimeError, match="eval.*GroupNorm.*update once"):
        layer.forward(X)
    module.eval()
    np.testing.assert_allclose(layer.inverse(layer.forward(X)[0]), X, atol=1e-10)


@pytest.mark.parametrize("budget", [0, 1e9])
def test_batch_norm_is_updated_once_in_a_step(budget):
    module, layer, X = normed(batch_norm="update once", shape=(2, 8, 8))
    layer.memory_budget = budget
    assert int(module[1].num_batches_tracked) == 0  # measuring does not count
    Z, _ = layer.forward(X)
    after = {name: buffer.clone() for name, buffer in module[1].named_buffers()}
    assert int(after["num_batches_tracked"]) == 1 and after["running_mean"].abs().sum() > 0
    np.testing.assert_allclose(layer.backward(Z, Z)[1], X, atol=1e-10)
    assert all(torch.equal(buffer, after[name]) for name, buffer in module[1].named_buffers())
    assert module[1].track_running_stats
    assert np.array_equal(layer.state_dict()["layers.1.net.1.running_mean"], after["running_mean"])

    gradients_agree(module, layer, X)
    X, results = many_tiles(layer, X), []
    for n in (1, 3):
        invnet.set_num_threads(n)
        module[1].reset_running_stats()
        Z = layer.forward(X)[0]
        layer.backward(Z, Z)
        results.append([Z, module[1].running_mean.numpy().copy()])
    assert all(np.array_equal(a, b) for a, b in zip(*results))


def test_a_module_that_changes_another_buffer_is_refused():
    module = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 6)))
    layer = invnet.AffineCoupling(6, TorchNet(module))
    X = np.random.default_rng(0).standard_normal((4, 6)).astype("float32")
    with pytest.raises(RuntimeError, match="changed its buffers.*eval"):
        layer.forward(X)
    module.eval()
    Z = layer.forward(X)[0]
    np.testing.assert_allclose(layer.backward(Z, Z)[1], X, atol=1e-4)


def test_the_module_and_the_layer_share_weights_whoever_moves_them():
    module, layer, X, _ = made("U-Net", 2)
    weight = module.enter.weight
    opt = invnet.optim.Adam(layer.parameters(), lr=0.1)
    Z, _ = layer.forward(X)
    layer.backward(Z, Z)
    opt.step()  # which moves all weights to one array
    Z = layer.forward(X)[0]
    net = layer.layers[1].net
    assert module.enter.weight is weight and np.shares_memory(
        weight.detach().numpy(), net.shares["enter.weight"].state.data
    )
    with torch.no_grad():
        weight.mul_(1.5)  # as a torch optimizer does
    assert not np.allclose(layer.forward(X)[0], Z)
    module.load_state_dict({name: tensor * 0 for name, tensor in module.state_dict().items()})
    assert not net.parameters()[0].data.any()
    layer.to(dtype="float32")
    layer.forward(X.astype("float32"))
    assert weight.dtype == torch.float32 and np.shares_memory(
        weight.detach().numpy(), net.shares["enter.weight"].state.data
    )


def test_one_module_in_several_conditioners_has_one_set_of_parameters():
    module, layer, X, _ = made("ViT", 2)
    nets = [coupling.net for coupling in layer.layers[1::2]]
    assert nets[0] is not nets[1] and nets[0].parameters() == nets[1].parameters()
    assert len(layer.parameters()) == 2 * 3 + len(list(module.parameters()))


def test_a_copy_is_independent():
    module, layer, X, _ = made("U-Net", 2)
    Z = layer.forward(X)[0]
    other = copy.deepcopy(layer)
    for parameter in other.parameters():
        parameter.data *= 1.1
    assert not np.allclose(other.forward(X)[0], Z)
    assert np.array_equal(layer.forward(X)[0], Z)
    assert other.layers[1].net.module is other.layers[3].net.module is not module


def test_state_and_files(tmp_path):
    class Small(TorchNet):
        def __init__(self, width, seed=0):
            torch.manual_seed(seed)
            super().__init__(UNet(2, 4, width), shape=(2, 4, 4))

    layer, X = (
        invnet.AffineCoupling(4, Small(4, seed=1)),
        np.random.default_rng(0).standard_normal((3, 4, 4, 4)).astype("float32"),
    )
    other = invnet.AffineCoupling(4, Small(4))
    other.load_state_dict(layer.state_dict())
    Z = layer.forward(X)[0]
    assert np.array_equal(other.forward(X)[0], Z)
    invnet.save(layer, tmp_path / "a.safetensors")
    assert np.array_equal(invnet.load(tmp_path / "a.safetensors").forward(X)[0], Z)
    with pytest.raises(TypeError, match="UNet.*derive a class"):
        invnet.save(invnet.AffineCoupling(4, TorchNet(UNet(2, 4))), tmp_path / "b.safetensors")


def test_an_evaluation_is_measured():
    module = nn.Sequential(
        nn.Conv2d(2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 4, 1)
    )
    net = TorchNet(module, shape=(2, 8, 8))
    assert 64 <= net.kept_per_position <= 80  # two hidden layers, x and y
    assert net.kept_per_position < net.floats_per_position <= 200


def test_an_evaluation_is_of_as_many_positions_as_are_worth_its_overhead():
    sizes, module = (
        [],
        nn.Sequential(nn.Conv2d(2, 500, 1), nn.ReLU(), nn.Conv2d(500, 80, 1), nn.ReLU(), nn.Conv2d(80, 4, 1)),
    )
    module.register_forward_hook(lambda module, inputs, y: sizes.append(len(y)))
    layer = invnet.AffineCoupling(4, TorchNet(module, shape=(2, 8, 8)))
    sizes.clear()
    layer.forward(np.zeros((20, 4, 8, 8), "float32"))
    assert sorted(sizes) == [
        4,
        16,
    ]  # in threads, of 64 positions each; 41,000 weights of a net of invnet's would make it 6


@pytest.mark.parametrize("reach", [None, 2])
def test_blocks_of_an_image_with_what_is_seen_around(reach, monkeypatch):
    monkeypatch.setattr(invnet.ops.numpy, "TILE_BYTES", 1 << 16)
    module = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 4, 3, padding=1)).double()
    layer = invnet.Chain(
        invnet.Conv1x1(4, dtype="float64"), invnet.AffineCoupling(4, TorchNet(module, shape=(2, 32, 32), reach=reach))
    )
    X = np.random.default_rng(0).standard_normal((2, 4, 32, 32))
    assert (len(layer.layers[1]._tiles(invnet.core.get_ops(X), X)) > 2) == (reach is not None)
    gradients_agree(module, layer, X)


def test_autocast_is_for_conditioners_of_the_engine_of_tensors():
    layer = invnet.AffineCoupling(4, TorchNet(UNet(2, 4).eval()))
    X = np.random.default_rng(0).standard_normal((3, 4, 4, 4)).astype("float32")
    Z = layer.forward(X)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(layer.forward(X)[0], Z)
        layer.to("torch")
        Z16 = layer.forward(torch.from_numpy(X))[0]
        assert Z16.dtype == torch.float32 and 1e-5 < float(abs(Z16.numpy() - Z).max()) < 0.1
        np.testing.assert_allclose(layer.backward(Z16, Z16)[1], X, atol=1e-5)


def test_inference_mode_and_no_grad():
    module, layer, X, _ = made("U-Net", 2)
    layer.memory_budget = 1e9
    Z = layer.forward(X)[0]
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert np.array_equal(layer.forward(X)[0], Z)
            np.testing.assert_allclose(layer.backward(Z, Z)[1], X, atol=1e-9)


def test_an_autoregressive_layer_takes_no_conditioner_that_draws():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.W, self.drop = nn.Parameter(torch.randn(6, 3)), nn.Dropout(0.1)

        def forward(self, x):
            return x @ (self.W * torch.ones(3, 3).tril(-1).repeat(2, 1)).T

    module = Masked()
    layer = invnet.AutoregressiveAffine(3, TorchNet(module))
    X = np.random.default_rng(0).standard_normal((4, 3))
    with pytest.raises(TypeError, match="eval"):
        layer.forward(X.astype("float32"))
    module.eval()
    check_layer(layer, X)


def test_errors_at_the_door():
    with pytest.raises(TypeError, match="nn.Module; got function"):
        TorchNet(lambda x: x)
    with pytest.raises(ValueError, match="update once; got 'always'"):
        TorchNet(nn.Linear(2, 2), batch_norm="always")
    with pytest.raises(TypeError, match="bfloat16"):
        TorchNet(nn.Linear(2, 2).bfloat16())
    with pytest.raises(TypeError, match="float32.*float64"):
        TorchNet(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()))
    layer = invnet.AffineCoupling(2, TorchNet(nn.Flatten(0)))
    with pytest.raises(ValueError, match="must give shape"):
        layer.forward(np.ones((3, 2)))
    layer = invnet.AffineCoupling(2, TorchNet(nn.LSTM(1, 2)))
    with pytest.raises(TypeError, match="gives a tensor; got tuple"):
        layer.forward(np.ones((3, 2), "float32"))


def test_invnet_imports_pytorch_on_request_only():
    code = "import sys, invnet; assert 'torch' not in sys.modules; invnet.torch.TorchNet; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
