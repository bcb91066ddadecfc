"""Real NVP learns a mixture of two Gaussians from 1,000 samples, and shows how noise is pulled apart, pair by pair.

python examples/two_gaussians.py          # less than a minute; the picture in runs/two_gaussians
python examples/two_gaussians.py --quick  # some seconds, and not learned well
"""

import argparse
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import invnet

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a small setting, to see that it runs")
parser.add_argument("--seed", type=int, default=1, help="of the data, the network and the order of the samples")
parser.add_argument("--out", type=Path, default="runs/two_gaussians", help="folder of the picture")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
begun = time.perf_counter()

# The data: half of it about (-2, -2), half about (2, 2), each with the identity for its covariance. A thousand samples
# are few for a network of 70,688 weights: as many others say when to stop, and what is reported comes from 100,000
# more.
target = invnet.data.Mixture([[-2, -2], [2, 2]], std=1.0)
rng = np.random.default_rng(args.seed)
train, validation, test = (target.sample(n, rng) for n in (1_000, 1_000, 100_000))

# Its entropy, by quadrature over a box that holds all of it but 1e-9.
axis = (np.arange(500) + 0.5) / 500 * 18 - 9
log_p = target.log_prob(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))
entropy = -np.sum(np.exp(log_p) * log_p) * (axis[1] - axis[0]) ** 2

# The network: 16 couplings, between which the two coordinates change places: eight pairs. With scales up to 2 rather
# than the usual 4 it overfits less.
net = invnet.RealNVP(channels=2, hidden=64, steps=16, bound=2.0, activation="leaky_relu", seed=args.seed)
flow = invnet.Flow(net, shape=(2,))
opt = invnet.optim.Adam(net.parameters(), lr=2e-4)
average = invnet.optim.EMA(net.parameters(), decay=0.99)


def nll(X):
    return -float(np.mean(flow.log_prob(X)))


# Every fifth epoch the averaged weights are validated; the best of them are kept, and 30 epochs without better are
# enough.
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
    f"NLL of the training part {nll(train):.3f}, held-out NLL {nll(test):.3f}, entropy of the mixture {entropy:.3f} "
    f"nats"
)
print(f"KL divergence {gap:.3f} nats")

# The picture: the way of a sample. A pair is two couplings and the swap between them; the swap before the next pair
# comes after the picture, and the noise is drawn with its coordinates swapped, so that all pictures have them in one
# order.
states = net.inverse_states(flow.noise(1_500, seed=1))
states = [states[0][:, ::-1], *states[3::4]]
titles = ["noise", *(f"after pair {i}" for i in range(1, 8)), "after pair 8: samples"]
invnet.plot.path(states, titles, columns=3).savefig(args.out / "two_gaussians_path.png")
print(f"{time.perf_counter() - begun:.1f} s; the picture in {args.out}")
