"""as_module: a layer as an nn.Module, in everything that people do with modules."""

import copy
import io
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from cases import LAYERS, representatives
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import invnet
from invnet.torch import TorchNet, as_module

ENGINES = ("numpy", "torch")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def glow(engine="numpy", dtype="float64", **options):
    """A small conditional Glow with random weights, X and cond as tensors."""
    rng = np.random.default_rng(0)
    layer = invnet.Glow(1, 6, 1, 2, activation="softplus", cond_channels=2, dtype=dtype, **options)
    for parameter in layer.parameters():
        parameter.data += (0.2 * rng.standard_normal(parameter.data.shape)).astype(dtype)
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    return (
        layer.to(engine),
        torch.randn(3, 1, 4, 4, dtype=kind, requires_grad=True),
        torch.randn(3, 2, dtype=kind, requires_grad=True),
    )


def loss_of(z, logdet):
    weights = torch.linspace(0.3, 1.2, z.numel(), dtype=z.dtype).reshape(z.shape)
    return (z * weights).sum() + (logdet * torch.linspace(0.5, 1.0, len(logdet), dtype=z.dtype)).sum()


def gradients(module, *inputs):
    return torch.autograd.grad(loss_of(*module(*inputs)), [*inputs, *module.parameters()])


def assert_close(ours, theirs, rtol=1e-9):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


# ---- the laws


