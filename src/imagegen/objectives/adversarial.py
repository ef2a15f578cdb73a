"""The two players' losses, each to be minimised by its player, and the penalties on their networks' gradients.

A discriminator gives one logit an image, large where it believes the image to be real: D(x) = sigmoid(logit). A
critic gives a score without that meaning.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

LOSSES = ("minimax", "non-saturating", "least-squares", "hinge", "wasserstein")


def _check(loss: str, **logits: Tensor) -> None:
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}, expected one of {', '.join(LOSSES)}")
    for name, value in logits.items():
        if value.dim() != 1:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, expected (B,): one logit an image")


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, *, loss: str = "non-saturating") -> Tensor:
    """Return what the discriminator minimises, for each pair of a real and a generated image.

    "minimax" and "non-saturating": -log D(x) - log(1 - D(G(z))), 2 log 2 where D cannot tell. "least-squares":
    ((s(x) - 1)^2 + s(G(z))^2) / 2. "hinge": max(0, 1 - s(x)) + max(0, 1 + s(G(z))). "wasserstein": s(G(z)) - s(x),
    a bound on the distance only for a critic that is held Lipschitz.
    Args: real_logits, fake_logits: (B,), not yet passed through a sigmoid.
    Returns: (B,).
    Raises: ValueError: another loss, or logits that are not one an image, or of different number.
    Source: Goodfellow et al. 2014, arXiv:1406.2661; Mao et al. 2017, arXiv:1611.04076; Lim and Ye 2017,
        arXiv:1705.02894; Arjovsky, Chintala and Bottou 2017, arXiv:1701.07875.
    """
    _check(loss, real_logits=real_logits, fake_logits=fake_logits)
    if len(real_logits) != len(fake_logits):
        raise ValueError(f"{len(real_logits)} real and {len(fake_logits)} generated images differ")
    if loss == "least-squares":
        return 0.5 * ((real_logits - 1).square() + fake_logits.square())
    if loss == "hinge":
        return relu(1 - real_logits) + relu(1 + fake_logits)
    if loss == "wasserstein":
        return fake_logits - real_logits
    return softplus(-real_logits) + softplus(fake_logits)  # -log sigmoid(a) = softplus(-a)


def generator_loss(fake_logits: Tensor, *, loss: str = "non-saturating") -> Tensor:
    """Return what the generator minimises, for each generated image.

    "minimax": log(1 - D(G(z))), whose gradient with respect to the logit is -D(G(z)) and vanishes where D is sure.
    "non-saturating": -log D(G(z)), with the gradient -(1 - D(G(z))). "least-squares": (s - 1)^2 / 2. "hinge" and
    "wasserstein": -s.
    Args: fake_logits: (B,), with the graph back to the generator. Returns: (B,).
    Raises: ValueError: another loss, or logits that are not one an image.
    Source: as `discriminator_loss`.
    """
    _check(loss, fake_logits=fake_logits)
    if loss == "minimax":
        return -softplus(fake_logits)
    if loss == "non-saturating":
        return softplus(-fake_logits)
    if loss == "least-squares":
        return 0.5 * (fake_logits - 1).square()
    return -fake_logits


def _gradients(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the gradient of the critic's score of each image with respect to that image, as (B, -1), with a graph."""
    x = x.detach().requires_grad_()
    scores = critic(x)
    # Where an image's score depends on that image alone, the gradient of the sum holds each score's own.
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return gradient.flatten(1)


