"""A gated PixelCNN: masked convolutions in two stacks, of which one sees the rows above and one its own row."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees only what comes before its centre: (B, C, h, w) -> (B, C', h, w).

    kind: "A" leaves the centre out, for the first layer, whose input is the codes; "B" keeps it, for later layers.
    kernel: height and width of the whole kernel, odd. Its rows below the centre are always masked, so they are not
    stored: `mask` has the shape (height // 2 + 1, width), and the centre is in its last row.
    seen: "raster": all rows above and, in its own row, what is to the left. "rows": whole rows, those above and,
    for "B", its own. A stack of "raster" layers has a blind spot to its right; one of "rows" layers has none.
    Raises: ValueError: a setting out of range, or a kernel that would see nothing.
    Source: van den Oord et al. 2016, arXiv:1601.06759, section 3.4, and arXiv:1606.05328, section 2.2.
    """

    def __init__(
        self, kind: str, in_channels: int, out_channels: int, kernel: tuple[int, int], *, seen: str = "raster"
    ) -> None:
        if kind not in ("A", "B") or seen not in ("raster", "rows"):
            raise ValueError(f"kind is {kind!r} and seen {seen!r}, expected 'A' or 'B', 'raster' or 'rows'")
        if len(kernel) != 2 or min(kernel) < 1 or not all(size % 2 for size in kernel):
            raise ValueError(f"kernel is {kernel}, expected two odd numbers")
        above, beside = kernel[0] // 2, kernel[1] // 2
        mask = torch.ones(above + 1, kernel[1])
        if seen == "raster":
            mask[above, beside + (kind == "B") :] = 0
        elif kind == "A":
            mask[above] = 0
        if not mask.any():
            raise ValueError(f"kernel is {kernel}: kind {kind!r} of it sees nothing")
        super().__init__(in_channels, out_channels, tuple(mask.shape), padding=(0, beside))
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, self.mask.shape[0] - 1, 0))  # above alone: output row r sees input rows up to r
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


def gate(x: Tensor) -> Tensor:
    """Return tanh(a) sigmoid(b) of the two halves a, b of the channels: (B, 2W, h, w) -> (B, W, h, w).

    Source: van den Oord et al. 2016, arXiv:1606.05328, equation 2.
    """
    signal, opening = x.chunk(2, dim=1)
    return torch.tanh(signal) * torch.sigmoid(opening)


class GatedLayer(nn.Module):
    """One layer of both stacks, each (B, W, h, w) -> the same.

    The vertical stack knows the rows above a position; the horizontal one is told what that knows, and knows its own
    row to the left. Nothing goes back, or the vertical stack would see beside its position.
    Source: van den Oord et al. 2016, arXiv:1606.05328, figure 2.
    """

    def __init__(self, width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.vertical = MaskedConv2d("B", width, 2 * width, (3, 3), seen="rows")
        self.horizontal = MaskedConv2d("B", width, 2 * width, (1, 3))
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(width, width, 1))

    def forward(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.vertical(vertical)
        row = self.horizontal(horizontal) + self.across(rows)
        return gate(rows), horizontal + self.out(gate(row))


class PixelCNN(nn.Module):
    """Embedded codes in raster order (B, n, W) -> logits (B, n, K), each from the codes before it alone.

    n is a number of whole rows. A position sees depth + 2 rows up and as many columns to each side: all that comes
    before it on a grid of 7 x 7 at depth 4.
    Args: columns: of the grid.
    """

    def __init__(self, codes: int, columns: int, width: int, depth: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.columns = columns
        self.above = MaskedConv2d("A", width, width, (5, 5), seen="rows")
        self.left = MaskedConv2d("A", width, width, (1, 5))
        self.layers = nn.ModuleList(GatedLayer(width, dropout=dropout) for _ in range(depth))
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, codes))

    def forward(self, embedded: Tensor, conditions: Tensor) -> Tensor:
        """Args: conditions: (B, n, W), what each position is told besides codes; added behind the masks."""
        x, told = (part.mT.unflatten(2, (-1, self.columns)) for part in (embedded, conditions))
        vertical, horizontal = self.above(x) + told, self.left(x) + told  # (B, W, rows, columns)
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal)
        return self.head(horizontal.flatten(2).mT)
