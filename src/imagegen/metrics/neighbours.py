"""Measures by nearest neighbours among features (N, F): fidelity, diversity and memorisation."""

from collections.abc import Iterator

import torch
from torch import Tensor

from imagegen.metrics.features import same_space

CHUNK = 256  # rows compared with all others at once: 256 against 10,000 take 20 MB


def _squared_distances(x: Tensor, y: Tensor, chunk: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the first row of each chunk of x with |x_i - y_j|^2, (B, M); the next chunk overwrites it.

    From one matrix product about the mean of y: exact up to rounding of some 1e-15 (|x_i|^2 + |y_j|^2).
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}, expected at least 1")
    x, y = x - y.mean(0), y - y.mean(0)
    norms, buffer = y.square().sum(1), x.new_empty(min(chunk, len(x)), len(y))
    for start in range(0, len(x), chunk):
        rows = x[start : start + chunk]
        squared = torch.addmm(norms, rows, y.T, alpha=-2, out=buffer[: len(rows)])
        yield start, squared.add_(rows.square().sum(1, keepdim=True))


def _lowest(
    x: Tensor, y: Tensor, allowance: Tensor | None = None, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Return the distance (N,) of each x to the y_j with the least |x - y_j|^2 - allowance_j, and that j (N,).

    The matrix product finds j; the distance to it is then taken from the difference itself, so that equal rows are at
    distance 0.
    """
    distances, found = [], []
    for start, squared in _squared_distances(x, y, chunk):
        index = (squared if allowance is None else squared.sub_(allowance)).argmin(1)
        distances.append(torch.linalg.vector_norm(x[start : start + chunk] - y[index], dim=1))
        found.append(index)
    return torch.cat(distances), torch.cat(found)


def nearest(x: Tensor, y: Tensor, *, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """Return the Euclidean distance of each row of x to the nearest row of y, (N,) float64, and its index, (N,).

    Every pair is looked at. Of neighbours whose distances agree up to rounding, either may be named.
    Args: x: (N, F). y: (M, F). chunk: rows of x at once, which bounds the memory and changes nothing else.
    Raises: ValueError: an empty set, another F, values that are not finite, chunk less than 1.
    """
    x, y = same_space(1, x=x, y=y)
    return _lowest(x, y, chunk=chunk)


def _radii(name: str, x: Tensor, k: int) -> Tensor:
    """Return the distance of each row to its k-th nearest other row, (N,). A row is no neighbour of its own."""
    if not 1 <= k < len(x):
        raise ValueError(f"k is {k}, expected 1 to {len(x) - 1}, for {name} has {len(x)} rows")
    radii = []
    for start, squared in _squared_distances(x, x, CHUNK):
        squared.diagonal(start).fill_(torch.inf)
        index = squared.topk(k, dim=1, largest=False).indices
        gaps = x[start : start + CHUNK, None] - x[index]  # (B, k, F)
        radii.append(torch.linalg.vector_norm(gaps, dim=2).amax(1))
    return torch.cat(radii)


def _share_inside(x: Tensor, centres: Tensor, radii: Tensor) -> float:
    """Return the share of x that lies in at least one ball, its edge included."""
    distances, index = _lowest(x, centres, allowance=radii.square())
    return (distances <= radii[index]).double().mean().item()


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> tuple[float, float]:
    """Return precision and recall: the share of fakes among the real images, and of real images among the fakes.

    A set covers the balls around its points that reach to the k-th nearest other point of the set. Precision is the
    share of fakes inside the balls of the real images; recall the share of real images inside those of the fakes.
    Neither is 1 for two samples of one distribution: give real against real beside. Both depend on N and k.
    Args: real: (N, F). fake: (M, F). k: less than N and M.
    Raises: ValueError: another F, values that are not finite, k out of range.
    Source: Kynkaanniemi et al. 2019, arXiv:1904.06991, equations 1 and 2.
    """
    real, fake = same_space(2, real=real, fake=fake)
    real_radii, fake_radii = _radii("real", real, k), _radii("fake", fake, k)
    return _share_inside(fake, real, real_radii), _share_inside(real, fake, fake_radii)


def coverage(real: Tensor, fake: Tensor, *, k: int = 5) -> float:
    """Return the share of real images that have a fake nearer than their k-th nearest other real image.

    Unlike recall it cannot be raised by a few outlying fakes. For N and M samples of one distribution its mean is
    1 - (N-1)...(N-k) / ((N+M-1)...(N+M-k)), about 1 - 2^-k if N = M, and less with fewer fakes.
    Args: real: (N, F). fake: (M, F), M >= 1. k: less than N.
    Raises: ValueError: another F, values that are not finite, k out of range.
    Source: Naeem et al. 2020, arXiv:2002.09797, section 3.
    """
    real, fake = same_space(1, real=real, fake=fake)
    distances, _ = _lowest(real, fake)
    return (distances <= _radii("real", real, k)).double().mean().item()


def memorisation(fake: Tensor, train: Tensor, test: Tensor) -> tuple[float, float]:
    """Return the share of fakes that are nearer to train than to an equally large test set, and its standard error.

    0.5 where nothing is memorised, however good or bad the fakes are: train and test are then two samples of one
    distribution, and neither is favoured. 1 where every fake is a copy. If T fakes lie nearest to one of n training
    images, and S to one of m test images, the share is (T/n) / (T/n + S/m): with n = m it is the plain share, else
    every image counts by the size of its set. A tie counts as half of each.

    The standard error is that of a share of 0.5: the exact spread of T if train and test images changed places at
    random, which allows for fakes that share a neighbour. Features must treat train and test alike: those of a
    network trained on `train` may not, so measure a held-out part of the test set as if it were fakes.
    Args: fake: (N, F). train: (n, F). test: (m, F), with no image in both.
    Raises: ValueError: an empty set, another F, values that are not finite.
    Source: Platzer and Reutterer 2021, arXiv:2104.00635 (n = m). A related test that compares distances, and so takes
        poor fakes for original ones: Meehan et al. 2020, arXiv:2004.05675.
    """
    fake, train, test = same_space(1, fake=fake, train=train, test=test)
    n, m = len(train), len(test)
    (to_train, of_train), (to_test, of_test) = _lowest(fake, train), _lowest(fake, test)
    by_train = torch.where(to_train == to_test, 0.5, (to_train < to_test).double())
    rate_train, rate_test = by_train.sum().item() / n, (1 - by_train).sum().item() / m
    share = rate_train / (rate_train + rate_test)
    # How many fakes each image is nearest to: were its label drawn anew, so many would change sides together.
    counts = torch.cat([torch.bincount(of_train, by_train, n), torch.bincount(of_test, 1 - by_train, m)])
    pool = n + m
    spread = counts.square().sum().item() - len(fake) ** 2 / pool
    variance = n * m / (pool * (pool - 1)) * max(0.0, spread) / len(fake) ** 2  # of T / N
    return share, pool**2 / (4 * n * m) * variance**0.5  # times the slope of the share at T / N = n / pool
