"""Frechet distance, kernel distance and Inception Score, against other libraries and cases whose answer is known."""

import math
import warnings

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.optimize
import scipy.stats
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

from imagegen.metrics import (
    frechet_distance,
    gaussian_frechet,
    inception_score,
    kernel_distance,
    standard_error,
)

TIGHT = {"rel": 1e-9, "abs": 1e-9}
PARITY = {"rel": 1e-6, "abs": 1e-6}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features(n: int, width: int, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    """Return correlated features of which each has another scale and mean."""
    mix = normal(width, width, seed=99) + torch.diag(torch.linspace(0.1, 3.0, width, dtype=torch.float64))
    return normal(n, width, seed=seed) @ mix + torch.linspace(-1, 2, width, dtype=torch.float64) + shift


def positive(width: int, seed: int) -> torch.Tensor:
    root = normal(width, width, seed=seed)
    return root @ root.T + 0.1 * torch.eye(width, dtype=torch.float64)


def rotation(width: int) -> torch.Tensor:
    return torch.linalg.qr(normal(width, width, seed=7)).Q


class AsTheyAre(torch.nn.Module):
    """A feature network that hands on what it is given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def torchmetrics_fid(x: torch.Tensor, y: torch.Tensor) -> float:
    metric = FrechetInceptionDistance(feature=AsTheyAre(x.shape[1])).set_dtype(torch.float64)
    metric.update(x.double(), real=True)
    metric.update(y.double(), real=False)
    return metric.compute().item()


# ---- Gaussians --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 8, 40])
def test_the_distance_of_gaussians_agrees_with_the_matrix_square_root_of_scipy(width):
    (mean_x, mean_y), cov_x, cov_y = normal(2, width), positive(width, 1), positive(width, 2)
    root = scipy.linalg.sqrtm((cov_x @ cov_y).numpy())
    assert np.abs(np.imag(root)).max() < 1e-9 * np.abs(root).max()
    trace = np.trace((cov_x + cov_y).numpy()) - 2 * np.trace(np.real(root))
    expected = (mean_x - mean_y).square().sum().item() + trace
    assert gaussian_frechet(mean_x, cov_x, mean_y, cov_y) == pytest.approx(expected, **TIGHT)


def test_covariances_that_commute_have_the_distance_of_their_deviations():
    a, b = torch.tensor([4.0, 9.0, 0.25]), torch.tensor([1.0, 16.0, 0.0])
    gap, turn = torch.tensor([1.0, -2.0, 0.5]), rotation(3).float()
    expected = 5.25 + 1 + 1 + 0.25
    assert gaussian_frechet(gap, a.diag(), 0 * gap, b.diag()) == pytest.approx(expected, **TIGHT)
    turned = gaussian_frechet(turn @ gap, turn @ a.diag() @ turn.T, 0 * gap, turn @ b.diag() @ turn.T)
    assert turned == pytest.approx(expected, rel=1e-3)  # covariances in float32


@pytest.mark.parametrize(("mean", "std"), [(0.0, 2.0), (3.0, 1.0), (-1.0, 0.3), (0.5, 0.0)])
def test_in_one_dimension_it_is_the_cost_of_moving_one_density_onto_the_other(mean, std):
    """The optimal map on a line keeps the order, so the cost is an integral over quantiles, done numerically."""

    def cost(p: float) -> float:
        return (scipy.stats.norm.ppf(p) * (1 - std) - mean) ** 2

    moved = sum(scipy.integrate.quad(cost, *part, limit=200)[0] for part in ((0.0, 0.5), (0.5, 1.0)))
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    assert moved > 0.4
    assert gaussian_frechet(zero, one, zero + mean, one * std**2) == pytest.approx(moved, rel=1e-6)


def test_on_a_line_of_samples_it_is_the_cost_of_the_sorted_pairs():
    quantiles = torch.as_tensor(scipy.stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000))
    x, y = 1 + 2 * quantiles, -1 + 0.5 * quantiles
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    cost = (x.sort().values - shuffled.sort().values).square().mean().item()
    assert frechet_distance(x[:, None], shuffled[:, None]) == pytest.approx(cost, rel=1e-4)
    assert (x - shuffled).square().mean().item() > 1.2 * cost  # another pairing costs more


def test_it_is_the_mean_cost_of_the_best_coupling_by_monte_carlo():
    """x -> m_y + A (x - m_x) carries one Gaussian onto the other; no other coupling tried is cheaper."""
    (mean_x, mean_y), cov_x, cov_y = normal(2, 4), positive(4, 1), positive(4, 2)
    root = torch.as_tensor(np.real(scipy.linalg.sqrtm(cov_x.numpy())))
    inner = torch.as_tensor(np.real(scipy.linalg.sqrtm((root @ cov_y @ root).numpy())))
    carry = torch.linalg.solve(root, torch.linalg.solve(root, inner).T).T
    assert torch.allclose(carry @ cov_x @ carry.T, cov_y, rtol=1e-8)
    noise = normal(400_000, 4, seed=3)
    x = mean_x + noise @ root
    cost = (x - (mean_y + (x - mean_x) @ carry.T)).square().sum(1)
    expected = gaussian_frechet(mean_x, cov_x, mean_y, cov_y)
    error = standard_error(cost)
    assert error < 0.01 * expected
    assert abs(cost.mean().item() - expected) < 4 * error
    factor = torch.linalg.cholesky(cov_y)
    for turn in (torch.eye(4, dtype=torch.float64), rotation(4)):
        other = (x - (mean_y + noise @ turn @ factor.T)).square().sum(1)
        assert other.mean().item() > expected + 10 * standard_error(other)


def test_no_pairing_of_samples_is_cheaper_than_the_distance_of_their_gaussians():
    """Gelbrich's bound, on samples far from Gaussian, against the best assignment; a symmetric map reaches it."""
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.rand(60, 3, generator=generator, dtype=torch.float64) ** power for power in (1, 4))

    def bound(x: torch.Tensor, y: torch.Tensor) -> float:
        moments = [m for t in (x, y) for m in (t.mean(0), torch.cov(t.T, correction=0))]
        return gaussian_frechet(*moments)

    def assignment(x: torch.Tensor, y: torch.Tensor) -> float:
        costs = torch.cdist(x, y).square().numpy()
        return costs[scipy.optimize.linear_sum_assignment(costs)].mean()

    assert 0.3 * assignment(x, y) < bound(x, y) < assignment(x, y)
    y = x @ positive(3, 4) + 1
    assert bound(x, y) == pytest.approx(assignment(x, y), **TIGHT)
    assert bound(x, y) == pytest.approx((x - y).square().sum(1).mean().item(), **TIGHT)


