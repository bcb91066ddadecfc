"""What the fuzz tests draw: arrays of any kind, and what an answer or an error has to be."""

import pathlib
import re
import traceback
import warnings

import numpy as np
from hypothesis import strategies as st

import invnet

LIBRARY = str(pathlib.Path(invnet.__file__).parent)

# ---- arrays: the same numbers in other memory


def _in_order(axes):
    def laid_out(X):
        order = axes(X.ndim)
        return np.ascontiguousarray(X.transpose(order)).transpose(np.argsort(order))

    return laid_out


def _every_second(X):
    larger = np.full((*X.shape[:-1], 2 * X.shape[-1]), 7, X.dtype) if X.ndim else X
    larger[..., ::2] = X
    return larger[..., ::2] if X.ndim else X


def _backwards(X):
    return np.ascontiguousarray(X[(slice(None, None, -1),) * X.ndim])[(slice(None, None, -1),) * X.ndim]


def _read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def _misaligned(X):
    memory = np.zeros(X.nbytes + 1, np.uint8)
    odd = memory[1:].view(X.dtype).reshape(X.shape)
    odd[...] = X
    return odd


LAYOUTS = {
    "C": np.copy,
    "Fortran": _in_order(lambda n: tuple(reversed(range(n)))),
    "channels last": _in_order(lambda n: (0, *range(2, n), 1) if n > 2 else tuple(range(n))),
    "every second": _every_second,
    "backwards": _backwards,
    "read-only": _read_only,
    "other byte order": lambda X: X.astype(X.dtype.newbyteorder()),
    "read-only, other byte order": lambda X: _read_only(X.astype(X.dtype.newbyteorder())),
    "misaligned": _misaligned,
}

VALUES = {
    "huge": lambda X: np.sign(X) * 1e30,
    "the largest": lambda X: np.sign(X) * np.finfo(X.dtype).max,
    "denormal": lambda X: np.sign(X) * np.finfo(X.dtype).smallest_subnormal,
    "zero": lambda X: 0 * X,
    "infinite": lambda X: np.sign(X) * np.inf,
    "NaN": lambda X: X * np.nan,
}

#: What is no array of float32 or float64.
FOREIGN = {
    "integers": lambda X: X.astype(np.int64),
    "bytes": lambda X: X.astype(np.int8),
    "bool": lambda X: X > 0,
    "float16": lambda X: X.astype(np.float16),
    "complex": lambda X: X.astype(np.complex64),
    "long double": lambda X: X.astype(np.longdouble),
    "objects": lambda X: X.astype(object),
    "text": lambda X: X.astype(str),
    "dates": lambda X: X.astype(np.int64).astype("M8[s]"),
    "the other precision": lambda X: X.astype({4: np.float64, 8: np.float32}[X.itemsize]),
    "a list": lambda X: X.tolist(),
    "none": lambda X: None,
    "a number": lambda X: 1.5,
    "a string": lambda X: "X",
    "a memoryview": lambda X: memoryview(np.ascontiguousarray(X)),
    "a scalar array": lambda X: X.dtype.type(1.5),
}


@st.composite
def shapes(draw, shape):
    """A shape of the same family as `shape`, or any other, small and at times empty."""
    how = draw(st.sampled_from(("another N", "another N", "empty axis", "another size", "another rank", "any")))
    shape = list(shape)
    if how == "another N":
        shape[0] = draw(st.integers(0, 5))
    elif how in ("empty axis", "another size"):
        shape[draw(st.integers(0, len(shape) - 1))] = 0 if how == "empty axis" else draw(st.integers(0, 6))
    elif how == "another rank":
        shape = shape[:-1] if draw(st.booleans()) else [*shape, draw(st.integers(0, 3))]
    else:
        shape = draw(st.lists(st.integers(0, 4), max_size=6))
    return tuple(shape)


def layout(draw):
    return LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))]


# ---- answers and errors


def answered(call):
    """(True, the arrays that a call gives) or (False, the text of its error), which must be one of invnet's own.

    A warning is an error here, and one that is not right.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings(
            "ignore", "the input of .* was rebuilt|.* condition number", RuntimeWarning
        )  # once for a layer, and true
        try:
            return True, call()
        except (ValueError, TypeError, NotImplementedError, FloatingPointError) as error:
            assert_of_invnet(error)
            return False, str(error)


def assert_of_invnet(error):
    """The error was raised by a line of the library that says `raise`, and its text says what came."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} at {frame.filename}:{frame.lineno}: {error}"
    assert frame.filename.startswith(LIBRARY), f"an error from within another library: {where}"
    assert re.search("got|needs|only with|is not finite at", str(error)), (
        f"an error that does not say what came: {where}"
    )


def assert_alike(a, b):
    """Two calls both gave an answer, or both were refused."""
    assert a[0] == b[0], f"one call was answered, the other refused: {b[1] if a[0] else a[1]}"


def assert_same(found, expected, what, rtol=0.0, atol=0.0):
    assert found.shape == expected.shape, f"{what} has shape {found.shape}, not {expected.shape}"
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol, equal_nan=True, err_msg=what)


class Unchanged:
    """The arguments of a call, whose bytes must stay what they are."""

    def __init__(self, *arguments):
        self.arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        self.before = [(a.dtype, a.shape, a.strides, a.tobytes()) for a in self.arrays]

    def assert_so(self):
        after = [(a.dtype, a.shape, a.strides, a.tobytes()) for a in self.arrays]
        assert after == self.before, "a call changed its arguments"
