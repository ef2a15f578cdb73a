"""Eight Gaussians on a ring: how many of them a GAN finds, over five seeds.

The same two small networks each time: a way of training names a loss, the discriminator's learning rate, a momentum
(Adam's first beta) and a penalty. Measured on points drawn at the end: the modes that are found, the share of points
of high quality, which lie within three standard deviations of a mode, and how far from the ring's centre their mean
lies. That mean tells a collapse from a generator that has learned nothing, which finds no mode either. The trainings
of the first seed are kept as a recording for the book's explorer. One thread.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import Claim, make, packed
from imagegen.data import ring_centres, ring_of_gaussians
from imagegen.evaluation.entries import Entry, over_seeds
from imagegen.gan import GAN, GANConfig
from imagegen.metrics import mode_counts
from imagegen.objectives import discriminator_loss, generator_loss, zero_centred_penalty
from imagegen.training import run, write_atomic

RECORDING = Path(__file__).resolve().parents[1] / "src/imagegen/recordings/ring.json"
ORIGIN = ("commit", "dirty", "seed", "date", "torch")  # what the recording keeps of the record
MODES = 8
STD = 0.05
# Where collapse is claimed, on every seed: modes at most, and the least distance of the points' mean from the centre.
FEWEST, FAR = 2, 1.0
# What a discriminator's score says where it tells of a probability; a score of another loss has no scale of its own.
# The best score of least squares, which aims at 0 and 1, is itself p / (p + q).
SHOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "minimax": torch.sigmoid,
    "non-saturating": torch.sigmoid,
    "least-squares": lambda score: score.clamp(0, 1),
}


@dataclass(frozen=True)
class Way:
    """One way of training.

    setting: its name in the recording, beside the loss. critic_lr: the discriminator's learning rate as a multiple of
    the generator's. momentum: Adam's first beta, of both players. weight: gamma of R1; 0 is none.
    """

    label: str
    loss: str = "non-saturating"
    setting: str = "none"
    critic_lr: float = 1.0
    momentum: float = 0.5
    weight: float = 0.0


WAYS = {
    "slow": Way("non-saturating, slow discriminator", setting="slow", critic_lr=0.2),
    "non_saturating": Way("non-saturating"),
    "momentum": Way("non-saturating, momentum 0.9", setting="momentum", momentum=0.9),
    "momentum_r1": Way("non-saturating, momentum 0.9, R1", setting="r1", momentum=0.9, weight=0.1),
    "minimax": Way("minimax", "minimax"),
    "least_squares": Way("least squares", "least-squares"),
    "hinge": Way("hinge", "hinge"),
    "wasserstein": Way("Wasserstein, R1", "wasserstein", setting="r1", weight=0.3),
}
COLLAPSED, CURED = "slow", "non_saturating"  # two ways that differ in the discriminator's learning rate alone


@dataclass(frozen=True)
class Setting:
    """What is trained, how long, and what is measured of it."""

    width: int = 64
    depth: int = 2
    latent_dim: int = 2
    batch_size: int = 128
    lr: float = 2e-3
    n_steps: int = 2000
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    n_points: int = 5000
    frames: int = 22
    extent: float = 3.0
    side: int = 32
    n_shown: int = 256


QUICK = Setting(width=8, n_steps=6, seeds=(0, 1), n_points=50, frames=3, side=4, n_shown=8)


def found(points: Tensor) -> tuple[int, float]:
    """Return how many modes points (N, 2) find, and their share of high quality.

    A mode is found where at least a twentieth of an even share, N / 8, lies within three standard deviations of it.
    """
    counts, share = mode_counts(points, ring_centres(MODES), std=STD)
    return int((counts >= len(points) / MODES / 20).sum()), share


def off_centre(points: Tensor) -> float:
    """Return how far the mean of points (N, 2) is from the ring's centre: near 0 for the data, whose radius is 2."""
    return points.mean(0).norm().item()


