"""Crashes: after a kill, a full disk or a read-only folder the last checkpoint is whole, and a training goes on with
the same bits.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from test_io import architecture, described, rewritten
from test_train import TINY, sometimes, tiny_images, tiny_net

import invnet
from invnet import io
from invnet.train import CHECKPOINT, Recipe, Trainer, fit

pytestmark = pytest.mark.own_seeds  # which the processes that it starts have too

HERE = pathlib.Path(__file__).parent
NIGHTLY = [pytest.mark.nightly, pytest.mark.slow]


def python(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("kills", [5, pytest.param(200, marks=NIGHTLY)])
def test_a_training_killed_at_random_moments_goes_on_with_the_same_bits(tmp_path, kills):
    told = python(HERE / "crashing.py", tmp_path, kills, kills)
    killed, ended = map(int, re.match(r"(\d+) kills, .* (\d+) trainings ended with the same bits", told).groups())
    assert killed >= kills and ended >= 1  # on a busy machine it takes more kills until a training ends


def test_what_a_killed_write_left_goes_with_the_next_one_but_not_what_is_being_written(tmp_path):
    path = tmp_path / "file"
    script = """
        import os, signal, sys
        from invnet import io
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        io.write(sys.argv[1], {}, {})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)])
    assert done.returncode == -9 and len(list(tmp_path.iterdir())) == 1
    (left,) = tmp_path.iterdir()
    alive = left.with_name(left.name.replace(left.name.split(".")[-3], str(os.getppid())))
    alive.touch()
    io.write(path, {}, {})
    assert sorted(tmp_path.iterdir()) == sorted([alive, path])


def test_a_full_disk_gives_an_error_that_names_the_file_and_the_old_checkpoint_goes_on(tmp_path):
    fit(tiny_net(), tiny_images(), tmp_path, max_seconds=1e-9, progress=False, **TINY)
    before = (tmp_path / CHECKPOINT).read_bytes()
    said = python(
        "-c",
        textwrap.dedent(f"""
        import pathlib, resource, signal, sys
        from invnet.train import fit
        from test_train import tiny_images, tiny_net
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2}, {len(before) // 2}))
        try:
            fit(tiny_net(), tiny_images(), sys.argv[1], resume=True, progress=False)
        except OSError as error:
            print(error)
    """),
        tmp_path,
    )
    assert f"{CHECKPOINT} cannot be written: File too large; the file of that name is as it was before" in said
    assert (tmp_path / CHECKPOINT).read_bytes() == before and not list(tmp_path.glob(".*"))
    assert fit(tiny_net(), tiny_images(), tmp_path, resume=True, progress=False)[-1]["epoch"] == TINY["epochs"]


def test_a_read_only_folder_gives_an_error_that_names_the_file_and_the_old_one_stays(tmp_path, tmp_path_factory):
    invnet.save(tiny_net(), tmp_path / "net")
    (tmp_path / "net").chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        said = python(
            "-c",
            textwrap.dedent("""
            import os, sys
            import invnet, test_train
            os.chdir(sys.argv[1])
            invnet.save(test_train.tiny_net(), sys.argv[2])  # imports what is imported late
            if os.geteuid() == 0:  # whom no permission stops
                os.setresuid(65534, 65534, 65534)
            try:
                invnet.save(test_train.tiny_net(), "net")
            except OSError as error:
                print(error)
        """),
            tmp_path,
            tmp_path_factory.mktemp("elsewhere") / "net",
        )
    finally:
        tmp_path.chmod(0o755)
    assert "net cannot be written: Permission denied; the file of that name is as it was before" in said
    invnet.load(tmp_path / "net")


# Files made on purpose


def nested(depth):
    return rewritten(lambda metadata: metadata.update(architecture="[" * depth + "]" * depth))


