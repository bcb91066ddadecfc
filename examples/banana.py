"""Glow learns the banana: maximum likelihood on vectors, with the loop of InvertibleNetworks.jl.

python examples/banana.py                 # a few seconds; pictures in runs/banana
python examples/banana.py --quick         # a tenth of the samples; learns little
"""

import argparse
import math
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import ConnectionPatch
from tqdm import tqdm

import invnet

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a small setting that only shows that the script runs")
parser.add_argument("--out", type=Path, default="runs/banana", help="folder for the pictures")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
begun = time.perf_counter()

# The data: Rosenbrock's banana. Bending a normal distribution keeps its entropy, so the entropy is known.
target = invnet.data.Banana()
data = target.sample(6_000 if args.quick else 60_000, seed=0)
entropy = math.log(2 * math.pi * math.e * target.width)

# The network: ten steps of Glow on vectors. ActNorm takes its first values from the data.
D, batch = 2, 150
G = invnet.Glow(channels=D, hidden=16, levels=1, steps=10, ndim=0, seed=0)
G.initialize(data[:batch])
opt = invnet.optim.Adam(G.parameters(), lr=9e-4)

# One epoch. The loss is the mean of |z|^2 / 2 - logdet, so dZ is Z / batch. dlogdet is -1 / batch, the default.
# `backward` adds the gradients of all parameters. It recomputes the activations, since `forward` stored none.
rows = []
for step, X in enumerate(tqdm(data.reshape(-1, batch, D), unit="step")):
    Z, logdet = G.forward(X)
    rows.append({"step": step, "l2": 0.5 * np.sum(Z * Z) / batch, "logdet": np.mean(logdet)})
    G.backward(Z / batch, Z)
    invnet.optim.clip_by_global_norm(G.parameters(), 100.0)
    opt.step()
    G.zero_grad()

# The figures. The objective is the negative log-likelihood without the constant D/2 log(2 pi).
objective = [row["l2"] - row["logdet"] for row in rows]
flow = invnet.Flow(G, shape=(D,))
test = target.sample(20_000, seed=1)
nll, gap = -np.mean(flow.log_prob(test)), np.mean(target.log_prob(test) - flow.log_prob(test))
print(f"objective: from {objective[0]:.3f} to {np.mean(objective[-20:]):.3f} nats, the mean of the last 20 steps")
print(f"held-out NLL {nll:.3f} nats, entropy of the banana {entropy:.3f} nats, KL divergence {gap:.3f} nats")

# The pictures: the terms of the objective; samples; lines from noise to samples.
invnet.plot.likelihood_terms(rows, D).savefig(args.out / "banana_objective.png")
X = flow.sample(5_000, seed=2)
invnet.plot.samples(test[:5_000], X, target.box, ("banana", "generated")).savefig(args.out / "banana_samples.png")

Z = flow.noise(100, seed=3)
X = G.inverse(Z)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
colors = 0.85 * plt.cm.hsv(np.arctan2(Z[:, 1], Z[:, 0]) / (2 * math.pi) + 0.5)[:, :3]
for z, x, color in zip(Z, X, colors):
    line = ConnectionPatch(z, x, "data", "data", axesA=left, axesB=right, color=color, alpha=0.4, linewidth=0.5)
    figure.add_artist(line)
left.scatter(*Z.T, s=16, c=colors)
right.scatter(*X.T, s=16, c=colors)
left.set(title="latent: normal noise", xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
right.set(title="data: the inverse of the noise", xlabel="$x_1$", aspect="equal")
right.set_ylabel("$x_2$", rotation=0)
right.yaxis.set_label_position("right")
right.yaxis.tick_right()
figure.savefig(args.out / "banana_lines.png")
print(f"{time.perf_counter() - begun:.1f} s; pictures in {args.out}")