def trained(way: Way, setting: Setting, seed: int, look: Callable[[int, GAN], None] | None = None) -> GAN:
    """Return both players after their training. look(step, model) is called before the first step and after each."""
    torch.manual_seed(seed)
    model = GAN(
        GANConfig(
            network="mlp", image_shape=(2,), latent_dim=setting.latent_dim, width=setting.width,
            critic_width=setting.width, depth=setting.depth, normalise="none",
        )
    )  # fmt: skip
    generator, critic = model.generator, model.discriminator
    betas = (way.momentum, 0.999)
    rates = setting.lr, setting.lr * way.critic_lr
    adams = [
        torch.optim.Adam(player.parameters(), lr=rate, betas=betas, fused=True)
        for player, rate in zip((generator, critic), rates, strict=True)
    ]
    random = torch.Generator().manual_seed(seed)
    if look:
        look(0, model)

    def step(index: int) -> dict[str, Tensor]:
        fall = min(1.0, 2 * (1 - index / setting.n_steps))  # to 0 over the second half
        for adam, rate in zip(adams, rates, strict=True):
            adam.param_groups[0]["lr"] = rate * fall
        real, _ = ring_of_gaussians(setting.batch_size, modes=MODES, std=STD, generator=random)
        fake = model.sample(setting.batch_size, generator=random)
        loss = discriminator_loss(critic(real), critic(fake.detach()), loss=way.loss).mean()
        if way.weight:
            loss = loss + 0.5 * way.weight * zero_centred_penalty(critic, real).mean()
        adams[1].zero_grad()
        loss.backward()
        adams[1].step()
        fooled = generator_loss(critic(fake), loss=way.loss).mean()
        adams[0].zero_grad()
        fooled.backward()
        adams[0].step()
        if look:
            look(index + 1, model)
        return {"discriminator": loss, "generator": fooled}

    run(step, range(setting.n_steps), setting.n_steps, log_every=setting.n_steps, progress=False)
    return model


# ---- the recording ---------------------------------------------------------------------------------------------


def as_levels(values: Tensor) -> Tensor:
    """Return numbers of [0, 1], clamped, as uint8."""
    return (values.clamp(0, 1) * 255).round().to(torch.uint8)


class Recorder:
    """Keeps frames of a training, more of them at its start: `look` is what `trained` calls."""

    def __init__(self, way: Way, setting: Setting) -> None:
        self.way, self.setting = way, setting
        last = setting.frames - 1
        self.wanted = sorted({round(setting.n_steps * (i / last) ** 2) for i in range(setting.frames)})
        random = torch.Generator().manual_seed(1)
        self.latents = torch.randn(setting.n_points, setting.latent_dim, generator=random)
        half = setting.extent * (1 - 1 / setting.side)  # from the first cell's centre to the last's
        axis = torch.linspace(-half, half, setting.side)
        self.cells = torch.stack(torch.meshgrid(axis, axis.flip(0), indexing="xy"), dim=-1)  # (side, side, 2)
        self.frames: list[tuple[Tensor, Tensor, int, float]] = []

    @torch.no_grad()
    def look(self, step: int, model: GAN) -> None:
        if step not in self.wanted:
            return
        points = model.generator(self.latents)
        field = model.discriminator(self.cells.flatten(0, 1)).view(self.cells.shape[:2])
        if self.way.loss in SHOWN:
            field = SHOWN[self.way.loss](field)
        else:
            field = (field - field.min()) / (field.max() - field.min()).clamp_min(1e-12)
        self.frames.append((points[: self.setting.n_shown], field, *found(points)))

    def as_dict(self) -> dict[str, Any]:
        """Return the run as the explorer of the ring reads it."""
        points, fields, modes, shares = zip(*self.frames, strict=True)
        extent = self.setting.extent
        return {
            "loss": self.way.loss, "setting": self.way.setting, "label": self.way.label, "steps": self.wanted,
            "points": packed(as_levels((torch.stack(points) + extent) / (2 * extent))),
            "field": packed(as_levels(torch.stack(fields))),
            "modes": list(modes), "high_quality": [round(share, 4) for share in shares],
            "field_kind": "probability" if self.way.loss in SHOWN else "score",
        }  # fmt: skip


