"""Jet: couplings with a vision transformer in each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arguments import generator, is_integer
from ..layers import AffineCoupling, Chain, Permute, Reverse, SplitTokens, Squeeze, Unsqueeze

if TYPE_CHECKING:
    from ..typing import Array, DType, Seed

#: the couplings in turn: four of channels, and one of positions, each time another
SPATIAL = (
    ("checkerboard", False),
    ("rows", False),
    ("columns", False),
    ("checkerboard", True),
    ("rows", True),
    ("columns", True),
)


class Jet(Chain):
    """Couplings of the patches of an image, each with a vision transformer as its conditioner.

    First, patches of the image become channels. Then four couplings split the channels of every patch, after a fixed
    random permutation, and the fifth splits the positions, and so on. s = 2 sigmoid(raw), so that a new Jet only
    permutes. There is nothing else: no ActNorm, no learned mix, no levels. It was published with every coupling
    checkpointed. Here nothing is stored between couplings, and memory does not grow with their number.

    Z has the shape of X. Jet expects values of X in [-1, 1]. It needs PyTorch, whose autograd differentiates one tile
    of one transformer at a time; arrays may be of any engine.

    Args:
        channels: C of the data.
        size: (H, W) of the data, divisible by patch.
        patch: side of a patch, a power of two.
        couplings: their number, 32 to 64 in the paper.
        depth: transformer blocks in each coupling, 2 to 5 in the paper.
        width: of the tokens, 512 in the paper.
        heads: of the attention, 8 in the paper.
        seed: an int; the same seed gives the same bits.
        dtype: "float32" or "float64".

    Raises:
        ImportError: PyTorch is missing.

    Example:
        >>> import numpy as np, invnet
        >>> X = np.random.default_rng(0).uniform(-1, 1, (2, 3, 8, 8)).astype("float32")
        >>> jet = invnet.Jet(3, size=(8, 8), patch=2, couplings=2, depth=1, width=16, heads=2)
        >>> Z, logdet = jet.forward(X)
        >>> Z.shape, logdet.shape
        ((2, 3, 8, 8), (2,))

    References:
        Kolesnikov, Pinto & Tschannen, Jet: A Modern Transformer-Based Normalizing Flow, 2024, section 3, and its code
        in google-research/big_vision.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        patch: int = 4,
        couplings: int = 32,
        depth: int = 2,
        width: int = 512,
        heads: int = 8,
        seed: Seed = 0,
        dtype: DType = "float32",
    ):
        if not all(is_integer(n) and n > 0 for n in (channels, patch, couplings, depth, width, heads)):
            raise ValueError(
                "channels, patch, couplings, depth, width and heads are positive integers; "
                f"got {channels}, {patch}, {couplings}, {depth}, {width} and {heads}"
            )
        if not isinstance(size, (tuple, list)) or len(size) != 2 or not all(map(is_integer, size)):
            raise TypeError(f"size is (H, W), two integers; got {size!r}")
        H, W = size
        if patch < 2 or patch & (patch - 1) or H % patch or W % patch:
            raise ValueError(
                f"patch is a power of two from 2 that divides both of size; got patch={patch} and size={tuple(size)}"
            )
        self.channels, self._size = channels, (H, W)
        C, grid, squeezes = channels * patch**2, (H // patch, W // patch), patch.bit_length() - 1
        rng = generator(seed)

        def layers():
            for i in range(couplings):
                coupling = AffineCoupling(
                    C, _transformer(C // 2, C, grid, width, depth, heads, int(rng.integers(2**62)), dtype), "doubled"
                )
                if i % 5 < 4:
                    yield from (Permute.random(C, rng), coupling)
                else:
                    split = SplitTokens(*SPATIAL[i // 5 % len(SPATIAL)])
                    yield from (split, coupling, Reverse(split))

        super().__init__(*[Squeeze()] * squeezes, *layers(), *[Unsqueeze()] * squeezes)

    def check_shape(self, X: Array, name: str = "X") -> None:
        super().check_shape(X, name)
        if tuple(X.shape[2:]) != self._size:
            raise ValueError(
                f"this Jet is for images of {self._size[0]}x{self._size[1]}; got {name} of shape {tuple(X.shape)}"
            )


def _transformer(*arguments):
    try:
        from ..torch import transformer
    except ModuleNotFoundError as error:
        raise ImportError("Jet needs PyTorch for its transformers: pip install torch") from error
    return transformer(*arguments)
