"""The engines that the laws run on: an engine is one line of ENGINES."""

import contextlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from cases import marks_of

from invnet.ops import ops_named

try:
    import cupy_here
except pytest.skip.Exception:  # neither a GPU nor g++
    cupy_here = None


@dataclass
class Engine:
    name: str  # what Module.to takes
    library: str  # that must be installed
    used: Callable = contextlib.nullcontext  # a context in which its arrays are found to be its own
    gpu: bool = False  # needs a CUDA device

    @property
    def ops(self):
        """Its operations, where it is used."""
        return ops_named(self.name)

    def array(self, data):
        return None if data is None else self.ops.from_numpy(data)

    def moved(self, data):
        """As `array`, in the same memory where that can be, and with the same strides."""
        import torch

        return torch.from_numpy(data if min(data.strides, default=0) >= 0 else data.copy()).to(self.ops.device)

    def back(self, array):
        return self.ops.to_numpy(array)


class OnCupy(Engine):
    def moved(self, data):
        return cupy_here.to_device(data)

    def back(self, array):
        return cupy_here.to_host(array)


@contextlib.contextmanager
def aten_on_the_cpu():
    """Tensors on the CPU go the way of those on other devices, not to NumPy's kernels; in one thread, as the arrays are
    tiny.
    """
    import torch

    from invnet.ops import torch as torch_engine

    threads, host = torch.get_num_threads(), torch_engine._host
    torch.set_num_threads(1)
    torch_engine._host = lambda: torch_engine._on_device(torch.device("cpu"))
    try:
        yield
    finally:
        torch_engine._host = host
        torch.set_num_threads(threads)


def operations_of(cls, base):
    """The names of the public operations that an engine's class, or one between it and `base`, defines."""
    classes = [each for each in cls.__mro__ if each not in base.__mro__]
    return {name for each in classes for name in vars(each) if not name.startswith("_")}


ENGINES = {
    "torch": Engine("torch", "torch"),
    "torch-aten": Engine("torch", "torch", aten_on_the_cpu),
    "torch-cuda": Engine("torch:cuda", "torch", gpu=True),
    "cupy": OnCupy("cupy:0", "numpy"),  # on a GPU, or by the stand-in
}


def engines(*names):
    """Parameters of a test: the engines of these names, of all without any, each skipped where it cannot run."""
    return pytest.mark.parametrize("engine", [_parameter(name) for name in names or ENGINES])


def rows_on_engines(rows):
    """Parameters of a test, `name` and `engine`: the representatives on every engine, all rows in `make test-all`."""
    pairs = []
    for row in rows:
        for name in ENGINES:
            engine = _parameter(name)
            marks = [*engine.marks, *marks_of(row)]
            pairs.append(pytest.param(row, *engine.values, id=f"{row}-{name}", marks=marks))
    return pytest.mark.parametrize("name, engine", pairs)


def _parameter(name):
    engine = ENGINES[name]
    marks = [
        pytest.mark.skipif(
            importlib.util.find_spec(engine.library) is None, reason=f"{engine.library} is not installed"
        )
    ]
    if engine.gpu:
        marks += [pytest.mark.gpu, pytest.mark.skipif(not _has_cuda(), reason="there is no CUDA device")]
    if name == "cupy":
        marks += [
            pytest.mark.skipif(cupy_here is None, reason="there is neither a GPU nor g++"),
            *([pytest.mark.gpu] if cupy_here and cupy_here.ON_GPU else []),
        ]
    return pytest.param(engine, id=name, marks=marks)


def _has_cuda():
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
