"""What a named training is: its data, model, objective, optimiser, budget and seed."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imagegen import data
from imagegen.classifier import ClassifierConfig
from imagegen.decoder import AttributeDecoderConfig
from imagegen.gan import GANConfig
from imagegen.hierarchy import HierarchyConfig
from imagegen.pair import PairConfig
from imagegen.prior import PriorConfig
from imagegen.recipes.terms import Objective, VAEObjective
from imagegen.restore import RestorerConfig
from imagegen.stylegan import StyleGANConfig
from imagegen.training import EMA, learning_rate, seed_of
from imagegen.vae import VAEConfig
from imagegen.vq import VQVAEConfig

Step = Callable[
    [tuple[int, data.Batch]], dict[str, Tensor]
]  # (index, batch) -> scalar terms, after its updates
DATA: dict[str, Callable[[str], data.ImageSet | data.AvatarSet]] = {
    "fashion-mnist": data.fashion_mnist,
    "avatars": data.avatars,
}


@dataclass(frozen=True)
class Recipe:
    """One named training. The fields up to `seed` shape the weights: a card must match them.

    precision: used on a GPU; a CPU trains in 32 bits. value: order of `--stale`, the largest first.
    cpu_minutes, gpu_minutes: what a full run takes, roughly, for `--stale --minutes`.
    Raises: ValueError: a number that no training can use.
    """

    name: str
    model: (
        VAEConfig
        | ClassifierConfig
        | AttributeDecoderConfig
        | VQVAEConfig
        | HierarchyConfig
        | PriorConfig
        | GANConfig
        | StyleGANConfig
        | RestorerConfig
        | PairConfig
    )
    objective: Objective = VAEObjective()
    data: str = "fashion-mnist"
    batch_size: int = 128
    n_steps: int = 20_000
    lr: float = 1.5e-3
    lr_warmup: int = 200
    lr_final: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.05
    clip: float = 100.0
    ema: float = 0.999
    seed: int = 0
    quick_steps: int = 60
    precision: str = "bf16-mixed"
    value: float = 1.0
    cpu_minutes: float = 60.0
    gpu_minutes: float = 5.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "n_steps", "quick_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("lr", "clip", "cpu_minutes", "gpu_minutes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0")
        for name in ("lr_warmup", "lr_final", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")

    def build(self) -> nn.Module:
        """Return the untrained network; its weights come from torch's global random state."""
        return self.objective.network(self.model)

    def config(self) -> dict[str, Any]:
        """Return what shapes the weights, as JSON holds it: what a card and a checkpoint must match."""
        aside = ("value", "cpu_minutes", "gpu_minutes", "quick_steps", "precision")
        shaping = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in aside}
        plain = {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in shaping.items()}
        return json.loads(json.dumps(plain))

    def config_hash(self) -> str:
        """Return 16 hexadecimal digits that change with any field of `config()`."""
        return hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode()).hexdigest()[:16]


def recipe_step(recipe: Recipe, n_steps: int, model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA,
                fabric: Any, **more: nn.Module) -> Step:  # fmt: skip
    """Return a recipe's step: (index, batch) -> scalar terms, after an update of model and average. more: for terms."""
    bare = getattr(model, "module", model)
    generator = torch.Generator(fabric.device)

    def step(numbered: tuple[int, data.Batch]) -> dict[str, Tensor]:
        index, batch = numbered
        generator.manual_seed(seed_of(recipe.seed, index, fabric.global_rank))
        torch.manual_seed(seed_of(recipe.seed, index, fabric.global_rank, 1))  # for dropout: another stream
        terms = recipe.objective.terms(model, batch, step=index, n_steps=n_steps, generator=generator, **more)
        means = {name: value.mean() for name, value in terms.items()}
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(means["loss"])
        norm = fabric.clip_gradients(model, optimizer, max_norm=recipe.clip, error_if_nonfinite=False)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(
                index, n_steps, peak=recipe.lr, warmup=recipe.lr_warmup, final=recipe.lr_final
            )  # fmt: skip
        optimizer.step()
        ema.update(bare)
        return means | {"gradient_norm": norm}

    return step
