"""The benchmark of a GPU machine: memory against depth and size, step time, kernels, each beside what else does it.

    python -m benchmarks.gpu --out DIR                  needs a CUDA device; under eight minutes, no network
    python -m benchmarks.gpu --out DIR --device cpu     tries the benchmark itself, tiny and on the CPU: its figures say nothing

The curve of memory is the published one: Glow, 256x256x3, batch 8, hidden 256, 3 levels, 4 to 128 steps a level. The sweep of
sizes has 16 steps a level and goes from 64x64 to 2048x2048, until memory ends for each. Contenders are in contenders.py, what
is counted in measure.py. Each part is a process of its own with a limit of time; what it measured until then counts.
Leaves gpu.csv and gpu.png in DIR.
"""

import argparse
import json
import subprocess
import sys
import time

from .. import harness
from . import contenders
from .facts import device_facts
from .plot import plot
from .settings import OF_DEVICE

LIMIT = 460  # seconds, of all parts together
TABLE = dict(contender="s", shallow_GiB=".3f", deep_GiB=".3f", largest="d", step_ms=".2f", share=".0%")


def run(part, settings, left, *name):
    """Rows of a process; what it printed before it failed or its time was up counts, and a row says why it ended."""
    command = [sys.executable, "-m", "benchmarks.gpu.measure", part, settings.device, *name]
    try:
        done = subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True, timeout=max(1, min(left, settings.seconds[part])))
        out, ended = done.stdout, done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except subprocess.TimeoutExpired as error:
        out, ended = (error.stdout or b"").decode(), ["its time was up"]
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{") and line.endswith("}")]
    return rows + [dict(part=part, contender=" ".join(name), note=note) for note in ended]


def measure(settings):
    rows, begun = [], time.monotonic()
    left = lambda: LIMIT - (time.monotonic() - begun)
    for name in settings.memory_contenders:
        missing = contenders.library_missing(name, settings.device)
        if missing:
            print(f"{name} is left out: {missing} is not installed")
        else:
            rows += run("memory", settings, left() - settings.seconds["kernels"] - settings.seconds["speed"] / 2, name)
    rows += run("speed", settings, left() - settings.seconds["kernels"])
    return rows + run("kernels", settings, left())


def short(rows, settings):
    """A row of the last table for each contender."""
    table = []
    for name in dict.fromkeys(row["contender"] for row in rows if row.get("contender")):
        mine = [row for row in rows if row.get("contender") == name]
        peaks = {(row["kind"], row["steps"], row["size"]): row["allocator_MiB"] / 1024 for row in mine if "allocator_MiB" in row}
        line = dict(contender=name, largest=max((size for kind, _, size in peaks if kind == "size"), default=""),
                    shallow_GiB=peaks.get(("depth", settings.depths[0], settings.size), ""),
                    deep_GiB=peaks.get(("depth", settings.depths[-1], settings.size), ""))
        for row in mine:
            if "seconds_min" in row and row["hidden"] == settings.hidden[len(settings.hidden) // 2]:
                line.update(step_ms=1e3 * row["seconds_min"], share=row["share"])
        table.append(line)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder of the results")
    parser.add_argument("--device", choices=OF_DEVICE, default="cuda")
    options = parser.parse_args()
    settings = OF_DEVICE[options.device]
    facts = device_facts(options.device)
    rows = [row | facts for row in measure(settings)]
    harness.write_csv(rows, "gpu", options.out)
    harness.write_png(plot(rows, settings, facts), "gpu", options.out)
    for row in rows:
        if row.get("note"):
            print(f"{row['part']}, {row.get('contender') or 'all'}, {row.get('size', '')} {row.get('steps', '')}: {row['note']}")
    print()
    harness.print_table([row for row in rows if "bound_us" in row], dict(operation="s", microseconds=".1f", bound_us=".1f", share=".0%"))
    print(f"\n{', '.join(map(str, facts.values()))}\npeak of a step at {settings.depths[0]} and {settings.depths[-1]} steps a level, largest size, "
          f"step at hidden {settings.hidden[len(settings.hidden) // 2]}, share of the rate of a large product\n")
    harness.print_table(short(rows, settings), TABLE)


if __name__ == "__main__":
    main()
