"""The twin: invnet.Glow as a lean hand-written PyTorch model that stores all activations.

What was tried for speed, at one thread on an AVX-512 core (hidden 64, 8 steps of 16x12x16x16, milliseconds): ActNorm
apart 46.8, folded into the 1x1 convolution 45.4, that mix as a linear map of channels-last rows 44.8, halves by `split`
in place of slices (its gradient is one concatenation) 43.2. Lost: the hidden 1x1 convolution as a linear map (62,
oneDNN's convolution is faster than MKL's product), 3x3 convolutions as gathered taps and a product (69), no
concatenation of the halves but two mixes (43.6). All 1x1 convolutions of a level are assembled from their LU factors at
once (0.05 ms a step; one by one 0.15). Log-determinants are summed to one number, since the loss is a mean.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..layers import ActNorm, AffineCoupling, Conv1x1, FactorOut

LAST = torch.channels_last


def tensor(array):
    return torch.from_numpy(array.copy())


def kernel_of(W, n):
    """torch's (out, in, kh, kw) of a weight of an invnet.ConvNet, whose output has n channels.

    It has shape (kh, kw, in, out), or (kh, kw, out, in) and then is the kernel mirrored.
    """
    return W.transpose(3, 2, 0, 1) if W.shape[-1] == n else W[::-1, ::-1].transpose(2, 3, 0, 1)


class Conditioner(nn.Sequential):
    """Convolutions with ReLU in place, the weights those of an invnet.ConvNet."""

    def __init__(self, net):
        layers = []
        for W, b in zip(net.W, net.b):
            weight, bias = tensor(kernel_of(W.data, b.data.size)), tensor(b.data)
            n, m, *kernel = weight.shape
            conv = nn.Conv2d(m, n, kernel, padding=[k // 2 for k in kernel], dtype=weight.dtype)
            conv.weight.data, conv.bias.data = weight.to(memory_format=LAST), bias
            layers += [conv, nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])


class Coupling(nn.Module):
    """z2 = (x2 + t) exp(a tanh(raw / a)), [t, raw] = net(x1); the log-determinant is summed over the batch."""

    def __init__(self, layer):
        super().__init__()
        kind, bound = layer._transform.scale_and_bound
        if kind != "bounded":
            raise ValueError(f'the twin has the scale "bounded"; got {kind!r}')
        self.C1, self.C2 = layer.channels - layer.channels // 2, layer.channels // 2
        self.net, self.a = Conditioner(layer.net), math.log(bound)

    def forward(self, x):
        x1, x2 = x.split((self.C1, self.C2), 1)
        t, log_s = self.shift_and_log_scale(x1)
        return torch.cat([x1, (x2 + t) * log_s.exp()], 1), log_s.sum()

    def inverse(self, z):
        x1, z2 = z.split((self.C1, self.C2), 1)
        t, log_s = self.shift_and_log_scale(x1)
        return torch.cat([x1, z2 * (-log_s).exp() - t], 1)

    def shift_and_log_scale(self, x1):
        t, raw = self.net(x1).chunk(2, 1)
        return t, self.a * torch.tanh(raw * (1 / self.a))


def mix(x, M, b):
    """M x + b at every position of a channels-last image."""
    return F.linear(x.permute(0, 2, 3, 1), M, b).permute(0, 3, 1, 2)


class Mixes(nn.Module):
    """ActNorm and 1x1 convolution of K steps folded into K matrices, the parameters stacked."""

    def __init__(self, norms, convs):
        super().__init__()
        stack = lambda arrays: torch.stack([tensor(p.data) for p in arrays])
        self.scale, self.shift = (
            nn.Parameter(stack(arrays)) for arrays in ([n.log_s for n in norms], [n.b for n in norms])
        )
        self.L, self.U, self.log_s = (
            nn.Parameter(stack(getattr(c, name) for c in convs)) for name in ("L", "U", "log_s")
        )
        self.register_buffer("P", stack(c.P for c in convs))
        self.register_buffer("sign", stack(c.sign for c in convs))
        self.register_buffer("below", torch.ones_like(self.P[0]).tril(-1))
        self.register_buffer("above", torch.ones_like(self.P[0]).triu(1))
        self.register_buffer("eye", torch.eye(self.P.shape[1], dtype=self.P.dtype))

    def forward(self):
        """M (K, C, C), b (K, C) and the sum of the log-determinants of one position."""
        L = torch.addcmul(self.eye, self.L, self.below)
        U = torch.addcmul(torch.diag_embed(self.sign * self.log_s.exp()), self.U, self.above)
        W = self.P @ L @ U
        return W * self.scale.exp()[:, None], (W @ self.shift[:, :, None])[:, :, 0], self.log_s.sum() + self.scale.sum()


class Step(nn.Module):
    """One flow step, given its matrix and shift."""

    def __init__(self, coupling):
        super().__init__()
        self.coupling = Coupling(coupling)

    def forward(self, x, M, b):
        return self.coupling(mix(x, M, b))


class Level(nn.Module):
    def __init__(self, norms, convs, couplings, prior):
        super().__init__()
        self.mixes = Mixes(norms, convs)
        self.steps = nn.ModuleList(Step(coupling) for coupling in couplings)
        self.prior = Coupling(prior) if prior is not None else None

    def forward(self, x, run):
        """z and the sum of the log-determinants over the batch; `run(step, x, M, b)` runs a step."""
        M, b, logdet = self.mixes()
        logdet = logdet * (x.shape[0] * x.shape[2] * x.shape[3])
        for step, M, b in zip(self.steps, M.unbind(), b.unbind()):
            x, part = run(step, x, M, b)
            logdet = logdet + part
        if self.prior is not None:
            x, part = self.prior(x)
            logdet = logdet + part
        return x, logdet


class Twin(nn.Module):
    """The mean negative log-likelihood in nats of a batch, under the weights of an invnet.Glow."""

    def __init__(self, glow, level=Level):
        super().__init__()
        self.levels = nn.ModuleList(level(*layers) for layers in levels_of(glow))

    def forward(self, x, run=lambda step, x, M, b: step(x, M, b)):
        N, D, energy, total = x.shape[0], x[0].numel(), 0.0, 0.0
        for i, level in enumerate(self.levels):
            x = F.pixel_unshuffle(x, 2).contiguous(memory_format=LAST)
            x, logdet = level(x, run)
            total = total + logdet
            if i + 1 < len(self.levels):
                x, z = x.split((x.shape[1] - x.shape[1] // 2, x.shape[1] // 2), 1)
                energy = energy + (z * z).sum()
        return (0.5 * (energy + (x * x).sum()) - total) / N + 0.5 * D * math.log(2 * math.pi)


def checkpointed(model, x):
    """The twin's loss with every step under torch.utils.checkpoint, in its fastest settings."""
    options = dict(use_reentrant=False, preserve_rng_state=False, determinism_check="none")
    return model(x, run=lambda *step_and_arguments: checkpoint(*step_and_arguments, **options))


def levels_of(glow):
    """ActNorms, 1x1 convolutions, couplings and prior of each level of an invnet.Glow."""
    chain = glow
    while chain is not None:
        of = lambda kind: [layer for layer in chain.layers if isinstance(layer, kind)]
        out = next(iter(of(FactorOut)), None)
        yield of(ActNorm), of(Conv1x1), of(AffineCoupling), out and out.prior
        chain = out and out.inner


def logit(x, alpha=0.05):
    """invnet.Logit: z, and the log-determinant as a mean over the batch."""
    p = alpha + (1 - 2 * alpha) * x
    log_p, log_q = p.log(), torch.log1p(-p)
    return log_p - log_q, x[0].numel() * math.log(1 - 2 * alpha) - (log_p + log_q).sum() / x.shape[0]
