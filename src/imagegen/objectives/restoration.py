"""What a restorer minimises: distances of its estimates to the clean images, and the terms of a critic of patches.

Each takes a batch and gives one value an image, (B,). Distances are means over values, in the unit of what is compared,
squared or not; the critic's terms are in the unit of `adversarial`'s losses, for the non-saturating one nats, as the
mean over an image's patches.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from imagegen.objectives.adversarial import discriminator_loss, generator_loss, zero_centred_penalty

PIXEL_LOSSES = ("mse", "l1")


def pixel_loss(estimate: Tensor, x: Tensor, *, loss: str = "mse") -> Tensor:
    """Return the mean over values of (estimate - x)^2 ("mse") or |estimate - x| ("l1"), for each image.

    The first is least where the estimate is the posterior's mean, the second where each value is that of its median.
    Args: estimate, x: (B, C, H, W), the same shape, in one unit. Returns: (B,), in that unit, squared for "mse".
    Raises: ValueError: another loss, or shapes that differ, which broadcasting would hide.
    Source: Zhao et al. 2017, arXiv:1511.08861 (the two compared).
    """
    if loss not in PIXEL_LOSSES:
        raise ValueError(f"loss is {loss!r}, expected one of {', '.join(PIXEL_LOSSES)}")
    _same_shape(estimate, x)
    error = estimate - x
    return (error.square() if loss == "mse" else error.abs()).flatten(1).mean(1)


def feature_loss(estimate: Sequence[Tensor], x: Sequence[Tensor]) -> Tensor:
    """Return the squared difference of a network's maps, the mean over each map's values, summed over the maps.

    What two images share in a network's eyes may differ in place by a pixel: an edge in the wrong place costs less than
    none at all. Images that the network cannot tell apart have no distance, so it is no replacement for the pixels.
    Args: estimate, x: maps (B, C', H', W') of the estimate, with the graph back to it, and of the clean image; the
        same shapes one by one.
    Returns: (B,), in the square of the network's own unit.
    Raises: ValueError: no maps, other numbers of them, or shapes that differ.
    Source: Johnson, Alahi and Fei-Fei 2016, arXiv:1603.08155, equation 2.
    """
    if not len(estimate) or len(estimate) != len(x):
        raise ValueError(f"{len(estimate)} and {len(x)} maps, expected as many of each, at least one")
    for mine, theirs in zip(estimate, x, strict=True):
        _same_shape(mine, theirs)
    return sum((a - b).square().flatten(1).mean(1) for a, b in zip(estimate, x, strict=True))


def patch_discriminator_loss(
    real_logits: Tensor, fake_logits: Tensor, *, loss: str = "non-saturating"
) -> Tensor:
    """Return what a critic of patches minimises: the mean over an image's patches of `discriminator_loss`.

    Args: real_logits, fake_logits: (B, h, w), the same shape, one logit a patch. Returns: (B,).
    Raises: ValueError: another loss, or logits of another shape.
    Source: Isola et al. 2017, arXiv:1611.07004, section 3.2.2.
    """
    _patches(real_logits=real_logits, fake_logits=fake_logits)
    _same_shape(real_logits, fake_logits)
    losses = discriminator_loss(real_logits.flatten(), fake_logits.flatten(), loss=loss)
    return losses.reshape(len(real_logits), -1).mean(1)


def patch_generator_loss(fake_logits: Tensor, *, loss: str = "non-saturating") -> Tensor:
    """Return what a restorer minimises to be taken for real: the mean over an image's patches of `generator_loss`.

    The loss is taken of each logit and not of their mean, which one patch could carry alone.
    Args: fake_logits: (B, h, w), with the graph back to the restorer. Returns: (B,).
    Raises: ValueError: another loss, or logits of another shape. Source: as `patch_discriminator_loss`.
    """
    _patches(fake_logits=fake_logits)
    return generator_loss(fake_logits.flatten(), loss=loss).reshape(len(fake_logits), -1).mean(1)


def patch_penalty(critic: Callable[[Tensor], Tensor], x: Tensor, *, generator: torch.Generator) -> Tensor:
    """Return R1 of a critic of patches: an unbiased draw of the mean over patches of |gradient of the logit|^2.

    The gradient of the logits' sum will not do: where patches overlap, theirs cancel or add up. Each logit is given a
    random sign: E |gradient of sum_p s_p logit_p|^2 is the sum over p of |gradient of logit_p|^2, since E s_p s_q = 0
    for p other than q. One backward in place of one a patch. Weigh it as `zero_centred_penalty`.
    Args: x: (B, C, H, W), real images; its own graph is cut. critic: (B, C, H, W) -> (B, h, w), must not mix images.
        generator: of the signs.
    Returns: (B,), with a graph to the critic's parameters.
    Raises: ValueError: logits of another shape.
    Source: Mescheder, Geiger and Nowozin 2018, arXiv:1801.04406, equation 9; Hutchinson 1989,
        doi:10.1080/03610918908812806 (the signs).
    """
    size = 1

    def signed(images: Tensor) -> Tensor:
        nonlocal size
        logits = critic(images)
        _patches(logits=logits)
        size = logits[0].numel()
        signs = torch.randint(2, logits.shape, generator=generator, device=generator.device) * 2 - 1
        return logits * signs.to(logits)

    return zero_centred_penalty(signed, x) / size


def _same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{tuple(a.shape)} and {tuple(b.shape)} differ, expected the same shape")


def _patches(**logits: Tensor) -> None:
    for name, value in logits.items():
        if value.dim() != 3:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, expected (B, h, w): one logit a patch")
