"""Training: fit a flow to images, with checkpoints that a later run goes on from with the same bits."""

from .fitting import CHECKPOINT, METRICS, Interrupted, fit
from .recipe import Recipe
from .trainer import Trainer, evaluate

__all__ = ["CHECKPOINT", "METRICS", "Interrupted", "Recipe", "Trainer", "evaluate", "fit"]
