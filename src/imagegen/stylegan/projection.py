"""Projection: the styles of which a generator draws a given image."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator as Random
from torch import Tensor, nn

MAPPED = 2000  # latents whose w tell how widely w is spread


@dataclass(frozen=True)
class Search:
    """How `project` looks for w. All lengths are in units of w's deviation, so that they hold for any weights.

    n_steps: of Adam. lr: its highest rate, about as far as a coordinate moves in a step. noise: deviation of what is
    added to each coordinate of w at the start, in units of that coordinate's (the paper's 0.05 is of the whole
    vector's, sqrt(D) times as much); it falls to 0 over the share `ramp` of the steps. The paper also looks for the
    noise maps, which are fixed here. pixel, feature: weights of the mean squared error of pixels and of features.
    per_layer: a w for each layer ("W+"), not one for all.
    Raises: ValueError: a number with which nothing can be found; the message names it.
    Source: Karras et al. 2020, arXiv:1912.04958, appendix D.
    """

    n_steps: int = 200
    lr: float = 0.1
    noise: float = 0.05
    ramp: float = 0.75
    pixel: float = 1.0
    feature: float = 1.0
    per_layer: bool = False

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise ValueError(f"n_steps is {self.n_steps}, expected at least 1")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}, expected more than 0")
        for name in ("noise", "pixel", "feature"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")
        if not self.pixel + self.feature > 0:
            raise ValueError("pixel and feature are both 0: nothing tells a good w from a bad one")
        if not 0 < self.ramp <= 1:
            raise ValueError(f"ramp is {self.ramp}, expected more than 0, at most 1")

    def rate(self, step: int) -> float:
        """Return Adam's rate at a step: a line up over the first 20th, a half cosine down over the last quarter."""
        done = step / self.n_steps
        fall = min(1.0, (1 - done) / 0.25)
        return self.lr * min(1.0, (step + 1) / (0.05 * self.n_steps)) * (0.5 - 0.5 * math.cos(fall * math.pi))

    def spread(self, step: int) -> float:
        """Return the deviation of the noise at a step: noise (1 - t / ramp)^2 at the share t of the steps, 0 after."""
        return self.noise * max(0.0, 1 - step / self.n_steps / self.ramp) ** 2


@dataclass(frozen=True)
class Projection:
    """What `project` found: styles (B, L, D), and the error of each image before each step and after the last.

    errors: (n_steps + 1, B); those before the ramp's end are of a w with noise.
    """

    styles: Tensor
    errors: Tensor


def project(generator: nn.Module, images: Tensor, features: Callable[[Tensor], Tensor] | None = None, *,
            search: Search | None = None, random: Random | None = None) -> Projection:  # fmt: skip
    """Return the styles of which the generator draws images as near as it is led to by descent from the mean of w.

    The images are looked for side by side, none depending on another. The generator's noise is fixed, and no weight
    of it or gradient of a weight is touched.
    Args: generator: `mapping`, `synthesis`, `w_mean` and `config`, as `stylegan.Generator`. images: (B, C, S, S) in
        [-1, 1]. features: images -> (B, F), differentiable, in units of variance 1; None compares pixels alone.
        search: the default is `Search()`. random: of the noise and of the latents that tell w's deviation.
    Raises: ValueError: images of another shape than the generator's, or outside [-1, 1].
    Source: Abdal, Qin and Wonka 2019, arXiv:1904.03189 (W+); Karras et al. 2020, arXiv:1912.04958, appendix D.
    """
    search, config, mean = search or Search(), generator.config, generator.w_mean.detach()
    if images.dim() != 4 or tuple(images.shape[1:]) != tuple(config.image_shape) or not len(images):
        raise ValueError(
            f"images of shape {tuple(images.shape)}, expected (B, {', '.join(map(str, config.image_shape))})"
        )
    if not images.abs().max() <= 1:
        raise ValueError(f"images reach {images.abs().max().item():g}, expected values in [-1, 1]")
    unit, count = deviation(generator, random), config.layers if search.per_layer else 1
    place = torch.zeros(len(images), count, config.latent_dim, dtype=mean.dtype, device=mean.device)
    place.requires_grad_()
    adam = torch.optim.Adam([place], betas=(0.9, 0.999))

    def styles(noise: float = 0.0) -> Tensor:
        device = place.device if random is None else random.device
        eps = torch.randn(place.shape, generator=random, device=device, dtype=place.dtype).to(place.device)
        return (mean + unit * (place + noise * eps)).expand(-1, config.layers, -1)

    aim = None if features is None else features(images).detach()

    def error(noise: float = 0.0) -> Tensor:
        drawn = generator.synthesis(styles(noise), noise="fixed")
        found = search.pixel * (drawn - images).square().flatten(1).mean(1)
        return found if aim is None else found + search.feature * (features(drawn) - aim).square().mean(1)

    errors = []
    for step in range(search.n_steps):
        adam.param_groups[0]["lr"] = search.rate(step)
        found = error(search.spread(step))
        (place.grad,) = torch.autograd.grad(found.sum(), place)
        adam.step()
        errors.append(found.detach())
    with torch.no_grad():
        return Projection(styles().clone(), torch.stack([*errors, error()]))


@torch.no_grad()
def deviation(generator: nn.Module, random: Random | None = None) -> Tensor:
    """Return the root of the mean squared distance of w from its mean, over latents and dimensions: one number."""
    mean = generator.w_mean
    device = mean.device if random is None else random.device
    z = torch.randn(MAPPED, len(mean), generator=random, device=device, dtype=mean.dtype).to(mean.device)
    return (generator.mapping(z) - mean).square().mean().sqrt()
