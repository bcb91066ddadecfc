"""Autoregressive layers: each channel is transformed given the channels before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import get_ops
from ..fused.spec import DenseSpec, LayerSpec
from ..nets import MaskedDenseNet
from .conditioned import Conditioned
from .transforms import Affine, Transform

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..core import Conditioner
    from ..typing import Array, Cond, DType, Seed


class Autoregressive(Conditioned):
    """The base of autoregressive layers, which transform each channel given the channels before it.

    The conditioner sees one side of the layer, u, which is X with fast="forward" and Z with fast="inverse". Its outputs
    h = net(u) for a channel depend only on the channels before it. Let v be the other side.

    - From u to v: one evaluation of the conditioner.
    - From v to u: a triangular system of equations, solved channel by channel; its gradient is another such system. A
      MaskedDenseNet computes each unit once (`substitute`), with at most the multiplications of one evaluation. Any
      other conditioner is evaluated on all channels repeatedly until nothing changes. Each evaluation makes at least
      one more channel correct, so C evaluations are enough, and the result has the same bits however many were needed.

    The table counts evaluations; a pullback counts as two. A "substitution" is at most one evaluation with a
    MaskedDenseNet. The last column says what it is with another conditioner.

    | | fast="forward" | fast="inverse" | substitution with another conditioner |
    |---|---|---|---|
    | forward: density | 1 | 1 + substitution | at most C - 1 |
    | inverse: sampling | 1 + substitution | 1 | at most C - 1 |
    | backward: training by likelihood | 3 + substitution | 3 | at most C - 1; C pullbacks |
    | inverse_backward: training by samples | 3 | 3 + substitution | C pullbacks; at most C - 1 |

    Args:
        channels: C, at least 1.
        transform: the Transform of each channel.
        net: a Conditioner from C to `outputs` * C channels, or None.
        fast: the direction that needs one evaluation of the conditioner, "forward" or "inverse".
        hidden: the width of the hidden layers of a new MaskedDenseNet: one number for all, or one for each.
        **options: other options of a new MaskedDenseNet.

    Raises:
        ValueError: `fast` is neither "forward" nor "inverse".
    """

    any_dtype = False

    def __init__(
        self,
        channels: int,
        transform: Transform,
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
        """Returns how many channels the conditioner of such a layer takes and gives.

        Args:
            channels: C.
            *options, **more: the arguments of the transform that change the number of outputs: `bins` of a spline.
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

    # ---- `_run` is the fast direction, from u to v with h = net(u). `_run_vjp` needs u, which must be solved for.

    def _lasting(self, ops, u):
        return ops.copy_channels_last(u)

    def _solver(self, V, cond, inverse_):
        return lambda: self._nearly_solved(get_ops(V), inverse_, V, self._condition_of(V, cond))

    # ---- the slow direction, from v to u

    def _solve(self, V, cond, inverse_):
        """Overwrites V with U; returns logdet (N,)."""
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
        """Returns a function of a tile that gives u. The last channel is left out, since no h depends on it."""
        if not hasattr(self.net, "substitute"):
            return self._swept(ops, inverse_, V, c)

        def substituted(tile):
            u = ops.copy_channels_last(tile.core(V))
            self.net.substitute(u, lambda i, h: inverse_(ops, u[:, i : i + 1], self._of_one(h)), tile.condition(c))
            return u

        return substituted

    def _swept(self, ops, inverse_, V, c):
        """Does the same by evaluating all channels until nothing changes, at most C - 1 times: NaN equals nothing."""
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
        """The gradient of `_solve`: overwrites U with V, and dU with dV.

        It solves dU' = dU + pullback(dh(dU')) for the total gradient dU', which the transform maps to dV.
        """
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

    # ---- both directions

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
        return super()._kept_bytes(X) + self._weights * X.dtype.itemsize  # for the copy of masked weights

    def _tiles(self, ops, X):
        if hasattr(self.net, "rng_state") and self.net.rng_state() is not None:
            raise TypeError(
                f"{type(self).__name__} solves with one map in many evaluations, and its conditioner draws random "
                "numbers in each: put it in evaluation, with module.eval()"
            )
        return ops.tiles(X.shape, self._floats, None, self._weights)


def _in_its_own_memory(ops, function, argument):
    """Calls function(argument) with separate scratch memory, since many calls would fill that of the tile."""
    results = []
    ops.map_tiles(lambda _: function(argument), (0,), results.append)
    return results[0]


class AutoregressiveAffine(Autoregressive):
    """The affine autoregressive layer Z = (X + t) s, where s = scale(raw) and logdet is the sum of log s.

    The outputs [t, raw] of the net for a channel depend only on the channels before it.

    - fast="forward", with [t, raw] = net(X), is the masked autoregressive flow (MAF): z_i = (x_i - mu_i) exp(-alpha_i),
      where mu_i and alpha_i depend on x_1 ... x_{i-1}. Densities are fast.
    - fast="inverse", with [t, raw] = net(Z), is the inverse autoregressive flow (IAF): x_i = z_i exp(alpha_i) + mu_i,
      where mu_i and alpha_i depend on z_1 ... z_{i-1}. Samples are fast.

    In both, mu = -t and alpha = -log s. With the "bounded" scale, the layer is the identity if the conditioner gives
    zeros.

    The slow direction goes channel by channel. With a MaskedDenseNet it needs the multiplications of two evaluations,
    in C small steps; with another conditioner, up to C evaluations. `Autoregressive` has a table of the costs.

    Args:
        channels: C, at least 1.
        net: a conditioner from C to 2 C channels, first t, then raw. With None, MaskedDenseNet(C, hidden) is made.
        fast: the direction that needs one evaluation of the conditioner, "forward" or "inverse".
        scale, bound: as in AffineCoupling, whose table says how much the inverse amplifies rounding errors.
        hidden: the width of the hidden layers of a new MaskedDenseNet: one number for all, or one for each.
        cond_channels: the number of channels of the condition, 0 for none; None means 0.
        seed: an int or a numpy Generator for the initial weights; None means 0.
        dtype: "float32" or "float64"; None means "float32".

    Raises:
        ValueError: `fast` or `scale` is unknown, a number is out of range, `bound` is given for another scale than
            "bounded", or an option of a new conditioner is given although `net` is.
        TypeError: neither `net` nor `hidden` is given, or `net` is no conditioner.

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
