"""ConvNet: the convolutional conditioner, 3x3 - 1x1 - 3x3 by default."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers, generator, is_integer
from ..core import SHAPES, Conditioner, Parameter, check_gradient, condition_array, condition_rows, float_dtype, get_ops
from ..fused.spec import ConvSpec
from ..ops.activations import ACTIVATIONS, FROM_ARGUMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..typing import Array, Cond, DType, Seed


def widths_of(hidden: int | Sequence[int], depth: int | None) -> tuple[int, ...]:
    """Returns the width of each hidden layer, from one number for all `depth` layers or a list with one for each.

    Raises:
        TypeError: `hidden` is neither an integer nor a list of integers.
    """
    if is_integer(hidden):
        return (int(hidden),) * (depth or 0)
    if isinstance(hidden, (list, tuple)) and all(map(is_integer, hidden)):
        return tuple(map(int, hidden))
    raise TypeError(f"hidden is an integer or a list of integers; got {hidden!r}")


class ConvNet(Conditioner):
    """A stack of convolutions with zero padding, y = W_k * act(... act(W_1 * x + V cond + b_1)) + b_k.

    The last layer starts at zero, the others with He's normal values. The condition enters the first hidden layer. A
    vector (N, K) is added at every position, an array (N, K, *spatial) position by position. If the axes of the
    condition are longer than those of x by a power of two, the condition is squeezed, so that one condition serves
    every level of a multiscale network.

    Args:
        C_in, C_out: the number of channels of x and of y.
        hidden: the width of the hidden layers: one number for all, or one for each.
        kernels: the kernel sizes of all layers, odd numbers; one more than hidden layers.
        ndim: the number of spatial axes, 0 to 3.
        activation: "relu", "leaky_relu" (slope 0.01), "softplus", "silu", "gelu" (the exact one, by erf) or "tanh".
        cond_channels: the number of channels K of the condition after squeezing, 0 for none.
        seed: an int or a numpy Generator.
        dtype: "float32" or "float64".

    The weights W.i have shape (*kernel, in, out), and V has shape (K, hidden). A layer with fewer outputs than inputs
    and a kernel above 1x1 has weights (*kernel, out, in): it is the transpose of a convolution, with the mirrored
    kernel, so that its weights need no rearranging in memory.

    Raises:
        ValueError: a number or a name is out of range, or the numbers of kernels and of hidden layers do not fit; in a
            call, x or the condition has a wrong number of channels or axes.
        TypeError: a size is no integer; in a call, x has another dtype or engine.

    References:
        Kingma & Dhariwal, Glow, 2018, section 3.3. He et al., Delving Deep into Rectifiers, 2015 (the start).
    """

    def __init__(
        self,
        C_in: int,
        hidden: int | Sequence[int],
        C_out: int,
        kernels: Sequence[int] = (3, 1, 3),
        ndim: int = 2,
        activation: str = "relu",
        cond_channels: int = 0,
        seed: Seed = 0,
        dtype: DType = "float32",
    ):
        check_integers(C_in=C_in, C_out=C_out, ndim=ndim, cond_channels=cond_channels)
        if not isinstance(kernels, (tuple, list)) or not all(map(is_integer, kernels)) or ndim not in (0, 1, 2, 3):
            raise ValueError(f"kernels is a list of sizes and ndim from 0 to 3; got kernels={kernels} and ndim={ndim}")
        hidden, dtype = widths_of(hidden, len(kernels) - 1), float_dtype(dtype)
        if len(kernels) != len(hidden) + 1 or not kernels:
            raise ValueError(f"kernels has one entry more than hidden; got kernels={kernels} and hidden={hidden}")
        if any(k < 1 or k % 2 == 0 for k in kernels):
            raise ValueError(f"kernel sizes are odd; got {kernels}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}; got {activation!r}")
        if min(C_in, C_out, *hidden) < 1 or cond_channels < 0:
            raise ValueError(
                f"channels and widths are positive and cond_channels not negative; got {C_in}, {hidden}, {C_out} and "
                f"{cond_channels}"
            )
        rng, widths = generator(seed), (C_in, *hidden, C_out)
        W, b, self._layers = [], [], ()
        for i, (m, n, k) in enumerate(zip(widths, widths[1:], kernels)):
            transposed, last = m > n and k > 1 and ndim > 0, i == len(hidden)
            deviation = 0.0 if last else math.sqrt(2 / (k**ndim * m))
            shape = (*(k,) * ndim, n, m) if transposed else (*(k,) * ndim, m, n)
            W.append(Parameter((deviation * rng.standard_normal(shape)).astype(dtype)))
            b.append(Parameter(np.zeros(n, dtype)))
            self._layers += ((shape, None if last else activation, transposed),)  # type: ignore[assignment]
        self.W, self.b = tuple(W), tuple(b)
        if cond_channels:
            V = (
                rng.standard_normal((cond_channels, widths[1])) / math.sqrt(cond_channels)
                if hidden
                else np.zeros((cond_channels, C_out))
            )
            self.V: Parameter | None = Parameter(V.astype(dtype))
        else:
            self.V = None
        columns = max(math.prod(W.data.shape[:-1]) for W in self.W)
        self.floats_per_position = sum(hidden) + 2 * max(widths) + columns + 4 * (C_in + C_out) + 8
        self.kept_per_position = sum(hidden) * (2 if activation in FROM_ARGUMENT else 1) + 3 * (C_in + C_out)
        self._C_in, self._ndim, self.cond_channels = C_in, ndim, cond_channels
        self.reach = sum(k // 2 for k in kernels)

    def forward(self, x: Array, cond: Cond = None) -> Array:
        ops = get_ops(x)
        return ops.conv_stack(x, self._layers, self._weights(), self._added(ops, x, cond), keep=False)[0]

    def vjp(self, x: Array, cond: Cond = None) -> tuple[Array, Callable]:
        ops, weights = get_ops(x), self._weights()
        y, tape = ops.conv_stack(x, self._layers, weights, self._added(ops, x, cond))
        shape, dtype = y.shape, y.dtype  # a reference to y itself would keep it alive

        def pullback(dy):
            check_gradient(dy, ops, shape, dtype)
            dx, gradients, dadded = ops.conv_stack_vjp(dy, tape, self._layers, weights)
            gradients = gradients[::2] + gradients[1::2]
            if cond is None:
                return dx, None, gradients
            rows = self._condition(ops, cond, x.shape)
            dcond = self._condition_vjp(ops, dadded, cond, x.shape)
            return dx, dcond, [*gradients, rows.T @ dadded]

        return y, pullback

    def spec(self) -> object:
        if self.V is not None:
            return None
        return ConvSpec(
            self._layers,
            tuple(self._pairs()),
            self.floats_per_position,
            self.kept_per_position,  # type: ignore[arg-type]
            self.reach,  # type: ignore[arg-type]
        )

    def _weights(self):
        return [parameter.data for parameter in self._pairs()]

    def _pairs(self):
        """Returns the weights and the bias of each layer, alternately."""
        return self.derived("pairs", self._checked_pairs)

    def _checked_pairs(self):
        for i, (W, b, (shape, _, transposed)) in enumerate(zip(self.W, self.b, self._layers, strict=True)):
            shapes = shape, (shape[-2 if transposed else -1],)
            if (tuple(W.data.shape), tuple(b.data.shape)) != shapes:  # compiled functions would read beyond them
                raise ValueError(
                    f"layer {i} of this {type(self).__name__} has weights and biases of shapes {shapes[0]} and "
                    f"{shapes[1]}; got {tuple(W.data.shape)} and {tuple(b.data.shape)}"
                )
        return [parameter for pair in zip(self.W, self.b) for parameter in pair]

    def _activations(self):
        return tuple(activation for _, activation, _ in self._layers)

    def _check(self, ops, x, cond):
        kind, own = type(self).__name__, get_ops(self.b[0].data)
        if own.name != ops.name:
            raise TypeError(
                f"this {kind} computes on arrays of {own.name}; got x of {ops.name}: "
                f'convert it, or the {kind} with .to("{ops.name}")'
            )
        if x.ndim not in SHAPES or x.shape[1] != self._C_in or (self._ndim and x.ndim != self._ndim + 2):
            axes = f"{self._ndim} spatial axes" if self._ndim else "any spatial axes"
            raise ValueError(f"this {kind} takes {self._C_in} channels and {axes}; got x of shape {tuple(x.shape)}")
        dtype = self.b[0].data.dtype
        if not ops.same_dtype(x.dtype, dtype):
            raise TypeError(f"this {kind} computes in {dtype}; got x of dtype {x.dtype}")
        if self.V is not None and cond is None:
            raise ValueError(f"this {kind} needs a condition of {self.V.data.shape[0]} channels; got none")

    # ---- the condition as rows (samples or positions, K), times V

    def _condition(self, ops, cond, shape):
        cond, given = condition_array(cond), tuple(cond.shape)
        if self.V is None:
            raise ValueError(f"this {type(self).__name__} has cond_channels=0; got a condition of shape {given}")
        if not ops.xp.isdtype(cond.dtype, ("bool", "integral", "real floating")):
            raise TypeError(f"a condition has real numbers; got dtype {cond.dtype}")
        if cond.ndim == len(shape) > 2:
            while cond.shape[2] > shape[2] and not any(size % 2 for size in cond.shape[2:]):
                cond = ops.squeeze_(ops.copy_channels_last(cond))
        cond = condition_rows(cond, shape[0])
        fits = cond.ndim > 1 and cond.shape[0] == shape[0] and cond.shape[1] == self.V.data.shape[0]
        if not fits or (cond.ndim > 2 and tuple(cond.shape[2:]) != tuple(shape[2:])):
            raise ValueError(
                f"the condition of x {tuple(shape)} has {shape[0]} rows or one, of shape (K,), or (K, *spatial) with "
                f"x's axes times a power of two, and {self.V.data.shape[0]} channels after squeezing; got {given}"
            )
        return ops.rows(cond)

    def _added(self, ops, x, cond):
        self._check(ops, x, cond)
        if cond is None:
            return None
        return ops.astype(
            self._condition(ops, cond, x.shape) @ self.V.data, self.V.data.dtype
        )  # a condition may have any real dtype, as one-hot rows often do

    def _condition_vjp(self, ops, dadded, cond, shape):
        dcond = dadded @ self.V.data.T
        if cond.ndim > 2:
            dcond = ops.images(dcond, (shape[0], dcond.shape[1], *shape[2:]))
            while tuple(dcond.shape[2:]) != tuple(cond.shape[2:]):
                dcond = ops.unsqueeze_(dcond)
        if cond.shape[0] == 1 != shape[0]:  # one row served all samples
            dcond = ops.xp.sum(dcond, axis=0, keepdims=True)
        return dcond
