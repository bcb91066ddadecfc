"""Reducer: gradients are summed over the ranks while the backward pass goes on."""

from __future__ import annotations

import collections
import contextlib
import math
from typing import TYPE_CHECKING

import numpy as np

from ..core import Module, Parameter
from ..layers import Chain
from ..passes.context import within
from ..passes.healing import settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..optim import Optimizer
    from .group import Group

#: Six of the 24 MiB of a Glow with 16 couplings of hidden 512; one bucket would be summed when backward is done.
BUCKET_BYTES = 4 << 20


class Reducer:
    """Averages the gradients of all ranks, a bucket as soon as backward has passed its layers.

    A bucket is a piece of the optimizer's array of all gradients and is summed where it lies, nothing is copied.
    Buckets are cut from the last parameter on, as backward goes. A parameter is ready when all its uses were announced
    (`backward_hook`); one that is used outside of any Chain, and so never announced, is summed at the end.

        synchronising = Reducer(group, net, optimizer)
        with synchronising(share):
            net.backward(dZ, Z)

    Where a backward of any rank has to be healed, all ranks compute their backward again from stored states, and sum
    again; what `backward` returned is corrected in place when the context ends.

    Args:
        group: a Group.
        module: Module runs backward, a Layer or a Flow.
        optimizer: an Optimizer of its parameters, or of some of them.
        bucket_bytes: the least size of a bucket, but for the last.

    Raises:
        RuntimeError: a layer ran backward twice within one context, of which the ranks would have summed the first
            alone.
    """

    def __init__(self, group: Group, module: Module, optimizer: Optimizer, bucket_bytes: int = BUCKET_BYTES):
        self.group, self.optimizer = group, optimizer
        self._index = {id(p): i for i, p in enumerate(optimizer.parameters)}
        self._uses = collections.Counter(
            self._index[id(state)] for _, state in module.named_state() if id(state) in self._index
        )
        self._own = {}
        self._cut(bucket_bytes)

    def _cut(self, bucket_bytes):
        """The buckets, slices of the optimizer's array of gradients, and the bucket of each parameter."""
        self.buckets, self._bucket_of = [], {}
        start = stop = self.optimizer.data.shape[0]
        for i in reversed(range(len(self._index))):
            self._bucket_of[i] = len(self.buckets)
            start -= math.prod(self.optimizer.parameters[i].data.shape)
            if (stop - start) * self.optimizer.data.dtype.itemsize >= bucket_bytes or start == 0:
                self.buckets.append(slice(start, stop))
                stop = start

    @contextlib.contextmanager
    def __call__(self, share: float | None = None) -> Iterator[None]:
        """For one backward pass; at its end all gradients are averages. `share`: see `SingleProcess.synchronising`,
        None is 1/size.
        """
        self.optimizer.make_gradients()
        self._share, self._sums = 1.0 / self.group.size if share is None else share, {}
        self._left, self._waiting, deferred = self._uses.copy(), collections.Counter(self._bucket_of.values()), []
        with within(hook=self._announced, deferred=deferred):
            yield
            settle()
        self._sum_the_others()
        if self._anyone_heals(deferred):
            for healing in deferred:
                healing.heal()
            # What no backward of a layer adds to, such as a learned base, is an average already, and stays one: shares
            # add up to 1.
            self._sums = {}
            self._sum_the_others()

    def _sum_the_others(self):
        """Sums the buckets that no layer has announced, and waits for all."""
        for bucket in range(len(self.buckets)):
            if bucket not in self._sums:
                self._start(bucket)
        for each in self._sums.values():
            each.wait()

    def _anyone_heals(self, deferred):
        """Whether on any rank a backward has to be healed, and all ranks can compute theirs again."""
        flags = np.array(
            [any(healing.needed for healing in deferred), any(healing.again is None for healing in deferred)], "float32"
        )
        needed, unable = self.group.sum(flags)
        return needed > 0 and unable == 0

    def _announced(self, layer, dX, X):
        for i in self._parameters_of(layer):
            if not self._left[i]:
                raise RuntimeError(
                    f"{type(layer).__name__} ran backward more often than the module has it, after its gradients "
                    "were summed over the ranks; give each backward pass a context of its own"
                )
            self._left[i] -= 1
            if not self._left[i]:
                bucket = self._bucket_of[i]
                self._waiting[bucket] -= 1
                if not self._waiting[bucket]:
                    self._start(bucket)

    def _start(self, bucket):
        gradients = self.optimizer.buffer[self.buckets[bucket]]
        gradients *= self._share
        self._sums[bucket] = self.group.start_sum(gradients)

    def _parameters_of(self, layer):
        """Of the optimizer's parameters, those that `layer` uses outside of Chains within it, which announce their
        own.
        """
        if id(layer) not in self._own:
            own = [self._index[id(p)] for p in _outside_chains(layer) if id(p) in self._index]
            self._own[id(layer)] = layer, own[::-1]  # as the buckets go
        return self._own[id(layer)][1]


def _outside_chains(module):
    if isinstance(module, Chain):
        return
    for _, value in module._within():
        if isinstance(value, Parameter):
            yield value
        elif isinstance(value, Module):
            yield from _outside_chains(value)
