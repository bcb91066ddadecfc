"""Memory does not grow with depth: the peak of forward and backward above parameters and gradients."""

import tracemalloc

import numpy as np
import pytest

import invnet


def glow(steps, X, levels=2):
    return invnet.Glow(X.shape[1], hidden=32, levels=levels, steps=steps, ndim=X.ndim - 2)


def peak_bytes(steps, X, model=glow, **options):
    """The peak of forward + loss + backward above what is held before, parameters and gradients included there."""
    net = model(steps, X, **options)
    net.initialize(X)
    Z, _ = net.forward(X[:2])  # makes the plans of fused groups, a part of the model
    net.backward(Z, Z)
    net.zero_grad()  # gradients that are added to are copied first, see docs/stability.md
    tracemalloc.start()
    Z, logdet = net.forward(X)
    _, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
    net.backward(dZ, Z, dlogdet)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.fixture
def one_thread():
    """One worker, so that no thread makes its scratch memory while others are measured."""
    before = invnet.num_threads()
    invnet.set_num_threads(1)
    yield
    invnet.set_num_threads(before)


@pytest.mark.parametrize("shape", [(8, 3, 64, 64), (20000, 8)], ids=["images", "vectors"])
def test_peak_is_the_same_from_4_to_64_steps(shape, one_thread):
    X = np.random.default_rng(0).standard_normal(shape).astype("float32")
    # Compiles kernels, makes the thread's tile of scratch memory: of 16 steps, where a coupling is measured, which
    # takes some more.
    peak_bytes(16, X)
    peaks = {steps: peak_bytes(steps, X) for steps in (4, 16, 64)}
    # 16 KB is for Python's own objects, lists of layers and closures, which are not a share of the arrays.
    assert max(peaks.values()) <= 1.02 * min(peaks.values()) + 16384, peaks


def autoregressive_nsf(dim, hidden, steps):
    return invnet.NSF(dim, hidden, steps, autoregressive="forward")


@pytest.mark.parametrize("model", [invnet.MAF, invnet.IAF, autoregressive_nsf])
def test_peak_of_an_autoregressive_model_is_the_same_from_4_to_64_steps(model, one_thread):
    X = np.random.default_rng(0).standard_normal((10000, 6)).astype("float32")
    make = lambda steps, X: model(X.shape[1], 32, steps)
    peak_bytes(4, X, make)
    peaks = {steps: peak_bytes(steps, X, make) for steps in (4, 16, 64)}
    assert max(peaks.values()) <= 1.02 * min(peaks.values()) + 16384, peaks


class Stores(invnet.Glow):
    """A Glow that keeps what it computed, as an autograd library does."""

    def forward(self, X, cond=None):
        Y, self.kept = self.layers[0].forward(X)[0], []
        for layer in self.layers[1:-1]:
            Y = layer.forward(Y)[0]
            self.kept.append(Y)
        return super().forward(X)


def test_a_network_that_stores_would_fail(one_thread, monkeypatch):
    X = np.random.default_rng(0).standard_normal((8, 3, 64, 64)).astype("float32")
    monkeypatch.setattr(invnet, "Glow", Stores)
    peaks = [peak_bytes(steps, X, levels=1) for steps in (4, 4, 16)]
    assert peaks[2] > 1.02 * peaks[1] + 16384
