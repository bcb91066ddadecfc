"""What the commands do: train, sample, evaluate."""

import contextlib
import dataclasses
import logging
import math
import os
import pathlib
import sys
import time

import numpy as np

from .. import io, process_group
from ..data import load
from ..distributed import joined
from ..flow import Flow
from ..ops import ops_named
from ..ops.threads import num_threads, set_num_threads
from ..train import CHECKPOINT, Interrupted, fit
from ..train.recipe import Recipe
from . import report
from .outputs import Samples, check_place, free
from .presets import Model, defaults, kind_of

SECONDS_BETWEEN_PICTURES = 30
SAMPLES_AT_ONCE = 1024
GUARDS = ("anchors", "strict", "state_dtype")


@contextlib.contextmanager
def _together():
    """For a command that all processes of a torchrun run; only rank 0 prints, and says that Ctrl-C was pressed."""
    with joined() as ranks:
        if ranks.writes:
            yield
            return
        logger = logging.getLogger("invnet")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                yield
        except Interrupted:
            raise SystemExit(130) from None
        finally:
            logger.setLevel(level)


@_together()
def train(source, out, resume, engine, max_seconds, quiet, threads, **given):
    """Trains on `source` in a new folder, or goes on in the folder `resume`; on an engine, or engine:device."""
    _use(threads)
    if engine is not None:
        ops_named(engine)  # one that cannot be loaded says why
    if resume is not None:
        _resume(source, out, resume, engine, max_seconds, quiet, given)
        return
    if source is None:
        raise ValueError(
            'train needs data: "digits", a .npz or .npy file, a folder of images or '
            "CIFAR's binary version; or --resume RUN"
        )
    loading = {name: given.pop(name) for name in ("bits", "values", "validation", "test", "layout") if name in given}
    guards = {name: given.pop(name) for name in GUARDS if name in given}
    Model(**_only(Model, given)), Recipe(**_only(Recipe, given))  # their mistakes before any work
    _check_run(out)
    loading["seed"] = given.get("seed", Recipe.seed)
    images = load(source, **loading)
    loading["source"] = source if source == "digits" else str(pathlib.Path(source).resolve())
    chosen = {**defaults(kind_of(source, images), images, given), **given}
    net = _guarded(Model(**_only(Model, chosen)).build(images.shape, loading["seed"]), guards)
    run = pathlib.Path(out) if out is not None else free(pathlib.Path("runs", images.name))
    notes = {
        "loading": loading,
        "shape": images.shape,
        "levels": images.levels,
        "engine": engine or "numpy",
        "guards": guards,
    }
    _fit(net.to(notes["engine"]), images, run, max_seconds, quiet, notes, **_only(Recipe, chosen))


def _resume(source, out, resume, engine, max_seconds, quiet, given):
    epochs = {"epochs": given.pop("epochs")} if "epochs" in given else {}
    names = [*(["out"] if out is not None else []), *given]
    if names:
        flags = ", ".join("--" + name.replace("_", "-") for name in names)
        raise ValueError(f"--resume goes on with the options of the beginning, but for --epochs; it takes no {flags}")
    path = _checkpoint(resume)
    check_place(path.parent)
    net, notes = _open(path)
    images = _data(notes, source)
    notes["engine"] = engine or notes.get("engine", "numpy")
    net = _guarded(net.to(notes["engine"]), notes.get("guards", {}))
    _fit(net, images, path.parent, max_seconds, quiet, notes, resume=True, **epochs)


def _guarded(net, guards):
    """`net` with these settings of its rebuilt states."""
    for name, value in guards.items():
        setattr(net, name, value)
    return net


