"""The contracts: Parameter, Module, Layer, Isometry, and the conditioner Net."""

import inspect
import math
import numbers

import numpy as np

from .kept import Kept, using
from .ops import get_ops, ops_named

SHAPES = {2: "(N, C)", 3: "(N, C, L)", 4: "(N, C, H, W)", 5: "(N, C, D, H, W)"}


class Buffer:
    """An array that is saved with a module but not learned (a permutation, a sign, a flag)."""

    def __init__(self, data):
        self.data = data


class Parameter(Buffer):
    """A learned array `data`, and the gradient `grad` of its shape that every backward adds to."""

    def __init__(self, data):
        super().__init__(data)
        self.grad = get_ops(data).xp.zeros_like(data)

    def __repr__(self):
        return f"Parameter(shape={tuple(self.data.shape)}, dtype={self.data.dtype})"


class Condition:
    """A condition whose gradient is wanted: backward adds to `grad`, an array of the shape of `array`."""

    def __init__(self, array):
        if not get_ops(array).is_float(array):
            raise TypeError(f"a condition that has a gradient is a floating-point array; got dtype {array.dtype}")
        self.array = array
        self.grad = get_ops(array).xp.zeros_like(array)


def float_dtype(dtype):
    """The name of a dtype that layers compute in.

    Raises:
        ValueError: it is neither float32 nor float64.
    """
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = dtype
    if name not in ("float32", "float64"):
        raise ValueError(f"dtype is float32 or float64; got {name}")
    return name


def condition_array(cond):
    """The array of a condition, which may be None, an array or a Condition."""
    return cond.array if isinstance(cond, Condition) else cond


class Module:
    """Something with parameters: finds them in its public attributes and in lists and tuples there (neither in dicts nor in
    lists of lists), in the order in which they were set."""

    def __new__(cls, *args, **kwargs):
        # The constructor's arguments are the architecture: repr prints them and save() writes them.
        self = super().__new__(cls)
        self._arguments = (args, kwargs)
        return self

    def arguments(self):
        """The constructor's arguments by name, without those left at their default."""
        args, kwargs = self._arguments
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        given = {}
        for name, value in list(bound.arguments.items())[1:]:
            kind = bound.signature.parameters[name].kind
            given.update(value if kind is inspect.Parameter.VAR_KEYWORD else {name: value})
        return given

    def __repr__(self):
        def show(value):
            text = repr(value)
            return text if len(text) <= 60 else f"{text[:57]}..."

        return f"{type(self).__name__}({', '.join(f'{k}={show(v)}' for k, v in self.arguments().items())})"

    def named_state(self, prefix=""):
        """Yields (name, Parameter or Buffer) of this module and all within it."""
        for name, value in self._within():
            if isinstance(value, Buffer):
                yield prefix + name, value
            else:
                yield from value.named_state(f"{prefix}{name}.")

    def _within(self):
        """(name, Parameter, Buffer or Module) of the public attributes and of what lists and tuples there hold."""
        for name, value in vars(self).items():
            if name[0] != "_":
                if isinstance(value, (Buffer, Module)):
                    yield name, value
                elif isinstance(value, (tuple, list)):
                    yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, (Buffer, Module)))

    def named_parameters(self):
        """Yields (name, Parameter), a parameter used in several places once."""
        seen = set()
        for name, state in self.named_state():
            if isinstance(state, Parameter) and id(state) not in seen:
                seen.add(id(state))
                yield name, state

    def parameters(self):
        return [parameter for _, parameter in self.named_parameters()]

    def zero_grad(self):
        for name, value in self._within():
            if isinstance(value, Parameter):
                value.grad[...] = 0
            elif isinstance(value, Module):
                value.zero_grad()

    def state_dict(self):
        """A copy of every parameter and buffer, by name."""
        return {name: get_ops(state.data).to_numpy(state.data).copy() for name, state in self.named_state()}

    def load_state_dict(self, state):
        """Copies the arrays of `state` into this module.

        Raises:
            ValueError: a name or a shape differs; nothing is changed then.
        """
        own = dict(self.named_state())
        missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or foreign:
            raise ValueError(f"the state does not fit {type(self).__name__}: missing {missing[:5]}, unknown {foreign[:5]}")
        for name, array in state.items():
            if tuple(array.shape) != tuple(own[name].data.shape):
                raise ValueError(f"{name} has shape {tuple(own[name].data.shape)}; the state has {tuple(array.shape)}")
        for name, array in state.items():
            like = own[name].data
            like[...] = get_ops(like).asarray(array, like)

    def to(self, engine=None, dtype=None):
        """Moves all arrays to an engine ("numpy") and floating-point arrays to a dtype, in place; returns self."""
        ops, dtype = ops_named(engine) if engine else None, None if dtype is None else float_dtype(dtype)
        for _, state in self.named_state():
            source = get_ops(state.data)
            data = (ops or source).from_numpy(source.to_numpy(state.data))
            target = ops or source
            if dtype is not None and target.is_float(data):
                data = target.astype(data, dtype)
            state.data = data
            if isinstance(state, Parameter):
                state.grad = target.xp.zeros_like(data)
        return self

    @property
    def dtype(self):
        """The dtype of the parameters, or None without any."""
        return next((p.data.dtype for _, p in self.named_parameters()), None)


