"""Not finite: where infinity or NaN first came up in a training step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import get_ops
from ..layers import Chain, FactorOut

if TYPE_CHECKING:
    from ..core import Layer
    from ..typing import Array


def first_in_forward(net: Layer, X: Array) -> str | None:
    """The name of what is not finite first on the way from X through `net`, layer by layer; None where all is
    finite.
    """
    if not _finite(X):
        return "the images"
    for name, parameter in net.named_parameters():
        if not _finite(parameter.data):
            return f"the parameter {name}"
    return _walk(net, X, "")[1]


def first_in_gradients(net: Layer) -> str | None:
    """The name of the parameter whose gradient was the first that is not finite: backward comes to the last layer
    first.
    """
    names = [
        name
        for name, parameter in net.named_parameters()
        if parameter.gradient.array is not None and not _finite(parameter.gradient.array)
    ]
    return f"the gradient of {names[-1]}" if names else None


def _walk(layer, X, name):
    """Z of a layer, and the name of the layer within it, or its own, whose Z or logdet is not finite first; None for
    none.
    """
    if isinstance(layer, Chain):
        for i, step in enumerate(layer.layers):
            X, found = _walk(step, X, f"{name}layers.{i}.")
            if found:
                return X, found
        return X, None
    if isinstance(layer, FactorOut):
        between, found = (X, None) if layer.prior is None else _walk(layer.prior, X, f"{name}prior.")
        found = found or _walk(layer.inner, between[:, : layer.channels - layer.channels // 2], f"{name}inner.")[1]
        if found:
            return X, found
    Z, logdet = layer.forward(X)
    return Z, None if _finite(Z) and _finite(logdet) else f"{name[:-1]} ({type(layer).__name__})"


def _finite(X):
    xp = get_ops(X).xp
    return bool(xp.all(xp.isfinite(X)))
