"""The contracts: Parameter, Module, Layer, Isometry, and the conditioner Net."""

import inspect
import numbers

import numpy as np

from .ops import float_dtype, get_ops, ops_named
from .passes import TwoPasses
from .passes.draws import back, forth

SHAPES = {2: "(N, C)", 3: "(N, C, L)", 4: "(N, C, H, W)", 5: "(N, C, D, H, W)"}


class Buffer:
    """An array that is saved with a module but not learned (a permutation, a sign, a flag)."""

    #: How often an array of any Buffer was put in the place of another, or a part of a Module in that of another: who keeps views
    #: or addresses of arrays looks here whether these may have changed.
    replaced = 0

    def __init__(self, data):
        self.data = data

    def __setattr__(self, name, value):
        if vars(self).get(name) is not value:
            Buffer.replaced += 1
            super().__setattr__(name, value)


class Parameter(Buffer):
    """A learned array `data`, and the gradient `grad` of its shape that every backward adds to."""

    def __init__(self, data):
        ops = get_ops(data)
        super().__init__(ops.plain(data))
        self.grad = ops.zeros_like(self.data)

    def __repr__(self):
        return f"Parameter(shape={tuple(self.data.shape)}, dtype={self.data.dtype})"


class Condition:
    """A condition whose gradient is wanted: backward adds to `grad`, an array of the shape of `array`."""

    def __init__(self, array):
        ops = get_ops(array)
        if not ops.is_float(array):
            raise TypeError(f"a condition that has a gradient is a floating-point array; got dtype {array.dtype}")
        self.array = ops.plain(array)
        self.grad = ops.zeros_like(self.array)


def condition_array(cond):
    """The array of a condition, which may be None, an array or a Condition."""
    array = cond.array if isinstance(cond, Condition) else cond
    return None if array is None else get_ops(array).plain(array)


def same_engine(name, array, X):
    """TypeError where an array is not of the engine and device of X."""
    if get_ops(array).name != get_ops(X).name:
        raise TypeError(f"{name} needs the engine and device of X, {get_ops(X).name}; got one of {get_ops(array).name}")


def check_gradient(dZ, ops, shape, dtype):
    """ValueError or TypeError where dZ is no gradient in an array of that engine, shape and dtype."""
    if get_ops(dZ).name != ops.name:
        raise TypeError(f"the gradient needs the engine and device of its array, {ops.name}; got one of {get_ops(dZ).name}")
    if tuple(dZ.shape) != tuple(shape) or not ops.same_dtype(dZ.dtype, dtype):
        raise ValueError(f"the gradient needs the shape and dtype of its array, {tuple(shape)} {dtype}; got {tuple(dZ.shape)} {dZ.dtype}")


class Module:
    """Something with parameters: finds them in its public attributes and in lists and tuples there (neither in dicts nor in
    lists of lists), in the order in which they were set."""

    def __new__(cls, *args, **kwargs):
        # The constructor's arguments are the architecture: repr prints them and save() writes them.
        self = super().__new__(cls)
        self._arguments = (args, kwargs)
        return self

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name[0] != "_" and isinstance(value, (Buffer, Module, list, tuple)):
            Buffer.replaced += 1  # of another part the arrays are others

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

    def name_of(self, module):
        """The name of a module within this one, "" of itself, or its class where it has none."""
        def found(within, prefix):
            for name, value in within._within():
                if value is module:
                    yield prefix + name
                elif isinstance(value, Module):
                    yield from found(value, f"{prefix}{name}.")

        return "" if module is self else next(found(self, ""), type(module).__name__)

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
        """Moves all arrays to an engine, and floating-point arrays to a dtype, in place; gradients are zero then.

        Args:
            engine: "numpy"; "torch" for PyTorch's tensors on the CPU, "torch:cuda:1" on a device; "cupy" or "cuda" for CuPy's arrays on its
                current GPU, "cupy:1" on another.
            dtype: "float32" or "float64".

        Returns:
            self.

        Raises:
            ValueError: there is no such engine or device, or the dtype is another.
        """
        ops, dtype = ops_named(engine) if engine else None, None if dtype is None else float_dtype(dtype)
        moved = []
        for _, state in self.named_state():
            source = get_ops(state.data)
            target, data = ops or source, source.to_numpy(state.data)
            if dtype is not None and data.dtype.kind == "f":
                data = data.astype(dtype)  # first, since some devices have no float64
            data = target.from_numpy(data)
            moved.append((state, data, target.zeros_like(data) if isinstance(state, Parameter) else None))
        for state, data, grad in moved:  # once all are there
            state.data = data
            if grad is not None:
                state.grad = grad
        return self

    @property
    def dtype(self):
        """The dtype of the parameters, or None without any."""
        parameter = self.first_of(Parameter)
        return None if parameter is None else parameter.data.dtype

    def first_of(self, kind):
        """The first Parameter, or the first Buffer or Parameter, as `kind` says, of this module and all within it; or None."""
        for _, value in self._within():
            found = value.first_of(kind) if isinstance(value, Module) else value if isinstance(value, kind) else None
            if found is not None:
                return found


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

    #: whether it computes in the dtype of its argument, whatever that of its parameters
    @property
    def any_dtype(self):
        return not self.parameters()

    def layers_within(self):
        """Yields the layers that this one is made of, or itself."""
        inside = [module for _, module in self._within() if isinstance(module, Layer)]
        for layer in inside:
            yield from layer.layers_within()
        if not inside:
            yield self

    @property
    def known_as(self):
        """The layer that a user knows this one by."""
        return self

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


