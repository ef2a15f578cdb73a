"""Directions in a generator's latent space that steer what an image shows, and how well each of them steers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BATCH = 250


@dataclass(frozen=True)
class Direction:
    """A direction along which an image comes to show something, and what a step of `reach` along it does.

    vector: (D,), of length 1. fit: share of the variance of what is read that a linear function of z explains, on
    images that it was not fitted to. shown: share of images that show it unmoved.
    gained: of those that do not, the share that does at z + reach vector. lost: of those that do, the share that does
    not at z - reach vector. kept: share of the other attributes that are read the same at z + reach vector as at z.
    A share of no images is nan.
    """

    vector: Tensor
    fit: float
    shown: float
    gained: float
    lost: float
    kept: float


@torch.inference_mode()
def attribute_directions(gan: nn.Module, classifier: nn.Module, asked: Mapping[str, tuple[int, Sequence[int]]], *,
                         n: int = 2000, n_test: int = 250, reach: float = 3.0,
                         generator: torch.Generator | None = None,
                         device: torch.device | str = "cpu") -> dict[str, Direction]:  # fmt: skip
    """Return a direction for each name in `asked`: the number of an attribute, and those of its values that count.

    n latents z ~ N(0, I) are drawn as images, and the classifier reads off each the probability p of these values.
    The direction is that of the least-squares fit of p on z; for z ~ N(0, I) it tends to the mean of the gradient of
    p, as E[z p] = E[grad p] (Stein's lemma). How well it steers is measured on n_test other latents.

    Args: gan: `draw`, and a `generator` of images (B, C, H, W). classifier: one tensor of logits (B, K) an attribute.
    Raises: ValueError: too few latents for a fit, an attribute or a value that there is not, or a reading that is the
        same for every image; the message holds the value.
    """
    gan, classifier = gan.to(device).eval(), classifier.to(device).eval()
    size, sizes = gan.config.latent_dim, tuple(classifier.config.classes)
    if n < 2 * size or n_test < 2:
        raise ValueError(f"{n} latents and {n_test} to test, expected at least {2 * size} and 2")
    if not 0 < reach < float("inf"):
        raise ValueError(f"reach is {reach}, expected a positive number")
    for name, (attribute, values) in asked.items():
        if not 0 <= attribute < len(sizes):
            raise ValueError(f"{name!r} asks for attribute {attribute}, expected 0 to {len(sizes) - 1}")
        few = len(set(values)) == len(values) and set(values) < set(range(sizes[attribute]))
        if not values or not few:
            raise ValueError(
                f"{name!r} asks for values {list(values)}, expected some of 0 to {sizes[attribute] - 1}, each once"
            )
    z = gan.draw(n + n_test, generator=generator)
    probabilities, labels = _read(gan, classifier, z)
    directions = {}
    for name, (attribute, values) in asked.items():
        p = probabilities[attribute][:, list(values)].sum(1)  # (n + n_test,)
        vector, fit = _fit(z.double().cpu(), p, n, name)
        step = reach * vector.float().to(z.device)
        fresh, before = z[n:], labels[n:]
        raised = _read(gan, classifier, fresh + step)[1]
        shown = _is_among(before[:, attribute], values)
        has, lowered = shown.nonzero()[:, 0], torch.zeros(0, len(sizes), dtype=torch.int64)
        if len(has):
            lowered = _read(gan, classifier, fresh[has.to(z.device)] - step)[1]
        others = [a for a in range(len(sizes)) if a != attribute]
        directions[name] = Direction(
            vector.float(), fit, _share(shown),
            gained=_share(_is_among(raised[:, attribute], values)[~shown]),
            lost=_share(~_is_among(lowered[:, attribute], values)),
            kept=_share(raised[:, others] == before[:, others]),
        )  # fmt: skip
    return directions


def _read(gan: nn.Module, classifier: nn.Module, z: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the probabilities (B, K) of each attribute, in float64, and the labels (B, A) of images drawn from z."""
    rows = []
    for part in z.split(BATCH):
        # Without a tanh a generator may leave the range.
        logits = classifier(gan.generator(part).clamp(-1, 1))
        rows.append([torch.softmax(row.double(), dim=1).cpu() for row in logits])
    probabilities = [torch.cat(column) for column in zip(*rows, strict=True)]
    return probabilities, torch.stack([column.argmax(1) for column in probabilities], dim=1)


def _fit(z: Tensor, p: Tensor, n: int, name: str) -> tuple[Tensor, float]:
    """Return the unit vector of the least-squares fit of p (N,) on z (N, D) over the first n, and R^2 on the others."""
    inputs = torch.cat([z, torch.ones(len(z), 1, dtype=z.dtype)], dim=1)
    slopes = torch.linalg.lstsq(inputs[:n], p[:n, None]).solution  # (D + 1, 1), the last is the intercept
    vector = slopes[:-1, 0]
    if p[:n].std() < 1e-9 or p[n:].std() < 1e-9 or not vector.norm() > 0:
        raise ValueError(f"{name!r} is read the same, {p[0].item():.3g}, off every image: nothing to fit")
    errors = (inputs[n:] @ slopes)[:, 0] - p[n:]
    return vector / vector.norm(), (1 - errors.square().mean() / p[n:].var(correction=0)).item()


def _is_among(labels: Tensor, values: Sequence[int]) -> Tensor:
    return torch.isin(labels, torch.tensor(list(values)))


def _share(hits: Tensor) -> float:
    return hits.double().mean().item()  # of nothing: nan
