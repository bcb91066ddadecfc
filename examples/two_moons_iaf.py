"""Autoregressive flows of both kinds: a MAF learns the density of two moons, an IAF the posterior of two means.

python examples/two_moons_iaf.py          # about a minute; pictures in runs/two_moons_iaf
python examples/two_moons_iaf.py --quick  # a few seconds; learns little
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from tqdm import trange

import invnet

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a small setting that only shows that the script runs")
parser.add_argument("--out", type=Path, default="runs/two_moons_iaf", help="folder for the pictures")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
invnet.set_num_threads(1)  # batches this small are not worth a second thread
begun = time.perf_counter()

# 1. A density. In a masked autoregressive flow (MAF) the density is fast, so maximum likelihood trains it. The data are
# standardised. Their true density is known; it is the best likelihood that can be reached.
target, batch, epochs = invnet.data.TwoMoons(), 250, 2 if args.quick else 40
train, test = target.sample(10_000, seed=0), target.sample(10_000, seed=1)
best = -np.mean(target.log_prob(test)) - np.log(train.std(axis=0)).sum()
train, test = ((X - train.mean(axis=0)) / train.std(axis=0) for X in (train, test))

maf = invnet.MAF(2, hidden=(128, 128), steps=10, order="reversal", activation="silu", seed=0)
flow = invnet.Flow(maf, shape=(2,))
rate = invnet.optim.schedule(1e-3, cosine=epochs * len(train) // batch)
opt, rng = invnet.optim.Adam(flow.parameters(), rate, weight_decay=1e-2), np.random.default_rng(0)
losses = []
for _ in trange(epochs, unit="epoch"):
    for X in rng.permutation(train).reshape(-1, batch, 2):
        losses.append(invnet.objectives.forward_kl(flow, X))
        invnet.optim.clip_by_global_norm(flow.parameters(), 100.0)
        opt.step()
        opt.zero_grad()
print(f"objective: from {losses[0]:.3f} to {np.mean(losses[-40:]):.3f} nats")

nll = -np.mean(flow.log_prob(test))
print(f"two moons: held-out NLL {nll:.3f} nats, {best:.3f} with the true density, difference {nll - best:.3f}")
samples = flow.sample(5_000, seed=2)
invnet.plot.density(flow, samples, title="density of the MAF").savefig(args.out / "two_moons_density.png", dpi=85)

# 2. Variational inference. Two numbers theta have the prior N(0, 1) each, and 10,000 points come from N(theta, 1).
# The joint density depends on the points only through their mean, except for a constant.
points = rng.standard_normal((10_000, 2)) + [0, 10]
n, mean = len(points), points.mean(axis=0).astype("float32")


def log_joint(theta):
    value = -0.5 * np.sum(theta**2 + n * (theta - mean) ** 2, axis=1)
    return value, -theta - n * (theta - mean)


# In an inverse autoregressive flow (IAF) sampling is fast. The posterior is narrow and far from the noise, so theta is
# s IAF(noise) + b. A reversed ActNorm computes this. b starts at the mean of the points, and s at 1, which is a hundred
# times too wide.
affine = invnet.ActNorm(2)
affine.b.data[...] = mean
flow = invnet.Flow(invnet.Chain(invnet.Reverse(affine), invnet.IAF(2, hidden=32, steps=2, seed=0)), shape=(2,))
# The gradients fall by orders of magnitude while q becomes narrow, so Adam must forget how large they were. The path
# gradient has no noise once q equals the posterior. This makes the result so accurate.
steps = 400 if args.quick else 1_000
opt = invnet.optim.Adam(flow.parameters(), invnet.optim.schedule(0.02, cosine=steps), betas=(0.9, 0.9))
for _ in trange(steps, unit="step"):
    invnet.objectives.reverse_kl(flow, log_joint, 64, rng, path=True)
    invnet.optim.clip_by_global_norm(flow.parameters(), 100.0)
    opt.step()
    opt.zero_grad()

# The exact posterior is N(n mean / (n + 1), 1 / (n + 1)): the prior counts as one more point at 0.
exact_mean, exact_variance = points.sum(axis=0) / (n + 1), 1 / (n + 1)
theta, log_q = flow.sample_and_log_prob(100_000 if args.quick else 1_000_000, seed=3)
theta = theta.astype("float64")
found = theta.mean(axis=0), theta.var(axis=0)
log_p = -0.5 * np.sum((theta - exact_mean) ** 2, axis=1) / exact_variance - np.log(2 * np.pi * exact_variance)
for i in range(2):
    off = (found[0][i] - exact_mean[i]) / exact_variance**0.5
    print(
        f"theta_{i + 1}: mean {found[0][i]:+.6f}, exact {exact_mean[i]:+.6f}, ratio {found[0][i] / exact_mean[i]:.5f}, "
        f"off by {off:+.4f} standard deviations"
    )
    print(f"         variance {found[1][i]:.4e}, exact {exact_variance:.4e}, ratio {found[1][i] / exact_variance:.4f}")
print(f"KL(q, posterior) {np.mean(log_q - log_p):.1e} nats")

# The picture: samples with ellipses of the exact posterior (1, 2 and 3 standard deviations), and two histograms.
figure, panels = plt.subplots(1, 3, figsize=(11, 3.7), layout="constrained")
sd, circle = exact_variance**0.5, np.exp(2j * np.pi * np.linspace(0, 1, 200))
panels[0].scatter(*theta[:4_000].T, s=3, c="#c8553d", alpha=0.5, linewidths=0)
for radius in (1, 2, 3):
    panels[0].plot(
        exact_mean[0] + radius * sd * circle.real, exact_mean[1] + radius * sd * circle.imag, "k", linewidth=0.8
    )
panels[0].set(title="samples of the IAF, exact ellipses", xlabel=r"$\theta_1$", ylabel=r"$\theta_2$", aspect="equal")
for i, axes in enumerate(panels[1:]):
    grid = exact_mean[i] + sd * np.linspace(-4.2, 4.2, 200)
    axes.hist(theta[:, i], 80, range=(grid[0], grid[-1]), density=True, color="#c8553d", alpha=0.6, label="IAF")
    axes.plot(
        grid,
        np.exp(-0.5 * ((grid - exact_mean[i]) / sd) ** 2) / (sd * np.sqrt(2 * np.pi)),
        "k",
        linewidth=1,
        label="exact",
    )
    axes.set(title=f"posterior of the {('first', 'second')[i]} mean", xlabel=rf"$\theta_{i + 1}$", yticks=[])
panels[1].legend(frameon=False)
figure.savefig(args.out / "two_moons_posterior.png", dpi=100)
print(f"{time.perf_counter() - begun:.1f} s; pictures in {args.out}")
