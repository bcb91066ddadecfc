"""Compares test bits/dim against seconds of training, for invnet and its PyTorch twin.

    python -m benchmarks.time_to_quality mnist.npz            200 steps each: about a minute
    python -m benchmarks.time_to_quality mnist.npz --full     3000 steps each of 3 seeds, about 3 minutes of training
    each

The file is an .npz with x_train and x_test, uint8 (N, 28, 28). The model is a logit and a Glow of 2 levels, 4 steps
and hidden 64, with two-sided scale and learned split prior. The batch is 64, gradients are clipped to a norm of 100,
and Adam starts at 2e-3 and decays along a cosine. Both contenders start from the same weights, with ActNorm set from
the first batch, and see the same batches and the same noise. They train in turns of `--turn` steps in one process,
with one thread. Only training is timed. So both curves have points at the same steps and differ only in the seconds.
"""

import time

import numpy as np

from . import harness

COLUMNS = dict(seed="d", step="d", invnet_seconds=".1f", invnet_bits=".4f", twin_seconds=".1f", twin_bits=".4f")
ALPHA = 0.05
# as `invnet train` does; without it some trainings of either jump by up to 4 bits/dim, which rounding decides
CLIP = 100.0


def images(x, rng):
    """Bytes as an array in [0, 1), (N, 1, H, W), with uniform noise."""
    return ((x[:, None] + rng.random((len(x), 1, *x.shape[1:]), dtype=np.float32)) / 256).astype(np.float32)


class Invnet:
    def __init__(self, X, lr):
        import invnet

        invnet.set_num_threads(1)
        self.glow = invnet.Glow(1, 64, 2, 4)
        self.net = invnet.Chain(invnet.Logit(ALPHA), self.glow)
        self.net.initialize(X)
        self.loss, self.optimizer = invnet.losses.gaussian_nll, invnet.optim.Adam(self.net.parameters(), lr)
        self.clip = invnet.optim.clip_by_global_norm

    def step(self, X):
        self.net.zero_grad()
        Z, logdet = self.net.forward(X)
        _, dZ, dlogdet = self.loss(Z, logdet)
        self.net.backward(dZ, Z, dlogdet)
        self.clip(self.optimizer.parameters, CLIP)
        self.optimizer.step()

    def nats(self, X):
        return self.loss(*self.net.forward(X))[0]


class Twin:
    """Takes the initialized weights of an Invnet; gradients by autograd, PyTorch's fused Adam."""

    def __init__(self, ours, lr):
        import torch

        from invnet.bench import twin

        torch.set_num_threads(1)
        self.torch, self.logit, self.lr, self.steps = torch, twin.logit, lr, 0
        self.model = twin.Twin(ours.glow).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr(0), fused=True)

    def loss(self, X):
        with self.torch.no_grad():
            x, logdet = self.logit(self.torch.from_numpy(X), ALPHA)
        return self.model(x) - logdet

    def step(self, X):
        self.optimizer.param_groups[0]["lr"], self.steps = self.lr(self.steps), self.steps + 1
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(X).backward()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()

    def nats(self, X):
        with self.torch.no_grad():
            return self.loss(X).item()


