"""VQ-VAE of two levels: a coarse grid of codes for what an image shows, and a finer one for its detail."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from imagegen.layers import ResidualBlock, downsample, upsample
from imagegen.vq import Quantiser


@dataclass(frozen=True)
class HierarchyConfig:
    """The sizes of a VQ-VAE of two levels.

    codes: K of the top and of the bottom codebook. code_dim: D of both. widths: channels at half resolution, at a
    quarter, and so on, down to the bottom grid; the top grid has half its height and width. blocks, hidden: residual
    blocks of each network at its grid, and the channels inside them.
    Raises: ValueError: a size that cannot be built.
    """

    image_shape: tuple[int, int, int] = (3, 64, 64)
    codes: tuple[int, int] = (16, 512)
    code_dim: int = 64
    widths: tuple[int, ...] = (24, 48, 96)
    blocks: int = 2
    hidden: int = 48

    def __post_init__(self) -> None:
        for name in ("image_shape", "codes", "widths"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape is {self.image_shape}, expected (C, H, W), each at least 1")
        if len(self.codes) != 2 or min(self.codes) < 2:
            raise ValueError(f"codes is {self.codes}, expected (top, bottom), each at least 2")
        if not self.widths or min(*self.widths, self.hidden, self.code_dim) < 1 or self.blocks < 0:
            raise ValueError(
                f"widths {self.widths}, hidden {self.hidden} and code_dim {self.code_dim} must be at least 1, "
                f"blocks {self.blocks} at least 0"
            )
        factor = 2 ** (len(self.widths) + 1)
        if self.image_shape[1] % factor or self.image_shape[2] % factor:
            raise ValueError(
                f"image_shape is {self.image_shape}: H and W must be multiples of {factor} "
                f"to be halved {len(self.widths) + 1} times"
            )

    @property
    def grids(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of the top and of the bottom grid."""
        factor, (_, height, width) = 2 ** len(self.widths), self.image_shape
        return (height // factor // 2, width // factor // 2), (height // factor, width // factor)


class HierarchyOutput(NamedTuple):
    """What a VQ-VAE of two levels computes; never a loss. Of each pair, the first is the top level's."""

    params: Tensor  # (B, C, H, W), logits: the image in [0, 1] is their sigmoid
    z: tuple[Tensor, Tensor]  # each (B, D, h, w), the encoders' outputs
    nearest: tuple[Tensor, Tensor]  # each (B, D, h, w), the codebook vectors they were replaced by
    indices: tuple[Tensor, Tensor]  # each (B, h, w) int64


class HierarchicalVQVAE(nn.Module):
    """Images (B, C, H, W) in [-1, 1] to a top and a bottom grid of codes, and back. Convolutions only.

    The bottom codes are chosen knowing the top ones, so they need not repeat them. A decoder that is not told the
    bottom level (its vectors are zeros) draws what the top level says alone: a mean over all details that would fit.
    Source: Razavi, van den Oord and Vinyals 2019, arXiv:1906.00446, section 3.1; here the bottom level can be withheld.
    """

    def __init__(self, config: HierarchyConfig) -> None:
        super().__init__()
        self.config = config
        channels, widths, dim = config.image_shape[0], config.widths, config.code_dim
        last = widths[-1]

        def blocks() -> list[nn.Module]:
            return [ResidualBlock(last, config.hidden) for _ in range(config.blocks)]

        down = [(downsample(a, b), nn.SiLU()) for a, b in zip((channels, *widths[:-1]), widths)]
        up = [(nn.SiLU(), upsample(a, b)) for a, b in zip(widths[::-1], (*widths[-2::-1], channels))]
        self.encoder = nn.Sequential(*[layer for stage in down for layer in stage][:-1], *blocks())
        self.to_top = nn.Sequential(
            nn.SiLU(), downsample(last, last), *blocks(), nn.SiLU(), nn.Conv2d(last, dim, 1)
        )
        self.top = Quantiser(config.codes[0], dim)
        self.from_top = nn.Sequential(
            nn.Conv2d(dim, last, 3, padding=1), *blocks(), nn.SiLU(), upsample(last, last)
        )
        self.to_bottom = nn.Sequential(nn.SiLU(), nn.Conv2d(2 * last, dim, 1))
        self.bottom = Quantiser(config.codes[1], dim)
        self.from_bottom = nn.Conv2d(dim, last, 3, padding=1, bias=False)  # of zeros: zeros
        self.decoder = nn.Sequential(*blocks(), *[layer for stage in up for layer in stage])

    def forward(self, x: Tensor, *, withheld: Tensor | None = None,
                generator: torch.Generator | None = None) -> HierarchyOutput:  # fmt: skip
        """Return what the model computes; in training mode both codebooks then move.

        Args: withheld: bool (B,), of which images the decoder is not told the bottom level; None: of none.
        Raises: ValueError: the images do not have the config's shape, or withheld is not bool (B,).
        """
        features = self._features(x)
        if withheld is not None and (withheld.dtype != torch.bool or withheld.shape != x.shape[:1]):
            raise ValueError(
                f"withheld of shape {tuple(withheld.shape)}, {withheld.dtype}, expected bool ({len(x)},)"
            )
        z_top = self.to_top(features)
        top = self.top(z_top, generator=generator)
        coarse = self.from_top(top.quantised)
        z_bottom = self.to_bottom(torch.cat([features, coarse], dim=1))
        bottom = self.bottom(z_bottom, generator=generator)
        told = bottom.quantised if withheld is None else bottom.quantised * ~withheld[:, None, None, None]
        params = self.decoder(coarse + self.from_bottom(told))
        return HierarchyOutput(
            params, (z_top, z_bottom), (top.nearest, bottom.nearest), (top.indices, bottom.indices)
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the top and bottom codes int64, each (B, h, w), of images (B, C, H, W) in [-1, 1].

        Raises: ValueError: the images do not have the config's shape.
        """
        features = self._features(x)
        top = self.top.indices(self.to_top(features))
        coarse = self.from_top(self.top.embed(top))
        return top, self.bottom.indices(self.to_bottom(torch.cat([features, coarse], dim=1)))

    def decode(self, top: Tensor, bottom: Tensor | None = None) -> Tensor:
        """Return the logits (B, C, H, W) of codes int64, each (B, h, w); without `bottom`, what the top says alone.

        Raises: TypeError: the codes are not int64. ValueError: they do not have the config's grids.
        """
        for name, codes, grid in zip(("top", "bottom"), (top, bottom), self.config.grids):
            if codes is None:
                continue
            if codes.dtype != torch.int64:
                raise TypeError(f"expected int64 {name} codes, got {codes.dtype}")
            if codes.dim() != 3 or codes.shape[1:] != grid or len(codes) != len(top):
                raise ValueError(
                    f"{name} codes of shape {tuple(codes.shape)}, expected ({len(top)}, {grid[0]}, {grid[1]})"
                )
        coarse = self.from_top(self.top.embed(top))
        return self.decoder(
            coarse if bottom is None else coarse + self.from_bottom(self.bottom.embed(bottom))
        )

    def _features(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.config.image_shape:
            raise ValueError(
                f"images of shape {tuple(x.shape)}, expected (B, {', '.join(map(str, self.config.image_shape))})"
            )
        return self.encoder(x)
