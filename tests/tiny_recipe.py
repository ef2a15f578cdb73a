"""A training of a few milliseconds a step, on made-up images: `python tests/tiny_recipe.py train tiny ...`."""

import sys
from pathlib import Path

import torch

if (
    __name__ != "tiny_recipe"
):  # run as a script: lightning_fabric would import torchmetrics, two thirds of the start
    sys.modules["torchmetrics"] = None

from imagegen import cli, data, recipes
from imagegen.training import seed_of
from imagegen.vae import VAE, VAEConfig

N_STEPS = 600


def images(split: str) -> data.ImageSet:
    """Return 64 images whose left and right halves are dark or bright; the test split is another draw."""
    generator = torch.Generator().manual_seed(int(split == "test"))
    bright = torch.randint(2, (64, 1, 1, 2), generator=generator)
    pixels = (20 + 215 * bright).to(torch.uint8).repeat_interleave(4, dim=3).expand(-1, -1, 8, -1)
    return data.ImageSet(pixels.contiguous(), bright.sum(dim=(1, 2, 3)), ("dark", "half", "bright"))


TINY = recipes.Recipe(
    "tiny",
    VAEConfig(image_shape=(1, 8, 8), latent_dim=2, network="mlp", hidden=16, dropout=0.2),
    recipes.VAEObjective(kl_warmup=20, free_bits=0.01),
    data="tiny",
    batch_size=8,
    n_steps=N_STEPS,
    quick_steps=4,
    seed=3,
)
recipes.DATA["tiny"] = images
recipes.RECIPES["tiny"] = TINY


def save_gradients(fabric, path: Path) -> None:
    """Write the gradients that this process holds after one backward through the recipe's terms."""
    torch.manual_seed(0)
    model = VAE(TINY.model).eval()  # without dropout, whose masks a single process could not repeat
    model, _ = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    share = {"rank": fabric.global_rank, "world_size": fabric.world_size}
    batch = data.Batches(images("train").images, batch_size=8, seed=1, **share).at(0)
    noise = torch.Generator().manual_seed(seed_of(1, 0, fabric.global_rank))
    fabric.backward(recipes.vae_terms(model, batch.x, generator=noise)["loss"].mean())
    torch.save({n: p.grad for n, p in model.module.named_parameters()}, path / f"{fabric.global_rank}.pt")


if __name__ == "__main__":
    if "--out" not in sys.argv:
        sys.exit("give --out: these weights do not belong into the package")
    sys.exit(cli.main())