class InPlaceLayer(TwoPasses, Layer):
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
        if X.ndim not in SHAPES or X.shape[1] == 0:
            shapes = ", ".join(SHAPES.values())
            raise ValueError(f"{type(self).__name__} takes arrays of shape {shapes}, C at least 1; got {name} of shape {tuple(X.shape)}")
        if self.channels is not None and X.shape[1] != self.channels:
            raise ValueError(f"{type(self).__name__} has {self.channels} channels; got {name} of shape {tuple(X.shape)}")

    def check(self, X, name="X"):
        """The operations for X; ValueError or TypeError where this layer cannot take it."""
        ops, kind = get_ops(X), type(self).__name__
        self.check_shape(X, name)
        if not ops.is_float(X):
            raise TypeError(f"{kind} takes float32 or float64; got {name} of dtype {X.dtype}")
        seen, own = vars(self).get("_seen", (None, None))
        if seen != Buffer.replaced:
            own = self.first_of(Parameter) or self.first_of(Buffer)
            self._seen = Buffer.replaced, own
        if own is not None and get_ops(own.data).name != ops.name:
            raise TypeError(f"{kind} computes on arrays of {get_ops(own.data).name}; got {name} of {ops.name}: "
                            f'convert it, or the layer with .to("{ops.name}")')
        dtype = own.data.dtype if isinstance(own, Parameter) else None
        if dtype is not None and not ops.same_dtype(X.dtype, dtype) and not self.state_dtype:
            raise TypeError(f"{kind} computes in {dtype}; got {name} of dtype {X.dtype}: convert the array, or the layer with .to(dtype=...)")
        return ops

    def _own_copy(self, ops, X):
        """What an underscored method is given: a copy of X with channels-last memory, in the dtype of the states."""
        return ops.fresh(ops.astype(X, self.state_dtype)) if self.state_dtype else ops.fresh(X)

    def forward(self, X, cond=None):
        return self._out("forward_", X, cond)

    def inverse(self, Z, cond=None):
        ops = self.check(Z, "Z")
        with ops.at_work(), forth(self), self._leaving_nothing():
            return self.inverse_logdet_(self._own_copy(ops, Z), cond)[0]

    def inverse_logdet(self, Z, cond=None):
        return self._out("inverse_logdet_", Z, cond, "Z")

    def backward(self, dZ, Z, dlogdet=None, cond=None):
        return self._back("backward_", "forward_", dZ, Z, dlogdet, cond, "Z")

    def inverse_backward(self, dX, X, dlogdet=None, cond=None):
        return self._back("inverse_backward_", "inverse_logdet_", dX, X, dlogdet, cond)

    def _out(self, out_, X, cond, name="X"):
        ops = self.check(X, name)
        with ops.at_work(), forth(self), self._leaving(ops, out_, X) as left:
            Z, logdet = getattr(self, out_)(self._own_copy(ops, X), cond)
            left.end(ops, Z)
        return Z, logdet

    def _back(self, back_, out_, dZ, Z, dlogdet, cond, name="X"):
        ops = self.check(Z, name)
        check_gradient(dZ, ops, Z.shape, Z.dtype)
        with ops.at_work(), back(self), self._returning(ops, out_, Z):
            dZ, Z = self._own_copy(ops, dZ), self._own_copy(ops, Z)
            return getattr(self, back_)(dZ, Z, as_dlogdet(dlogdet, Z), cond)

    def initialize(self, X, cond=None):
        ops = self.check(X)
        with ops.at_work():
            return self.initialize_(self._own_copy(ops, X), cond)

    def initialize_(self, X, cond=None):
        return self.forward_(X, cond)[0]

    def inverse_backward_(self, dX, X, dlogdet, cond=None):
        raise NotImplementedError(f"to be reversed, {type(self).__name__} needs inverse_backward_(dX, X, dlogdet, cond) -> dZ, Z")


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
    #: what calling it takes beside its arithmetic: a coupling makes small tiles so many times larger.
    overhead = 1

    def forward(self, x, cond=None):
        """y; keeps nothing."""
        raise NotImplementedError(f"{type(self).__name__} needs forward(x, cond) -> y")

    def vjp(self, x, cond=None):
        """y, and pullback(dy) -> dx, dcond (None without cond), gradients in the order of parameters().

        The pullback adds to nothing: the caller sums the gradients of its tiles in a fixed order, so that these must be
        arrays of their own, not views of what an operation gave, which lives as long as the tile.
        """
        raise NotImplementedError(f"{type(self).__name__} needs vjp(x, cond) -> y, pullback")

    def draw(self):
        """What the evaluations of one pass draw, as a seed of dropout, for the pass back to use again; None where they draw nothing."""

    def drawn(self, draw, tile, again):
        """This net, to be evaluated with a `draw` on the tile of that number; `again` on the way back."""
        return self


def as_dlogdet(dlogdet, Z, name="dlogdet"):
    """The gradient in logdet, or in another number of each sample, as an (N,) array: None is -1/N, a number is repeated."""
    N, ops = Z.shape[0], get_ops(Z)
    if dlogdet is None:
        dlogdet = -1.0 / max(N, 1)
    if isinstance(dlogdet, numbers.Real):
        return ops.fill(N, float(dlogdet), Z)
    if tuple(getattr(dlogdet, "shape", (None,))) not in ((), (N,)):
        raise ValueError(f"{name} is a number or an array of shape ({N},); got {getattr(dlogdet, 'shape', dlogdet)!r}")
    same_engine(name, dlogdet, Z)
    if not ops.xp.isdtype(dlogdet.dtype, ("real floating", "integral")):
        raise TypeError(f"{name} is a real number or an array of such; got dtype {dlogdet.dtype}")
    each = ops.fill(N, 0.0, Z)
    each[...] = ops.plain(dlogdet)
    return each
