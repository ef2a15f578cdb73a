"""A StyleGAN small enough for a test, and what tests of it share."""

import torch
from torch import Tensor, nn

from imagegen.stylegan import StyleGAN, StyleGANConfig

EXACT = {"rtol": 1e-10, "atol": 1e-10}
SMALL = {"latent_dim": 6, "width": 4, "critic_width": 5, "max_width": 12, "mapping_depth": 2}
OUTPUTS = ["skip", "residual"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def made(side: int = 16, **settings) -> StyleGAN:
    """Return a pair in training, in float64, with noise that shows and biases that are not 0."""
    torch.manual_seed(7)
    model = StyleGAN(StyleGANConfig((3, side, side), **SMALL | settings)).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("strength", "bias")):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def recorded(*modules: nn.Module) -> list[list[tuple]]:
    """Return one list for each module, to which every later call adds its inputs and its output."""
    lists: list[list[tuple]] = [[] for _ in modules]
    for module, calls in zip(modules, lists):
        module.register_forward_hook(lambda _, given, found, calls=calls: calls.append((*given, found)))
    return lists
