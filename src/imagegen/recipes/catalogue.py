"""The named trainings that there are."""

import dataclasses
from collections.abc import Iterator

from imagegen.classifier import ClassifierConfig
from imagegen.decoder import AttributeDecoderConfig
from imagegen.degrade import Degradation, Mixture
from imagegen.gan import GANConfig
from imagegen.hierarchy import HierarchyConfig
from imagegen.pair import PairConfig
from imagegen.prior import PriorConfig
from imagegen.recipes.adversarial import AdversarialObjective
from imagegen.recipes.code_terms import HierarchyObjective, LevelPriorObjective, PriorObjective, VQObjective
from imagegen.recipes.pair import PairObjective
from imagegen.recipes.recipe import Recipe
from imagegen.recipes.restoration import RestorationObjective
from imagegen.recipes.style import StyleObjective
from imagegen.recipes.terms import AttributeObjective, AutoencoderObjective, ClassifierObjective
from imagegen.restore import RestorerConfig
from imagegen.stylegan import StyleGANConfig
from imagegen.vae import VAEConfig
from imagegen.vq import VQVAEConfig

AVATAR_ATTRIBUTES = (20, 8, 7, 6, 3, 7, 7, 4, 7, 8)  # how many values each has; data.avatars names them
TOLD = {"mask": True, "noise": True}  # denoising and inpainting by one network
GAME = {"feature": 0.1, "adversarial": 0.1, "weight": 1.0, "penalty_every": 4}  # beside the squared error


def _restorers(subject: str, data: str, image_shape: tuple[int, int, int], *, width: int, levels: int,
               minutes: float) -> Iterator[Recipe]:  # fmt: skip
    """Yield a subject's restorers: one of all masks and noises and one that enlarges, each also sharpened by a critic.

    width, levels: of the first. minutes: what it takes on a CPU.
    """
    whole = RestorerConfig(image_shape=image_shape, width=width, levels=levels, places=True, **TOLD)
    tasks = {
        "restore": (whole, Mixture(), 20_000),
        "super": (RestorerConfig(image_shape=image_shape, width=12, factor=4), Degradation(factor=4), 8_000),
    }
    same = {"data": data, "batch_size": 16, "weight_decay": 0.0, "clip": 1.0}
    for task, (model, degradation, n_steps) in tasks.items():
        share = n_steps / 20_000
        name = f"{task}-{subject}"
        yield Recipe(
            name,
            model,
            RestorationObjective(degradation),
            n_steps=n_steps,
            lr=3e-3,
            value=0.9 * share,
            cpu_minutes=minutes * share,
            gpu_minutes=5.0,
            **same,
        )
        yield Recipe(
            f"{name}-adversarial",
            dataclasses.replace(model, critic_width=24),
            RestorationObjective(degradation, judge=f"classifier-{subject}", start=name, **GAME),
            n_steps=2 * n_steps // 5,
            lr=1e-3,
            betas=(0.5, 0.99),
            value=0.6 * share,
            cpu_minutes=minutes * share * 0.7,
            gpu_minutes=5.0,
            **same,
        )


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
            AttributeDecoderConfig(image_shape=(3, 64, 64), attributes=AVATAR_ATTRIBUTES, hidden=160),
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
            VAEConfig(latent_dim=32, hidden=256, dropout=0.1),
            AutoencoderObjective(),
            n_steps=6_000,
            value=1.5,
            cpu_minutes=14.0,
        ),
        Recipe(
            "vae-fashion",
            VAEConfig(latent_dim=32, hidden=256, dropout=0.1),
            n_steps=18_000,
            value=2.0,
            cpu_minutes=25.0,
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
        *_restorers("fashion", "fashion-mnist", (1, 28, 28), width=16, levels=2, minutes=12.0),
        *_restorers("avatars", "avatars", (3, 64, 64), width=10, levels=3, minutes=40.0),
        Recipe(
            "pair-fashion",
            PairConfig(GANConfig(width=24, critic_width=24), RestorerConfig(width=16, places=True, **TOLD)),
            PairObjective(adversarial=0.01, weight=1.0, penalty_every=4),
            batch_size=32,
            n_steps=12_000,
            lr=5e-4,
            betas=(0.5, 0.99),
            weight_decay=0.0,
            clip=10.0,
            value=0.3,
            cpu_minutes=45.0,
            gpu_minutes=5.0,
        ),
    )
}