def _fit(net, images, run, max_seconds, quiet, notes, **options):
    ranks = process_group.current()
    run, writes = ranks.of_first(run), ranks.writes
    print(repr(images))
    parameters = sum(math.prod(p.data.shape) for p in net.parameters())
    threads = "one thread" if num_threads() == 1 else f"{num_threads()} threads"
    print(f"model: {parameters:,} parameters; {notes['engine']}, {threads}; results in {run}")
    baselines = report.baselines(images) if writes else {}
    print(f"baselines, test bits/dim: {report.listed(baselines)}", flush=True)
    begun = drawn = time.monotonic()

    def on_epoch(trainer, row):
        nonlocal drawn
        if not quiet:
            bits = ", ".join(f"{name} {_number(row[name])}" for name in ("train", "validation", "best"))
            _say(f"epoch {row['epoch']:.0f}: {bits} bits/dim; {row['seconds']:.0f} s")
        if writes and time.monotonic() - drawn > SECONDS_BETWEEN_PICTURES:
            with trainer.ema.weights():
                report.draw(net, images, run, baselines)
            drawn = time.monotonic()

    rows = fit(net, images, run, max_seconds=max_seconds, progress=not quiet, on_epoch=on_epoch, notes=notes, **options)
    print(f"trained {rows[-1]['step'] if rows else 0:,} steps; {time.monotonic() - begun:.0f} s this time")
    report.print_test(net, images, baselines)
    if writes:
        report.draw(net, images, run, baselines)
        print(f"in {run}: {', '.join(sorted(file.name for file in run.iterdir() if not file.name.startswith('.')))}")


def sample(run, n, temperature, seed, columns, out, threads):
    """Draws n images into one picture, single ones or an array."""
    _use(threads)
    if n < 1 or columns is not None and columns < 1:
        raise ValueError(f"n and columns are numbers from 1; got {n}{'' if columns is None else f' and {columns}'}")
    path = _checkpoint(run)
    notes = _notes(path)
    samples = Samples(out or free(path.with_name("samples.png")), n, notes["shape"], _levels(notes), columns)
    flow, rng = Flow(io.load(path), notes["shape"]), np.random.default_rng(seed)
    images = [flow.sample(min(SAMPLES_AT_ONCE, n - i), None, temperature, rng) for i in range(0, n, SAMPLES_AT_ONCE)]
    print(f"{n} samples at temperature {temperature:g} {samples.write(np.concatenate(images))}")


def evaluate(run, data, threads):
    """Prints test bits/dim, the baselines and the reconstruction error."""
    _use(threads)
    net, notes = _open(_checkpoint(run))
    images = _data(notes, data)
    print(repr(images))
    report.print_test(net, images, report.baselines(images))


def _use(threads):
    if threads is not None:
        set_num_threads(threads)


def _say(line):
    """Prints a line, above the progress bar where there is one."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        tqdm.write(line)
    else:
        print(line, flush=True)


def _number(bits):
    return "not finite" if bits is None else f"{bits:.3f}"


def _checkpoint(run):
    path = pathlib.Path(run)
    path = path / CHECKPOINT if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{run} holds no {CHECKPOINT}: name the folder of a training")
    return path


def _open(path):
    """The model of a checkpoint and what the command line noted in it."""
    notes = _notes(path)
    return io.load(path), notes


def _notes(path):
    notes = io.read(path)[1].get("notes", {})
    if "loading" not in notes:
        raise ValueError(f"{path} was not written by invnet train: it does not say what it was trained on")
    return notes


def _data(notes, source):
    """The data of a run, now at `source`, or None where they were."""
    options = {**notes["loading"], **({"source": source} if source is not None else {})}
    if not str(options["source"]).lower().endswith((".npy", ".npz")):
        options.pop("layout", None)
    return load(**options)


def _levels(notes):
    """Of the data of a run; one of version 0.1 does not note them."""
    loading = notes["loading"]
    kept = 17 if loading["source"] == "digits" else loading.get("values", 256)
    return notes.get("levels") or (2 ** loading["bits"] if loading.get("bits") else kept)


def _check_run(out):
    """Raises where a new run cannot be kept in the folder `out`, or None in runs/."""
    check_place("runs" if out is None else out)
    if out is not None and pathlib.Path(out, CHECKPOINT).exists():
        raise FileExistsError(f"{out} already holds a training: resume it, or choose another folder")


def _only(options, values):
    """Those of `values` that are fields of the dataclass `options`."""
    return {field.name: values[field.name] for field in dataclasses.fields(options) if field.name in values}
