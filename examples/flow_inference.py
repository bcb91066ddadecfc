"""Bayesian inference through a flow: infer hidden vectors, learn the flow by its free energy, and classify points.

python examples/flow_inference.py          # about ten seconds; pictures in runs/flow_inference
python examples/flow_inference.py --quick  # fewer points and iterations
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import invnet
from invnet.inference import FlowGaussianModel, FlowProbit, Gaussian, Wishart, inverse_pushforward
from invnet.inference.tutorial import (
    AdditiveCouplingLayer,
    FlowModel,
    PlanarFlow,
    backward,
    compile,
    forward,
    nr_params,
)

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a small setting that only shows that the script runs")
parser.add_argument("--out", type=Path, default="runs/flow_inference", help="folder for the pictures")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
invnet.set_num_threads(1)  # networks this small are not worth a second thread
begun, rng = time.perf_counter(), np.random.default_rng(0)
BLUE, RED = "#1f6f8b", "#c8553d"


def contours(axes, mean, cov, color, **options):
    """Draws the ellipses of 1 and 2 standard deviations of a Gaussian."""
    circle = np.exp(2j * np.pi * np.linspace(0, 1, 200))
    root = np.linalg.cholesky(cov)
    for radius in (1, 2):
        axes.plot(*(mean[:, None] + radius * root @ [circle.real, circle.imag]), color=color, linewidth=1.2, **options)
        options.pop("label", None)


# 1. The flow is two additive couplings with planar functions, and a swap between them. Hidden vectors from an unknown
# normal distribution pass through the flow, and are observed with noise. The task is to infer them.
model = FlowModel(2, (AdditiveCouplingLayer(PlanarFlow()), AdditiveCouplingLayer(PlanarFlow(), permute=False)))
flow = compile(model, [2.0, -1.5, 2.0, -2.5, 1.2, -1.0])
n, noise, mu, cov = (
    200 if args.quick else 1_000,
    0.02 * np.eye(2),
    np.array([1.5, 0.5]),
    np.array([[1.0, 0.4], [0.4, 0.8]]),
)
X = rng.multivariate_normal(mu, cov, n)
Y = forward(flow, X) + rng.multivariate_normal(np.zeros(2), noise, n)

# Both priors are vague: mu ~ N(0, 100 I), and a Wishart distribution for Lambda, the precision of the hidden vectors.
# Each sweep updates all q(x), q(Lambda) and q(mu); the free energy never rises.
priors = Gaussian(np.zeros(2), 100 * np.eye(2)), Wishart(2, 100 * np.eye(2))
inference = FlowGaussianModel(flow, noise, *priors).fit(Y, tol=1e-12)
print(
    f"{nr_params(model)} parameters, {n} observations; free energy "
    f"{inference.free_energy[0]:.1f}, {inference.free_energy[1]:.1f}, ..., {inference.free_energy[-1]:.1f} nats"
)
print(
    f"mu         {inference.q_mu.mean.round(3)} +- {np.diag(inference.q_mu.cov).round(6) ** 0.5}, truth {mu}, mean of "
    f"the hidden vectors {X.mean(axis=0).round(3)}"
)
print(f"Lambda^-1  {np.linalg.inv(inference.q_lambda.mean).round(2).tolist()}, truth {cov.tolist()}")

figure, panels = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
for axes, points, title in zip(panels, (X, Y), ("hidden vectors", "observations")):
    axes.scatter(*points.T, s=4, color=BLUE, alpha=0.5, linewidths=0)
    axes.set(title=title)
above = np.array(inference.free_energy[:-1]) - inference.free_energy[-1]
panels[2].semilogy(1 + np.arange(len(above)), above, "o-", color="black", markersize=3)
panels[2].set(title="free energy above its last value", xlabel="sweep", ylabel="nats")
panels[3].scatter(*inference.q_x.mean.T, s=4, color=RED, alpha=0.5, linewidths=0, label="posterior means of x")
contours(panels[3], mu, cov, BLUE, label="true distribution")
contours(
    panels[3], inference.q_mu.mean, np.linalg.inv(inference.q_lambda.mean), "black", linestyle="--", label="inferred"
)
panels[3].set(title="posterior", xlim=panels[0].get_xlim(), ylim=panels[0].get_ylim())
panels[3].legend(fontsize=8, frameon=False)
figure.savefig(args.out / "flow_inference_posterior.png", dpi=70)

# One observation. The inverse of the flow bends the disc of noise around it. A Gaussian replaces the bent disc: by
# linearisation at its middle, or from points around it ("unscented"). The prior of x then narrows it to the posterior.
wide = 0.2 * np.eye(2)
y = Y[
    np.argmax(
        np.linalg.norm(
            inverse_pushforward(flow, Y, wide).mean - inverse_pushforward(flow, Y, wide, "unscented").mean, axis=1
        )
    )
]  # the one that is bent most
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
span = np.linspace(-2.2, 2.2, 250)
plane = np.stack(np.meshgrid(span, span), axis=-1)
density = lambda e, C: np.exp(-0.5 * np.einsum("...i,ij,...j->...", e, np.linalg.inv(C), e))
left.contour(y[0] + span, y[1] + span, density(plane, wide), levels=[np.exp(-2), np.exp(-0.5)], colors=BLUE)
left.plot(*y, "o", color=BLUE)
left.set(title="a noisy output", xlabel="$y_1$", ylabel="$y_2$", aspect="equal")
linear, points = (inverse_pushforward(flow, y, wide, method) for method in ("linear", "unscented"))
grid = linear.mean + 1.6 * plane
right.contour(
    grid[..., 0], grid[..., 1], density(forward(flow, grid) - y, wide), levels=[np.exp(-2), np.exp(-0.5)], colors=BLUE
)
right.plot(*backward(flow, y), "o", color=BLUE, label="inverse of the output and its noise")
contours(right, linear.mean, linear.cov, RED, label="linearised")
contours(right, points.mean, points.cov, "black", linestyle="--", label="unscented")
right.set(title="what it says about the hidden vector", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
right.legend(fontsize=8, frameon=False)
figure.savefig(args.out / "flow_inference_observation.png", dpi=80)

# 2. The flow is unknown too. Its parameters start at random and are learned by minimising the free energy.
few = Y[: 100 if args.quick else 300]
true = FlowGaussianModel(flow, noise, *priors).fit(few).free_energy[-1]
learned = FlowGaussianModel(compile(model, seed=1), noise, *priors)
start = learned.fit(few).free_energy[-1]
minimum = learned.fit_network(few, iterations=20 if args.quick else 200)
print(
    f"objective: from {start:.1f} to {minimum.value:.1f} nats, the free energy of {len(few)} observations; {true:.1f} "
    f"with the true flow"
)

# 3. A classifier. A flow of four couplings maps a point to two numbers, and z is their sum. The point belongs to class
# 1 with probability Phi(z). The points are uniform in the square; one quarter of it is class 1.
points = rng.random((50, 2))
labels = ((points[:, 0] > 0.5) & (points[:, 1] < 0.5)).astype(int)
network = compile(FlowModel(2, [AdditiveCouplingLayer(PlanarFlow(), permute=k < 3) for k in range(4)]), seed=4)
# Gradient descent stops early, as in the tutorial. L-BFGS would continue until all labels are certain.
classifier = FlowProbit(network, precision=1e3)
minimum = classifier.fit(points, labels, "gradient_descent", iterations=20 if args.quick else 200)
test = rng.random((10_000, 2))
truth = (test[:, 0] > 0.5) & (test[:, 1] < 0.5)
right_train, right_test = (
    np.mean((classifier.predict_proba(x) > 0.5) == y) for x, y in ((points, labels), (test, truth))
)
print(
    f"objective: from {minimum.history[0][0]:.2f} to {minimum.value:.2f} nats, minus the log probability of 50 labels; "
    f"{100 * right_train:.0f} % of them right, {100 * right_test:.1f} % of 10,000 others"
)

warped = forward(network, points)
figure, panels = plt.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
for label, color in ((0, BLUE), (1, RED)):
    chosen = labels == label
    panels[0].scatter(*points[chosen].T, s=16, color=color)
    panels[1].scatter(*warped[chosen].T, s=16, color=color)
    panels[2].scatter(warped[chosen].sum(axis=1), rng.random(chosen.sum()), s=16, color=color)
    panels[3].scatter(
        classifier.latent(points[chosen])[0],
        classifier.predict_proba(points[chosen]),
        s=16,
        color=color,
        label=f"y = {label}",
    )
panels[3].legend(fontsize=8, loc="upper left")
low, high = panels[1].get_xlim()
panels[1].plot([low, high], [-low, -high], "k--", linewidth=0.8)
panels[1].set(ylim=panels[1].get_ylim())
panels[2].axvline(0, color="black", linestyle="--", linewidth=0.8)
for axes, title in zip(
    panels, ("data", "after the flow; dashed: z = 0", "projected to z, the sum", "probability of class 1")
):
    axes.set(title=title)
panels[2].set(yticks=[], xlabel="z")
panels[3].set(xlabel="z")
figure.savefig(args.out / "flow_inference_classes.png", dpi=70)
invnet.plot.classes(classifier, points, labels, ((0, 1), (0, 1)), "P(y = 1) of the classifier").savefig(
    args.out / "flow_inference_map.png", dpi=80
)
print(f"{time.perf_counter() - begun:.1f} s; pictures in {args.out}")
