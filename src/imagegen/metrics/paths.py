"""How far features move along a path between two latents: perceptual path length, and the straight line it beats."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

SAMPLINGS = ("full", "end")
EPSILON = 1e-4  # of a path's whole length 1, as in the paper


def lerp(first: Tensor, second: Tensor, t: Tensor) -> Tensor:
    """Return the points (1 - t) first + t second, of latents (N, D), at the shares t (N,) of the way."""
    return first + t[:, None] * (second - first)


def slerp(first: Tensor, second: Tensor, t: Tensor) -> Tensor:
    """Return the points at the shares t (N,) of the arcs between latents (N, D) and (N, D).

    sin((1 - t) W) / sin(W) first + sin(t W) / sin(W) second, W the angle between the two; a line where sin(W) is 0.
    Source: Shoemake 1985, "Animating rotation with quaternion curves".
    """
    cosine = torch.nn.functional.cosine_similarity(first, second, dim=1).clamp(-1, 1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    arc = sine > 1e-4
    safe = torch.where(arc, sine, torch.ones_like(sine))
    near = torch.where(arc, torch.sin((1 - t) * angle) / safe, 1 - t)
    far = torch.where(arc, torch.sin(t * angle) / safe, t)
    return near[:, None] * first + far[:, None] * second


def path_speeds(describe: Callable[[Tensor], Tensor], first: Tensor, second: Tensor, *, arc: bool = False,
                sampling: str = "full", epsilon: float = EPSILON, batch: int = 250,
                generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Return |f(x(t + epsilon)) - f(x(t))|^2 / epsilon^2 of a path each, x(t) from `first` to `second`: squared speeds.

    Their mean is the perceptual path length (PPL), where f are features of the images drawn at latents. Over "full"
    paths it is at least the mean of |f(second) - f(first)|^2, which it reaches where f goes straight and evenly.
    Args: describe: latents (B, D) -> features (B, F), no latent's depending on another's. first, second: (N, D).
        arc: along arcs (`slerp`), as for z of N(0, I), and not along lines. sampling: "full", t ~ U(0, 1 - epsilon);
        "end", t = 0. batch: latents described at once. generator: of t, on the CPU.
    Returns: (N,) float64, in the square of the features' units.
    Raises: ValueError: latents that differ in shape or are none, another sampling, an epsilon outside (0, 1).
    Source: Karras, Laine and Aila 2019, arXiv:1812.04948, section 4.1.
    """
    if first.dim() != 2 or first.shape != second.shape or not len(first):
        raise ValueError(
            f"first {tuple(first.shape)} and second {tuple(second.shape)}, expected the same (N, D)"
        )
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling is {sampling!r}, expected one of {', '.join(SAMPLINGS)}")
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon is {epsilon}, expected more than 0 and less than 1")
    t = torch.zeros(len(first), dtype=torch.float64)
    if sampling == "full":
        t = torch.rand(len(first), generator=generator, dtype=torch.float64) * (1 - epsilon)
    t = t.to(first.device)
    point = slerp if arc else lerp
    ends = first.double(), second.double()  # 32 bits keep three or four digits of so small a step
    steps = [point(*ends, at).to(first.dtype) for at in (t, t + epsilon)]
    found = []
    for here, there in zip(*(step.split(batch) for step in steps), strict=True):
        found.append((describe(there).double() - describe(here).double()).square().sum(1))
    return torch.cat(found) / epsilon**2
