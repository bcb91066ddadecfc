"""ConvNet: the convolutional conditioner, 3x3 - 1x1 - 3x3 by default."""

import math
import numbers

import numpy as np

from ..core import SHAPES, Net, Parameter, float_dtype, get_ops

ACTIVATIONS = ("relu", "leaky_relu", "silu", "softplus")


def widths_of(hidden, depth):
    """Widths of hidden layers, from a number for all or a list of numbers."""
    if isinstance(hidden, numbers.Integral):
        return (int(hidden),) * depth
    if isinstance(hidden, (list, tuple)) and all(isinstance(n, numbers.Integral) for n in hidden):
        return tuple(map(int, hidden))
    raise TypeError(f"hidden is an integer or a list of integers; got {hidden!r}")


class ConvNet(Net):
    """Convolutions with zero padding and an activation between: y = W_k * act(... act(W_1 * x + V cond + b_1)) + b_k.

    The last layer starts at zero, the others with He's normal values. A condition enters the first hidden layer: a
    vector (N, K) the same at every position, an array (N, K, *spatial) position by position; where it is finer than x
    by a power of two it is squeezed, so that one condition serves every level of a multiscale net.

    Args:
        C_in, C_out: channels of x and of y.
        hidden: width of the hidden layers, a number or one for each.
        kernels: odd kernel sizes, one more than hidden layers.
        ndim: spatial axes, 0 to 3.
        activation: "relu", "leaky_relu" (slope 0.01), "silu" or "softplus".
        cond_channels: K after squeezing, 0 without a condition.
        seed: an int or a numpy Generator.
        dtype: "float32" or "float64".

    The weights W.i have shape (*kernel, in, out). A layer to fewer channels, with a kernel above 1x1, is the transpose
    of such a convolution, with weights (*kernel, out, in): the mirrored kernel, which is as good to learn and needs no
    rearranging. V has shape (K, hidden).

    References:
        Kingma & Dhariwal, Glow, 2018, section 3.3. He et al., Delving Deep into Rectifiers, 2015 (the start).
    """

    def __init__(self, C_in, hidden, C_out, kernels=(3, 1, 3), ndim=2, activation="relu", cond_channels=0, seed=0, dtype="float32"):
        if isinstance(kernels, numbers.Integral) or ndim not in (0, 1, 2, 3):
            raise ValueError(f"kernels is a list of sizes and ndim from 0 to 3; got kernels={kernels} and ndim={ndim}")
        hidden, dtype = widths_of(hidden, len(kernels) - 1), float_dtype(dtype)
        if len(kernels) != len(hidden) + 1 or not kernels:
            raise ValueError(f"kernels has one entry more than hidden; got kernels={kernels} and hidden={hidden}")
        if any(k < 1 or k % 2 == 0 for k in kernels):
            raise ValueError(f"kernel sizes are odd; got {kernels}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}; got {activation!r}")
        if min(C_in, C_out, *hidden) < 1:
            raise ValueError(f"channels and widths are positive; got {C_in}, {hidden}, {C_out}")
        rng, widths = np.random.default_rng(seed), (C_in, *hidden, C_out)
        self._activations = [activation] * len(hidden) + [None]
        self._transposed = [m > n and k > 1 and ndim > 0 for m, n, k in zip(widths, widths[1:], kernels)]
        self.W, self.b = [], []
        for m, n, k, transposed, activation in zip(widths, widths[1:], kernels, self._transposed, self._activations):
            deviation = math.sqrt(2 / (k**ndim * m)) if activation else 0.0
            shape = (*(k,) * ndim, n, m) if transposed else (*(k,) * ndim, m, n)
            self.W.append(Parameter((deviation * rng.standard_normal(shape)).astype(dtype)))
            self.b.append(Parameter(np.zeros(n, dtype)))
        if cond_channels:
            V = rng.standard_normal((cond_channels, widths[1])) / math.sqrt(cond_channels) if hidden else np.zeros((cond_channels, C_out))
            self.V = Parameter(V.astype(dtype))
        else:
            self.V = None
        columns = [math.prod(W.data.shape[:-1]) for W in (self.W[0], self.W[-1])]
        self.floats_per_position = 2 * (sum(hidden) + sum(columns)) + 4 * (C_in + C_out)
        self._C_in, self._ndim = C_in, ndim
        self.reach = sum(k // 2 for k in kernels)

    def forward(self, x, cond=None):
        return self._run(x, cond, None)

    def vjp(self, x, cond=None):
        ops, tapes = get_ops(x), []
        y = self._run(x, cond, tapes)

        def pullback(dy):
            dX, dW, db, dV, dcond = dy, [], [], [], None
            for i in reversed(range(len(self.W))):
                dX, dW_i, db_i, dA = ops.convolve_back(dX, tapes[i], self.W[i].data, self._activations[i], self._transposed[i])
                dW.append(dW_i)
                db.append(db_i)
            if cond is not None:
                dcond, dV_0 = self._condition_back(ops, dA, cond, x.shape)
                dV.append(dV_0)
            return dX, dcond, [*reversed(dW), *reversed(db), *dV]

        return y, pullback

    def _run(self, x, cond, tapes):
        ops, X = get_ops(x), x
        self._check(ops, x, cond)
        for i, activation in enumerate(self._activations):
            conditional = i == 0 and cond is not None
            X, tape = ops.convolve(X, self.W[i].data, self.b[i].data, None if conditional else activation, self._transposed[i])
            if conditional:
                A = ops.rows(X)
                self._condition_add(ops, A, cond, x.shape)
                H, S = ops.activate_(A, ops.zeros_like(self.b[i].data), activation)
                X, tape = ops.images(H, X.shape), (tape[0], S)
            if tapes is not None:
                tapes.append(tape)
        return X

    def _check(self, ops, x, cond):
        kind = type(self).__name__
        if x.ndim not in SHAPES or x.shape[1] != self._C_in or (self._ndim and x.ndim != self._ndim + 2):
            axes = f"{self._ndim} spatial axes" if self._ndim else "any spatial axes"
            raise ValueError(f"this {kind} takes {self._C_in} channels and {axes}; got x of shape {tuple(x.shape)}")
        if not ops.is_float(x) or not ops.same_dtype(x.dtype, self.dtype):
            raise TypeError(f"this {kind} computes in {self.dtype}; got x of dtype {x.dtype}")
        if self.V is not None and cond is None:
            raise ValueError(f"this {kind} needs a condition of {self.V.data.shape[0]} channels; got none")

    # ---- the condition: rows, one for each sample or each position, times V

    def _condition(self, ops, cond, shape):
        given = tuple(cond.shape)
        if self.V is None:
            raise ValueError(f"this {type(self).__name__} has cond_channels=0; got a condition of shape {given}")
        if cond.ndim == len(shape) > 2:
            while cond.shape[2] > shape[2] and not any(size % 2 for size in cond.shape[2:]):
                cond = ops.squeeze_(ops.fresh(cond))
        fits = cond.shape[0] == shape[0] and cond.shape[1] == self.V.data.shape[0]
        if not fits or (cond.ndim > 2 and tuple(cond.shape[2:]) != tuple(shape[2:])):
            raise ValueError(f"the condition of x {tuple(shape)} has shape ({shape[0]}, K), or (..., *spatial) with x's axes times a power "
                             f"of two, and {self.V.data.shape[0]} channels after squeezing; got {given}")
        return ops.rows(cond)

    def _condition_add(self, ops, A, cond, shape):
        added = self._condition(ops, cond, shape) @ self.V.data
        each = ops.xp.reshape(A, (added.shape[0], -1, A.shape[1]))  # a view: A is contiguous
        each += added[:, None, :]

    def _condition_back(self, ops, dA, cond, shape):
        rows = self._condition(ops, cond, shape)
        each = ops.xp.sum(ops.xp.reshape(dA, (rows.shape[0], -1, dA.shape[1])), axis=1)
        dcond = each @ self.V.data.T
        if cond.ndim > 2:
            dcond = ops.images(dcond, (shape[0], rows.shape[1], *shape[2:]))
            while tuple(dcond.shape[2:]) != tuple(cond.shape[2:]):
                dcond = ops.unsqueeze_(dcond)
        return dcond, rows.T @ each
