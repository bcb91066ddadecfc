"""Autoregressive layers: every channel is changed given those before it, through a masked conditioner."""

import math

from ..core import Condition, Net, get_ops
from .coupling import AffineCoupling, Coupling


class Autoregressive(Coupling):
    """What autoregressive layers share: a coupling in which no channel passes, channel i being changed given h_i(u_1 ... u_{i-1}).

    The conditioner sees one side u of the layer, X or Z, so that one direction, from u to the other side v, is a single
    evaluation: the fast one. The other, from v to u, is a triangular system of equations, solved for all channels at once
    by sweeps u <- what v and h(u) give. Each sweep makes at least one more channel right, the next in the order, so that
    sweep C changes nothing any more; it ends earlier where nothing changes, with the same bits. The first sweep costs
    nothing without a condition: the first channel's h is then the same for all samples. So the costs, in evaluations of the
    conditioner (a pullback is worth two) with C channels, or C + 1 with a condition:

    | | fast="forward", h of X | fast="inverse", h of Z |
    |---|---|---|
    | forward: density | 1 | at most C - 1, at least 1 |
    | inverse: sampling | at most C - 1, at least 1 | 1 |
    | backward: training by likelihood | at most C - 1, and a pullback | 1, and at most C - 1 pullbacks |
    | inverse_backward: training by samples | 1, and at most C - 1 pullbacks | at most C - 1, and a pullback |

    With two channels both directions cost the same.

    A subclass has the methods of a coupling, couple_, uncouple_ and their gradients, which go channel by channel; inheriting
    from a coupling and from this class, in this order, is enough.
    """

    least = 1

    def __init__(self, channels, net, fast="forward"):
        super().__init__(channels, net)
        self._C1 = 0
        self._turn(fast)

    def _turn(self, fast):
        if fast not in ("forward", "inverse"):
            raise ValueError(f'fast is "forward" or "inverse"; got {fast!r}')
        self._fast = fast

    @classmethod
    def conditioner_channels(cls, channels):
        """Input and output channels of the conditioner of a layer of `channels` channels."""
        return channels, cls.outputs * channels

    def forward_(self, X, cond=None):
        return X, (self._map if self._fast == "forward" else self._solve)(self.couple_, X, cond)

    def inverse_logdet_(self, Z, cond=None):
        return Z, (self._solve if self._fast == "forward" else self._map)(self.uncouple_, Z, cond)

    def backward_(self, dZ, Z, dlogdet, cond=None):
        if self._fast == "forward":
            self._pull(self.uncouple_, self.couple_backward_, dZ, Z, dlogdet, cond)
        else:
            self._solved_pull(self.couple_backward_, dZ, Z, dlogdet, cond)
        return dZ, Z

    def inverse_backward_(self, dX, X, dlogdet, cond=None):
        if self._fast == "forward":
            self._solved_pull(self.uncouple_backward_, dX, X, dlogdet, cond)
        else:
            self._pull(self.couple_, self.uncouple_backward_, dX, X, dlogdet, cond)
        return dX, X

    # ---- the fast direction, from u to v, with h = net(u)

    def _map(self, couple_, U, cond):
        """U becomes V; gives logdet."""
        ops, c = get_ops(U), self._condition_of(U, cond)
        return self._logdet_of_tiles(ops, U, lambda tile, u: couple_(ops, u, self._h(u, tile.condition(c))))

    def _pull(self, uncouple_, couple_backward_, dV, V, dlogdet, cond):
        """The gradient of _map: V becomes U, which is solved for, and dV becomes dU."""
        ops, c = get_ops(V), self._condition_of(V, cond)
        nearly = self._nearly_solved(ops, uncouple_, V, c)

        def work(tile):
            u, v, dv = nearly(tile), tile.core(V), tile.core(dV)
            h, pullback = self.net.vjp(u, tile.condition(c))
            dh = couple_backward_(ops, dv, v, self._checked(h, u), dlogdet[tile.samples])
            du, dcond, gradients = pullback(dh)
            ops.add_(dv, self._same(du, u))
            return tile, self._kept(ops, dcond, cond), gradients

        ops.map_tiles(work, self._tiles(ops, V), lambda result: self._add(cond, *result))

    # ---- the slow direction, from v to u, solved for by sweeps

    def _sweeps(self, c):
        """Evaluations of the conditioner after which every channel's h is right."""
        return self.channels if c is not None else max(1, self.channels - 1)

    def _solve(self, uncouple_, V, cond):
        """V becomes U; gives logdet."""
        ops, c = get_ops(V), self._condition_of(V, cond)
        nearly = self._nearly_solved(ops, uncouple_, V, c)
        return self._logdet_of_tiles(ops, V, lambda tile, v: uncouple_(ops, v, self._h(nearly(tile), tile.condition(c))))

    def _nearly_solved(self, ops, uncouple_, V, c):
        """A function of a tile: u with every channel right but the last, which no h sees."""
        nearly, U, tiles = self._first_solved(ops, uncouple_, V, c), None, self._tiles(ops, V)
        for _ in range(self._sweeps(c) - 1):
            into, changing = ops.zeros_like(V) if U is None else U, []

            def work(tile):
                before, after = nearly(tile), ops.fresh(tile.core(V))
                uncouple_(ops, after, self._h(before, tile.condition(c)))
                changes = not ops.xp.all(before == after)
                tile.core(into)[...] = after
                return tile, changes

            ops.map_tiles(work, tiles, lambda result: changing.append(result[0]) if result[1] else None)
            U, tiles, nearly = into, changing, lambda tile: tile.core(into)
        return nearly

    def _first_solved(self, ops, uncouple_, V, c):
        """A function of a tile: u with the first channel right, where one sample's h says it for all; v with a condition."""
        if c is not None:
            return lambda tile: ops.fresh(tile.core(V))
        one = ops.rows(self._h(_one_position(V), None))

        def first(tile):
            u = ops.fresh(tile.core(V))
            h = ops.xp.zeros((ops.rows(u).shape[0], one.shape[1]), dtype=one.dtype, device=one.device) + one
            uncouple_(ops, u, ops.images(h, (u.shape[0], h.shape[1], *u.shape[2:])))
            return u

        return first

    def _solved_pull(self, uncouple_backward_, dU, U, dlogdet, cond):
        """The gradient of _solve: U becomes V, and dU becomes dV, for which dU + pullback(dh(dU')) = dU' is solved."""
        ops, c = get_ops(U), self._condition_of(U, cond)
        last, first_channel = self._sweeps(c) - 1, 0.0

        def back(tile, du, h):
            dv, v = ops.fresh(du), ops.fresh(tile.core(U))
            return uncouple_backward_(ops, dv, v, h, dlogdet[tile.samples]), dv, v

        def work(tile):
            u, du, rest = tile.core(U), tile.core(dU), 0.0
            h, pullback = self.net.vjp(u, tile.condition(c))
            h, total = self._checked(h, u), du
            for sweep in range(last + 1):
                dh, dv, v = back(tile, total, h)
                dx, dcond, gradients = pullback(dh) if sweep == last else _aside(ops, pullback, dh)
                before, total = total, du + self._same(dx, u)
                if sweep < last and ops.xp.all(before == total):
                    break
            if c is None:  # only now is dh right for the first channel, on which dx does not depend
                right, dv, v = back(tile, total, h)
                rest = ops.xp.sum(ops.rows(right) - ops.rows(dh), axis=0)
            du[...], u[...] = dv, v
            return tile, self._kept(ops, dcond, cond), gradients, rest

        def commit(result):
            nonlocal first_channel
            *result, rest = result
            self._add(cond, *result)
            first_channel = first_channel + rest

        tiles = self._tiles(ops, U)
        ops.map_tiles(work, tiles, commit)
        if c is None and tiles:
            h, pullback = self.net.vjp(_one_position(U))
            self._add(None, None, None, pullback(ops.images(first_channel[None, :], h.shape))[2])

    # ---- what they share

    def _h(self, u, c):
        return self._checked(self.net.forward(u, c), u)

    def _tiles(self, ops, X):
        weights = sum(math.prod(parameter.data.shape) for parameter in self._parameters)
        return ops.tiles(X.shape, getattr(self.net, "floats_per_position", Net.floats_per_position), None, weights)

    def _logdet_of_tiles(self, ops, X, work):
        """The logdets that work(tile, its part of X) gives."""
        logdet = ops.fill(X.shape[0], 0.0, X)

        def commit(result):
            tile, part = result
            logdet[tile.samples] += part

        ops.map_tiles(lambda tile: (tile, work(tile, tile.core(X))), self._tiles(ops, X), commit)
        return logdet

    @staticmethod
    def _kept(ops, dcond, cond):
        """A condition's gradient that outlives its tile, where it is wanted."""
        return ops.copy(dcond) if isinstance(cond, Condition) and dcond is not None else None

    def _add(self, cond, tile, dcond, gradients):
        if len(gradients) != len(self._parameters):
            raise ValueError(f"the conditioner has {len(self._parameters)} parameters; its pullback gave {len(gradients)} gradients")
        for parameter, gradient in zip(self._parameters, gradients):
            if tuple(gradient.shape) != tuple(parameter.data.shape):
                raise ValueError(f"a parameter of the conditioner has shape {tuple(parameter.data.shape)}; its gradient {tuple(gradient.shape)}")
            parameter.grad += gradient
        if dcond is not None:
            tile.condition(cond.grad)[...] += dcond


