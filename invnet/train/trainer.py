"""Trainer: the steps of a training."""

import dataclasses
import math

import numpy as np

from .. import optim
from ..core import get_ops
from ..data import dequantise
from ..losses import bits_per_dim, gaussian_nll
from .metrics import peak_megabytes

# Randomness is drawn anew from (seed, purpose, step), so that its state is the step alone.
ORDER, NOISE, INITIAL = 1, 2, 3


@dataclasses.dataclass
class Progress:
    """How far a training is: `nats` over `losses` steps since the last row of metrics, `stale` epochs since the best."""

    step: int = 0
    seconds: float = 0.0
    nats: float = 0.0
    losses: int = 0
    grad_norm: float = 0.0
    best: float = math.inf
    stale: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0


def evaluate(net, images, levels, batch=256, seed=0):
    """The mean bits per dimension of integer images (N, C, *spatial), with one draw of the dequantisation."""
    rng, nats = np.random.default_rng(seed), 0.0
    for start in range(0, len(images), batch):
        Z, logdet = net.forward(continuous(net, images[start:start + batch], levels, rng))
        nats += gaussian_nll(Z, logdet)[0] * len(Z)
    return bits_per_dim(nats / len(images), math.prod(images.shape[1:]), levels)


def continuous(net, images, levels, rng):
    """Integer images dequantised, as an array of the network's engine and dtype."""
    like = next((p.data for p in net.parameters()), np.zeros(0, "float32"))
    return get_ops(like).asarray(dequantise(images, levels, rng), like)


class Trainer:
    """Trains a layer as a flow with a standard normal base.

    Its state is the weights of `net`, `optimizer`, `ema`, `progress` and `best`, the best validated weights.

    Args:
        net: a Layer.
        images: Images.
        recipe: a Recipe.
    """

    MOST_SKIPPED_IN_A_ROW = 10

    def __init__(self, net, images, recipe):
        self.net, self.images, self.recipe = net, images, recipe
        self.batch = min(recipe.batch, len(images.train))
        self.steps_per_epoch = len(images.train) // self.batch
        self.total = recipe.epochs * self.steps_per_epoch
        self.parameters = net.parameters()
        self.optimizer = recipe.build_optimizer(self.parameters, self.total)
        self.ema = optim.EMA(self.parameters, recipe.ema)
        self.progress, self.best = Progress(), None
        self._order = (None, None)

    @property
    def finished(self):
        """All epochs are done, or the patience is at its end."""
        return self.progress.step >= self.total or 0 < self.recipe.patience <= self.progress.stale

    @property
    def at_epoch_end(self):
        return self.progress.step % self.steps_per_epoch == 0

    def initialize(self):
        """The data-dependent start."""
        rng = np.random.default_rng((self.recipe.seed, INITIAL))
        first = rng.permutation(len(self.images.train))[:self.recipe.initial]
        self.net.initialize(continuous(self.net, self.images.train[first], self.images.levels, rng))
        self.ema = optim.EMA(self.parameters, self.recipe.ema)

    def advance(self):
        """One step, and at the end of an epoch the validation: its bits per dimension, else None."""
        progress = self.progress
        epoch, position = divmod(progress.step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng((self.recipe.seed, ORDER, epoch)).permutation(len(self.images.train))
        chosen = self._order[1][position * self.batch:(position + 1) * self.batch]
        self._learn(self.images.train[chosen], np.random.default_rng((self.recipe.seed, NOISE, progress.step)))
        progress.step += 1
        if not self.at_epoch_end:
            return None
        bits, weights = self.validate()
        progress.stale += 1
        if bits < progress.best:
            progress.best, progress.stale, self.best = bits, 0, weights
        return bits

    def _learn(self, images, rng):
        progress = self.progress
        Z, logdet = self.net.forward(continuous(self.net, images, self.images.levels, rng))
        loss, dZ, dlogdet = gaussian_nll(Z, logdet)
        norm = math.nan
        if math.isfinite(loss):
            self.net.backward(dZ, Z, dlogdet)
            norm = optim.clip_by_global_norm(self.parameters, self.recipe.clip)
        if math.isfinite(norm):
            self.optimizer.step()
            self.ema.update()
            progress.nats += loss
            progress.losses += 1
            progress.grad_norm, progress.skipped_in_a_row = norm, 0
        else:
            progress.skipped += 1
            progress.skipped_in_a_row += 1
        self.net.zero_grad()
        if progress.skipped_in_a_row == self.MOST_SKIPPED_IN_A_ROW:
            raise FloatingPointError(
                f"loss or gradient was not finite in {progress.skipped_in_a_row} steps in a row, the last of them step "
                f"{progress.step + 1}; try a lower lr (it is {self.recipe.lr}), a longer warmup ({self.recipe.warmup}) or a "
                f"smaller clip ({self.recipe.clip})")

    def validate(self):
        """Bits per dimension of the averaged weights on the validation part, and these weights."""
        with self.ema.weights():
            return evaluate(self.net, self.images.validation, self.images.levels, self.batch), self.net.state_dict()

    def average(self):
        """The averaged weights."""
        with self.ema.weights():
            return self.net.state_dict()

    def recent_bits(self):
        """Mean training bits per dimension since `forget_recent`; NaN without a step."""
        nats = self.progress.nats / self.progress.losses if self.progress.losses else math.nan
        return bits_per_dim(nats, self.images.dimensions, self.images.levels)

    def forget_recent(self):
        self.progress.nats, self.progress.losses = 0.0, 0

    def row(self):
        """What metrics say of the present step."""
        progress, optimizer = self.progress, self.optimizer
        return {
            "step": progress.step,
            "epoch": progress.step / self.steps_per_epoch,
            "seconds": round(progress.seconds, 3),
            "train": self.recent_bits(),
            "lr": optimizer.lr(max(0, optimizer.steps - 1)),
            "grad_norm": progress.grad_norm,
            "skipped": progress.skipped,
            "peak_mb": round(peak_megabytes(), 1),
        }
