"""Measures a GPU machine: kernels, memory against depth and size, and step time, beside other implementations.

    python -m benchmarks.gpu --out DIR                  needs a CUDA device; under eight minutes, no network
    python -m benchmarks.gpu --out DIR --device cpu     tests the benchmark itself on the CPU; its figures mean nothing

The curve of memory has the published setting: Glow, 256x256x3, batch 8, hidden 256, 3 levels, 4 to 128 steps a level.
The sweep of sizes has 16 steps a level and goes from 64x64 to 2048x2048, until a contender runs out of memory.
contenders.py has the contenders, measure.py says what is counted.

Each part is a process of its own with a time limit. Figures that it measured within the limit count, and a failure is
a row with a note. Time that a part leaves goes to later parts. DIR gets gpu.csv, which is rewritten after each part,
and gpu.png.
"""

import argparse
import time

from .. import harness
from . import contenders
from .attempts import note_of
from .facts import device_facts
from .plot import plot
from .process import rows_of
from .settings import OF_DEVICE

TABLE = dict(contender="s", shallow_GiB=".3f", deep_GiB=".3f", largest="d", step_ms=".2f", share=".0%")


def parts_of(settings):
    """Returns (part, *name) of all parts, the most valuable first."""
    first, *others = [("memory", name) for name in settings.memory_contenders]
    return [("kernels",), first, ("speed",), *others, ("compiled",)]


def measured(settings):
    """Yields all rows so far after each part. A part gets its own seconds and those that earlier parts left."""
    rows, deadline = [], time.monotonic()
    for part, *name in parts_of(settings):
        deadline += settings.seconds[part]
        missing = name and contenders.library_missing(*name, settings.device)
        begun = time.monotonic()
        if missing:
            found = [dict(part=part, contender=name[0], note=f"{missing} is not there")]
        else:
            found = rows_of(part, settings.device, deadline - begun, *name)
        print(f"{part} {' '.join(name)}: {len(found)} rows, {time.monotonic() - begun:.0f} s", flush=True)
        rows += found
        yield rows


def short(rows, settings):
    """Returns the rows of the printed table, one for each contender."""
    table = []
    for name in dict.fromkeys(row["contender"] for row in rows if row.get("contender")):
        mine = [row for row in rows if row.get("contender") == name]
        peaks = {
            (row["kind"], row["steps"], row["size"]): row["allocator_MiB"] / 1024
            for row in mine
            if "allocator_MiB" in row
        }
        line = dict(
            contender=name,
            largest=max((size for kind, _, size in peaks if kind == "size"), default=""),
            shallow_GiB=peaks.get(("depth", settings.depths[0], settings.size), ""),
            deep_GiB=peaks.get(("depth", settings.depths[-1], settings.size), ""),
        )
        for row in mine:
            if "seconds_min" in row and row["hidden"] == settings.hidden[len(settings.hidden) // 2]:
                line.update(step_ms=1e3 * row["seconds_min"], share=row["share"])
        table.append(line)
    return table


def report(rows, settings, facts):
    for row in rows:
        if row.get("note"):
            what = row.get("contender") or row.get("operation") or "all"
            print(f"{row['part']}, {what}, {row.get('size', '')} {row.get('steps', '')}: {row['note']}")
    done = [row for row in rows if "bound_us" in row]
    if done:
        print()
        harness.print_table(done, dict(operation="s", microseconds=".1f", bound_us=".1f", share=".0%"))
    print(
        f"\n{', '.join(map(str, facts.values()))}\npeak of a step at {settings.depths[0]} and {settings.depths[-1]} "
        f"steps a level, largest size, "
        f"step at hidden {settings.hidden[len(settings.hidden) // 2]}, share of the rate of a large product\n"
    )
    harness.print_table(short(rows, settings), TABLE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for the results")
    parser.add_argument("--device", choices=OF_DEVICE, default="cuda")
    options = parser.parse_args()
    settings = OF_DEVICE[options.device]
    facts = device_facts(options.device)
    for rows in measured(settings):
        harness.write_csv([row | facts for row in rows], "gpu", options.out)
    try:
        harness.write_png(plot(rows, settings, facts), "gpu", options.out)
    except Exception as error:  # the figures are worth more than their picture
        print(f"there is no picture: {note_of(error)}")
    report(rows, settings, facts)


if __name__ == "__main__":
    main()
