"""Measures the cost and the gain of exact mode: Exact(Glow) beside Glow in time and memory, and rebuilt states
against depth.

    python -m benchmarks.exact          hidden 64 and 256 at 32x32, depth to 192: about a minute
    python -m benchmarks.exact --full   hidden 64, 128, 256, 512, depth to 1023, more rounds

A step is forward + loss + backward, in float32, with one thread, in turns. `share` is the size of the correction bits
of a flow step, in 32nds of the input's size in float32. The comparison against depth uses steps of ActNorm, 1x1
convolution and affine coupling on vectors, with random weights. `rebuilt` is the largest error of the X that backward
returns. `density` is the mean error of the log-density in nats per dimension, against the same layers in float64.
"""

import numpy as np

import invnet
from invnet import ActNorm, AffineCoupling, Chain, Conv1x1, DenseNet, Exact
from invnet.bench import turns
from invnet.bench.contenders import data, make_glow, training_step

from . import harness
from .speed import MODELS

COLUMNS = dict(
    hidden="d",
    batch="d",
    contender="s",
    seconds_min=".4f",
    seconds_median=".4f",
    ratio_min=".2f",
    ratio_median=".2f",
    kept=".3f",
    share=".2f",
)
DEPTH_COLUMNS = dict(depth="d", contender="s", rebuilt=".2e", density=".2e", share=".2f")
SIZE, LEVELS, GAIN = 32, 3, 0.05
LIMITS = {"Chain": None, "Exact(Chain)": 256.0, "Exact(Chain, limit=32)": 32.0}


def share(exact, state_bytes, flow_steps):
    """Returns the size of the correction bits of a flow step, in 32nds of a state."""
    return 32 * exact.correction_bytes / (state_bytes * flow_steps)


def moved(net, X, rng, deviation):
    """Gives the net random weights and sets its ActNorms."""
    for parameter in net.parameters():
        parameter.data += (deviation * rng.standard_normal(parameter.data.shape)).astype(parameter.data.dtype)
    net.initialize(X)
    return net


def measure(hidden, rounds):
    invnet.set_num_threads(1)
    batch, steps = MODELS[hidden]
    X = data(3, batch, SIZE)
    nets = [
        moved(make_glow(hidden, LEVELS, steps, 3), X, np.random.default_rng(0), 0.02 / np.sqrt(hidden / 64))
        for _ in range(2)
    ]
    exact = Exact(nets[1])
    rows = turns.summary(
        turns.in_turns({"Glow": training_step(nets[0], X), "Exact(Glow)": training_step(exact, X)}, range(rounds)),
        "Glow",
    )
    flow_steps = sum(steps / 2**level for level in range(LEVELS))  # of states of the input's size
    for row in rows:
        row.update(hidden=hidden, batch=batch, size=SIZE, levels=LEVELS, steps=steps)
    rows[1].update(kept=exact.correction_bytes / 2**20, share=share(exact, X.nbytes, flow_steps))
    return rows


def vectors(depth, dtype, C=8, hidden=16):
    """Makes steps of three layers on vectors, with the same weights for every dtype."""
    rng, layers = np.random.default_rng(0), []
    for i in range(depth // 3):
        net = DenseNet(C // 2, hidden, C, activation="silu", seed=i, dtype=dtype)
        net.W[-1].data += (GAIN / np.sqrt(hidden) * rng.standard_normal(net.W[-1].data.shape)).astype(dtype)
        layers += [ActNorm(C, dtype=dtype), Conv1x1(C, seed=i, dtype=dtype), AffineCoupling(C, net)]
    return Chain(*layers)


def density(net, X):
    Z, logdet = net.forward(X)
    return (logdet - 0.5 * (Z.astype("float64") ** 2).sum(axis=1)) / X.shape[1]


def against_depth(depth):
    X, net = np.random.default_rng(1).standard_normal((256, 8)), vectors(depth, "float64")
    net.initialize(X)
    log_p, state, rows = density(net, X), net.state_dict(), []
    X = X.astype("float32")
    for name, limit in LIMITS.items():
        net, start = vectors(depth, "float32"), X
        net.load_state_dict(state)
        if limit:
            net, step = Exact(net, limit), limit / 2**24
            start = np.round(X / step) * step  # X on the grid
        Z, _ = net.forward(X)
        rebuilt = net.backward(0 * Z, Z)[1]
        row = dict(
            depth=depth,
            contender=name,
            rebuilt=float(np.abs(rebuilt - start).max()),
            density=float(np.abs(density(net, X) - log_p).mean()),
        )
        rows.append(row | (dict(share=share(net, X.nbytes, depth // 3)) if limit else {}))
    return rows


def plot(times, depths, folder, name):
    fig, axes = harness.figure(3, 1, width=4.5)
    hidden = sorted({row["hidden"] for row in times})
    for x, contender, color in ((-0.2, "Glow", "tab:gray"), (0.2, "Exact(Glow)", "black")):
        base = {row["hidden"]: row["seconds_min"] for row in times if row["contender"] == "Glow"}
        heights = [row["seconds_min"] / base[row["hidden"]] for row in times if row["contender"] == contender]
        axes[0, 0].bar([i + x for i in range(len(hidden))], heights, 0.4, color=color, label=contender)
    axes[0, 0].set(
        xticks=range(len(hidden)), xticklabels=hidden, xlabel="hidden", ylabel="step time / Glow's", title="time"
    )
    axes[0, 0].legend(fontsize=8, loc="upper right")
    for ax, key, label in (
        (axes[0, 1], "rebuilt", "largest error of the rebuilt X"),
        (axes[0, 2], "density", "error of the log-density, nats/dim"),
    ):
        for contender, style, color in zip(LIMITS, ("o-", "s-", "^:"), ("tab:gray", "black", "tab:blue")):
            mine = [row for row in depths if row["contender"] == contender]
            ax.plot([row["depth"] for row in mine], [row[key] for row in mine], style, color=color, label=contender)
        ax.set(
            xscale="log",
            xlabel="layers",
            ylabel=label,
            title="rebuilding" if key == "rebuilt" else "rounding in forward",
        )
        if key == "rebuilt":
            ax.set_yscale("symlog", linthresh=1e-7)
            ax.set_ylim(-3e-8, 1)
        else:
            ax.set_yscale("log")
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    harness.write_png(fig, name, folder)


def main():
    parser = harness.options(__doc__)
    parser.add_argument(
        "--hidden", type=int, nargs="+", choices=MODELS, help="hidden widths; default 64 256, with --full all"
    )
    parser.add_argument("--rounds", type=int, help="number of rounds; default 5, with --full 11")
    options = parser.parse_args()
    times = [
        row
        for hidden in options.hidden or (MODELS if options.full else [64, 256])
        for row in measure(hidden, options.rounds or (11 if options.full else 5))
    ]
    harness.print_table(times, COLUMNS)
    depths = [row for depth in (12, 48, 192, *((768, 1023) if options.full else ())) for row in against_depth(depth)]
    harness.print_table(depths, DEPTH_COLUMNS)
    name = harness.result_name("exact", options)
    harness.write_csv(times + depths, name, options.out)
    plot(times, depths, options.out, name)


if __name__ == "__main__":
    main()
