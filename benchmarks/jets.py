"""One Jet, computed in three ways. `python -m benchmarks.jets twin --hidden 64 ...` measures the peak memory of a
step.

| contender | what it is | what is in memory at the end of its forward |
|---|---|---|
| invnet | invnet.Jet on NumPy's arrays | two arrays of the input's size |
| twin | the same transformers in a plain PyTorch model on tokens | all activations |
| checkpointed | the twin, each coupling under torch.utils.checkpoint, as Jet is published | the couplings' inputs |

The shape has the fields of invnet/bench/contenders.py: `steps` is the number of couplings, `hidden` the width of
tokens, and a patch has a side of 2 ** levels. A transformer has one block with 4 heads.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import invnet
from invnet.bench import peak
from invnet.bench.contenders import Contender, Step, data, torch_step, training_step


def make_jet(hidden, levels, steps, channels, size, dtype="float32"):
    return invnet.Jet(channels, (size, size), 2**levels, couplings=steps, depth=1, width=hidden, heads=4, dtype=dtype)


class Twin(nn.Module):
    """Computes the mean negative log-likelihood of images in nats, with the transformers and permutations of a Jet."""

    def __init__(self, jet):
        super().__init__()
        kinds = [type(layer) for layer in jet.layers]
        self.squeezes, self.steps = kinds.count(invnet.Squeeze), nn.ModuleList()
        before = None
        for layer in jet.layers:
            if isinstance(layer, invnet.AffineCoupling):
                self.steps.append(Coupling(layer.net.module, before))
            before = layer

    def forward(self, x, run=lambda step, tokens: step(tokens)):
        for _ in range(self.squeezes):
            x = F.pixel_unshuffle(x, 2)
        tokens, logdet, size = x.flatten(2).transpose(1, 2), 0.0, x.shape[2:]
        for step in self.steps:
            tokens, more = run(functools.partial(step, size=size), tokens)
            logdet = logdet + more
        return (0.5 * tokens.square().sum() - logdet) / len(x) + 0.5 * x[0].numel() * math.log(2 * math.pi)


class Coupling(nn.Module):
    """One coupling after what `before` does, and undone after it where that exchanges positions for channels."""

    def __init__(self, net, before):
        super().__init__()
        self.net, self.before = net, before

    def forward(self, tokens, size):
        if isinstance(self.before, invnet.Permute):
            return self.couple(tokens[:, :, torch.from_numpy(self.before.order.data)], size)
        (N, T, C), order = tokens.shape, self.order(*size)
        halves = tokens[:, order].reshape(N, 2, T, C // 2).transpose(1, 2).reshape(N, T, C)
        halves, logdet = self.couple(halves, size)
        return halves.reshape(N, T, 2, C // 2).transpose(1, 2).reshape(N, T, C)[:, order.argsort()], logdet

    def couple(self, tokens, size):
        x1, x2 = tokens.chunk(2, 2)
        t, raw = self.net(x1.transpose(1, 2).unflatten(2, size)).flatten(2).transpose(1, 2).chunk(2, 2)
        log_s = F.logsigmoid(raw) + math.log(2)
        return torch.cat([x1, (x2 + t) * log_s.exp()], 2), log_s.sum()

    def order(self, H, W):
        """Returns the positions of the first half, then the others."""
        rows, columns = torch.arange(H)[:, None].expand(H, W), torch.arange(W).expand(H, W)
        parity = {"checkerboard": rows + columns, "rows": rows, "columns": columns}[self.before.pattern] % 2
        return (parity.flatten() != self.before.inverted).int().argsort(stable=True)


def stored(model, x):
    return model(x)


def checkpointed(model, x):
    return model(x, functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False))


def invnet_step(hidden, levels, steps, channels, batch, size, threads):
    invnet.set_num_threads(threads)
    torch.set_num_threads(threads)
    jet, X = make_jet(hidden, levels, steps, channels, size), data(channels, batch, size)
    return Step(training_step(jet, X), sum(p.data.size for p in jet.parameters()), jet.zero_grad)


def twin_of(*shape):
    return Twin(make_jet(*shape))


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("invnet", "torch", invnet_step, 0),
        Contender("twin", "torch", torch_step(twin_of, stored, last=False), 16),
        Contender("checkpointed", "torch", torch_step(twin_of, checkpointed, last=False), 0),
    )
}

if __name__ == "__main__":
    peak.main(CONTENDERS)
