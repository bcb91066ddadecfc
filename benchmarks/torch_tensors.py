"""Measures a training step on PyTorch's CPU tensors, with NumPy's kernels on their memory and with PyTorch's
functions.

    python -m benchmarks.torch_tensors            three Glows and two flows on vectors, about two minutes
    python -m benchmarks.torch_tensors --full     more rounds

| contender | what it is |
|---|---|
| numpy | the layer and the batch on NumPy's arrays |
| shared | both on tensors; NumPy's kernels work on their memory, as always on the CPU |
| aten | both on tensors, with PyTorch's own functions (aten), as on other devices |
| twin | the same Glow as a lean PyTorch model that stores all activations |

One step is forward + loss + backward. The Glows have 2 levels of 4 steps, on 32x32x3, batch 16. The RealNVP has 8
layers of hidden width 64 on 2 features, batch 256. The NSF has 5 layers of hidden width 64 on 6 features, batch 512.
"""

import contextlib

import numpy as np

import invnet
from invnet.bench.contenders import training_step

from . import harness

GLOW = dict(levels=2, steps=4, channels=3)
FLOWS = {"RealNVP": (lambda: invnet.RealNVP(2, 64, 8), (256, 2)), "NSF": (lambda: invnet.NSF(6, 64, 5), (512, 6))}
COLUMNS = dict(
    model="s", contender="s", ms_min=".2f", ms_median=".2f", ratio_min=".3f", ratio_median=".3f", threads="d"
)


@contextlib.contextmanager
def aten_on_the_cpu():
    """Tensors on the CPU go the way of those on other devices, not to NumPy's kernels."""
    import torch

    from invnet.ops import torch as torch_engine

    host = torch_engine._host
    torch_engine._host = lambda: torch_engine._on_device(torch.device("cpu"))
    try:
        yield
    finally:
        torch_engine._host = host


def by(context, step):
    """The step within a context."""

    def run():
        with context():
            step()

    return run


def contenders(make, shape):
    import torch

    X = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    nets = [make() for _ in range(3)]
    for net in nets:
        net.initialize(X)
    return {
        "numpy": training_step(nets[0], X),
        "shared": training_step(nets[1].to("torch"), torch.from_numpy(X)),
        "aten": by(aten_on_the_cpu, training_step(nets[2].to("torch"), torch.from_numpy(X))),
    }


def measure(model, steps, rounds, threads):
    rows = harness.summary(harness.in_turns(steps, range(rounds), threads=threads), reference="numpy")
    for row in rows:
        row.update(
            model=model, threads=threads, ms_min=1e3 * row.pop("seconds_min"), ms_median=1e3 * row.pop("seconds_median")
        )
    harness.print_table(rows, COLUMNS)
    return rows


def plot(rows):
    fig, axes = harness.figure(1)
    models, names = list(dict.fromkeys(row["model"] for row in rows)), ("numpy", "shared", "aten", "twin")
    for i, name in enumerate(names):
        mine = {row["model"]: 1 / row["ratio_min"] for row in rows if row["contender"] == name}
        at = [j + 0.2 * (i - 1.5) for j, model in enumerate(models) if model in mine]
        axes[0, 0].bar(at, [mine[model] for model in models if model in mine], 0.18, label=name, color=COLORS[name])
    axes[0, 0].set(xticks=range(len(models)), ylabel="step time / that on NumPy's arrays", title="tensors on the CPU")
    axes[0, 0].set_xticklabels([model.replace(", ", ",\n") for model in models], fontsize=8)
    axes[0, 0].legend(fontsize=8)
    return fig


COLORS = {"numpy": "black", "shared": "tab:green", "aten": "tab:orange", "twin": "tab:blue"}


def main():
    parser = harness.options(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    import torch

    from invnet.bench.contenders import CONTENDERS, make_glow

    invnet.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    rounds, rows = 15 if options.full else 5, []
    for hidden in (64, 128, 256):
        steps = contenders(lambda: make_glow(hidden, **GLOW), (16, 3, 32, 32))
        steps["twin"] = CONTENDERS["twin"].make(hidden=hidden, batch=16, size=32, threads=options.threads, **GLOW)
        rows += measure(f"Glow, hidden {hidden}", steps, rounds, options.threads)
    for name, (make, shape) in FLOWS.items():
        rows += measure(name, contenders(make, shape), rounds, options.threads)
    name = harness.result_name("torch_tensors", options)
    harness.write_csv(rows, name, options.out)
    harness.write_png(plot(rows), name, options.out)


if __name__ == "__main__":
    main()
