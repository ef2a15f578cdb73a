"""Explorers of a style-based generator: truncation, a mix of two faces layer by layer, sliders along directions."""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from imagegen import export, images
from imagegen.widgets.explorer import Explorer, levels
from imagegen.widgets.generators import _LAST_SEED, gaussians

PSIS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)  # of the strip of one face
_MAX_DIRECTIONS = 12  # one slider each
_MIX_COLUMNS = 5  # of the mixer's static picture: A, B, and at most three mixes a row


class StyleExplorer(Explorer):
    """What the explorers of a style-based generator share: seeds, the w of a seed, the image of a w for each layer.

    All explorers of one generator share two networks, named for their contents: `mapping` and `synthesis`, with the
    noise that the generator keeps ("fixed"). What is between them, such as truncation, the front end computes.

    Args:
        gan: its `generator` has `mapping`, `synthesis` and `w_mean`, as that of `stylegan.StyleGAN`; copied.
        subject: what an image shows, in one word, such as "face".
    Raises: ValueError: the generator or an argument does not fit; the message holds the value.
    """

    parts: ClassVar = {"mapping": ".mapping", "synthesis": ".synthesis"}
    worker = True

    def __init__(self, gan: nn.Module, *, subject: str, name: str | None) -> None:
        lacking = [part for part in ("mapping", "synthesis", "w_mean") if not hasattr(gan.generator, part)]
        if lacking:
            raise ValueError(f"the generator has no {' and no '.join(lacking)}: it is not style-based")
        shape = tuple(gan.config.image_shape)
        if shape[0] not in (1, 3):
            raise ValueError(f"the generator draws {shape}, expected (1, H, W) or (3, H, W)")
        if not subject.strip():
            raise ValueError(f"subject is {subject!r}, expected a word")
        self._subject = subject
        super().__init__(gan.generator, name)

    def latent(self, seed: int) -> Tensor:
        """Return the z (D,) ~ N(0, I) that the page draws for a seed, the same on every machine."""
        return gaussians(seed, self._network.config.latent_dim)

    @torch.inference_mode()
    def style(self, seed: int, *, psi: float = 1.0) -> Tensor:
        """Return w_mean + psi (w - w_mean), (D,), for the w of a seed."""
        w = self.mapping(self.latent(seed)[None])[0]
        mean = self._network.w_mean.float().cpu()
        return mean + psi * (w - mean)

    @torch.inference_mode()
    def mapping(self, z: Tensor) -> Tensor:
        """Return w (B, D) for latents (B, D), float32 on the CPU. Raises: ValueError: z has another shape."""
        size = self._network.config.latent_dim
        if z.dim() != 2 or z.shape[1] != size:
            raise ValueError(f"z has shape {tuple(z.shape)}, expected (B, {size})")
        return export.Styles(self._network)(z.to(self._device)).float().cpu()

    @torch.inference_mode()
    def decode(self, ws: Tensor) -> Tensor:
        """Return pixels (B, C, H, W) in [0, 1] for w (B, D), or one for each layer (B, L, D); float32 on the CPU."""
        if ws.dim() == 2:
            ws = ws[:, None].expand(-1, self._network.config.layers, -1)
        return export.StyledPixels(self._network)(ws.to(self._device)).float().cpu()

    def _compute(self, op: str, values: Tensor) -> tuple[Tensor, ...]:
        if op == "mapping":
            return (self.mapping(values[None]),)
        if op == "synthesis":
            config = self._network.config
            if len(values) != config.layers * config.latent_dim:
                expected = f"{config.layers} layers of {config.latent_dim}"
                raise ValueError(f"ws holds {len(values)} numbers, expected {expected}")
            return (self.decode(values.view(1, config.layers, config.latent_dim)),)
        raise ValueError(f"op is {op!r}, expected 'mapping' or 'synthesis'")

    def _graphs(self) -> dict[str, tuple[nn.Module, dict[str, Tensor], tuple[str, ...]]]:
        z = torch.stack([self.latent(seed) for seed in range(1, 5)])
        ws = torch.stack([self.style(seed) for seed in range(1, 5)])
        ws = ws[:, None].repeat(1, self._network.config.layers, 1)
        return {
            "mapping": (export.Styles(self._network), {"z": z}, ("w",)),
            "synthesis": (export.StyledPixels(self._network), {"ws": ws}, ("pixels",)),
        }

    def _shared(self) -> dict[str, Any]:
        """Return the part of `meta` that all explorers of this generator have, with the names of the two networks."""
        modules = {"mapping": export.Styles(self._network), "synthesis": export.StyledPixels(self._network)}
        config = self._network.config
        return {
            "files": {
                part: f"style-{part}-{export.fingerprint(module)[:12]}.onnx"
                for part, module in modules.items()
            },
            "latent_dim": config.latent_dim,
            "layers": config.layers,
            "w_mean": [round(v, 6) for v in self._network.w_mean.tolist()],
            "subject": self._subject,
        }