def zero_centred_penalty(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return |gradient of D's logit with respect to x|^2 of each image: R1 on real images, R2 on generated ones.

    Weigh it with gamma / 2. In the lazy form, on every k-th step only, weigh it with k gamma / 2.
    Args: x: (B, ...), real or generated; its own graph is cut. discriminator: must not mix images (no BatchNorm). With
        a minibatch standard deviation it does, a little: then it is the gradient of the batch's sum, as in StyleGAN.
    Returns: (B,), with a graph to the discriminator's parameters.
    Source: Mescheder, Geiger and Nowozin 2018, arXiv:1801.04406, equation 9.
    """
    return _gradients(discriminator, x).square().sum(1)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, *, norm: float = 1.0,
                     generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """Return (|gradient of the critic| - norm)^2 at one point of each segment between a real and a generated image.

    The point is a x + (1 - a) G(z), with one a ~ U(0, 1) an image: alpha never leaves the segment, and all pixels of
    an image share it. Weigh it with lambda (10 in the paper).
    Args: critic: (B, ...) -> (B,), must not mix images (no BatchNorm). real, fake: (B, ...), the same shape; their
        graphs are cut. norm: the length that the gradient is held to. generator: of alpha.
    Returns: (B,), with a graph to the critic's parameters.
    Raises: ValueError: the shapes differ.
    Source: Gulrajani et al. 2017, arXiv:1704.00028, equation 3 and algorithm 1.
    """
    if real.shape != fake.shape:
        raise ValueError(f"real {tuple(real.shape)} and fake {tuple(fake.shape)} differ")
    shape = (len(real), *[1] * (real.dim() - 1))
    alpha = torch.rand(shape, generator=generator, device=real.device, dtype=real.dtype)
    points = alpha * real + (1 - alpha) * fake
    # The root's own gradient is infinite at 0, where a flat critic stands.
    length = (_gradients(critic, points).square().sum(1) + 1e-12).sqrt()
    return (length - norm).square()


def path_lengths(images: Tensor, latents: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Return |J^T y| of each image, J its Jacobian by its latent, y ~ N(0, I) / sqrt(H W): how far a step in w leads.

    Where they vary least, over images and y, equal steps in w change the image equally, in whatever direction: J is
    orthogonal up to a factor. What is then left is the chance of y, about 1 / sqrt(2 D) of the mean. Over y the mean
    of the squares is the sum of J's squares, over H W.
    Args: images: (B, C, H, W), or points (B, C), made from the latents by a graph. latents: (B, D), or (B, L, D) where
        each of L layers takes its own: squares are summed over D and averaged over L. An image must hang on its own
        latent alone (no BatchNorm). generator: of y.
    Returns: (B,), with a graph to the generator's parameters, so that a penalty on them can be trained.
    Raises: ValueError: batches that differ, latents without D or a graph, images that do not hang on the latents.
    Source: Karras et al. 2020, arXiv:1912.04958, equation 4; what is divided by H W and L: their implementation.
    """
    if images.dim() < 2 or latents.dim() < 2 or len(images) != len(latents):
        shapes = f"images {tuple(images.shape)} and latents {tuple(latents.shape)}"
        raise ValueError(f"{shapes}, expected (B, C, H, W) and (B, D) or (B, L, D) with the same B")
    if not latents.requires_grad:
        raise ValueError("the latents have no graph: requires_grad_() comes before the images are made")
    y = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    gradient = None
    if images.requires_grad:
        product = (images * y).sum() / math.sqrt(math.prod(images.shape[2:]))
        (gradient,) = torch.autograd.grad(product, latents, create_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError("the images do not hang on these latents, or were made without a graph")
    # The root's own gradient is infinite at 0, where a generator that has collapsed stands.
    return (gradient.square().sum(-1).reshape(len(latents), -1).mean(1) + 1e-12).sqrt()


def path_penalty(lengths: Tensor, mean: float | Tensor) -> Tensor:
    """Return (length - mean)^2 of each image, (B,): 0 where every length is the mean.

    mean: a running mean of the lengths, one number, that the caller keeps; it is held constant.
    Raises: ValueError: lengths that are not one an image, or a mean that is not one number.
    Source: as `path_lengths`.
    """
    mean = torch.as_tensor(mean, dtype=lengths.dtype, device=lengths.device).detach()
    if lengths.dim() != 1 or mean.dim() != 0:
        shapes = f"lengths {tuple(lengths.shape)} and mean {tuple(mean.shape)}"
        raise ValueError(f"{shapes}, expected (B,) and one number")
    return (lengths - mean).square()


def instance_noise(x: Tensor, std: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Return x + std * eps with eps ~ N(0, I): noise for both players' images, so that their supports meet.

    Raises: ValueError: std is below 0.
    Source: Soenderby et al. 2017, arXiv:1610.04490; Arjovsky and Bottou 2017, arXiv:1701.04862.
    """
    if not std >= 0:
        raise ValueError(f"std is {std}, expected at least 0")
    if not std:
        return x
    return x + std * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
