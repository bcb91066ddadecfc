"""The affine coupling z2 = (x2 + t) s(raw) with h = [t, raw].

The scale is ("sigmoid", _), ("doubled", _) or ("bounded", bound).
"""

import math


def log_bound(scale):
    """Returns the logarithm of the largest value of a scale."""
    kind, bound = scale
    return math.log(bound if kind == "bounded" else 2 if kind == "doubled" else 1)


class Couplings:
    """Affine couplings and their gradients, in place."""

    def log_scale(self, raw, scale):
        """Returns log s."""
        xp, a = self.xp, log_bound(scale)
        if scale[0] == "bounded":
            return a * xp.tanh(raw / a)
        u = raw + 2 * (scale[0] == "sigmoid")
        return xp.where(u < 0, u, xp.zeros_like(u)) - xp.log1p(xp.exp(-xp.abs(u))) + a

    def log_scale_slope(self, log_s, scale):
        """Returns the derivative of log s with respect to raw."""
        a = log_bound(scale)
        return 1 - (log_s / a) ** 2 if scale[0] == "bounded" else -self.xp.expm1(log_s - a)

    def couple_(self, x2, h, scale):
        """Overwrites x2 with z2; returns log|det| (N,)."""
        t, raw = self._halves(h)
        log_s = self.log_scale(raw, scale)
        x2[...] = self.images((self.rows(x2) + t) * self.xp.exp(log_s), x2.shape)
        return self.sum_positions(log_s, x2.shape[0])

    def uncouple_(self, z2, h, scale):
        """Overwrites z2 with x2; returns log|det| of the inverse, (N,)."""
        t, raw = self._halves(h)
        log_s = self.log_scale(raw, scale)
        z2[...] = self.images(self.rows(z2) * self.xp.exp(-log_s) - t, z2.shape)
        return -self.sum_positions(log_s, z2.shape[0])

    def couple_vjp_(self, dz2, z2, h, scale, dlogdet):
        """Overwrites z2 with x2, and dz2 with dx2; returns dh."""
        t, raw = self._halves(h)
        log_s = self.log_scale(raw, scale)
        slope = self.log_scale_slope(log_s, scale)
        R, dR = self.rows(z2), self.rows(dz2)
        draw = (dR * R + self.at_positions(dlogdet, z2)) * slope
        dx2 = dR * self.xp.exp(log_s)  # the gradient of t as well
        z2[...] = self.images(R * self.xp.exp(-log_s) - t, z2.shape)
        dz2[...] = self.images(dx2, z2.shape)
        return self.images(self.xp.concat([dx2, draw], axis=1), h.shape)

    def uncouple_vjp_(self, dx2, x2, h, scale, dlogdet):
        """The gradient of uncouple_: x2 becomes z2, dx2 becomes dz2; gives dh."""
        t, raw = self._halves(h)
        log_s = self.log_scale(raw, scale)
        slope = self.log_scale_slope(log_s, scale)
        R, dR = self.rows(x2) + t, self.rows(dx2)
        draw = -(dR * R + self.at_positions(dlogdet, x2)) * slope
        dh = self.xp.concat([-dR, draw], axis=1)
        dx2[...] = self.images(dR * self.xp.exp(-log_s), x2.shape)
        x2[...] = self.images(R * self.xp.exp(log_s), x2.shape)
        return self.images(dh, h.shape)

    def at_positions(self, each, X):
        """(N,) repeated for every row and channel of X."""
        each = self.xp.reshape(each, (X.shape[0],) + (1,) * (X.ndim - 1))
        return self.rows(self.xp.broadcast_to(each, X.shape))

    def at_rows(self, each, X):
        """(N,) repeated for every row of X."""
        return self.at_positions(each, X)[:, 0]

    def _halves(self, h):
        R = self.rows(h)
        C = R.shape[1] // 2
        return R[:, :C], R[:, C:]

    def add_(self, X, Y):
        """X becomes X + Y."""
        X += Y
