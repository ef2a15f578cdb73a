"""The operators of a style-based network: equalised layers, filtered resampling, modulation, and the batch's spread."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, linear

LEAK = 0.2
BINOMIAL = (1.0, 3.0, 3.0, 1.0)  # the blur filter of one axis, before it is normalised
EPSILON = 1e-8


class EqualLinear(nn.Module):
    """x (B, F) -> x W^T c + b m, with W drawn from N(0, 1 / m^2) and c = m / sqrt(F) applied on each call.

    All weights thus have the same scale for the optimiser, whatever their layer's width: Adam's step, which does not
    look at the gradient's size, changes each layer by the same share. rate: m, the layer's learning rate as a multiple
    of the others'. start: of the bias.
    Source: Karras et al. 2018, arXiv:1710.10196, section 4.1; the multiple: Karras et al. 2019, arXiv:1812.04948.
    """

    def __init__(self, n_in: int, n_out: int, *, rate: float = 1.0, start: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / rate)
        self.bias = nn.Parameter(torch.full((n_out,), start / rate))
        self.scale, self.rate = rate / math.sqrt(n_in), rate

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight * self.scale, self.bias * self.rate)


class EqualConv2d(nn.Module):
    """A convolution with weights from N(0, 1), divided on each call by the root of its inputs.

    (B, C, H, W) -> (B, C', H', W'). stride 2 blurs first (`filtered`), so that no detail finer than the new grid is
    left to be mistaken for a coarse one. At stride 1 the variance of independent inputs is kept; the blur lowers it.
    bias: added; `activated` needs it.
    Raises: ValueError: a stride other than 1 and 2.
    Source: as `EqualLinear`; the filter: Zhang 2019, arXiv:1904.11486.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, *, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride is {stride}, expected 1 or 2")
        self.weight = nn.Parameter(torch.randn(n_out, n_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.scale = 1 / math.sqrt(n_in * kernel**2)
        self.stride, self.kernel = stride, kernel

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return conv2d(x, self.weight * self.scale, self.bias, padding=self.kernel // 2)
        if self.kernel == 1:  # only every second place is looked at: blur no other
            return conv2d(filtered(x, down=2), self.weight * self.scale, self.bias)
        # Of an even side the blur below leaves one pixel more, from which a kernel of 3 at stride 2 takes half.
        return conv2d(
            filtered(x, pad=(2, 2)),
            self.weight * self.scale,
            self.bias,
            stride=2,
            padding=self.kernel // 2 - 1,
        )


def activated(x: Tensor) -> Tensor:
    """Return sqrt(2) times the leaky rectifier of x: the mean square of a standard normal stays about what it was."""
    return leaky_relu(x, LEAK).mul_(math.sqrt(2))


def filtered(x: Tensor, *, up: int = 1, down: int = 1, pad: tuple[int, int] | None = None,
             gain: float = 1.0) -> Tensor:  # fmt: skip
    """Return images (B, C, H, W) low-passed by the binomial filter 1 3 3 1 of each axis, resampled by up or down.

    up = 2 puts zeros between the pixels first and keeps the mean; down = 2 keeps every second result. A constant image
    stays that constant, except within two pixels of the edge, outside which there are zeros.
    pad: pixels of zeros before and behind each axis; the default keeps the size, times up, by down;
    without either it shifts by half a pixel. gain: what the result is multiplied by, at no cost. Other code calls all
    of this upfirdn2d.
    Raises: ValueError: up or down is not 1 or 2, or both are 2, or pad is given with up = 2.
    Source: Karras et al. 2020, arXiv:1912.04958 (its networks' filter); one depthwise convolution, whose two axes are
        applied together.
    """
    if up == 2 and pad is not None:
        raise ValueError(f"pad is {pad}, and up = 2 sets its own")
    if (up, down) not in ((1, 1), (2, 1), (1, 2)):
        raise ValueError(f"up is {up} and down is {down}, expected 1 and 1, 2 and 1, or 1 and 2")
    axis = torch.tensor(BINOMIAL, dtype=x.dtype, device=x.device) * (up * math.sqrt(gain) / sum(BINOMIAL))
    channels = x.shape[1]
    kernel = torch.outer(axis, axis).expand(channels, 1, 4, 4)
    if up == 2:  # zeros between the pixels, and the filter, are a transposed convolution
        return conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)
    if pad is None:
        pad = (1, 2) if down == 1 else (1, 1)
    if pad[0] != pad[1]:
        x = nn.functional.pad(x, (pad[0], pad[1], pad[0], pad[1]))
        return conv2d(x, kernel, stride=down, groups=channels)
    return conv2d(x, kernel, stride=down, padding=pad[0], groups=channels)


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """Return what each output channel is multiplied by, (B, C'), so that its variance is 1 again (before any blur).

    1 / sqrt(sum over inputs and kernel of (s_i w_oi)^2), for inputs that are independent and of variance 1.
    Args: weight: (C', C, k, k), shared by the batch. style: (B, C), one factor for each input channel.
    Source: Karras et al. 2020, arXiv:1912.04958, equation 3.
    """
    return torch.rsqrt(style.square() @ weight.square().sum((2, 3)).T + EPSILON)


def modulated_conv2d(x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, up: bool = False,
                     form: str = "activations") -> Tensor:  # fmt: skip
    """Return a convolution whose kernel each image scales: (B, C, H, W) -> (B, C', H, W), or twice as high and wide.

    form: two ways to the same numbers. "weights" makes B kernels and convolves in B groups, as the paper does ("fused
    modulation" in its code).
    "activations" scales the inputs by the style and the outputs by the demodulation, so that one kernel serves all:
    a factor of an input channel may stand before the sum over inputs, one of an output channel behind it.
    Args: weight: (C', C, k, k), k odd, at most 5 with `up`. style: (B, C). up: doubles height and width, then filters.
    Raises: ValueError: another form, a style that does not fit, or a kernel of another width.
    Source: Karras et al. 2020, arXiv:1912.04958, section 2.2.
    """
    batch, channels, height, width = x.shape
    if style.shape != (batch, channels):
        raise ValueError(f"style has shape {tuple(style.shape)}, expected {(batch, channels)}")
    if form not in ("activations", "weights"):
        raise ValueError(f"form is {form!r}, expected 'activations' or 'weights'")
    n_out, _, kernel, _ = weight.shape
    if kernel % 2 == 0 or (up and kernel > 5):
        raise ValueError(f"the kernel is {kernel} wide, expected an odd number{', at most 5' if up else ''}")
    factor = demodulation(weight, style) if demodulate else None
    if form == "activations":
        out = _convolved(x * style[:, :, None, None], weight, up, 1)
        out = out if factor is None else out * factor[:, :, None, None]
    else:
        kernels = weight * style[:, None, :, None, None]  # (B, C', C, k, k)
        kernels = kernels if factor is None else kernels * factor[:, :, None, None, None]
        x = x.reshape(1, batch * channels, height, width)
        out = _convolved(x, kernels.flatten(0, 1), up, batch)
        out = out.reshape(batch, n_out, *out.shape[2:])
    if not up:
        return out
    # The transposed convolution gives 2H + 1; the blur, with a factor of 2 an axis for the zeros, takes one off.
    return filtered(out, pad=(2 - kernel // 2,) * 2, gain=4)


def _convolved(x: Tensor, weight: Tensor, up: bool, groups: int) -> Tensor:
    """Convolve with weights (groups C', C, k, k); `up`: transposed, of stride 2, whose kernel is flipped."""
    if not up:
        return conv2d(x, weight, padding=weight.shape[-1] // 2, groups=groups)
    n_out = weight.shape[0] // groups
    weight = weight.unflatten(0, (groups, n_out)).transpose(1, 2).flatten(0, 1).flip((2, 3))
    return conv_transpose2d(x, weight, stride=2, groups=groups)


def with_spread(x: Tensor, group: int = 4) -> Tensor:
    """Return x (B, C, H, W) with one channel more: the minibatch standard deviation, a number for each group of images.

    The deviation over the group's images, of each channel and place, averaged over channels and places. A critic that
    is told it sees a collapse, where one that looks at single images cannot. The groups have the largest size that
    divides the batch and is not above `group`: in a batch of a prime number above it, 1, and no spread.
    Source: Karras et al. 2018, arXiv:1710.10196, section 3.
    """
    batch, _, height, width = x.shape
    size = max(n for n in range(1, min(group, batch) + 1) if batch % n == 0)
    groups = x.view(size, batch // size, *x.shape[1:])  # image i is in the group i mod (B / size)
    spread = (groups.var(0, unbiased=False) + EPSILON).sqrt().mean((1, 2, 3))  # one for each group
    return torch.cat([x, spread.repeat(size)[:, None, None, None].expand(-1, 1, height, width)], 1)
