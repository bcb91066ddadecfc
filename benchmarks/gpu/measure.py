"""One process of the benchmark: `python -m benchmarks.gpu.measure PART DEVICE [CONTENDER]` prints rows as lines of JSON as they come.

- memory: of one contender, against depth and then against size, until memory ends. Each figure is of a step after another one:
  `allocator` is the most that the allocator handed out above what there was before it (parameters, gradients, batch),
  `driver` what the driver says is in use on the whole device after it, context and caches included.
- speed: of all contenders, in turns (invnet/bench/turns.py), in each hidden width.
- kernels: kernels.py.
"""

import json
import sys

from invnet.bench.speed import flops
from invnet.bench.turns import in_turns, summary

from . import contenders, kernels
from .counters import counter_of
from .settings import OF_DEVICE

MiB = 2**20


def memory(settings, name):
    shape, engine = dict(hidden=settings.memory_hidden, levels=3, channels=3, batch=settings.batch), contenders.engine_of(name, settings.device)
    for kind, points in (("depth", [(settings.size, steps) for steps in settings.depths]), ("size", [(size, settings.steps) for size in settings.sizes])):
        for size, steps in points:
            row = dict(part="memory", kind=kind, contender=name, engine=engine, size=size, steps=steps, **shape)
            yield row | peak_of(name, settings.device, size=size, steps=steps, **shape)


def peak_of(name, device, **shape):
    """The peak of a step in MiB by allocator and driver, or a note that memory ended."""
    counter = counter_of(contenders.engine_of(name, device))
    try:
        step = contenders.make(name, device, **shape)
        step()
        counter.start()
        step()
        allocator, driver = counter.peak()
    except counter.errors as error:
        return {"note": f"out of memory: {str(error).splitlines()[0][:100]}"}
    finally:
        step = None
        counter.free()
    return {"allocator_MiB": allocator / MiB, "driver_MiB": driver / MiB}


def speed(settings):
    """Rows of each width; the share of the arithmetic of 4 evaluations of the conditioners at the rate of a large product."""
    device = settings.device
    names = [name for name in contenders.NAMES if contenders.library_missing(name, device) is None]
    rates = {kind: kernels.product_rate(settings, kind) for kind in {contenders.precision(name) for name in names}}
    for hidden in settings.hidden:
        shape, made = dict(hidden=hidden, **settings.speed), {}
        for name in names:
            counter = counter_of(contenders.engine_of(name, device))
            if name == "twin-compiled" and (hidden != contenders.COMPILED_AT or device == "cpu"):
                continue
            try:
                made[name] = waiting(contenders.make(name, device, **shape), counter)
                made[name]()
            except counter.errors as error:
                made.pop(name, None)
                yield dict(part="speed", contender=name, **shape, note=f"out of memory: {str(error).splitlines()[0][:100]}")
        for row in summary(in_turns(made, range(settings.rounds)), next(iter(made))):
            rate = rates[contenders.precision(row["contender"])]
            engine = contenders.engine_of(row["contender"], device)
            yield row | dict(part="speed", engine=engine, **shape, gemm_tflops=rate / 1e12, share=4 * flops(**shape) / row["seconds_min"] / rate)


def waiting(step, counter):
    def run():
        step()
        counter.wait()

    return run


def main():
    part, device, *name = sys.argv[1:]
    for row in {"memory": memory, "speed": speed, "kernels": kernels.rows}[part](OF_DEVICE[device], *name):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
