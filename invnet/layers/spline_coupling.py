"""SplineCoupling: the coupling whose map of x2 is a spline."""

from ..fused.spec import DenseSpec, LayerSpec
from .coupling import Coupling
from .spline import Spline


class SplineCoupling(Coupling):
    """Z = [x1, spline(x2; h)], h = net(x1), each number of x2 by a monotone rational quadratic spline of its own: see
    Spline.

    Its pieces reach from -bound to bound, outside it is the identity; so the data should be scaled to lie within for
    the most part. A zero conditioner makes the layer the identity.

    Args:
        channels: C, at least 2; x1 has ceil(C/2) of them.
        net: a conditioner from ceil(C/2) to (3 bins - 1) floor(C/2) channels: all parameters of the first of x2, then
            the next; or None, and `hidden` says how to make one.
        bins: how many pieces a spline has, from 2.
        bound: half the width of the domain, positive.
        tails: "linear" for the identity outside the domain, or None where x2 is never outside.
        hidden, ndim, cond_channels, seed, dtype: of a new conditioner, see AdditiveCoupling.

    Raises:
        ValueError: a number is out of its range, or an option of a new conditioner is given beside `net`; without
            tails, x2 has a value outside the domain, or NaN.
        TypeError: neither `net` nor `hidden` is given; `net` is no conditioner.

    References:
        Durkan, Bekasov, Murray & Papamakarios, Neural Spline Flows, 2019, sections 3.1 and 3.2.
    """

    def __init__(
        self,
        channels,
        net=None,
        bins=8,
        bound=3.0,
        tails="linear",
        *,
        hidden=None,
        ndim=None,
        cond_channels=None,
        seed=None,
        dtype=None,
    ):
        self._spline = Spline(bins, bound, tails)
        self.outputs = self._spline.size
        super().__init__(channels, net, hidden=hidden, ndim=ndim, cond_channels=cond_channels, seed=seed, dtype=dtype)

    @classmethod
    def conditioner_channels(cls, channels, bins=8):
        return channels - channels // 2, (3 * bins - 1) * (channels // 2)

    def couple_(self, ops, x2, h):
        return self._bend(ops, x2, h, self._spline.forward)

    def uncouple_(self, ops, z2, h):
        return self._bend(ops, z2, h, self._spline.inverse_logdet)

    def couple_vjp_(self, ops, dz2, z2, h, dlogdet):
        return self._bend_vjp(ops, dz2, z2, h, dlogdet, self._spline.backward)

    def uncouple_vjp_(self, ops, dx2, x2, h, dlogdet):
        return self._bend_vjp(ops, dx2, x2, h, dlogdet, self._spline.inverse_backward)

    def specs(self):
        spec, C1, C = self.net.spec(), self._C1, self.channels
        if not isinstance(spec, DenseSpec) or self._spline.tails is None or not spec.maps(C1, self.outputs * (C - C1)):
            return []
        return [LayerSpec("spline", (), spec, tuple(range(C)), (0, C1, C), spline=self._spline.bins_and_bound)]

    def _bend(self, ops, x2, h, spline):
        R, logdet = spline(ops.rows(x2), self._of_numbers(ops, x2, h))
        x2[...] = ops.images(R, x2.shape)
        return ops.sum_positions(logdet, x2.shape[0])

    def _bend_vjp(self, ops, dz2, z2, h, dlogdet, spline_vjp):
        dR, R, dh = spline_vjp(ops.rows(dz2), ops.rows(z2), self._of_numbers(ops, z2, h), ops.at_rows(dlogdet, z2))
        dz2[...], z2[...] = ops.images(dR, z2.shape), ops.images(R, z2.shape)
        return ops.images(self._of_channels(ops, dh), h.shape)

    def _of_numbers(self, ops, x2, h):
        """Rows of h as (rows, C of x2, parameters of one number)."""
        return ops.xp.reshape(ops.rows(h), (-1, x2.shape[1], self.outputs))

    def _of_channels(self, ops, P):
        """The opposite: parameters of numbers as rows of h."""
        return ops.xp.reshape(P, (-1, P.shape[1] * P.shape[2]))
