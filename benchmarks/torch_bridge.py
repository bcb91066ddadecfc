"""Measures invnet as an nn.Module: memory and time of a training step against depth, and the overhead of the bridge.

    python -m benchmarks.torch_bridge           4 to 16 steps of each of 3 levels, a few minutes
    python -m benchmarks.torch_bridge --full    4 to 128 steps

`as_module` is as_module(Glow) under PyTorch's autograd. Beside it are the layer itself, the twin that stores all
activations, and the twin with every step under torch.utils.checkpoint. All have one architecture
(invnet/bench/contenders.py). Memory is the peak of a process of its own (invnet/bench/peak.py). Time is measured in
turns (invnet/bench/turns.py). The overhead is the time of forward and backward of a small module minus that of its
layer, as minima over the rounds.
"""

import torch

import invnet
from invnet.bench.memory import compile_kernels, row_at

from . import harness
from .contenders import CONTENDERS

NAMES, PROGRAM = ("invnet", "as_module", "twin", "checkpointed"), "benchmarks.peak"
SHAPE = dict(hidden=64, levels=3, channels=3, batch=8, size=32)
MEMORY = dict(contender="s", steps="d", activations_MiB=".1f", inputs=".1f")
TIME = dict(contender="s", steps="d", seconds_min=".4f", seconds_median=".4f", ratio_min=".3f", ratio_median=".3f")
OVERHEAD = dict(layer="s", parameters="d", layer_us=".1f", bridge_us=".1f", bridge_us_median=".1f")


def memory(depths, threads):
    """Rows of every contender at every depth, of larger images, so that activations are what counts."""
    shape = SHAPE | {"size": 64}
    for name in NAMES:
        compile_kernels(CONTENDERS[name], threads, shape, PROGRAM)
        rows = [row_at(CONTENDERS[name], depth, threads, shape, PROGRAM) for depth in depths]
        harness.print_table(rows, MEMORY)
        print(flush=True)
        yield from rows


def time(depths, rounds, threads):
    """The same of time."""
    for depth in depths:
        steps = {name: CONTENDERS[name].make(steps=depth, threads=threads, **SHAPE) for name in NAMES}
        rows = harness.summary(
            harness.in_turns(steps, range(rounds), repeats=1, threads=threads), reference="as_module"
        )
        rows = [dict(contender=row["contender"], steps=depth, threads=threads, **SHAPE) | row for row in rows]
        harness.print_table(rows, TIME)
        print(flush=True)
        yield from rows


def overhead(rounds):
    """Microseconds of a call through the bridge, forward and backward, beside the layer's own."""
    invnet.set_num_threads(1)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = {
        "ActNorm(2)": invnet.ActNorm(2),
        "RealNVP(2, hidden=16, steps=8)": invnet.RealNVP(2, 16, 8),
        "Glow(2, hidden=16, levels=1, steps=64, ndim=0)": invnet.Glow(2, 16, 1, 64, ndim=0),
    }
    for name, layer in layers.items():
        module, x = invnet.torch.as_module(layer), torch.randn(32, 2, requires_grad=True)
        X = x.detach().numpy()

        def by_hand():
            Z, _ = layer.forward(X)
            layer.backward(Z, Z, 0.0)

        def bridged():
            z, _ = module(x)
            torch.autograd.backward(z, z.detach())
            module.zero_grad()

        seconds = harness.in_turns({"layer": by_hand, "module": bridged}, range(rounds), repeats=20)
        ours, theirs = sorted(seconds["layer"]), sorted(seconds["module"])
        each = sorted(b - a for a, b in zip(seconds["layer"], seconds["module"]))
        yield dict(
            layer=name,
            parameters=len(layer.parameters()),
            layer_us=1e6 * ours[0],
            bridge_us=1e6 * (theirs[0] - ours[0]),
            bridge_us_median=1e6 * each[len(each) // 2],
            rounds=rounds,
        )


def plot(*parts):
    fig, axes = harness.figure(2)
    for axis, rows, column, label in zip(
        axes[0],
        parts,
        ("activations_MiB", "seconds_min"),
        ("peak above parameters and gradients, MiB", "seconds of a training step"),
    ):
        for name in NAMES:
            mine = [row for row in rows if row["contender"] == name and column in row]
            style = dict(linewidth=1.5, linestyle="--") if name == "invnet" else {}
            harness.line(axis, [row["steps"] for row in mine], [row[column] for row in mine], name, **style)
        title = "Glow, {size}x{size}x{channels}, batch {batch}, hidden {hidden}, {levels} levels".format(**rows[0])
        axis.set(xlabel="steps of each level", ylabel=label, xscale="log", yscale="log", title=title)
        axis.grid(alpha=0.3, which="both")
    axes[0, 0].legend(fontsize=8)
    return fig


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--depths", type=int, nargs="+", help="numbers of steps at each level")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    depths = options.depths or ([4, 8, 16, 32, 64, 128] if options.full else [4, 8, 16])
    calls = list(overhead(15 if options.full else 5))
    harness.print_table(calls, OVERHEAD)
    print(flush=True)
    peaks, seconds = list(memory(depths, options.threads)), list(time(depths, options.rounds, options.threads))
    for rows, what in ((peaks, "memory"), (seconds, "time"), (calls, "calls")):
        harness.write_csv(rows, harness.result_name(f"torch_bridge_{what}", options), options.out)
    harness.write_png(plot(peaks, seconds), harness.result_name("torch_bridge", options), options.out)


if __name__ == "__main__":
    main()
