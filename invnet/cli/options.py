"""The options of a model and of a training on the command line, made from the fields of their dataclasses."""

import argparse
import dataclasses
import types
import typing

from ..ops.activations import ACTIVATIONS
from ..train.recipe import OPTIMIZERS
from .presets import PRESETS, STEPS

HELP = {
    "alpha": "margin of the logit that takes pixels from [0, 1] to the line; 0 to 0.5",
    "hidden": "width of the conditioners",
    "levels": "how often H and W are halved; as many as the size allows, at most",
    "steps": "flow steps at each level",
    "coupling": "affine or additive",
    "scale": "of affine couplings: bounded (two-sided), sigmoid (as in Glow) or doubled",
    "bound": "largest scale of bounded couplings",
    "mix": "parametrisation of the 1x1 convolutions: lu, householder or full",
    "prior": "learn the density of the channels that leave at each level",
    "kernels": "kernel sizes of the conditioners, such as 3,1,3",
    "activation": f"of the conditioners: {', '.join(ACTIVATIONS[:-1])} or {ACTIVATIONS[-1]}",
    "dtype": "float32 or float64",
    "epochs": "passes over the training images, at most",
    "batch": "images in a step",
    "optimizer": ", ".join(OPTIMIZERS),
    "lr": "peak learning rate",
    "warmup": "steps of linear growth to it, at most a tenth of all",
    "cosine": "lower the rate along half a cosine to zero at the last step",
    "decay": "factor on the rate at each step after the warm-up",
    "weight_decay": "decoupled weight decay of adam",
    "clip": "largest global norm of the gradients",
    "ema": "decay of the moving average of the weights, which is validated and kept",
    "patience": "epochs without a better validation after which training ends; 0 is never",
    "most_skipped": "steps in a row that are not finite, after which training ends",
    "initial": "images for the data-dependent initialization",
    "seed": "of weights, split, order and noise",
}


#: what None is to a Glow
GLOWS = {"scale": "bounded", "bound": 4.0, "prior": True}


def add_fields(group, options):
    """An option for each field of a dataclass."""
    hints = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        flag = "--" + field.name.replace("_", "-")
        kind = next(
            kind for kind in typing.get_args(hints[field.name]) or (hints[field.name],) if kind is not types.NoneType
        )
        shown = f"{HELP[field.name]} (default: {_default(field)})"
        if kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=shown)
        else:
            kind, metavar = (
                (kernel_sizes, "K,K,K") if kind is tuple else (kind, {int: "N", float: "X", str: "NAME"}[kind])
            )
            group.add_argument(flag, type=kind, default=argparse.SUPPRESS, metavar=metavar, help=shown)


def _default(field):
    value = (
        ",".join(map(str, field.default)) if isinstance(field.default, tuple) else GLOWS.get(field.name, field.default)
    )
    if isinstance(value, bool):
        value = "yes" if value else "no"
    special = [f"{preset[field.name]:g} for {kind}" for kind, preset in PRESETS.items() if field.name in preset]
    if field.name == "epochs":
        return f"{', '.join(special)}, else what makes about {STEPS} steps"
    return ", ".join([*special, f"else {value}"]) if 0 < len(special) < len(PRESETS) else ", ".join(special) or value


def kernel_sizes(text):
    return tuple(int(size) for size in text.split(","))


def positive(text):
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a positive number is required; got {text}")
    return value


def anchors(text):
    return text if text == "auto" else int(text)