@pytest.mark.parametrize(
    "name", representatives(name for name in LAYERS if "Exact" not in name)
)  # which rounds: autograd finds no derivative
def test_rebuilding_gives_what_storing_gives(name):
    layer, X, cond = LAYERS[name].build()
    inputs = [torch.from_numpy(array).requires_grad_() for array in (X, cond) if array is not None]
    rebuild, store = as_module(layer), as_module(layer, memory="store")
    assert_close(rebuild(*inputs), store(*inputs))
    stored = torch.autograd.grad(
        loss_of(*store(*inputs)), [*inputs, *store.parameters()], allow_unused=True, materialize_grads=True
    )
    assert_close(gradients(rebuild, *inputs), stored, rtol=1e-7)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_are_those_of_differences(engine, inverse):
    layer, x, cond = glow(engine)
    module = as_module(layer)
    assert torch.autograd.gradcheck(module.inverse if inverse else module, (x, cond))
    weight = dict(module.named_parameters())["layers.3.net.W.0"]

    def of_weight(values):
        with torch.no_grad():
            weight.copy_(values)
        return sum(out.sum() for out in ((module.inverse(x, cond) ** 2,) if inverse else module(x, cond)))

    values, step = weight.detach().clone(), torch.zeros_like(weight)
    step[0, 0, 0, 0] = 1e-6
    difference = (of_weight(values + step) - of_weight(values - step)) / 2e-6
    of_weight(values).backward()
    torch.testing.assert_close(weight.grad[0, 0, 0, 0], difference, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_module_is_the_layer(engine):
    layer, x, cond = glow(engine)
    module, arrays = as_module(layer), [t.detach() if engine == "torch" else t.detach().numpy() for t in (x, cond)]
    z, logdet = module(x, cond)
    Z, L = layer.forward(*arrays)
    assert torch.equal(z, torch.as_tensor(Z)) and torch.equal(logdet, torch.as_tensor(L))
    assert logdet.shape == (3,) and z.shape == x.shape
    torch.testing.assert_close(module.inverse(z, cond), x)
    assert sorted(module.state_dict()) == sorted(layer.state_dict())
    assert len(list(module.parameters())) == len(layer.parameters())
    assert module.layer is layer and "Glow, memory='rebuild'" in repr(module)


# ---- the graph


@pytest.mark.parametrize("engine", ENGINES)
def test_it_composes_on_both_sides(engine):
    layer, _, cond = glow(engine)
    torch.manual_seed(0)
    before, after, summary = (
        (nn.Conv2d(1, 1, 3, padding=1).double() for _ in range(3)),
        nn.Linear(16, 3).double(),
        nn.Linear(5, 2).double(),
    )
    before = nn.Sequential(*before)
    data, seen = torch.randn(3, 1, 4, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    results = []
    for memory in ("rebuild", "store"):
        module = as_module(layer, memory)
        z, logdet = module(torch.tanh(before(data)), torch.relu(summary(seen)))
        loss = after(z.relu().flatten(1)).square().sum() - logdet.sum()
        results.append(
            torch.autograd.grad(
                loss, [*before.parameters(), *after.parameters(), *summary.parameters(), *module.parameters()]
            )
        )
    assert_close(*results, rtol=1e-7)


def test_in_several_places_of_one_graph():
    layer, x, cond = glow()
    results = []
    for memory in ("rebuild", "store"):
        module = as_module(layer, memory)
        z, first = module(x, cond)
        z, second = module(torch.tanh(z), cond)
        back = module.inverse(0.5 * z, cond)
        results.append(torch.autograd.grad(loss_of(z + back, first * second), [x, cond, *module.parameters()]))
    assert_close(*results, rtol=1e-7)


def test_dropout_in_several_places_of_one_graph_and_twice_backward():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.Dropout(0.5), nn.Tanh(), nn.Linear(16, 4)).double()
    layers = [
        layer
        for i in range(2)
        for layer in (invnet.Conv1x1(4, seed=i, dtype="float64"), invnet.AffineCoupling(4, TorchNet(net)))
    ]
    layer, x = invnet.Chain(*layers), torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    results = []
    for memory in ("rebuild", "store"):
        module = as_module(layer, memory)
        torch.manual_seed(1)
        z, first = module(x)
        z, second = module(torch.tanh(z))
        back = module.inverse(torch.sin(z))
        loss = loss_of(z + back, first * second)
        torch.rand(1)  # whatever else is drawn before backward
        for _ in range(2):
            results.append(torch.autograd.grad(loss, [x, *module.parameters()], retain_graph=True))
    for other in results[1:]:
        assert_close(results[0], other, rtol=1e-8)


def test_backward_twice_adds_up():
    layer, x, cond = glow()
    module = as_module(layer)
    once = gradients(module, x, cond)
    loss = loss_of(*module(x, cond))
    loss.backward(retain_graph=True)
    loss.backward()
    assert_close([t.grad for t in (x, cond, *module.parameters())], [2 * g for g in once])
    assert not any(parameter.grad.any() for parameter in layer.parameters())  # those of the layer are its own


def test_only_z_or_only_logdet_or_nothing_in_the_loss():
    layer, x, cond = glow()
    module, store = as_module(layer), as_module(layer, "store")
    for part in (0, 1):
        ours, theirs = (
            [
                torch.autograd.grad(
                    (m(x, cond)[part] ** 2).sum(), [x, cond, *m.parameters()], allow_unused=True, materialize_grads=True
                )
            ]
            for m in (module, store)
        )
        assert_close(*ours, *theirs, rtol=1e-7)
    z, logdet = module(x, cond)
    assert torch.autograd.grad(x.sum() + 0 * cond.sum(), x)[0].eq(1).all()  # the graph of z is dropped unused


def test_what_needs_no_gradient_gets_none():
    layer, x, cond = glow()
    module = as_module(layer)
    full = gradients(module, x, cond)
    z, logdet = module(x.detach(), cond.detach())
    loss_of(z, logdet).backward()
    assert_close([p.grad for p in module.parameters()], full[2:])
    module.zero_grad()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    assert not module(x.detach(), cond.detach())[0].requires_grad
    frozen = next(module.parameters())
    loss_of(*module(x.detach(), cond)).backward()
    assert frozen.grad is None and x.grad is None
    assert_close([cond.grad], [full[1]])
    with torch.no_grad():
        assert not module(x, cond)[0].requires_grad
    with torch.inference_mode():
        assert torch.equal(module(x, cond)[0], z)


def test_inputs_of_any_strides_are_left_as_they_are():
    layer, x, cond = glow()
    module = as_module(layer)
    z, logdet = module(x, cond)
    wide = torch.zeros(3, 1, 4, 8, dtype=x.dtype)
    wide[..., ::2] = x.detach()
    inputs = [
        x.detach().contiguous(memory_format=torch.channels_last),
        x.detach().mT.contiguous().mT,
        wide[..., ::2],
        x.detach()[:1].expand(3, -1, -1, -1),
    ]
    for tensor in inputs[:3]:
        before, version = tensor.clone(), tensor._version
        out = module(tensor.requires_grad_(), cond)
        assert_close(out, (z, logdet))
        loss_of(*out).backward()
        assert torch.equal(tensor, before) and tensor._version == version
    expanded = module(inputs[3], cond)[0]
    torch.testing.assert_close(expanded, module(inputs[3].clone(), cond)[0])


def test_the_output_and_the_weights_must_stay_until_backward():
    layer, x, cond = glow()
    module = as_module(layer)
    z, logdet = module(x, cond)
    z.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (z.sum() + logdet.sum()).backward()
    loss = loss_of(*module(x, cond))
    with torch.no_grad():
        next(module.parameters()).mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_pass_hooks():
    layer, x, cond = glow()
    module, seen = as_module(layer), []
    full = gradients(module, x, cond)
    weight = next(module.parameters())
    weight.register_hook(lambda gradient: 3 * gradient)
    weight.register_post_accumulate_grad_hook(lambda parameter: seen.append(parameter))
    module.register_forward_hook(lambda module, arguments, out: (2 * out[0], out[1]))
    z, logdet = module(x, cond)
    loss_of(z / 2, logdet).backward()
    assert_close([weight.grad], [3 * full[2]])
    assert seen == [weight]


@pytest.mark.parametrize("reentrant", [False, True])
def test_within_a_checkpoint(reentrant):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 4)).double()
    layer = invnet.Chain(invnet.Conv1x1(4, dtype="float64"), invnet.AffineCoupling(4, TorchNet(net)))
    module, x = as_module(layer), torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    full = gradients(module, x)
    torch.manual_seed(1)
    loss = loss_of(*checkpoint(module, x, use_reentrant=reentrant))
    loss.backward()
    assert_close([x.grad, *(p.grad for p in module.parameters())], full)


