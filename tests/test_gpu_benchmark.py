"""benchmarks.gpu, tried on the CPU: that it runs from end to end, measures every contender, and says what is
missing.
"""

import csv
import dataclasses
import subprocess
import sys
import time

import pytest

from benchmarks import harness
from benchmarks.gpu import __main__ as main
from benchmarks.gpu import contenders, kernels, measure, process
from benchmarks.gpu.process import rows_of
from benchmarks.gpu.settings import CPU, GPU


def benchmark(*options):
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", *map(str, options)]
    return subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True)


@pytest.mark.exhaustive
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
    last = [line.split()[0] for line in done.stdout.strip().splitlines()[-len(measured) :]]
    assert set(last) == measured
    from PIL import Image

    assert Image.open(tmp_path / "gpu.png").convert("L").getextrema() == (0, 255)


def test_without_a_device_it_says_so(tmp_path):
    if pytest.importorskip("cupy_here").ON_GPU:
        pytest.skip("there is a device")
    done = benchmark("--out", tmp_path)
    assert done.returncode == 1 and "CuPy" in done.stderr and "--device cpu" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_part_whose_time_is_up_says_so_and_begins_nothing():
    rows = rows_of("memory", "cpu", 0, "twin")
    assert [(row["kind"], row["note"]) for row in rows] == [("depth", "its time was up"), ("size", "its time was up")]


def test_a_part_that_hangs_is_ended_with_all_that_it_started_and_what_it_measured_counts(monkeypatch, tmp_path):
    program = tmp_path / "hangs"
    program.write_text('#!/bin/sh\necho \'{"part": "speed"}\'\necho done\nsleep 60 &\nsleep 60\n')
    program.chmod(0o755)
    monkeypatch.setattr(process.sys, "executable", str(program))
    monkeypatch.setattr(process, "GRACE", 0.5)
    begun = time.monotonic()
    assert rows_of("speed", "cpu", 0) == [
        {"part": "speed"},
        {"part": "speed", "contender": "", "note": "its time was up"},
    ]
    assert time.monotonic() - begun < 30  # the second sleeper had the pipe open


def test_a_part_that_ends_in_an_error_says_which():
    assert [row["note"] for row in rows_of("no-such", "cpu", 60)] == ["KeyError: 'no-such'"]


def test_a_contender_that_fails_is_a_row_and_the_others_are_measured(monkeypatch):
    make = contenders.make

    def failing(name, *arguments, **shape):
        if name == "twin":
            raise RuntimeError("CUDA error: an illegal memory access\nand more")
        step, calls = make(name, *arguments, **shape), []
        return lambda: calls.append(name) or (ran_out() if name == "twin-first" and len(calls) > 3 else step())

    monkeypatch.setattr(measure.contenders, "make", failing)
    rows = {row["contender"]: row for row in measure.times(CPU, ["invnet-cupy", "twin", "twin-first"], 8, 0)}
    assert rows["twin"]["note"] == "RuntimeError: CUDA error: an illegal memory access"
    assert (
        rows["twin-first"]["note"] == "out of memory: the memory of GPU 0 ends"
        and "seconds_min" not in rows["twin-first"]
    )
    assert rows["invnet-cupy"]["seconds_min"] > 0 and rows["invnet-cupy"]["rounds"] == 1  # its time was up


def test_where_all_contenders_fail_there_are_rows_all_the_same(monkeypatch):
    monkeypatch.setattr(measure.contenders, "make", lambda *arguments, **shape: ran_out)
    assert len([row["note"] for row in measure.times(CPU, ["invnet-cupy", "twin"], 8, 0)]) == 2


def test_a_kernel_that_fails_is_a_row(monkeypatch):
    calls = kernels.calls
    monkeypatch.setattr(kernels, "calls", lambda *a, **o: {**calls(*a, **o), "copy_channels_last": (ran_out, 1)})
    rows = {row["operation"]: row for row in kernels.rows(CPU, time.monotonic() + 60)}
    assert (
        rows["copy_channels_last"]["note"] == "out of memory: the memory of GPU 0 ends"
        and rows["mix_"]["microseconds"] > 0
    )


def test_what_is_known_is_written_after_each_part_and_without_any_figure_too(monkeypatch, tmp_path, capsys):
    written = []

    def failed(part, device, seconds, *name):
        written.append((tmp_path / "gpu.csv").exists())
        return [dict(part=part, contender=" ".join(name), note="RuntimeError: no kernel image is available")]

    monkeypatch.setattr(main, "rows_of", failed)
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", "--out", str(tmp_path), "--device", "cpu"])
    main.main()
    assert written == [False, True, True, True, True]
    assert (tmp_path / "gpu.csv").read_text().count("no kernel image") == 5 and (tmp_path / "gpu.png").exists()
    assert "memory, twin,  : RuntimeError: no kernel image is available" in capsys.readouterr().out


