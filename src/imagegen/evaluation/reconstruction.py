"""How well models with a latent code describe given images: likelihood, reconstruction, and the codes' spread."""

import torch
from torch import Tensor, nn
from tqdm import tqdm

from imagegen import metrics
from imagegen.evaluation.entries import SQUARED, Entry, over_images
from imagegen.images import to_float, to_unit
from imagegen.objectives import bernoulli_nll, bits_per_dim, gaussian_kl, log_importance_weight
from imagegen.training import seed_of

BATCH = 100  # images measured together; the draws are seeded by batch, so this is part of what a seed means
NATS = "nats/image"
GREY = "Bernoulli on grey pixels: a cross-entropy, whose floor is not 0"


@torch.inference_mode()
def measure_vae(model: nn.Module, images: Tensor, *, n_samples: int = 100, seed: int = 0,
                progress: bool = False, device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return the metrics of a VAE with a Bernoulli likelihood on uint8 images (N, C, H, W), N >= 2.

    Each is a dict: value, unit, n, detail and, for means over images, stderr. One set of draws of z serves
    all: the distortion is their mean, and the NLL weighs them by importance.
    """
    model = model.to(
        device, memory_format=torch.channels_last
    ).eval()  # channels last: a fifth faster on a CPU
    columns: dict[str, list[Tensor]] = {name: [] for name in ("distortion", "rate", "nll", "mse", "means")}
    silent = not progress
    for start in tqdm(range(0, len(images), BATCH), disable=silent, unit="batch", desc="evaluate"):
        x = to_float(images[start : start + BATCH].to(device))
        generator = torch.Generator(device).manual_seed(seed_of(seed, start))
        target = to_unit(x)
        mean, log_var = model.encode(x)
        distortion = torch.zeros(len(x), device=device)

        def log_weight(x: Tensor, k: int, *, mean=mean, log_var=log_var, target=target, sum_=distortion,
                       generator=generator) -> Tensor:  # fmt: skip
            eps = torch.randn(k, *mean.shape, generator=generator, device=mean.device)
            z = mean + torch.exp(0.5 * log_var) * eps  # (k, B, D)
            logits = model.decode(z.flatten(0, 1))
            nll = bernoulli_nll(logits, target.repeat(k, 1, 1, 1)).reshape(k, -1)
            sum_ += nll.sum(0)
            return log_importance_weight(nll, z, mean, log_var)

        nll = metrics.importance_weighted_nll(log_weight, x, n_samples=n_samples, chunk=5)
        shown = torch.sigmoid(model.decode(mean))
        found = (distortion / n_samples, gaussian_kl(mean, log_var), nll, metrics.mse(shown, target), mean)
        for column, values in zip(columns.values(), found, strict=True):
            column.append(values.double().cpu())
    whole = {name: torch.cat(parts) for name, parts in columns.items()}
    active = metrics.active_units(whole["means"])
    drawn = f"{n_samples} draws of z an image"
    bits = "the NLL in other units; no code length, for grey pixels under a Bernoulli are no 256-level code"
    return {
        "negative_elbo": over_images(whole["distortion"] + whole["rate"], NATS, f"{drawn}; {GREY}"),
        "nll": over_images(whole["nll"], NATS, f"importance weighted, {n_samples} samples; {GREY}"),
        "distortion": over_images(whole["distortion"], NATS, f"-log p(x | z), {drawn}"),
        "rate": over_images(whole["rate"], NATS, "KL(q(z | x) || p(z)), closed form"),
        "active_units": {"value": int(active.sum()), "unit": "latents", "n": len(images),
                         "detail": f"of {len(active)}: posterior means vary by more than 0.01"},
        "mse": over_images(whole["mse"], SQUARED, "decoded from the posterior mean"),
        "bits_per_dim": over_images(bits_per_dim(whole["nll"], images[0].numel()), "bits/dim", bits),
    }  # fmt: skip


@torch.inference_mode()
def measure_autoencoder(model: nn.Module, images: Tensor, *,
                        device: torch.device | str = "cpu") -> dict[str, Entry]:  # fmt: skip
    """Return the metrics of an autoencoder with a Bernoulli likelihood on uint8 images (N, C, H, W), N >= 2."""
    model = model.to(device, memory_format=torch.channels_last).eval()
    rows = []
    for part in images.split(BATCH):
        target = to_unit(x := to_float(part.to(device)))
        z = model.encode(x)
        shown = torch.sigmoid(logits := model.decode(z))
        found = (
            bernoulli_nll(logits, target),
            metrics.mse(shown, target),
            metrics.psnr(shown, target, span=1.0),
        )
        rows.append(tuple(column.double().cpu() for column in (*found, z)))
    distortion, error, ratio, codes = (torch.cat(column) for column in zip(*rows, strict=True))
    return {
        "distortion": over_images(distortion, NATS, f"-log p(x | z) at the code of x; {GREY}"),
        "mse": over_images(error, SQUARED, "decoded from the code of x"),
        "psnr": over_images(ratio, "dB", "decoded from the code of x; mean over images"),
        "code_std": {"value": codes.var(0).mean().sqrt().item(), "unit": "a latent", "n": len(images),
                     "detail": f"root of the mean variance of {codes.shape[1]} latents; N(0, I) has 1"},
    }  # fmt: skip
