"""One protocol a data set: how many samples are compared with which images, in whose features, for which seeds."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from imagegen import metrics, pretrained
from imagegen.evaluation.entries import Entry, over_seeds
from imagegen.evaluation.levels import sampled_bottom, shown
from imagegen.hierarchy import HierarchicalVQVAE
from imagegen.images import from_unit, to_float, to_uint8
from imagegen.prior import Prior
from imagegen.recipes import DATA, levels_of
from imagegen.vae import VAE, Autoencoder
from imagegen.vq import VQVAE

BATCH = 250
LEAST = 10  # samples below which the neighbours that the measures look for are not there
Draw = Callable[[int, Generator], Tensor]  # (n, generator) -> uint8 (n, C, H, W)


@dataclass(frozen=True)
class Protocol:
    """How the samples of every model of one data set are measured, so that their figures can be compared.

    suffix: of the distances' names. data: in recipes.DATA. network: the classifier whose features are compared.
    n: samples a seed, and test images. seeds: of the samples. folder: where the network is.
    Raises: ValueError: numbers that allow no measurement.
    """

    suffix: str
    data: str
    network: str
    n: int
    seeds: tuple[int, ...] = (0, 1, 2)
    folder: Path | str = pretrained.FOLDER

    def __post_init__(self) -> None:
        if self.n < LEAST or len(self.seeds) < 2:
            raise ValueError(
                f"n is {self.n} and seeds are {self.seeds}, expected at least {LEAST} and two seeds"
            )

    def described(self) -> dict[str, Any]:
        """Return the protocol as a results file holds it, with the hash of the network that it stands on."""
        seeds = ", ".join(map(str, self.seeds))
        return {
            "text": f"{self.n:,} samples against the {self.n:,} test images, in the features of {self.network} "
            "(centred, and of mean variance 1 on the training images), "
            f"rounded to 8 bits; mean and standard deviation over the seeds {seeds}",
            "features": self.network,
            "features_sha256": pretrained.card(self.network, folder=self.folder)["sha256"],
            "n": self.n,
            "seeds": list(self.seeds),
        }


PROTOCOLS: dict[str, Protocol] = {
    protocol.data: protocol
    for protocol in (
        Protocol("fashion", "fashion-mnist", "classifier-fashion", 10_000),
        Protocol("avatars", "avatars", "classifier-avatars", 5_000),
    )
}


class Ruler(NamedTuple):
    """A feature network with its zero and its unit: centre and scale of its features over the training images.

    A network's features have no unit of their own, and a cubic kernel needs one. Centred, and divided by the root of
    their mean variance (one number, so that no direction gains or loses), they have variance 1 on the average, and a
    Frechet distance counts in that variance.
    """

    network: nn.Module
    centre: Tensor  # (F,)
    scale: Tensor  # ()

    def features(self, images: Tensor) -> Tensor:
        """Return the features (N, F) of uint8 images (N, C, H, W), where the network is."""
        return (raw_features(self.network, images) - self.centre) / self.scale


class Reference(NamedTuple):
    """The ruler, and the real images' features: all of train, or as large a part of it as n is of test."""

    ruler: Ruler
    train: Tensor
    test: Tensor


def reference(protocol: Protocol, device: torch.device | str = "cpu") -> Reference:
    """Return what samples are compared with; computed once a process for each state of the network."""
    sha256 = pretrained.card(protocol.network, folder=protocol.folder)["sha256"]
    return _reference(protocol, sha256, str(device))


