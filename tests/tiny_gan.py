"""A GAN's training of some milliseconds a step, on made-up images: `python tests/tiny_gan.py train tiny-gan ...`."""

import sys
from pathlib import Path

if (
    __name__ != "tiny_gan"
):  # run as a script: lightning_fabric would import torchmetrics, two thirds of the start
    sys.modules["torchmetrics"] = None

import tiny_recipe
import torch

from imagegen import cli, data, recipes
from imagegen.gan import GANConfig
from imagegen.training import EMA

N_STEPS = 100


def images(split: str) -> data.ImageSet:
    """Return those of `tiny_recipe` at 16 x 16, where a discriminator has two grids."""
    small = tiny_recipe.images(split)
    return small._replace(images=small.images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


CONFIG = GANConfig("dcgan", (1, 16, 16), latent_dim=3, width=8, critic_width=8, normalise_critic="spectral")
TINY_GAN = recipes.Recipe(
    "tiny-gan",
    CONFIG,
    recipes.AdversarialObjective(
        penalty="r1", weight=1.0, penalty_every=3, critic_steps=2, critic_lr=2.0, noise=0.1
    ),
    data="tiny-gan",
    batch_size=8,
    n_steps=N_STEPS,
    quick_steps=4,
    lr=2e-3,
    lr_warmup=0,
    betas=(0.5, 0.99),
    weight_decay=0.0,
    ema=0.9,
    seed=3,
)
recipes.DATA["tiny-gan"] = images
recipes.RECIPES["tiny-gan"] = TINY_GAN


def set_up(recipe, n_steps, fabric):
    """Return model, average and step of a recipe, as `recipes.train` sets them up."""
    torch.manual_seed(recipe.seed)
    bare = recipe.build()
    ema = EMA(bare, recipe.ema)
    parts, step = recipes.set_up(recipe, n_steps, bare, ema, fabric)
    return bare, ema, parts, step


def save_steps(fabric, asked: dict, n_steps: int, path: Path) -> None:
    """Take n_steps of each recipe in each of the processes.

    Write their weights, averages and shares of the batches, and both players' gradients of the first step.
    """
    kept = {}
    for name, recipe in asked.items():
        bare, ema, _, step = set_up(recipe, n_steps, fabric)
        share = {"rank": fabric.global_rank, "world_size": fabric.world_size}
        batches = data.Batches(
            images("train").images, batch_size=recipe.batch_size, seed=recipe.seed, **share
        )
        for index in range(n_steps):
            step((index, batches.at(index)))
            if index == 0:
                gradients = [None if p.grad is None else p.grad.clone() for p in bare.parameters()]
        kept[name] = {
            "gradients": gradients,
            "weights": dict(bare.named_parameters()),
            "average": dict(ema.module.named_parameters()),
            "batches": torch.stack([batches.at(index).x for index in range(n_steps)]),
        }
    torch.save(kept, path / f"{fabric.global_rank}.pt")


if __name__ == "__main__":
    if "--out" not in sys.argv:
        sys.exit("give --out: these weights do not belong into the package")
    sys.exit(cli.main())
