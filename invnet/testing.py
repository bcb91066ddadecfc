"""The laws that every layer and every conditioner obeys, as checks of your own.

`check_layer(layer, X)` and `check_net(net, x)` run all of them and raise AssertionError with both numbers where one
does not hold. They work on a copy in float64 and compare gradients with central differences, so that the arrays
should be small: some 50 numbers in a sample.
"""

import copy
import gc
import types

import numpy as np

from .core import Condition, get_ops

STEP = 1e-6  # of central differences, whose relative error is then some 1e-9 in float64
CLOSE = 1e-6  # what is allowed between a gradient and central differences
EXACT = 1e-9  # what is allowed between two ways to compute the same in float64


def check_layer(layer, X, cond=None, seed=0):
    """Runs every law of LAYER_LAWS.

    Args:
        layer: a Layer.
        X: (N, C, *spatial), an input with N at least 2, so that samples could mix.
        cond: the condition, or None.
        seed: of the random gradients and directions.

    Raises:
        AssertionError: a law does not hold; the text gives both numbers.
    """
    _two_samples(X)
    for law in LAYER_LAWS:
        law(*_double(layer, X, cond), np.random.default_rng(seed))


def check_net(net, x, cond=None, seed=0):
    """Runs every law of NET_LAWS on a conditioner; arguments and errors as in check_layer."""
    _two_samples(x)
    for law in NET_LAWS:
        law(*_double(net, x, cond), np.random.default_rng(seed))


# ---- laws of a layer: each takes a float64 copy of the layer, X, cond and a generator


def inverse_undoes_forward(layer, X, cond, rng):
    Z, _ = layer.forward(X, cond)
    _equal("the number of entries of Z", Z.size, X.size)
    _close("inverse(forward(X)) against X", layer.inverse(Z, cond), X, EXACT)


def forward_undoes_inverse(layer, X, cond, rng):
    Z = layer.forward(X, cond)[0]
    Z = Z + 0.1 * rng.standard_normal(Z.shape)
    _close("forward(inverse(Z)) against Z", layer.forward(layer.inverse(Z, cond), cond)[0], Z, EXACT)


def logdet_is_that_of_the_jacobian(layer, X, cond, rng):
    _, logdet = layer.forward(X, cond)
    _equal("the shape of logdet", tuple(logdet.shape), (X.shape[0],))
    columns = []
    for i in np.ndindex(*X.shape[1:]):
        E = np.zeros_like(X)
        E[(slice(None), *i)] = STEP
        difference = layer.forward(X + E, cond)[0] - layer.forward(X - E, cond)[0]
        columns.append(difference.reshape(X.shape[0], -1) / (2 * STEP))
    _close("logdet against the numerical Jacobian's", logdet, np.linalg.slogdet(np.stack(columns, axis=2))[1], CLOSE)


def inverse_logdet_is_minus_logdet(layer, X, cond, rng):
    Z, logdet = layer.forward(X, cond)
    X_back, inverse_logdet = layer.inverse_logdet(Z, cond)
    _close("X of inverse_logdet against X", X_back, X, EXACT)
    _close("the inverse's logdet against -logdet", inverse_logdet, -logdet, EXACT)


def backward_rebuilds_the_input(layer, X, cond, rng):
    Z, _ = layer.forward(X, cond)
    dX, X_back = layer.backward(rng.standard_normal(Z.shape), Z, 0.0, cond)
    _close("X of backward against X", X_back, X, EXACT)
    _same_shape("dX", dX, X)


def gradients_are_those_of_differences(layer, X, cond, rng):
    Z, logdet = layer.forward(X, cond)
    dZ, dlogdet = rng.standard_normal(Z.shape), rng.standard_normal(logdet.shape)
    holder = None if cond is None else Condition(cond)
    dX = _pulled(layer, dZ, Z, dlogdet, holder)

    def loss(X, cond):
        Z, logdet = layer.forward(X, cond)
        return np.sum(Z * dZ) + np.sum(logdet * dlogdet)

    _differences_agree(layer, loss, X, cond, dX, holder and holder.grad, rng)


