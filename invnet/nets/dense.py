"""DenseNet: the dense conditioner for vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arguments import check_integers, check_unused, is_integer
from ..fused.spec import DenseSpec
from .conv import ConvNet, widths_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..typing import DType, Seed


def depth_of(hidden: int | Sequence[int], depth: int | None) -> int | None:
    """Returns the number of hidden layers if `hidden` is one width for all, 2 by default; None if `hidden` is a list.

    Raises:
        ValueError: `depth` is negative, or is given although `hidden` is a list.
        TypeError: `depth` is no integer, or `hidden` neither an integer nor a list.
    """
    widths_of(hidden, 0)  # errors in `hidden` first
    if not is_integer(hidden):
        check_unused("beside a list of widths", depth=depth)
        return None
    depth = 2 if depth is None else depth
    check_integers(depth=depth)
    if depth < 0:
        raise ValueError(f"depth is not negative; got {depth}")
    return depth


class DenseNet(ConvNet):
    """A dense network for vectors (N, C_in), y = W_k act(... act(W_1 x + V cond + b_1)) + b_k.

    The last layer starts at zero. On arrays with spatial axes, the network is applied at each position separately.

    Args:
        C_in, C_out: the number of features of x and of y.
        hidden: the width of the hidden layers: one number for all, or one for each.
        depth: the number of hidden layers, if `hidden` is one number; None means 2.
        activation, cond_channels, seed, dtype: as in ConvNet.

    Raises:
        ValueError, TypeError: as in ConvNet.
    """

    def __init__(
        self,
        C_in: int,
        hidden: int | Sequence[int],
        C_out: int,
        depth: int | None = None,
        activation: str = "relu",
        cond_channels: int = 0,
        seed: Seed = 0,
        dtype: DType = "float32",
    ):
        depth = depth_of(hidden, depth)
        hidden, self._meant = widths_of(hidden, depth), {"depth": depth}
        super().__init__(
            C_in,
            hidden,
            C_out,
            kernels=(1,) * (len(hidden) + 1),
            ndim=0,
            activation=activation,
            cond_channels=cond_channels,
            seed=seed,
            dtype=dtype,
        )

    def spec(self) -> object:
        if self.V is not None:
            return None
        widths = (self._C_in, *(b.data.shape[0] for b in self.b))
        ends = tuple((0, 0, width) for width in widths)
        return DenseSpec(
            tuple(self._pairs()),
            self._activations(),
            ends,
            tuple(range(widths[0])),
            tuple(range(widths[-1])),
            ConvNet.spec(self),  # type: ignore[arg-type]
        )
