"""Likelihoods, divergences and the terms of discrete codes: tensors in, nats per image (B,) out."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid

LOG_2PI = math.log(2 * math.pi)
LEVELS = 256  # values a pixel can have at rest
HALF_LEVEL = 1 / 255  # half the distance of two levels, in the range [-1, 1]


def _same_shape(**tensors: Tensor) -> None:
    (first, a), (second, b) = tensors.items()
    if a.shape != b.shape:
        raise ValueError(f"{first} {tuple(a.shape)} and {second} {tuple(b.shape)} differ")
    if a.dim() < 2:
        raise ValueError(
            f"{first} has shape {tuple(a.shape)}, expected (B, ...) with at least one dimension an image"
        )


def _scalar_or_same(name: str, value: Tensor | float, mean: Tensor) -> Tensor:
    value = torch.as_tensor(value, dtype=mean.dtype, device=mean.device)
    if value.dim() and value.shape != mean.shape:
        raise ValueError(
            f"{name} {tuple(value.shape)} is neither a scalar nor of mean's shape {tuple(mean.shape)}"
        )
    return value


def _whole_levels(target: Tensor) -> None:
    if target.dtype != torch.uint8:
        raise TypeError(f"target is {target.dtype}, expected uint8 levels 0 to 255: use images.to_uint8")


def _within_unit(target: Tensor) -> Tensor:
    """Return 1, a factor for the result. Off the CPU, where to look at a value is to wait for it, NaN is the error."""
    low, high = target.aminmax()
    within = (low >= 0) & (high <= 1)  # so put, NaN is refused too
    if target.device.type != "cpu":
        return torch.where(within, 1.0, math.nan)
    if not within:
        raise ValueError(
            f"target spans [{low.item():g}, {high.item():g}], expected [0, 1]: use images.to_unit"
        )
    return torch.ones((), dtype=target.dtype)


def bernoulli_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Return -log p(target) under independent Bernoullis: the cross-entropy, summed over an image's pixels.

    On grey targets in (0, 1) it is a cross-entropy, not a likelihood: its floor is `bernoulli_entropy(target)`.
    Args: logits: (B, ...); target: the same shape, in [0, 1].
    Returns: (B,) nats; on a GPU all NaN, gradients too, where a target leaves [0, 1].
    Raises: ValueError: the shapes differ, or (on the CPU) a target leaves [0, 1].
    """
    _same_shape(logits=logits, target=target)
    within = _within_unit(target)
    return binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1) * within


def bernoulli_entropy(target: Tensor) -> Tensor:
    """Return the entropy of independent Bernoullis with means `target`: the least value `bernoulli_nll` can take.

    Args: target: (B, ...) in [0, 1].
    Returns: (B,) nats, >= 0; zero only for black and white images. On a GPU all NaN where a target leaves [0, 1].
    Raises: ValueError: on the CPU, a target leaves [0, 1].
    """
    within = _within_unit(target)
    return (torch.special.entr(target) + torch.special.entr(1 - target)).flatten(1).sum(1) * within


def gaussian_nll(mean: Tensor, target: Tensor, log_var: Tensor | float = 0.0) -> Tensor:
    """Return -log N(target; mean, exp(log_var)), constant included, summed over an image's elements.

    Args: mean, target: (B, ...), the same shape. log_var: a number, a scalar tensor, or a tensor of that shape.
    Returns: (B,) nats; a density has no floor at 0.
    Raises: ValueError: the shapes differ.
    """
    _same_shape(mean=mean, target=target)
    log_var = _scalar_or_same("log_var", log_var, mean)
    element = 0.5 * (LOG_2PI + log_var + (target - mean).square() * torch.exp(-log_var))
    return element.flatten(1).sum(1)