def recording(runs: list[dict[str, Any]], setting: Setting, record: dict[str, Any]) -> dict[str, Any]:
    """Return the whole recording: where it is from, as the benchmark's record says, real points, and the runs."""
    random = torch.Generator().manual_seed(2)
    real, _ = ring_of_gaussians(setting.n_shown, modes=MODES, std=STD, generator=random)
    extent = setting.extent
    return {
        "origin": {part: record[part] for part in ORIGIN},
        "extent": extent, "side": setting.side, "n": setting.n_shown,
        "real": packed(as_levels((real + extent) / (2 * extent))), "runs": runs,
    }  # fmt: skip


# ---- the measurement -------------------------------------------------------------------------------------------

Row = tuple[int, float, float]  # of one seed: modes, share of high quality, off centre


def measure(*, quick: bool = False, say: Callable[[str], None] = print, to: Path | None = None) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing.

    The recording is written to `to` when all seeds are done; by default where the package keeps it, nowhere if quick.
    """
    began, threads = time.time(), torch.get_num_threads()
    setting = QUICK if quick else Setting()
    torch.set_num_threads(1)
    results: dict[str, list[Row]] = {name: [] for name in WAYS}
    runs: list[dict[str, Any]] = []
    try:
        for seed in setting.seeds:
            for name, way in WAYS.items():
                recorder = Recorder(way, setting) if seed == setting.seeds[0] else None
                model = trained(way, setting, seed, recorder and recorder.look)
                random = torch.Generator().manual_seed(seed)
                with torch.no_grad():
                    points = model.sample(setting.n_points, generator=random)
                results[name].append((*found(points), off_centre(points)))
                runs += [recorder.as_dict()] if recorder else []
                modes, share, far = results[name][-1]
                say(f"  seed {seed} {name}: {modes} modes, {share:.3f} of high quality, {far:.2f} off centre")
    finally:
        torch.set_num_threads(threads)
    found_metrics, claims = summary(results, setting)
    record = make("bench-ring", seconds=time.time() - began, metrics=found_metrics, seed=setting.seeds[0])
    if path := to or (None if quick else RECORDING):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(recording(runs, setting, record), separators=(",", ":"))
        write_atomic(path, (text + "\n").encode())
    record |= {"setting": asdict(setting), "ways": {name: asdict(way) for name, way in WAYS.items()}}
    return record | {"claims": [claim.as_dict() for claim in claims]}


def summary(results: dict[str, list[Row]], setting: Setting
            ) -> tuple[dict[str, Entry], list[Claim]]:  # fmt: skip
    """Return the metrics, means over seeds with the least beside them, and the claims: the worst seed's."""
    entries: dict[str, Entry] = {}
    for name, rows in results.items():
        modes, shares, far = zip(*rows, strict=True)
        label, n = WAYS[name].label, setting.n_points
        entries[f"{name}_modes"] = over_seeds(
            [float(m) for m in modes], "modes", n, f"{label}: found of {MODES}; mean over seeds"
        ) | {"min": min(modes), "max": max(modes)}  # fmt: skip
        entries[f"{name}_high_quality"] = over_seeds(
            shares, "share", n, f"{label}: within 3 standard deviations of a mode; mean over seeds"
        )
        entries[f"{name}_off_centre"] = over_seeds(
            far, "distance", n, f"{label}: of the points' mean from the centre, radius 2; mean over seeds"
        ) | {"min": min(far)}  # fmt: skip
    missed = MODES - entries[f"{CURED}_modes"]["min"]
    nearest = entries[f"{COLLAPSED}_off_centre"]["min"]
    collapsed, cured = WAYS[COLLAPSED].label, WAYS[CURED].label
    claims = [
        Claim(f"modes found: {collapsed}; best seed", entries[f"{COLLAPSED}_modes"]["max"], FEWEST),
        Claim(
            f"{FAR:g} over the distance of the points' mean from the centre: {collapsed}; worst seed",
            FAR / nearest if nearest else None, 1.0,
        ),
        Claim(f"modes missed: {cured}; worst seed", missed, 0),
    ]  # fmt: skip
    return entries, claims
