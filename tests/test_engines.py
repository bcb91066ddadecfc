"""Every operation that an engine overrides gives what the reference gives, and results are the same bits for any
threads.
"""

import contextlib
import copy
import signal
import subprocess
import sys
import time
from unittest import mock

import array_api_compat.numpy
import numpy as np
import pytest
from cases import LAYERS
from engines import engines

import invnet
from invnet.fused import FusedGroup
from invnet.ops import get_ops, tile
from invnet.ops import numpy as numpy_engine
from invnet.ops.activations import ACTIVATIONS
from invnet.ops.grid import grid_of
from invnet.ops.numpy import NumpyOps, squeeze
from invnet.ops.reference import Ops

REFERENCE, ENGINE = Ops(array_api_compat.numpy), NumpyOps()
SHAPES = [(3, 4), (2, 4, 5), (2, 4, 3, 5), (2, 4, 3, 2, 4)]
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def the_same_numbers():
    """Whatever tests were before."""
    rng.bit_generator.state = np.random.default_rng(0).bit_generator.state


def array(shape, dtype="float64"):
    """Channels-last memory of random numbers."""
    return ENGINE.copy_channels_last(rng.standard_normal(shape).astype(dtype))


def h_of(x):
    return array((x.shape[0], 2 * x.shape[1], *x.shape[2:]))


def in_place(method, *in_place_arrays):
    """What a method leaves in the arrays that it works on, and what it returns."""
    arrays = [ENGINE.copy_channels_last(a) for a in in_place_arrays]
    returned = method(*arrays)
    return [*arrays, *(returned if isinstance(returned, tuple) else (returned,))]


def even(x):
    """x twice along every spatial axis, in memory of its own."""
    for axis in range(2, x.ndim):
        x = np.concatenate([x, -x], axis)
    return ENGINE.copy_channels_last(x)


KERNEL = (5, 1, 3)
STACKS = {"wider": (6,), "narrower": (2,), "two": (7, 3), "three": (5, 9, 2)}


def network_of(widths, ndim, activation, kernel=KERNEL, dtype="float64"):
    """Layers and parameters from width to width: `kernel` and 1x1 in turn, to fewer channels transposed."""
    layers, parameters, numbers = [], [], np.random.default_rng(1)
    for i, (m, n) in enumerate(zip(widths, widths[1:])):
        k = kernel[:ndim] if i % 2 == 0 else (1,) * ndim
        transposed = m > n and np.prod(k) > 1
        shape = (*k, n, m) if transposed else (*k, m, n)
        layers.append((shape, activation, bool(transposed)))
        parameters += [(numbers.standard_normal(size) / np.sqrt(m * np.prod(k))).astype(dtype) for size in (shape, n)]
    return tuple(layers), parameters


def networked(ops, x, layers, parameters, added=None, weigh=np.sin):
    """What a network and its gradient give: y, dx, those of the parameters, and of `added`."""
    y, tape = ops.conv_stack(x, layers, parameters, added)
    alone, _ = ops.conv_stack(x, layers, parameters, added, keep=False)
    np.testing.assert_array_equal(alone, y)
    dx, gradients, dadded = ops.conv_stack_vjp(ops.copy_channels_last(weigh(y)), tape, layers, parameters)
    return [y, dx, *gradients, *([] if dadded is None else [dadded])]


