"""Training: what it learns, what it keeps, and that it goes on with the same bits."""

import json
import math
import signal
import sys
import threading
import types

import numpy as np
import pytest

import invnet
from invnet import data, losses
from invnet.train import CHECKPOINT, METRICS, Interrupted, Recipe, Trainer, checkpoint, evaluate, fit
from invnet.train.metrics import Metrics, read_metrics

TINY = dict(epochs=6, batch=16, lr=5e-3, warmup=5, initial=32, ema=0.9)


def tiny_net():
    return invnet.Chain(invnet.Logit(0.05), invnet.Glow(1, 4, 1, 2))


def other_net():
    """The same architecture with other weights."""
    net = tiny_net()
    for p in net.parameters():
        p.data += 0.1
    return net


def tiny_images(N=90, size=4):
    """Grey images whose pixels share one brightness, so that there is something to learn."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 13, (N, 1, 1, 1)) + rng.integers(0, 4, (N, 1, size, size))
    return data.split(grey.astype(np.uint8), 16, "tiny")


def fitted(net=None, **options):
    net = net or tiny_net()
    return net, fit(net, tiny_images(), **{"progress": False, **TINY, **options})


def same(a, b):
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def without_clocks(rows):
    return [{k: v for k, v in row.items() if k not in ("seconds", "peak_mb")} for row in rows]


# What it learns


def test_training_lowers_bits_per_dimension_below_independent_histograms():
    net, rows = fitted(epochs=20)
    images = tiny_images()
    assert evaluate(net, images.test, 16) < data.independent_histograms(images) - 0.2
    assert rows[-1]["best"] < rows[0]["validation"]


def test_the_network_ends_with_the_best_validated_weights():
    net, rows = fitted(lr=0.05, epochs=15, patience=0, cosine=False)
    validations = [row["validation"] for row in rows]
    assert min(validations) < validations[-1], "the test needs a training that overshoots"
    assert evaluate(net, tiny_images().validation, 16, 16) == min(validations) == rows[-1]["best"]


def test_rows_have_the_largest_drift_since_the_row_before(monkeypatch):
    drifts = iter(range(1, 1000))
    monkeypatch.setattr(
        invnet.passes.drift.Drift,
        "error",
        property(lambda self: next(drifts) if self.states else pytest.fail("not measured")),
    )
    net = tiny_net()
    net.drift_tolerance = None  # reads `error` too
    net.anchors = 1
    _, rows = fitted(net, epochs=3)
    assert [row["drift"] for row in rows] == [row["step"] for row in rows]
    net = tiny_net()
    net.drift_tolerance = None
    assert [row["drift"] for row in fitted(net, epochs=3)[1]] == [0.0] * 3


def test_states_in_double_precision_and_strict_hold_in_a_training():
    def guarded(**settings):
        net = tiny_net()
        for name, value in settings.items():
            setattr(net, name, value)
        return fitted(net, epochs=3)

    (_, plain), (_, strict), (net, double) = guarded(), guarded(anchors=1), guarded(state_dtype="float64")
    assert 1e-8 < plain[-1]["drift"] < 1e-4
    assert net.dtype == np.float32 and double[-1]["drift"] < 1e-3 * plain[-1]["drift"]
    for row, other in zip(plain, double, strict=True):
        assert row["validation"] == pytest.approx(other["validation"], abs=1e-3)
    _, redone = guarded(strict=0.0)
    assert [row["validation"] for row in redone] == [row["validation"] for row in strict]  # the bits of stored states


def test_training_stops_when_the_validation_has_not_improved_for_its_patience():
    _, rows = fitted(lr=0.05, epochs=50, patience=3, cosine=False)
    validations = [row["validation"] for row in rows]
    assert len(rows) < 50 and int(np.argmin(validations)) == len(rows) - 4


def test_the_validated_weights_are_the_average():
    trainer = Trainer(tiny_net(), tiny_images(), Recipe(**TINY))
    trainer.initialize()
    for _ in range(3):
        trainer.advance()
    bits, weights = trainer.validate()
    assert evaluate(trainer.net, trainer.images.validation, 16, trainer.batch) != bits
    trainer.net.load_state_dict(weights)
    assert evaluate(trainer.net, trainer.images.validation, 16, trainer.batch) == bits
    assert all((p.data == average).all() for p, average in zip(trainer.parameters, trainer.ema.average))


def test_each_epoch_sees_each_image_once_in_a_new_order():
    images = tiny_images()
    trainer, seen = Trainer(tiny_net(), images, Recipe(**{**TINY, "batch": 8})), []
    trainer._learn = lambda batch, rng: seen.append(batch)
    for _ in range(2 * trainer.steps_per_epoch):
        trainer.advance()
    first, second = (np.concatenate(part) for part in (seen[: len(seen) // 2], seen[len(seen) // 2 :]))
    assert sorted(map(bytes, first)) == sorted(map(bytes, second)) == sorted(map(bytes, images.train))
    assert (first != second).any()


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    (a, rows), (b, others), (c, _) = fitted(), fitted(), fitted(seed=1)
    assert same(a.state_dict(), b.state_dict()) and without_clocks(rows) == without_clocks(others)
    assert not same(a.state_dict(), c.state_dict())


@pytest.mark.parametrize("optimizer", ["adam", "adamax", "rmsprop", "sgd"])
def test_every_optimizer_trains(optimizer):
    _, rows = fitted(optimizer=optimizer, lr=1e-3 if optimizer == "sgd" else 5e-3, clip=10.0)
    assert rows[-1]["best"] < rows[0]["validation"]


def test_an_array_will_do_and_a_batch_may_be_larger_than_the_data():
    X = np.random.default_rng(0).random((20, 1, 4, 4))
    rows = fit(tiny_net(), X, progress=False, **{**TINY, "batch": 1000})
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_evaluate_does_not_depend_on_the_batch():
    net, images = tiny_net(), tiny_images().train
    assert math.isclose(evaluate(net, images, 16, 7), evaluate(net, images, 16, 64), rel_tol=1e-6)


# Going on


def straight_run(tmp_path, **options):
    net = tiny_net()
    return net, fit(net, tiny_images(), tmp_path / "straight", progress=False, **{**TINY, **options})


def interrupt_after(monkeypatch, calls):
    """Presses Ctrl-C, once, in the midst of a training step."""
    counter = iter(range(10**9))

    def pressing(Z, logdet, gaussian_nll=losses.gaussian_nll):
        if next(counter) == calls:
            signal.raise_signal(signal.SIGINT)
        return gaussian_nll(Z, logdet)

    monkeypatch.setattr("invnet.train.trainer.gaussian_nll", pressing)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("at", np.random.default_rng(3).integers(2, 25, 3).tolist())
def test_a_training_interrupted_anywhere_goes_on_with_the_same_bits(tmp_path, monkeypatch, at, threads):
    net, rows = straight_run(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="resume=True"):
        interrupt_after(patch, at)
        fit(tiny_net(), tiny_images(), tmp_path / "stopped", progress=False, **TINY)
    number = invnet.num_threads()
    try:
        invnet.set_num_threads(threads)
        other = other_net()  # its weights come from the checkpoint
        continued = fit(other, tiny_images(), tmp_path / "stopped", resume=True, progress=False)
    finally:
        invnet.set_num_threads(number)
    assert (
        without_clocks(continued)
        == without_clocks(rows)
        == without_clocks(read_metrics(tmp_path / "stopped" / METRICS))
    )
    files = [invnet.io.read(tmp_path / run / CHECKPOINT) for run in ("straight", "stopped")]
    assert same(files[0][0], files[1][0])
    assert same(other.state_dict(), net.state_dict())


@pytest.mark.parametrize("optimizer", ["adamax", "rmsprop", "sgd"])
def test_every_optimizer_goes_on_with_the_same_bits_at_every_step(tmp_path, optimizer):
    recipe = Recipe(**{**TINY, "optimizer": optimizer, "epochs": 3, "lr": 1e-3})
    straight = Trainer(tiny_net(), tiny_images(), recipe)
    straight.initialize()
    stopped = Trainer(tiny_net(), tiny_images(), recipe)
    stopped.initialize()
    while not straight.finished:
        straight.advance()
        stopped.advance()
        checkpoint.save(stopped, tmp_path / "file")
        stopped = Trainer(other_net(), tiny_images(), recipe)
        checkpoint.restore(stopped, tmp_path / "file")
    assert same(straight.net.state_dict(), stopped.net.state_dict()) and same(straight.best, stopped.best)
    assert straight.progress == stopped.progress


def test_the_time_limit_keeps_the_better_of_best_and_present_weights_and_changes_nothing_later(tmp_path):
    net, rows = straight_run(tmp_path)
    run, steps = tmp_path / "limited", []
    stopped = tiny_net()
    first = fit(stopped, tiny_images(), run, max_seconds=1e-9, progress=False, **TINY)  # one step
    assert [row["step"] for row in first] == [1] and first[0]["best"] == first[0]["validation"]
    assert same(invnet.load(run / CHECKPOINT).state_dict(), stopped.state_dict())
    while not steps or steps[-1] < rows[-1]["step"]:
        stopped = tiny_net()
        steps.append(fit(stopped, tiny_images(), run, resume=True, max_seconds=1e-9, progress=False)[-1]["step"])
    assert steps == list(range(2, rows[-1]["step"] + 1))
    assert same(net.state_dict(), stopped.state_dict())


def test_a_finished_training_that_is_resumed_only_gives_its_best_weights(tmp_path):
    net, rows = straight_run(tmp_path)
    again = other_net()
    assert without_clocks(
        fit(again, tiny_images(), tmp_path / "straight", resume=True, progress=False)
    ) == without_clocks(rows)
    assert same(net.state_dict(), again.state_dict())


def test_rows_after_the_checkpoint_and_a_line_cut_short_are_dropped(tmp_path):
    file = tmp_path / METRICS
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    assert Metrics(file, step=2).rows == [{"step": 1}, {"step": 2}] == read_metrics(file)


def test_a_second_ctrl_c_is_raised_at_once(tmp_path, monkeypatch):
    def pressing(*arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("invnet.train.trainer.gaussian_nll", pressing)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(tiny_net(), tiny_images(), tmp_path, progress=False, **TINY)
    assert caught.type is KeyboardInterrupt and signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_without_a_folder_says_that_nothing_is_saved(monkeypatch):
    interrupt_after(monkeypatch, 3)
    with pytest.raises(Interrupted, match="step 4; nothing is saved"):
        fitted()


def test_training_works_in_a_thread_to_which_no_signals_go():
    rows = []
    thread = threading.Thread(target=lambda: rows.extend(fitted()[1]))
    thread.start()
    thread.join()
    assert len(rows) == 6


# What it keeps


def test_the_checkpoint_is_a_model_for_load(tmp_path):
    net, _ = straight_run(tmp_path, notes={"why": "a test"})
    loaded = invnet.load(tmp_path / "straight" / CHECKPOINT)
    X = np.random.default_rng(0).random((3, 1, 4, 4)).astype("float32")
    assert (loaded.forward(X)[0] == net.forward(X)[0]).all()
    assert invnet.io.read(tmp_path / "straight" / CHECKPOINT)[1]["notes"] == {"why": "a test"}


def test_metrics_are_json_lines_with_a_validation_each_epoch(tmp_path):
    seen = []
    _, rows = straight_run(tmp_path, on_epoch=lambda trainer, row: seen.append(row))
    lines = [json.loads(line) for line in (tmp_path / "straight" / METRICS).read_text().splitlines()]
    assert lines == rows == seen and [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"step", "seconds", "train", "validation", "best", "lr", "grad_norm", "drift", "skipped", "peak_mb"} <= rows[
        0
    ].keys()
    assert rows[-1]["peak_mb"] > 20


def test_training_bits_are_the_mean_since_the_row_before(monkeypatch):
    seen = []

    def recording(Z, logdet, gaussian_nll=losses.gaussian_nll):
        result = gaussian_nll(Z, logdet)
        seen.extend([result[0]] if len(Z) == TINY["batch"] else [])  # and not those of the validation
        return result

    monkeypatch.setattr("invnet.train.trainer.gaussian_nll", recording)
    _, rows = fitted()
    means = np.mean(np.reshape(seen, (6, 4)), axis=1)
    np.testing.assert_allclose([row["train"] for row in rows], losses.bits_per_dim(means, 16, 16), rtol=1e-12)


def test_a_checkpoint_is_kept_during_training_and_nothing_else_remains(tmp_path, monkeypatch):
    monkeypatch.setattr("invnet.train.fitting.SECONDS_BETWEEN_SAVES", 0)
    saved = []
    straight_run(
        tmp_path, on_epoch=lambda trainer, row: saved.append(invnet.io.read(tmp_path / "straight" / CHECKPOINT)[1])
    )
    assert [text["training"]["progress"]["step"] for text in saved] == [3, 7, 11, 15, 19, 23]
    assert sorted(file.name for file in (tmp_path / "straight").iterdir()) == [CHECKPOINT, METRICS]


def test_the_bar_shows_bits_speed_and_memory(capsys):
    fitted(progress=True)
    shown = capsys.readouterr().err
    assert "bits/dim" in shown and "MB" in shown and "step" in shown


@pytest.mark.parametrize("modules, moves", [({"ipykernel": types.ModuleType("ipykernel")}, True), ({}, False)])
def test_the_bar_is_the_notebooks_and_moves_there(monkeypatch, modules, moves):
    import tqdm.auto

    made = []

    class Bar(tqdm.auto.tqdm):
        def __init__(self, **options):
            made.append(options["mininterval"])
            super().__init__(**options)

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    fitted(progress=True, epochs=1)
    assert made == [0.2 if moves else 15]


# Going on for longer

SHORT = dict(cosine=False, warmup=0, patience=0)


def resumed_for(path, images=None, **options):
    """A training on the tiny images, resumed with these options."""
    net = tiny_net()
    return net, fit(net, images or tiny_images(), path, resume=True, progress=False, **options)


def test_a_finished_training_is_prolonged_with_the_bits_of_a_longer_one(tmp_path, caplog):
    a, rows = fitted(run=tmp_path / "straight", **{**TINY, **SHORT, "epochs": 5})
    fitted(run=tmp_path / "prolonged", **{**TINY, **SHORT, "epochs": 2})
    b, others = resumed_for(tmp_path / "prolonged", epochs=5)
    assert (
        same(a.state_dict(), b.state_dict()) and without_clocks(rows) == without_clocks(others) and not caplog.messages
    )
    files = [invnet.io.read(tmp_path / name / CHECKPOINT) for name in ("straight", "prolonged")]
    assert same(files[0][0], files[1][0]) and files[0][1]["training"]["recipe"] == files[1][1]["training"]["recipe"]


def test_an_unfinished_training_gets_more_or_fewer_epochs_with_the_bits_of_these(tmp_path, caplog):
    for epochs in (2, 6):
        a, _ = fitted(run=tmp_path / f"straight {epochs}", **{**TINY, **SHORT, "epochs": epochs})
        fitted(run=tmp_path / f"stopped {epochs}", max_seconds=1e-9, **{**TINY, **SHORT, "epochs": 4})
        b, rows = resumed_for(tmp_path / f"stopped {epochs}", epochs=epochs)
        assert same(a.state_dict(), b.state_dict()) and not caplog.messages


@pytest.mark.parametrize("options", [{"cosine": True}, {"warmup": 5}])
def test_a_schedule_that_depends_on_the_epochs_is_that_of_the_new_ones_from_here_on_and_it_is_said(
    tmp_path, caplog, options
):
    fitted(run=tmp_path / "run", **{**TINY, **SHORT, **options, "epochs": 2})
    _, rows = resumed_for(tmp_path / "run", epochs=8)
    assert "the result is not that of 8 epochs from the start" in caplog.text
    step = rows[1]["step"]
    assert f"from step {step} on" in caplog.text
    rate = Recipe(**{**TINY, **SHORT, **options, "epochs": 8}).rate(4 * step)
    assert rows[-1]["step"] == 4 * step and [row["lr"] for row in rows[2:]] == [
        rate(row["step"] - 1) for row in rows[2:]
    ]


def test_a_finished_training_that_is_resumed_says_so_and_why(tmp_path, caplog):
    fitted(run=tmp_path / "all", **{**TINY, "epochs": 2})
    resumed_for(tmp_path / "all")
    assert f"{tmp_path / 'all'} is finished: all 2 epochs are done; more of them (epochs=N" in caplog.text
    caplog.clear()
    fitted(run=tmp_path / "patient", **{**TINY, "lr": 0.05, "epochs": 50, "patience": 3, "cosine": False, "warmup": 0})
    assert not caplog.messages
    resumed_for(tmp_path / "patient", epochs=60)
    assert "is finished: no better validation in 3 epochs, its patience" in caplog.text


def test_fewer_epochs_than_are_done_are_refused(tmp_path):
    fitted(run=tmp_path / "run", **{**TINY, "epochs": 3})
    with pytest.raises(ValueError, match="has trained into epoch 3 and goes on to that or a later one; got epochs=2"):
        resumed_for(tmp_path / "run", epochs=2)


def test_an_array_of_few_values_is_mentioned(caplog):
    X = np.random.default_rng(0).integers(0, 2, (20, 1, 4, 4)).astype("float32")
    fit(tiny_net(), X, progress=False, **{**TINY, "epochs": 1})
    assert "array: only 2 of 256 values occur" in caplog.text


# Losses that are not finite


class Sometimes(invnet.Chain):
    """Gives an infinite logdet where `bad(call)` says so."""

    bad, calls = staticmethod(lambda call: False), 0

    def forward(self, X, cond=None):
        Z, logdet = super().forward(X, cond)
        self.calls += 1
        return Z, logdet * math.inf if self.bad(self.calls) else logdet


def sometimes(bad):
    net = Sometimes(*tiny_net().layers)
    net.bad = bad
    return net


def test_a_step_whose_loss_is_not_finite_is_skipped_and_counted():
    trainer = Trainer(sometimes(lambda call: call in (2, 3)), tiny_images(), Recipe(**TINY))
    trainer.initialize()
    weights = []
    for _ in range(4):
        trainer.advance()
        weights.append(trainer.net.state_dict())
    assert same(weights[0], weights[1]) and same(weights[1], weights[2]) and not same(weights[2], weights[3])
    assert trainer.progress.skipped == 2 and trainer.progress.skipped_in_a_row == 0
    assert trainer.optimizer.steps == trainer.ema.steps == 2 and trainer.progress.step == 4


def test_a_gradient_that_is_not_finite_is_skipped_too():
    trainer = Trainer(tiny_net(), tiny_images(), Recipe(**TINY))
    trainer.initialize()
    before = trainer.net.state_dict()
    trainer.parameters[0].grad[0] = math.nan
    trainer.advance()
    assert same(before, trainer.net.state_dict()) and trainer.progress.skipped == 1
    assert all((p.grad == 0).all() for p in trainer.parameters)


def test_several_in_a_row_end_the_training_with_advice():
    with pytest.raises(FloatingPointError, match="10 steps in a row.*step 13.*lr.*0.005"):
        fitted(sometimes(lambda call: 4 <= call))


def test_a_validation_that_is_never_finite_is_no_best(tmp_path):
    net = sometimes(lambda call: call % 5 == 0)  # of 4 steps an epoch and a validation of one batch
    rows = fit(net, tiny_images(), tmp_path, progress=False, **TINY)
    assert all(row["validation"] is None and row["best"] is None for row in rows)


# Mistakes


def resumed(path, net=None, images=None, **options):
    fit(tiny_net(), tiny_images(), path, progress=False, **{**TINY, "epochs": 1})
    fit(net or tiny_net(), images or tiny_images(), path, resume=True, progress=False, **options)


def twice(path):
    for _ in range(2):
        fit(tiny_net(), tiny_images(), path, progress=False, **{**TINY, "epochs": 1})


def resumed_model(path):
    invnet.save(tiny_net(), path / CHECKPOINT)
    fit(tiny_net(), tiny_images(), path, resume=True)


MISTAKES = {
    "unknown option": (lambda path: fitted(learning_rate=1), TypeError, "epochs, batch.*learning_rate"),
    "epochs": (lambda path: Recipe(epochs=0), ValueError, "epochs is a number from 1; got 0"),
    "batch": (lambda path: Recipe(batch=0), ValueError, "batch.*0"),
    "initial": (lambda path: Recipe(initial=0), ValueError, "initial.*0"),
    "warmup": (lambda path: Recipe(warmup=-1), ValueError, "warmup.*-1"),
    "patience": (lambda path: Recipe(patience=-1), ValueError, "patience.*-1"),
    "seed": (lambda path: Recipe(seed=-1), ValueError, "seed.*-1"),
    "rate": (lambda path: Recipe(lr=math.nan), ValueError, "lr is a positive number; got nan"),
    "clip": (lambda path: Recipe(clip=0), ValueError, "clip.*0"),
    "optimizer": (lambda path: Recipe(optimizer="adamw"), ValueError, "adam, adamax, rmsprop, sgd; got 'adamw'"),
    "decay": (lambda path: Recipe(decay=0), ValueError, "decay.*0"),
    "average": (lambda path: Recipe(ema=1), ValueError, "ema.*below 1; got 1"),
    "weight decay": (lambda path: Recipe(weight_decay=-1), ValueError, "weight_decay.*-1"),
    "weight decay of another": (lambda path: Recipe(optimizer="sgd", weight_decay=1), ValueError, "adam only.*sgd"),
    "seconds": (lambda path: fitted(max_seconds=0), ValueError, "positive.*0"),
    "resume without a run": (lambda path: fitted(resume=True), ValueError, "give run"),
    "resume of nothing": (lambda path: fitted(resume=True, run=path), FileNotFoundError, CHECKPOINT),
    "resume of a model": (resumed_model, ValueError, "no training"),
    "resume with other options": (lambda path: resumed(path, lr=1), ValueError, "lr=0.005, now 1"),
    "resume with other data": (lambda path: resumed(path, images=tiny_images(91)), ValueError, "other data.*tiny"),
    "resume with another network": (
        lambda path: resumed(path, invnet.Glow(1, 4, 1, 2)),
        ValueError,
        "another architecture",
    ),
    "a folder that holds a training": (twice, FileExistsError, "already holds a training"),
    "NaN in an array": (lambda path: fit(tiny_net(), np.full((5, 1, 4, 4), np.nan)), ValueError, "NaN"),
    "rank of an array": (lambda path: fit(tiny_net(), np.zeros((5, 16))), ValueError, r"\(N, C, H, W\).*\(\d, 16\)"),
    "odd size": (lambda path: fit(tiny_net(), tiny_images(size=3)), ValueError, r"divisible by 2.*\(72, 1, 3, 3\)"),
    "channels": (lambda path: fit(invnet.Glow(3, 4, 1, 1), tiny_images()), ValueError, "3 channels"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_an_error_that_says_what_was_required_and_what_came(mistake, tmp_path):
    call, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        call(tmp_path)
