"""The laws that every layer and every conditioner obeys, as checks of your own.

`check_layer(layer, X)` and `check_net(net, x)` run all of them and raise AssertionError with both numbers where one
does not hold. They work on a copy in float64 and compare gradients with central differences, so that the arrays
should be small: some 50 numbers in a sample. Layer and X may be of any engine.
"""

import copy
import gc
import math
import types

import numpy as np

from ..core import Condition, get_ops

STEP = 1e-6  # of central differences, whose relative error is then some 1e-9 in float64
CLOSE = 1e-6  # what is allowed between a gradient and central differences
EXACT = 1e-9  # what is allowed between two ways to compute the same in float64


def check_layer(layer, X, cond=None, seed=0):
    """Runs every law of LAYER_LAWS.

    Args:
        layer: a Layer.
        X: (N, C, *spatial), an input with N at least 2, so that samples could mix; of the layer's engine.
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
    _equal("the number of entries of Z", math.prod(Z.shape), math.prod(X.shape))
    _close("inverse(forward(X)) against X", layer.inverse(Z, cond), X, EXACT)


def forward_undoes_inverse(layer, X, cond, rng):
    Z = layer.forward(X, cond)[0]
    Z = Z + 0.1 * _normal(rng, Z)
    _close("forward(inverse(Z)) against Z", layer.forward(layer.inverse(Z, cond), cond)[0], Z, EXACT)


def logdet_is_that_of_the_jacobian(layer, X, cond, rng):
    _, logdet = layer.forward(X, cond)
    _equal("the shape of logdet", tuple(logdet.shape), (X.shape[0],))
    (N, *shape), D = X.shape, math.prod(X.shape[1:])
    E = STEP * np.eye(D).reshape(D, 1, *shape)
    moved = np.concatenate([_numbers(X) + E, _numbers(X) - E]).reshape(-1, *shape)  # every entry of every sample, up and down
    repeated = None if cond is None else np.concatenate([_numbers(cond)] * 2 * D)
    Z = layer.forward(*(array if array is None else get_ops(X).asarray(array, X) for array in (moved, repeated)))[0]
    up, down = _numbers(Z).reshape(2, D, N, D)
    jacobians = np.moveaxis((up - down) / (2 * STEP), 0, 2)
    _close("logdet against the numerical Jacobian's", logdet, np.linalg.slogdet(jacobians)[1], CLOSE)


def inverse_logdet_is_minus_logdet(layer, X, cond, rng):
    Z, logdet = layer.forward(X, cond)
    X_back, inverse_logdet = layer.inverse_logdet(Z, cond)
    _close("X of inverse_logdet against X", X_back, X, EXACT)
    _close("the inverse's logdet against -logdet", inverse_logdet, -logdet, EXACT)


def backward_rebuilds_the_input(layer, X, cond, rng):
    Z, _ = layer.forward(X, cond)
    dX, X_back = layer.backward(_normal(rng, Z), Z, 0.0, cond)
    _close("X of backward against X", X_back, X, EXACT)
    _same_shape("dX", dX, X)


def gradients_are_those_of_differences(layer, X, cond, rng):
    Z, logdet = layer.forward(X, cond)
    dZ, dlogdet = _normal(rng, Z), _normal(rng, logdet)
    holder = None if cond is None else Condition(cond)
    dX = _pulled(layer, dZ, Z, dlogdet, holder)

    def loss(X, cond):
        Z, logdet = layer.forward(X, cond)
        return _sum(Z * dZ) + _sum(logdet * dlogdet)

    _differences_agree(layer, loss, X, cond, dX, holder and holder.grad, rng)


def no_dlogdet_means_the_mean_likelihood(layer, X, cond, rng):
    Z, _ = layer.forward(X, cond)
    dZ = _normal(rng, Z)
    dX, gradients = _pulled(layer, dZ, Z, None, cond), _gradients(layer)
    _close("dX with dlogdet=None against -1/N", dX, _pulled(layer, dZ, Z, -1 / X.shape[0], cond), EXACT)
    _close("gradients with dlogdet=None against -1/N", gradients, _gradients(layer), EXACT)


def gradients_are_added(layer, X, cond, rng):
    Z, _ = layer.forward(X, cond)
    dZ = _normal(rng, Z)
    _pulled(layer, dZ, Z, None, cond)
    once = _gradients(layer)
    layer.backward(dZ, Z, None, cond)
    _close("gradients after two backwards against twice one", _gradients(layer), 2 * once, EXACT)


def arguments_are_unchanged(layer, X, cond, rng):
    Z, logdet = layer.forward(X, cond)
    arguments = {"X": X, "Z": Z, "dZ": _normal(rng, Z), "dlogdet": _normal(rng, logdet)}
    if cond is not None:
        arguments["cond"] = cond
    before = {name: _numbers(array).copy() for name, array in arguments.items()}
    layer.forward(X, cond)
    layer.inverse(Z, cond)
    layer.backward(arguments["dZ"], Z, arguments["dlogdet"], cond)
    for name, array in arguments.items():
        _equal(f"whether {name} is unchanged", bool(np.array_equal(_numbers(array), before[name])), True)


def samples_do_not_mix(layer, X, cond, rng):
    """A batch of one gives what the sample gives in its batch."""
    Z, logdet = layer.forward(X, cond)
    one = None if cond is None else cond[1:2]
    Z1, logdet1 = layer.forward(X[1:2], one)
    _close("Z of a batch of 1 against its row", Z1, Z[1:2], EXACT)
    _close("logdet of a batch of 1 against its entry", logdet1, logdet[1:2], EXACT)
    dZ = _normal(rng, Z)
    dX = layer.backward(dZ, Z, 0.5, cond)[0]
    _close("dX of a batch of 1 against its row", layer.backward(dZ[1:2], Z[1:2], 0.5, one)[0], dX[1:2], EXACT)


def strides_do_not_matter(layer, X, cond, rng):
    Z, logdet = layer.forward(X, cond)
    dZ = _normal(rng, Z)
    dX = layer.backward(dZ, Z, None, cond)[0]
    for order in (_c_order, _fortran_order, _every_second):
        Z2, logdet2 = layer.forward(order(X), cond)
        _close(f"Z of an input through {order.__name__}", Z2, Z, EXACT)
        _close(f"logdet of an input through {order.__name__}", logdet2, logdet, EXACT)
        _close(f"dX through {order.__name__}", layer.backward(order(dZ), order(Z), None, cond)[0], dX, EXACT)


def float32_is_kept(layer, X, cond, rng):
    Z64 = layer.forward(X, cond)[0]
    layer.zero_grad()
    dX64, X64 = layer.backward(Z64, Z64, None, cond)
    gradients = _gradients(layer)
    layer, X, cond = _in("float32", layer, X, cond)
    Z, logdet = layer.forward(X, cond)
    dX, X_back = layer.backward(Z, Z, None, cond)
    for name, array in {"Z": Z, "logdet": logdet, "dX": dX, "the rebuilt X": X_back, "X of inverse": layer.inverse(Z, cond)}.items():
        _equal(f"the dtype of {name}", str(_numbers(array).dtype), "float32")
    for name, parameter in layer.named_parameters():
        _equal(f"the dtype of the gradient of {name}", str(_numbers(parameter.grad).dtype), "float32")
    for name, array, exact in (("Z", Z, Z64), ("dX", dX, dX64), ("the rebuilt X", X_back, X64), ("the gradients", _gradients(layer), gradients)):
        _close(f"{name} in float32 against float64", _numbers(array).astype("float64"), exact, 1e-4)


def initialize_gives_what_forward_gives_after(layer, X, cond, rng):
    before = _numbers(X).copy()
    Z = layer.initialize(X, cond)
    _close("Z of initialize against forward after it", Z, layer.forward(X, cond)[0], EXACT)
    _equal("whether X is unchanged by initialize", bool(np.array_equal(_numbers(X), before)), True)


def outputs_are_arrays_of_their_own(layer, X, cond, rng):
    Z, _ = layer.forward(X, cond)
    outputs = {"Z": (Z, X), "X of inverse": (layer.inverse(Z, cond), Z)}
    dX, X_back = layer.backward(Z, Z, None, cond)
    outputs.update({"dX": (dX, Z), "X of backward": (X_back, Z), "dX beside X": (dX, X_back)})
    for name, (output, argument) in outputs.items():
        before = _numbers(argument).copy()
        output += 1
        _equal(f"whether {name} is memory of its own", bool(np.array_equal(_numbers(argument), before)), True)


def nothing_is_kept_between_calls(layer, X, cond, rng):
    before = _reachable_bytes(layer, X)
    Z, _ = layer.forward(X, cond)
    layer.inverse(Z, cond)
    layer.backward(Z, Z, None, cond)
    _equal("bytes of arrays that the layer holds after its calls", _reachable_bytes(layer, X), before)


def batch_size_may_change_between_calls(layer, X, cond, rng):
    Z, _ = layer.forward(X, cond)
    twice = lambda array: None if array is None else get_ops(array).xp.concat([array, array])
    layer.forward(twice(X), twice(cond))
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
    dy = _normal(rng, y)
    dx, dcond, gradients = pullback(dy)
    net.zero_grad()
    _equal("the number of gradients", len(gradients), len(net.parameters()))
    for parameter, gradient in zip(net.parameters(), gradients):
        _equal("the shape of a gradient", tuple(gradient.shape), tuple(parameter.data.shape))
        parameter.grad += gradient
    _differences_agree(net, lambda x, cond: _sum(net.forward(x, cond) * dy), x, cond, dx, dcond, rng)


def net_leaves_arguments_unchanged(net, x, cond, rng):
    y, pullback = net.vjp(x, cond)
    dy = _normal(rng, y)
    arguments = [x, dy] + ([] if cond is None else [cond])
    before = [_numbers(array).copy() for array in arguments]
    net.forward(x, cond)
    pullback(dy)
    for array, old in zip(arguments, before):
        _equal("whether the arguments are unchanged", bool(np.array_equal(_numbers(array), old)), True)


def net_samples_do_not_mix(net, x, cond, rng):
    one = None if cond is None else cond[1:2]
    _close("y of a batch of 1 against its row", net.forward(x[1:2], one), net.forward(x, cond)[1:2], EXACT)


def net_strides_do_not_matter(net, x, cond, rng):
    y, pullback = net.vjp(x, cond)
    dx = pullback(y)[0]
    for order in (_c_order, _fortran_order, _every_second):
        y2, pullback2 = net.vjp(order(x), cond)
        _close(f"y of an input through {order.__name__}", y2, y, EXACT)
        _close(f"dx through {order.__name__}", pullback2(order(y))[0], dx, EXACT)


def net_keeps_float32(net, x, cond, rng):
    net, x, cond = _in("float32", net, x, cond)
    y, pullback = net.vjp(x, cond)
    dx, _, gradients = pullback(y)
    for array in (y, dx, *gradients):
        _equal("the dtype of y, dx and the gradients", str(_numbers(array).dtype), "float32")


def net_keeps_nothing_between_calls(net, x, cond, rng):
    before = _reachable_bytes(net, x)
    y, pullback = net.vjp(x, cond)
    pullback(y)
    _equal("bytes of arrays that the conditioner holds after its calls", _reachable_bytes(net, x), before)


NET_LAWS = (
    vjp_gives_what_forward_gives, pullback_is_that_of_differences, net_leaves_arguments_unchanged, net_samples_do_not_mix,
    net_strides_do_not_matter, net_keeps_float32, net_keeps_nothing_between_calls,
)  # fmt: skip


# ---- what the laws are written in


def _two_samples(X):
    if X.shape[0] < 2:
        raise ValueError(f"the laws need at least 2 samples; got an input of shape {tuple(X.shape)}")


def _double(module, X, cond):
    return _in("float64", module, X, cond)


def _in(dtype, module, X, cond):
    """A copy of the module in a dtype, X and cond."""
    as_dtype = lambda array: None if array is None else get_ops(array).astype(array, dtype)
    return copy.deepcopy(module).to(dtype=dtype), as_dtype(X), as_dtype(cond)


def _normal(rng, like):
    """Normal numbers as an array like another."""
    return get_ops(like).asarray(rng.standard_normal(tuple(like.shape)), like)


def _numbers(array):
    """A NumPy array of the same numbers."""
    return get_ops(array).to_numpy(array)


def _sum(array):
    return float(get_ops(array).xp.sum(array))


def _pulled(layer, dZ, Z, dlogdet, cond):
    layer.zero_grad()
    return layer.backward(dZ, Z, dlogdet, cond)[0]


def _gradients(module):
    return np.concatenate([_numbers(parameter.grad).ravel() for parameter in module.parameters()] or [np.zeros(0)])


def _differences_agree(module, loss, X, cond, dX, dcond, rng):
    """Central differences of `loss` in random directions, of X, of cond and of every parameter."""

    def agree(name, gradient, moved):
        gradient, direction = _numbers(gradient), _normal(rng, gradient)
        difference = (moved(STEP * direction) - moved(-STEP * direction)) / (2 * STEP)
        direction = _numbers(direction)
        bound = CLOSE * max(1.0, np.linalg.norm(gradient) * np.linalg.norm(direction))
        got = np.sum(gradient * direction)
        if not abs(got - difference) <= bound:
            raise AssertionError(f"the gradient of {name} gives {got:.12g} in a direction, central differences {difference:.12g}")

    for _ in range(3):
        agree("the input", dX, lambda E: loss(X + E, cond))
        if cond is not None:
            agree("the condition", dcond, lambda E: loss(X, cond + E))
        for name, parameter in module.named_parameters():
            agree(name, parameter.grad, lambda E, p=parameter: _with(p, E, lambda: loss(X, cond)))


def _with(parameter, change, value):
    kept = get_ops(parameter.data).copy(parameter.data)
    parameter.data[...] = kept + change
    try:
        return value()
    finally:
        parameter.data[...] = kept


def _c_order(X):
    return _laid_out(X, range(X.ndim))


def _fortran_order(X):
    return _laid_out(X, reversed(range(X.ndim)))


def _laid_out(X, axes):
    """The values of X in memory in which the last of the axes varies fastest."""
    axes, xp = tuple(axes), get_ops(X).xp
    laid_out = xp.permute_dims(xp.zeros([X.shape[i] for i in axes], dtype=X.dtype, device=X.device), sorted(range(X.ndim), key=axes.__getitem__))
    laid_out[...] = X
    return laid_out


def _every_second(X):
    """The values of X in every second place of a larger array."""
    larger = get_ops(X).xp.zeros((*X.shape[:-1], 2 * X.shape[-1]), dtype=X.dtype, device=X.device)
    larger[..., ::2] = X
    return larger[..., ::2]


def _reachable_bytes(module, like):
    """Bytes of all arrays, NumPy's and those of the type of one, that can be reached from a module."""
    seen, todo, size = set(), [module], 0
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, (type, types.ModuleType, types.BuiltinFunctionType)):
            continue
        seen.add(id(thing))
        if isinstance(thing, types.FunctionType):  # what it closes over, not its module
            todo.extend([*(thing.__closure__ or ()), thing.__defaults__, thing.__kwdefaults__])
            continue
        if isinstance(thing, (np.ndarray, type(like))):
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
    got, expected = _numbers(got), _numbers(expected)
    _equal(f"the shape of {what}", tuple(got.shape), tuple(expected.shape))
    if got.size == 0:
        return
    error = np.abs(got - expected)
    worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
    if not error[worst] <= tolerance * max(1.0, np.abs(expected).max()):
        raise AssertionError(f"{what}: {got[worst]:.12g} and {expected[worst]:.12g} at {tuple(map(int, worst))} differ by "
                             f"{error[worst]:.3g}, more than {tolerance:.1g} relative")