def test_a_covariance_that_is_none_is_refused():
    zero, eye = torch.zeros(2), torch.eye(2)
    with pytest.raises(ValueError, match="cov_y has the eigenvalue -0.5, expected none below 0"):
        gaussian_frechet(zero, eye, zero, torch.tensor([[1.0, 1.5], [1.5, 1.0]]))
    with pytest.raises(
        ValueError, match="cov_x differs from its transpose by 0.5, expected a symmetric matrix"
    ):
        gaussian_frechet(zero, torch.tensor([[1.0, 0.5], [0.0, 1.0]]), zero, eye)
    with pytest.raises(ValueError, match=r"cov_x is \(2,\), expected \(F, F\)"):
        gaussian_frechet(zero, zero, zero, eye)
    with pytest.raises(ValueError, match="cov_y holds torch.float32 or values that are not finite"):
        gaussian_frechet(zero, eye, zero, eye * math.inf)
    with pytest.raises(ValueError, match="a mean holds values that are not finite"):
        gaussian_frechet(zero * math.nan, eye, zero, eye)
    for mean in (torch.zeros(3), torch.zeros(1), torch.zeros(())):
        with pytest.raises(ValueError, match="features, expected the same"):
            gaussian_frechet(mean, eye, zero, eye)


# ---- Frechet distance of samples --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "width"), [(300, 500, 1), (300, 200, 5), (400, 400, 64)])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_the_distance_of_samples_agrees_with_torchmetrics(n, m, width, shift):
    x, y = features(n, width, shift=shift), features(m, width, seed=1, shift=shift) * 1.2
    assert frechet_distance(x, y) == pytest.approx(torchmetrics_fid(x, y), **PARITY)
    assert frechet_distance(x.float(), y) == pytest.approx(torchmetrics_fid(x.float(), y), **PARITY)


@pytest.mark.parametrize(("n", "m"), [(10, 12), (10, 400), (2, 3)])
def test_fewer_samples_than_features_give_what_torchmetrics_gives(n, m):
    """The covariances have no full rank; the exact value comes from the samples themselves, with no square root."""
    x, y = features(n, 30), features(m, 30, seed=1)
    a, b = ((t - t.mean(0)) / math.sqrt(len(t) - 1) for t in (x, y))
    overlap = torch.linalg.svdvals(a @ b.T).sum()
    exact = (x.mean(0) - y.mean(0)).square().sum() + a.square().sum() + b.square().sum() - 2 * overlap
    assert frechet_distance(x, y) == pytest.approx(exact.item(), rel=1e-7)
    assert frechet_distance(x, y) == pytest.approx(torchmetrics_fid(x, y), **PARITY)


