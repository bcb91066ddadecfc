"""The contenders of the benchmarks: those of invnet.bench, and the same Glow in other libraries.

| contender | what it is | what is in memory at the end of its forward |
|---|---|---|
| those of invnet/bench/contenders.py | see there | see there |
| twin-compiled | the twin under torch.compile; needs a C++ compiler; only by name | all activations |
| normflows, normflows-last | GlowBlocks, channels-first and channels-last; scale sigmoid(raw + 2) | all activations |
| FrEIA, FrEIA-last | AllInOneBlocks with a fixed rotation as the mix, both layouts | all activations |
| as_module | invnet.Glow as an nn.Module, on the NumPy engine; only by name | two arrays of the input's size |
| memcnn | the twin's steps in InvertibleModuleWrapper, which inverts first and then differentiates | one array |
"""

import math

from invnet.bench import contenders
from invnet.bench.contenders import Contender, make_glow, make_twin, plain, torch_step
from invnet.ops.threads import set_num_threads


def _compiled(*shape):
    import torch

    return torch.compile(make_twin(*shape))


def _peer(name, *arguments):
    """A function of peers.py, which imports torch only when it is called."""
    from . import peers

    return getattr(peers, name)(*arguments)


def _memcnn(hidden, levels, steps, channels, size):
    return _peer("memcnn", make_glow(hidden, levels, steps, channels))


def _module(*shape):
    import invnet

    class Likelihood(invnet.torch.module.nn.Module):
        """Computes the mean negative log-likelihood of a batch in nats, as the twin does."""

        def __init__(self):
            super().__init__()
            self.flow = invnet.torch.as_module(make_glow(*shape[:4]))

        def forward(self, x):
            z, logdet = self.flow(x)
            return (0.5 * z.square().sum() - logdet.sum()) / len(x) + 0.5 * x[0].numel() * math.log(2 * math.pi)

    return Likelihood()


def _as_module(threads, **shape):
    set_num_threads(threads)
    return torch_step(_module, plain)(threads=threads, **shape)


def _named(name):
    return lambda *arguments: _peer(name, *arguments)


CONTENDERS = contenders.CONTENDERS | {
    contender.name: contender
    for contender in (
        Contender("twin-compiled", "torch", torch_step(_compiled, plain), 2),
        Contender("normflows", "normflows", torch_step(_named("normflows"), _named("normflows_loss"), last=False), 4),
        Contender("normflows-last", "normflows", torch_step(_named("normflows"), _named("normflows_loss")), 4),
        Contender("FrEIA", "FrEIA", torch_step(_named("freia"), _named("freia_loss"), last=False), 2),
        Contender("FrEIA-last", "FrEIA", torch_step(_named("freia"), _named("freia_loss")), 2),
        Contender("as_module", "torch", _as_module, 0),
        Contender("memcnn", "memcnn", torch_step(_memcnn, plain), 0),
    )
}

DEFAULT = [name for name in CONTENDERS if name not in ("twin-compiled", "as_module") and not name.startswith("invnet-")]


def available(names=DEFAULT, report=print):
    """Returns the contenders whose library is installed, and reports the others."""
    return contenders.available(names, CONTENDERS, report)
