"""Conv1x1: a learned invertible matrix that mixes the channels, in three parametrisations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arguments import check_integers, check_unused, generator
from ..core import Buffer, Parameter, float_dtype, get_ops
from ..fused.spec import LayerSpec
from .channel_affine import ChannelAffine

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..typing import Array, DType, Seed


class Conv1x1(ChannelAffine):
    """The invertible 1x1 convolution Z = W X at every position. W starts as a random rotation.

    Logdet is the number of positions times log|det W|.

    | parametrisation | W | log abs det W | condition number |
    |---|---|---|---|
    | "lu" | P L (U + diag s), with P and the signs of s fixed | sum of log abs s | learned |
    | "householder" | H_1 ... H_k, H_i = I - 2 v_i v_i^T / v_i^T v_i | 0 | 1: no rounding error is amplified |
    | "full" | W | from an LU factorisation at every call | learned |

    Args:
        channels: C, at least 1.
        parametrisation: "lu", "householder" or "full".
        reflections: the number k of reflections of "householder", 1 to C. None means C; this reaches every orthogonal
            matrix whose determinant has the sign (-1)^C.
        seed: an int or a numpy Generator.
        dtype: "float32" or "float64".

    Raises:
        ValueError: an argument is unknown or out of range, or `reflections` is given for another parametrisation.
        TypeError: `channels` or `reflections` is no integer.

    References:
        Kingma & Dhariwal, Glow, 2018, section 3.2 (full, LU). Tomczak & Welling, Improving Variational Auto-Encoders
        using Householder Flow, 2016, section 3. Puglisi, Modification of the Householder method based on the compact
        WY representation, 1992 (the product of reflections in one formula).
    """

    def __init__(
        self,
        channels: int,
        parametrisation: str = "lu",
        reflections: int | None = None,
        seed: Seed = 0,
        dtype: DType = "float32",
    ):
        if parametrisation not in ("lu", "householder", "full"):
            raise ValueError(f'parametrisation is "lu", "householder" or "full"; got {parametrisation!r}')
        check_integers(channels=channels, reflections=1 if reflections is None else reflections)
        if channels < 1:
            raise ValueError(f"the number of channels is positive; got {channels}")
        if parametrisation != "householder":
            check_unused(f'with parametrisation="{parametrisation}"', reflections=reflections)
        k, dtype = channels if reflections is None else reflections, float_dtype(dtype)
        if not 1 <= k <= channels:
            raise ValueError(f"reflections is from 1 to the number of channels, {channels}; got {reflections}")
        self.channels, self.parametrisation = channels, parametrisation
        self.zero, self.eye = Buffer(np.zeros(channels, dtype)), Buffer(np.eye(channels, dtype=dtype))
        normal = generator(seed).standard_normal((channels, channels))
        if parametrisation == "householder":
            self._meant = {"reflections": k}
            self.V = Parameter(normal[:k].astype(dtype))
            self.half = Buffer(np.triu(np.ones((k, k)), 1).astype(dtype) + 0.5 * np.eye(k, dtype=dtype))
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
        self.below = Buffer(np.tri(channels, k=-1, dtype=dtype))
        self.L, self.U = Parameter(np.tril(L, -1).astype(dtype)), Parameter(np.triu(U, 1).astype(dtype))
        self.log_s = Parameter(np.log(np.abs(s)).astype(dtype))

    @property
    def steadier(self) -> tuple[str, ...]:
        return () if self.parametrisation == "householder" else ('mix="householder"',)

    def affine(self) -> tuple[Array, Array, Array, Callable]:
        M, logdet, pullback = getattr(self, f"_{self.parametrisation}")()
        return M, self.zero.data, logdet, lambda dM, db, dlogdet: pullback(dM, dlogdet)

    def specs(self) -> list:
        names = {"lu": ("L", "U", "log_s", "P", "sign"), "full": ("W",), "householder": ("V",)}[self.parametrisation]
        return [LayerSpec(self.parametrisation, tuple(getattr(self, name) for name in names))]

    def _full(self):
        W = self.W.data

        def pullback(dW, dlogdet):
            self.W.add(dW + dlogdet * get_ops(W).inverse(W).T)

        return W, get_ops(W).log_abs_det(W), pullback

    def _lu(self):
        xp, below, P = get_ops(self.L.data).xp, self.below.data, self.P.data
        s = self.sign.data * xp.exp(self.log_s.data)
        L = self.L.data * below + self.eye.data
        U = self.U.data * below.T + self.eye.data * s

        def pullback(dW, dlogdet):
            dLU = P.T @ dW
            dU = L.T @ dLU
            self.L.add((dLU @ U.T) * below)
            self.U.add(dU * below.T)
            self.log_s.add(xp.linalg.diagonal(dU) * s + dlogdet)

        return P @ (L @ U), xp.sum(self.log_s.data), pullback

    def _householder(self):
        # W = I - V^T B V, where B is the inverse of striu(G) + diag(G) / 2 with G = V V^T.
        V, half = self.V.data, self.half.data
        B = get_ops(V).inverse(half * (V @ V.T))

        def pullback(dW, dlogdet):
            dB = -V @ dW @ V.T
            dG = half * (-B.T @ dB @ B.T)
            self.V.add(-B @ V @ dW.T - B.T @ V @ dW + (dG + dG.T) @ V)

        return self.eye.data - V.T @ B @ V, 0.0, pullback
