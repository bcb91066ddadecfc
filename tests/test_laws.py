"""The laws on the rows of the table of cases, and that the checks themselves can fail."""

import contextlib

import numpy as np
import pytest
from cases import LAYERS, NETS, REPRESENTATIVES, representatives
from engines import rows_on_engines

import invnet
from invnet.layers import ActNorm
from invnet.testing import LAYER_LAWS, NET_LAWS, check_layer, laws, net_laws

#: The laws of the mathematics; the others are about memory, dtypes and arguments.
MATHEMATICS = {
    laws.inverse_undoes_forward,
    laws.forward_undoes_inverse,
    laws.logdet_is_that_of_the_jacobian,
    laws.inverse_logdet_is_minus_logdet,
    laws.backward_rebuilds_the_input,
    laws.gradients_are_those_of_differences,
    laws.no_dlogdet_means_the_mean_likelihood,
    laws.gradients_are_added,
    net_laws.vjp_gives_what_forward_gives,
    net_laws.pullback_is_that_of_differences,
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    obeys([law for law in LAYER_LAWS if law in MATHEMATICS], LAYERS[name])


@pytest.mark.parametrize("name", NETS)
def test_net(name):
    obeys([law for law in NET_LAWS if law in MATHEMATICS], NETS[name])


@pytest.mark.parametrize("name", representatives(LAYERS))
def test_memory_dtypes_and_arguments_of_a_layer(name):
    obeys([law for law in LAYER_LAWS if law not in MATHEMATICS], LAYERS[name])


@pytest.mark.parametrize("name", representatives(NETS))
def test_memory_dtypes_and_arguments_of_a_net(name):
    obeys([law for law in NET_LAWS if law not in MATHEMATICS], NETS[name])


@rows_on_engines(LAYERS)
def test_layer_on_another_engine(name, engine):
    obeys(LAYER_LAWS, LAYERS[name], engine)


@rows_on_engines(NETS)
def test_net_on_another_engine(name, engine):
    obeys(NET_LAWS, NETS[name], engine)


def obeys(laws, case, engine=None):
    with engine.used() if engine else contextlib.nullcontext():
        for law in laws:
            module, X, cond = case.build()
            if engine:
                module, X, cond = module.to(engine.name), engine.array(X), engine.array(cond)
            try:
                law(module, X, cond, np.random.default_rng(0))
            except AssertionError as error:
                raise AssertionError(f"{law.__name__}: {error}") from error


def test_representatives_are_rows():
    assert not REPRESENTATIVES - {*LAYERS, *NETS}


def test_every_exported_layer_and_conditioner_has_a_row():
    rows = " ".join([*LAYERS, *NETS])
    for name in (*invnet.layers.__all__, *invnet.nets.__all__, *invnet.models.__all__):
        assert name in rows or name == "Jet"  # which needs PyTorch: tests/test_jet.py


class Wrong(ActNorm):
    """ActNorm with one mistake."""

    def __init__(self, mistake):
        super().__init__(3)
        self.mistake = mistake

    def forward(self, X, cond=None):
        Z, logdet = super().forward(X)
        if self.mistake == "logdet":
            logdet = logdet + 0.1
        if self.mistake == "keeps":
            self.kept = X
        if self.mistake == "changes":
            X[...] = 0
        return Z, logdet

    def inverse(self, Z, cond=None):
        return super().inverse(Z) + (0.1 if self.mistake == "inverse" else 0)

    def backward(self, dZ, Z, dlogdet=None, cond=None):
        if self.mistake == "assigns":
            self.zero_grad()
        dX, X = super().backward(dZ, Z, 0.0 if self.mistake == "dlogdet" else dlogdet)
        if self.mistake == "gradient":
            self.b.grad *= -1
        if self.mistake == "dtype":
            dX = dX.astype("float64")
        return (-dX if self.mistake == "dX" else dX), (X + 1 if self.mistake == "X" else X)


@pytest.mark.parametrize(
    "mistake", ["logdet", "keeps", "changes", "inverse", "assigns", "dlogdet", "gradient", "dtype", "dX", "X"]
)
def test_check_layer_finds(mistake):
    with pytest.raises(AssertionError, match=r"\d|unchanged|dtype"):
        check_layer(Wrong(mistake), np.random.default_rng(0).standard_normal((3, 3, 2)))


def test_check_layer_passes_a_right_layer():
    check_layer(Wrong(None), np.random.default_rng(0).standard_normal((3, 3, 2)))
