"""The processes that train together: one, where nothing else is said."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .typing import Array


class WorkerLost(ConnectionError):
    """Another process of the training is gone, or cannot be reached."""


class SingleProcess:
    """A training of one process, which has the whole batch; what training asks of several is `Group` in
    invnet/distributed/group.py.

    All ranks make the same calls in the same order. Where there is only one, each gives what it was given.
    """

    rank, size = 0, 1

    @property
    def writes(self) -> bool:
        """Whether this rank writes files, prints and draws: rank 0 does."""
        return self.rank == 0

    def shard(self, n: int) -> slice:
        """The slice of n samples that is this rank's; their lengths differ by one at most."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def sum(self, array: Array) -> Array:
        """The sum of all ranks' arrays, in the memory of `array`."""
        return array

    def any(self, flag: Array) -> bool:
        """Whether the flag is set on any rank."""
        return flag

    def of_first(self, value: object) -> object:
        """Rank 0's value."""
        return value

    def broadcast(self, module: Any) -> None:
        """Gives `module` the parameters and buffers that it has on rank 0."""

    def moments(self, ops: Any, R: Array) -> tuple[Array, Array]:
        """Mean and variance (C,) of the rows (n, C) of all ranks together."""
        return ops.xp.mean(R, axis=0), ops.xp.var(R, axis=0)

    def synchronising(self, module: Any, optimizer: object) -> Any:
        """A function of a share that gives a context for one backward pass; after it gradients are those of all ranks.

        `share` is the part of the batch's samples that this rank has. Gradients of a mean over the rank's samples
        become those of the mean over the batch.
        """
        return lambda share=1.0: _nothing


_nothing = contextlib.nullcontext()
_joined = [SingleProcess()]


def current() -> Any:
    """The Group that this process joined, or SingleProcess."""
    return _joined[-1]


@contextlib.contextmanager
def using(group: SingleProcess) -> Iterator[SingleProcess]:
    """Within, `current()` is `group`, in all threads: a process has one place among the others."""
    _joined.append(group)
    try:
        yield group
    finally:
        _joined.pop()
