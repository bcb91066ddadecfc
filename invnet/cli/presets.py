"""Presets: the models and trainings that the command line chooses where nothing else is said."""

import dataclasses
import math

from ..layers import Chain, Logit
from ..models import Glow
from ..train.recipe import Recipe

#: steps of a default training: three epochs of 55,000 images, about four minutes on two cores where they are 28x28
STEPS = 2600

#: by kind of data: what of a model and of a training differs from the defaults below
PRESETS = {
    "digits": {"alpha": 1e-4, "steps": 12, "lr": 8e-3, "weight_decay": 0.5, "epochs": 60},
    "grey": {"alpha": 1e-5, "lr": 8e-3},
    "colour": {"alpha": 0.05, "lr": 4e-3, "levels": 3},
}


@dataclasses.dataclass(frozen=True)
class Model:
    """The options of Chain(Logit(alpha), Glow(...)), see there; None is Glow's default.

    Raises:
        ValueError: the dtype is unknown; `build` checks the others.
    """

    alpha: float = 0.05
    hidden: int = 64
    levels: int = 2
    steps: int = 4
    coupling: str = "affine"
    scale: str | None = None
    bound: float | None = None
    mix: str = "lu"
    prior: bool | None = None
    kernels: tuple = (3, 1, 3)
    activation: str = "relu"
    dtype: str = "float32"

    def __post_init__(self):
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype is float32 or float64; got {self.dtype!r}")

    def build(self, shape, seed):
        """The network for images of `shape` (C, H, W).

        Raises:
            ValueError: an option is out of its range, or H or W not divisible by 2 ** levels.
        """
        options = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        alpha = options.pop("alpha")
        if any(size % 2**self.levels for size in shape[1:]):
            raise ValueError(
                f"levels={self.levels} halves H and W as many times, so both must be divisible by "
                f"{2**self.levels}; the images are {shape[1]}x{shape[2]}"
            )
        return Chain(Logit(alpha), Glow(shape[0], seed=seed, **options))


def kind_of(source, images):
    """ "digits", "grey" or "colour"."""
    return "digits" if source == "digits" else "grey" if images.shape[0] == 1 else "colour"


def defaults(kind, images, given):
    """The preset of the kind, with as many levels as the images' size allows and as many epochs as make STEPS steps.

    Args:
        given: options by name; what one of them rules out is left out of the preset.
    """
    batch = given.get("batch", Recipe.batch)
    height_width = math.gcd(*images.shape[1:])
    if height_width % 2:
        raise ValueError(
            "a multiscale Glow halves H and W, which must be even; "
            f"the images are {images.shape[1]}x{images.shape[2]}: crop or pad them"
        )
    preset = {"levels": Model.levels, "epochs": max(1, round(STEPS * batch / len(images.train))), **PRESETS[kind]}
    while height_width % 2 ** preset["levels"]:
        preset["levels"] -= 1
    if given.get("optimizer", "adam") != "adam":
        preset.pop("weight_decay", None)
    return preset
