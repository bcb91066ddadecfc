"""The laws that every layer obeys, as checks of your own.

`check_layer(layer, X)` runs all of them and raises AssertionError with both numbers where one does not hold. It works
on a copy in float64 and compares gradients with central differences, so that the arrays should be small: some 50
numbers in a sample. Layer and X may be of any engine. Each law takes a copy of the layer, X, cond and a generator.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import shown
from ..core import Condition, Layer, get_ops
from .comparisons import CLOSE, EXACT, STEP, close, differences_agree, equal, normal, numbers, same_shape, total
from .layouts import c_order, every_second, fortran_order, in_dtype
from .reachable import reachable_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..typing import Array, Cond, Seed

#: a relative move of a few roundings of float32
ROUNDINGS = 1e-6


def check_layer(layer: Layer, X: Array, cond: Cond = None, seed: Seed = 0) -> None:
    """Runs every law of LAYER_LAWS.

    Args:
        layer: a Layer.
        X: (N, C, *spatial), an input with N at least 2, so that samples could mix; of the layer's engine.
        cond: the condition, or None.
        seed: of the random gradients and directions.

    Raises:
        AssertionError: a law does not hold; the text gives both numbers.
        TypeError: it is no Layer.
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"check_layer takes a Layer; got {shown(layer)}")
    two_samples(X)
    for law in LAYER_LAWS:
        law(*in_dtype("float64", layer, X, cond), np.random.default_rng(seed))


