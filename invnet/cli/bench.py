"""What invnet bench does: measures on this machine, prints a table, and keeps it if it is told where."""

import importlib
import pathlib
import tempfile

from ..ops import ops_named
from ..ops.threads import set_num_threads


def bench(what, engine, out, threads):
    """Measures "memory" or "speed" of a training step with an engine, beside PyTorch where it is installed."""
    from ..bench import contenders, results

    set_num_threads(threads)
    ops_named(engine)  # an engine that cannot be loaded says why
    folder, name = _place(out, what) if out is not None else (None, what)
    measurement = importlib.import_module(f"...bench.{what}", __name__)
    rows = measurement.quick(contenders.available([contenders.on(engine), "twin", "checkpointed"]), threads)
    measurement.report(rows)
    if folder is not None:
        results.write_csv(rows, name, folder)
        results.write_png(measurement.plot(rows), name, folder)


def _place(out, name):
    """The folder, made and tried before any work, and the name without ending of the files to write."""
    path = pathlib.Path(out)
    folder, name = (path.parent, path.stem) if path.suffix == ".csv" else (path, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder, name
    except OSError as error:
        raise OSError(f"--out is a .csv file or a folder that can be written to; got {out}: {error.strerror}") from None
