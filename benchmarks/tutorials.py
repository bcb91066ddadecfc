"""Measures a training step of the models of common tutorials, in two dimensions, where overhead matters most.

    python -m benchmarks.tutorials            about two minutes
    python -m benchmarks.tutorials --full     more rounds

A step is forward + loss + backward + Adam, in float32 with one thread:

| problem | model | batch | loss |
|---|---|---|---|
| banana | Glow, 10 steps, nets of width 16 | 150 | forward KL |
| two gaussians | RealNVP, 16 couplings, nets of width 64 | 64 | forward KL |
| two moons | MAF, 10 layers, nets of width 128 | 512 | forward KL |
| energy 1, IAF | IAF, 2 layers, nets of width 64 | 256 | reverse KL |
| energy 1, planar | 16 planar layers | 40 and 256 | reverse KL |
| spline | NSF, 8 couplings of 8 bins, nets of width 64 | 256 | forward KL |

Nets have two hidden layers. A library takes part if it has the model, in the direction that is fast for it; "torch"
is planar layers as tutorials write them. All use PyTorch's fused Adam, its fastest on a CPU. Some models differ:

- In banana, zuko has couplings only, and FrEIA has a fixed rotation instead of the learned mix.
- The masked nets of normflows and nflows, and the spline nets of normflows, have a residual block, one hidden layer
  more.
- The spline couplings of normflows also change the half that passes.
"""

import importlib.util
import math

import numpy as np

from . import harness, small

COLUMNS = dict(
    problem="s",
    batch="d",
    contender="s",
    ms_min=".3f",
    ms_median=".3f",
    ratio_min=".3f",
    ratio_median=".3f",
    parameters="d",
)
HIDDEN = {"spline": 64, "gaussians": 64, "moons": 128, "iaf": 64}
BINS = 8


def data(batch):
    """Returns points on two moons."""
    rng = np.random.default_rng(1)
    angle, upper = np.pi * rng.random(batch), rng.random(batch) < 0.5
    X = np.stack(
        [np.where(upper, np.cos(angle), 1 - np.cos(angle)), np.where(upper, np.sin(angle), 0.5 - np.sin(angle))], axis=1
    )
    return (X - X.mean(axis=0) + 0.1 * rng.standard_normal((batch, 2))).astype("float32")


# ---- invnet


def ours(make, batch, reverse=False):
    """Returns a step of make(invnet) and the number of its parameters."""
    import invnet

    invnet.set_num_threads(1)
    flow = invnet.Flow(make(invnet), (2,))
    X, rng, target, optimizer = (
        data(batch),
        np.random.default_rng(0),
        invnet.data.Energy(1),
        invnet.optim.Adam(flow.parameters(), 1e-4),
    )

    def step():
        optimizer.zero_grad()
        if reverse:
            invnet.objectives.reverse_kl(flow, target, batch, rng)
        else:
            invnet.objectives.forward_kl(flow, X)
        optimizer.step()

    return step, sum(p.data.size for p in flow.parameters())


# ---- PyTorch


def torch_step(model, loss, *arguments):
    """Returns a step that minimises loss(*arguments), and the number of the model's parameters."""
    import torch

    torch.set_num_threads(1)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, 1e-4, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss(*arguments).backward()
        optimizer.step()

    return step, sum(p.numel() for p in parameters)


def tensor(batch):
    import torch

    return torch.from_numpy(data(batch))


def energy(x):
    """Returns log p of invnet.data.Energy(1), unnormalised."""
    import torch

    bumps = torch.logaddexp(-0.5 * ((x[:, 0] - 2) / 0.6) ** 2, -0.5 * ((x[:, 0] + 2) / 0.6) ** 2)
    return bumps - 0.5 * ((torch.linalg.norm(x, dim=1) - 2) / 0.4) ** 2


def forward_zuko(flow, batch):
    return torch_step(flow, lambda x: -flow().log_prob(x).mean(), tensor(batch))


