"""Optimizers, in place on one contiguous array of all parameters, and what goes with them."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from .arguments import check_numbers, shown
from .core import Parameter, get_ops
from .core.derived import Derived
from .passes.healing import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .typing import Array


class Optimizer:
    """Base: moves the parameters' arrays into one buffer, so that a step is a few passes over it.

    After construction each parameter's `data` and `grad` are views of `self.data` and `self.grad`. A step leaves a
    parameter whose gradient is None as it is, and what the optimizer remembers of it.

    Args:
        parameters: Parameters of one dtype and engine.
        lr: the learning rate, a positive number, or a function from the number of steps done to it (see `schedule`).
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Parameter], lr: float | Callable[[int], float]):
        if not callable(lr):
            check_numbers(lr=lr)
        self.parameters = list(parameters) if isinstance(parameters, Iterable) else [parameters]
        for p in self.parameters:
            if not isinstance(p, Parameter):
                raise TypeError(
                    f"an optimizer takes Parameters, as net.parameters() gives them; got "
                    f"{shown(p) if isinstance(p, type) else type(p).__name__}"
                )
        if not self.parameters or len(set(map(id, self.parameters))) < len(self.parameters):
            raise ValueError(f"an optimizer takes at least one parameter, and each once; got {len(self.parameters)}")
        if not callable(lr) and not 0 < lr < math.inf:
            raise ValueError(f"lr is a positive number or a function of the step; got {lr}")
        self.lr, self.steps, self._views, self._seen = lr, 0, [], None
        self._gradients = [p.gradient for p in self.parameters]
        self.gather()
        self.state = {slot: get_ops(self.data).xp.zeros_like(self.data) for slot in self.slots}

    def gather(self) -> None:
        """Moves arrays into the buffers that are not there: at the start, and after something replaced them."""
        if self._seen is not None and self._seen.holds():
            return
        if not self._views or any(p.data is not data for p, (data, _) in zip(self.parameters, self._views)):
            self._make_buffers()
        for p, (_, view) in zip(self.parameters, self._views):
            array = p.gradient.array
            if array is not None and array is not view:
                view[...] = array
                p.gradient.replace(view, p.gradient.is_zero)
        self._parts = self._present()
        self._seen = Derived([*self.parameters, *self._gradients])

    def _make_buffers(self):
        first = self.parameters[0].data
        xp = get_ops(first).xp
        if any(get_ops(p.data).name != get_ops(first).name or p.data.dtype != first.dtype for p in self.parameters):
            raise ValueError("an optimizer's parameters share one dtype and engine; use one optimizer for each")
        self.data = xp.concat([xp.reshape(p.data, (-1,)) for p in self.parameters])
        self._grad = xp.zeros_like(self.data)
        start, self._views = 0, []
        for p in self.parameters:
            size, shape = math.prod(p.data.shape), p.data.shape
            p.data = self.data[start : start + size].reshape(shape)
            self._views.append((p.data, self._grad[start : start + size].reshape(shape)))
            start += size

    @property
    def grad(self) -> Array:
        """All gradients in one array, the parts of those that are None without meaning."""
        for p in self.parameters:
            p.gradient.is_zero = False  # whoever has the array may write to it
        return self._grad

    def make_gradients(self) -> None:
        """Has all gradients in the buffer, zeros where there was none: for who looks at the buffer while backward adds
        to it.
        """
        self.gather()
        for p in self.parameters:
            if p.gradient.array is None:
                p.gradient_array()  # makes it
        self.gather()

    @property
    def buffer(self) -> Array:
        """All gradients in one array, for who adds nothing that zero_grad does not take away."""
        return self._grad

    def _present(self):
        """Slices of the buffers: neighbours that have gradients are one."""
        slices, stop = [], 0
        for has_gradient, some in itertools.groupby(self.parameters, lambda p: p.gradient.array is not None):
            start, stop = stop, stop + sum(math.prod(p.data.shape) for p in some)
            if has_gradient:
                slices.append(slice(start, stop))
        return slices

    def step(self) -> None:
        """Updates the parameters from their gradients."""
        settle()
        self.gather()
        lr = self.lr(self.steps) if callable(self.lr) else self.lr
        self.steps += 1
        arrays = [self.data, self._grad, *(self.state[slot] for slot in self.slots)]
        for part in self._parts:
            get_ops(self.data).update_(
                lambda ops, *parts: self._update(ops, lr, *parts), *(array[part] for array in arrays)
            )

    def zero_grad(self) -> None:
        """Sets the gradients to zero, all in one pass; one that is None stays None."""
        self.gather()
        self._grad[...] = 0
        for gradient in self._gradients:
            gradient.is_zero = gradient.array is not None

    def _update(self, ops, lr, data, grad, *state):
        """Updates a part of the parameters, given their gradients and their part of the arrays named in `slots`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Array]:
        """A copy of the number of steps and of the optimizer's arrays, NumPy arrays by name."""
        to_numpy = get_ops(self.data).to_numpy
        return {"steps": np.array(self.steps), **{slot: to_numpy(array).copy() for slot, array in self.state.items()}}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        expected = {"steps", *self.slots}
        if state.keys() != expected or any(state[slot].shape != tuple(self.data.shape) for slot in self.slots):
            raise ValueError(
                f"the state of {type(self).__name__} has {sorted(expected)} with {self.data.shape[0]} numbers "
                f"each; got { {k: v.shape for k, v in state.items()} }"
            )
        self.steps = int(state["steps"])
        for slot in self.slots:
            self.state[slot][...] = get_ops(self.data).asarray(state[slot], self.data)


