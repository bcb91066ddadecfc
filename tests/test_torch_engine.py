"""Layers on PyTorch's tensors: moved there and back, no autograd graph, autocast for conditioners alone, errors,
training, files.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from engines import aten_on_the_cpu, engines, operations_of

import invnet
from invnet import losses, objectives, optim
from invnet.bench.peak import peak_memory
from invnet.core import get_ops
from invnet.train import fit

torch = pytest.importorskip("torch")
rng = np.random.default_rng(0)


def glow(**options):
    """A Glow of random parameters, and a batch."""
    net, numbers = invnet.Glow(3, 8, 2, 2, **options), np.random.default_rng(1)
    for p in net.parameters():
        p.data += (0.05 * numbers.standard_normal(p.data.shape)).astype(p.data.dtype)
    return net, numbers.standard_normal((4, 3, 8, 8)).astype(net.dtype)


def step(net, X):
    """What a step of training gives, as NumPy arrays."""
    net.zero_grad()
    Z, logdet = net.forward(X)
    loss, dZ, dlogdet = losses.gaussian_nll(Z, logdet)
    dX, X_back = net.backward(dZ, Z, dlogdet)
    arrays = (Z, logdet, dX, X_back, *(p.grad for p in net.parameters()))
    return [np.array(loss), *(get_ops(a).to_numpy(a).copy() for a in arrays)]


def same_bits(got, expected):
    """Of all but the loss, which engines sum in orders of their own."""
    assert abs(got[0] - expected[0]) <= 1e-6 * abs(expected[0])
    for a, b in zip(got[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(a, b)


def close(got, expected, tolerance):
    for a, b in zip(got, expected, strict=True):
        assert np.linalg.norm(a - b) <= tolerance * max(1.0, np.linalg.norm(b))


@engines()
def test_a_layer_moved_there_and_back_computes_the_same(engine):
    net, X = glow(dtype="float64", activation="softplus")
    expected = step(net, X)
    with engine.used():
        assert net.to(engine.name) is net
        close(step(net, engine.array(X)), expected, 1e-9)
    for got, e in zip(step(net.to("numpy"), X), expected, strict=True):
        np.testing.assert_array_equal(got, e)


MODELS = {
    "images": lambda: glow(),
    "vectors": lambda: flow(invnet.RealNVP(3, 8, 4, mix="lu")),
    "splines": lambda: flow(invnet.NSF(2, 8, 2)),
}


def flow(net):
    numbers = np.random.default_rng(1)
    for p in net.parameters():
        p.data += (0.1 * numbers.standard_normal(p.data.shape)).astype(p.data.dtype)
    return net, numbers.standard_normal((300, net.channels), dtype="float32")


@pytest.mark.parametrize("model", MODELS)
def test_runs_of_layers_on_tensors_of_the_cpu_give_the_bits_of_numpy(model):
    net, X = MODELS[model]()
    expected = step(net, X)
    same_bits(step(net.to("torch"), torch.from_numpy(X)), expected)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_sees_that_a_tensor_has_other_memory(model):
    net, X = MODELS[model]()
    X = torch.from_numpy(X)
    step(net.to("torch"), X)
    for p in net.parameters():
        p.data.data, p.grad.data = 1.1 * p.data, torch.zeros_like(p.grad)
    got = step(net, X)
    same_bits(got, step(net.to("numpy"), X.numpy()))


#: what NumPy's engine does faster than the reference, and tensors have of the reference: conversions, sums and
#: comparisons, which aten does as fast, and the grid of exact mode
NOT_FORWARDED = {
    *("name", "errstate", "astype", "copy", "same_dtype", "diagonal_matrix", "images", "rows", "at_rows", "adam_"),
    *("fingerprint", "largest_square", "mean_square", "same"),
    *("lifting", "lift_", "unlift_", "add_on_grid_", "subtract_on_grid_"),
}


def test_tensors_of_the_cpu_have_all_operations_of_numpys_engine():
    from invnet.ops.numpy import NumpyOps
    from invnet.ops.reference import Ops
    from invnet.ops.torch import TorchOps
    from invnet.ops.torch.host import HostOps

    missing = operations_of(NumpyOps, Ops) - operations_of(TorchOps, Ops) - operations_of(HostOps, TorchOps)
    assert missing == NOT_FORWARDED


def test_the_tensors_of_a_layer_and_of_its_results():
    net, X = glow()
    Z, logdet = net.to("torch").forward(torch.from_numpy(X))
    for tensor in (Z, logdet, *(p.data for p in net.parameters()), *(p.grad for p in net.parameters())):
        assert type(tensor) is torch.Tensor and tensor.dtype == torch.float32 and tensor.device.type == "cpu"


@engines("torch", "torch-aten")
def test_no_graph_is_built_and_a_tensor_that_requires_grad_is_data(engine):
    net = invnet.Chain(
        invnet.AffineCoupling(4, invnet.ConvNet(2, 8, 4, cond_channels=3)), invnet.Conv1x1(4), invnet.LeakyReLU(0.5)
    ).to("torch")
    X, cond = torch.randn(2, 4, 6, 6, requires_grad=True), torch.randn(2, 3, 6, 6, requires_grad=True)
    holder, before = invnet.Condition(cond), X.detach().clone()
    with engine.used():
        Z, logdet = net.forward(X, cond)
        dZ, dlogdet = torch.randn(2, 4, 6, 6, requires_grad=True), torch.randn(2, requires_grad=True)
        dX, X_back = net.backward(dZ, Z.clone().requires_grad_(), dlogdet, holder)
        y, pullback = net.layers[0].net.vjp(X[:, :2], cond)
        dx, dcond, gradients = pullback(y.clone().requires_grad_())
        back = net.inverse(Z.clone().requires_grad_(), cond)
    results = [Z, logdet, dX, X_back, y, dx, dcond, *gradients, back, holder.grad, *(p.grad for p in net.parameters())]
    assert not any(tensor.requires_grad or tensor.is_inference() for tensor in results)
    assert torch.equal(X.detach(), before) and X.requires_grad and X.grad is None and torch.is_grad_enabled()


def test_a_parameter_of_a_module_is_an_array_like_any_other():
    net, weight = invnet.ActNorm(3).to("torch"), torch.nn.Parameter(torch.randn(2, 3))
    assert not net.forward(weight)[0].requires_grad
    assert invnet.core.Parameter(weight).data.data_ptr() == weight.data_ptr()


@engines("torch", "torch-aten")
def test_threads_of_aten_are_as_many_after_a_call(engine):
    net, X = glow()
    before = torch.get_num_threads()
    with engine.used():
        inside = torch.get_num_threads()
        net.to("torch").forward(torch.from_numpy(X))
        assert torch.get_num_threads() == inside
    assert torch.get_num_threads() == before


# ---- autocast


@pytest.fixture
def convolved(monkeypatch):
    """The dtypes that aten's convolutions and products of conditioners meet."""
    from invnet.ops.torch import conv_stack

    dtypes, convolve = set(), conv_stack._convolve
    monkeypatch.setattr(conv_stack, "_convolve", lambda ops, X, *how: dtypes.add(X.dtype) or convolve(ops, X, *how))
    return dtypes


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.1), (torch.float16, 0.02)], ids=str)
def test_autocast_is_for_the_conditioner_alone(dtype, tolerance, convolved):
    net, X = glow(activation="softplus")
    expected = step(net.to("torch"), torch.from_numpy(X))
    with torch.autocast("cpu", dtype=dtype):
        got = step(net, torch.from_numpy(X))
        assert torch.is_autocast_enabled("cpu")
    assert convolved == {dtype}
    assert all(a.dtype == np.float32 for a in got[1:]) and all(p.data.dtype == torch.float32 for p in net.parameters())
    close(got, expected, tolerance)
    for a, b in zip(step(net, torch.from_numpy(X)), expected, strict=True):  # it ended with its context
        np.testing.assert_array_equal(a, b)


