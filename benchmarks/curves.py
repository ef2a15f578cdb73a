"""What the curves of a GAN's training look like: healthy, D too strong, D too weak, collapsed.

Four trainings of a small DCGAN on Fashion-MNIST differ only in what their names say. The series of both losses, of the
logits, of D's right guesses and of the samples' spread are recorded, and so are a few last samples; the chapter draws
them from that recording. One thread, 32 bits.
"""

import base64
import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.record import Claim, make
from imagegen.data import Batches, fashion_mnist
from imagegen.evaluation.entries import Entry, over_seeds
from imagegen.gan import GAN, GANConfig
from imagegen.images import to_uint8
from imagegen.objectives import discriminator_loss, generator_loss
from imagegen.training import History, run, write_atomic

RECORDING = Path(__file__).resolve().parents[1] / "src/imagegen/recordings/gan-curves.json"
BLIND = 2 * torch.tensor(2.0).log().item()  # D's loss where it cannot tell
SHOWN = 8  # samples kept of each training


@dataclass(frozen=True)
class Variant:
    """lr, critic_lr: of G and of D. generator_steps: updates of G for each of D. normalise: both players'."""

    words: str
    lr: float = 5e-4
    critic_lr: float = 5e-4
    generator_steps: int = 1
    normalise: str = "batch"


VARIANTS = {
    "healthy": Variant("healthy: both players at the same rate"),
    "strong": Variant("D too strong: 40 times G's learning rate", lr=5e-5, critic_lr=2e-3),
    "weak": Variant("D too weak: a hundredth of G's learning rate", critic_lr=5e-6),
    "collapsed": Variant(
        "collapsed: 5 updates of G for each of D, no batch normalisation",
        lr=2e-3,
        generator_steps=5,
        normalise="none",
    ),
}


@dataclass(frozen=True)
class Setting:
    """n: samples whose spread is taken, and images that it is compared with."""

    seeds: tuple[int, ...] = (0, 1)
    n_steps: int = 500
    log_every: int = 20
    batch_size: int = 64
    n: int = 256
    n_train: int = 60_000
    betas: tuple[float, float] = (0.5, 0.99)
    width: int = 16
    max_width: int = 128
    latent_dim: int = 64


QUICK = Setting(n_steps=4, log_every=2, batch_size=8, n=16, n_train=64, width=2, max_width=4, latent_dim=4)


def trained(variant: Variant, images: Tensor, setting: Setting, seed: int) -> tuple[GAN, History]:
    """Return the players after a training on uint8 images, and its history with the samples' spread in each row."""
    torch.manual_seed(seed)
    kinds = {"normalise": variant.normalise, "normalise_critic": variant.normalise}
    sizes = {"width": setting.width, "critic_width": setting.width, "max_width": setting.max_width}
    model = GAN(GANConfig(latent_dim=setting.latent_dim, **sizes, **kinds))
    model = model.to(memory_format=torch.channels_last)
    players = (model.generator, variant.lr), (model.discriminator, variant.critic_lr)
    adam, critic_adam = (torch.optim.Adam(p.parameters(), lr=lr, betas=setting.betas) for p, lr in players)
    batches = Batches(images, batch_size=setting.batch_size, seed=seed)
    looked_at, real = model.draw(setting.n), Batches(images, batch_size=setting.n, seed=seed).at(0).x

    def step(index: int) -> dict[str, Tensor]:
        x = batches.at(index).x
        with torch.no_grad():
            fake = model.sample(len(x))
        real_logits, fake_logits = model.discriminator(x), model.discriminator(fake)
        critic_loss = discriminator_loss(real_logits, fake_logits).mean()
        critic_adam.zero_grad()
        critic_loss.backward()
        critic_adam.step()
        model.discriminator.requires_grad_(False)
        for _ in range(variant.generator_steps):
            loss = generator_loss(model.discriminator(model.sample(len(x)))).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        model.discriminator.requires_grad_(True)
        right = torch.cat([real_logits > 0, fake_logits <= 0]).float().mean()
        return {
            "discriminator": critic_loss, "generator": loss, "real_logit": real_logits.mean(),
            "fake_logit": fake_logits.mean(), "right": right,
        }  # fmt: skip

    def look(row: dict[str, float]) -> None:
        with torch.no_grad():
            row["spread"] = spread(model.generator(looked_at)) / spread(real)

    history = run(step, range(setting.n_steps), setting.n_steps, on_log=look, log_every=setting.log_every,
                  progress=False)  # fmt: skip
    return model, history


