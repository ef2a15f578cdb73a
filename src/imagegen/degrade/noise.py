"""Noise and JPEG: what happens to images (B, C, H, W) behind a linear operator. Every draw comes from `generator`.

Images are in [-1, 1], and so are the units: a deviation here is twice what it is in [0, 1], and 2/255 is one level of a
byte. The noise of the papers, sigma = 25 of 255, is 50/255 = 0.196 here. Nothing is clamped: a clamp moves the mean at
black and at white, and the noise is then neither Gaussian nor independent of the image. Clamp to show, not to train.
"""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imagegen.degrade.operators import check_images
from imagegen.images import check_range, to_float, to_uint8, to_unit

NOISES = ("none", "gaussian", "poisson", "salt-and-pepper", "jpeg")


def add_noise(x: Tensor, kind: str, amount: float, *, generator: torch.Generator) -> Tensor:
    """Return x with noise of one of the kinds in `NOISES`; "jpeg" draws nothing.

    amount: sigma in units of [-1, 1], photons at white, probability, or quality; 0 for "none".
    Raises: ValueError: another kind, an amount for "none", or as that kind's function.
    """
    if kind == "gaussian":
        return add_gaussian(x, amount, generator=generator)
    if kind == "poisson":
        return add_poisson(x, amount, generator=generator)
    if kind == "salt-and-pepper":
        return add_salt_and_pepper(x, amount, generator=generator)
    if kind == "jpeg":
        return jpeg(x, amount)
    if kind != "none":
        raise ValueError(f"noise is {kind!r}, expected one of {', '.join(NOISES)}")
    if amount:
        raise ValueError(f"amount is {amount}, and noise is 'none': expected 0")
    return x


def check_in_range(x: Tensor) -> None:
    """Raise unless x is a batch of images in [-1, 1]; the message names the values' span."""
    check_images(x)
    check_range(x, -1.0, 1.0)


def add_gaussian(x: Tensor, sigma: float, *, generator: torch.Generator) -> Tensor:
    """Return x + n with n ~ N(0, sigma^2), independent for each value; x may have any range.

    sigma: in units of [-1, 1], so 2 s for a deviation of s in units of [0, 1].
    Raises: ValueError: sigma is negative or not finite, or x no batch of images. TypeError: x is not floating point.
    """
    check_images(x)
    if not 0 <= sigma < float("inf"):
        raise ValueError(f"sigma is {sigma}, expected a finite number, at least 0, in units of [-1, 1]")
    noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
    return x + sigma * noise.to(x.device)


def add_poisson(x: Tensor, peak: float, *, generator: torch.Generator) -> Tensor:
    """Return the image that is counted photon by photon: 2 k / peak - 1 with k ~ Poisson(peak (x + 1) / 2).

    Its mean is x and its variance 2 (x + 1) / peak: nothing at black, most at white, beyond which values may go. No
    gradient passes. peak: photons expected at white; fewer are more noise.
    Raises: ValueError: peak is not positive and finite, or x leaves [-1, 1]. TypeError: x is not floating point.
    """
    check_in_range(x)
    if not 0 < peak < float("inf"):
        raise ValueError(f"peak is {peak}, expected a positive number of photons")
    rate = peak * to_unit(x.detach().to(torch.promote_types(x.dtype, torch.float32))).clamp(min=0)
    photons = torch.poisson(rate.to(generator.device), generator=generator)
    return (photons * (2 / peak) - 1).to(x)


def add_salt_and_pepper(x: Tensor, share: float, *, generator: torch.Generator) -> Tensor:
    """Return x with each pixel, all its channels together, black or white with probability share / 2 each.

    The mean of a value is (1 - share) x, its mean square (1 - share) x^2 + share.
    Raises: ValueError: share is outside [0, 1], or x leaves [-1, 1]. TypeError: x is not floating point.
    """
    check_in_range(x)
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}, expected a probability, 0 to 1")
    batch, _, height, width = x.shape
    draws = torch.rand(
        batch, 1, height, width, generator=generator, device=generator.device, dtype=torch.float64
    )
    draws = draws.to(x.device)
    return torch.where(draws < share / 2, -1.0, torch.where(draws >= 1 - share / 2, 1.0, x))


def jpeg(x: Tensor, quality: int) -> Tensor:
    """Return images (B, 1 or 3, H, W) after a round through JPEG, as Pillow writes it: colour at half resolution.

    In between they are bytes. No gradient passes, and there is no adjoint: rounding is not linear.
    Raises: ValueError: quality is no whole number from 1 to 100, channels other than 1 or 3, or x leaves [-1, 1].
        TypeError: x is not floating point.
    """
    check_in_range(x)
    if not (1 <= quality <= 100 and quality == int(quality)):
        raise ValueError(f"quality is {quality}, expected a whole number from 1 to 100")
    if x.shape[1] not in (1, 3):
        raise ValueError(f"images have shape {tuple(x.shape)}, expected 1 or 3 channels")
    decoded = np.empty((len(x), *x.shape[2:], x.shape[1]), np.uint8)
    for out, pixels in zip(decoded, to_uint8(x.detach()).permute(0, 2, 3, 1).cpu().numpy()):
        file = io.BytesIO()
        Image.fromarray(pixels.squeeze(2) if x.shape[1] == 1 else pixels).save(
            file, "JPEG", quality=int(quality)
        )
        out[...] = np.asarray(Image.open(file)).reshape(out.shape)
    return to_float(torch.from_numpy(decoded)).permute(0, 3, 1, 2).to(x).contiguous()
