"""as_module of a Flow: densities and samples with gradients, of every base, in both memory modes; and of a layer
without logdet.
"""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import invnet
from invnet import bases
from invnet.torch import TorchNet, as_module

MEMORY = ("rebuild", "store")
rng = np.random.default_rng(0)
BASES = {
    "None": lambda: None,
    "Normal": bases.Normal,
    "DiagonalNormal": lambda: bases.DiagonalNormal([0.1, -0.2, 0.3], [0.8, 1.0, 1.2], dtype="float64"),
    "FullNormal": lambda: bases.FullNormal(
        [0.1, -0.2, 0.3], [[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 1.5]], dtype="float64"
    ),
    "GaussianMixture": lambda: bases.GaussianMixture(
        np.arange(6.0).reshape(2, 3) / 3, [[0.8] * 3, [1.1] * 3], [0.3, 0.7], dtype="float64"
    ),
    "GaussianMixture, fixed": lambda: bases.GaussianMixture(
        np.arange(6.0).reshape(2, 3) / 3, learn=False, dtype="float64"
    ),
    "Uniform": lambda: bases.Uniform(-20.0, 20.0),
}


def test_every_base_is_here():
    assert {name.partition(",")[0] for name in BASES} == {
        name for name in bases.__all__ if name not in ("Base", "ParametricBase")
    } | {"None"}


def flow(base, engine="numpy", cond=2):
    layer = invnet.RealNVP(3, 5, 3, activation="softplus", mix="lu", actnorm=True, cond_channels=cond, dtype="float64")
    for p in layer.parameters():
        p.data += 0.2 * np.random.default_rng(1).standard_normal(p.data.shape)
    return invnet.Flow(layer, (3,), BASES[base]()).to(engine)


def inputs():
    torch.manual_seed(0)
    return torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.randn(
        5, 2, dtype=torch.float64, requires_grad=True
    )


@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize("base", BASES)
def test_densities_and_their_gradients_are_those_of_the_flow(base, engine):
    made, (x, cond) = flow(base, engine), inputs()
    arrays = [t.detach() if engine == "torch" else t.detach().numpy() for t in (x, cond)]
    made.zero_grad()
    loss = invnet.objectives.forward_kl(made, *arrays)
    for memory in MEMORY:
        module = as_module(made, memory)
        log_prob = module(x, cond)
        torch.testing.assert_close(log_prob, torch.as_tensor(made.log_prob(*arrays)))
        assert torch.equal(log_prob, module.log_prob(x, cond)) and module.flow is made
        assert sorted(module.state_dict()) == sorted(made.state_dict())
        names = dict(module.named_parameters())
        gradients = dict(zip(names, torch.autograd.grad(-log_prob.mean(), list(names.values()))))
        torch.testing.assert_close(-log_prob.mean().detach(), torch.as_tensor(loss, dtype=torch.float64))
        for name, p in made.named_parameters():
            torch.testing.assert_close(gradients.pop(name), torch.as_tensor(p.grad), rtol=1e-8, atol=1e-9)
        assert not gradients
        assert torch.autograd.gradcheck(module, (x, cond))