def test_one_image_repeated_has_a_covariance_of_zero():
    x, y = features(1, 6).repeat(50, 1), features(80, 6, seed=1)
    expected = (x[0] - y.mean(0)).square().sum() + torch.cov(y.T).trace()
    assert frechet_distance(x, y) == pytest.approx(expected.item(), **TIGHT)


def test_the_distance_is_zero_to_itself_symmetric_and_moves_with_the_features():
    x, y = features(300, 12), features(200, 12, seed=1) * 1.3 + 0.5
    assert 0 <= frechet_distance(x, x) < 1e-9 * torch.cov(x.T).trace().item()
    found = frechet_distance(x, y)
    assert found > 1
    assert frechet_distance(y, x) == pytest.approx(found, **TIGHT)
    turn = rotation(12)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(found, **TIGHT)
    assert frechet_distance(x + 9, y + 9) == pytest.approx(found, **TIGHT)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * found, **TIGHT)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    assert frechet_distance(x[order], y) == pytest.approx(found, **TIGHT)


def test_real_against_real_is_not_zero_and_falls_with_the_number_of_samples():
    """The bias goes as 1 / N, so figures of different N cannot be compared."""

    def floor(n: int) -> torch.Tensor:
        found = [frechet_distance(normal(n, 8, seed=i), normal(n, 8, seed=1000 + i)) for i in range(40)]
        return torch.tensor(found)

    few, many = floor(64), floor(1024)
    assert standard_error(few) < 0.05 * few.mean() and standard_error(many) < 0.05 * many.mean()
    assert 16 * 0.8 < few.mean() / many.mean() < 16 * 1.4


# ---- kernel distance --------------------------------------------------------------------------------------------


def by_definition(x: torch.Tensor, y: torch.Tensor) -> float:
    def mean(a: torch.Tensor, b: torch.Tensor, same: bool) -> float:
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return math.fsum((float(a[i] @ b[j]) / a.shape[1] + 1) ** 3 for i, j in pairs) / len(pairs)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.parametrize(("n", "m"), [(7, 7), (4, 11), (2, 3)])
def test_the_kernel_distance_is_that_of_its_definition(n, m):
    x, y = features(n, 5), features(m, 5, seed=1)
    assert kernel_distance(x, y) == pytest.approx(by_definition(x, y), **TIGHT)


@pytest.mark.parametrize(("n", "width"), [(20, 3), (300, 64), (700, 16)])
def test_the_kernel_distance_agrees_with_torchmetrics(n, width):
    x, y = features(n, width), features(n, width, seed=1) * 1.1
    assert kernel_distance(x, y) == pytest.approx(poly_mmd(x, y).item(), **PARITY)
    assert kernel_distance(x.float(), y) == pytest.approx(poly_mmd(x.float().double(), y).item(), **PARITY)


def test_subsets_agree_with_torchmetrics_draw_by_draw():
    x, y = features(120, 8), features(90, 8, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = KernelInceptionDistance(feature=AsTheyAre(8), subsets=4, subset_size=50)
    metric.update(x, real=True)
    metric.update(y, real=False)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = metric.compute()[0].item()
    found = kernel_distance(x, y, subsets=4, subset_size=50, generator=torch.Generator().manual_seed(3))
    assert found == pytest.approx(expected, **PARITY)
    other = kernel_distance(x, y, subsets=4, subset_size=50, generator=torch.Generator().manual_seed(4))
    assert abs(other - found) > 1e-3
    for subsets in (1, 3):
        whole = kernel_distance(x[:90], y, subsets=subsets, subset_size=90)
        assert whole == pytest.approx(kernel_distance(x[:90], y), **TIGHT)


@pytest.mark.parametrize(("shift", "truth"), [(0.0, 0.0), (0.5, 3 * 0.5**2 + 3 * 0.25**2 + 1.625**2)])
@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 9)])
def test_small_samples_are_right_on_average(shift, truth, n, m):
    """In one dimension the distance is a sum over three moments, so it is known; draws of four to nine points meet it.

    Power: the estimator with the pairs of a point with itself misses the truth by many standard errors.
    """
    found, with_own_pairs = [], []
    for points in normal(1500, n + m, 1):
        x, y = points[:n], points[n:] + shift
        found.append(kernel_distance(x, y))
        means = [((a @ b.T + 1) ** 3).mean().item() for a, b in ((x, x), (y, y), (x, y))]
        with_own_pairs.append(means[0] + means[1] - 2 * means[2])
    found, with_own_pairs = torch.tensor(found), torch.tensor(with_own_pairs)
    assert abs(found.mean() - truth) < 4 * standard_error(found)
    assert with_own_pairs.mean() - truth > 10 * standard_error(with_own_pairs)
    assert (found < 0).any()


