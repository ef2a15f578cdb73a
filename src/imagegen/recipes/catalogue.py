"""The named trainings: data, model, objective, optimiser, budget and seed of each."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from imagegen import data
from imagegen.classifier import ClassifierConfig
from imagegen.decoder import AttributeDecoderConfig
from imagegen.gan import GANConfig
from imagegen.hierarchy import HierarchyConfig
from imagegen.prior import PriorConfig
from imagegen.recipes.adversarial import AdversarialObjective
from imagegen.recipes.code_terms import HierarchyObjective, LevelPriorObjective, PriorObjective, VQObjective
from imagegen.recipes.style import StyleObjective
from imagegen.recipes.terms import (
    AttributeObjective,
    AutoencoderObjective,
    ClassifierObjective,
    Objective,
    VAEObjective,
)
from imagegen.stylegan import StyleGANConfig
from imagegen.vae import VAEConfig
from imagegen.vq import VQVAEConfig

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


AVATAR_ATTRIBUTES = (20, 8, 7, 6, 3, 7, 7, 4, 7, 8)  # how many values each has; data.avatars names them
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "classifier-fashion",
            ClassifierConfig(image_shape=(1, 28, 28), classes=(10,), widths=(32, 96), blocks=2, dropout=0.3),
            ClassifierObjective(flip=True, shift=1),
            n_steps=8_000,
            value=5.0,
            cpu_minutes=15.0,
            gpu_minutes=1.0,
        ),
        Recipe(
            "classifier-avatars",
            ClassifierConfig(image_shape=(3, 64, 64), classes=AVATAR_ATTRIBUTES, widths=(16, 32, 64)),
            ClassifierObjective(),
            data="avatars",
            batch_size=64,
            n_steps=3_000,
            value=4.0,
            cpu_minutes=5.0,
            gpu_minutes=1.0,
        ),
        Recipe(
            "decoder-avatars",
            AttributeDecoderConfig(image_shape=(3, 64, 64), attributes=AVATAR_ATTRIBUTES),
            AttributeObjective(),
            data="avatars",
            batch_size=64,
            n_steps=8_000,
            weight_decay=0.0,
            clip=1000.0,
            value=3.0,
            cpu_minutes=30.0,
            gpu_minutes=3.0,
        ),
        Recipe(
            "autoencoder-fashion",
            VAEConfig(latent_dim=32, dropout=0.1),
            AutoencoderObjective(),
            n_steps=6_000,
            value=1.5,
            cpu_minutes=14.0,
        ),
        Recipe(
            "vae-fashion", VAEConfig(latent_dim=32, dropout=0.1), n_steps=24_000, value=2.0, cpu_minutes=45.0
        ),
        Recipe(
            "vae-fashion-2d",
            VAEConfig(latent_dim=2, width=16, hidden=256, dense_blocks=2, dropout=0.05),
            n_steps=8_000,
            value=1.0,
            cpu_minutes=8.0,
        ),
        Recipe(
            "vqvae-fashion",
            VQVAEConfig(),
            VQObjective(),
            n_steps=6_000,
            lr=2e-3,
            weight_decay=0.0,
            clip=1000.0,
            value=2.6,
            cpu_minutes=11.0,
            gpu_minutes=1.5,
        ),
        Recipe(
            "vqvae-avatars",
            VQVAEConfig(image_shape=(3, 64, 64), widths=(24, 48, 96), hidden=48),
            VQObjective(),
            data="avatars",
            batch_size=64,
            n_steps=5_000,
            lr=2e-3,
            weight_decay=0.0,
            clip=3000.0,
            value=2.5,
            cpu_minutes=20.0,
            gpu_minutes=2.0,
        ),
        Recipe(
            "prior-fashion",
            PriorConfig(grid=(7, 7), attributes=(10,)),
            PriorObjective(tokeniser="vqvae-fashion"),
            n_steps=5_000,
            clip=50.0,
            value=2.4,
            cpu_minutes=32.0,
            gpu_minutes=2.0,
        ),
        Recipe(
            "pixelcnn-fashion",
            PriorConfig(network="pixelcnn", grid=(7, 7), attributes=(10,), width=64),
            PriorObjective(tokeniser="vqvae-fashion"),
            n_steps=3_000,
            clip=50.0,
            value=2.2,
            cpu_minutes=9.0,
            gpu_minutes=2.0,
        ),
        Recipe(
            "prior-avatars",
            PriorConfig(grid=(8, 8), attributes=AVATAR_ATTRIBUTES),
            PriorObjective(tokeniser="vqvae-avatars"),
            data="avatars",
            batch_size=64,
            n_steps=4_000,
            clip=50.0,
            value=2.3,
            cpu_minutes=17.0,
            gpu_minutes=2.0,
        ),
        Recipe(
            "hierarchy-avatars",
            HierarchyConfig(codes=(16, 512)),
            HierarchyObjective(),
            data="avatars",
            batch_size=64,
            n_steps=3_500,
            lr=2e-3,
            weight_decay=0.0,
            clip=3000.0,
            value=2.15,
            cpu_minutes=10.0,
            gpu_minutes=2.0,
        ),
        Recipe(
            "hierarchy-avatars-top",
            PriorConfig(codes=16, grid=(4, 4), attributes=AVATAR_ATTRIBUTES, width=96),
            LevelPriorObjective(level="top"),
            data="avatars",
            batch_size=64,
            n_steps=3_000,
            clip=50.0,
            value=2.1,
            cpu_minutes=4.0,
            gpu_minutes=1.0,
        ),
        Recipe(
            "hierarchy-avatars-bottom",
            PriorConfig(
                grid=(8, 8), attributes=AVATAR_ATTRIBUTES, width=96, context_codes=16, context_grid=(4, 4)
            ),
            LevelPriorObjective(level="bottom"),
            data="avatars",
            batch_size=64,
            n_steps=3_000,
            clip=50.0,
            value=2.05,
            cpu_minutes=12.0,
            gpu_minutes=2.0,
        ),
        Recipe(
            "dcgan-fashion",
            GANConfig(normalise_critic="batch"),
            AdversarialObjective(),
            batch_size=64,
            n_steps=16_000,
            lr=1e-3,
            betas=(0.5, 0.99),
            weight_decay=0.0,
            clip=1000.0,
            value=2.04,
            cpu_minutes=27.0,
            gpu_minutes=4.0,
        ),
        Recipe(
            "dcgan-avatars",
            GANConfig(
                image_shape=(3, 64, 64), width=24, critic_width=24, max_width=128, normalise_critic="batch"
            ),
            AdversarialObjective(noise=0.3),
            data="avatars",
            batch_size=64,
            n_steps=6_000,
            lr=7e-4,
            betas=(0.5, 0.99),
            weight_decay=0.0,
            clip=1000.0,
            value=2.03,
            cpu_minutes=32.0,
            gpu_minutes=3.0,
        ),
        Recipe(
            "stylegan-avatars",
            StyleGANConfig(image_shape=(3, 64, 64), latent_dim=64, width=12, critic_width=12, max_width=96),
            StyleObjective(path_every=8, weight=1.0),
            data="avatars",
            batch_size=16,
            n_steps=20_000,
            lr=1e-2,
            betas=(0.0, 0.99),
            weight_decay=0.0,
            clip=1000.0,
            ema=0.998,
            value=2.02,
            cpu_minutes=95.0,
            gpu_minutes=8.0,
        ),
    )
}
