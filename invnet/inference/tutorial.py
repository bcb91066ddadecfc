"""The words of RxInfer's tutorial on invertible networks, over the layers of invnet: what they describe is compiled to
a Chain.

    model = FlowModel(2, (AdditiveCouplingLayer(PlanarFlow()), AdditiveCouplingLayer(PlanarFlow(), permute=False)))
    compiled = compile(model, np.ones(nr_params(model)))      # or compile(model): parameters at random
    y = forward(compiled, [1.5, 0.5])

Vectors have shape (..., D); indices begin at 0. Models and methods of inference are those of invnet.inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import optim
from ..arguments import check_integers, check_unused, generator
from ..core import Layer
from ..layers import Chain, PartitionedAdditiveCoupling, Permute
from ..nets import PlanarNet, RadialNet
from . import jacobians, moments
from .checks import vectors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..core import Parameter
    from ..typing import Array, Seed


@dataclass(frozen=True)
class PlanarFlow:
    """x + u tanh(w.x + b) in a coupling; its parameters are u, w, b."""

    def nr_params(self, dim: int) -> int:
        return 2 * dim + 1

    def random(self, dim: int, rng: np.random.Generator) -> Array:
        return rng.standard_normal(2 * dim + 1)

    def net(self, dim: int, params: Any) -> PlanarNet:
        net = PlanarNet(dim, dtype="float64")
        net.u.data[...], net.w.data[...], net.b.data[...] = params[:dim], params[dim : 2 * dim], params[2 * dim]
        return net


@dataclass(frozen=True)
class RadialFlow:
    """x + beta (x - z0) / (alpha + |x - z0|) in a coupling; its parameters are z0, alpha, beta, with alpha positive."""

    def nr_params(self, dim: int) -> int:
        return dim + 2

    def random(self, dim: int, rng: np.random.Generator) -> Array:
        return np.concatenate([rng.standard_normal(dim), 1 - rng.random(1), rng.standard_normal(1)])

    def net(self, dim: int, params: Any) -> RadialNet:
        if not params[dim] > 0:
            raise ValueError(f"alpha of a RadialFlow is positive; got {params[dim]}")
        net = RadialNet(dim, dtype="float64")
        net.x0.data[...], net.log_alpha.data[...], net.beta.data[...] = (
            params[:dim],
            np.log(params[dim]),
            params[dim + 1],
        )
        return net


@dataclass(frozen=True)
class InputLayer:
    """Says how many dimensions a model has."""

    dim: int

    def __post_init__(self):
        check_integers(dim=self.dim)


@dataclass(frozen=True)
class PermutationLayer:
    """y[k] = x[order[k]]; takes a list of indices, or the matrix P with y = P x. None is drawn when the model is
    built.
    """

    order: Any = None

    def __post_init__(self):
        if self.order is not None:
            P = np.asarray(self.order)
            order = P.argmax(axis=1) if P.ndim == 2 else P
            if P.ndim == 2 and not np.array_equal(P, np.eye(len(P))[order]):
                raise ValueError(f"a matrix of a PermutationLayer has one 1 in each row and column; got\n{P}")
            object.__setattr__(self, "order", tuple(Permute(order).order.data.tolist()))

    @classmethod
    def random(cls, dim: int, rng: np.random.Generator) -> PermutationLayer:
        """An order at random in which the first coordinate always moves."""
        order = rng.permutation(dim)
        if order[0] == 0:
            order[:2] = order[1::-1]
        return cls(order)


@dataclass(frozen=True)
class AdditiveCouplingLayer:
    """y_1 = x_1, y_k = x_k + t_k(x_{k-1}) for parts of `partition_dim` coordinates, each t_k with parameters of its
    own.

    With `permute` a PermutationLayer follows, which is drawn when the model is built.
    """

    flow: PlanarFlow | RadialFlow
    permute: bool = True
    partition_dim: int = 1

    def nets(self, dim: int) -> int:
        """How many there are in a model of `dim` dimensions."""
        if self.partition_dim < 1 or dim % self.partition_dim or dim == self.partition_dim:
            raise ValueError(
                f"an AdditiveCouplingLayer has at least two parts of {self.partition_dim} coordinates; got {dim} "
                f"dimensions"
            )
        return dim // self.partition_dim - 1


class FlowModel:
    """A network described: FlowModel(dim, layers), or FlowModel((InputLayer(dim), *layers)).

    Args:
        dim: D, at least 2.
        layers: AdditiveCouplingLayers and PermutationLayers.
        seed: of permutations that are drawn, an int or a numpy Generator.

    Raises:
        ValueError: there is no dimension, or a layer does not fit it.
    """

    def __init__(self, dim: int, layers: Any = None, seed: Seed = 0):
        if layers is None:
            if not isinstance(dim, (tuple, list)) or not dim or not isinstance(dim[0], InputLayer):
                raise ValueError(
                    f"a FlowModel has a dimension, FlowModel(dim, layers) or FlowModel((InputLayer(dim), ...)); got "
                    f"{dim!r}"
                )
            dim, layers = dim[0].dim, dim[1:]
        check_integers(dim=dim)
        if dim < 2:
            raise ValueError(f"a FlowModel has at least 2 dimensions; got {dim}")
        self.dim, self.layers, rng = dim, [], generator(seed)
        for layer in layers if isinstance(layers, (tuple, list)) else (layers,):
            if isinstance(layer, AdditiveCouplingLayer):
                layer.nets(dim)
                self.layers += [layer, PermutationLayer.random(dim, rng)] if layer.permute else [layer]  # type: ignore[list-item]
            elif isinstance(layer, PermutationLayer):
                layer = layer if layer.order is not None else PermutationLayer.random(dim, rng)
                if len(layer.order) != dim:
                    raise ValueError(f"a PermutationLayer in {dim} dimensions has as many indices; got {layer.order}")
                self.layers.append(layer)
            else:
                raise TypeError(
                    f"the layers of a FlowModel are AdditiveCouplingLayers and PermutationLayers; got {layer!r}"
                )


def nr_params(model: Any) -> int:
    """How many parameters a FlowModel has."""
    return sum(layer.nets(model.dim) * layer.flow.nr_params(layer.partition_dim) for layer in _couplings(model))


def compile(model: Any, params: Any = None, seed: Seed = None) -> Chain:
    """The network that a FlowModel describes, a Chain in float64.

    Args:
        model: a FlowModel.
        params: nr_params(model) numbers, layer by layer, in each copy by copy; None draws them.
        seed: of the numbers that are drawn, an int or a numpy Generator; None is 0.

    Raises:
        ValueError: another number of parameters, one that is not finite, an alpha that is not positive, or a seed
            beside params.
    """
    n = nr_params(model)
    if params is not None:
        check_unused("beside params, where nothing is drawn", seed=seed)
    else:
        rng = generator(0 if seed is None else seed)
        params = np.concatenate(
            [
                layer.flow.random(layer.partition_dim, rng)
                for layer in _couplings(model)
                for _ in range(layer.nets(model.dim))
            ]
            or [np.zeros(0)]
        )
    params = vectors(params, "params")
    if params.shape != (n,):
        raise ValueError(f"this model has {n} parameters; got an array of shape {params.shape}")
    layers, at = [], 0
    for layer in model.layers:
        if isinstance(layer, PermutationLayer):
            layers.append(Permute(layer.order))
            continue
        size, nets = layer.flow.nr_params(layer.partition_dim), []
        for _ in range(layer.nets(model.dim)):
            nets.append(layer.flow.net(layer.partition_dim, params[at : at + size]))
            at += size
        layers.append(PartitionedAdditiveCoupling(model.dim, nets))  # type: ignore[arg-type]
    return Chain(*layers)


def _couplings(model):
    return [layer for layer in model.layers if isinstance(layer, AdditiveCouplingLayer)]


# ---- maps of vectors (..., D); a compiled model, or any layer of vectors


def forward(model: Any, x: Array) -> Array:
    """y = g(x)."""
    return _mapped(model, x, lambda X: model.forward(X)[0])


def backward(model: Any, y: Array) -> Array:
    """x = g^-1(y): the inverse. (The method `backward` of a layer is that of gradients.)"""
    return _mapped(model, y, lambda Y: model.inverse(Y))


def jacobian(model: Any, x: Array) -> Array:
    """dy/dx at x, (..., D, D)."""
    return _mapped(model, x, lambda X: jacobians.jacobian(model, X))


def inv_jacobian(model: Any, y: Array) -> Array:
    """dx/dy at the output y, (..., D, D)."""
    return _mapped(model, y, lambda Y: jacobians.inverse_jacobian(model, Y))


def forward_jacobian(model: Any, x: Array) -> tuple[Array, Array]:
    """y and dy/dx."""
    return forward(model, x), jacobian(model, x)


def backward_inv_jacobian(model: Any, y: Array) -> tuple[Array, Array]:
    """x and dx/dy."""
    return backward(model, y), inv_jacobian(model, y)


def det(model: Any, x: Array) -> Array:
    """det dy/dx at x, (...)."""
    return np.linalg.det(jacobian(model, x))


def logabsdet(model: Any, x: Array) -> Array:
    """log|det dy/dx| at x, (...)."""
    return _mapped(model, x, lambda X: model.forward(X)[1])


def absdet(model: Any, x: Array) -> Array:
    """|det dy/dx| at x, (...)."""
    return np.exp(logabsdet(model, x))


def inv_det(model: Any, y: Array) -> Array:
    """det dx/dy at the output y, (...)."""
    return np.linalg.det(inv_jacobian(model, y))


def inv_logabsdet(model: Any, y: Array) -> Array:
    """log|det dx/dy| at the output y, (...)."""
    return _mapped(model, y, lambda Y: model.inverse_logdet(Y)[1])


def inv_absdet(model: Any, y: Array) -> Array:
    """|det dx/dy| at the output y, (...)."""
    return np.exp(inv_logabsdet(model, y))


#: The original throws where the determinant is negative, as that of a swap is; these are of its absolute value.
logdet, inv_logdet = logabsdet, inv_logabsdet


def _mapped(model, x, function):
    if not isinstance(model, Layer):
        raise TypeError(f"a model is compiled before it is used, compile(model); got {model!r}")
    x = vectors(x, "a vector")
    y = function(np.ascontiguousarray(x.reshape(-1, x.shape[-1])))
    return y.reshape(x.shape[:-1] + y.shape[1:])


# ---- methods


def Linearization() -> moments.Linear:
    """Gaussians through a network by its tangent."""
    return moments.Linear()


def Unscented(dim: int) -> moments.Unscented:
    """Gaussians through a network by points, with the spread of the original, 1e-3, which is nearly a tangent."""
    return moments.Unscented(alpha=1e-3, beta=2.0, kappa=0.0)


def Adam(parameters: Iterable[Parameter], lr: float) -> optim.Adam:
    """Adam with the original's 1e-20 below the fraction. Its learning rate is by default 1e-8, which learns nothing:
    say one.
    """
    return optim.Adam(parameters, lr, eps=1e-20)
