"""The NumPy engine: compiled networks, mixes and couplings, and tiles that worker threads share."""

import functools
import math

import array_api_compat.numpy
import numpy as np

from .. import threads, tile
from ..memory import Pool
from ..reference import Ops
from .arrays import Arrays
from .channels import Channels
from .conv_stack import ConvStack
from .couplings import Couplings
from .fused_images import FusedImages
from .fused_vectors import FusedVectors
from .grid import GridNumbers
from .pointwise import Pointwise
from .squeeze import Squeezes

# A tile is a few images: a part of the batch that leaves work for some threads, but with multiplications enough to be
# worth the waking of one, and positions enough for a matrix product to reach its rate. Where one image needs more
# memory than a tile may have, a tile is a block of it.
TILES, TILE_WORK, TILE_POSITIONS, TILE_BYTES = 4, 1 << 24, 2048, 28 << 20


class NumpyOps(
    Arrays, Channels, ConvStack, Couplings, Squeezes, GridNumbers, Pointwise, FusedVectors, FusedImages, Ops
):
    """The operations on NumPy's arrays; `compiled` has what Numba makes of them."""

    name = "numpy"

    def __init__(self):
        super().__init__(array_api_compat.numpy)

    @classmethod
    def of(cls, array):
        return _numpy

    @classmethod
    def on(cls, device):
        if device:
            raise ValueError(
                f'NumPy\'s arrays lie in the host\'s memory, and its engine is "numpy"; got "numpy:{device}"'
            )
        return _numpy

    def tiles(self, shape, floats_per_position, reach, weights):
        return _tiles(tuple(shape), TILE_BYTES // (4 * floats_per_position), reach, weights)

    def host_array(self, X):
        return X

    def map_tiles(self, work, tiles, commit, memory=None):
        threads.map_tiles(work, tiles, commit, memory)

    def lasting_memory(self, size):
        return Pool(size)

    def errstate(self):
        return np.errstate(all="ignore")

    def at_work(self):
        return _AtWork()


_numpy = NumpyOps()


class _AtWork:
    """BLAS has one thread, and NumPy is quiet: what is told of infinity and NaN is told once, by who sees what they
    did.
    """

    def __enter__(self):
        self.errstate = _numpy.errstate()
        self.errstate.__enter__()
        threads.single_threaded_blas.__enter__()

    def __exit__(self, *error):
        threads.single_threaded_blas.__exit__()
        self.errstate.__exit__(*error)


@functools.lru_cache(maxsize=1024)
def _tiles(shape, most, reach, weights):
    positions, least = math.prod(shape[2:]), min(max(TILE_WORK // max(1, weights), 256), 1024)
    samples = min(max(shape[0] * positions // TILES, least), TILE_POSITIONS) // max(1, positions)
    return tile.tiles_of(shape, samples, most, reach)
