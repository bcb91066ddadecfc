"""The old name of invnet.ops.cupy."""

import sys
import warnings

from . import cupy

warnings.warn(
    "invnet.ops.cupy_engine is invnet.ops.cupy now; the old name goes with invnet 0.3", DeprecationWarning, stacklevel=2
)
sys.modules[__name__] = cupy
