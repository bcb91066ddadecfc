"""ViT: a vision transformer from images to images, the conditioner of Jet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from .net import TorchNet

if TYPE_CHECKING:
    from ..typing import Array, Seed


class ViT(nn.Module):
    """A vision transformer in which every position is a token. It maps images to images.

    Its layers are a linear map to `width`, learned positions, pre-norm encoder blocks, a norm, and a linear map to
    C_out. The last map starts at zero, and so does the output.

    Args:
        C_in, C_out: channels of x (N, C_in, H, W) and of y (N, C_out, H, W).
        size: (H, W).
        width: of the tokens, a multiple of `heads`.
        depth: number of blocks.
        heads: of the attention.

    References:
        Dosovitskiy et al., An Image is Worth 16x16 Words, 2020, section 3.1. Kolesnikov, Pinto & Tschannen, Jet: A
        Modern Transformer-Based Normalizing Flow, 2024, section 3 (as a conditioner).
    """

    def __init__(self, C_in: int, C_out: int, size: tuple[int, int], width: int = 64, depth: int = 2, heads: int = 4):
        super().__init__()
        if width % heads:
            raise ValueError(f"width is a multiple of heads; got {width} and {heads}")
        self.embed = nn.Linear(C_in, width)
        self.positions = nn.Parameter(0.02 * nn.init.normal_(self.embed.weight.new_empty(size[0] * size[1], width)))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, C_out)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Array) -> tuple[Array, Array]:
        tokens = self.embed(x.flatten(2).transpose(1, 2)) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens)).transpose(1, 2).unflatten(2, x.shape[2:])


class Block(nn.Module):
    """An encoder block: attention, then a perceptron with one hidden layer, both on normalised tokens and added."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Array) -> tuple[Array, Array]:
        q, k, v = self.qkv(self.norms[0](tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        tokens = tokens + self.out(attended.transpose(1, 2).flatten(2))
        return tokens + self.perceptron(self.norms[1](tokens))


def transformer(
    C_in: int, C_out: int, size: tuple[int, int], width: int, depth: int, heads: int, seed: Seed, dtype: str
) -> TorchNet:
    """Makes a TorchNet of a ViT whose initial weights come from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = ViT(C_in, C_out, size, width, depth, heads)
    # Nothing in it is random, and in eval a TorchNet need not draw seeds, nor go through the tiles in order.
    return TorchNet(module.to(getattr(torch, dtype)).eval(), shape=(C_in, *size))
