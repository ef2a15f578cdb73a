"""Forward operators y = A x + n of image restoration: what is lost, as code that training and testing share.

`operators` holds the linear A with their adjoints, `masks` draws what is known, `noise` adds n and JPEG, `degradation`
puts them together, `mixture` draws another for each image. All names are importable from here.
"""

from imagegen.degrade.degradation import Degradation, Degraded
from imagegen.degrade.masks import MASKS, box, draw_mask, half, pixels, scribble
from imagegen.degrade.mixture import Mixture, Observed
from imagegen.degrade.noise import NOISES, add_gaussian, add_noise, add_poisson, add_salt_and_pepper, jpeg
from imagegen.degrade.operators import (
    BOUNDARIES,
    KERNELS,
    Blur,
    Composed,
    Downsample,
    Identity,
    Mask,
    Operator,
    consistent,
    gaussian_kernel,
)

__all__ = [
    "BOUNDARIES", "KERNELS", "MASKS", "NOISES", "Blur", "Composed", "Degradation", "Degraded", "Downsample",
    "Identity", "Mask", "Mixture", "Observed", "Operator", "add_gaussian", "add_noise", "add_poisson",
    "add_salt_and_pepper", "box", "consistent", "draw_mask", "gaussian_kernel", "half", "jpeg", "pixels", "scribble",
]  # fmt: skip
