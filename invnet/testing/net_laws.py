"""The laws that every conditioner obeys, as `check_net(net, x)`, which is to conditioners what check_layer is to
layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..arguments import shown
from .comparisons import EXACT, close, differences_agree, equal, normal, numbers, total
from .laws import two_samples
from .layouts import c_order, every_second, fortran_order, in_dtype
from .reachable import reachable_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core import Conditioner
    from ..typing import Array, Cond, Seed


def check_net(net: Conditioner, x: Array, cond: Cond = None, seed: Seed = 0) -> None:
    """Runs every law of NET_LAWS on a conditioner; arguments and errors as in check_layer."""
    if isinstance(net, type) or not callable(getattr(net, "vjp", None)):
        raise TypeError(f"check_net takes a conditioner, as a subclass of invnet.Conditioner is; got {shown(net)}")
    two_samples(x)
    for law in NET_LAWS:
        law(*in_dtype("float64", net, x, cond), np.random.default_rng(seed))


def vjp_gives_what_forward_gives(net: Conditioner, x: Array, cond: Cond, rng: np.random.Generator) -> None:
    close("y of vjp against forward", net.vjp(x, cond)[0], net.forward(x, cond), EXACT)


def pullback_is_that_of_differences(net: Conditioner, x: Array, cond: Cond, rng: np.random.Generator) -> None:
    y, pullback = net.vjp(x, cond)
    dy = normal(rng, y)
    dx, dcond, gradients = pullback(dy)
    net.zero_grad()
    equal("the number of gradients", len(gradients), len(net.parameters()))
    for parameter, gradient in zip(net.parameters(), gradients):
        equal("the shape of a gradient", tuple(gradient.shape), tuple(parameter.data.shape))
        parameter.add(gradient)
    differences_agree(net, lambda x, cond: total(net.forward(x, cond) * dy), x, cond, dx, dcond, rng)


def net_leaves_arguments_unchanged(net: Conditioner, x: Array, cond: Cond, rng: np.random.Generator) -> None:
    y, pullback = net.vjp(x, cond)
    dy = normal(rng, y)
    arguments = [x, dy] + ([] if cond is None else [cond])
    before = [numbers(array).copy() for array in arguments]
    net.forward(x, cond)
    pullback(dy)
    for array, old in zip(arguments, before):
        equal("whether the arguments are unchanged", bool(np.array_equal(numbers(array), old)), True)


def net_samples_do_not_mix(net: Conditioner, x: Array, cond: Cond, rng: np.random.Generator) -> None:
    one = None if cond is None else cond[1:2]
    close("y of a batch of 1 against its row", net.forward(x[1:2], one), net.forward(x, cond)[1:2], EXACT)


def net_strides_do_not_matter(net: Conditioner, x: Array, cond: Cond, rng: np.random.Generator) -> None:
    y, pullback = net.vjp(x, cond)
    dx = pullback(y)[0]
    for order in (c_order, fortran_order, every_second):
        y2, pullback2 = net.vjp(order(x), cond)
        close(f"y of an input through {order.__name__}", y2, y, EXACT)
        close(f"dx through {order.__name__}", pullback2(order(y))[0], dx, EXACT)


def net_keeps_float32(net: Conditioner, x: Array, cond: Cond, rng: np.random.Generator) -> None:
    net, x, cond = in_dtype("float32", net, x, cond)
    y, pullback = net.vjp(x, cond)
    dx, _, gradients = pullback(y)
    for array in (y, dx, *gradients):
        equal("the dtype of y, dx and the gradients", str(numbers(array).dtype), "float32")


def net_keeps_nothing_between_calls(net: Conditioner, x: Array, cond: Cond, rng: np.random.Generator) -> None:
    before = reachable_bytes(net, x)
    y, pullback = net.vjp(x, cond)
    pullback(y)
    equal("bytes of arrays that the conditioner holds after its calls", reachable_bytes(net, x), before)


NET_LAWS: tuple[Callable[..., None], ...] = (
    vjp_gives_what_forward_gives,
    pullback_is_that_of_differences,
    net_leaves_arguments_unchanged,
    net_samples_do_not_mix,
    net_strides_do_not_matter,
    net_keeps_float32,
    net_keeps_nothing_between_calls,
)
