"""What a user may choose: the memory of a tile, and TensorFloat-32."""

import contextlib
import numbers
import threading

_setting, _here = {"workspace": 512 << 20, "tf32": False}, threading.local()


def set_workspace(size):
    """Sets how many bytes the activations of one tile may take, at least 1 MiB and at most 4 GiB; 512 MiB unless set.

    A step holds four arrays of the input's size beside it. Results depend on it by rounding only.
    """
    if not isinstance(size, numbers.Integral) or isinstance(size, bool) or not 1 << 20 <= size <= 4 << 30:
        raise ValueError(f"the workspace is an integer number of bytes, from 1 MiB to 4 GiB; got {size!r}")
    _setting["workspace"] = int(size)


def workspace():
    return _setting["workspace"]


def set_tf32(allowed):
    """Whether the products of conditioners may round float32 factors to TensorFloat-32, of 10 bits; not unless set.

    It concerns the convolutions and dense layers of conditioners, but for masked ones. The channel mix, ActNorm and all
    that rebuilds activations stay float32. Leave CuPy's own CUPY_TF32 unset, which concerns every product.
    """
    if not isinstance(allowed, bool):
        raise TypeError(f"set_tf32 takes True or False; got {allowed!r}")
    _setting["tf32"] = allowed


def tf32():
    return _setting["tf32"] and not getattr(_here, "in_full", False)


@contextlib.contextmanager
def in_full_precision():
    """Within, in this thread, no product is in TensorFloat-32."""
    before, _here.in_full = getattr(_here, "in_full", False), True
    try:
        yield
    finally:
        _here.in_full = before
