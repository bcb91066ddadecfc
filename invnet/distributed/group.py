"""Group: the processes of a torch.distributed group."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist

from .. import process_group
from .reducer import Reducer

if TYPE_CHECKING:
    from typing import Any

    from ..core import Module
    from ..ops.reference import Ops
    from ..optim import Optimizer
    from ..typing import Array


class Group(process_group.SingleProcess):
    """The processes of the default group of torch.distributed, on arrays of any engine.

    Raises:
        WorkerLost: of every method that speaks with the others.
    """

    def __init__(self):
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def sum(self, array: Array) -> Array:
        self.start_sum(array).wait()
        return array

    def start_sum(self, array: Array) -> Sum:
        """Starts to sum the ranks' arrays into each; `wait()` of what it gives returns when that is done."""
        tensor = as_tensor(array)
        with self._speaking():
            return Sum(self, tensor, dist.all_reduce(tensor, async_op=True))

    def any(self, flag: Array) -> bool:
        return bool(self.sum(np.array([flag], "float32"))[0] > 0)

    def of_first(self, value: Any) -> Any:
        values = [value]
        with self._speaking():
            dist.broadcast_object_list(values)
        return values[0]

    def broadcast(self, module: Module) -> None:
        module.load_state_dict(self.of_first(module.state_dict() if self.rank == 0 else None))

    def moments(self, ops: Ops, R: Array) -> tuple[Array, Array]:
        n = R.shape[0]
        N = float(self.sum(np.array([n], "float64"))[0])
        own, within = super().moments(ops, R)
        mean = self.sum(own * (n / N))
        # The variance of all is that within the ranks and that between their means.
        return mean, self.sum((within + (own - mean) ** 2) * (n / N))

    def synchronising(self, module: Module, optimizer: Optimizer) -> Reducer:
        return Reducer(self, module, optimizer)

    @contextlib.contextmanager
    def _speaking(self):
        try:
            yield
        except RuntimeError as error:
            reason = str(error).strip().partition(". ")[0].partition("\n")[0]
            raise process_group.WorkerLost(f"rank {self.rank} of {self.size} lost another worker: {reason}") from error


class Sum:
    """A sum over the ranks that is under way."""

    def __init__(self, group: Group, tensor: Array, work: Any):
        self._group, self._tensor, self._work = group, tensor, work

    def wait(self) -> None:
        with self._group._speaking():
            self._work.wait()
        if self._tensor.is_cuda:  # torch's stream has waited, another library's has not
            torch.cuda.current_stream().synchronize()


def as_tensor(array: Array) -> torch.Tensor:
    """A tensor in the memory of an array of any engine; on a GPU, torch's stream waits for what was queued on the
    array.
    """
    return array if isinstance(array, torch.Tensor) else torch.from_dlpack(array)
