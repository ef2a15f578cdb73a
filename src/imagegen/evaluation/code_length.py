"""How many bits a model needs to store an image exactly: the same 256-level likelihood for every family."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from imagegen import metrics
from imagegen.evaluation.codes import code_rate
from imagegen.evaluation.entries import Entry, over_images
from imagegen.images import to_float
from imagegen.objectives import bits_per_dim, gaussian_kl
from imagegen.training import seed_of
from imagegen.vae import VAE, reparameterise

BATCH = 100
FITTED_ON = 10_000  # training images, on which the levels' probabilities are counted
Shown = Callable[[Tensor, int], tuple[Tensor, Tensor]]  # (uint8 images, number of the first) -> pixels, nats


def shown_by(model: nn.Module, *priors: nn.Module, seed: int = 0,
             device: torch.device | str = "cpu") -> Shown:  # fmt: skip
    """Return how a model describes uint8 images (B, C, H, W): pixels in [0, 1] from its code, and its nats (B,).

    A VAE: one z ~ q(z | x) an image, at KL(q || p), which it costs on the average in bits-back coding: the bits that
    chose z are given back. A VQ-VAE: the codes of x, under the prior, or evenly spread where there is none. A
    hierarchy: the codes of both levels, under a prior for each.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()
    priors = tuple(prior.to(device).eval() for prior in priors)

    def described(images: Tensor, start: int) -> tuple[Tensor, Tensor]:
        x = to_float(images.to(device))
        if isinstance(model, VAE):
            mean, log_var = model.encode(x)
            generator = torch.Generator(device).manual_seed(seed_of(seed, start))
            code, nats = reparameterise(mean, log_var, generator=generator), gaussian_kl(mean, log_var)
        else:
            code = model.encode(x)
            nats = code_rate(model, priors, code)
        logits = model.decode(*code) if isinstance(code, tuple) else model.decode(code)
        return torch.sigmoid(logits).cpu(), nats.double().cpu()

    return described


@torch.inference_mode()
def measure_code_length(described: Shown, train: Tensor, test: Tensor, *, what: str) -> dict[str, Entry]:
    """Return the code length of uint8 images `test` (N, C, H, W), an upper bound of -log p(x), in bits a dimension.

    p(x | code) gives each pixel's 256 levels the shares in which they occurred in `train` where the decoder showed the
    same value (`metrics.level_table`): a normalised likelihood, on `train` the best that looks at nothing but the value
    shown, to a 256th, and found in the same way for every family. what: the code costs, in words.
    """
    counts = metrics.level_counts()
    for start in range(0, min(len(train), FITTED_ON), BATCH):
        part = train[start : min(start + BATCH, FITTED_ON)]
        counts += metrics.level_counts(described(part, start)[0], part)
    table, rows = metrics.level_table(counts), []
    for start in range(0, len(test), BATCH):
        part = test[start : start + BATCH]
        pixels, nats = described(part, start)
        rows.append((metrics.level_nll(table, pixels, part), nats))
    given, code = (torch.cat(column) for column in zip(*rows, strict=True))
    n, unit = test[0].numel(), "bits/dim"
    how = "256 levels, their shares counted on training images"
    return {
        "code_length": over_images(
            bits_per_dim(given + code, n), unit, f"upper bound of -log2 p(x): {what}, and {how}"
        ),
        "code_length_pixels": over_images(
            bits_per_dim(given, n), unit, f"of which the pixels given the code; {how}"
        ),
    }
