"""Time of a training step in turns, and its share of the machine's limit; `invnet bench speed`.

`share` is the arithmetic of 4 evaluations of the conditioners over the step's time, as a part of the rate of a
2048 x 2048 float32 matrix product, by NumPy with as many threads, measured in the same turns. It is a rate of useful
work, counted as sums of products: a contender that stores activations needs 3 evaluations, and one that multiplies
values of polynomials (docs/math.md) half of its convolutions' multiplications, so a share may pass 100 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import results
from .turns import in_turns, sgemm, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

#: hidden: (batch at 32x32, steps of each level), for a step of about 0.05 to 0.2 seconds
MODELS = {64: (16, 4), 128: (16, 3), 256: (8, 2), 512: (8, 1)}
QUICK = dict(hidden=[64, 256], size=32, rounds=15)
COLUMNS = dict(
    hidden="d",
    batch="d",
    steps="d",
    contender="s",
    seconds_min=".4f",
    seconds_median=".4f",
    ratio_min=".2f",
    ratio_median=".2f",
    share=".0%",
)


def flops(
    hidden: int | Sequence[int],
    levels: int,
    steps: int,
    channels: int,
    batch: int,
    size: int,
    threads: int | None = None,
):
    """Multiplications and additions of one evaluation of all conditioners over the batch."""
    total, C = 0, channels
    for level in range(1, levels + 1):
        C *= 4
        x1, x2 = C - C // 2, C // 2
        total += steps * 2 * batch * (size >> level) ** 2 * (9 * x1 * hidden + hidden * hidden + 9 * hidden * 2 * x2)
        C = x1
    return total


def measure(
    contenders,
    hidden: int | Sequence[int],
    size: int,
    threads: int | None,
    rounds,
    levels: int = 3,
    reference: str = "invnet",
):
    """Rows of one shape; `rounds` is an iterable with an item for each round."""
    batch, steps = MODELS[hidden]
    batch = max(batch * 32 // size, 4)
    shape = dict(hidden=hidden, levels=levels, steps=steps, channels=3, batch=batch, size=size, threads=threads)
    made = {contender.name: contender.make(**shape) for contender in contenders}
    product, product_flops = sgemm(threads)
    seconds = in_turns({**made, "sgemm": product}, rounds, threads=threads)
    rate = product_flops / min(seconds.pop("sgemm"))
    rows = summary(seconds, reference)
    for row in rows:
        row.update(
            shape,
            parameters=made[row["contender"]].parameters,
            sgemm_gflops=rate / 1e9,
            share=4 * flops(**shape) / row["seconds_min"] / rate,
        )
    return rows


def quick(contenders, threads: int | None):
    """The rows of contenders, the first of which is the reference."""
    from tqdm import tqdm

    rows = []
    for hidden in QUICK["hidden"]:
        with tqdm(range(QUICK["rounds"]), f"hidden {hidden}", unit="round", leave=False, disable=None) as rounds:
            rows += measure(contenders, hidden, QUICK["size"], threads, rounds, reference=contenders[0].name)
    return rows


def report(rows) -> None:
    """Prints the rows with their minimum, median and ratios."""
    first = rows[0]
    print(
        "Seconds of a training step: forward, loss and backward\n"
        "Glow, {size}x{size}x{channels}, {levels} levels of `steps` steps, threads: {threads}\n".format(**first)
    )
    results.print_table(rows, {name: form for name, form in COLUMNS.items() if name != "share"})
    print(
        f"\nover {first['rounds']} rounds; ratio: {first['contender']}'s time over the contender's, "
        f"so that below 1 {first['contender']} is faster"
    )


def plot(rows):
    """A figure: times over the reference's, and shares, against the hidden width; a column for each threads and
    size.
    """
    kinds = sorted({(row["threads"], row["size"]) for row in rows})
    fig, axes = results.figure(len(kinds), 2)
    for column, (threads, size) in enumerate(kinds):
        ours = [row for row in rows if (row["threads"], row["size"]) == (threads, size)]
        for contender in dict.fromkeys(row["contender"] for row in ours):
            mine = [row for row in ours if row["contender"] == contender]
            hidden = [row["hidden"] for row in mine]
            results.line(axes[0, column], hidden, [1 / row["ratio_median"] for row in mine], contender)
            results.line(axes[1, column], hidden, [row["share"] for row in mine], contender)
        axes[0, column].set(title=f"{size}x{size}, threads: {threads}", ylabel="step time / invnet's", ylim=(0, None))
        axes[1, column].set(ylabel="4 conditioner evaluations / time\nas a part of the sgemm rate", ylim=(0, None))
        for row in axes[:, column]:
            row.set_xscale("log", base=2)
            ticks = sorted({r["hidden"] for r in ours})
            row.set(xlabel="hidden width", xticks=ticks, xticklabels=ticks)
            row.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8, loc="lower left", ncols=2)  # below the reference there is nothing
    return fig
