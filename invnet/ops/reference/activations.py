"""Activations and their derivatives."""

import math

from ..activations import FROM_ARGUMENT

#: Beyond it the normal distribution's tail is 0 in either dtype; an infinite argument would make it NaN.
FAR = 40.0


class Activations:
    """Activations H = act(A) and their derivatives."""

    def activate(self, A, activation):
        """Returns H = act(A), and S, which is H or A: `activate_vjp` computes the derivative from it."""
        H = self._activated(A, activation)
        return H, A if activation in FROM_ARGUMENT else H

    def _activated(self, A, activation):
        xp = self.xp
        if activation == "relu":
            return xp.where(A <= 0, xp.zeros_like(A), A)  # NaN stays
        if activation == "leaky_relu":
            return xp.where(A <= 0, 0.01 * A, A)
        if activation == "softplus":
            return self._softplus(A)
        if activation == "silu":
            return A * self._sigmoid(A)
        if activation == "gelu":
            return xp.where(A > 0, A, xp.clip(A, -FAR, FAR)) * self.normal_cdf(A)
        if activation == "tanh":
            return xp.tanh(A)
        return A

    def activate_vjp(self, dH, S, activation):
        """Returns dA = dH act'(A)."""
        xp = self.xp
        if activation == "relu":
            return xp.where(S <= 0, xp.zeros_like(dH), dH)
        if activation == "leaky_relu":
            return xp.where(S <= 0, 0.01 * dH, dH)
        if activation == "softplus":
            return -dH * xp.expm1(-S)
        if activation == "silu":
            sigmoid = self._sigmoid(S)
            return dH * sigmoid * (1 + S * (1 - sigmoid))
        if activation == "gelu":
            A = xp.clip(S, -FAR, FAR)
            return dH * (self.normal_cdf(A) + A * xp.exp(-0.5 * A * A) / math.sqrt(2 * math.pi))
        if activation == "tanh":
            return dH * (1 - S) * (1 + S)
        return dH

    def normal_cdf(self, A):
        """Returns the distribution function of the standard normal.

        The array API standard has no erf, and SciPy's function takes NumPy arrays only.
        """
        from scipy.special import ndtr  # a tenth of a second to import

        return ndtr(A)

    # With -|A| made by a choice both have their derivative at A = 0 too, where that of |A| would be taken for 0.

    def _softplus(self, A):
        return self.xp.where(A > 0, A, self.xp.zeros_like(A)) + self.xp.log1p(self.xp.exp(self._minus_abs(A)))

    def _sigmoid(self, A):
        e = self.xp.exp(self._minus_abs(A))
        return self.xp.where(A > 0, 1 / (1 + e), e / (1 + e))

    def _minus_abs(self, A):
        return self.xp.where(A > 0, -A, A)
