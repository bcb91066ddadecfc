"""ChannelAffine: the same affine map of the channels at every position, and how two of them fold into one."""

import math

from ..core import InPlaceLayer, get_ops


class ChannelAffine(InPlaceLayer):
    """Z = M X + b at every position: one matrix product over the rows of an array.

    A subclass gives matrix() and pull(). Logdet is positions * log|det M|.
    """

    def matrix(self):
        """M (C, C), or (C,) for a diagonal; its inverse; b (C,); log|det M| as a number or 0-d array."""
        raise NotImplementedError(f"{type(self).__name__} needs matrix() -> M, Minv, b, logdet")

    def pull(self, dM, db, dlogdet):
        """Adds to the parameters' gradients those of M, b and log|det M|."""
        raise NotImplementedError(f"{type(self).__name__} needs pull(dM, db, dlogdet)")

    def forward_(self, X, cond=None):
        M, _, b, logdet = self.matrix()
        get_ops(X).mix_(X, M, b)
        return X, self._logdet(logdet, X)

    def inverse_logdet_(self, Z, cond=None):
        M, Minv, b, logdet = self.matrix()
        get_ops(Z).mix_(Z, Minv, _times(Minv, -b))
        return Z, self._logdet(-logdet, Z)

    def backward_(self, dZ, Z, dlogdet, cond=None):
        M, Minv, b, _ = self.matrix()
        dM, db = get_ops(Z).mix_backward_(dZ, Z, M, Minv, b)
        self.pull(dM, db, self._dlogdet(dlogdet, Z))
        return dZ, Z

    def inverse_backward_(self, dX, X, dlogdet, cond=None):
        M, Minv, b, _ = self.matrix()
        dMinv, dc = get_ops(X).mix_backward_(dX, X, Minv, M, _times(Minv, -b))
        # X = Minv Z + c with c = -Minv b, and dM = -Minv^T dMinv Minv^T.
        db = -_times(Minv.T, dc)
        if M.ndim == 1:
            dM = -Minv * (dMinv - dc * b) * Minv
        else:
            dM = -Minv.T @ (dMinv - dc[:, None] * b[None, :]) @ Minv.T
        self.pull(dM, db, -self._dlogdet(dlogdet, X))
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

    def matrix(self):
        M1, M1inv, b1, logdet1 = self.first.matrix()
        M2, M2inv, b2, logdet2 = self.second.matrix()
        return _product(M2, M1), _product(M1inv, M2inv), _times(M2, b1) + b2, logdet1 + logdet2

    def pull(self, dM, db, dlogdet):
        M1, _, b1, _ = self.first.matrix()
        M2, _, _, _ = self.second.matrix()
        dM2 = _product(dM, M1.T)
        self.second.pull(dM2 + (db * b1 if dM2.ndim == 1 else db[:, None] * b1[None, :]), db, dlogdet)
        self.first.pull(_product(M2.T, dM), _times(M2.T, db), dlogdet)


def _times(M, v):
    return M * v if M.ndim == 1 else M @ v


def _product(A, B):
    """A B, where either may be the diagonal of a diagonal matrix."""
    if A.ndim == 1 and B.ndim == 2:
        return A[:, None] * B
    return A @ B if A.ndim == B.ndim == 2 else A * B