class TruncationExplorer(StyleExplorer):
    """Draw a face at w_mean + psi (w - w_mean), beside the same face at other psi and other faces at the same psi.

    Args: seed: of the first face. psi: where the slider starts, 0 to 1.2. faces: how many are shown at the same psi,
        of the seeds from `seed` on.
    Others, and errors: see `StyleExplorer`.
    """

    kind = "truncation-explorer"

    def __init__(
        self,
        gan: nn.Module,
        *,
        seed: int = 1,
        psi: float = 0.7,
        faces: int = 7,
        subject: str = "face",
        name: str | None = None,
    ) -> None:
        if isinstance(faces, bool) or not isinstance(faces, Integral) or not 2 <= faces <= 12:
            raise ValueError(f"faces is {faces}, expected a whole number from 2 to 12")
        self._seed, self._psi, self._faces = _seed(seed), _psi(psi), int(faces)
        super().__init__(gan, subject=subject, name=name)

    def _describe(self) -> tuple[dict[str, Any], Tensor, str]:
        psi, subject = self._psi, self._subject
        seeds = crowd(self._seed, self._faces)
        rows = [[self.style(self._seed, psi=p) for p in PSIS]]
        rows += [[self.style(seed, psi=p) for seed in seeds] for p in (psi, psi / 2)]
        columns = max(len(PSIS), self._faces)
        blank = torch.ones(1, *self._network.config.image_shape)  # the shorter rows end in paper
        drawn = [self.decode(torch.stack(row)) for row in rows]
        drawn = [torch.cat([row, blank.expand(columns - len(row), -1, -1, -1)]) for row in drawn]
        alt = (
            f"Top row: one generated {subject}, seed {self._seed}, with psi from {PSIS[0]:g} at the left to "
            f"{PSIS[-1]:g} at the right. Middle row: {self._faces} seeds from {seeds[0]} on at psi {psi:g}. Bottom "
            f"row: the same seeds at psi {psi / 2:g}, nearer to the mean."
        )
        start = {"seed": self._seed, "psi": psi, "faces": self._faces, "columns": columns}
        meta = self._shared() | {"psis": list(PSIS), "start": start}
        return meta, images.grid(levels(torch.cat(drawn)), columns=columns), alt


class StyleMixer(StyleExplorer):
    """Mix two faces: each layer takes its style from A or from B, with buttons for the usual groups of layers.

    Args: seeds: of A and B. psi: both are truncated to it.
        groups: names of buttons, each with the layers that it takes from B; the rest is A's. None: `groups_of`.
    Others, and errors: see `StyleExplorer`.
    """

    kind = "style-mixer"

    def __init__(
        self,
        gan: nn.Module,
        *,
        seeds: tuple[int, int] = (1, 2),
        psi: float = 0.7,
        groups: Mapping[str, Iterable[int]] | None = None,
        subject: str = "face",
        name: str | None = None,
    ) -> None:
        if len(seeds) != 2:
            raise ValueError(f"seeds is {tuple(seeds)}, expected two")
        self._seeds, self._psi = tuple(map(_seed, seeds)), _psi(psi)
        self._groups = {
            label: _layers(label, chosen, gan.config.layers)
            for label, chosen in (groups_of(gan.config) if groups is None else groups).items()
        }
        if not self._groups:
            raise ValueError("groups is empty, expected at least one: the first is shown at the start")
        super().__init__(gan, subject=subject, name=name)

    def mixed(self, chosen: Iterable[int]) -> Tensor:
        """Return w for each layer, (L, D): of B in the chosen layers, of A in the others."""
        first, second = (self.style(seed, psi=self._psi) for seed in self._seeds)
        of_second = torch.zeros(self._network.config.layers, 1, dtype=torch.bool)
        of_second[list(chosen)] = True
        return torch.where(of_second, second, first)

    def _describe(self) -> tuple[dict[str, Any], Tensor, str]:
        layers = self._network.config.layers
        mixes = [self.mixed(chosen) for chosen in (range(0), range(layers), *self._groups.values())]
        alt = (
            f"Generated {self._subject}s: A of seed {self._seeds[0]}, B of seed {self._seeds[1]}, and mixes of the two "
            f"with one group of layers from B: {', '.join(self._groups)}."
        )
        start = {"seeds": list(self._seeds), "columns": _MIX_COLUMNS}
        meta = self._shared() | {
            "psi": self._psi,
            "grids": grids_of(self._network.config),
            "groups": [{"name": label, "layers": chosen} for label, chosen in self._groups.items()],
            "start": start,
        }
        return meta, images.grid(levels(self.decode(torch.stack(mixes))), columns=_MIX_COLUMNS), alt


