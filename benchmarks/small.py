"""Measures a training step of small problems, where overhead matters most.

    python -m benchmarks.small            2 and 8 features, about half a minute
    python -m benchmarks.small --full     more rounds

The model has 10 steps on vectors, with hidden width 16 (two hidden layers); the batch is 150. A step is forward +
loss + backward + Adam, with one thread. All contenders have ten affine couplings. All but zuko also have ten learned
mixes and ActNorms, so zuko does less. The others use PyTorch's fused Adam, its fastest on a CPU.
"""

import importlib.util

import numpy as np

from . import harness

STEPS, HIDDEN, BATCH = 10, 16, 150
COLUMNS = dict(
    features="d", contender="s", ms_min=".2f", ms_median=".2f", ratio_min=".3f", ratio_median=".3f", parameters="d"
)


def data(features):
    return np.random.default_rng(1).standard_normal((BATCH, features), dtype=np.float32)


def make_invnet(features):
    import invnet

    invnet.set_num_threads(1)
    glow = invnet.Glow(features, HIDDEN, levels=1, steps=STEPS, ndim=0)
    X, optimizer = data(features), invnet.optim.Adam(glow.parameters(), 1e-4)

    def step():
        Z, logdet = glow.forward(X)
        _, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
        glow.backward(dZ, Z, dlogdet)
        optimizer.step()
        optimizer.zero_grad()

    return step, sum(p.data.size for p in glow.parameters())


def make_normflows(features):
    import normflows as nf

    flows = []
    for _ in range(STEPS):  # training runs through them from the last to the first
        net = nf.nets.MLP([(features + 1) // 2, HIDDEN, HIDDEN, 2 * (features // 2)], init_zeros=True)
        coupling = nf.flows.AffineCouplingBlock(net, scale_map="sigmoid")
        flows += [coupling, nf.flows.InvertibleAffine(features), nf.flows.ActNorm((features,))]
    model = nf.NormalizingFlow(nf.distributions.DiagGaussian(features, trainable=False), flows)
    return torch_step(model, lambda x: model.forward_kld(x), features)


def make_freia(features):
    import FrEIA.framework as ff
    import FrEIA.modules as fm
    from torch import nn

    def net(C_in, C_out):
        hidden = (nn.Linear(C_in, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
        return nn.Sequential(*hidden, nn.Linear(HIDDEN, C_out))

    model = ff.SequenceINN(features)
    for _ in range(STEPS):
        model.append(fm.AllInOneBlock, subnet_constructor=net, permute_soft=True, global_affine_type="EXP")

    def loss(x):
        z, logdet = model(x)
        return 0.5 * (z * z).sum() / len(x) - logdet.mean()

    return torch_step(model, loss, features)


def make_zuko(features):
    import zuko

    flow = zuko.flows.RealNVP(features, transforms=STEPS, hidden_features=(HIDDEN, HIDDEN))
    return torch_step(flow, lambda x: -flow().log_prob(x).mean(), features)


def torch_step(model, loss, features):
    import torch

    torch.set_num_threads(1)
    x, parameters = torch.from_numpy(data(features)), [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, 1e-4, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss(x).backward()
        optimizer.step()

    return step, sum(p.numel() for p in parameters)


MAKERS = {"invnet": make_invnet, "normflows": make_normflows, "FrEIA": make_freia, "zuko": make_zuko}


def plot(rows, folder, name):
    kinds = sorted({row["features"] for row in rows})
    fig, axes = harness.figure(len(kinds), width=4.5, height=3.5)
    for axis, features in zip(axes[0], kinds):
        mine = [row for row in rows if row["features"] == features]
        names = [row["contender"] for row in mine]
        axis.bar(names, [row["ms_median"] for row in mine], color=[harness.COLORS.get(n, "black") for n in names])
        axis.set(
            title=f"{features} features",
            ylabel="ms for a training step with Adam",
            xlabel="dotted: a tenth of the fastest peer",
        )
        axis.axhline(
            min(row["ms_median"] for row in mine if row["contender"] != "invnet") / 10, color="gray", linestyle=":"
        )
    harness.write_png(fig, name, folder)


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--rounds", type=int, help="number of rounds; default 20, with --full 100")
    options = parser.parse_args()
    names, rounds, rows = [], options.rounds or (100 if options.full else 20), []
    for name in MAKERS:
        if importlib.util.find_spec(name):
            names.append(name)
        else:
            print(f"{name} is left out: it is not installed")
    for features in (2, 8):
        made = {name: MAKERS[name](features) for name in names}
        seconds = harness.in_turns({name: step for name, (step, _) in made.items()}, range(rounds), repeats=5)
        for row in harness.summary(seconds):
            row.update(
                features=features,
                batch=BATCH,
                steps=STEPS,
                hidden=HIDDEN,
                parameters=made[row["contender"]][1],
                ms_min=1e3 * row["seconds_min"],
                ms_median=1e3 * row["seconds_median"],
            )
            rows.append(row)
    harness.print_table(rows, COLUMNS)
    harness.keep(rows, "small", options, plot)


if __name__ == "__main__":
    main()
