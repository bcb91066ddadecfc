"""The tree of modules that stands for a layer: a submodule for every part, and the nn.Modules of its conditioners in their places."""

import textwrap

from torch import nn

from ..core import Module, Parameter
from .net import TorchNet
from .share import Share
from .tensors import tensor_of


class Part(nn.Module):
    """The submodule for a part of a layer, which is a Module of invnet, or for a list of parts.

    Args:
        part: the Module, or None for a list.
    """

    def __init__(self, part=None):
        super().__init__()
        self.part = part

    def _get_name(self):
        return "list" if self.part is None else type(self.part).__name__

    def extra_repr(self):
        return "" if self.part is None else ", ".join(f"{name}={_shown(value)}" for name, value in self.part.arguments().items()
                                                      if not _holds_modules(value))

    def __repr__(self):
        return printed(self)


def printed(module):
    """The text of a module and of those within it, without the lists of tensors."""
    children = [f"({name}): {child!r}" for name, child in module._modules.items()
                if not (isinstance(child, Part) and child.part is None and not child._modules)]
    if not children:
        return f"{module._get_name()}({module.extra_repr()})"
    lines = "\n".join(filter(None, [module.extra_repr(), *children]))
    return f"{module._get_name()}(\n{textwrap.indent(lines, '  ')}\n)"


def mount(root, module):
    """Gives `root` a submodule for every part of `module`, with the tensors of its arrays; a list of Shares, one for each state.

    Raises:
        TypeError: a TorchNet has state besides that of its nn.Module, whose place the nn.Module takes.
    """
    parts, tensors, shares = {}, {}, []

    def hold(state, place):
        if id(state) not in tensors:
            tensor = tensor_of(state.data)
            tensors[id(state)] = nn.Parameter(tensor) if isinstance(state, Parameter) else tensor
            dict.__setitem__(*place, tensors[id(state)])
            shares.append(Share(state, *place))
        dict.__setitem__(*place, tensors[id(state)])

    def own_module(net):
        foreign = [name for name, _ in net._within() if name not in net.shares]
        if foreign:
            raise TypeError(f"a TorchNet has the state of its nn.Module alone, to be a submodule; this {type(net).__name__} also has {foreign[0]}")
        for share in net.shares.values():
            share.meet()
            if id(share.state) not in tensors:
                tensors[id(share.state)] = share.tensor
                shares.append(share)
        return net.module

    def tensors_of(holder, state, key):
        """The dict of an nn.Module that a state belongs to. What torch.export makes of a module has no buffer named as a method."""
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
                hold(value, (tensors_of(place, value, key), key))
            elif isinstance(value, TorchNet):
                place._modules[key] = own_module(value)
            else:
                if id(value) not in parts:
                    parts[id(value)] = Part(value)
                    fill(parts[id(value)], value)
                place._modules[key] = parts[id(value)]

    fill(root, module)
    return shares


class Keys:
    """What makes the keys of a module's state_dict the names of its layer's state, whatever its nn.Modules save by themselves.

    A TorchNet saves a tensor that an nn.Module has in two places once, and buffers that are not persistent too; `_beside` is what
    `mount` does not make a buffer.

    Args:
        root: the nn.Module.
        names: those of the layer's state.
    """

    def __init__(self, root, names):
        places = {f"{path}.{key}".lstrip("."): (tensors, key) for path, module in root.named_modules(remove_duplicate=False)
                  for tensors in (module._parameters, module._buffers, vars(module).get("_beside", {})) for key in tensors
                  if tensors[key] is not None}
        saved, of_tensor = nn.Module.state_dict(root), {id(places[name][0][places[name][1]]): name for name in names}
        #: name -> place of what the nn.Modules do not save
        self.unsaved = {name: places[name] for name in names if name not in saved}
        #: another key of a tensor -> its name, and both places
        self.others = {}
        for key in saved.keys() & places.keys() - set(names):
            tensors, last = places[key]
            name = of_tensor[id(tensors[last])]
            self.others[key] = name, places[key], places[name]

    def save(self, state, prefix):
        for key in self.others:
            state.pop(prefix + key, None)
        for name, (tensors, key) in self.unsaved.items():
            state[prefix + name] = tensors[key].detach()

    def load(self, state, prefix):
        for key, (name, *_) in self.others.items():
            if prefix + name in state:
                state.setdefault(prefix + key, state[prefix + name])
        for name, (tensors, key) in self.unsaved.items():
            if prefix + name in state:
                tensors[key].detach().copy_(state.pop(prefix + name))

    def tie(self):
        """Makes one tensor of what load_state_dict(assign=True) makes two."""
        for _, (tensors, key), (first, first_key) in self.others.values():
            tensors[key] = first[first_key]


def _shown(value):
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _holds_modules(value):
    return isinstance(value, Module) or (isinstance(value, (list, tuple)) and any(map(_holds_modules, value)))
