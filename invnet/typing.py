"""The types that public signatures name."""

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

#: An array of any engine: numpy.ndarray, cupy.ndarray or torch.Tensor. They share no type that a checker knows.
Array: TypeAlias = Any
#: A condition: an array (N, K) or (N, K, *spatial), integer labels (N,), a Condition whose gradient is wanted, or None.
Cond: TypeAlias = Any
#: "float32" or "float64", or a dtype of NumPy.
DType: TypeAlias = str | np.dtype | type
#: The path of a file or a folder.
Path: TypeAlias = str | os.PathLike
#: Where random numbers begin: an int, a generator that goes on, or None for others in each call.
Seed: TypeAlias = int | np.random.Generator | None
#: The sizes of an array's axes.
Shape: TypeAlias = Sequence[int]
