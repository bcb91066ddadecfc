"""Conv1x1: a learned invertible mix of the channels, in three parametrisations."""

import numpy as np

from ..core import Buffer, Parameter, get_ops
from .channel_affine import ChannelAffine


class Conv1x1(ChannelAffine):
    """Invertible 1x1 convolution, Z = W X at every position; W starts as a random rotation.

    | parametrisation | W | log|det W| | condition number |
    |---|---|---|---|
    | "lu" | P L (U + diag s), P and the signs of s fixed | sum log abs s, for free | learned |
    | "householder" | H_1 ... H_k, H_i = I - 2 v_i v_i^T / v_i^T v_i | 0 | 1: never amplifies a rounding error |
    | "full" | W | an LU factorisation at every call | learned |

    Args:
        channels: C.
        parametrisation: "lu", "householder" or "full".
        reflections: k of "householder", 1 to C; None is C, which reaches every orthogonal matrix but for det's sign.
        seed: an int or a numpy Generator.
        dtype: "float32" or "float64".

    References:
        Kingma & Dhariwal, Glow, 2018, section 3.2 (full, LU). Tomczak & Welling, Improving Variational Auto-Encoders
        using Householder Flow, 2016, section 3. Puglisi, Modification of the Householder method based on the compact
        WY representation, 1992 (the product of reflections in one formula).
    """

    def __init__(self, channels, parametrisation="lu", reflections=None, seed=0, dtype="float32"):
        if parametrisation not in ("lu", "householder", "full"):
            raise ValueError(f'parametrisation is "lu", "householder" or "full"; got {parametrisation!r}')
        k = channels if reflections is None else reflections
        if not 1 <= k <= channels:
            raise ValueError(f"reflections is from 1 to the number of channels, {channels}; got {reflections}")
        self.channels, self.parametrisation = channels, parametrisation
        normal = np.random.default_rng(seed).standard_normal((channels, channels))
        if parametrisation == "householder":
            self.V = Parameter(normal[:k].astype(dtype))
            return
        W, R = np.linalg.qr(normal)
        W *= np.sign(np.diag(R))  # uniform over the orthogonal group
        if parametrisation == "full":
            self.W = Parameter(W.astype(dtype))
            return
        from scipy.linalg import lu

        P, L, U = lu(W)
        s = np.diag(U)
        self.P, self.sign = Buffer(P.astype(dtype)), Buffer(np.sign(s).astype(dtype))
        self.L, self.U = Parameter(np.tril(L, -1).astype(dtype)), Parameter(np.triu(U, 1).astype(dtype))
        self.log_s = Parameter(np.log(np.abs(s)).astype(dtype))

    def matrix(self):
        M, logdet = getattr(self, f"_{self.parametrisation}")()
        ops = get_ops(M)
        if self.parametrisation == "householder":
            Minv = M.T
        else:  # in double precision: the inverse rebuilds activations at every layer
            Minv = ops.astype(ops.xp.linalg.inv(ops.astype(M, "float64")), M.dtype)
        return M, Minv, ops.fill(self.channels, 0.0, M), logdet

    def pull(self, dM, db, dlogdet):
        if dM.ndim == 1:
            dM = get_ops(dM).diagonal_matrix(dM)
        getattr(self, f"_{self.parametrisation}_pull")(dM, dlogdet)

    def _full(self):
        W = self.W.data
        return W, get_ops(W).xp.linalg.slogdet(W)[1]

    def _full_pull(self, dW, dlogdet):
        ops = get_ops(dW)
        Winv = ops.astype(ops.xp.linalg.inv(ops.astype(self.W.data, "float64")), dW.dtype)
        self.W.grad += dW + dlogdet * Winv.T

    def _lu_factors(self):
        xp = get_ops(self.L.data).xp
        L = xp.tril(self.L.data, k=-1) + xp.eye(self.channels, dtype=self.L.data.dtype)
        s = self.sign.data * xp.exp(self.log_s.data)
        U = xp.triu(self.U.data, k=1) + get_ops(s).diagonal_matrix(s)
        return L, U, s

    def _lu(self):
        L, U, _ = self._lu_factors()
        return self.P.data @ (L @ U), get_ops(U).xp.sum(self.log_s.data)

    def _lu_pull(self, dW, dlogdet):
        xp = get_ops(dW).xp
        L, U, s = self._lu_factors()
        dLU = self.P.data.T @ dW
        dU = L.T @ dLU
        self.L.grad += xp.tril(dLU @ U.T, k=-1)
        self.U.grad += xp.triu(dU, k=1)
        self.log_s.grad += xp.linalg.diagonal(dU) * s + dlogdet

    def _householder_factors(self):
        """V (k, C) and B with W = I - V^T B V: B is the inverse of striu(V V^T) + diag(V V^T) / 2."""
        V = self.V.data
        xp = get_ops(V).xp
        half = xp.triu(xp.full((V.shape[0],) * 2, 1.0, dtype=V.dtype), k=1) + 0.5 * xp.eye(V.shape[0], dtype=V.dtype)
        return V, xp.linalg.inv(half * (V @ V.T)), half

    def _householder(self):
        V, B, _ = self._householder_factors()
        return get_ops(V).xp.eye(self.channels, dtype=V.dtype) - V.T @ B @ V, 0.0

    def _householder_pull(self, dW, dlogdet):
        V, B, half = self._householder_factors()
        dB = -V @ dW @ V.T
        dG = half * (-B.T @ dB @ B.T)  # G = V V^T
        self.V.grad += -B @ V @ dW.T - B.T @ V @ dW + (dG + dG.T) @ V