def test_what_has_no_conditioner_is_exact_under_autocast():
    """The bits of aten without autocast; those of NumPy's kernels, which do the same without, are others."""
    layer, X = (
        invnet.Chain(invnet.ActNorm(8), invnet.Conv1x1(8), invnet.Conv1x1(8, "householder")).to("torch"),
        torch.randn(4, 8, 6, 6),
    )
    with aten_on_the_cpu():
        expected = step(layer, X)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = step(layer, X)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_under_autocast_the_rebuilt_input_is_that_of_full_precision():
    """But where a rounding of the state moves what a conditioner in bfloat16 sees to the next number, 4e-3 away."""
    net, X = glow()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        X_back = step(net.to("torch"), torch.from_numpy(X))[4]
    assert np.median(np.abs(X_back - X)) < 1e-5 and np.abs(X_back - X).max() < 4e-3 * np.abs(X).max()


@pytest.mark.parametrize("model", [invnet.MAF, invnet.IAF])
def test_autoregressive_models_find_their_input_under_autocast(model):
    net, X = model(5, 16, 3), np.random.default_rng(0).standard_normal((8, 5)).astype("float32")
    for p in net.parameters():
        p.data += 0.1 * np.random.default_rng(1).standard_normal(p.data.shape).astype("float32")
    expected = step(net.to("torch"), torch.from_numpy(X))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close(step(net, torch.from_numpy(X)), expected, 1e-4)