class Layer(Module):
    """An invertible map of arrays (N, C, *spatial), with 0 to 3 spatial axes.

    A subclass gives forward, inverse and backward. They keep no array between calls, change no argument and return
    the same number of values always.
    """

    def forward(self, X, cond=None):
        """Z and logdet (N,), log|det dZ/dX| of each sample in nats."""
        raise NotImplementedError(f"{type(self).__name__} needs forward(X, cond) -> Z, logdet")

    def inverse(self, Z, cond=None):
        """X with forward(X) = Z."""
        raise NotImplementedError(f"{type(self).__name__} needs inverse(Z, cond) -> X")

    def backward(self, dZ, Z, dlogdet=None, cond=None):
        """dX and the rebuilt X; adds to the parameters' grad.

        Args:
            dZ: the loss's gradient in Z.
            Z: the output of forward.
            dlogdet: its gradient in logdet, a number or (N,); None is -1/N, the mean negative log-likelihood, and
                0.0 gives the plain vector-Jacobian product.
        """
        raise NotImplementedError(f"{type(self).__name__} needs backward(dZ, Z, dlogdet, cond) -> dX, X")

    def initialize(self, X, cond=None):
        """Sets data-dependent parameters from a batch, and returns Z."""
        return self.forward(X, cond)[0]

    def check_shape(self, X, name="X"):
        """ValueError where this layer cannot take an array of the shape of X; what a composition asks before a call."""

    def inverse_logdet(self, Z, cond=None):
        """X, and the inverse's logdet (N,), log|det dX/dZ|."""
        X = self.inverse(Z, cond)
        return X, -self.forward(X, cond)[1]

    def inverse_backward(self, dX, X, dlogdet=None, cond=None):
        """dZ and the rebuilt Z, of the inverse map: backward with the roles of X and Z exchanged.

        `dlogdet` is the gradient in the inverse's logdet. Only `Reverse` needs this method.
        """
        raise NotImplementedError(f"to be reversed, {type(self).__name__} needs inverse_backward(dX, X, dlogdet, cond) -> dZ, Z")

    # What a composition calls: the same maps on channels-last arrays that the callee owns, with dlogdet (N,).
    def forward_(self, X, cond=None):
        Z, logdet = self.forward(X, cond)
        return self._own(Z, X), logdet

    def inverse_logdet_(self, Z, cond=None):
        X, logdet = self.inverse_logdet(Z, cond)
        return self._own(X, Z), logdet

    def backward_(self, dZ, Z, dlogdet, cond=None):
        dX, X = self.backward(dZ, Z, dlogdet, cond)
        return self._own(dX, dZ), self._own(X, Z)

    def inverse_backward_(self, dX, X, dlogdet, cond=None):
        dZ, Z = self.inverse_backward(dX, X, dlogdet, cond)
        return self._own(dZ, dX), self._own(Z, X)

    def initialize_(self, X, cond=None):
        return self._own(self.initialize(X, cond), X)

    def _own(self, output, argument):
        """A copy with channels-last memory, of an output that must have the dtype of its argument."""
        if output.dtype != argument.dtype:
            raise TypeError(f"{type(self).__name__} must give what it is given, {argument.dtype}; it gave {output.dtype}")
        return get_ops(output).fresh(output)


