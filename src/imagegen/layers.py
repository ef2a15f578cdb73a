"""Blocks that several model families share, and the arithmetic of their sizes. All keep (B, C, H, W)."""

from collections.abc import Iterable

import torch
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


def resize_upsample(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return layers that repeat each pixel 2 x 2 and then convolve: (B, C, H, W) -> (B, C', 2H, 2W).

    The other cure against checkerboards, at four times the multiplications that a 3 x 3 costs before the resize
    (Odena, Dumoulin and Olah 2016).
    """
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(in_channels, out_channels, 3, padding=1)
    )


# ---- the arithmetic of sizes, along one axis -------------------------------------------------------------------


def conv_size(size: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Return the length of a convolution's output along one axis.

    Args: padding: zeros added at *each* end. dilation: distance between neighbouring weights; 1 is a plain kernel.
    Raises: ValueError: a setting out of range, or a kernel that reaches beyond the padded input.
    Source: Dumoulin and Visin 2016, arXiv:1603.07285, relationships 6 and 15.
    """
    _check_setting(size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    reach = dilation * (kernel - 1) + 1
    if size + 2 * padding < reach:
        raise ValueError(
            f"a kernel of {kernel} with dilation {dilation} spans {reach}, the input of {size} with {padding} "
            f"at each end only {size + 2 * padding}: the output would be empty"
        )
    return (size + 2 * padding - reach) // stride + 1


def transposed_size(size: int, kernel: int, *, stride: int = 1, padding: int = 0, output_padding: int = 0,
                    dilation: int = 1) -> int:  # fmt: skip
    """Return the length of a transposed convolution's output along one axis.

    Args: padding: that of the convolution which is transposed: taken *off* each end. output_padding: which of the
        `stride` input sizes that this convolution maps to `size` is meant; 0 is the smallest.
    Raises: ValueError: a setting out of range, an output_padding that is not below stride or dilation, or an empty
        output.
    Source: Dumoulin and Visin 2016, arXiv:1603.07285, relationship 14.
    """
    _check_setting(size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    if not 0 <= output_padding < max(stride, dilation):
        raise ValueError(
            f"output_padding is {output_padding}, expected at least 0 and less than stride {stride} or "
            f"dilation {dilation}"
        )
    length = (size - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding + output_padding
    if length < 1:
        raise ValueError(
            f"padding of {padding} takes all of it off: the output would have the length {length}"
        )
    return length


def overlap_count(size: int, kernel: int, *, stride: int = 1, padding: int = 0, output_padding: int = 0,
                  dilation: int = 1) -> Tensor:  # fmt: skip
    """Return how many inputs reach each output of a transposed convolution along one axis, int64 (output length,).

    In two dimensions the count is the product of those of the two axes. It is the same everywhere, but near the
    ends, if stride divides kernel (dilation 1); else it repeats a pattern of length stride: the checkerboard.
    Raises: ValueError: as `transposed_size`.
    Source: Odena, Dumoulin and Olah 2016.
    """
    length = transposed_size(
        size, kernel, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation
    )
    starts = stride * torch.arange(size) - padding
    targets = (
        starts[:, None] + dilation * torch.arange(kernel)
    ).flatten()  # (size, kernel) -> where each term goes
    inside = targets[(targets >= 0) & (targets < length)]
    return torch.bincount(inside, minlength=length)


def receptive_field(convolutions: Iterable[tuple[int, int, int]]) -> int:
    """Return how many neighbouring inputs one output of a stack of convolutions sees along one axis.

    Args: convolutions: (kernel, stride, dilation) of each, the first to be applied first.
    Raises: ValueError: a setting out of range.
    """
    seen, step = 1, 1  # step: how many inputs lie between neighbouring outputs
    for kernel, stride, dilation in convolutions:
        _check_setting(kernel=kernel, stride=stride, dilation=dilation)
        seen += dilation * (kernel - 1) * step
        step *= stride
    return seen


def trace_sizes(network: Iterable[nn.Module], size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return height and width after each layer, by arithmetic alone: nothing is computed, no channel is looked at.

    Knows (transposed) convolutions with padding in numbers and resizing by a factor; other layers without weights,
    normalisation layers and `ResidualBlock` keep the size.
    Raises: ValueError: a layer's arithmetic fails; the message names the layer and the size that reached it.
        TypeError: a layer whose effect on the size is not known.
    """
    sizes = []
    for index, layer in enumerate(network):
        try:
            size = _size_after(layer, *size)
        except ValueError as error:
            raise ValueError(f"layer {index}, {layer}, gets {size[0]} x {size[1]}: {error}") from None
        sizes.append(size)
    return sizes


_KEEP_SIZE = (
    nn.Identity, nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Dropout, nn.Dropout2d,
    nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, ResidualBlock,
)  # fmt: skip


def _size_after(layer: nn.Module, height: int, width: int) -> tuple[int, int]:
    if isinstance(layer, _KEEP_SIZE):
        return height, width
    if isinstance(layer, nn.Sequential):
        return trace_sizes(layer, (height, width))[-1] if len(layer) else (height, width)
    if isinstance(layer, nn.Upsample) and layer.scale_factor is not None:
        factor = layer.scale_factor
        tall, wide = factor if isinstance(factor, tuple) else (factor, factor)
        return int(height * tall), int(width * wide)
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and not isinstance(layer.padding, str):
        sizes = []
        for axis, length in enumerate((height, width)):
            setting = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
            if isinstance(layer, nn.ConvTranspose2d):
                rule, setting["output_padding"] = transposed_size, layer.output_padding
            else:
                rule = conv_size
            chosen = {name: values[axis] for name, values in setting.items()}
            sizes.append(rule(length, layer.kernel_size[axis], **chosen))
        return sizes[0], sizes[1]
    raise TypeError(f"what {layer} does to the size is not known here")


def _check_setting(**setting: int) -> None:
    for name, value in setting.items():
        least = 0 if name == "padding" else 1
        if value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}")
