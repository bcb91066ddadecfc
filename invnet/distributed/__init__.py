"""Training in several processes, on torch.distributed: each has a part of every batch, and all the same weights."""

from ..process_group import WorkerLost
from .joining import joined
from .reducer import Reducer

__all__ = ["Reducer", "WorkerLost", "joined"]
