"""How well codes describe given images, how a codebook is used, and how short a description a prior makes of them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imagegen import metrics
from imagegen.evaluation.entries import SQUARED, Entry, over_images
from imagegen.images import to_float, to_unit
from imagegen.objectives import code_nll
from imagegen.recipes import codes_of

BATCH = 250
BITS = 1 / math.log(2)  # in a nat


@torch.inference_mode()
def measure_vqvae(model: nn.Module, images: Tensor, *,
                  device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return the metrics of a VQ-VAE on uint8 images (N, C, H, W), N >= 2; its codes are counted over them all."""
    model = model.to(device, memory_format=torch.channels_last).eval()
    codes, n = model.config.codes, len(images)
    rows, counts, in_batches = [], torch.zeros(codes, dtype=torch.int64), []
    for part in images.split(BATCH):
        target = to_unit(x := to_float(part.to(device)))
        indices = model.encode(x)
        shown = torch.sigmoid(model.decode(indices))
        found = (
            metrics.mse(shown, target),
            metrics.psnr(shown, target, span=1.0),
            metrics.ssim(shown, target, span=1.0),
        )
        rows.append(tuple(column.double().cpu() for column in found))
        here = metrics.code_counts(indices.cpu(), codes)
        counts += here
        in_batches.append(metrics.perplexity(here))
    error, ratio, likeness = (torch.cat(column) for column in zip(*rows, strict=True))
    per_image, over_all = math.prod(model.config.grid), f"counted over all {n:,} images"
    return {
        "mse": over_images(error, SQUARED, "decoded from the codes of x"),
        "psnr": over_images(ratio, "dB", "decoded from the codes of x; mean over images"),
        "ssim": over_images(likeness, "", "decoded from the codes of x; 1 for equal images"),
        "codes_used": {"value": metrics.codes_used(counts), "unit": "codes", "n": n,
                       "detail": f"of {codes}, {over_all}"},
        "perplexity": {"value": metrics.perplexity(counts), "unit": "codes", "n": n,
                       "detail": f"of {codes}, {over_all}"},
        "perplexity_batch": {"value": sum(in_batches) / len(in_batches), "unit": "codes", "n": n,
                             "detail": f"mean over batches of {BATCH} images: not that of the data set"},
        "bits_per_image": {"value": per_image * math.log2(codes), "unit": "bits/image", "n": n,
                           "detail": f"{per_image} codes of log2 {codes} bits each, without a prior"},
    }  # fmt: skip


@torch.inference_mode()
def measure_prior(prior: nn.Module, tokeniser: nn.Module, images: Tensor, labels: Tensor, *,
                  device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return how well a prior predicts the codes that its tokeniser gives uint8 images (N, C, H, W), N >= 2.

    labels: (N,) or (N, A), told to it for the entries `_told` and withheld for the others.
    """
    codes = codes_of(tokeniser.to(device).eval(), images)
    return foretold(prior, codes, labels, what="of the codes", device=device)


@torch.inference_mode()
def foretold(prior: nn.Module, codes: Tensor, labels: Tensor, *, what: str, context: Tensor | None = None,
             device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return how well a prior predicts codes (N, h, w), N >= 2, once with all labels withheld and once told them.

    labels: (N,) or (N, A). context: (N, hc, wc), codes of the level above, if the prior is given them. what: is
    predicted, in words.
    """
    prior, labels, rows = prior.to(device).eval(), labels.reshape(len(codes), -1), []
    for start in range(0, len(codes), BATCH):
        part = slice(start, start + BATCH)
        wanted, above = codes[part].to(device), None if context is None else context[part].to(device)
        rows.append(tuple(
            code_nll(prior(wanted, labels=known, context=above), wanted).double().cpu()
            for known in (None, labels[part].to(device))
        ))  # fmt: skip
    unknown, told = (torch.cat(column) for column in zip(*rows, strict=True))
    per_image, size = math.prod(prior.config.grid), prior.config.codes
    uniform = f"log2 {size} = {math.log2(size):g} without a prior"
    return {
        "nll": over_images(unknown, "nats/image", f"{what}, all labels withheld"),
        "bits_per_code": over_images(
            unknown * BITS / per_image, "bits/code", f"all labels withheld; {uniform}"
        ),
        "bits_per_image": over_images(unknown * BITS, "bits/image", f"{what}, all labels withheld"),
        "nll_told": over_images(told, "nats/image", f"{what}, told all labels, whose own cost is left out"),
    }


def code_rate(model: nn.Module, priors: Sequence[nn.Module], codes: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """Return what codes (B, h, w), or those of two levels, cost: (B,) nats; all labels withheld.

    priors: one for each level, the bottom one given the top's codes; none at all: every code costs log K.
    """
    levels = codes if isinstance(codes, tuple) else (codes,)
    if not priors:
        sizes = model.config.codes if isinstance(codes, tuple) else (model.config.codes,)
        nats = sum(math.prod(c.shape[1:]) * math.log(size) for c, size in zip(levels, sizes, strict=True))
        return torch.full((len(levels[0]),), nats, device=levels[0].device)
    contexts = (None, *levels[:-1])
    return sum(code_nll(p(c, context=t), c) for p, c, t in zip(priors, levels, contexts, strict=True))
