"""Measures step time against a memory budget for activations, beside contenders that store everything.

    python -m benchmarks.memory_budget          hidden 64 and 512 at 32x32, one thread: about a minute
    python -m benchmarks.memory_budget --full   hidden 64, 128, 256, 512 at 32x32 and 64x64, more rounds

Without a budget a step of invnet has the arithmetic of 4 evaluations of the conditioners. With all activations kept
it has that of 3, like the others. `budget` is the memory that was allowed and `kept` the memory that was used, in
MiB. Couplings of the coarsest levels are kept first, because they save the most for their bytes.
"""

import invnet
from invnet.bench import turns
from invnet.bench.contenders import data, make_glow

from . import harness
from .contenders import CONTENDERS
from .speed import MODELS

SHARES = (0, 0.1, 0.25, 0.5, 0.75, 1)
OTHERS = ("twin", "FrEIA-last", "normflows-last")
COLUMNS = dict(
    size="d",
    hidden="d",
    batch="d",
    contender="s",
    budget=".1f",
    kept=".1f",
    seconds_min=".4f",
    seconds_median=".4f",
    ratio_min=".2f",
    ratio_median=".2f",
)


def budgeted(net, X, budget):
    """Makes a training step with this budget."""

    def step():
        net.memory_budget = net.memory_budget if net.memory_budget == budget else budget
        net.zero_grad()
        Z, logdet = net.forward(X)
        _, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
        net.backward(dZ, Z, dlogdet)

    return step


def measure(hidden, size, rounds, levels=3):
    invnet.set_num_threads(1)
    batch, steps = MODELS[hidden]
    batch = max(batch * 32 // size, 4)
    X = data(3, batch, size)
    probe = make_glow(hidden, levels, steps, 3)
    probe.memory_budget = 1 << 40
    probe.forward(X)
    everything = probe.saved_pass.cache.used
    budgets = {f"invnet, {share:.0%}": share * everything for share in SHARES}
    contenders, used = {}, {}
    for name, budget in budgets.items():
        net = make_glow(hidden, levels, steps, 3)  # each has its own, whose memory is warm
        contenders[name] = budgeted(net, X, budget)
        contenders[name]()
        net.forward(X)
        used[name] = net.saved_pass.cache.used if budget else 0
    shape = dict(hidden=hidden, levels=levels, steps=steps, channels=3, batch=batch, size=size, threads=1)
    contenders.update((name, CONTENDERS[name].make(**shape)) for name in OTHERS)
    rows = turns.summary(turns.in_turns(contenders, range(rounds)), "invnet, 0%")
    for row in rows:
        name = row["contender"]
        row.update(shape, budget=budgets.get(name, 0) / 2**20, kept=used.get(name, 0) / 2**20)
    return rows


def plot(rows, folder, name):
    kinds = sorted({(row["size"], row["hidden"]) for row in rows})
    sizes = sorted({size for size, _ in kinds})
    fig, axes = harness.figure(len(sizes), 1)
    for column, size in enumerate(sizes):
        ax = axes[0, column]
        for i, hidden in enumerate(sorted({h for s, h in kinds if s == size})):
            mine = [row for row in rows if (row["size"], row["hidden"]) == (size, hidden)]
            base = next(row for row in mine if row["contender"] == "invnet, 0%")["seconds_min"]
            curve = [row for row in mine if row["contender"].startswith("invnet")]
            ax.plot(
                [row["kept"] for row in curve],
                [row["seconds_min"] / base for row in curve],
                "o-",
                color=f"C{i}",
                label=f"hidden {hidden}",
            )
            twin = next(row for row in mine if row["contender"] == "twin")
            ax.axhline(twin["seconds_min"] / base, color=f"C{i}", linestyle=":", linewidth=1)
        ax.set(
            title=f"{size}x{size}",
            xlabel="kept, MiB",
            ylabel="step time / without a budget",
            xlim=(0, None),
            ylim=(0.6, 1.1),
        )
        ax.axhline(0.75, color="gray", linestyle="--", linewidth=1, label="3 evaluations of 4")
        ax.grid(alpha=0.3)
    axes[0, 0].plot([], [], ":", color="gray", label="a PyTorch twin that stores all")
    axes[0, 0].legend(fontsize=8)
    harness.write_png(fig, name, folder)


def main():
    parser = harness.options(__doc__)
    parser.add_argument(
        "--hidden", type=int, nargs="+", choices=MODELS, help="hidden widths; default 64 512, with --full all"
    )
    parser.add_argument("--size", type=int, nargs="+", help="sizes of the images; default 32, with --full 32 64")
    parser.add_argument("--rounds", type=int, help="number of rounds; default 5, with --full 9")
    options = parser.parse_args()
    rows = []
    for size in options.size or ([32, 64] if options.full else [32]):
        for hidden in options.hidden or (MODELS if options.full else [64, 512]):
            new = measure(hidden, size, options.rounds or (9 if options.full else 5))
            harness.print_table(new, COLUMNS)
            print(flush=True)
            rows += new
    harness.keep(rows, "memory_budget", options, plot)


if __name__ == "__main__":
    main()
