"""Step time of Glow against other libraries, and its share of the machine's limit.

    python -m benchmarks.speed            hidden 64 and 256 at 32x32, one thread: about a minute
    python -m benchmarks.speed --full     hidden 64, 128, 256, 512 at 32x32 and 64x64, one and two threads

One training step is forward + loss + backward, float32, RGB. `share` is the arithmetic of 4 evaluations of the conditioners
over the step's time, as a part of the rate of a 2048 x 2048 float32 matrix product, by NumPy with as many threads,
measured in the same turns. It is a rate of useful work: a contender that stores activations needs 3 evaluations, so its
share may pass 100 %. Restrict the process to the cores that are free (taskset) to measure undisturbed.
"""


from . import harness
from .contenders import DEFAULT, available, flops

#: (hidden, batch at 32x32, steps of each level): a step of about 0.05 to 0.2 seconds
MODELS = {64: (16, 4), 128: (16, 3), 256: (8, 2), 512: (8, 1)}
COLUMNS = dict(threads="d", size="d", hidden="d", batch="d", steps="d", contender="s", seconds_min=".4f",
               seconds_median=".4f", ratio_min=".2f", ratio_median=".2f", share=".0%")


def measure(hidden, size, threads, names, rounds, levels):
    """Rows of one shape."""
    batch, steps = MODELS[hidden]
    batch = max(batch * 32 // size, 4)
    shape = dict(hidden=hidden, levels=levels, steps=steps, channels=3, batch=batch, size=size, threads=threads)
    contenders = {contender.name: contender.make(**shape) for contender in available(names, report=lambda _: None)}
    product, product_flops = harness.sgemm(threads)
    seconds = harness.in_turns({**contenders, "sgemm": product}, rounds, threads=threads)
    rate = product_flops / min(seconds.pop("sgemm"))
    rows = harness.summary(seconds)
    for row in rows:
        row.update(shape, parameters=contenders[row["contender"]].parameters, sgemm_gflops=rate / 1e9,
                   share=4 * flops(**shape) / row["seconds_min"] / rate)
    return rows


def plot(rows, folder, name):
    kinds = sorted({(row["threads"], row["size"]) for row in rows})
    fig, axes = harness.figure(len(kinds), 2)
    for column, (threads, size) in enumerate(kinds):
        ours = [row for row in rows if (row["threads"], row["size"]) == (threads, size)]
        for contender in dict.fromkeys(row["contender"] for row in ours):
            mine = [row for row in ours if row["contender"] == contender]
            hidden = [row["hidden"] for row in mine]
            harness.line(axes[0, column], hidden, [1 / row["ratio_median"] for row in mine], contender)
            harness.line(axes[1, column], hidden, [row["share"] for row in mine], contender)
        axes[0, column].set(title=f"{size}x{size}, threads: {threads}", ylabel="step time / invnet's", ylim=(0, None))
        axes[0, column].axhline(1 / 0.8, color="gray", linestyle=":", linewidth=1, label="1 / 0.8, the aim for libraries")
        axes[1, column].set(ylabel="4 conditioner evaluations / time\nas a part of the sgemm rate", ylim=(0, None))
        for row in axes[:, column]:
            row.set_xscale("log", base=2)
            ticks = sorted({r["hidden"] for r in ours})
            row.set(xlabel="hidden width", xticks=ticks, xticklabels=ticks)
            row.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    harness.write_png(fig, name, folder)


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--hidden", type=int, nargs="+", choices=MODELS, help="default 64 256, with --full all")
    parser.add_argument("--size", type=int, nargs="+", help="default 32, with --full 32 64")
    parser.add_argument("--threads", type=int, nargs="+", help="default 1, with --full 1 2")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--rounds", type=int, help="default 7, with --full 15")
    parser.add_argument("--contenders", nargs="+", default=DEFAULT, help=f"default {' '.join(DEFAULT)}; also twin-compiled")
    options = parser.parse_args()
    available(options.contenders)
    rounds, rows = options.rounds or (15 if options.full else 7), []
    for threads in options.threads or ([1, 2] if options.full else [1]):
        for size in options.size or ([32, 64] if options.full else [32]):
            for hidden in options.hidden or (MODELS if options.full else [64, 256]):
                new = measure(hidden, size, threads, options.contenders, rounds, options.levels)
                harness.print_table(new, COLUMNS)
                print(f"sgemm {new[0]['sgemm_gflops']:.0f} GF/s\n", flush=True)
                rows += new
    name = harness.result_name("speed", options)
    harness.write_csv(rows, name, options.out)
    plot(rows, options.out, name)


if __name__ == "__main__":
    main()
