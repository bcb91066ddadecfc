"""benchmarks.gpu, tried on the CPU: that it runs from end to end, measures every contender, and says what is missing."""

import csv
import dataclasses
import subprocess
import sys

import pytest

from benchmarks import harness
from benchmarks.gpu import contenders, kernels, measure
from benchmarks.gpu.__main__ import run, short
from benchmarks.gpu.settings import CPU, GPU


def benchmark(*options):
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", *map(str, options)]
    return subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True)


def test_it_leaves_figures_of_every_contender_a_picture_and_a_table(tmp_path):
    done = benchmark("--out", tmp_path, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "gpu.csv") as file:
        rows = list(csv.DictReader(file))
    assert all("trial" in row["device"] for row in rows)
    for part, names in (("memory", CPU.memory_contenders), ("speed", set(contenders.NAMES) - {"twin-compiled"})):
        measured = {row["contender"] for row in rows if row["part"] == part}
        assert measured == {name for name in names if contenders.library_missing(name, "cpu") is None}
    for row in rows:
        if row["part"] == "memory":
            assert (int(row["size"]), int(row["steps"])) in {(16, 1), (16, 2), (8, 1)} and float(row["driver_MiB"]) > 10
        elif row["part"] == "speed":
            assert float(row["seconds_min"]) > 0 and float(row["share"]) > 0
        else:
            assert float(row["microseconds"]) > 0 and float(row["bound_us"]) > 0
    assert len({row["operation"] for row in rows if row["part"] == "kernels"}) >= 10
    last = [line.split()[0] for line in done.stdout.strip().splitlines()[-len(measured):]]
    assert set(last) == measured
    from PIL import Image

    assert Image.open(tmp_path / "gpu.png").convert("L").getextrema() == (0, 255)


def test_without_a_device_it_says_so(tmp_path):
    if getattr(pytest.importorskip("cupy_here"), "ON_GPU"):
        pytest.skip("there is a device")
    done = benchmark("--out", tmp_path)
    assert done.returncode == 1 and "CuPy" in done.stderr and "--device cpu" in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_a_part_measured_before_its_time_was_up_counts():
    rows = run("memory", CPU, 1e-9, "twin")
    assert rows[-1]["note"] == "its time was up"


def test_a_part_that_fails_says_why():
    assert "got no-such" in run("memory", CPU, 60, "no-such")[-1]["note"]


def on_cupy():
    """Tiny settings whose contender is on CuPy, or on what stands in for it."""
    pytest.importorskip("cupy_here", reason="neither a GPU nor g++")
    return dataclasses.replace(CPU, device="cuda", depths=(1, 3))


def test_the_peak_on_cupy_is_flat_in_depth_and_grows_with_the_size():
    rows = list(measure.memory(on_cupy(), "invnet-cupy"))
    peaks = {(row["kind"], row["steps"], row["size"]): row["allocator_MiB"] for row in rows}
    assert peaks["depth", 1, 16] == pytest.approx(peaks["depth", 3, 16], rel=0.02) and peaks["size", 1, 16] > peaks["size", 1, 8]
    assert all(row["engine"] == "cupy" and row["driver_MiB"] > row["allocator_MiB"] > 0 for row in rows)


def test_memory_that_ends_is_a_row(monkeypatch):
    settings = on_cupy()
    monkeypatch.setattr(measure.contenders, "make", lambda *arguments, **shape: ran_out)
    assert [row["note"] for row in measure.memory(settings, "invnet-cupy")] == ["out of memory: the memory of GPU 0 ends"] * 4


def ran_out():
    raise MemoryError("the memory of GPU 0 ends\nand more")


def test_kernels_on_cupy_are_measured_against_a_copy():
    settings = on_cupy()
    rows = list(kernels.rows(settings))
    assert {"taps 3x3", "couple_backward_", "gradient of ReLU and bias"} <= {row["operation"] for row in rows}
    assert all(row["share"] == pytest.approx(row["bound_us"] / row["microseconds"]) for row in rows)
    assert kernels.product_rate(settings, "tf32") > 0


def test_all_parts_together_take_less_than_eight_minutes():
    assert len(GPU.memory_contenders) * GPU.seconds["memory"] + GPU.seconds["speed"] + GPU.seconds["kernels"] < 8 * 60


def test_the_last_table_has_a_line_for_each_contender():
    rows = [dict(part="memory", kind="depth", contender="a", steps=4, size=256, allocator_MiB=512.0),
            dict(part="memory", kind="size", contender="a", steps=16, size=1024, allocator_MiB=2048.0),
            dict(part="memory", kind="size", contender="a", steps=16, size=2048, note="out of memory"),
            dict(part="speed", contender="b", hidden=256, seconds_min=0.01, share=0.5)]
    assert short(rows, GPU) == [dict(contender="a", largest=1024, shallow_GiB=0.5, deep_GiB=""),
                                dict(contender="b", largest="", shallow_GiB="", deep_GiB="", step_ms=10.0, share=0.5)]
