"""One process of the benchmark: `python -m benchmarks.gpu.measure PART DEVICE SECONDS [CONTENDER]`.

It prints rows as lines of JSON as soon as it has them. The parts are:

- memory: one contender, against depth and then against size, until memory ends. Each figure is that of a second step.
  `allocator` is the most that the allocator handed out above what was there before the step (parameters, gradients,
  batch). `driver` is the memory in use on the whole device after the step, with context and caches.
- speed: all contenders, in turns (invnet/bench/turns.py), at each hidden width.
- compiled: the contender that takes long to compile, beside the first one, at one width.
- kernels: see kernels.py.

A failure is a row with a note. After SECONDS no new measurement begins.
"""

import functools
import json
import sys
import time

from invnet.bench.speed import flops
from invnet.bench.turns import in_turns, summary

from . import contenders, kernels
from .attempts import Attempt, note_of
from .counters import counter_of
from .settings import OF_DEVICE

MiB = 2**20


def memory(settings, until, name):
    shape, engine = (
        dict(hidden=settings.memory_hidden, levels=3, channels=3, batch=settings.batch),
        contenders.engine_of(name, settings.device),
    )
    sweeps = {
        "depth": [(settings.size, steps) for steps in settings.depths],
        "size": [(size, settings.steps) for size in settings.sizes],
    }
    for kind, points in sweeps.items():
        for size, steps in points:
            row = dict(part="memory", kind=kind, contender=name, engine=engine, size=size, steps=steps, **shape)
            late = time.monotonic() > until
            row |= (
                {"note": "its time was up"} if late else peak_of(name, settings.device, size=size, steps=steps, **shape)
            )
            yield row
            if "note" in row:  # what comes next is larger
                break


def peak_of(name, device, **shape):
    """Returns the peak of a step in MiB by allocator and driver, or a note that says why there is none."""
    counter = counter_of(contenders.engine_of(name, device))
    step = None
    try:
        step = contenders.make(name, device, **shape)
        step()
        with counter.counting() as peak:
            step()
        allocator, driver = peak()
    except Exception as error:
        return {"note": note_of(error, counter.errors)}
    finally:
        step = None
        counter.free()
    return {"allocator_MiB": allocator / MiB, "driver_MiB": driver / MiB}


def speed(settings, until):
    names = [
        name
        for name in contenders.NAMES
        if name != contenders.COMPILED and contenders.library_missing(name, settings.device) is None
    ]
    for i, hidden in enumerate(settings.hidden):
        now = time.monotonic()
        yield from times(settings, names, hidden, now + (until - now) / (len(settings.hidden) - i))


def compiled(settings, until):
    if settings.device == "cuda" and contenders.library_missing(contenders.COMPILED, settings.device) is None:
        names = [
            name
            for name in (contenders.NAMES[0], contenders.COMPILED)
            if contenders.library_missing(name, settings.device) is None
        ]
        rows = times(settings, names, contenders.COMPILED_AT, until)
        yield from (row for row in rows if row["contender"] == contenders.COMPILED)


def times(settings, names, hidden, until):
    """Rows of one width; the share is the arithmetic of 4 evaluations of the conditioners at the rate of a large
    product.
    """
    device, shape = settings.device, dict(hidden=hidden, **settings.speed)
    counters = {name: counter_of(contenders.engine_of(name, device)) for name in names}
    attempts = {
        name: Attempt(functools.partial(contenders.make, name, device, **shape), counters[name]) for name in names
    }
    seconds = in_turns(attempts, within(settings.rounds, until))
    for name in names:
        if attempts[name].note is not None:
            del seconds[name]
            yield dict(part="speed", contender=name, **shape, note=attempts[name].note)
    for row in summary(seconds, next(iter(seconds), None)):
        rate, engine = (
            rate_of(settings, contenders.precision(row["contender"])),
            contenders.engine_of(row["contender"], device),
        )
        yield (
            row
            | dict(part="speed", engine=engine, **shape)
            | (
                {}
                if rate is None
                else dict(gemm_tflops=rate / 1e12, share=4 * flops(**shape) / row["seconds_min"] / rate)
            )
        )


def within(rounds, until):
    """Runs as many rounds as there is time for, at least one."""
    for i in range(rounds):
        if i and time.monotonic() > until:
            return
        yield i


def rate_of(settings, kind):
    """Returns the rate of a large product, or None if there is no such product."""
    if kind not in _rates:
        try:
            _rates[kind] = kernels.product_rate(settings, kind)
        except Exception as error:
            _rates[kind] = None
            print(f"no rate of {kind}: {note_of(error)}", file=sys.stderr)
    return _rates[kind]


_rates = {}


def main():
    part, device, seconds, *name = sys.argv[1:]
    until = time.monotonic() + float(seconds)
    for row in {"memory": memory, "speed": speed, "compiled": compiled, "kernels": kernels.rows}[part](
        OF_DEVICE[device], until, *name
    ):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
