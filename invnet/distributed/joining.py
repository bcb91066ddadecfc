"""joined: this process takes its place among those that train together."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from .. import process_group
from ..ops.threads import num_threads, set_num_threads

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def joined(backend: str | None = None) -> Iterator[None]:
    """Joins the processes that the environment describes, as torchrun sets it; within, `train.fit` trains with them.

        with invnet.distributed.joined():
            invnet.train.fit(net, images, "runs/mine")

    Where torch.distributed has a group already, as in a worker of Ray Train, it is that group. The threads of a machine
    are shared among its processes, unless you set their number within.

    Args:
        backend: of torch.distributed; None is gloo for arrays in main memory and nccl for those of a GPU.

    Yields:
        a Group, the one that this process is in already where it is; or `SingleProcess` where the environment has no
        WORLD_SIZE, beside which it needs RANK, MASTER_ADDR and MASTER_PORT.

    Raises:
        ImportError: PyTorch is not installed.
    """
    if "WORLD_SIZE" not in os.environ or process_group.current().size > 1:
        yield process_group.current()
        return
    try:
        import torch
    except ImportError:
        raise ImportError("to train in several processes, invnet speaks through PyTorch: pip install torch") from None
    from .group import Group

    if torch.cuda.is_available():  # for CuPy too: the device is that of the thread, not of a library
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    ours = not torch.distributed.is_initialized()
    if ours:
        torch.distributed.init_process_group(backend)
    threads = num_threads()
    set_num_threads(max(1, threads // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    try:
        with process_group.using(Group()) as group:
            yield group
    finally:
        set_num_threads(threads)
    if ours:
        torch.distributed.destroy_process_group()  # not after an error: it may wait for ranks that are gone
