"""An explorer of two restorers: hide pixels with a brush, pour noise, and compare what each makes of what is left."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from imagegen import images
from imagegen.restore import RestoredPixels, Restorer
from imagegen.widgets.explorer import Explorer, levels, packed
from imagegen.widgets.generators import gaussians

_MAX_IMAGES = 24
_HATCH = (
    0.42,
    0.62,
)  # of [0, 1]: two greys in stripes stand for hidden pixels, so that no image looks like them
_SIGMA = 0.2  # of [0, 1]: the noise in the second row of the static picture
_SEED = 1  # of that noise
_COLUMNS = ("what the networks see", "the least-squares restoration", "the adversarial one", "the original")


class RestorationExplorer(Explorer):
    """Hide pixels of an image with a brush, pour noise over it, and see what two restorers make of what is left.

        RestorationExplorer(load("restore-avatars"), load("restore-avatars-adversarial"), test.images[:12])

    Both restore at every stroke, side by side, each with its PSNR over the whole image. A reader's own image stays in
    the page; with a running kernel, the kernel sees it.

    Args:
        squared, adversarial: restorers of the same config but for the critic, told the mask and the noise; trained
            with a squared error alone, and with an adversarial loss. Copied.
        images: uint8 (N, C, H, W), N from 1 to 24, to choose from.
        names: of the images, for the text that stands for a picture.
    Raises: ValueError: the restorers, images or names do not fit; the message holds the value. TypeError: images are
        not uint8.
    """

    kind = "restoration-explorer"
    parts: ClassVar = {"squared": ".squared", "adversarial": ".adversarial"}
    worker = True

    def __init__(
        self,
        squared: Restorer,
        adversarial: Restorer,
        images: Tensor,
        *,
        names: Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        _check_restorers(squared, adversarial)
        shape, n = squared.config.image_shape, len(images)
        if images.dim() != 4 or tuple(images.shape[1:]) != shape or not 1 <= n <= _MAX_IMAGES:
            wanted = f"(N, {', '.join(map(str, shape))}) with N from 1 to {_MAX_IMAGES}"
            raise ValueError(f"images of shape {tuple(images.shape)}, expected {wanted}")
        if images.dtype != torch.uint8:
            raise TypeError(f"images are {images.dtype}, expected torch.uint8")
        if names is not None and len(names) != n:
            raise ValueError(f"{len(names)} names, expected {n}, one for each image")
        self._images = images.detach().cpu()
        self._names = [f"{label}, number {i + 1}" for i, label in enumerate(names or ["Image"] * n)]
        network = nn.ModuleDict(
            {"squared": RestoredPixels(squared), "adversarial": RestoredPixels(adversarial)}
        )
        network.config = squared.config
        super().__init__(network, name)

    @torch.inference_mode()
    def restore(self, part: str, y: Tensor, known: Tensor, sigma: Tensor) -> Tensor:
        """Return pixels (B, C, H, W) in [0, 1], float32 on the CPU, of what is left of images.

        part: of `parts`. y (B, C, H, W) in units of [-1, 1]; known (B, 1, H, W), seen where it is above 0.5; sigma
        (B, 1), the noise's deviation in units of [-1, 1].
        """
        inputs = (values.to(self._device) for values in (y, known, sigma))
        return self._network[part](*inputs).float().cpu()

    def _compute(self, op: str, values: Tensor) -> tuple[Tensor, ...]:
        if op not in self.parts:
            raise ValueError(f"op is {op!r}, expected one of {', '.join(self.parts)}")
        channels, height, width = self._shape
        cells = height * width
        if len(values) != (channels + 1) * cells + 1:
            raise ValueError(
                f"{len(values)} values, expected {(channels + 1) * cells + 1}: y, known and sigma"
            )
        y, known, sigma = values.split([channels * cells, cells, 1])
        return (self.restore(op, y.view(1, *self._shape), known.view(1, 1, height, width), sigma[None]),)

    def _graphs(self) -> dict[str, tuple[nn.Module, dict[str, Tensor], tuple[str, ...]]]:
        return {part: (network, network.examples(), ("pixels",)) for part, network in self._network.items()}

    def _describe(self) -> tuple[dict[str, Any], Tensor, str]:
        clean = images.to_float(self._images[:1])
        noise = gaussians(_SEED, clean.numel()).view_as(clean)
        box, all_seen = middle_box(*self._shape[1:]), torch.ones(1, 1, *self._shape[1:])
        tiles, psnr = [], []
        for known, sigma in ((box, 0.0), (all_seen, 2 * _SIGMA)):
            y = known * (clean + sigma * noise)
            restored = [self.restore(part, y, known, torch.tensor([[sigma]])) for part in self.parts]
            tiles += [levels(seen(y, known)), *map(levels, restored), self._images[:1]]
            psnr += [decibels(levels(x), self._images[:1]) for x in restored]
        meta = {
            "images": [
                {"alt": alt, "pixels": packed(images.to_unit(images.to_float(image)))}
                for alt, image in zip(self._names, self._images, strict=True)
            ],
            "hatch": list(_HATCH),
            "start": {"columns": len(_COLUMNS), "psnr": psnr[:2]},
        }
        told = ["no error" if value is None else f"{value:.1f} dB" for value in psnr]
        alt = (
            f"{self._names[0]}, damaged and restored. In each row from left to right: {', '.join(_COLUMNS)}. Top row: "
            f"a box in the middle is hidden, in grey stripes; PSNR of the restorations: {told[0]} and {told[1]}. "
            f"Bottom row: noise of deviation {_SIGMA:g} in units of [0, 1]; PSNR: {told[2]} and {told[3]}."
        )
        return meta, images.grid(torch.cat(tiles), columns=len(_COLUMNS)), alt


def middle_box(height: int, width: int) -> Tensor:
    """Return known (1, 1, H, W), 0 in a box in the middle of half of each side, 1 elsewhere."""
    known = torch.ones(1, 1, height, width)
    high, wide = height // 2, width // 2
    top, left = (height - high) // 2, (width - wide) // 2
    known[:, :, top : top + high, left : left + wide] = 0.0
    return known


def seen(y: Tensor, known: Tensor) -> Tensor:
    """Return pixels (B, C, H, W) in [0, 1] that show y, cut off there, and grey stripes where it is hidden."""
    rows, columns = (torch.arange(size) for size in y.shape[2:])
    dark = (rows[:, None] + columns) % 4 < 2
    return torch.where(known > 0.5, y.add(1.0).mul(0.5).clamp(0, 1), torch.where(dark, *_HATCH))


def decibels(found: Tensor, clean: Tensor) -> float | None:
    """Return the PSNR of uint8 images in dB, as explorer.js computes it; None where they are equal."""
    error = (found.double() - clean.double()).square().mean().item()
    return round(10 * math.log10(255**2 / error), 2) if error else None


def _check_restorers(squared: Restorer, adversarial: Restorer) -> None:
    """Raise ValueError unless both restore images of one shape, alike, and are told the mask and the noise."""
    for label, model in (("squared", squared), ("adversarial", adversarial)):
        if not isinstance(model, Restorer):
            raise ValueError(f"{label} is a {type(model).__name__}, expected a Restorer")
        config = model.config
        if not (config.mask and config.noise):
            raise ValueError(f"{label} has mask {config.mask} and noise {config.noise}, expected both True")
        if config.image_shape[0] not in (1, 3):
            raise ValueError(f"{label} restores {config.image_shape}, expected (1, H, W) or (3, H, W)")
    first, second = (dataclasses.asdict(model.config) for model in (squared, adversarial))
    differing = [
        f"{key} {first[key]} and {second[key]}"
        for key in first
        if first[key] != second[key] and not key.startswith("critic_")
    ]
    if differing:
        raise ValueError(
            f"the restorers differ in {'; '.join(differing)}, expected the same but for the critic"
        )
