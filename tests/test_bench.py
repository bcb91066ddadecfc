"""invnet bench, on small settings: what it measures, prints and keeps, and that its processes are the right ones."""

import csv
import importlib.util
import os
import signal
import subprocess
import sys
import time

import pytest

import invnet
from invnet import cli
from invnet.bench import contenders, memory, peak, results, speed, turns

linux = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peak memory is measured on Linux only")
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small settings; and a command's --threads ends with its test."""
    monkeypatch.setattr(memory, "QUICK", dict(depths=[2, 8], size=32, batch=4, hidden=16))
    monkeypatch.setattr(memory, "PROCESSES", 1)
    monkeypatch.setattr(speed, "QUICK", dict(hidden=[8], size=8, rounds=2))
    monkeypatch.setitem(speed.MODELS, 8, (2, 1))
    number = invnet.num_threads()
    yield
    invnet.set_num_threads(number)


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def rows_of(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def drawn(path):
    from PIL import Image

    return Image.open(path).convert("L").getextrema() == (0, 255)


@needs_torch
@pytest.mark.exhaustive
def test_speed_on_another_engine_is_that_engine(capsys):
    assert cli.main(["bench", "speed", "--engine", "torch"]) == 0
    words = capsys.readouterr().out.split()
    assert {"invnet-torch", "twin", "checkpointed"} <= set(words) and "invnet" not in words


@linux
def test_memory_is_flat_and_kept_as_csv_and_png_and_torch_is_not_needed(tmp_path, capsys, no_torch):
    assert cli.main(["bench", "memory", "--out", str(tmp_path / "new" / "mine.csv")]) == 0
    out = capsys.readouterr().out
    for name in ("twin", "checkpointed"):
        assert f"{name} is left out: torch is not installed" in out
    rows = rows_of(tmp_path / "new" / "mine.csv")
    assert [(row["contender"], row["steps"], row["threads"]) for row in rows] == [
        ("invnet", "2", "1"),
        ("invnet", "8", "1"),
    ]
    shallow, deep = (float(row["activations_MiB"]) for row in rows)
    assert 0.2 < shallow < 20 and deep < 1.1 * shallow + 1  # of a process: an allocator keeps some pages more or less
    table = [line.split() for line in out.splitlines() if line.split()[:1] == ["invnet"]]
    assert table[1] == ["invnet", "8", f"{deep:.1f}", f"{deep:.1f}", f"{deep / shallow:.2f}", "1.00"]
    assert drawn(tmp_path / "new" / "mine.png")


@linux
@needs_torch
@pytest.mark.exhaustive
def test_memory_of_what_stores_grows():
    shape = dict(hidden=64, levels=3, channels=3, batch=8, size=32, threads=1)
    shallow, deep = (peak.peak_memory("twin", steps=steps, **shape)["activations"] for steps in (2, 16))
    assert deep > 3 * shallow


@needs_torch
@pytest.mark.exhaustive
def test_speed_compares_with_torch_and_is_kept_in_a_folder(tmp_path, capsys):
    assert cli.main(["bench", "speed", "--out", str(tmp_path)]) == 0
    out, rows = capsys.readouterr().out, rows_of(tmp_path / "speed.csv")
    assert [row["contender"] for row in rows] == ["invnet", "twin", "checkpointed"]
    for row in rows:
        assert 0 < float(row["seconds_min"]) <= float(row["seconds_median"]) < 10
        assert f"{float(row['seconds_min']):.4f}" in out and f"{float(row['ratio_median']):.2f}" in out
        assert row["threads"] == "1" and float(row["ratio_min"]) > 0
    assert float(rows[0]["ratio_min"]) == float(rows[0]["ratio_median"]) == 1
    assert drawn(tmp_path / "speed.png")


def test_speed_without_torch_and_without_out_leaves_no_files(tmp_path, monkeypatch, capsys, no_torch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", "speed", "--threads", "2"]) == 0
    assert "checkpointed is left out: torch is not installed" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_ratios_are_of_minima_and_of_rounds():
    ours, theirs = turns.summary({"invnet": [2.0, 3.0, 4.0], "twin": [4.0, 1.0, 4.0]})
    assert (ours["ratio_min"], ours["ratio_median"]) == (1, 1)
    assert (theirs["seconds_min"], theirs["seconds_median"]) == (1, 4)
    assert (theirs["ratio_min"], theirs["ratio_median"]) == (2, 1)


def test_rounds_give_every_contender_a_time_and_the_first_place():
    order = []
    seconds = turns.in_turns({name: lambda name=name: order.append(name) for name in "ab"}, range(2), repeats=1)
    assert {name: len(each) for name, each in seconds.items()} == {"a": 2, "b": 2}
    assert order == ["a", "a", "b", "b", "a", "b", "b", "a"]  # twice each to begin with, then the rounds


@linux
@pytest.mark.exhaustive
def test_a_process_finds_the_same_invnet_from_a_folder_with_another(tmp_path, monkeypatch):
    (tmp_path / "invnet").mkdir()
    (tmp_path / "invnet" / "__init__.py").write_text("raise SystemExit('another invnet')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert peak.peak_memory("invnet", steps=1, size=8)["activations"] > 0


@linux
@pytest.mark.exhaustive
def test_a_process_that_fails_says_why(capsys, monkeypatch, no_torch):
    assert "failed" in peak.peak_memory("nobody")
    monkeypatch.setitem(memory.QUICK, "size", 12)
    assert cli.main(["bench", "memory"]) == 2
    assert "divisible by 8" in capsys.readouterr().err


def test_memory_gives_minimum_and_median_of_processes_and_notes_a_failure(monkeypatch, capsys):
    peaks = iter([{"failed": "none"}, {"failed": "killed by signal 9"}, *({"activations": n << 20} for n in (7, 2, 4))])
    monkeypatch.setattr(
        memory,
        "peak_memory",
        lambda *_, **__: next(peaks) | dict.fromkeys(("baseline", "parameters", "input", "peak_was_reset"), 1),
    )
    monkeypatch.setattr(memory, "PROCESSES", 3)
    rows = memory.quick([contenders.CONTENDERS["invnet"]], 1)
    assert rows[0]["note"] == "failed: killed by signal 9" and "growth" not in rows[1]
    assert (rows[1]["min_MiB"], rows[1]["median_MiB"], rows[1]["ratio"]) == (2, 4, 1)
    memory.report(rows)
    assert ["invnet", "2", "failed:", "killed", "by", "signal", "9"] in map(
        str.split, capsys.readouterr().out.splitlines()
    )
    assert len(memory.plot(rows).axes) == 2


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


@linux
def test_ctrl_c_ends_the_process_that_is_measured(tmp_path):
    command = [sys.executable, "-m", "invnet", "bench", "memory"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    bench = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (running := children(bench.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    bench.send_signal(signal.SIGINT)  # to the parent only: a terminal would send it to both
    _, err = bench.communicate(timeout=60)
    assert bench.returncode == 130 and "interrupted" in err and "Traceback" not in err
    assert running and not any(os.path.exists(f"/proc/{child}") for child in running)


def test_machine_has_the_versions():
    assert results.machine()["invnet"] == invnet.__version__
