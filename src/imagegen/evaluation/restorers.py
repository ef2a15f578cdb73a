"""How well what a degradation left is restored: the degradations by name, and PSNR, SSIM and Frechet distance."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from imagegen import metrics
from imagegen.degrade import Degradation, Degraded
from imagegen.evaluation.entries import SQUARED, Entry, over_seeds
from imagegen.evaluation.samples import BATCH, Protocol, reference
from imagegen.images import to_float, to_uint8, to_unit
from imagegen.recipes.restoration import told
from imagegen.restore import Estimator, Restorer, RestorerConfig
from imagegen.training import seed_of

Restore = Callable[[Degraded, Degradation], Tensor]  # -> images (B, C, H, W), about in [-1, 1]
SEEDS = (0, 1, 2)  # of the degradations, where there is no protocol
CEILING = 10 * math.log10(12 * 255**2)  # dB: what rounding leaves, 1/12 of a level squared

# Noise is named by 100 sigma in units of [-1, 1]: noise_40 is what papers call sigma = 0.2 of [0, 1], or 51 of 255.
DEGRADATIONS: dict[str, Degradation] = {
    "noise_20": Degradation(noise="gaussian", amount=0.2),
    "noise_40": Degradation(noise="gaussian", amount=0.4),
    "noise_80": Degradation(noise="gaussian", amount=0.8),
    "box": Degradation(mask="centre", share=0.25),
    "scribble": Degradation(mask="scribble", share=0.25),
    "half": Degradation(mask="half"),
    "box_noise_20": Degradation(mask="centre", share=0.25, noise="gaussian", amount=0.2),
    "down_4": Degradation(factor=4),
}


def fits(config: RestorerConfig, degradation: Degradation) -> bool:
    """Return whether a restorer can be given what this degradation leaves: its size, mask and noise."""
    return (
        config.factor == degradation.factor
        and (config.mask or degradation.mask == "none")
        and (config.noise or degradation.noise == "none")
    )


def by_model(model: Restorer | Estimator, *, sigma: float | None = None) -> Restore:
    """Return how a restorer restores; it is told the mask, and the noise's deviation: 0 where it is not Gaussian.

    sigma: in units of [-1, 1], what it is told instead, right or not.
    """

    def restore(seen: Degraded, degradation: Degradation) -> Tensor:
        said = sigma
        if said is None:
            said = degradation.amount if degradation.noise == "gaussian" else 0.0
        return model(*told(model.config, seen.y, seen.known, said))

    return restore


@torch.inference_mode()
def restored(restore: Restore, degradation: Degradation, images: Tensor, seed: int, *,
             device: torch.device | str = "cpu") -> Tensor:  # fmt: skip
    """Return what is made of uint8 images (N, C, H, W) once they are degraded: uint8, on the CPU.

    The degradation is drawn on the CPU, BATCH images at a time, each batch by its own seed: the same for every method
    and on every device.
    """
    found = []
    for start in range(0, len(images), BATCH):
        generator = torch.Generator().manual_seed(seed_of(seed, start))
        seen = degradation(to_float(images[start : start + BATCH]), generator=generator)
        known = seen.known if seen.known is None else seen.known.to(device)
        x = restore(Degraded(seen.y.to(device), known, seen.operator), degradation)
        found.append(to_uint8(x.clamp(-1, 1)).cpu())
    return torch.cat(found)


def errors(again: Tensor, images: Tensor) -> dict[str, float]:
    """Return means over uint8 images (N, C, H, W): "psnr" in dB, of an image CEILING at most, "ssim" and "mse"."""
    x, clean = to_unit(to_float(again)), to_unit(to_float(images))
    found = {
        "psnr": metrics.psnr(x, clean, span=1.0).clamp(max=CEILING),
        "ssim": metrics.ssim(x, clean, span=1.0),
        "mse": metrics.mse(x, clean),
    }
    return {measure: values.double().mean().item() for measure, values in found.items()}


def measure_restoration(restore: Restore, name: str, images: Tensor, *, protocol: Protocol | None = None,
                        device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return PSNR, SSIM, squared error and, by a protocol, the Frechet distance of restored images to the clean ones.

    All are of images rounded to 8 bits. A hole in plain black may be filled without an error: an image's PSNR counts as
    CEILING at most. Between methods that keep the known pixels, it differs by as much over the image as over the hole.
    Args: name: of DEGRADATIONS. images: uint8 (N, C, H, W), with a protocol the first of its data's test images.
    Raises: KeyError: another name.
    """
    degradation, rows = DEGRADATIONS[name], []
    seeds = protocol.seeds if protocol else SEEDS
    images = images[: protocol.n] if protocol else images
    for seed in seeds:
        again = restored(restore, degradation, images, seed, device=device)
        row = errors(again, images)
        if protocol:
            ruler, _, test = reference(protocol, device)
            fd = metrics.frechet_distance(ruler.features(again), test[: len(again)])
            row[f"fd_{protocol.suffix}"] = fd
        rows.append(row)
    drawn = f"{name}, drawn for each seed {', '.join(map(str, seeds))}"
    said = {"psnr": "dB", "ssim": "", "mse": SQUARED}
    said = {measure: (unit, "mean over images") for measure, unit in said.items()}
    said |= {"fd": ("", "Frechet distance to the clean images, in the features of the protocol")}
    entries = {}
    for measure in rows[0]:
        unit, what = said[measure.partition("_")[0]]
        values = [row[measure] for row in rows]
        entries[f"{measure}_{name}"] = over_seeds(values, unit, len(images), f"{what}; {drawn}")
    return entries


def measure_restorer(model: Restorer | Estimator, images: Tensor, *, protocol: Protocol | None = None,
                     progress: bool = False, device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return the measures of a restorer, or of a pair's, for every degradation of DEGRADATIONS that it can be given."""
    model = model.to(device, memory_format=torch.channels_last).eval()
    names = [name for name, degradation in DEGRADATIONS.items() if fits(model.config, degradation)]
    entries: dict[str, Entry] = {}
    for name in tqdm(names, disable=not progress, unit="degradation", desc="restored"):
        entries |= measure_restoration(by_model(model), name, images, protocol=protocol, device=device)
    return entries
