"""Shipped restorers on damage that they were not trained for, or are told wrongly, by the mean PSNR of test images.

The trainings saw Gaussian noise up to a deviation of 0.8 and boxes and scribbles that hide up to 0.4 of an image, each
told rightly. Here noise has the deviation 0.4 where nothing else is said, and the same draws: what `told_low` and
`told_high` are given is what `told_40` is given, and they are told another deviation. Salt and pepper and photons have
the same mean squared error, 0.4^2, by a share and a peak that follow from the images, and the restorer is told 0.4. Two
conditions change the images and not the damage: rolled aside, or upside down, they meet learned maps of places that are
not theirs. Beside each restorer the damaged image itself, grey where it is hidden, and for salt and pepper a median.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from benchmarks import baselines
from benchmarks.record import Claim, make
from benchmarks.trials import shipped
from imagegen import pretrained
from imagegen.degrade import Degradation, Degraded
from imagegen.evaluation.entries import Entry, over_seeds
from imagegen.evaluation.restorers import by_model, errors, restored
from imagegen.images import to_float
from imagegen.recipes import DATA, RECIPES
from imagegen.restore import Restorer

MODELS = {
    "avatars": "restore-avatars",
    "avatars-adversarial": "restore-avatars-adversarial",
    "fashion": "restore-fashion",
    "fashion-adversarial": "restore-fashion-adversarial",
}
SIGMA, SHIFT = 0.4, 4
NOISE = Degradation(noise="gaussian", amount=SIGMA)


@dataclass(frozen=True)
class Setting:
    """n: test images, the first. tiny: the networks' width, untrained, to try the code; 0 takes the shipped ones."""

    n: int = 500
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: int = 0


QUICK = Setting(n=4, seeds=(0, 1), tiny=2)


@dataclass(frozen=True)
class Condition:
    """Clean images (uint8), the damage done to them, and the deviation that the restorer is told."""

    words: str
    images: Tensor
    damage: Degradation
    sigma: float


def conditions(images: Tensor) -> dict[str, Condition]:
    """Return what a restorer of uint8 images (N, C, H, W) meets, by name."""
    x = to_float(images).double()
    share = SIGMA**2 / (1 + x.square().mean().item())  # E (y - x)^2 = share (1 + x^2)
    peak = 2 * (1 + x.mean().item()) / SIGMA**2  # E (y - x)^2 = 2 (1 + x) / peak
    said = f"noise of deviation {SIGMA:g}"
    loud = Degradation(noise="gaussian", amount=1.2)
    sides = Degradation(mask="half", noise="gaussian", amount=SIGMA)
    salt = Degradation(noise="salt-and-pepper", amount=share)
    photons = Degradation(noise="poisson", amount=peak)
    return {
        "told_40": Condition(f"{said}, told so", images, NOISE, SIGMA),
        "told_low": Condition(f"{said}, told half of it", images, NOISE, SIGMA / 2),
        "told_high": Condition(f"{said}, told twice as much", images, NOISE, 2 * SIGMA),
        "salt": Condition(
            f"salt and pepper on {share:.3f} of the pixels, told {SIGMA:g}", images, salt, SIGMA
        ),
        "poisson": Condition(f"{peak:.1f} photons at white, told {SIGMA:g}", images, photons, SIGMA),
        "noise_120": Condition("noise of deviation 1.2, told so", images, loud, 1.2),
        "half_noise": Condition(f"one half hidden, {said}, told so", images, sides, SIGMA),
        "scribble_50": Condition(
            "scribbles over half of the image, no noise", images, Degradation(mask="scribble", share=0.5), 0.0
        ),
        "shifted": Condition(
            f"images rolled {SHIFT} pixels to the right, {said}, told so", images.roll(SHIFT, 3), NOISE, SIGMA
        ),
        "upside_down": Condition(f"images upside down, {said}, told so", images.flip(2), NOISE, SIGMA),
    }


def untouched(seen: Degraded, _: Degradation) -> Tensor:
    return seen.y


def median(seen: Degraded, _: Degradation) -> Tensor:
    return baselines.median(seen, 3)


def models_of(setting: Setting) -> dict[str, Restorer]:
    """Return the restorers, by the names of MODELS. Raises: Unavailable: one of them is not there."""
    if not setting.tiny:
        found = shipped(*MODELS.values())
        return {name: found[model] for name, model in MODELS.items()}
    torch.manual_seed(0)
    sizes = {"width": setting.tiny, "levels": 1, "critic_width": 0}
    return {name: Restorer(replace(RECIPES[model].model, **sizes)).eval() for name, model in MODELS.items()}


def measured(name: str, model: Restorer, setting: Setting, say: Callable[[str], None]) -> dict[str, Entry]:
    """Return the entries of one restorer: {"avatars_salt_psnr": ..., "avatars_salt_seen_psnr": ...}."""
    images = DATA[RECIPES[MODELS[name]].data]("test").images[: setting.n]
    entries: dict[str, Entry] = {}
    for key, condition in conditions(images).items():
        ways = {"": by_model(model, sigma=condition.sigma), "_seen": untouched}
        ways |= {"_median": median} if key == "salt" else {}
        words = {"": MODELS[name], "_seen": "the damaged image itself", "_median": "median of 3 by 3 pixels"}
        for way, restore in ways.items():
            values = [
                errors(restored(restore, condition.damage, condition.images, seed), condition.images)["psnr"]
                for seed in setting.seeds
            ]
            detail = f"{condition.words}; {words[way]}; mean over images, damage drawn for each seed"
            entries[f"{name}_{key}{way}_psnr"] = over_seeds(values, "dB", len(images), detail)
        psnr, seen = (entries[f"{name}_{key}{way}_psnr"]["value"] for way in ("", "_seen"))
        say(f"  {name} {key}: {psnr:.2f} dB, before {seen:.2f} dB")
    return entries


def claimed(entries: dict[str, Entry]) -> list[Claim]:
    """Return what has to hold for every restorer: each value is the worst of them."""

    def gained(by: str) -> float:
        """Return by how much a condition beats `told_40`, in dB, where it does best."""
        return max(entries[f"{n}_{by}_psnr"]["value"] - entries[f"{n}_told_40_psnr"]["value"] for n in MODELS)

    texts = {
        "told_low": "told half of the noise's deviation, against told rightly",
        "told_high": "told twice the noise's deviation, against told rightly",
        "shifted": f"images rolled by {SHIFT} pixels, against images in place",
    }
    return [
        Claim(f"PSNR {text}, the best restorer's gain, dB", gained(by), -0.1) for by, text in texts.items()
    ]


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark; `quick` runs all of it at a size that shows nothing.

    Raises: Unavailable: weights of a restorer are not there.
    """
    began, threads = time.time(), torch.get_num_threads()
    setting = QUICK if quick else Setting()
    torch.set_num_threads(1)
    try:
        models = models_of(setting)
        entries = {k: v for name in MODELS for k, v in measured(name, models[name], setting, say).items()}
    finally:
        torch.set_num_threads(threads)
    record = make("bench-robustness", seconds=time.time() - began, metrics=entries, seed=setting.seeds[0])
    names = () if setting.tiny else MODELS.values()
    weights = {name: pretrained.card(name)["sha256"] for name in names}
    return record | {
        "weights_sha256": weights,
        "setting": asdict(setting),
        "claims": [claim.as_dict() for claim in claimed(entries)],
    }
