"""What a discriminator knows of the classes that it was never told, and what resizing costs, on Fashion-MNIST.

A linear probe, ridge regression to one-hot labels, from raw pixels, from the last hidden layer of a discriminator at
its random start, and from that of the trained one. Then the distance of test images that were interpolated from 28 to
32 pixels and back, and of the same with a frame of 2 pixels put around and cut off again.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, one_hot, pad

from benchmarks import Unavailable
from benchmarks.record import Claim, make
from imagegen import metrics, pretrained
from imagegen.data import fashion_mnist
from imagegen.evaluation.samples import PROTOCOLS, raw_features, reference
from imagegen.images import to_float, to_uint8
from imagegen.recipes import RECIPES

NAME = "dcgan-fashion"


@dataclass(frozen=True)
class Setting:
    """penalties: weights of the ridge to choose from, on the last fifth of the training images."""

    n_train: int = 10_000
    n_test: int = 10_000
    penalties: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0)
    seed: int = 0
    weights: str | None = NAME  # None: a random start in their place


QUICK = Setting(n_train=60, n_test=20, penalties=(1.0, 10.0), weights=None)


def ridge(features: Tensor, labels: Tensor, penalty: float) -> Tensor:
    """Return the weights (F, 10) that minimise |X W - Y|^2 + penalty |W|^2 for one-hot labels Y of (N,)."""
    gram = features.T @ features + penalty * torch.eye(features.shape[1], dtype=features.dtype)
    return torch.linalg.solve(gram, features.T @ one_hot(labels, 10).to(features.dtype))


def probe(features: Tensor, labels: Tensor, fresh: Tensor, fresh_labels: Tensor,
          penalties: tuple[float, ...]) -> float:  # fmt: skip
    """Return the share of fresh images (N, F) named right; the penalty is chosen without them."""
    zero, unit = features.mean(0), features.std()
    known, new = (
        torch.cat([(part - zero) / unit, torch.ones(len(part), 1)], 1).double() for part in (features, fresh)
    )
    cut = len(known) * 4 // 5

    def right(weights: Tensor, rows: Tensor, told: Tensor) -> float:
        return ((rows @ weights).argmax(1) == told).double().mean().item()

    held = {p: right(ridge(known[:cut], labels[:cut], p), known[cut:], labels[cut:]) for p in penalties}
    return right(ridge(known, labels, max(held, key=held.get)), new, fresh_labels)


def resized(x: Tensor, side: int) -> Tensor:
    """Return images (N, C, H, W) interpolated to another side."""
    return interpolate(x, size=(side, side), mode="bilinear", align_corners=False).clamp(-1, 1)


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing.

    Raises: Unavailable: the discriminator's weights are not there.
    """
    began, setting = time.time(), QUICK if quick else Setting()
    if setting.weights and setting.weights not in pretrained.names():
        raise Unavailable(f"the weights of {NAME} are missing: imagegen train {NAME}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train, test = fashion_mnist("train"), fashion_mnist("test")
        found = probed(train, test, setting, say) | distances(test.images[: setting.n_test], say)
    finally:
        torch.set_num_threads(threads)
    record = make("bench-gan-features", seconds=time.time() - began, seed=setting.seed, metrics=found)
    return record | {"setting": dataclasses.asdict(setting), "claims": [claimed(found).as_dict()]}


def claimed(found: dict[str, dict]) -> Claim:
    """Return the claim: what the training has taught D, over what a random stack of convolutions gives already."""
    trained, start = (1 - found[name]["value"] for name in ("trained", "start"))
    text = "test images that a probe of the trained D's features names wrong, over those of D at its random start"
    return Claim(text, trained / max(start, 1e-9), 1.0)


def probed(train: object, test: object, setting: Setting, say: Callable[[str], None]) -> dict[str, dict]:
    """Return the shares named right from raw pixels and from both discriminators."""
    torch.manual_seed(setting.seed)
    start = RECIPES[NAME].build().eval().discriminator
    trained = start if setting.weights is None else pretrained.load(setting.weights).eval().discriminator
    seen = train.images[: setting.n_train], test.images[: setting.n_test]
    told = train.labels[: setting.n_train], test.labels[: setting.n_test]
    ways: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
        "pixels": (lambda part: to_float(part).flatten(1), "raw pixels"),
        "start": (
            lambda part: raw_features(start, part),
            "features of the discriminator at its random start",
        ),
        "trained": (lambda part: raw_features(trained, part), "features of the trained discriminator"),
    }
    found = {}
    for name, (describe, words) in ways.items():
        known, fresh = (describe(part) for part in seen)
        value = probe(known, told[0], fresh, told[1], setting.penalties)
        found[name] = {
            "value": value, "unit": "named right", "n": len(fresh),
            "detail": f"linear probe, {words} ({known.shape[1]:,} numbers), {len(known):,} labelled images",
        }  # fmt: skip
        say(f"  {words}: {value:.4f}")
    return found


def distances(images: Tensor, say: Callable[[str], None]) -> dict[str, dict]:
    """Return the Frechet distance of uint8 test images from themselves, after a resize and after a frame."""
    ruler, _, test = reference(dataclasses.replace(PROTOCOLS["fashion-mnist"], n=len(images)))
    x, found = to_float(images), {}
    framed = pad(x, (2,) * 4, value=-1.0)[..., 2:-2, 2:-2]
    changed: dict[str, tuple[Tensor, str]] = {
        "resized": (resized(resized(x, 32), 28), "interpolated to 32 pixels and back"),
        "framed": (framed, "framed to 32 pixels and cut out again"),
    }
    for name, (again, words) in changed.items():
        value = metrics.frechet_distance(ruler.features(to_uint8(again.contiguous())), test)
        detail = f"the test images themselves, {words}"
        found[f"{name}_fd_fashion"] = {"value": value, "unit": "", "n": len(images), "detail": detail}
        say(f"  {words}: FD-fashion {value:.4f}")
    return found
