"""Training steps of one Glow on a device, by name: forward, loss and backward, as in invnet/bench/contenders.py.

| contender | what it is |
|---|---|
| invnet-cupy, -tf32, -wide | invnet on CuPy; with conditioners in TF32; with tiles of 2 GiB, for fewer calls |
| invnet-torch, -bf16 | invnet on PyTorch; with conditioners in bfloat16 under autocast |
| twin, -first, -compiled, -tf32, -bf16 | the same Glow in PyTorch, storing activations |
| checkpointed | the twin, each step under torch.utils.checkpoint |
| normflows | GlowBlocks of normflows, channels-last |

On the CPU, where only the benchmark itself is tested, invnet runs on NumPy and on CPU tensors, and TF32 is float32.
"""

import contextlib
import importlib.util

from invnet import optim
from invnet.bench import contenders as host
from invnet.ops import ops_named

NAMES = (
    "invnet-cupy",
    "invnet-cupy-wide",
    "invnet-torch",
    "twin",
    "twin-first",
    "twin-compiled",
    "checkpointed",
    "normflows",
    "invnet-cupy-tf32",
    "twin-tf32",
    "invnet-torch-bf16",
    "twin-bf16",
)
LIBRARIES = {"invnet-cupy": ("cupy",), "normflows": ("torch", "normflows")}
COMPILED, COMPILED_AT = "twin-compiled", 256  # at one hidden width: compiling takes half a minute and more


def library_missing(name, device):
    """Returns the library that a contender needs and that is not installed, or None."""
    of = next((libraries for start, libraries in LIBRARIES.items() if name.startswith(start)), ("torch",))
    of = ("numpy",) if of == ("cupy",) and device == "cpu" else of
    missing = next((library for library in of if importlib.util.find_spec(library) is None), None)
    return (
        "torch with a CUDA device"
        if missing is None and "torch" in of and device == "cuda" and not torch_has_cuda()
        else missing
    )


def torch_has_cuda():
    import torch

    return torch.cuda.is_available()


def precision(name):
    return name.rpartition("-")[2] if name.endswith(("-tf32", "-bf16")) else "float32"


def engine_of(name, device):
    """Returns the engine that computes for a contender and holds its memory."""
    if name.startswith("invnet-cupy"):
        return "cupy" if device == "cuda" else "numpy"
    return "torch:cuda" if device == "cuda" else "torch"


def make(name, device, hidden, levels, steps, channels, batch, size):
    """Returns step() of a contender, which waits only for the value of the loss."""
    if name not in NAMES:
        raise ValueError(f"the contenders are {', '.join(NAMES)}; got {name}")
    data = host.data(channels, batch, size)
    if name.startswith("invnet"):
        return _invnet(name, device, host.make_glow(hidden, levels, steps, channels), data)
    return _torch(name, device, (hidden, levels, steps, channels, size), data)


def _invnet(name, device, glow, data):
    ops = ops_named(engine_of(name, device))
    X = ops.from_numpy(data)
    gathered = optim.SGD(glow.to(ops.name).parameters())  # gradients in one array
    step = host.training_step(glow, X, gathered)

    def in_context():
        with _products(name, device), _cast(name, device), _tiles(name, device):
            return step()

    return in_context


def _torch(name, device, shape, data):
    import torch

    if name == "normflows":
        from .. import peers

        model, loss = peers.normflows(*shape), peers.normflows_loss
    else:
        model, loss = host.make_twin(*shape), host.checkpointed if name == "checkpointed" else host.plain
    layout = torch.contiguous_format if name == "twin-first" else torch.channels_last
    model, x = model.to(device, memory_format=layout), torch.from_numpy(data).to(device, memory_format=layout)
    if name == COMPILED:
        model = torch.compile(model)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)

    def step():
        model.zero_grad(set_to_none=True)
        with _products(name, device):
            with _cast(name, device):
                nats = loss(model, x)
            nats.backward()
            return nats.item()

    return step


def _cast(name, device):
    """Returns a context in which the contenders with bfloat16 compute in bfloat16."""
    if precision(name) != "bf16":
        return contextlib.nullcontext()
    import torch

    return torch.autocast(device, dtype=torch.bfloat16)


def _products(name, device):
    """A context in which float32 products are of a contender's precision; PyTorch's convolutions take TF32 unless told
    otherwise.
    """
    if device == "cpu":
        return contextlib.nullcontext()
    allowed = precision(name) == "tf32"
    return _tf32_of_cupy(allowed) if name.startswith("invnet-cupy") else _tf32_of_torch(allowed)


@contextlib.contextmanager
def _tiles(name, device):
    if device == "cpu" or not name.endswith("-wide"):
        yield
        return
    from invnet.ops.cupy import set_workspace, settings

    before = settings.workspace()
    set_workspace(2 << 30)
    try:
        yield
    finally:
        set_workspace(before)


@contextlib.contextmanager
def _tf32_of_cupy(allowed):
    from invnet.ops import cupy as cupy_engine

    cupy_engine.set_tf32(allowed)
    try:
        yield
    finally:
        cupy_engine.set_tf32(False)


@contextlib.contextmanager
def _tf32_of_torch(allowed):
    from torch.backends import cuda, cudnn

    before = cuda.matmul.allow_tf32, cudnn.allow_tf32
    cuda.matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        cuda.matmul.allow_tf32, cudnn.allow_tf32 = before
