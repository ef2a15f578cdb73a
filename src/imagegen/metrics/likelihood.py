"""Estimates of log p(x), and what goes with them: the latents in use, the error of a mean."""

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
