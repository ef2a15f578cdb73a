"""A StyleGAN2 of plain PyTorch operators, to measure ours against: its authors' way without CUDA kernels.

Restated from the published behaviour of https://github.com/NVlabs/stylegan2-ada-pytorch, none of whose code is here. It
resamples by putting in zeros, padding, convolving each channel with the 4 x 4 filter and throwing pixels away; it adds
the bias, rectifies and scales in three passes; and it modulates either one kernel an image, in one convolution of as
many groups, or the inputs and outputs of a shared kernel. Their code takes the second way in training, the first in
drawing.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, pad

from imagegen.stylegan import StyleGAN

EPSILON = 1e-8
WAYS = {"reference": False, "fused": True}  # name in the records: whether modulation and convolution are one


def fir() -> Tensor:
    """Return the 4 x 4 filter, of sum 1."""
    axis = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(axis, axis) / 64


def resampled(x: Tensor, *, up: int = 1, down: int = 1, margin: tuple[int, int] = (0, 0),
              gain: float = 1.0) -> Tensor:  # fmt: skip
    """Return x (B, C, H, W) with zeros put in, a margin before and behind, filtered, and thinned out."""
    batch, channels, height, width = x.shape
    x = pad(x.reshape(batch, channels, height, 1, width, 1), [0, up - 1, 0, 0, 0, up - 1])
    x = pad(x.reshape(batch, channels, height * up, width * up), margin * 2)
    kernel = (fir() * gain).flip((0, 1)).repeat(channels, 1, 1, 1)
    return conv2d(x, kernel, groups=channels)[:, :, ::down, ::down]


def biased(x: Tensor, bias: Tensor | None = None, *, rectify: bool = True, gain: float = 1.0) -> Tensor:
    """Return the sum of x and a bias of its second axis, rectified and scaled by sqrt(2), times gain."""
    if bias is not None:
        x = x + bias.reshape(1, -1, *[1] * (x.dim() - 2))
    if rectify:
        x, gain = leaky_relu(x, 0.2), gain * math.sqrt(2)
    return x * gain if gain != 1 else x


def convolved(x: Tensor, weight: Tensor, *, up: int = 1, down: int = 1, groups: int = 1) -> Tensor:
    """Return a convolution with weights (groups C', C, k, k), of which those of `up` are flipped."""
    side = weight.shape[-1]
    if up == 2:  # of 3 x 3
        weight = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
        x = conv_transpose2d(x, weight, stride=2, groups=groups)
        return resampled(x, margin=(1, 1), gain=4.0)
    if down == 2 and side == 1:
        return conv2d(resampled(x, down=2, margin=(1, 1)), weight)
    if down == 2:
        return conv2d(resampled(x, margin=(2, 2)), weight, stride=2)
    return conv2d(x, weight, padding=side // 2, groups=groups)


def modulated(x: Tensor, weight: Tensor, style: Tensor, *, noise: Tensor | None = None, demodulate: bool = True,
              up: int = 1, fused: bool = False) -> Tensor:  # fmt: skip
    """Return a modulated convolution and its noise. fused: one kernel an image, in as many groups."""
    batch = len(x)
    factor = None
    if demodulate or fused:
        kernels = weight.unsqueeze(0) * style.reshape(batch, 1, -1, 1, 1)
    if demodulate:
        factor = (kernels.square().sum((2, 3, 4)) + EPSILON).rsqrt()  # (B, C')
    if not fused:
        x = convolved(x * style.reshape(batch, -1, 1, 1), weight, up=up)
        if factor is None:
            return x if noise is None else x.add_(noise)
        factor = factor.reshape(batch, -1, 1, 1)
        return x * factor if noise is None else torch.addcmul(noise, x, factor)
    if demodulate:
        kernels = kernels * factor.reshape(batch, -1, 1, 1, 1)
    x = convolved(x.reshape(1, -1, *x.shape[2:]), kernels.flatten(0, 1), up=up, groups=batch)
    x = x.reshape(batch, -1, *x.shape[2:])
    return x if noise is None else x.add_(noise)


def dense(x: Tensor, layer: nn.Module, *, rectify: bool = False) -> Tensor:
    """Return an equalised layer's output; rectified where asked."""
    weight = layer.weight * layer.scale
    bias = layer.bias * layer.rate if layer.rate != 1 else layer.bias
    if not rectify:
        return torch.addmm(bias.unsqueeze(0), x, weight.T)
    return biased(x.matmul(weight.T), bias)


class Reference:
    """The networks of a StyleGAN of ours, with a copy of its parameters, computed as above.

    Two things are theirs: the noise has one strength a layer, and its share of a training's batch that takes its style
    from two latents is left out. `parameters` holds what is trained of each player.
    Raises: ValueError: a model that mixes styles or ends in a residual image, or whose noise differs by channel.
    """

    def __init__(self, model: StyleGAN, *, fused: bool) -> None:
        config = model.config
        if config.mixing or config.output != "skip":
            raise ValueError(f"mixing is {config.mixing}, output {config.output!r}; expected 0 and 'skip'")
        self.model, self.fused = copy.deepcopy(model), fused
        synthesis = self.model.generator.synthesis
        with torch.no_grad():
            for layer in synthesis.body:
                if layer.strength.unique().numel() != 1:
                    raise ValueError("the noise differs by channel")
                layer.strength = nn.Parameter(layer.strength[0].clone())
                if layer.up:  # turned once, so that no pass has to
                    layer.weight.copy_(layer.weight.flip((2, 3)))

    def styles(self, z: Tensor) -> Tensor:
        """Return w of each layer (B, L, D), and move the mean of w in training."""
        generator = self.model.generator
        w = z * (z.square().mean(1, keepdim=True) + EPSILON).rsqrt()
        for layer in generator.mapping.body:
            w = dense(w, layer, rectify=True)
        if generator.training:
            mean = w.detach().mean(0).lerp(generator.w_mean, generator.config.w_decay)
            generator.w_mean.copy_(mean)
        return w.unsqueeze(1).repeat(1, generator.config.layers, 1)

    def layer(self, index: int, x: Tensor, w: Tensor, *, fixed: bool) -> Tensor:
        """Return the output of a style layer on x, with fixed or random noise."""
        synthesis = self.model.generator.synthesis
        layer, kept = synthesis.body[index], getattr(synthesis, f"noise_{index}")
        noise = kept if fixed else torch.randn(len(w), *kept.shape[1:])
        options = {"noise": noise * layer.strength, "up": 2 if layer.up else 1, "fused": self.fused}
        # Demodulation takes the weight's scale out again; ours keeps it, and the sum's 1e-8 weighs the more.
        x = modulated(x, layer.weight, dense(w, layer.style), **options)
        return biased(x, layer.bias)

    def image(self, grid: int, x: Tensor, w: Tensor) -> Tensor:
        """Return a grid's image."""
        part = self.model.generator.synthesis.to_image[grid]
        style = dense(w, part.style) * part.scale
        x = modulated(x, part.weight, style, demodulate=False, fused=self.fused)
        return biased(x, part.bias, rectify=False)

    def synthesis(self, ws: Tensor, *, fixed: bool = False) -> Tensor:
        """Return the images of w for each layer (B, L, D)."""
        x = self.model.generator.synthesis.constant.repeat(len(ws), 1, 1, 1)
        x = self.layer(0, x, ws[:, 0], fixed=fixed)
        image = self.image(0, x, ws[:, 1])
        for grid in range(1, self.model.config.grids):
            for index in (2 * grid - 1, 2 * grid):
                x = self.layer(index, x, ws[:, index], fixed=fixed)
            image = resampled(image, up=2, margin=(2, 1), gain=4.0)
            image = image.add_(self.image(grid, x, ws[:, 2 * grid + 1]))
        return image

    def generator(self, z: Tensor, *, fixed: bool = False) -> Tensor:
        """Return the images of latents z (B, D)."""
        return self.synthesis(self.styles(z), fixed=fixed)

    def discriminator(self, x: Tensor) -> Tensor:
        """Return one logit an image (B,)."""
        net = self.model.discriminator

        def through(part: nn.Module, x: Tensor, *, down: int = 1, **options) -> Tensor:
            return biased(convolved(x, part.weight * part.scale, down=down), part.bias, **options)

        x = through(net.from_image, x)
        for block in net.body:
            short = through(block.shortcut, x, down=2, rectify=False, gain=math.sqrt(0.5))
            x = through(block.second, through(block.first, x), down=2, gain=math.sqrt(0.5))
            x = short.add_(x)
        x = through(net.last, spread_added(x, net.config.group))
        return dense(dense(x.flatten(1), net.dense, rectify=True), net.head).squeeze(1)


def spread_added(x: Tensor, group: int) -> Tensor:
    """Return x with one channel more: the deviation in groups of at most `group` images, which divide the batch."""
    batch, _, height, width = x.shape
    size = min(group, batch)
    groups = x.reshape(size, -1, *x.shape[1:])
    groups = groups - groups.mean(0)
    deviation = (groups.square().mean(0) + EPSILON).sqrt().mean((1, 2, 3))
    return torch.cat([x, deviation.reshape(-1, 1, 1, 1).repeat(size, 1, height, width)], 1)
