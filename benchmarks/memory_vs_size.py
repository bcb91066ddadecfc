"""Measures peak memory of a training step against the size of the images, beside the bound that invnet keeps.

    python -m benchmarks.memory_vs_size           hidden 64 and one thread, 64x64 to 512x512: about half a minute
    python -m benchmarks.memory_vs_size --full    hidden 256 and two threads, hidden 512 and one, 64x64 to 1024x1024

The batch is 8 RGB images. There is one step at each of 3 levels, since more depth needs no more memory. Each figure
comes from a process of its own (invnet/bench/peak.py). The bound is four arrays of the input's size (the caller's Z
and dZ, and a working copy of each) and 64 MiB for each thread, whose tile is smaller.
"""

from invnet.bench.contenders import CONTENDERS
from invnet.bench.memory import MiB, compile_kernels, row_at
from invnet.bench.peak import PROGRAM

from . import harness

COLUMNS = dict(hidden="d", threads="d", size="d", input_MiB=".2f", activations_MiB=".1f", bound_MiB=".1f", share=".0%")


def measure(hidden, threads, sizes):
    rows = []
    for size in sizes:
        shape = dict(hidden=hidden, levels=3, channels=3, batch=8, size=size)
        compile_kernels(
            CONTENDERS["invnet"], threads, shape | {"batch": 1}, PROGRAM
        )  # large images take kernels of their own
        row = row_at(CONTENDERS["invnet"], 1, threads, shape, PROGRAM)
        row["input_MiB"] = 4 * 8 * 3 * size**2 / MiB
        row["bound_MiB"] = 4 * row["input_MiB"] + 64 * threads
        rows.append(row | {"share": row["activations_MiB"] / row["bound_MiB"]})
    return rows


def plot(rows, folder, name):
    fig, axes = harness.figure(1, 1, width=6, height=5)
    for i, kind in enumerate(dict.fromkeys((row["hidden"], row["threads"]) for row in rows)):
        mine = [row for row in rows if (row["hidden"], row["threads"]) == kind]
        sizes = [row["size"] for row in mine]
        axes[0, 0].plot(
            sizes,
            [row["activations_MiB"] for row in mine],
            "o-",
            color=f"C{i}",
            label=f"hidden {kind[0]}, threads: {kind[1]}",
        )
        axes[0, 0].plot(sizes, [row["bound_MiB"] for row in mine], ":", color=f"C{i}", label="its bound")
    ticks = sorted({row["size"] for row in rows})
    axes[0, 0].set_xscale("log", base=2)
    axes[0, 0].set(
        xlabel="height and width, batch 8",
        ylabel="peak above parameters and gradients, MiB",
        xticks=ticks,
        xticklabels=ticks,
        ylim=(0, None),
    )
    axes[0, 0].grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    harness.write_png(fig, name, folder)


def main():
    parser = harness.options(__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", help="sizes of the images; default 64 128 256 512, with --full also 1024"
    )
    options = parser.parse_args()
    kinds = [(256, 2), (512, 1)] if options.full else [(64, 1)]
    sizes = options.sizes or [64, 128, 256, 512, *([1024] if options.full else [])]
    rows = []
    for hidden, threads in kinds:
        new = measure(hidden, threads, sizes)
        harness.print_table(new, COLUMNS)
        rows += new
    harness.keep(rows, "memory_vs_size", options, plot)


if __name__ == "__main__":
    main()
