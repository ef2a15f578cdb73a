"""What each level of a hierarchy of codes holds, and how its samples are drawn."""

import math

import torch
from torch import Generator, Tensor, nn

from imagegen import metrics
from imagegen.evaluation.codes import BATCH, foretold
from imagegen.evaluation.entries import SQUARED, Entry, over_images
from imagegen.hierarchy import HierarchicalVQVAE
from imagegen.images import from_unit, to_float, to_uint8, to_unit
from imagegen.prior import Prior
from imagegen.recipes import levels_of

LEVELS = ("top", "bottom")


@torch.inference_mode()
def shown(model: HierarchicalVQVAE, top: Tensor, bottom: Tensor | None = None) -> Tensor:
    """Return the uint8 images (N, C, H, W) that codes, each (N, h, w), decode to; without `bottom`, the top alone."""
    device, parts = next(model.parameters()).device, []
    for start in range(0, len(top), BATCH):
        part = slice(start, start + BATCH)
        fine = None if bottom is None else bottom[part].to(device)
        parts.append(to_uint8(from_unit(torch.sigmoid(model.decode(top[part].to(device), fine)))).cpu())
    return torch.cat(parts)


@torch.inference_mode()
def measure_hierarchy(model: HierarchicalVQVAE, images: Tensor, *,
                      device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return the metrics of a hierarchy on uint8 images (N, C, H, W), N >= 2.

    Beside the reconstruction: what the top level shows alone, and with the codes of one level taken from another image,
    the next one in the list.
    """
    model, n = model.to(device, memory_format=torch.channels_last).eval(), len(images)
    top, bottom = levels_of(model, images)
    target = to_unit(to_float(images))
    told = "decoded from both levels"
    pairs = {
        "mse": (top, bottom, told),
        "mse_top_alone": (top, None, "decoded from the top level, the bottom withheld"),
        "mse_other_top": (top.roll(1, 0), bottom, "the top level of another image, the bottom held"),
        "mse_other_bottom": (top, bottom.roll(1, 0), "the bottom level of another image, the top held"),
    }
    entries: dict[str, Entry] = {}
    for measure, (coarse, fine, how) in pairs.items():
        pixels = to_unit(to_float(shown(model, coarse, fine)))
        rounded = f"{how}, in 256 levels"
        entries[measure] = over_images(metrics.mse(pixels, target).double(), SQUARED, rounded)
        if measure == "mse":
            ratio = metrics.psnr(pixels, target, span=1.0).double()
            entries["psnr"] = over_images(ratio, "dB", f"{rounded}; mean over images")
    bits = 0.0
    for level, codes, size in zip(LEVELS, (top, bottom), model.config.codes, strict=True):
        counts, where = metrics.code_counts(codes, size), f"of {size}, counted over all {n:,} images"
        entries[f"codes_used_{level}"] = {
            "value": metrics.codes_used(counts),
            "unit": "codes",
            "n": n,
            "detail": where,
        }
        entries[f"perplexity_{level}"] = {
            "value": metrics.perplexity(counts), "unit": "codes", "n": n, "detail": where,
        }  # fmt: skip
        bits += math.prod(codes.shape[1:]) * math.log2(size)
    how = " + ".join(
        f"{math.prod(grid)} log2 {size}" for grid, size in zip(model.config.grids, model.config.codes)
    )
    entries["bits_per_image"] = {
        "value": bits,
        "unit": "bits/image",
        "n": n,
        "detail": f"{how}, without a prior",
    }
    return entries


@torch.inference_mode()
def measure_level_prior(prior: Prior, model: HierarchicalVQVAE, images: Tensor, labels: Tensor, *,
                        device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return how well a prior predicts its level of the codes of uint8 images: the bottom given the top."""
    top, bottom = levels_of(model.to(device).eval(), images)
    if not prior.config.context_codes:
        return foretold(prior, top, labels, what="of the top codes", device=device)
    what = "of the bottom codes given the top ones"
    return foretold(prior, bottom, labels, what=what, context=top, device=device)


@torch.inference_mode()
def sampled_bottom(prior: Prior, top: Tensor, generator: Generator, **options: float) -> Tensor:
    """Return bottom codes (N, h, w) drawn given top codes (N, hc, wc), all labels withheld, on the CPU."""
    device = next(prior.parameters()).device
    drawn = [
        prior.sample(len(part), context=part.to(device), generator=generator, **options).cpu()
        for part in top.split(BATCH)
    ]
    return torch.cat(drawn)


@torch.inference_mode()
def measure_kept(model: HierarchicalVQVAE, priors: tuple[Prior, Prior], judge: nn.Module, images: Tensor,
                 labels: Tensor, names: tuple[str, ...], *, seed: int = 0,
                 device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return how many attributes of uint8 images (N, C, H, W) are still read when one level is held, the other drawn.

    priors: of the top level, and of the bottom level given the top. judge: reads the attributes, logits of each.
    labels: (N, A). names: of the attributes. A top that is drawn beside a held bottom is drawn without regard to it, so
    that the two need not fit.
    """
    generator = Generator().manual_seed(seed)
    model, judge = model.to(device).eval(), judge.to(device).eval()
    over_top, under_top = (prior.to(device).eval() for prior in priors)
    top, bottom = levels_of(model, images)
    n = len(images)
    other = torch.cat([
        over_top.sample(len(part), generator=generator).cpu() for part in top.split(BATCH)
    ])  # fmt: skip
    ways = {
        "kept_both": ((top, bottom), "both levels held: the reconstruction"),
        "kept_top": (
            (top, sampled_bottom(under_top, top, generator)),
            "the top held, the bottom drawn given it",
        ),
        "kept_bottom": ((other, bottom), "the bottom level held, the top drawn anew"),
        "kept_none": ((other, sampled_bottom(under_top, other, generator)), "both levels drawn: chance"),
    }
    entries: dict[str, Entry] = {}
    for measure, (codes, how) in ways.items():
        read = [judge(to_float(part.to(device))) for part in shown(model, *codes).split(BATCH)]
        hits = torch.stack([
            torch.cat([rows[a].argmax(1).cpu() for rows in read]) == labels[:, a] for a in range(len(names))
        ], dim=1).double()  # fmt: skip
        entries[measure] = over_images(
            hits.mean(1), "", f"share of the {len(names)} attributes still read, {how}"
        )
        for name, column in zip(names, hits.unbind(1), strict=True):
            entries[f"{measure}_{name}"] = over_images(
                column, "", f"share of {n:,} images whose {name} is read, {how}"
            )
    return entries
