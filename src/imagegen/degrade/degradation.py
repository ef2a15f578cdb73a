"""A whole degradation, operator and noise, as one thing that a recipe names and that training and testing share."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from imagegen.degrade.masks import draw_mask
from imagegen.degrade.noise import add_noise, check_in_range
from imagegen.degrade.operators import Blur, Composed, Downsample, Identity, Mask, Operator, gaussian_kernel


class Degraded(NamedTuple):
    """What is left of a batch, and by which operator."""

    y: Tensor  # (B, C, h, w), not clamped; 0 where a mask hides
    known: Tensor | None  # bool (B, 1, h, w), True where y was seen; None: everywhere
    operator: Operator  # A of this batch, its masks included


@dataclass(frozen=True)
class Degradation:
    """y = A x + n in one order: blur, downsample, noise, mask. What is hidden holds 0, no noise.

    blur: deviation of a Gaussian kernel in pixels, 0 for none; the image goes on as its reflection. factor, kernel: of
    `Downsample`. mask: "none" or a kind of `masks.MASKS`, with the share that is hidden and a scribble's stroke, drawn
    anew for each image and call. noise: a kind of `noise.NOISES`, on what was measured, with its amount: sigma in units
    of [-1, 1] ("gaussian"), photons at white ("poisson"), probability ("salt-and-pepper") or quality ("jpeg"). The last
    three want values in [-1, 1], which "bicubic" may leave.
    Raises: ValueError: a value out of its range, or an amount without a noise.
    """

    blur: float = 0.0
    factor: int = 1
    kernel: str = "average"
    mask: str = "none"
    share: float = 0.25
    stroke: int = 3
    noise: str = "none"
    amount: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.blur < float("inf"):
            raise ValueError(f"blur is {self.blur}, expected a deviation in pixels, or 0 for none")
        # The parts check their own settings: try each on one small grey image.
        generator = torch.Generator()
        Downsample(self.factor, self.kernel)
        add_noise(torch.zeros(1, 1, 8, 8), self.noise, self.amount, generator=generator)
        if self.mask != "none":
            draw_mask(self.mask, (1, 1, 32, 32), share=self.share, stroke=self.stroke, generator=generator)

    def __call__(self, x: Tensor, *, generator: torch.Generator) -> Degraded:
        """Return what is left of images (B, C, H, W) in [-1, 1]; each call draws on from the generator.

        Raises: ValueError, TypeError: the images leave [-1, 1], or do not fit a part.
        """
        check_in_range(x)
        parts: list[Operator] = []
        if self.blur:
            parts.append(Blur(gaussian_kernel(self.blur)))
        if self.factor > 1:
            parts.append(Downsample(self.factor, self.kernel))
        y, known = Composed(tuple(parts))(x), None
        if self.mask != "none":
            known = draw_mask(self.mask, y.shape, share=self.share, stroke=self.stroke, generator=generator)
            known = known.to(x.device)
            parts.append(Mask(known))
        y = add_noise(y, self.noise, self.amount, generator=generator)
        if known is not None:
            y = Mask(known)(y)
        operator = parts[0] if len(parts) == 1 else Composed(tuple(parts)) if parts else Identity()
        return Degraded(y, known, operator)
