"""as_module: a layer or a flow as an nn.Module."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..arguments import shown
from ..core import Layer, Parameter
from ..flow import Flow
from ..layers import Exact, Reverse
from .recording import recorded, with_batches_of
from .share import check_dtype
from .tensors import array_of, tensor_of, transforms_are_active
from .through import NOT_IN_TRANSFORMS, Through
from .tree import Keys, Part, mount, printed

if TYPE_CHECKING:
    from typing import Any

    from ..bases import Base
    from ..typing import Array, Cond, Seed

MEMORY = ("rebuild", "store")


def as_module(layer: Layer | Flow, memory: str = "rebuild", logdet: bool = True) -> LayerModule | FlowModule:
    """A layer or a flow as an nn.Module.

    Of a layer, module(x, cond) gives z and logdet (N,), and module.inverse(z, cond) gives x. Of a Flow, module(x, cond)
    is module.log_prob(x, cond), (N,), and module.sample(n, cond) gives samples.

    Its parameters and buffers are those of the layer, under the same names and in the same memory: an optimizer of
    PyTorch changes the layer, and `layer.load_state_dict` changes the module. Where one of the two is moved, to another
    dtype or device, the other follows. An nn.Module inside the layer, in a TorchNet, is a submodule. Gradients go where
    autograd takes them: to x, to cond, and to the module's parameters; `grad` of the layer's own parameters stays as it
    is.

    Args:
        layer: a Layer, or a Flow.
        memory: "rebuild" saves the output only, so that memory does not grow with depth; "store" lets autograd store
            all activations, for second derivatives, the transforms of torch.func, torch.export and ONNX.
        logdet: False for a module that gives z alone, as nn.Sequential needs it.

    Raises:
        TypeError: `layer` is neither, or Exact is to store, or a TorchNet has other state than its nn.Module; in a
            call, an input has not the layer's dtype.
        ValueError: `memory` is another, or a Flow is to give no logdet; in a call, an input lies on another device.

    Example:
        flow = invnet.torch.as_module(invnet.Flow(invnet.RealNVP(2, 64, 8), (2,)))
        loss = -flow.log_prob(x).mean()
    """
    if not isinstance(layer, (Layer, Flow)):
        raise TypeError(
            f"as_module takes a Layer or a Flow of invnet; got "
            f"{shown(layer) if isinstance(layer, type) else type(layer).__name__}"
        )
    if memory not in MEMORY:
        raise ValueError(f'memory is "rebuild" or "store"; got {memory!r}')
    if isinstance(layer, Layer):
        return LayerModule(layer, memory, logdet)
    if not logdet:
        raise ValueError(
            "a module of a Flow gives the log density, of which logdet is a part; logdet=False is for a Layer"
        )
    return FlowModule(layer, memory)


class Bridge(nn.Module):
    """A Layer or a Flow of invnet as an nn.Module: its parts as submodules, its arrays as tensors.

    Args:
        part: the Layer or Flow.
        memory: as in as_module.
    """

    def __init__(self, part: Any, memory: str):
        super().__init__()
        shares = mount(self, part)
        if memory == "store" and any(
            isinstance(module, Exact) for module in (part, *(m.part for m in self.modules() if isinstance(m, Part)))
        ):
            raise TypeError("Exact rounds its states, so that autograd finds no derivative: it has no storing mode")
        self._part, self._memory, self._shares, self._states = part, memory, list(shares.values()), None
        self._learned = [share for share in self._shares if isinstance(share.state, Parameter)]
        of_layer = {id(parameter) for parameter in (part.layer if isinstance(part, Flow) else part).parameters()}
        self._learned_of_layer = [share for share in self._learned if id(share.state) in of_layer]
        self._frozen = [
            share for share in self._shares if isinstance(share.tensor, nn.Parameter) and share not in self._learned
        ]
        floats = [share for share in self._shares if share.tensor.is_floating_point()]
        self._typical = next(iter([*self._learned, *floats, *self._shares]), None)
        registered = {id(tensor) for tensor in (*self.parameters(), *self.buffers())}
        self._unregistered = [share for share in self._shares if id(share.tensor) not in registered]
        self._keys = Keys(self, {name: shares[id(state)] for name, state in part.named_state()})
        self.register_state_dict_post_hook(_saved)
        self.register_load_state_dict_pre_hook(_before_loading)
        self.register_load_state_dict_post_hook(_loaded)

    def extra_repr(self) -> str:
        return f"{type(self._part).__name__}, memory={self._memory!r}"

    def __repr__(self):
        return printed(self)

    def _through(self, layer, x, cond):
        """z and logdet of a layer of this module."""
        if (
            "torch._dynamo" in sys.modules and not torch.compiler.is_exporting()
        ):  # which would look at what is called from here
            return torch.compiler.disable(self._computed)(layer, x, cond)
        return self._computed(layer, x, cond)

    _through._torchdynamo_disable = True  # type: ignore[attr-defined]

    def _computed(self, layer, x, cond):
        if self._memory == "store":
            x, cond = self._inputs(x, cond)
            with recorded(self._shares, x.device):
                others = [share.tensor for share in self._learned] + ([] if cond is None else [cond])
                return layer.forward(with_batches_of(others, x), cond)
        if transforms_are_active():
            raise RuntimeError(NOT_IN_TRANSFORMS)
        if torch.compiler.is_exporting():
            raise RuntimeError('a rebuilding module has no graph to export; as_module(layer, memory="store") has one')
        x, cond = self._inputs(x, cond)
        for share in self._frozen:
            if share.tensor.requires_grad:
                raise RuntimeError(
                    f"{share.key} was frozen when its TorchNet was made, and is not learned: give requires_grad=True "
                    f"before, and "
                    "freeze by requires_grad_(False) afterwards"
                )
        learned = self._learned_of_layer
        return Through.apply(layer, learned, self._layer_array(), x, cond, *[share.tensor for share in learned])

    def _inputs(self, x, cond):
        """The arguments as the layer takes them, after it met the module's tensors."""
        self._check_states()
        if not (transforms_are_active() or torch.compiler.is_exporting()):  # where tensors have no memory of their own
            for share in self._shares:
                share.meet()
        own = None if self._typical is None else self._typical.tensor
        for name, tensor in (("x", x), ("cond", cond)):
            if not isinstance(tensor, torch.Tensor) and (name == "x" or tensor is not None):
                raise TypeError(f"{name} is a tensor; got {type(tensor).__name__}")
            if tensor is not None and own is not None and tensor.device != own.device:
                raise ValueError(
                    f"the module is on {own.device}, {name} on {tensor.device}: move one of them with .to(...)"
                )
        dtype = own.dtype if own is not None and own.is_floating_point() else None
        if torch.is_autocast_enabled(x.device.type):
            x, cond = [
                None if tensor is None else tensor.to(dtype or torch.promote_types(tensor.dtype, torch.float32))
                for tensor in (x, cond)
            ]
        if cond is not None and cond.dtype in (torch.bfloat16, torch.float16):
            cond = cond.float()  # any real dtype of a condition is converted
        for name, tensor, dtypes in (("x", x, FLOATS), ("cond", cond, (*FLOATS, *INTEGERS))):
            if tensor is not None and tensor.dtype not in dtypes:
                raise TypeError(
                    f"the module computes in {dtype or 'torch.float32 or torch.float64'}; got {name} of "
                    f"{tensor.dtype}: convert it "
                    "with .to(...), or call the module under torch.autocast, which does so"
                )
        return x, cond

    def _check_states(self):
        """RuntimeError where the layer has other Parameters or Buffers than when this module was made."""
        states = self._part.derived(
            "states of the module", lambda: {id(state): state for _, state in self._part.named_state()}
        )
        if states is not self._states:
            if states.keys() != {id(share.state) for share in self._shares}:
                raise RuntimeError(
                    f"parts of the {type(self._part).__name__} were replaced since as_module(layer) made this module, "
                    f"whose "
                    "parameters are those of before: call as_module again"
                )
            self._states = states

    def _layer_array(self):
        return self._shares[0].state.data if self._shares else None

    @torch.no_grad()
    def _apply(self, function, recurse=True):
        for tensor in {
            share.dtype: share.tensor for share in self._shares if share.tensor.is_floating_point()
        }.values():
            check_dtype(function(tensor.new_empty(0)).dtype)  # before anything has changed
        super()._apply(function, recurse)
        for share in self._unregistered:
            share.tensor.data = function(share.tensor)
        for share in self._shares:
            share.tensor.data = share.tensor.data.contiguous()  # a memory_format is one of images, not of these weights
            share.meet()
        return self


