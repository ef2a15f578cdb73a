"""StyleGAN2: a generator told its style layer by layer, and its critic (Karras et al. 2020, arXiv:1912.04958)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator as Random
from torch import Tensor, nn

from imagegen.stylegan.operators import (
    EPSILON,
    EqualConv2d,
    EqualLinear,
    activated,
    filtered,
    modulated_conv2d,
    with_spread,
)

BASE = 4  # the side of the learned constant that a generator starts from
OUTPUTS = ("skip", "residual")
NOISES = ("random", "fixed", "none")


@dataclass(frozen=True)
class StyleGANConfig:
    """The sizes of both players.

    image_shape: (C, S, S), S a power of two, at least 8. latent_dim: of z and of w. width, critic_width: channels of
    the finest grid, doubled at each coarser one up to `max_width`. mapping_depth: layers from z to w. mapping_rate:
    their learning rate as a multiple of the others'. output: "skip" adds up an image from each grid, "residual" has
    one at the end and shortcuts around the blocks. mixing: share of the images in training that take their style from
    two latents. group: images that the critic compares (`with_spread`). w_decay: of the running mean of w.
    Raises: ValueError: a network that cannot be built; the message names the value.
    """

    image_shape: tuple[int, ...] = (3, 32, 32)
    latent_dim: int = 128
    width: int = 32
    critic_width: int = 32
    max_width: int = 128
    mapping_depth: int = 4
    mapping_rate: float = 0.01
    output: str = "skip"
    mixing: float = 0.9
    group: int = 4
    w_decay: float = 0.995
    sizes: ClassVar = ("latent_dim", "width", "critic_width", "max_width", "mapping_depth", "group")

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_shape", tuple(self.image_shape))  # JSON gives a list
        for name in self.sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        shape = self.image_shape
        if len(shape) != 3 or shape[0] < 1 or shape[1] != shape[2]:
            raise ValueError(f"image_shape is {shape}, expected (C, S, S)")
        if shape[1] < 2 * BASE or shape[1] & (shape[1] - 1):
            raise ValueError(f"image_shape is {shape}: the side is a power of two, at least {2 * BASE}")
        if self.output not in OUTPUTS:
            raise ValueError(f"output is {self.output!r}, expected one of {', '.join(OUTPUTS)}")
        if not self.mapping_rate > 0:
            raise ValueError(f"mapping_rate is {self.mapping_rate}, expected more than 0")
        for name in ("mixing", "w_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1")

    @property
    def grids(self) -> int:
        """How many grids there are, from 4 x 4 to the image's."""
        return self.image_shape[1].bit_length() - BASE.bit_length() + 1

    @property
    def layers(self) -> int:
        """How many layers take a style: one convolution on the first grid, two on each other, and the last image."""
        return 2 * self.grids

    def channels(self, finest: int) -> list[int]:
        """Return the channels of the grids, from 4 x 4 to the finest."""
        return [min(finest << level, self.max_width) for level in reversed(range(self.grids))]


def normalised(z: Tensor) -> Tensor:
    """Return each latent of (B, D) with the length sqrt(D), which is the length of a typical z ~ N(0, I)."""
    return z * torch.rsqrt(z.square().mean(1, keepdim=True) + EPSILON)


class Mapping(nn.Module):
    """z (B, D) -> w (B, D): a few layers that learn slowly, from z with its length made sqrt(D)."""

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__()
        size = config.latent_dim
        self.body = nn.ModuleList(
            EqualLinear(size, size, rate=config.mapping_rate) for _ in range(config.mapping_depth)
        )

    def forward(self, z: Tensor) -> Tensor:
        w = normalised(z)
        for layer in self.body:
            w = activated(layer(w))
        return w