def _one_position(X):
    """Zeros in the shape of one position of one sample."""
    ops = get_ops(X)
    return ops.zeros_like(X[(slice(0, 1), slice(None), *[slice(0, 1)] * (X.ndim - 2))])


def _aside(ops, function, argument):
    """function(argument) in memory of its own, where a tile's would fill with what many calls leave."""
    results = []
    ops.map_tiles(lambda _: function(argument), (None,), results.append)
    return results[0]


class AutoregressiveAffine(AffineCoupling, Autoregressive):
    """Z = (X + t) s with [t, raw] = net(X), or X = Z / s - t with [t, raw] = net(Z); s = scale(raw), and logdet is sum log s.

    The net's outputs for a channel depend on the channels before it only. The first, fast="forward", is the masked
    autoregressive flow (MAF), z_i = (x_i - mu_i) exp(-alpha_i) with mu and alpha of x_1 ... x_{i-1}: densities are
    fast. The second, fast="inverse", is the inverse autoregressive flow (IAF), x = z exp(alpha(z)) + mu(z): samples are fast.
    In both mu = -t and alpha = -log s. A zero conditioner makes the layer the identity, with the "bounded" scale.

    The other direction takes as many evaluations of the net as there are channels less one, or with a condition as there
    are channels, and fewer where they change nothing any more; `Autoregressive` has the table. Two channels cost the same both ways.

    Args:
        channels: C, at least 1.
        net: a conditioner from C to 2 C channels, t and then raw, as MaskedDenseNet(C, hidden) is.
        fast: "forward" or "inverse", the direction that is one evaluation.
        scale, bound: as in AffineCoupling, which says how far the inverse amplifies rounding errors.

    Raises:
        ValueError: `fast` or `scale` is unknown, or a number is out of range.

    References:
        Papamakarios, Pavlakou & Murray, Masked Autoregressive Flow for Density Estimation, 2017, section 3. Kingma et al.,
        Improving Variational Inference with Inverse Autoregressive Flow, 2016, section 3. Song, Meng, Liao & Ermon,
        Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving, 2021, section 3 (the sweeps).
    """

    def __init__(self, channels, net, fast="forward", scale="bounded", bound=4.0):
        super().__init__(channels, net, scale, bound)
        self._turn(fast)
