"""Peak memory of a training step against depth: the published curve of this field, with peers.

    python -m benchmarks.memory_vs_depth           64x64, batch 8, hidden 64, up to 16 steps a level: about a minute
    python -m benchmarks.memory_vs_depth --full    256x256x3, batch 8, hidden 256, 3 levels, 4 to 80 steps a level

Each figure is a process of its own; what is counted is in peak.py: the peak of a step above interpreter, batch, parameters
and gradients. The figures of a PyTorch library published by the authors of InvertibleNetworks.jl (total memory of a GPU
of 40 GB, the full size only) are drawn as a reference; they are not measured here and count parameters too. A depth is
left out, with a note, where the guess from the depth before (or, at the first, from the activations' number) exceeds
`--limit` of the memory that is available.
"""

from concurrent.futures import ThreadPoolExecutor

from . import harness
from .contenders import DEFAULT, available

GiB, MiB = 2**30, 2**20
PUBLISHED = {4: 5.1, 8: 7.9, 16: 13.5, 32: 24.9, 48: 36.2}  # GiB; more steps ran out of 40 GB
COLUMNS = dict(contender="s", steps="d", activations_MiB=".1f", inputs=".1f", note="s")
QUICK = dict(depths=[2, 4, 8, 16], size=64, batch=8, hidden=64)
FULL = dict(depths=[4, 8, 16, 32, 48, 64, 80], size=256, batch=8, hidden=256)


def guess(contender, shape):
    """Bytes that a step takes: stored arrays of hidden width and of the level's channels, and one step at work."""
    total, C, positions = 0, shape["channels"], shape["batch"] * shape["size"] ** 2
    for _ in range(shape["levels"]):
        C, positions = 4 * C, positions // 4
        total += positions * shape["steps"] * (contender.stores * shape["hidden"] + 6 * C)
        C -= C // 2
    return 4 * (total + shape["batch"] * shape["size"] ** 2 // 4 * 6 * shape["hidden"])


def curve(contender, depths, shape, threads, limit):
    """Rows of one contender, from the least depth to the greatest."""
    rows, last = [], None
    tiny = shape | dict(steps=1, threads=threads, batch=2, hidden=8, size=32)
    harness.peak_memory(contender.name, **tiny)  # so that kernels are compiled
    for depth in depths:
        row = dict(contender=contender.name, steps=depth, threads=threads, **shape)
        rows.append(row)
        needed = guess(contender, shape | {"steps": depth}) if last is None else last["activations"] * depth / last["depth"]
        if contender.name != "invnet" and needed > limit * harness.available_memory():
            row["note"] = f"left out: would need about {needed / GiB:.0f} GiB"
            continue
        found = harness.peak_memory(contender.name, steps=depth, threads=threads, **shape)
        if "failed" in found:
            row["note"] = f"failed: {found['failed']}"
            continue
        last = found | {"depth": depth}
        row.update({f"{name}_MiB": found[name] / MiB for name in ("activations", "baseline", "parameters")},
                   inputs=found["activations"] / found["input"], peak_was_reset=found["peak_was_reset"])
    return rows


def plot(rows, folder, name):
    """Linear and logarithmic; with the published figures where the shape is theirs."""
    fig, axes = harness.figure(2)
    measured, first = [row for row in rows if "activations_MiB" in row], rows[0]
    unit, factor = ("GiB", 1 / 1024) if max(row["activations_MiB"] for row in measured) > 1024 else ("MiB", 1)
    published = all(first[name] == FULL[name] for name in ("size", "batch", "hidden")) and first["levels"] == 3
    for column, scale in enumerate(("linear", "log")):
        for contender in dict.fromkeys(row["contender"] for row in measured):
            mine = [row for row in measured if row["contender"] == contender]
            peaks = [row["activations_MiB"] * factor for row in mine]
            harness.line(axes[0, column], [row["steps"] for row in mine], peaks, contender)
        if published:
            style = dict(color="gray", linestyle="--", marker="s", markersize=4)
            label = "a PyTorch library, published: whole\nmemory of a 40 GB GPU, not measured here"
            axes[0, column].plot(PUBLISHED.keys(), PUBLISHED.values(), label=label, **style)
        title = "{size}x{size}x3, batch {batch}, hidden {hidden}, {levels} levels".format(**first)
        axes[0, column].set(xlabel="steps of each level", ylabel=f"peak above parameters and gradients, {unit}", title=title)
        axes[0, column].set_yscale(scale)
        axes[0, column].grid(alpha=0.3, which="both")
    axes[0, 0].set_ylim(0, None)
    axes[0, 0].legend(fontsize=8)
    harness.write_png(fig, name, folder)


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--depths", type=int, nargs="+", help="steps of each level")
    for option in ("size", "batch", "hidden"):
        parser.add_argument(f"--{option}", type=int, help=f"default {QUICK[option]}, with --full {FULL[option]}")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=float, default=0.8, help="part of the available memory that a process may take")
    parser.add_argument("--jobs", type=int, help="contenders measured at one time; default 2, with --full 1")
    parser.add_argument("--contenders", nargs="+", default=[name for name in DEFAULT if not name.endswith("-last")])
    options = parser.parse_args()
    chosen = dict(FULL if options.full else QUICK)
    chosen.update({name: value for name in QUICK if (value := getattr(options, name)) is not None})
    shape = dict(hidden=chosen["hidden"], levels=options.levels, channels=3, batch=chosen["batch"], size=chosen["size"])
    jobs, limit, rows = options.jobs or (1 if options.full else 2), options.limit, []
    with ThreadPoolExecutor(jobs) as pool:
        work = lambda contender: curve(contender, sorted(chosen["depths"]), shape, options.threads, limit / jobs)
        for mine in pool.map(work, available(options.contenders)):
            harness.print_table(mine, COLUMNS)
            print(flush=True)
            rows += mine
    name = harness.result_name("memory_vs_depth", options)
    harness.write_csv(rows, name, options.out)
    plot(rows, options.out, name)


if __name__ == "__main__":
    main()