def reverse_zuko(flow, batch):
    def loss():
        x, log_q = flow().rsample_and_log_prob((batch,))
        return (log_q - energy(x)).mean()

    return torch_step(flow, loss)


def with_normflows(flows, batch, reverse=False):
    """Makes the model in normflows. Its flows go from noise to data, so forward KL uses their inverses."""
    import normflows as nf

    class Target:
        log_prob = staticmethod(energy)

    model = nf.NormalizingFlow(nf.distributions.DiagGaussian(2, trainable=False), flows, Target())
    if reverse:
        return torch_step(model, model.reverse_kld, batch)
    return torch_step(model, model.forward_kld, tensor(batch))


def with_nflows(transforms, batch, reverse=False):
    """Makes the model in nflows. Its transforms go from data to noise."""
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.transforms import CompositeTransform

    flow = Flow(CompositeTransform(transforms), StandardNormal([2]))

    def free_energy():
        x, log_q = flow.sample_and_log_prob(batch)
        return (log_q - energy(x)).mean()

    return (
        torch_step(flow, free_energy)
        if reverse
        else torch_step(flow, lambda x: -flow.log_prob(x).mean(), tensor(batch))
    )


def dense(C_in, hidden, C_out):
    from torch import nn

    return nn.Sequential(
        nn.Linear(C_in, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, C_out)
    )


def nflows_net(hidden):
    def net(C_in, C_out):
        made = dense(C_in, hidden, C_out)
        forward, made.forward = made.forward, lambda x, context: forward(x)
        return made

    return net


def with_freia(steps, hidden, batch):
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    model = ff.SequenceINN(2)
    for _ in range(steps):
        model.append(fm.AllInOneBlock, subnet_constructor=lambda C_in, C_out: dense(C_in, hidden, C_out))

    def loss(x):
        z, logdet = model(x)
        return 0.5 * (z * z).sum() / len(x) - logdet.mean()

    return torch_step(model, loss, tensor(batch))


# ---- the problems: {contender: function of the batch}


def nflows_glow(batch):
    import nflows.transforms as T

    return with_nflows(
        [
            t
            for _ in range(small.STEPS)
            for t in (T.ActNorm(2), T.LULinear(2), T.AffineCouplingTransform([0, 1], nflows_net(small.HIDDEN)))
        ],
        batch,
    )


def nflows_realnvp(batch):
    import nflows.transforms as T

    return with_nflows(
        [T.AffineCouplingTransform([i % 2, 1 - i % 2], nflows_net(HIDDEN["gaussians"])) for i in range(16)], batch
    )


def normflows_realnvp(batch):
    import normflows as nf

    flows, hidden = [], HIDDEN["gaussians"]
    for _ in range(16):
        net = nf.nets.MLP([1, hidden, hidden, 2], init_zeros=True)
        flows += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(2, mode="swap")]
    return with_normflows(flows, batch)


def zuko_realnvp(batch):
    import zuko

    return forward_zuko(zuko.flows.RealNVP(2, transforms=16, hidden_features=(HIDDEN["gaussians"],) * 2), batch)


def zuko_maf(batch):
    import zuko

    return forward_zuko(zuko.flows.MAF(2, transforms=10, hidden_features=(HIDDEN["moons"],) * 2), batch)


def normflows_maf(batch):
    import normflows as nf

    layer = lambda: nf.flows.Reverse(nf.flows.MaskedAffineAutoregressive(2, HIDDEN["moons"], num_blocks=1))
    return with_normflows([flow for _ in range(10) for flow in (layer(), nf.flows.Permute(2, mode="swap"))], batch)


def nflows_maf(batch):
    import nflows.transforms as T

    layer = lambda: T.MaskedAffineAutoregressiveTransform(2, HIDDEN["moons"], num_blocks=1)
    return with_nflows([t for _ in range(10) for t in (layer(), T.ReversePermutation(2))], batch)


