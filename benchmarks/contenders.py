"""One Glow in many libraries: each contender makes a training step, forward + loss + backward, of the same architecture.

Levels of Squeeze and `steps` times (ActNorm, 1x1 mix, affine coupling with a 3x3 - 1x1 - 3x3 ReLU conditioner), half of
the channels leaving after each level but the last, standard normal base, no learned prior. A step sets the gradients
to zero and has no optimizer.

| contender | what it is | what is alive at the end of its forward |
|---|---|---|
| invnet | invnet.Glow | two arrays of the input's size |
| twin | lean channels-last PyTorch, same weights as invnet (twin.py) | all activations |
| twin-compiled | the same under torch.compile (needs a C++ compiler; asked for by name only) | all activations |
| checkpointed | the twin, each step under torch.utils.checkpoint(use_reentrant=False) | the steps' inputs |
| normflows, normflows-last | GlowBlocks, channels-first and channels-last; scale sigmoid(raw + 2) | all activations |
| FrEIA, FrEIA-last | AllInOneBlocks with a fixed rotation as the mix, both layouts | all activations |
| memcnn | the twin's steps in InvertibleModuleWrapper, which inverts first and differentiates after | one array |
"""

import importlib.util
from dataclasses import dataclass
from typing import Callable

import numpy as np

ARGUMENTS = ("hidden", "levels", "steps", "channels", "batch", "size", "threads")


@dataclass
class Step:
    """A training step: call it. Gives the loss in nats per sample."""

    run: Callable
    parameters: int
    touch_gradients: Callable  # makes the memory of the gradients resident, for measurements of the rest

    def __call__(self):
        return self.run()


@dataclass
class Contender:
    name: str
    library: str  # that must be importable
    make: Callable  # (hidden, levels, steps, channels, batch, size, threads) -> Step
    stores: float  # arrays of hidden width that each step keeps until backward, to guess memory before measuring it


def flops(hidden, levels, steps, channels, batch, size, threads=None):
    """Multiplications and additions of one evaluation of all conditioners over the batch."""
    total, C = 0, channels
    for level in range(1, levels + 1):
        C *= 4
        x1, x2 = C - C // 2, C // 2
        total += steps * 2 * batch * (size >> level) ** 2 * (9 * x1 * hidden + hidden * hidden + 9 * hidden * 2 * x2)
        C = x1
    return total


def data(channels, batch, size):
    return np.random.default_rng(1).standard_normal((batch, channels, size, size), dtype=np.float32)


def make_glow(hidden, levels, steps, channels, dtype="float32"):
    import invnet

    return invnet.Glow(channels, hidden, levels, steps, prior=False, dtype=dtype)


def make_invnet(hidden, levels, steps, channels, batch, size, threads):
    import invnet

    invnet.set_num_threads(threads)
    glow, X = make_glow(hidden, levels, steps, channels), data(channels, batch, size)

    def step():
        glow.zero_grad()
        Z, logdet = glow.forward(X)
        loss, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
        glow.backward(dZ, Z, dlogdet)
        return loss

    return Step(step, sum(p.data.size for p in glow.parameters()), glow.zero_grad)


def torch_step(build, loss, last=True):
    """make() of a PyTorch model: build(hidden, levels, steps, channels, size) -> model, loss(model, x) -> nats."""

    def make(hidden, levels, steps, channels, batch, size, threads):
        import torch

        torch.manual_seed(0)
        torch.set_num_threads(threads)
        model, x = build(hidden, levels, steps, channels, size), torch.from_numpy(data(channels, batch, size))
        if last:
            model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        parameters = [p for p in model.parameters() if p.requires_grad]

        def step():
            model.zero_grad(set_to_none=True)
            nats = loss(model, x)
            nats.backward()
            return nats.item()

        def touch_gradients():
            for p in parameters:
                p.grad = torch.ones_like(p)

        return Step(step, sum(p.numel() for p in parameters), touch_gradients)

    return make


def _plain(model, x):
    return model(x)


def _twin(hidden, levels, steps, channels, size):
    from . import twin

    return twin.Twin(make_glow(hidden, levels, steps, channels))


def _compiled(*shape):
    import torch

    return torch.compile(_twin(*shape))


def _peer(name, *arguments):
    """A function of peers.py, which imports torch only when it is called."""
    from . import peers

    return getattr(peers, name)(*arguments)


def _memcnn(hidden, levels, steps, channels, size):
    return _peer("memcnn", make_glow(hidden, levels, steps, channels))


def _named(name):
    return lambda *arguments: _peer(name, *arguments)


CONTENDERS = {contender.name: contender for contender in (
    Contender("invnet", "invnet", make_invnet, 0),
    Contender("twin", "torch", torch_step(_twin, _plain), 2),
    Contender("twin-compiled", "torch", torch_step(_compiled, _plain), 2),
    Contender("checkpointed", "torch", torch_step(_twin, _named("checkpointed")), 0),
    Contender("normflows", "normflows", torch_step(_named("normflows"), _named("normflows_loss"), last=False), 4),
    Contender("normflows-last", "normflows", torch_step(_named("normflows"), _named("normflows_loss")), 4),
    Contender("FrEIA", "FrEIA", torch_step(_named("freia"), _named("freia_loss"), last=False), 2),
    Contender("FrEIA-last", "FrEIA", torch_step(_named("freia"), _named("freia_loss")), 2),
    Contender("memcnn", "memcnn", torch_step(_memcnn, _plain), 0),
)}

DEFAULT = [name for name in CONTENDERS if name != "twin-compiled"]


def available(names=DEFAULT, report=print):
    """The contenders of these names whose library is installed; the others are reported."""
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown:
        raise ValueError(f"the contenders are {', '.join(CONTENDERS)}; got {', '.join(unknown)}")
    found = []
    for name in names:
        library = CONTENDERS[name].library
        if all(importlib.util.find_spec(needed) for needed in {library, "torch" if library != "invnet" else "invnet"}):
            found.append(CONTENDERS[name])
        else:
            report(f"{name} is left out: {library} is not installed")
    return found
