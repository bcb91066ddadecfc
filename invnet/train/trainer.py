"""Trainer: the steps of a training."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from .. import optim, process_group
from ..arguments import check_integers, generator
from ..core import get_ops
from ..data import dequantise
from ..losses import bits_per_dim, gaussian_nll
from ..passes import BackwardPolicy, evaluation
from .metrics import peak_megabytes
from .not_finite import first_in_forward, first_in_gradients

if TYPE_CHECKING:
    from ..core import Layer
    from ..data.images import Images
    from ..typing import Array, Seed
    from .recipe import Recipe

# Randomness is drawn anew from (seed, purpose, step), so that its state is the step alone.
ORDER, NOISE, INITIAL = 1, 2, 3


@dataclasses.dataclass
class Progress:
    """How far a training is: `nats` over `losses` steps and the largest `drift` since the last row of metrics, `stale`
    epochs since the best, `validated` the step of the last validation, `on_guard` that of the network, `skipped_at`
    what was not finite first in the last step that was skipped."""

    step: int = 0
    validated: int = 0
    seconds: float = 0.0
    nats: float = 0.0
    losses: int = 0
    grad_norm: float = 0.0
    best: float = math.inf
    stale: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    drift: float = 0.0
    on_guard: int = 0
    skipped_at: str = ""


def evaluate(net: Layer, images: Array, levels: int, batch: int = 256, seed: Seed = 0) -> float:
    """The mean bits per dimension of integer images (N, C, *spatial), with one draw of the dequantisation.

    Of several processes that train together all call it, and each takes its part of every batch.
    """
    check_integers(batch=batch, levels=levels)
    rng, nats, ranks = generator(seed), np.zeros(1), process_group.current()
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        X = continuous(net, chunk, levels, rng, ranks.shard(len(chunk)))
        if len(X):
            with evaluation():
                nats += gaussian_nll(*net.forward(X))[0] * len(X)
    return bits_per_dim(float(ranks.sum(nats)[0]) / len(images), math.prod(images.shape[1:]), levels)


def continuous(net: Layer, images: Array, levels: int, rng: np.random.Generator, part: object = slice(None)) -> Array:
    """Integer images dequantised, as an array of the network's engine and dtype; or a part of them, with the same
    noise.
    """
    like = next((p.data for p in net.parameters()), np.zeros(0, "float32"))
    return get_ops(like).asarray(dequantise(images, levels, rng)[part], like)


class Trainer:
    """Trains a layer as a flow with a standard normal base.

    Of several processes that train together (`process_group.current()`) each has one, and all have the same state:
    batches and noise are drawn for all of them alike, and each learns from its part of the batch.

    Its state is the weights of `net`, `optimizer`, `ema`, `progress` and `best`, the best validated weights.

    Args:
        net: a Layer.
        images: Images.
        recipe: a Recipe.

    Raises:
        ValueError: there are more processes than images in a batch.
    """

    def __init__(self, net: Layer, images: Images, recipe: Recipe):
        self.net, self.images, self.recipe, self.group = net, images, recipe, process_group.current()
        self.batch = min(recipe.batch, len(images.train))
        if min(self.batch, recipe.initial) < self.group.size:
            raise ValueError(
                f"each of {self.group.size} processes needs an image of every batch; got batch={self.batch}, "
                f"initial={recipe.initial}"
            )
        self.steps_per_epoch = len(images.train) // self.batch
        self.total = recipe.epochs * self.steps_per_epoch
        self.group.broadcast(net)
        self.parameters = net.parameters()
        self.optimizer = recipe.build_optimizer(self.parameters, self.total)
        self.ema = optim.EMA(self.parameters, recipe.ema)
        self.synchronising = self.group.synchronising(net, self.optimizer)
        self.progress, self.best = Progress(), None
        self._order = (None, None)

    @property
    def finished(self) -> bool:
        """All epochs are done, or the patience is at its end."""
        return self.progress.step >= self.total and not self._due or 0 < self.recipe.patience <= self.progress.stale

    @property
    def at_epoch_end(self) -> bool:
        return self.progress.step % self.steps_per_epoch == 0

    @property
    def _due(self):
        """The validation of the epoch that ends here is still to come."""
        return self.at_epoch_end and self.progress.validated < self.progress.step

    def initialize(self) -> None:
        """The data-dependent start."""
        rng = np.random.default_rng((self.recipe.seed, INITIAL))
        first = rng.permutation(len(self.images.train))[: self.recipe.initial]
        part = self.group.shard(len(first))
        self.net.initialize(continuous(self.net, self.images.train[first], self.images.levels, rng, part))
        self.group.broadcast(self.net)  # of layers that initialize from their own rank's images
        self.ema = optim.EMA(self.parameters, self.recipe.ema)

    def advance(self) -> tuple | None:
        """One step, and at the end of an epoch the validation: its bits per dimension, else None.

        Where it raises WorkerLost or FloatingPointError, the state is that between two steps, or that before a
        validation, which then comes next.
        """
        if not self._due:
            self._step()
        return self._validated() if self._due else None

    def _step(self):
        progress = self.progress
        epoch, position = divmod(progress.step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = (
                epoch,
                np.random.default_rng((self.recipe.seed, ORDER, epoch)).permutation(len(self.images.train)),
            )
        chosen = self._order[1][position * self.batch : (position + 1) * self.batch]
        self._learn(self.images.train[chosen], np.random.default_rng((self.recipe.seed, NOISE, progress.step)))
        progress.step += 1
        if progress.skipped_in_a_row >= self.recipe.most_skipped:
            raise FloatingPointError(
                f"loss or gradient was not finite in {progress.skipped_in_a_row} steps in a row, the last of them step "
                f"{progress.step}, "
                f"where it first was in {progress.skipped_at}; try a lower lr (it is {self.recipe.lr}), a longer "
                f"warmup "
                f"({self.recipe.warmup}) or a smaller clip ({self.recipe.clip})"
            )

    def _validated(self):
        progress = self.progress
        bits, weights = self.validate()
        progress.validated = progress.step
        progress.stale += 1
        if bits < progress.best:
            progress.best, progress.stale, self.best = bits, 0, weights
        return bits

    def _learn(self, images, rng):
        progress, part = self.progress, self.group.shard(len(images))
        X = continuous(self.net, images, self.images.levels, rng, part)
        if isinstance(
            self.net, BackwardPolicy
        ):  # what it decides follows from the state of the training, also after it is resumed
            self.net.go_on(progress.step, progress.on_guard)
        Z, logdet = self.net.forward(X)
        loss, dZ, dlogdet = gaussian_nll(Z, logdet)
        share = len(Z) / len(images)
        loss = float(self.group.sum(np.array([loss * share]))[0])
        norm = math.nan
        if math.isfinite(loss):
            with self.synchronising(share):
                self.net.backward(dZ, Z, dlogdet)
            drift = getattr(self.net, "drift", None)
            progress.drift = max(progress.drift, (drift.healed or drift.error or 0.0) if drift else 0.0)
            progress.on_guard = getattr(self.net, "on_guard", 0)
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
            where = first_in_gradients(self.net) if math.isfinite(loss) else first_in_forward(self.net, X)
            progress.skipped_at = where or "the loss"
        self.net.zero_grad()

    def validate(self) -> tuple:
        """Bits per dimension of the averaged weights on the validation part, and these weights."""
        with self.ema.weights():
            return evaluate(self.net, self.images.validation, self.images.levels, self.batch), self.net.state_dict()

    def average(self) -> dict[str, Array]:
        """The averaged weights."""
        with self.ema.weights():
            return self.net.state_dict()

    def recent_bits(self) -> float:
        """Mean training bits per dimension since `forget_recent`; NaN without a step."""
        nats = self.progress.nats / self.progress.losses if self.progress.losses else math.nan
        return bits_per_dim(nats, self.images.dimensions, self.images.levels)

    def forget_recent(self) -> None:
        self.progress.nats, self.progress.losses, self.progress.drift = 0.0, 0, 0.0

    def row(self) -> dict:
        """What metrics say of the present step."""
        progress, optimizer = self.progress, self.optimizer
        return {
            "step": progress.step,
            "epoch": progress.step / self.steps_per_epoch,
            "seconds": round(progress.seconds, 3),
            "train": self.recent_bits(),
            "lr": optimizer.lr(max(0, optimizer.steps - 1)),  # type: ignore[operator]
            "grad_norm": progress.grad_norm,
            "drift": progress.drift,
            "skipped": progress.skipped,
            "skipped_at": progress.skipped_at,
            "peak_mb": round(peak_megabytes(), 1),
        }