def _saved(module, state, prefix, metadata):
    module._keys.save(state, prefix)


def _before_loading(module, state, prefix, *_):
    module._keys.load(state, prefix)


def _loaded(module, incompatible):
    for share in module._shares:  # of a tensor in several places, assign=True makes several
        share.put(share.tensor)


FLOATS = (torch.float32, torch.float64)
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class LayerModule(Bridge):
    """What as_module gives of a layer; `layer` is the layer, or where that has a part of this name, as Reverse has, its
    submodule.
    """

    def __init__(self, layer: Any, memory: str, logdet: bool):
        super().__init__(layer, memory)
        self._logdet = logdet

    def __getattr__(self, name):
        if name == "layer" and name not in self._modules:
            return self._part
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self._logdet else ", logdet=False")

    def forward(self, x: Array, cond: Cond = None) -> Any:
        """z and logdet (N,), or z alone."""
        z, logdet = self._through(self._part, x, cond)
        return (z, logdet) if self._logdet else z

    def inverse(self, z: Array, cond: Cond = None) -> Array:
        """x with z its image. The log-determinant of this map is what as_module(Reverse(layer)) gives."""
        return self._through(Reverse(self._part), z, cond)[0]

    @torch.no_grad()
    def initialize(self, x: Array, cond: Cond = None) -> Array:
        """Sets data-dependent parameters from a batch, and gives z."""
        return _initialized(self, self._part, x, cond)


