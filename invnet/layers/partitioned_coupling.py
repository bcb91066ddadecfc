"""PartitionedAdditiveCoupling: an additive coupling of several parts, each shifted given the part before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arguments import check_integers, shown
from ..core import Conditioner, InPlaceLayer, get_ops
from .coupling import AdditiveCoupling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..typing import Array, Cond


class PartitionedAdditiveCoupling(InPlaceLayer):
    """Z_1 = X_1 and Z_k = X_k + net_{k-1}(X_{k-1}), for K equal parts of the channels; logdet is 0.

    Each part is shifted given the input of the part before it, so forward computes all parts independently. The inverse
    goes from part to part. With two parts, this is an AdditiveCoupling. The Jacobian has ones on the diagonal and the
    nets' Jacobians below it.

    Args:
        channels: C, a multiple of K.
        nets: K - 1 conditioners, each from C/K to C/K channels.

    Raises:
        ValueError: there is no net, C is no multiple of K, or a net gives another shape.
        TypeError: `nets` is no list of conditioners, or `channels` no integer.

    References:
        Dinh, Krueger & Bengio, NICE: Non-linear Independent Components Estimation, 2014, section 3.2 (two parts).
        Bocharov et al., ReactiveMP.jl, its AdditiveCouplingLayer (one channel a part).
    """

    measures_logdet = False

    def __init__(self, channels: int, nets: Sequence[Conditioner]):
        check_integers(channels=channels)
        if not isinstance(nets, (tuple, list)):
            raise TypeError(f"nets is a list of conditioners; got {shown(nets)}")
        nets = tuple(nets)
        if not nets or channels % (len(nets) + 1):
            raise ValueError(
                f"a PartitionedAdditiveCoupling of K parts has K - 1 nets, at least one, and a multiple of K channels; "
                f"got {len(nets)} nets and {channels} channels"
            )
        for net in nets:
            if not isinstance(net, Conditioner):
                raise TypeError(f"the nets are conditioners, of a subclass of invnet.Conditioner; got {shown(net)}")
        self.channels, self.nets = channels, nets

    uses_condition = False

    def conditions(self, level: int = 0) -> set[tuple[int | None, int]]:
        return {(net.cond_channels, level) for net in self.nets} - {(0, level)}

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "nets":
            size = self.channels // (len(value) + 1)
            # shifting part k + 1 given part k is an additive coupling of the two
            self._couplings = [
                (slice(k * size, (k + 2) * size), AdditiveCoupling(2 * size, net)) for k, net in enumerate(value)
            ]

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        for parts, coupling in reversed(self._couplings):  # from the last, so that each net sees an input
            coupling.forward_(X[:, parts], cond)
        return X, get_ops(X).full(X.shape[0], 0.0, X)

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        for parts, coupling in self._couplings:
            coupling.inverse_logdet_(Z[:, parts], cond)
        return Z, get_ops(Z).full(Z.shape[0], 0.0, Z)

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        # At each step the first of the two parts is rebuilt already, and the second has its gradient of Z still.
        for parts, coupling in self._couplings:
            coupling.backward_(dZ[:, parts], Z[:, parts], dlogdet, cond)
        return dZ, Z

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        # The gradient of a part is complete before it is passed to the part before it.
        for parts, coupling in reversed(self._couplings):
            coupling.inverse_backward_(dX[:, parts], X[:, parts], dlogdet, cond)
        return dX, X
