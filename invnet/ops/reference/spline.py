"""The spline: monotone, of rational quadratic pieces, from [-bound, bound] onto itself, the identity outside."""

import math
from collections import namedtuple

#: The least width and height of a bin, as a share of the domain, and the least slope at a knot.
LEAST = 1e-3
ZERO_IS_SLOPE_ONE = math.log(math.expm1(1 - LEAST))  # softplus of it is 1 - LEAST
#: For each value: which is its bin, whether it is in the domain, the value there and 0 elsewhere, the left and lower
#: knot of the bin, its width, height and mean slope, and the slopes at its ends.
SplineBin = namedtuple("SplineBin", "bins inside value x y w h delta d0 d1")


class Splines:
    """Splines of numbers R (rows, C), with parameters P (rows, C, 3 K - 1)."""

    # R holds values (rows, C), P their parameters (rows, C, 3 bins - 1): widths and heights of the bins as logits, then
    # the slopes at the knots between them. Log-determinants and their gradients are of rows, (rows,).

    def spline(self, R, P, bound):
        """The image S of R, and log|det|."""
        xi, at = self._spline_at(R, P, bound)
        S = self.xp.clip(at.y + at.h * self._spline_rise(xi, at), -bound, bound)
        return self._spline_result(R, S, self._spline_log_slope(xi, at), at)

    def spline_inverse(self, S, P, bound):
        """R of its image S, and log|det| of this inverse."""
        xi, at = self._spline_inverse_at(S, P, bound)
        R = self.xp.clip(at.x + at.w * xi, -bound, bound)
        return self._spline_result(S, R, -self._spline_log_slope(xi, at), at)

    def spline_vjp(self, dS, S, P, bound, dlogdet):
        """dR, R and dP."""
        xp, (xi, at) = self.xp, self._spline_inverse_at(S, P, bound)
        dR, dP = self._spline_gradient(dS, dlogdet, xi, at, P, bound)
        R = xp.clip(at.x + at.w * xi, -bound, bound)
        return xp.where(at.inside, dR, dS), xp.where(at.inside, R, S), dP

    def spline_inverse_vjp(self, dR, R, P, bound, dlogdet):
        """dS, S and dP of the inverse, `dlogdet` being the gradient in its log|det|."""
        xp, (xi, at) = self.xp, self._spline_at(R, P, bound)
        S = xp.clip(at.y + at.h * self._spline_rise(xi, at), -bound, bound)
        _, log_xi, *_ = self._spline_derivatives(xi, at)
        dS = (dR - dlogdet[:, None] * log_xi / at.w) * xp.exp(-self._spline_log_slope(xi, at))
        dS = xp.where(at.inside, dS, dR)
        # the gradients of the forward map for the two that it would return, with the sign turned
        return dS, xp.where(at.inside, S, R), self._spline_gradient(-dS, -dlogdet, xi, at, P, bound)[1]

    def _spline_at(self, R, P, bound):
        """xi, the place of each value in the width of its bin, from 0 to 1, and the bin."""
        at = self._spline_bin(R, P, bound, 0)
        return self.xp.clip((at.value - at.x) / at.w, 0, 1), at

    def _spline_inverse_at(self, S, P, bound):
        """xi of the preimage of each value, and the bin."""
        at = self._spline_bin(S, P, bound, 1)
        return self._spline_root(self.xp.clip((at.value - at.y) / at.h, 0, 1), at), at

    def _spline_bin(self, R, P, bound, axis):
        """What belongs to the bin of each value, found among the knots in x (axis 0) or in y (axis 1)."""
        xp, K = self.xp, (P.shape[2] + 1) // 3
        sizes, knots = [], []
        for logits in (P[..., :K], P[..., K : 2 * K]):
            p = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
            p = p / xp.sum(p, axis=-1, keepdims=True)
            sizes.append(2 * bound * (LEAST + (1 - K * LEAST) * p))
            before = xp.triu(xp.ones((K, K), dtype=P.dtype, device=P.device), k=1)
            knots.append(sizes[-1] @ before - bound)
        ends = xp.ones((*R.shape, 1), dtype=P.dtype, device=P.device)
        slopes = xp.concat([ends, LEAST + self._softplus(P[..., 2 * K :] + ZERO_IS_SLOPE_ONE), ends], axis=-1)
        inside = (R > -bound) & (R < bound)
        value = xp.where(inside, R, xp.zeros_like(R))
        passed = value[..., None] >= knots[axis][..., 1:]
        first, last = xp.ones_like(passed[..., :1]), xp.zeros_like(passed[..., :1])
        bins = xp.concat([first, passed], axis=-1) & ~xp.concat([passed, last], axis=-1)
        pick = lambda of_bins: xp.sum(xp.where(bins, of_bins, xp.zeros_like(of_bins)), axis=-1)
        w, h = pick(sizes[0]), pick(sizes[1])
        return SplineBin(
            bins,
            inside,
            value,
            pick(knots[0]),
            pick(knots[1]),
            w,
            h,
            h / w,
            pick(slopes[..., :-1]),
            pick(slopes[..., 1:]),
        )

    def _spline_result(self, R, S, log_slope, at):
        xp = self.xp
        return xp.where(at.inside, S, R), xp.sum(xp.where(at.inside, log_slope, xp.zeros_like(R)), axis=1)

    @staticmethod
    def _spline_rise(xi, at):
        """(S - y) / h, from 0 to 1 with xi = (R - x) / w."""
        between = xi * (1 - xi)
        return (at.delta * xi**2 + at.d0 * between) / (at.delta + (at.d0 + at.d1 - 2 * at.delta) * between)

    def _spline_log_slope(self, xi, at):
        between, xp = xi * (1 - xi), self.xp
        rest = at.d1 * xi**2 + 2 * at.delta * between + at.d0 * (1 - xi) ** 2
        return 2 * xp.log(at.delta) + xp.log(rest) - 2 * xp.log(at.delta + (at.d0 + at.d1 - 2 * at.delta) * between)

    def _spline_root(self, eta, at):
        """xi with rise(xi) = eta: the root of a xi^2 + b xi = delta eta in [0, 1]; its discriminant is a sum of
        squares.
        """
        xp, u = self.xp, at.d0 * (1 - eta) - at.d1 * eta
        a, b = at.delta * (1 - 2 * eta) - u, u + 2 * at.delta * eta
        D, one = xp.sqrt(u * u + 4 * at.delta**2 * eta * (1 - eta)), xp.ones_like(b)
        return xp.where(b > 0, 2 * at.delta * eta / xp.where(b > 0, b + D, one), (D - b) / xp.where(b > 0, one, 2 * a))

    @staticmethod
    def _spline_derivatives(xi, at):
        """Of the rise and of the log slope in xi, then of both in delta, in d0 and in d1."""
        delta, d0, d1 = at.delta, at.d0, at.d1
        between, left = xi * (1 - xi), 1 - xi
        below = delta + (d0 + d1 - 2 * delta) * between
        rest = d1 * xi**2 + 2 * delta * between + d0 * left**2
        return (
            delta * rest / below**2,
            2 * (d1 * xi + delta * (1 - 2 * xi) - d0 * left) / rest - 2 * (d0 + d1 - 2 * delta) * (1 - 2 * xi) / below,
            between * (d1 * xi**2 - d0 * left**2) / below**2,
            2 / delta + 2 * between / rest - 2 * (1 - 2 * between) / below,
            between * (delta * left**2 + d1 * between) / below**2,
            left**2 / rest - 2 * between / below,
            -between * (delta * xi**2 + d0 * between) / below**2,
            xi**2 / rest - 2 * between / below,
        )

    def _spline_gradient(self, dS, dlogdet, xi, at, P, bound):
        """dR, where that is in the domain, and dP."""
        xp, K, zero = self.xp, (P.shape[2] + 1) // 3, self.xp.zeros_like(xi)
        dS, dl = xp.where(at.inside, dS, zero), xp.where(at.inside, dlogdet[:, None], zero)
        rise_xi, log_xi, rise_delta, log_delta, rise_d0, log_d0, rise_d1, log_d1 = self._spline_derivatives(xi, at)
        dxi, ddelta = dS * at.h * rise_xi + dl * log_xi, dS * at.h * rise_delta + dl * log_delta
        dd0, dd1 = dS * at.h * rise_d0 + dl * log_d0, dS * at.h * rise_d1 + dl * log_d1
        dR = dxi / at.w
        # xi = (R - x) / w, delta = h / w, S = y + h rise; x and y are the sums of the sizes before
        dw, dh = -(dxi * xi + ddelta * at.delta) / at.w, dS * self._spline_rise(xi, at) + ddelta / at.w
        here = xp.astype(at.bins, P.dtype)
        before = here @ xp.tril(xp.ones((K, K), dtype=P.dtype, device=P.device), k=-1)
        parts = []
        for logits, dsize, dknot in ((P[..., :K], dw, -dR), (P[..., K : 2 * K], dh, dS)):
            p = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
            p = p / xp.sum(p, axis=-1, keepdims=True)
            dp = 2 * bound * (1 - K * LEAST) * (here * dsize[..., None] + before * dknot[..., None])
            parts.append(p * (dp - xp.sum(p * dp, axis=-1, keepdims=True)))
        dslopes = here[..., 1:] * dd0[..., None] + here[..., :-1] * dd1[..., None]
        parts.append(dslopes * self._sigmoid(P[..., 2 * K :] + ZERO_IS_SLOPE_ONE))
        return dR, xp.concat(parts, axis=-1)
