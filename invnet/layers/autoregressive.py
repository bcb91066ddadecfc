"""Autoregressive layers: every channel is changed given those before it, through a masked conditioner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import get_ops
from ..fused.spec import DenseSpec, LayerSpec
from ..nets import MaskedDenseNet
from .conditioned import Conditioned
from .transforms import Affine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..core import Conditioner
    from ..typing import Array, Cond, DType, Seed


class Autoregressive(Conditioned):
    """Every channel is transformed given the channels before it.

    The conditioner sees one side of the layer, u, which is X with fast="forward" and Z with fast="inverse": h = net(u),
    where the outputs for a channel depend on the channels before it. From u to the other side, v, is one evaluation.
    From v to u is a triangular system of equations, which is solved channel by channel, as is that of its gradient. A
    MaskedDenseNet does so in no more multiplications than one evaluation has, each unit being computed once
    (`substitute`). Another conditioner is evaluated again and again, all channels at once, until nothing changes: one
    more channel is right each time, so that C times are enough, and what comes out has the same bits however few it
    took. Hence the cost, in evaluations, where a pullback is worth two:

    | | fast="forward" | fast="inverse" | where "substitution" is another conditioner's |
    |---|---|---|---|
    | forward: density | 1 | 1 + substitution | at most C - 1 |
    | inverse: sampling | 1 + substitution | 1 | at most C - 1 |
    | backward: training by likelihood | 3 + substitution | 3 | at most C - 1; C pullbacks |
    | inverse_backward: training by samples | 3 | 3 + substitution | C pullbacks; at most C - 1 |
    """

    any_dtype = False

    def __init__(
        self,
        channels: int,
        transform: Any,
        net: Conditioner | None,
        fast: str,
        hidden: int | Sequence[int] | None,
        **options: Any,
    ):
        super().__init__(channels, transform, net, hidden, **options)
        if fast not in ("forward", "inverse"):
            raise ValueError(f'fast is "forward" or "inverse"; got {fast!r}')
        self._fast = fast

    def make_net(self, channels: int, hidden: int | Sequence[int], **options: Any) -> Conditioner:
        return MaskedDenseNet(channels, hidden, self.outputs, **options)

    @classmethod
    def conditioner_channels(cls, channels: int, *options: Any, **more: Any) -> tuple[int, int]:
        """Input and output channels of the conditioner of a layer of `channels` channels.

        `options` are those of the transform by which the numbers for each channel differ: `bins` of a spline.
        """
        return channels, cls.transform_class.outputs_of(*options, **more) * channels

    def forward_(self, X: Array, cond: Cond = None) -> tuple[Array, Array]:
        return X, (self._run if self._fast == "forward" else self._solve)(X, cond, self._transform.forward_)

    def inverse_logdet_(self, Z: Array, cond: Cond = None) -> tuple[Array, Array]:
        return Z, (self._solve if self._fast == "forward" else self._run)(Z, cond, self._transform.inverse_)

    def backward_(self, dZ: Array, Z: Array, dlogdet: Array | float | None, cond: Cond = None) -> tuple[Array, Array]:
        if self._fast == "forward":
            seen_by = self._solver(Z, cond, self._transform.inverse_)
            self._run_vjp(dZ, Z, dlogdet, cond, self._transform.backward_, seen_by=seen_by)
        else:
            self._solve_vjp(dZ, Z, dlogdet, cond, self._transform.backward_)
        return dZ, Z

    def inverse_backward_(
        self, dX: Array, X: Array, dlogdet: Array | float | None, cond: Cond = None
    ) -> tuple[Array, Array]:
        if self._fast == "forward":
            self._solve_vjp(dX, X, dlogdet, cond, self._transform.inverse_backward_)
        else:
            seen_by = self._solver(X, cond, self._transform.forward_)
            self._run_vjp(dX, X, dlogdet, cond, self._transform.inverse_backward_, seen_by=seen_by)
        return dX, X

    def specs(self) -> list:
        net, transform, groups = self.net.spec(), self._transform.spec(), tuple(range(self.channels + 1))
        if (
            transform is None
            or not isinstance(net, DenseSpec)
            or net.ends[-1] != tuple(self.outputs * g for g in groups)
        ):
            return []
        reads_z = self._fast == "inverse"
        return [LayerSpec(conditioner=net, order=net.inputs, groups=groups, reads_z=reads_z, **transform)]

    # ---- the fast direction, from u to v with h = net(u), is `_run`; `_run_vjp` needs u, which is solved for

    def _lasting(self, ops, u):
        return ops.copy_channels_last(u)

    def _solver(self, V, cond, inverse_):
        return lambda: self._nearly_solved(get_ops(V), inverse_, V, self._condition_of(V, cond))

    # ---- the slow direction, from v to u

    def _solve(self, V, cond, inverse_):
        """V becomes U; returns logdet."""
        ops, c = get_ops(V), self._condition_of(V, cond)
        nearly, logdet = self._nearly_solved(ops, inverse_, V, c), ops.full(V.shape[0], 0.0, V)

        def work(tile):
            return tile, inverse_(ops, tile.core(V), self._h(nearly(tile), tile.condition(c)))

        def commit(result):
            tile, part = result
            logdet[tile.samples] += part

        ops.map_tiles(work, self._tiles(ops, V), commit)
        return logdet

    def _nearly_solved(self, ops, inverse_, V, c):
        """A function of a tile that gives u, right but for the last channel, which no h sees."""
        if not hasattr(self.net, "substitute"):
            return self._swept(ops, inverse_, V, c)

        def substituted(tile):
            u = ops.copy_channels_last(tile.core(V))
            self.net.substitute(u, lambda i, h: inverse_(ops, u[:, i : i + 1], self._of_one(h)), tile.condition(c))
            return u

        return substituted

    def _swept(self, ops, inverse_, V, c):
        """The same by evaluations of all channels, until nothing changes; a NaN changes always, hence the limit."""
        U, tiles = ops.copy_channels_last(V), self._tiles(ops, V)

        def work(tile):
            before, after = tile.core(U), ops.copy_channels_last(tile.core(V))
            inverse_(ops, after, self._h(before, tile.condition(c)))
            changes = not ops.all_hold(before == after)
            before[...] = after
            return tile, changes

        for _ in range(self.channels - 1):
            changing = []
            ops.map_tiles(work, tiles, lambda result: changing.append(result[0]) if result[1] else None)
            tiles = changing
        return lambda tile: tile.core(U)

    def _solve_vjp(self, dU, U, dlogdet, cond, inverse_vjp_):
        """The gradient of _solve: U becomes V, and dU becomes dV, of which dU + pullback(dh(dU')) = dU' is solved."""
        ops, c = get_ops(U), self._condition_of(U, cond)

        def substituted_vjp(tile, u, du, dlogdet):
            def step(i, h, dx):
                u_i, du_i = u[:, i : i + 1], du[:, i : i + 1]
                du_i += dx
                return inverse_vjp_(ops, du_i, u_i, self._of_one(h), dlogdet)

            return self.net.substitute_vjp(u, step, tile.condition(c))

        def swept_vjp(tile, u, du, dlogdet):
            h, pullback = self.net.vjp(u, tile.condition(c))
            h, total = self._checked(h, u), du
            for _ in range(self.channels):
                dv, v = ops.copy_channels_last(total), ops.copy_channels_last(u)
                dh = inverse_vjp_(ops, dv, v, h, dlogdet)
                dx, dcond, gradients = _in_its_own_memory(ops, pullback, dh)
                before, total = total, du + self._same(dx, u)
                if ops.all_hold(before == total):
                    break
            du[...], u[...] = dv, v
            return dcond, gradients

        solve_vjp = substituted_vjp if hasattr(self.net, "substitute_vjp") else swept_vjp

        def work(tile):
            dcond, gradients = solve_vjp(tile, tile.core(U), tile.core(dU), dlogdet[tile.samples])
            return tile, self._outliving(ops, dcond, cond), gradients

        ops.map_tiles(work, self._tiles(ops, U), lambda result: self._add(cond, *result))

    # ---- what they share

    def _h(self, u, c):
        return self._checked(self.net.forward(u, c), u)

    def _of_one(self, h):
        if h.shape[1] != self.outputs:
            raise ValueError(
                f"the conditioner of {type(self).__name__} must give {self.outputs} outputs for each channel; got "
                f"{h.shape[1]}"
            )
        return h

    def _kept_bytes(self, X):
        return super()._kept_bytes(X) + self._weights * X.dtype.itemsize  # masked weights are a copy

    def _tiles(self, ops, X):
        if hasattr(self.net, "rng_state") and self.net.rng_state() is not None:
            raise TypeError(
                f"{type(self).__name__} solves with one map in many evaluations, and its conditioner draws random "
                "numbers in each: put it in evaluation, with module.eval()"
            )
        return ops.tiles(X.shape, self._floats, None, self._weights)


def _in_its_own_memory(ops, function, argument):
    """function(argument) in memory of its own, where a tile's would fill with what many calls leave."""
    results = []
    ops.map_tiles(lambda _: function(argument), (0,), results.append)
    return results[0]


class AutoregressiveAffine(Autoregressive):
    """Z = (X + t) s with [t, raw] = net(X), or X = Z / s - t with [t, raw] = net(Z); s = scale(raw), and logdet is sum
    log s.

    The net's outputs for a channel depend on the channels before it only. The first, fast="forward", is the masked
    autoregressive flow (MAF), z_i = (x_i - mu_i) exp(-alpha_i) with mu and alpha of x_1 ... x_{i-1}: densities are
    fast. The second, fast="inverse", is the inverse autoregressive flow (IAF), x = z exp(alpha(z)) + mu(z): samples are
    fast. In both mu = -t and alpha = -log s. A zero conditioner makes the layer the identity, with the "bounded" scale.

    The other direction goes channel by channel: with a MaskedDenseNet as many multiplications as two evaluations, in C
    small steps; with a conditioner of your own up to C evaluations, and C pullbacks. `Autoregressive` has the table.

    Args:
        channels: C, at least 1.
        net: a conditioner from C to 2 C channels, t and then raw, as MaskedDenseNet(C, hidden) is, which None makes.
        fast: "forward" or "inverse", the direction that is one evaluation.
        scale, bound: as in AffineCoupling, which says how far the inverse amplifies rounding errors.
        hidden, cond_channels, seed, dtype: of a new MaskedDenseNet; None is 0, 0 and "float32" of the last three.

    Raises:
        ValueError: `fast` or `scale` is unknown, a number is out of range, `bound` is given with another scale than
            "bounded", or an option of a new conditioner beside `net`.
        TypeError: neither `net` nor `hidden` is given; `net` is no conditioner.

    References:
        Papamakarios, Pavlakou & Murray, Masked Autoregressive Flow for Density Estimation, 2017, section 3. Kingma et
        al., Improving Variational Inference with Inverse Autoregressive Flow, 2016, section 3. Song, Meng, Liao &
        Ermon, Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving, 2021, section 3 (the
        sweeps).
    """

    transform_class = Affine

    def __init__(
        self,
        channels: int,
        net: Conditioner | None = None,
        fast: str = "forward",
        scale: str | None = None,
        bound: float | None = None,
        *,
        hidden: int | Sequence[int] | None = None,
        cond_channels: int | None = None,
        seed: Seed = None,
        dtype: DType | None = None,
    ):
        affine = Affine(scale, bound)
        self._meant = {"scale": affine.scale, "bound": affine.bound}
        super().__init__(channels, affine, net, fast, hidden, cond_channels=cond_channels, seed=seed, dtype=dtype)
