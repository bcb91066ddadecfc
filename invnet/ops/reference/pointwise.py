"""Planar and radial layers; `inverse` says that x is made of z."""


class Pointwise:
    """Both bend space along one direction."""

    # ---- planar: z = x + uh tanh(w.x + b), uh = u + k w with w.uh = s - 1 > -1; `inverse` says that x is made of z

    def planar_(self, X, u, w, b, inverse):
        """X becomes Z, or Z becomes X; gives log|det| of the map taken, (N,)."""
        (uh, s, _, _, over_n), R = self._steered(u, w), self.rows(X)
        v, t, q = self._tanh(R @ w + b, s, inverse)
        logdet = self.sum_positions(self.xp.log(t * t + s * q), X.shape[0])
        X[...] = self.images(self._planar_x(R, v - b, t, uh, w, over_n) if inverse else R + t[:, None] * uh, X.shape)
        return -logdet if inverse else logdet

    def planar_vjp_(self, dX, X, u, w, b, dlogdet, inverse):
        """The gradient of planar_, from its outputs to its inputs, in place; gives du, dw and db."""
        xp, (uh, s, slope, k, over_n) = self.xp, self._steered(u, w)
        dR, R, dl = self.rows(dX), self.rows(X), self.at_rows(dlogdet, X)
        v, t, q = self._tanh(R @ w + b, s, not inverse)
        other = R + t[:, None] * uh if inverse else self._planar_x(R, v - b, t, uh, w, over_n)
        det = t * t + s * q
        dv = q * (dR @ uh - 2 * (s - 1) * t * dl / det)
        if inverse:  # the gradients of the forward map for the two that it would return, with the sign turned
            dv, dl, t = -dv / det, -dl, -t
        dother = dR + dv[:, None] * w
        duh, dw = (t @ dother, dv @ R) if inverse else (t @ dR, dv @ other)
        X[...], dX[...] = self.images(other, X.shape), self.images(dother, X.shape)
        # uh = u + k w with k = (s - 1 - a) / n, a = w.u, n = w.w and s = softplus(a)
        dk = xp.sum(duh * w)
        da = (xp.sum(dl * q / det) + dk * over_n) * slope - dk * over_n
        return duh + da * w, dw + k * duh + da * u - 2 * dk * k * over_n * w, xp.sum(dv, keepdims=True)

    @staticmethod
    def _planar_x(R, a, t, uh, w, over_n):
        """x = z - uh t, and then w.x made a, which is known better where uh t is much larger than x."""
        R = R - t[:, None] * uh
        return R + ((a - R @ w) * over_n)[:, None] * w

    def _steered(self, u, w):
        """uh, s = softplus(w.u), its slope in w.u, k and 1 / w.w; uh is u where w is zero."""
        xp = self.xp
        a, n = xp.sum(u * w), xp.sum(w * w)
        some, zero = n >= xp.finfo(n.dtype).smallest_normal, xp.zeros_like(n)
        s = xp.where(some, self._softplus(a), zero + 1)
        over_n = xp.where(some, 1 / xp.where(some, n, zero + 1), zero)
        k = (s - 1 - a) * over_n
        return u + k * w, s, xp.where(some, self._sigmoid(a), zero), k, over_n

    def _tanh(self, c, s, solve):
        """v = c, or where `solve` the v with v + (s - 1) tanh(v) = c; t = tanh(v), and 1 - t^2.

        Halley's method from that end of a bracket of the root that lies on the good side by convexity; where a step
        would leave the bracket, its middle is taken.
        """
        xp, y, tiny, eps = self.xp, self.xp.abs(c), self.xp.finfo(c.dtype).smallest_normal, self.xp.finfo(c.dtype).eps
        v = y
        if solve:
            one, other = y + (1 - s), xp.where(s > 1e-6, y / xp.where(s > 1e-6, s, xp.ones_like(s)), y + 1)
            v = xp.where((one > other) == (s > 1), one, other)  # the larger for s > 1, else the smaller
            low, high = xp.where(v < y, v, y), xp.where(v < y, y, v)
            for _ in range(100):
                t, q = self._tanh_of(v)
                f, slope = y - (v - t) - s * t, t * t + s * q
                step = f * slope / (slope * slope - f * (s - 1) * t * q + tiny)
                low, high = xp.where(f > 0, v, low), xp.where(f < 0, v, high)
                inside = (v + step >= low) & (v + step <= high)
                step = xp.where(inside, step, (low + high) / 2 - v)
                # Convergence is cubic: after a step this small comes none. Where f is rounding alone, steps say
                # nothing.
                done = self.all_hold(~((xp.abs(step) > eps**0.35 * v) & (xp.abs(f) > 4 * eps * (v + y))))
                v = v + step
                if done:
                    break
        t, q = self._tanh_of(v)
        return xp.where(c < 0, -v, v), xp.where(c < 0, -t, t), q

    def _tanh_of(self, v):
        """tanh(v) of v >= 0, and 1 - tanh(v)^2 without cancellation."""
        E = self.xp.expm1(-2 * v)
        return -E / (2 + E), 4 * (1 + E) / (2 + E) ** 2

    # ---- radial: with d = x - x0 and r = |d|, z = x0 + d (s + r) / (alpha + r); theta is [alpha, s], both positive

    def radial_(self, X, x0, theta, inverse):
        """X becomes Z, or Z becomes X; gives log|det| of the map taken, (N,)."""
        xp, R, alpha, s = self.xp, self.rows(X) - x0, theta[0], theta[1]
        r = self._radius(R, alpha, s, inverse)
        h, stretch = 1 / (alpha + r), (s + r) / (alpha + r)
        logdet = (R.shape[1] - 1) * xp.log(stretch) + xp.log(r * h * (r * h + 2 * alpha * h) + alpha * h * (s * h))
        X[...] = self.images(x0 + R * (1 / stretch if inverse else stretch)[:, None], X.shape)
        logdet = self.sum_positions(logdet, X.shape[0])
        return -logdet if inverse else logdet

    def radial_vjp_(self, dX, X, x0, theta, dlogdet, inverse):
        """The gradient of radial_, from its outputs to its inputs, in place; gives dx0 and dtheta."""
        xp, alpha, s = self.xp, theta[0], theta[1]
        dR, R, dl = self.rows(dX), self.rows(X) - x0, self.at_rows(dlogdet, X)
        C, r = R.shape[1], self._radius(R, alpha, s, not inverse)
        h, q = 1 / (alpha + r), r * (r + 2 * alpha) + alpha * s
        stretch, dstretch_dr = (s + r) * h, (alpha - s) * h * h
        dell_dr = (alpha - s) * h * ((C - 1) / (s + r) + 2 * alpha / q)
        d = R if inverse else R / stretch[:, None]  # x - x0
        e = d / xp.where(r > 0, r, xp.ones_like(r))[:, None]
        if inverse:  # with J = stretch I + (p - stretch) e e^T, then the forward map's gradients with the sign turned
            p = q * h * h
            along = xp.sum(dR * e, axis=1) * (1 / p - 1 / stretch) - dl * dell_dr / p
            after = dR / stretch[:, None] + along[:, None] * e
            g, dl = -xp.sum(after * d, axis=1), -dl
        else:
            g = xp.sum(dR * d, axis=1)
            after = dR * stretch[:, None] + (g * dstretch_dr + dl * dell_dr)[:, None] * e
        dalpha = -g * stretch * h + dl * ((s + 2 * r) / q - (C + 1) * h)
        ds = g * h + dl * ((C - 1) / (s + r) + alpha / q)
        dx0 = xp.sum(dR - after, axis=0)
        X[...] = self.images(x0 + (d * stretch[:, None] if inverse else d), X.shape)
        dX[...] = self.images(after, X.shape)
        return dx0, xp.stack([xp.sum(dalpha), xp.sum(ds)])

    def _radius(self, d, alpha, s, solve):
        """|d|, or where `solve` the r whose image r (s + r) / (alpha + r) it is."""
        xp, rho = self.xp, self.xp.sqrt(self.xp.sum(d * d, axis=1))
        if not solve:
            return rho
        h = rho - s
        D = xp.sqrt(h * h + 4 * alpha * rho)
        tiny = xp.finfo(d.dtype).smallest_normal
        return xp.where(h > 0, (h + D) / 2, 2 * alpha * rho / (xp.where(h > 0, D, D - h) + tiny))
