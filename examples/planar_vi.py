"""Variational inference on the four energies of Rezende & Mohamed: planar flows, beside flows of couplings.

python examples/planar_vi.py           # about two minutes; a picture in runs/planar_vi
python examples/planar_vi.py --full    # lengths 2, 8, 16, 32, trained longer: about seven minutes; a second picture
python examples/planar_vi.py --quick   # a few seconds; learns little
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from tqdm import tqdm

import invnet

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a small setting that only shows that the script runs")
parser.add_argument("--full", action="store_true", help="planar flows of four lengths, all trained for longer")
parser.add_argument("--out", type=Path, default="runs/planar_vi", help="folder for the pictures")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
invnet.set_num_threads(1)  # batches this small are not worth a second thread
begun = time.perf_counter()


def planar(length):
    return invnet.Reverse(invnet.PlanarFlow(2, length, seed=0))  # planar layers from noise to data: samples are fast


def rmsprop(parameters, steps):
    return invnet.optim.RMSprop(parameters, invnet.optim.schedule(0.01, cosine=steps), decay=0.999)


def adam(parameters, steps):
    return invnet.optim.Adam(parameters, invnet.optim.schedule(0.002, cosine=steps))


# Each model: its layer, batch, steps and optimizer. The batch of 40 is that of an early tutorial; others are larger.
many, few = (100, 50) if args.quick else (20_000, 5_000) if args.full else (6_000, 3_000)
models = {"planar 16, batch 40": (lambda: planar(16), 40, many, rmsprop)}
for length in (2, 8, 16, 32) if args.full else (16,):
    models[f"planar {length}"] = (lambda length=length: planar(length), 256, many, rmsprop)
models["RealNVP"] = (lambda: invnet.RealNVP(2, hidden=32, steps=8, activation="silu"), 256, few, adam)
models["NSF"] = (lambda: invnet.NSF(2, hidden=32, steps=4, bins=16, bound=6.0, activation="silu"), 256, few, adam)

# The loss is the free energy E_q[log q - beta log p]. beta grows to 1 in the first half. U2 to U4 have walls at
# |z1| = 4, which give them a finite integral. Since log Z is known, KL(q, p) = log Z - ELBO is an absolute figure.
targets = [invnet.data.Energy(k) for k in (1, 2, 3, 4)]
kl, samples, start = {}, {}, {}
jobs = tqdm([(target, name) for target in targets for name in models], unit="flow")
for target, name in jobs:
    jobs.set_description(f"U{target.k} {name}")
    layer, batch, steps, optimizer = models[name]
    flow = invnet.Flow(layer(), (2,), invnet.DiagonalNormal([0.0, 0.0]))
    opt, rng = optimizer(flow.parameters(), steps), np.random.default_rng(0)
    beta = invnet.objectives.annealing(start=0.1, steps=steps // 2)
    before = target.log_Z + invnet.objectives.reverse_kl(flow, target, 10_000, 0)
    flow.zero_grad()
    for step in range(steps):
        invnet.objectives.reverse_kl(flow, target, batch, rng, beta=beta(step))
        invnet.optim.clip_by_global_norm(flow.parameters(), 100.0)
        opt.step()
        opt.zero_grad()
    X, log_q = flow.sample_and_log_prob(100_000, seed=1)
    elbo = np.mean(target(X)[0] - log_q)
    kl[target.k, name], samples[target.k, name] = target.log_Z - elbo, X
    start.setdefault(target.k, before)

print(f"{'KL(q, p) in nats':22s}" + "".join(f"{f'U{target.k}':>8s}" for target in targets))
print(f"objective: from {sum(start.values()) / 4:.3f} to {np.mean(list(kl.values())):.3f} nats on average")
for name in models:
    print(f"{name:22s}" + "".join(f"{kl[target.k, name]:8.3f}" for target in targets))

# The picture: a row for each energy, with its density and samples of three flows.
shown = ["planar 16", "RealNVP", "NSF"]
figure, rows = plt.subplots(4, 4, figsize=(9, 8.6), layout="constrained", sharex=True, sharey=True)
for row, target in zip(rows, targets):
    grid = np.stack(np.meshgrid(np.linspace(-5, 5, 201), np.linspace(-5, 5, 201)), axis=-1)
    p = np.exp(target.log_prob(grid.reshape(-1, 2))).reshape(201, 201)
    row[0].imshow(p, origin="lower", extent=(-5, 5, -5, 5), cmap="magma")
    row[0].set_ylabel(f"$U_{target.k}$", rotation=0, fontsize=13, labelpad=14)
    for axes, name in zip(row[1:], shown):
        axes.imshow(p, origin="lower", extent=(-5, 5, -5, 5), cmap="Greys", vmax=1.6 * p.max())
        axes.scatter(*samples[target.k, name][:1_000].T, s=2.5, c="#c8553d", alpha=0.6, linewidths=0)
        axes.text(
            0.97, 0.96, f"KL {kl[target.k, name]:.3f}", transform=axes.transAxes, ha="right", va="top", fontsize=9
        )
for axes, title in zip(rows[0], ["exp(-U) / Z", *shown]):
    axes.set(title=title, xlim=(-5, 5), ylim=(-5, 5), xticks=(-4, 0, 4), yticks=(-4, 0, 4))
figure.savefig(args.out / "planar_vi.png", dpi=72)

if args.full:  # as in the paper: KL against the number of layers
    lengths = (2, 8, 16, 32)
    figure, axes = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    for target in targets:
        axes.plot(
            lengths,
            [kl[target.k, f"planar {length}"] for length in lengths],
            "o-",
            markersize=4,
            label=f"$U_{target.k}$",
        )
    axes.set(xlabel="planar layers", ylabel="KL(q, p) in nats", xscale="log", yscale="log")
    axes.set_xticks(lengths, lengths, minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(args.out / "planar_vi_length.png", dpi=100)
print(f"{time.perf_counter() - begun:.1f} s; pictures in {args.out}")
