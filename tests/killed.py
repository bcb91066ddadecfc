"""invnet, but rank 1 is killed in its 16th step, when its first gradients are ready."""

import itertools
import os
import signal
import sys

from invnet import cli
from invnet.distributed import Reducer

steps = itertools.count()


def start(reducer, bucket, _start=Reducer._start):
    if reducer.group.rank == 1 and bucket == 0 and next(steps) == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    _start(reducer, bucket)


Reducer._start = start
sys.exit(cli.main(sys.argv[1:]))