def discretised_logistic_nll(mean: Tensor, target: Tensor, log_scale: Tensor | float) -> Tensor:
    """Return -log Pr(target) of a logistic distribution cut into 256 levels, summed over an image's values.

    A level's cell reaches half a level, 1/255 in the range [-1, 1], to each side; those of 0 and 255 have no outer
    edge and take the tails, so the 256 probabilities of a value sum to 1.
    Args: mean: (B, ...), in the range [-1, 1] of `images.to_float`; values beyond it are allowed. target: the same
        shape, uint8. log_scale: a number, a scalar tensor, or a tensor of mean's shape; log s, s^2 pi^2 / 3 is the
        variance. In float32 keep it between -60 and 60.
    Returns: (B,) nats, >= 0: a code length.
    Raises: ValueError: the shapes differ. TypeError: target is not uint8.
    Source: Salimans et al. 2017, arXiv:1701.05517, equation 2.
    """
    _same_shape(mean=mean, target=target)
    _whole_levels(target)
    log_scale = _scalar_or_same("log_scale", log_scale, mean)
    precision = torch.exp(-log_scale)
    centred = target.to(mean.dtype) / 127.5 - 1 - mean
    upper = (centred + HALF_LEVEL) * precision
    lower = (centred - HALF_LEVEL) * precision
    below_upper = logsigmoid(upper).masked_fill(target == LEVELS - 1, 0.0)
    above_lower = logsigmoid(-lower).masked_fill(target == 0, 0.0)
    # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)): no difference of nearly equal numbers
    both_edges = (target > 0) & (target < LEVELS - 1)
    width = torch.log(-torch.expm1(-2 * HALF_LEVEL * precision)).expand_as(mean).masked_fill(~both_edges, 0.0)
    return -(below_upper + above_lower + width).flatten(1).sum(1)


def categorical_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Return -log Pr(target) where each value of an image has 256 probabilities of its own, summed over the image.

    Args: logits: (B, 256, ...): the levels are dimension 1. target: (B, ...), uint8.
    Returns: (B,) nats, >= 0: a code length.
    Raises: ValueError: the shapes do not fit. TypeError: target is not uint8.
    Source: van den Oord et al. 2016, arXiv:1601.06759, section 3.3.
    """
    _whole_levels(target)
    expected = (*target.shape[:1], LEVELS, *target.shape[1:])
    if target.dim() < 2 or logits.shape != expected:
        raise ValueError(
            f"logits {tuple(logits.shape)} do not fit target {tuple(target.shape)}: expected (B, 256, ...) and (B, ...)"
        )
    return cross_entropy(logits, target.long(), reduction="none").flatten(1).sum(1)


def gaussian_kl_per_dim(mean: Tensor, log_var: Tensor) -> Tensor:
    """Return KL(N(mean, exp log_var) || N(0, 1)) of each dimension: (B, *latent) nats, >= 0.

    Raises: ValueError: the shapes differ.
    Source: Kingma and Welling 2014, arXiv:1312.6114, appendix B.
    """
    _same_shape(mean=mean, log_var=log_var)
    return 0.5 * (mean.square() + log_var.expm1() - log_var)  # expm1(a) = exp(a) - 1, and stays exact near 0


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """Return KL(N(mean, exp log_var) || N(0, I)) of each posterior.

    Args: mean, log_var: (B, *latent), the same shape.
    Returns: (B,) nats, >= 0; zero only where mean = log_var = 0.
    Raises: ValueError: the shapes differ, which broadcasting would hide.
    Source: Kingma and Welling 2014, arXiv:1312.6114, appendix B.
    """
    return gaussian_kl_per_dim(mean, log_var).flatten(1).sum(1)


def free_bits(kl_per_dim: Tensor, floor: float) -> Tensor:
    """Return the KL with each dimension's batch mean held at `floor` or more, so that no dimension is worth closing.

    Below the floor the gradient is zero. The mean over the batch is what the floor binds: every image gets the same
    value, whose mean is the loss term.
    Args: kl_per_dim: (B, D) nats. floor: nats a dimension, >= 0; 0 gives the mean KL.
    Returns: (B,) nats.
    Raises: ValueError: a negative floor.
    Source: Kingma et al. 2016, arXiv:1606.04934, section 4 and appendix C.8.
    """
    if floor < 0:
        raise ValueError(f"floor is {floor}, expected nats >= 0")
    kept = kl_per_dim.mean(0).clamp_min(floor).sum()
    return kept.expand(len(kl_per_dim))


def kl_weight(step: int, n_steps: int) -> float:
    """Return the weight of the KL during warm-up: linear from 0 at step 0 to 1 at step `n_steps`, then 1.

    n_steps = 0 means no warm-up. Raises: ValueError: a negative step or length.
    Source: Bowman et al. 2016, arXiv:1511.06349, section 3.1.
    """
    if step < 0 or n_steps < 0:
        raise ValueError(f"step {step} and n_steps {n_steps} must not be negative")
    return min(1.0, step / n_steps) if n_steps else 1.0


def gaussian_log_density(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Return log N(z; mean, diag exp log_var) summed over dimensions: (..., D) -> (...) nats. Shapes broadcast."""
    return -0.5 * (LOG_2PI + log_var + (z - mean).square() * torch.exp(-log_var)).sum(-1)