def bits(model, test):
    """Mean test bits for each dimension, by batches of 250."""
    from invnet.losses import bits_per_dim

    nats = sum(model.nats(part) * len(part) for part in np.array_split(test, -(-len(test) // 250))) / len(test)
    return bits_per_dim(nats, test[0].size)


def train(x_train, test, steps, turn, batch, rate, seed):
    """Rows of step, seconds and test bits of both; the seed is that of batches and noise."""
    from invnet.optim import schedule

    rng, lr = np.random.default_rng(seed), schedule(rate, cosine=steps)
    draw = lambda: images(x_train[rng.integers(len(x_train), size=batch)], rng)
    ours = Invnet(draw(), lr)
    models = {"invnet": ours, "twin": Twin(ours, lr)}
    spare = images(x_train[:batch], np.random.default_rng(1))
    for model in models.values():  # kernels are compiled off the clock
        model.nats(spare)
    seconds, rows = dict.fromkeys(models, 0.0), []
    for done in range(0, steps + 1, turn):
        row = {"seed": seed, "step": done}
        for name, model in models.items():
            row[f"{name}_seconds"], row[f"{name}_bits"] = seconds[name], bits(model, test)
        rows.append(row)
        print("  ".join(f"{key} {value:{COLUMNS[key]}}" for key, value in row.items()), flush=True)
        batches = [draw() for _ in range(min(turn, steps - done))]
        for name in list(models) if done // turn % 2 else reversed(models):
            start = time.perf_counter()
            for X in batches:
                models[name].step(X)
            seconds[name] += time.perf_counter() - start
    return rows


def reached(rows, name, target):
    """Seconds at which the curve meets the target, between two points in a straight line; None if it does not."""
    points = [(row[f"{name}_seconds"], row[f"{name}_bits"]) for row in rows]
    for (t0, b0), (t1, b1) in zip(points, points[1:]):
        if b1 <= target:
            return t1 if b0 <= b1 else t0 + (t1 - t0) * max(0.0, b0 - target) / (b0 - b1)
    return None


def main():
    parser = harness.options(__doc__)
    parser.add_argument("data", help="an .npz file with x_train and x_test")
    parser.add_argument("--steps", type=int, help="number of steps; default 200, with --full 3000")
    parser.add_argument(
        "--turn", type=int, help="steps between evaluations; default a tenth of all, with --full a thirtieth"
    )
    parser.add_argument("--test", type=int, help="number of test images; default 500, with --full all")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, help="number of seeds; default 1, with --full 3")
    options = parser.parse_args()
    steps = options.steps or (3000 if options.full else 200)
    turn = options.turn or max(1, steps // (30 if options.full else 10))
    steps -= steps % turn
    with np.load(options.data) as file:
        x_train, x_test = file["x_train"], file["x_test"]
    test = images(x_test[: options.test or (None if options.full else 500)], np.random.default_rng(2))
    rows = []
    for seed in range(options.seeds or (3 if options.full else 1)):
        of_seed = train(x_train, test, steps, turn, options.batch, options.lr, seed)
        target = max(of_seed[-1]["invnet_bits"], of_seed[-1]["twin_bits"])
        ours, theirs = reached(of_seed, "invnet", target), reached(of_seed, "twin", target)
        print(
            f"to {target:.4f} test bits/dim: invnet {ours:.1f} s, twin {theirs:.1f} s, ratio {ours / theirs:.2f} (0.80 "
            f"is wanted)"
        )
        facts = dict(
            target=target,
            invnet_seconds_to_target=ours,
            twin_seconds_to_target=theirs,
            ratio=ours / theirs,
            batch=options.batch,
            lr=options.lr,
            test_images=len(test),
        )
        rows += [row | facts for row in of_seed]
    name = harness.result_name("time_to_quality", options)
    harness.write_csv(rows, name, options.out)
    fig, axes = harness.figure(width=7, height=4.5)
    for model, color in (("invnet", "tab:blue"), ("twin", "tab:orange")):
        for seed in sorted({row["seed"] for row in rows}):
            of_seed = [row for row in rows if row["seed"] == seed]
            axes[0, 0].plot(
                [row[f"{model}_seconds"] for row in of_seed],
                [row[f"{model}_bits"] for row in of_seed],
                color=color,
                label=None if seed else model,
            )
    least = min(row[f"{model}_bits"] for row in rows for model in ("invnet", "twin"))
    axes[0, 0].set(
        xlabel="seconds of training, one thread",
        ylabel="test bits/dim",
        ylim=(least - 0.05, least + 0.6),
        title=f"Glow, 2 levels, 4 steps, hidden 64: {steps} steps of batch {options.batch}",
    )
    axes[0, 0].grid(alpha=0.3)
    axes[0, 0].legend()
    harness.write_png(fig, name, options.out)


if __name__ == "__main__":
    main()