class InPlaceLayer(Layer):
    """A layer that saves memory by overwriting. A subclass gives the maps and gradients of both directions:

    forward_(X, cond) -> Z, logdet                     inverse_logdet_(Z, cond) -> X, logdet of the inverse
    backward_(dZ, Z, dlogdet, cond) -> dX, X           inverse_backward_(dX, X, dlogdet, cond) -> dZ, Z

    These are handed arrays that they own: of a shape that check_shape passed, of the layer's dtype, channels-last in
    memory, and dlogdet (N,).
    The public methods check and copy once, so that a chain of any depth works in two arrays.
    """

    #: how many channels the layer takes, where that is fixed.
    channels = None

    def check_shape(self, X, name="X"):
        if X.ndim not in SHAPES:
            raise ValueError(f"{type(self).__name__} takes arrays of shape {', '.join(SHAPES.values())}; got {name} of shape {tuple(X.shape)}")
        if self.channels is not None and X.shape[1] != self.channels:
            raise ValueError(f"{type(self).__name__} has {self.channels} channels; got {name} of shape {tuple(X.shape)}")

    def check(self, X, name="X"):
        """The operations for X; ValueError or TypeError where this layer cannot take it."""
        ops, kind = get_ops(X), type(self).__name__
        self.check_shape(X, name)
        if not ops.is_float(X):
            raise TypeError(f"{kind} takes float32 or float64; got {name} of dtype {X.dtype}")
        if self.dtype is not None and not ops.same_dtype(X.dtype, self.dtype):
            raise TypeError(f"{kind} computes in {self.dtype}; got {name} of dtype {X.dtype}: convert the array, or the layer with .to(dtype=...)")
        return ops

    def _check_gradient(self, dZ, Z):
        if tuple(dZ.shape) != tuple(Z.shape) or dZ.dtype != Z.dtype:
            raise ValueError(f"the gradient needs the shape and dtype of its array, {tuple(Z.shape)} {Z.dtype}; got {tuple(dZ.shape)} {dZ.dtype}")

    @property
    def memory_budget(self):
        """Bytes, or a share of the free memory below 1, for activations that spare backward its recomputing; 0 for none.

        Each `forward` keeps what its couplings' conditioners computed, as far as that fits, until the `backward` that is
        given its Z, or until the next `forward`; the parameters stay as they are between the two. Gradients are the same.
        It counts for the layer whose forward and backward are called, not for those within.
        """
        return getattr(self, "_memory_budget", 0)

    @memory_budget.setter
    def memory_budget(self, budget):
        if not isinstance(budget, numbers.Real) or not budget >= 0 or budget == math.inf:
            raise ValueError(f"memory_budget is a number of bytes, or a share of the free memory below 1; got {budget!r}")
        self._memory_budget, self._kept, self._kept_before = budget, None, None

    def forward(self, X, cond=None):
        ops, budget = self.check(X), self.memory_budget
        with ops.at_work():
            if not budget:
                return self.forward_(ops.fresh(X), cond)
            self._kept, before = None, self._kept_before  # frees what an earlier call left
            if before is None:
                budget = budget if budget >= 1 else budget * ops.free_memory()
                kept = Kept(budget, ops.lasting_memory(budget))
            else:
                kept = Kept(before.budget, before.memory, before)
            with using(kept):
                Z, logdet = self.forward_(ops.fresh(X), cond)
            kept.mark, self._kept, self._kept_before = ops.checksum(Z), kept, kept
            return Z, logdet

    def inverse(self, Z, cond=None):
        return self.inverse_logdet(Z, cond)[0]

    def inverse_logdet(self, Z, cond=None):
        ops = self.check(Z, "Z")
        with ops.at_work():
            return self.inverse_logdet_(ops.fresh(Z), cond)

    def backward(self, dZ, Z, dlogdet=None, cond=None):
        ops = self.check(Z, "Z")
        self._check_gradient(dZ, Z)
        kept = None
        if self.memory_budget and self._kept is not None:
            kept, self._kept = self._kept, None
            kept = kept if kept.mark == ops.checksum(Z) else None  # else this is the backward of another forward
        with ops.at_work(), using(kept):
            return self.backward_(ops.fresh(dZ), ops.fresh(Z), as_dlogdet(dlogdet, Z), cond)

    def inverse_backward(self, dX, X, dlogdet=None, cond=None):
        ops = self.check(X)
        self._check_gradient(dX, X)
        with ops.at_work():
            return self.inverse_backward_(ops.fresh(dX), ops.fresh(X), as_dlogdet(dlogdet, X), cond)

    def initialize(self, X, cond=None):
        ops = self.check(X)
        with ops.at_work():
            return self.initialize_(ops.fresh(X), cond)

    def initialize_(self, X, cond=None):
        return self.forward_(X, cond)[0]


