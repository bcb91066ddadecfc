"""Compares Jet with its PyTorch twin: memory and time of a training step, against the number of couplings.

    python -m benchmarks.jet           8 to 32 couplings, about a minute
    python -m benchmarks.jet --full    8 to 64 couplings

The contenders (benchmarks/jets.py) are invnet, the twin with all activations stored, and the twin with every coupling
under torch.utils.checkpoint. All have the same architecture and the same weights. Images are 32x32x3, a patch is 4x4,
and a transformer has one block of width 64. Memory is the peak of a process of its own (invnet/bench/peak.py). Time
is measured in turns (invnet/bench/turns.py).
"""

from invnet.bench.memory import compile_kernels, row_at

from . import harness
from .jets import CONTENDERS

SHAPE = dict(levels=2, channels=3, batch=32, size=32)
PROGRAM = "benchmarks.jets"
COLUMNS = dict(
    hidden="d",
    steps="d",
    contender="s",
    activations_MiB=".1f",
    seconds_min=".3f",
    seconds_median=".3f",
    ratio_min=".3f",
    ratio_median=".3f",
)


def measure(width, couplings, rounds, threads):
    """Returns rows of every contender at every number of couplings."""
    shape = SHAPE | {"hidden": width}
    compile_kernels(CONTENDERS["invnet"], threads, shape, PROGRAM)
    for number in couplings:
        memory = {name: row_at(contender, number, threads, shape, PROGRAM) for name, contender in CONTENDERS.items()}
        steps = {name: contender.make(steps=number, threads=threads, **shape) for name, contender in CONTENDERS.items()}
        seconds = harness.in_turns(steps, range(rounds), repeats=1, threads=threads)
        rows = [memory[row["contender"]] | row for row in harness.summary(seconds)]
        harness.print_table(rows, COLUMNS)
        print(flush=True)
        yield from rows


def plot(rows):
    fig, axes = harness.figure(2)
    couplings = sorted({row["steps"] for row in rows})
    for axis, column, label in (
        (axes[0, 0], "activations_MiB", "peak above parameters and gradients, MiB"),
        (axes[0, 1], "seconds_min", "seconds of a training step"),
    ):
        for name in CONTENDERS:
            mine = [row for row in rows if row["contender"] == name and column in row]
            harness.line(axis, [row["steps"] for row in mine], [row[column] for row in mine], name)
        axis.set(xlabel="couplings", ylabel=label, xscale="log")
        axis.set_yscale("log", base=2)
        axis.set_xticks(couplings, couplings)
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3, which="both")
    axes[0, 0].legend(fontsize=8)
    axes[0, 0].set_title("Jet, {size}x{size}x{channels}, batch {batch}, width {hidden}".format(**rows[0]), fontsize=9)
    return fig


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--width", type=int, default=64, help="width of the tokens")
    parser.add_argument("--couplings", type=int, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    couplings = options.couplings or ([8, 16, 32, 64] if options.full else [8, 16, 32])
    rows = list(measure(options.width, couplings, options.rounds, options.threads))
    name = harness.result_name("jet", options)
    harness.write_csv(rows, name, options.out)
    harness.write_png(plot(rows), name, options.out)


if __name__ == "__main__":
    main()
