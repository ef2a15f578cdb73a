"""A network that draws an image from its attributes; what it is not told, it averages over."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imagegen.layers import DenseResidualBlock, ResidualBlock, upsample

WITHHELD = -1  # the label of an attribute that the network is not told


@dataclass(frozen=True)
class AttributeDecoderConfig:
    """The sizes of an attribute decoder. attributes: how many values each attribute has.

    widths: channels at the smallest resolution, at twice that, and so on; the image has twice the last one's.
    neck: channels that the dense layers give, widened to the first of `widths` by a 1 x 1 convolution.
    blocks: residual blocks at each. hidden: units of the dense layers. dense_blocks: residual blocks of those.
    Raises: ValueError: a size that cannot be built.
    """

    image_shape: tuple[int, int, int] = (3, 64, 64)
    attributes: tuple[int, ...] = (20, 8, 7, 6, 3, 7, 7, 4, 7, 8)
    widths: tuple[int, ...] = (128, 64, 32)
    neck: int = 24
    blocks: int = 1
    hidden: int = 512
    dense_blocks: int = 1

    def __post_init__(self) -> None:
        for name in ("image_shape", "attributes", "widths"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape is {self.image_shape}, expected (C, H, W), each at least 1")
        if not self.attributes or min(self.attributes) < 2:
            raise ValueError(f"attributes is {self.attributes}, expected at least one of 2 values or more")
        if not self.widths or min(self.widths) < 1 or min(self.hidden, self.neck) < 1:
            raise ValueError(
                f"widths {self.widths}, neck {self.neck} and hidden {self.hidden} must be at least 1"
            )
        if self.blocks < 0 or self.dense_blocks < 0:
            raise ValueError(f"blocks {self.blocks} and dense_blocks {self.dense_blocks} must be at least 0")
        factor = 2 ** len(self.widths)
        if self.image_shape[1] % factor or self.image_shape[2] % factor:
            raise ValueError(
                f"image_shape is {self.image_shape}: H and W must be multiples of {factor} "
                f"to be doubled {len(self.widths)} times"
            )


class AttributeDecoder(nn.Module):
    """Attributes in, the logits of an image out: dense layers, then residual blocks and doublings."""

    def __init__(self, config: AttributeDecoderConfig) -> None:
        super().__init__()
        self.config = config
        channels, height, width = config.image_shape
        first = (config.neck, height >> len(config.widths), width >> len(config.widths))
        stages: list[nn.Module] = []
        for n_in, n_out in zip(config.widths, (*config.widths[1:], channels)):
            stages += [*[ResidualBlock(n_in) for _ in range(config.blocks)], nn.SiLU(), upsample(n_in, n_out)]
        self.network = nn.Sequential(
            nn.Linear(sum(config.attributes), config.hidden),
            *[DenseResidualBlock(config.hidden) for _ in range(config.dense_blocks)],
            nn.SiLU(),
            nn.Linear(config.hidden, math.prod(first)),
            nn.Unflatten(1, first),
            nn.Conv2d(config.neck, config.widths[0], 1),
            *stages,
        )

    def conditions(self, labels: Tensor) -> Tensor:
        """Return labels int64 (B, A) as the network's input: one block of one-hot values an attribute, (B, sum K).

        The block of a withheld attribute (label -1) is all zeros.
        Raises: TypeError: labels are not int64. ValueError: not (B, A), or a label outside -1 .. K - 1.
        """
        sizes = torch.tensor(self.config.attributes, device=labels.device)
        if labels.dtype != torch.int64:
            raise TypeError(f"expected int64 labels, got {labels.dtype}")
        if labels.dim() != 2 or labels.shape[1] != len(sizes):
            raise ValueError(f"labels of shape {tuple(labels.shape)}, expected (B, {len(sizes)})")
        wrong = (labels < WITHHELD) | (labels >= sizes)
        if wrong.any():
            row, column = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"label {labels[row, column].item()} of attribute {column}, expected "
                f"{WITHHELD} (withheld) to {sizes[column].item() - 1}"
            )
        blocks = [
            nn.functional.one_hot(column + 1, size + 1)[:, 1:]  # 0 stands for withheld, and is dropped
            for column, size in zip(labels.unbind(1), self.config.attributes)
        ]
        return torch.cat(blocks, dim=1).float()

    def forward(self, conditions: Tensor) -> Tensor:
        """Return logits (B, C, H, W) for conditions (B, sum K); the image in [0, 1] is their sigmoid.

        Raises: ValueError: the conditions do not have the config's size.
        """
        expected = sum(self.config.attributes)
        if conditions.dim() != 2 or conditions.shape[1] != expected:
            raise ValueError(f"conditions of shape {tuple(conditions.shape)}, expected (B, {expected})")
        return self.network(conditions)