def test_a_conditioner_alone_gives_the_dtype_of_its_layer_under_autocast(convolved):
    net, x, cond = invnet.ConvNet(3, 8, 4, cond_channels=2).to("torch"), torch.randn(2, 3, 5, 5), torch.randn(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, pullback = net.vjp(x, cond)
    dx, dcond, gradients = pullback(y)  # the context may end before the pullback
    assert {tensor.dtype for tensor in (y, dx, dcond, *gradients)} == {torch.float32} and convolved == {torch.bfloat16}


# ---- mistakes


def conditional():
    return invnet.AffineCoupling(4, invnet.DenseNet(2, 8, 4, cond_channels=2))


def two_engines():
    return [*invnet.ActNorm(2).parameters(), *invnet.ActNorm(2).to("torch").parameters()]


MISTAKES = {
    "a tensor given to NumPy": (
        lambda: invnet.RealNVP(4, 8, 2).forward(torch.zeros(2, 4)),
        TypeError,
        r'RealNVP computes on arrays of numpy; got X of torch: convert it, or the layer with \.to\("torch"\)',
    ),
    "an array given to PyTorch": (
        lambda: invnet.RealNVP(4, 8, 2).to("torch").inverse(np.zeros((2, 4), "float32")),
        TypeError,
        r'arrays of torch; got Z of numpy: .* \.to\("numpy"\)',
    ),
    "another device": (
        lambda: invnet.ActNorm(4).to("torch").forward(torch.zeros(2, 4, device="meta")),
        TypeError,
        "torch; got X of torch:meta",
    ),
    "a buffer's engine": (
        lambda: invnet.Permute([1, 0]).forward(torch.zeros(2, 2)),
        TypeError,
        "numpy; got X of torch",
    ),
    "a gradient of another engine": (
        lambda: invnet.ActNorm(4).to("torch").backward(np.zeros((2, 4), "float32"), torch.zeros(2, 4)),
        TypeError,
        "the gradient .* torch; got one of numpy",
    ),
    "a dlogdet of another engine": (
        lambda: invnet.ActNorm(4).to("torch").backward(torch.zeros(2, 4), torch.zeros(2, 4), np.zeros(2)),
        TypeError,
        "dlogdet .* torch; got one of numpy",
    ),
    "a condition of another engine": (
        lambda: conditional().to("torch").forward(torch.zeros(2, 4), np.zeros((2, 2), "float32")),
        TypeError,
        "the condition .* torch; got one of numpy",
    ),
    "a conditioner's engine": (
        lambda: invnet.DenseNet(2, 8, 4).forward(torch.zeros(2, 2)),
        TypeError,
        r'got x of torch: .*DenseNet with \.to\("torch"\)',
    ),
    "another dtype": (
        lambda: invnet.ActNorm(4).to("torch").forward(torch.zeros(2, 4).double()),
        TypeError,
        "float32.*float64",
    ),
    "half precision": (
        lambda: invnet.ActNorm(4).to("torch").forward(torch.zeros(2, 4).bfloat16()),
        TypeError,
        "float32 or float64.*bfloat16",
    ),
    "parameters of two engines": (lambda: optim.SGD(two_engines()), ValueError, "engine"),
    "no engine": (lambda: invnet.ActNorm(2).to("tensorflow"), ValueError, "numpy, torch, cupy; got 'tensorflow'"),
    "no device": (lambda: invnet.ActNorm(2).to("torch:abacus"), ValueError, "PyTorch finds no device 'abacus'"),
    "a device of NumPy": (lambda: invnet.ActNorm(2).to("numpy:cuda"), ValueError, "numpy:cuda"),
}


@pytest.mark.parametrize("call, error, text", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_answered(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---- what stands on layers


@engines()
def test_a_flow_has_the_density_and_the_samples_that_it_has_on_numpy(engine):
    base = invnet.bases.DiagonalNormal(np.ones(3), dtype="float64")
    flow = invnet.Flow(invnet.RealNVP(3, 8, 4, mix="lu", actnorm=True, seed=1, dtype="float64"), (3,), base)
    for p in flow.parameters():
        p.data += 0.1 * rng.standard_normal(p.data.shape)
    X, target = rng.standard_normal((6, 3)), lambda X: (-0.5 * (X * X).sum(1), -X)

    def everything(array):
        flow.zero_grad()
        log_p = flow.log_prob(array(X))
        samples, log_q = flow.sample_and_log_prob(5, seed=3)
        kl = (
            objectives.forward_kl(flow, array(X)),
            objectives.reverse_kl(flow, target, 7, seed=2),
            objectives.reverse_kl(flow, target, 7, seed=2, path=True),
        )
        arrays = [log_p, samples, log_q, flow.sample(4, temperature=0.7, seed=1), *(p.grad for p in flow.parameters())]
        return [np.array(kl), *(get_ops(a).to_numpy(a).copy() for a in arrays)]

    expected = everything(lambda X: X)
    with engine.used():
        flow.to(engine.name)
        close(everything(engine.array), expected, 1e-10)


def test_a_density_in_torch_is_approximated_on_tensors():
    flow = invnet.Flow(invnet.RealNVP(2, 8, 2), (2,)).to("torch")
    log_p = objectives.from_torch(lambda x: -0.5 * ((x - 1) ** 2).sum(1))
    with_graph = lambda X: (lambda x: (-0.5 * ((x - 1) ** 2).sum(1), 1 - x))(X.clone().requires_grad_())
    assert objectives.reverse_kl(flow, log_p, 9, seed=0) == pytest.approx(
        objectives.reverse_kl(flow, with_graph, 9, seed=0), abs=1e-5
    )
    assert not any(p.grad.requires_grad for p in flow.parameters())


BASES = {
    "Uniform": (lambda: invnet.bases.Uniform(-4.0, 5.0), (5, 3)),
    "Normal": (invnet.bases.Normal, (5, 3, 2)),
    "FullNormal": (lambda: invnet.bases.FullNormal(np.ones(3), np.eye(3) + 0.3, dtype="float64"), (5, 3)),
    "GaussianMixture": (
        lambda: invnet.bases.GaussianMixture(np.array([[0.0, 1, 2], [-1, 1, 0]]), 0.7, [1, 3], dtype="float64"),
        (5, 3),
    ),
}


@engines()
@pytest.mark.parametrize("name", BASES)
def test_a_base_is_what_it_is_on_numpy(name, engine):
    (make, shape), Z = BASES[name], rng.standard_normal(BASES[name][1])

    def everything(base, array):
        Z_there, back = array(Z), lambda a: get_ops(a).to_numpy(a).copy()
        samples = base.sample(shape, np.random.default_rng(0), Z_there)
        results = [base.log_prob(Z_there), base.log_prob_backward(0.3, Z_there), samples]
        if base.reparametrised:
            base.sample_backward(Z_there, samples)
        return [back(a) for a in (*results, *(p.grad for p in base.parameters()))]

    expected = everything(make(), lambda Z: Z)
    with engine.used():
        close(everything(make().to(engine.name), engine.array), expected, 1e-10)


@engines()
@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, 0.05, 0.9), optim.Adam, optim.Adamax, optim.RMSprop])
def test_an_optimizer_makes_the_steps_that_it_makes_on_numpy(make, engine):
    nets = [glow(dtype="float64", activation="softplus") for _ in range(2)]

    def trained(net, X):
        opt, ema = make(net.parameters()), optim.EMA(net.parameters(), 0.9)
        net.initialize(X)
        norms = []
        for _ in range(5):
            step(net, X)
            norms.append(np.array(optim.clip_by_global_norm(net.parameters(), 20.0)))
            opt.step()
            ema.update()
        return [*norms, *net.state_dict().values(), *opt.state_dict().values(), *ema.state_dict().values()]

    (net, X), (other, _) = nets
    expected = trained(net, X)
    with engine.used():
        close(trained(other.to(engine.name), engine.array(X)), expected, 1e-7)


