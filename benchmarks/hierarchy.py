"""Two levels of codes with and without withholding the bottom one in training, and a single level of the same size.

Avatars at 32x32. The two levels are 4x4 codes of 16 and 8x8 codes of 512, the single level 8x8 codes of 1,024: 640 bits
an image each. All are trained for equally many steps, on the same batches a seed, with the loss of the recipes; only
the share of images whose decoder is not told the bottom level differs. Measured on test images: the squared error told
both levels, told the top alone, and with the codes of one level taken from another image.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from benchmarks.record import Claim, make
from imagegen import metrics
from imagegen.data import Batches, avatars
from imagegen.evaluation.entries import SQUARED, Entry, over_seeds
from imagegen.hierarchy import HierarchicalVQVAE, HierarchyConfig
from imagegen.images import to_float, to_unit
from imagegen.recipes import HierarchyObjective, Objective, VQObjective
from imagegen.training import EMA, learning_rate, run
from imagegen.vq import VQVAE, VQVAEConfig

HALF = 0.5  # withholding must at least halve the error of the picture that the top alone gives


@dataclass(frozen=True)
class Setting:
    """What is trained, how long, and on how much of the data. shares: of images whose bottom level is withheld."""

    size: int = 32
    widths: tuple[int, ...] = (16, 32)
    hidden: int = 32
    code_dim: int = 32
    codes: tuple[int, int] = (16, 512)
    single_codes: int = 1024
    shares: tuple[float, ...] = (0.0, 0.25, 0.5)
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 32
    n_steps: int = 1000
    lr: float = 2e-3
    clip: float = 1000.0
    ema: float = 0.99
    n_train: int = 15_000
    n_test: int = 2_000


QUICK = Setting(
    size=16, widths=(4,), hidden=4, code_dim=4, codes=(4, 16), single_codes=32, shares=(0.0, 0.25),
    seeds=(0, 1), batch_size=16, n_steps=4, n_train=64, n_test=32,
)  # fmt: skip


def trained(model: nn.Module, objective: Objective, images: Tensor, setting: Setting, seed: int) -> nn.Module:
    """Return the average of the model's weights over its last steps, in evaluation mode."""
    average = EMA(model, setting.ema)
    adam = torch.optim.AdamW(model.parameters(), lr=setting.lr, betas=(0.9, 0.99), weight_decay=0.0)
    batches = Batches(images, batch_size=setting.batch_size, seed=seed)
    generator, n = torch.Generator().manual_seed(seed), setting.n_steps

    def step(numbered: tuple[int, object]) -> dict[str, Tensor]:
        index, batch = numbered
        loss = objective.terms(model, batch, step=index, n_steps=n, generator=generator)["loss"].mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), setting.clip)
        for group in adam.param_groups:
            group["lr"] = learning_rate(index, n, peak=setting.lr, warmup=min(100, n // 2), final=0.02)
        adam.step()
        average.update(model)
        return {"loss": loss}

    run(step, enumerate(batches), n, log_every=n, progress=False)
    return average.module.eval()


@torch.inference_mode()
def examined(model: nn.Module, target: Tensor) -> dict[str, float]:
    """Return the measures of a model on images `target` (N, C, H, W) in [0, 1]. "Another image" is the next one."""
    codes = model.encode(2 * target - 1)

    def error(*given: Tensor | None) -> float:
        return metrics.mse(torch.sigmoid(model.decode(*given)), target).mean().item()

    if isinstance(model, VQVAE):
        counts = metrics.code_counts(codes, model.config.codes)
        return {"mse": error(codes), "codes_used": float(metrics.codes_used(counts))}
    top, bottom = codes
    found = {
        "mse": error(top, bottom),
        "mse_top_alone": error(top),
        "mse_other_top": error(top.roll(1, 0), bottom),
        "mse_other_bottom": error(top, bottom.roll(1, 0)),
    }
    for level, indices, size in zip(("top", "bottom"), codes, model.config.codes, strict=True):
        counts = metrics.code_counts(indices, size)
        found[f"codes_used_{level}"] = float(metrics.codes_used(counts))
        found[f"perplexity_{level}"] = metrics.perplexity(counts)
    return found


WORDS = {
    "mse": "decoded from all codes",
    "mse_top_alone": "decoded from the top codes alone",
    "mse_other_top": "the top codes of another image, the bottom held",
    "mse_other_bottom": "the bottom codes of another image, the top held",
    "codes_used": "codes in use over the test images",
    "codes_used_top": "codes in use over the test images",
    "codes_used_bottom": "codes in use over the test images",
    "perplexity_top": "over the test images",
    "perplexity_bottom": "over the test images",
}


def measure(*, quick: bool = False, say: Callable[[str], None] = print) -> dict:
    """Return the record of the benchmark, with its claims; `quick` runs all of it at a size that shows nothing."""
    began, threads = time.time(), torch.get_num_threads()
    setting = QUICK if quick else Setting()
    torch.set_num_threads(1)
    try:
        found = ablation(setting, say)
    finally:
        torch.set_num_threads(threads)
    found_metrics, claims = summary(found, setting)
    record = make("bench-hierarchy", seconds=time.time() - began, metrics=found_metrics)
    return record | {"setting": asdict(setting), "claims": [claim.as_dict() for claim in claims]}


def ablation(setting: Setting, say: Callable[[str], None]) -> dict[str, list[dict[str, float]]]:
    """Return the measures of each variant, one dictionary a seed, and those of the mean training image."""
    train = avatars("train", size=setting.size).images[: setting.n_train]
    target = to_unit(to_float(avatars("test", size=setting.size).images[: setting.n_test]))
    shape, common = tuple(train.shape[1:]), {"code_dim": setting.code_dim, "widths": setting.widths}
    common |= {"hidden": setting.hidden, "image_shape": shape}
    variants: dict[str, tuple[Callable[[], nn.Module], Objective]] = {
        f"withheld_{share:g}": (
            lambda: HierarchicalVQVAE(HierarchyConfig(codes=setting.codes, **common)),
            HierarchyObjective(withhold=share),
        )
        for share in setting.shares
    }
    variants["single"] = (lambda: VQVAE(VQVAEConfig(codes=setting.single_codes, **common)), VQObjective())
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for seed in setting.seeds:
        for name, (build, objective) in variants.items():
            torch.manual_seed(seed)
            found[name].append(examined(trained(build(), objective, train, setting, seed), target))
            say(f"  seed {seed} {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in found[name][-1].items()))
    mean_image = train.double().mean(0) / 255
    found["mean_image"] = [{"mse": (target - mean_image).square().mean().item()}]
    return found


def summary(found: dict[str, list[dict[str, float]]], setting: Setting
            ) -> tuple[dict[str, Entry], list[Claim]]:  # fmt: skip
    """Return the metrics, means over seeds, and the claims: what holds for the worst of the seeds."""
    entries: dict[str, Entry] = {
        "mean_image_mse": {
            "value": found["mean_image"][0]["mse"], "unit": SQUARED, "n": setting.n_test,
            "detail": "the mean training image, whatever the test image",
        },
    }  # fmt: skip
    for name, levels in bits(setting).items():
        entries[f"bits_{name}"] = {
            "value": sum(levels), "unit": "bits/image", "n": setting.n_test,
            "detail": " + ".join(f"{level:g}" for level in levels) + ", without a prior",
        }  # fmt: skip
    for name, rows in found.items():
        if name == "mean_image":
            continue
        how = "a single level" if name == "single" else f"bottom withheld from {name[9:]} of the images"
        for measure in rows[0]:
            unit = SQUARED if measure.startswith("mse") else "codes"
            values = [row[measure] for row in rows]
            entries[f"{name}_{measure}"] = over_seeds(
                values, unit, setting.n_test, f"{how}; {WORDS[measure]}; mean and standard deviation over seeds"
            )  # fmt: skip
    never = [row["mse_top_alone"] for row in found["withheld_0"]]
    claims = []
    for share in setting.shares[1:]:
        ratios = [
            row["mse_top_alone"] / other
            for row, other in zip(found[f"withheld_{share:g}"], never, strict=True)
        ]
        claims.append(Claim(
            f"error told the top alone, bottom withheld from {share:g} of the images, against never; worst seed",
            max(ratios), HALF,
        ))  # fmt: skip
    return entries, claims


def bits(setting: Setting) -> dict[str, list[float]]:
    """Return the bits an image of each level: of the two levels, top first, and of the single one."""
    shape = (3, setting.size, setting.size)
    places = [math.prod(grid) for grid in HierarchyConfig(image_shape=shape, widths=setting.widths).grids]
    two = [n * math.log2(size) for n, size in zip(places, setting.codes, strict=True)]
    return {"two": two, "single": [places[1] * math.log2(setting.single_codes)]}