MALICIOUS = {
    "nested beyond any model": (nested(100_000), "damaged|no model"),
    "arguments that are no names": (
        architecture({"class": "invnet.layers.actnorm.ActNorm", "arguments": [2], "repeated": None}),
        "has class, a text, and arguments by name",
    ),
    "class that is no name": (
        architecture({"class": ["x"], "arguments": {}, "repeated": None}),
        "has class, a text, and arguments by name",
    ),
    "an argument of another kind": (
        architecture(described("invnet.ActNorm", channels="2", floor=1e-4, dtype="float32")),
        "ActNorm",
    ),
    "more channels than any memory": (
        architecture(described("invnet.ActNorm", channels=10**18, floor=1e-4, dtype="float32")),
        "architecture says",
    ),
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_file_made_to_break_the_reader_is_refused_with_the_reason(tmp_path, name):
    make, message = MALICIOUS[name]
    make(tmp_path / "net")
    with pytest.raises(ValueError, match=message):
        invnet.load(tmp_path / "net")


def checkpoint_with(path, change):
    """A checkpoint whose account of its training was changed, with a checksum that fits."""
    fit(tiny_net(), tiny_images(), path.parent, max_seconds=1e-9, progress=False, **TINY)
    arrays, text = io.read(path)
    change(arrays, text["training"])
    io.write(path, arrays, text)


BAD_TRAININGS = {
    "no recipe": (lambda arrays, training: training.pop("recipe"), "recipe"),
    "a recipe that is no recipe": (lambda arrays, training: training.update(recipe=3), "recipe"),
    "an option that is unknown": (lambda arrays, training: training["recipe"].update(colour=1), "colour"),
    "progress that is none": (lambda arrays, training: training.update(progress={"steps": 3}), "progress"),
    "an array of no part": (
        lambda arrays, training: arrays.update({"training/other/x": np.zeros(2)}),
        "training/other/x",
    ),
    "an array that is missing": (lambda arrays, training: arrays.pop("training/optimizer/m"), "m"),
    "an average of another shape": (
        lambda arrays, training: arrays.update({"training/optimizer/m": np.zeros(2)}),
        r"\(2,\)",
    ),
}


@pytest.mark.parametrize("name", BAD_TRAININGS)
def test_a_checkpoint_whose_training_makes_no_sense_is_refused_with_the_reason(tmp_path, name):
    change, message = BAD_TRAININGS[name]
    checkpoint_with(tmp_path / CHECKPOINT, change)
    with pytest.raises((ValueError, TypeError), match=message):
        fit(tiny_net(), tiny_images(), tmp_path, resume=True, progress=False)


def test_every_cut_and_every_flipped_bit_of_a_checkpoint_is_seen(tmp_path):
    path, rng = tmp_path / CHECKPOINT, np.random.default_rng(0)
    fit(tiny_net(), tiny_images(), tmp_path, max_seconds=1e-9, progress=False, **TINY)
    whole = path.read_bytes()
    for at in rng.integers(0, len(whole), 100).tolist():
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(rng.integers(8))
        for damaged in (whole[:at], bytes(flipped)):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match="damaged|not written by invnet"):
                io.read(path)


# Steps that are not finite


def started(net):
    trainer = Trainer(net, tiny_images(), Recipe(**TINY))
    trainer.initialize()
    trainer.advance()
    return trainer


def glow():
    return invnet.Chain(invnet.Logit(0.05), invnet.Glow(1, 4, 2, 2))


@pytest.mark.parametrize(
    "layer",
    ["layers.1.layers.1", "layers.1.layers.4", "layers.1.layers.7.inner.layers.1", "layers.1.layers.7.inner.layers.4"],
)
def test_the_first_layer_that_is_not_finite_is_named(layer):
    trainer = started(glow())
    parameters = dict(trainer.net.named_parameters())
    assert type(reached(trainer.net, layer)) is invnet.ActNorm
    parameters[f"{layer}.log_s"].data[...] = 500.0  # finite, but not its exponential
    trainer.advance()
    assert trainer.progress.skipped == 1 and trainer.progress.skipped_at == f"{layer} (ActNorm)"


def test_a_learned_prior_that_is_not_finite_is_named():
    trainer = started(glow())
    trainer.net.layers[1].layers[7].prior.net.b[-1].data[...] = 3e38
    trainer.advance()
    assert trainer.progress.skipped_at == "layers.1.layers.7.prior (AffineCoupling)"


def reached(net, name):
    for part in name.split("."):
        net = net[int(part)] if part.isdecimal() else getattr(net, part)
    return net


def test_a_parameter_that_is_not_finite_is_named():
    trainer = started(glow())
    name, parameter = list(trainer.net.named_parameters())[3]
    parameter.data[...] = np.nan
    trainer.advance()
    assert trainer.progress.skipped_at == f"the parameter {name}"


class InfiniteBack(invnet.ActNorm):
    """A layer whose gradient is infinite, and not its output."""

    def backward_(self, dZ, Z, dlogdet, cond=None):
        dX, X = super().backward_(dZ, Z, dlogdet, cond)
        return dX * np.inf, X


def test_the_first_gradient_that_is_not_finite_is_named():
    net = invnet.Chain(
        invnet.Logit(0.05),
        invnet.ActNorm(1),
        invnet.LeakyReLU(0.5),
        invnet.ActNorm(1),
        invnet.LeakyReLU(0.5),
        InfiniteBack(1),
    )
    trainer = started(net)
    assert (
        trainer.progress.skipped_at == "the gradient of layers.3.b"
    )  # the first below the layer, which has the wrong dX


def test_after_most_skipped_in_a_row_training_stops_with_a_checkpoint_that_names_where(tmp_path):
    with pytest.raises(
        FloatingPointError,
        match=f"3 steps in a row.*step 6, where it first was in .*{CHECKPOINT} is saved as of step 6",
    ):
        fit(sometimes(lambda call: 4 <= call), tiny_images(), tmp_path, progress=False, **{**TINY, "most_skipped": 3})
    progress = io.read(tmp_path / CHECKPOINT)[1]["training"]["progress"]
    assert progress["skipped"] == progress["skipped_in_a_row"] == 3 and progress["skipped_at"] == "the loss"
    assert json.loads(json.dumps(progress)) == progress and invnet.load(tmp_path / CHECKPOINT)
