"""Draws the picture: memory against depth and size, step times, kernels."""

from .. import harness

COLORS = {
    "invnet-cupy": "black",
    "invnet-torch": "tab:green",
    "twin": "tab:blue",
    "checkpointed": "tab:purple",
    "normflows": "tab:orange",
}
DASHES = {"allocator_MiB": "-", "driver_MiB": ":"}


def plot(rows, settings, facts):
    fig, axes = harness.figure(2, 2, width=6.5, height=4.8)
    shape = f"batch {settings.batch}, hidden {settings.memory_hidden}, 3 levels"
    _memory(axes[0, 0], rows, "depth", "steps", "steps of each level", f"{settings.size}x{settings.size}x3, {shape}")
    _memory(axes[0, 1], rows, "size", "size", "height and width", f"{settings.steps} steps a level, {shape}")
    _times(axes[1, 0], [row for row in rows if "seconds_min" in row], settings)
    _kernels(axes[1, 1], [row for row in rows if "bound_us" in row])
    fig.suptitle(", ".join(map(str, facts.values())), fontsize=9)
    return fig


def _memory(axes, rows, kind, along, label, title):
    mine = [row for row in rows if row.get("kind") == kind and "allocator_MiB" in row]
    for name in dict.fromkeys(row["contender"] for row in mine):
        points = [row for row in mine if row["contender"] == name]
        for column, dash in DASHES.items():
            axes.plot(
                [row[along] for row in points],
                [row[column] / 1024 for row in points],
                color=COLORS[name],
                linestyle=dash,
                marker="o",
                markersize=3,
                label=name if dash == "-" else None,
            )
    axes.set(
        xlabel=label, ylabel="peak, GiB: allocator above parameters\nand gradients; dotted: whole device", title=title
    )
    axes.set_xscale("log", base=2)
    ticks = sorted({row[along] for row in mine})
    axes.set(xticks=ticks, xticklabels=ticks)
    axes.grid(alpha=0.3)
    if mine:
        axes.set_yscale("log")
        axes.legend(fontsize=7)


def _times(axes, rows, settings):
    names = list(dict.fromkeys(row["contender"] for row in rows))
    for i, hidden in enumerate(settings.hidden):
        mine = {row["contender"]: 1e3 * row["seconds_min"] for row in rows if row["hidden"] == hidden}
        places = [k + 0.25 * (i - (len(settings.hidden) - 1) / 2) for k, name in enumerate(names) if name in mine]
        axes.barh(places, [mine[name] for name in names if name in mine], 0.22, label=f"hidden {hidden}")
    axes.set(
        yticks=range(len(names)),
        yticklabels=names,
        xlabel="milliseconds of a step, minimum",
        xscale="log",
        title="{size}x{size}x3, batch {batch}, {levels} levels of {steps} steps".format(**settings.speed),
    )
    axes.invert_yaxis()
    if rows:
        axes.legend(fontsize=7)


def _kernels(axes, rows):
    axes.barh([row["operation"] for row in rows], [row["share"] for row in rows], color="black")
    axes.axvline(0.8, color="tab:red", linestyle=":", label="0.8, the aim")
    axes.set(xlabel="bytes / bandwidth of a copy / time", title="kernels", xlim=(0, None))
    axes.invert_yaxis()
    axes.legend(fontsize=7)
