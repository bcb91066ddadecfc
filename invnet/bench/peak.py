"""Peak memory of one contender's training step, in a process of its own: `python -m invnet.bench.peak twin --hidden 64
...`.

1. A step of a tiny model, one step of each level on a tiny batch, runs first: it loads libraries, loads the kernels,
which
   depend on the numbers of channels, and starts threads. Kernels should have been compiled by a process before.
2. The model and the batch are made and the gradients' memory is touched; `baseline` is the resident memory then. So it
   holds interpreter, libraries, batch, parameters and gradients, and no activation.
3. The kernel's high-water mark of resident memory is reset (Linux: 5 to /proc/self/clear_refs), the step runs
   `--repeats` times, and `peak` is the mark after that (VmHWM). Where it cannot be reset, it is that of the whole
   process.
4. `activations` = peak - baseline: what a step takes above parameters, gradients and the batch. A contender that frees
its
   gradients in the forward pass, as PyTorch's do, gains at most the gradients' size by this reckoning.

Prints these as JSON, in bytes. Linux only, and of the host's memory only.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys

from ..ops.threads import InterruptLater
from .contenders import CONTENDERS

PROGRAM = "invnet.bench.peak"
DEFAULTS = dict(hidden=64, levels=3, steps=4, channels=3, batch=4, size=64, threads=1)


def peak_memory(contender, program=PROGRAM, repeats: int = 1, **shape: int):
    """What a process of its own measures, in bytes: {"activations": ..., "parameters": ..., ...}, or {"failed": why}.

    Args:
        contender: its name.
        program: a module that calls main(), with the contenders that it has.
        shape: of DEFAULTS.
    """
    options = [str(value) for name, value in (shape | {"repeats": repeats}).items() for value in (f"--{name}", value)]
    # The child looks for modules where this process does, -P: and not in the current folder first; so it finds the same
    # invnet.
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    command = [sys.executable, "-P", "-W", "ignore", "-m", program, contender, *options]
    status, out, err = run(command, os.environ | {"PYTHONPATH": path})
    if status:
        return {
            "failed": f"killed by signal {-status}" if status < 0 else (err.strip().splitlines() or ["no message"])[-1]
        }
    return json.loads(out.splitlines()[-1])


def run(command, environment):
    """Exit status, output and errors of a process that does not outlive this call, whenever Ctrl-C comes."""
    process = None
    try:
        with InterruptLater():  # subprocess.run loses a process if Ctrl-C comes while it starts
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        out, err = process.communicate()
        return process.returncode, out, err
    finally:
        if process is not None:
            process.kill()
            process.wait()


def resident(field):
    """VmRSS or VmHWM of this process in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def reset_peak() -> bool:
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return True
    except OSError:
        return False


def measure(contender, repeats, **shape: int):
    """Runs in the process that is measured."""
    tiny = contender.make(**shape | dict(steps=1, batch=3, size=2 ** shape["levels"]))
    tiny()
    del tiny
    step = contender.make(**shape)
    if step.device != "cpu":
        raise SystemExit(f"peak memory is that of the host; the arrays of {contender.name} lie on {step.device}")
    step.touch()
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    baseline, was_reset = resident("VmRSS"), reset_peak()
    for _ in range(repeats):
        step()
    peak = resident("VmHWM")
    arrays = dict(input=4 * shape["batch"] * shape["channels"] * shape["size"] ** 2, parameters=4 * step.parameters)
    return dict(activations=peak - baseline, baseline=baseline, peak=peak, peak_was_reset=was_reset, **arrays)


def main(contenders=CONTENDERS) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contender", choices=contenders)
    parser.add_argument("--repeats", type=int, default=1)
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = vars(parser.parse_args())
    print(json.dumps(measure(contenders[options.pop("contender")], **options)))


if __name__ == "__main__":
    main()
