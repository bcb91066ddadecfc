"""What the benchmarks share: the options, the files of results, and the measurements of invnet.bench.

invnet/bench/turns.py explains how time is measured, invnet/bench/peak.py how memory is.
"""

import argparse
import functools
import pathlib

from invnet.bench import results
from invnet.bench.results import COLORS, figure, line, print_table, write_png  # noqa: F401, for the benchmarks
from invnet.bench.turns import PAUSE, clock, in_turns, sgemm, summary  # noqa: F401, likewise

RESULTS = pathlib.Path(__file__).parent / "results"
ROOT = pathlib.Path(__file__).parent.parent
LIBRARIES = (*results.LIBRARIES, "normflows", "FrEIA", "memcnn", "zuko", "nflows")
COLORS.update(
    {
        "twin-compiled": "tab:cyan",
        "normflows": "tab:orange",
        "normflows-last": "goldenrod",
        "FrEIA": "tab:green",
        "FrEIA-last": "limegreen",
        "memcnn": "tab:red",
        "as_module": "tab:pink",
        "zuko": "tab:brown",
        "nflows": "tab:purple",
        "torch": "tab:blue",
    }
)

write_csv = functools.partial(results.write_csv, libraries=LIBRARIES)


def options(doc):
    """Makes a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="run the full benchmark")
    parser.add_argument("--quick", action="store_true", help="run the quick version (the default)")
    parser.add_argument("--out", default=RESULTS, help="folder for the results")
    return parser


def keep(rows, name, options, plot):
    """Writes the rows as a .csv file, and draws a picture beside it with plot(rows, folder, name)."""
    name = result_name(name, options)
    write_csv(rows, name, options.out)
    plot(rows, options.out, name)


def result_name(name, options):
    return name if options.full else f"{name}_quick"
