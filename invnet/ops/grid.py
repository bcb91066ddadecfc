"""Grid: fixed-point numbers that a floating-point dtype represents exactly."""

import functools
import math
import numbers

#: Bytes of a dtype -> digits of the integers. float32 represents integers up to 2 ** 24 exactly. In float64 three bits
#: are left free for the rounding of a product and a quotient.
DIGITS = {4: 24, 8: 50}


class Grid:
    """The numbers n * step for integers n from -most to most. Floats of `itemsize` bytes represent them exactly.

    Args:
        limit: the largest number, a power of two.
        itemsize: 4 for float32, 8 for float64.
    """

    def __init__(self, limit: float, itemsize: int) -> None:
        self.limit, self.most = limit, 2.0 ** DIGITS[itemsize]
        self.step = limit / self.most

    def check(self, largest: float) -> None:
        """Raises ValueError if the number of steps `largest`, the largest in absolute value, is NaN or too large."""
        if not largest <= self.most:
            raise ValueError(
                f"an exact state lies from -{self.limit:g} to {self.limit:g}, in steps of {self.step:.3g}; got "
                f"{largest * self.step:.6g}: scale the data, or give Exact a larger limit, with larger steps, or "
                f"float64"
            )


@functools.cache
def grid_of(limit: float, itemsize: int) -> Grid:
    """Returns the Grid with this limit; the same object in every call."""
    return Grid(limit, itemsize)


def is_power_of_two(number: object) -> bool:
    """Returns whether it is a positive, finite number whose logarithm to base 2 is an integer."""
    return (
        isinstance(number, numbers.Real)
        and not isinstance(number, bool)
        and 0 < float(number) < math.inf
        and math.frexp(float(number))[0] == 0.5
    )
