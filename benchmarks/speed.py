"""Measures the step time of Glow beside other libraries, and its share of the machine's limit.

    python -m benchmarks.speed            hidden 64 and 256 at 32x32, one thread: about a minute
    python -m benchmarks.speed --full     hidden 64, 128, 256, 512 at 32x32 and 64x64, one and two threads

One training step is forward + loss + backward, in float32, on RGB images. invnet/bench/speed.py defines the share.
For undisturbed figures restrict the process to free cores (taskset). `invnet bench speed` is a short version, without
the other libraries.
"""

from invnet.bench.speed import COLUMNS, MODELS, QUICK, measure, plot

from . import harness
from .contenders import DEFAULT, available


def main():
    parser = harness.options(__doc__)
    parser.add_argument(
        "--hidden", type=int, nargs="+", choices=MODELS, help="hidden widths; default 64 256, with --full all"
    )
    parser.add_argument("--size", type=int, nargs="+", help="sizes of the images; default 32, with --full 32 64")
    parser.add_argument("--threads", type=int, nargs="+", help="numbers of threads; default 1, with --full 1 2")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--rounds", type=int, help="number of rounds; default 7, with --full 15")
    parser.add_argument(
        "--contenders", nargs="+", default=DEFAULT, help=f"default {' '.join(DEFAULT)}; also twin-compiled"
    )
    options = parser.parse_args()
    contenders = available(options.contenders)
    rounds, rows = options.rounds or (15 if options.full else 7), []
    for threads in options.threads or ([1, 2] if options.full else [1]):
        for size in options.size or ([32, 64] if options.full else [QUICK["size"]]):
            for hidden in options.hidden or (MODELS if options.full else QUICK["hidden"]):
                new = measure(contenders, hidden, size, threads, range(rounds), options.levels)
                harness.print_table(new, dict(threads="d", size="d") | COLUMNS)
                print(f"sgemm {new[0]['sgemm_gflops']:.0f} GF/s\n", flush=True)
                rows += new
    name = harness.result_name("speed", options)
    harness.write_csv(rows, name, options.out)
    fig = plot(rows)
    for axes in fig.axes[: len(fig.axes) // 2]:
        axes.axhline(1 / 0.8, color="gray", linestyle=":", linewidth=1, label="1 / 0.8, the aim for libraries")
    fig.axes[0].legend(fontsize=8, loc="lower left", ncols=2)
    harness.write_png(fig, name, options.out)


if __name__ == "__main__":
    main()