def zuko_iaf(batch):
    import zuko

    maf = zuko.flows.MAF(2, transforms=2, hidden_features=(HIDDEN["iaf"],) * 2)
    return reverse_zuko(zuko.flows.Flow(maf.transform.inv, maf.base), batch)


def normflows_iaf(batch):
    import normflows as nf

    layer = lambda: nf.flows.MaskedAffineAutoregressive(2, HIDDEN["iaf"], num_blocks=1)
    return with_normflows([layer(), nf.flows.Permute(2, mode="swap"), layer()], batch, reverse=True)


def nflows_iaf(batch):
    import nflows.transforms as T

    layer = lambda: T.InverseTransform(T.MaskedAffineAutoregressiveTransform(2, HIDDEN["iaf"], num_blocks=1))
    return with_nflows([layer(), T.ReversePermutation(2), layer()], batch, reverse=True)


def normflows_planar(batch):
    import normflows as nf

    return with_normflows([nf.flows.Planar((2,)) for _ in range(16)], batch, reverse=True)


def torch_planar(batch):
    import torch

    torch.manual_seed(0)
    model = torch.nn.ParameterList(
        [torch.nn.Parameter(0.1 * torch.randn(size)) for _ in range(16) for size in (2, 2, 1)]
    )

    def loss():
        z = torch.randn(batch, 2)
        log_q = -0.5 * (z * z).sum(1) - math.log(2 * math.pi)
        for u, w, b in zip(model[::3], model[1::3], model[2::3]):
            a = w @ u
            u = u + (torch.nn.functional.softplus(a) - 1 - a) * w / (w @ w)
            t = torch.tanh(z @ w + b)
            z, log_q = z + t[:, None] * u, log_q - torch.log(1 + (w @ u) * (1 - t * t))
        return (log_q - energy(z)).mean()

    return torch_step(model, loss)


def zuko_spline(batch):
    import zuko

    shapes = [(BINS,), (BINS,), (BINS - 1,)]
    couplings = [
        zuko.flows.GeneralCouplingTransform(
            2,
            mask=torch_mask(i),
            univariate=zuko.transforms.MonotonicRQSTransform,
            shapes=shapes,
            hidden_features=(HIDDEN["spline"],) * 2,
        )
        for i in range(8)
    ]
    base = zuko.flows.UnconditionalDistribution(zuko.distributions.DiagNormal, *_normal(), buffer=True)
    return forward_zuko(zuko.flows.Flow(couplings, base), batch)


def torch_mask(i):
    import torch

    return torch.tensor([i % 2 == 0, i % 2 == 1])


def _normal():
    import torch

    return torch.zeros(2), torch.ones(2)


def normflows_spline(batch):
    import normflows as nf

    layer = lambda i: nf.flows.CoupledRationalQuadraticSpline(
        2, 1, HIDDEN["spline"], num_bins=BINS, reverse_mask=bool(i % 2)
    )
    return with_normflows([layer(i) for i in range(8)], batch)


def nflows_spline(batch):
    import nflows.transforms as T

    return with_nflows(
        [
            T.PiecewiseRationalQuadraticCouplingTransform(
                [i % 2, 1 - i % 2], nflows_net(HIDDEN["spline"]), num_bins=BINS, tails="linear", tail_bound=3.0
            )
            for i in range(8)
        ],
        batch,
    )


