"""What each training minimises: model and batch in, named terms of the loss out, one value an image."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from imagegen.classifier import Classifier
from imagegen.data import Batch
from imagegen.decoder import WITHHELD, AttributeDecoder
from imagegen.images import to_unit
from imagegen.metrics import mse
from imagegen.objectives import (
    bernoulli_nll,
    free_bits,
    gaussian_kl_per_dim,
    kl_weight,
)
from imagegen.vae import VAE, Autoencoder


class Objective:
    """What a training minimises: `terms` gives the named terms of a batch, `network` builds what is trained."""

    network: ClassVar[type[nn.Module]]
    reported: ClassVar[tuple[str, ...]]  # the terms that a card keeps

    @property
    def requires(self) -> tuple[str, ...]:
        """The names of the shipped models that this training stands on."""
        return ()

    def begin(self, model: nn.Module, models: dict[str, nn.Module]) -> None:
        """Set the untrained network to where the training starts, given the required models: as it was built."""

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
