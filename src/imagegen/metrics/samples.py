"""Distances between two sets of images, by their features (N, F), and the Inception Score."""

import math

import torch
from torch import Generator, Tensor

from imagegen.metrics.features import same_space


def _root(name: str, covariance: Tensor) -> Tensor:
    """Return L (F, F) with L L^T = covariance; an eigenvalue below zero by no more than rounding counts as zero."""
    if covariance.dim() != 2 or covariance.shape[0] != covariance.shape[1]:
        raise ValueError(f"{name} is {tuple(covariance.shape)}, expected (F, F)")
    if not covariance.is_floating_point() or not torch.isfinite(covariance).all():
        raise ValueError(
            f"{name} holds {covariance.dtype} or values that are not finite, expected finite floats"
        )
    rounding = 10 * len(covariance) * torch.finfo(covariance.dtype).eps * covariance.abs().max().item()
    covariance = covariance.detach().double()
    if (skew := (covariance - covariance.T).abs().max().item()) > rounding:
        raise ValueError(f"{name} differs from its transpose by {skew:g}, expected a symmetric matrix")
    values, vectors = torch.linalg.eigh(covariance)
    if values[0] < -rounding:
        raise ValueError(f"{name} has the eigenvalue {values[0]:g}, expected none below 0")
    return vectors * values.clamp_min(0).sqrt()


def gaussian_frechet(mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> float:
    """Return the squared Frechet (2-Wasserstein) distance of two Gaussians, in the square of the features' units.

    |mean_x - mean_y|^2 + tr(cov_x + cov_y - 2 (cov_x cov_y)^(1/2)). With cov = L L^T the last trace is the sum of the
    singular values of L_x^T L_y: real and not negative by construction, so there is no imaginary part to drop.
    Covariances of less than full rank are taken as they are.
    Args: mean_x, mean_y: (F,). cov_x, cov_y: (F, F). Computed in float64.
    Raises: ValueError: shapes that do not fit, a number that is not finite, a covariance that is not symmetric or has
        an eigenvalue below 0 by more than rounding.
    Source: Dowson and Landau 1982, doi:10.1016/0047-259X(82)90077-X.
    """
    root_x, root_y = _root("cov_x", cov_x), _root("cov_y", cov_y)
    shapes = [tuple(mean_x.shape), tuple(mean_y.shape), tuple(root_x.shape[:1]), tuple(root_y.shape[:1])]
    if len(set(shapes)) > 1:
        raise ValueError(f"mean_x, mean_y, cov_x and cov_y are of {shapes} features, expected the same (F,)")
    gap = mean_x.detach().double() - mean_y.detach().double()
    if not torch.isfinite(gap).all():
        raise ValueError("a mean holds values that are not finite, expected none")
    overlap = torch.linalg.svdvals(root_x.T @ root_y).sum()
    squared = gap.square().sum() + root_x.square().sum() + root_y.square().sum() - 2 * overlap
    return max(0.0, squared.item())  # below 0 only by rounding


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Return the squared Frechet distance of Gaussians fitted to two sets of features, (N, F) and (M, F).

    With Inception's features it is the FID; with others it needs another name. The covariances are the unbiased ones,
    but the distance is not: it falls as N grows, so compare only figures of the same N, and give real against real of
    that N beside. N <= F works (a covariance of less than full rank) and is then mostly bias.
    Raises: ValueError: fewer than two rows, another F, values that are not finite.
    Source: Heusel et al. 2017, arXiv:1706.08500, equation 6; the bias: Chong and Forsyth 2020, arXiv:1911.07023.
    """
    x, y = same_space(2, x=x, y=y)
    cov_x, cov_y = (torch.cov(rows.T).reshape(rows.shape[1], -1) for rows in (x, y))  # (1, 1) where F is 1
    return gaussian_frechet(x.mean(0), cov_x, y.mean(0), cov_y)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T).div_(x.shape[1]).add_(1).pow_(3)


def _kernel_mean(x: Tensor, y: Tensor, chunk: int = 256) -> Tensor:
    """Return the mean of the kernel over all pairs of a row of x and a row of y."""
    return sum(_kernel(rows, y).sum() for rows in x.split(chunk)) / (len(x) * len(y))


def _kernel_mean_within(x: Tensor) -> Tensor:
    """Return the mean of the kernel over all pairs of different rows of x."""
    own = (x.square().sum(1) / x.shape[1] + 1) ** 3
    return (_kernel_mean(x, x) * len(x) - own.mean()) / (len(x) - 1)


def _unbiased_mmd(x: Tensor, y: Tensor) -> float:
    return (_kernel_mean_within(x) + _kernel_mean_within(y) - 2 * _kernel_mean(x, y)).item()


def kernel_distance(x: Tensor, y: Tensor, *, subsets: int | None = None, subset_size: int = 1000,
                    generator: Generator | None = None) -> float:  # fmt: skip
    """Return the squared maximum mean discrepancy of two sets of features, by its unbiased estimator.

    The kernel is (x . y / F + 1)^3: with Inception's features this is the KID. It is right on average for any N and
    M, which may differ; so it can come out below 0 where the two sets are of one distribution.
    Args: x: (N, F). y: (M, F). subsets: None uses all pairs at once, the estimate with the least variance; a number
        averages over that many subsets of `subset_size` rows, drawn without replacement, as published KIDs do.
        generator: draws the subsets, on the CPU.
    Raises: ValueError: fewer than two rows, another F, values that are not finite, subsets larger than a set.
    Source: Binkowski et al. 2018, arXiv:1801.01401, section 4; Gretton et al. 2012 (JMLR 13), equation 3.
    """
    x, y = same_space(2, x=x, y=y)
    if subsets is None:
        return _unbiased_mmd(x, y)
    if subsets < 1 or not 2 <= subset_size <= min(len(x), len(y)):
        raise ValueError(
            f"{subsets} subsets of {subset_size} rows, expected at least 1 of 2 to {min(len(x), len(y))} rows"
        )
    found = []
    for _ in range(subsets):
        some_x, some_y = (
            rows[torch.randperm(len(rows), generator=generator)[:subset_size].to(rows.device)]
            for rows in (x, y)
        )
        found.append(_unbiased_mmd(some_x, some_y))
    return math.fsum(found) / subsets


def inception_score(logits: Tensor) -> float:
    """Return exp of the mean KL(p(class | image) || p(class)), between 1 and K, from a classifier's logits (N, K).

    It rises with certain predictions that differ between images. It never looks at a real image, and K perfect images,
    one a class, reach the maximum. All N form one group here; the published figures average over ten groups.
    Raises: ValueError: logits are not (N, K) floats, or hold a value that is not finite.
    Source: Salimans et al. 2016, arXiv:1606.03498, section 4; its limits: Barratt and Sharma 2018, arXiv:1801.01973.
    """
    (logits,) = same_space(1, logits=logits)
    log_p = torch.log_softmax(logits, dim=1)
    log_marginal = torch.logsumexp(log_p, dim=0) - math.log(len(log_p))
    divergence = (log_p.exp() * (log_p - log_marginal)).sum(1)
    return divergence.mean().exp().item()
