"""Staircase: the additive coupling in several parts, each shifted by the part before it."""

from ..arguments import check_integers
from ..core import Condition, InPlaceLayer, Net, condition_array, get_ops


class Staircase(InPlaceLayer):
    """Z_1 = X_1 and Z_k = X_k + net_{k-1}(X_{k-1}) for K parts of the channels, of the same size; logdet is 0.

    What shifts a part is the part before it as it came in, so that forward computes all at once; the inverse goes from part to
    part. With two parts it is an AdditiveCoupling. The Jacobian has ones on its diagonal and the nets' Jacobians below.

    Args:
        channels: C, a multiple of the number of parts.
        nets: conditioners, one less than there are parts, each from C/K channels to as many.

    Raises:
        ValueError: there is no net, the channels cannot be divided into so many parts, or a net gives another shape.

    References:
        Dinh, Krueger & Bengio, NICE: Non-linear Independent Components Estimation, 2014, section 3.2 (two parts). Bocharov et
        al., ReactiveMP.jl, its AdditiveCouplingLayer (one channel a part).
    """

    def __init__(self, channels, nets):
        check_integers(channels=channels)
        if not isinstance(nets, (tuple, list)):
            raise TypeError(f"nets is a list of conditioners; got {nets!r}")
        nets = tuple(nets)
        if not nets or channels % (len(nets) + 1):
            raise ValueError(f"a Staircase of K parts has K - 1 nets, at least one, and a multiple of K channels; got {len(nets)} nets "
                             f"and {channels} channels")
        for net in nets:
            if not isinstance(net, Net):
                raise TypeError(f"the nets are conditioners, of a subclass of invnet.Net; got {net!r}")
        self.channels, self.nets = channels, nets
        self._size = channels // (len(nets) + 1)

    uses_condition = False

    def conditions(self, level=0):
        return {(net.cond_channels, level) for net in self.nets} - {(0, level)}

    @staticmethod
    def _condition_for(net, cond):
        return None if net.cond_channels == 0 else condition_array(cond)

    def _part(self, X, k):
        return X[:, k * self._size:(k + 1) * self._size]

    def forward_(self, X, cond=None):
        ops = get_ops(X)
        for k in range(len(self.nets), 0, -1):  # from the last: what shifts it is still as it came in
            ops.add_(self._part(X, k), self._shift(k, self._part(X, k - 1), cond))
        return X, ops.fill(X.shape[0], 0.0, X)

    def inverse_logdet_(self, Z, cond=None):
        ops = get_ops(Z)
        for k in range(1, len(self.nets) + 1):
            ops.add_(self._part(Z, k), -self._shift(k, self._part(Z, k - 1), cond))
        return Z, ops.fill(Z.shape[0], 0.0, Z)

    def backward_(self, dZ, Z, dlogdet, cond=None):
        ops = get_ops(Z)
        for k in range(1, len(self.nets) + 1):  # part k - 1 is X's by now, and part k of dZ still that of Z_k
            h, pullback = self.nets[k - 1].vjp(self._part(Z, k - 1), self._condition_for(self.nets[k - 1], cond))
            ops.add_(self._part(Z, k), -self._checked(h, self._part(Z, k)))
            dx = self._add(k, pullback(ops.copy(self._part(dZ, k))), cond)
            ops.add_(self._part(dZ, k - 1), dx)
        return dZ, Z

    def inverse_backward_(self, dX, X, dlogdet, cond=None):
        ops = get_ops(X)
        for k in range(len(self.nets), 0, -1):  # the gradient of part k is whole before it goes on to part k - 1
            h, pullback = self.nets[k - 1].vjp(self._part(X, k - 1), self._condition_for(self.nets[k - 1], cond))
            ops.add_(self._part(X, k), self._checked(h, self._part(X, k)))
            dx = self._add(k, pullback(-self._part(dX, k)), cond)
            ops.add_(self._part(dX, k - 1), dx)
        return dX, X

    def _shift(self, k, x, cond):
        return self._checked(self.nets[k - 1].forward(x, self._condition_for(self.nets[k - 1], cond)), x)

    def _checked(self, h, x):
        if tuple(h.shape) != tuple(x.shape) or h.dtype != x.dtype:
            raise ValueError(f"the nets of a Staircase give the shape and dtype of a part, {tuple(x.shape)} {x.dtype}; got "
                             f"{tuple(h.shape)} {h.dtype}")
        return h

    def _add(self, k, pulled, cond):
        """Adds the gradients of net k - 1 and of the condition; gives that of its argument."""
        dx, dcond, gradients = pulled
        for parameter, gradient in zip(self.nets[k - 1].parameters(), gradients):
            parameter.gradient += gradient
        if isinstance(cond, Condition) and dcond is not None:
            cond.add(dcond)
        return dx
