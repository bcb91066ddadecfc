"""Timing in turns.

All contenders live in one process and take turns: in each round every contender runs `repeats` steps, the fastest of
which is its time of that round, so that a change in the machine's speed meets all of them. The contender that begins
moves on from round to round. Between turns there is a pause when there are several threads: the threads of OpenMP and
OpenBLAS spin for a while after their work, on the cores of the next contender.

Ratios. `ratio_min` is the minimum over rounds of the reference divided by that of the contender; `ratio_median` is the
median over rounds of the ratio within a round. Below 1 the reference is faster.
"""

from __future__ import annotations

import statistics
import time

PAUSE = 0.1


def clock(step: int):
    """Seconds of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def processor_clock(step: int):
    """Seconds of the processor that one call takes in all threads: on a machine with other work, for what runs in one
    thread.
    """
    start = time.process_time()
    step()
    return time.process_time() - start


def in_turns(steps: int, rounds, repeats: int = 2, threads: int | None = 1, clock=clock):
    """Seconds of each round, {name: [...]}, of functions by name; each runs twice before its first round.

    Args:
        steps: {name: function}.
        rounds: an iterable with an item for each round: range(7), or a progress bar over it.
        clock: the seconds of a step.
    """
    for step in steps.values():
        step(), step()
    seconds, names = {name: [] for name in steps}, list(steps)
    for i, _ in enumerate(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            if threads > 1:
                time.sleep(PAUSE)
            seconds[name].append(min(clock(steps[name]) for _ in range(repeats)))
    return seconds


def summary(seconds, reference: str = "invnet") -> str:
    """Minimum, median and ratios of each contender, as rows."""
    rows = []
    for name, each in seconds.items():
        row = {
            "contender": name,
            "seconds_min": min(each),
            "seconds_median": statistics.median(each),
            "rounds": len(each),
        }
        if reference in seconds:
            ours = seconds[reference]
            row["ratio_min"] = min(ours) / min(each)
            row["ratio_median"] = statistics.median(a / b for a, b in zip(ours, each))
        rows.append(row)
    return rows


def sgemm(threads: int | None, size: int = 2048):
    """A step that multiplies two square float32 matrices with NumPy's BLAS, and its floating-point operations."""
    import numpy as np
    from threadpoolctl import ThreadpoolController

    A, B = np.random.default_rng(0).standard_normal((2, size, size), dtype=np.float32)
    out, blas = np.empty_like(A), ThreadpoolController().select(user_api="blas")

    def step():
        with blas.limit(limits=threads):
            np.matmul(A, B, out=out)

    return step, 2 * size**3
