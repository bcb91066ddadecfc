"""Options mean what they say: True is no number, a number no flag, a class no object, and one that does nothing is
refused.
"""

import numpy as np
import pytest
from test_fuzz import CONSTRUCTORS, net
from torch import nn

import invnet
from invnet import bases, data, inference, losses, objectives, optim, plot, testing, train
from invnet.cli import main
from invnet.inference import tutorial
from invnet.inference.line_search import HagerZhang
from invnet.inference.minimise import adam, gradient_descent
from invnet.layers.transforms import Spline
from invnet.torch import TorchNet, as_module

FLOW = invnet.Flow(invnet.ActNorm(2), (2,))
GAUSSIAN_MODEL = inference.FlowGaussianModel(
    invnet.ActNorm(2, dtype="float64"),
    np.eye(2),
    inference.Gaussian(np.zeros(2), np.eye(2)),
    inference.Wishart(5.0, np.eye(2)),
)
IMAGES = data.digits()
FLOATS, INTEGERS = np.zeros((4, 1, 2, 2)), np.zeros((4, 1, 2, 2), np.uint8)


@pytest.fixture(autouse=True)
def threads():
    before = invnet.num_threads()
    yield
    invnet.set_num_threads(before)


def setter(name):
    """A setting of a layer as a function."""

    def set_to(value):
        setattr(invnet.ActNorm(2), name, value)

    set_to.__qualname__ = name
    return set_to


#: every function and constructor that takes numbers, with arguments that it takes; those of test_fuzz too
FUNCTIONS = {
    **CONSTRUCTORS,
    invnet.IAF: CONSTRUCTORS[invnet.MAF],
    invnet.RadialFlow: CONSTRUCTORS[invnet.PlanarFlow],
    invnet.Jet: dict(channels=1, size=(4, 4), patch=2, couplings=1, depth=1, width=4, heads=2, seed=0, dtype="float32"),
    bases.Uniform: dict(low=0.0, high=1.0),
    Spline: dict(bins=4, bound=3.0, tails=None),
    optim.Adamax: dict(parameters=invnet.ActNorm(3).parameters(), lr=0.1, betas=(0.9, 0.99), eps=1e-8),
    optim.RMSprop: dict(parameters=invnet.ActNorm(3).parameters(), lr=0.1, decay=0.9, eps=1e-8),
    optim.clip_by_global_norm: dict(parameters=invnet.ActNorm(3).parameters(), max_norm=1.0),
    **{
        setter(name): dict(value=value)
        for name, value in dict(anchors=2, strict=0.5, drift_tolerance=0.5, memory_budget=1000).items()
    },
    FLOW.sample: dict(n=2, temperature=0.5, seed=3),
    FLOW.sample_and_log_prob: dict(n=2, temperature=0.5, seed=3),
    losses.bits_per_dim: dict(nats=1.0, dimensions=2, levels=4),
    objectives.annealing: dict(start=0.5, steps=10),
    objectives.from_differences: dict(function=lambda X: X.sum(axis=1), step=1e-5),
    objectives.reverse_kl: dict(flow=FLOW, log_p=data.Banana(), n=2, seed=0, beta=0.5, path=True),
    inference.Unscented: dict(alpha=1.0, beta=0.0, kappa=0.5),
    inference.MonteCarlo: dict(points=10, seed=0),
    inference.FlowProbit: dict(net=invnet.ActNorm(2, dtype="float64"), precision=2.0),
    inference.Wishart: dict(df=3.0, scale=np.eye(2)),
    inference.minimise: dict(
        objective=lambda: 0.0,
        parameters=invnet.ActNorm(2, dtype="float64").parameters(),
        optimizer="lbfgs",
        iterations=3,
        tol=1e-3,
    ),
    adam: dict(objective=lambda: 0.0, parameters=invnet.ActNorm(2, dtype="float64").parameters(), iterations=3, lr=0.1),
    gradient_descent: dict(
        objective=lambda: 0.0, parameters=invnet.ActNorm(2, dtype="float64").parameters(), iterations=3, tol=1e-3
    ),
    HagerZhang: dict(delta=0.1, sigma=0.9, rho=5.0, epsilon=1e-6, gamma=0.66, most=50),
    GAUSSIAN_MODEL.fit: dict(Y=np.eye(2), sweeps=2, tol=1e-3),
    GAUSSIAN_MODEL.sample: dict(n=2, seed=0),
    plot.image_grid: dict(images=FLOATS, columns=2),
    plot.path: dict(states=[np.eye(2)], columns=2),
    tutorial.InputLayer: dict(dim=2),
    tutorial.FlowModel: dict(dim=2, layers=(), seed=1),
    data.Banana: dict(curvature=0.5, width=0.4),
    data.Mixture: dict(means=np.zeros((2, 2)), std=0.5),
    data.EightGaussians: dict(radius=4.0, std=0.5),
    data.TwoMoons: dict(std=0.1),
    data.Pinwheel: dict(arms=5, twist=0.6),
    data.Energy: dict(k=2, wall=True),
    data.Banana().sample: dict(n=2, seed=0),
    data.quantise: dict(images=INTEGERS, levels=4, values=8),
    data.load: dict(source="digits", bits=3, validation=0.1, test=0.1, seed=0),
    train.fit: dict(
        net=invnet.Glow(1, 2, 1, 1), images=IMAGES, max_seconds=1e-3, progress=False, epochs=1, lr=1e-3, cosine=False
    ),
    TorchNet: dict(module=nn.Linear(2, 2), shape=(2,), cond_shape=None, reach=1),
    invnet.set_num_threads: dict(n=1),
}


