"""The machine, and what is made of rows of results (dictionaries): a table, a CSV file, a picture."""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import os
import pathlib
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

LIBRARIES = ("invnet", "numpy", "numba", "torch")
#: of the curves; invnet's, with whatever engine, is black
COLORS = {"twin": "tab:blue", "checkpointed": "tab:purple"}


def machine(libraries=LIBRARIES):
    """The machine and the versions of libraries, as columns."""
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in libraries},
    }


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
    return " ".join(
        [
            fields.get("model name", platform.machine()),
            f"family {fields.get('cpu family', '?')}",
            f"model {fields.get('model', '?')}",
            vector,
        ]
    ).strip()


def write_csv(rows, name: str, folder, libraries=LIBRARIES) -> None:
    """Writes rows with the machine's columns to folder/name.csv."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    facts, path = machine(libraries), pathlib.Path(folder) / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [*columns, *facts], restval="")
        writer.writeheader()
        writer.writerows(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in (row | facts).items()}
            for row in rows
        )
    print(f"wrote {path}")


def print_table(rows, columns: int) -> None:
    """Prints these columns of rows; `columns` maps a name to a format such as "8.2f"."""
    width = lambda name, form: max([len(name), *(len(_cell(row, name, form)) for row in rows)])
    widths = {name: width(name, form) for name, form in columns.items()}
    print("  ".join(name.rjust(widths[name]) for name in columns))
    for row in rows:
        print("  ".join(_cell(row, name, form).rjust(widths[name]) for name, form in columns.items()))


def _cell(row, name, form):
    value = row.get(name, "")
    return format(value, form) if not isinstance(value, str) else value


def figure(columns: int = 1, rows: int = 1, width: float = 5.5, height: float = 4.0):
    """A figure without a display, and its axes as an array (rows, columns)."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return fig, fig.subplots(rows, columns, squeeze=False)


def line(axes, xs, ys, name: str, **options: Any) -> None:
    """A contender's curve in its colour, invnet's thicker."""
    width = 2.5 if name.startswith("invnet") else 1.5
    style = dict(color=COLORS.get(name, "black"), linewidth=width, marker="o", markersize=4, label=name)
    axes.plot(xs, ys, **(style | options))


def write_png(fig, name: str, folder) -> None:
    """Writes folder/name.png with the machine in two lines below."""
    facts = machine()
    versions = f"invnet {facts['invnet']}, NumPy {facts['numpy']}, torch {facts['torch']}"
    note = f"{facts['cpu']}, {facts['cores']} cores\n{facts['date']}, {versions}"
    fig.supxlabel(note, fontsize=7, color="gray")
    path = pathlib.Path(folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=130)
    print(f"wrote {path}")
