"""A small transformer with causal attention, and the cache that makes its sampling fast."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalSelfAttention(nn.Module):
    """Each position attends to itself and to those before it: (B, n, W) -> (B, n, W).

    Raises: ValueError: the heads do not divide the width.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width is {width}, expected a multiple of heads, {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, *, cache: Tensor | None = None, start: int = 0) -> Tensor:
        """Return the output at the positions of x, which are the first ones or, with a cache, `start` alone.

        Args: cache: (2, B, heads, N, W / heads): the keys and values before `start` are read, those of x written.
        Raises: ValueError: several positions at once, though not the first ones.
        """
        n = x.shape[1]
        if start and (n != 1 or cache is None):
            raise ValueError(f"{n} positions from {start} on, expected 1 and a cache of those before")
        parts = self.qkv(x).chunk(3, dim=2)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        if cache is not None:
            cache[0, :, :, start : start + n] = key  # (B, heads, n, W / heads)
            cache[1, :, :, start : start + n] = value
            key, value = cache[:, :, :, : start + n]
        mixed = _attend(query, key, value, is_causal=start == 0)
        return self.out(mixed.transpose(1, 2).flatten(2))  # (B, n, W)


def _attend(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    """Return the attention in float32, also under autocast: at these lengths bf16 is three times slower on a CPU."""
    if not torch.is_autocast_enabled(query.device.type):
        return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
    with torch.autocast(query.device.type, enabled=False):
        query, key, value = query.float(), key.float(), value.float()
        return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)


class TransformerLayer(nn.Module):
    """x + attention, then x + two dense layers, each of a normalised x (pre-norm): (B, n, W) -> the same."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm, self.dense_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalSelfAttention(width, heads)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *, cache: Tensor | None = None, start: int = 0) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), cache=cache, start=start))
        return x + self.dropout(self.dense(self.dense_norm(x)))


@dataclass
class KeyValueCache:
    """The keys and values of the positions that a transformer has seen: a new one costs one position, not all."""

    tensor: Tensor  # (depth, 2, B, heads, N, W / heads), filled up to `length`
    length: int = 0


class Transformer(nn.Module):
    """Embedded codes in raster order (B, n, W) -> logits (B, n, K), each from the codes before it alone.

    Args: positions: N, the most codes that it can be given.
    """

    def __init__(
        self, codes: int, positions: int, width: int, depth: int, heads: int, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(positions, width))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(TransformerLayer(width, heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, codes)

    def new_cache(self, batch: int) -> KeyValueCache:
        """Return an empty cache for `batch` sequences, on the device of the weights."""
        heads, (n, width) = self.layers[0].attention.heads, self.positions.shape
        return KeyValueCache(self.positions.new_empty(len(self.layers), 2, batch, heads, n, width // heads))

    def forward(self, embedded: Tensor, conditions: Tensor, *, cache: KeyValueCache | None = None) -> Tensor:
        """Return the logits of all n positions or, with a cache, of those that it does not hold yet.

        Args: conditions: (B, n, W), what each position is told besides codes.
        """
        n, start = embedded.shape[1], 0 if cache is None else cache.length
        before = embedded[:, max(start - 1, 0) : n - 1]  # a position is given the code before it,
        if start == 0:
            before = F.pad(before, (0, 0, 1, 0))  # and the first one zeros
        x = self.dropout(before + self.positions[start:n] + conditions[:, start:])
        for index, layer in enumerate(self.layers):
            x = layer(x, cache=None if cache is None else cache.tensor[index], start=start)
        if cache is not None:
            cache.length = n
        return self.head(self.norm(x))