def arguments(kind):
    """(function, argument) for every argument of that kind in the table."""
    rows = [(function, name) for function, given in FUNCTIONS.items() for name, value in given.items() if kind(value)]
    return pytest.mark.parametrize("function, name", rows, ids=lambda value: getattr(value, "__qualname__", value))


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_list_of_numbers(value):
    return isinstance(value, (tuple, list)) and len(value) > 0 and all(map(is_number, value))


@arguments(is_number)
def test_true_and_false_are_no_numbers(function, name):
    function(**FUNCTIONS[function])  # the row itself is good
    for flag in (True, False):
        with pytest.raises((TypeError, ValueError), match=f"got .*{flag}"):
            function(**{**FUNCTIONS[function], name: flag})


@arguments(is_list_of_numbers)
def test_they_are_none_in_a_list_either(function, name):
    for flag in (True, False):
        given = FUNCTIONS[function][name]
        with pytest.raises((TypeError, ValueError), match=f"got .*{flag}|got .*{int(flag)}"):
            function(**{**FUNCTIONS[function], name: [flag, *given[1:]]})


@arguments(lambda value: isinstance(value, bool))
def test_a_flag_is_true_or_false_and_no_number(function, name):
    for value in (1, 0, 2.5, "yes", None if name not in ("prior", "wall") else "no"):
        with pytest.raises((TypeError, ValueError), match=f"{name} is True or False; got"):
            function(**{**FUNCTIONS[function], name: value})


