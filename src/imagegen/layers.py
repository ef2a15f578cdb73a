"""Blocks that several model families share. All keep (B, C, H, W) and say what they do to its sizes."""

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + f(x), with f two 3 x 3 convolutions: (B, C, H, W) -> the same shape.

    The last convolution starts at zero, so that a new block is the identity and a deep stack trains from the first
    step without normalisation (Zhang, Dauphin and Ma 2019, Fixup, arXiv:1901.09321).
    """

    def __init__(self, channels: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or channels
        self.inner = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden, channels, 3, padding=1),
        )
        nn.init.zeros_(self.inner[-1].weight)
        nn.init.zeros_(self.inner[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class DenseResidualBlock(nn.Module):
    """x + f(x), with f two dense layers: (B, F) -> (B, F). Starts as the identity, as `ResidualBlock` does.

    dropout: share of f's inner units set to 0 while training.
    """

    def __init__(self, features: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.SiLU(),
            nn.Linear(features, features),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(features, features),
        )
        nn.init.zeros_(self.inner[-1].weight)
        nn.init.zeros_(self.inner[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def downsample(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a convolution that halves height and width, which must be even: (B, C, H, W) -> (B, C', H/2, W/2)."""
    return nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)


def upsample(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution that doubles height and width: (B, C, H, W) -> (B, C', 2H, 2W).

    Its stride divides its kernel, so that every output pixel gets the same number of terms: no checkerboard
    (Odena, Dumoulin and Olah 2016).
    """
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)
