"""StyleGAN2 at 32 and 64 pixels: `operators` holds what its layers compute, `networks` both players.

`projection` looks for the styles of a given image.
"""

from imagegen.stylegan.networks import (
    Discriminator,
    Generator,
    Mapping,
    StyleGAN,
    StyleGANConfig,
    StyleLayer,
    Synthesis,
    ToImage,
    mixed,
    normalised,
)
from imagegen.stylegan.operators import (
    EqualConv2d,
    EqualLinear,
    activated,
    demodulation,
    filtered,
    modulated_conv2d,
    with_spread,
)
from imagegen.stylegan.projection import Projection, Search, project

__all__ = [
    "Discriminator", "EqualConv2d", "EqualLinear", "Generator", "Mapping", "Projection", "Search", "StyleGAN",
    "StyleGANConfig", "StyleLayer", "Synthesis", "ToImage", "activated", "demodulation", "filtered", "mixed",
    "modulated_conv2d", "normalised", "project", "with_spread",
]  # fmt: skip
