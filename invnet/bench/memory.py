"""Peak memory of a training step against depth, each figure that of a process of its own (peak.py); `invnet bench
memory`.
"""

from __future__ import annotations

import os
import platform
import statistics

from . import results
from .peak import PROGRAM, peak_memory

MiB = 2**20
QUICK = dict(depths=[4, 8, 16, 32], size=64, batch=8, hidden=64)
PROCESSES = 2  # for each figure
COLUMNS = dict(contender="s", steps="d", min_MiB=".1f", median_MiB=".1f", growth=".2f", ratio=".2f")
TITLE = "{size}x{size}x{channels}, batch {batch}, hidden {hidden}, {levels} levels"


def compile_kernels(contender, threads: int | None, shape: tuple[int, ...], program=PROGRAM) -> None:
    """Runs a process whose figure nobody wants: compiling would be a part of it."""
    peak_memory(contender.name, program, steps=1, threads=threads, **shape)


def row_at(contender, steps: int, threads: int | None, shape: tuple[int, ...], program=PROGRAM):
    """The row of one figure; a note where its process failed."""
    row = dict(contender=contender.name, steps=steps, threads=threads, **shape)
    found = peak_memory(contender.name, program, steps=steps, threads=threads, **shape)
    if "failed" in found:
        return row | {"note": f"failed: {found['failed']}"}
    row.update({f"{name}_MiB": found[name] / MiB for name in ("activations", "baseline", "parameters")})
    return row | dict(inputs=found["activations"] / found["input"], peak_was_reset=found["peak_was_reset"])


def repeated(contender, steps: int, threads: int | None, shape: tuple[int, ...]):
    """The row of the least peak of some processes, since an allocator keeps more or less by chance, and their
    median.
    """
    rows = []
    for _ in range(PROCESSES):
        row = row_at(contender, steps, threads, shape)
        if "note" in row:
            return row
        rows.append(row)
    rows.sort(key=lambda row: row["activations_MiB"])
    peaks = [row["activations_MiB"] for row in rows]
    return rows[0] | dict(min_MiB=peaks[0], median_MiB=statistics.median(peaks), processes=len(peaks))


def add_ratios(rows) -> None:
    """Growth since the first depth, and the first contender's peak over each: of minima, where both are there."""
    peaks = {(row["contender"], row["steps"]): row["min_MiB"] for row in rows if "min_MiB" in row}
    for row in rows:
        name, steps = row["contender"], row["steps"]
        for ratio, a, b in (
            ("growth", (name, steps), (name, rows[0]["steps"])),
            ("ratio", (rows[0]["contender"], steps), (name, steps)),
        ):
            if a in peaks and b in peaks:
                row[ratio] = peaks[a] / peaks[b]


def quick(contenders, threads: int | None):
    """The rows of contenders, the first of which is the reference."""
    from tqdm import tqdm

    if not os.path.exists("/proc/self/status"):
        raise OSError(f"peak memory is read from /proc, which Linux has; this is {platform.system()}")
    shape = dict(hidden=QUICK["hidden"], levels=3, channels=3, batch=QUICK["batch"], size=QUICK["size"])
    rows = []
    with tqdm(total=len(contenders) * len(QUICK["depths"]), unit="figure", leave=False, disable=None) as bar:
        for contender in contenders:
            bar.set_description(contender.name)
            compile_kernels(contender, threads, shape)
            for depth in QUICK["depths"]:
                rows.append(repeated(contender, depth, threads, shape))
                bar.update()
    if all("note" in row for row in rows):
        raise ChildProcessError(rows[0]["note"])
    add_ratios(rows)
    return rows


def report(rows) -> None:
    """Prints the rows with their minimum, median and ratios."""
    first = rows[0]
    print(
        "Peak memory of a training step above parameters, gradients and batch, by steps of each level\n"
        f"Glow, {TITLE.format(**first)}, threads: {first['threads']}\n"
    )
    results.print_table(rows, COLUMNS | ({"note": "s"} if any("note" in row for row in rows) else {}))
    print(
        f"\n{PROCESSES} processes each; growth: the minimum over that at {first['steps']} steps; "
        f"ratio: {first['contender']}'s minimum over the contender's"
    )


def plot(rows):
    """A figure: peaks against depth on a linear and on a logarithmic scale."""
    fig, axes = results.figure(2)
    measured = [row for row in rows if "activations_MiB" in row]
    unit, factor = ("GiB", 1 / 1024) if max(row["activations_MiB"] for row in measured) > 1024 else ("MiB", 1)
    for axis, scale in zip(axes[0], ("linear", "log")):
        for contender in dict.fromkeys(row["contender"] for row in measured):
            mine = [row for row in measured if row["contender"] == contender]
            peaks = [row["activations_MiB"] * factor for row in mine]
            results.line(axis, [row["steps"] for row in mine], peaks, contender)
        axis.set(
            xlabel="steps of each level",
            ylabel=f"peak above parameters and gradients, {unit}",
            title=TITLE.format(**rows[0]),
        )
        axis.set_yscale(scale)
        axis.grid(alpha=0.3, which="both")
    axes[0, 0].set_ylim(0, None)
    axes[0, 0].legend(fontsize=8)
    return fig
