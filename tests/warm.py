"""Compiles the kernels of one dtype, so that the workers of a test run find them compiled.

python tests/warm.py float32
"""

import sys
import warnings

import numpy as np

import invnet

CHANNELS = 4


def models(dtype):
    """Models that between them use nearly all kernels, each with the shape of its data and of its condition."""
    options = {"seed": 0, "dtype": dtype}
    yield invnet.Glow(CHANNELS, 8, 2, 2, **options), (CHANNELS, 8, 8), None
    yield invnet.Glow(CHANNELS, 8, 1, 1, mix="householder", **options), (CHANNELS, 8, 8), None
    yield invnet.Glow(CHANNELS, 8, 1, 1, cond_channels=2, **options), (CHANNELS, 8, 8), (2,)
    yield invnet.Glow(CHANNELS, 8, 1, 2, ndim=0, mix="householder", **options), (CHANNELS,), None
    for make in (invnet.RealNVP, invnet.MAF, invnet.IAF, invnet.NSF):
        yield make(CHANNELS, 8, 2, **options), (CHANNELS,), None
    yield invnet.NSF(CHANNELS, 8, 2, cond_channels=2, **options), (CHANNELS,), (2,)
    yield invnet.PlanarFlow(CHANNELS, 2, **options), (CHANNELS,), None
    yield invnet.RadialFlow(CHANNELS, 2, **options), (CHANNELS,), None
    yield invnet.Exact(invnet.Glow(CHANNELS, 8, 1, 1, **options)), (CHANNELS, 8, 8), None


def warm(dtype):
    rng = np.random.default_rng(0)
    for net, shape, size in models(dtype):
        X = rng.standard_normal((8, *shape)).astype(dtype)
        cond = None if size is None else rng.standard_normal((8, *size)).astype(dtype)
        net.initialize(X, cond)
        Z, _ = net.forward(X, cond)
        net.backward(Z, Z, None, cond)
        net.inverse(Z, cond)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    warm(sys.argv[1])
