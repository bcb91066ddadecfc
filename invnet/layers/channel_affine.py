"""ChannelAffine: the same affine map of the channels at every position, and how two of them fold into one."""

import math

from ..core import InPlaceLayer, get_ops


class ChannelAffine(InPlaceLayer):
    """Z = M X + b at every position: one matrix product over the rows of an array.

    A subclass gives affine() and, where it knows better than a factorisation, inverse_of(M). Logdet is positions *
    log|det M|.
    """

    def affine(self):
        """M (C, C), or (C,) for a diagonal; b (C,); log|det M|, a number or 0-d array; and pull(dM, db, dlogdet).

        pull adds to the parameters' gradients those of M, b and log|det M|.
        """
        raise NotImplementedError(f"{type(self).__name__} needs affine() -> M, b, logdet, pull")

    def inverse_of(self, M):
        """The inverse of M, in double precision, since it rebuilds activations at every layer."""
        if M.ndim == 1:
            return 1 / M
        ops = get_ops(M)
        return ops.astype(ops.xp.linalg.inv(ops.astype(M, "float64")), M.dtype)

    def forward_(self, X, cond=None):
        M, b, logdet, _ = self.affine()
        get_ops(X).mix_(X, M, b)
        return X, self._logdet(logdet, X)

    def inverse_logdet_(self, Z, cond=None):
        M, b, logdet, _ = self.affine()
        Minv = self.inverse_of(M)
        get_ops(Z).mix_(Z, Minv, _times(Minv, -b))
        return Z, self._logdet(-logdet, Z)

    def backward_(self, dZ, Z, dlogdet, cond=None):
        M, b, _, pull = self.affine()
        dM, db = get_ops(Z).mix_backward_(dZ, Z, M, self.inverse_of(M), b)
        pull(dM, db, self._dlogdet(dlogdet, Z))
        return dZ, Z

    def inverse_backward_(self, dX, X, dlogdet, cond=None):
        M, b, _, pull = self.affine()
        Minv = self.inverse_of(M)
        dMinv, dc = get_ops(X).mix_backward_(dX, X, Minv, M, _times(Minv, -b))
        # X = Minv Z + c with c = -Minv b, and dM = -Minv^T dMinv Minv^T.
        db = -_times(Minv.T, dc)
        if M.ndim == 1:
            dM = -Minv * (dMinv - dc * b) * Minv
        else:
            dM = -Minv.T @ (dMinv - dc[:, None] * b[None, :]) @ Minv.T
        pull(dM, db, -self._dlogdet(dlogdet, X))
        return dX, X

    def _logdet(self, logdet, X):
        return get_ops(X).fill(X.shape[0], math.prod(X.shape[2:]) * float(logdet), X)

    def _dlogdet(self, dlogdet, X):
        return get_ops(X).xp.sum(dlogdet) * math.prod(X.shape[2:])


class Folded(ChannelAffine):
    """Two channel-affine layers as one: M = M2 M1, b = M2 b1 + b2; what Chain makes of neighbours.

    Args:
        first, second: ChannelAffine layers, `first` applied first.
    """

    def __init__(self, first, second):
        self.first, self.second = first, second
        self.channels = first.channels

    def affine(self):
        M1, b1, logdet1, pull1 = self.first.affine()
        M2, b2, logdet2, pull2 = self.second.affine()

        def pull(dM, db, dlogdet):
            dM2 = _product(dM, M1.T)
            pull2(dM2 + (db * b1 if dM2.ndim == 1 else db[:, None] * b1[None, :]), db, dlogdet)
            pull1(_product(M2.T, dM), _times(M2.T, db), dlogdet)

        return _product(M2, M1), _times(M2, b1) + b2, logdet1 + logdet2, pull


def _times(M, v):
    return M * v if M.ndim == 1 else M @ v


def _product(A, B):
    """A B, where either may be the diagonal of a diagonal matrix."""
    if A.ndim == 1 and B.ndim == 2:
        return A[:, None] * B
    return A @ B if A.ndim == B.ndim == 2 else A * B
