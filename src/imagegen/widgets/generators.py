"""An explorer of a generator: faces of a seed, sliders along named directions, and a walk between two faces."""

import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from imagegen import export, images
from imagegen.widgets.explorer import Explorer, levels, packed

_MAX_DIRECTIONS = 12  # one slider each
_COLUMNS = 8  # of the static picture
_SEEDS = (1, 2)  # of the two images that the page starts with


class GeneratorExplorer(Explorer):
    """Draw images from a generator, steer one along named directions, and walk from one to another.

    The image shown is G(z) for z = slerp(z_A, z_B; t) + the sum of s_k u_k, with s_k from the sliders.

    Args:
        gan: its `generator` gives images (B, C, H, W) in [-1, 1] for z (B, D); copied. Its config has `image_shape`
            and `latent_dim`.
        directions: names of sliders, each with a vector (D,) of any length but 0: it is scaled to length 1.
        reach: a slider covers [-reach, reach]; the prior's spread along any direction is 1.
        seeds: of the images A and B that it starts with; see `latent`.
        subject: what an image shows, in one word, such as "face".
    Raises: ValueError: the shape, a direction, a seed, the reach or a name does not fit; the message holds the value.
    """

    kind = "generator-explorer"
    parts: ClassVar = {"decoder": ""}

    def __init__(
        self,
        gan: nn.Module,
        directions: Mapping[str, Tensor] | None = None,
        *,
        reach: float = 3.0,
        seeds: tuple[int, int] = _SEEDS,
        subject: str = "image",
        name: str | None = None,
    ) -> None:
        shape = tuple(gan.config.image_shape)
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ValueError(f"the generator draws {shape}, expected (1, H, W) or (3, H, W)")
        if not 0 < reach < float("inf"):
            raise ValueError(f"reach is {reach}, expected a positive number")
        fits = [isinstance(seed, Integral) and 1 <= seed <= _LAST_SEED for seed in seeds]
        if fits != [True, True]:
            raise ValueError(f"seeds is {tuple(seeds)}, expected two whole numbers from 1 to {_LAST_SEED}")
        if not subject.strip():
            raise ValueError(f"subject is {subject!r}, expected a word")
        self._directions = _units(directions or {}, gan.config.latent_dim)
        self._reach, self._seeds, self._subject = float(reach), tuple(map(int, seeds)), subject
        super().__init__(gan.generator, name)

    @torch.inference_mode()
    def decode(self, z: Tensor) -> Tensor:
        """Return pixels (B, C, H, W) in [0, 1] for latents (B, D), float32 on the CPU."""
        return export.GeneratorPixels(self._network)(z.to(self._device)).float().cpu()

    def latent(self, seed: int) -> Tensor:
        """Return the z (D,) ~ N(0, I) that the page draws for a seed, the same on every machine."""
        return gaussians(seed, self._network.config.latent_dim)

    def _graphs(self) -> dict[str, tuple[nn.Module, dict[str, Tensor], tuple[str, ...]]]:
        examples = torch.stack([self.latent(seed) for seed in self._seeds])
        return {"decoder": (export.GeneratorPixels(self._network), {"z": examples}, ("pixels",))}

    def _describe(self) -> tuple[dict[str, Any], Tensor, str]:
        first, second = (self.latent(seed) for seed in self._seeds)
        pixels = self.decode(torch.stack([first, second]))
        meta = {
            "latent_dim": len(first),
            "reach": self._reach,
            "subject": self._subject,
            "directions": [
                {"name": label, "vector": [round(v, 6) for v in unit.tolist()]}
                for label, unit in self._directions.items()
            ],
            "start": {"seeds": list(self._seeds), "pixels": [packed(image) for image in pixels]},
        }
        # The static picture: a walk, then a row for each slider moved from end to end.
        walk = torch.stack([slerp(first, second, t) for t in torch.linspace(0, 1, _COLUMNS).tolist()])
        moves = torch.linspace(-self._reach, self._reach, _COLUMNS)[:, None]
        rows = [walk, *(first + moves * unit for unit in self._directions.values())]
        drawn = self.decode(torch.cat(rows))
        alt = (
            f"Top row: {_COLUMNS} generated images of one {self._subject} each, on a walk through the latent space "
            f"from seed {self._seeds[0]} at the left to seed {self._seeds[1]} at the right."
        )
        if self._directions:
            alt += (
                f" Below, the first moved along a direction, from {-self._reach:g} at the left to {self._reach:g} at "
                f"the right: one row each for {', '.join(self._directions)}."
            )
        return meta, images.grid(levels(drawn), columns=_COLUMNS), alt


def slerp(first: Tensor, second: Tensor, t: float) -> Tensor:
    """Return the point at share t of the way from one latent (D,) to another on the arc between them.

    sin((1 - t) w) / sin(w) first + sin(t w) / sin(w) second, with w the angle between the two: a straight line would
    pass nearer to the origin than samples of N(0, I) lie. Where the arc is not defined (w = 0 or pi) it is the line.
    Source: Shoemake 1985, "Animating rotation with quaternion curves"; for latents White 2016, arXiv:1609.04468.
    """
    cosine = torch.nn.functional.cosine_similarity(first, second, dim=0).clamp(-1, 1)
    angle = torch.acos(cosine).item()
    if math.sin(angle) < 1e-4:
        return (1 - t) * first + t * second
    return (math.sin((1 - t) * angle) * first + math.sin(t * angle) * second) / math.sin(angle)


_LAST_SEED = 999_999  # six digits fit the field of the page


def gaussians(seed: int, n: int) -> Tensor:
    """Return n numbers (n,) of N(0, 1) for a seed, the same as explorer.js draws: Box and Muller's transform."""
    found = []
    for pair in range((n + 1) // 2):
        radius = math.sqrt(-2 * math.log(1 - _uniform(seed, 2 * pair)))
        angle = 2 * math.pi * _uniform(seed, 2 * pair + 1)
        found += [radius * math.cos(angle), radius * math.sin(angle)]
    return torch.tensor(found[:n])


def _uniform(seed: int, place: int) -> float:
    """Return a number in [0, 1) for each place of a seed, as explorer.js does. Mixing: C. Wellons' triple32."""
    t = (seed * 0x9E3779B1 + place) % 2**32
    for shift, factor in ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB)):
        t = (t ^ t >> shift) * factor % 2**32
    return (t ^ t >> 14) / 2**32


def _units(directions: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Return the directions with length 1, on the CPU. Raises where they do not fit the latent."""
    if len(directions) > _MAX_DIRECTIONS:
        raise ValueError(f"{len(directions)} directions, expected at most {_MAX_DIRECTIONS}")
    units = {}
    for label, vector in directions.items():
        if not label.strip():
            raise ValueError(f"a direction has the name {label!r}, expected words: they name its slider")
        vector = torch.as_tensor(vector).detach().float().cpu()
        if vector.shape != (size,):
            raise ValueError(f"the direction {label!r} has shape {tuple(vector.shape)}, expected ({size},)")
        length = vector.norm()
        if not 0 < length < float("inf"):
            raise ValueError(f"the direction {label!r} has length {length.item():g}, expected a positive one")
        units[label] = vector / length
    return units
