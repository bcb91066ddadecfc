"""Maps of numbers on a grid that are undone to the bit: an affine map keeps what it rounds away, a lifting loses
nothing.
"""

import math

from ..grid import grid_of
from ..lifting import lifting_of


class FixedPoint:
    """Operations in place on arrays whose numbers are n * grid.step, with integers n; they raise where one leaves the
    grid.

    A scale s < 1 sends several n to one m = round(n s), the *fibre* of m; which of them it was takes ceil(log2 of its
    length) bits, none where it has one. `bits` is what such a map gives and its inverse needs, packed as an engine
    likes; None asks the inverse for the nearest number instead.
    """

    def grid(self, limit, X):
        """The Grid of X's dtype, up to `limit`."""
        return grid_of(limit, self.xp.finfo(X.dtype).bits // 8)

    def snap_(self, X, grid):
        """X becomes the nearest number of the grid."""
        X[...] = self.xp.round(X / grid.step) * grid.step + 0.0  # -0.0 becomes 0.0, which is another number in bits
        self._hold(X / grid.step, grid)

    def integers(self, X, grid):
        """The n of X, (N, C, *spatial), int64."""
        return self.astype(self.astype(X, "float64") / grid.step, "int64")

    # ---- the coupling

    def add_on_grid_(self, X, t, grid):
        """X becomes X + round(t)."""
        self._set(X, self._steps(X, grid) + self.xp.round(self._steps(t, grid)), grid)

    def subtract_on_grid_(self, X, t, grid):
        """The inverse of add_on_grid_."""
        self._set(X, self._steps(X, grid) - self.xp.round(self._steps(t, grid)), grid)

    def couple_on_grid_(self, x2, h, scale, grid):
        """x2 becomes round((x2 + round(t)) s); gives log|det| of the map without rounding, (N,), and bits."""
        t, raw = self._halves(h)
        log_s = self.log_scale(raw, scale)
        bits = self._scale_on_grid(x2, t, self.xp.exp(log_s), grid)
        return self.sum_positions(log_s, x2.shape[0]), bits

    def uncouple_on_grid_(self, z2, h, scale, grid, bits):
        """The inverse of couple_on_grid_; gives its log|det|, (N,)."""
        t, raw = self._halves(h)
        log_s = self.log_scale(raw, scale)
        self._unscale_on_grid(z2, t, self.xp.exp(log_s), grid, bits)
        return -self.sum_positions(log_s, z2.shape[0])

    # ---- the channel mix

    def scale_on_grid_(self, X, s, grid):
        """X becomes round(X s), with s (C,); gives bits."""
        return self._scale_on_grid(X, 0 * s, s, grid)

    def unscale_on_grid_(self, Z, s, grid, bits):
        """The inverse of scale_on_grid_."""
        self._unscale_on_grid(Z, 0 * s, s, grid, bits)

    def lifting(self, M):
        """The Lifting of a matrix."""
        return lifting_of(self.to_numpy(M))

    def lift_(self, X, lifting, grid):
        """X becomes P L D U Q x at every position, each step of the Lifting rounded."""
        C, F = X.shape[1], lifting.factors.tolist()
        x = [self._steps(X, grid)[:, c] for c in lifting.columns.tolist()]
        for i in range(C):
            x[i] = x[i] + self._terms(x, F, i, i + 1, C)
        self._hold(self.xp.stack(x), grid)
        for (i, j), k in zip(lifting.pairs.tolist(), lifting.k.tolist()):
            x[i] = x[i] + x[j]
            x[j] = x[j] + self.xp.round((1 / k - 1) * x[i])
            x[i] = x[i] - self.xp.round(k * x[j])
            x[j] = x[j] + self.xp.round((1 - 1 / k) / k * x[i])
        self._hold(self.xp.stack(x), grid)
        x = [sign * n for sign, n in zip(lifting.signs.tolist(), x)]
        for i in reversed(range(C)):
            x[i] = x[i] + self._terms(x, F, i, 0, i)
        self._set(X, self.xp.stack([x[i] for i in lifting.rows.argsort().tolist()], axis=1), grid)

    def unlift_(self, Z, lifting, grid):
        """The inverse of lift_, to the bit."""
        C, F = Z.shape[1], lifting.factors.tolist()
        x = [self._steps(Z, grid)[:, c] for c in lifting.rows.tolist()]
        for i in range(C):
            x[i] = x[i] - self._terms(x, F, i, 0, i)
        self._hold(self.xp.stack(x), grid)
        x = [sign * n for sign, n in zip(lifting.signs.tolist(), x)]
        for (i, j), k in zip(lifting.pairs[::-1].tolist(), lifting.k[::-1].tolist()):
            x[j] = x[j] - self.xp.round((1 - 1 / k) / k * x[i])
            x[i] = x[i] + self.xp.round(k * x[j])
            x[j] = x[j] - self.xp.round((1 / k - 1) * x[i])
            x[i] = x[i] - x[j]
        self._hold(self.xp.stack(x), grid)
        for i in reversed(range(C)):
            x[i] = x[i] - self._terms(x, F, i, i + 1, C)
        self._set(Z, self.xp.stack([x[i] for i in lifting.columns.argsort().tolist()], axis=1), grid)

    def _terms(self, x, F, i, start, stop):
        """round(sum of F[i][j] x[j]), added in one order in both directions."""
        total = 0 * x[i]
        for j in range(start, stop):
            total = total + F[i][j] * x[j]
        return self.xp.round(total)

    # ---- scales

    def _scale_on_grid(self, X, t, s, grid):
        s = self._positive(s)
        n = self._steps(X, grid) + self.xp.round(self._steps(t, grid))
        m = self._scaled(n, s)
        self._hold(n, grid)
        self._set(X, m, grid)
        first = self._first(m, s, grid)
        return self._pack(n - first, self._first(m + 1, s, grid) - first)

    def _unscale_on_grid(self, Z, t, s, grid, bits):
        s, m = self._positive(s), self._steps(Z, grid)
        if bits is None:
            n = self.xp.round(m / s)
        else:
            first = self._first(m, s, grid)
            n = first + self._unpack(bits, self._first(m + 1, s, grid) - first)
        self._hold(n, grid)
        self._set(Z, n - self.xp.round(self._steps(t, grid)), grid)

    def _positive(self, s):
        """A scale in float64; what is less than 1e-18 makes zero of all numbers, as that does."""
        return self.xp.clip(self.astype(s, "float64"), 1e-18, None)

    def _scaled(self, n, s):
        """round(n s), halves upwards: halves to even numbers would make fibres of 3 and 5 where s is 1/4, and not all
        of 4.
        """
        return self.xp.floor(n * s + 0.5)

    def _first(self, m, s, grid):
        """The first n on the grid with _scaled(n, s) >= m, or one beyond the last."""
        xp = self.xp
        n = xp.ceil((m - 0.5) / s)  # at most one off: the rounding of either is below 1/4
        low, high = self._scaled(n - 1, s) >= m, self._scaled(n, s) < m
        n = n - self.astype(low, "float64") + self.astype(high, "float64")
        return xp.clip(n, -grid.most, grid.most + 1)

    def _pack(self, rank, length):
        """The ranks, 0 <= rank < length, in bits: all lowest bits first, where a length needs them, then the second
        ones.
        """
        xp, where = self.xp, dict(dtype=self.xp.uint8, device=rank.device)
        planes = [xp.zeros(0, **where)]
        rank, last = self.astype(rank, "int64"), self.astype(length, "int64") - 1
        while bool(xp.any(last > 0)):
            planes.append(self.astype((rank & 1)[last > 0], "uint8"))
            rank, last = rank >> 1, last >> 1
        bits = xp.concat(planes)
        bits = xp.reshape(xp.concat([bits, xp.zeros(-bits.shape[0] % 8, **where)]), (-1, 8))
        return self.astype(xp.sum(bits << xp.arange(8, **where), axis=1), "uint8")

    def _unpack(self, packed, length):
        xp, start, where = self.xp, 0, dict(dtype=self.xp.uint8, device=length.device)
        last, rank, weight = self.astype(length, "int64") - 1, self.astype(0 * length, "int64"), 1
        bits = xp.reshape((xp.asarray(packed, **where)[:, None] >> xp.arange(8, **where)) & 1, (-1,))
        if bool(xp.any(last < 0)):
            raise ValueError(MISSING)
        while bool(xp.any(last > 0)):
            chosen = last > 0
            stop = start + int(xp.count_nonzero(chosen))
            if stop > bits.shape[0]:
                raise ValueError(MISSING)
            rank[chosen] += weight * self.astype(bits[start:stop], "int64")
            start, weight, last = stop, 2 * weight, last >> 1
        return self.astype(rank, "float64")

    # ---- numbers as steps of the grid

    def _steps(self, X, grid):
        """Rows of X in steps of the grid, float64; (C,) as it is."""
        return self.astype(self.rows(X) if X.ndim > 2 else X, "float64") / grid.step

    def _set(self, X, n, grid):
        self._hold(n, grid)
        X[...] = self.images(self.astype(n * grid.step + 0.0, X.dtype), X.shape)

    def _hold(self, n, grid):
        grid.check(float(self.xp.max(self.xp.abs(n))) if math.prod(n.shape) else 0.0)


MISSING = (
    "this Z is rebuilt to the bit only with the correction bits that the forward of this Z left: backward takes the Z "
    "of the last "
    "forward, decode the bits of the same encode, both with the same parameters and condition"
)