MODULES = {
    invnet.Chain: (invnet.ActNorm(2), "Chain takes Layers"),
    invnet.Reverse: (invnet.ActNorm(2), "Reverse takes a Layer"),
    invnet.Exact: (invnet.ActNorm(2), "Exact takes a Layer"),
    as_module: (invnet.ActNorm(2), "as_module takes a Layer"),
    TorchNet: (nn.ReLU(), "takes a torch.nn.Module"),
    **{
        function: (thing, said)
        for function, thing, said in [
            (lambda thing: invnet.FactorOut(4, thing), invnet.ActNorm(2), "inner and prior are Layers"),
            (
                lambda thing: invnet.FactorOut(4, invnet.ActNorm(2), thing),
                invnet.ActNorm(4),
                "inner and prior are Layers",
            ),
            (lambda thing: invnet.Flow(thing, (2,)), invnet.ActNorm(2), "takes a Layer"),
            (lambda thing: invnet.Flow(invnet.ActNorm(2), (2,), thing), bases.Normal(), "a base is a distribution"),
            (lambda thing: invnet.AffineCoupling(3, thing), net(2, 2), "a conditioner has"),
            (lambda thing: invnet.AdditiveCoupling(3, thing), net(2, 1), "a conditioner has"),
            (lambda thing: invnet.AutoregressiveAffine(3, thing), invnet.MaskedDenseNet(3, 2), "a conditioner has"),
            (lambda thing: invnet.PartitionedAdditiveCoupling(4, [thing]), net(2, 2), "conditioners"),
            (lambda thing: invnet.PartitionedAdditiveCoupling(4, thing), [net(2, 2)], "conditioners"),
            (lambda thing: invnet.save(thing, "nowhere/file"), None, "save takes a Module"),
            (
                lambda thing: train.fit(thing, IMAGES, max_seconds=1e-3, progress=False),
                invnet.Glow(1, 2, 1, 1),
                "fit takes a Layer",
            ),
            (lambda thing: objectives.forward_kl(thing, np.zeros((3, 2), "float32")), FLOW, "takes a Flow"),
            (lambda thing: objectives.reverse_kl(thing, data.Banana(), 2), FLOW, "takes a Flow"),
            (lambda thing: objectives.reverse_kl(FLOW, thing, 2), data.Banana(), "log_p is a function"),
            (
                lambda thing: inference.pushforward(invnet.ActNorm(2, dtype="float64"), np.zeros(2), np.eye(2), thing),
                inference.Unscented(),
                "the methods are linear",
            ),
            (lambda thing: optim.Adam(thing), invnet.ActNorm(2).parameters(), "takes Parameters"),
            (lambda thing: optim.EMA(thing), invnet.ActNorm(2).parameters(), "Parameters"),
            (
                lambda thing: testing.check_layer(thing, np.zeros((3, 2))),
                invnet.ActNorm(2, dtype="float64"),
                "takes a Layer",
            ),
            (
                lambda thing: testing.check_net(thing, np.zeros((3, 2))),
                net(2, 2).to(dtype="float64"),
                "takes a conditioner",
            ),
            (
                lambda thing: testing.reconstruction_error(thing, np.zeros((3, 2), "float32")),
                invnet.ActNorm(2),
                "takes a Layer",
            ),
            (lambda thing: inference.FlowProbit(thing), invnet.ActNorm(2), "takes a Layer"),
            (
                lambda thing: inference.FlowGaussianModel(
                    thing, np.eye(2), inference.Gaussian(np.zeros(2), np.eye(2)), inference.Wishart(3, np.eye(2))
                ),
                invnet.ActNorm(2),
                "takes a Layer",
            ),
            (
                lambda thing: inference.pushforward(thing, np.zeros(2), np.eye(2)),
                invnet.ActNorm(2, dtype="float64"),
                "takes a Layer",
            ),
            (
                lambda thing: inference.inverse_pushforward(thing, np.zeros(2), np.eye(2)),
                invnet.ActNorm(2, dtype="float64"),
                "takes a Layer",
            ),
            (
                lambda thing: inference.jacobian(thing, np.zeros((1, 2))),
                invnet.ActNorm(2, dtype="float64"),
                "takes a Layer",
            ),
        ]
    },
}


@pytest.mark.parametrize(
    "function",
    MODULES,
    ids=lambda f: f"{f.__qualname__}-{f.__code__.co_firstlineno}" if hasattr(f, "__code__") else f.__name__,
)
def test_a_class_where_an_object_is_meant_is_named_and_so_is_what_to_write(function):
    thing, said = MODULES[function]
    if thing is not None:
        function(thing)
    cls = {list: invnet.DenseNet}.get(type(thing), type(thing)) if thing is not None else invnet.ActNorm
    with pytest.raises((TypeError, ValueError), match=f"{said}.*the class {cls.__name__}.*{cls.__name__}\\("):
        function(cls)


