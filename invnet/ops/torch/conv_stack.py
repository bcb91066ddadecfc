"""Networks on torch tensors: convolutions and their gradients by aten, all in the dtype that autocast asks for."""

import math

import torch

from ..activations import FROM_ARGUMENT
from .precision import in_full, reduced

aten = torch.ops.aten

#: Activations, in place but for those FROM_ARGUMENT and where aten has none in place.
ACTIVATE = {
    None: lambda A: A,
    "relu": torch.relu_,
    "leaky_relu": lambda A: torch.nn.functional.leaky_relu_(A, 0.01),
    "softplus": lambda A: torch.nn.functional.softplus(
        A, threshold=40
    ),  # beyond which it is its argument in float64 too
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "tanh": torch.tanh_,
}
#: dA of dH and S, which is A for those FROM_ARGUMENT, else H.
ACTIVATE_BACK = {
    None: lambda dH, S: dH,
    "relu": lambda dH, S: aten.threshold_backward(dH, S, 0),
    "leaky_relu": lambda dH, S: aten.leaky_relu_backward(dH, S, 0.01, True),
    "softplus": lambda dH, S: dH * torch.expm1(-S).neg_(),
    "silu": aten.silu_backward,
    "gelu": aten.gelu_backward,
    "tanh": aten.tanh_backward,
}


class ConvStack:
    """A conditioner and its gradient. Matrix products of rows where a layer has one tap, else convolutions."""

    def conv_stack(self, X, layers, parameters, added=None, keep=True):
        with in_full(self.device.type):
            dtype = reduced(self.device.type) or X.dtype
            low, H, tapes = (
                [p.to(dtype) for p in parameters],
                self.copy_channels_last(X).to(dtype),
                [],
            )  # a tape outlives X
            for i, (shape, activation, transposed) in enumerate(layers):
                A = _convolve(self, H, low[2 * i], low[2 * i + 1], transposed)
                if i == 0 and added is not None:
                    self._grouped(self.rows(A), added.shape[0]).add_(added.to(dtype)[:, None, :])
                before, H = H, ACTIVATE[activation](A)
                if keep:
                    tapes.append((before, A if activation in FROM_ARGUMENT else H))
            return H.to(X.dtype), (tapes, low, None if added is None else added.shape[0])

    def normal_cdf(self, A):
        return torch.special.ndtr(A)

    def conv_stack_vjp(self, dY, tape, layers, parameters):
        (tapes, low, groups), gradients, dadded = tape, [], None
        with in_full(self.device.type):
            dH, dtype = dY.to(low[0].dtype), dY.dtype
            for (_, activation, transposed), W, (X, S) in zip(reversed(layers), reversed(low[::2]), reversed(tapes)):
                dA = ACTIVATE_BACK[activation](dH, S)
                dH, dW, db = _convolve_vjp(self, dA, X, W, transposed)
                gradients += [db.to(dtype), dW.to(dtype)]
            if groups is not None:
                dadded = self._grouped(self.rows(dA), groups).sum(1, dtype=dtype)
            return dH.to(dtype), gradients[::-1], dadded


def _convolve(ops, X, W, b, transposed):
    """Y (N, C_out, *spatial) with channels-last memory."""
    kernel, M = W.shape[:-2], W.reshape(-1, W.shape[-1])
    if math.prod(kernel) == 1:
        return ops.images(torch.addmm(b, ops.rows(X), M.T if transposed else M), (X.shape[0], b.shape[0], *X.shape[2:]))
    Y = aten.convolution(X, weight_of(W), b, *how(kernel, transposed))
    return Y if _last(Y) else ops.copy_channels_last(Y)


def _convolve_vjp(ops, dA, X, W, transposed):
    """dX, dW and db."""
    kernel, M = W.shape[:-2], W.reshape(-1, W.shape[-1])
    if math.prod(kernel) == 1:
        T, dR = ops.rows(X), ops.rows(dA)
        dX = ops.images(dR @ (M if transposed else M.T), X.shape)
        return dX, (dR.T @ T if transposed else T.T @ dR).reshape(W.shape), dR.sum(0)
    dX, dW, db = aten.convolution_backward(
        dA, X, weight_of(W), [dA.shape[1]], *how(kernel, transposed), [True, True, True]
    )
    return dX, dW.permute(*range(2, dW.ndim), 1, 0).contiguous(), db


def weight_of(W):
    """aten's (wide, narrow, *kernel) of (*kernel, narrow, wide): (out, in) of a convolution, (in, out) of a transposed
    one.
    """
    return W.permute(W.ndim - 1, W.ndim - 2, *range(W.ndim - 2))


def how(kernel, transposed):
    """stride, padding, dilation, transposed, output padding and groups."""
    ones = [1] * len(kernel)
    return ones, [k // 2 for k in kernel], ones, transposed, [0] * len(kernel), 1


def _last(Y):
    """Whether rows of Y are a view."""
    return Y.permute(0, *range(2, Y.ndim), 1).is_contiguous()