def no_dlogdet_means_the_mean_likelihood(layer, X, cond, rng):
    Z, _ = layer.forward(X, cond)
    dZ = rng.standard_normal(Z.shape)
    dX, gradients = _pulled(layer, dZ, Z, None, cond), _gradients(layer)
    _close("dX with dlogdet=None against -1/N", dX, _pulled(layer, dZ, Z, -1 / X.shape[0], cond), EXACT)
    _close("gradients with dlogdet=None against -1/N", gradients, _gradients(layer), EXACT)


def gradients_are_added(layer, X, cond, rng):
    Z, _ = layer.forward(X, cond)
    dZ = rng.standard_normal(Z.shape)
    _pulled(layer, dZ, Z, None, cond)
    once = _gradients(layer)
    layer.backward(dZ, Z, None, cond)
    _close("gradients after two backwards against twice one", _gradients(layer), 2 * once, EXACT)


def arguments_are_unchanged(layer, X, cond, rng):
    Z, logdet = layer.forward(X, cond)
    arguments = {"X": X, "Z": Z, "dZ": rng.standard_normal(Z.shape), "dlogdet": rng.standard_normal(logdet.shape)}
    if cond is not None:
        arguments["cond"] = cond
    before = {name: array.copy() for name, array in arguments.items()}
    layer.forward(X, cond)
    layer.inverse(Z, cond)
    layer.backward(arguments["dZ"], Z, arguments["dlogdet"], cond)
    for name, array in arguments.items():
        _equal(f"whether {name} is unchanged", bool(np.array_equal(array, before[name])), True)


def samples_do_not_mix(layer, X, cond, rng):
    """A batch of one gives what the sample gives in its batch."""
    Z, logdet = layer.forward(X, cond)
    one = None if cond is None else cond[1:2]
    Z1, logdet1 = layer.forward(X[1:2], one)
    _close("Z of a batch of 1 against its row", Z1, Z[1:2], EXACT)
    _close("logdet of a batch of 1 against its entry", logdet1, logdet[1:2], EXACT)
    dZ = rng.standard_normal(Z.shape)
    dX = layer.backward(dZ, Z, 0.5, cond)[0]
    _close("dX of a batch of 1 against its row", layer.backward(dZ[1:2], Z[1:2], 0.5, one)[0], dX[1:2], EXACT)


def strides_do_not_matter(layer, X, cond, rng):
    Z, logdet = layer.forward(X, cond)
    dZ = rng.standard_normal(Z.shape)
    dX = layer.backward(dZ, Z, None, cond)[0]
    for order in (np.ascontiguousarray, np.asfortranarray, _every_second):
        Z2, logdet2 = layer.forward(order(X), cond)
        _close(f"Z of an input through {order.__name__}", Z2, Z, EXACT)
        _close(f"logdet of an input through {order.__name__}", logdet2, logdet, EXACT)
        _close(f"dX through {order.__name__}", layer.backward(order(dZ), order(Z), None, cond)[0], dX, EXACT)


def float32_is_kept(layer, X, cond, rng):
    Z64 = layer.forward(X, cond)[0]
    layer.zero_grad()
    dX64, X64 = layer.backward(Z64, Z64, None, cond)
    gradients = _gradients(layer)
    layer, X, cond = copy.deepcopy(layer).to(dtype="float32"), X.astype("float32"), None if cond is None else cond.astype("float32")
    Z, logdet = layer.forward(X, cond)
    dX, X_back = layer.backward(Z, Z, None, cond)
    for name, array in {"Z": Z, "logdet": logdet, "dX": dX, "the rebuilt X": X_back, "X of inverse": layer.inverse(Z, cond)}.items():
        _equal(f"the dtype of {name}", str(array.dtype), "float32")
    for name, parameter in layer.named_parameters():
        _equal(f"the dtype of the gradient of {name}", str(parameter.grad.dtype), "float32")
    for name, array, exact in (("Z", Z, Z64), ("dX", dX, dX64), ("the rebuilt X", X_back, X64), ("the gradients", _gradients(layer), gradients)):
        _close(f"{name} in float32 against float64", array.astype("float64"), exact, 1e-4)


def initialize_gives_what_forward_gives_after(layer, X, cond, rng):
    before = X.copy()
    Z = layer.initialize(X, cond)
    _close("Z of initialize against forward after it", Z, layer.forward(X, cond)[0], EXACT)
    _equal("whether X is unchanged by initialize", bool(np.array_equal(X, before)), True)


