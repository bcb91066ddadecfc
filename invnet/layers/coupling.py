"""Couplings: one half of the channels passes, and transforms the other half through a conditioner."""

import itertools
import math

from ..arguments import check_integers, check_numbers, check_unused, shown
from ..core import Condition, Conditioner, InPlaceLayer, condition_array, get_ops
from ..fused.spec import LayerSpec
from ..nets import ConvNet, DenseNet
from ..passes.activation_cache import aside
from ..passes.current import current
from ..passes.replay import TileNets

#: what the options of a conditioner that a coupling makes stand for where they are None
DEFAULTS_OF_NETS = {"ndim": 0, "cond_channels": 0, "seed": 0, "dtype": "float32"}


class Coupling(InPlaceLayer):
    """What couplings share: x1, the first ceil(C/2) channels, passes; x2, the others, is changed given h = net(x1).

    The work is done tile by tile, a tile being a few images, or a block of a large one with the positions that the
    conditioner sees around it: all its activations live for one tile only, so memory grows neither with depth nor with
    the batch nor with the size of the images.

    A conditioner is given as `net`; or `hidden` is, and a new one is made, which for vectors is a DenseNet, for arrays
    with `ndim` spatial axes a ConvNet.
    """

    #: channels of h for each channel of x2
    outputs = 1
    any_dtype, uses_condition = True, False
    #: the fewest channels that can be told apart into those that pass and the others
    least = 2

    def __init__(self, channels, net=None, *, hidden=None, **options):
        check_integers(channels=channels)
        if channels < self.least:
            raise ValueError(f"{type(self).__name__} takes at least {self.least} channels; got {channels}")
        if net is not None:
            check_unused("beside a net, which is a whole conditioner", hidden=hidden, **options)
        elif hidden is None:
            raise TypeError(
                f"{type(self).__name__} takes a conditioner, net=..., or the width of one to make, hidden=...; got "
                f"neither"
            )
        else:
            options = {name: DEFAULTS_OF_NETS[name] if value is None else value for name, value in options.items()}
            net, self._meant = self.make_net(channels, hidden, **options), {**self._meant, **options}
        for method in ("forward", "vjp", "parameters"):
            if isinstance(net, type) or not callable(getattr(net, method, None)):
                raise TypeError(
                    f"a conditioner has forward, vjp and parameters, as a subclass of invnet.Conditioner has; got "
                    f"{shown(net)}"
                )
        self.channels, self.net = channels, net
        self._C1 = self.conditioner_channels(channels)[0]

    def make_net(self, channels, hidden, ndim, **options):
        """A new conditioner for this many channels, with hidden layers of width `hidden`."""
        check_integers(ndim=ndim)
        C_in, C_out = channels - channels // 2, self.outputs * (channels // 2)
        if ndim == 0:
            return DenseNet(C_in, hidden, C_out, **options)
        return ConvNet(C_in, hidden, C_out, ndim=ndim, **options)

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "net":
            self._floats, self._reach, self._overhead = (
                getattr(value, name, getattr(Conditioner, name))
                for name in ("floats_per_position", "reach", "overhead")
            )
            self._kept_floats = getattr(value, "kept_per_position", None) or self._floats

    @property
    def _parameters(self):
        return self.derived("parameters of the conditioner", self.net.parameters)

    @property
    def _weights(self):
        return self.derived("weights", lambda: sum(math.prod(parameter.data.shape) for parameter in self._parameters))

    def conditions(self, level=0):
        return {(getattr(self.net, "cond_channels", None), level)} - {(0, level)}

    @classmethod
    def conditioner_channels(cls, channels):
        """Input and output channels of the conditioner of a coupling of `channels` channels."""
        return channels - channels // 2, cls.outputs * (channels // 2)

    # A subclass works in place on x2: couple_(ops, x2, h) -> logdet, uncouple_(ops, z2, h) -> logdet, and the
    # gradients couple_vjp_(ops, dz2, z2, h, dlogdet) -> dh and uncouple_vjp_(ops, dx2, x2, h, dlogdet) -> dh.

    def forward_(self, X, cond=None):
        return X, self._map(self.couple_, X, cond)

    def inverse_logdet_(self, Z, cond=None):
        return Z, self._map(self.uncouple_, Z, cond)

    def backward_(self, dZ, Z, dlogdet, cond=None):
        self._vjp(self.couple_vjp_, dZ, Z, dlogdet, cond)
        return dZ, Z

    def inverse_backward_(self, dX, X, dlogdet, cond=None):
        self._vjp(self.uncouple_vjp_, dX, X, dlogdet, cond)
        return dX, X

    # Where there are notes, a list of one for each tile, these methods get that of their tile as well.

    def _map(self, couple_, X, cond, *notes):
        ops, c, kept = get_ops(X), self._condition_of(X, cond), current.kept
        logdet, tiles = ops.full(X.shape[0], 0.0, X), self._tiles(ops, X)
        x1, x2 = X[:, : self._C1], X[:, self._C1 :]
        saved = None if kept is None else kept.place(self, self._kept_bytes(X), self._weights / self._kept_floats)

        nets = TileNets(self.net)

        def work(turn):
            i, tile, *note = turn
            x, net = self._narrowed(ops, tile.region(x1)), nets.of(i)
            h, pullback = (
                net.vjp(x, tile.condition(c)) if saved is not None else (net.forward(x, tile.condition(c)), None)
            )
            nets.check()
            self._checked(h, x)
            return tile, couple_(ops, tile.core(x2), tile.inner(ops.astype(h, X.dtype)), *note), (h, pullback)

        def commit(result):
            tile, part, evaluation = result
            logdet[tile.samples] += part
            if saved is not None:
                saved.append(evaluation)

        with aside():
            for turns in self._turns(nets, tiles, *notes):
                ops.map_tiles(work, turns, commit, None if saved is None else kept.memory)
        return logdet

    def _vjp(self, couple_vjp_, dZ, Z, dlogdet, cond, *notes):
        ops, c, kept = get_ops(Z), self._condition_of(Z, cond), current.kept
        z1, z2, dz1, dz2 = Z[:, : self._C1], Z[:, self._C1 :], dZ[:, : self._C1], dZ[:, self._C1 :]
        tiles, saved = self._tiles(ops, Z), None if kept is None else kept.take(self)
        nets = TileNets(self.net)

        def work(turn):
            i, tile, evaluation, *note = turn
            z = self._narrowed(ops, tile.region(z1))
            h, pullback = evaluation or nets.of(i).vjp(z, tile.condition(c))
            nets.check()
            h = ops.astype(self._checked(h, z), Z.dtype)
            dh = couple_vjp_(ops, tile.core(dz2), tile.core(z2), tile.inner(h), dlogdet[tile.samples], *note)
            if tile.whole:
                dx1, dcond, gradients = pullback(ops.astype(dh, z.dtype))
                ops.add_(tile.region(dz1), ops.astype(self._same(dx1, z), Z.dtype))
                return tile, None, self._outliving(ops, dcond, cond), gradients
            around = ops.zeros_like(h)
            tile.inner(around)[...] = dh
            dx1, dcond, gradients = pullback(ops.astype(around, z.dtype))
            return tile, ops.copy(ops.astype(self._same(dx1, z), Z.dtype)), self._outliving(ops, dcond, cond), gradients

        def commit(result):
            tile, dx1, dcond, gradients = result
            if dx1 is not None:  # regions overlap
                ops.add_(tile.region(dz1), dx1)
            self._add(cond, tile, dcond, gradients)

        with aside():
            for turns in self._turns(nets, tiles, saved or [None] * len(tiles), *notes):
                ops.map_tiles(work, turns, commit)

    @staticmethod
    def _turns(nets, *of_tiles):
        """The numbered tiles, with what each has, that may be at work at the same time: all, or each by itself where a
        net counts on their order."""
        turns = list(zip(itertools.count(), *of_tiles))
        return [[turn] for turn in turns] if nets.in_order else [turns]

    def _narrowed(self, ops, x):
        """x in the dtype of the conditioner."""
        return ops.astype(x, self._parameters[0].data.dtype) if self._parameters else x

    @staticmethod
    def _outliving(ops, dcond, cond):
        """A condition's gradient that outlives its tile, where it is wanted."""
        return ops.copy(dcond) if isinstance(cond, Condition) and dcond is not None else None

    def _add(self, cond, tile, dcond, gradients):
        """Adds what the pullback of a tile gave to the gradients of the conditioner's parameters and of the
        condition.
        """
        if len(gradients) != len(self._parameters):
            raise ValueError(
                f"the conditioner has {len(self._parameters)} parameters; its pullback gave {len(gradients)} gradients"
            )
        for parameter, gradient in zip(self._parameters, gradients):
            if gradient.shape != parameter.data.shape:
                raise ValueError(
                    f"a parameter of the conditioner has shape {tuple(parameter.data.shape)}; its gradient "
                    f"{tuple(gradient.shape)}"
                )
            parameter.add(gradient)
        if dcond is not None:
            cond.add(dcond, tile)

    def _kept_bytes(self, X):
        return self._kept_floats * math.prod(X.shape) // X.shape[1] * X.dtype.itemsize

    def _same(self, dx, x):
        if dx.shape != x.shape or dx.dtype != x.dtype:
            raise ValueError(
                f"the pullback of a conditioner gives dx of the shape and dtype of x, {tuple(x.shape)} {x.dtype}; "
                f"got {tuple(dx.shape)} {dx.dtype}"
            )
        return dx

    def _tiles(self, ops, X):
        return ops.tiles(X.shape, self._floats, self._reach, self._weights // self._overhead)

    def _condition_of(self, X, cond):
        """The array of a condition, where the conditioner takes one; it must fit X before it is cut into tiles."""
        c = None if getattr(self.net, "cond_channels", None) == 0 else condition_array(cond)
        if c is None:
            return None
        times = [n // m if m and n % m == 0 else 0 for n, m in zip(c.shape[2:], X.shape[2:])]
        if c.shape[0] != X.shape[0] or (c.ndim != 2 and (c.ndim != X.ndim or len(set(times)) != 1 or 0 in times)):
            raise ValueError(
                f"the condition of X {tuple(X.shape)} has shape ({X.shape[0]}, K), or ({X.shape[0]}, K, *spatial) with "
                f"X's spatial axes, all the same number of times; got {tuple(c.shape)}"
            )
        return c

    def _checked(self, h, x):
        expected = (x.shape[0], self.outputs * (self.channels - self._C1), *x.shape[2:])
        if tuple(h.shape) != expected:
            raise ValueError(
                f"the conditioner of {type(self).__name__} must give shape {expected}; got {tuple(h.shape)}"
            )
        if h.dtype != x.dtype:
            raise TypeError(f"the conditioner of {type(self).__name__} must give dtype {x.dtype}; got {h.dtype}")
        return h


class AdditiveCoupling(Coupling):
    """Z = [x1, x2 + t(x1)]; logdet is 0.

    Args:
        channels: C, at least 2; x1 has ceil(C/2) of them.
        net: a conditioner from ceil(C/2) to floor(C/2) channels; or None, and `hidden` says how to make one.
        hidden: width of the hidden layers of a new conditioner, a number or one for each.
        ndim: spatial axes of the data; with 0, as None is, the new conditioner is a DenseNet, with 1 to 3 a ConvNet.
        cond_channels, seed, dtype: of the new conditioner, see ConvNet; None is 0, 0 and "float32".

    Raises:
        ValueError: an option of a new conditioner is given beside `net`.
        TypeError: neither `net` nor `hidden` is given; `net` is no conditioner.

    References:
        Dinh, Krueger & Bengio, NICE: Non-linear Independent Components Estimation, 2014, section 3.2.
    """

    measures_logdet = False

    def __init__(self, channels, net=None, *, hidden=None, ndim=None, cond_channels=None, seed=None, dtype=None):
        super().__init__(channels, net, hidden=hidden, ndim=ndim, cond_channels=cond_channels, seed=seed, dtype=dtype)

    def couple_(self, ops, x2, h):
        x2 += h
        return 0.0

    def uncouple_(self, ops, z2, h):
        z2 -= h
        return 0.0

    def couple_vjp_(self, ops, dz2, z2, h, dlogdet):
        z2 -= h
        return dz2

    def uncouple_vjp_(self, ops, dx2, x2, h, dlogdet):
        x2 += h
        return -dx2


LARGEST_SCALE = 4.0


def scale_and_bound(scale, bound):
    """The scale of affine couplings and its bound, where None is the default; a bound is that of "bounded" only, of
    others None.

    Raises:
        ValueError: one of them is out of its range, or the bound would have no effect.
    """
    scale = "bounded" if scale is None else scale
    if scale not in ("bounded", "sigmoid", "doubled"):
        raise ValueError(f'scale is "bounded", "sigmoid" or "doubled"; got {scale!r}')
    if scale != "bounded":
        check_unused(f'with scale="{scale}"', bound=bound)
        return scale, None
    bound = LARGEST_SCALE if bound is None else bound
    check_numbers(bound=bound)
    if not 1 < bound < math.inf:
        raise ValueError(f"bound is the largest scale, above 1 and finite; got {bound}")
    return scale, bound


class AffineCoupling(Coupling):
    """Z = [x1, (x2 + t) s], with h = net(x1) = [t, raw] and s = scale(raw); logdet is sum log s.

    | scale | s | range | inverse amplifies a rounding error in z2 by 1/s |
    |---|---|---|---|
    | "bounded" | exp(a tanh(raw / a)), a = log bound | 1/bound to bound | at most `bound` at each layer |
    | "sigmoid" | sigmoid(raw + 2), as in Glow | 0 to 1 | without limit, and at the start already by 1.135 |
    | "doubled" | 2 sigmoid(raw), as in Jet | 0 to 2 | without limit |

    With "bounded" and "doubled" a zero conditioner makes the layer the identity. The sigmoid only contracts from x to
    z, so that everything rebuilt from z grows with depth: 1.135 ** 100 is 3e5 before any training.

    Args:
        channels: C, at least 2; x1 has ceil(C/2) of them.
        net: a conditioner from ceil(C/2) to 2 floor(C/2) channels, t, then raw; or None, and `hidden` says how to make
            one.
        scale: "bounded", "sigmoid" or "doubled"; None is "bounded".
        bound: the largest scale of "bounded", above 1; None is 4.
        hidden, ndim, cond_channels, seed, dtype: of a new conditioner, see AdditiveCoupling.

    Raises:
        ValueError: `scale` or `bound` is out of its range; `bound` is given with another scale than "bounded", or an
            option of a new conditioner beside `net`.
        TypeError: neither `net` nor `hidden` is given; `net` is no conditioner.

    Example:
        layer = AffineCoupling(4, hidden=64)
        layer = AffineCoupling(12, hidden=64, ndim=2)  # for images of 12 channels
        layer = AffineCoupling(4, DenseNet(2, 64, 4))

    References:
        Dinh, Sohl-Dickstein & Bengio, Density estimation using Real NVP, 2016, section 3.2. Kingma & Dhariwal, Glow,
        2018, section 3.3, and its code for the shift before the scale and sigmoid(raw + 2). Kolesnikov et al., Jet,
        2024, section 3 (2 sigmoid). On the amplification: Behrmann et al., Understanding and mitigating exploding
        inverses in invertible neural networks, 2021.
    """

    outputs = 2

    def __init__(
        self,
        channels,
        net=None,
        scale=None,
        bound=None,
        *,
        hidden=None,
        ndim=None,
        cond_channels=None,
        seed=None,
        dtype=None,
    ):
        scale, bound = scale_and_bound(scale, bound)
        self._meant = {"scale": scale, "bound": bound}
        super().__init__(channels, net, hidden=hidden, ndim=ndim, cond_channels=cond_channels, seed=seed, dtype=dtype)
        self._scale = (scale, float(LARGEST_SCALE if bound is None else bound))

    @property
    def steadier(self):
        return ("a smaller `bound`",) if self._scale[0] == "bounded" else ('scale="bounded"',)

    def couple_(self, ops, x2, h):
        return ops.couple_(x2, h, self._scale)

    def uncouple_(self, ops, z2, h):
        return ops.uncouple_(z2, h, self._scale)

    def couple_vjp_(self, ops, dz2, z2, h, dlogdet):
        return ops.couple_vjp_(dz2, z2, h, self._scale, dlogdet)

    def uncouple_vjp_(self, ops, dx2, x2, h, dlogdet):
        return ops.uncouple_vjp_(dx2, x2, h, self._scale, dlogdet)

    def specs(self):
        spec, C1, C = self.net.spec(), self._C1, self.channels
        if spec is None or not spec.maps(C1, 2 * (C - C1)):
            return []
        return [LayerSpec("affine", (), spec, tuple(range(C)), (0, C1, C), scale=self._scale)]