def _check(**shares):
    """Each is at least 0 and below 1."""
    check_numbers(**shares)
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} is at least 0 and below 1; got {value}")


def _check_eps(eps):
    check_numbers(eps=eps)
    if not 0 < eps < math.inf:
        raise ValueError(f"eps is a positive number; got {eps}")


class SGD(Optimizer):
    """Gradient descent with momentum: v = momentum v + g, p -= lr v.

    Args:
        parameters: Parameters, a list or any iterable.
        lr: the learning rate, positive, or a function from the number of steps done to it (see `schedule`).
        momentum: from 0 to below 1; 0 is plain gradient descent.

    Raises:
        ValueError: a number is out of range.
    """

    slots = ("velocity",)

    def __init__(
        self, parameters: Iterable[Parameter], lr: float | Callable[[int], float] = 1e-2, momentum: float = 0.0
    ):
        _check(momentum=momentum)
        self.momentum = momentum
        super().__init__(parameters, lr)

    def _update(self, ops, lr, data, grad, v):
        v *= self.momentum
        v += grad
        data -= lr * v


class Adam(Optimizer):
    """Adam, with decoupled weight decay: p -= lr (m' / (sqrt(v') + eps) + weight_decay p).

    m = b1 m + (1 - b1) g and v = b2 v + (1 - b2) g^2 are means of the gradient g and of its square; m' = m / (1 - b1^t)
    and v' = v / (1 - b2^t) after t steps.

    Args:
        parameters: Parameters, a list or any iterable.
        lr: the learning rate, positive, or a function from the number of steps done to it (see `schedule`).
        betas: b1 and b2, each from 0 to below 1.
        eps: positive.
        weight_decay: not negative; 0 is plain Adam.

    Raises:
        ValueError: a number is out of range.
        TypeError: betas is no pair.

    References:
        Kingma & Ba, Adam: A Method for Stochastic Optimization, 2015, algorithm 1. Loshchilov & Hutter, Decoupled
        Weight Decay Regularization, 2019.
    """

    slots = ("m", "v")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"betas is a pair of numbers; got {betas!r}")
        _check(beta1=betas[0], beta2=betas[1])
        _check_eps(eps)
        check_numbers(weight_decay=weight_decay)
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"weight_decay is not negative; got {weight_decay}")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        super().__init__(parameters, lr)

    def _update(self, ops, lr, data, grad, m, v):
        b1, b2 = self.betas
        if self.weight_decay:
            data *= 1 - lr * self.weight_decay
        ops.adam_(data, grad, m, v, b1, b2, lr / (1 - b1**self.steps), 1 / math.sqrt(1 - b2**self.steps), self.eps)


class Adamax(Optimizer):
    """Adamax: p -= lr m' / u, with u = max(b2 u, |g| + eps).

    m' is the mean of the gradient as in `Adam`.

    Args:
        parameters: Parameters, a list or any iterable.
        lr: the learning rate, positive, or a function from the number of steps done to it (see `schedule`).
        betas: b1 and b2, each from 0 to below 1.
        eps: positive.

    Raises:
        ValueError: a number is out of range.
        TypeError: betas is no pair.

    References:
        Kingma & Ba, Adam: A Method for Stochastic Optimization, 2015, algorithm 2.
    """

    slots = ("m", "u")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float | Callable[[int], float] = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"betas is a pair of numbers; got {betas!r}")
        _check(beta1=betas[0], beta2=betas[1])
        _check_eps(eps)
        self.betas, self.eps = betas, eps
        super().__init__(parameters, lr)

    def _update(self, ops, lr, data, grad, m, u):
        b1, b2 = self.betas
        m *= b1
        m += (1 - b1) * grad
        u[...] = ops.xp.maximum(b2 * u, ops.xp.abs(grad) + self.eps)
        data -= (lr / (1 - b1**self.steps)) * m / u


