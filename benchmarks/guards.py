"""Measures what each guard against drift costs: time and memory of a training step.

    python -m benchmarks.guards          an image Glow of hidden 64 and a Glow of vectors: half a minute
    python -m benchmarks.guards --full   hidden 256 too, more rounds

The image Glows have 3 levels and 4 steps, at 32x32 and batch 16. The Glows of vectors have 8 features, 32 steps and
hidden 64, at batch 256. They run with one thread, in turns (invnet/bench/turns.py); times are seconds of the
processor. A ratio is the time divided by that of "unguarded" (drift_tolerance = None). `MiB` is the most that NumPy
allocates during a step above what was there before (tracemalloc); `input` is the size of X.
"""

import tracemalloc

import numpy as np

import invnet
from invnet.bench import turns
from invnet.bench.contenders import data, make_glow, training_step

from . import harness

GUARDS = {
    "unguarded": {"drift_tolerance": None},
    "default": {},
    'anchors = "auto"': {"anchors": "auto"},
    "anchors = 8": {"anchors": 8},
    "strict = 1e-3": {"strict": 1e-3},
    "strict = 0": {"strict": 0.0},
    'state_dtype = "float64"': {"state_dtype": "float64"},
}
COLUMNS = dict(
    model="s",
    guard="s",
    ms_min=".2f",
    ms_median=".2f",
    ratio_min=".3f",
    ratio_median=".3f",
    redone="d",
    MiB=".2f",
    input=".2f",
)


def models(full):
    """Returns {name: (a function that makes the net, X)}."""
    vectors = np.random.default_rng(0).standard_normal((256, 8), dtype="float32")
    made = {"vectors, hidden 64": (lambda: invnet.Glow(8, 64, 1, 32, ndim=0), vectors)}
    for hidden in (64, 256) if full else (64,):
        made[f"images, hidden {hidden}"] = (lambda hidden=hidden: make_glow(hidden, 3, 4, 3), data(3, 16, 32))
    return made


def guarded(make, X, settings):
    net = make()
    net.initialize(X)
    for name, value in settings.items():
        setattr(net, name, value)
    return net


def peak(step):
    """Returns the most bytes that a step allocates above what was there before."""
    step()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    step()
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest - before


def measure(name, make, X, rounds):
    nets = {guard: guarded(make, X, settings) for guard, settings in GUARDS.items()}
    steps = {guard: training_step(net, X) for guard, net in nets.items()}
    rows = turns.summary(turns.in_turns(steps, range(rounds), repeats=2, clock=turns.processor_clock), "unguarded")
    for row in rows:
        guard = row.pop("contender")
        row.update(
            model=name,
            guard=guard,
            ms_min=1e3 * row.pop("seconds_min"),
            ms_median=1e3 * row.pop("seconds_median"),
            ratio_min=1 / row["ratio_min"],
            ratio_median=1 / row["ratio_median"],
        )
        steps[guard]()
        row.update(
            redone=nets[guard].drift.redone if nets[guard].drift else 0,
            MiB=peak(steps[guard]) / 2**20,
            input=X.nbytes / 2**20,
        )
    harness.print_table(rows, COLUMNS)
    return rows


def main():
    options = harness.options(__doc__).parse_args()
    invnet.set_num_threads(1)
    rows = []
    for name, (make, X) in models(options.full).items():
        rows += measure(name, make, X, 15 if options.full else 8)
    harness.write_csv(rows, harness.result_name("guards", options), options.out)


if __name__ == "__main__":
    main()
