"""What the benchmarks share: timing in turns, peak memory in a process of its own, the machine, and files of results.

Timing. All contenders live in one process and take turns: in each round every contender runs `repeats` steps, the fastest
of which is its time of that round, so that a change in the machine's speed meets all of them. The contender that
begins moves on from round to round. Between turns there is a pause when there are several threads: the threads of
OpenMP and OpenBLAS spin for a while after their work, on the cores of the next contender.

Ratios. `ratio_min` is the minimum over rounds of the reference divided by that of the contender; `ratio_median` is the
median over rounds of the ratio within a round. Below 1 the reference is faster.

Memory. See peak.py.
"""

import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

RESULTS = pathlib.Path(__file__).parent / "results"
ROOT = pathlib.Path(__file__).parent.parent
PAUSE = 0.1
LIBRARIES = ("invnet", "numpy", "numba", "torch", "normflows", "FrEIA", "memcnn", "zuko")


def in_turns(steps, rounds, repeats=2, threads=1):
    """Seconds of each round, {name: [...]}, of functions by name; each runs twice before its first round."""
    for step in steps.values():
        step(), step()
    seconds, names = {name: [] for name in steps}, list(steps)
    for i in range(rounds):
        for name in names[i % len(names):] + names[:i % len(names)]:
            if threads > 1:
                time.sleep(PAUSE)
            seconds[name].append(min(clock(steps[name]) for _ in range(repeats)))
    return seconds


def clock(step):
    """Seconds of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def summary(seconds, reference="invnet"):
    """Minimum, median and ratios of each contender, as rows."""
    rows = []
    for name, each in seconds.items():
        row = {"contender": name, "seconds_min": min(each), "seconds_median": statistics.median(each), "rounds": len(each)}
        if reference in seconds:
            ours = seconds[reference]
            row["ratio_min"] = min(ours) / min(each)
            row["ratio_median"] = statistics.median(a / b for a, b in zip(ours, each))
        rows.append(row)
    return rows


def sgemm(threads, size=2048):
    """A step that multiplies two square float32 matrices with NumPy's BLAS, and its floating-point operations."""
    import numpy as np
    from threadpoolctl import ThreadpoolController

    A, B = np.random.default_rng(0).standard_normal((2, size, size), dtype=np.float32)
    out, blas = np.empty_like(A), ThreadpoolController().select(user_api="blas")

    def step():
        with blas.limit(limits=threads):
            np.matmul(A, B, out=out)

    return step, 2 * size**3


# ---- memory


def peak_memory(contender, repeats=1, **shape):
    """What peak.py measures, in bytes: {"activations": ..., "parameters": ..., ...}, or {"failed": why}."""
    arguments = [str(value) for name, value in shape.items() for value in (f"--{name}", value)]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peak", contender, "--repeats", str(repeats), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"failed": f"killed by signal {-done.returncode}" if done.returncode < 0 else last}
    return json.loads(done.stdout.splitlines()[-1])


def available_memory():
    """Bytes that a new process may take without swapping."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))


# ---- the machine and the files


def machine():
    """The machine and the versions, as columns."""
    return {"date": datetime.date.today().isoformat(), "cpu": _cpu(), "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
            **{name: _version(name) for name in LIBRARIES}}


def _version(name):
    if name == "invnet":
        import invnet

        return invnet.__version__
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _cpu():
    """The model and, since virtual machines hide its name, its numbers and vector instructions."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown"
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    vector = next((name for name in ("avx512f", "avx2", "avx") if name in fields.get("flags", "")), "")
    return " ".join([fields.get("model name", platform.machine()), f"family {fields.get('cpu family', '?')}",
                     f"model {fields.get('model', '?')}", vector]).strip()


def write_csv(rows, name, folder=RESULTS):
    """Writes rows (dictionaries) with the machine's columns to folder/name.csv."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    facts, path = machine(), pathlib.Path(folder) / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [*columns, *facts], restval="")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in (row | facts).items()}
                         for row in rows)
    print(f"wrote {path.name}")


def print_table(rows, columns):
    """Prints these columns of rows; `columns` maps a name to a format such as "8.2f"."""
    width = lambda name, form: max(len(name), *(len(_cell(row, name, form)) for row in rows))
    widths = {name: width(name, form) for name, form in columns.items()}
    print("  ".join(name.rjust(widths[name]) for name in columns))
    for row in rows:
        print("  ".join(_cell(row, name, form).rjust(widths[name]) for name, form in columns.items()))


def _cell(row, name, form):
    value = row.get(name, "")
    return format(value, form) if not isinstance(value, str) else value


COLORS = {"invnet": "black", "twin": "tab:blue", "twin-compiled": "tab:cyan", "checkpointed": "tab:purple",
          "normflows": "tab:orange", "normflows-last": "goldenrod", "FrEIA": "tab:green", "FrEIA-last": "limegreen",
          "memcnn": "tab:red", "zuko": "tab:brown"}


def figure(columns=1, rows=1, width=5.5, height=4.0):
    """A figure without a display, and its axes as an array (rows, columns)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained")


def line(axes, xs, ys, name, **options):
    """A contender's curve in its colour, invnet's thicker."""
    style = dict(color=COLORS.get(name), linewidth=2.5 if name == "invnet" else 1.5, marker="o", markersize=4, label=name)
    axes.plot(xs, ys, **(style | options))


def write_png(fig, name, folder=RESULTS):
    """Writes folder/name.png with the machine in two lines below."""
    facts = machine()
    versions = f"invnet {facts['invnet']}, NumPy {facts['numpy']}, torch {facts['torch']}"
    note = f"{facts['cpu']}, {facts['cores']} cores\n{facts['date']}, {versions}"
    fig.supxlabel(note, fontsize=7, color="gray")
    path = pathlib.Path(folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=130)
    print(f"wrote {path.name}")


def options(doc):
    """A parser of the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the whole benchmark")
    parser.add_argument("--quick", action="store_true", help="the quick version, which is the default")
    parser.add_argument("--out", default=RESULTS, help="folder of the results")
    return parser


def result_name(name, options):
    return name if options.full else f"{name}_quick"