class Isometry(InPlaceLayer):
    """A linear layer whose transpose is its inverse (a permutation, a squeeze): logdet is 0, dX is the inverse of dZ.

    A subclass gives apply(X) and unapply(Z), which own their argument and may use its memory.
    """

    def apply(self, X):
        raise NotImplementedError(f"{type(self).__name__} needs apply(X) -> Z")

    def unapply(self, Z):
        raise NotImplementedError(f"{type(self).__name__} needs unapply(Z) -> X")

    def forward_(self, X, cond=None):
        return self.apply(X), get_ops(X).fill(X.shape[0], 0.0, X)

    def inverse_logdet_(self, Z, cond=None):
        return self.unapply(Z), get_ops(Z).fill(Z.shape[0], 0.0, Z)

    def backward_(self, dZ, Z, dlogdet, cond=None):
        return self.unapply(dZ), self.unapply(Z)

    def inverse_backward_(self, dX, X, dlogdet, cond=None):
        return self.apply(dX), self.apply(X)


class Net(Module):
    """A conditioner: a network that need not be invertible, with its pullback written by hand.

    Inputs are (N, C_in, *spatial), outputs (N, C_out, *spatial), `cond` None, (N, K) or (N, K, *spatial).
    """

    #: floats that one evaluation holds per position: a coupling chooses its tile by it.
    floats_per_position = 1024
    #: how many of them a pullback keeps; None: all.
    kept_per_position = None
    #: how far an output position sees along each spatial axis, or None where it sees everything.
    reach = None

    def forward(self, x, cond=None):
        """y; keeps nothing."""
        raise NotImplementedError(f"{type(self).__name__} needs forward(x, cond) -> y")

    def vjp(self, x, cond=None):
        """y, and pullback(dy) -> dx, dcond (None without cond), gradients in the order of parameters().

        The pullback adds to nothing: the caller sums the gradients of its tiles in a fixed order, so that these must be
        arrays of their own, not views of what an operation gave, which lives as long as the tile.
        """
        raise NotImplementedError(f"{type(self).__name__} needs vjp(x, cond) -> y, pullback")


def as_dlogdet(dlogdet, Z, name="dlogdet"):
    """The gradient in logdet, or in another number of each sample, as an (N,) array: None is -1/N, a number is repeated."""
    N, ops = Z.shape[0], get_ops(Z)
    if dlogdet is None:
        dlogdet = -1.0 / max(N, 1)
    if isinstance(dlogdet, numbers.Real) or getattr(dlogdet, "ndim", None) == 0:
        return ops.fill(N, float(dlogdet), Z)
    if tuple(getattr(dlogdet, "shape", ())) != (N,):
        raise ValueError(f"{name} is a number or an array of shape ({N},); got {getattr(dlogdet, 'shape', dlogdet)!r}")
    each = ops.fill(N, 0.0, Z)
    each[...] = dlogdet
    return each
