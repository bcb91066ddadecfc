"""The CuPy engine's kernels on PyTorch's tensors: on a GPU, or on tensors on the CPU by the stand-in."""

import contextlib

import numpy as np
import pytest
from cases import LAYERS

import invnet
from invnet.testing import LAYER_LAWS

torch = pytest.importorskip("torch")
cupy_here = pytest.importorskip("cupy_here", reason="neither a GPU nor g++")

from engines import Engine, operations_of  # noqa: E402
from test_engines import OPERATIONS, OnArrays, agrees  # noqa: E402

from invnet.ops import torch as torch_engine  # noqa: E402
from invnet.ops.torch import by_cupy  # noqa: E402

cupy, ON_GPU = cupy_here.cupy, cupy_here.ON_GPU
pytestmark = (
    [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch has no CUDA device")]
    if ON_GPU
    else []
)


class OnHost(by_cupy.ByCupy):
    """On tensors on the CPU, which have no stream."""

    def stream(self):
        return contextlib.nullcontext()


@contextlib.contextmanager
def served():
    """Tensors are served by the kernels."""
    kind, host = "cuda" if ON_GPU else "cpu", torch_engine._host
    torch_engine.CLASSES[kind] = by_cupy.ByCupy if ON_GPU else OnHost
    torch_engine._on_device.cache_clear()
    torch_engine._host = lambda: torch_engine._on_device(torch.device("cpu"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        del torch_engine.CLASSES[kind]
        torch_engine._on_device.cache_clear()
        torch_engine._host = host
        torch.set_num_threads(threads)


#: what CuPy's engine does otherwise than the reference, and tensors have of aten or of the reference: conversions,
#: convolutions and products
NOT_FORWARDED = {
    *("device", "asynchronous", "astype", "copy", "images", "rows", "at_rows", "zeros_like", "split_"),
    *("activate", "activate_vjp", "product", "shift_add", "taps"),
}


def test_tensors_have_all_operations_of_cupys_engine():
    from invnet.ops.cupy import CupyOps
    from invnet.ops.reference import Ops
    from invnet.ops.torch import TorchOps

    missing = operations_of(CupyOps, Ops) - operations_of(TorchOps, Ops) - operations_of(by_cupy.ByCupy, TorchOps)
    assert missing == NOT_FORWARDED


ENGINE = Engine("torch:cuda" if ON_GPU else "torch", "torch", served)
SERVED = [
    name
    for name in OPERATIONS
    if name.split()[0].rstrip("_").split("_")[0]
    in ("mix", "squeeze", "unsqueeze", "couple", "uncouple", "planar", "spline")
]
NAMES = [
    "Glow",
    "Glow, sigmoid scale",
    "Glow, one axis",
    "NSF, 3 features",
    "Reverse of Planar, 3 features",
    "SplineCoupling, 1 axes, 3 channels",
]


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3, 5)], ids=str)
@pytest.mark.parametrize("name", SERVED)
def test_the_kernels_give_what_the_reference_gives(name, shape):
    agrees(OnArrays(ENGINE), name, shape)


@pytest.mark.parametrize("name", NAMES)
def test_layers_obey_the_laws(name):
    with served():
        for law in LAYER_LAWS:
            module, X, cond = LAYERS[name].build()
            law(module.to(ENGINE.name), ENGINE.array(X), ENGINE.array(cond), np.random.default_rng(0))


def test_kernels_are_what_computes(monkeypatch):
    launched = []
    from invnet.ops.cupy import launch

    kernel = launch.kernel
    monkeypatch.setattr(launch, "kernel", lambda name, char: launched.append(name) or kernel(name, char))
    with served():
        net = invnet.Glow(3, 8, 1, 1, seed=0).to(ENGINE.name)
        Z, _ = net.forward(ENGINE.array(np.zeros((2, 3, 4, 4), "float32")))
        net.backward(Z, Z)
    assert {"squeeze", "mix_12", "couple", "couple_vjp", "outer"} <= set(launched)


@pytest.mark.skipif(ON_GPU, reason="on a GPU the allocators are the real ones")
def test_one_allocator_serves_both(monkeypatch):
    given, taken = [], []
    monkeypatch.setattr(
        torch.cuda, "caching_allocator_alloc", lambda size, device, stream: given.append((size, device, stream)) or 4096
    )
    monkeypatch.setattr(torch.cuda, "caching_allocator_delete", taken.append)
    monkeypatch.setattr(torch_engine, "CLASSES", {})
    by_cupy.share_with_torch()
    allocator = cupy.cuda.allocator
    assert allocator(100, 1) == 4096 and given == [(100, 1, 7)]
    allocator.__self__.free(4096, 1)
    assert taken == [4096]
    assert torch_engine.CLASSES == {"cuda": by_cupy.ByCupy}
    torch_engine._on_device.cache_clear()


@pytest.mark.skipif(ON_GPU, reason="on a GPU the allocators are the real ones")
def test_memory_that_ends_in_pytorchs_allocator_is_explained_as_in_cupys(monkeypatch):
    def full(size, device, stream):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(torch.cuda, "caching_allocator_alloc", full)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5)
    monkeypatch.setattr(torch_engine, "CLASSES", {})
    by_cupy.share_with_torch()
    try:
        with pytest.raises(MemoryError, match=r"the memory of GPU 0 ends: .*(use a smaller batch|set_workspace)"):
            with cupy_here.OPS.at_work():
                cupy.cuda.allocator(2 << 30, 0)
    finally:
        torch_engine._on_device.cache_clear()


@pytest.mark.skipif(not ON_GPU, reason="there is no CUDA device with CuPy")
def test_both_libraries_count_one_memory():
    by_cupy.share_with_torch()
    try:
        before = torch.cuda.memory_allocated()
        X = cupy.zeros(1 << 20, dtype="float32")
        assert torch.cuda.memory_allocated() - before >= X.nbytes
    finally:
        cupy.cuda.set_allocator(cupy.get_default_memory_pool().malloc)
        torch_engine.CLASSES.clear()
        torch_engine._on_device.cache_clear()
