"""Checkpoints: a model for `invnet.load`, and the whole state of its training beside it."""

import dataclasses
import json

from .. import io

PARTS = ("net", "optimizer", "ema", "best")


def save(trainer, path, weights=None, notes=None):
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
    parts = {"net": trainer.net.state_dict(), "optimizer": trainer.optimizer.state_dict(), "ema": trainer.ema.state_dict(),
             "best": trainer.best or {}}
    state = {f"training/{part}/{name}": array for part in PARTS for name, array in parts[part].items()}
    training = {
        "recipe": dataclasses.asdict(trainer.recipe),
        "progress": dataclasses.asdict(trainer.progress),
        "fingerprint": trainer.images.fingerprint,
    }
    text = {"architecture": io.describe(trainer.net), "training": training, "notes": notes or {}}
    io.write(path, {**weights, **state}, text)


def recipe_of(path):
    """The options of the Recipe that a checkpoint was trained with."""
    return _training(io.read(path)[1], path)["recipe"]


def restore(trainer, path):
    """Brings a Trainer to the state in which `save` wrote it.

    Raises:
        ValueError: the file is no checkpoint, or one of another recipe, architecture or data.
    """
    arrays, text = io.read(path)
    training = _training(text, path)
    began, now = training["recipe"], dataclasses.asdict(trainer.recipe)
    changed = [f"{name}={began.get(name)!r}, now {value!r}" for name, value in now.items() if began.get(name) != value]
    if changed:
        raise ValueError(f"a training goes on with the options it began with; {path} has {'; '.join(changed)}")
    if text["architecture"] != json.loads(json.dumps(io.describe(trainer.net))):
        raise ValueError(f"{path} is a training of another architecture than the network given")
    if training["fingerprint"] != trainer.images.fingerprint:
        raise ValueError(f"{path} was trained on other data than {trainer.images!r}: the images, their levels or the split "
                         "differ")
    parts = {part: {} for part in PARTS}
    for name, array in arrays.items():
        if name.startswith("training/"):
            _, part, rest = name.split("/")
            parts[part][rest] = array
    trainer.net.load_state_dict(parts["net"])
    trainer.optimizer.load_state_dict(parts["optimizer"])
    trainer.ema.load_state_dict(parts["ema"])
    trainer.best = parts["best"] or None
    trainer.progress = type(trainer.progress)(**training["progress"])


def _training(text, path):
    if "training" not in text:
        raise ValueError(f"{path} holds a model but no training that could go on")
    return text["training"]
