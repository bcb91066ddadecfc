"""MaskedDenseNet: the autoregressive conditioner, MADE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers, permutation
from ..core import Buffer, get_ops
from ..fused.spec import DenseSpec
from .dense import DenseNet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..typing import Array, Cond, DType, Seed


class MaskedDenseNet(DenseNet):
    """A dense network whose outputs for a channel depend only on the channels before it (MADE).

    y = W_k act(... act(W_1 x + V cond + b_1)) + b_k, where masks set some weights W to zero.

    The channels have an order, and degrees 1 to C in it. A hidden unit of degree m depends on channels and units of
    degree m or less. The outputs for a channel of degree d depend on units of degree below d. So those for the first
    channel depend on nothing but their biases and the condition, which is not masked. The hidden units of a layer have
    degrees 1 to C - 1 in ascending order, about the same number of each. With a condition they begin at 0, so that the
    condition reaches the first channel too. The last layer starts at zero.

    `substitute` and `substitute_vjp` are for equations in which x depends on y. They compute each unit once, in the
    order of degrees.

    Args:
        channels: C of x, at least 1.
        hidden: the width of the hidden layers: one number for all, or one for each.
        outputs: the number of outputs for each channel. Output j of channel i is y[:, j C + i]; two outputs make the
            halves [first, second].
        depth: the number of hidden layers, if `hidden` is one number; None means 2.
        order: a permutation of 0 ... C-1. Channel order[0] is the first, which depends on no other. None means the
            order 0 ... C-1.
        activation, cond_channels, seed, dtype: as in ConvNet.

    Raises:
        ValueError: `order` is no permutation, or a number is out of range; in a call, x or the condition has a wrong
            shape.
        TypeError: a size is no integer; in a call, x has another dtype or engine.

    References:
        Germain, Gregor, Murray & Larochelle, MADE: Masked Autoencoder for Distribution Estimation, 2015, sections 3 and
        4.
    """

    def __init__(
        self,
        channels: int,
        hidden: int | Sequence[int],
        outputs: int = 2,
        depth: int | None = None,
        order: Sequence[int] | np.ndarray | None = None,
        activation: str = "relu",
        cond_channels: int = 0,
        seed: Seed = 0,
        dtype: DType = "float32",
    ):
        check_integers(channels=channels, outputs=outputs, cond_channels=cond_channels)
        if channels < 1 or outputs < 1:
            raise ValueError(f"channels and outputs are positive; got {channels} and {outputs}")
        order = np.arange(channels) if order is None else permutation(order, channels)
        super().__init__(channels, hidden, outputs * channels, depth, activation, cond_channels, seed, dtype)
        self._meant = {**self._meant, "order": order}
        hidden = [b.data.shape[0] for b in self.b[:-1]]
        first, degrees_of_channels = 0 if cond_channels else min(1, channels - 1), np.argsort(order) + 1
        degrees = [degrees_of_channels, *(first + np.arange(width) * (channels - first) // width for width in hidden)]
        degrees.append(np.tile(degrees_of_channels, outputs) - 1)  # so that m <= d is right for the last layer
        masks = [before[:, None] <= after for before, after in zip(degrees, degrees[1:])]
        self.mask = tuple(None if mask.all() else Buffer(mask) for mask in masks)
        for W, mask in zip(self.W, masks):  # He's deviation for the number of unmasked inputs
            W.data *= mask * np.sqrt(mask.shape[0] / np.maximum(1, mask.sum(axis=0)))
        self._order = order.tolist()
        # In ascending order of degrees, the units of degree k have indices _ends[layer][k] to _ends[layer][k + 1].
        self._ends = [np.searchsorted(np.sort(d), np.arange(channels + 1)).tolist() for d in degrees]
        self.ascending = tuple(Buffer(np.argsort(d, kind="stable")) for d in (degrees[0], degrees[-1]))
        self.original = tuple(Buffer(np.argsort(order.data)) for order in self.ascending)

    # `substitute` must find the same x that `forward` was given. In half precision the two would be rounded
    # differently.

    def forward(self, x: Array, cond: Cond = None) -> Array:
        with get_ops(x).in_full_precision():
            return super().forward(x, cond)

    def vjp(self, x: Array, cond: Cond = None) -> tuple[Array, Callable]:
        with get_ops(x).in_full_precision():
            y, pullback_of_masked = super().vjp(x, cond)

        def pullback(dy):
            dx, dcond, gradients = pullback_of_masked(dy)
            return dx, dcond, [*map(_masked, gradients, self.mask), *gradients[len(self.mask) :]]

        return y, pullback

    def _weights(self):
        pairs = self._pairs()
        return [
            array for W, b, mask in zip(pairs[::2], pairs[1::2], self.mask) for array in (_masked(W.data, mask), b.data)
        ]

    def spec(self) -> object:
        if self.V is not None:
            return None
        inputs, outputs = (tuple(order.data.tolist()) for order in self.ascending)
        return DenseSpec(tuple(self._pairs()), self._activations(), tuple(map(tuple, self._ends)), inputs, outputs)

    # ---- equations in which x depends on y: each unit is computed once, in ascending order of degrees

    def substitute(self, x: Array, step: Callable, cond: Cond = None) -> None:
        """Solves for x channel by channel, where the value of a channel depends on the outputs for it.

        All calls together need at most the multiplications of one evaluation.

        Args:
            x: (N, C, *spatial), overwritten with the solution, except for the last channel.
            step: a function step(i, y_i), called for each channel i except the last, in their order. It gets the
                outputs y_i (N, outputs, *spatial) for channel i, and must set x[:, i].
            cond: None, (N, K) or (N, K, *spatial).
        """
        ops, ends = get_ops(x), self._ends
        (W, b), rows = self._ascending(ops, [W.data for W in self.W]), ops.rows(x)
        T = [ops.empty((rows.shape[0], width), rows) for width in (self._C_in, *(end[-1] for end in ends[1:]))]
        added = self._added_rows(ops, x, cond)
        for k, i in enumerate(self._order[:-1]):
            for l, (_, activation, _) in enumerate(self._layers):
                seen, new = slice(0, ends[l][k + 1]), slice(ends[l + 1][k], ends[l + 1][k + 1])
                if new.start == new.stop:
                    continue
                A = b[l][new]
                if seen.stop:
                    A = A + ops.product(T[l][:, seen], W[l][seen, new])
                if l == 0 and added is not None:
                    A = A + added[:, new]
                T[l + 1][:, new] = ops.activate(A, activation)[0] if activation else A
            step(i, ops.images(T[-1][:, new], (x.shape[0], new.stop - new.start, *x.shape[2:])))
            T[0][:, k] = ops.rows(x[:, i : i + 1])[:, 0]

    def substitute_vjp(self, x: Array, step: Callable, cond: Cond = None) -> tuple:
        """Computes gradients channel by channel, where the gradient of the outputs for a channel depends on dx.

        All calls together need at most the multiplications of one `vjp`.

        Args:
            x: (N, C, *spatial), the solution.
            step: a function step(i, y_i, dx_i) -> dy_i, called for each channel i from the last to the first. It gets
                the outputs y_i (N, outputs, *spatial) and the gradient dx_i (N, 1, *spatial) that follows from the
                calls before, and returns the gradient of y_i.
            cond: None, (N, K) or (N, K, *spatial).

        Returns:
            dcond, None without a condition, and the list of gradients in the order of `parameters()`.
        """
        ops, ends = get_ops(x), self._ends
        added = self._added_rows(ops, x, cond)
        W, b = self._ascending(ops, [_masked(W.data, mask) for W, mask in zip(self.W, self.mask)])
        T, slopes, dA = [ops.xp.take(ops.rows(x), self.ascending[0].data, axis=1)], [], []
        for l, (_, activation, _) in enumerate(self._layers):
            A = ops.product(T[l], W[l])
            if l == 0 and added is not None:
                A += added
            H, S = ops.activate(A + b[l], activation)
            ones = ops.empty(S.shape, S)
            ones[...] = 1.0
            slopes.append(ops.activate_vjp(ones, S, activation))
            T.append(H)
            dA.append(ops.empty(H.shape, H))
        shaped = lambda R: ops.images(R, (x.shape[0], R.shape[1], *x.shape[2:]))
        for k, i in reversed(list(enumerate(self._order))):
            later, new = slice(ends[1][k + 1], None), slice(ends[-1][k], ends[-1][k + 1])
            dx = ops.product(dA[0][:, later], W[0][k : k + 1, later].T)
            dA[-1][:, new] = ops.rows(step(i, shaped(T[-1][:, new]), shaped(dx)))
            for l in reversed(range(len(W) - 1)):
                later, new = slice(ends[l + 2][k], None), slice(ends[l + 1][k], ends[l + 1][k + 1])
                if new.start == new.stop:
                    continue
                dA[l][:, new] = ops.product(dA[l + 1][:, later], W[l + 1][new, later].T) * slopes[l][:, new]
        dW, db, dcond, dV = [t.T @ da for t, da in zip(T, dA)], [ops.xp.sum(da, axis=0) for da in dA], None, []
        dW[0] = ops.xp.take(dW[0], self.original[0].data, axis=0)
        dW[-1], db[-1], dA[-1] = (
            ops.xp.take(d, self.original[1].data, axis=d.ndim - 1) for d in (dW[-1], db[-1], dA[-1])
        )
        if cond is not None:
            rows = self._condition(ops, cond, x.shape)
            dadded = ops.xp.sum(ops.xp.reshape(dA[0], (rows.shape[0], -1, dA[0].shape[1])), axis=1)
            dcond, dV = self._condition_vjp(ops, dadded, cond, x.shape), [rows.T @ dadded]
        return dcond, [*map(_masked, dW, self.mask), *db, *dV]

    def _ascending(self, ops, W):
        """Returns weights and biases for channels of x and y in ascending order of degrees."""
        take, b = ops.xp.take, [b.data for b in self.b]
        W[0] = take(W[0], self.ascending[0].data, axis=0)
        W[-1], b[-1] = take(W[-1], self.ascending[1].data, axis=1), take(b[-1], self.ascending[1].data, axis=0)
        return W, b

    def _added_rows(self, ops, x, cond):
        """Returns what the condition adds to the first layer (rows, units); units are in ascending order of degrees."""
        added = self._added(ops, x, cond)
        if added is None:
            return None
        positions = ops.rows(x).shape[0] // max(1, added.shape[0])
        added = ops.xp.reshape(
            ops.xp.broadcast_to(added[:, None, :], (added.shape[0], positions, added.shape[1])), (-1, added.shape[1])
        )
        return added if len(self.W) > 1 else ops.xp.take(added, self.ascending[1].data, axis=1)


def _masked(W, mask):
    """Returns W, or its gradient, times the mask. A mask that is None has ones only."""
    return W if mask is None else W * get_ops(W).astype(mask.data, W.dtype)
