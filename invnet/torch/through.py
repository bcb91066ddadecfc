"""Through: a layer as one step of autograd, which saves only the output."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch.autograd import Function

from ..core import Condition, other_gradients
from ..passes.context import in_own_context
from .share import holding
from .tensors import array_of, tensor_of, transforms_are_active

if TYPE_CHECKING:
    from typing import Any

    from ..core import Layer
    from ..typing import Array, Cond

INSTEAD = 'as_module(layer, memory="store"), which stores activations, has them'
NOT_IN_TRANSFORMS = (
    f"a rebuilding module takes no part in vmap, grad, jvp and other transforms of torch.func; {INSTEAD}"
)


class Through(Function):
    """Maps x to z and logdet by a layer. The parameters are inputs too, so that hooks, torch.autograd.grad and
    DistributedDataParallel see their gradients."""

    @staticmethod
    def forward(ctx, layer: Layer, shares, like: Array, x: Array, cond: Cond, *parameters: Any) -> tuple:
        ctx.autocast = functools.partial(
            torch.autocast,
            x.device.type,
            dtype=torch.get_autocast_dtype(x.device.type),
            enabled=torch.is_autocast_enabled(x.device.type),
        )
        before = getattr(layer, "saved_pass", None)  # of the layer's own methods, which the module leaves as it is
        with ctx.autocast():
            Z, logdet = layer.forward(array_of(x, like), None if cond is None else array_of(cond, like))
        Z, logdet = tensor_of(Z), tensor_of(logdet)
        ctx.layer, ctx.shares, ctx.like, ctx.saved = layer, shares, like, _exchanged(layer, before)
        ctx.save_for_backward(
            Z, cond, *parameters
        )  # the parameters, so that PyTorch notices if one is changed before backward
        ctx.set_materialize_grads(False)
        return Z, logdet

    @staticmethod
    def backward(ctx, dZ: Array, dlogdet: Array | float | None) -> tuple:
        if dZ is None and dlogdet is None:
            return (None,) * len(ctx.needs_input_grad)
        if transforms_are_active():
            raise RuntimeError(NOT_IN_TRANSFORMS)
        Z, cond, *parameters = ctx.saved_tensors
        with (
            torch.no_grad(),
            ctx.autocast(),
            holding(ctx.shares, parameters),
        ):  # what conditioners compute in is the same again
            dZ = torch.zeros_like(Z) if dZ is None else dZ
            gradients = [None, None, None, *_gradients_of(ctx, dZ, Z, dlogdet, cond)]
        gradients = [gradient if needed else None for gradient, needed in zip(gradients, ctx.needs_input_grad)]
        if not torch.is_grad_enabled():
            return tuple(gradients)
        given = iter(Once.apply(Z, *[gradient for gradient in gradients if gradient is not None]))
        return tuple(None if gradient is None else next(given) for gradient in gradients)

    @staticmethod
    def jvp(ctx, *tangents: Any) -> None:
        raise RuntimeError(f"a rebuilding module has no forward-mode derivatives; {INSTEAD}")


@in_own_context
def _gradients_of(ctx, dZ, Z, dlogdet, cond):
    """Returns the gradients of x, cond and the parameters. The layer's backward adds them to new arrays of zeros."""
    like, states = ctx.like, [share.state for share in ctx.shares]
    c = None if cond is None else array_of(cond, like)
    if ctx.needs_input_grad[4]:
        c = Condition(c)
    context, gradients = other_gradients(states)
    before = _exchanged(ctx.layer, ctx.saved)
    if ctx.saved is not None:
        ctx.saved = ctx.saved.once_more()
    try:
        with context:
            dX, _ = ctx.layer.backward(
                array_of(dZ, like), array_of(Z, like), 0.0 if dlogdet is None else array_of(dlogdet, like), c
            )
    finally:
        _exchanged(ctx.layer, before)
    return (
        tensor_of(dX),
        tensor_of(c.grad) if isinstance(c, Condition) else None,
        *(tensor_of(gradients[state].array) for state in states),
    )


def _exchanged(layer, saved):
    """Sets the SavedPass of a layer, and returns the one before. Each call of the module has its own."""
    before = getattr(layer, "saved_pass", None)
    if before is not None or saved is not None:
        layer.keep_pass(saved)
    return before


class Once(Function):
    """Gradients that depend on z, but cannot be differentiated themselves."""

    @staticmethod
    def forward(ctx, z: Array, *gradients: Any) -> tuple:
        return tuple(gradient.view_as(gradient) for gradient in gradients)

    @staticmethod
    def backward(ctx, *_: Any) -> None:
        raise RuntimeError(f"a rebuilding module has no second derivatives; {INSTEAD}")
