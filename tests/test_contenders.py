"""The contenders of the benchmarks compute the same thing, so that their times can be compared."""

import importlib.util
import os
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("benchmarks.contenders", reason="benchmarks/ is not beside invnet/")

import torch

import invnet
from benchmarks import (
    contenders,
    jets,
    memory_budget,
    memory_vs_depth,
    memory_vs_size,
    peers,
    products,
    small,
    tutorials,
)
from benchmarks import speed as speed_benchmark
from invnet.bench import speed, twin
from invnet.bench.contenders import data


@pytest.fixture(autouse=True)
def threads():
    before = invnet.num_threads()
    yield
    invnet.set_num_threads(before)


SHAPE = dict(hidden=8, levels=2, steps=2, channels=3)
BATCH = dict(batch=4, size=8, threads=1)


def needs(library):
    return pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=f"{library} is not installed")


def random_glow(prior, dtype="float64"):
    glow, rng = invnet.Glow(3, 8, 2, 2, prior=prior, dtype=dtype), np.random.default_rng(0)
    for parameter in glow.parameters():
        parameter.data += 0.1 * rng.standard_normal(parameter.data.shape).astype(dtype)
    return glow


def gradients_of(model, glow):
    """The twin's gradients by the names of invnet's parameters."""
    found = {}
    for level, (norms, convs, couplings, prior) in zip(model.levels, twin.levels_of(glow)):
        for k, (norm, conv, coupling, step) in enumerate(zip(norms, convs, couplings, level.steps)):
            m = level.mixes
            found |= {id(norm.log_s): m.scale.grad[k], id(norm.b): m.shift.grad[k], id(conv.log_s): m.log_s.grad[k]}
            found |= {id(conv.L): m.L.grad[k].tril(-1), id(conv.U): m.U.grad[k].triu(1)}
            found |= conditioner_gradients(coupling.net, step.coupling.net)
        if prior is not None:
            found |= conditioner_gradients(prior.net, level.prior.net)
    return {name: found[id(parameter)].numpy() for name, parameter in glow.named_parameters()}


def conditioner_gradients(net, module):
    convolutions = [layer for layer in module if isinstance(layer, torch.nn.Conv2d)]
    weights = {id(W): c.weight.grad for W, c in zip(net.W, convolutions)}
    return weights | {id(b): c.bias.grad for b, c in zip(net.b, convolutions)}


@pytest.mark.parametrize("prior", [False, True])
def test_twin_has_the_loss_and_gradients_of_invnet(prior):
    glow = random_glow(prior)
    X = np.random.default_rng(1).standard_normal((4, 3, 8, 8))
    Z, logdet = glow.forward(X)
    loss, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
    glow.backward(dZ, Z, dlogdet)
    model = twin.Twin(glow)
    nats = model(torch.from_numpy(X))
    nats.backward()
    assert nats.item() == pytest.approx(loss, rel=1e-12)
    theirs = gradients_of(model, glow)
    for name, parameter in glow.named_parameters():
        gradient = theirs[name]
        if gradient.ndim == 4:  # a kernel: compared in torch's layout
            ours = twin.kernel_of(parameter.grad, gradient.shape[0])
        else:
            ours = parameter.grad
        np.testing.assert_allclose(ours, gradient, rtol=1e-9, atol=1e-9 * np.abs(gradient).max(), err_msg=name)


@pytest.mark.parametrize("loss_of", [jets.stored, jets.checkpointed])
def test_the_twin_of_jet_has_its_loss_and_gradients(loss_of):
    model, rng = jets.make_jet(8, 2, 10, 3, 16, "float64"), np.random.default_rng(0)
    for parameter in model.parameters():
        parameter.data += 0.1 * rng.standard_normal(parameter.data.shape)
    X = data(3, 2, 16).astype("float64")
    Z, logdet = model.forward(X)
    loss, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
    model.backward(dZ, Z, dlogdet)
    other = jets.Twin(model)
    nats = loss_of(other, torch.from_numpy(X))
    nats.backward()
    assert nats.item() == pytest.approx(loss, rel=1e-12)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-9, atol=1e-9 * np.abs(ours.grad).max())


def test_twin_logit_is_that_of_invnet():
    X = np.random.default_rng(0).random((3, 1, 4, 4))
    Z, logdet = invnet.Logit(0.05).forward(X)
    z, mean = twin.logit(torch.from_numpy(X), 0.05)
    np.testing.assert_allclose(z.numpy(), Z, rtol=1e-12)
    assert mean.item() == pytest.approx(logdet.mean(), rel=1e-12)