def test_the_kernel_distance_is_symmetric_and_does_not_see_a_rotation():
    x, y = features(60, 9), features(40, 9, seed=1, shift=4.0)
    found = kernel_distance(x, y)
    assert found > 0
    assert kernel_distance(y, x) == pytest.approx(found, **TIGHT)
    assert kernel_distance(x @ rotation(9), y @ rotation(9)) == pytest.approx(found, **TIGHT)


# ---- Inception Score --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "classes", "scale"), [(50, 3, 1.0), (400, 10, 5.0), (7, 10, 0.1), (1, 4, 1.0)])
def test_the_inception_score_agrees_with_torchmetrics_and_with_scipy(n, classes, scale):
    logits = scale * normal(n, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = InceptionScore(feature=AsTheyAre(classes), splits=1)
        metric.update(logits)
        expected = metric.compute()[0].item()
    assert inception_score(logits) == pytest.approx(expected, **PARITY)
    p = scipy.special.softmax(logits.numpy(), axis=1)
    divergences = [scipy.stats.entropy(row, p.mean(0)) for row in p]
    assert inception_score(logits) == pytest.approx(math.exp(np.mean(divergences)), **TIGHT)


def test_the_inception_score_goes_from_one_to_the_number_of_classes():
    assert inception_score(torch.zeros(5, 10)) == pytest.approx(1, **TIGHT)
    assert inception_score(normal(1, 10).repeat(8, 1)) == pytest.approx(1, **TIGHT)
    sure = 1e4 * torch.eye(10)  # the classes' probabilities underflow
    assert inception_score(sure) == pytest.approx(10, **TIGHT)
    assert inception_score(sure[:4].repeat(3, 1)) == pytest.approx(4, **TIGHT)
    assert inception_score(sure[[0, 0, 0, 1]]) == pytest.approx(
        math.exp(scipy.stats.entropy([0.75, 0.25])), **TIGHT
    )
    logits = normal(30, 6)
    assert inception_score(logits + normal(30, 1)) == pytest.approx(inception_score(logits), **TIGHT)


# ---- the door ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
def test_bad_features_are_refused(measure):
    x = features(6, 3)
    bad = x.clone()
    bad[2, 1], bad[3, 0] = math.nan, math.inf
    for y, said in (
        (x[:1], r"y is \(1, 3\), expected \(N, F\) with N >= 2 and F >= 1"),
        (x[0], r"y is \(3,\), expected \(N, F\)"),
        (x[:, :0], r"y is \(6, 0\)"),
        (x[:, :2], "y has 2 features and x 3, expected the same"),
        (bad, "y holds 2 values that are not finite, expected none"),
        (x.long(), "y holds torch.int64, expected features of a floating-point type"),
    ):
        with pytest.raises(ValueError, match=said):
            measure(x, y)
    with pytest.raises(ValueError, match=r"x is \(1, 3\), expected \(N, F\) with N >= 2"):
        measure(x[:1], x)


def test_subsets_that_cannot_be_drawn_are_refused():
    x, y = features(6, 3), features(9, 3)
    for subsets, size in ((0, 4), (3, 7), (3, 1)):
        with pytest.raises(
            ValueError, match=f"{subsets} subsets of {size} rows, expected at least 1 of 2 to 6"
        ):
            kernel_distance(x, y, subsets=subsets, subset_size=size)
    with pytest.raises(ValueError, match="3 subsets of 1000 rows"):
        kernel_distance(x, y, subsets=3)


def test_bad_logits_are_refused():
    with pytest.raises(ValueError, match=r"logits is \(4,\), expected \(N, F\)"):
        inception_score(torch.zeros(4))
    with pytest.raises(ValueError, match="logits holds 1 values that are not finite"):
        inception_score(torch.tensor([[0.0, -math.inf]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_arithmetic_is_in_float64_whatever_the_features_are(dtype):
    x, y = (features(50, 4, seed=s, shift=10.0).to(dtype) for s in (0, 1))
    for measure in (frechet_distance, kernel_distance):
        assert measure(x, y) == measure(x.double(), y.double())
    assert inception_score(x) == inception_score(x.double())