@engines("torch", "torch-cuda")
def test_fit_learns_on_tensors_and_goes_on_from_its_checkpoint(engine, tmp_path):
    images = np.random.default_rng(0).integers(0, 4, (60, 1, 4, 4)) * 60
    options, rows = dict(epochs=2, batch=16, progress=False), {}
    for name in ("numpy", engine.name):
        net = invnet.Glow(1, 8, 1, 2).to(name)
        rows[name] = fit(net, images, run=tmp_path / name.replace(":", "-"), **options)
    np.testing.assert_allclose(rows[engine.name][-1]["validation"], rows["numpy"][-1]["validation"], rtol=1e-3)
    on = fit(
        invnet.Glow(1, 8, 1, 2).to(engine.name),
        images,
        run=tmp_path / engine.name.replace(":", "-"),
        resume=True,
        progress=False,
    )
    assert on[-1]["step"] == rows[engine.name][-1]["step"]


def test_a_file_holds_the_layer_whatever_its_engine(tmp_path):
    net, X = glow()
    Z = net.forward(X)[0]
    invnet.save(net.to("torch"), tmp_path / "net.safetensors")
    np.testing.assert_array_equal(invnet.load(tmp_path / "net.safetensors").forward(X)[0], Z)
    other = invnet.Glow(3, 8, 2, 2, seed=5).to("torch")
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.forward(torch.from_numpy(X))[0], net.forward(torch.from_numpy(X))[0])


