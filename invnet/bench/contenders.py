"""One Glow, some ways to compute it: each contender makes a training step, forward + loss + backward, of one
architecture.

Levels of Squeeze and `steps` times (ActNorm, 1x1 mix, affine coupling with a 3x3 - 1x1 - 3x3 ReLU conditioner), half of
the channels leaving after each level but the last, standard normal base, no learned prior. A step sets the gradients
to zero and has no optimizer.

| contender | what it is | what is alive at the end of its forward |
|---|---|---|
| invnet, invnet-ENGINE | invnet.Glow on NumPy or another engine | two arrays of the input's size |
| twin | lean channels-last PyTorch, same weights as invnet (twin.py) | all activations |
| checkpointed | the twin, each step under torch.utils.checkpoint(use_reentrant=False) | the steps' inputs |
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import losses
from ..models import Glow
from ..ops import ENGINES, ops_named
from ..ops.threads import set_num_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core import Layer, Module
    from ..typing import Array, DType


@dataclass
class Step:
    """A training step: call it. Gives the loss in nats per sample."""

    run: Callable
    parameters: int
    touch: Callable  # makes the memory of what lasts resident, such as gradients, for measurements of the rest
    device: str = "cpu"  # where the arrays lie

    def __call__(self):
        return self.run()


@dataclass
class Contender:
    name: str
    library: str  # that must be importable
    make: Callable  # (hidden, levels, steps, channels, batch, size, threads) -> Step
    stores: float  # arrays of hidden width that each step keeps until backward, to guess memory before measuring it


def data(channels: int, batch: int, size: int):
    return np.random.default_rng(1).standard_normal((batch, channels, size, size), dtype=np.float32)


def make_glow(hidden: int | Sequence[int], levels: int, steps: int, channels: int, dtype: DType = "float32"):
    return Glow(channels, hidden, levels, steps, prior=False, dtype=dtype)


def training_step(layer: Layer, X: Array, holder=None):
    """step() of a layer on a batch: gradients to zero, forward, loss and backward; gives the loss in nats per sample.

    `holder` is who sets the gradients to zero, such as an optimizer that has all of them in one array; None is the
    layer.
    """
    zero_grad = (holder or layer).zero_grad

    def step():
        zero_grad()
        Z, logdet = layer.forward(X)
        loss, dZ, dlogdet = losses.gaussian_nll(Z, logdet)
        layer.backward(dZ, Z, dlogdet)
        return loss

    return step


def make_invnet(
    engine: str,
    hidden: int | Sequence[int],
    levels: int,
    steps: int,
    channels: int,
    batch: int,
    size: int,
    threads: int | None,
):
    set_num_threads(threads)
    ops, glow = ops_named(engine), make_glow(hidden, levels, steps, channels).to(engine)
    X = ops.from_numpy(data(channels, batch, size))
    step = training_step(glow, X)

    def run():
        loss = step()
        ops.to_numpy(X[:1])  # a copy to the host waits for a device that is still at work
        return loss

    touch = training_step(
        glow, X[:1, :, : 1 << levels, : 1 << levels]
    )  # tables of runs too, which the first step makes
    return Step(run, sum(math.prod(p.data.shape) for p in glow.parameters()), touch, str(X.device))


def torch_step(build, loss: Callable, last: bool = True):
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

        def touch():
            for p in parameters:
                p.grad = torch.ones_like(p)

        return Step(step, sum(p.numel() for p in parameters), touch)

    return make


def plain(model: Module, x: Array):
    return model(x)


def make_twin(hidden: int | Sequence[int], levels: int, steps: int, channels: int, size: int):
    from . import twin  # and so torch, once it is needed

    return twin.Twin(make_glow(hidden, levels, steps, channels))


def checkpointed(model: Module, x: Array):
    from . import twin

    return twin.checkpointed(model, x)


def on(engine: str):
    """The name of invnet with an engine."""
    return "invnet" if engine == "numpy" else f"invnet-{engine}"


CONTENDERS = {
    contender.name: contender
    for contender in (
        *(Contender(on(engine), engine, functools.partial(make_invnet, engine), 0) for engine in ENGINES),
        Contender("twin", "torch", torch_step(make_twin, plain), 2),
        Contender("checkpointed", "torch", torch_step(make_twin, checkpointed), 0),
    )
}


def available(names: Sequence[str], contenders=CONTENDERS, report=print):
    """The contenders of these names whose library is installed; the others are reported."""
    unknown = [name for name in names if name not in contenders]
    if unknown:
        raise ValueError(f"the contenders are {', '.join(contenders)}; got {', '.join(unknown)}")
    found = []
    for name in names:
        if importlib.util.find_spec(contenders[name].library):
            found.append(contenders[name])
        else:
            report(f"{name} is left out: {contenders[name].library} is not installed")
    return found