@pytest.mark.parametrize("run", ["checkpointed", pytest.param("memcnn", marks=needs("memcnn"))])
@pytest.mark.filterwarnings("ignore")
def test_memory_savers_have_the_gradients_of_the_twin(run):
    glow = random_glow(prior=False)
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((4, 3, 8, 8)))
    stored, saving = twin.Twin(glow), peers.memcnn(glow) if run == "memcnn" else twin.Twin(glow)
    loss = stored(x)
    loss.backward()
    other = saving(x) if run == "memcnn" else twin.checkpointed(saving, x)
    other.backward()
    assert other.item() == pytest.approx(loss.item(), rel=1e-12)
    norm = lambda model: torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    assert norm(saving) == pytest.approx(norm(stored), rel=1e-9)
    first = lambda model: next(p.grad for name, p in model.named_parameters() if name.endswith("net.0.weight"))
    torch.testing.assert_close(first(saving), first(stored), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "contender",
    [pytest.param(c, marks=needs(c.library), id=c.name) for c in map(contenders.CONTENDERS.get, contenders.DEFAULT)],
)
@pytest.mark.filterwarnings("ignore")
def test_contender_runs_and_gives_nats_of_the_same_data(contender):
    step = contender.make(**SHAPE, **BATCH)
    X = data(3, BATCH["batch"], BATCH["size"])
    normal = 0.5 * (X * X).sum() / len(X) + 0.5 * X[0].size * np.log(2 * np.pi)
    # At the start all but rotations is the identity; in normflows couplings are sigmoid(2) and ActNorm is set by data.
    assert step() == pytest.approx(normal, rel=1e-5 if contender.library != "normflows" else 0.2)
    per_step = lambda C: 2 * C + (9 * C // 2 * 8 + 8) + (64 + 8) + (9 * 8 * C + C)  # ActNorm and conditioner
    mix = lambda C: (
        0 if contender.library == "FrEIA" else 2 * C * C + C
    )  # L, U whole matrices; FrEIA's rotation is fixed
    assert step.parameters == sum(2 * (per_step(C) + mix(C)) for C in (12, 24))


def test_flops_are_those_of_the_convolutions():
    one = dict(hidden=4, levels=1, steps=1, channels=3, batch=2, size=8)
    assert speed.flops(**one) == 2 * 2 * 16 * (9 * 6 * 4 + 4 * 4 + 9 * 4 * 12)
    assert speed.flops(**one | {"steps": 3}) == 3 * speed.flops(**one)


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in small.MAKERS])
@pytest.mark.filterwarnings("ignore")
def test_small_contender_runs(name):
    step, parameters = small.MAKERS[name](2)
    step()
    assert parameters > 10 * 16 * 16


BENCHMARKS = {
    memory_vs_depth: "--depths 1 2 --size 8 --batch 2 --hidden 8 --contenders invnet checkpointed",
    memory_vs_size: "--sizes 8 16",
    speed_benchmark: "--hidden 64 --size 8 --rounds 1 --contenders invnet twin",
}


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peak memory is measured on Linux only")
@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda module: module.__name__.split(".")[-1])
@pytest.mark.exhaustive
def test_benchmark_on_invnet_bench_runs_and_leaves_its_files(benchmark, tmp_path, monkeypatch):
    threads = invnet.num_threads()
    monkeypatch.setattr(sys, "argv", ["benchmark", *BENCHMARKS[benchmark].split(), "--out", str(tmp_path)])
    try:
        benchmark.main()
    finally:
        invnet.set_num_threads(threads)
    name = benchmark.__name__.split(".")[-1]
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"{name}_quick.csv", f"{name}_quick.png"]


def test_products_are_those_of_openblas():
    assert len(products.measure(20, 33, 1)) == 2  # compares numbers before it times


@pytest.mark.filterwarnings("ignore")
def test_a_budget_keeps_more_where_it_may(monkeypatch):
    monkeypatch.setattr(memory_budget, "OTHERS", ("twin",))
    rows = [row for row in memory_budget.measure(64, 8, 1) if row["contender"].startswith("invnet")]
    kept = [row["kept"] for row in rows]
    assert kept == sorted(kept) and kept[0] == 0 < kept[-1] and all(row["kept"] <= row["budget"] for row in rows)


def test_the_energy_of_the_tutorials_is_invnets():
    X = np.random.default_rng(0).standard_normal((50, 2)) * 3
    target = invnet.data.Energy(1)
    np.testing.assert_allclose(tutorials.energy(torch.from_numpy(X)), target(X)[0], rtol=1e-12)


@pytest.mark.parametrize("problem", tutorials.PROBLEMS)
def test_the_tutorials_models_have_the_sizes_of_zukos_and_take_steps(problem):
    before = torch.get_num_threads(), invnet.num_threads()
    batch, makers = tutorials.PROBLEMS[problem]
    try:
        step, parameters = makers["invnet"](batch)
        step(), step()
        if problem != "banana" and "zuko" in makers:
            pytest.importorskip("zuko")
            assert makers["zuko"](batch)[1] == parameters
    finally:
        torch.set_num_threads(before[0]), invnet.set_num_threads(before[1])
