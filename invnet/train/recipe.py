"""Recipe: how to train, in steps and epochs."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from .. import optim
from ..arguments import check_flags, check_integers, check_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..core import Parameter

OPTIMIZERS = {"adam": optim.Adam, "adamax": optim.Adamax, "rmsprop": optim.RMSprop, "sgd": optim.SGD}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a training, so nothing in seconds.

    Args:
        epochs: the most passes over the training part; the cosine ends there.
        batch: images in a step.
        optimizer: "adam", "adamax", "rmsprop" or "sgd" (with momentum 0.9).
        lr: the peak learning rate.
        warmup: steps of linear growth to it, at most a tenth of all.
        cosine: lower the rate along half a cosine to zero at the last step.
        decay: factor on the rate at each step after the warm-up, from 0 to 1.
        weight_decay: of Adam, decoupled from the gradient.
        clip: the largest global norm of the gradients.
        ema: decay of the moving average of the weights, which is what is validated and kept; 0 is the weights
            themselves.
        patience: epochs without a better validation after which training ends; 0 is never.
        most_skipped: steps in a row whose loss or gradient is not finite, which are skipped, after which training ends.
        initial: images for the data-dependent initialization.
        seed: of the order of the images and of the dequantisation.

    Raises:
        ValueError: an option is out of its range.
    """

    epochs: int = 50
    batch: int = 64
    optimizer: str = "adam"
    lr: float = 2e-3
    warmup: int = 100
    cosine: bool = True
    decay: float = 1.0
    weight_decay: float = 0.0
    clip: float = 100.0
    ema: float = 0.999
    patience: int = 10
    most_skipped: int = 10
    initial: int = 512
    seed: int = 0

    def __post_init__(self):
        def require(condition, name, what):
            if not condition:
                raise ValueError(f"{name} is {what}; got {getattr(self, name)!r}")

        check_integers(
            **{
                name: getattr(self, name)
                for name in ("epochs", "batch", "warmup", "patience", "most_skipped", "initial", "seed")
            }
        )
        check_numbers(**{name: getattr(self, name) for name in ("lr", "clip", "decay", "ema", "weight_decay")})
        check_flags(cosine=self.cosine)
        for name in ("epochs", "batch", "most_skipped", "initial"):
            require(getattr(self, name) >= 1, name, "a number from 1")
        for name in ("warmup", "patience", "seed"):
            require(getattr(self, name) >= 0, name, "a number from 0")
        for name in ("lr", "clip"):
            require(0 < getattr(self, name) < math.inf, name, "a positive number")
        require(
            isinstance(self.optimizer, str) and self.optimizer in OPTIMIZERS,
            "optimizer",
            f"one of {', '.join(OPTIMIZERS)}",
        )
        require(0 < self.decay <= 1, "decay", "above 0 and at most 1")
        require(0 <= self.ema < 1, "ema", "at least 0 and below 1")
        require(self.weight_decay >= 0, "weight_decay", "a number from 0")
        other = self.weight_decay and self.optimizer != "adam"
        require(not other, "weight_decay", f"for adam only, and 0 with {self.optimizer}")

    def build_optimizer(self, parameters: Iterable[Parameter], steps: int) -> optim.Optimizer:
        """The optimizer, for a training of at most `steps` steps."""
        options = {"adam": {"weight_decay": self.weight_decay}, "sgd": {"momentum": 0.9}}.get(self.optimizer, {})
        return OPTIMIZERS[self.optimizer](parameters, self.rate(steps), **options)

    def rate(self, steps: int) -> Callable[[int], float]:
        """The learning rate as a function of the step, in a training of at most `steps` steps."""
        return optim.schedule(self.lr, min(self.warmup, steps // 10), self.decay, steps if self.cosine else None)


def recipe_from(options: dict) -> Recipe:
    """The Recipe of these options.

    Raises:
        TypeError: an option is unknown.
    """
    names = [field.name for field in dataclasses.fields(Recipe)]
    unknown = sorted(options.keys() - set(names))
    if unknown:
        raise TypeError(f"the options of a training are {', '.join(names)}; got {', '.join(unknown)}")
    return Recipe(**options)
