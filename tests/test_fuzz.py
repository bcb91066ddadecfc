"""Any argument gets the right answer, or an error of invnet that says what was required and what came."""

import numpy as np
import pytest
from cases import EXACT, LAYERS, NETS
from fuzzing import FOREIGN, VALUES, Unchanged, answered, assert_alike, assert_same, layout, shapes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import invnet
from invnet import bases, losses, objectives, optim

#: A user's own layer answers for itself what it takes.
MODULES = {
    **{name: case for name, case in LAYERS.items() if "user" not in name},
    **{f"Exact of {name}": case for name, case in EXACT.items()},
}
METHODS = ("forward", "inverse", "inverse_logdet", "backward", "inverse_backward", "initialize")
DTYPES = ("float32", "float64")


def fuzz(ci, nightly):
    """Runs a test on so many examples: few every time, many with `pytest -m nightly`."""

    def many(test):
        @pytest.mark.parametrize("examples", [ci, pytest.param(nightly, marks=[pytest.mark.nightly, pytest.mark.slow])])
        def fuzzed(examples):
            several = settings(
                max_examples=examples,
                deadline=120_000,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            several(given(st.data())(test))()

        fuzzed.__name__, fuzzed.__doc__ = test.__name__, test.__doc__
        return fuzzed

    return many


def built(draw, cases):
    """A module of the table in a dtype, the same in float64, and its arrays: their dtype, clean."""
    case = cases[draw(st.sampled_from(sorted(cases)))]
    dtype = draw(st.sampled_from(DTYPES))
    double, X, cond = case.build()
    module = case.build()[0].to(dtype=dtype)
    return module, double, X.astype(dtype), None if cond is None else cond.astype(dtype)


def call(module, method, X, dX=None, dlogdet=None, cond=None):
    """The arrays that a method gives, and the gradients of the parameters after it."""
    module.zero_grad()
    if "backward" in method:
        result = getattr(module, method)(dX, X, dlogdet, cond)
    else:
        result = getattr(module, method)(X, cond)
    return [*(result if isinstance(result, tuple) else (result,)), *(p.grad.copy() for p in module.parameters())]


@fuzz(60, 3000)
def test_layers_take_any_memory(data):
    """Any strides, byte order, read-only memory, read-only parameters and number of samples give the same, to
    rounding.
    """
    draw = data.draw
    module, double, X, cond = built(draw, MODULES)
    N, method = draw(st.integers(0, len(X))), draw(st.sampled_from(METHODS))
    X, cond = X[:N], None if cond is None else cond[:N]
    dX, dlogdet = X[::-1] * 0.5, np.linspace(-1, 1, N, dtype=X.dtype)
    given = [None if array is None else layout(draw)(array) for array in (X, dX, dlogdet, cond)]
    clean = [None if array is None else np.ascontiguousarray(array, "float64") for array in (X, dX, dlogdet, cond)]
    same = [None if array is None else np.ascontiguousarray(array) for array in (X, dX, dlogdet, cond)]
    unchanged = Unchanged(*given)
    expected, found = answered(lambda: call(module, method, *same)), answered(lambda: call(module, method, *given))
    unchanged.assert_so()
    assert_alike(found, expected)
    if found[0]:
        for i, (a, b) in enumerate(zip(found[1], expected[1])):
            few = 32 * np.finfo(b.dtype).eps  # BLAS sums products of a transposed condition in another order
            assert_same(a, b, f"output {i}", rtol=few, atol=few * np.abs(b).max(initial=0))
            assert a.dtype == b.dtype and a.dtype.isnative
    if X.dtype == np.float64:
        for p in module.parameters():
            p.data.flags.writeable = method == "initialize"
        frozen = answered(lambda: call(module, method, *given))
        assert_alike(frozen, found)
        return
    if "Exact" in type(module).__name__:
        return
    precise = answered(lambda: call(double, method, *clean))
    assert_alike(found, precise)
    if found[0]:
        for i, (a, b) in enumerate(zip(found[1], precise[1])):
            assert_same(a, b, f"output {i} against float64", rtol=5e-3, atol=5e-3 * (1 + np.abs(b).max(initial=0)))


@fuzz(60, 2000)
def test_layers_take_any_numbers(data):
    """Huge, denormal, infinite numbers and NaN in a sample pass through or are refused; the other samples stay what
    they are.
    """
    draw = data.draw
    module, _, X, cond = built(draw, MODULES)
    method, bad = draw(st.sampled_from(METHODS[:-1])), VALUES[draw(st.sampled_from(sorted(VALUES)))]
    dX, dlogdet = X[::-1] * 0.5, np.linspace(-1, 1, len(X), dtype=X.dtype)
    ordinary = answered(lambda: call(module, method, X, dX, dlogdet, cond))
    which = draw(st.sampled_from(("X", "dX", "dlogdet", "cond")))
    arrays = {"X": X.copy(), "dX": dX.copy(), "dlogdet": dlogdet.copy(), "cond": None if cond is None else cond.copy()}
    if arrays[which] is None:
        which = "X"
    arrays[which][0] = bad(arrays[which][:1])[0]
    unchanged = Unchanged(*arrays.values())
    found = answered(lambda: call(module, method, **arrays))
    unchanged.assert_so()
    if found[0] and ordinary[0]:
        outputs = 1 if method in ("inverse", "initialize") else 2
        for i, (a, b) in enumerate(zip(found[1][:outputs], ordinary[1])):
            scale = np.abs(b).max(initial=0)
            assert_same(a[1:], b[1:], f"output {i} of the other samples", rtol=1e-5, atol=1e-5 * (1 + scale))


@fuzz(60, 2000)
def test_layers_take_any_shape(data):
    """An array of any shape comes back from there and back, or is refused."""
    draw = data.draw
    module, _, X, cond = built(draw, MODULES)
    shape = draw(shapes(X.shape))
    rng = np.random.default_rng(0)
    other = rng.uniform(0.2, 0.8, shape).astype(X.dtype)
    condition = (
        None if cond is None else rng.standard_normal(draw(shapes((*shape[:1], *cond.shape[1:])))).astype(cond.dtype)
    )
    there = answered(lambda: module.forward(other, condition))
    if not there[0]:
        return
    Z, logdet = there[1]
    assert Z.size == other.size and logdet.shape == shape[:1]
    back = answered(lambda: module.inverse(Z, condition))
    if back[0]:  # no: as of a sigmoid that was rounded to 1
        assert_same(back[1], other, "X", atol=2e-2 if X.dtype == np.float32 else 1e-6)
    again = answered(lambda: call(module, "backward", Z, Z, None, condition))
    assert_alike(again, back)
    if again[0]:
        assert again[1][0].shape == shape
    answered(
        lambda: call(
            module,
            draw(st.sampled_from(METHODS)),
            other,
            rng.standard_normal(draw(shapes(shape))).astype(X.dtype),
            rng.standard_normal(draw(shapes(shape[:1] or (1,)))),
            condition,
        )
    )


@fuzz(60, 2000)
def test_layers_refuse_what_is_no_array_of_theirs(data):
    draw = data.draw
    module, _, X, cond = built(draw, MODULES)
    method = draw(st.sampled_from(METHODS))
    which = draw(st.sampled_from(("X", "dX", "dlogdet", "cond") if "backward" in method else ("X", "cond")))
    arrays = {"X": X, "dX": X * 0.5, "dlogdet": np.linspace(-1, 1, len(X), dtype=X.dtype), "cond": cond}
    foreign = draw(st.sampled_from(sorted(FOREIGN)))
    if module.dtype is None and foreign == "the other precision":
        return  # is as good
    foreign = FOREIGN[foreign]
    arrays[which] = foreign(X if arrays[which] is None else arrays[which])
    found = answered(lambda: call(module, method, **arrays))
    if which in ("X", "dX"):
        assert not found[0], f"took {which} as {arrays[which]!r}"


@fuzz(60, 2000)
def test_conditioners_take_any_array_or_refuse_it(data):
    draw = data.draw
    net, double, X, cond = built(draw, NETS)
    how = draw(st.sampled_from(("memory", "memory", "numbers", "shape", "foreign")))
    which = draw(st.sampled_from(("x", "dy", "cond")))
    clean = {"x": X, "dy": net.forward(X, cond) * 0.5 + 1, "cond": cond}
    if clean[which] is None:
        which = "x"
    given, dtype = dict(clean), X.dtype
    if how == "memory":
        given = {name: None if array is None else layout(draw)(array) for name, array in clean.items()}
    elif how == "numbers":
        given[which] = VALUES[draw(st.sampled_from(sorted(VALUES)))](clean[which])
    elif how == "shape":
        given[which] = np.random.default_rng(0).standard_normal(draw(shapes(clean[which].shape))).astype(dtype)
    else:
        given[which] = FOREIGN[draw(st.sampled_from(sorted(FOREIGN)))](clean[which])

    def outputs(net, x, dy, cond):
        y, pullback = net.vjp(x, cond)
        dx, dcond, gradients = pullback(dy)
        return [net.forward(x, cond), y, dx, *([] if dcond is None else [dcond]), *gradients]

    unchanged = Unchanged(*given.values())
    with np.errstate(
        all="ignore" if how == "numbers" else "warn"
    ):  # NumPy's words about a conditioner that is called by itself
        found = answered(lambda: outputs(net, **given))
    unchanged.assert_so()
    if how == "memory":
        for p in net.parameters():
            p.data.flags.writeable = False
        frozen, expected = answered(lambda: outputs(net, **given)), outputs(net, **clean)
        for result in (found, frozen):
            assert result[0], result
            for i, (a, b) in enumerate(zip(result[1], expected)):
                assert_same(a, b, f"output {i}", rtol=1e-4, atol=1e-4 * (1 + np.abs(b).max(initial=0)))
    elif how == "foreign" and which != "cond":
        assert not found[0], f"took {which} as {given[which]!r}"
    elif how == "shape" and which == "dy" and found[0]:
        assert given["dy"].shape == clean["dy"].shape, f"took dy of shape {given['dy'].shape} for {clean['dy'].shape}"


#: what any argument may be by mistake
ODD = (
    0,
    -1,
    1,
    2,
    3,
    5,
    1.5,
    -0.5,
    1e30,
    float("nan"),
    float("inf"),
    True,
    None,
    "x",
    "",
    (),
    [1],
    [0, 1, 2],
    (3, 1, 3),
    {"a": 1},
    np.arange(3),
    np.float32(2),
    np.int64(2),
    2 + 1j,
)

FLOWS = {
    "normal": bases.Normal,
    "uniform": lambda: bases.Uniform(-9.0, 9.0),
    "diagonal": lambda: bases.DiagonalNormal(np.zeros(3), [1.0, 2.0, 3.0], dtype="float64"),
    "full": lambda: bases.FullNormal(np.zeros(3), np.eye(3) + 0.5, dtype="float64"),
    "mixture": lambda: bases.GaussianMixture(np.arange(6.0).reshape(2, 3), dtype="float64"),
}


@fuzz(40, 1500)
def test_flows_and_bases_take_any_array_or_refuse_it(data):
    draw = data.draw
    base, rng = FLOWS[draw(st.sampled_from(sorted(FLOWS)))](), np.random.default_rng(0)
    flow = invnet.Flow(invnet.RealNVP(3, 4, 2, dtype="float64"), (3,), base)
    X, dX = rng.standard_normal((4, 3)), np.ones(4)
    functions = {
        "log_prob": lambda X, d: flow.log_prob(X),
        "base's log_prob": lambda X, d: flow.base.log_prob(X),
        "base's log_prob_backward": lambda X, d: flow.base.log_prob_backward(d, X),
        "gaussian_nll": lambda X, d: np.asarray(losses.gaussian_nll(X, d)[1]),
        "forward_kl": lambda X, d: np.asarray(objectives.forward_kl(flow, X)),
    }
    name, how = (
        draw(st.sampled_from(sorted(functions))),
        draw(st.sampled_from(("memory", "numbers", "shape", "foreign"))),
    )
    if how == "memory":
        given = layout(draw)(X), layout(draw)(dX)
    elif how == "numbers":
        given = VALUES[draw(st.sampled_from(sorted(VALUES)))](X), dX
    elif how == "shape":
        given = rng.standard_normal(draw(shapes(X.shape))), np.ones(draw(shapes(dX.shape)))
    else:
        given = [FOREIGN[draw(st.sampled_from(sorted(FOREIGN)))](a) if draw(st.booleans()) else a for a in (X, dX)]
    unchanged = Unchanged(*given)
    with np.errstate(all="ignore" if how == "numbers" else "warn"):
        found = answered(lambda: functions[name](*given))
    unchanged.assert_so()
    if how == "memory":
        assert found[0], found
        assert_same(found[1], functions[name](X, dX), name, rtol=1e-9, atol=1e-12)


@fuzz(40, 1000)
def test_sampling_takes_its_numbers_or_says_what_they_have_to_be(data):
    draw = data.draw
    flow = invnet.Flow(invnet.RealNVP(3, 4, 2), (3,))
    n, temperature, seed = 2, 1.0, 0
    which, odd = draw(st.sampled_from(("n", "temperature", "seed"))), draw(st.sampled_from(ODD))
    n, temperature, seed = (
        odd if which == name else value for name, value in (("n", n), ("temperature", temperature), ("seed", seed))
    )
    if n is odd and isinstance(odd, float) and odd > 1e6:
        return
    found = answered(lambda: flow.sample(n, None, temperature, seed))
    if found[0]:
        assert found[1].shape == (n, 3) and found[1].dtype == np.float32


# ---- constructors


def net(C_in, C_out):
    return invnet.DenseNet(C_in, 4, C_out)


def make_affine(**options):
    """A coupling that makes its own conditioner."""
    return invnet.AffineCoupling(**options)


def make_autoregressive_spline(**options):
    return invnet.AutoregressiveSpline(**options)


CONSTRUCTORS = {
    invnet.ActNorm: dict(channels=3, floor=1e-4, dtype="float32"),
    invnet.Conv1x1: dict(channels=3, parametrisation="householder", reflections=2, seed=0, dtype="float64"),
    invnet.Permute: dict(order=[2, 0, 1]),
    invnet.Permute.reversal: dict(channels=3),
    invnet.Permute.random: dict(channels=3, seed=1),
    invnet.Logit: dict(alpha=0.1),
    invnet.Sigmoid: dict(alpha=0.1),
    invnet.LeakyReLU: dict(slope=0.1),
    invnet.Planar: dict(channels=3, seed=0, dtype="float32"),
    invnet.Radial: dict(channels=3, seed=0, dtype="float32"),
    invnet.SplitTokens: dict(pattern="rows", inverted=True),
    invnet.AdditiveCoupling: dict(channels=3, net=net(2, 1)),
    invnet.AffineCoupling: dict(channels=3, net=net(2, 2), scale="bounded", bound=4.0),
    invnet.SplineCoupling: dict(channels=3, net=net(2, 11), bins=4, bound=3.0, tails="linear"),
    invnet.AutoregressiveAffine: dict(
        channels=3, net=invnet.MaskedDenseNet(3, 4), fast="forward", scale="bounded", bound=2.0
    ),
    invnet.AutoregressiveSpline: dict(
        channels=3, net=invnet.MaskedDenseNet(3, 4, 11), bins=4, bound=3.0, tails=None, fast="inverse"
    ),
    make_affine: dict(
        channels=3, scale="bounded", bound=4.0, hidden=4, ndim=1, cond_channels=2, seed=0, dtype="float64"
    ),
    make_autoregressive_spline: dict(
        channels=3, bins=4, bound=3.0, tails=None, fast="inverse", hidden=4, cond_channels=1, seed=0, dtype="float32"
    ),
    invnet.PartitionedAdditiveCoupling: dict(channels=4, nets=[net(2, 2)]),
    invnet.Reverse: dict(layer=invnet.ActNorm(3)),
    invnet.FactorOut: dict(channels=3, inner=invnet.ActNorm(2), prior=invnet.ActNorm(3)),
    invnet.Exact: dict(layer=invnet.ActNorm(3), limit=64),
    invnet.ConvNet: dict(
        C_in=2,
        hidden=4,
        C_out=3,
        kernels=(3, 1, 3),
        ndim=1,
        activation="relu",
        cond_channels=2,
        seed=0,
        dtype="float32",
    ),
    invnet.DenseNet: dict(
        C_in=2, hidden=4, C_out=3, depth=2, activation="silu", cond_channels=2, seed=0, dtype="float32"
    ),
    invnet.MaskedDenseNet: dict(
        channels=3,
        hidden=4,
        outputs=2,
        depth=2,
        order=[0, 2, 1],
        activation="relu",
        cond_channels=1,
        seed=0,
        dtype="float32",
    ),
    invnet.PlanarNet: dict(channels=3, seed=0, dtype="float32"),
    invnet.RadialNet: dict(channels=3, seed=0, dtype="float32"),
    invnet.Glow: dict(
        channels=1,
        hidden=4,
        levels=2,
        steps=1,
        ndim=2,
        coupling="affine",
        scale="bounded",
        bound=4.0,
        mix="lu",
        prior=True,
        kernels=(3, 1, 3),
        activation="relu",
        cond_channels=1,
        cond_spatial=True,
        seed=0,
        dtype="float32",
    ),
    invnet.RealNVP: dict(
        channels=3,
        hidden=4,
        steps=2,
        depth=1,
        scale="bounded",
        bound=4.0,
        activation="relu",
        mix="lu",
        actnorm=True,
        cond_channels=1,
        seed=0,
        dtype="float32",
    ),
    invnet.NSF: dict(
        channels=3,
        hidden=4,
        steps=2,
        bins=4,
        bound=2.0,
        depth=1,
        activation="relu",
        mix="swap",
        actnorm=True,
        cond_channels=1,
        seed=0,
        dtype="float32",
    ),
    invnet.MAF: dict(
        channels=3,
        hidden=4,
        steps=2,
        depth=1,
        order="random",
        scale="bounded",
        bound=4.0,
        activation="relu",
        cond_channels=1,
        seed=0,
        dtype="float32",
    ),
    invnet.PlanarFlow: dict(channels=3, length=2, seed=0, dtype="float32"),
    invnet.Flow: dict(layer=invnet.ActNorm(3), shape=(3,), base=bases.Normal()),
    bases.DiagonalNormal: dict(mean=[0.0, 1.0], std=2.0, learn=True, dtype="float32"),
    bases.FullNormal: dict(mean=[0.0, 1.0], covariance=[[2.0, 1.0], [1.0, 2.0]], learn=True, dtype="float32"),
    bases.GaussianMixture: dict(means=[[0.0, 1.0], [2.0, 3.0]], std=1.0, weights=[1.0, 2.0]),
    optim.SGD: dict(parameters=invnet.ActNorm(3).parameters(), lr=0.1, momentum=0.5),
    optim.Adam: dict(parameters=invnet.ActNorm(3).parameters(), lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1),
    optim.EMA: dict(parameters=invnet.ActNorm(3).parameters(), decay=0.9),
    optim.schedule: dict(lr=0.1, warmup=2, decay=0.9, cosine=10),
    invnet.train.Recipe: dict(
        epochs=1,
        batch=2,
        optimizer="adam",
        lr=0.1,
        warmup=1,
        cosine=True,
        decay=1.0,
        weight_decay=0.0,
        clip=1.0,
        ema=0.9,
        patience=1,
        most_skipped=2,
        initial=2,
        seed=0,
    ),
}


@fuzz(100, 3000)
def test_constructors_take_an_argument_or_say_what_it_has_to_be(data):
    """One argument, or two, is something else: what is made then works, or was refused at once."""
    draw = data.draw
    make = draw(st.sampled_from(sorted(CONSTRUCTORS, key=lambda f: f.__qualname__)))
    arguments = dict(CONSTRUCTORS[make])
    for name in draw(st.lists(st.sampled_from(sorted(arguments)), min_size=1, max_size=2)):
        odd = draw(st.sampled_from(ODD))
        if not (
            isinstance(CONSTRUCTORS[make][name], (str, bool, type(None))) and isinstance(odd, np.ndarray)
        ):  # which NumPy does not compare
            arguments[name] = odd
    made = answered(lambda: make(**arguments))
    if made[0] and isinstance(made[1], invnet.Layer):
        channels = getattr(made[1], "channels", None) or 3
        X = np.linspace(0.1, 0.9, 2 * channels * 16).reshape(2, channels, 4, 4).astype(made[1].dtype or "float32")
        for shape in (X.shape, (32, channels)):
            Z = answered(lambda: made[1].forward(X.reshape(shape)))
            if Z[0]:
                answered(lambda: call(made[1], "backward", Z[1][0], Z[1][0]))
