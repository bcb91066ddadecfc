"""ConvNet: the convolutional conditioner, 3x3 - 1x1 - 3x3 by default."""

import math

import numpy as np

from ..core import Net, Parameter, get_ops

ACTIVATIONS = ("relu", "leaky_relu", "silu", "softplus")


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

    The weights W.i have shape (*kernel, in, out). A layer with more inputs than outputs is the transpose of such a
    convolution, with weights (*kernel, out, in): the mirrored kernel, which is as good to learn and needs no
    rearranging. V has shape (K, hidden).

    References:
        Kingma & Dhariwal, Glow, 2018, section 3.3. He et al., Delving Deep into Rectifiers, 2015 (the start).
    """

    def __init__(self, C_in, hidden, C_out, kernels=(3, 1, 3), ndim=2, activation="relu", cond_channels=0, seed=0, dtype="float32"):
        hidden = (hidden,) * (len(kernels) - 1) if isinstance(hidden, int) else tuple(hidden)
        if len(kernels) != len(hidden) + 1 or not kernels:
            raise ValueError(f"kernels has one entry more than hidden; got kernels={kernels} and hidden={hidden}")
        if any(k < 1 or k % 2 == 0 for k in kernels):
            raise ValueError(f"kernel sizes are odd; got {kernels}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}; got {activation!r}")
        if min(C_in, C_out, *hidden) < 1:
            raise ValueError(f"channels and widths are positive; got {C_in}, {hidden}, {C_out}")
        rng = np.random.default_rng(seed)
        self._kernels = [(k,) * ndim for k in kernels]
        self._activations = [activation] * len(hidden) + [None]
        self._widths = widths = (C_in, *hidden, C_out)
        self.W, self.b = [], []
        for i, (kernel, m, n) in enumerate(zip(self._kernels, widths, widths[1:])):
            deviation = math.sqrt(2 / (math.prod(kernel) * m)) if i < len(hidden) else 0.0
            self.W.append(Parameter((deviation * rng.standard_normal((*kernel, min(m, n), max(m, n)))).astype(dtype)))
            self.b.append(Parameter(np.zeros(n, dtype)))
        if cond_channels:
            V = rng.standard_normal((cond_channels, widths[1])) / math.sqrt(cond_channels) if hidden else np.zeros((cond_channels, C_out))
            self.V = Parameter(V.astype(dtype))
        else:
            self.V = None
        self.floats_per_position = 2 * sum(hidden) + max(math.prod(k) * min(m, n) for k, m, n in zip(self._kernels, widths, widths[1:]))
        self.reach = sum(k // 2 for k in kernels)

    def forward(self, x, cond=None):
        return self._run(x, cond, lambda *_: None)

    def vjp(self, x, cond=None):
        ops, tape = get_ops(x), []
        y = self._run(x, cond, lambda *used: tape.append(used))

        def pullback(dy):
            dH, gradients_W, gradients_b, dV, dcond = ops.rows(dy), [], [], [], None
            for i in reversed(range(len(self.W))):
                T, S = tape[i]
                dA, db = ops.activate_backward_(dH, S, self._activations[i])
                if i == 0 and cond is not None:
                    rows, spread = self._condition(ops, cond, x.shape)
                    each = spread(dA)
                    dV.append(rows.T @ each)
                    dcond = self._condition_back(ops, each @ self.V.data.T, cond.shape, x.shape)
                dH, dW = self._convolve_back(ops, i, dA, T, x.shape)
                gradients_W.insert(0, dW)
                gradients_b.insert(0, db)
            if self.V is not None and cond is None:
                dV.append(ops.xp.zeros_like(self.V.data))
            return ops.images(dH, x.shape), dcond, [*gradients_W, *gradients_b, *dV]

        return y, pullback

    def _run(self, x, cond, record):
        ops, X = get_ops(x), x
        for i, (W, b, activation) in enumerate(zip(self.W, self.b, self._activations)):
            A, T = self._convolve(ops, i, X)
            if i == 0 and cond is not None:
                rows, _ = self._condition(ops, cond, x.shape)
                added = rows @ self.V.data
                positions = A.shape[0] // max(added.shape[0], 1)
                A = ops.xp.reshape(ops.xp.reshape(A, (-1, positions, A.shape[1])) + added[:, None, :], A.shape)
            H, S = ops.activate_(A, b.data, activation)
            record(T, S)
            X = ops.images(H, (x.shape[0], self._widths[i + 1], *x.shape[2:]))
        return X

    # A convolution is one matrix product of rows: with few input channels the taps are gathered before it, with few
    # output channels every tap has its own output columns, which are shifted and added after it. T is the left factor.

    def _convolve(self, ops, i, X):
        M = self._matrix(ops, i)
        if self._widths[i] <= self._widths[i + 1]:
            T = ops.taps(X, self._kernels[i])
            return ops.matmul(T, M), T
        T = ops.rows(X)
        shape = (X.shape[0], self._widths[i + 1], *X.shape[2:])
        return ops.rows(ops.shift_add(ops.matmul(T, M.T), shape, self._kernels[i])), T

    def _convolve_back(self, ops, i, dA, T, shape):
        M, W = self._matrix(ops, i), self.W[i].data
        if self._widths[i] <= self._widths[i + 1]:
            shape = (shape[0], self._widths[i], *shape[2:])
            return ops.rows(ops.shift_add(ops.matmul(dA, M.T), shape, self._kernels[i])), ops.xp.reshape(T.T @ dA, W.shape)
        columns = ops.taps(ops.images(dA, (shape[0], self._widths[i + 1], *shape[2:])), self._kernels[i])
        return ops.matmul(columns, M), ops.xp.reshape(columns.T @ T, W.shape)

    def _matrix(self, ops, i):
        """W as (taps * min(in, out), max(in, out))."""
        return ops.xp.reshape(self.W[i].data, (-1, max(self._widths[i:i + 2])))

    # ---- the condition

    def _condition(self, ops, cond, shape):
        """Rows of the condition, one for each sample or each position, and how rows of x's size are summed to them."""
        if self.V is None:
            raise ValueError(f"this {type(self).__name__} has cond_channels=0; got a condition of shape {tuple(cond.shape)}")
        if cond.ndim == 2:
            rows, spread = cond, lambda dA: ops.xp.sum(ops.xp.reshape(dA, (shape[0], -1, dA.shape[1])), axis=1)
        else:
            while tuple(cond.shape[2:]) != tuple(shape[2:]) and cond.shape[2] > shape[2]:
                cond = ops.squeeze(cond)
            rows, spread = ops.rows(cond), lambda dA: dA
        if rows.shape[1] != self.V.data.shape[0] or cond.shape[0] != shape[0] or (cond.ndim > 2 and cond.shape[2:] != shape[2:]):
            raise ValueError(f"the condition of x {tuple(shape)} is ({shape[0]}, {self.V.data.shape[0]}) or of x's size times "
                             f"a power of two after squeezing to {self.V.data.shape[0]} channels; got {tuple(cond.shape)}")
        return rows, spread

    def _condition_back(self, ops, drows, cond_shape, shape):
        if len(cond_shape) == 2:
            return drows
        dcond = ops.images(drows, (shape[0], drows.shape[1], *shape[2:]))
        while tuple(dcond.shape[2:]) != tuple(cond_shape[2:]):
            dcond = ops.unsqueeze(dcond)
        return dcond
