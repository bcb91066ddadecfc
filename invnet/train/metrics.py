"""Metrics: what a training measured, as rows of a JSON Lines file."""

from __future__ import annotations

import json
import math
import pathlib
import sys
from typing import TYPE_CHECKING

from ..io import replace_file

if TYPE_CHECKING:
    pass


class Metrics:
    """Rows of metrics, kept in memory and, with `path`, appended to a file, one JSON object a line.

    Args:
        path: of the file; None keeps none.
        step: rows after this step are dropped: those of a training that goes on from an earlier checkpoint.
    """

    def __init__(self, path: pathlib.Path | None = None, step: int = 0):
        self.path, self.rows = path, []
        if path is None:
            return
        if path.exists():
            self.rows = [row for row in read_metrics(path) if row["step"] <= step]
        replace_file(path, "".join(map(_line, self.rows)).encode())

    def add(self, row: dict) -> dict:
        """Appends a row; a number that is not finite becomes None, which JSON has."""
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self.rows.append(row)
        if self.path is not None:
            with open(self.path, "a") as file:
                file.write(_line(row))
        return row


def _line(row):
    return json.dumps(row) + "\n"


def read_metrics(path: pathlib.Path) -> list[dict]:
    """The rows of a metrics file; a last line that a kill cut short is left out."""
    rows = []
    for line in pathlib.Path(path).read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def peak_megabytes() -> float:
    """The peak of this process's resident memory in MB, 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)  # bytes on macOS, KiB elsewhere