planar = {
    "invnet": lambda n: ours(lambda invnet: invnet.Reverse(invnet.PlanarFlow(2, 16)), n, reverse=True),
    "torch": torch_planar,
    "normflows": normflows_planar,
}
PROBLEMS = {  # name: batch, contenders
    "banana": (
        small.BATCH,
        {
            "invnet": lambda n: ours(lambda invnet: invnet.Glow(2, small.HIDDEN, 1, small.STEPS, ndim=0), n),
            "zuko": lambda n: small.make_zuko(2),
            "normflows": lambda n: small.make_normflows(2),
            "nflows": nflows_glow,
            "FrEIA": lambda n: small.make_freia(2),
        },
    ),
    "two gaussians": (
        64,
        {
            "invnet": lambda n: ours(lambda invnet: invnet.RealNVP(2, HIDDEN["gaussians"], 16), n),
            "zuko": zuko_realnvp,
            "normflows": normflows_realnvp,
            "nflows": nflows_realnvp,
            "FrEIA": lambda n: with_freia(16, HIDDEN["gaussians"], n),
        },
    ),
    "two moons": (
        512,
        {
            "invnet": lambda n: ours(lambda invnet: invnet.MAF(2, [HIDDEN["moons"]] * 2, 10), n),
            "zuko": zuko_maf,
            "normflows": normflows_maf,
            "nflows": nflows_maf,
        },
    ),
    "energy 1, IAF": (
        256,
        {
            "invnet": lambda n: ours(lambda invnet: invnet.IAF(2, [HIDDEN["iaf"]] * 2, 2), n, reverse=True),
            "zuko": zuko_iaf,
            "normflows": normflows_iaf,
            "nflows": nflows_iaf,
        },
    ),
    "energy 1, planar, 40": (40, planar),
    "energy 1, planar, 256": (256, planar),
    "spline": (
        256,
        {
            "invnet": lambda n: ours(lambda invnet: invnet.NSF(2, HIDDEN["spline"], 8, BINS), n),
            "zuko": zuko_spline,
            "normflows": normflows_spline,
            "nflows": nflows_spline,
        },
    ),
}


def plot(rows, folder, name):
    fig, axes = harness.figure(4, 2, width=3.2, height=2.6)
    for axis, problem in zip(axes.flat, PROBLEMS):
        mine = [row for row in rows if row["problem"] == problem]
        names, fastest = (
            [row["contender"] for row in mine],
            min(row["ms_min"] for row in mine if row["contender"] != "invnet"),
        )
        axis.bar(names, [row["ms_min"] for row in mine], color=[harness.COLORS.get(n, "black") for n in names])
        axis.set(
            title=f"{problem}: 1/{fastest / mine[0]['ms_min']:.1f} of the fastest", ylabel="ms for a training step"
        )
        axis.title.set_fontsize(9)
        axis.tick_params(axis="x", labelsize=7)
        axis.axhline(fastest / 5, color="gray", linestyle=":")
    axes.flat[-1].axis("off")
    axes.flat[-1].text(0, 0.5, "dotted: a fifth of the fastest peer", color="gray", fontsize=9)
    harness.write_png(fig, name, folder)


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--rounds", type=int, help="number of rounds; default 25, with --full 100")
    parser.add_argument("--only", choices=PROBLEMS, help="measure one problem only, and write no file")
    options = parser.parse_args()
    rounds, rows = options.rounds or (100 if options.full else 25), []
    missing = {name for name in ("zuko", "normflows", "nflows", "FrEIA") if not importlib.util.find_spec(name)}
    for name in sorted(missing):
        print(f"{name} is left out: it is not installed")
    for problem, (batch, makers) in PROBLEMS.items():
        if options.only not in (None, problem):
            continue
        made = {name: make(batch) for name, make in makers.items() if name not in missing}
        seconds = harness.in_turns({name: step for name, (step, _) in made.items()}, range(rounds), repeats=5)
        for row in harness.summary(seconds):
            row.update(
                problem=problem,
                batch=batch,
                parameters=made[row["contender"]][1],
                ms_min=1e3 * row["seconds_min"],
                ms_median=1e3 * row["seconds_median"],
            )
            rows.append(row)
    harness.print_table(rows, COLUMNS)
    if options.only is None:
        harness.keep(rows, "tutorials", options, plot)


if __name__ == "__main__":
    main()
