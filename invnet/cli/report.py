"""What a run says of itself and draws: test bits per dimension, baselines, reconstructions, samples."""

import numpy as np

from .. import plot
from ..data import gaussian, independent_histograms
from ..flow import Flow
from ..train import METRICS
from ..train.metrics import read_metrics
from ..train.trainer import continuous, evaluate

LARGEST_GAUSSIAN = 4096


def baselines(images):
    """{name: test bits/dim}; the Gaussian only with more images than dimensions, and where its covariance is not
    huge.
    """
    bits = {"independent histograms": independent_histograms(images)}
    if images.dimensions <= LARGEST_GAUSSIAN and images.dimensions < len(images.train):
        bits["full-covariance Gaussian"] = gaussian(images)
    return bits


def listed(bits):
    return ", ".join(f"{value:.3f} {name}" for name, value in bits.items())


def print_test(net, images, bits):
    """Prints the test bits/dim of `net` beside those of the baselines, `bits`, and the largest reconstruction error."""
    own = evaluate(net, images.test, images.levels)
    X = continuous(net, images.test[:256], images.levels, np.random.default_rng(0))
    error = float(abs(net.inverse(net.forward(X)[0]) - X).max())
    print(f"test bits/dim: {own:.3f} this model; {listed(bits)}")
    print(f"reconstruction: largest error {error:.1e}, of pixels in [0, 1]")


def draw(net, images, run, bits):
    """Writes samples.png, reconstructions.png and loss.png in the folder `run`."""
    X = continuous(net, images.test[:10], images.levels, np.random.default_rng(0))
    if images.shape[0] in (1, 3):
        plot.image_grid(Flow(net, images.shape).sample(64, seed=0)).savefig(run / "samples.png")
        plot.reconstructions(net, X).savefig(run / "reconstructions.png")
    plot.training_curves(read_metrics(run / METRICS), bits).savefig(run / "loss.png")
