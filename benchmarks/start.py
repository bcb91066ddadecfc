"""Measures the first seconds: the import, and the first training step with and without compiled kernels.

    python -m benchmarks.start            3 processes of each kind: half a minute
    python -m benchmarks.start --full     10 processes of each kind

Each figure comes from a process of its own. `seconds` is its life from start to end, as a user waits for it:

- numpy:        imports NumPy and ends; invnet cannot be faster than this
- import:       imports invnet and ends; `inside` is the import statement alone
- first step:   one training step of a small Glow (forward, loss, backward, Adam), with an empty kernel cache
                (NUMBA_CACHE_DIR); `inside` is from before the import to after the step
- later step:   the same in a later process, with the cache that the first one filled
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from . import harness

IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
STEP = """
import time; start = time.perf_counter()
import numpy as np, invnet
glow = invnet.Glow(3, 32, 2, 2)
optimizer = invnet.optim.Adam(glow.parameters())
X = np.random.default_rng(0).standard_normal((8, 3, 16, 16), dtype=np.float32)
glow.initialize(X)
Z, logdet = glow.forward(X)
_, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
glow.backward(dZ, Z, dlogdet)
optimizer.step()
print(time.perf_counter() - start)
"""
COLUMNS = dict(what="s", seconds_min=".2f", seconds_median=".2f", inside_min=".2f", inside_median=".2f", limit="s")


def process(code, **variables):
    """Seconds of a process that runs `code`, and the number that it prints."""
    start = time.perf_counter()
    command, environment = [sys.executable, "-c", code], os.environ | variables
    done = subprocess.run(command, env=environment, cwd=harness.ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds, float(done.stdout.split()[-1])


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--processes", type=int, help="processes of each kind; default 3, with --full 10")
    options = parser.parse_args()
    times = {"numpy": [], "import": [], "first step": [], "later step": []}
    for _ in range(options.processes or (10 if options.full else 3)):
        times["numpy"].append(process(IMPORT.format("numpy")))
        times["import"].append(process(IMPORT.format("invnet")))
        with tempfile.TemporaryDirectory() as cache:
            times["first step"].append(process(STEP, NUMBA_CACHE_DIR=cache))
            times["later step"].append(process(STEP, NUMBA_CACHE_DIR=cache))
    limits = {"import": "0.4 inside", "first step": "20", "later step": "1.5"}
    rows = []
    for what, pairs in times.items():
        whole, inside = zip(*pairs)
        rows.append(
            dict(
                what=what,
                seconds_min=min(whole),
                seconds_median=statistics.median(whole),
                inside_min=min(inside),
                inside_median=statistics.median(inside),
                limit=limits.get(what, ""),
                processes=len(pairs),
            )
        )
    harness.print_table(rows, COLUMNS)
    name = harness.result_name("start", options)
    harness.write_csv(rows, name, options.out)
    fig, axes = harness.figure(width=5, height=3.5)
    axes[0, 0].bar([row["what"] for row in rows], [row["seconds_median"] for row in rows], color="tab:blue")
    axes[0, 0].bar_label(axes[0, 0].containers[0], fmt="%.2f")
    axes[0, 0].set(ylabel="seconds of the process, median", yscale="log")
    harness.write_png(fig, name, options.out)


if __name__ == "__main__":
    main()