@engines()
def test_kept_activations_change_no_gradient(engine):
    net, X = glow(dtype="float64", activation="softplus")
    with engine.used():
        expected = step(net.to(engine.name), engine.array(X))
        net.memory_budget = 1e9
        for _ in range(2):
            close(step(net, engine.array(X)), expected, 1e-12)
        Z, _ = net.forward(engine.array(X))
        net.backward(Z, Z.requires_grad_() if "torch" in engine.name else Z)
        net.forward(engine.array(X))
        Z = engine.array(X[::-1].copy())  # the same numbers in another order: not the Z of that forward
        dX = net.backward(Z, Z)[0]
        net.memory_budget = 0
        close([engine.back(dX)], [engine.back(net.backward(Z, Z)[0])], 1e-12)


@engines("torch", "torch-aten", "torch-cuda")
def test_blocks_of_an_image_give_what_the_whole_gives(engine, monkeypatch):
    from invnet.ops import numpy as numpy_engine
    from invnet.ops import tile
    from invnet.ops import torch as torch_engine

    def everything():
        net = invnet.AffineCoupling(
            5, invnet.ConvNet(3, 8, 4, cond_channels=3, activation="softplus", seed=1, dtype="float64")
        )
        for p in net.parameters():
            p.data += 0.1 * np.random.default_rng(1).standard_normal(p.data.shape)
        X, cond = (np.random.default_rng(2).standard_normal(shape) for shape in ((2, 5, 12, 14), (2, 3, 12, 14)))
        net.to(engine.name)
        holder = invnet.Condition(engine.array(cond))
        Z, logdet = net.forward(engine.array(X), holder)
        dX, X_back = net.backward(Z, Z, 0.3, holder)
        return [engine.back(a) for a in (Z, logdet, dX, X_back, holder.grad, *(p.grad for p in net.parameters()))]

    with engine.used():
        whole, made = everything(), []
        for module in (numpy_engine, torch_engine):
            monkeypatch.setattr(module, "_tiles", module._tiles.__wrapped__)
        monkeypatch.setattr(numpy_engine, "TILE_BYTES", 14_000)
        monkeypatch.setattr(torch_engine, "TILE_BYTES", {"cpu": 14_000, "cuda": 14_000})
        monkeypatch.setattr(
            tile,
            "tiles_of",
            lambda *how, tiles_of=tile.tiles_of: [made.append(each) or each for each in tiles_of(*how)],
        )
        close(everything(), whole, 1e-10)
    assert any(not tile.whole for tile in made)


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peak memory is measured on Linux only")
def test_memory_does_not_grow_with_depth():
    shape = dict(hidden=32, levels=2, channels=3, batch=4, size=64, threads=1)
    shallow, deep = (peak_memory("invnet-torch", steps=steps, **shape)["activations"] for steps in (2, 12))
    assert 2**20 < shallow and deep < 1.1 * shallow + 2**18


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_memory_on_a_device_does_not_grow_with_depth():
    def peak(steps):
        net, X = invnet.Glow(3, 64, 2, steps).to("torch:cuda"), torch.randn(16, 3, 64, 64, device="cuda")
        step(net, X)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(net, X)
        return torch.cuda.max_memory_allocated() - before

    assert peak(16) < 1.05 * peak(2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_step_waits_for_the_device_once():
    net, X = invnet.Glow(3, 16, 2, 4).to("torch:cuda"), torch.randn(4, 3, 16, 16, device="cuda")
    Z, _ = net.forward(X)
    torch.cuda.set_sync_debug_mode("error")
    try:
        net.forward(X)
        net.backward(Z, Z)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_importing_invnet_with_torch_installed_does_not_import_it():
    code = "import sys, invnet; invnet.ActNorm(3); print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


def test_without_torch_the_error_says_how_to_get_it():
    code = "import sys, invnet; sys.modules['torch'] = None\ntry: invnet.Planar(2).to('torch')\nexcept ImportError as error: print(error)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "needs PyTorch: pip install torch" in out
