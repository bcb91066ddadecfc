"""How well a network gives back what it was given."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import TYPE_CHECKING

from ..arguments import shown
from ..core import Layer
from ..passes import drift
from ..passes.context import within

if TYPE_CHECKING:
    from ..core import Conditioner
    from ..typing import Array, Cond


@dataclasses.dataclass
class Reconstruction:
    """What reconstruction_error found.

    Attributes:
        layers: (name, error) of the input of each layer within chains, from the first, as rebuilt from Z through all
            layers after it: the norm of the error of the sample that is furthest off, over the root mean square of the
                samples'
            norms.
        error: that of X.
        logdet_error: the largest difference between forward's logdet and the inverse's, in nats for each number of a
            sample.
    """

    layers: list
    error: float
    logdet_error: float


def reconstruction_error(net: Conditioner, X: Array, cond: Cond = None) -> Reconstruction:
    """A Reconstruction of X from net's own Z, with all states stored and compared.

    Args:
        net: a Layer of invnet, which stays as it is.
        X: (N, C, *spatial), N at least 1.
        cond: the condition, or None.

    Raises:
        TypeError: it is no Layer.
    """
    if not isinstance(net, Layer):
        raise TypeError(f"reconstruction_error takes a Layer; got {shown(net)}")
    ops, copied = net.check(X), copy.deepcopy(net)  # type: ignore[attr-defined]
    monitor = drift.DriftMonitor(ops, anchors=1, restarts=False)
    X = net._own_copy(ops, X)  # type: ignore[attr-defined]
    N, numbers = X.shape[0], math.prod(X.shape[1:])
    with ops.at_work(), within(monitor=monitor):
        Z, logdet = copied.forward_(ops.copy(X), cond)
        _, again = copied.backward_(ops.zeros_like(Z), ops.copy(Z), ops.full(N, 0.0, X), cond)
    with ops.at_work():
        _, inverse_logdet = copied.inverse_logdet_(ops.copy(Z), cond)
    difference = ops.xp.max(ops.astype(logdet + inverse_logdet, "float64") ** 2)
    whole = [(net, *ops.deviation(X, again)), (net, difference, float(numbers) ** 2)]
    (_, error), (_, logdet_error) = drift.ratios(ops, whole)
    layers = [(copied.name_of(layer.known_as), each) for layer, each in reversed(monitor.drift().states)]
    return Reconstruction(layers, error, logdet_error)
