"""Runs a part of the benchmark in a process of its own, with a time limit."""

import json
import os
import signal
import subprocess
import sys
import threading

from .. import harness

GRACE = 10  # seconds: a process ends by itself when its time is up, between two figures


def rows_of(part, device, seconds, *name):
    """Returns the rows that a process printed. If it failed or was killed, a last row says why."""
    command = [sys.executable, "-m", "benchmarks.gpu.measure", part, device, str(seconds), *name]
    process = subprocess.Popen(
        command, cwd=harness.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    late, errors = threading.Event(), []
    timer = threading.Timer(seconds + GRACE, lambda: (late.set(), kill(process)))
    reader = threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True)
    timer.start(), reader.start()
    rows = []
    try:
        for line in process.stdout:
            if line.startswith("{") and line.endswith("}\n"):
                rows.append(json.loads(line))
        process.wait()
    finally:
        timer.cancel()
        kill(process)
    reader.join(timeout=1)
    if process.returncode:
        last = next(
            (line.strip() for line in reversed(errors) if line.strip()), f"ended with status {process.returncode}"
        )
        rows.append(dict(part=part, contender=" ".join(name), note="its time was up" if late.is_set() else last[:150]))
    return rows


def kill(process):
    """Kills the process and all that it started, such as compilers that hold its pipes open."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