class StyleLayer(nn.Module):
    """A modulated convolution with noise, bias and rectifier: x (B, C, H, W), w (B, D) -> (B, C', H', W').

    The style is an affine function of w that starts around 1. The noise has one learned strength for each channel,
    which starts at 0, (C',), as in the first paper (arXiv:1812.04948).
    """

    def __init__(self, n_in: int, n_out: int, size: int, *, up: bool = False) -> None:
        super().__init__()
        self.style = EqualLinear(size, n_in, start=1.0)
        self.weight = nn.Parameter(torch.randn(n_out, n_in, 3, 3))
        self.strength = nn.Parameter(torch.zeros(n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.scale, self.up = 1 / math.sqrt(9 * n_in), up

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """noise: (B or 1, 1, H', W'), or None."""
        x = modulated_conv2d(x, self.weight * self.scale, self.style(w), up=self.up)
        shift = self.bias[:, None, None]
        if noise is not None:
            shift = torch.addcmul(shift, self.strength[:, None, None], noise)
        return activated(x.add_(shift))


class ToImage(nn.Module):
    """A modulated 1 x 1 convolution to an image's channels ("toRGB"), not demodulated: its scale is its message."""

    def __init__(self, n_in: int, n_out: int, size: int) -> None:
        super().__init__()
        self.style = EqualLinear(size, n_in, start=1.0)
        self.weight = nn.Parameter(torch.randn(n_out, n_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.scale = 1 / math.sqrt(n_in)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        image = modulated_conv2d(x, self.weight * self.scale, self.style(w), demodulate=False)
        return image + self.bias[:, None, None]


class Synthesis(nn.Module):
    """w for each layer (B, L, D) -> images (B, C, S, S), whose values mostly lie in [-1, 1] and are not bounded."""

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__()
        self.config = config
        widths, size, image = config.channels(config.width), config.latent_dim, config.image_shape[0]
        self.constant = nn.Parameter(torch.randn(1, widths[0], BASE, BASE))
        self.body = nn.ModuleList([StyleLayer(widths[0], widths[0], size)])
        for n_in, n_out in zip(widths, widths[1:]):
            self.body += [StyleLayer(n_in, n_out, size, up=True), StyleLayer(n_out, n_out, size)]
        residual = config.output == "residual"
        self.shortcuts = nn.ModuleList(
            EqualConv2d(n_in, n_out, 1, bias=False) for n_in, n_out in zip(widths, widths[1:]) if residual
        )
        self.to_image = nn.ModuleList(ToImage(n, image, size) for n in (widths[-1:] if residual else widths))
        for layer in range(config.layers - 1):
            side = BASE << ((layer + 1) // 2)
            self.register_buffer(f"noise_{layer}", torch.randn(1, 1, side, side))

    def forward(self, ws: Tensor, *, noise: str = "random", generator: Random | None = None) -> Tensor:
        """noise: "random", new for each image; "fixed", the same for all; "none".

        Raises: ValueError: ws is not (B, L, D), or another noise.
        """
        expected = (self.config.layers, self.config.latent_dim)
        if ws.dim() != 3 or ws.shape[1:] != expected:
            raise ValueError(f"ws has shape {tuple(ws.shape)}, expected (B, {expected[0]}, {expected[1]})")
        if noise not in NOISES:
            raise ValueError(f"noise is {noise!r}, expected one of {', '.join(NOISES)}")
        x = self.constant.expand(ws.shape[0], -1, -1, -1)
        x = self.body[0](x, ws[:, 0], self._noise(0, noise, ws, generator))
        skip = self.config.output == "skip"
        image = self.to_image[0](x, ws[:, 1]) if skip else None
        for grid in range(1, self.config.grids):
            first, second = 2 * grid - 1, 2 * grid
            inner = self.body[first](x, ws[:, first], self._noise(first, noise, ws, generator))
            inner = self.body[second](inner, ws[:, second], self._noise(second, noise, ws, generator))
            if skip:
                x = inner  # the style of the next layer also makes this grid's image
                image = filtered(image, up=2) + self.to_image[grid](x, ws[:, second + 1])
            else:
                x = (filtered(self.shortcuts[grid - 1](x), up=2) + inner) / math.sqrt(2)
        return image if skip else self.to_image[0](x, ws[:, -1])

    def _noise(self, layer: int, kind: str, ws: Tensor, generator: Random | None) -> Tensor | None:
        if kind == "none":
            return None
        kept = getattr(self, f"noise_{layer}")
        if kind == "fixed":
            return kept
        device = ws.device if generator is None else generator.device
        shape = (len(ws), *kept.shape[1:])
        return torch.randn(shape, generator=generator, device=device, dtype=kept.dtype).to(ws.device)


class Generator(nn.Module):
    """z (B, D) -> images (B, C, S, S). `mapping` and `synthesis` can be called alone; `w_mean` is the mean of w."""

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping, self.synthesis = Mapping(config), Synthesis(config)
        self.register_buffer("w_mean", torch.zeros(config.latent_dim))

    def styles(self, z: Tensor, *, truncation: float = 1.0, generator: Random | None = None) -> Tensor:
        """Return w for each layer, (B, L, D).

        In training the running mean of w moves, and a share of the images changes to a second latent's w at a random
        layer: neighbouring layers then cannot count on each other's style.
        truncation: psi, w goes towards the mean of w, to w_mean + psi (w - w_mean): likelier images, less varied.
        Raises: ValueError: z is not (B, D).
        Source: Karras et al. 2019, arXiv:1812.04948, section 3.1 and appendix B.
        """
        if z.dim() != 2 or z.shape[1] != self.config.latent_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}, expected (B, {self.config.latent_dim})")
        w = self.mapping(z)
        layers = self.config.layers
        ws = w[:, None].repeat(1, layers, 1)  # a layer's own, to be changed alone
        if self.training:
            with torch.no_grad():
                self.w_mean.lerp_(w.mean(0).to(self.w_mean.dtype), 1 - self.config.w_decay)
            if self.config.mixing:
                device = z.device if generator is None else generator.device
                draw = {"generator": generator, "device": device}
                other = self.mapping(torch.randn(z.shape, **draw).to(z))
                cut = torch.randint(1, layers, (len(z),), **draw)
                cut = torch.where(torch.rand(len(z), **draw) < self.config.mixing, cut, layers).to(z.device)
                ws = mixed(w, other, cut, layers)
        return ws if truncation == 1 else self.w_mean + truncation * (ws - self.w_mean)

    def forward(self, z: Tensor, *, truncation: float = 1.0, noise: str = "random",
                generator: Random | None = None) -> Tensor:  # fmt: skip
        ws = self.styles(z, truncation=truncation, generator=generator)
        return self.synthesis(ws, noise=noise, generator=generator)


def mixed(first: Tensor, second: Tensor, cut: Tensor | int, layers: int) -> Tensor:
    """Return w for each layer, (B, L, D): `first` (B, D) before layer `cut`, `second` (B, D) from there on.

    Args: cut: one for all or (B,), 0 to L. It is w that is mixed: a z of two halves would be a third latent.
    Raises: ValueError: the two differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"first {tuple(first.shape)} and second {tuple(second.shape)} differ")
    layer = torch.arange(layers, device=first.device)
    before = layer < torch.as_tensor(cut, device=first.device).reshape(-1, 1)  # (1 or B, L)
    return torch.where(before[..., None], first[:, None], second[:, None])


class CriticBlock(nn.Module):
    """(B, C, H, W) -> (B, C', H/2, W/2): two convolutions beside a shortcut, each filtered and then thinned out."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = EqualConv2d(n_in, n_in, 3)
        self.second = EqualConv2d(n_in, n_out, 3, stride=2)
        self.shortcut = EqualConv2d(n_in, n_out, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = activated(self.second(activated(self.first(x))))
        return (inner + self.shortcut(x)) / math.sqrt(2)


class Discriminator(nn.Module):
    """Images (B, C, S, S) -> one logit an image (B,), which also depends on how much the images of its group differ."""

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels(config.critic_width)[::-1]  # from the finest
        self.from_image = EqualConv2d(config.image_shape[0], widths[0], 1)
        self.body = nn.Sequential(*(CriticBlock(a, b) for a, b in zip(widths, widths[1:])))
        self.last = EqualConv2d(widths[-1] + 1, widths[-1], 3)
        self.dense = EqualLinear(widths[-1] * BASE * BASE, widths[-1])
        self.head = EqualLinear(widths[-1], 1)

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer (B, F). Raises: ValueError: the images do not have the config's shape."""
        if x.shape[1:] != self.config.image_shape:
            expected = ", ".join(map(str, self.config.image_shape))
            raise ValueError(f"images of shape {tuple(x.shape)}, expected (B, {expected})")
        x = with_spread(self.body(activated(self.from_image(x))), self.config.group)
        return activated(self.dense(activated(self.last(x)).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)).squeeze(1)


class StyleGAN(nn.Module):
    """Both players. The generator is what remains: `sample` draws from it."""

    def __init__(self, config: StyleGANConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)
        self.register_buffer("path_mean", torch.zeros(()))  # of the training: what path lengths are held to

    def draw(self, n: int, *, generator: Random | None = None) -> Tensor:
        """Return n latents z ~ N(0, I), (n, D), where the weights are; drawn on `generator`'s device."""
        weight = self.generator.synthesis.constant
        device = weight.device if generator is None else generator.device
        return torch.randn(n, self.config.latent_dim, generator=generator, device=device).to(weight.device)

    def sample(self, n: int, *, truncation: float = 1.0, noise: str = "random",
               generator: Random | None = None) -> Tensor:  # fmt: skip
        """Return n images (n, C, S, S). truncation: see `Generator.styles`. noise: see `Synthesis`."""
        z = self.draw(n, generator=generator)
        return self.generator(z, truncation=truncation, noise=noise, generator=generator)
