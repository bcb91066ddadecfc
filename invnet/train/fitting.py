"""fit: trains a network on images, with checkpoints, metrics and a progress bar."""

from __future__ import annotations

import contextlib
import logging
import math
import pathlib
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from .. import io, process_group
from ..arguments import check_flags, check_numbers, check_unused, shown
from ..core import Layer
from ..data import Images, quantise
from ..data.parts import images_of
from . import checkpoint
from .metrics import Metrics, peak_megabytes
from .recipe import recipe_from
from .trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..typing import Path

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"
STEPS_BETWEEN_ROWS, SECONDS_BETWEEN_SAVES = 50, 30
log = logging.getLogger("invnet.train")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a training, after step `step`; the checkpoint `path`, None without a run, was saved
    before.
    """

    def __init__(self, step: int, path: Path | None):
        saved = f"{path} is saved; fit(..., resume=True) goes on"
        after = "nothing is saved, since no run was given" if path is None else saved
        super().__init__(f"interrupted at step {step}; {after}")
        self.step, self.path = step, path


def fit(
    net: Layer,
    images: Images,
    run: Path | None = None,
    resume: bool = False,
    max_seconds: float | None = None,
    progress: bool = True,
    on_epoch: Callable | None = None,
    notes: dict | None = None,
    **options: Any,
) -> list[dict]:
    """Trains `net` as a flow with a standard normal base, and leaves the best validated weights in it.

    With a folder `run`, a checkpoint and the metrics are kept there. A training that was stopped, by Ctrl-C, SIGTERM,
    `max_seconds` or a crash, goes on with `resume=True`, and ends with the same bits as one that was never stopped.

    Of several processes that train together (see `invnet.distributed`) all call it alike; rank 0 writes and shows the
    bar.

    Args:
        net: a Layer, whose parameters are overwritten; its `anchors`, `strict` and `state_dtype` hold, and are not in
            the checkpoint.
        images: Images; or an array (N, C, H, W), integers from 0 to 255 or floats in [0, 1], of which a tenth each is
            taken for validation and test.
        run: a folder, made where it is missing.
        resume: go on from the checkpoint in `run`, with the options of its beginning. `epochs` may be another number:
            where the learning rate does not depend on it (cosine=False, and a warmup of at most a tenth of the steps)
            the result has the bits of a training with as many from the start; else the rate follows the new schedule
            from here on, and a line says so.
        max_seconds: stop after this time; the steps until then are the same as without.
        progress: show a bar with training bits/dim, steps/s and the peak of memory.
        on_epoch: called with the Trainer and the row of metrics after each validation.
        notes: JSON values to keep in the checkpoint.
        **options: of the Recipe.

    Returns:
        The rows of metrics, dicts with step, epoch, seconds, train (bits/dim since the row before), lr, grad_norm,
        drift (the largest of rebuilt states since the row before), skipped, skipped_at and peak_mb; those of a
        validation also have validation and best (bits/dim).

    Raises:
        FloatingPointError: loss or gradient was not finite in `most_skipped` steps in a row; the checkpoint was saved
            before.
        Interrupted: Ctrl-C was pressed or SIGTERM came; the checkpoint was saved before.
        WorkerLost: another process of the training is gone; the checkpoint was saved before.
    """
    if not isinstance(net, Layer):
        raise TypeError(f"fit takes a Layer; got {shown(net)}")
    check_flags(resume=resume, progress=progress)
    if run is None:
        check_unused("without a run, whose checkpoint would hold them", notes=notes)
    if not isinstance(images, Images):
        images = images_of({"train": quantise(images)}, None, 256, "array", 0.1, 0.1, 0)
    check_numbers(max_seconds=1 if max_seconds is None else max_seconds)
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(f"max_seconds is a positive number; got {max_seconds}")
    if resume and run is None:
        raise ValueError("resume goes on from the checkpoint in a folder: give run")
    path = None if run is None else pathlib.Path(run) / CHECKPOINT
    if resume:
        began = checkpoint.recipe_of(path)
        options = {**began, **options}
    elif path is not None and path.exists():
        raise FileExistsError(f"{path.parent} already holds a training: resume it, or choose another folder")
    if run is not None:
        io.architecture(net)  # what could not be saved is known before the work
    trainer = Trainer(net, images, recipe_from(options))
    if resume:
        checkpoint.restore(trainer, path)
        _mention_epochs(trainer, path, recipe_from(began))
    else:
        trainer.initialize()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    kept = path if trainer.group.writes else None
    metrics = Metrics(kept and kept.with_name(METRICS), trainer.progress.step)

    def save(weights=None):
        if kept is not None:
            checkpoint.save(trainer, kept, weights, notes)

    with _interrupts() as interrupts, _bar(trainer, progress) as bar, _saved_if_stopped(trainer, path, notes):
        if _loop(trainer, metrics, save, max_seconds, on_epoch, interrupts, bar):
            save()
            raise Interrupted(trainer.progress.step, path)
        weights = trainer.best
        if not trainer.at_epoch_end:  # the present weights count for the model, not for the training that may go on
            bits, present = trainer.validate()
            weights = present if bits < trainer.progress.best else weights
            metrics.add({**trainer.row(), "validation": bits, "best": min(bits, trainer.progress.best)})
        save(weights)
        rows = trainer.group.of_first(metrics.rows)
    if weights is not None:
        net.load_state_dict(weights)
    return rows


def _mention_epochs(trainer, path, began):
    """Says that a training that is resumed is finished, or that its learning rates are no longer those it began
    with.
    """
    recipe, progress = trainer.recipe, trainer.progress
    if not trainer.group.writes:
        return
    if trainer.finished:
        out_of_patience = 0 < recipe.patience <= progress.stale
        why = (
            f"no better validation in {progress.stale} epochs, its patience"
            if out_of_patience
            else f"all {recipe.epochs} epochs are done"
        )
        prolongs = "" if out_of_patience else "; more of them (epochs=N, --epochs N) prolong it"
        log.warning("%s is finished: %s%s", path.parent, why, prolongs)
        return
    before, now = began.rate(began.epochs * trainer.steps_per_epoch), recipe.rate(trainer.total)
    if any(before(step) != now(step) for step in range(progress.step)):
        log.warning(
            "%s: from step %d on the learning rate is that of a training with %d epochs, %.3g, where that with %d ends "
            "as %.3g; "
            "the result is not that of %d epochs from the start",
            path.parent,
            progress.step,
            recipe.epochs,
            now(progress.step),
            began.epochs,
            before(progress.step),
            recipe.epochs,
        )


def _loop(trainer, metrics, save, max_seconds, on_epoch, interrupts, bar):
    """Advances until the training is finished, its time is up or it is interrupted, on whichever rank; tells the
    latter.
    """
    progress, ranks = trainer.progress, trainer.group
    begun = saved = time.monotonic()
    before = progress.seconds
    while not trainer.finished:
        if ranks.any(bool(interrupts)):
            return True
        bits = trainer.advance()
        now = time.monotonic()
        progress.seconds = before + now - begun
        best = f", validation {progress.best:.3f}" if progress.best < math.inf else ""
        bar.set_postfix_str(
            f"{trainer.recent_bits():.3f} bits/dim{best}, peak {peak_megabytes():.0f} MB", refresh=False
        )
        bar.update(progress.step - bar.n)
        if bits is not None:
            row = metrics.add({**trainer.row(), "validation": bits, "best": progress.best})
            trainer.forget_recent()
            if on_epoch is not None:
                on_epoch(trainer, row)
        elif progress.step % trainer.steps_per_epoch % STEPS_BETWEEN_ROWS == 0:
            metrics.add(trainer.row())
            trainer.forget_recent()
        if now - saved >= SECONDS_BETWEEN_SAVES:
            save()
            saved = now
        if max_seconds is not None and ranks.any(now - begun >= max_seconds):
            break
    return False


@contextlib.contextmanager
def _saved_if_stopped(trainer, path, notes):
    """Saves a checkpoint where training cannot go on.

    Where another process is lost, on every rank that is left, since nobody knows which these are: what they write is
    the state of the same step, or of the next; each replaces the file as a whole.
    """
    try:
        yield
    except FloatingPointError as error:
        if path is None:
            raise
        if trainer.group.writes:
            checkpoint.save(trainer, path, notes=notes)
        raise FloatingPointError(f"{error}; {path} is saved as of step {trainer.progress.step}") from error
    except process_group.WorkerLost as error:
        if path is None:
            raise
        checkpoint.save(trainer, path, notes=notes)
        raise process_group.WorkerLost(
            f"{error}; {path} is saved as of step {trainer.progress.step}, resume {path.parent} to go on"
        ) from error


@contextlib.contextmanager
def _interrupts():
    """Collects Ctrl-C and SIGTERM instead of raising them, so that no step is cut in half; a second one is raised at
    once.
    """
    pressed = []

    def handler(number, frame):
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    if threading.current_thread() is not threading.main_thread():  # which gets the signals
        yield pressed
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, previous in before.items():
        if previous is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield pressed
    finally:
        for number, previous in before.items():
            signal.signal(number, previous or signal.SIG_DFL)


def _bar(trainer, shown):
    from tqdm.auto import tqdm

    interval = 0.2 if sys.stderr.isatty() or "ipykernel" in sys.modules else 15  # in a notebook stderr is no terminal
    return tqdm(
        total=trainer.total,
        initial=trainer.progress.step,
        unit="step",
        dynamic_ncols=True,
        mininterval=interval,
        disable=not (shown and trainer.group.writes),
    )