class StyleSliders(StyleExplorer):
    """Steer any face along directions in w: the image of w + the sum of s_k v_k, with s_k from the sliders.

    Args:
        directions: names of sliders, each with a vector v (D,) of any length but 0: a slider at 1 adds all of it.
        layers: the layers that a direction is added to, by name; all where it is not named.
        psi: every face is truncated to it first.
        reach: a slider covers [-reach, reach].
        seed: of the first face.
    Others, and errors: see `StyleExplorer`.
    """

    kind = "style-sliders"

    def __init__(
        self,
        gan: nn.Module,
        directions: Mapping[str, Tensor],
        *,
        layers: Mapping[str, Iterable[int]] | None = None,
        psi: float = 0.7,
        reach: float = 3.0,
        seed: int = 1,
        subject: str = "face",
        name: str | None = None,
    ) -> None:
        if not 0 < reach < math.inf:
            raise ValueError(f"reach is {reach}, expected a positive number")
        config, layers = gan.config, dict(layers or {})
        self._directions = _vectors(directions, config.latent_dim)
        if unknown := sorted(set(layers) - set(directions)):
            raise ValueError(f"layers names {', '.join(unknown)}, which is no direction")
        self._layers = {
            label: _layers(label, layers.get(label, range(config.layers)), config.layers)
            for label in directions
        }
        self._psi, self._reach, self._seed = _psi(psi), float(reach), _seed(seed)
        super().__init__(gan, subject=subject, name=name)

    def steered(self, offsets: Mapping[str, float]) -> Tensor:
        """Return w for each layer, (L, D), of the first face with a value for each slider named."""
        ws = self.style(self._seed, psi=self._psi).repeat(self._network.config.layers, 1)
        for label, offset in offsets.items():
            ws[self._layers[label]] += offset * self._directions[label]
        return ws

    def _describe(self) -> tuple[dict[str, Any], Tensor, str]:
        reach = self._reach
        moves = torch.linspace(
            -reach, reach, len(PSIS)
        ).tolist()  # an odd number: the middle is the face itself
        rows = [self.steered({label: move}) for label in self._directions for move in moves]
        alt = (
            f"One generated {self._subject}, seed {self._seed}, moved along a direction in w, from {-reach:g} at the "
            f"left through itself in the middle to {reach:g} at the right: one row each for "
            f"{', '.join(self._directions)}."
        )
        meta = self._shared() | {
            "psi": self._psi,
            "reach": reach,
            "directions": [
                {"name": label, "vector": [round(v, 6) for v in v.tolist()], "layers": self._layers[label]}
                for label, v in self._directions.items()
            ],
            "start": {"seed": self._seed, "columns": len(moves)},
        }
        return meta, images.grid(levels(self.decode(torch.stack(rows))), columns=len(moves)), alt


def grids_of(config: Any) -> list[int]:
    """Return the side of the grid that each layer draws on; the last layer makes the image of the last grid."""
    return [4 << (layer + 1) // 2 for layer in range(config.layers - 1)] + [config.image_shape[-1]]


def groups_of(config: Any) -> dict[str, list[int]]:
    """Return the layers of three groups: coarse up to 8 x 8, middle on 16 x 16, fine above.

    Source: Karras et al. 2019, arXiv:1812.04948, section 3.1, whose coarse grids these are; it draws 1024 pixels, with
    a middle up to 32 x 32.
    """
    sides = grids_of(config)
    spans = {"coarse": (4, 8), "middle": (16, 16), "fine": (32, math.inf)}
    groups = {
        label: [i for i, side in enumerate(sides) if low <= side <= high]
        for label, (low, high) in spans.items()
    }
    return {label: chosen for label, chosen in groups.items() if chosen}  # 16 pixels have no fine layers


def crowd(first: int, n: int) -> list[int]:
    """Return n seeds from `first` on; after the last seed there is, from 1."""
    return [(first - 1 + i) % _LAST_SEED + 1 for i in range(n)]


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 1 <= seed <= _LAST_SEED:
        raise ValueError(f"seed is {seed!r}, expected a whole number from 1 to {_LAST_SEED}")
    return int(seed)


def _psi(psi: float) -> float:
    if not 0 <= psi <= PSIS[-1]:
        raise ValueError(f"psi is {psi}, expected 0 to {PSIS[-1]:g}")
    return float(psi)


def _layers(label: str, chosen: Iterable[int], n: int) -> list[int]:
    """Return the layers sorted. Raises where one is not there, or the name of them is empty."""
    if not label.strip():
        raise ValueError(f"a name is {label!r}, expected words")
    chosen = sorted(set(map(int, chosen)))
    if not chosen or not 0 <= chosen[0] <= chosen[-1] < n:
        raise ValueError(f"layers {chosen} of {label!r}, expected some from 0 to {n - 1}")
    return chosen


def _vectors(directions: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Return the directions in float32 on the CPU. Raises where they do not fit w."""
    if not 1 <= len(directions) <= _MAX_DIRECTIONS:
        raise ValueError(f"{len(directions)} directions, expected 1 to {_MAX_DIRECTIONS}")
    found = {}
    for label, vector in directions.items():
        vector = torch.as_tensor(vector).detach().float().cpu()
        if vector.shape != (size,):
            raise ValueError(f"the direction {label!r} has shape {tuple(vector.shape)}, expected ({size},)")
        if not 0 < vector.norm() < math.inf:
            raise ValueError(
                f"the direction {label!r} has length {vector.norm().item():g}, expected a positive one"
            )
        found[label] = vector
    return found