UNUSED = {
    "reflections of lu": (lambda: invnet.Conv1x1(3, "lu", 2), 'reflections has no effect with parametrisation="lu"'),
    "reflections of full": (lambda: invnet.Conv1x1(3, "full", 3), "reflections has no effect"),
    "bound of sigmoid": (
        lambda: invnet.AffineCoupling(3, net(2, 2), "sigmoid", 2.0),
        'bound has no effect with scale="sigmoid".*got bound=2.0',
    ),
    "bound of doubled": (lambda: invnet.AffineCoupling(3, net(2, 2), "doubled", 4.0), "bound has no effect"),
    "bound of sigmoid, autoregressive": (
        lambda: invnet.AutoregressiveAffine(3, hidden=4, scale="sigmoid", bound=4.0),
        "bound has no effect",
    ),
    "bound of RealNVP": (lambda: invnet.RealNVP(3, 4, 2, scale="sigmoid", bound=4.0), "bound has no effect"),
    "bound of no steps": (lambda: invnet.RealNVP(3, 4, 0, scale="sigmoid", bound=4.0), "bound has no effect"),
    "bound of MAF": (lambda: invnet.MAF(3, 4, 2, scale="sigmoid", bound=4.0), "bound has no effect"),
    "bound of Glow": (lambda: invnet.Glow(3, 4, 2, 1, scale="sigmoid", bound=4.0), "bound has no effect"),
    "bound of additive": (
        lambda: invnet.Glow(3, 4, 2, 1, coupling="additive", prior=False, bound=4.0),
        'bound has no effect with coupling="additive"',
    ),
    "scale of additive": (
        lambda: invnet.Glow(3, 4, 1, 1, coupling="additive", scale="bounded"),
        'scale has no effect with coupling="additive"',
    ),
    "prior of one level": (lambda: invnet.Glow(3, 4, 1, 1, prior=True), "prior has no effect with levels=1"),
    "cond_spatial": (
        lambda: invnet.Glow(3, 4, 1, 1, cond_spatial=True),
        "cond_spatial has no effect without a condition: give cond_channels",
    ),
    "cond_spatial of vectors": (
        lambda: invnet.Glow(4, 4, 1, 1, ndim=0, cond_channels=2, cond_spatial=True),
        "cond_spatial has no effect with ndim=0",
    ),
    **{
        f"depth of {make.__name__}": (
            lambda make=make, n=n: make(3, (4, 4), n, depth=2),
            "depth has no effect beside a list of widths",
        )
        for make, n in (
            (invnet.DenseNet, 2),
            (invnet.MaskedDenseNet, 2),
            (invnet.RealNVP, 2),
            (invnet.NSF, 2),
            (invnet.MAF, 2),
            (invnet.IAF, 0),
        )
    },
    "bound of a user's numbers": (
        lambda: invnet.AffineCoupling(3, net(2, 2), "sigmoid", np.float32(2)),
        "bound has no effect",
    ),
    **{
        f"{name} beside a net": (
            lambda name=name, value=value: invnet.AffineCoupling(3, net(2, 2), **{name: value}),
            f"{name} has no effect beside a net",
        )
        for name, value in dict(hidden=4, ndim=0, cond_channels=0, seed=0, dtype="float32").items()
    },
    **{
        f"{name} beside a masked net": (
            lambda name=name, value=value: invnet.AutoregressiveSpline(
                3, invnet.MaskedDenseNet(3, 4, 23), **{name: value}
            ),
            f"{name} has no effect beside a net",
        )
        for name, value in dict(hidden=4, seed=1).items()
    },
    "weight_decay of sgd": (lambda: train.Recipe(optimizer="sgd", weight_decay=0.1), "weight_decay"),
    "notes without a run": (
        lambda: train.fit(invnet.Glow(1, 2, 1, 1), IMAGES, notes={"a": 1}, epochs=1),
        "notes has no effect without a run",
    ),
    "values of digits": (lambda: data.load("digits", values=256), "values has no effect"),
    "values of floats": (lambda: data.quantise(FLOATS, 4, values=256), "values has no effect"),
    "wall of the first energy": (lambda: data.Energy(1, wall=False), "wall has no effect"),
    "cond_shape alone": (lambda: TorchNet(nn.ReLU(), cond_shape=(2,)), "cond_shape has no effect without shape"),
    "batch_norm without any": (lambda: TorchNet(nn.ReLU(), batch_norm="update once"), "batch_norm has no effect"),
    "seed beside params": (
        lambda: tutorial.compile(
            tutorial.FlowModel(2, tutorial.AdditiveCouplingLayer(tutorial.PlanarFlow())), np.ones(3), seed=1
        ),
        "seed has no effect beside params",
    ),
}


@pytest.mark.parametrize("name", UNUSED)
def test_an_option_without_effect_is_refused(name):
    mistake, message = UNUSED[name]
    with pytest.raises(ValueError, match=message):
        mistake()


