"""A user's mistake gets an error that says what was required and what came, before any work."""

import numpy as np
import pytest
from cases import LAYERS, representatives

import invnet
from invnet import IAF, MAF, NSF, Glow, PlanarFlow, RealNVP
from invnet.layers import (
    ActNorm,
    AffineCoupling,
    AutoregressiveAffine,
    AutoregressiveSpline,
    Chain,
    Conv1x1,
    FactorOut,
    LeakyReLU,
    Logit,
    PartitionedAdditiveCoupling,
    Permute,
    Planar,
    Radial,
    Reverse,
    Sigmoid,
    SplineCoupling,
    Squeeze,
    Unsqueeze,
)
from invnet.layers.transforms import Spline
from invnet.nets import ConvNet, DenseNet, MaskedDenseNet, PlanarNet, RadialNet


def zeros(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


class ToDouble(invnet.Layer):
    """A user's layer with a mistake."""

    def forward(self, X, cond=None):
        return X.astype("float64"), np.zeros(len(X))


def conditional():
    return AffineCoupling(4, ConvNet(2, 6, 4, cond_channels=3))


def domain(value):
    return SplineCoupling(2, DenseNet(1, 4, 23), tails=None).forward(zeros(3, 2) + value)


def regressed(value, fast):
    """An autoregressive spline without tails, from X that is `value`."""
    return AutoregressiveSpline(2, MaskedDenseNet(2, 4, 23), tails=None, fast=fast).forward(zeros(3, 2) + value)


MISTAKES = {
    "rank too high": (lambda: ActNorm(3).forward(zeros(2, 3, 1, 1, 1, 1)), ValueError, r"\(2, 3, 1, 1, 1, 1\)"),
    "rank of a Glow": (lambda: Glow(3, 8, 1, 1).forward(zeros(2, 3, 8)), ValueError, r"\(N, C, H, W\).*\(2, 3, 8\)"),
    "rank too low": (lambda: Chain().forward(zeros(3)), ValueError, r"\(3,\)"),
    "integers": (lambda: ActNorm(3).forward(zeros(2, 3, dtype=int)), TypeError, "int64"),
    "half precision": (lambda: ActNorm(3).forward(zeros(2, 3, dtype="float16")), TypeError, "float16"),
    "another dtype": (lambda: ActNorm(3).forward(zeros(2, 3, dtype="float64")), TypeError, "float32.*float64"),
    "other channels": (lambda: Conv1x1(3).forward(zeros(2, 4)), ValueError, r"3 channels.*\(2, 4\)"),
    "odd size": (lambda: Squeeze().forward(zeros(2, 3, 7, 8)), ValueError, r"even.*\(2, 3, 7, 8\)"),
    "nothing to squeeze": (lambda: Squeeze().forward(zeros(2, 3)), ValueError, "spatial"),
    "channels of Unsqueeze": (lambda: Unsqueeze().forward(zeros(2, 3, 4, 4)), ValueError, r"\(2, 3, 4, 4\)"),
    "too many levels for the size": (
        lambda: Glow(3, 8, 4, 1).forward(zeros(1, 3, 24, 24)),
        ValueError,
        "divisible by 16.*24",
    ),
    "too many levels for vectors": (lambda: Glow(4, 8, 3, 1, ndim=0), ValueError, "levels"),
    "logit of what is no unit": (lambda: Logit().forward(zeros(1, 2) + 2), ValueError, "2"),
    "logit of NaN": (lambda: Logit().forward(zeros(1, 2) * np.nan), ValueError, "nan"),
    "alpha": (lambda: Logit(0.5), ValueError, "0.5"),
    "alpha of Sigmoid": (lambda: Sigmoid(-0.1), ValueError, "-0.1"),
    "inverse of a sigmoid that is 1": (lambda: Sigmoid().inverse(zeros(1, 2) + 1), ValueError, "from 1 to 1"),
    "backward of a sigmoid that is 1": (
        lambda: Sigmoid().backward(zeros(1, 2), zeros(1, 2) + 1),
        ValueError,
        "from 1 to 1",
    ),
    "slope of LeakyReLU": (lambda: LeakyReLU(0), ValueError, "slope.*0"),
    "channels of Planar": (lambda: Planar(0), ValueError, "positive; got 0"),
    "channels of Radial": (lambda: Radial(0), ValueError, "positive; got 0"),
    "channels of PlanarNet": (lambda: PlanarNet(0), ValueError, "positive; got 0"),
    "other channels in PlanarNet": (lambda: PlanarNet(2).forward(zeros(4, 3)), ValueError, r"2 channels.*\(4, 3\)"),
    "another dtype in RadialNet": (
        lambda: RadialNet(2).vjp(zeros(4, 2, dtype="float64")),
        TypeError,
        "float32.*float64",
    ),
    "PartitionedAdditiveCoupling of one part": (
        lambda: PartitionedAdditiveCoupling(2, []),
        ValueError,
        "at least one.*got 0 nets",
    ),
    "channels of a PartitionedAdditiveCoupling": (
        lambda: PartitionedAdditiveCoupling(5, [PlanarNet(2)]),
        ValueError,
        "multiple of K channels; got 1 nets and 5",
    ),
    "PartitionedAdditiveCoupling of what is no net": (
        lambda: PartitionedAdditiveCoupling(2, [ActNorm(1)]),
        TypeError,
        "conditioners.*ActNorm",
    ),
    "a net of a PartitionedAdditiveCoupling": (
        lambda: PartitionedAdditiveCoupling(4, [DenseNet(2, 3, 1)]).forward(zeros(2, 4)),
        ValueError,
        r"\(2, 2\).*\(2, 1\)",
    ),
    "other channels in Planar": (lambda: Planar(2).forward(zeros(4, 3)), ValueError, r"2 channels.*\(4, 3\)"),
    "dtype in Planar": (lambda: Planar(2, dtype="float64").forward(zeros(4, 2)), TypeError, "float64.*float32"),
    "length of PlanarFlow": (lambda: PlanarFlow(2, -1), ValueError, "length.*-1"),
    "one channel in RealNVP": (lambda: RealNVP(1, 8, 2), ValueError, "RealNVP splits.*at least 2.*1"),
    "one channel in NSF": (lambda: NSF(1, 8, 2), ValueError, "NSF splits.*at least 2.*1"),
    "half a step of RealNVP": (lambda: RealNVP(2, 8, 1.5), TypeError, "steps is an integer; got 1.5"),
    "mix": (lambda: NSF(2, 8, 2, mix="qr"), ValueError, "'qr'"),
    "one bin": (lambda: Spline(1), ValueError, "2 to 500; got 1"),
    "half a bin": (lambda: Spline(2.5), TypeError, "2.5"),
    "bound of a spline": (lambda: Spline(bound=0), ValueError, "got 0"),
    "tails": (lambda: Spline(tails="circular"), ValueError, "linear.*'circular'"),
    "outside of a spline without tails": (
        lambda: domain(4.0),
        ValueError,
        r"a spline with tails=None takes values in \[-3, 3\]; got.* 4",
    ),
    "NaN in a spline without tails": (lambda: domain(np.nan), ValueError, r"\[-3, 3\]; got.*nan"),
    "output of a spline's conditioner": (
        lambda: SplineCoupling(4, DenseNet(2, 4, 22)).forward(zeros(1, 4)),
        ValueError,
        r"\(1, 46\).*\(1, 22\)",
    ),
    "no permutation": (lambda: Permute([0, 0, 1]), ValueError, r"\[0, 0, 1\]"),
    "parametrisation": (lambda: Conv1x1(3, "qr"), ValueError, "householder.*'qr'"),
    "reflections": (lambda: Conv1x1(3, "householder", 4), ValueError, "4"),
    "scale": (lambda: AffineCoupling(4, DenseNet(2, 4, 4), scale="exp"), ValueError, "'exp'"),
    "bound": (lambda: AffineCoupling(4, DenseNet(2, 4, 4), bound=1.0), ValueError, "1.0"),
    "one channel in a coupling": (lambda: AffineCoupling(1, None), ValueError, "at least 2.*1"),
    "one channel in FactorOut": (lambda: FactorOut(1, None), ValueError, "at least 2.*1"),
    "output of the conditioner": (
        lambda: AffineCoupling(4, DenseNet(2, 4, 3)).forward(zeros(1, 4)),
        ValueError,
        r"\(1, 4\).*\(1, 3\)",
    ),
    "even kernel": (lambda: ConvNet(2, 4, 2, kernels=(2, 1, 3)), ValueError, r"odd.*\(2, 1, 3\)"),
    "activation": (lambda: ConvNet(2, 4, 2, activation="sine"), ValueError, "'sine'"),
    "number of kernels": (lambda: ConvNet(2, (4, 4, 4), 2), ValueError, "hidden"),
    "condition without room": (
        lambda: ConvNet(2, 4, 2).forward(zeros(1, 2, 3, 3), zeros(1, 5)),
        ValueError,
        "cond_channels=0",
    ),
    "condition of other size": (
        lambda: ConvNet(2, 4, 2, cond_channels=3).forward(zeros(1, 2, 3, 3), zeros(1, 5)),
        ValueError,
        r"\(1, 5\)",
    ),
    "condition of more samples": (
        lambda: conditional().forward(zeros(2, 4, 6, 6), zeros(5, 3)),
        ValueError,
        r"2 samples.*\(5, 3\)",
    ),
    "condition of fewer samples": (
        lambda: conditional().forward(zeros(3, 4, 6, 6), zeros(2, 3)),
        ValueError,
        r"3 samples.*\(2, 3\)",
    ),
    "condition of other channels": (
        lambda: conditional().forward(zeros(2, 4, 6, 6), zeros(2, 5)),
        ValueError,
        r"\(N, 3\).*got \(2, 5\)",
    ),
    "condition of another size": (
        lambda: conditional().forward(zeros(2, 4, 6, 6), zeros(2, 3, 9, 9)),
        ValueError,
        r"\(2, 3, 9, 9\)",
    ),
    "condition that is coarser": (
        lambda: conditional().forward(zeros(2, 4, 6, 6), zeros(2, 3, 3, 3)),
        ValueError,
        r"\(2, 3, 3, 3\)",
    ),
    "condition of an odd multiple": (
        lambda: conditional().forward(zeros(2, 4, 5, 5), zeros(2, 3, 15, 15)),
        ValueError,
        r"\(2, 3, 15, 15\)",
    ),
    "spatial condition of a vector": (
        lambda: Glow(4, 8, 1, 1, ndim=0, cond_channels=3).forward(zeros(2, 4), zeros(2, 3, 3)),
        ValueError,
        r"\(2, 3, 3\)",
    ),
    "channels within a chain": (
        lambda: Chain(Squeeze(), AffineCoupling(4, ConvNet(2, 8, 4))).forward(zeros(1, 3, 4, 4)),
        ValueError,
        r"AffineCoupling has 4 channels.*\(1, 12, 2, 2\)",
    ),
    "channels within a chain, backwards": (
        lambda: Chain(AffineCoupling(4, ConvNet(2, 8, 4)), Permute.reversal(6)).inverse(zeros(1, 6, 2, 2)),
        ValueError,
        r"AffineCoupling has 4 channels.*\(1, 6, 2, 2\)",
    ),
    "channels within FactorOut": (
        lambda: FactorOut(4, ActNorm(3)).forward(zeros(1, 4)),
        ValueError,
        r"ActNorm has 3 channels.*\(1, 2\)",
    ),
    "channels within Reverse": (lambda: Reverse(ActNorm(3)).forward(zeros(1, 4)), ValueError, r"3 channels.*\(1, 4\)"),
    "a Glow within a chain": (
        lambda: Chain(Logit(), Glow(1, 8, 2, 1)).forward(zeros(1, 1, 6, 6)),
        ValueError,
        r"divisible by 4.*\(1, 1, 6, 6\)",
    ),
    "neighbours that do not fit": (lambda: Chain(ActNorm(3), ActNorm(4)), ValueError, "4 channels follows one of 3"),
    "two dtypes in a chain": (
        lambda: Chain(ActNorm(3), ActNorm(3, dtype="float64")),
        ValueError,
        "float32 and float64",
    ),
    "input of the conditioner": (
        lambda: ConvNet(2, 4, 2).forward(zeros(1, 3, 4, 4)),
        ValueError,
        r"2 channels.*\(1, 3, 4, 4\)",
    ),
    "axes of the conditioner": (lambda: ConvNet(2, 4, 2).forward(zeros(1, 2)), ValueError, r"2 spatial axes.*\(1, 2\)"),
    "no condition": (
        lambda: Glow(2, 8, 1, 1, ndim=0, cond_channels=3).forward(zeros(1, 2)),
        ValueError,
        r"needs a condition of shape \(N, 3\)",
    ),
    "dtype of the condition": (
        lambda: conditional().forward(zeros(2, 4, 6, 6), zeros(2, 3, dtype=complex)),
        TypeError,
        "real numbers.*complex128",
    ),
    "no conditioner": (lambda: AffineCoupling(4, lambda x: x), TypeError, "forward, vjp and parameters"),
    "dtype of the conditioner": (
        lambda: AffineCoupling(4, DenseNet(2, 4, 4, dtype="float64")).forward(zeros(1, 4, dtype="float32")),
        TypeError,
        "float64.*float32",
    ),
    "dtype that a user's layer gives": (
        lambda: Chain(ToDouble(), ActNorm(3)).forward(zeros(2, 3)),
        TypeError,
        "ToDouble.*float32.*float64",
    ),
    "dtype of a layer": (lambda: Glow(3, 8, 1, 1, dtype="int32"), ValueError, "int32"),
    "dtype to go to": (lambda: ActNorm(3).to(dtype="float16"), ValueError, "float16"),
    "half a level": (lambda: Glow(3, 8, 1.5, 1), TypeError, "levels is an integer; got 1.5"),
    "width": (lambda: ConvNet(2, 8.0, 2), TypeError, "8.0"),
    "NaN to initialize from": (lambda: ActNorm(3).initialize(zeros(4, 3) * np.nan), ValueError, "finite"),
    "temperature": (lambda: invnet.Flow(ActNorm(3), (3,)).sample(2, temperature=-1), ValueError, "-1"),
    "one sample for the laws": (
        lambda: invnet.testing.check_layer(ActNorm(3), zeros(1, 3)),
        ValueError,
        r"2 samples.*\(1, 3\)",
    ),
    "a net for parameters": (lambda: invnet.optim.Adam(ActNorm(3)), TypeError, "net.parameters"),
    "beta": (lambda: invnet.optim.Adam(ActNorm(3).parameters(), betas=(0.9, 1.0)), ValueError, "beta2.*1.0"),
    "arguments of the loss swapped": (
        lambda: invnet.losses.gaussian_nll(zeros(2), zeros(2, 3)),
        ValueError,
        r"\(2,\) and \(2, 3\)",
    ),
    "unknown option": (lambda: Glow(3, 8, 1, 1, leves=3), TypeError, "leves"),
    "unknown coupling": (lambda: Glow(3, 8, 1, 1, coupling="spline"), ValueError, "'spline'"),
    "shape of dZ": (lambda: ActNorm(3).backward(zeros(2, 3), zeros(3, 3)), ValueError, r"\(3, 3\).*\(2, 3\)"),
    "shape of dlogdet": (
        lambda: ActNorm(3).backward(zeros(2, 3), zeros(2, 3), zeros(3)),
        ValueError,
        r"\(2,\).*\(3,\)",
    ),
    "no samples to initialize": (lambda: ActNorm(3).initialize(zeros(0, 3)), ValueError, r"\(0, 3\)"),
    "dlogdet as a list": (lambda: ActNorm(3).backward(zeros(2, 3), zeros(2, 3), [1.0]), ValueError, r"\(2,\).*\[1.0\]"),
    "no layer": (lambda: Chain(ActNorm(3), "Conv1x1"), TypeError, "Conv1x1"),
    "an unfinished layer": (lambda: invnet.Layer().forward(zeros(2, 3)), NotImplementedError, "Layer needs forward"),
    "unknown engine": (lambda: ActNorm(3).to("tpu"), ValueError, "numpy.*'tpu'"),
    "order that repeats": (
        lambda: MaskedDenseNet(3, 8, order=[0, 0, 2]),
        ValueError,
        r"0 to 2, each once.*\[0, 0, 2\]",
    ),
    "order of other channels": (lambda: MaskedDenseNet(3, 8, order=[1, 0]), ValueError, r"0 to 2, each once.*\[1, 0\]"),
    "no channels to mask": (lambda: MaskedDenseNet(0, 8), ValueError, "positive.*0"),
    "no outputs": (lambda: MaskedDenseNet(2, 8, 0), ValueError, "positive.*2 and 0"),
    "input of a masked conditioner": (
        lambda: MaskedDenseNet(2, 8).forward(zeros(1, 3)),
        ValueError,
        r"MaskedDenseNet takes 2 channels.*\(1, 3\)",
    ),
    "direction": (lambda: AutoregressiveAffine(2, MaskedDenseNet(2, 8), "backward"), ValueError, "'backward'"),
    "scale of an autoregressive layer": (
        lambda: AutoregressiveAffine(2, MaskedDenseNet(2, 8), scale="exp"),
        ValueError,
        "'exp'",
    ),
    "no channels": (lambda: AutoregressiveAffine(0, MaskedDenseNet(2, 8)), ValueError, "at least 1.*0"),
    "outputs of an autoregressive conditioner": (
        lambda: AutoregressiveAffine(2, MaskedDenseNet(2, 8, 3)).forward(zeros(1, 2)),
        ValueError,
        r"\(1, 4\).*\(1, 6\)",
    ),
    "outputs of a conditioner that is solved for": (
        lambda: AutoregressiveAffine(2, MaskedDenseNet(2, 8, 3), "inverse").forward(zeros(1, 2)),
        ValueError,
        "2 outputs.*3",
    ),
    "outputs of a conditioner that is solved for, backwards": (
        lambda: AutoregressiveAffine(2, MaskedDenseNet(2, 8, 3), "inverse").backward(zeros(1, 2), zeros(1, 2)),
        ValueError,
        "2 outputs.*3",
    ),
    "direction of an autoregressive spline": (
        lambda: AutoregressiveSpline(2, MaskedDenseNet(2, 8, 23), fast="both"),
        ValueError,
        "'both'",
    ),
    "no channels of an autoregressive spline": (
        lambda: AutoregressiveSpline(0, MaskedDenseNet(1, 8, 23)),
        ValueError,
        "at least 1.*0",
    ),
    "bins of an autoregressive spline": (
        lambda: AutoregressiveSpline(2, MaskedDenseNet(2, 8, 2), bins=1),
        ValueError,
        "2 to 500; got 1",
    ),
    "outputs of an autoregressive spline's conditioner": (
        lambda: AutoregressiveSpline(2, MaskedDenseNet(2, 8, 22)).forward(zeros(1, 2)),
        ValueError,
        r"\(1, 46\).*\(1, 44\)",
    ),
    "outputs of an autoregressive spline's conditioner that is solved for": (
        lambda: AutoregressiveSpline(2, MaskedDenseNet(2, 8, 22), fast="inverse").forward(zeros(1, 2)),
        ValueError,
        "23 outputs.*22",
    ),
    **{
        f"outside of an autoregressive spline without tails, fast {fast}": (
            lambda f=fast: regressed(4.0, f),
            ValueError,
            r"tails=None.*\[-3, 3\]; got.* 4",
        )
        for fast in ("forward", "inverse")
    },
    "autoregressive as a flag": (
        lambda: NSF(2, 8, 2, autoregressive=True),
        ValueError,
        'None, "forward" or "inverse"; got True',
    ),
    "no channels of an autoregressive NSF": (
        lambda: NSF(0, 8, 2, autoregressive="forward"),
        ValueError,
        "NSF takes at least 1.*0",
    ),
    "channels of an autoregressive layer": (
        lambda: AutoregressiveAffine(2, MaskedDenseNet(2, 8)).forward(zeros(1, 3)),
        ValueError,
        r"2 channels.*\(1, 3\)",
    ),
    "condition of more samples than an autoregressive layer's": (
        lambda: IAF(2, 8, 1, cond_channels=3).forward(zeros(2, 2), zeros(5, 3)),
        ValueError,
        r"2 samples.*\(5, 3\)",
    ),
    "no condition for an autoregressive layer": (
        lambda: IAF(2, 8, 1, cond_channels=3).forward(zeros(2, 2)),
        ValueError,
        r"needs a condition of shape \(N, 3\)",
    ),
    "rank of a MAF": (lambda: MAF(3, 8, 1).forward(zeros(2, 3, 4)), ValueError, r"MAF takes \(N, C\).*\(2, 3, 4\)"),
    "order of a MAF": (lambda: MAF(3, 8, 1, order="shuffled"), ValueError, "'shuffled'"),
    "channels of a MAF": (lambda: MAF(0, 8, 1), ValueError, "0 and 1"),
    "half a step of IAF": (lambda: IAF(2, 8, 1.5), TypeError, "integer; got 1.5"),
    "width of a MAF": (lambda: MAF(2, 8.0, 1), TypeError, "8.0"),
    "shape of a Flow": (lambda: invnet.Flow(ActNorm(3), (3,)).log_prob(zeros(2, 4)), ValueError, r"\(N, 3\).*\(2, 4\)"),
    "what is saved": (
        lambda: invnet.save([ActNorm(3)], "list.safetensors"),
        TypeError,
        r"takes a Module.*got \[ActNorm",
    ),
    "threads": (lambda: invnet.set_num_threads(0), ValueError, "0"),
    "foreign state": (
        lambda: ActNorm(3).load_state_dict(Conv1x1(3).state_dict()),
        ValueError,
        "missing.*'b'.*unknown.*'L'",
    ),
    "state of another shape": (
        lambda: ActNorm(3).load_state_dict(ActNorm(4).state_dict()),
        ValueError,
        r"\(3,\).*\(4,\)",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_error_says_what_was_required_and_what_came(name):
    mistake, kind, text = MISTAKES[name]
    with pytest.raises(kind, match=text):
        mistake()


def test_empty_batches_and_empty_positions_pass_through():
    net = Glow(3, 8, 1, 1)
    for shape in ((0, 3, 4, 4), (2, 3, 0, 4)):
        Z, logdet = net.forward(zeros(*shape))
        dX, X = net.backward(Z, Z)
        assert Z.shape == dX.shape == X.shape == shape and np.array_equal(logdet, zeros(shape[0]))


def test_a_read_only_or_byte_swapped_input_gives_the_same():
    net, X = Glow(3, 8, 1, 1), np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype("float32")
    expected = net.forward(X)[0]
    swapped = X.astype(">f4")
    X.flags.writeable = False
    assert np.array_equal(net.forward(X)[0], expected) and np.array_equal(net.forward(swapped)[0], expected)


def test_a_new_glow_is_an_isometry():
    X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype("float32")
    Z, logdet = Glow(3, 8, 2, 3).forward(X)
    np.testing.assert_allclose((Z**2).sum(axis=(1, 2, 3)), (X**2).sum(axis=(1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(logdet, 0, atol=1e-3)


def test_initialize_normalises_every_channel_and_spares_constant_ones():
    X = np.random.default_rng(0).standard_normal((50, 4, 3)) * np.array([1e-3, 5, 1, 0])[:, None] + 7
    Z = ActNorm(4, dtype="float64").initialize(X)
    np.testing.assert_allclose(Z[:, 1:3].mean(axis=(0, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(Z[:, 1:3].std(axis=(0, 2)), 1, rtol=1e-9)
    assert np.abs(Z[:, [0, 3]]).max() < 1 and np.isfinite(Z).all()


def test_a_flow_takes_its_own_samples():
    flow = invnet.Flow(Chain(Logit(1e-3), Glow(1, 8, 1, 1)), (1, 4, 4))
    assert np.isfinite(flow.log_prob(flow.sample(50, temperature=3.0, seed=0))).all()


def test_channels_may_change_along_a_chain():
    net, X = Chain(ActNorm(3), Squeeze(), Permute.reversal(12)), np.ones((2, 3, 4, 4), "float32")
    np.testing.assert_array_equal(net.inverse(net.forward(X)[0]), X)


def test_every_level_of_a_glow_is_initialized():
    net, X = Glow(2, 8, 3, 2), np.random.default_rng(0).standard_normal((40, 2, 16, 16)).astype("float32") * 3 + 5
    outputs, forward = [], ActNorm.initialize_
    try:
        ActNorm.initialize_ = lambda self, X, cond=None: (
            outputs.append(forward(self, X, cond).copy()) or outputs[-1].copy()
        )
        net.initialize(X)
    finally:
        ActNorm.initialize_ = forward
    assert len(outputs) == 6
    for Z in outputs:
        axes = (0, *range(2, Z.ndim))
        np.testing.assert_allclose(Z.mean(axis=axes), 0, atol=1e-4)
        np.testing.assert_allclose(Z.std(axis=axes), 1, rtol=1e-3)


@pytest.mark.parametrize(
    "dlogdet", [np.ones(8, "float32")[::2], np.broadcast_to(np.float32(1), (4,)), np.ones(4), 1, np.float64(1)], ids=str
)
def test_any_dlogdet_of_the_right_shape_gives_the_same(dlogdet):
    net, Z = Glow(3, 8, 1, 1), np.random.default_rng(0).standard_normal((4, 3, 4, 4)).astype("float32")
    expected = net.backward(Z, Z, np.ones(4, "float32"))[0]
    assert np.array_equal(net.backward(Z, Z, dlogdet)[0], expected)
    assert np.array_equal(net.backward(Z.astype(">f4"), Z.astype(">f4"), dlogdet)[0], expected)


def test_a_net_that_replaces_another_learns():
    layer, Z = AffineCoupling(4, DenseNet(2, 8, 4)), np.ones((5, 4), "float32")
    layer.net = DenseNet(2, 8, 4)
    layer.backward(Z, Z)
    assert np.abs(layer.net.b[-1].grad).max() > 0


@pytest.mark.parametrize("name", representatives(LAYERS))
def test_every_layer_says_which_dtypes_it_takes(name):
    if "user" in name:
        pytest.skip("a layer of one's own checks for itself")
    layer, X, cond = LAYERS[name].build()
    for wrong in (X.astype(int), X.astype("float16"), X > 0):
        for call in (
            lambda: layer.forward(wrong, cond),
            lambda: layer.inverse(wrong, cond),
            lambda: layer.backward(wrong, wrong, None, cond),
        ):
            with pytest.raises(TypeError, match=f"takes float32 or float64; got . of dtype {wrong.dtype}"):
                call()
        with pytest.raises(ValueError, match=f"float64; got .* {wrong.dtype}"):
            layer.backward(wrong, X, None, cond)


@pytest.mark.parametrize("memory", ["rebuild", "store"])
@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_a_module_of_pytorch_says_which_dtypes_it_takes(engine, memory):
    torch = pytest.importorskip("torch")
    module = invnet.torch.as_module(invnet.RealNVP(4, 8, 2, cond_channels=2).to(engine), memory)
    x, cond = torch.ones(3, 4), torch.ones(3, 2)
    for dtype in (torch.bfloat16, torch.float16, torch.int64, torch.bool):
        for call in (module, module.inverse):
            with pytest.raises(TypeError, match=f"computes in torch.float32; got x of {dtype}"):
                call(x.to(dtype), cond)
        torch.testing.assert_close(module(x, cond.to(dtype)), module(x, cond))
