"""The same Glow in other libraries, written as their documentation does."""

import math

import torch
from torch import nn

from invnet.bench import twin

# ---- memcnn: the twin's steps in its wrapper, which inverts a step and then runs it forward again under autograd


class InvertibleStep(nn.Module):
    """A step of the twin with its own parameters and its inverse. Its input is the only argument."""

    def __init__(self, norm, conv, coupling):
        super().__init__()
        self.mixes, self.coupling = twin.Mixes([norm], [conv]), twin.Coupling(coupling)

    def forward(self, x):
        M, b, logdet = self.mixes()
        z, part = self.coupling(twin.mix(x, M[0], b[0]))
        return z, part + logdet * (x.shape[0] * x.shape[2] * x.shape[3])

    def inverse(self, z, _):
        M, b, _ = self.mixes()
        Minv = torch.linalg.inv(M[0])
        return twin.mix(self.coupling.inverse(z), Minv, -(Minv @ b[0]))


class MemcnnLevel(nn.Module):
    def __init__(self, norms, convs, couplings, prior):
        if prior is not None:
            raise ValueError("the memcnn contender has no learned prior")
        from memcnn import InvertibleModuleWrapper

        super().__init__()
        steps = (InvertibleStep(*layers) for layers in zip(norms, convs, couplings))
        self.steps = nn.ModuleList(InvertibleModuleWrapper(step) for step in steps)

    def forward(self, x, _):
        logdet = 0.0
        for step in self.steps:
            x, part = step(x)
            logdet = logdet + part
        return x, logdet


def memcnn(glow):
    return twin.Twin(glow, MemcnnLevel)


# ---- normflows


def normflows(hidden, levels, steps, channels, size):
    """Makes a MultiscaleFlow of GlowBlocks, Squeeze and Merge, with fixed standard normals as the base."""
    import normflows as nf

    bases, flows, merges = [], [], []
    for level in reversed(range(levels)):  # the deepest first
        C = channels * 2 ** (level + 2)
        flows.append([nf.flows.GlowBlock(C, hidden) for _ in range(steps)] + [nf.flows.Squeeze()])
        side = size // 2 ** (level + 1)
        bases.append(nf.distributions.DiagGaussian((C if level == levels - 1 else C // 2, side, side), trainable=False))
        if level < levels - 1:
            merges.append(nf.flows.Merge())
    return nf.MultiscaleFlow(bases, flows, merges, class_cond=False)


def normflows_loss(model, x):
    return model.forward_kld(x)


# ---- FrEIA


def freia(hidden, levels, steps, channels, size):
    """GraphINN of AllInOneBlocks (coupling, global affine, fixed random rotation as the 1x1 mix) and
    IRevNetDownsampling.
    """
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    def conditioner(C_in, C_out):
        last = nn.Conv2d(hidden, C_out, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(
            nn.Conv2d(C_in, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(inplace=True),
            last,
        )

    nodes, outputs, C = [ff.InputNode(channels, size, size)], [], channels
    add = lambda *node: nodes.append(ff.Node(*node)) or nodes[-1]
    block = dict(
        subnet_constructor=conditioner, affine_clamping=math.log(4), permute_soft=True, global_affine_type="EXP"
    )
    end = nodes[0]
    for level in range(levels):
        end, C = add(end, fm.IRevNetDownsampling, {}), 4 * C
        for _ in range(steps):
            end = add(end, fm.AllInOneBlock, block)
        if level < levels - 1:
            parts = add(end, fm.Split, dict(section_sizes=[C - C // 2, C // 2], dim=0))
            outputs.append(ff.OutputNode(parts.out1))
            end, C = parts.out0, C - C // 2
    return ff.GraphINN(nodes + outputs + [ff.OutputNode(end)])


def freia_loss(model, x):
    Z, logdet = model(x)
    Z = Z if isinstance(Z, (tuple, list)) else [Z]
    return 0.5 * sum((z * z).sum() for z in Z) / x.shape[0] - logdet.mean() + 0.5 * x[0].numel() * math.log(2 * math.pi)