@pytest.mark.parametrize("base", [name for name in BASES if name != "GaussianMixture"])
def test_samples_have_gradients_in_everything_learned(base):
    made, (_, cond), results = flow(base), inputs(), []
    for memory in MEMORY:
        module = as_module(made, memory)
        torch.manual_seed(1)
        x, log_q = module.sample_and_log_prob(5, cond)
        torch.manual_seed(1)
        assert torch.equal(module.sample(5, cond), x)
        torch.testing.assert_close(module.log_prob(x, cond), log_q)
        found = torch.autograd.grad(
            (log_q + x.square().sum(1)).mean(), [cond, *module.parameters()], allow_unused=True, materialize_grads=True
        )
        results.append([x, log_q, *found])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
    if base in ("DiagonalNormal", "FullNormal"):
        target = lambda X: (-(X * X).sum(1), -2 * X)
        made.zero_grad()
        unconditional = invnet.Flow(invnet.RealNVP(3, 5, 2, dtype="float64"), (3,), made.base)
        invnet.objectives.reverse_kl(unconditional, target, 7, seed=2)
        module = as_module(unconditional)
        x, log_q = module.sample_and_log_prob(7, seed=2)
        (log_q + x.square().sum(1)).mean().backward()
        for name, p in unconditional.named_parameters():
            torch.testing.assert_close(module.get_parameter(name).grad, torch.as_tensor(p.grad), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("memory", MEMORY)
def test_samples_of_a_learned_mixture_have_no_gradient_and_say_so(memory):
    module = as_module(flow("GaussianMixture", cond=0), memory)
    with torch.no_grad():
        assert module.sample(4).shape == (4, 3)
    with pytest.raises(NotImplementedError, match="GaussianMixture is no smooth map of noise"):
        module.sample(4).sum().backward()
    for p in module.get_submodule("base").parameters():
        p.requires_grad_(False)
    module.sample(4).sum().backward()


@pytest.mark.parametrize("memory", MEMORY)
def test_samples_follow_pytorchs_seed_and_the_condition(memory):
    module, (_, cond) = as_module(flow("DiagonalNormal"), memory), inputs()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(module.sample(4, cond[:1]))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    torch.testing.assert_close(module.sample(4, cond[:1], seed=0), module.sample(4, cond[:1].expand(4, -1), seed=0))
    assert torch.equal(module.sample(4, cond[:1], 0.0, seed=0)[0], module.sample(4, cond[:1], 0.0, seed=1)[0])
    several = module.sample_for(3, cond, seed=0)
    assert several.shape == (5, 3, 3)
    torch.testing.assert_close(several.flatten(0, 1), module.sample(15, cond.repeat_interleave(3, 0), seed=0))
    with pytest.raises(ValueError, match="4 samples has 4 rows, or one for all; got 5"):
        module.sample(4, cond)
    torch.testing.assert_close(
        module.log_prob(several[0], cond[:1]), module.log_prob(several[0], cond[:1].expand(3, -1))
    )
    (gradient,) = torch.autograd.grad(module.log_prob(several[0].detach(), cond[:1]).sum(), cond)
    assert gradient[:1].abs().sum() > 0 and not gradient[1:].any()


@pytest.mark.parametrize("base", BASES)
def test_the_storing_mode_of_a_flow_has_transforms_and_export(base):
    module, (x, cond) = as_module(flow(base), "store").eval(), inputs()
    one = lambda x, c: module.log_prob(x[None], c[None])[0]
    (expected,) = torch.autograd.grad(module(x, cond).sum(), x)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(one))(x.detach(), cond.detach()), expected)
    program = torch.export.export(module, (x.detach(), cond.detach())).module()
    torch.testing.assert_close(program(x.detach(), cond.detach()), module(x, cond))


def test_a_flow_trains_moves_and_is_copied():
    torch.manual_seed(0)
    made = invnet.Flow(invnet.RealNVP(2, 16, 4, seed=0), (2,), bases.DiagonalNormal([0.0, 0.0]))
    module, data = as_module(made), torch.randn(400, 2) @ torch.tensor([[2.0, 0.5], [0.0, 0.3]]) + 1
    opt = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(60):
        loss = -module(data).mean()
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        opt.step()
    assert -module(data).mean() < 2.4 and made.base.mean.data.any()  # the entropy of the data is 2.33
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(other(data), module(data))
    module.double()
    assert module.sample(3).dtype == torch.float64 and module(data.double()).dtype == torch.float64
    with pytest.raises(TypeError, match="float32 or float64"):
        module.half()
    assert (
        "Flow, memory='rebuild'" in repr(module)
        and "(base): DiagonalNormal(" in repr(module)
        and "(layer): RealNVP(" in repr(module)
    )


def test_a_flow_of_images_with_a_network_inside():
    net = nn.Sequential(nn.Conv2d(2, 8, 1), nn.Dropout(0.5), nn.Tanh(), nn.Conv2d(8, 4, 1))
    module = as_module(
        invnet.Flow(
            invnet.Chain(invnet.Squeeze(), invnet.AffineCoupling(4, TorchNet(net)), invnet.Unsqueeze()), (1, 4, 4)
        )
    ).eval()
    x = torch.randn(3, 1, 4, 4)
    assert not net.training and torch.equal(module(x), module(x)) and module.sample(2).shape == (2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"\(N, 1, 4, 4\)"):
        module(x[:, :, :2])


# ---- a layer without logdet


@pytest.mark.parametrize("memory", MEMORY)
def test_a_layer_without_logdet_stands_in_a_sequential(memory):
    layer = invnet.RealNVP(4, 8, 3, dtype="float64", seed=0)
    model = nn.Sequential(nn.Linear(3, 4), as_module(layer, memory, logdet=False), nn.Linear(4, 2)).double()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    h = model[0](x)
    assert torch.equal(model[1](h), as_module(layer, memory)(h)[0]) and torch.equal(model(x), model[2](model[1](h)))
    torch.testing.assert_close(model[1].inverse(model[1](h)), h)
    assert torch.autograd.gradcheck(model, x) and "logdet=False" in repr(model)
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(ValueError, match="logdet=False is for a Layer"):
        as_module(invnet.Flow(layer, (4,)), memory, logdet=False)
