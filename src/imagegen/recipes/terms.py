"""What each training minimises: model and batch in, named terms of the loss out, one value an image."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from imagegen.classifier import Classifier
from imagegen.data import Batch
from imagegen.decoder import WITHHELD, AttributeDecoder
from imagegen.images import to_float, to_unit
from imagegen.metrics import mse
from imagegen.objectives import (
    bernoulli_nll,
    code_nll,
    codebook_loss,
    commitment_loss,
    free_bits,
    gaussian_kl_per_dim,
    gaussian_nll,
    kl_weight,
)
from imagegen.prior import Prior
from imagegen.vae import VAE, Autoencoder
from imagegen.vq import VQVAE


class Objective:
    """What a training minimises: `terms` gives the named terms of a batch, `network` builds what is trained."""

    network: ClassVar[type[nn.Module]]
    reported: ClassVar[tuple[str, ...]]  # the terms that a card keeps

    @property
    def requires(self) -> tuple[str, ...]:
        """The names of the shipped models that this training stands on."""
        return ()

    def prepared(self, images: Tensor, models: dict[str, nn.Module]) -> Tensor:
        """Return what batches are made of, given the uint8 images (N, C, H, W) and the required models."""
        return images

    def terms(self, model: nn.Module, batch: Batch, *, step: int, n_steps: int,
              generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
        raise NotImplementedError


@dataclass(frozen=True)
class VAEObjective(Objective):
    """The negative ELBO: beta weighs the KL, reached over `kl_warmup` steps; free_bits: nats a dimension."""

    beta: float = 1.0
    kl_warmup: int = 0
    free_bits: float = 0.0
    network: ClassVar = VAE
    reported: ClassVar = ("negative_elbo", "distortion", "rate")

    def __post_init__(self) -> None:
        for name in ("beta", "kl_warmup", "free_bits"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")

    def terms(self, model: nn.Module, batch: Batch, *, step: int, n_steps: int,
              generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
        warmup = min(self.kl_warmup, n_steps // 5)  # a short run must reach its full beta too
        beta = self.beta * kl_weight(step, warmup)
        terms = vae_terms(model, batch.x, beta=beta, floor=self.free_bits, generator=generator)
        return terms | {"negative_elbo": terms["distortion"] + terms["rate"]}


def vae_terms(model: nn.Module, x: Tensor, *, beta: float = 1.0, floor: float = 0.0,
              generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
    """Return the terms of the negative ELBO of images x (B, C, H, W) in [-1, 1], each (B,) nats.

    loss = distortion + beta * rate: distortion = -log p(x | z) at one z ~ q(z | x), rate = KL(q || p).
    With `floor` > 0 the loss holds each dimension's mean rate at that many nats or more (free bits).
    """
    out = model(x, generator=generator)
    distortion = bernoulli_nll(out.params, to_unit(x))
    rate_per_dim = gaussian_kl_per_dim(out.mean, out.log_var)
    rate = rate_per_dim.sum(1)
    penalty = free_bits(rate_per_dim, floor) if floor else rate
    return {"loss": distortion + beta * penalty, "distortion": distortion, "rate": rate}


@dataclass(frozen=True)
class AutoencoderObjective(Objective):
    """The VAE's distortion alone: no noise on the code, and nothing asked of how codes are spread."""

    network: ClassVar = Autoencoder
    reported: ClassVar = ("distortion",)

    def terms(self, model: nn.Module, batch: Batch, *, step: int, n_steps: int,
              generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
        distortion = bernoulli_nll(model(batch.x).params, to_unit(batch.x))
        return {"loss": distortion, "distortion": distortion}


@dataclass(frozen=True)
class ClassifierObjective(Objective):
    """The cross-entropy of each attribute, summed, in nats an image.

    flip: mirror half of the images. shift: move each by up to so many pixels, both ways.
    """

    flip: bool = False
    shift: int = 0
    network: ClassVar = Classifier
    reported: ClassVar = ("cross_entropy", "accuracy")

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"shift is {self.shift}, expected at least 0 pixels")

    def terms(self, model: nn.Module, batch: Batch, *, step: int, n_steps: int,
              generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
        x = moved(batch.x, flip=self.flip, shift=self.shift, generator=generator)
        labels = batch.labels.reshape(len(x), -1)  # (B, A), A = 1 for a plain classifier
        logits = model(x)
        if len(logits) != labels.shape[1]:  # else the attributes without a head would be left out in silence
            raise ValueError(f"the network reads {len(logits)} attributes, the data have {labels.shape[1]}")
        nats = sum(
            cross_entropy(row, label, reduction="none") for row, label in zip(logits, labels.unbind(1))
        )
        hits = sum((row.argmax(1) == label).float() for row, label in zip(logits, labels.unbind(1)))
        return {"loss": nats, "cross_entropy": nats, "accuracy": hits / len(logits)}


def moved(x: Tensor, *, flip: bool, shift: int, generator: torch.Generator | None = None) -> Tensor:
    """Return images (B, C, H, W), half of them mirrored if `flip`, each moved by up to `shift` pixels both ways.

    What moves in from outside is the image's edge.
    """
    if flip:
        mirrored = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
        x = torch.where(mirrored, x.flip(3), x)
    if shift:
        n, _, height, width = x.shape
        wide = pad(x, (shift,) * 4, mode="replicate")
        down, right = torch.randint(2 * shift + 1, (2, n, 1), generator=generator, device=x.device)
        rows = down + torch.arange(height, device=x.device)  # (B, H)
        columns = right + torch.arange(width, device=x.device)  # (B, W)
        images = torch.arange(n, device=x.device)[:, None, None]
        x = wide.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return x


@dataclass(frozen=True)
class AttributeObjective(Objective):
    """How far the drawn image is from the true one: "bernoulli" in nats, or "mse" of pixels in [0, 1].

    Both are least where the output is the mean of all images with these attributes. withhold: the share of images of
    which some attributes are withheld; how many, is uniform.
    """

    likelihood: str = "bernoulli"
    withhold: float = 0.5
    network: ClassVar = AttributeDecoder
    reported: ClassVar = ("cross_entropy", "mse")

    def __post_init__(self) -> None:
        if self.likelihood not in ("bernoulli", "mse"):
            raise ValueError(f"likelihood is {self.likelihood!r}, expected 'bernoulli' or 'mse'")
        if not 0 <= self.withhold <= 1:
            raise ValueError(f"withhold is {self.withhold}, expected a share in [0, 1]")

    def terms(self, model: nn.Module, batch: Batch, *, step: int, n_steps: int,
              generator: torch.Generator | None = None) -> dict[str, Tensor]:  # fmt: skip
        bare = getattr(model, "module", model)
        target = to_unit(batch.x)
        logits = model(bare.conditions(withheld(batch.labels, share=self.withhold, generator=generator)))
        nats, error = bernoulli_nll(logits, target), mse(torch.sigmoid(logits), target)
        return {
            "loss": nats if self.likelihood == "bernoulli" else error,
            "cross_entropy": nats,
            "mse": error,
        }


def withheld(labels: Tensor, *, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Return labels (B, A) in which, for about `share` of the rows, a uniform number of 1 to A labels is -1."""
    n, count = labels.shape
    how_many = torch.randint(1, count + 1, (n, 1), generator=generator, device=labels.device)
    how_many *= torch.rand(n, 1, generator=generator, device=labels.device) < share
    order = (
        torch.rand(n, count, generator=generator, device=labels.device).argsort(1).argsort(1)
    )  # a random rank each
    return torch.where(order < how_many, WITHHELD, labels)


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


@torch.inference_mode()
def codes_of(model: VQVAE, images: Tensor, *, batch: int = 250) -> Tensor:
    """Return the codes int64 (N, h, w) of uint8 images (N, C, H, W), on the CPU."""
    device = next(model.parameters()).device
    return torch.cat([model.encode(to_float(part.to(device))).cpu() for part in images.split(batch)])


def partly_told(labels: Tensor, *, unconditional: float, generator: torch.Generator | None = None) -> Tensor:
    """Return labels (B, A), all of a share of the rows -1, and in the others a uniform number of 0 to A - 1 of them."""
    n, count = labels.shape
    how_many = torch.randint(count, (n, 1), generator=generator, device=labels.device)
    nothing = torch.rand(n, 1, generator=generator, device=labels.device) < unconditional
    how_many = torch.where(nothing, count, how_many)
    order = torch.rand(n, count, generator=generator, device=labels.device).argsort(1).argsort(1)
    return torch.where(order < how_many, WITHHELD, labels)
