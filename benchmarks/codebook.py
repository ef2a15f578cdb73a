"""Does the codebook survive its defaults? Trainings of two epochs on Fashion-MNIST, counted on its test images.

A small VQ-VAE with 5 seeds, two scales of the encoder's output a hundred apart, and codebooks of 64, 512 and 1024
vectors: how many of the codes are in use. Then the VQ-VAE of the book, with its default config: squared error and use.
Everything about the quantiser is as its defaults have it. One thread, 32 bits.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.record import Claim, make
from imagegen.data import Batches, fashion_mnist
from imagegen.images import to_float, to_unit
from imagegen.metrics import code_counts, codes_used, mse, perplexity
from imagegen.recipes.code_terms import vq_terms
from imagegen.training import learning_rate, run
from imagegen.vq import VQVAE, VQVAEConfig

LEAST_USE = 0.95  # of the codes
LARGEST_MSE = 0.0087  # on [0, 1]


@dataclass(frozen=True)
class Setting:
    """scales: factors on the last layer of the encoder. small, whole: the networks of both parts."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    scales: tuple[float, ...] = (0.1, 10.0)
    codes: tuple[int, ...] = (64, 512, 1024)
    small: VQVAEConfig = VQVAEConfig(widths=(16, 32), blocks=1, hidden=32)
    whole: VQVAEConfig = VQVAEConfig()
    epochs: int = 2
    batch_size: int = 128
    lr: float = 2e-3
    lr_warmup: int = 50
    lr_final: float = 0.02
    clip: float = 1000.0
    n_train: int = 60_000
    n_test: int = 10_000


QUICK = Setting(
    seeds=(0,), codes=(8, 16), small=VQVAEConfig(widths=(4, 4), blocks=0, code_dim=4),
    whole=VQVAEConfig(codes=16, widths=(4, 4), blocks=1, hidden=4, code_dim=4),
    epochs=1, batch_size=32, n_train=128, n_test=32,
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Of a trained model on the test images: squared error on [0, 1], codes in use of all, their perplexity."""

    mse: float
    used: int
    codes: int
    perplexity: float

    @property
    def share(self) -> float:
        return self.used / self.codes


def train(config: VQVAEConfig, images: Tensor, setting: Setting, *, seed: int, scale: float = 1.0) -> VQVAE:
    """Return a VQ-VAE trained on uint8 images, the last layer of its encoder multiplied by `scale` at the start."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = VQVAE(config).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for parameter in model.encoder[-1].parameters():
            parameter.mul_(scale)
    adam = torch.optim.AdamW(
        model.parameters(), lr=setting.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True
    )
    batches = Batches(images, batch_size=setting.batch_size, seed=seed)
    n_steps = setting.epochs * batches.steps_per_epoch

    def step(index: int) -> dict[str, Tensor]:
        for group in adam.param_groups:
            group["lr"] = learning_rate(
                index, n_steps, peak=setting.lr, warmup=setting.lr_warmup, final=setting.lr_final
            )
        x = batches.at(index).x.contiguous(memory_format=torch.channels_last)
        terms = {name: value.mean() for name, value in vq_terms(model, x, generator=generator).items()}
        adam.zero_grad(set_to_none=True)
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), setting.clip)
        adam.step()
        return terms

    run(step, range(n_steps), n_steps, log_every=n_steps, progress=False)
    return model


@torch.inference_mode()
def outcome(model: VQVAE, images: Tensor) -> Outcome:
    """Return how well the codes of uint8 images stand for them, and how many of the codes they use."""
    model.eval()
    error, counts, codes = 0.0, 0, model.config.codes
    for part in images.split(500):
        x = to_float(part)
        indices = model.encode(x)
        error += mse(torch.sigmoid(model.decode(indices)), to_unit(x)).sum().item()
        counts = counts + code_counts(indices, codes)
    return Outcome(error / len(images), codes_used(counts), codes, perplexity(counts))


def measure(
    *, quick: bool = False, setting: Setting | None = None, say: Callable[[str], None] = print
) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing."""
    began = time.time()
    setting = setting or (QUICK if quick else Setting())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        images = fashion_mnist("train").images[: setting.n_train]
        test = fashion_mnist("test").images[: setting.n_test]
        whole = outcome(train(setting.whole, images, setting, seed=0), test)
        say(f"  {whole.used} of {whole.codes} codes in use, squared error {whole.mse:.4f}")
        found: dict[tuple[int, float], list[Outcome]] = {}
        for codes in setting.codes:
            for scale in setting.scales:
                for seed in setting.seeds:
                    config = dataclasses.replace(setting.small, codes=codes)
                    one = outcome(train(config, images, setting, seed=seed, scale=scale), test)
                    found.setdefault((codes, scale), []).append(one)
                    say(f"  K {codes}, scale {scale:g}, seed {seed}: {one.used} in use, perplexity "
                        f"{one.perplexity:.0f}, squared error {one.mse:.4f}")  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    record = make("bench-codebook", seconds=time.time() - began, metrics=described(whole, found, setting))
    return record | {
        "setting": dataclasses.asdict(setting),
        "claims": [claim.as_dict() for claim in claimed(whole, found)],
    }


def claimed(whole: Outcome, found: dict[tuple[int, float], list[Outcome]]) -> list[Claim]:
    """Return the claims: on the use over all settings and seeds, and on the default model."""
    least = min(one.share for outcomes in found.values() for one in outcomes)
    return [
        Claim("largest share of codes not in use, over seeds, scales and sizes", 1 - least, 1 - LEAST_USE),
        Claim(f"squared error of the default model, K {whole.codes}", whole.mse, LARGEST_MSE),
        Claim(f"codes of the default model not in use, of {whole.codes}", whole.codes - whole.used, 0),
    ]


def described(
    whole: Outcome, found: dict[tuple[int, float], list[Outcome]], setting: Setting
) -> dict[str, dict]:
    """Return the metrics: of the default model, and of each size and scale over its seeds."""
    n = setting.n_test
    default = f"default config, {setting.epochs} epochs, seed 0"
    metrics = {
        "mse": {"value": whole.mse, "unit": "squared error on [0, 1]", "detail": default, "n": n},
        "codes_used": {
            "value": whole.used,
            "unit": "codes",
            "detail": f"of {whole.codes}; {default}",
            "n": n,
        },
        "perplexity": {
            "value": whole.perplexity,
            "unit": "codes",
            "detail": f"of {whole.codes}; {default}",
            "n": n,
        },
    }
    for (codes, scale), outcomes in found.items():
        name = f"k{codes}_scale{scale:g}".replace(".", "p")
        detail = (
            f"K {codes}, encoder's output times {scale:g}, {len(outcomes)} seeds, {setting.epochs} epochs"
        )
        values = {
            "least_share_used": (min(one.share for one in outcomes), "of the codes", "least"),
            "mean_perplexity": (sum(one.perplexity for one in outcomes) / len(outcomes), "codes", "mean"),
            "mean_mse": (sum(one.mse for one in outcomes) / len(outcomes), "squared error on [0, 1]", "mean"),
        }
        for key, (value, unit, kind) in values.items():
            metrics[f"{name}_{key}"] = {"value": value, "unit": unit, "detail": f"{kind} of {detail}", "n": n}
    return metrics