def inverse_undoes_forward(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    Z, _ = layer.forward(X, cond)
    equal("the number of entries of Z", math.prod(Z.shape), math.prod(X.shape))
    close("inverse(forward(X)) against X", layer.inverse(Z, cond), X, EXACT)


def forward_undoes_inverse(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    Z = layer.forward(X, cond)[0]
    Z = Z + 0.1 * get_ops(Z).asarray(rng.random(tuple(Z.shape)), Z) * (
        Z[[*range(1, Z.shape[0]), 0]] - Z
    )  # between what forward gave
    close("forward(inverse(Z)) against Z", layer.forward(layer.inverse(Z, cond), cond)[0], Z, EXACT)


def logdet_is_that_of_the_jacobian(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    _, logdet = layer.forward(X, cond)
    equal("the shape of logdet", tuple(logdet.shape), (X.shape[0],))
    (N, *shape), D = X.shape, math.prod(X.shape[1:])
    E = STEP * np.eye(D).reshape(D, 1, *shape)
    moved = np.concatenate([numbers(X) + E, numbers(X) - E]).reshape(
        -1, *shape
    )  # every entry of every sample, up and down
    repeated = None if cond is None else np.concatenate([numbers(cond)] * 2 * D)
    Z = layer.forward(*(array if array is None else get_ops(X).asarray(array, X) for array in (moved, repeated)))[0]
    up, down = numbers(Z).reshape(2, D, N, D)
    jacobians = np.moveaxis((up - down) / (2 * STEP), 0, 2)
    close("logdet against the numerical Jacobian's", logdet, np.linalg.slogdet(jacobians)[1], CLOSE)


def inverse_logdet_is_minus_logdet(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    Z, logdet = layer.forward(X, cond)
    X_back, inverse_logdet = layer.inverse_logdet(Z, cond)
    close("X of inverse_logdet against X", X_back, X, EXACT)
    close("the inverse's logdet against -logdet", inverse_logdet, -logdet, EXACT)


def backward_rebuilds_the_input(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    Z, _ = layer.forward(X, cond)
    dX, X_back = layer.backward(normal(rng, Z), Z, 0.0, cond)
    close("X of backward against X", X_back, X, EXACT)
    same_shape("dX", dX, X)


def gradients_are_those_of_differences(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    Z, logdet = layer.forward(X, cond)
    dZ, dlogdet = normal(rng, Z), normal(rng, logdet)
    holder = None if cond is None else Condition(cond)
    dX = _gradients_of(layer, dZ, Z, dlogdet, holder)

    def loss(X, cond):
        Z, logdet = layer.forward(X, cond)
        return total(Z * dZ) + total(logdet * dlogdet)

    differences_agree(layer, loss, X, cond, dX, holder and holder.grad, rng)


def no_dlogdet_means_the_mean_likelihood(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    Z, _ = layer.forward(X, cond)
    dZ = normal(rng, Z)
    dX, gradients = _gradients_of(layer, dZ, Z, None, cond), _gradients(layer)
    close("dX with dlogdet=None against -1/N", dX, _gradients_of(layer, dZ, Z, -1 / X.shape[0], cond), EXACT)
    close("gradients with dlogdet=None against -1/N", gradients, _gradients(layer), EXACT)


def gradients_are_added(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    Z, _ = layer.forward(X, cond)
    dZ = normal(rng, Z)
    _gradients_of(layer, dZ, Z, None, cond)
    once = _gradients(layer)
    layer.backward(dZ, Z, None, cond)
    close("gradients after two backwards against twice one", _gradients(layer), 2 * once, EXACT)


def arguments_are_unchanged(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    Z, logdet = layer.forward(X, cond)
    arguments = {"X": X, "Z": Z, "dZ": normal(rng, Z), "dlogdet": normal(rng, logdet)}
    if cond is not None:
        arguments["cond"] = cond
    before = {name: numbers(array).copy() for name, array in arguments.items()}
    layer.forward(X, cond)
    layer.inverse(Z, cond)
    layer.backward(arguments["dZ"], Z, arguments["dlogdet"], cond)
    for name, array in arguments.items():
        equal(f"whether {name} is unchanged", bool(np.array_equal(numbers(array), before[name])), True)


def samples_do_not_mix(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    """A batch of one gives what the sample gives in its batch."""
    Z, logdet = layer.forward(X, cond)
    one = None if cond is None else cond[1:2]
    Z1, logdet1 = layer.forward(X[1:2], one)
    close("Z of a batch of 1 against its row", Z1, Z[1:2], EXACT)
    close("logdet of a batch of 1 against its entry", logdet1, logdet[1:2], EXACT)
    dZ = normal(rng, Z)
    dX = layer.backward(dZ, Z, 0.5, cond)[0]
    close("dX of a batch of 1 against its row", layer.backward(dZ[1:2], Z[1:2], 0.5, one)[0], dX[1:2], EXACT)


def strides_do_not_matter(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    Z, logdet = layer.forward(X, cond)
    dZ = normal(rng, Z)
    dX = layer.backward(dZ, Z, None, cond)[0]
    for order in (c_order, fortran_order, every_second):
        Z2, logdet2 = layer.forward(order(X), cond)
        close(f"Z of an input through {order.__name__}", Z2, Z, EXACT)
        close(f"logdet of an input through {order.__name__}", logdet2, logdet, EXACT)
        close(f"dX through {order.__name__}", layer.backward(order(dZ), order(Z), None, cond)[0], dX, EXACT)


def float32_is_kept(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    def moved(array):
        return array * (1 + ROUNDINGS * normal(rng, array))

    exact, moves = (
        _step(layer, X, cond),
        [],
    )  # so much results may move: as where X, Z and the parameters move by some roundings of float32
    for _ in range(3):
        near, X_near, cond_near = in_dtype("float64", layer, X, cond)
        for parameter in near.parameters():
            parameter.data[...] = moved(parameter.data)
        moves.append(
            [np.abs(a - e).max(initial=0) for a, e in zip(_step(near, moved(X_near), cond_near, moved), exact)]
        )
    layer, X, cond = in_dtype("float32", layer, X, cond)
    Z, logdet = layer.forward(X, cond)
    dX, X_back = layer.backward(Z, Z, None, cond)
    for name, array in {
        "Z": Z,
        "logdet": logdet,
        "dX": dX,
        "the rebuilt X": X_back,
        "X of inverse": layer.inverse(Z, cond),
    }.items():
        equal(f"the dtype of {name}", str(numbers(array).dtype), "float32")
    for name, parameter in layer.named_parameters():
        equal(f"the dtype of the gradient of {name}", str(numbers(parameter.grad).dtype), "float32")
    found = {"Z": Z, "dX": dX, "the rebuilt X": X_back, "the gradients": _gradients(layer)}
    for (name, array), e, moved in zip(found.items(), exact, np.max(moves, axis=0)):
        close(
            f"{name} in float32 against float64",
            numbers(array).astype("float64"),
            e,
            max(1e-4, moved / max(1.0, np.abs(e).max(initial=0))),
        )


def initialize_gives_what_forward_gives_after(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    before = numbers(X).copy()
    Z = layer.initialize(X, cond)
    close("Z of initialize against forward after it", Z, layer.forward(X, cond)[0], EXACT)
    equal("whether X is unchanged by initialize", bool(np.array_equal(numbers(X), before)), True)


def outputs_are_arrays_of_their_own(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    Z, _ = layer.forward(X, cond)
    outputs = {"Z": (Z, X), "X of inverse": (layer.inverse(Z, cond), Z)}
    dX, X_back = layer.backward(Z, Z, None, cond)
    outputs.update({"dX": (dX, Z), "X of backward": (X_back, Z), "dX beside X": (dX, X_back)})
    for name, (output, argument) in outputs.items():
        before = numbers(argument).copy()
        output += 1
        equal(f"whether {name} is memory of its own", bool(np.array_equal(numbers(argument), before)), True)


def nothing_is_kept_between_calls(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    before = reachable_bytes(layer, X)
    Z, _ = layer.forward(X, cond)
    layer.inverse(Z, cond)
    layer.backward(Z, Z, None, cond)
    equal("bytes of arrays that the layer holds after its calls", reachable_bytes(layer, X), before)


def batch_size_may_change_between_calls(layer: Layer, X: Array, cond: Cond, rng: np.random.Generator) -> None:
    Z, _ = layer.forward(X, cond)
    twice = lambda array: None if array is None else get_ops(array).xp.concat([array, array])
    layer.forward(twice(X), twice(cond))
    close("inverse after a forward of another batch size", layer.inverse(Z, cond), X, EXACT)
    close("backward after a forward of another batch size", layer.backward(Z, Z, None, cond)[1], X, EXACT)


LAYER_LAWS: tuple[Callable[..., None], ...] = (
    inverse_undoes_forward,
    forward_undoes_inverse,
    logdet_is_that_of_the_jacobian,
    inverse_logdet_is_minus_logdet,
    backward_rebuilds_the_input,
    gradients_are_those_of_differences,
    no_dlogdet_means_the_mean_likelihood,
    gradients_are_added,
    arguments_are_unchanged,
    outputs_are_arrays_of_their_own,
    samples_do_not_mix,
    strides_do_not_matter,
    float32_is_kept,
    initialize_gives_what_forward_gives_after,
    nothing_is_kept_between_calls,
    batch_size_may_change_between_calls,
)


def _gradients_of(layer, dZ, Z, dlogdet, cond):
    layer.zero_grad()
    return layer.backward(dZ, Z, dlogdet, cond)[0]


def _step(layer, X, cond, moved=lambda Z: Z):
    """Z, dX, the rebuilt X and the gradients of a forward and a backward of Z, which has `moved` before."""
    Z = layer.forward(X, cond)[0]
    layer.zero_grad()
    try:
        dX, X_back = layer.backward(Z, moved(Z), None, cond)
    except ValueError:  # it takes the last forward's Z alone, as Exact does
        dX, X_back = layer.backward(Z, Z, None, cond)
    return numbers(Z), numbers(dX), numbers(X_back), _gradients(layer)


def _gradients(module):
    return np.concatenate([numbers(parameter.grad).ravel() for parameter in module.parameters()] or [np.zeros(0)])


def two_samples(X: Array) -> None:
    if X.shape[0] < 2:
        raise ValueError(f"the laws need at least 2 samples; got an input of shape {tuple(X.shape)}")
