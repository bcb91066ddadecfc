"""fit: trains a network on images, with checkpoints, metrics and a progress bar."""

import contextlib
import math
import pathlib
import signal
import sys
import threading
import time

from .. import io
from ..data import Images, quantise, split
from . import checkpoint
from .metrics import Metrics, peak_megabytes, read_metrics
from .recipe import Recipe, recipe_from
from .trainer import Trainer, evaluate

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"
STEPS_BETWEEN_ROWS, SECONDS_BETWEEN_SAVES = 50, 30


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a training, after step `step`; the checkpoint `path`, None without a run, was saved before."""

    def __init__(self, step, path):
        saved = f"{path} is saved; fit(..., resume=True) goes on"
        after = "nothing is saved, since no run was given" if path is None else saved
        super().__init__(f"interrupted at step {step}; {after}")
        self.step, self.path = step, path


def fit(net, images, run=None, resume=False, max_seconds=None, progress=True, on_epoch=None, notes=None, **options):
    """Trains `net` as a flow with a standard normal base, and leaves the best validated weights in it.

    With a folder `run`, a checkpoint and the metrics are kept there. A training that was stopped, by Ctrl-C,
    `max_seconds` or a crash, goes on with `resume=True`, and ends with the same bits as one that was never stopped.

    Args:
        net: a Layer, whose parameters are overwritten.
        images: Images; or an array (N, C, H, W), integers from 0 to 255 or floats in [0, 1], of which a tenth each is
            taken for validation and test.
        run: a folder, made where it is missing.
        resume: go on from the checkpoint in `run`, with the options of its beginning.
        max_seconds: stop after this time; the steps until then are the same as without.
        progress: show a bar with training bits/dim, steps/s and the peak of memory.
        on_epoch: called with the Trainer and the row of metrics after each validation.
        notes: JSON values to keep in the checkpoint.
        **options: of the Recipe.

    Returns:
        The rows of metrics, dicts with step, epoch, seconds, train (bits/dim since the row before), lr, grad_norm,
        skipped and peak_mb; those of a validation also have validation and best (bits/dim).

    Raises:
        FloatingPointError: loss or gradient was not finite in ten steps in a row.
        Interrupted: Ctrl-C was pressed; the checkpoint was saved before.
    """
    if not isinstance(images, Images):
        images = split(quantise(images), 256, "array")
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(f"max_seconds is a positive number; got {max_seconds}")
    if resume and run is None:
        raise ValueError("resume goes on from the checkpoint in a folder: give run")
    path = None if run is None else pathlib.Path(run) / CHECKPOINT
    if resume:
        options = {**checkpoint.recipe_of(path), **options}
    elif path is not None and path.exists():
        raise FileExistsError(f"{path.parent} already holds a training: resume it, or choose another folder")
    if run is not None:
        io.describe(net)  # what could not be saved is known before the work
    trainer = Trainer(net, images, recipe_from(options))
    if resume:
        checkpoint.restore(trainer, path)
    else:
        trainer.initialize()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    metrics = Metrics(path and path.with_name(METRICS), trainer.progress.step)

    with _interrupts() as interrupts, _bar(trainer, progress) as bar:
        _loop(trainer, metrics, path, notes, max_seconds, on_epoch, interrupts, bar)
        if interrupts and not trainer.finished:
            if path is not None:
                checkpoint.save(trainer, path, notes=notes)
            raise Interrupted(trainer.progress.step, path)
        weights = trainer.best
        if not trainer.at_epoch_end:  # the present weights count for the model, not for the training that may go on
            bits, present = trainer.validate()
            weights = present if bits < trainer.progress.best else weights
            metrics.add({**trainer.row(), "validation": bits, "best": min(bits, trainer.progress.best)})
        if path is not None:
            checkpoint.save(trainer, path, weights, notes)
    if weights is not None:
        net.load_state_dict(weights)
    return metrics.rows


def _loop(trainer, metrics, path, notes, max_seconds, on_epoch, interrupts, bar):
    """Advances until the training is finished, its time is up or Ctrl-C was pressed."""
    progress = trainer.progress
    begun = saved = time.monotonic()
    before = progress.seconds
    while not (trainer.finished or interrupts):
        bits = trainer.advance()
        now = time.monotonic()
        progress.seconds = before + now - begun
        best = f", validation {progress.best:.3f}" if progress.best < math.inf else ""
        bar.set_postfix_str(f"{trainer.recent_bits():.3f} bits/dim{best}, peak {peak_megabytes():.0f} MB", refresh=False)
        bar.update()
        if bits is not None:
            row = metrics.add({**trainer.row(), "validation": bits, "best": progress.best})
            trainer.forget_recent()
            if on_epoch is not None:
                on_epoch(trainer, row)
        elif progress.step % trainer.steps_per_epoch % STEPS_BETWEEN_ROWS == 0:
            metrics.add(trainer.row())
            trainer.forget_recent()
        if path is not None and now - saved >= SECONDS_BETWEEN_SAVES:
            checkpoint.save(trainer, path, notes=notes)
            saved = now
        if max_seconds is not None and now - begun >= max_seconds:
            return


@contextlib.contextmanager
def _interrupts():
    """Collects Ctrl-C instead of raising it, so that no step is cut in half; the second one is raised at once."""
    pressed = []

    def handler(number, frame):
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    previous = signal.getsignal(signal.SIGINT)
    if previous is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():  # which gets the signals
        yield pressed
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous or signal.default_int_handler)


def _bar(trainer, shown):
    from tqdm import tqdm

    interval = 0.2 if sys.stderr.isatty() else 15
    return tqdm(total=trainer.total, initial=trainer.progress.step, unit="step", disable=not shown, dynamic_ncols=True,
                mininterval=interval)
