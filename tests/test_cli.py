"""The command line, from end to end, on small settings."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import invnet
from invnet import cli

TINY = ["--hidden", "4", "--steps", "1", "--initial", "32", "--warmup", "3", "--quiet"]
PICTURES = ("samples.png", "reconstructions.png", "loss.png")


def run(capsys, *arguments):
    """Exit status, what was printed, and errors."""
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as exit:  # argparse
        status = exit.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(autouse=True)
def threads():
    """A command's --threads ends with its test."""
    number = invnet.num_threads()
    yield
    invnet.set_num_threads(number)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on the digits, two epochs of a tiny Glow."""
    path = tmp_path_factory.mktemp("cli") / "run"
    assert cli.main(["train", "digits", "--out", str(path), "--epochs", "2", *TINY]) == 0
    return path


def test_train_leaves_checkpoint_pictures_and_metrics(trained):
    from PIL import Image

    assert sorted(file.name for file in trained.iterdir()) == sorted(
        ["checkpoint.safetensors", "metrics.jsonl", *PICTURES]
    )
    for name in PICTURES:
        picture = np.asarray(Image.open(trained / name).convert("L"))
        assert min(picture.shape) > 200 and picture.std() > 10, name
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation" in row] == [22, 44]
    assert isinstance(invnet.load(trained / "checkpoint.safetensors"), invnet.Chain)


def test_train_prints_data_size_baselines_and_its_own_figure(tmp_path, capsys):
    status, out, err = run(capsys, "train", "digits", "--out", tmp_path / "run", "--epochs", "1", *TINY[:-1])
    assert status == 0
    for part in (
        "1,437 + 180 + 180 of 1x8x8, 17 levels",
        "parameters",
        "independent histograms",
        "full-covariance Gaussian",
        "epoch 1: train",
        "test bits/dim",
        "reconstruction: largest error",
        "checkpoint.safetensors",
    ):
        assert part in out, part
    start = out.index("baselines")
    assert start < out.index("epoch 1") < out.index("test bits/dim: ", start + 30)
    assert "bits/dim" in err and "MB" in err  # the bar


def test_train_on_tensors_prints_the_engine_and_goes_on_with_it(tmp_path, capsys):
    pytest.importorskip("torch")
    shown = []
    for name in ("numpy", "torch"):
        status, out, _ = run(
            capsys,
            "train",
            "digits",
            "--out",
            tmp_path / name,
            "--engine",
            name,
            "--epochs",
            "2",
            "--max-seconds",
            "0.01",
            *TINY,
        )
        assert status == 0 and f"parameters; {name}, " in out
        status, out, _ = run(capsys, "train", "--resume", tmp_path / name, "--quiet")
        assert status == 0 and f"parameters; {name}, " in out
        shown.append(float(re.search(r"(\d\.\d{3}) this", out)[1]))
    assert abs(shown[0] - shown[1]) < 0.01


def test_evaluate_repeats_what_train_said(trained, capsys):
    status, out, _ = run(capsys, "evaluate", trained)
    assert status == 0 and "1,437 + 180 + 180" in out
    bits, histograms, gaussian = (float(x) for x in re.findall(r"(\d\.\d{3}) (?:this|ind|full)", out))
    assert 2 < histograms < bits < 6 and abs(gaussian - 2.95) < 0.1
    assert float(re.search(r"largest error ([\d.e+-]+),", out)[1]) < 1e-4


def test_sample_draws_the_same_from_the_same_seed_and_less_at_temperature_zero_point_one(trained, tmp_path, capsys):
    def drawn(name, *options):
        status, out, _ = run(capsys, "sample", trained, "-n", 9, "--columns", 3, "--out", tmp_path / name, *options)
        assert status == 0 and "9 samples" in out
        return (tmp_path / name).read_bytes()

    assert drawn("a.png") == drawn("b.png") != drawn("c.png", "--seed", 1)
    assert len(drawn("d.png", "--temperature", 0.1)) < len(drawn("e.png"))


def test_a_run_stopped_by_time_is_resumed_with_the_same_bits(tmp_path, capsys):
    options = ["train", "digits", "--epochs", "1", *TINY]
    assert run(capsys, *options, "--out", tmp_path / "straight")[0] == 0
    assert run(capsys, *options, "--out", tmp_path / "stopped", "--max-seconds", "1e-6")[0] == 0
    status, out, _ = run(capsys, "train", "--resume", tmp_path / "stopped", "--quiet")
    assert status == 0 and "trained 22 steps" in out
    a, b = (invnet.io.read(tmp_path / name / "checkpoint.safetensors")[0] for name in ("straight", "stopped"))
    assert a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


@pytest.mark.exhaustive
def test_the_guards_of_rebuilt_states_hold_when_a_run_is_resumed(tmp_path, capsys):
    options = ["train", "digits", "--epochs", "1", *TINY, "--anchors", "2", "--strict", "0", "--state-dtype", "float64"]
    assert run(capsys, *options, "--out", tmp_path / "straight")[0] == 0
    assert run(capsys, *options, "--out", tmp_path / "stopped", "--max-seconds", "1e-6")[0] == 0
    status, _, err = run(capsys, "train", "--resume", tmp_path / "stopped", "--strict", "1")
    assert status == 2 and "takes no --strict" in err
    assert run(capsys, "train", "--resume", tmp_path / "stopped", "--quiet")[0] == 0
    a, b = (invnet.io.read(tmp_path / name / "checkpoint.safetensors") for name in ("straight", "stopped"))
    assert b[1]["notes"]["guards"] == {"anchors": 2, "strict": 0.0, "state_dtype": "float64"}
    assert a[0].keys() == b[0].keys() and all(a[0][name].tobytes() == b[0][name].tobytes() for name in a[0])
    for option, message in (
        ("--anchors=-1", "anchors is a number of steps"),
        ("--strict=-1", "strict is the largest drift"),
        ("--state-dtype=float16", "float32 or float64"),
    ):
        status, _, err = run(capsys, "train", "digits", "--out", tmp_path / "no", option)
        assert status == 2 and message in err and not (tmp_path / "no").exists()


@pytest.mark.exhaustive
def test_ctrl_c_saves_and_says_how_to_go_on_with_the_same_bits(tmp_path):
    def start(*arguments, **options):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(
            [sys.executable, "-m", "invnet", "train", *arguments, *options.pop("tiny", TINY)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    first = start("digits", "--out", "stopped", "--epochs", "40")
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 130 and "invnet train --resume stopped" in err and "Traceback" not in err
    second, straight = (
        start("--resume", "stopped", tiny=["--quiet"]),
        start("digits", "--out", "straight", "--epochs", "40"),
    )
    for process in (second, straight):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    a, b = (invnet.io.read(tmp_path / name / "checkpoint.safetensors")[0] for name in ("straight", "stopped"))
    assert a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_a_colour_folder_and_a_grey_npz_train_with_their_own_defaults(tmp_path, capsys):
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (12, 8, 3)).astype(np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    np.savez(tmp_path / "grey.npz", x_train=rng.integers(0, 255, (20, 8, 8)), x_test=rng.integers(0, 255, (8, 8, 8)))
    for source, levels in (("photos", 2), ("grey.npz", 2)):  # 12 is divisible by 4, not by 8
        out = tmp_path / f"run of {source}"
        status, printed, err = run(
            capsys, "train", tmp_path / source, "--out", out, "--epochs", "1", "--threads", "1", *TINY
        )
        assert status == 0, err
        glow = invnet.load(out / "checkpoint.safetensors").layers[1]
        assert glow.arguments()["levels"] == levels and glow.arguments()["hidden"] == 4
    moved = tmp_path / "moved"
    (tmp_path / "photos").rename(moved)
    status, _, err = run(capsys, "evaluate", tmp_path / "run of photos")
    assert status == 2 and "photos" in err
    assert run(capsys, "evaluate", tmp_path / "run of photos", "--data", moved)[0] == 0


def test_every_option_of_model_and_training_reaches_its_place(tmp_path, capsys):
    model = {
        "alpha": 0.2,
        "hidden": 5,
        "levels": 1,
        "steps": 2,
        "coupling": "affine",
        "scale": "bounded",
        "bound": 2.0,
        "mix": "full",
        "prior": False,
        "kernels": [1, 3],
        "activation": "silu",
        "dtype": "float64",
    }
    recipe = {
        "epochs": 1,
        "batch": 32,
        "optimizer": "adam",
        "lr": 1e-4,
        "warmup": 2,
        "cosine": False,
        "decay": 0.99,
        "weight_decay": 0.5,
        "clip": 3.0,
        "ema": 0.5,
        "patience": 4,
        "most_skipped": 6,
        "initial": 40,
        "seed": 7,
    }
    loading = {"bits": 3, "validation": 0.2, "test": 0.3}
    options = ["--out", tmp_path / "run", "--quiet", "--threads", 2]
    for name, value in {**model, **recipe, **loading}.items():
        flag = name.replace("_", "-")
        shown = ",".join(map(str, value)) if isinstance(value, list) else value
        options += [f"--no-{flag}"] if value is False else [f"--{flag}", shown]
    status, _, err = run(capsys, "train", "digits", *options)
    assert status == 0, err
    file = tmp_path / "run" / "checkpoint.safetensors"
    logit, glow = invnet.load(file).layers
    text = invnet.io.read(file)[1]
    expected = {**{k: v for k, v in model.items() if k != "alpha"}, "channels": 1, "seed": 7}
    assert {name: glow.arguments()[name] for name in expected} == expected
    assert logit.arguments() == {"alpha": 0.2}
    assert text["training"]["recipe"] == recipe
    assert text["notes"]["loading"] == {**loading, "seed": 7, "source": "digits"}


def test_without_out_the_run_is_named_after_its_data_and_the_next_gets_a_number(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "digits-2"):
        status, out, _ = run(capsys, "train", "digits", "--epochs", "1", "--max-seconds", "1e-6", *TINY)
        assert status == 0 and (tmp_path / "runs" / name / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["sample", "--help"],
        ["evaluate", "--help"],
        ["bench", "--help"],
        ["bench", "memory", "--help"],
        ["bench", "speed", "--help"],
    ],
)
def test_help_reads_well(capsys, arguments, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    status, out, err = run(capsys, *arguments)
    assert status == 0 and err == "" and max(map(len, out.splitlines())) <= 100
    assert "None" not in out and "SUPPRESS" not in out and "kernel_sizes" not in out


def test_help_names_every_option_and_its_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = run(capsys, "train", "--help")[1]
    defaults = {"--hidden": "64", "--lr": "0.0", "--optimizer": "adam", "--epochs": "for digits", "--prior": "yes"}
    for name, default in defaults.items():
        assert re.search(
            rf"^ *{name}\b.*\(default: .*{default}", out.replace("\n                        ", " "), re.M
        ), name


MISTAKES = {
    "unknown command": (["draw"], "invalid choice: 'draw'"),
    "command misspelt": (["trian", "digits"], r"did you mean train\?\); see invnet --help"),
    "unknown option": (
        ["train", "digits", "--learning-rate", "1"],
        "unrecognized arguments: --learning-rate 1; see invnet train --help",
    ),
    "option misspelt": (
        ["train", "digits", "--hiden", "1"],
        r"--hiden 1 \(did you mean --hidden\?\); see invnet train --help",
    ),
    "option with a value misspelt": (
        ["train", "digits", "--hiden=1"],
        r"did you mean --hidden\?\); see invnet train --help",
    ),
    "option of sample misspelt": (
        ["sample", "RUN", "--temprature", "1"],
        r"did you mean --temperature\?\); see invnet sample --help",
    ),
    "option of bench misspelt": (
        ["bench", "speed", "--thread", "1"],
        r"did you mean --threads\?\); see invnet bench speed --help",
    ),
    "measurement misspelt": (["bench", "memroy"], r"did you mean memory\?\); see invnet bench --help"),
    "option before the command": (["--versoin"], r"did you mean --version\?\); see invnet --help"),
    "layout": (["train", "grey.npz", "--layout", "CHW"], "layout is NCHW or NHWC; got 'CHW'"),
    "layout of digits": (["train", "digits", "--layout", "NCHW"], "layout has no effect on what is no .npz"),
    "a pickle": (["train", "x.pkl"], "pickle, which can run code"),
    "a file as the folder of train": (
        ["train", "nowhere", "--out", "odd.npz"],
        "--out is a place.*odd.npz: it exists already",
    ),
    "a folder of train that cannot be": (
        ["train", "nowhere", "--out", "odd.npz/run"],
        "--out is a place.*odd.npz/run: Not a directory",
    ),
    "a folder of train where nothing can be": (
        ["train", "nowhere", "--out", "/proc/run"],
        "--out is a place.*/proc/run",
    ),
    "a run there, before the data": (["train", "nowhere", "--out", "RUN"], "already holds a training"),
    "samples where nothing can be": (["sample", "RUN", "--out", "/proc/x/"], "--out is a place.*/proc/x"),
    "samples over a picture": (["sample", "RUN", "--out", "odd.npz"], "--out is a place.*odd.npz: it exists already"),
    "samples over pictures": (["sample", "RUN", "--out", "RUN"], "the folder RUN has .png images already"),
    "a picture of too many": (
        ["sample", "RUN", "-n", "300000"],
        "at most 4096 pixels wide and high.*300,000 images of 8x8",
    ),
    "a picture too narrow": (
        ["sample", "RUN", "-n", "1000", "--columns", "2"],
        "at most 4096 pixels.*in 2 columns.*folder/, a .npy",
    ),
    "columns of an array": (
        ["sample", "RUN", "--columns", "2", "--out", "x.npy"],
        "--columns is of a picture; got --out x.npy",
    ),
    "option cut short": (["train", "digits", "--epo", "1"], "unrecognized arguments: --epo"),
    "no number": (["train", "digits", "--epochs", "many"], "--epochs: invalid int value: 'many'"),
    "kernels": (["train", "digits", "--kernels", "3,x"], "--kernels"),
    "even kernels": (["train", "digits", "--kernels", "2,2"], "odd"),
    "seconds": (["train", "digits", "--max-seconds", "0"], "--max-seconds: a positive number is required; got 0"),
    "no data": (["train"], "digits"),
    "no such data": (["train", "nowhere"], "'nowhere'"),
    "empty folder": (["train", "foreign"], "no images.*it has 1 .safetensors"),
    "too many levels": (["train", "digits", "--levels", "4"], "levels=4.*divisible by 16.*8x8"),
    "no levels": (["train", "digits", "--levels", "0"], "positive"),
    "hidden": (["train", "digits", "--hidden", "0"], "positive.*0"),
    "alpha": (["train", "digits", "--alpha", "0.6"], "alpha.*0.6"),
    "scale": (["train", "digits", "--scale", "exp"], "'exp'"),
    "coupling": (["train", "digits", "--coupling", "x"], "additive.*'x'"),
    "activation": (["train", "digits", "--activation", "sine"], "'sine'"),
    "mix": (["train", "digits", "--mix", "qr"], "'qr'"),
    "dtype": (["train", "digits", "--dtype", "int8"], "float32.*'int8'"),
    "batch": (["train", "digits", "--batch", "0"], "batch is a number from 1; got 0"),
    "seed": (["train", "digits", "--seed", "-1"], "seed.*-1"),
    "optimizer": (["train", "digits", "--optimizer", "lion"], "optimizer.*'lion'"),
    "bits": (["train", "digits", "--bits", "9"], "17 values.*512"),
    "threads": (["train", "digits", "--threads", "0"], "threads.*0"),
    "resume of nothing": (["train", "--resume", "nowhere"], "nowhere holds no checkpoint.safetensors"),
    "resume with options": (["train", "--resume", "x", "--lr", "1", "--weight-decay", "1"], "no --lr, --weight-decay"),
    "sample of nothing": (["sample", "nowhere"], "nowhere holds no checkpoint"),
    "no samples": (["sample", "RUN", "-n", "0"], "from 1; got 0"),
    "temperature": (["sample", "RUN", "--temperature", "-1"], "positive number"),
    "picture of an unknown kind": (["sample", "RUN", "--out", "x.xyz"], "xyz"),
    "a folder that holds a run": (["train", "digits", "--out", "RUN", *TINY], "already holds a training"),
    "other data": (["train", "grey.npz", "--resume", "RUN"], "other data"),
    "evaluate of nothing": (["evaluate", "nowhere"], "nowhere holds no checkpoint"),
    "damaged checkpoint": (["evaluate", "damaged"], "damaged"),
    "foreign checkpoint": (["sample", "foreign"], "not written by invnet"),
    "checkpoint of fit": (["evaluate", "fitted"], "not written by invnet train"),
    "engine of train": (["train", "digits", "--engine", "abacus"], "the engines are numpy, torch, cupy; got 'abacus'"),
    "device of train": (["train", "digits", "--engine", "numpy:cuda"], "numpy:cuda"),
    "engine": (["bench", "memory", "--engine", "abacus"], "--engine: invalid choice: 'abacus' .*numpy"),
    "threads of bench": (["bench", "speed", "--threads", "0"], "threads.*0"),
    "a file as the folder of bench": (
        ["bench", "memory", "--out", "odd.npz"],
        "--out is a .csv file or a folder.*got odd.npz",
    ),
    "a place that cannot be": (
        ["bench", "speed", "--out", "odd.npz/x.csv"],
        "--out is a .csv file or a folder.*got odd.npz/x.csv",
    ),
    "odd images": (["train", "odd.npz"], "even.*7x6"),
    "NaN": (["train", "nan.npz"], "NaN"),
}


@pytest.fixture
def here(tmp_path, monkeypatch, trained):
    """A folder with bad files, as the current one."""
    from safetensors.numpy import save_file

    monkeypatch.chdir(tmp_path)
    np.savez("odd.npz", np.zeros((9, 7, 6)))
    np.savez("nan.npz", np.full((9, 8, 8), np.nan))
    np.savez("grey.npz", np.zeros((9, 8, 8)))
    for name in ("damaged", "foreign", "fitted"):
        os.mkdir(name)
    whole = (trained / "checkpoint.safetensors").read_bytes()
    with open("damaged/checkpoint.safetensors", "wb") as file:
        file.write(whole[: len(whole) // 2])
    save_file({"w": np.zeros(2)}, "foreign/checkpoint.safetensors")
    invnet.save(invnet.ActNorm(1), "fitted/checkpoint.safetensors")
    os.symlink(trained, "RUN")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_users_mistake_is_one_line_and_exit_status_2(mistake, here, capsys):
    arguments, message = MISTAKES[mistake]
    status, out, err = run(capsys, *arguments)
    assert status == 2, out
    assert len(err.splitlines()) == 1 and err.startswith("invnet") and ": error: " in err
    assert re.search(message, err), err
    assert "epoch" not in out
    assert not os.path.exists("runs")


@pytest.mark.parametrize("arguments", [[], ["bench"]])
def test_without_a_command_there_is_help(arguments, capsys):
    assert run(capsys, *arguments) == run(capsys, *arguments, "--help") and run(capsys, *arguments)[0] == 0


# Samples


def test_samples_are_never_written_over_others(tmp_path, trained, capsys):
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "checkpoint.safetensors").write_bytes((trained / "checkpoint.safetensors").read_bytes())
    for name in ("samples.png", "samples-2.png", "samples-3.png"):
        status, out, _ = run(capsys, "sample", copy, "-n", 4)
        assert status == 0 and f"in {copy / name}\n" in out and (copy / name).is_file()
    for place in ("x.png", "x.npy", "x.npz", "folder/"):
        assert run(capsys, "sample", trained, "-n", 4, "--out", f"{tmp_path}/{place}")[0] == 0
        before = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
        status, _, err = run(capsys, "sample", trained, "-n", 4, "--out", f"{tmp_path}/{place}")
        assert status == 2 and "already" in err
        assert {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == before


def test_arrays_and_single_images_of_samples_are_levels_of_the_data(tmp_path, trained, capsys):
    from PIL import Image

    for place in ("x.npy", "x.npz", "images"):
        status, out, err = run(capsys, "sample", trained, "-n", 12, "--seed", 3, "--out", tmp_path / "made" / place)
        assert status == 0, err
        assert ("integers from 0 to 16 of shape (12, 1, 8, 8)" in out) == (place != "images")
    k = np.load(tmp_path / "made" / "x.npy")
    flow = invnet.Flow(invnet.load(trained / "checkpoint.safetensors"), (1, 8, 8))
    X = flow.sample(12, seed=3)
    assert k.dtype == np.uint8 and (k == invnet.data.quantise(X.clip(0, 1), 17)).all() and k.max() > 8
    assert (np.load(tmp_path / "made" / "x.npz")["images"] == k).all()
    files = sorted((tmp_path / "made" / "images").iterdir())
    assert [file.name for file in files] == [f"{i:02}.png" for i in range(12)]
    assert (np.stack([np.asarray(Image.open(file)) for file in files]) == np.rint(k[:, 0] * (255 / 16))).all()
    assert invnet.data.load(tmp_path / "made" / "x.npz", values=17).levels == 17


def test_many_samples_are_drawn_in_parts_of_the_same_bits(tmp_path, trained, capsys, monkeypatch):
    for name, at_once in (("whole", 1024), ("parts", 7)):
        monkeypatch.setattr(cli.commands, "SAMPLES_AT_ONCE", at_once)
        assert run(capsys, "sample", trained, "-n", 50, "--out", tmp_path / f"{name}.npy")[0] == 0
    assert (tmp_path / "whole.npy").read_bytes() == (tmp_path / "parts.npy").read_bytes()


@pytest.mark.parametrize("n", [1, 5, 64, 1000, 4000])
def test_a_picture_of_any_number_is_near_square_and_bounded(tmp_path, trained, capsys, n):
    from PIL import Image

    assert run(capsys, "sample", trained, "-n", n, "--out", tmp_path / "x.png")[0] == 0
    width, height = Image.open(tmp_path / "x.png").size
    assert max(width, height) <= 1500 and 0.6 < width / height < 1.7


# Going on for longer


def test_a_training_is_prolonged_and_a_finished_one_says_so(tmp_path, capsys, caplog):
    options = ["train", "digits", "--no-cosine", "--warmup", "1", *TINY[:6], "--quiet"]
    assert run(capsys, *options, "--epochs", 3, "--out", tmp_path / "straight")[0] == 0
    assert run(capsys, *options, "--epochs", 1, "--out", tmp_path / "prolonged")[0] == 0
    assert not caplog.messages
    status, out, _ = run(capsys, "train", "--resume", tmp_path / "prolonged", "--quiet")
    assert status == 0 and "trained 22 steps" in out
    assert (
        f"{tmp_path / 'prolonged'} is finished: all 1 epochs are done; more of them (epochs=N, --epochs N)"
        in caplog.text
    )
    caplog.clear()
    status, out, err = run(capsys, "train", "--resume", tmp_path / "prolonged", "--epochs", 3, "--quiet")
    assert status == 0 and "trained 66 steps" in out and not caplog.messages, err
    a, b = (invnet.io.read(tmp_path / name / "checkpoint.safetensors") for name in ("straight", "prolonged"))
    assert a[0].keys() == b[0].keys() and all(a[0][name].tobytes() == b[0][name].tobytes() for name in a[0])
    assert a[1]["training"]["recipe"] == b[1]["training"]["recipe"]
    status, _, err = run(capsys, "train", "--resume", tmp_path / "prolonged", "--epochs", 2, "--quiet")
    assert status == 2 and "has trained into epoch 3 and goes on to that or a later one; got epochs=2" in err


# Data of other kinds


def test_what_is_assumed_of_data_is_one_line_on_stderr(tmp_path):
    np.savez(tmp_path / "white.npz", np.full((60, 8, 8), 255, np.uint8))
    command = [
        sys.executable,
        "-m",
        "invnet",
        "train",
        "white.npz",
        "--alpha",
        "0",
        "--epochs",
        "2",
        "--threads",
        "1",
        *TINY,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "compiling kernels" not in line]
    assert lines == ["white: only 1 of 256 values occur, 255 to 255; bits=1 (--bits 1) tells them apart"]


@pytest.mark.exhaustive
def test_a_run_on_a_gpu_is_resumed_evaluated_and_drawn(tmp_path, capsys):
    pytest.importorskip("cupy_here")  # CuPy, or what stands in for it
    status, out, err = run(
        capsys,
        "train",
        "digits",
        "--out",
        tmp_path / "run",
        "--max-seconds",
        "0.001",
        "--epochs",
        "2",
        "--engine",
        "cuda",
        *TINY,
    )
    assert status == 0, err
    for command in (
        ["train", "--resume", tmp_path / "run", "--quiet"],
        ["evaluate", tmp_path / "run"],
        ["sample", tmp_path / "run", "-n", "4", "--out", tmp_path / "x.png"],
    ):
        status, out, err = run(capsys, *command)
        assert status == 0, err
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == sorted(
        ["checkpoint.safetensors", "metrics.jsonl", *PICTURES]
    )
