"""What is not finite, and the sample at which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core import get_ops

if TYPE_CHECKING:
    from typing import Any

    from ..typing import Array

SHOWN = 16  # of the numbers of a sample, in an error


def check_finite(value: Any, name: str, X: Array) -> None:
    """FloatingPointError where `value`, (N,) or of the shape of X, is not finite at a sample of X; it shows the
    first.
    """
    ops = get_ops(value)
    if bool(ops.xp.isfinite(value).all()):
        return
    value, X = ops.to_numpy(value), ops.to_numpy(X)
    wrong = ~np.isfinite(value.reshape(len(X), -1)).all(axis=1)
    n = int(np.argmax(wrong))
    raise FloatingPointError(
        f"{name} is not finite at {wrong.sum()} of {len(X)} samples; at sample {n} it is {_shown(value[n])}, "
        f"with x = {_shown(X[n])}"
    )


def _shown(x):
    return np.array2string(np.asarray(x), precision=6, threshold=SHOWN, edgeitems=4, separator=", ").replace("\n", "")
