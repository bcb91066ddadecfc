"""The old name of invnet.inference.tutorial."""

import sys
import warnings

from . import tutorial

warnings.warn(
    "invnet.inference.rxinfer is invnet.inference.tutorial now; the old name goes with invnet 0.3",
    DeprecationWarning,
    stacklevel=2,
)
sys.modules[__name__] = tutorial
