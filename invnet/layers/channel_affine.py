"""ChannelAffine: the same affine map of the channels at every position; Folded: several of them as one."""

from __future__ import annotations

import math
import sys
import warnings
from typing import TYPE_CHECKING

from ..core import InPlaceLayer, get_ops
from ..passes import TOLERANCE, name_in_pass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..core import Layer
    from ..typing import Array, Cond


class ChannelAffine(InPlaceLayer):
    """The base of layers Z = M X + b at every position; logdet is the number of positions times log|det M|.

    A subclass implements `affine`. It may also override `inverse_of` if it knows a better way than a factorisation.
    """

    def affine(self) -> tuple[Array, Array, Array, Callable]:
        """Computes the map from the parameters.

        Returns:
            M, a matrix (C, C), or (C,) if it is diagonal; b (C,); log|det M|, a number or a 0-d array; and
            pullback(dM, db, dlogdet), which adds to the gradients of the parameters. dM has the shape of M, or is (C,
            C) for a diagonal M; db is (C,), and dlogdet a number or a 0-d array.
        """
        raise NotImplementedError(f"{type(self).__name__} needs affine() -> M, b, logdet, pullback")

    any_dtype, measures_logdet, uses_condition = True, False, False
    _condition_reported = False

    def inverse_of(self, M: Array) -> Array:
        """Computes the inverse of M, in double precision, since every layer rebuilds its input with it.

        Warns once if M is so close to singular that rebuilding loses too many digits.

        Raises:
            FloatingPointError: M is singular.
        """
        if M.ndim == 1:
            return 1 / M
        ops = get_ops(M)
        Minv = ops.inverse(M)
        if (
            not ops.condition_bound(M, Minv) * float(ops.xp.finfo(M.dtype).eps) < TOLERANCE
            and not self._condition_reported
        ):
            self._report_condition(ops, M.dtype)
        return Minv

    def check_condition(self) -> None:
        self.inverse_of(self.affine()[0])

    def parts(self) -> list[ChannelAffine]:
        """Returns the layers whose product this map is."""
        return [self]

    def _report_condition(self, ops, dtype):
        """Warns, or raises FloatingPointError, if the part with the largest condition number loses too many digits."""
        conditions = [(_condition(ops, part.affine()[0]), part) for part in self.parts()]
        condition, part = max(conditions, key=lambda pair: pair[0])
        found = f"{name_in_pass(part)} maps channels by a matrix of condition number {condition:.1e}"
        if condition == math.inf:
            raise FloatingPointError(
                f"{found}: it is singular and has no inverse. "
                'Train with a lower lr, or mix="householder" (docs/stability.md)'
            )
        if condition * float(ops.xp.finfo(dtype).eps) > TOLERANCE:
            self._condition_reported = True
            warnings.warn(
                f"{found}: rebuilding its input multiplies rounding errors of {ops.xp.finfo(dtype).dtype} by as much. "
                'Train with a lower lr, or mix="householder", whose is 1, or set state_dtype = "float64" '
                "(docs/stability.md)",
                RuntimeWarning,
                stacklevel=2,
            )

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        M, b, logdet, _ = self._affine_in(X)
        get_ops(X).mix_(X, M, b)
        return X, self._logdet(logdet, X)

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        M, b, logdet, _ = self._affine_in(Z)
        Minv = self.inverse_of(M)
        get_ops(Z).mix_(Z, Minv, _times(Minv, -b))
        return Z, self._logdet(-logdet, Z)

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        M, b, _, pullback = self._affine_in(Z)
        dM, db = get_ops(Z).mix_vjp_(dZ, Z, M, self.inverse_of(M), b)
        pullback(dM, db, self._dlogdet(dlogdet, Z))
        return dZ, Z

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        M, b, _, pullback = self._affine_in(X)
        Minv = self.inverse_of(M)
        dMinv, dc = get_ops(X).mix_vjp_(dX, X, Minv, M, _times(Minv, -b))
        # X = Minv Z + c with c = -Minv b, and dM = -Minv^T dMinv Minv^T.
        db = -_times(_transpose(Minv), dc)
        if M.ndim == 1:
            dM = -Minv * (dMinv - dc * b) * Minv
        else:
            dM = -Minv.T @ (dMinv - dc[:, None] * b[None, :]) @ Minv.T
        pullback(dM, db, -self._dlogdet(dlogdet, X))
        return dX, X

    def _affine_in(self, X):
        """Returns affine() with M and b in the dtype of X."""
        M, b, logdet, pullback = self.affine()
        if M.dtype == X.dtype:
            return M, b, logdet, pullback
        ops, own = get_ops(M), M.dtype
        pullback_in = lambda dM, db, dlogdet: pullback(
            ops.astype(dM, own), ops.astype(db, own), ops.astype(dlogdet, own)
        )
        return ops.astype(M, X.dtype), ops.astype(b, X.dtype), logdet, pullback_in

    def _logdet(self, logdet, X):
        return get_ops(X).full(X.shape[0], math.prod(X.shape[2:]), X) * logdet  # a 0-d array stays on its device

    def _dlogdet(self, dlogdet, X):
        return get_ops(X).xp.sum(dlogdet) * math.prod(X.shape[2:])


