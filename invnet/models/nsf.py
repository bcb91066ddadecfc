"""NSF: spline couplings that take turns."""

import numpy as np

from ..layers import Chain, SplineCoupling
from ..nets import DenseNet
from .alternating import alternating, checked


class NSF(Chain):
    """Neural spline flow: spline couplings of vectors with dense conditioners, between which the halves change places.

    The splines work on [-bound, bound]: scale the data so that they lie within, or take `actnorm`. A new one is the identity but
    for the order of the channels, or a rotation with another `mix`. On arrays with spatial axes it acts at each position alone.

    Args:
        channels: C, at least 2.
        hidden: width of the conditioners, a number or one for each hidden layer.
        steps: how many couplings.
        bins, bound: of the splines, see SplineCoupling.
        depth: hidden layers of a conditioner, where `hidden` is a number.
        activation: of the conditioners, see ConvNet.
        mix: "swap" for halves that change places, or a Conv1x1 before every coupling: "lu", as in the paper, "householder" or "full".
        actnorm: an ActNorm before every coupling; `initialize` sets them.
        cond_channels: K of a condition (N, K), 0 for none.
        seed: an int or a numpy Generator.
        dtype: "float32" or "float64".

    References:
        Durkan, Bekasov, Murray & Papamakarios, Neural Spline Flows, 2019, section 3.
    """

    def __init__(self, channels, hidden, steps, bins=8, bound=3.0, depth=2, activation="relu", mix="swap", actnorm=False,
                 cond_channels=0, seed=0, dtype="float32"):
        checked("NSF", channels, steps)
        rng, widths = np.random.default_rng(seed), SplineCoupling.conditioner_channels(channels, bins)

        def couple():
            net = DenseNet(widths[0], hidden, widths[1], depth, activation, cond_channels, rng, dtype)
            return SplineCoupling(channels, net, bins, bound)

        super().__init__(*alternating(channels, steps, couple, mix, actnorm, rng, dtype))
        self.channels = channels
