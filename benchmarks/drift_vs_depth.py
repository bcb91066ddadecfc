"""Measures drift, the error of the rebuilt input, and the error of the gradients, against depth.

    python -m benchmarks.drift_vs_depth          Glows of 8 features, 8 to 128 steps: a minute
    python -m benchmarks.drift_vs_depth --full   8 to 1,024 steps, trained ones to 128, and a Glow of images: some
    minutes

There are three nets:

- `untrained`: as initialized, with small numbers in the last layers of the conditioners
- `trained`: after 200 steps of Adam on a mixture of Gaussians
- `adversarial`: with large weights, so that its inverse amplifies rounding errors at every step

Each net has ReLU or softplus, and runs in four precisions: float32; float64; mixed (state_dtype = "float64",
conditioners in float32); and float32 with anchors = "auto".

`drift` is the largest error of a rebuilt sample, divided by the root mean square of the samples. `gradients` is the
largest relative error of a parameter's gradient (2-norms). `gradients_stored` compares with the same net in the same
precision when all states are stored (anchors = 1). `gradients_true` compares with float64 and stored states, so it
contains the error that float32 has anyway. The picture draws 0 at 1e-17 and leaves out what is not finite.
"""

import copy
import warnings

import numpy as np

import invnet
from invnet.losses import gaussian_nll

from . import harness

FEATURES, HIDDEN, BATCH, TRAINING = 8, 16, 128, 200
PRECISIONS = {"float32": {}, "float64": {}, "mixed": {"state_dtype": "float64"}, "anchors": {"anchors": "auto"}}
STYLES = {"float32": "tab:blue", "float64": "tab:green", "mixed": "tab:orange", "anchors": "black"}
COLUMNS = dict(
    model="s", activation="s", steps="d", precision="s", drift=".1e", gradients_stored=".1e", gradients_true=".1e"
)


def data(rng, N):
    """Returns samples of five Gaussians in 8 dimensions, standardized."""
    centres = np.random.default_rng(5).standard_normal((5, FEATURES)) * 2
    X = centres[rng.integers(0, 5, N)] + 0.3 * rng.standard_normal((N, FEATURES))
    return ((X - centres.mean(axis=0)) / 2).astype("float32")


def vectors(kind, steps, activation):
    """Makes a net of vectors and a batch."""
    mix = "householder" if kind == "adversarial" else "lu"
    net, X = (
        invnet.Glow(FEATURES, HIDDEN, 1, steps, ndim=0, activation=activation, mix=mix),
        data(np.random.default_rng(0), BATCH),
    )
    rng = np.random.default_rng(1)
    gain = {"untrained": 0.02, "trained": 0.02, "adversarial": 0.25}[kind]
    for layer in net.layers:
        if isinstance(layer, invnet.AffineCoupling):
            W = layer.net.W[-1].data
            W[...] = gain * rng.standard_normal(W.shape) / np.sqrt(len(W))
    net.initialize(X)
    if kind == "trained":
        net.anchors, optimizer = "auto", invnet.optim.Adam(net.parameters(), lr=2e-3)
        for _ in range(TRAINING):
            gradients(net, data(rng, BATCH))
            invnet.optim.clip_by_global_norm(net.parameters(), 10.0)
            optimizer.step()
        net.anchors = 0
    return net, X


def images(steps, activation):
    """Makes a Glow of images, trained by 30 steps on smooth noise."""
    rng = np.random.default_rng(0)
    net, optimizer = invnet.Glow(3, 32, 3, steps, activation=activation), None

    def batch():
        coarse = rng.standard_normal((8, 3, 8, 8))
        return (coarse.repeat(4, axis=2).repeat(4, axis=3) + 0.1 * rng.standard_normal((8, 3, 32, 32))).astype(
            "float32"
        )

    net.initialize(batch())
    net.anchors, optimizer = "auto", invnet.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(30):
        gradients(net, batch())
        invnet.optim.clip_by_global_norm(net.parameters(), 10.0)
        optimizer.step()
    net.anchors = 0
    return net, batch()


