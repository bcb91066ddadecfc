"""The storing mode in torch.func's transforms and in torch.export: every row of the table, and Flows."""

import numpy as np
import pytest
import torch
from cases import LAYERS, representatives
from torch import nn

import invnet
from invnet.torch import TorchNet, as_module

#: Exact rounds, so that autograd finds no derivative.
ROWS = [name for name in LAYERS if "Exact" not in name]
#: One row for each way of computing; the nightly run exports all.
EXPORTED = [
    "Glow",
    "Glow, conditional",
    "Glow, vectors, conditional",
    "Reverse of Glow",
    "RealNVP, mix",
    "NSF, 3 features",
    "Reverse of RealNVP, 3 features",
    "MAF, 3 features",
    "IAF, 3 features",
    "NSF autoregressive inverse, 2 features",
    "Reverse of NSF, 2 features",
    "Logit",
    "Reverse of Logit",
    "SplineCoupling, no tails",
    "AutoregressiveAffine fast inverse, 2 channels, plain conditioner",
    "LeakyReLU",
    "PartitionedAdditiveCoupling, two parts",
    "Conv1x1 householder, 2 axes, 3 channels",
    "Conv1x1 full, 2 axes, 3 channels",
    "Reverse of Conv1x1 lu, 2 axes, 3 channels",
    "Planar, 2 features",
    pytest.param("Reverse of Planar, 2 features", marks=pytest.mark.exhaustive),
    "Radial, 2 features",
    "SplitTokens, rows, False",
    "Squeeze, 2 axes",
    "FactorOut with prior, 2 axes, 4 channels",
    "coupling, finer condition",
    "ChannelOrder",
]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def built(name):
    layer, X, cond = LAYERS[name].build()
    return as_module(layer, memory="store").eval(), [
        torch.from_numpy(array) for array in (X, cond) if array is not None
    ]


@pytest.mark.parametrize("name", representatives(ROWS))
def test_vmap_of_grad_takes_every_layer(name):
    module, inputs = built(name)

    def one(x, *cond):
        z, logdet = module(x[None], *[c[None] for c in cond])
        return logdet[0] + z.square().sum()

    x = inputs[0].clone().requires_grad_()
    z, logdet = module(x, *inputs[1:])
    (expected,) = torch.autograd.grad(logdet.sum() + z.square().sum(), x)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(one))(*inputs), expected)


@pytest.mark.parametrize(
    "name",
    ["Glow", "RealNVP, mix", "IAF, 3 features", "NSF, 3 features", "Reverse of Planar, 2 features", "ChannelOrder"],
)
def test_vmap_over_weights_is_an_ensemble(name):
    module, inputs = built(name)
    own = dict(module.named_parameters())
    weights = {key: torch.stack([p.detach(), 0.9 * p.detach()]) for key, p in own.items()}
    call = lambda weights: torch.func.functional_call(module, weights, tuple(inputs))
    if not weights:
        assert len(call({})) == 2
        return
    z, logdet = torch.func.vmap(call)(weights)
    for i in range(2):
        torch.testing.assert_close((z[i], logdet[i]), call({key: w[i] for key, w in weights.items()}))


def test_values_outside_the_domain_are_found_through_vmap():
    module = as_module(invnet.Logit(), "store")
    with pytest.raises(ValueError, match="Logit takes values in .*got values from 0.5 to 3"):
        torch.func.vmap(lambda x: module(x[None])[0])(torch.tensor([[0.5], [3.0]]))


def exported_agrees(module, inputs, tolerance=1e-9):
    program = torch.export.export(module, tuple(inputs)).module()
    outputs, expected = program(*inputs), module(*inputs)
    torch.testing.assert_close(outputs, expected, rtol=tolerance, atol=tolerance)
    return program


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exported_program_computes_the_same(name):
    exported_agrees(*built(name))


@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name in ROWS if name not in map(str, EXPORTED)])
def test_the_exported_program_of_every_row_computes_the_same(name):
    exported_agrees(*built(name))


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: invnet.Glow(3, 8, 2, 3), (3, 8, 8)),
        (lambda: invnet.RealNVP(4, 8, 4, actnorm=True), (4,)),
        (lambda: invnet.NSF(4, 8, 3), (4,)),
        (lambda: invnet.MAF(4, 8, 3), (4,)),
    ],
    ids=["Glow", "RealNVP", "NSF", "MAF"],
)
def test_the_exported_program_takes_batches_of_any_size(make, shape):
    layer = make()
    for p in layer.parameters():
        p.data += 0.1 * np.random.default_rng(0).standard_normal(p.data.shape).astype("float32")
    module = as_module(layer, "store").eval()
    program = torch.export.export(
        module, (torch.randn(4, *shape),), dynamic_shapes=({0: torch.export.Dim("N")},)
    ).module()
    for N in (2, 7):
        x = torch.randn(N, *shape)
        torch.testing.assert_close(program(x), module(x), rtol=1e-5, atol=1e-5)


def test_an_exported_program_looks_at_its_values():
    program = exported_agrees(as_module(invnet.Logit(), "store"), [torch.rand(2, 3)], 1e-6)
    with pytest.raises(RuntimeError, match="values between 0 and 1 are required"):
        program(torch.full((2, 3), 2.0))


def test_any_network_inside_is_exported_in_evaluation():
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Tanh(), nn.Conv2d(8, 4, 1)
    ).double()
    module = as_module(invnet.Chain(invnet.Squeeze(), invnet.AffineCoupling(4, TorchNet(net))), "store").eval()
    exported_agrees(module, [torch.randn(2, 1, 4, 4, dtype=torch.float64)])
    exported_agrees(
        as_module(invnet.Jet(1, (4, 4), 2, couplings=5, depth=1, width=8, heads=2, dtype="float64"), "store").eval(),
        [torch.randn(2, 1, 4, 4, dtype=torch.float64)],
    )


def test_what_cannot_be_exported_is_refused_by_name():
    x = torch.randn(2, 4)
    with pytest.raises(RuntimeError, match='as_module\\(layer, memory="store"\\)'):
        torch.export.export(as_module(invnet.ActNorm(4)), (x,))
    with pytest.raises(TypeError, match="Exact rounds.*storing"):
        as_module(invnet.Chain(invnet.Exact(invnet.ActNorm(4))), "store")
    net = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5))
    with pytest.raises(
        RuntimeError, match=r"layers.0.net, TorchNet, may draw random numbers in training: call eval\(\)"
    ):
        torch.export.export(as_module(invnet.Chain(invnet.AffineCoupling(4, TorchNet(net))), "store"), (x,))
