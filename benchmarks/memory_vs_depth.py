"""Measures peak memory of a training step against depth, for invnet and other libraries.

    python -m benchmarks.memory_vs_depth           64x64, batch 8, hidden 64, up to 32 steps a level: about a minute
    python -m benchmarks.memory_vs_depth --full    256x256x3, batch 8, hidden 256, 3 levels, 4 to 80 steps a level

Each figure comes from a process of its own. It is the peak of a step above interpreter, batch, parameters and
gradients (invnet/bench/peak.py). A depth is left out, with a note, if it would probably need more than `--limit` of
the available memory. `invnet bench memory` is the quick version, without the other libraries.

The full size also shows figures that the authors of InvertibleNetworks.jl published for a PyTorch library: total
memory of a GPU of 40 GB. They are a reference, not measured here, and they count parameters too.
"""

from concurrent.futures import ThreadPoolExecutor

from invnet.bench.memory import QUICK, MiB, compile_kernels, plot, row_at

from . import harness
from .contenders import DEFAULT, available

GiB, PROGRAM = 2**30, "benchmarks.peak"
PUBLISHED = {4: 5.1, 8: 7.9, 16: 13.5, 32: 24.9, 48: 36.2}  # GiB; more steps ran out of 40 GB
COLUMNS = dict(contender="s", steps="d", activations_MiB=".1f", inputs=".1f", note="s")
FULL = dict(depths=[4, 8, 16, 32, 48, 64, 80], size=256, batch=8, hidden=256)


def guess(contender, shape):
    """Estimates the bytes of a step: stored arrays of hidden width and the level's channels, and one step at work."""
    total, C, positions = 0, shape["channels"], shape["batch"] * shape["size"] ** 2
    for _ in range(shape["levels"]):
        C, positions = 4 * C, positions // 4
        total += positions * shape["steps"] * (contender.stores * shape["hidden"] + 6 * C)
        C -= C // 2
    return 4 * (total + shape["batch"] * shape["size"] ** 2 // 4 * 6 * shape["hidden"])


def available_memory():
    """Returns how many bytes a new process can take without swapping."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))


def curve(contender, depths, shape, threads, limit):
    """Returns the rows of one contender, from the smallest depth to the largest."""
    rows, last = [], None
    compile_kernels(contender, threads, shape | {"batch": 1}, PROGRAM)
    for depth in depths:
        needed = (
            guess(contender, shape | {"steps": depth})
            if last is None
            else last["activations_MiB"] * MiB * depth / last["steps"]
        )
        if not contender.name.startswith("invnet") and needed > limit * available_memory():
            note = f"left out: would need about {needed / GiB:.0f} GiB"
            rows.append(dict(contender=contender.name, steps=depth, threads=threads, **shape, note=note))
            continue
        rows.append(row_at(contender, depth, threads, shape, PROGRAM))
        last = rows[-1] if "activations_MiB" in rows[-1] else last
    return rows


def add_published(fig, rows):
    """Draws the published figures, if the shape is theirs."""
    first, unit = rows[0], 1024 if "MiB" in fig.axes[0].get_ylabel() else 1
    if any(first[name] != FULL[name] for name in ("size", "batch", "hidden")) or first["levels"] != 3:
        return
    style = dict(color="gray", linestyle="--", marker="s", markersize=4)
    label = "a PyTorch library, published: whole\nmemory of a 40 GB GPU, not measured here"
    for axes in fig.axes:
        axes.plot(PUBLISHED.keys(), [unit * peak for peak in PUBLISHED.values()], label=label, **style)
    fig.axes[0].legend(fontsize=8)


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--depths", type=int, nargs="+", help="numbers of steps at each level")
    for option in ("size", "batch", "hidden"):
        parser.add_argument(f"--{option}", type=int, help=f"default {QUICK[option]}, with --full {FULL[option]}")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--limit", type=float, default=0.8, help="share of the available memory that a process may take"
    )
    parser.add_argument("--jobs", type=int, help="how many contenders to measure at a time; default 2, with --full 1")
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
    fig = plot(rows)
    add_published(fig, rows)
    harness.write_png(fig, name, options.out)


if __name__ == "__main__":
    main()
