"""TorchNet: any nn.Module as a conditioner."""

from __future__ import annotations

import contextlib
import inspect
import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.weak import WeakTensorKeyDictionary

from ..arguments import check_integers, check_unused, is_integer, shown
from ..core import Buffer, Conditioner, Parameter
from ..ops.torch.precision import reduced
from ..ops.torch.recording import engine_outside, is_recording
from ..passes import name_in_pass
from .randomness import Draw
from .share import Share
from .tensors import array_of, tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..ops.tile import Tile
    from ..typing import Array, Cond

BATCH_NORM = ("refuse", "update once")

#: nn.Parameter or buffer -> Parameter or Buffer, which several TorchNets of one module share
_states = WeakTensorKeyDictionary()


class TorchNet(Conditioner):
    """An nn.Module as a conditioner, y = module(x) or y = module(x, cond). Autograd differentiates one tile at a time.

    So memory does not grow with depth, whatever the module contains. The layer and the module share their parameters,
    in the same memory, on every engine and also after `to`. Parameters with requires_grad=False at construction are not
    learned. Buffers are saved with the layer. A module may be used in several TorchNets.

    A module in training mode draws its dropout masks once for each forward pass, and the backward pass uses them again.
    Call `module.eval()` before evaluating densities or drawing samples, as always in PyTorch.

    Args:
        module: maps x (N, C_in, *spatial), contiguous, and cond if there is one, to y (N, C_out, *spatial).
        shape: the shape of one sample of x, (C_in, *spatial), with which to measure how many floats an evaluation needs
            (`floats_per_position`). Without it, 1024 for each position are assumed.
        cond_shape: the shape of one sample of the condition, if the module takes one.
        reach: how many positions around its own an output depends on, along each spatial axis; None for all positions,
            as with attention. With a reach, images too large for a tile are cut into blocks. Without, a tile consists
            of whole samples.
        batch_norm: what to do with batch norm in training mode, which normalises by the tile. "refuse" raises an error.
            "update once" allows it, and updates the running statistics in the forward pass only.

    Raises:
        ValueError: `batch_norm` is unknown, or an option has no effect.
        TypeError: `module` is no nn.Module, or has parameters of another dtype than float32 or float64, or of both.
        RuntimeError: in a call, batch norm is refused, or the module changes a buffer.

    References:
        Gomez, Ren, Urtasun & Grosse, The Reversible Residual Network, 2017 (any network inside). Chen, Xu, Zhang &
        Guestrin, Training Deep Nets with Sublinear Memory Cost, 2016 (recomputing, and its random numbers).
    """

    #: A ViT of width 64 on 1024 positions at once takes two thirds of the time that it takes on 256 at a time.
    overhead = 16

    def __init__(
        self,
        module: nn.Module,
        shape: tuple[int, ...] | None = None,
        cond_shape: tuple[int, ...] | None = None,
        reach: int | None = None,
        batch_norm: str = "refuse",
    ):
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"a TorchNet takes a torch.nn.Module; got "
                f"{shown(module) if isinstance(module, type) else type(module).__name__}"
            )
        if batch_norm not in BATCH_NORM:
            raise ValueError(f"batch_norm is one of {', '.join(BATCH_NORM)}; got {batch_norm!r}")
        check_integers(reach=0 if reach is None else reach)
        for name, sizes in (("shape", shape), ("cond_shape", cond_shape)):
            if sizes is not None and not (isinstance(sizes, (tuple, list)) and all(map(is_integer, sizes))):
                raise TypeError(f"{name} is that of one sample, integers (C, *spatial); got {shown(sizes)}")
        dtypes = {tensor.dtype for tensor in module.parameters()}
        if len(dtypes) > 1 or dtypes - {torch.float32, torch.float64}:
            raise TypeError(
                f"a TorchNet computes in float32 or in float64; the module has parameters of {sorted(map(str, dtypes))}"
            )
        self.module, self.reach, self._batch_norm = module, reach, batch_norm
        places = {}
        for tensors in (tensors for part in module.modules() for tensors in (part._parameters, part._buffers)):
            for key, tensor in tensors.items():
                places.setdefault(id(tensor), []).append((tensors, key))
        self.shares = {
            name: Share(_state_of(tensor), places[id(tensor)], inner=True)
            for named in (module.named_parameters(), module.named_buffers())
            for name, tensor in named
        }
        self._norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
        if batch_norm != "refuse" and not self._norms:
            check_unused("on a module without batch norm", batch_norm=batch_norm)
        if shape is None:
            check_unused("without shape", cond_shape=cond_shape)
        takes = inspect.signature(module.forward).parameters.values()
        if not any(p.kind is p.VAR_POSITIONAL for p in takes) and sum(p.kind is not p.KEYWORD_ONLY for p in takes) < 2:
            self.cond_channels = 0
        if shape is not None:
            self.kept_per_position, self.floats_per_position = self._measured(shape, cond_shape)

    def _within(self):
        yield from super()._within()
        yield from ((name, share.state) for name, share in self.shares.items())

    def forward(self, x: Array, cond: Cond = None) -> Array:
        return self._forward(x, cond)

    def vjp(self, x: Array, cond: Cond = None) -> tuple[Array, Callable]:
        return self._vjp(x, cond)

    def rng_state(self) -> object:
        training = any(module.training for module in self.module.modules())
        if training and torch.compiler.is_exporting():
            raise RuntimeError(
                f"{name_in_pass(self)} may draw random numbers in training: call eval() before it is exported"
            )
        return Draw(any(norm.training for norm in self._norms)) if training else None

    def with_rng(self, draw: object, tile: Tile | None, again: bool) -> object:
        return _OnTile(self, draw, tile, again)

    def _forward(self, x, cond, *on_tile):
        if is_recording():
            return self._recorded(x, cond, *on_tile)
        with torch.no_grad():
            return array_of(self._evaluate(self._inputs(x, cond), _precision(x), *on_tile), x)

    def _recorded(self, x, cond, draw=None, *_):
        """Returns y of the whole batch, with the random numbers that the rebuilding mode draws tile by tile."""
        self._check_norms()
        if draw is None:
            return self._evaluate([x] if cond is None else [x, cond], None)
        weights = sum(parameter.data.numel() for parameter in self.parameters())
        tiles, y = engine_outside().tiles(x.shape, self.floats_per_position, self.reach, weights // self.overhead), None
        for i, tile in enumerate(tiles):
            inputs = [tile.region(x)] if cond is None else [tile.region(x), tile.condition(cond)]
            part = tile.inner(self._evaluate(inputs, None, draw, i))
            y = part.new_zeros((x.shape[0], part.shape[1], *x.shape[2:])) if y is None else y
            tile.core(y)[...] = part
        return y

    def _vjp(self, x, cond, draw=None, *on_tile):
        with torch.inference_mode(False), torch.enable_grad():
            inputs = [tensor.requires_grad_() for tensor in self._inputs(x, cond)]
            y = self._evaluate(inputs, _precision(x), draw, *on_tile)
        learned = [share.tensor for share in self.shares.values() if isinstance(share.state, Parameter)]

        def pullback(dy):
            tensors, dy = [*inputs, *learned], tensor_of(dy).clone()  # a gradient may be a view of it
            wanted = [i for i, tensor in enumerate(tensors) if tensor.requires_grad and y.requires_grad]
            found = dict.fromkeys(range(len(tensors)))  # None if y does not depend on a tensor
            if wanted:
                run = _at_once if draw is None else draw.run_back
                found.update(
                    zip(
                        wanted, run(lambda: torch.autograd.grad(y, [tensors[i] for i in wanted], dy, allow_unused=True))
                    )
                )
            arrays = [
                array_of(torch.zeros_like(tensors[i]) if gradient is None else gradient, x)
                for i, gradient in found.items()
            ]
            return arrays[0], None if cond is None else arrays[1], arrays[len(inputs) :]

        return array_of(y, x), pullback

    def _inputs(self, x, cond):
        self._check_norms()
        return [tensor_of(array) for array in ((x,) if cond is None else (x, cond))]

    def _check_norms(self):
        if self._batch_norm == "refuse" and any(norm.training or norm.running_mean is None for norm in self._norms):
            raise RuntimeError(
                "batch norm would normalise by the batch, so that no sample has an inverse of its own: call "
                "module.eval(), "
                'use GroupNorm or LayerNorm, or choose batch_norm="update once" to normalise by tiles in training'
            )

    def _evaluate(self, inputs, precision, draw=None, tile=0, again=False):
        # Copies, since a module may work in place, or take views that need contiguous memory.
        inputs = [tensor.clone(memory_format=torch.contiguous_format) for tensor in inputs]
        device, dtype = inputs[0].device, inputs[0].dtype
        autocast = torch.autocast(device.type, precision, enabled=precision is not None, cache_enabled=False)
        with autocast, self._still_norms(again), self._still_buffers():
            y = self._call(inputs) if draw is None else draw.run(tile, device, lambda: self._call(inputs))
        if not isinstance(y, torch.Tensor):
            raise TypeError(f"the module of a TorchNet gives a tensor; got {type(y).__name__}")
        return y if precision is None else y.to(dtype)

    def _call(self, inputs):
        if is_recording():
            return functional_call(
                self.module, {name: share.state.data for name, share in self.shares.items()}, tuple(inputs)
            )
        for share in self.shares.values():
            share.meet()
        return self.module(*inputs)

    @contextlib.contextmanager
    def _still_norms(self, again):
        """Within, if `again`, batch norm in training mode does not update its running statistics."""
        norms = [norm for norm in self._norms if again and norm.training and norm.track_running_stats]
        for norm in norms:
            norm.track_running_stats = False
        try:
            yield
        finally:
            for norm in norms:
                norm.track_running_stats = True

    @contextlib.contextmanager
    def _still_buffers(self):
        """Raises RuntimeError if a buffer is changed within, except for those of batch norm."""
        known = {id(buffer) for norm in self._norms for buffer in norm.buffers()}
        versions = [
            (name, buffer, buffer._version) for name, buffer in self.module.named_buffers() if id(buffer) not in known
        ]
        yield
        changed = [name for name, buffer, version in versions if buffer._version != version]
        if changed:
            raise RuntimeError(
                f"an evaluation of the module changed its buffers {', '.join(changed[:3])}: forward, inverse and "
                f"backward are then of different maps; module.eval() may stop that"
            )

    def _measured(self, shape, cond_shape):
        """Measures floats for each position: those that autograd keeps, and all that an evaluation needs."""
        like = next(self.module.parameters(), torch.zeros(()))
        inputs = [
            torch.zeros((2, *size), dtype=like.dtype, device=like.device)
            for size in (shape, cond_shape)
            if size is not None
        ]
        sizes, own = {}, {share.tensor.untyped_storage().data_ptr() for share in self.shares.values()}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with (
            torch.random.fork_rng(),
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            y = self._evaluate([tensor.requires_grad_() for tensor in inputs], None, again=True)
        sizes[None] = y.nbytes
        floats = like.element_size() * 2 * math.prod(shape[1:])
        kept = -(-sum(sizes.values()) // floats)
        return kept, kept + -(-3 * max(sizes.values()) // floats)  # with the gradients of the largest tensors


class _OnTile:
    """A TorchNet on one tile, with fixed random numbers."""

    def __init__(self, net: Any, *on_tile: Any):
        self.net, self.on_tile = net, on_tile

    def forward(self, x: Array, cond: Cond = None) -> Array:
        return self.net._forward(x, cond, *self.on_tile)

    def vjp(self, x: Array, cond: Cond = None) -> tuple[Array, Callable]:
        return self.net._vjp(x, cond, *self.on_tile)


def _precision(x):
    """Returns the dtype of autocast for conditioners, the same in forward and backward; None for NumPy's arrays."""
    return reduced(x.device.type) if isinstance(x, torch.Tensor) else None


def _at_once(function):
    return function()


def _state_of(tensor):
    """Returns the Parameter of a learned nn.Parameter, or the Buffer of another tensor. All TorchNets share it."""
    kind, known = Parameter if tensor.requires_grad else Buffer, _states.get(tensor)
    if type(known) is not kind:
        known = _states[tensor] = kind(array_of(tensor))
    return known
