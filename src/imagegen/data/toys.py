"""Toys: data of known density, on which an estimator can be checked against the exact answer."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def _normal(n: int, dim: int, *, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return (n, dim) of N(0, I), drawn on the generator's device (so a seed means the same) and moved to `like`'s."""
    noise = torch.randn(n, dim, generator=generator, dtype=like.dtype, device=_device(generator, like.device))
    return noise.to(like.device)


def _device(generator: torch.Generator | None, otherwise: torch.device | None = None) -> torch.device | None:
    return otherwise if generator is None else generator.device


@dataclass(frozen=True)
class LinearGaussian:
    """The data x = W z + b + s e with z ~ N(0, I), e ~ N(0, I): a VAE whose every quantity has a closed form.

    weight: (P, D); bias: (P,); noise_std: s > 0. Source: Tipping and Bishop 1999, probabilistic PCA.
    """

    weight: Tensor
    bias: Tensor
    noise_std: float

    def __post_init__(self) -> None:
        if self.weight.dim() != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"weight {tuple(self.weight.shape)} and bias {tuple(self.bias.shape)} are not (P, D) and (P,)"
            )
        if not self.noise_std > 0:
            raise ValueError(f"noise_std is {self.noise_std}, expected a positive number")

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return n draws (n, P) of x, on the device of the weight."""
        z = _normal(n, self.weight.shape[1], like=self.weight, generator=generator)
        noise = _normal(n, len(self.bias), like=self.weight, generator=generator)
        return z @ self.weight.T + self.bias + self.noise_std * noise

    def log_marginal(self, x: Tensor) -> Tensor:
        """Return log p(x) = log N(x; b, W W^T + s^2 I) of x (B, P) as (B,) nats."""
        covariance = self.weight @ self.weight.T + self.noise_std**2 * torch.eye(
            len(self.bias), dtype=self.weight.dtype, device=self.weight.device
        )
        return torch.distributions.MultivariateNormal(self.bias, covariance).log_prob(x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the exact posterior of z given x (B, P): mean (B, D); covariance (D, D), the same for all x."""
        dim = self.weight.shape[1]
        identity = torch.eye(dim, dtype=self.weight.dtype, device=self.weight.device)
        precision = identity + self.weight.T @ self.weight / self.noise_std**2
        covariance = torch.linalg.inv(precision)
        return (x - self.bias) @ self.weight @ covariance / self.noise_std**2, covariance


def gaussian_2d(n: int, covariance: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Return n points (n, 2) of N(0, covariance), on its device; (2, 2), symmetric and positive definite."""
    if covariance.shape != (2, 2):
        raise ValueError(f"expected a covariance of shape (2, 2), got {tuple(covariance.shape)}")
    if not covariance.equal(covariance.T):  # the factorisation would read the lower half alone
        raise ValueError(f"covariance {covariance.tolist()} is not symmetric")
    noise = _normal(n, 2, like=covariance, generator=generator)
    return noise @ torch.linalg.cholesky(covariance).T


def ring_centres(modes: int = 8, radius: float = 2.0, *, device: torch.device | str | None = None) -> Tensor:
    """Return the centres (modes, 2) of Gaussians on a ring around 0, the first at (radius, 0), anticlockwise."""
    if modes < 1:
        raise ValueError(f"modes is {modes}, expected at least 1")
    angle = torch.arange(modes, device=device) * (2 * math.pi / modes)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


def ring_of_gaussians(n: int, *, modes: int = 8, radius: float = 2.0, std: float = 0.02,
                      generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return n points (n, 2) of equal Gaussians around `ring_centres`, and the mode of each (n,)."""
    device = _device(generator)
    mode = torch.randint(modes, (n,), generator=generator, device=device)
    centre = ring_centres(modes, radius, device=device)[mode]
    return centre + std * torch.randn(n, 2, generator=generator, device=device), mode


def grid_of_gaussians(n: int, *, side: int = 5, spacing: float = 2.0, std: float = 0.05,
                      generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return n points (n, 2) of side x side equal Gaussians on a grid centred on 0, and the mode of each (n,)."""
    device = _device(generator)
    mode = torch.randint(side * side, (n,), generator=generator, device=device)
    centre = torch.stack([mode % side, mode // side], dim=1).float().sub((side - 1) / 2).mul(spacing)
    return centre + std * torch.randn(n, 2, generator=generator, device=device), mode
