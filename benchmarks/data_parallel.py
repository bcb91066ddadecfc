"""Compares a training step in one process and in two. Each has one thread on a core of its own. Linux only.

    python -m benchmarks.data_parallel            hidden 128, about a minute
    python -m benchmarks.data_parallel --full     hidden 128 and 256, more rounds

One process gets the whole batch; each of two gets half of it. Steps take turns. The contenders:

- `one`: a step in one process, while the other sleeps
- `two, overlapped`: gradients are summed in buckets while backward continues, for two sizes of buckets
- `two, at the end`: all gradients are summed in one piece after backward
- `two, nothing summed`: what a step would take if sums cost nothing

The sums go through the loopback of this machine. The threads of gloo share the cores with the arithmetic.
"""

import math
import os
import socket
import subprocess
import sys

from . import harness

COLUMNS = dict(
    hidden="d",
    contender="s",
    buckets="d",
    mib_summed=".1f",
    seconds_min=".4f",
    seconds_median=".4f",
    ratio_min=".2f",
    ratio_median=".2f",
)
BUCKETS = {"two, overlapped, 1 MiB": 1 << 20, "two, overlapped, 4 MiB": 4 << 20, "two, at the end": math.inf}


def measure(ranks, hidden, rounds):
    """Returns the rows of all contenders. Every rank must call it."""
    import numpy as np

    import invnet
    from invnet.distributed import Reducer
    from invnet.losses import gaussian_nll

    net = invnet.Glow(3, hidden, levels=2, steps=8)
    shape = dict(hidden=hidden, levels=2, steps=8, batch=16, size=32)
    X = np.random.default_rng(0).standard_normal((16, 3, 32, 32), dtype="float32")
    net.initialize(X)
    optimizer, mine = invnet.optim.Adam(net.parameters(), lr=1e-6), X[ranks.shard(len(X))]

    def step(X, averaging, idle=False):
        ranks.any(False)
        if not idle:
            Z, logdet = net.forward(X)
            loss, dZ, dlogdet = gaussian_nll(Z, logdet)
            with averaging():
                net.backward(dZ, Z, dlogdet)
            optimizer.step()
            net.zero_grad()
        ranks.any(False)

    alone = invnet.process_group.SingleProcess().synchronising(net, optimizer)
    reducers = {name: Reducer(ranks, net, optimizer, bucket) for name, bucket in BUCKETS.items()}
    steps = {"one": lambda: step(X, alone, idle=ranks.rank > 0)}
    steps.update({name: lambda reducer=reducer: step(mine, reducer) for name, reducer in reducers.items()})
    steps["two, nothing summed"] = lambda: step(mine, alone)
    rows = harness.summary(harness.in_turns(steps, range(rounds)), reference="one")
    for row in rows:
        reducer = reducers.get(row["contender"])
        row.update(
            shape,
            buckets=len(reducer.buckets) if reducer else 0,
            mib_summed=optimizer.grad.nbytes / 2**20 if reducer else 0.0,
        )
    return rows


def work(options):
    """Runs in each of the two processes; rank 0 writes the results of both."""
    os.sched_setaffinity(0, {options.cores[int(os.environ["RANK"])]})  # before any thread is made
    import invnet

    with invnet.distributed.joined() as ranks:
        invnet.set_num_threads(1)
        rows = []
        for hidden in (128, 256) if options.full else (128,):
            rows += measure(ranks, hidden, options.rounds or (9 if options.full else 5))
        if ranks.writes:
            harness.print_table(rows, COLUMNS)
            harness.keep(rows, "data_parallel", options, plot)


def plot(rows, folder, name):
    widths = sorted({row["hidden"] for row in rows})
    fig, axes = harness.figure(len(widths), width=4.5, height=3.6)
    for axis, hidden in zip(axes[0], widths):
        mine = [row for row in rows if row["hidden"] == hidden][::-1]
        axis.barh(
            [row["contender"] for row in mine], [row["seconds_median"] for row in mine], color="tab:blue", alpha=0.4
        )
        axis.plot([row["seconds_min"] for row in mine], range(len(mine)), "k|", markersize=14)
        axis.set(title=f"hidden {hidden}", xlabel="seconds: median, and minimum (|)", xlim=(0, None))
        axis.grid(alpha=0.3, axis="x")
    harness.write_png(fig, name, folder)


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--cores", type=int, nargs=2, help="two cores; default the last two that this process may use")
    parser.add_argument("--rounds", type=int, help="number of rounds; default 5, with --full 9")
    options = parser.parse_args()
    options.cores = options.cores or sorted(os.sched_getaffinity(0))[-2:]
    if len(options.cores) < 2:
        raise SystemExit("this benchmark needs two cores")
    if "RANK" in os.environ:
        work(options)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = dict(os.environ, WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    command = [sys.executable, "-m", "benchmarks.data_parallel", *sys.argv[1:]]
    processes = [subprocess.Popen(command, env=dict(together, RANK=str(rank))) for rank in range(2)]
    raise SystemExit(max(process.wait() for process in processes))


if __name__ == "__main__":
    main()