@pytest.mark.parametrize("engine", ENGINES)
def test_second_derivatives_and_transforms_name_the_storing_mode(engine):
    layer, x, cond = glow(engine)
    module = as_module(layer)
    for loss in (lambda: module(x, cond)[0].sum(), lambda: module.inverse(x, cond).sum()):
        (dx,) = torch.autograd.grad(loss(), x, create_graph=True)
        with pytest.raises(RuntimeError, match='second derivatives.*memory="store"'):
            dx.square().sum().backward()
    for transform in (torch.func.grad, torch.func.vmap, torch.func.jacrev):
        with pytest.raises(RuntimeError, match='torch.func.*memory="store"'):
            transform(lambda x: module(x, cond)[1].sum())(x)
    with pytest.raises(RuntimeError, match='forward-mode.*memory="store"'), torch.autograd.forward_ad.dual_level():
        module(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)), cond)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_storing_mode_has_them(engine):
    layer, x, cond = glow(engine)
    module = as_module(layer, memory="store")
    x, cond = x[:2, :, :2, :2].detach().requires_grad_(), cond[:2].detach().requires_grad_()
    assert torch.autograd.gradgradcheck(module, (x, cond)) and torch.autograd.gradgradcheck(module.inverse, (x, cond))
    logdet = lambda x, cond: module(x, cond)[1]
    (plain,) = torch.autograd.grad(logdet(x, cond).sum(), x)
    assert_close([torch.func.grad(lambda x: logdet(x, cond).sum())(x)], [plain])
    assert_close([torch.func.vmap(lambda x, cond: logdet(x[None], cond[None])[0])(x, cond)], [logdet(x, cond)])
    tangent = torch.randn_like(x)
    _, along = torch.func.jvp(lambda x: logdet(x, cond).sum(), (x,), (tangent,))
    torch.testing.assert_close(along, (plain * tangent).sum())
    weights = {name: parameter.detach() for name, parameter in module.named_parameters()}
    of_weights = torch.func.grad(lambda weights: loss_of(*torch.func.functional_call(module, weights, (x, cond))))(
        weights
    )
    assert_close(list(of_weights.values()), gradients(module, x, cond)[2:])


