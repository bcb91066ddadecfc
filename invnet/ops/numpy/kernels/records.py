"""The rows of tables that compiled functions read, as structured dtypes: what each number is called."""

import numpy as np
from numba import from_dtype

#: A layer of a group.
LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "kind",  # its number in KINDS of tables.py
            "state",  # where the addresses of its states begin
            "offset",  # where it begins in P and G
            "first",  # of one with a conditioner: the first of its rows in the table of UNITS
            "last",  # and the last
            "groups",  # how many groups of channels; of reflections how many; in images how many channels pass
            "ends",  # where in `index` the groups' ends lie
            "order",  # where in `index` the order of the channels lies, of a permutation as well
            "reads_z",  # whether the conditioner sees Z
            "scale",  # the number of its scale in affine.py
            "bins",  # how many bins its spline has, or 0
        )
    ]
)
#: A layer of a conditioner. Rows are those of `work`.
UNITS = np.dtype(
    [
        (name, np.int64)
        for name in (
            "inputs",  # how many inputs
            "units",  # how many units
            "activation",  # the address of its activation
            "weights",  # where its weights begin in P and G
            "bias",  # and its bias
            "rows_in",  # the first row of the inputs
            "rows_out",  # of the units
            "rows_before",  # of the units before the activation
            "rows_gradient",  # of the units' gradients
            "ends_in",  # where in `index` the ends of the inputs' steps lie
            "ends_out",  # of the units' steps
            "weight_rows",  # the row of each input in a flat matrix of weights
            "weight_columns",  # the column of each unit
        )
    ]
)
#: Where in `work` a group of vectors has its rows, and how long some of them are.
LAYOUT = np.dtype(
    [
        (name, np.int64)
        for name in (
            "pitch",  # how far apart two rows are
            "steps",  # where in `index` the multiples of the number of channels lie
            "spare",  # the first spare row
            "zeros",  # the first row of zeros
            "zeros_size",  # how many zeros there are
            "panel",  # the first row of a product's panel
            "widest",  # the most inputs, or units, that a layer of a conditioner has
            "scratch",  # where the memory begins that a map of one channel needs
        )
    ]
)
#: name in signatures -> Numba's type
TYPES = {"layer": from_dtype(LAYER), "units": from_dtype(UNITS), "layout": from_dtype(LAYOUT)}
