"""The old name of invnet.ops.torch."""

import sys
import warnings

from . import torch

warnings.warn(
    "invnet.ops.torch_engine is invnet.ops.torch now; the old name goes with invnet 0.3",
    DeprecationWarning,
    stacklevel=2,
)
sys.modules[__name__] = torch
