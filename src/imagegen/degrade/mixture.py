"""Many degradations at once, another for each image of a batch: what one restorer of all of them is trained on."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from imagegen.degrade.masks import MASKS, draw_mask
from imagegen.degrade.noise import check_in_range
from imagegen.degrade.operators import Mask


class Observed(NamedTuple):
    """What is left of a batch, and what a restorer is told of how it came about."""

    y: Tensor  # (B, C, H, W), not clamped; 0 where a mask hides
    known: Tensor  # bool (B, 1, H, W), True where y was seen
    sigma: Tensor  # (B,), the deviation of each image's noise in units of [-1, 1]


@dataclass(frozen=True)
class Mixture:
    """y = M (x + n), with mask and noise drawn for each image.

    masks: "none" or kinds of `masks.MASKS`; the i-th image of a batch gets the (i mod how many)-th, so that each batch
    holds as many of each. shares: the least and the largest share that is hidden, drawn evenly between them, once a
    call for each kind. stroke: of a scribble, in pixels. sigmas: the least and the largest deviation of Gaussian noise,
    in units of [-1, 1], drawn evenly between them for each image. exact: the share of masked images without noise; one
    that is wholly seen always has some, or there would be nothing to restore.
    Raises: ValueError: a name or a number that no mixture can use.
    """

    masks: tuple[str, ...] = ("none", "box", "centre", "scribble")
    shares: tuple[float, float] = (0.05, 0.4)
    stroke: int = 3
    sigmas: tuple[float, float] = (0.0, 0.8)
    exact: float = 0.5

    def __post_init__(self) -> None:
        for name in ("masks", "shares", "sigmas"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.masks or not set(self.masks) <= {"none", *MASKS}:
            raise ValueError(f"masks are {self.masks}, expected some of none, {', '.join(MASKS)}")
        for name, low, high in (("shares", 1e-9, 1.0), ("sigmas", 0.0, float("inf"))):
            ends = getattr(self, name)
            if len(ends) != 2 or not low <= ends[0] <= ends[1] <= high or ends[1] == float("inf"):
                raise ValueError(
                    f"{name} are {ends}, expected the least and the largest, in ({low:g}, {high:g})"
                )
        if not 0 <= self.exact <= 1:
            raise ValueError(f"exact is {self.exact}, expected a share in [0, 1]")
        if self.stroke < 1:
            raise ValueError(f"stroke is {self.stroke}, expected at least 1 pixel")

    def __call__(self, x: Tensor, *, generator: torch.Generator) -> Observed:
        """Return what is left of images (B, C, H, W) in [-1, 1]; each call draws on from the generator.

        Raises: ValueError, TypeError: the images leave [-1, 1], or are too small for a mask.
        """
        check_in_range(x)
        batch, n_kinds, device = len(x), len(self.masks), generator.device
        known = torch.ones(batch, 1, *x.shape[2:], dtype=torch.bool, device=device)
        low, high = self.shares
        shares = (low + (high - low) * torch.rand(n_kinds, generator=generator, device=device)).tolist()
        for i, kind in enumerate(self.masks[:batch]):
            if kind != "none":
                shape = x[i::n_kinds].shape
                options = {"share": shares[i], "stroke": self.stroke, "generator": generator}
                known[i::n_kinds] = draw_mask(kind, shape, **options)
        low, high = self.sigmas
        sigma = low + (high - low) * torch.rand(batch, generator=generator, device=device)
        masked = torch.tensor([kind != "none" for kind in self.masks], device=device)
        masked = masked.repeat(-(-batch // n_kinds))[:batch]
        clean = torch.rand(batch, generator=generator, device=device) < self.exact
        sigma = torch.where(masked & clean, 0.0, sigma).to(x.device)
        noise = torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
        known = known.to(x.device)
        return Observed(Mask(known)(x + sigma.to(x)[:, None, None, None] * noise), known, sigma)
