"""Grid: the fixed-point numbers that a dtype of floats holds exactly."""

import functools
import math
import numbers

#: Integers to 2 ** 24 are exact in float32. Those of float64 leave three bits, in which a product and a quotient may
#: round.
DIGITS = {4: 24, 8: 50}


class Grid:
    """The numbers n * step with integers n from -most to most, all exact as floats of `itemsize` bytes.

    Args:
        limit: the largest of them, a power of two.
        itemsize: 4 or 8.
    """

    def __init__(self, limit, itemsize):
        self.limit, self.most = limit, 2.0 ** DIGITS[itemsize]
        self.step = limit / self.most

    def check(self, largest):
        """ValueError where a state of `largest` steps, or NaN, is no number of the grid."""
        if not largest <= self.most:
            raise ValueError(
                f"an exact state lies from -{self.limit:g} to {self.limit:g}, in steps of {self.step:.3g}; got "
                f"{largest * self.step:.6g}: scale the data, or give Exact a larger limit, with larger steps, or "
                f"float64"
            )


@functools.cache
def grid_of(limit, itemsize):
    return Grid(limit, itemsize)


def is_power_of_two(number):
    return (
        isinstance(number, numbers.Real)
        and not isinstance(number, bool)
        and 0 < number < math.inf
        and math.frexp(number)[0] == 0.5
    )
