"""Variational autoencoders: an encoder q_phi(z | x), a decoder p_theta(x | z), and the draw of z between them."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from imagegen.layers import DenseResidualBlock, ResidualBlock, downsample, upsample


@dataclass(frozen=True)
class VAEConfig:
    """The sizes of a VAE. `network` "conv": convolutions around a dense middle, for images; "mlp": dense layers alone.

    width: channels at half resolution; twice as many at a quarter. blocks: residual blocks of convolutions, there.
    neck: channels that enter the dense middle. hidden: units of every dense layer. dense_blocks: residual blocks of
    dense layers, in encoder and in decoder. dropout: share of units dropped inside those while training.
    The MLP has no use for width, blocks and neck.
    Raises: ValueError: a size that cannot be built.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    latent_dim: int = 32
    network: str = "conv"
    width: int = 32
    blocks: int = 1
    neck: int = 16
    hidden: int = 512
    dense_blocks: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_shape", tuple(self.image_shape))  # JSON gives a list
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape is {self.image_shape}, expected (C, H, W), each at least 1")
        if self.network not in ("conv", "mlp"):
            raise ValueError(f"network is {self.network!r}, expected 'conv' or 'mlp'")
        if self.network == "conv" and (self.image_shape[1] % 4 or self.image_shape[2] % 4):
            raise ValueError(
                f"image_shape is {self.image_shape}: H and W must be multiples of 4 to be halved twice"
            )
        for name in ("latent_dim", "width", "neck", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("blocks", "dense_blocks"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected a share in [0, 1)")


class VAEOutput(NamedTuple):
    """What a VAE computes; never a loss."""

    params: Tensor  # (B, C, H, W) of p(x | z): logits of a Bernoulli, or means of a Gaussian
    mean: Tensor  # (B, D) of q(z | x)
    log_var: Tensor  # (B, D) of q(z | x)
    z: Tensor  # (B, D), drawn from q(z | x)


def reparameterise(mean: Tensor, log_var: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Return z = mean + exp(log_var / 2) * eps with eps ~ N(0, I): a draw through which gradients pass.

    Args: mean, log_var: (B, D), the same shape.
    Raises: ValueError: the shapes differ.
    Source: Kingma and Welling 2014, arXiv:1312.6114, section 2.4.
    """
    if mean.shape != log_var.shape:
        raise ValueError(f"mean {tuple(mean.shape)} and log_var {tuple(log_var.shape)} differ")
    eps = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + torch.exp(0.5 * log_var) * eps


class _EncoderDecoder(nn.Module):
    """The two networks of one config. numbers: how many the encoder gives for each dimension of the latent."""

    def __init__(self, config: VAEConfig, *, numbers: int) -> None:
        super().__init__()
        self.config = config
        build = _conv_networks if config.network == "conv" else _mlp_networks
        self.encoder, self.decoder = build(config, numbers)

    def _encode(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.config.image_shape:
            raise ValueError(
                f"images of shape {tuple(x.shape)}, expected (B, {', '.join(map(str, self.config.image_shape))})"
            )
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Return the parameters (B, C, H, W) of p(x | z) for latents (B, D): logits, if the likelihood is Bernoulli.

        Raises: ValueError: the latents do not have the config's dimension.
        """
        if z.dim() != 2 or z.shape[1] != self.config.latent_dim:
            raise ValueError(f"latents of shape {tuple(z.shape)}, expected (B, {self.config.latent_dim})")
        return self.decoder(z).reshape(-1, *self.config.image_shape)


class VAE(_EncoderDecoder):
    """A VAE with a diagonal Gaussian posterior and a prior N(0, I). Images enter in [-1, 1]."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config, numbers=2)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (B, D), of q(z | x) for images (B, C, H, W) in [-1, 1].

        Raises: ValueError: the images do not have the config's shape.
        """
        mean, log_var = self._encode(x).chunk(2, dim=1)
        return mean, log_var

    def forward(self, x: Tensor, *, generator: torch.Generator | None = None) -> VAEOutput:
        mean, log_var = self.encode(x)
        z = reparameterise(mean, log_var, generator=generator)
        return VAEOutput(self.decode(z), mean, log_var, z)


class AutoencoderOutput(NamedTuple):
    """What an autoencoder computes; never a loss."""

    params: Tensor  # (B, C, H, W): logits of a Bernoulli, or means of a Gaussian
    z: Tensor  # (B, D), the code


class Autoencoder(_EncoderDecoder):
    """The networks of a VAE without its noise and without a prior: x -> z -> x. Images enter in [-1, 1].

    Nothing says how its codes are spread, so there is no distribution to draw a new one from.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config, numbers=1)

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes (B, D) of images (B, C, H, W) in [-1, 1].

        Raises: ValueError: the images do not have the config's shape.
        """
        return self._encode(x)

    def forward(self, x: Tensor) -> AutoencoderOutput:
        z = self.encode(x)
        return AutoencoderOutput(self.decode(z), z)


def _dense(config: VAEConfig, n_in: int, n_out: int) -> list[nn.Module]:
    """Return the dense part of a network: n_in -> hidden -> residual blocks -> n_out."""
    blocks = [DenseResidualBlock(config.hidden, dropout=config.dropout) for _ in range(config.dense_blocks)]
    return [nn.Linear(n_in, config.hidden), *blocks, nn.SiLU(), nn.Linear(config.hidden, n_out)]


def _conv_networks(config: VAEConfig, numbers: int) -> tuple[nn.Module, nn.Module]:
    channels, height, width = config.image_shape
    half, quarter = config.width, 2 * config.width
    neck = (config.neck, height // 4, width // 4)
    encoder = nn.Sequential(
        downsample(channels, half),
        nn.SiLU(),
        downsample(half, quarter),
        *[ResidualBlock(quarter) for _ in range(config.blocks)],
        nn.SiLU(),
        nn.Conv2d(quarter, config.neck, 1),
        nn.Flatten(),
        *_dense(config, math.prod(neck), numbers * config.latent_dim),
    )
    decoder = nn.Sequential(
        *_dense(config, config.latent_dim, math.prod(neck)),
        nn.Unflatten(1, neck),
        nn.Conv2d(config.neck, quarter, 1),
        *[ResidualBlock(quarter) for _ in range(config.blocks)],
        nn.SiLU(),
        upsample(quarter, half),
        nn.SiLU(),
        upsample(half, channels),
    )
    return encoder, decoder


def _mlp_networks(config: VAEConfig, numbers: int) -> tuple[nn.Module, nn.Module]:
    n_pixels = math.prod(config.image_shape)
    encoder = nn.Sequential(nn.Flatten(), *_dense(config, n_pixels, numbers * config.latent_dim))
    return encoder, nn.Sequential(*_dense(config, config.latent_dim, n_pixels))


class LinearVAE(nn.Module):
    """The VAE whose every quantity has a closed form: x ~ N(W z + b, diag exp log_noise), q(z | x) linear too.

    With `autoregressive`, each element's mean also sees the elements before it, so that the decoder can model
    correlations without z: the smallest decoder that is too strong.
    Args: n_features: P, elements of x. latent_dim: D.
    Source: Lucas et al. 2019, arXiv:1911.02469, section 3 (linear VAEs).
    """

    def __init__(self, n_features: int, latent_dim: int, *, autoregressive: bool = False) -> None:
        super().__init__()
        if n_features < 1 or latent_dim < 1:
            raise ValueError(
                f"n_features is {n_features} and latent_dim is {latent_dim}, expected at least 1"
            )
        self.encoder = nn.Linear(n_features, latent_dim)
        self.log_var = nn.Parameter(
            torch.zeros(latent_dim)
        )  # of q(z | x): the same for every x, as is exact here
        self.decoder = nn.Linear(latent_dim, n_features)
        self.log_noise = nn.Parameter(torch.zeros(n_features))
        self.history = nn.Parameter(torch.zeros(n_features, n_features)) if autoregressive else None

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (B, D), of q(z | x) for x (B, P)."""
        mean = self.encoder(x)
        return mean, self.log_var.expand_as(mean)

    def decode(self, z: Tensor, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (B, P), of p(x | z) for z (B, D).

        Raises: ValueError: the decoder is autoregressive, and x (B, P), of which it sees the past, is missing.
        """
        mean = self.decoder(z)
        if self.history is not None:
            if x is None:
                raise ValueError("an autoregressive decoder needs x (B, P) beside z")
            mean = mean + x @ self.history.tril(-1).T
        return mean, self.log_noise.expand_as(mean)