def test_what_has_an_effect_is_taken():
    invnet.Glow(3, 4, 2, 1, coupling="additive", scale="bounded", bound=2.0)  # of the prior
    invnet.Glow(3, 4, 1, 1, prior=False, cond_spatial=False)  # asks for nothing
    invnet.Conv1x1(3, "householder", 2)
    invnet.DenseNet(3, 4, 2, depth=3)
    data.Energy(1), data.Energy(2, wall=False)


LINE = {
    "values": (["train", "digits", "--values", "17"], "values has no effect"),
    "bound": (["train", "digits", "--scale", "sigmoid", "--bound", "3"], "bound has no effect"),
    "scale": (["train", "digits", "--coupling", "additive", "--no-prior", "--scale", "sigmoid"], "scale has no effect"),
    "prior": (["train", "digits", "--levels", "1", "--prior"], "prior has no effect"),
    "weight decay": (["train", "digits", "--optimizer", "sgd", "--weight-decay", "0.1"], "weight_decay"),
}


@pytest.mark.parametrize("name", LINE)
def test_the_command_line_refuses_them_too(name, tmp_path, monkeypatch, capsys):
    line, message = LINE[name]
    monkeypatch.chdir(tmp_path)
    assert main(line) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_preset_asks_for_nothing_that_an_option_rules_out(tmp_path, capsys):
    """Digits are trained with weight decay, which is Adam's."""
    tiny = ["--hidden", "2", "--levels", "1", "--steps", "1", "--batch", "512", "--epochs", "1", "--quiet"]
    assert (
        main(
            [
                "train",
                "digits",
                *tiny,
                "--optimizer",
                "adamax",
                "--coupling",
                "additive",
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )


def test_a_strict_that_is_true_does_not_lift_the_warning():
    layer = invnet.ActNorm(2)
    with pytest.raises(ValueError, match="strict.*got True"):
        layer.strict = True
    assert layer.strict is None


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: losses.bits_per_dim(1.0, 0), "dimensions is a number from 1; got 0"),
        (lambda: losses.bits_per_dim(1.0, 2, 0), "levels is a number from 1; got 0"),
        (lambda: losses.bits_per_dim(1.0, 2.5), "dimensions is an integer; got 2.5"),
        (lambda: losses.bits_per_dim("1", 2), "nats is a number or an array of numbers; got '1'"),
        (lambda: bases.Uniform([0, 0], [1, 1]), r"low is a number; got \[0, 0\]"),
        (
            lambda: invnet.Flow(invnet.ActNorm(2), (2,), invnet.Normal),
            r"a base is a distribution.*the class Normal.*Normal\(",
        ),
        (
            lambda: invnet.AffineCoupling(4),
            "takes a conditioner, net=..., or the width of one to make, hidden=...; got neither",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_say_what_was_required_and_what_came(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


LISTS = {
    "Permute": (lambda a: invnet.Permute(a), [1, 0], int),
    "MaskedDenseNet": (lambda a: invnet.MaskedDenseNet(2, 3, order=a), [1, 0], int),
    "DiagonalNormal": (lambda a: bases.DiagonalNormal(a), [1.0, 2.0], float),
    "DiagonalNormal, std": (lambda a: bases.DiagonalNormal([0.0, 0.0], a), [1.0, 2.0], float),
    "FullNormal": (lambda a: bases.FullNormal([0.0, 0.0], a), [[2.0, 1.0], [1.0, 2.0]], float),
    "GaussianMixture": (lambda a: bases.GaussianMixture(a), [[1.0, 2.0]], float),
    "Condition": (lambda a: invnet.Condition(a), [[1.0, 2.0]], float),
    "Parameter": (lambda a: invnet.Parameter(a), [1.0, 2.0], float),
    "Mixture": (lambda a: data.Mixture(a), [[1.0, 2.0]], float),
    "Gaussian": (lambda a: inference.Gaussian(a, np.eye(2)), [1.0, 2.0], float),
    "Wishart": (lambda a: inference.Wishart(3.0, a), [[2.0, 0.0], [0.0, 2.0]], float),
    "FlowProbit": (lambda a: inference.FlowProbit(invnet.ActNorm(2, dtype="float64"), a), [1.0, 2.0], float),
    "PermutationLayer": (lambda a: tutorial.PermutationLayer(a), [1, 0], int),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_constructor_takes_a_list_where_an_array_is_meant(name):
    make, given, kind = LISTS[name]
    a, b = make(given), make(np.array(given, kind))
    for key, value in vars(a).items():
        if isinstance(value, invnet.Parameter):
            value, vars(b)[key] = value.data, vars(b)[key].data
        if isinstance(value, np.ndarray):
            assert np.array_equal(value, vars(b)[key]) and value.dtype == vars(b)[key].dtype


MADE = {
    "additive": (
        lambda **o: invnet.AdditiveCoupling(4, **o),
        lambda **o: invnet.AdditiveCoupling(4, invnet.DenseNet(2, 8, 2, **o)),
        (3, 4),
    ),
    "affine": (
        lambda **o: invnet.AffineCoupling(5, **o),
        lambda **o: invnet.AffineCoupling(5, invnet.DenseNet(3, 8, 4, **o)),
        (3, 5),
    ),
    "affine, one axis": (
        lambda **o: invnet.AffineCoupling(4, ndim=1, **o),
        lambda **o: invnet.AffineCoupling(4, invnet.ConvNet(2, 8, 4, ndim=1, **o)),
        (3, 4, 6),
    ),
    "affine, images": (
        lambda **o: invnet.AffineCoupling(4, ndim=2, **o),
        lambda **o: invnet.AffineCoupling(4, invnet.ConvNet(2, 8, 4, **o)),
        (3, 4, 3, 2),
    ),
    "affine, volumes": (
        lambda **o: invnet.AffineCoupling(3, ndim=3, **o),
        lambda **o: invnet.AffineCoupling(3, invnet.ConvNet(2, 8, 2, ndim=3, **o)),
        (2, 3, 2, 2, 2),
    ),
    "spline": (
        lambda **o: invnet.SplineCoupling(4, bins=5, **o),
        lambda **o: invnet.SplineCoupling(4, invnet.DenseNet(2, 8, 28, **o), 5),
        (3, 4),
    ),
    "autoregressive": (
        lambda **o: invnet.AutoregressiveAffine(3, fast="inverse", **o),
        lambda **o: invnet.AutoregressiveAffine(3, invnet.MaskedDenseNet(3, 8, **o), "inverse"),
        (3, 3),
    ),
    "autoregressive spline": (
        lambda **o: invnet.AutoregressiveSpline(3, bins=4, **o),
        lambda **o: invnet.AutoregressiveSpline(3, invnet.MaskedDenseNet(3, 8, 11, **o), 4),
        (3, 3),
    ),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize(
    "options",
    [{}, dict(cond_channels=2, seed=3, dtype="float64"), dict(seed="a generator")],
    ids=["defaults", "options", "generator"],
)
def test_a_coupling_makes_the_conditioner_that_it_would_be_given(name, options, tmp_path):
    made, given, shape = MADE[name]
    if options.get("seed") == "a generator":
        a, b = (
            make(**{**options, "seed": np.random.default_rng(1)}, **more)
            for make, more in ((made, dict(hidden=8)), (given, {}))
        )
    else:
        a, b = made(hidden=8, **options), given(**options)
    rng = np.random.default_rng(0)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert np.array_equal(p.data, q.data)
        p.data += 0.1 * rng.standard_normal(p.data.shape)
        q.data[...] = p.data
    X = rng.standard_normal(shape).astype(a.dtype)
    cond = rng.standard_normal((shape[0], 2)).astype(a.dtype) if "cond_channels" in options else None
    Z = a.forward(X, cond)[0]
    assert np.array_equal(Z, b.forward(X, cond)[0])
    assert "hidden=8" in repr(a) and "net=" not in repr(a) and len(repr(a)) < 200
    invnet.save(a, tmp_path / "file")
    loaded = invnet.load(tmp_path / "file")
    assert np.array_equal(loaded.forward(X, cond)[0], Z)
    description = invnet.architecture.describe(a)
    assert description["arguments"]["net"] is None and description["arguments"]["hidden"] == 8
