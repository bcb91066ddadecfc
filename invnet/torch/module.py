"""as_module: a layer as an nn.Module."""

import sys

import torch
from torch import nn

from ..core import Layer, Parameter
from ..layers import Reverse
from .recording import recorded
from .tensors import array_of, tensor_of
from .through import NOT_IN_TRANSFORMS, Through, transforms_are_active

MEMORY = ("rebuild", "store")


def as_module(layer, memory="rebuild"):
    """A layer as an nn.Module: module(x, cond) gives z and logdet (N,), module.inverse(z, cond) gives x.

    Its parameters and buffers are those of the layer, under the same names and in the same memory: an optimizer of PyTorch
    changes the layer, and `layer.load_state_dict` changes the module. Where one of the two is moved, to another dtype or device,
    the other follows. Gradients go where autograd takes them: to x, to cond, and to the module's parameters; `grad` of the
    layer's own parameters stays as it is.

    Args:
        layer: a Layer.
        memory: "rebuild" saves the output only, so that memory does not grow with depth; "store" lets autograd store all
            activations, for second derivatives and the transforms of torch.func.

    Raises:
        TypeError: `layer` is no Layer; in a call, an input has not the layer's dtype or device.
        ValueError: `memory` is another.
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"as_module takes a Layer of invnet; got {type(layer).__name__}")
    if memory not in MEMORY:
        raise ValueError(f'memory is "rebuild" or "store"; got {memory!r}')
    return LayerModule(layer, memory)


class LayerModule(nn.Module):
    """What as_module gives; `layer` is the layer."""

    def __init__(self, layer, memory):
        super().__init__()
        self._layer, self._memory, self._shares, self._states = layer, memory, [], None
        tensors = {}
        for name, state in layer.named_state():
            place = self._place(name, "_parameters" if isinstance(state, Parameter) else "_buffers")
            if id(state) not in tensors:
                tensor = tensor_of(state.data)
                tensors[id(state)] = nn.Parameter(tensor) if isinstance(state, Parameter) else tensor
                self._shares.append(Share(state, tensors[id(state)], *place))
            dict.__setitem__(*place, tensors[id(state)])

    def _place(self, name, kind):
        """The dict and the key for a state of a layer: its name is the path through modules that hold the parts."""
        module, (*path, key) = self, name.split(".")
        for part in path:  # not through add_module, which refuses names that methods have
            module = module._modules.setdefault(part, nn.Module())
        return getattr(module, kind), key

    @property
    def layer(self):
        return self._layer

    def extra_repr(self):
        return f"{type(self._layer).__name__}, memory={self._memory!r}"

    def forward(self, x, cond=None):
        """z and logdet (N,)."""
        return self._through(self._layer, x, cond)

    def inverse(self, z, cond=None):
        """x with module(x) = z. The log-determinant of this map is what as_module(Reverse(layer)) gives."""
        return self._through(Reverse(self._layer), z, cond)[0]

    @torch.no_grad()
    def initialize(self, x, cond=None):
        """Sets data-dependent parameters from a batch, and gives z."""
        x, cond = self._inputs(x, cond)
        like = self._layer_array()
        return tensor_of(self._layer.initialize(array_of(x, like), None if cond is None else array_of(cond, like)))

    # PyTorch's compiler would follow a call into the layer, and trace what NumPy does there: its graph ends here.
    for method in (forward, inverse, initialize):
        method._torchdynamo_disable = True
    del method

    def _through(self, layer, x, cond):
        if "torch._dynamo" in sys.modules:  # and it does not look at what is called from here either
            return torch.compiler.disable(self._computed)(layer, x, cond)
        return self._computed(layer, x, cond)

    _through._torchdynamo_disable = True

    def _computed(self, layer, x, cond):
        if self._memory == "store":
            x, cond = self._inputs(x, cond)
            return recorded(layer, self._shares, x, cond)
        if transforms_are_active():
            raise RuntimeError(NOT_IN_TRANSFORMS)
        x, cond = self._inputs(x, cond)
        learned = [share for share in self._shares if isinstance(share.state, Parameter)]
        return Through.apply(layer, learned, self._layer_array(), x, cond, *[share.tensor for share in learned])

    def _inputs(self, x, cond):
        """The arguments as the layer takes them, after it met the module's tensors."""
        self._check_states()
        if not transforms_are_active():  # where tensors have no memory of their own
            for share in self._shares:
                share.meet(share.tensor)
        own = next((share.tensor for share in self._shares), None)
        for name, tensor in (("x", x), ("cond", cond)):
            if not isinstance(tensor, torch.Tensor) and (name == "x" or tensor is not None):
                raise TypeError(f"{name} is a tensor; got {type(tensor).__name__}")
            if name == "x" and tensor.dtype not in (torch.float32, torch.float64) and not torch.is_autocast_enabled(tensor.device.type):
                raise TypeError(f"{type(self._layer).__name__} takes float32 or float64; got x of dtype {tensor.dtype}")
            if tensor is not None and own is not None and tensor.device != own.device:
                raise ValueError(f"the module is on {own.device}, {name} on {tensor.device}: move one of them with .to(...)")
        if own is not None and torch.is_autocast_enabled(own.device.type):
            return [None if tensor is None else tensor.to(own.dtype) for tensor in (x, cond)]
        return x, cond.float() if cond is not None and cond.dtype == torch.bfloat16 else cond  # which NumPy does not have

    def _check_states(self):
        """RuntimeError where the layer has other Parameters or Buffers than when this module was made."""
        states = self._layer.derived("states of the module", lambda: {id(state): state for _, state in self._layer.named_state()})
        if states is not self._states:
            if states.keys() != {id(share.state) for share in self._shares}:
                raise RuntimeError(f"parts of the {type(self._layer).__name__} were replaced since as_module(layer) made this module, whose "
                                   "parameters are those of before: call as_module again")
            self._states = states

    def _layer_array(self):
        return next((share.state.data for share in self._shares), None)

    def _apply(self, function, recurse=True):
        super()._apply(function, recurse)
        for share in self._shares:
            share.tensor.data = share.tensor.data.contiguous()  # a memory_format is one of images, not of these weights
            share.meet(share.tensor)
        return self


class Share:
    """An array of the layer and a tensor of the module in the same memory; where one of them is replaced, the other follows.

    Args:
        state: the Parameter or Buffer of the layer.
        tensor: that of the module, which shares memory with the array.
        tensors, key: where the module has the tensor.
    """

    def __init__(self, state, tensor, tensors, key):
        self.state, self.tensors, self.key = state, tensors, key
        self.array, self.pointer, self.dtype = state.data, tensor.data_ptr(), tensor.dtype

    @property
    def tensor(self):
        return self.tensors[self.key]

    def meet(self, tensor):
        """Afterwards the array and `tensor` are in the same memory again: the one that was not replaced has followed."""
        if self.state.data is not self.array:
            tensor.data = tensor_of(self.state.data)
        elif tensor.data_ptr() != self.pointer or tensor.dtype != self.dtype:
            if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
                raise TypeError(f"a layer computes in float32 or float64; its module was moved to {tensor.dtype}")
            self.state.data = array_of(tensor)
            if isinstance(self.state, Parameter) and self.state.held.array is not None:
                self.state.held.replace(array_of(torch.zeros_like(tensor)), is_zero=True)
        else:
            return
        self.array, self.pointer, self.dtype = self.state.data, tensor.data_ptr(), tensor.dtype
