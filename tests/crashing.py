"""A training that is killed at random moments and goes on, again and again: what tests/test_crashes.py starts.

    python crashing.py folder kills seed

Children are forked from this process, in which everything is imported and compiled, and so are at work at once. Each
goes on with the training in a folder until it is killed; a training that ends is compared with one that was never
stopped.
"""

import os
import pathlib
import random
import signal
import sys
import time

from test_train import TINY, other_net, same, tiny_images, tiny_net, without_clocks

import invnet
from invnet.train import CHECKPOINT, METRICS, fit, fitting
from invnet.train.metrics import read_metrics


def train(folder):
    """Goes on where the checkpoint is, or begins; writes a checkpoint after every step."""
    fitting.SECONDS_BETWEEN_SAVES = 0
    begun = (folder / CHECKPOINT).exists()
    fit(
        other_net() if begun else tiny_net(),
        tiny_images(),
        folder,
        resume=begun,
        progress=False,
        **({} if begun else TINY),
    )


def child(folder, delay):
    """Trains in a forked process, which is killed after `delay` seconds (never: None); whether it came to its end
    before.
    """
    pid = os.fork()
    if not pid:
        try:
            train(folder)
            os._exit(0)
        finally:
            os._exit(1)
    if delay is not None:
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0, f"the training in {folder} failed"
    return True


def main(folder, kills, seed):
    chance, killed, ended, steps, left = random.Random(seed), 0, 0, set(), 0
    train(folder / "warm")
    began = time.monotonic()
    assert child(folder / "straight", None)
    whole = longest = time.monotonic() - began
    straight, rows = (
        invnet.io.read(folder / "straight" / CHECKPOINT),
        without_clocks(read_metrics(folder / "straight" / METRICS)),
    )
    while killed < kills or not ended:
        run = folder / f"killed-{ended}"
        if child(run, chance.uniform(0, longest)):
            arrays, _ = invnet.io.read(run / CHECKPOINT)
            assert same(arrays, straight[0]), "a training that was killed and resumed ended with other bits"
            assert without_clocks(read_metrics(run / METRICS)) == rows, "its metrics are others"
            assert sorted(file.name for file in run.iterdir()) == [CHECKPOINT, METRICS], "a kill left a file behind"
            ended, longest = ended + 1, whole
            continue
        killed, longest = killed + 1, 1.1 * longest  # so that one ends at last, however busy the machine has become
        if run.exists():
            left += sum(file.name.endswith(".tmp") for file in run.iterdir())
        if (run / CHECKPOINT).exists():
            _, text = invnet.io.read(run / CHECKPOINT)
            steps.add(text["training"]["progress"]["step"])
            invnet.load(run / CHECKPOINT)
    print(
        f"{killed} kills, {left} temporary files seen after them, checkpoints of {len(steps)} different steps, {ended} "
        f"trainings ended with the same bits"
    )


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