def outputs_are_arrays_of_their_own(layer, X, cond, rng):
    Z, _ = layer.forward(X, cond)
    outputs = {"Z": (Z, X), "X of inverse": (layer.inverse(Z, cond), Z)}
    dX, X_back = layer.backward(Z, Z, None, cond)
    outputs.update({"dX": (dX, Z), "X of backward": (X_back, Z), "dX beside X": (dX, X_back)})
    for name, (output, argument) in outputs.items():
        _equal(f"whether {name} shares memory", bool(np.shares_memory(output, argument)), False)


def nothing_is_kept_between_calls(layer, X, cond, rng):
    before = _reachable_bytes(layer)
    Z, _ = layer.forward(X, cond)
    layer.inverse(Z, cond)
    layer.backward(Z, Z, None, cond)
    _equal("bytes of arrays that the layer holds after its calls", _reachable_bytes(layer), before)


def batch_size_may_change_between_calls(layer, X, cond, rng):
    Z, _ = layer.forward(X, cond)
    two = None if cond is None else np.concatenate([cond, cond])
    layer.forward(np.concatenate([X, X]), two)
    _close("inverse after a forward of another batch size", layer.inverse(Z, cond), X, EXACT)
    _close("backward after a forward of another batch size", layer.backward(Z, Z, None, cond)[1], X, EXACT)


LAYER_LAWS = (
    inverse_undoes_forward, forward_undoes_inverse, logdet_is_that_of_the_jacobian, inverse_logdet_is_minus_logdet,
    backward_rebuilds_the_input, gradients_are_those_of_differences, no_dlogdet_means_the_mean_likelihood,
    gradients_are_added, arguments_are_unchanged, outputs_are_arrays_of_their_own, samples_do_not_mix, strides_do_not_matter,
    float32_is_kept, initialize_gives_what_forward_gives_after, nothing_is_kept_between_calls, batch_size_may_change_between_calls,
)  # fmt: skip


# ---- laws of a conditioner


def vjp_gives_what_forward_gives(net, x, cond, rng):
    _close("y of vjp against forward", net.vjp(x, cond)[0], net.forward(x, cond), EXACT)


def pullback_is_that_of_differences(net, x, cond, rng):
    y, pullback = net.vjp(x, cond)
    dy = rng.standard_normal(y.shape)
    dx, dcond, gradients = pullback(dy)
    net.zero_grad()
    _equal("the number of gradients", len(gradients), len(net.parameters()))
    for parameter, gradient in zip(net.parameters(), gradients):
        _equal("the shape of a gradient", tuple(gradient.shape), tuple(parameter.data.shape))
        parameter.grad += gradient
    _differences_agree(net, lambda x, cond: np.sum(net.forward(x, cond) * dy), x, cond, dx, dcond, rng)


def net_leaves_arguments_unchanged(net, x, cond, rng):
    y, pullback = net.vjp(x, cond)
    dy = rng.standard_normal(y.shape)
    arguments = [x, dy] + ([] if cond is None else [cond])
    before = [array.copy() for array in arguments]
    net.forward(x, cond)
    pullback(dy)
    for array, old in zip(arguments, before):
        _equal("whether the arguments are unchanged", bool(np.array_equal(array, old)), True)


def net_samples_do_not_mix(net, x, cond, rng):
    one = None if cond is None else cond[1:2]
    _close("y of a batch of 1 against its row", net.forward(x[1:2], one), net.forward(x, cond)[1:2], EXACT)


def net_strides_do_not_matter(net, x, cond, rng):
    y, pullback = net.vjp(x, cond)
    dx = pullback(y)[0]
    for order in (np.ascontiguousarray, np.asfortranarray, _every_second):
        y2, pullback2 = net.vjp(order(x), cond)
        _close(f"y of an input through {order.__name__}", y2, y, EXACT)
        _close(f"dx through {order.__name__}", pullback2(order(y))[0], dx, EXACT)


def net_keeps_float32(net, x, cond, rng):
    net, x, cond = copy.deepcopy(net).to(dtype="float32"), x.astype("float32"), None if cond is None else cond.astype("float32")
    y, pullback = net.vjp(x, cond)
    dx, _, gradients = pullback(y)
    for array in (y, dx, *gradients):
        _equal("the dtype of y, dx and the gradients", str(array.dtype), "float32")


