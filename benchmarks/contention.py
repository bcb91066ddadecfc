"""Measures a step with two threads while another process keeps one of the two cores busy. Linux only.

    python -m benchmarks.contention            one shape, about a minute
    python -m benchmarks.contention --full     hidden 64 and 256, more rounds

The process is pinned to two cores before any library is loaded. In each round every contender runs its steps twice:
on quiet cores, and while a process that only loops runs on the second core. No environment variable is set.
`slowdown` is the contended time divided by the quiet time: of the minima, of the medians, and of the worst step over
the quiet median.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time

from . import harness

COLUMNS = dict(
    hidden="d",
    contender="s",
    quiet_median=".4f",
    contended_median=".4f",
    slowdown_min=".2f",
    slowdown_median=".2f",
    slowdown_worst=".2f",
    ratio_quiet=".2f",
    ratio_contended=".2f",
)


@contextlib.contextmanager
def busy(core):
    """Runs another process that keeps a core busy."""
    pin = f"import os; os.sched_setaffinity(0, {{{core}}})"
    other = subprocess.Popen([sys.executable, "-c", f"{pin}\nwhile True: pass"])
    try:
        time.sleep(0.5)
        yield
    finally:
        other.kill()
        other.wait()


def timed(step, repeats, patience=4.0):
    """Returns the seconds of `repeats` steps, or of those that begin within `patience` seconds."""
    seconds = []
    while not seconds or (len(seconds) < repeats and sum(seconds) < patience):
        seconds.append(harness.clock(step))
    return seconds


def measure(hidden, names, rounds, repeats, core):
    from .contenders import available

    shape = dict(hidden=hidden, levels=2, steps=4 if hidden <= 64 else 2, channels=3, batch=16, size=32, threads=2)
    steps = {contender.name: contender.make(**shape) for contender in available(names)}
    quiet, contended = {name: [] for name in steps}, {name: [] for name in steps}
    for step in steps.values():
        step(), step()
    for _ in range(rounds):
        for seconds, state in ((quiet, contextlib.nullcontext()), (contended, busy(core))):
            with state:
                for name, step in steps.items():
                    time.sleep(harness.PAUSE)
                    seconds[name] += timed(step, repeats)
    rows = []
    for name in steps:
        q, c = quiet[name], contended[name]
        row = dict(
            contender=name,
            **shape,
            rounds=rounds,
            quiet_min=min(q),
            quiet_median=statistics.median(q),
            contended_min=min(c),
            contended_median=statistics.median(c),
            contended_max=max(c),
            quiet_times=q,
            contended_times=c,
        )
        row.update(
            slowdown_min=min(c) / min(q),
            slowdown_median=row["contended_median"] / row["quiet_median"],
            slowdown_worst=max(c) / row["quiet_median"],
        )
        rows.append(row)
    for row in rows:
        for state in ("quiet", "contended"):
            row[f"ratio_{state}"] = rows[0][f"{state}_median"] / row[f"{state}_median"]
    return rows


def plot(rows, folder, name):
    kinds = sorted({row["hidden"] for row in rows})
    fig, axes = harness.figure(len(kinds), width=5, height=3.8)
    for axis, hidden in zip(axes[0], kinds):
        mine = [row for row in rows if row["hidden"] == hidden]
        for i, row in enumerate(mine):
            for state, x, color in (("quiet", i - 0.15, "tab:green"), ("contended", i + 0.15, "tab:red")):
                times = row[f"{state}_times"]
                axis.plot([x] * len(times), times, "o", color=color, alpha=0.4, label=state if i == 0 else None)
                axis.plot([x - 0.1, x + 0.1], [statistics.median(times)] * 2, color=color, linewidth=2)
        axis.set(
            title=f"hidden {hidden}, two threads on two cores",
            ylabel="seconds for a step",
            yscale="log",
            xticks=range(len(mine)),
            xticklabels=[row["contender"] for row in mine],
        )
        axis.grid(alpha=0.3, which="both")
    axes[0, 0].legend()
    harness.write_png(fig, name, folder)


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--cores", type=int, nargs=2, help="two cores; default the last two that this process may use")
    parser.add_argument("--rounds", type=int, help="number of rounds; default 3, with --full 10")
    parser.add_argument("--contenders", nargs="+", default=["invnet", "twin", "normflows"])
    options = parser.parse_args()
    cores = options.cores or sorted(os.sched_getaffinity(0))[-2:]
    if len(cores) < 2:
        raise SystemExit("this benchmark needs two cores")
    os.sched_setaffinity(0, cores)
    rows = []
    for hidden in (64, 256) if options.full else (64,):
        rows += measure(hidden, options.contenders, options.rounds or (10 if options.full else 3), 5, cores[1])
    harness.print_table(rows, COLUMNS)
    name = harness.result_name("contention", options)
    plot(rows, options.out, name)
    for row in rows:
        del row["quiet_times"], row["contended_times"]
    harness.write_csv(rows, name, options.out)


if __name__ == "__main__":
    main()
