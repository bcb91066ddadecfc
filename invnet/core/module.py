"""Module: an object with parameters."""

from __future__ import annotations

import inspect
import numbers
from typing import TYPE_CHECKING, TypeVar

from ..ops import float_dtype, get_ops, ops_named
from ..passes.context import current
from .derived import Derived, part_replaced
from .parameters import Buffer, Parameter
from .summary import count, summary_of

T = TypeVar("T")
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Self, TypeVar

    from ..typing import Array, DType, Shape
    from .parameters import Gradient
    from .summary import Summary


class Module:
    """An object with parameters, the base of layers and conditioners.

    Parameters, Buffers and Modules are found in the public attributes, and in lists and tuples there, in the order in
    which the attributes were set. Dicts and lists of lists are not searched.
    """

    def __new__(cls, *args, **kwargs):
        # The constructor's arguments are the architecture: repr shows those that were given, and save() writes all.
        self = super().__new__(cls)
        self._arguments = (args, kwargs)
        return self

    def __setattr__(self, name, value):
        if name[0] == "_":
            super().__setattr__(name, value)
            return
        self._note_replaced(vars(self).get(name), value)
        super().__setattr__(name, value)
        part_replaced(self)

    def _note_replaced(self, old, value):
        """If a module within is replaced, replaces it among the constructor's arguments as well, if it is one."""
        if old is not value and any(
            isinstance(part, Module) for part in (old if isinstance(old, (tuple, list)) else (old,))
        ):
            args, kwargs = self._arguments
            follow = lambda given: value if given is old else given
            self._arguments = tuple(map(follow, args)), {name: follow(given) for name, given in kwargs.items()}
            self._altered = True

    def is_altered(self) -> bool:
        """Returns whether a module here or within has been replaced since construction.

        If so, calling the constructor with the same arguments may make a different module.
        """
        return "_altered" in vars(self) or any(part.is_altered() for part in self.modules_within())

    def __delattr__(self, name):
        super().__delattr__(name)
        part_replaced(self)

    def __getstate__(self):
        return {
            name: value for name, value in vars(self).items() if name not in ("_derived", "_dependants")
        }  # these hold weak references, valid in this process only

    def derived(self, name: str, make: Callable[[], T]) -> T:
        """Returns make(), cached under `name` until an array or a part within this module is replaced."""
        kept = self.__dict__.get("_derived")
        if kept is None or kept.is_stale or (kept.lists and not kept.holds()):
            self._derived = kept = Derived(*self._parts_and_lists())
        found = kept.values
        if name not in found:
            found[name] = make()
        return found[name]

    def _parts_and_lists(self):
        """Returns this module with all Modules and Buffers within it, and the lists of such among their attributes."""
        parts, lists, modules = [], [], [self]
        while modules:
            module = modules.pop()
            lists += [
                value
                for name, value in list(vars(module).items())  # another thread may set one
                if name[0] != "_"
                and isinstance(value, list)
                and (not value or any(isinstance(item, (Buffer, Module)) for item in value))
            ]
            within = [part for _, part in module._within()]
            modules += [part for part in within if isinstance(part, Module)]
            parts += [module, *(part for part in within if isinstance(part, Buffer))]
        return {id(part): part for part in parts}.values(), lists

    #: by name, the values that arguments given as None stand for. Files contain them, so that the meaning of a file
    #: does not change if a later version has other defaults.
    _meant = {}

    def arguments(self) -> dict:
        """Returns the constructor's arguments by name, without those left at their default."""
        return self._bound(lambda bound: None)

    def architecture(self) -> dict:
        """Returns all constructor's arguments by name, as files contain them.

        Defaults are included, and an argument that is None is replaced by the value that it stands for.
        """
        if type(self).__init__ is object.__init__:
            return {}
        every = self._bound(inspect.BoundArguments.apply_defaults)
        return {name: self._meant.get(name) if value is None else value for name, value in every.items()}

    def _bound(self, complete):
        args, kwargs = self._arguments
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        complete(bound)
        arguments = {}
        for name, value in list(bound.arguments.items())[1:]:
            kind = bound.signature.parameters[name].kind
            arguments.update(value if kind is inspect.Parameter.VAR_KEYWORD else {name: value})
        return arguments

    def __repr__(self):
        learned = count(self)
        return _shown(self, *([f"{learned:,} parameter{'s' if learned > 1 else ''}"] if learned else []))

    def summary(self, shape: Shape | None = None) -> Summary:
        """Returns a table of the layers within: the name, kind, output shape and number of parameters of each.

            print(invnet.RealNVP(4, 16, 2).summary((4,)))

        Args:
            shape: the shape of one input sample, (C, *spatial). With None, the table shows no output shapes.

        Returns:
            a Summary, a tuple of a Row for each layer and one for the module itself.

        Raises:
            ValueError: this module does not take samples of this shape.
        """
        return summary_of(self, None if shape is None else self.checked_shape(shape))

    def checked_shape(self, shape: Shape) -> tuple[int, ...]:
        """Returns the shape of a sample as a tuple.

        Raises:
            ValueError: this module does not take samples of this shape.
        """
        if (
            not isinstance(shape, (tuple, list))
            or not all(isinstance(n, numbers.Integral) and int(n) > 0 for n in shape)
            or not shape
        ):
            raise ValueError(
                f"shape is that of one sample of the input, (C, *spatial), without the number of samples; got {shape!r}"
            )
        return tuple(map(int, shape))

    @property
    def is_composed(self) -> bool:
        """Whether the summary of a larger module shows the parts of this one."""
        return True

    def modules_within(self) -> list[Module]:
        """Returns the Modules that are direct parts of this one."""
        return [part for _, part in self._within() if isinstance(part, Module)]

    def parts_to_show(self, shape: Shape) -> list:
        """Returns what a summary shows of this module: its modules, or its parameters if it has no modules.

        Each is a tuple (name, part, shape of its input sample or None).
        """
        modules = [(name, part, None) for name, part in self._within() if isinstance(part, Module)]
        return modules or [(name, part, None) for name, part in self._within() if isinstance(part, Parameter)]

    def named_state(self, prefix: str = "") -> Iterator[tuple[str, Buffer]]:
        """Yields (name, Parameter or Buffer) for this module and all modules within it."""
        for name, value in self._within():
            if isinstance(value, Buffer):
                yield prefix + name, value
            else:
                yield from value.named_state(f"{prefix}{name}.")

    def _within(self):
        """Yields (name, part) for each Buffer or Module in a public attribute, or in a list or tuple there."""
        for name, value in list(vars(self).items()):
            if name[0] != "_":
                if isinstance(value, (Buffer, Module)):
                    yield name, value
                elif isinstance(value, (tuple, list)):
                    yield from (
                        (f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, (Buffer, Module))
                    )

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yields (name, Module) for each module within this one."""
        for name, value in self._within():
            if isinstance(value, Module):
                yield prefix + name, value
                yield from value.named_modules(f"{prefix}{name}.")

    def name_of(self, module: Module) -> str:
        """Returns the name of a module within this one; "" for this module itself, and the class if it is not here."""
        if module is self:
            return ""
        return next((name for name, part in self.named_modules() if part is module), type(module).__name__)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yields (name, Parameter). A parameter that is used in several places is yielded once."""
        seen = set()
        for name, state in self.named_state():
            if isinstance(state, Parameter) and id(state) not in seen:
                seen.add(id(state))
                yield name, state

    def parameters(self) -> list[Parameter]:
        return [parameter for _, parameter in self.named_parameters()]

    def zero_grad(self) -> None:
        """Sets the gradients to zero. A gradient that is None stays None."""
        arrays = []
        for gradient in self.gradients():
            if gradient.array is not None:
                gradient.is_zero = True
                arrays.append(gradient.array)
        if arrays:
            get_ops(arrays[0]).zero_(arrays)

    def gradients(self) -> list[Gradient]:
        """Returns the Gradient of each parameter, or the one that the pass that runs adds to instead."""
        if current().gradients is not None:
            return [parameter.gradient for parameter in self.derived("parameters", self.parameters)]
        return self.derived("gradients", lambda: [parameter.gradient for parameter in self.parameters()])

    def make_gradients(self) -> None:
        """Prepares the gradients for a backward pass: None becomes an array of zeros, and `is_zero` becomes False."""
        for gradient in self.gradients():
            gradient.is_zero = False
            if gradient.array is None:
                for parameter in self.parameters():
                    parameter.gradient_array()  # makes it
                return

    def state_dict(self) -> dict[str, Array]:
        """Returns a NumPy copy of every parameter and buffer, by name."""
        return {name: get_ops(state.data).to_numpy(state.data).copy() for name, state in self.named_state()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copies the arrays of `state` into this module.

        Raises:
            ValueError: a name or a shape differs. Then nothing is changed.
        """
        own = dict(self.named_state())
        missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or foreign:
            raise ValueError(
                f"the state does not fit {type(self).__name__}: missing {missing[:5]}, unknown {foreign[:5]}"
            )
        for name, array in state.items():
            if tuple(array.shape) != tuple(own[name].data.shape):
                raise ValueError(f"{name} has shape {tuple(own[name].data.shape)}; the state has {tuple(array.shape)}")
        for name, array in state.items():
            like = own[name].data
            like[...] = get_ops(like).asarray(array, like)

    def to(self, engine: str | None = None, dtype: DType | None = None) -> Self:
        """Moves all arrays to an engine, and converts floating-point arrays to a dtype. This module itself is changed.

        Gradients become zero, or stay None.

        Args:
            engine: "numpy"; "torch" for PyTorch's tensors on the CPU, "torch:cuda:1" on a device; "cupy" or "cuda" for
                CuPy's arrays on its current GPU, "cupy:1" on another.
            dtype: "float32" or "float64".

        Returns:
            self.

        Raises:
            ValueError: there is no such engine or device, or `dtype` is neither float32 nor float64.
            ImportError: the engine's library is not installed.
        """
        ops, dtype = ops_named(engine) if engine else None, None if dtype is None else float_dtype(dtype)
        moved = []
        for _, state in self.named_state():
            source = get_ops(state.data)
            target, data = ops or source, source.to_numpy(state.data)
            if dtype is not None and data.dtype.kind == "f":
                data = data.astype(dtype)  # first, since some devices have no float64
            data = target.from_numpy(data)
            has_gradient = isinstance(state, Parameter) and state.gradient.array is not None
            moved.append((state, data, target.zeros_like(data) if has_gradient else None))
        for state, data, grad in moved:  # once all are there
            state.data = data
            if grad is not None:
                state.gradient.replace(grad, is_zero=True)  # type: ignore[attr-defined]
        return self

    @property
    def dtype(self) -> Any:
        """The dtype of the parameters; None if there are none."""
        parameter = self.first_of(Parameter)
        return None if parameter is None else parameter.data.dtype

    @property
    def first_state(self) -> Buffer | None:
        """The first Parameter within, the first Buffer if there is no Parameter, or None."""
        return self.derived("first state", self._first_state)

    def _first_state(self):
        return self.first_of(Parameter) or self.first_of(Buffer)

    def first_of(self, kind: type) -> Any:
        """Returns the first instance of `kind`, which is Parameter or Buffer, in this module or within it; or None."""
        for _, value in self._within():
            found = value.first_of(kind) if isinstance(value, Module) else value if isinstance(value, kind) else None
            if found is not None:
                return found
        return None


def _given(module):
    """Returns the arguments of a module that differ from their defaults. A loaded module was given all arguments."""
    defaults = {name: p.default for name, p in inspect.signature(type(module).__init__).parameters.items()}
    return {
        name: value
        for name, value in module.arguments().items()
        if not _says(value, defaults.get(name, inspect.Parameter.empty))
    }


def _says(value, default):
    """Returns whether an argument equals its default."""
    if isinstance(default, (tuple, list)):
        return isinstance(value, (tuple, list)) and tuple(value) == tuple(default)
    return value is default or (
        isinstance(default, (bool, int, float, str)) and type(value) is type(default) and value == default
    )


def _shown(module, *more):
    """Returns "Class(arguments, more)", with at most 60 characters for each argument."""
    arguments = (
        f"{name}={text if len(text := _text(value)) <= 60 else f'{text[:57]}...'}"
        for name, value in _given(module).items()
    )
    return f"{type(module).__name__}({', '.join([*arguments, *more])})"


def _text(value):
    """Returns the repr of an argument; of a list of modules, only the first 8 are shown."""
    if isinstance(value, Module):
        return _shown(value)
    if isinstance(value, (list, tuple)) and any(isinstance(item, Module) for item in value):
        opening, closing = "[]" if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        return f"{opening}{', '.join(map(_text, value[:8]))}{closing}"
    return repr(value)


def describes_itself(cls: type, name: str) -> bool:
    """Returns whether the method `name`, which describes what a class computes, is valid for `cls`.

    It is valid if no class between `cls` and the class that defines it, such as a mixin, defines methods or properties
    other than `__init__`.
    """
    for base in cls.__mro__:
        if name in vars(base):
            return True
        if any(_is_behaviour(value) for key, value in vars(base).items() if key != "__init__"):
            return False
    return False


def _is_behaviour(value):
    if isinstance(value, type):
        return False
    return callable(value) or isinstance(value, (property, classmethod, staticmethod))