def net_keeps_nothing_between_calls(net, x, cond, rng):
    before = _reachable_bytes(net)
    y, pullback = net.vjp(x, cond)
    pullback(y)
    _equal("bytes of arrays that the conditioner holds after its calls", _reachable_bytes(net), before)


NET_LAWS = (
    vjp_gives_what_forward_gives, pullback_is_that_of_differences, net_leaves_arguments_unchanged, net_samples_do_not_mix,
    net_strides_do_not_matter, net_keeps_float32, net_keeps_nothing_between_calls,
)  # fmt: skip


# ---- what the laws are written in


def _two_samples(X):
    if X.shape[0] < 2:
        raise ValueError(f"the laws need at least 2 samples; got an input of shape {tuple(X.shape)}")


def _double(module, X, cond):
    return copy.deepcopy(module).to(dtype="float64"), X.astype("float64"), None if cond is None else cond.astype("float64")


def _pulled(layer, dZ, Z, dlogdet, cond):
    layer.zero_grad()
    return layer.backward(dZ, Z, dlogdet, cond)[0]


def _gradients(module):
    return np.concatenate([parameter.grad.ravel() for parameter in module.parameters()] or [np.zeros(0)])


def _differences_agree(module, loss, X, cond, dX, dcond, rng):
    """Central differences of `loss` in random directions, of X, of cond and of every parameter."""

    def agree(name, gradient, shape, moved):
        direction = rng.standard_normal(shape)
        difference = (moved(STEP * direction) - moved(-STEP * direction)) / (2 * STEP)
        bound = CLOSE * max(1.0, np.linalg.norm(gradient) * np.linalg.norm(direction))
        got = np.sum(gradient * direction)
        if not abs(got - difference) <= bound:
            raise AssertionError(f"the gradient of {name} gives {got:.12g} in a direction, central differences {difference:.12g}")

    for _ in range(3):
        agree("the input", dX, X.shape, lambda E: loss(X + E, cond))
        if cond is not None:
            agree("the condition", dcond, cond.shape, lambda E: loss(X, cond + E))
        for name, parameter in module.named_parameters():
            agree(name, parameter.grad, parameter.data.shape, lambda E, p=parameter: _with(p, E, lambda: loss(X, cond)))


def _with(parameter, change, value):
    kept = parameter.data.copy()
    parameter.data[...] = kept + change
    try:
        return value()
    finally:
        parameter.data[...] = kept


def _every_second(X):
    """The values of X in every second place of a larger array."""
    larger = np.zeros((*X.shape[:-1], 2 * X.shape[-1]), X.dtype)
    larger[..., ::2] = X
    return larger[..., ::2]


def _reachable_bytes(module):
    """Bytes of all arrays that can be reached from a module."""
    seen, todo, size = set(), [module], 0
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, (type, types.ModuleType, types.BuiltinFunctionType)):
            continue
        seen.add(id(thing))
        if isinstance(thing, types.FunctionType):  # what it closes over, not its module
            todo.extend([*(thing.__closure__ or ()), thing.__defaults__, thing.__kwdefaults__])
            continue
        if isinstance(thing, np.ndarray):
            size += thing.nbytes
        else:
            todo.extend(gc.get_referents(thing))
    return size


def _equal(what, got, expected):
    if got != expected:
        raise AssertionError(f"{what} is {got}; expected {expected}")


def _same_shape(name, array, X):
    _equal(f"the shape of {name}", tuple(array.shape), tuple(X.shape))


def _close(what, got, expected, tolerance):
    """|got - expected| is at most tolerance times the size of what is expected, or times one."""
    got, expected = get_ops(got).to_numpy(got), get_ops(expected).to_numpy(expected)
    _equal(f"the shape of {what}", tuple(got.shape), tuple(expected.shape))
    if got.size == 0:
        return
    error = np.abs(got - expected)
    worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
    if not error[worst] <= tolerance * max(1.0, np.abs(expected).max()):
        raise AssertionError(f"{what}: {got[worst]:.12g} and {expected[worst]:.12g} at {tuple(map(int, worst))} differ by "
                             f"{error[worst]:.3g}, more than {tolerance:.1g} relative")
