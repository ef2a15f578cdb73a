"""Generative adversarial networks: a generator and a discriminator of one config, three kinds of network."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad
from torch.nn.utils.parametrizations import spectral_norm

from imagegen.layers import downsample, upsample

NETWORKS = ("mlp", "dcgan", "residual")
NORMALISATION = ("none", "batch", "spectral")
BASE = 4  # the side of the smallest grid, on which a generator starts and a discriminator ends
LEAK = 0.2


@dataclass(frozen=True)
class GANConfig:
    """The sizes of both players.

    image_shape: (C, H, W); a "mlp" also takes points, (D,). latent_dim: length of z ~ N(0, I). width, critic_width:
    channels of the generator's and the discriminator's finest grid, doubled at each coarser one, up to `max_width`;
    for a "mlp" the units of a hidden layer. depth: hidden layers of a "mlp".
    normalise: what stands between the generator's layers, "none" or "batch"; a "mlp" takes no BatchNorm, whatever it
    says. normalise_critic: "none", "batch", or "spectral", which divides each of the discriminator's weights, a kernel
    as a matrix (C', C k k), by its largest singular value (Miyato et al. 2018, arXiv:1802.05957).
    Images whose side is no power of two are worked on in the next larger square: padded with -1, never resized.
    Raises: ValueError: a network that cannot be built; the message names the value.
    """

    network: str = "dcgan"
    image_shape: tuple[int, ...] = (1, 28, 28)
    latent_dim: int = 64
    width: int = 32
    critic_width: int = 32
    max_width: int = 256
    depth: int = 2
    normalise: str = "batch"
    normalise_critic: str = "none"
    sizes: ClassVar = ("latent_dim", "width", "critic_width", "max_width", "depth")

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_shape", tuple(self.image_shape))  # JSON gives a list
        if self.network not in NETWORKS:
            raise ValueError(f"network is {self.network!r}, expected one of {', '.join(NETWORKS)}")
        for name in self.sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.normalise not in NORMALISATION[:2]:
            raise ValueError(f"normalise is {self.normalise!r}, expected 'none' or 'batch'")
        if self.normalise_critic not in NORMALISATION:
            raise ValueError(
                f"normalise_critic is {self.normalise_critic!r}, expected one of {', '.join(NORMALISATION)}"
            )
        shape = self.image_shape
        if len(shape) not in (1, 3) or min(shape) < 1:
            raise ValueError(f"image_shape is {shape}, expected (C, H, W) or (D,), each at least 1")
        if self.network == "mlp":
            if self.normalise_critic == "batch":
                raise ValueError("normalise_critic is 'batch', and a mlp takes no BatchNorm")
            return
        if len(shape) != 3:
            raise ValueError(f"image_shape is {shape}: a {self.network} network needs (C, H, W)")
        if shape[1] != shape[2] or shape[1] < 2 * BASE or shape[1] % 2:
            raise ValueError(f"image_shape is {shape}: expected squares of an even side, at least {2 * BASE}")

    @property
    def side(self) -> int:
        """The side of the square worked in: the image's, or the next power of two."""
        return 1 << (self.image_shape[-1] - 1).bit_length()

    @property
    def margin(self) -> int:
        """How many pixels are put around an image before the discriminator, and cut off behind the generator."""
        return (self.side - self.image_shape[-1]) // 2

    def channels(self, finest: int) -> list[int]:
        """Return the channels of the grids from the finest, of half the side, to 4 x 4."""
        return [min(finest << level, self.max_width) for level in range((self.side // BASE).bit_length() - 1)]


class Generator(nn.Module):
    """z (B, latent_dim) -> images (B, C, H, W) in [-1, 1]; a generator of points (B, D) ends without a tanh."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config = config
        if config.network == "mlp":
            last = nn.Identity() if len(config.image_shape) == 1 else nn.Tanh()
            self.body = nn.Sequential(
                *_dense(config.latent_dim, config.width, config.depth, nn.ReLU()),
                nn.Linear(config.width, math.prod(config.image_shape)),
                nn.Unflatten(1, config.image_shape),
                last,
            )
            return
        widths = config.channels(config.width)[::-1]  # from 4 x 4 up
        layers: list[nn.Module] = [
            nn.Linear(config.latent_dim, widths[0] * BASE * BASE),
            nn.Unflatten(1, (widths[0], BASE, BASE)),
        ]
        if config.network == "dcgan":
            layers += [*_normalised(widths[0], config.normalise), nn.ReLU()]
            for n_in, n_out in zip(widths, widths[1:]):
                layers += [upsample(n_in, n_out), *_normalised(n_out, config.normalise), nn.ReLU()]
            layers += [upsample(widths[-1], config.image_shape[0]), nn.Tanh()]
        else:
            for n_in, n_out in zip(widths, [*widths[1:], widths[-1]]):
                layers.append(UpBlock(n_in, n_out, config.normalise))
            layers += [*_normalised(widths[-1], config.normalise), nn.ReLU()]
            layers += [nn.Conv2d(widths[-1], config.image_shape[0], 3, padding=1), nn.Tanh()]
        self.body = nn.Sequential(*layers)
        if config.network == "dcgan":
            initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        """Return one image for each z. Raises: ValueError: z is not (B, latent_dim)."""
        if z.dim() != 2 or z.shape[1] != self.config.latent_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}, expected (B, {self.config.latent_dim})")
        x = self.body(z)
        margin = 0 if self.config.network == "mlp" else self.config.margin
        return x[..., margin:-margin, margin:-margin] if margin else x


class Discriminator(nn.Module):
    """Images (B, C, H, W) in [-1, 1] -> one logit an image (B,), not passed through a sigmoid; or a critic's score."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config = config
        n_in = config.image_shape[0]
        if config.network == "mlp":
            size = math.prod(config.image_shape)
            body = [nn.Flatten(), *_dense(size, config.critic_width, config.depth, nn.LeakyReLU(LEAK))]
            features = config.critic_width
        else:
            body, widths = [], config.channels(config.critic_width)
            for level, n_out in enumerate(widths):
                if config.network == "residual":
                    body.append(DownBlock(n_in, n_out, config.normalise_critic, first=level == 0))
                else:
                    between = _normalised(n_out, config.normalise_critic) if level else []
                    body += [downsample(n_in, n_out), *between, nn.LeakyReLU(LEAK)]
                n_in = n_out
            body += [nn.LeakyReLU(LEAK)] if config.network == "residual" else []
            body.append(nn.Flatten())
            features = n_in * BASE * BASE
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(features, 1)
        if config.network == "dcgan":
            initialise(self)
        if config.normalise_critic == "spectral":
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    spectral_norm(layer)

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer (B, F) for images in [-1, 1].

        Raises: ValueError: the images do not have the config's shape.
        """
        if x.shape[1:] != self.config.image_shape:
            expected = ", ".join(map(str, self.config.image_shape))
            raise ValueError(f"images of shape {tuple(x.shape)}, expected (B, {expected})")
        if self.config.network != "mlp" and self.config.margin:
            x = pad(x, (self.config.margin,) * 4, value=-1.0)
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)).squeeze(1)


class GAN(nn.Module):
    """Both players. The generator is what remains: `sample` draws from it."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)

    def draw(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return n latents z ~ N(0, I), (n, latent_dim), where the weights are.

        They come from `generator`'s device, so that a seed means the same everywhere.
        """
        weight = next(self.generator.parameters())
        device = weight.device if generator is None else generator.device
        z = torch.randn(n, self.config.latent_dim, generator=generator, device=device)
        return z.to(weight.device)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return n images (n, C, H, W) in [-1, 1], or points (n, D)."""
        return self.generator(self.draw(n, generator=generator))


class UpBlock(nn.Module):
    """A residual block that doubles height and width: (B, C, H, W) -> (B, C', 2H, 2W)."""

    def __init__(self, n_in: int, n_out: int, normalise: str) -> None:
        super().__init__()
        self.before = nn.Sequential(*_normalised(n_in, normalise), nn.ReLU())
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.after = nn.Sequential(*_normalised(n_out, normalise), nn.ReLU())
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.skip = nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(self.after(self.first(interpolate(self.before(x), scale_factor=2.0))))
        return interpolate(self.skip(x), scale_factor=2.0) + inner  # a 1 x 1 convolution may come first


class DownBlock(nn.Module):
    """A residual block that halves height and width by averaging: (B, C, H, W) -> (B, C', H/2, W/2).

    first: the input is an image, on which no rectifier may act.
    """

    def __init__(self, n_in: int, n_out: int, normalise: str, *, first: bool = False) -> None:
        super().__init__()
        start = [] if first else [*_normalised(n_in, normalise), nn.LeakyReLU(LEAK)]
        self.inner = nn.Sequential(
            *start,
            nn.Conv2d(n_in, n_out, 3, padding=1),
            *_normalised(n_out, normalise),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(n_out, n_out, 3, padding=1),
        )
        self.skip = nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(self.inner(x), 2) + self.skip(avg_pool2d(x, 2))


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Draw the weights of all linear and convolutional layers from N(0, std^2) and set biases to 0, in place.

    A BatchNorm's scale is a factor, and is drawn around 1: from N(1, std^2).
    Source: Radford, Metz and Chintala 2016, arXiv:1511.06434, section 4.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, std)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, std)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@torch.no_grad()
def clip_weights(critic: nn.Module, bound: float) -> None:
    """Move every weight and bias of the linear and convolutional layers into [-bound, bound], in place.

    A normalisation layer's scale is left alone: bounded by 0.01 it would shrink what passes to a hundredth.
    Raises: ValueError: the bound is not positive, or the weights are normalised spectrally, which makes clipping void.
    Source: Arjovsky, Chintala and Bottou 2017, arXiv:1701.07875, algorithm 1.
    """
    if not bound > 0:
        raise ValueError(f"bound is {bound}, expected more than 0")
    for layer in critic.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if nn.utils.parametrize.is_parametrized(layer):
                raise ValueError(f"{layer.__class__.__name__} is normalised spectrally: clip or normalise")
            for parameter in layer.parameters(recurse=False):
                parameter.clamp_(-bound, bound)


def _dense(n_in: int, width: int, depth: int, activation: nn.Module) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(n_in, width), activation]
        n_in = width
    return layers


def _normalised(channels: int, kind: str) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels)] if kind == "batch" else []