class Folded(ChannelAffine):
    """Neighbouring channel-affine layers of a Chain as one layer. For two, M = M2 M1 and b = M2 b1 + b2.

    Args:
        layers: ChannelAffine layers of the same number of channels, in the order in which they are applied.
    """

    def __init__(self, layers: Sequence[ChannelAffine]):
        self.layers, self.channels = tuple(layers), layers[0].channels

    @property
    def known_as(self) -> Layer:
        return self.layers[0].known_as

    def explained(self, X: Array, cond: Cond) -> Iterator:
        for layer in self.layers:
            yield layer, "folded", self.why_not_fused()

    def parts(self) -> list[ChannelAffine]:
        return [part for layer in self.layers for part in layer.parts()]

    def affine(self) -> tuple[Array, Array, Array, Callable]:
        M, b, logdet, first_pullback = self.layers[0].affine()
        before = []  # for each later layer: the map of all layers before it, its own matrix and pullback
        for layer in self.layers[1:]:
            M2, b2, logdet2, pullback2 = layer.affine()
            before.append((M, b, M2, pullback2))
            M, b, logdet = _product(M2, M), _times(M2, b) + b2, logdet + logdet2

        def pullback(dM, db, dlogdet):
            for M1, b1, M2, pullback2 in reversed(before):
                dM2 = _product(dM, _transpose(M1))
                pullback2(dM2 + (db * b1 if dM2.ndim == 1 else db[:, None] * b1[None, :]), db, dlogdet)
                dM, db = _product(_transpose(M2), dM), _times(_transpose(M2), db)
            first_pullback(dM, db, dlogdet)

        return M, b, logdet, pullback

    def specs(self) -> list:
        specs = [layer.specs() for layer in self.layers]
        return [spec for some in specs for spec in some] if all(specs) else []


def _condition(ops, M):
    """Returns the condition number of M; 1 if M is diagonal, which mixes no channels, or not finite."""
    if M.ndim == 1 or not bool(ops.xp.all(ops.xp.isfinite(M))):
        return 1.0
    s = ops.to_numpy(ops.xp.linalg.svdvals(ops.astype(M, "float64"))).tolist()
    return s[0] / s[-1] if s[-1] > len(s) * s[0] * sys.float_info.epsilon else math.inf


def _times(M, v):
    return M * v if M.ndim == 1 else M @ v


def _transpose(M):
    return M if M.ndim == 1 else M.T


def _product(A, B):
    """Returns A B, where a vector stands for a diagonal matrix."""
    if A.ndim == 1 and B.ndim == 2:
        return A[:, None] * B
    return A @ B if A.ndim == B.ndim == 2 else A * B