def gradients(net, X):
    """Returns the X that a step rebuilds, and its gradients."""
    net.zero_grad()
    Z, logdet = net.forward(X)
    _, dZ, dlogdet = gaussian_nll(Z, logdet)
    rebuilt = net.backward(dZ, Z, dlogdet)[1]
    return rebuilt, [parameter.grad.astype("float64") for parameter in net.parameters()]


def worst(found, expected):
    """Returns the largest relative error over the arrays that are not zero."""
    return max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, expected) if np.linalg.norm(b))


def measured(net, X, **row):
    """Returns a row for each precision."""
    rows, double = [], copy.deepcopy(net).to(dtype="float64")
    double.anchors = 1
    _, true = gradients(double, X.astype("float64"))
    for precision, settings in PRECISIONS.items():
        one = copy.deepcopy(net).to(dtype="float64" if precision == "float64" else "float32")
        batch = X.astype(one.dtype)
        one.drift_tolerance, one.state_dtype = None, settings.get("state_dtype")
        one.anchors = 1
        _, stored = gradients(one, batch)
        one.anchors = settings.get("anchors", 0)
        rebuilt, found = gradients(one, batch)
        # an anchor restores X to the bit, so the drift is the one measured just before
        errors, sizes = (np.sum(a.astype("float64").reshape(len(X), -1) ** 2, axis=1) for a in (rebuilt - X, X))
        drift = np.sqrt(errors.max() / sizes.mean())
        if one.anchors:
            drift = one.drift.states[-1][1] if one.drift else np.nan  # of a Z that is not finite nothing is known
        rows.append(
            row
            | dict(
                precision=precision,
                drift=float(drift),
                gradients_stored=worst(found, stored),
                gradients_true=worst(found, true),
            )
        )
    harness.print_table(rows, COLUMNS)
    return rows


def plot(rows):
    """Draws drift above and gradient errors below, with a column for each net; ReLU is dashed."""
    nets = list(dict.fromkeys(row["model"] for row in rows))
    fig, axes = harness.figure(len(nets), 2, width=4.4, height=3.6)
    for j, net in enumerate(nets):
        for i, (field, label) in enumerate(
            (("drift", "drift of X, relative"), ("gradients_stored", "worst gradient error, relative"))
        ):
            for activation, dashes in (("softplus", "-"), ("relu", "--")):
                for precision, color in STYLES.items():
                    mine = [
                        row
                        for row in rows
                        if (row["model"], row["activation"], row["precision"]) == (net, activation, precision)
                    ]
                    harness.line(
                        axes[i, j],
                        [row["steps"] for row in mine],
                        [max(row[field], 1e-17) for row in mine],
                        f"{precision}, {activation}",
                        color=color,
                        linestyle=dashes,
                        linewidth=1.5,
                    )
            axes[i, j].set(xscale="log", yscale="log", ylabel=label, ylim=(1e-17, 1e4), xlabel="steps")
            axes[i, j].set_title(net if i == 0 else "")
            axes[i, j].axhline(invnet.passes.drift.TOLERANCE, color="gray", linewidth=0.8)
    axes[0, 0].legend(fontsize=7)
    return fig


def main():
    options = harness.options(__doc__).parse_args()
    invnet.set_num_threads(1)
    warnings.simplefilter("ignore")
    depths, rows = ([8, 32, 128, 512, 1024], []) if options.full else ([8, 32, 128], [])
    for kind in ("untrained", "trained", "adversarial"):
        for activation in ("softplus", "relu"):
            for steps in depths:
                if kind == "trained" and steps > 128:
                    continue
                rows += measured(*vectors(kind, steps, activation), model=kind, activation=activation, steps=steps)
    for steps in (2, 8, 16) if options.full else ():
        for activation in ("softplus", "relu"):
            rows += measured(
                *images(steps, activation), model="images, trained", activation=activation, steps=3 * steps
            )
    name = harness.result_name("drift_vs_depth", options)
    harness.write_csv(rows, name, options.out)
    harness.write_png(plot(rows), name, options.out)


if __name__ == "__main__":
    main()
