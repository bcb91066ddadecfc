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
    """Turns a layer or a flow into an nn.Module.

    The module of a layer returns z and logdet (N,) from module(x, cond), and x from module.inverse(z, cond). The module
    of a Flow returns the log density (N,) from module(x, cond) or module.log_prob(x, cond), and samples from
    module.sample(n, cond).

    The module has the parameters and buffers of the layer, under the same names and in the same memory. So an optimizer
    of PyTorch changes the layer, and `layer.load_state_dict` changes the module. If one of the two is moved to another
    dtype or device, the other follows. An nn.Module inside the layer, in a TorchNet, becomes a submodule. Autograd adds
    gradients to x, to cond and to the module's parameters. It does not change `grad` of the layer's own parameters.

    Args:
        layer: a Layer or a Flow.
        memory: "rebuild" saves only the output for backward, so that memory does not grow with depth. "store" lets
            autograd store all activations; second derivatives, the transforms of torch.func, torch.export and ONNX need
            it.
        logdet: whether the module of a layer returns logdet. With False it returns z alone, as nn.Sequential requires.

    Returns:
        a LayerModule, or a FlowModule for a Flow.

    Raises:
        TypeError: `layer` is neither a Layer nor a Flow; `memory` is "store" for an Exact; the state of a TorchNet is
            not that of its nn.Module; or, in a call, an input has another dtype than the layer.
        ValueError: `memory` is unknown; `logdet` is False for a Flow; or, in a call, an input lies on another device.

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
    """The base of LayerModule and FlowModule: an nn.Module with the parts of a layer as submodules.

    Args:
        part: the Layer or Flow.
        memory: as in `as_module`.
    """

    def __init__(self, part: Layer | Flow, memory: str):
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
        """Returns z and logdet of a layer of this module."""
        # PyTorch's compiler, if it is loaded, must not trace the functions that are called from here.
        if "torch._dynamo" in sys.modules and not torch.compiler.is_exporting():
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
                    f"before, and freeze by requires_grad_(False) afterwards"
                )
        learned = self._learned_of_layer
        return Through.apply(layer, learned, self._layer_array(), x, cond, *[share.tensor for share in learned])

    def _inputs(self, x, cond):
        """Matches the layer's arrays with the module's tensors; checks and converts the arguments of a call."""
        self._check_states()
        if not (transforms_are_active() or torch.compiler.is_exporting()):  # there, tensors have no memory
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
        """Raises RuntimeError if Parameters or Buffers of the layer were replaced since this module was made."""
        states = self._part.derived(
            "states of the module", lambda: {id(state): state for _, state in self._part.named_state()}
        )
        if states is not self._states:
            if states.keys() != {id(share.state) for share in self._shares}:
                raise RuntimeError(
                    f"parts of the {type(self._part).__name__} were replaced since as_module(layer) made this module, "
                    f"whose parameters are those of before: call as_module again"
                )
            self._states = states

    def _layer_array(self):
        return self._shares[0].state.data if self._shares else None

    @torch.no_grad()
    def _apply(self, function, recurse=True):
        for tensor in {
            share.dtype: share.tensor for share in self._shares if share.tensor.is_floating_point()
        }.values():
            check_dtype(function(tensor.new_empty(0)).dtype)  # raises before anything is changed
        super()._apply(function, recurse)
        for share in self._unregistered:
            share.tensor.data = function(share.tensor)
        for share in self._shares:
            share.tensor.data = share.tensor.data.contiguous()  # a memory_format is meant for images, not for weights
            share.meet()
        return self


def _saved(module, state, prefix, metadata):
    module._keys.save(state, prefix)


def _before_loading(module, state, prefix, *_):
    module._keys.load(state, prefix)


def _loaded(module, incompatible):
    for share in module._shares:  # assign=True makes several tensors of one that is in several places
        share.put(share.tensor)


FLOATS = (torch.float32, torch.float64)
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class LayerModule(Bridge):
    """The nn.Module of a Layer, made by `as_module`.

    `module.layer` is the layer; but if the layer has a part of this name, as Reverse has, it is the submodule of that.
    """

    _part: Layer

    def __init__(self, layer: Layer, memory: str, logdet: bool):
        super().__init__(layer, memory)
        self._logdet = logdet

    def __getattr__(self, name):
        if name == "layer" and name not in self._modules:
            return self._part
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self._logdet else ", logdet=False")

    def forward(self, x: Array, cond: Cond = None) -> Any:
        """Maps x (N, C, *spatial) to z; returns z and logdet (N,), or z alone if the module was made with logdet=False.

        Raises:
            TypeError, ValueError, RuntimeError: an input has another dtype, device or shape than the layer takes, or a
                transform needs memory="store".
        """
        z, logdet = self._through(self._part, x, cond)
        return (z, logdet) if self._logdet else z

    def inverse(self, z: Array, cond: Cond = None) -> Array:
        """Maps z back to x. For the log-determinant of this map as well, use as_module(Reverse(layer))."""
        return self._through(Reverse(self._part), z, cond)[0]

    @torch.no_grad()
    def initialize(self, x: Array, cond: Cond = None) -> Array:
        """Sets the parameters that start from data, and returns z."""
        return _initialized(self, self._part, x, cond)


class FlowModule(Bridge):
    """The nn.Module of a Flow, made by `as_module`. Autograd differentiates the computations of its base."""

    _part: Flow

    def __init__(self, flow: Flow, memory: str):
        super().__init__(flow, memory)

    @property
    def flow(self) -> Flow:
        return self._part

    def forward(self, x: Array, cond: Cond = None) -> Array:
        """Returns log_prob(x, cond)."""
        return self.log_prob(x, cond)

    def log_prob(self, x: Array, cond: Cond = None) -> Array:
        """Returns the log density of each sample of x (N, C, *spatial), an array (N,), in nats."""
        self._part.check_shape(x)
        z, logdet = self._through(self._part.layer, x, cond)
        return self._base_log_prob(z) + logdet

    def sample(self, n: int, cond: Cond = None, temperature: float = 1.0, seed: Seed = None) -> Array:
        """Draws samples (n, C, *spatial). They can be differentiated if those of the base are smooth maps of noise.

        Args:
            n: the number of samples.
            cond: one row for each sample, or one row for all; None without a condition.
            temperature: a factor on the standard deviation of the base.
            seed: an int or a numpy Generator; None takes a seed from PyTorch's generator.

        Raises:
            ValueError: `cond` has another number of rows.
            NotImplementedError: in backward, the base's samples are no smooth map of noise, as those of a learned
                mixture.
        """
        return self._sampled(self._noise(n, temperature, seed), cond)[0]

    def sample_and_log_prob(
        self, n: int, cond: Cond = None, temperature: float = 1.0, seed: Seed = None
    ) -> tuple[Array, Array]:
        """Draws samples, and returns them with their log density (n,) at temperature 1. Arguments as in `sample`."""
        z = self._noise(n, temperature, seed)
        x, logdet = self._sampled(z, cond)
        return x, self._base_log_prob(z) - logdet

    def sample_for(self, n: int, cond: Cond, temperature: float = 1.0, seed: Seed = None) -> Array:
        """Draws n samples for each of the M rows of `cond`, (M, n, C, *spatial). Other arguments as in `sample`."""
        return self.sample(n * len(cond), cond.repeat_interleave(n, 0), temperature, seed).unflatten(0, (len(cond), n))

    @torch.no_grad()
    def initialize(self, x: Array, cond: Cond = None) -> Array:
        """Sets the layer's parameters that start from data, and returns z."""
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
    """Marks samples that are no smooth map of noise. Backward raises an error, since they have no gradient."""

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


# PyTorch's compiler would trace calls into the layer, down to NumPy. Its graphs end at these methods instead.
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
