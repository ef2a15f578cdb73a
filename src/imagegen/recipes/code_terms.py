"""What the trainings of discrete codes minimise: a VQ-VAE, one with two levels, and priors over their codes."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from imagegen.data import Batch
from imagegen.hierarchy import HierarchicalVQVAE
from imagegen.images import to_float, to_unit
from imagegen.metrics import mse
from imagegen.objectives import code_nll, codebook_loss, commitment_loss, gaussian_nll
from imagegen.prior import WITHHELD, Prior
from imagegen.recipes.terms import Objective
from imagegen.vq import VQVAE


@dataclass(frozen=True)
class VQObjective(Objective):
    """A VQ-VAE's loss: distortion + beta * commitment, and the codebook loss if the codebook learns by gradient.

    noise: standard deviation of p(x | codes), a Gaussian on pixels in [0, 1]; it weighs the distortion.
    """

    beta: float = 0.25
    noise: float = 0.1
    network: ClassVar = VQVAE
    reported: ClassVar = ("distortion", "commitment", "mse")

    def __post_init__(self) -> None:
        if not self.beta >= 0 or not self.noise > 0:
            raise ValueError(
                f"beta is {self.beta} and noise is {self.noise}, expected beta >= 0 and noise > 0"
            )

    def terms(self, model: nn.Module, batch: Batch, *, step: int, n_steps: int,
              generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
        by_gradient = getattr(model, "module", model).config.update == "gradient"
        return vq_terms(
            model, batch.x, beta=self.beta, noise=self.noise, by_gradient=by_gradient, generator=generator
        )


def vq_terms(model: nn.Module, x: Tensor, *, beta: float = 0.25, noise: float = 0.1, by_gradient: bool = False,
             generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
    """Return the terms of a VQ-VAE's loss for images x (B, C, H, W) in [-1, 1], each (B,).

    distortion: -log N(x; mean, noise^2) in nats, of pixels in [0, 1]; commitment: the encoder's squared distance to its
    codes; loss = distortion + beta * commitment, plus the codebook loss if the codebook learns by gradient.
    """
    out = model(x, generator=generator)
    pixels, target = torch.sigmoid(out.params.float()), to_unit(x)
    distortion = gaussian_nll(pixels, target, 2 * math.log(noise))
    commitment = commitment_loss(out.z.float(), out.nearest)
    loss = distortion + beta * commitment
    if by_gradient:
        loss = loss + codebook_loss(out.z.float(), out.nearest)
    return {"loss": loss, "distortion": distortion, "commitment": commitment, "mse": mse(pixels, target)}


@dataclass(frozen=True)
class PriorObjective(Objective):
    """The code length, in nats an image, of the codes that a shipped VQ-VAE gives the training images.

    tokeniser: the VQ-VAE's name. unconditional: the share of images of which all labels are withheld; of the others,
    where there are several labels, a uniform number of them, at most all but one.
    """

    tokeniser: str = "vqvae-fashion"
    unconditional: float = 0.5
    network: ClassVar = Prior
    reported: ClassVar = ("nll",)

    def __post_init__(self) -> None:
        if not 0 <= self.unconditional <= 1:
            raise ValueError(f"unconditional is {self.unconditional}, expected a share in [0, 1]")

    @property
    def requires(self) -> tuple[str, ...]:
        return (self.tokeniser,)

    def prepared(self, images: Tensor, models: dict[str, nn.Module]) -> Tensor:
        return codes_of(models[self.tokeniser], images)

    def terms(self, model: nn.Module, batch: Batch, *, step: int, n_steps: int,
              generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
        labels = batch.labels.reshape(len(batch.x), -1)
        told = partly_told(labels, unconditional=self.unconditional, generator=generator)
        nll = code_nll(model(batch.x, labels=told), batch.x)
        return {"loss": nll, "nll": nll}


@dataclass(frozen=True)
class HierarchyObjective(Objective):
    """The terms of a VQ-VAE of two levels: distortion + beta * the commitment of both.

    noise: as `VQObjective`. withhold: the share of images whose decoder is not told the bottom level, so that the top
    level learns to say by itself as much as it can.
    """

    beta: float = 0.25
    noise: float = 0.1
    withhold: float = 0.25
    network: ClassVar = HierarchicalVQVAE
    reported: ClassVar = ("distortion", "commitment", "mse")

    def __post_init__(self) -> None:
        if not self.beta >= 0 or not self.noise > 0:
            raise ValueError(
                f"beta is {self.beta} and noise is {self.noise}, expected beta >= 0 and noise > 0"
            )
        if not 0 <= self.withhold <= 1:
            raise ValueError(f"withhold is {self.withhold}, expected a share in [0, 1]")

    def terms(self, model: nn.Module, batch: Batch, *, step: int, n_steps: int,
              generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
        x = batch.x
        withheld = torch.rand(len(x), generator=generator, device=x.device) < self.withhold
        out = model(x, withheld=withheld, generator=generator)
        pixels, target = torch.sigmoid(out.params.float()), to_unit(x)
        distortion = gaussian_nll(pixels, target, 2 * math.log(self.noise))
        commitment = sum(commitment_loss(z.float(), e) for z, e in zip(out.z, out.nearest, strict=True))
        loss = distortion + self.beta * commitment
        return {"loss": loss, "distortion": distortion, "commitment": commitment, "mse": mse(pixels, target)}


@dataclass(frozen=True)
class LevelPriorObjective(PriorObjective):
    """The code length of one level of a shipped hierarchy: "top", or "bottom" given the top level's codes."""

    tokeniser: str = "hierarchy-avatars"
    level: str = "top"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level not in ("top", "bottom"):
            raise ValueError(f"level is {self.level!r}, expected 'top' or 'bottom'")

    def prepared(self, images: Tensor, models: dict[str, nn.Module]) -> Tensor:
        levels = levels_of(models[self.tokeniser], images)
        return torch.cat([codes.flatten(1) for codes in levels], dim=1)  # (N, top and then bottom codes)

    def terms(self, model: nn.Module, batch: Batch, *, step: int, n_steps: int,
              generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
        config, codes, context = getattr(model, "module", model).config, batch.x, None
        if self.level == "top":
            codes = codes[:, : math.prod(config.grid)]
        else:
            n_top = math.prod(config.context_grid)
            context, codes = codes[:, :n_top].unflatten(1, config.context_grid), codes[:, n_top:]
        codes = codes.unflatten(1, config.grid)
        labels = batch.labels.reshape(len(codes), -1)
        told = partly_told(labels, unconditional=self.unconditional, generator=generator)
        nll = code_nll(model(codes, labels=told, context=context), codes)
        return {"loss": nll, "nll": nll}


@torch.inference_mode()
def codes_of(model: VQVAE, images: Tensor, *, batch: int = 250) -> Tensor:
    """Return the codes int64 (N, h, w) of uint8 images (N, C, H, W), on the CPU."""
    device = next(model.parameters()).device
    return torch.cat([model.encode(to_float(part.to(device))).cpu() for part in images.split(batch)])


@torch.inference_mode()
def levels_of(model: HierarchicalVQVAE, images: Tensor, *, batch: int = 250) -> tuple[Tensor, Tensor]:
    """Return the top and bottom codes int64, each (N, h, w), of uint8 images (N, C, H, W), on the CPU."""
    device = next(model.parameters()).device
    pairs = [model.encode(to_float(part.to(device))) for part in images.split(batch)]
    top, bottom = (torch.cat([codes.cpu() for codes in level]) for level in zip(*pairs, strict=True))
    return top, bottom


def partly_told(labels: Tensor, *, unconditional: float, generator: torch.Generator | None = None) -> Tensor:
    """Return labels (B, A), all of a share of the rows -1, and in the others a uniform number of 0 to A - 1 of them."""
    n, count = labels.shape
    how_many = torch.randint(count, (n, 1), generator=generator, device=labels.device)
    nothing = torch.rand(n, 1, generator=generator, device=labels.device) < unconditional
    how_many = torch.where(nothing, count, how_many)
    order = torch.rand(n, count, generator=generator, device=labels.device).argsort(1).argsort(1)
    return torch.where(order < how_many, WITHHELD, labels)