class FlowModule(Bridge):
    """What as_module gives of a Flow; `flow` is the Flow. Its base is computed on tensors, and autograd differentiates
    it.
    """

    def __init__(self, flow: Flow, memory: str):
        super().__init__(flow, memory)

    @property
    def flow(self) -> Flow:
        return self._part

    def forward(self, x: Array, cond: Cond = None) -> Array:
        """log_prob(x, cond)."""
        return self.log_prob(x, cond)

    def log_prob(self, x: Array, cond: Cond = None) -> Array:
        """The log density of each sample, (N,), in nats."""
        self._part.check_shape(x)
        z, logdet = self._through(self._part.layer, x, cond)
        return self._base_log_prob(z) + logdet

    def sample(self, n: int, cond: Cond = None, temperature: float = 1.0, seed: Seed = None) -> Array:
        """n samples (n, C, *spatial), which have gradients where the base's are smooth maps of noise.

        Args:
            n: how many.
            cond: a row for each sample, or one for all.
            temperature: a factor on the deviation of the base.
            seed: an int or a numpy Generator; None draws from PyTorch's generator.

        Raises:
            ValueError: cond has another number of rows.
            NotImplementedError: in backward, the base is no smooth map of noise, as a mixture that is learned.
        """
        return self._sampled(self._noise(n, temperature, seed), cond)[0]

    def sample_and_log_prob(
        self, n: int, cond: Cond = None, temperature: float = 1.0, seed: Seed = None
    ) -> tuple[Array, Array]:
        """n samples and their log density, (n,), at temperature 1. Args as of `sample`."""
        z = self._noise(n, temperature, seed)
        x, logdet = self._sampled(z, cond)
        return x, self._base_log_prob(z) - logdet

    def sample_for(self, n: int, cond: Cond, temperature: float = 1.0, seed: Seed = None) -> Array:
        """n samples for each of M rows of cond, (M, n, C, *spatial). Args as of `sample`."""
        return self.sample(n * len(cond), cond.repeat_interleave(n, 0), temperature, seed).unflatten(0, (len(cond), n))

    @torch.no_grad()
    def initialize(self, x: Array, cond: Cond = None) -> Array:
        """Sets data-dependent parameters of the layer from a batch, and gives z."""
        return _initialized(self, self._part.layer, x, cond)

    def _noise(self, n, temperature, seed):
        seed = int(torch.randint(2**62, ())) if seed is None else seed
        with recorded(self._shares, self._device):
            z = self._part.noise(n, temperature, seed)
        learned = [share.tensor for share in self._shares if share.state in self._part.base.parameters()]
        return (
            z
            if getattr(self._part.base, "reparametrised", True)
            else _NoPath.apply(self._part.base, z.detach(), *learned)
        )

    def _sampled(self, z, cond):
        if cond is not None and len(cond) not in (1, len(z)):
            raise ValueError(f"a condition of {len(z)} samples has {len(z)} rows, or one for all; got {len(cond)}")
        return self._through(Reverse(self._part.layer), z, cond)

    def _base_log_prob(self, z):
        with recorded(self._shares, z.device):
            return self._part.base.log_prob(z)

    @property
    def _device(self):
        return torch.device("cpu") if self._typical is None else self._typical.tensor.device


class _NoPath(torch.autograd.Function):
    """Samples of a base that are no smooth map of noise: they have no gradient in its parameters, and backward says
    so.
    """

    @staticmethod
    def forward(ctx, base: Base | None, z: Array, *parameters: Any) -> tuple[Array, Array]:
        ctx.base = base
        return z.view_as(z)

    @staticmethod
    def backward(ctx, dz: Array) -> None:
        ctx.base.sample_backward(dz, dz)


def _initialized(module, layer, x, cond):
    x, cond = module._inputs(x, cond)
    like = module._layer_array()
    return tensor_of(layer.initialize(array_of(x, like), None if cond is None else array_of(cond, like)))


# PyTorch's compiler would follow a call into the layer, and trace what NumPy does there: its graph ends at these.
for _method in (
    LayerModule.forward,
    LayerModule.inverse,
    LayerModule.initialize,
    FlowModule.forward,
    FlowModule.log_prob,
    FlowModule.sample,
    FlowModule.sample_and_log_prob,
    FlowModule.sample_for,
    FlowModule.initialize,
):
    _method._torchdynamo_disable = True
