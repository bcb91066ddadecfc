"""What one of several processes does for tests/test_distributed.py; leaves what it found in FOLDER/RANK.npz.

python ranks.py FOLDER            everything, on NumPy arrays
python ranks.py FOLDER ENGINE     a training on the arrays of another engine; gloo sums them, on a GPU too
"""

import pathlib
import sys
import warnings

import numpy as np
import torch

import invnet
from invnet import data, distributed, losses, train
from invnet.ops import get_ops


def images(n=71, size=4):
    """Images whose levels increase along the diagonal, with noise."""
    i, j = np.indices((size, size))
    X = np.clip(i + j + np.random.default_rng(0).integers(0, 9, (n, 1, size, size)), 0, 15).astype(np.uint8)
    return data.split(X, 16, "diagonal")


def net(seed=0):
    return invnet.Chain(invnet.Logit(0.05), invnet.Glow(1, 8, 2, 2, seed=seed))


def sample(dtype="float64"):
    """A Glow whose every gradient counts, and a batch of 7 images."""
    glow = invnet.Glow(2, 4, 2, 2, dtype=dtype)
    X = 2 + np.random.default_rng(0).standard_normal((7, 2, 8, 8)).astype(dtype) * [[[[3.0]], [[0.5]]]]
    glow.initialize(X)
    for parameter in glow.parameters():
        parameter.data += 0.1 * np.random.default_rng(1).standard_normal(parameter.data.shape)
    return glow, X.astype(dtype)


def backward(glow, X):
    Z, logdet = glow.forward(X)
    glow.backward(losses.gaussian_nll(Z, logdet)[1], Z)  # dlogdet=None, -1/N of this rank


RECIPE = dict(epochs=3, batch=17, lr=5e-3, warmup=3, initial=33, ema=0.9)


class Steps(train.Trainer):
    """Notes the loss of each step."""

    def _learn(self, batch, rng):
        before = self.progress.nats
        super()._learn(batch, rng)
        notes.append(self.progress.nats - before)


notes = []


def steps_of(seed=0, engine="numpy"):
    """The losses of all steps, the validations, and the weights at the end."""
    notes.clear()
    trainer = Steps(net(seed).to(engine=engine), images(), train.Recipe(**RECIPE))
    trainer.initialize()
    bits = []
    while not trainer.finished:
        bits.append(trainer.advance())
    return np.array(notes), np.array([b for b in bits if b is not None]), flat(trainer.net)


def flat(module):
    return np.concatenate([get_ops(p.data).to_numpy(p.data).ravel() for p in module.parameters()])


def reduced_gradients(ranks):
    glow, X = sample()
    glow.zero_grad()
    optimizer, mine = invnet.optim.SGD(glow.parameters()), X[ranks.shard(len(X))]
    synchronising = distributed.Reducer(ranks, glow, optimizer, bucket_bytes=500)
    with synchronising(len(mine) / len(X)):
        backward(glow, mine)
    return optimizer.grad, len(synchronising.buckets)


def drifting():
    """A Glow whose backward loses all digits of float32, and a batch of 4 images."""
    glow, X, rng = (
        invnet.Glow(3, 16, 1, 64),
        np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype("float32"),
        np.random.default_rng(1),
    )
    glow.initialize(X)
    for parameter in glow.parameters():
        parameter.data += (0.06 * rng.standard_normal(parameter.data.shape)).astype("float32")
    glow.initialize(X)
    return glow, X


def healed_gradients(ranks):
    """Averages where rank 0 alone meets drift, and where that is off the gradients are summed again; dX too, and what
    drift says.
    """
    glow, X = drifting()
    glow.drift_tolerance = 1e-3 if ranks.rank == 0 else 1e30
    optimizer, mine = invnet.optim.SGD(glow.parameters()), X[ranks.shard(len(X))]
    synchronising = distributed.Reducer(ranks, glow, optimizer, bucket_bytes=50_000)
    Z, _ = glow.forward(mine)
    with warnings.catch_warnings(), synchronising(len(mine) / len(X)):
        warnings.simplefilter("ignore")
        _, rebuilt = glow.backward(Z / len(Z), Z)
    return optimizer.grad, rebuilt, glow.drift.healed


def interrupted(folder, ranks):
    """A training stopped on one rank alone after each step, and taken up again, until it is done."""
    straight, rows = net(), []
    train.fit(straight, images(), progress=False, **RECIPE)
    for steps in range(100):
        one_of_them = 1e-9 if ranks.rank == 1 else 1e9
        stopped = net()
        stopped.layers[1].parameters()[0].data += steps  # but at the start, weights come from the checkpoint
        rows = train.fit(
            stopped,
            images(),
            folder / "run",
            resume=steps > 0,
            max_seconds=one_of_them,
            progress=False,
            **(RECIPE if steps == 0 else {}),
        )
        if rows[-1]["step"] == 9 and (flat(stopped) == flat(straight)).all():
            return steps
    return -1


def other_engine(folder, engine):
    with distributed.joined("gloo") as ranks:
        found = dict(zip(("losses", "validations", "weights"), steps_of(seed=ranks.rank, engine=engine)))
        np.savez(folder / f"{ranks.rank}.npz", **found)


def everything(folder):
    torch.distributed.init_process_group("gloo")  # as Ray Train does it, before joined()
    with distributed.joined() as ranks:
        found = dict(size=ranks.size, threads=invnet.num_threads())
        found["any"] = [ranks.any(ranks.rank == 1), ranks.any(False)]
        with distributed.joined() as again:
            found["again"] = again is ranks
        found["of_first"] = ranks.of_first(f"of {ranks.rank}")
        other = net(seed=ranks.rank)
        ranks.broadcast(other)
        found["broadcast"] = flat(other)
        found["gradients"], found["buckets"] = reduced_gradients(ranks)
        found["healed_gradients"], found["rebuilt"], found["healed"] = healed_gradients(ranks)
        glow, X = sample()
        glow.initialize(X[ranks.shard(len(X))])
        found["initialized"] = flat(glow)
        found["losses"], found["validations"], found["weights"] = steps_of(seed=ranks.rank)
        found["evaluated"] = train.evaluate(net(), images().test[:3], 16, batch=1)  # a rank has nothing of a batch
        found["stops"] = interrupted(folder, ranks)
        np.savez(folder / f"{ranks.rank}.npz", **found)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    folder, *engine = sys.argv[1:]
    other_engine(pathlib.Path(folder), *engine) if engine else everything(pathlib.Path(folder))
