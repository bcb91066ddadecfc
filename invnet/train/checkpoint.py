"""Checkpoints: a model for `invnet.load`, and the whole state of its training beside it."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from .. import io
from ..architecture import completed, describe
from .trainer import Progress

if TYPE_CHECKING:
    from typing import Any

    from ..typing import Array
    from .trainer import Trainer

PARTS = ("net", "optimizer", "ema", "best")


def save(trainer: Trainer, path: Any, weights: Array | None = None, notes: dict | None = None) -> None:
    """Writes the model under its own names, and under training/ all that `restore` needs.

    Randomness needs no place in it: it is drawn from the seed and the step.

    Args:
        trainer: a Trainer.
        path: of the file, replaced atomically.
        weights: of the model; None is the best validated, or the present averages before the first validation.
        notes: JSON values to keep with it.
    """
    if weights is None:
        weights = trainer.best or trainer.average()
    parts = {
        "net": trainer.net.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "ema": trainer.ema.state_dict(),
        "best": trainer.best or {},
    }
    state = {f"training/{part}/{name}": array for part in PARTS for name, array in parts[part].items()}
    training = {
        "recipe": dataclasses.asdict(trainer.recipe),
        "progress": dataclasses.asdict(trainer.progress),
        "fingerprint": trainer.images.fingerprint,
    }
    text = {"architecture": io.architecture(trainer.net), "training": training, "notes": notes or {}}
    io.write(path, {**weights, **state}, text)


def recipe_of(path: Any) -> dict:
    """The options of the Recipe that a checkpoint was trained with."""
    return _training(*io.read(path), path)["recipe"]


def restore(trainer: Trainer, path: Any) -> None:
    """Brings a Trainer to the state in which `save` wrote it.

    The epochs of its recipe may be others than those of the file, but no fewer than are done.

    Raises:
        ValueError: the file is no checkpoint, or one of another recipe, architecture or data.
    """
    arrays, text = io.read(path)
    training = _training(arrays, text, path)
    began, now = training["recipe"], dataclasses.asdict(trainer.recipe)
    changed = [
        f"{name}={began[name]!r}, now {value!r}"
        for name, value in now.items()
        if name != "epochs" and began.get(name, value) != value
    ]
    if changed:
        raise ValueError(f"a training goes on with the options it began with; {path} has {'; '.join(changed)}")
    if completed(text["architecture"]) != json.loads(json.dumps(describe(trainer.net))):
        raise ValueError(f"{path} is a training of another architecture than the network given")
    if training["fingerprint"] != trainer.images.fingerprint:
        raise ValueError(
            f"{path} was trained on other data than {trainer.images!r}: the images, their levels or the split differ"
        )
    progress = Progress(**training["progress"])
    if trainer.total < progress.step:
        done = -(-progress.step // trainer.steps_per_epoch)
        raise ValueError(
            f"{path} has trained into epoch {done} and goes on to that or a later one; got "
            f"epochs={trainer.recipe.epochs}"
        )
    parts: dict[str, dict] = {part: {} for part in PARTS}
    for name, array in arrays.items():
        if name.startswith("training/"):
            _, part, rest = name.split("/")
            parts[part][rest] = array
    trainer.net.load_state_dict(parts["net"])
    trainer.optimizer.load_state_dict(parts["optimizer"])
    trainer.ema.load_state_dict(parts["ema"])
    trainer.best = parts["best"] or None  # type: ignore[assignment]
    trainer.progress = progress


def _training(arrays, text, path):
    """What the file says of a training, which has all that `restore` reads."""
    if "training" not in text:
        raise ValueError(f"{path} holds a model but no training that could go on")
    training, progress = text["training"], {field.name for field in dataclasses.fields(Progress)}
    kinds = {"recipe": dict, "progress": dict, "fingerprint": object}
    if not isinstance(training, dict) or any(not isinstance(training.get(name), kind) for name, kind in kinds.items()):
        raise ValueError(
            f"{path} holds no training: it has recipe, progress and fingerprint; got {str(training)[:200]}"
        )
    if not training["progress"].keys() <= progress:
        raise ValueError(
            f"{path} holds no training: its progress has {sorted(progress)}; got {sorted(training['progress'])}"
        )
    foreign = [
        name
        for name in arrays
        if "/" in name and (name.count("/") != 2 or not name.startswith(tuple(f"training/{part}/" for part in PARTS)))
    ]
    if foreign:
        raise ValueError(
            f"{path} holds no training: its arrays are training/<{', '.join(PARTS)}>/<name>; got {foreign[0]}"
        )
    return training
