"""Flow: a layer and a base distribution make a density."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from .arguments import check_integers, check_numbers, generator, is_integer, is_number, shown
from .bases import Normal
from .core import Layer, Module, Parameter, condition_array, get_ops
from .core.conditions import vectors_of_labels
from .core.explanation import Explanation
from .passes import evaluation
from .passes.context import in_own_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bases import Base
    from .core.summary import Summary
    from .typing import Array, Cond, Seed, Shape


class Flow(Module):
    """The density of X whose image Z = layer(X) follows the base: log p(X) = log base(Z) + logdet.

    The layer goes from data to noise. One that was made the other way, from noise to data, is `Reverse(layer)`:
    Flow(Reverse(layer), shape) samples with its forward, and has its parameters.

    Args:
        layer: a Layer from data to noise.
        shape: shape of one sample, (C, *spatial).
        base: a distribution, as those of invnet.bases are; None is the standard normal.

    Raises:
        TypeError: `layer` is no Layer.
        ValueError: the base is on another shape, or computes in another dtype than the layer.
    """

    def __init__(self, layer: Layer, shape: Sequence[int], base: Base | None = None):
        if not isinstance(layer, Layer):
            raise TypeError(f"a Flow takes a Layer from data to noise; got {shown(layer)}")
        self.layer, self.base = layer, Normal() if base is None else base
        self._meant = {"base": self.base}
        if not isinstance(shape, (tuple, list)) or not all(is_integer(size) and size >= 0 for size in shape):
            raise TypeError(f"shape is that of one sample, integers (C, *spatial); got {shape!r}")
        self._shape = tuple(shape)
        if isinstance(base, type) or (base is not None and not callable(getattr(base, "log_prob", None))):
            raise TypeError(f"a base is a distribution, as those of invnet.bases are; got {shown(base)}")
        expected = getattr(self.base, "shape", None)
        if expected is not None and tuple(expected) != self._shape:
            raise ValueError(f"the base is on samples of shape {tuple(expected)}, the flow on {self._shape}")
        dtypes = {str(array.dtype) for module in (layer, self.base) for array in _floats(module)}
        if len(dtypes) > 1:
            raise ValueError(
                f"layer and base compute in one dtype; got {' and '.join(sorted(dtypes))}; .to(dtype=...) converts them"
            )

    def explain(self, X: Array, cond: Cond = None) -> Explanation:
        """Which code serves each layer on such an X, and why not a faster one; see `Layer.explain`."""
        return Explanation(row._replace(name=f"layer.{row.name}".rstrip(".")) for row in self.layer.explain(X, cond))

    @in_own_context
    def log_prob(self, X: Array, cond: Cond = None) -> Array:
        """log density of each sample, (N,), in nats.

        Args:
            X: (N, C, *spatial).
            cond: (N, K) or (N, K, *spatial), or one row of it that serves all samples; labels (N,) for a model with
                `classes`.
        """
        self.check_shape(X)
        with evaluation():
            Z, logdet = self.layer.forward(X, cond)
        return self.base.log_prob(Z) + logdet

    def sample(self, n: int, cond: Cond = None, temperature: float = 1.0, seed: Seed = None) -> Array:
        """n samples (n, C, *spatial).

        Args:
            n: how many.
            cond: a row for each sample, or one row for all; see `log_prob`.
            temperature: a factor of the base's standard deviation, not negative.
            seed: an int or a numpy Generator; None draws other samples in each call.

        Raises:
            ValueError: `cond` has neither n rows nor one, or a number is out of range.
        """
        cond, temperature, seed = _in_order(cond, temperature, seed)
        return self.layer.inverse(self.noise(n, temperature, seed), cond)

    def sample_and_log_prob(
        self, n: int, cond: Cond = None, temperature: float = 1.0, seed: Seed = None
    ) -> tuple[Array, Array]:
        """n samples as of `sample`, and their log density at temperature 1, (n,)."""
        cond, temperature, seed = _in_order(cond, temperature, seed)
        return self._sample_and_log_prob(n, cond, temperature, seed)

    @in_own_context
    def _sample_and_log_prob(self, n, cond, temperature, seed):
        Z = self.noise(n, temperature, seed)
        with evaluation():
            X, logdet = self.layer.inverse_logdet(Z, cond)
        return X, self.base.log_prob(Z) - logdet

    def sample_for(self, n: int, cond: Cond, temperature: float = 1.0, seed: Seed = None) -> Array:
        """n samples for each row of a condition, (M, n, C, *spatial) for M rows.

        Args:
            n: how many for each row.
            cond: (M, K) or (M, K, *spatial), or labels (M,) for a model with `classes`.
            temperature, seed: as in `sample`.
        """
        c = condition_array(cond)
        if c is not None:
            c = vectors_of_labels(self.layer, c, self.layer.dtype or "float32")
        if c is None or c.ndim < 2:
            raise ValueError(
                f"sample_for takes a condition (M, K) or (M, K, *spatial), n samples for each row; got "
                f"{None if c is None else tuple(c.shape)}"
            )
        check_integers(n=n)
        xp, (M, *size) = get_ops(c).xp, c.shape
        Z = self.noise(M * n, temperature, seed)
        if c.ndim == 2:
            X = self.layer.inverse(Z, xp.reshape(xp.broadcast_to(c[:, None], (M, n, *size)), (M * n, *size)))
        else:  # one row at a time, which is not repeated in memory
            X = xp.concat([self.layer.inverse(Z[m * n : (m + 1) * n], c[m : m + 1]) for m in range(M)] or [Z])
        return xp.reshape(X, (M, n, *self._shape))

    def noise(self, n: int, temperature: float = 1.0, seed: Seed = None) -> Array:
        """n samples of the base, of the flow's engine and dtype."""
        check_integers(n=n)
        check_numbers(temperature=temperature)
        if n < 0:
            raise ValueError(f"n is a number of samples; got {n}")
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"the temperature is not negative; got {temperature}")
        own = self.first_state
        like = own.data if isinstance(own, Parameter) else next(_floats(self), np.zeros(0, "float32"))
        return self.base.sample((n, *self._shape), generator(seed), like, temperature)

    def summary(self, shape: Shape | None = None) -> Summary:
        """The layers within as a table, as `Layer.summary` gives it; their outputs are those for the shape of the
        flow.
        """
        return super().summary(self._shape if shape is None else shape)

    def parts_to_show(self, shape: tuple[int, ...]) -> list:
        return [("layer", self.layer, shape), ("base", self.base, None)]

    def check_shape(self, X: Array) -> None:
        get_ops(X)
        if tuple(X.shape[1:]) != self._shape:
            raise ValueError(
                f"X has shape {('N', *self._shape)} with any number N of samples; got {tuple(X.shape)}".replace(
                    "'N'", "N"
                )
            )


def _in_order(cond, temperature, seed):
    """cond, temperature and seed, where a caller gave temperature and seed first, as was the order up to invnet 0.1."""
    if not is_number(cond):
        return cond, temperature, seed
    warnings.warn(
        "Flow.sample takes (n, cond, temperature, seed) now; name temperature= and seed=: the old order goes with "
        "invnet 0.3",
        DeprecationWarning,
        stacklevel=3,
    )
    return None, cond, (seed if temperature == 1.0 else temperature)


def _floats(module):
    """The floating-point arrays of a module's state."""
    return (state.data for _, state in module.named_state() if get_ops(state.data).is_float(state.data))
