"""An nn.Module inside a layer is a submodule of what as_module gives, in its conditioner's place."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import invnet
from invnet.torch import TorchNet, as_module

MEMORY = ("rebuild", "store")


class Inner(nn.Module):
    """Dropout, a norm, weights in two places, a frozen one, and buffers of both kinds."""

    def __init__(self):
        super().__init__()
        self.enter, self.again, self.leave = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 4)
        self.again.weight = self.enter.weight
        self.drop, self.norm = nn.Dropout(0.5), nn.BatchNorm1d(2)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("shift", torch.full((2,), 0.1))
        self.register_buffer("scale", torch.full((2,), 0.9), persistent=False)

    def forward(self, x):
        h = self.drop(torch.tanh(self.again(self.enter(x)))) * self.frozen * self.scale + self.shift
        return self.leave(self.norm(h))


def built(memory="rebuild", engine="numpy", inner=None):
    """A chain with one nn.Module in two conditioners, its module and its input."""
    torch.manual_seed(0)
    inner = Inner().double() if inner is None else inner
    layers = [invnet.Permute.reversal(4), invnet.ActNorm(4, dtype="float64")]
    for seed in range(2):
        layers += [
            invnet.Conv1x1(4, "householder", seed=seed, dtype="float64"),
            invnet.AffineCoupling(4, TorchNet(inner, batch_norm="update once")),
        ]
    layer = invnet.Chain(*layers).to(engine)
    return inner, as_module(layer, memory), torch.randn(6, 4, dtype=torch.float64)


def loss_of(z, logdet):
    return (z * torch.linspace(0.3, 1.2, z.numel(), dtype=z.dtype).reshape(z.shape)).sum() - logdet.sum()


@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize("memory", MEMORY)
def test_train_and_eval_reach_it(memory, engine):
    inner, module, x = built(memory, engine)
    assert module.train() is module and inner.training and inner.drop.training
    assert not torch.equal(module(x)[1], module(x)[1])
    module.eval()
    assert not inner.training and not inner.drop.training and not inner.norm.training
    z, logdet = module(x)
    assert torch.equal(module(x)[1], logdet)
    torch.testing.assert_close(module.inverse(z), x)


def test_modules_apply_and_names_reach_it():
    inner, module, _ = built()
    names, seen = dict(module.named_modules()), []
    assert names["layers.3.net"] is inner and names["layers.3.net.drop"] is inner.drop
    assert inner in list(module.modules()) and module.get_submodule("layers.5.net.enter") is inner.enter
    module.apply(seen.append)
    assert inner.norm in seen and seen.count(inner) >= 1
    assert module.get_parameter("layers.3.net.leave.weight") is inner.leave.weight


def test_its_parameters_are_its_own_under_the_names_of_the_layer():
    inner, module, _ = built()
    own = [p for p in inner.parameters()]
    assert all(p in set(module.parameters()) for p in own)
    learned = {name for name, _ in module.layer.named_parameters()}
    assert learned == {name for name, p in module.named_parameters() if p.requires_grad}
    assert sorted(module.state_dict()) == sorted(module.layer.state_dict())
    for name, array in module.layer.state_dict().items():
        np.testing.assert_array_equal(module.state_dict()[name], array)


@pytest.mark.parametrize("assign", [False, True])
def test_its_state_goes_through_a_file_and_what_was_one_tensor_stays_one(assign):
    inner, module, x = built()
    inner.scale.fill_(0.5)
    file = io.BytesIO()
    torch.save(nn.ModuleDict({"flow": module}).state_dict(), file)
    file.seek(0)
    other_inner, other, _ = built()
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(0.5)
    nn.ModuleDict({"flow": other}).load_state_dict(torch.load(file), assign=assign)
    assert other_inner.again.weight is other_inner.enter.weight and float(other_inner.scale[0]) == 0.5
    assert torch.equal(other.eval()(x)[0], module.eval()(x)[0])
    z, logdet = other(x)
    loss_of(z, logdet).backward()
    loss_of(*module(x)).backward()
    torch.testing.assert_close(other_inner.enter.weight.grad, inner.enter.weight.grad)
    assert inner.enter.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("memory", MEMORY)
def test_hooks_reach_it(memory):
    inner, module, x = built(memory)
    calls = []
    module.eval()
    inner.enter.register_forward_hook(lambda m, arguments, y: calls.append("forward") or 2 * y)
    plain = module(x)[0]
    assert calls == ["forward"] * 2
    inner.leave.weight.register_hook(lambda gradient: 3 * gradient)
    inner.leave.weight.register_post_accumulate_grad_hook(lambda p: calls.append("backward"))
    loss_of(*module(x)).backward()
    assert calls.count("backward") == 1
    tripled = inner.leave.weight.grad
    inner.leave.weight._backward_hooks.clear()
    inner.leave.weight.grad = None
    loss_of(*module(x)).backward()
    torch.testing.assert_close(tripled, 3 * inner.leave.weight.grad)
    assert torch.equal(plain, module(x)[0])


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_requires_grad_reaches_it_and_nothing_is_computed_there(memory, engine, monkeypatch):
    inner, module, x = built(memory, engine)
    module.eval()
    loss_of(*module(x)).backward()
    full = {name: p.grad for name, p in module.named_parameters()}
    module.zero_grad()
    inner.requires_grad_(False)
    wanted, grad = [], torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd,
        "grad",
        lambda y, tensors, *rest, **options: wanted.extend(tensors) or grad(y, tensors, *rest, **options),
    )
    loss_of(*module(x)).backward()
    assert not any(w is p for w in wanted for p in inner.parameters())
    for name, p in module.named_parameters():
        if "net" in name:
            assert p.grad is None
        else:
            torch.testing.assert_close(p.grad, full[name])
    for p in set(inner.parameters()) - {inner.frozen}:
        p.requires_grad_(True)
    loss_of(*module(x)).backward()
    torch.testing.assert_close(inner.enter.weight.grad, full["layers.3.net.enter.weight"])


def test_what_was_frozen_when_it_was_made_cannot_be_learned():
    inner, module, x = built()
    module.eval()
    inner.frozen.requires_grad_(True)
    with pytest.raises(RuntimeError, match="frozen was frozen when its TorchNet was made.*requires_grad"):
        module(x)


@pytest.mark.parametrize(
    "to",
    [
        lambda m: m.half(),
        lambda m: m.bfloat16(),
        lambda m: m.to(torch.float16),
        lambda m: m.to(torch.complex64),
        lambda m: nn.Sequential(m).to("cpu", torch.bfloat16),
    ],
)
def test_half_precision_is_refused_before_anything_has_changed(to):
    inner, module, x = built()
    before = {name: (t, t.data_ptr(), t.dtype) for name, t in module.state_dict(keep_vars=True).items()}
    z = module.eval()(x)[0]
    with pytest.raises(TypeError, match="float32 or float64.*(float16|bfloat16|complex64)"):
        to(module)
    for name, t in module.state_dict(keep_vars=True).items():
        assert before[name][1:] == (t.data_ptr(), t.dtype)
    assert torch.equal(module(x)[0], z)


def test_a_move_reaches_it_and_the_layer():
    inner, module, x = built()
    z = module.eval()(x)[0]
    module.float()
    assert inner.enter.weight.dtype == inner.scale.dtype == torch.float32 and str(module.layer.dtype) == "float32"
    torch.testing.assert_close(module(x.float())[0], z.float(), rtol=1e-4, atol=1e-4)
    module.layer.to("torch", dtype="float64")
    assert module(x)[0].dtype == inner.leave.weight.dtype == inner.shift.dtype == torch.float64
    inner.float()  # alone
    module.float()
    torch.testing.assert_close(module(x.float())[0], z.float(), rtol=1e-4, atol=1e-4)


def test_names_of_layers_are_printed():
    _, module, _ = built()
    lines = [line.strip() for line in repr(module).splitlines()]
    for line in (
        "LayerModule(",
        "Chain, memory='rebuild'",
        "(layers): list(",
        "(0): Permute(order=array([3, 2, 1, 0]))",
        "(1): ActNorm(channels=4, dtype='float64')",
        "(3): AffineCoupling(",
        "(net): Inner(",
        "(drop): Dropout(p=0.5, inplace=False)",
    ):
        assert line in lines, repr(module)
    assert "Module()" not in repr(module)
    assert "(0): ConvNet" not in repr(as_module(invnet.Glow(2, 4, 1, 1))) and "(net): ConvNet(C_in=" in repr(
        as_module(invnet.Glow(2, 4, 1, 1))
    )


@pytest.mark.parametrize(
    "how",
    [
        copy.deepcopy,
        lambda m: pickle.loads(pickle.dumps(m)),
        lambda m: torch.load(io.BytesIO(saved(m)), weights_only=False),
    ],
)
@pytest.mark.parametrize("memory", MEMORY)
def test_copies_are_independent_and_whole(how, memory):
    inner, module, x = built(memory)
    module.eval()
    z, _ = module(x)
    other = how(module)
    copied = other.get_submodule("layers.3.net")
    assert type(copied) is Inner and copied is not inner and other.get_submodule("layers.5.net") is copied
    assert torch.equal(other(x)[0], z) and sorted(other.state_dict()) == sorted(module.state_dict())
    with torch.no_grad():
        copied.leave.weight.mul_(2)
    assert not torch.equal(other(x)[0], z) and torch.equal(module(x)[0], z)
    loss_of(*other(x)).backward()
    assert copied.leave.weight.grad is not None and inner.leave.weight.grad is None
    other.train()
    assert copied.training and not inner.training


def saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    return file.getvalue()


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_functional_call_leaves_its_weights_alone(engine):
    results = []
    for memory in MEMORY:
        torch.manual_seed(0)
        inner = Inner().double().eval()
        layer = invnet.Chain(
            invnet.Conv1x1(4, dtype="float64"),
            invnet.AffineCoupling(4, TorchNet(inner)),
            invnet.ActNorm(4, dtype="float64"),
        )
        module, x = as_module(layer.to(engine), memory), torch.randn(6, 4, dtype=torch.float64)
        own = {name: p.detach().clone() for name, p in module.named_parameters()}
        other = {name: (1.1 * p).requires_grad_() for name, p in own.items() if "frozen" not in name}
        before, loss = module(x)[0], loss_of(*torch.func.functional_call(module, other, (x,)))
        results.append([loss, *torch.autograd.grad(loss, list(other.values()))])
        assert (
            all(torch.equal(p, own[name]) for name, p in module.named_parameters())
            and inner.again.weight is inner.enter.weight
        )
        assert torch.equal(module(x)[0], before)
        assert all(np.array_equal(layer.state_dict()[name], array) for name, array in own.items())
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs)


def test_an_optimizer_of_the_inner_module_trains_the_layer():
    inner, module, x = built()
    opt = torch.optim.SGD(inner.parameters(), lr=1e-2)
    module.eval()
    z = module(x)[0]
    loss_of(*module(x)).backward()
    opt.step()
    assert not torch.equal(module(x)[0], z)
    np.testing.assert_array_equal(module.layer.state_dict()["layers.3.net.leave.weight"], inner.leave.weight.detach())


def test_other_state_of_a_torchnet_is_refused_by_name():
    class More(TorchNet):
        def __init__(self):
            super().__init__(nn.Linear(2, 4))
            self.offset = invnet.core.Buffer(np.zeros(2))

    with pytest.raises(TypeError, match="More also has offset"):
        as_module(invnet.AffineCoupling(4, More()))


def test_one_nn_module_in_two_layers_keeps_its_buffers_in_one_memory():
    inner, module, x = built()
    module.layer.to(dtype="float32").to("torch").to(dtype="float64")
    module.train()
    module(x)
    module.eval()
    states = dict(module.layer.named_state())
    assert states["layers.3.net.norm.running_mean"] is states["layers.5.net.norm.running_mean"]
    assert int(inner.norm.num_batches_tracked) == 2