@functools.lru_cache(maxsize=4)
def _reference(protocol: Protocol, sha256: str, device: str) -> Reference:
    network = pretrained.load(protocol.network, folder=protocol.folder)
    network = network.to(device, memory_format=torch.channels_last)
    train, test = DATA[protocol.data]("train").images, DATA[protocol.data]("test").images
    raw = raw_features(network, train[: len(train) * protocol.n // len(test)])
    ruler = Ruler(network, raw.mean(0), raw.var(0).mean().sqrt())
    return Reference(ruler, (raw - ruler.centre) / ruler.scale, ruler.features(test[: protocol.n]))


@torch.inference_mode()
def raw_features(network: nn.Module, images: Tensor) -> Tensor:
    """Return what the network gives for uint8 images (N, C, H, W): (N, F), in units of its own."""
    device = next(network.parameters()).device
    return torch.cat([network.features(to_float(part.to(device))) for part in images.split(BATCH)])


def _compared(fake: Tensor, test: Tensor) -> dict[str, float]:
    precision, recall = metrics.precision_recall(test, fake)
    return {
        "fd": metrics.frechet_distance(fake, test), "kid": metrics.kernel_distance(fake, test),
        "precision": precision, "recall": recall, "coverage": metrics.coverage(test, fake),
    }  # fmt: skip


def _remembered(fake: Tensor, train: Tensor, test: Tensor) -> dict[str, float]:
    share, chance = metrics.memorisation(fake, train, test)
    return {"memorisation": share, "chance": chance}


MEASURES = {
    "fd": "Frechet distance of Gaussians fitted to the features",
    "kid": "cubic kernel, unbiased, all pairs; below 0 is chance",
    "precision": "samples among the real images, k = 3",
    "recall": "real images among the samples, k = 3",
    "coverage": "real images with a sample among their 5 nearest",
    "memorisation": "samples nearer to train than to as much test; 0.5: nothing memorised",
}


def _entries(rows: list[dict[str, float]], protocol: Protocol, ending: str, how: str) -> dict[str, Entry]:
    made = {}
    for measure, what in MEASURES.items():
        name = f"{measure}_{protocol.suffix}" if measure in ("fd", "kid") else measure
        values = [row[measure] for row in rows]
        made[name + ending] = over_seeds(values, "", protocol.n, f"{how}; {what}")
    # The real images are the same for every seed, and so is the chance in which of them happen to be neighbours.
    made["memorisation" + ending]["stderr"] = sum(row["chance"] for row in rows) / len(rows)
    return made


def floor(protocol: Protocol, device: torch.device | str = "cpu") -> dict[str, Entry]:
    """Return what the protocol gives real images: n of the training images, another draw for each seed, as samples.

    What is left of a distance is chance, and the feature network's own memory of its training images. For
    memorisation half of the test images stand for samples, against the training images and the other half.
    """
    sha256 = pretrained.card(protocol.network, folder=protocol.folder)["sha256"]
    entries = _entries(list(_floor(protocol, sha256, str(device))), protocol, "_floor", "real against real")
    entries["memorisation_floor"]["n"] = (protocol.n + 1) // 2
    return entries


@functools.lru_cache(maxsize=4)
def _floor(protocol: Protocol, sha256: str, device: str) -> tuple[dict[str, float], ...]:
    _, train, test = _reference(protocol, sha256, device)
    rows = []
    for seed in protocol.seeds:
        generator = Generator().manual_seed(seed)
        chosen = torch.randperm(len(train), generator=generator)[: protocol.n].to(train.device)
        left, right = torch.randperm(len(test), generator=generator).to(test.device).chunk(2)
        rows.append(_compared(train[chosen], test) | _remembered(test[left], train, test[right]))
    return tuple(rows)


def measure_samples(draw: Draw, protocol: Protocol, *, ending: str = "", how: str = "samples",
                    progress: bool = False, device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return the measures of samples, each with the floor that real images reach beside it: floor and floor_std.

    Args: draw: (n, generator) -> uint8 images, so already rounded to 8 bits. ending: of the measures' names. how: the
        samples were drawn, in words.
    """
    ruler, train, test = reference(protocol, device)
    rows = []
    for seed in tqdm(protocol.seeds, disable=not progress, unit="seed", desc=f"samples{ending}"):
        fake = ruler.features(draw(protocol.n, Generator().manual_seed(seed)))
        rows.append(_compared(fake, test) | _remembered(fake, train, test))
    entries, real = _entries(rows, protocol, ending, how), floor(protocol, device)
    for entry, beside in zip(entries.values(), real.values(), strict=True):
        entry |= {"floor": beside["value"], "floor_std": beside["std"]}
    return entries


# ---- how each family is sampled --------------------------------------------------------------------------------


@torch.inference_mode()
def _decoded(model: nn.Module, z: Tensor) -> Tensor:
    """Return the uint8 images that a model shows for codes: latents (N, D), or grids (N, h, w) of a VQ-VAE."""
    device = next(model.parameters()).device
    shown = (torch.sigmoid(model.decode(part.to(device))) for part in z.split(BATCH))
    return torch.cat([to_uint8(from_unit(p)).cpu() for p in shown])


@torch.inference_mode()
def _codes(model: nn.Module, images: Tensor) -> Tensor:
    """Return the code of each uint8 image: (N, D), of a VAE the mean of q(z | x), of a VQ-VAE the grid (N, h, w)."""
    device, variational = next(model.parameters()).device, isinstance(model, VAE)
    found = (model.encode(to_float(part.to(device))) for part in images.split(BATCH))
    return torch.cat([(z[0] if variational else z).cpu() for z in found])


@torch.inference_mode()
def sampled_codes(prior: Prior, n: int, generator: Generator, *, labels: Tensor | None = None,
                  **options: float) -> Tensor:  # fmt: skip
    """Return n grids of codes (n, h, w) drawn from a prior, on the CPU, BATCH at a time, which bounds the memory.

    labels: (n, A), or None, all withheld. options: temperature, top_p.
    """
    device, drawn = next(prior.parameters()).device, []
    for start in range(0, n, BATCH):
        told = None if labels is None else labels[start : start + BATCH].to(device)
        size = min(BATCH, n - start)
        drawn.append(prior.sample(size, labels=told, generator=generator, **options).cpu())
    return torch.cat(drawn)


def _code_drawers(model: VQVAE, prior: Prior | None) -> dict[str, tuple[Draw, str]]:
    shown = "mean of p(x | codes), codes from"
    if prior is None:
        codes, grid = model.config.codes, model.config.grid

        def uniform(n: int, generator: Generator) -> Tensor:
            return _decoded(model, torch.randint(codes, (n, *grid), generator=generator))

        return {"_uniform": (uniform, f"{shown} the uniform distribution that the training assumes")}

    def unlabelled(n: int, generator: Generator) -> Tensor:
        return _decoded(model, sampled_codes(prior, n, generator))

    ways = {"": (unlabelled, f"{shown} the prior, all labels withheld")}
    # One label alone, whose values can be drawn as often each; and a PixelCNN is slow to sample twice.
    if (
        len(prior.config.attributes) == 1 and prior.config.network == "transformer"
    ):  # the other is slow to sample
        classes = prior.config.attributes[0]

        def balanced(n: int, generator: Generator) -> Tensor:
            labels = (torch.arange(n) % classes)[:, None]
            return _decoded(model, sampled_codes(prior, n, generator, labels=labels))

        ways["_told"] = balanced, f"{shown} the prior told a class, as many of each"
    return ways


def drawers(model: VAE | Autoencoder | VQVAE, train: Tensor,
            prior: Prior | None = None) -> dict[str, tuple[Draw, str]]:  # fmt: skip
    """Return the ways in which a model is sampled: ending of the measures' names -> (draw, in words).

    A VAE's prior is N(0, I), and the image is the mean of p(x | z). An autoencoder has none: it is sampled as if it
    had that one, and from a Gaussian fitted to the codes of the uint8 images `train`. A VQ-VAE is sampled from `prior`,
    and without one from the uniform distribution.
    """
    if isinstance(model, VQVAE):
        return _code_drawers(model, prior)

    def normal(n: int, generator: Generator) -> Tensor:
        return _decoded(model, torch.randn(n, model.config.latent_dim, generator=generator))

    shown = "mean of p(x | z), z from"
    if isinstance(model, VAE):
        return {"": (normal, f"{shown} the prior N(0, I)")}
    codes = _codes(model, train).double()
    values, vectors = torch.linalg.eigh(torch.cov(codes.T).reshape(2 * codes.shape[1:]))
    root = vectors * values.clamp(min=0).sqrt()  # root @ root.T is the covariance

    def fitted(n: int, generator: Generator) -> Tensor:
        eps = torch.randn(n, codes.shape[1], generator=generator, dtype=torch.float64)
        return _decoded(model, (codes.mean(0) + eps @ root.T).float())

    return {
        "_normal": (normal, f"{shown} N(0, I), though nothing spread the codes so"),
        "_fitted": (fitted, f"{shown} a Gaussian fitted to {len(codes):,} training codes"),
    }


def measure_generator(model: VAE | Autoencoder | VQVAE, protocol: Protocol, *, prior: Prior | None = None,
                      progress: bool = False, device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return the measures of a model's samples and, where no prior is given, the distance of its reconstructions."""
    model = model.to(device, memory_format=torch.channels_last).eval()
    prior = prior if prior is None else prior.to(device).eval()
    entries: dict[str, Entry] = {}
    train = DATA[protocol.data]("train").images[: protocol.n]
    for ending, (draw, how) in drawers(model, train, prior).items():
        options = {"ending": ending, "how": how, "progress": progress, "device": device}
        entries |= measure_samples(draw, protocol, **options)
    if prior is not None:  # the reconstructions are its tokeniser's
        return entries
    again = _decoded(model, _codes(model, DATA[protocol.data]("test").images[: protocol.n]))
    return entries | _again(again, protocol, "reconstructions", "encoded and decoded", device)


def measure_levels(model: HierarchicalVQVAE, protocol: Protocol, *, priors: tuple[Prior, Prior] | None = None,
                   progress: bool = False, device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return the measures of a hierarchy: with priors of its two levels of samples, else of its reconstructions.

    Samples are drawn in two ways: both levels ("") and the bottom level alone, given the top codes of training images
    ("_detail").
    """
    model = model.to(device, memory_format=torch.channels_last).eval()
    if priors is None:
        top, bottom = levels_of(model, DATA[protocol.data]("test").images[: protocol.n])
        whole, alone = shown(model, top, bottom), shown(model, top)
        return _again(whole, protocol, "reconstructions", "encoded and decoded", device) | _again(
            alone, protocol, "top_alone", "encoded, and decoded from the top level alone", device
        )
    over_top, under_top = (prior.to(device).eval() for prior in priors)
    train = DATA[protocol.data]("train").images

    def both(n: int, generator: Generator) -> Tensor:
        top = sampled_codes(over_top, n, generator)
        return shown(model, top, sampled_bottom(under_top, top, generator))

    def detail(n: int, generator: Generator) -> Tensor:
        top, _ = levels_of(model, train[torch.randperm(len(train), generator=generator)[:n]])
        return shown(model, top, sampled_bottom(under_top, top, generator))

    entries: dict[str, Entry] = {}
    for ending, draw, how in (
        ("", both, "the codes of both levels from their priors, all labels withheld"),
        ("_detail", detail, "the top codes of training images, the bottom codes from their prior"),
    ):
        options = {"ending": ending, "how": how, "progress": progress, "device": device}
        entries |= measure_samples(draw, protocol, **options)
    return entries


def _again(images: Tensor, protocol: Protocol, ending: str, how: str,
           device: torch.device | str) -> dict[str, Entry]:  # fmt: skip
    """Return the distance of what a model makes of the test images themselves, uint8 (N, C, H, W)."""
    ruler, _, test = reference(protocol, device)
    return {f"fd_{protocol.suffix}_{ending}": {
        "value": metrics.frechet_distance(ruler.features(images), test), "unit": "", "n": len(images),
        "detail": f"the test images themselves, {how}: no samples",
    }}  # fmt: skip
