"""Real NVP learns a mixture of two Gaussians from 1,000 samples. A picture shows how noise is pulled apart.

python examples/two_gaussians.py          # less than a minute; the picture in runs/two_gaussians
python examples/two_gaussians.py --quick  # a few seconds; learns little
"""

import argparse
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import invnet

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a small setting that only shows that the script runs")
parser.add_argument("--seed", type=int, default=1, help="seed of the data, the network and the order of the samples")
parser.add_argument("--out", type=Path, default="runs/two_gaussians", help="folder for the picture")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
begun = time.perf_counter()

# The data: half of the points around (-2, -2), half around (2, 2), each with the identity as covariance. A thousand
# samples are few for a network of 70,688 weights. So 1,000 other samples say when to stop, and the figures come from
# 100,000 more.
target = invnet.data.Mixture([[-2, -2], [2, 2]], std=1.0)
rng = np.random.default_rng(args.seed)
train, validation, test = (target.sample(n, rng) for n in (1_000, 1_000, 100_000))

# The entropy of the mixture, by quadrature over a box that holds all but 1e-9 of the probability.
axis = (np.arange(500) + 0.5) / 500 * 18 - 9
log_p = target.log_prob(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))
entropy = -np.sum(np.exp(log_p) * log_p) * (axis[1] - axis[0]) ** 2

# The network: 16 couplings, that is eight pairs. The two coordinates change places after each coupling. With scales up
# to 2 instead of 4, the default, it overfits less.
net = invnet.RealNVP(channels=2, hidden=64, steps=16, bound=2.0, activation="leaky_relu", seed=args.seed)
flow = invnet.Flow(net, shape=(2,))
opt = invnet.optim.Adam(net.parameters(), lr=2e-4)
average = invnet.optim.EMA(net.parameters(), decay=0.99)


def nll(X):
    return -float(np.mean(flow.log_prob(X)))


# Every fifth epoch the averaged weights are validated, and the best are kept. Training stops after 30 epochs without
# improvement.
batch, epochs, patience = 64, 5 if args.quick else 300, 30
start, best, best_epoch = nll(validation), np.inf, 0
bar = tqdm(range(1, epochs + 1), unit="epoch")
for epoch in bar:
    order = rng.permutation(len(train))
    for i in range(0, len(train), batch):
        invnet.objectives.forward_kl(flow, train[order[i : i + batch]])
        invnet.optim.clip_by_global_norm(flow.parameters(), 100.0)
        opt.step()
        net.zero_grad()
        average.update()
    if epoch % 5 == 0:
        with average.weights():
            if (loss := nll(validation)) < best:
                best, best_epoch, weights = loss, epoch, net.state_dict()
        bar.set_postfix_str(f"validation {loss:.3f}, best {best:.3f} after {best_epoch}")
        if epoch - best_epoch >= patience:
            break
bar.close()
net.load_state_dict(weights)

print(f"objective: from {start:.3f} to {best:.3f} nats on the validation part, after {best_epoch} epochs")
gap = np.mean(target.log_prob(test) - flow.log_prob(test))
print(
    f"NLL of the training part {nll(train):.3f} nats, held-out NLL {nll(test):.3f} nats, entropy of the mixture "
    f"{entropy:.3f} nats"
)
print(f"KL divergence {gap:.3f} nats")

# The picture: how noise becomes samples. A pair is two couplings and the swap between them. The swap before the next
# pair is not in the picture, and the noise has its coordinates swapped. So all panels have one order.
states = net.inverse_states(flow.noise(1_500, seed=1))
states = [states[0][:, ::-1], *states[3::4]]
titles = ["noise", *(f"after pair {i}" for i in range(1, 8)), "after pair 8: samples"]
invnet.plot.path(states, titles, columns=3).savefig(args.out / "two_gaussians_path.png")
print(f"{time.perf_counter() - begun:.1f} s; the picture in {args.out}")
