"""MaskedDenseNet: the autoregressive conditioner, MADE."""

import numpy as np

from ..core import Buffer, get_ops
from .conv import widths_of
from .dense import DenseNet


class MaskedDenseNet(DenseNet):
    """y = W_k act(... act(W_1 x + V cond + b_1)) + b_k with masked W, so that y for a channel sees the channels before it only.

    The channels come in an order, and have degrees 1 to C in it. A hidden unit of degree m sees the channels and units of
    degrees up to m, and the outputs of a channel of degree d see the units of degrees below d: those of the first channel
    see nothing but their biases, and the condition, which no mask concerns. Hidden units have degrees 1 to C - 1, the same
    number of each; with a condition they begin at 0, so that it reaches the first channel too. The last layer starts at zero.

    Args:
        channels: C of x, at least 1.
        hidden: width of the hidden layers, a number or one for each.
        outputs: p for each channel. Output j of channel i is y[:, j C + i], so that p = 2 makes the halves [first, second].
        depth: number of hidden layers, where `hidden` is a number.
        order: a permutation of 0 ... C-1, channel order[0] being the first, which sees nothing; None is 0 ... C-1.
        activation, cond_channels, seed, dtype: as in ConvNet.

    Raises:
        ValueError: `order` is no permutation, or a number is out of range.

    References:
        Germain, Gregor, Murray & Larochelle, MADE: Masked Autoencoder for Distribution Estimation, 2015, sections 3 and 4.
    """

    def __init__(self, channels, hidden, outputs=2, depth=2, order=None, activation="relu", cond_channels=0, seed=0, dtype="float32"):
        if channels < 1 or outputs < 1:
            raise ValueError(f"channels and outputs are positive; got {channels} and {outputs}")
        order = np.arange(channels) if order is None else np.asarray(order)
        if order.ndim != 1 or sorted(order.tolist()) != list(range(channels)):
            raise ValueError(f"order is a permutation of 0 to {channels - 1}, each once; got {order.tolist()}")
        super().__init__(channels, hidden, outputs * channels, depth, activation, cond_channels, seed, dtype)
        hidden = widths_of(hidden, depth)
        first = 0 if cond_channels else min(1, channels - 1)
        of_channels = np.argsort(order) + 1
        degrees = [of_channels, *(first + np.arange(width) * (channels - first) // width for width in hidden)]
        masks = [before[:, None] <= after for before, after in zip(degrees, degrees[1:])]
        masks.append(degrees[-1][:, None] < np.tile(of_channels, outputs))
        self.mask = [None if mask.all() else Buffer(mask) for mask in masks]
        for W, mask in zip(self.W, masks):  # He's values for the inputs that are left
            W.data *= mask * np.sqrt(mask.shape[0] / np.maximum(1, mask.sum(axis=0)))

    def forward(self, x, cond=None):
        return super(MaskedDenseNet, self._with_masks()).forward(x, cond)

    def vjp(self, x, cond=None):
        y, pullback_of_masked = super(MaskedDenseNet, self._with_masks()).vjp(x, cond)

        def pullback(dy):
            dx, dcond, gradients = pullback_of_masked(dy)
            return dx, dcond, [*map(_masked, gradients, self.mask), *gradients[len(self.mask):]]

        return y, pullback

    def _with_masks(self):
        """This net, its weights multiplied by the masks."""
        net = object.__new__(MaskedDenseNet)
        vars(net).update(vars(self), W=[Buffer(_masked(W.data, mask)) for W, mask in zip(self.W, self.mask)])
        return net


def _masked(W, mask):
    """W, or its gradient, times the mask; None is a mask of ones."""
    return W if mask is None else W * get_ops(W).astype(mask.data, W.dtype)
