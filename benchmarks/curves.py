"""What the curves of a GAN's training look like: healthy, D too strong, D too weak, collapsed.

Four trainings of a small DCGAN on Fashion-MNIST. The words of each name all in which it differs from the healthy one.
The series of both losses, of the logits, of D's right guesses and of the samples' spread are recorded, and so are a few
last samples; the chapter draws them from that recording. One thread, 32 bits.
"""

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.record import Claim, make, packed
from imagegen.data import Batches, fashion_mnist
from imagegen.evaluation.entries import Entry, over_seeds
from imagegen.gan import GAN, GANConfig
from imagegen.images import to_uint8
from imagegen.objectives import discriminator_loss, generator_loss
from imagegen.training import History, run, write_atomic

RECORDING = Path(__file__).resolve().parents[1] / "src/imagegen/recordings/gan-curves.json"
ORIGIN = ("commit", "dirty", "seed", "date", "torch")  # what the recording keeps of the record
LEARNT = 1.0  # D's loss is below it where D tells images from samples; it is 2 log 2 = 1.39 where it cannot
SHOWN = 8  # samples kept of each training


@dataclass(frozen=True)
class Variant:
    """lr, normalise: of G. critic_lr, normalise_critic: of D."""

    words: str
    lr: float = 5e-4
    critic_lr: float = 5e-4
    normalise: str = "batch"
    normalise_critic: str = "batch"


VARIANTS = {
    "healthy": Variant("healthy: both players at the same rate"),
    "strong": Variant("D too strong: its rate times 4, G's a tenth", lr=5e-5, critic_lr=2e-3),
    "weak": Variant("D too weak: its rate a hundredth", critic_lr=5e-6),
    "collapsed": Variant(
        "collapsed: G's rate times 200, no normalisation in G, spectral normalisation in D",
        lr=1e-1,
        normalise="none",
        normalise_critic="spectral",
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
    kinds = {"normalise": variant.normalise, "normalise_critic": variant.normalise_critic}
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


def measure(*, quick: bool = False, say: Callable[[str], None] = print, to: Path | None = None) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing.

    The recording is written to `to` when all is done; by default where the package keeps it, nowhere if quick.
    """
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
                        samples[name] = packed(to_uint8(model.sample(setting.n)[:SHOWN]))
                last = {term: value for term, value in history[-1].items() if term in WORDS}
                say(f"  seed {seed} {name}: " + ", ".join(f"{k} {v:.3g}" for k, v in last.items()))
    finally:
        torch.set_num_threads(threads)
    found, claims = summary(histories, setting)
    record = make("bench-gan-curves", seconds=time.time() - began, metrics=found, seed=setting.seeds[0])
    if path := to or (
        None if quick else RECORDING
    ):  # behind `make`, which asks whether the tree is as committed
        write_atomic(path, json.dumps(recording(histories, samples, record)).encode())
    return record | {
        "setting": dataclasses.asdict(setting)
        | {"variants": {name: dataclasses.asdict(variant) for name, variant in VARIANTS.items()}},
        "claims": [claim.as_dict() for claim in claims],
    }


def recording(histories: dict[str, list[History]], samples: dict[str, str], record: dict) -> dict[str, dict]:
    """Return what the chapter draws: where it is from, and of each training its words, a series of columns a seed, and
    last samples of the first seed, levels (SHOWN, 1, 28, 28).
    """
    trainings = {
        name: {
            "words": VARIANTS[name].words,
            "series": [series(row) for row in rows],
            "samples": samples[name],
        }
        for name, rows in histories.items()
    }
    return {"origin": {part: record[part] for part in ORIGIN}, "trainings": trainings}


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


def quarter(history: History) -> History:
    """Return the rows of the last quarter of a training, at least one."""
    return history[-max(1, len(history) // 4) :]


def last_of(history: History, term: str) -> float:
    """Return the mean of a term over the last quarter of a training."""
    rows = quarter(history)
    return sum(row[term] for row in rows) / len(rows)


def images_behind(term: str, n_steps: int, setting: Setting) -> int:
    """Return over how many images of each seed a term is a mean, in so many steps; a spread is one of n samples."""
    a_step = {"discriminator": 2, "right": 2, "spread": 0}.get(term, 1) * setting.batch_size
    return n_steps * a_step or setting.n


def summary(histories: dict[str, list[History]], setting: Setting) -> tuple[dict[str, Entry], list[Claim]]:
    """Return the metrics, means over seeds, and the claims: what holds for the worst of the seeds."""
    entries: dict[str, Entry] = {}
    ends = {
        name: {term: [last_of(history, term) for history in rows] for term in WORDS}
        for name, rows in histories.items()
    }
    n_last = min(setting.n_steps, len(quarter(histories["healthy"][0])) * setting.log_every)
    for name, terms in ends.items():
        for term, values in terms.items():
            unit, words = WORDS[term]
            detail = (
                f"{VARIANTS[name].words}; {words}; last {n_last} of {setting.n_steps} steps, over the seeds"
            )
            entries[f"{name}_{term}"] = over_seeds(values, unit, images_behind(term, n_last, setting), detail)
    ends["collapsed"]["least"] = least = [
        min(row["discriminator"] for row in history) for history in histories["collapsed"]
    ]
    unit, words = WORDS["discriminator"]
    detail = (
        f"{VARIANTS['collapsed'].words}; {words}, the least mean of {setting.log_every} steps, over the seeds"
    )
    n = images_behind("discriminator", setting.log_every, setting)
    entries["collapsed_least_discriminator"] = over_seeds(least, unit, n, detail)
    return entries, claimed(ends)


def claimed(ends: dict[str, dict[str, list[float]]]) -> list[Claim]:
    """Return what holds for the worst of the seeds: `ends` has a value a seed of each term of each training.

    A D that is too strong is judged by its guesses: its rate is so high that its loss may leap once and be back at 0.
    A collapse takes a D that had learnt ("least": its least loss on the way): two networks that were never trained have
    no spread either.
    """
    collapsed = ends["collapsed"]
    return [
        Claim("healthy: how far the samples' spread is from the data's, worst seed",
              max(abs(1 - value) for value in ends["healthy"]["spread"]), 0.4),
        Claim("D too strong: share of its guesses that are wrong, worst seed",
              max(1 - value for value in ends["strong"]["right"]), 0.05),
        Claim("D too weak: G's loss, worst seed", max(ends["weak"]["generator"]), 0.2),
        Claim("collapsed: the samples' spread over the data's, worst seed", max(collapsed["spread"]), 0.1),
        Claim("collapsed: D's least loss on the way, a mean of 20 steps, worst seed", max(collapsed["least"]), LEARNT),
    ]  # fmt: skip
