"""The nn.Modules of a layer: one submodule for each part, with the nn.Modules of TorchNets among them."""

from __future__ import annotations

import textwrap

from torch import nn

from ..core import Module, Parameter
from .net import TorchNet
from .share import Share
from .tensors import tensor_of


class Part(nn.Module):
    """The submodule for a part of a layer, or for a list of parts.

    Args:
        part: the Module of invnet, or None for a list.
    """

    def __init__(self, part: Module | None = None):
        super().__init__()
        self.part = part

    def _get_name(self):
        return "list" if self.part is None else type(self.part).__name__

    def extra_repr(self) -> str:
        return (
            ""
            if self.part is None
            else ", ".join(
                f"{name}={_shown(value)}" for name, value in self.part.arguments().items() if not _holds_modules(value)
            )
        )

    def __repr__(self):
        return printed(self)


def printed(module: nn.Module) -> str:
    """Returns the repr of a module and of its submodules, without lists of tensors."""
    children = [
        f"({name}): {child!r}"
        for name, child in module._modules.items()
        if not (isinstance(child, Part) and child.part is None and not child._modules)
    ]
    if not children:
        return f"{module._get_name()}({module.extra_repr()})"
    lines = "\n".join(filter(None, [module.extra_repr(), *children]))
    return f"{module._get_name()}(\n{textwrap.indent(lines, '  ')}\n)"


def mount(root, module: Module):
    """Gives `root` a submodule for every part of `module`, with the tensors of its arrays; gives a Share for the id of
    every state.

    Raises:
        TypeError: a TorchNet has state besides that of its nn.Module, whose place the nn.Module takes.
    """
    shares = {}

    def hold(state, tensors, key):
        if id(state) not in shares:
            tensor = tensor_of(state.data)
            tensors[key] = nn.Parameter(tensor) if isinstance(state, Parameter) else tensor
            shares[id(state)] = Share(state, [(tensors, key)])
        else:
            tensors[key] = shares[id(state)].tensor
            shares[id(state)].places.append((tensors, key))

    def own_module(net):
        foreign = [name for name, _ in net._within() if name not in net.shares]
        if foreign:
            raise TypeError(
                "a TorchNet has the state of its nn.Module alone, to be a submodule; "
                f"this {type(net).__name__} also has {foreign[0]}"
            )
        for share in net.shares.values():
            share.meet()
            shares.setdefault(id(share.state), share)
        return net.module

    def tensors_of(holder, state, key):
        """The dict of an nn.Module that a state belongs to. What torch.export makes of a module has no buffer named as
        a method.
        """
        if isinstance(state, Parameter):
            return holder._parameters
        return vars(holder).setdefault("_beside", {}) if hasattr(nn.Module, key) else holder._buffers

    def fill(holder, module):
        for name, value in module._within():
            *path, key = name.split(".")
            place = holder
            for step in path:  # not through add_module, which refuses names that methods have
                place = place._modules.setdefault(step, Part())
            if not isinstance(value, Module):
                hold(value, tensors_of(place, value, key), key)
            elif isinstance(value, TorchNet):
                place._modules[key] = own_module(value)
            else:
                place._modules[key] = Part(value)
                fill(place._modules[key], value)

    fill(root, module)
    return shares


class Keys:
    """What makes the keys of a module's state_dict the names of its layer's state, whatever its nn.Modules save by
    themselves.

    A TorchNet saves a tensor that an nn.Module has in two places once, and buffers that are not persistent too;
    `_beside` is what `mount` does not make a buffer.

    Args:
        root: the nn.Module.
        named: the Share of each state of the layer, by its name.
    """

    def __init__(self, root, named):
        saved = nn.Module.state_dict(root, keep_vars=True)
        of_tensor = {id(saved[name]): name for name in named if name in saved}
        #: name -> Share of what the nn.Modules do not save
        self.unsaved = {name: share for name, share in named.items() if name not in saved}
        #: another key of a tensor -> its name
        self.others = {
            key: of_tensor[id(tensor)] for key, tensor in saved.items() if key not in named and id(tensor) in of_tensor
        }

    def save(self, state: dict, prefix: str) -> None:
        for key in self.others:
            state.pop(prefix + key, None)
        for name, share in self.unsaved.items():
            state[prefix + name] = share.tensor.detach()

    def load(self, state: dict, prefix: str) -> None:
        for key, name in self.others.items():
            if prefix + name in state:
                state.setdefault(prefix + key, state[prefix + name])
        for name, share in self.unsaved.items():
            if prefix + name in state:
                share.tensor.detach().copy_(state.pop(prefix + name))


def _shown(value):
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _holds_modules(value):
    return isinstance(value, Module) or (isinstance(value, (list, tuple)) and any(map(_holds_modules, value)))