def test_without_a_picture_there_are_figures(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(main, "rows_of", lambda *arguments: [])
    monkeypatch.setattr(main, "plot", lambda *arguments: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", "--out", str(tmp_path), "--device", "cpu"])
    main.main()
    assert "there is no picture: ZeroDivisionError" in capsys.readouterr().out and (tmp_path / "gpu.csv").exists()


def test_time_that_a_part_leaves_is_for_the_parts_after_it(monkeypatch):
    seconds = []
    monkeypatch.setattr(main, "rows_of", lambda part, device, limit, *name: seconds.append(limit) or [])
    for _ in main.measured(GPU):
        pass
    assert seconds[0] == pytest.approx(GPU.seconds["kernels"], abs=1)
    assert seconds[-1] == pytest.approx(planned(), abs=60)  # all, but for what looking for a library took


def planned():
    return sum(GPU.seconds[part] for part, *_ in main.parts_of(GPU))


def on_cupy():
    """Tiny settings whose contender is on CuPy, or on what stands in for it."""
    pytest.importorskip("cupy_here", reason="neither a GPU nor g++")
    return dataclasses.replace(CPU, device="cuda", depths=(1, 3))


@pytest.mark.exhaustive
def test_the_peak_on_cupy_is_flat_in_depth_and_grows_with_the_size():
    rows = list(measure.memory(on_cupy(), time.monotonic() + 60, "invnet-cupy"))
    peaks = {(row["kind"], row["steps"], row["size"]): row["allocator_MiB"] for row in rows}
    assert (
        peaks["depth", 1, 16] == pytest.approx(peaks["depth", 3, 16], rel=0.02)
        and peaks["size", 1, 16] > peaks["size", 1, 8]
    )
    assert all(row["engine"] == "cupy" and row["driver_MiB"] > row["allocator_MiB"] > 0 for row in rows)


def test_memory_that_ends_is_a_row(monkeypatch):
    settings = on_cupy()
    monkeypatch.setattr(measure.contenders, "make", lambda *arguments, **shape: ran_out)
    rows = list(measure.memory(settings, time.monotonic() + 60, "invnet-cupy"))
    assert [(row["kind"], row["note"]) for row in rows] == [
        (kind, "out of memory: the memory of GPU 0 ends") for kind in ("depth", "size")
    ]


def test_memory_that_ends_while_it_is_counted_leaves_nothing_behind(monkeypatch):
    settings, turns = on_cupy(), []
    monkeypatch.setattr(
        measure.contenders,
        "make",
        lambda *arguments, **shape: lambda: turns.append(0) or (ran_out() if len(turns) == 2 else None),
    )
    assert "note" in measure.peak_of("invnet-cupy", settings.device)
    assert (
        measure.peak_of("invnet-cupy", settings.device)["allocator_MiB"] == 0
    )  # a hook that is still there would be an error


def ran_out():
    raise MemoryError("the memory of GPU 0 ends\nand more")


def test_kernels_on_cupy_are_measured_against_a_copy():
    settings = on_cupy()
    rows = list(kernels.rows(settings, time.monotonic() + 60))
    assert {"taps 3x3", "couple_vjp_", "gradient of ReLU and bias"} <= {row["operation"] for row in rows}
    assert all(row["share"] == pytest.approx(row["bound_us"] / row["microseconds"]) for row in rows)
    assert kernels.product_rate(settings, "tf32") > 0


def test_all_parts_together_take_less_than_eight_minutes():
    assert planned() + process.GRACE < 8 * 60 - 10  # the picture


def test_the_last_table_has_a_line_for_each_contender():
    rows = [
        dict(part="memory", kind="depth", contender="a", steps=4, size=256, allocator_MiB=512.0),
        dict(part="memory", kind="size", contender="a", steps=16, size=1024, allocator_MiB=2048.0),
        dict(part="memory", kind="size", contender="a", steps=16, size=2048, note="out of memory"),
        dict(part="speed", contender="b", hidden=256, seconds_min=0.01, share=0.5),
    ]
    assert main.short(rows, GPU) == [
        dict(contender="a", largest=1024, shallow_GiB=0.5, deep_GiB=""),
        dict(contender="b", largest="", shallow_GiB="", deep_GiB="", step_ms=10.0, share=0.5),
    ]
