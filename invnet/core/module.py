"""Module: something with parameters."""

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
    """Something with parameters: finds them in its public attributes and in lists and tuples there (neither in dicts
    nor in lists of lists), in the order in which they were set."""

    def __new__(cls, *args, **kwargs):
        # The constructor's arguments are the architecture: repr prints those that were given, and save() writes all.
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
        """Where a part that is a module is replaced, has the constructor's arguments follow, as far as they can."""
        if old is not value and any(
            isinstance(part, Module) for part in (old if isinstance(old, (tuple, list)) else (old,))
        ):
            args, kwargs = self._arguments
            follow = lambda given: value if given is old else given
            self._arguments = tuple(map(follow, args)), {name: follow(given) for name, given in kwargs.items()}
            self._altered = True

    def is_altered(self) -> bool:
        """Whether a module here or within was put in the place of another, so that constructors may make another
        one.
        """
        return "_altered" in vars(self) or any(part.is_altered() for part in self.modules_within())

    def __delattr__(self, name):
        super().__delattr__(name)
        part_replaced(self)

    def __getstate__(self):
        return {
            name: value for name, value in vars(self).items() if name not in ("_derived", "_dependants")
        }  # of this process alone

    def derived(self, name: str, make: Callable[[], T]) -> T:
        """make(), kept until an array or a part within this module is replaced: for what follows from them."""
        kept = self.__dict__.get("_derived")
        if kept is None or kept.is_stale or (kept.lists and not kept.holds()):
            self._derived = kept = Derived(*self._parts_and_lists())
        found = kept.values
        if name not in found:
            found[name] = make()
        return found[name]

    def _parts_and_lists(self):
        """This module and all Modules and Buffers within it, and the lists of these among their attributes."""
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

    #: by name: what arguments stand for that are None, since a file says what was meant whatever a later version means
    #: by None
    _meant = {}

    def arguments(self) -> dict:
        """The constructor's arguments by name, without those left at their default."""
        return self._bound(lambda bound: None)

    def architecture(self) -> dict:
        """The constructor's arguments by name, those left at their default too, and what None stood for: what a file
        says of it.
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
        """The layers within as a table, for `print`: name, kind, output shape and number of parameters of each.

            print(invnet.RealNVP(4, 16, 2).summary((4,)))

        Args:
            shape: of one sample of the input, (C, *spatial); None shows no shapes of outputs.

        Returns:
            a Summary, a tuple of a Row for each layer, and of one for the module itself.
        """
        return summary_of(self, None if shape is None else self.checked_shape(shape))

    def checked_shape(self, shape: Shape) -> tuple[int, ...]:
        """The shape of a sample as a tuple; ValueError where this module does not take such."""
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
        """Whether a summary shows the parts of this module where it is itself a part."""
        return True

    def modules_within(self) -> list[Module]:
        """The Modules that are parts of this one."""
        return [part for _, part in self._within() if isinstance(part, Module)]

    def parts_to_show(self, shape: Shape) -> list:
        """(name, part, the shape of its input) of what a summary shows of this module: modules, or parameters where
        there are none.
        """
        modules = [(name, part, None) for name, part in self._within() if isinstance(part, Module)]
        return modules or [(name, part, None) for name, part in self._within() if isinstance(part, Parameter)]

    def named_state(self, prefix: str = "") -> Iterator[tuple[str, Buffer]]:
        """Yields (name, Parameter or Buffer) of this module and all within it."""
        for name, value in self._within():
            if isinstance(value, Buffer):
                yield prefix + name, value
            else:
                yield from value.named_state(f"{prefix}{name}.")

    def _within(self):
        """(name, Parameter, Buffer or Module) of the public attributes and of what lists and tuples there hold."""
        for name, value in list(vars(self).items()):
            if name[0] != "_":
                if isinstance(value, (Buffer, Module)):
                    yield name, value
                elif isinstance(value, (tuple, list)):
                    yield from (
                        (f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, (Buffer, Module))
                    )

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yields (name, Module) of all modules within this one."""
        for name, value in self._within():
            if isinstance(value, Module):
                yield prefix + name, value
                yield from value.named_modules(f"{prefix}{name}.")

    def name_of(self, module: Module) -> str:
        """The name of a module within this one, "" of itself, or its class where it has none."""
        if module is self:
            return ""
        return next((name for name, part in self.named_modules() if part is module), type(module).__name__)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yields (name, Parameter), a parameter used in several places once."""
        seen = set()
        for name, state in self.named_state():
            if isinstance(state, Parameter) and id(state) not in seen:
                seen.add(id(state))
                yield name, state

    def parameters(self) -> list[Parameter]:
        return [parameter for _, parameter in self.named_parameters()]

    def zero_grad(self) -> None:
        """Sets the gradients to zero; one that is None stays None."""
        arrays = []
        for gradient in self.gradients():
            if gradient.array is not None:
                gradient.is_zero = True
                arrays.append(gradient.array)
        if arrays:
            get_ops(arrays[0]).zero_(arrays)

    def gradients(self) -> list[Gradient]:
        """The Gradients of all parameters."""
        if current().gradients is not None:
            return [parameter.gradient for parameter in self.parameters()]
        return self.derived("gradients", lambda: [parameter.gradient for parameter in self.parameters()])

    def make_gradients(self) -> None:
        """Makes those gradients zeros that are None, and says of none that it is zero: a backward is about to add to
        them.
        """
        for gradient in self.gradients():
            gradient.is_zero = False
            if gradient.array is None:
                for parameter in self.parameters():
                    parameter.gradient_array()  # makes it
                return

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter and buffer, by name."""
        return {name: get_ops(state.data).to_numpy(state.data).copy() for name, state in self.named_state()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copies the arrays of `state` into this module.

        Raises:
            ValueError: a name or a shape differs; nothing is changed then.
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
        """Moves all arrays to an engine, and floating-point arrays to a dtype, in place; gradients are zero then, or
        stay None.

        Args:
            engine: "numpy"; "torch" for PyTorch's tensors on the CPU, "torch:cuda:1" on a device; "cupy" or "cuda" for
                CuPy's arrays on its current GPU, "cupy:1" on another.
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
            has_gradient = isinstance(state, Parameter) and state.gradient.array is not None
            moved.append((state, data, target.zeros_like(data) if has_gradient else None))
        for state, data, grad in moved:  # once all are there
            state.data = data
            if grad is not None:
                state.gradient.replace(grad, is_zero=True)  # type: ignore[attr-defined]
        return self

    @property
    def dtype(self) -> Any:
        """The dtype of the parameters, or None without any."""
        parameter = self.first_of(Parameter)
        return None if parameter is None else parameter.data.dtype

    @property
    def first_state(self) -> Buffer | None:
        """The first Parameter of this module and all within it, or without any the first Buffer; or None."""
        return self.derived("first state", self._first_state)

    def _first_state(self):
        return self.first_of(Parameter) or self.first_of(Buffer)

    def first_of(self, kind: type) -> Any:
        """The first Parameter, or the first Buffer or Parameter, as `kind` says, of this module and all within it; or
        None.
        """
        for _, value in self._within():
            found = value.first_of(kind) if isinstance(value, Module) else value if isinstance(value, kind) else None
            if found is not None:
                return found
        return None


def _given(module):
    """The arguments of a module that are not what they are by default, as every default is given in a module that was
    loaded.
    """
    defaults = {name: p.default for name, p in inspect.signature(type(module).__init__).parameters.items()}
    return {
        name: value
        for name, value in module.arguments().items()
        if not _says(value, defaults.get(name, inspect.Parameter.empty))
    }


def _says(value, default):
    """Whether an argument says what its default says."""
    if isinstance(default, (tuple, list)):
        return isinstance(value, (tuple, list)) and tuple(value) == tuple(default)
    return value is default or (
        isinstance(default, (bool, int, float, str)) and type(value) is type(default) and value == default
    )


def _shown(module, *more):
    """The class and the arguments of a module, each of at most 60 characters, and more in the same brackets."""
    arguments = (
        f"{name}={text if len(text := _text(value)) <= 60 else f'{text[:57]}...'}"
        for name, value in _given(module).items()
    )
    return f"{type(module).__name__}({', '.join([*arguments, *more])})"


def _text(value):
    """The text of an argument; of a long list of modules what is shown and little more."""
    if isinstance(value, Module):
        return _shown(value)
    if isinstance(value, (list, tuple)) and any(isinstance(item, Module) for item in value):
        opening, closing = "[]" if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        return f"{opening}{', '.join(map(_text, value[:8]))}{closing}"
    return repr(value)


def describes_itself(cls: type, name: str) -> bool:
    """Whether the method `name`, which says what a class computes, holds for `cls`.

    It does where no class between `cls` and the one that gives the method, such as a mixin, has methods or properties
    besides `__init__`.
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
