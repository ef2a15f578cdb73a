"""Directions in a generator's latent space that steer what an image shows, and how well each of them steers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BATCH = 250
SPACES = ("z", "w")
RIDGE = 0.1  # of the fit in w: the penalty on the slope, in units of the mean variance of a coordinate of w


@dataclass(frozen=True)
class Direction:
    """A direction along which an image comes to show something, and what a step of `reach` along it does.

    vector: (D,), of length 1. fit: share of the variance of what is read that a linear function of the point, z or w,
    explains, on images that it was not fitted to. shown: share of images that show it unmoved.
    gained: of those that do not, the share that does at the point + reach unit vector. lost: of those that do, the
    share that does not at the point - reach unit vector. kept: share of the other attributes that are read the same
    at the point + reach unit vector as at the point. A share of no images is nan.
    separated: of all pairs of an image that shows it and one that does not, on images that the line was not fitted
    to, the share that the linear function ranks rightly (the area under the ROC curve): 0.5 for one that says nothing,
    1 where a plane separates them.
    unit: the length of a step that raises the linear function by one of its standard deviations: 1 in z.
    """

    vector: Tensor
    fit: float
    shown: float
    gained: float
    lost: float
    kept: float
    separated: float = math.nan
    unit: float = 1.0


@torch.inference_mode()
def attribute_directions(gan: nn.Module, classifier: nn.Module, asked: Mapping[str, tuple[int, Sequence[int]]], *,
                         n: int = 2000, n_test: int = 250, reach: float = 3.0, space: str = "z",
                         generator: torch.Generator | None = None,
                         device: torch.device | str = "cpu") -> dict[str, Direction]:  # fmt: skip
    """Return a direction for each name in `asked`: the number of an attribute, and those of its values that count.

    n latents z ~ N(0, I) are drawn as images, and the classifier reads off each the probability p of these values.
    The direction is that of the least-squares fit of p on z; for z ~ N(0, I) it tends to the mean of the gradient of
    p, as E[z p] = E[grad p] (Stein's lemma). How well it steers is measured on n_test other latents.

    Args: gan: `draw`, and a `generator` of images (B, C, H, W). classifier: one tensor of logits (B, K) an attribute.
        space: "w" is for a generator with `mapping` and `synthesis`: w = mapping(z) takes the place of z, one w for all
        layers. As w is not spread alike in all directions, the fit has a penalty (ridge regression): of all steps that
        raise p's least-squares plane by as much, its slope has the least |step|^2 + RIDGE |step in deviations of w|^2.
    Raises: ValueError: too few latents for a fit, another space, an attribute or a value that there is not, or a
        reading that is the same for every image; the message holds the value.
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
    z = points_in(gan, gan.draw(n + n_test, generator=generator), space)
    probabilities, labels = _read(gan, classifier, z, space)
    directions = {}
    for name, (attribute, values) in asked.items():
        p = probabilities[attribute][:, list(values)].sum(1)  # (n + n_test,)
        slope, fit, fitted = _fit(z.double().cpu(), p, n, name, ridge=RIDGE if space == "w" else 0.0)
        vector = slope / slope.norm()
        unit = 1.0 if space == "z" else _deviation_along(z[:n].double().cpu(), vector)
        step = reach * unit * vector.float().to(z.device)
        fresh, before = z[n:], labels[n:]
        raised = _read(gan, classifier, fresh + step, space)[1]
        shown = _is_among(before[:, attribute], values)
        has, lowered = shown.nonzero()[:, 0], torch.zeros(0, len(sizes), dtype=torch.int64)
        if len(has):
            lowered = _read(gan, classifier, fresh[has.to(z.device)] - step, space)[1]
        others = [a for a in range(len(sizes)) if a != attribute]
        directions[name] = Direction(
            vector.float(), fit, _share(shown),
            gained=_share(_is_among(raised[:, attribute], values)[~shown]),
            lost=_share(~_is_among(lowered[:, attribute], values)),
            kept=_share(raised[:, others] == before[:, others]),
            separated=_separated(fitted[n:], shown), unit=unit,
        )  # fmt: skip
    return directions


def points_in(gan: nn.Module, z: Tensor, space: str) -> Tensor:
    """Return latents z (N, D) as points of a space, "z" or "w", (N, D).

    Raises: ValueError: another space, or "w" of a generator that has no mapping.
    """
    if space not in SPACES:
        raise ValueError(f"space is {space!r}, expected one of {', '.join(SPACES)}")
    if space == "z":
        return z
    if not hasattr(gan.generator, "mapping"):
        raise ValueError("space is 'w', and this generator has no mapping from z to it")
    return gan.generator.mapping(z)


def drawn_at(gan: nn.Module, points: Tensor, space: str) -> Tensor:
    """Return the images (N, C, H, W) in [-1, 1] of points (N, D) of a space; noise, where there is any, is fixed.

    Without a tanh a generator may leave the range: what is beyond white is white.
    Raises: ValueError: the generator is in training, where it mixes styles and moves its mean of w.
    """
    if gan.generator.training:
        raise ValueError("the generator is in training, expected evaluation: call eval() first")
    options = {"noise": "fixed"} if hasattr(gan.generator, "synthesis") else {}
    if space == "w":
        layered = points[:, None].expand(-1, gan.config.layers, -1)
        return gan.generator.synthesis(layered, **options).clamp(-1, 1)
    return gan.generator(points, **options).clamp(-1, 1)


def _read(gan: nn.Module, classifier: nn.Module, points: Tensor, space: str) -> tuple[list[Tensor], Tensor]:
    """Return the probabilities (B, K) of each attribute, in float64, and the labels (B, A) of images drawn there."""
    rows = []
    for part in points.split(BATCH):
        logits = classifier(drawn_at(gan, part, space))
        rows.append([torch.softmax(row.double(), dim=1).cpu() for row in logits])
    probabilities = [torch.cat(column) for column in zip(*rows, strict=True)]
    return probabilities, torch.stack([column.argmax(1) for column in probabilities], dim=1)


def _fit(z: Tensor, p: Tensor, n: int, name: str, *, ridge: float = 0.0) -> tuple[Tensor, float, Tensor]:
    """Return the least-squares fit of p (N,) on z (N, D) over the first n: slope (D,), R^2 on the rest, values (N,)."""
    inputs = torch.cat([z, torch.ones(len(z), 1, dtype=z.dtype)], dim=1)
    rows, targets = inputs[:n], p[:n, None]
    if ridge:  # as many rows more as there are slopes, each of which asks for 0
        penalty = (n * ridge * z[:n].var(0).mean()).sqrt() * torch.eye(inputs.shape[1], dtype=z.dtype)[:-1]
        rows, targets = torch.cat([rows, penalty]), torch.cat([targets, targets.new_zeros(len(penalty), 1)])
    slopes = torch.linalg.lstsq(rows, targets).solution  # (D + 1, 1), the last is the intercept
    vector = slopes[:-1, 0]
    if p[:n].std() < 1e-9 or p[n:].std() < 1e-9 or not vector.norm() > 0:
        raise ValueError(f"{name!r} is read the same, {p[0].item():.3g}, off every image: nothing to fit")
    fitted = (inputs @ slopes)[:, 0]
    errors = fitted[n:] - p[n:]
    return vector, (1 - errors.square().mean() / p[n:].var(correction=0)).item(), fitted


def _deviation_along(w: Tensor, vector: Tensor) -> float:
    """Return the standard deviation of the points (N, D) along a vector (D,) of length 1."""
    return (w @ vector).std().item()


def _separated(scores: Tensor, shown: Tensor) -> float:
    """Return the share of pairs, one that shows it and one that does not, whose scores (N,) are in order; ties half."""
    above = scores[shown][:, None] - scores[~shown]
    return ((above.sign() + 1) / 2).double().mean().item()  # of no pairs: nan


def _is_among(labels: Tensor, values: Sequence[int]) -> Tensor:
    return torch.isin(labels, torch.tensor(list(values)))


def _share(hits: Tensor) -> float:
    return hits.double().mean().item()  # of nothing: nan