class RMSprop(Optimizer):
    """RMSprop: p -= lr g / (sqrt(v) + eps), with v = decay v + (1 - decay) g^2.

    Args:
        parameters: Parameters, a list or any iterable.
        lr: the learning rate, positive, or a function from the number of steps done to it (see `schedule`).
        decay: from 0 to below 1.
        eps: positive.

    Raises:
        ValueError: a number is out of range.

    References:
        Tieleman & Hinton, Neural Networks for Machine Learning, lecture 6.5, 2012.
    """

    slots = ("v",)

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float | Callable[[int], float] = 1e-2,
        decay: float = 0.99,
        eps: float = 1e-8,
    ):
        _check(decay=decay)
        _check_eps(eps)
        self.decay, self.eps = decay, eps
        super().__init__(parameters, lr)

    def _update(self, ops, lr, data, grad, v):
        v *= self.decay
        v += (1 - self.decay) * grad * grad
        data -= lr * grad / (ops.xp.sqrt(v) + self.eps)


def schedule(lr: float, warmup: int = 0, decay: float = 1.0, cosine: int | None = None) -> Callable[[int], float]:
    """A learning rate as a function of the steps done, step by step.

    Args:
        lr: the peak.
        warmup: steps of linear growth to the peak.
        decay: factor at each step after that (exponential decay).
        cosine: steps after which half a cosine has brought the rate to zero; None for no cosine.
    """
    check_numbers(lr=lr, warmup=warmup, decay=decay, cosine=1 if cosine is None else cosine)
    if not (lr > 0 and warmup >= 0 and 0 < decay <= 1 and (cosine is None or cosine > 0)):
        raise ValueError(
            "a schedule has lr above 0, warmup from 0, decay above 0 and at most 1, cosine None or above 0; "
            f"got lr={lr}, warmup={warmup}, decay={decay}, cosine={cosine}"
        )

    def rate(step):
        value = lr * min(1.0, (step + 1) / warmup) if warmup else lr
        value *= decay ** max(0, step - warmup)
        if cosine is not None:
            value *= 0.5 * (1 + math.cos(math.pi * min(1.0, step / cosine)))
        return value

    return rate


def clip_by_global_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scales all gradients together so that their norm is at most `max_norm`; returns the norm before.

    Gradients with a norm that is not finite are left as they are, and those that are None do not count.
    """
    check_numbers(max_norm=max_norm)
    if not max_norm > 0:
        raise ValueError(f"max_norm is a positive number; got {max_norm}")
    settle()
    gradients = [p.gradient.array for p in parameters if p.gradient.array is not None]
    norm = math.sqrt(sum(map(_squares, gradients)))  # one number of a device is waited for
    if max_norm < norm < math.inf:
        for gradient in gradients:
            gradient *= max_norm / norm
    return norm


def _squares(grad):
    ops = get_ops(grad)
    with ops.at_work():
        return ops.xp.sum(grad * grad)


class EMA:
    """An exponential moving average of parameters: average = decay average + (1 - decay) data.

    In the first steps the decay is at most (1 + steps) / (10 + steps), so that the start is forgotten early.

    Args:
        parameters: Parameters.
        decay: from 0 to 1, such as 0.999.
    """

    def __init__(self, parameters: Iterable[Parameter], decay: float = 0.999):
        check_numbers(decay=decay)
        parameters = list(parameters) if isinstance(parameters, Iterable) else [parameters]
        for p in parameters:
            if not isinstance(p, Parameter):
                raise TypeError(f"an average is of Parameters, as net.parameters() gives them; got {shown(p)}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay is at least 0 and below 1; got {decay}")
        self.parameters, self.decay, self.steps = parameters, decay, 0
        self.average = [get_ops(p.data).copy(p.data) for p in self.parameters]

    def update(self) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for average, p in zip(self.average, self.parameters):
            average *= decay
            average += (1 - decay) * p.data

    @contextlib.contextmanager
    def weights(self) -> Iterator[None]:
        """Within this context the parameters have their averages."""
        own = [get_ops(p.data).copy(p.data) for p in self.parameters]
        try:
            for p, average in zip(self.parameters, self.average):
                p.data[...] = average
            yield
        finally:
            for p, data in zip(self.parameters, own):
                p.data[...] = data

    def state_dict(self) -> dict[str, Array]:
        """A copy of the number of steps and of the averages, NumPy arrays by name."""
        arrays = {f"average.{i}": get_ops(a).to_numpy(a).copy() for i, a in enumerate(self.average)}
        return {"steps": np.array(self.steps), **arrays}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        shapes = {"steps": (), **{f"average.{i}": tuple(average.shape) for i, average in enumerate(self.average)}}
        if {name: tuple(array.shape) for name, array in state.items()} != shapes:
            raise ValueError(
                f"the state of this EMA has steps and {len(self.average)} averages of the parameters' shapes; "
                f"got {len(state)} arrays, or other shapes"
            )
        self.steps = int(state["steps"])
        for i, average in enumerate(self.average):
            average[...] = get_ops(average).asarray(state[f"average.{i}"], average)