def test_the_storing_mode_takes_any_network_inside():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 4)).double().eval()
    module = as_module(invnet.AffineCoupling(4, TorchNet(net)), memory="store")
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(module, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close([module(x)[0]], [as_module(module.layer)(x)[0]])


def test_functional_call_takes_other_weights():
    layer, x, cond = glow()
    module, store = as_module(layer), as_module(copy.deepcopy(layer), "store")
    other = {name: (1.1 * parameter.detach()).requires_grad_() for name, parameter in module.named_parameters()}
    own = loss_of(*module(x, cond))
    results = [loss_of(*torch.func.functional_call(m, other, (x, cond))) for m in (module, store)]
    again = loss_of(*module(x, cond))
    torch.testing.assert_close(*results)
    assert torch.equal(own, again)
    ours, theirs = (torch.autograd.grad(result, list(other.values())) for result in results)
    assert_close(ours, theirs, rtol=1e-7)
    assert_close(
        torch.autograd.grad(own, list(module.parameters())), torch.autograd.grad(again, list(module.parameters()))
    )


# ---- weights: shared, moved, saved


def test_both_have_the_same_memory_whoever_changes_it():
    layer, x, cond = glow()
    module = as_module(layer)
    z = module(x, cond)[0]
    loss_of(*module(x, cond)).backward()
    torch.optim.Adam(module.parameters(), lr=0.1).step()
    assert not torch.allclose(module(x, cond)[0], z)
    for name, parameter in layer.named_parameters():
        assert np.array_equal(parameter.data, dict(module.named_parameters())[name].detach())
    other, *_ = glow(seed=1)
    layer.load_state_dict(other.state_dict())
    assert torch.equal(module(x, cond)[0], as_module(other)(x, cond)[0])


def test_an_optimizer_of_invnet_may_gather_the_weights():
    layer, x, cond = glow()
    module = as_module(layer)
    arrays = x.detach().numpy(), cond.detach().numpy()
    Z, _ = layer.forward(*arrays)
    opt = invnet.optim.SGD(layer.parameters(), lr=1e-3)
    layer.backward(Z, Z, None, arrays[1])
    opt.step()
    z = module(x, cond)[0]
    assert np.array_equal(z.detach(), layer.forward(*arrays)[0]) and not np.array_equal(Z, z.detach())
    loss_of(*module(x, cond)).backward()
    torch.optim.SGD(module.parameters(), lr=1e-3).step()
    assert np.array_equal(module(x, cond)[0].detach(), layer.forward(*arrays)[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_either_may_change_its_dtype(engine):
    layer, x, cond = glow(engine)
    module = as_module(layer)
    z = module(x, cond)[0]
    module.float()
    assert str(layer.dtype).endswith("float32") and layer.parameters()[0].grad.dtype == layer.dtype
    torch.testing.assert_close(module(x.float(), cond.float())[0], z.float(), rtol=1e-4, atol=1e-4)
    layer.to(dtype="float64")
    module(x, cond)[0].sum().backward()
    assert all(p.dtype == torch.float64 and p.grad.dtype == torch.float64 for p in module.parameters())
    with pytest.raises(TypeError, match="float32 or float64.*float16"):
        module.half()


def test_a_memory_format_leaves_the_weights_as_they_lie():
    layer, x, cond = glow()
    module = as_module(layer)
    z = module(x, cond)[0]
    module.to(memory_format=torch.channels_last)
    torch.testing.assert_close(module(x.contiguous(memory_format=torch.channels_last), cond)[0], z)
    assert layer.layers[3].net.W[0].data.flags.c_contiguous
    with torch.no_grad():
        next(module.parameters()).add_(0.5)
    assert np.array_equal(layer.parameters()[0].data, next(module.parameters()).detach())


def test_the_layer_may_change_its_engine():
    layer, x, cond = glow()
    module = as_module(layer)
    full = gradients(module, x, cond)
    layer.to("torch")
    assert_close(gradients(module, x, cond), full, rtol=1e-7)
    layer.to("numpy")
    assert_close(gradients(module, x, cond), full)


@pytest.mark.parametrize("assign", [False, True])
def test_state_goes_through_files_of_pytorch(assign):
    layer, x, cond = glow()
    module, file = as_module(layer), io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = as_module(glow(seed=2)[0])
    other.load_state_dict(torch.load(file), assign=assign)
    assert torch.equal(other(x, cond)[0], module(x, cond)[0])
    assert np.array_equal(
        other.layer.forward(x.detach().numpy(), cond.detach().numpy())[0], module(x, cond)[0].detach()
    )


@pytest.mark.parametrize("how", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_and_pickles_are_independent(how):
    layer, x, cond = glow()
    module = as_module(layer)
    z, full = module(x, cond)[0].detach(), gradients(module, x, cond)
    other = how(module)
    assert_close(gradients(other, x, cond), full)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    assert torch.equal(module(x, cond)[0], z) and not torch.equal(other(x, cond)[0], z)


def test_weights_as_one_vector():
    layer, x, cond = glow()
    module = as_module(layer)
    vector = nn.utils.parameters_to_vector(module.parameters()).detach()
    nn.utils.vector_to_parameters(0.5 * vector, module.parameters())
    z = module(x, cond)[0]
    for parameter, before in zip(layer.parameters(), glow()[0].parameters()):
        assert np.array_equal(parameter.data, 0.5 * before.data)
    assert torch.equal(z, as_module(layer)(x, cond)[0])


def test_tied_weights_are_one_parameter():
    norm = invnet.ActNorm(3, dtype="float64")
    module = as_module(invnet.Chain(norm, invnet.Conv1x1(3, dtype="float64"), norm))
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert len(list(module.parameters())) == 5 and len(module.state_dict()) > 5
    store = as_module(module.layer, "store")
    assert_close(gradients(module, x), gradients(store, x), rtol=1e-8)


def test_initialize_sets_the_start_from_data():
    module = as_module(invnet.Chain(invnet.ActNorm(3), invnet.Conv1x1(3)))
    x = 5 + 3 * torch.randn(200, 3)
    z = module.initialize(x)
    torch.testing.assert_close(z, module(x)[0].detach())
    assert not z.requires_grad and float(abs(z.mean())) < 1e-4


# ---- training


@pytest.mark.parametrize("engine", ENGINES)
def test_an_ordinary_loop_trains_it(engine):
    torch.manual_seed(0)
    layer = invnet.RealNVP(2, 16, 4, cond_channels=3, seed=0).to(engine)
    flow, summary = as_module(layer), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    parameters = [*flow.parameters(), *summary.parameters()]
    opt = torch.optim.AdamW(parameters, lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 60)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    seen = torch.randn(512, 4)
    data = DataLoader(TensorDataset(seen[:, :2] * 2 + 0.1 * torch.randn(512, 2), seen), batch_size=128, shuffle=True)
    losses = []
    for _ in range(15):
        for x, y in data:
            z, logdet = flow(x, summary(y))
            loss = (0.5 * z.square().sum(1) - logdet).mean()
            opt.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(opt)
            nn.utils.clip_grad_norm_(parameters, 5.0)
            scaler.step(opt)
            scaler.update()
            schedule.step()
            losses.append(loss.item())
    assert np.mean(losses[-4:]) < losses[0] - 1.0


@pytest.mark.parametrize("engine", ENGINES)
def test_autocast_around_it(engine):
    layer, x, cond = glow(engine, "float32")
    module, enter = as_module(layer), nn.Conv2d(1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        h = enter(x)
        assert h.dtype == torch.bfloat16
        z, logdet = module(h, cond)
        assert z.dtype == logdet.dtype == torch.float32
        loss = loss_of(z, logdet)
    loss.backward()
    assert enter.weight.grad is not None and x.grad.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        z, logdet = module(x, cond)
        back = module.inverse(z, cond)
    assert (back - x).abs().median() < 1e-5 and (
        back - x
    ).abs().max() < 0.02  # one map both ways, whatever its conditioners compute in
    exact = module(x, cond)[0]
    assert torch.equal(z, exact) == (engine == "numpy") and (z - exact).norm() < 0.1 * exact.norm()
    loss_of(z, logdet).backward()  # after autocast ended


@pytest.mark.exhaustive
def test_two_processes_give_the_gradients_of_one(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, tmp_path / "meeting"], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("agrees") == 2


RANKS = """
import sys
import numpy as np, torch, torch.distributed as dist, torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel
import invnet

class Conditioner(torch.nn.Sequential):
    def forward(self, x, cond):
        return super().forward(x)

def flow(rank):
    layer = invnet.RealNVP(3, 8, 3, mix="lu", cond_channels=2, seed=0, dtype="float64")
    for p in layer.parameters():
        p.data += 0.1 * np.random.default_rng(rank).standard_normal(p.data.shape)
    torch.manual_seed(rank)
    net = Conditioner(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    coupling = invnet.AffineCoupling(3, invnet.torch.TorchNet(net))  # an nn.Module inside, in two places
    return Conditioner(), invnet.torch.as_module(invnet.Chain(coupling, layer, invnet.Permute.reversal(3), coupling))

def work(rank, meeting):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    torch.manual_seed(0)
    x, cond = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    _, one = flow(0)
    loss = lambda z, logdet: (0.5 * z.square().sum(1) - logdet).mean()
    loss(*one(x, cond)).backward()
    module = DistributedDataParallel(flow(rank)[1], bucket_cap_mb=0.001)  # which sends the weights of rank 0
    for _ in range(2):
        module.zero_grad()
        half = slice(4 * rank, 4 * rank + 4)
        loss(*module(x[half], cond[half])).backward()
    for a, b in zip(module.parameters(), one.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)
    print("agrees", flush=True)
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.spawn(work, (sys.argv[1],), nprocs=2)
"""


def test_the_compiler_leaves_it_alone():
    layer, x, cond = glow()
    module = as_module(layer)
    around = lambda x: torch.sin(module(torch.cos(x), cond)[0]).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(around, backend="eager")
        loss = compiled(x)
    torch.testing.assert_close(loss, around(x))
    ours = torch.autograd.grad(loss, [x, *module.parameters()])
    assert_close(ours, torch.autograd.grad(around(x), [x, *module.parameters()]))


# ---- errors


def test_errors_say_what_is_required():
    layer, x, cond = glow()
    module = as_module(layer)
    with pytest.raises(TypeError, match="takes a Layer or a Flow of invnet; got Linear"):
        as_module(nn.Linear(2, 2))
    with pytest.raises(ValueError, match='"rebuild" or "store"; got \'keep\''):
        as_module(layer, memory="keep")
    with pytest.raises(TypeError, match="x is a tensor; got ndarray"):
        module(x.detach().numpy(), cond)
    with pytest.raises(TypeError, match="computes in float64; got X of dtype"):
        module(x.float(), cond)
    with pytest.raises(ValueError, match="takes .*spatial axes divisible"):
        module(x[:, :, :3], cond)
    with pytest.raises(ValueError, match="on cpu, x on meta"):
        module(x.to("meta"), cond)
    with pytest.raises(ValueError, match="takes a condition of shape"):
        module(x, cond[:, :1])


@pytest.mark.parametrize("memory", ["rebuild", "store"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "make",
    [
        lambda: invnet.RealNVP(4, 8, 2, cond_channels=2),
        lambda: invnet.Flow(invnet.RealNVP(4, 8, 2, cond_channels=2), (4,)),
        lambda: invnet.Chain(invnet.Permute.reversal(4), invnet.RealNVP(4, 8, 2, cond_channels=2)),
        lambda: invnet.Permute.reversal(4),
    ],
    ids=["layer", "flow", "buffer first", "no parameters"],
)
def test_a_tensor_of_another_dtype_or_device_is_told_what_was_required(make, engine, memory):
    module, x, cond = as_module(make().to(engine), memory), torch.randn(3, 4), torch.randn(3, 2)
    takes_cond = not isinstance(getattr(module, "layer", None), invnet.Permute)
    for dtype in (torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.complex64):
        with pytest.raises(TypeError, match=f"computes in torch.float32.* got x of {dtype}: convert it with .to"):
            module(x.to(dtype), cond)
    with pytest.raises(TypeError, match="computes in torch.float32.* got cond of torch.complex64"):
        module(x, cond.to(torch.complex64))
    for arguments in ((x.to("meta"), cond), (x, cond.to("meta"))):
        with pytest.raises(ValueError, match=r"the module is on cpu, (x|cond) on meta: move one of them with \.to"):
            module(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        out = module(x.bfloat16(), cond.bfloat16() if takes_cond else None)
    assert (out[0] if isinstance(out, tuple) else out).dtype == torch.float32


def test_a_layer_without_parameters():
    module = as_module(invnet.Squeeze())
    x = torch.randn(2, 1, 4, 4, requires_grad=True)
    z, logdet = module(x)
    assert torch.equal(module.inverse(z), x) and torch.equal(logdet, torch.zeros(2))
    z.sum().backward()
    assert x.grad.eq(1).all()


@pytest.mark.exhaustive
def test_memory_does_not_grow_with_depth():
    def step(steps):
        return peak(f"""
layer = invnet.Chain(*[layer for i in range({steps}) for layer in (invnet.Conv1x1(8, seed=i), invnet.AffineCoupling(8, invnet.ConvNet(4, 16, 8)))])
module, x = invnet.torch.as_module(layer), torch.randn(4, 8, 64, 64)
def run():
    z, logdet = module(x)
    (z.square().sum() - logdet.sum()).backward()
""")

    shallow, deep = step(2), step(16)
    assert deep < shallow + 2e6, (shallow, deep)  # hidden layers alone are 2 MB for each coupling


def peak(setup):
    code = f"""
import torch, invnet
from invnet.bench.peak import reset_peak, resident
torch.set_num_threads(1); invnet.set_num_threads(1)
{setup}
run(); base = resident("VmRSS"); reset_peak(); run(); print(resident("VmHWM") - base)
"""
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    return int(
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


# ---- random numbers


def dropping(engine, reach=None, size=8):
    torch.manual_seed(0)
    layers = []
    for i in range(3):
        net = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.Dropout(0.4), nn.Tanh(), nn.Conv2d(8, 4, 1), nn.Dropout2d(0.2)
        ).double()
        layers += [
            invnet.Conv1x1(4, seed=i, dtype="float64"),
            invnet.AffineCoupling(4, TorchNet(net, shape=(2, size, size), reach=reach)),
        ]
    return invnet.Chain(*layers).to(engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("N, size, reach", [(1, 8, None), (5, 8, None), (150, 8, None), (601, 4, 1), (2, 40, 1)])
def test_both_modes_draw_the_same_masks(engine, N, size, reach, monkeypatch):
    monkeypatch.setattr("invnet.ops.numpy.TILE_BYTES", 1 << 18)
    layer = dropping(engine, reach, size)
    x = torch.randn(N, 4, size, size, dtype=torch.float64)
    for call in ("forward", "inverse"):
        results = []
        for memory in ("rebuild", "store"):
            torch.manual_seed(7)
            out = getattr(as_module(layer, memory), call)(x)
            results.append([*(out if isinstance(out, tuple) else (out,)), torch.rand(())])
        assert_close(*results)