def spread(images: Tensor) -> float:
    """Return the variance of images (N, C, H, W), summed over their pixels."""
    return images.var(0).sum().item()


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing."""
    began, setting = time.time(), QUICK if quick else Setting()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    histories: dict[str, list[History]] = {name: [] for name in VARIANTS}
    samples: dict[str, str] = {}
    try:
        images = fashion_mnist("train").images[: setting.n_train]
        for seed in setting.seeds:
            for name, variant in VARIANTS.items():
                model, history = trained(variant, images, setting, seed)
                histories[name].append(history)
                if name not in samples:
                    with torch.no_grad():
                        samples[name] = packed(model.sample(setting.n)[:SHOWN])
                last = {term: value for term, value in history[-1].items() if term in WORDS}
                say(f"  seed {seed} {name}: " + ", ".join(f"{k} {v:.3g}" for k, v in last.items()))
    finally:
        torch.set_num_threads(threads)
    if not quick:
        write_atomic(RECORDING, json.dumps(recording(histories, samples)).encode())
    found, claims = summary(histories, setting)
    record = make("bench-gan-curves", seconds=time.time() - began, metrics=found)
    return record | {
        "setting": dataclasses.asdict(setting)
        | {"variants": {name: dataclasses.asdict(variant) for name, variant in VARIANTS.items()}},
        "claims": [claim.as_dict() for claim in claims],
    }


def recording(histories: dict[str, list[History]], samples: dict[str, str]) -> dict[str, dict]:
    """Return what the chapter draws: of each training its words, a series of columns a seed, and last samples."""
    return {
        name: {
            "words": VARIANTS[name].words,
            "series": [series(row) for row in rows],
            "samples": samples[name],
        }
        for name, rows in histories.items()
    }


def packed(images: Tensor) -> str:
    """Return images in [-1, 1] as base64 of their levels, (SHOWN, 1, 28, 28) in this order."""
    return base64.b64encode(to_uint8(images).contiguous().numpy().tobytes()).decode()


WORDS = {
    "discriminator": ("nats", "D's loss"),
    "generator": ("nats", "G's loss"),
    "real_logit": ("nats", "logit of real images"),
    "fake_logit": ("nats", "logit of samples"),
    "right": ("of the images", "D's right guesses on the batch that it is about to learn from"),
    "spread": ("of the data's", "variance of the samples, summed over pixels"),
}


def series(history: History) -> dict[str, list[float]]:
    """Return the columns of a history, with four digits behind the point."""
    return {name: [round(row[name], 4) for row in history] for name in ("step", *WORDS)}


def last_of(history: History, term: str) -> float:
    """Return the mean of a term over the last quarter of a training."""
    rows = history[-max(1, len(history) // 4) :]
    return sum(row[term] for row in rows) / len(rows)


def summary(histories: dict[str, list[History]], setting: Setting) -> tuple[dict[str, Entry], list[Claim]]:
    """Return the metrics, means over seeds, and the claims: what holds for the worst of the seeds."""
    entries: dict[str, Entry] = {}
    ends = {
        name: {term: [last_of(history, term) for history in rows] for term in WORDS}
        for name, rows in histories.items()
    }
    for name, terms in ends.items():
        for term, values in terms.items():
            unit, words = WORDS[term]
            detail = (
                f"{VARIANTS[name].words}; {words}; last quarter of {setting.n_steps} steps, over the seeds"
            )
            entries[f"{name}_{term}"] = over_seeds(values, unit, setting.n, detail)
    return entries, claimed(ends)


def claimed(ends: dict[str, dict[str, list[float]]]) -> list[Claim]:
    """Return what holds for the worst of the seeds: `ends` has a value a seed of each term of each training.

    A D that is too strong is judged by its guesses: its rate is so high that its loss may leap once and be back at 0.
    """
    collapsed = ends["collapsed"]
    return [
        Claim("healthy: what the samples' spread lacks of the data's, worst seed",
              max(1 - value for value in ends["healthy"]["spread"]), 0.4),
        Claim("D too strong: share of its guesses that are wrong, worst seed",
              max(1 - value for value in ends["strong"]["right"]), 0.05),
        Claim("D too weak: G's loss, worst seed", max(ends["weak"]["generator"]), 0.2),
        Claim("collapsed: the samples' spread over the data's, worst seed", max(collapsed["spread"]), 0.1),
        Claim("collapsed: how far D's loss is from 2 log 2 all the same, worst seed",
              max(abs(value - BLIND) for value in collapsed["discriminator"]), 0.15),
    ]  # fmt: skip
