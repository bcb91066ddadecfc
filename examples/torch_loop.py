"""Where is the source? A conditional Glow and a summary network, trained together in an ordinary PyTorch loop.

python examples/torch_loop.py          # about a minute; the picture in runs/torch_loop
python examples/torch_loop.py --quick  # a few seconds; learns little
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import trange

import invnet

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a small setting that only shows that the script runs")
parser.add_argument("--out", type=Path, default="runs/torch_loop", help="folder for the picture")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
torch.set_num_threads(1)  # batches this small are not worth a second thread
invnet.set_num_threads(1)

# A source lies at theta, which is N(0, 1) in each coordinate. Each of two detectors on the horizontal axis measures its
# distance six times, with noise. They cannot tell whether the source is above or below the axis.
detectors, noise = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), 0.3


def pairs(n):
    theta = torch.randn(n, 2)
    return theta, torch.cdist(theta, detectors)[:, None] + noise * torch.randn(n, 6, 2)


train, (theta, seen) = DataLoader(TensorDataset(*pairs(30_000)), batch_size=500, shuffle=True), pairs(2_000)

# The summary network reads each measurement and takes the mean. It learns what the Glow needs as its condition.
flow = invnet.torch.as_module(
    invnet.Glow(2, hidden=64, levels=1, steps=10, ndim=0, activation="silu", cond_channels=16, seed=0)
)
each, joint = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32)), nn.Sequential(nn.SiLU(), nn.Linear(32, 16))
model = nn.ModuleList([flow, each, joint])


def nll(theta, seen):
    z, logdet = flow(theta, joint(each(seen).mean(1)))
    return (0.5 * z.square().sum(1) - logdet).mean() + 1.8379  # log 2 pi


epochs = 3 if args.quick else 25
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, epochs * len(train))
start = nll(theta, seen).item()
for _ in trange(epochs, unit="epoch"):
    for batch in train:
        opt.zero_grad()
        nll(*batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        opt.step()
        schedule.step()

# The exact posterior, on a grid. Its density at the true theta is the best that a flow can learn.
axis = torch.linspace(-4, 4, 161)
grid = torch.cartesian_prod(axis, axis)
log_likelihood = lambda points, seen: (
    -(torch.cdist(points, detectors)[None] - seen.mean(1)[:, None]).square().sum(2) * 3 / noise**2
)
log_prior = lambda points: -0.5 * points.square().sum(-1)
log_evidence = torch.logsumexp(log_likelihood(grid, seen) + log_prior(grid), 1) + 2 * torch.log(axis[1] - axis[0])
at_theta = torch.stack([log_likelihood(t[None], s[None])[0, 0] for t, s in zip(theta, seen)]) + log_prior(theta)
best = -(at_theta - log_evidence).mean().item()
with torch.no_grad():
    end = nll(theta, seen).item()
    fig, panels = plt.subplots(1, 3, figsize=(11, 3.9), layout="constrained")
    for axes, t, s in zip(panels, theta[[2, 3, 6]], seen[[2, 3, 6]]):
        samples = flow.inverse(torch.randn(1_000, 2), joint(each(s[None]).mean(1)).expand(1_000, -1))
        posterior = (log_likelihood(grid, s[None])[0] + log_prior(grid)).exp().reshape(161, 161)
        axes.contour(
            axis, axis, posterior.T, levels=posterior.max() * torch.tensor([0.05, 0.3, 0.8]), colors="k", linewidths=0.8
        )
        axes.scatter(*samples.T, s=3, c="#c8553d", alpha=0.5, linewidths=0)
        axes.plot(*t, "b*", *detectors.T, "k^")
        axes.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
fig.suptitle("samples of the flow, contours of the exact posterior, the source (star) and its detectors")
fig.savefig(args.out / "torch_loop.png", dpi=100)
print(
    f"objective: from {start:.3f} to {end:.3f} nats; the exact posterior has {best:.3f}, so the KL divergence is "
    f"{end - best:.3f}"
)
print(f"the picture in {args.out}")