def log_importance_weight(nll: Tensor, z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Return log w = log p(x | z) + log p(z) - log q(z | x), with prior N(0, I).

    Args: nll: (...) nats, -log p(x | z). z: (..., D), drawn from q. mean, log_var: of q, broadcastable to z.
    Returns: (...) nats.
    Raises: ValueError: nll and z differ in their leading shape.
    Source: Burda, Grosse and Salakhutdinov 2016, arXiv:1509.00519, equation 7.
    """
    if nll.shape != z.shape[:-1]:
        raise ValueError(f"nll {tuple(nll.shape)} and z {tuple(z.shape)} differ before the last dimension")
    zero = torch.zeros((), dtype=z.dtype, device=z.device)
    return -nll + gaussian_log_density(z, zero, zero) - gaussian_log_density(z, mean, log_var)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """Return log (1/K sum_k w_k), the K-sample lower bound of log p(x): the ELBO for K = 1, tight as K grows.

    Args: log_weights: (K, B) nats. Returns: (B,) nats.
    Source: Burda, Grosse and Salakhutdinov 2016, arXiv:1509.00519, equation 8.
    """
    if log_weights.dim() != 2:
        raise ValueError(f"expected log_weights of shape (K, B), got {tuple(log_weights.shape)}")
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def normalised_importance_weights(log_weights: Tensor) -> Tensor:
    """Return softmax of the log-weights over the samples: (K, B), each column sums to 1; the likeliest z weighs most.

    Source: Burda, Grosse and Salakhutdinov 2016, arXiv:1509.00519, equation 14.
    """
    if log_weights.dim() != 2:
        raise ValueError(f"expected log_weights of shape (K, B), got {tuple(log_weights.shape)}")
    return torch.softmax(log_weights, dim=0)


# ---- discrete codes --------------------------------------------------------------------------------------------


def codebook_loss(z: Tensor, nearest: Tensor) -> Tensor:
    """Return |sg(z) - e|^2 summed over an image's codes: it draws the codebook vectors e to the encoder's z.

    Args: z, nearest: (B, D, h, w), the encoder's output and the codebook vectors it was replaced by.
    Returns: (B,); its gradient reaches `nearest` alone. It is a Gaussian's NLL at variance 1/2, but for a constant.
    Raises: ValueError: the shapes differ.
    Source: van den Oord et al. 2017, arXiv:1711.00937, equation 3, second term.
    """
    _same_shape(z=z, nearest=nearest)
    return (z.detach() - nearest).square().flatten(1).sum(1)


def commitment_loss(z: Tensor, nearest: Tensor) -> Tensor:
    """Return |z - sg(e)|^2 summed over an image's codes: it keeps the encoder near the codes it has chosen.

    This is the term that beta weighs. Args, returns and errors: as `codebook_loss`, with the gradient to z alone.
    Source: van den Oord et al. 2017, arXiv:1711.00937, equation 3, third term.
    """
    _same_shape(z=z, nearest=nearest)
    return (z - nearest.detach()).square().flatten(1).sum(1)


def code_nll(logits: Tensor, indices: Tensor) -> Tensor:
    """Return -log Pr(indices), summed over an image's grid of codes.

    Args: logits: (B, K, ...): the codes are dimension 1. indices: (B, ...) int64, in 0 .. K - 1.
    Returns: (B,) nats, >= 0: a code length.
    Raises: ValueError: the shapes do not fit. TypeError: the indices are not int64.
    """
    if indices.dtype != torch.int64:
        raise TypeError(f"indices are {indices.dtype}, expected int64")
    if indices.dim() < 2 or logits.dim() != indices.dim() + 1 or logits[:, 0].shape != indices.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} do not fit indices {tuple(indices.shape)}: expected (B, K, ...) and (B, ...)"
        )
    return cross_entropy(logits, indices, reduction="none").flatten(1).sum(1)


def bits_per_dim(nats: Tensor | float, n_dims: int) -> Tensor | float:
    """Return nats an image as bits a dimension: nats / (n_dims log 2).

    Meaningful as a code length only for a likelihood of discrete (or dequantised) values.
    Raises: ValueError: n_dims is less than 1.
    """
    if n_dims < 1:
        raise ValueError(f"n_dims is {n_dims}, expected at least 1")
    return nats / (n_dims * math.log(2.0))


@dataclass(frozen=True)
class ImpliedLikelihood:
    """What a loss stands for: beta on the KL and, for a Gaussian decoder, the variance of its likelihood.

    With a free choice of one, the loss fixes only the ratio: `beta` is the weight of the KL if the likelihood keeps
    `variance`; `equivalent_variance` is the variance that would make it an ELBO with beta 1 (squared errors only).
    """

    beta: float
    variance: float | None
    equivalent_variance: float | None


def implied_likelihood(kind: str, *, n_pixels: int, n_latents: int, reconstruction_weight: float = 1.0,
                       reconstruction: str = "sum", kl_weight: float = 1.0, kl: str = "sum",
                       variance: float = 1.0) -> ImpliedLikelihood:  # fmt: skip
    """Return the likelihood and the beta that a popular loss implies (the likelihood ledger).

    The loss read is reconstruction_weight * R + kl_weight * KL, each reduced within an image by "sum" or "mean" (over
    pixels, over latents); reductions over the batch are taken to be equal. R is the squared error ("squared error",
    no factor 1/2), half of it ("half squared error"), or the cross-entropy ("bernoulli").
    A squared error with weight a is a * 2 v times the Gaussian NLL of variance v; so beta = KL's weight / (a 2 v).
    Args: variance: v of the Gaussian with which `beta` is stated (1 for "N(x; mu, I)").
    Raises: ValueError: an unknown kind or reduction, a size or weight that is not positive, a negative kl_weight.
    """
    factor = {"squared error": 2.0, "half squared error": 1.0, "bernoulli": None}
    if kind not in factor:
        raise ValueError(f"kind is {kind!r}, expected one of {sorted(factor)}")
    sizes = {
        "n_pixels": n_pixels,
        "n_latents": n_latents,
        "reconstruction_weight": reconstruction_weight,
        "variance": variance,
    }
    for name, value in sizes.items():
        if value <= 0:
            raise ValueError(f"{name} is {value}, expected a positive number")
    if kl_weight < 0:
        raise ValueError(f"kl_weight is {kl_weight}, expected at least 0")
    for name, reduction in (("reconstruction", reconstruction), ("kl", kl)):
        if reduction not in ("sum", "mean"):
            raise ValueError(f"{name} is reduced by {reduction!r}, expected 'sum' or 'mean'")
    weight = reconstruction_weight / (n_pixels if reconstruction == "mean" else 1)
    divergence = kl_weight / (n_latents if kl == "mean" else 1)
    if kind == "bernoulli":
        return ImpliedLikelihood(divergence / weight, None, None)
    beta_at_unit_variance = divergence / (weight * factor[kind])
    return ImpliedLikelihood(beta_at_unit_variance / variance, variance, beta_at_unit_variance)
