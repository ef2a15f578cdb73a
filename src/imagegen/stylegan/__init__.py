"""StyleGAN2 at 32 and 64 pixels: `operators` holds what its layers compute, `networks` both players."""

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

__all__ = [
    "Discriminator", "EqualConv2d", "EqualLinear", "Generator", "Mapping", "StyleGAN", "StyleGANConfig",
    "StyleLayer", "Synthesis", "ToImage", "activated", "demodulation", "filtered", "mixed", "modulated_conv2d",
    "normalised", "with_spread",
]  # fmt: skip