def network_rows(x, widths, activation, groups):
    layers, parameters = network_of((x.shape[1], *widths), x.ndim - 2, activation)
    n = {"": 0, "samples": len(x), "positions": x.size // x.shape[1]}[groups]
    return layers, parameters, np.sin(np.arange(n * widths[0])).reshape(n, widths[0]) if n else None


def split(ops, x, change, count):
    """The first channels, and the array that has them again: by the engine within the memory of the array."""
    before, squeeze.SPLIT_IN_PLACE = squeeze.SPLIT_IN_PLACE, 0
    try:
        X = ENGINE.copy_channels_last(x)
        first = ops.split_(X, count)
        given = ENGINE.copy_channels_last(first)
        return [given, ops.join_(X, 2 * given if change else first)]
    finally:
        squeeze.SPLIT_IN_PLACE = before


M, Minv, b = array((4, 4)), array((4, 4)), array((4, 1))[:, 0]
OPERATIONS = {
    "mix_": lambda ops, x: in_place(lambda X: ops.mix_(X, M, b), x),
    "mix_ by a diagonal": lambda ops, x: in_place(lambda X: ops.mix_(X, M[0], b), x),
    "mix_vjp_": lambda ops, x: in_place(lambda dX, X: ops.mix_vjp_(dX, X, M, Minv, b), 2 * x, x),
    "mix_vjp_ by a diagonal": lambda ops, x: in_place(lambda dX, X: ops.mix_vjp_(dX, X, M[0], Minv[0], b), 2 * x, x),
    "product": lambda ops, x: [ops.product(ops.rows(x), M), ops.product(ops.rows(x)[:, 1:3], M[1:3, ::2])],
    "mix_ of part of the channels": lambda ops, x: in_place(lambda X: ops.mix_(X[:, 1:], M[1:, 1:], b[1:]), x),
    "mix_ by a diagonal of part of the channels": lambda ops, x: in_place(
        lambda X: ops.mix_(X[:, 1:], M[0, 1:], b[1:]), x
    ),
    "mix_ of every other channel": lambda ops, x: in_place(lambda X: ops.mix_(X[:, ::2], M[::2, ::2], b[:2]), x),
    "mix_vjp_ of part of the channels": lambda ops, x: in_place(
        lambda dX, X: ops.mix_vjp_(dX[:, 1:], X[:, :-1], M[1:, 1:], Minv[1:, 1:], b[1:]), 2 * x, x
    ),
    "mix_vjp_ of every other channel": lambda ops, x: in_place(
        lambda dX, X: ops.mix_vjp_(dX[:, ::2], X[:, ::-2], M[::2, ::2], Minv[::2, ::2], b[:2]), 2 * x, x
    ),
    "squeeze_": lambda ops, x: [ops.squeeze_(even(x))] if x.ndim > 2 else [],
    "squeeze_ of part of the channels": lambda ops, x: [ops.squeeze_(even(x)[:, 1:])] if x.ndim > 2 else [],
    "unsqueeze_": lambda ops, x: (
        [ops.unsqueeze_(ENGINE.copy_channels_last(np.concatenate([x] * 4, axis=1)))] if x.ndim > 2 else []
    ),
    "copy_channels_last": lambda ops, x: [ops.copy_channels_last(x[:, ::-1])],
    **{
        f"conv_stack {name}, {activation}, {groups}": lambda ops, x, how=(widths, activation, groups): networked(
            ops, x, *network_rows(x, *how)
        )
        for name, widths in STACKS.items()
        for activation in (*ACTIVATIONS, None)
        for groups in ("", "samples", "positions")
    },
    **{
        f"activate, {activation}": lambda ops, x, a=activation: list(ops.activate(ops.rows(x), a))
        for activation in (*ACTIVATIONS, None)
    },
    **{
        f"activate_vjp, {activation}": lambda ops, x, a=activation: [
            ops.activate_vjp(ops.rows(x), np.abs(ops.rows(x)) - 0.5, a)
        ]
        for activation in (*ACTIVATIONS, None)
    },
    "normal_cdf": lambda ops, x: [ops.normal_cdf(5 * x)],
    "conv_stack of part of the channels": lambda ops, x: networked(
        ops, x[:, 1:], *network_rows(x[:, 1:], (6, 2), "silu", "")
    ),
    "conv_stack of every other channel": lambda ops, x: networked(
        ops, x[:, ::2], *network_rows(x[:, ::2], (6, 2), "silu", "")
    ),
    "conv_stack of one sample": lambda ops, x: networked(
        ops, x[:1], *network_rows(x[:1], (6, 7, 2), "silu", "samples")
    ),
    "conv_stack of no sample": lambda ops, x: networked(ops, x[:0], *network_rows(x[:0], (6, 7, 2), "silu", "samples")),
    **{
        f"{name} {count}": lambda ops, x, change=change, count=count: split(ops, x, change, count)
        for name, change in (("split_", False), ("join_", True))
        for count in (1, 3)
    },
    "taps": lambda ops, x: [ops.taps(x[:, 1:], KERNEL[: x.ndim - 2]), ops.taps(x[:1, ::2], (1,) * (x.ndim - 2))],
    "shift_add": lambda ops, x: [
        ops.shift_add(
            np.concatenate([ops.rows(x)] * np.prod(KERNEL[: x.ndim - 2], dtype=int), axis=1),
            x.shape,
            KERNEL[: x.ndim - 2],
        )
    ],
    "add_": lambda ops, x: in_place(lambda X: ops.add_(X[:, 1:3], h_of(x)[:, 2:4] * 0 + 1), x),
    "zero_": lambda ops, x: in_place(lambda X, Y: ops.zero_([X, Y]), x, 2 * x),
    "deviation": lambda ops, x: [ops.full(1, float(number), x) for number in ops.deviation(x, x[:, ::-1])],
    "inverse": lambda ops, x: [ops.inverse(M)],
    "update_": lambda ops, x: in_place(
        lambda X: ops.update_(
            lambda ops, part, more: part.__iadd__(2 * ops.xp.sqrt(more)), X.reshape(-1), np.ones(X.size)
        ),
        x,
    ),
    "spline_vjp of no row": lambda ops, x: list(
        ops.spline_vjp(ops.rows(x[:0]), ops.rows(x[:0]), P[x.shape][:0], 1.0, each[:0])
    ),
    "diagonal_matrix": lambda ops, x: [ops.diagonal_matrix(b)],
    "log_scale bounded": lambda ops, x: [ops.log_scale(ops.rows(x), ("bounded", 3.0))],
    "log_scale sigmoid": lambda ops, x: [ops.log_scale(ops.rows(x), ("sigmoid", 3.0))],
    "log_scale doubled": lambda ops, x: [ops.log_scale(ops.rows(x), ("doubled", 3.0))],
}
for scale in (("bounded", 3.0), ("sigmoid", 1.0), ("doubled", 1.0)):
    h, each = {shape: h_of(array(shape)) for shape in SHAPES}, np.array([0.3, -0.7, 0.2])
    OPERATIONS[f"couple_ {scale[0]}"] = lambda ops, x, s=scale, h=h: in_place(
        lambda X: ops.couple_(X, h[x.shape], s), x
    )
    OPERATIONS[f"uncouple_ {scale[0]}"] = lambda ops, x, s=scale, h=h: in_place(
        lambda X: ops.uncouple_(X, h[x.shape], s), x
    )
    OPERATIONS[f"couple_vjp_ {scale[0]}"] = lambda ops, x, s=scale, h=h: in_place(
        lambda dX, X: ops.couple_vjp_(dX, X, h[x.shape], s, each[: len(x)]), 2 * x, x
    )
    OPERATIONS[f"uncouple_vjp_ {scale[0]}"] = lambda ops, x, s=scale, h=h: in_place(
        lambda dX, X: ops.uncouple_vjp_(dX, X, h[x.shape], s, each[: len(x)]), 2 * x, x
    )


P = {
    shape: 0.7 * array((array(shape)[:, 0].size, 4, 11)) for shape in SHAPES
}  # of splines of 4 bins, (rows, C, parameters)
u, w = 2 * b, M[0]
for inverse in (False, True):
    OPERATIONS[f"planar_ {inverse}"] = lambda ops, x, i=inverse: in_place(lambda X: ops.planar_(X, u, w, u[:1], i), x)
    OPERATIONS[f"planar_vjp_ {inverse}"] = lambda ops, x, i=inverse: in_place(
        lambda dX, X: tuple(ops.planar_vjp_(dX, X, u, w, u[:1], each[: len(x)], i)), 2 * x, x
    )
    OPERATIONS[f"planar_vjp_ {inverse}, of zero"] = lambda ops, x, i=inverse: in_place(
        lambda dX, X: tuple(ops.planar_vjp_(dX, X, u, 0 * w, u[:1], each[: len(x)], i)), 2 * x, x
    )
    OPERATIONS[f"radial_ {inverse}"] = lambda ops, x, i=inverse: in_place(
        lambda X: ops.radial_(X, u, np.array([0.7, 1.9]), i), x
    )
    OPERATIONS[f"radial_vjp_ {inverse}"] = lambda ops, x, i=inverse: in_place(
        lambda dX, X: tuple(ops.radial_vjp_(dX, X, u, np.array([1.9, 0.7]), each[: len(x)], i)), 2 * x, x
    )
for name in ("spline", "spline_inverse"):
    OPERATIONS[name] = lambda ops, x, name=name: list(getattr(ops, name)(ops.rows(x), P[x.shape], 1.0))
    OPERATIONS[f"{name} with parameters strided"] = lambda ops, x, name=name: list(
        getattr(ops, name)(ops.rows(x)[:, 1:3], P[x.shape].transpose(0, 2, 1)[:, :5, 1:3].transpose(0, 2, 1), 1.0)
    )
    OPERATIONS[f"{name}_vjp"] = lambda ops, x, name=name: list(
        getattr(ops, f"{name}_vjp")(2 * ops.rows(x), ops.rows(x), P[x.shape], 1.0, ops.at_rows(each[: len(x)], x))
    )


GRID = grid_of(16.0, 8)


def on_grid(method):
    """A row for method(ops, X, h): numbers of the grid, where the sums that are rounded are far from a half, as nearly
    all are.
    """

    def row(ops, x):
        X = ENGINE.copy_channels_last(x)
        ops.snap_(X, GRID)
        returned = method(ops, X, h[x.shape])
        return [X, *([] if returned is None else [returned])]

    return row


def undone(ops, X, h):
    logdet, bits = ops.couple_on_grid_(X, h, ("bounded", 3.0), GRID)
    return logdet + ops.uncouple_on_grid_(X, h, ("bounded", 3.0), GRID, bits)


few = np.clip(b**2, 0.1, 3)  # factors that leave numbers on the grid

OPERATIONS |= {
    "add_on_grid_": on_grid(lambda ops, X, h: ops.add_on_grid_(X[:, 1:], h[:, 1:4], GRID)),
    "add_on_grid_ of a shift": on_grid(lambda ops, X, h: ops.add_on_grid_(X, b, GRID)),
    "subtract_on_grid_": on_grid(lambda ops, X, h: ops.subtract_on_grid_(X, h[:, ::2], GRID)),
    "couple_on_grid_": on_grid(lambda ops, X, h: ops.couple_on_grid_(X, h, ("sigmoid", 3.0), GRID)[0]),
    "uncouple_on_grid_, to the nearest": on_grid(
        lambda ops, X, h: ops.uncouple_on_grid_(X, h, ("bounded", 3.0), GRID, None)
    ),
    "uncouple_on_grid_": on_grid(undone),
    "scale_on_grid_": on_grid(lambda ops, X, h: ops.unscale_on_grid_(X, few, GRID, ops.scale_on_grid_(X, few, GRID))),
    "lift_": on_grid(lambda ops, X, h: ops.lift_(X, ops.lifting(M), GRID)),
    "unlift_": lambda ops, x: on_grid(lambda ops, X, h: ops.unlift_(X[:, 1:], ops.lifting(Minv[1:, 1:]), GRID))(
        ops, x / 4
    ),  # within the grid's limits
    "lifting": lambda ops, x: list(ops.lifting(M)),
}


def a_run(*layers):
    """Neighbours that an engine does in one call, with numbers at which every term counts."""
    (run,), numbers = invnet.Chain(*layers)._steps, np.random.default_rng(3)
    for p in run.parameters():
        p.data += 0.3 * numbers.standard_normal(p.data.shape)
    return run


def ran(ops, x, run, inverse, back):
    """What a fused group gives, or of its results the gradients; REFERENCE has its layers called one by one."""
    with mock.patch.object(FusedGroup, "_plan", lambda *group: None) if ops is REFERENCE else contextlib.nullcontext():
        X, logdet = (run.inverse_logdet_ if inverse else run.forward_)(ENGINE.copy_channels_last(x))
        if not back:
            return [X, logdet]
        for p in run.parameters():
            p.grad[...] = 0
        backward_ = run.inverse_backward_ if inverse else run.backward_
        return [
            *backward_(ENGINE.copy_channels_last(np.sin(X)), X, each[: len(x)]),
            *(p.grad.copy() for p in run.parameters()),
        ]


def dense(C, **more):
    return invnet.AffineCoupling(C, invnet.DenseNet(C - C // 2, (5, 18), 2 * (C // 2), dtype="float64", **more))


f64 = {"dtype": "float64"}
RUNS = {
    "mixes": a_run(
        invnet.ActNorm(4, **f64),
        *(invnet.Conv1x1(4, how, **f64) for how in ("lu", "full", "householder")),
        invnet.Permute.random(4),
        invnet.ActNorm(4, **f64),
    ),
    "couplings": a_run(dense(4), invnet.Permute.reversal(4), invnet.Conv1x1(4, **f64), dense(4, activation="silu")),
    "autoregressive": a_run(
        *(
            invnet.AutoregressiveAffine(4, invnet.MaskedDenseNet(4, (6, 9), **f64), fast, scale)
            for fast, scale in (("forward", "sigmoid"), ("inverse", "bounded"))
        )
    ),
}
for name, run in RUNS.items():
    for inverse in (False, True):
        OPERATIONS[f"group {name} {inverse}"] = lambda ops, x, r=run, i=inverse: ran(ops, x, r, i, False)
        OPERATIONS[f"group's backward {name} {inverse}"] = lambda ops, x, r=run, i=inverse: ran(ops, x, r, i, True)


def stepped(ops):
    """Parameters, their gradients, m and v after a step of Adam."""
    arrays = [b.copy(), 2 * b, 3 * b, b * b]
    ops.adam_(*arrays, 0.9, 0.99, 0.1, 1.3, 1e-3)
    return arrays


OPERATIONS["adam_"] = lambda ops, x: stepped(ops)
OPERATIONS["mean_square"] = lambda ops, x: [ops.mean_square(b[:, None] * b[:3])]
OPERATIONS["largest_square"] = lambda ops, x: [ops.largest_square(b[:, None] * b[:3], b[:, None] * b[1:4])]
OPERATIONS["at_rows"] = lambda ops, x: [ops.at_rows(each[: len(x)], x)]


class OnArrays:
    """The operations of another engine, on NumPy arrays: on the CPU in their memory, else on copies that are written
    back.
    """

    def __init__(self, engine):
        self.engine, self.name = engine, engine.name

    def __getattr__(self, name):
        def call(*arguments, **options):
            copies = []

            def there(value):
                if isinstance(value, np.ndarray):
                    copies.append((value, self.engine.moved(value)))
                    return copies[-1][1]
                return list(map(there, value)) if isinstance(value, list) else value

            with self.engine.used():
                result = getattr(self.engine.ops, name)(*map(there, arguments), **options)
                for value, moved in copies:
                    value[...] = self.engine.back(moved)
            return (back(result[0]), result[1]) if name == "conv_stack" else back(result)  # a tape is the engine's own

        def back(value):
            if type(value) in (list, tuple):
                return type(value)(map(back, value))
            return self.engine.back(value) if hasattr(value, "ndim") else value

        return call


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_engine_gives_what_the_reference_gives(name, shape):
    agrees(ENGINE, name, shape)


@engines()
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "name", [name for name in OPERATIONS if not name.startswith("group")]
)  # whose layers are NumPy's here; the laws run others
def test_another_engine_gives_what_the_reference_gives(name, shape, engine):
    agrees(OnArrays(engine), name, shape)


def agrees(ops, name, shape):
    x = array(shape)
    for got, expected in zip(OPERATIONS[name](ops, x), OPERATIONS[name](REFERENCE, x), strict=True):
        if expected is not None:
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def distance(a, b):
    """Relative to the norm."""
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300)


#: x's shape, widths after its channels, kernel
RAGGED = {
    **{f"{m} to {n}": ((2, m, 4, 5), (n,), (3, 3)) for m in (1, 3, 17, 20, 33) for n in (1, 3, 17, 20, 33)},
    **{f"1x1, {m} to {n}": ((2, m, 4, 5), (n,), (1, 1)) for m in (1, 17, 33) for n in (1, 17, 33)},
    "vectors, 17 to 33 to 5": ((30, 17), (33, 5), ()),
    "many rows": ((2, 6, 12, 13), (20, 33, 17), (3, 3)),
    "many rows of vectors": ((333, 6), (20, 17, 3), ()),
    "wide": ((2, 3, 9, 8), (300, 300, 5), (3, 3)),
    "wide vectors": ((250, 17), (300, 261, 300, 2), ()),
    "wide, one row": ((1, 300), (300,), ()),
    "a kernel wider than the image": ((2, 3, 2, 1), (5, 4, 2), (7, 5)),
    "one transposed tap": ((2, 6, 4, 5), (3,), None),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RAGGED)
def test_networks_of_ragged_and_wide_layers(name, dtype):
    ragged(ENGINE, name, dtype)


@engines()
@pytest.mark.parametrize("name", RAGGED)
def test_networks_of_ragged_and_wide_layers_on_another_engine(name, engine):
    ragged(OnArrays(engine), name, "float32")


def ragged(ops, name, dtype):
    shape, widths, kernel = RAGGED[name]
    layers, parameters = network_of((shape[1], *widths), len(shape) - 2, "silu", kernel or (1, 1), dtype)
    if kernel is None:
        layers, parameters[0] = (((1, 1, 3, 6), "silu", True),), parameters[0].reshape(1, 1, 3, 6)
    x, added = array(shape, dtype), rng.standard_normal((shape[0], widths[0])).astype(dtype)
    got = networked(ops, x, layers, parameters, added)
    expected = networked(
        REFERENCE, x.astype("float64"), layers, [a.astype("float64") for a in parameters], added.astype("float64")
    )
    for a, e in zip(got, expected, strict=True):
        assert a.dtype == dtype
        assert distance(a, e) < (1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("C", [1, 3, 17, 48])
def test_mixes_of_ragged_numbers_of_channels(C, dtype):
    numbers = np.random.default_rng(C)
    M, Minv = (numbers.standard_normal((C, C)).astype(dtype) / np.sqrt(C) for _ in range(2))
    z, dz, b = (
        array((3, C + 2, 5, 11), dtype),
        array((3, C + 2, 5, 11), dtype),
        numbers.standard_normal(C).astype(dtype),
    )
    for matrix, inverse in ((M, Minv), (M[0].copy(), Minv[0].copy())):
        calls = [
            lambda ops, Z, dZ, matrix, inverse, b: [ops.mix_(Z[:, 1:-1], matrix, b)],
            lambda ops, Z, dZ, matrix, inverse, b: ops.mix_vjp_(dZ[:, 1:-1], Z[:, 1:-1], matrix, inverse, b),
        ]
        for call in calls:
            got, expected = [], []
            for ops, results, kind in ((ENGINE, got, dtype), (REFERENCE, expected, "float64")):
                Z, dZ, *others = (a.astype(kind) for a in (z, dz, matrix, inverse, b))
                Z, dZ = ops.copy_channels_last(Z), ops.copy_channels_last(dZ)
                results += [*call(ops, Z, dZ, *others), Z, dZ]
            for a, e in zip(got, expected, strict=True):
                assert e is None or distance(a, e) < (1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("change", ["read-only", "byte order", "channels first", "reversed"])
def test_a_network_takes_arrays_as_they_come(change):
    def as_it_comes(a):
        if change == "read-only":
            a = a.copy()
            a.flags.writeable = False
        return {
            "byte order": lambda: a.astype(">f8"),
            "channels first": lambda: np.ascontiguousarray(a),
            "reversed": lambda: a[::-1, :, ::-1][::-1, :, ::-1],
            "read-only": lambda: a,
        }[change]()

    x, (layers, parameters) = array((2, 4, 5, 3)), network_of((4, 6, 2), 2, "softplus")
    expected = networked(REFERENCE, x, layers, parameters)
    y, tape = ENGINE.conv_stack(as_it_comes(x), layers, parameters)
    dx, gradients, _ = ENGINE.conv_stack_vjp(as_it_comes(np.sin(y)), tape, layers, parameters)
    for got, e in zip([y, dx, *gradients], expected, strict=True):
        assert got.dtype.isnative
        np.testing.assert_allclose(got, e, rtol=1e-12, atol=1e-12)


RECTIFIERS = pytest.mark.parametrize("activation, slope", [("relu", 0.0), ("leaky_relu", 0.01)])


@pytest.mark.parametrize("ops", [ENGINE, REFERENCE], ids=lambda ops: ops.name)
@RECTIFIERS
def test_a_rectifier_keeps_nan_and_takes_infinities(ops, activation, slope):
    rectifies(ops, activation, slope)


@engines()
@RECTIFIERS
def test_a_rectifier_keeps_nan_and_takes_infinities_on_another_engine(engine, activation, slope):
    rectifies(OnArrays(engine), activation, slope)


def rectifies(ops, activation, slope):
    x = np.array([[np.nan], [-np.inf], [np.inf], [-2.0], [3.0]])
    layers, parameters = (((1, 1), activation, False),), [np.ones((1, 1)), np.zeros(1)]
    y, tape = ops.conv_stack(x, layers, parameters)
    low = -np.inf if slope else 0.0
    np.testing.assert_array_equal(y[:, 0], [np.nan, low, np.inf, -2 * slope, 3])
    with np.errstate(invalid="ignore"):  # whether BLAS raises the flag for a product with NaN depends on the processor
        dx, _, _ = ops.conv_stack_vjp(np.ones_like(y), tape, layers, parameters)
    np.testing.assert_array_equal(dx[1:, 0], [slope, 1, slope, 1])


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool"])
def test_a_condition_of_another_dtype(dtype):
    net, x = invnet.ConvNet(3, 6, 4, cond_channels=2), array((2, 3, 4, 5), "float32")
    cond = np.eye(2, dtype=dtype)
    y, pullback = net.vjp(x, cond)
    expected, expected_pullback = net.vjp(x, cond.astype("float32"))
    for got, e in zip(
        [y, *pullback(y)[:2], *pullback(y)[2]],
        [expected, *expected_pullback(y)[:2], *expected_pullback(y)[2]],
        strict=True,
    ):
        np.testing.assert_allclose(got, e, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_slope_of_a_saturated_sigmoid_does_not_cancel(dtype):
    saturates(ENGINE, dtype)


@engines()
def test_the_slope_of_a_saturated_sigmoid_does_not_cancel_on_another_engine(engine):
    saturates(OnArrays(engine), "float32")


def saturates(engine, dtype):
    raw = np.array([[-30.0], [0.0], [10.0], [18.0]], dtype)
    h, ones = np.concatenate([0 * raw, raw], axis=1), np.ones((4, 1), dtype)
    dh = [ops.couple_vjp_(ones.copy(), ones.copy(), h, ("sigmoid", 1.0), ones[:, 0]) for ops in (engine, REFERENCE)]
    np.testing.assert_allclose(*dh, rtol=20 * np.finfo(dtype).eps)


def test_every_override_has_a_row():
    has_rows(NumpyOps)


@engines()
def test_every_override_of_another_engine_has_a_row(engine):
    for cls in type(engine.ops).__mro__:
        if not issubclass(Ops, cls):
            has_rows(cls)


def has_rows(cls):
    overridden = {name for name in vars(cls) if hasattr(Ops, name) and not name.startswith("_")}
    tested = {name.split()[0].rstrip(",") for name in OPERATIONS} | {"conv_stack_vjp"}
    trivial = {
        "name",
        "is_float",
        "same_dtype",
        "astype",
        "asarray",
        "from_numpy",
        "to_numpy",
        "full",
        "images",
        "rows",
        "sum_positions",
        "tiles",
        "map_tiles",
        "copy",
        "at_work",
        "host_array",
        "empty",
        "checksum",
        "lasting_memory",
        "detach",
        "free_memory",
        "zeros_like",
        "in_full_precision",
        "asynchronous",
        "errstate",
        "fingerprint",
        "same",
        "precision",
    }
    assert overridden <= tested | trivial, overridden - tested - trivial


def step_bits(threads, shape=(96, 3, 32, 32)):
    """Everything that one training step gives, as bytes."""
    before = invnet.num_threads()
    invnet.set_num_threads(threads)
    try:
        net = invnet.Glow(shape[1], 64, 2, 2, ndim=len(shape) - 2)
        X = np.random.default_rng(0).standard_normal(shape).astype("float32")
        net.initialize(X)
        for p in net.parameters():
            p.data += np.random.default_rng(1).standard_normal(p.data.shape).astype("float32") * 0.1
        Z, logdet = net.forward(X)
        dX, X_back = net.backward(Z, Z)
        return b"".join(a.tobytes() for a in (Z, logdet, dX, X_back, *(p.grad for p in net.parameters())))
    finally:
        invnet.set_num_threads(before)


def bent_bits(threads):
    """What layers without a conditioner give for more rows than one thread takes, and their gradients."""
    before = invnet.num_threads()
    invnet.set_num_threads(threads)
    try:
        net = invnet.Chain(invnet.Planar(2), invnet.Radial(2), invnet.Planar(2, seed=1))
        for p in net.parameters():
            p.data += np.random.default_rng(1).standard_normal(p.data.shape).astype("float32") * 0.3
        X = np.random.default_rng(0).standard_normal((40000, 2)).astype("float32")
        Z, logdet = net.forward(X)
        dX, X_back = net.backward(Z, Z)
        return b"".join(a.tobytes() for a in (Z, logdet, dX, X_back, *(p.grad for p in net.parameters())))
    finally:
        invnet.set_num_threads(before)


def test_same_bits_for_1_2_and_4_threads_in_layers_without_a_conditioner():
    assert bent_bits(1) == bent_bits(2) == bent_bits(4)


def test_same_bits_for_1_2_and_4_threads():
    assert len(ENGINE.tiles((96, 12, 16, 16), 200, 2, 10000)) > 2  # several tiles, or the test says nothing
    assert step_bits(1) == step_bits(2) == step_bits(4)


@pytest.mark.parametrize(
    "name",
    [
        "Glow",
        "Glow, conditional",
        "Glow, one axis",
        "Glow, three axes",
        "coupling, spatial condition",
        "Glow, additive, householder, no prior",
        "Reverse of Glow, conditional",
    ],
)
def test_blocks_of_an_image_give_what_the_whole_gives(name, monkeypatch):
    def everything():
        layer, X, cond = LAYERS[name].build()
        X, cond = (
            None if a is None else np.concatenate([np.concatenate([a, a[:, :, ::-1]], axis=2)] * 2, axis=-1)
            for a in (X, cond)
        )
        holder = None if cond is None else invnet.Condition(cond)
        Z, logdet = layer.forward(X, cond)
        dX, X_back = layer.backward(np.sin(Z), Z, 0.3, holder)
        return [
            Z,
            logdet,
            dX,
            X_back,
            *(p.grad for p in layer.parameters()),
            *([] if holder is None else [holder.grad]),
        ]

    whole = everything()
    made = []
    monkeypatch.setattr(numpy_engine, "_tiles", numpy_engine._tiles.__wrapped__)  # or it remembers tiles
    monkeypatch.setattr(numpy_engine, "TILE_BYTES", 2500)
    monkeypatch.setattr(
        tile, "tiles_of", lambda *how, tiles_of=tile.tiles_of: [made.append(each) or each for each in tiles_of(*how)]
    )
    for got, expected in zip(everything(), whole, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    assert any(not tile.whole for tile in made)


def test_an_error_in_a_worker_reaches_the_caller_and_the_next_call_works():
    def work(tile):
        if tile == 3:
            raise RuntimeError("tile 3")
        return tile

    before = invnet.num_threads()
    invnet.set_num_threads(4)
    try:
        with pytest.raises(RuntimeError, match="tile 3"):
            ENGINE.map_tiles(work, list(range(100)), lambda result: None)
        done = []
        ENGINE.map_tiles(lambda tile: tile, list(range(100)), done.append)
        assert done == list(range(100))
    finally:
        invnet.set_num_threads(before)


class FlowInside(invnet.Conditioner):
    """A conditioner from 3 to 6 channels that contains a flow of 3."""

    def __init__(self):
        self.flow = invnet.Glow(3, 8, 1, 1, ndim=0)

    def forward(self, x, cond=None):
        return np.concatenate([self.flow.forward(x)[0]] * 2, axis=1)


def test_a_flow_within_a_conditioner_finds_its_threads():
    before = invnet.num_threads()
    invnet.set_num_threads(2)
    try:
        X = np.random.default_rng(0).standard_normal((30000, 6)).astype("float32")
        Z, _ = invnet.AffineCoupling(6, FlowInside()).forward(X)
        np.testing.assert_array_equal(Z[:, :3], X[:, :3])
    finally:
        invnet.set_num_threads(before)


FIRST = 0.123


class OnConcatenation(invnet.Conditioner):
    """A conditioner that sees the condition as further channels: its dcond is a view of the gradient of its input."""

    def __init__(self):
        self.net = invnet.ConvNet(4, 8, 4, activation="softplus", dtype="float64")
        for p in self.net.parameters():
            p.data += 0.1 * np.random.default_rng(0).standard_normal(p.data.shape)

    def forward(self, x, cond=None):
        return self.net.forward(np.concatenate([x, cond], axis=1))

    def vjp(self, x, cond=None):
        y, pullback = self.net.vjp(np.concatenate([x, cond], axis=1))
        if x[0, 0, 0, 0] == FIRST:
            time.sleep(0.1)  # the other threads are many tiles on before this one is committed

        def split_pullback(dy):
            dx, _, gradients = pullback(dy)
            return dx[:, :2], dx[:, 2:], gradients

        return y, split_pullback


def test_the_gradient_of_a_condition_outlives_its_tile():
    layer, rng = invnet.AffineCoupling(4, OnConcatenation()), np.random.default_rng(0)
    X, cond = rng.standard_normal((64, 4, 16, 16)), rng.standard_normal((64, 2, 16, 16))
    X[0, 0, 0, 0] = FIRST
    before, gradients = invnet.num_threads(), []
    try:
        for threads in (1, 3, 1, 3):
            invnet.set_num_threads(threads)
            holder = invnet.Condition(cond)
            Z, _ = layer.forward(X, cond)
            layer.backward(Z, Z, 0.0, holder)
            gradients.append(holder.grad)
    finally:
        invnet.set_num_threads(before)
    one = np.concatenate([_condition_gradient(layer, X[n : n + 1], cond[n : n + 1]) for n in range(64)])
    for gradient in gradients:
        np.testing.assert_allclose(gradient, one, rtol=1e-9, atol=1e-12)


def _condition_gradient(layer, X, cond):
    holder = invnet.Condition(cond)
    Z, _ = layer.forward(X, cond)
    layer.backward(Z, Z, 0.0, holder)
    return holder.grad


def test_ctrl_c_comes_after_the_threads_are_done(monkeypatch):
    before, done = invnet.num_threads(), []
    invnet.set_num_threads(3)

    def work(tile):
        if tile == 5:
            signal.raise_signal(signal.SIGINT)
        return tile

    try:
        with pytest.raises(KeyboardInterrupt):
            ENGINE.map_tiles(work, list(range(20)), done.append)
    finally:
        invnet.set_num_threads(before)
    assert done == list(range(20))


def test_a_copied_layer_computes_the_same_alone():
    net = invnet.Glow(3, 8, 1, 1)
    other = copy.deepcopy(net)
    X = np.ones((2, 3, 4, 4), "float32")
    net.parameters()[0].data += 1
    assert not np.array_equal(net.forward(X)[0], other.forward(X)[0])


def test_importing_invnet_imports_no_engine_but_numpy():
    code = "import sys, invnet; print([m for m in ('torch', 'cupy', 'numba', 'matplotlib', 'sklearn', 'scipy', 'invnet.bench') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_an_array_of_an_unknown_library_is_named():
    with pytest.raises(TypeError, match="builtins.list"):
        get_ops([1.0])


def test_the_sum_of_many_positions_is_that_of_sums_of_sums():
    """Numbers added one after the other lose sqrt(n) roundings and more; sums of sums log n."""
    R = np.random.default_rng(0).random((3, 1 << 20), dtype="float32")
    sums = get_ops(R).sum_positions(R.reshape(-1, 4), 3)
    np.testing.assert_allclose(sums, R.sum(axis=1, dtype="float64"), rtol=8 * np.finfo("float32").eps)
