"""Estimates of log p(x), and what goes with them: levels given what a decoder shows, latents in use, a mean's error."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def importance_weighted_nll(log_weight: Callable[[Tensor, int], Tensor], x: Tensor, *, n_samples: int = 100,
                            chunk: int = 20) -> Tensor:  # fmt: skip
    """Return -log p(x) of each image by importance sampling, an upper bound in expectation that falls with n_samples.

    Args: log_weight: (x, k) -> (k, B) nats, k fresh draws of log p(x, z) - log q(z | x). x: (B, ...).
        chunk: draws taken at once, which bounds the memory and changes nothing else.
    Returns: (B,) nats.
    Raises: ValueError: n_samples or chunk is less than 1, or log_weight gives another shape.
    Source: Burda, Grosse and Salakhutdinov 2016, arXiv:1509.00519, section 5.
    """
    if n_samples < 1 or chunk < 1:
        raise ValueError(f"n_samples is {n_samples} and chunk is {chunk}, expected at least 1")
    total = torch.full((len(x),), -math.inf, device=x.device)
    for start in range(0, n_samples, chunk):
        k = min(chunk, n_samples - start)
        log_weights = log_weight(x, k)
        if log_weights.shape != (k, len(x)):
            raise ValueError(f"log_weight gave {tuple(log_weights.shape)}, expected (k, B) = {(k, len(x))}")
        total = torch.logaddexp(total, torch.logsumexp(log_weights, dim=0))
    return math.log(n_samples) - total


def active_units(means: Tensor, *, threshold: float = 0.01) -> Tensor:
    """Return which latents are in use, bool (D,): the posterior means (N, D) vary over the data by more than threshold.

    Raises: ValueError: fewer than two rows. Source: Burda et al. 2016, arXiv:1509.00519, section 5.2.
    """
    if means.dim() != 2 or len(means) < 2:
        raise ValueError(f"expected means of shape (N, D) with N >= 2, got {tuple(means.shape)}")
    return means.var(dim=0) > threshold


def standard_error(values: Tensor) -> float:
    """Return the standard error of the mean of values (N,), N >= 2: how far a Monte Carlo mean is to be trusted."""
    if values.dim() != 1 or len(values) < 2:
        raise ValueError(f"expected values of shape (N,) with N >= 2, got {tuple(values.shape)}")
    return (values.double().std() / math.sqrt(len(values))).item()


LEVELS = 256


def _cells(pixels: Tensor, levels: Tensor) -> Tensor:
    if levels.dtype != torch.uint8:
        raise TypeError(f"levels are {levels.dtype}, expected uint8")
    if pixels.shape != levels.shape:
        raise ValueError(f"pixels {tuple(pixels.shape)} and levels {tuple(levels.shape)} differ")
    low, high = pixels.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"pixels span [{low.item():g}, {high.item():g}], expected [0, 1]")
    bins = (pixels.double() * LEVELS).long().clamp(max=LEVELS - 1)
    return bins * LEVELS + levels.long()


def level_counts(pixels: Tensor | None = None, levels: Tensor | None = None) -> Tensor:
    """Return how often each level occurred where each value was shown, int64 (256, 256); all zeros without arguments.

    Args: pixels: in [0, 1], what a decoder shows; row k counts the values in [k / 256, (k + 1) / 256). levels: uint8,
        the same shape, the images themselves. Counts of parts add up.
    Raises: TypeError, ValueError: one of the two is missing, the levels are not uint8, the shapes differ, or a pixel
        leaves [0, 1].
    """
    if (pixels is None) != (levels is None):
        raise ValueError(f"{'pixels' if pixels is None else 'levels'} are missing: give both, or neither")
    if pixels is None or levels is None:
        return torch.zeros(LEVELS, LEVELS, dtype=torch.int64)
    return torch.bincount(_cells(pixels, levels).flatten(), minlength=LEVELS**2).reshape(LEVELS, LEVELS)


def level_table(counts: Tensor, *, smoothing: float = 1.0) -> Tensor:
    """Return log Pr(level | value shown), (256, 256), each row normalised: the shares of counts, slightly smoothed.

    smoothing: counts added to each row, spread evenly over its levels, so that nothing has the probability 0.
    Raises: ValueError: counts of another shape, or a smoothing that is not above 0.
    """
    if counts.shape != (LEVELS, LEVELS) or not smoothing > 0:
        raise ValueError(
            f"counts {tuple(counts.shape)} and smoothing {smoothing}, expected (256, 256) and more than 0"
        )
    smoothed = counts.double() + smoothing / LEVELS
    return smoothed.log() - smoothed.sum(1, keepdim=True).log()


def level_nll(table: Tensor, pixels: Tensor, levels: Tensor) -> Tensor:
    """Return -log Pr(levels | pixels) under a `level_table`, summed over an image: (B,) nats, >= 0, a code length.

    Args: pixels, levels: (B, ...), as `level_counts`. Raises: as that.
    """
    return -table.flatten()[_cells(pixels, levels)].flatten(1).sum(1)
