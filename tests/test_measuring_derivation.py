"""The derivation of the measures of generators, step by step, on distributions whose true values are known."""

import itertools
import math

import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats
import skimage.metrics
import torch
from torch import Tensor
from torch.testing import assert_close
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from imagegen import metrics
from imagegen.evaluation.samples import Ruler, raw_features

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def within_4_errors(draws: Tensor, value: float, *, power: float = 0.01) -> None:
    """The mean of the draws is the value, judged by its standard error, which must be a small share of the value."""
    error = (draws.std() / math.sqrt(len(draws))).item()
    assert error < power * abs(value), "too few draws to tell"
    assert abs(draws.mean().item() - value) < 4 * error


# ---- pixels ----------------------------------------------------------------------------------------------------


def picture(seed: int = 0, side: int = 24) -> Tensor:
    """Return a smooth image (1, 1, side, side) in [0, 1] with structure at several scales."""
    coarse = uniform(1, 1, 6, 6, seed=seed)
    smooth = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic", align_corners=False)
    return (0.8 * smooth + 0.2 * uniform(1, 1, side, side, seed=seed + 100)).clamp(0, 1)


X, Y = picture(1), (0.7 * picture(1) + 0.3 * picture(2)).clamp(0, 1)


@pytest.mark.equation("measure-psnr", tolerance="1e-10")
def test_psnr_is_scikit_images_and_does_not_depend_on_the_unit():
    """Compare MSE and PSNR with scikit-image, in [0, 1], in bytes and in [-1, 1], each with its own span."""
    x, y = X[0, 0].numpy(), Y[0, 0].numpy()
    assert metrics.mse(X, Y).item() == pytest.approx(skimage.metrics.mean_squared_error(x, y), abs=1e-12)
    expected = skimage.metrics.peak_signal_noise_ratio(x, y, data_range=1)
    by_hand = 10 * math.log10(1 / (X - Y).square().mean().item())
    assert by_hand == pytest.approx(expected, abs=1e-10)
    for scale, shift in ((1, 0), (255, 0), (2, -1)):
        value = metrics.psnr(X * scale + shift, Y * scale + shift, span=scale).item()
        assert value == pytest.approx(expected, abs=1e-10)


@pytest.mark.equation("measure-mse-parts", tolerance="1e-12")
@pytest.mark.parametrize("y", [Y, 0.5 * X, X + 0.2, X.roll(1, 3), 1 - X], ids=range(5))
def test_the_squared_error_is_brightness_contrast_and_structure(y):
    """Add the three parts, with SciPy's correlation, and compare with the error; each damage fills its own part."""
    a, b = X.flatten().numpy(), y.flatten().numpy()
    rho = scipy.stats.pearsonr(a, b).statistic
    parts = ((a.mean() - b.mean()) ** 2, (a.std() - b.std()) ** 2, 2 * a.std() * b.std() * (1 - rho))
    assert sum(parts) == pytest.approx(metrics.mse(X, y).item(), abs=1e-12)


def test_each_part_answers_to_its_own_damage():
    shifted = X + 0.2
    assert metrics.mse(X, shifted).item() == pytest.approx((X.mean() - shifted.mean()).item() ** 2)
    contrast = X.mean() + 0.5 * (X - X.mean())
    spread = (X.std(correction=0) - contrast.std(correction=0)).item() ** 2
    assert metrics.mse(X, contrast).item() == pytest.approx(spread)


def ratio(a: Tensor, b: Tensor, c: float) -> Tensor:
    return (2 * a * b + c) / (a**2 + b**2 + c)


@pytest.mark.equation("measure-ratio", tolerance="1e-10")
def test_the_ratio_is_one_less_the_relative_squared_difference():
    """Compare both sides on a grid of pairs and constants: at most 1, 1 only where equal, a function of a / b."""
    a, b = (
        t.flatten()
        for t in torch.meshgrid(*[torch.linspace(0.1, 3, 30, dtype=torch.float64)] * 2, indexing="ij")
    )
    for c in (0.0, 0.01, 1.0):
        left = ratio(a, b, c)
        assert_close(left, 1 - (a - b) ** 2 / (a**2 + b**2 + c), **EXACT)
        assert_close(left == 1, a == b)
        assert (left <= 1).all()
    assert_close(ratio(5 * a, 5 * b, 0.0), ratio(a, b, 0.0), **EXACT)
    assert (ratio(5 * a, 5 * b, 0.5) - ratio(a, b, 0.5)).abs().max() > 0.01


def windows(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Return means, standard deviations and covariance of all Gaussian windows of two images (1, 1, H, W)."""
    line = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    w = (torch.outer(line, line) / line.sum() ** 2).flatten()[:, None]
    a, b = (torch.nn.functional.unfold(t, 11)[0] for t in (x, y))  # (121, windows)
    m_a, m_b = (w * a).sum(0), (w * b).sum(0)
    s_a, s_b = ((w * (t - m) ** 2).sum(0).sqrt() for t, m in ((a, m_a), (b, m_b)))
    return m_a, m_b, s_a, s_b, (w * (a - m_a) * (b - m_b)).sum(0)


@pytest.mark.equation("measure-ssim-parts", "measure-ssim", tolerance="1e-6")
@pytest.mark.parametrize("span", [1, 255])
def test_the_product_of_three_comparisons_is_scikit_images_ssim(span):
    """Multiply the three comparisons in every window; compare with the short form, scikit-image and the package."""
    x, y = X * span, Y * span
    C1, C2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    m_x, m_y, s_x, s_y, s_xy = windows(x, y)
    structure = (s_xy + C2 / 2) / (s_x * s_y + C2 / 2)
    product = ratio(m_x, m_y, C1) * ratio(s_x, s_y, C2) * structure
    short = (2 * m_x * m_y + C1) * (2 * s_xy + C2) / ((m_x**2 + m_y**2 + C1) * (s_x**2 + s_y**2 + C2))
    assert_close(product, short, **EXACT)
    theirs = skimage.metrics.structural_similarity(
        x[0, 0].numpy(), y[0, 0].numpy(), data_range=span, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert product.mean().item() == pytest.approx(theirs, abs=1e-6)
    assert metrics.ssim(x, y, span=span).item() == pytest.approx(theirs, abs=1e-6)
    assert theirs < 0.95


@pytest.mark.equation("measure-spectrum", tolerance="1e-10")
def test_the_error_of_a_filter_is_read_off_the_spectrum():
    """Filter periodically by a shift and by blurs; compare the error with the sum over frequencies, and its gains."""
    side = X.shape[-1]
    power = torch.fft.fft2(X[0, 0]).abs() ** 2
    omega = 2 * math.pi * torch.fft.fftfreq(side, dtype=torch.float64)
    line = 0.5 + 0.5 * torch.cos(omega)  # of (1/4, 1/2, 1/4)
    blurred = sum(w * v * X.roll((i, j), (2, 3)) for i, w in ((-1, 0.25), (0, 0.5), (1, 0.25))
                  for j, v in ((-1, 0.25), (0, 0.5), (1, 0.25)))  # fmt: skip
    gains = {"shift": 4 * torch.sin(omega / 2) ** 2 * torch.ones(side, 1, dtype=torch.float64),
             "blur": (1 - line[:, None] * line) ** 2}  # fmt: skip
    for name, y in (("shift", X.roll(1, 3)), ("blur", blurred)):
        predicted = (gains[name] * power).sum() / side**4
        assert_close(predicted, metrics.mse(X, y)[0], **EXACT)
    assert gains["blur"].max() <= 1 and gains["shift"].max() == pytest.approx(4)


# ---- the Inception Score ---------------------------------------------------------------------------------------


def kl(p: Tensor, q: Tensor) -> Tensor:
    return torch.special.xlogy(p, p / q).nan_to_num(0).sum(-1)


@pytest.mark.equation("measure-is", "measure-is-information", tolerance="1e-10")
def test_the_score_is_the_mutual_information_of_the_joint_table():
    """Compare exp of the mean KL with the mutual information computed from the joint table p(image, label)."""
    logits = 2 * normal(40, 6, seed=3)
    p = torch.softmax(logits, 1)
    score = kl(p, p.mean(0)).mean().exp()
    joint = p / len(p)
    independent = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    information = (joint * (joint / independent).log()).sum()
    entropies = scipy.stats.entropy(p.mean(0)) - scipy.stats.entropy(p, axis=1).mean()
    assert_close(score.log(), information, **EXACT)
    assert information.item() == pytest.approx(entropies, abs=1e-10)
    assert metrics.inception_score(logits) == pytest.approx(score.item(), abs=1e-10)


@pytest.mark.equation("measure-is-bounds", tolerance="1e-10")
def test_both_bounds_of_the_score_are_reached_and_none_is_passed():
    """Try random answers of every sharpness, and the cases that reach 1, K and N'."""
    for seed, (n, k) in enumerate(itertools.product((1, 2, 5, 30), (2, 7))):
        for scale in (0.0, 1.0, 10.0, 1000.0):
            score = metrics.inception_score(scale * normal(n, k, seed=seed))
            assert 1 - 1e-10 <= score <= min(n, k) + 1e-10
    sure = 1000 * torch.eye(7, dtype=torch.float64)
    assert metrics.inception_score(sure.repeat(4, 1)) == pytest.approx(7, abs=1e-10)
    assert metrics.inception_score(sure[:3]) == pytest.approx(3, abs=1e-10)
    assert metrics.inception_score(sure[:1].repeat(9, 1)) == pytest.approx(1, abs=1e-10)
    assert metrics.inception_score(normal(1, 7).repeat(9, 1)) == pytest.approx(1, abs=1e-10)


# ---- the Frechet distance --------------------------------------------------------------------------------------


def covariance(seed: int, size: int = 3) -> Tensor:
    factor = normal(size, size, seed=seed)
    return factor @ factor.T + 0.1 * torch.eye(size, dtype=torch.float64)


def root(S: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(S)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


def transport_map(S1: Tensor, S2: Tensor) -> Tensor:
    R = root(S1)
    inverse = torch.linalg.inv(R)
    return inverse @ root(R @ S2 @ R) @ inverse


M1, M2, S1, S2 = normal(3, seed=1), normal(3, seed=2), covariance(3), covariance(4)


@pytest.mark.equation("measure-w2", "measure-w2-1d", tolerance="1e-6; points within 1 %")
def test_in_one_dimension_the_cheapest_plan_sorts():
    """Find the cheapest of all pairings of points by the Hungarian method: it sorts, at the integral over quantiles."""
    m1, s1, m2, s2 = 0.5, 1.0, -0.3, 1.8
    closed = (m1 - m2) ** 2 + (s1 - s2) ** 2
    integral, _ = scipy.integrate.quad(
        lambda u: (m1 + s1 * scipy.stats.norm.ppf(u) - m2 - s2 * scipy.stats.norm.ppf(u)) ** 2, 0, 1
    )
    assert integral == pytest.approx(closed, abs=1e-6)
    one = (torch.zeros(1), torch.ones(1, 1))
    moments = (one[0] + m1, one[1] * s1**2, one[0] + m2, one[1] * s2**2)
    assert metrics.gaussian_frechet(*moments) == pytest.approx(closed, abs=1e-6)
    middles = torch.special.ndtri((torch.arange(600, dtype=torch.float64) + 0.5) / 600)
    r, g = (
        m1 + s1 * middles,
        m2 + s2 * middles[torch.randperm(600, generator=torch.Generator().manual_seed(5))],
    )
    cost = (r[:, None] - g).square()
    rows, columns = scipy.optimize.linear_sum_assignment(cost.numpy())
    cheapest = cost[rows, columns].mean().item()
    assert cheapest == pytest.approx((r.sort().values - g.sort().values).square().mean().item(), abs=1e-9)
    assert cheapest == pytest.approx(closed, rel=0.01)
    assert (r - g).square().mean().item() > 2 * closed  # and not every plan is as cheap


@pytest.mark.equation("measure-w2-split", tolerance="1e-10; 4 standard errors, below 1 %")
def test_only_the_cross_covariance_depends_on_the_plan():
    """Draw from three plans with the same marginals; compare the cost with the split, exactly and in expectation."""
    noise, other = normal(200_000, 3, seed=7), normal(200_000, 3, seed=8)
    L1, L2 = torch.linalg.cholesky(S1), torch.linalg.cholesky(S2)
    r = M1 + noise @ L1.T
    for share in (0.0, 0.6, 1.0):
        g = M2 + (share * noise + math.sqrt(1 - share**2) * other) @ L2.T
        cost = (r - g).square().sum(1)
        C = share * L1 @ L2.T  # Cov(r, g)
        fixed = (M1 - M2).square().sum() + S1.trace() + S2.trace()
        within_4_errors(cost, (fixed - 2 * C.trace()).item())
        both = torch.cov(torch.cat([r, g], 1).T, correction=0)
        gap = (r.mean(0) - g.mean(0)).square().sum()
        assert_close(cost.mean(), gap + both.trace() - 2 * both[:3, 3:].trace(), **EXACT)


@pytest.mark.equation("measure-w2-bound", tolerance="1e-9")
def test_no_plan_beats_the_bound_and_the_map_reaches_it():
    """Take many joint covariances and many M: 2 tr C stays below; with the M of the map and its plan it is reached."""
    for seed in range(40):
        joint = covariance(200 + seed, 6)
        V1, V2, C = joint[:3, :3], joint[3:, 3:], joint[:3, 3:]
        for A in (covariance(300 + seed), torch.eye(3, dtype=torch.float64), transport_map(V1, V2)):
            assert 2 * C.trace() <= (A @ V1).trace() + (torch.linalg.inv(A) @ V2).trace() + 1e-9
        A = transport_map(V1, V2)
        bound = (A @ V1).trace() + (torch.linalg.inv(A) @ V2).trace()
        assert_close(2 * (V1 @ A).trace(), bound, rtol=1e-9, atol=1e-9)  # Cov(r, A r) = V1 A


@pytest.mark.equation("measure-map", tolerance="1e-9")
def test_the_map_is_symmetric_positive_and_lands_on_the_other_covariance():
    """Check M S1 M = S2, symmetry and eigenvalues; and that the Cholesky map, which lands there too, costs more."""
    A = transport_map(S1, S2)
    assert_close(A, A.T, rtol=1e-9, atol=1e-9)
    assert torch.linalg.eigvalsh(A).min() > 0
    assert_close(A @ S1 @ A, S2, rtol=1e-9, atol=1e-9)
    B = torch.linalg.cholesky(S2) @ torch.linalg.inv(torch.linalg.cholesky(S1))
    assert_close(B @ S1 @ B.T, S2, rtol=1e-9, atol=1e-9)
    costs = [((T - torch.eye(3)) @ S1 @ (T - torch.eye(3)).T).trace().item() for T in (A, B)]
    zero = torch.zeros(3, dtype=torch.float64)
    assert costs[0] == pytest.approx(metrics.gaussian_frechet(zero, S1, zero, S2), abs=1e-9)
    assert costs[1] > costs[0] + 0.1


@pytest.mark.equation("measure-frechet", tolerance="1e-6; 4 standard errors, below 1 %")
def test_the_closed_form_is_the_cost_of_the_map_and_what_torchmetrics_gives():
    """Move draws by m2 + M (r - m1), average the cost, and compare; the same from features against torchmetrics."""
    exact = metrics.gaussian_frechet(M1, S1, M2, S2)
    R = root(S1)
    by_hand = (M1 - M2).square().sum() + (S1 + S2 - 2 * root(R @ S2 @ R)).trace()
    assert exact == pytest.approx(by_hand.item(), abs=1e-9)
    r = M1 + normal(200_000, 3, seed=9) @ root(S1)
    g = M2 + (r - M1) @ transport_map(S1, S2)
    within_4_errors((r - g).square().sum(1), exact)
    assert_close(torch.cov(g.T), S2, rtol=0.03, atol=0.03)
    module = torch.nn.Identity()
    module.num_features = 3
    theirs = FrechetInceptionDistance(feature=module).set_dtype(torch.float64)
    theirs.update(r[:300], real=True)
    theirs.update(g[300:700], real=False)
    assert theirs.compute().item() == pytest.approx(metrics.frechet_distance(r[:300], g[300:700]), abs=1e-6)


def test_known_distances_come_out():
    """Equal covariances leave the means; diagonal ones a sum over dimensions; a point, the trace."""
    eye, zero = torch.eye(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    assert metrics.gaussian_frechet(zero, eye, zero + 2, eye) == pytest.approx(16)
    a, b = tensor([1.0, 4.0, 9.0, 0.0]), tensor([4.0, 4.0, 1.0, 25.0])
    assert metrics.gaussian_frechet(zero, torch.diag(a), zero, torch.diag(b)) == pytest.approx(1 + 0 + 4 + 25)
    assert metrics.gaussian_frechet(zero, 0 * eye, zero, torch.diag(b)) == pytest.approx(34)


@pytest.mark.equation("measure-eigenvalues", tolerance="1e-9")
def test_the_trace_of_the_root_needs_no_root():
    """Compare the sum of the roots of the eigenvalues of S1 S2 with the trace of the matrix root, singular S1 too."""
    thin = normal(3, 2, seed=11)
    for A in (S1, thin @ thin.T):
        values = torch.linalg.eigvals(A @ S2)
        assert values.imag.abs().max() < 1e-9 and values.real.min() > -1e-9
        R = root(A)
        tolerance = 1e-9 if A is S1 else 1e-6  # the root of an eigenvalue that is 0 up to rounding
        assert_close(values.real.clamp(min=0).sqrt().sum(), root(R @ S2 @ R).trace(), rtol=0, atol=tolerance)


@pytest.mark.equation("measure-gelbrich", tolerance="1e-9")
def test_the_frechet_distance_lies_below_the_transport_cost_of_any_shape():
    """Solve the transport between point sets that are not Gaussian exactly; the Frechet distance is strictly below."""
    shapes = {
        "skewed": (normal(150, 2, seed=1).exp(), normal(150, 2, seed=2)),
        "two lumps": (normal(150, 2, seed=3), normal(150, 2, seed=4).sign() + 0.1 * normal(150, 2, seed=5)),
    }
    for r, g in shapes.values():
        cost = torch.cdist(r, g).square()
        rows, columns = scipy.optimize.linear_sum_assignment(cost.numpy())
        true = cost[rows, columns].mean().item()
        moments = [t for x in (r, g) for t in (x.mean(0), torch.cov(x.T, correction=0))]
        assert metrics.gaussian_frechet(*moments) < true - 0.01
    coin, gaussian = normal(4000, 1, seed=6).sign(), normal(4000, 1, seed=7)
    assert metrics.frechet_distance(coin, gaussian) < 0.01
    true = (coin.sort(0).values - gaussian.sort(0).values).square().mean().item()
    assert true == pytest.approx(2 - 2 * math.sqrt(2 / math.pi), abs=0.05)


# ---- the bias of the Frechet distance --------------------------------------------------------------------------


@pytest.mark.equation("measure-bias-mean", tolerance="4 standard errors, below 2 %")
def test_sample_means_lie_further_apart_by_the_traces():
    """Average the squared distance of sample means over many small sets of different size and distribution."""
    N, M, sets = 8, 5, 40_000
    r = M1 + normal(sets, N, 3, seed=1) @ root(S1)
    g = M2 + (normal(sets, M, 3, seed=2).exp() - math.exp(0.5)) @ torch.diag(tensor([0.5, 1.0, 0.2]))
    # a lognormal, far from Gaussian
    S_g = torch.diag(tensor([0.5, 1.0, 0.2]) ** 2 * (math.exp(2) - math.exp(1)))
    found = (r.mean(1) - g.mean(1)).square().sum(1)
    exact = (M1 - M2).square().sum() + S1.trace() / N + S_g.trace() / M
    within_4_errors(found, exact.item(), power=0.02)


@pytest.mark.equation("measure-bures", tolerance="error falls as the cube")
def test_the_distance_of_near_covariances_is_quadratic_in_their_difference():
    """Shrink a difference E by ten and again: the remainder against the quadratic form falls by about 1,000 each."""
    values, vectors = torch.linalg.eigh(S1)
    E = normal(3, 3, seed=12)
    E = E + E.T
    turned = vectors.T @ E @ vectors
    quadratic = 0.5 * (turned**2 / (values[:, None] + values)).sum().item()
    zero = torch.zeros(3, dtype=torch.float64)
    remainders = []
    for step in (1e-2, 1e-3):
        exact = metrics.gaussian_frechet(zero, S1, zero, S1 + step * values.min() * E)
        scale = (step * values.min().item()) ** 2
        remainders.append(abs(exact - scale * quadratic))
        assert exact == pytest.approx(scale * quadratic, rel=30 * step)
    assert remainders[1] < remainders[0] / 500


def bias_bracket(values: Tensor) -> float:
    pairs = torch.outer(values, values) / (values[:, None] + values)
    return (values.sum() + 0.5 * (pairs.sum() + pairs.diagonal().sum())).item()


SPECTRUM = tensor([2.0, 1.0, 0.3, 0.05])


@pytest.mark.equation("measure-bias", tolerance="4 standard errors, below 1.5 %, and 2 %")
def test_real_against_real_is_as_far_apart_as_predicted():
    """Average distances between sets of one Gaussian, unequal sizes; predict them from the spectrum; also all equal."""
    turn = torch.linalg.qr(normal(4, 4, seed=13))[0]
    predicted = (1 / 200 + 1 / 350) * bias_bracket(SPECTRUM)
    generator = torch.Generator().manual_seed(14)
    found = torch.tensor([
        metrics.frechet_distance(*(torch.randn(n, 4, generator=generator, dtype=torch.float64) * SPECTRUM.sqrt() @ turn
                                   for n in (200, 350)))
        for _ in range(3000)
    ])  # fmt: skip
    error = metrics.standard_error(found)
    assert error < 0.015 * predicted
    assert abs(found.mean().item() - predicted) < 4 * error + 0.02 * predicted
    for F in (1, 2, 64, 2048):
        assert bias_bracket(torch.full((F,), 0.7, dtype=torch.float64)) == pytest.approx(
            0.7 * F * (F + 5) / 4
        )


@pytest.mark.equation("measure-extrapolation", tolerance="4 standard errors")
def test_two_sizes_together_look_past_the_bias():
    """Average 2 d(2N) - d(N) between two different Gaussians: the true distance, from which both alone are far."""
    shift = tensor([0.4, 0.0, 0.0, 0.0])
    eye = torch.diag(SPECTRUM)
    zero = torch.zeros(4, dtype=torch.float64)
    true = metrics.gaussian_frechet(zero, eye, shift, 1.5 * eye)
    generator = torch.Generator().manual_seed(15)

    def found(n):
        x, y = torch.randn(2, n, 4, generator=generator, dtype=torch.float64) * SPECTRUM.sqrt()
        return metrics.frechet_distance(x, shift + math.sqrt(1.5) * y)

    few, many = (torch.tensor([found(n) for _ in range(2000)]) for n in (100, 200))
    error = math.hypot(2 * metrics.standard_error(many), metrics.standard_error(few))
    assert few.mean() > true + 10 * error and many.mean() > true + 5 * error
    assert abs(2 * many.mean().item() - few.mean().item() - true) < 4 * error


# ---- the kernel distance ---------------------------------------------------------------------------------------


def kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.mT / a.shape[-1] + 1) ** 3


POINTS_R, POINTS_G = normal(7, 3, seed=16), 0.5 + normal(5, 3, seed=17) ** 2  # two discrete distributions


def mmd_of_points() -> float:
    """Return MMD^2 of the uniform distributions on both sets of points: every expectation is a finite sum."""
    r, g = POINTS_R, POINTS_G
    return (kernel(r, r).mean() + kernel(g, g).mean() - 2 * kernel(r, g).mean()).item()


def phi(x: Tensor) -> list[Tensor]:
    """Return all products of 0, 1, 2 and 3 of the features, each weighted as the kernel weighs it."""
    one = torch.ones(len(x), 1, dtype=torch.float64)
    orders = [one, x, torch.einsum("na,nb->nab", x, x).flatten(1),
              torch.einsum("na,nb,nc->nabc", x, x, x).flatten(1)]  # fmt: skip
    weights = [1, 3 / 3, 3 / 9, 1 / 27]  # 3 features
    return [math.sqrt(w) * o for w, o in zip(weights, orders)]


@pytest.mark.equation("measure-mmd", "measure-kid-moments", tolerance="1e-10")
def test_the_discrepancy_is_a_distance_of_means_of_products():
    """Write out all products of up to three features; compare the distance of means with kernels, and by order."""

    whole = torch.cat(phi(POINTS_R), 1)
    assert_close(whole @ whole.T, kernel(POINTS_R, POINTS_R), **EXACT)
    terms = [(a.mean(0) - b.mean(0)).square().sum().item() for a, b in zip(phi(POINTS_R), phi(POINTS_G))]
    assert terms[0] == 0 and min(terms[1:]) > 0.01
    assert sum(terms) == pytest.approx(mmd_of_points(), abs=1e-10)


@pytest.mark.equation("measure-kid", tolerance="1e-10")
def test_the_estimator_is_the_double_loop_and_that_of_torchmetrics():
    """Write the three sums as loops; compare with the package for unequal sizes, and torchmetrics for equal ones."""
    r, g = normal(9, 4, seed=18), 0.3 + normal(6, 4, seed=19)

    def mean(x, y, skip):
        values = [
            ((a @ b) / 4 + 1) ** 3 for i, a in enumerate(x) for j, b in enumerate(y) if not (skip and i == j)
        ]
        return sum(values).item() / len(values)

    slow = mean(r, r, True) + mean(g, g, True) - 2 * mean(r, g, False)
    assert metrics.kernel_distance(r, g) == pytest.approx(slow, abs=1e-10)
    assert metrics.kernel_distance(r[:6], g) == pytest.approx(poly_mmd(r[:6], g).item(), abs=1e-10)


@pytest.mark.equation("measure-kid", "measure-kid-bias", tolerance="1e-9")
def test_the_estimator_is_unbiased_and_all_pairs_are_not_by_enumeration():
    """Enumerate all draws of 2 and 3 points; compare the means of both estimators with MMD^2 and with the bias."""
    r_all, g_all = POINTS_R[:4], POINTS_G[:3]
    rr, gg = kernel(r_all, r_all), kernel(g_all, g_all)
    true = (rr.mean() + gg.mean() - 2 * kernel(r_all, g_all).mean()).item()
    bias = ((rr.diagonal().mean() - rr.mean()) / 2 + (gg.diagonal().mean() - gg.mean()) / 3).item()
    spreads = [torch.cov(torch.cat(phi(x), 1).T, correction=0).trace() for x in (r_all, g_all)]
    assert bias == pytest.approx((spreads[0] / 2 + spreads[1] / 3).item(), abs=1e-9)
    unbiased, everything = [], []
    for i in itertools.product(range(4), repeat=2):
        for j in itertools.product(range(3), repeat=3):
            r, g = r_all[list(i)], g_all[list(j)]
            unbiased.append(metrics.kernel_distance(r, g))
            everything.append((kernel(r, r).mean() + kernel(g, g).mean() - 2 * kernel(r, g).mean()).item())
    assert sum(unbiased) / len(unbiased) == pytest.approx(true, abs=1e-9)
    assert bias > 0.1 * true
    assert sum(everything) / len(everything) == pytest.approx(true + bias, abs=1e-9)


def test_an_unbiased_estimate_of_zero_is_often_negative():
    found = tensor([metrics.kernel_distance(*normal(2, 20, 3, seed=seed)) for seed in range(300)])
    assert abs(found.mean().item()) < 4 * metrics.standard_error(found)
    assert 0.3 < (found < 0).double().mean() < 0.8


@pytest.mark.equation("measure-scale", tolerance="1e-9")
@pytest.mark.parametrize("a", [0.2, 3.0])
def test_each_order_of_moments_grows_by_a_power_of_its_own(a):
    """Scale all features by a: d_F^2 grows by a^2 whatever the shift; MMD^2 is a sum of three powers."""
    r, g = POINTS_R, POINTS_G
    whole = metrics.frechet_distance(r, g)
    assert metrics.frechet_distance(a * r + 2, a * g + 2) == pytest.approx(a**2 * whole, rel=1e-9)
    first, second, third = ((x.mean(0) - y.mean(0)).square().sum() for x, y in zip(phi(r)[1:], phi(g)[1:]))
    predicted = (a**2 * first + a**4 * second + a**6 * third).item()
    scaled = kernel(a * r, a * r).mean() + kernel(a * g, a * g).mean() - 2 * kernel(a * r, a * g).mean()
    assert scaled.item() == pytest.approx(predicted, rel=1e-9)
    assert abs(predicted / (a**2 * mmd_of_points()) - 1) > 0.1  # no one power of a does it
    moved = kernel(r + 2, r + 2).mean() + kernel(g + 2, g + 2).mean() - 2 * kernel(r + 2, g + 2).mean()
    assert abs(moved.item() / mmd_of_points() - 1) > 0.1


class Layer(torch.nn.Module):
    """A feature network that gives its pixels, in a unit and from a zero of its own."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))  # tells where the network is
        self.a, self.b = a, b

    def features(self, x: Tensor) -> Tensor:
        return self.a * x.double().flatten(1) + self.b


@pytest.mark.equation("measure-ruler", tolerance="1e-6")
def test_by_the_ruler_the_unit_of_the_network_does_not_matter():
    """Measure with two networks whose features differ by a f + b: equal distances, training set of trace F."""
    levels = torch.Generator().manual_seed(30)
    train, fake = (
        torch.randint(low, 256, (80, 1, 2, 3), dtype=torch.uint8, generator=levels) for low in (0, 60)
    )
    found = []
    for a, b in ((1.0, 0.0), (7.0, -3.0)):
        raw = raw_features(Layer(a, b), train)
        ruler = Ruler(Layer(a, b), raw.mean(0), raw.var(0).mean().sqrt())
        r, g = ruler.features(train), ruler.features(fake)
        assert_close(r.mean(0), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-6)
        assert torch.cov(r.T).trace().item() == pytest.approx(6, abs=1e-6)
        one_image = torch.zeros_like(g)
        assert metrics.frechet_distance(r, one_image) == pytest.approx(6, abs=1e-6)
        found.append([metrics.frechet_distance(r, g), metrics.kernel_distance(r, g),
                      *metrics.precision_recall(r, g), metrics.coverage(r, g)])  # fmt: skip
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[0][2:] == pytest.approx(
        [
            *metrics.precision_recall(raw, raw_features(Layer(a, b), fake)),
            metrics.coverage(raw, raw_features(Layer(a, b), fake)),
        ]
    )


# ---- precision, recall, density, coverage ----------------------------------------------------------------------


def inside(points: Tensor, centres: Tensor, k: int) -> Tensor:
    """Return the table [point j is in the ball of centre i], (points, centres), with full sorts and no cleverness."""
    radii = torch.stack([(centres - c).norm(dim=1).sort().values[k] for c in centres])
    return torch.stack([(centres - p).norm(dim=1) <= radii for p in points])


def density(real: Tensor, fake: Tensor, k: int) -> float:
    return inside(fake, real, k).double().sum().item() / (k * len(fake))


@pytest.mark.equation("measure-precision-recall", "measure-density-coverage", tolerance="exact")
@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_recall_and_coverage_are_the_tables_of_balls(k):
    """Build the tables of who lies in whose ball, and compare their rows and columns with the package."""
    real, fake = normal(60, 3, seed=20), 0.7 + normal(40, 3, seed=21)
    precision, recall = metrics.precision_recall(real, fake, k=k)
    assert precision == pytest.approx(inside(fake, real, k).any(1).double().mean().item())
    assert recall == pytest.approx(inside(real, fake, k).any(1).double().mean().item())
    assert metrics.coverage(real, fake, k=k) == pytest.approx(
        inside(fake, real, k).any(0).double().mean().item()
    )
    assert 0 < precision < 1 and 0 < recall < 1


@pytest.mark.equation("measure-density-coverage", tolerance="exact")
def test_an_outlier_raises_precision_and_not_density_and_bad_fakes_raise_recall_and_not_coverage():
    """Put one real outlier far off, then one fake; the ball-counting pair moves less than the other, as claimed."""
    real, fake = normal(100, 2, seed=22), 6 + normal(100, 2, seed=23)
    wild = torch.cat([real, tensor([[12.0, 12.0]])])
    assert metrics.precision_recall(real, fake)[0] == 0 and metrics.precision_recall(wild, fake)[0] > 0.9
    assert density(wild, fake, 3) < 0.4
    scattered = torch.cat([fake, tensor([[-9.0, -9.0], [9.0, -9.0], [-9.0, 9.0], [-12.0, -12.0]])])
    assert metrics.precision_recall(real, fake)[1] == 0 and metrics.precision_recall(real, scattered)[1] > 0.9
    assert metrics.coverage(real, scattered) < 0.1


@pytest.mark.equation("measure-coverage-expected", tolerance="4 standard errors, below 2 %")
@pytest.mark.parametrize(("N", "M", "k"), [(30, 30, 1), (40, 25, 5), (15, 60, 3)])
def test_density_and_coverage_of_equals_do_not_depend_on_the_distribution(N, M, k):
    """Average both over many pairs of sets of a heavy-tailed distribution, and compare with the counting argument."""
    odd = torch.distributions.StudentT(tensor(1.5))
    torch.manual_seed(24)
    pairs = [(odd.sample((N, 2)), odd.sample((M, 2))) for _ in range(800)]
    expected = 1 - math.prod((N - 1 - j) / (N + M - 1 - j) for j in range(k))
    within_4_errors(tensor([metrics.coverage(r, g, k=k) for r, g in pairs]), expected, power=0.02)
    within_4_errors(tensor([density(r, g, k) for r, g in pairs]), 1.0, power=0.04)
    limit = 1 - math.prod((10**7 - 1 - j) / (2 * 10**7 - 1 - j) for j in range(k))
    assert limit == pytest.approx(1 - 2**-k, abs=1e-6)


# ---- memorisation ----------------------------------------------------------------------------------------------


@pytest.mark.equation("measure-memorisation", tolerance="exact")
def test_memorisation_counts_who_is_nearer_to_the_training_set():
    """Compare with brute force over all distances, and with the nearest neighbours of the package."""
    fake, T, H = normal(50, 4, seed=25), normal(80, 4, seed=26), normal(80, 4, seed=27)
    brute = torch.stack([(T - f).norm(dim=1).min() < (H - f).norm(dim=1).min() for f in fake]).double().mean()
    assert metrics.memorisation(fake, T, H)[0] == pytest.approx(brute.item(), abs=1e-12)
    assert_close((metrics.nearest(fake, T)[0] < metrics.nearest(fake, H)[0]).double().mean(), brute)


@pytest.mark.equation("measure-memorisation-share", tolerance="4 standard errors, below 2 %")
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("offset", [0.0, 2.0], ids=["good", "bad"])
def test_the_share_of_copies_is_twice_the_excess_over_one_half(share, offset):
    """Average over many training sets: (1 + share) / 2, for a generator at the right place and for one far off."""
    found = []
    for seed in range(400):
        T, H, new = normal(40, 3, seed=seed), normal(40, 3, seed=1000 + seed), normal(40, 3, seed=2000 + seed)
        copies = round(share * 40)
        fake = torch.cat([T[:copies], (offset + new)[copies:]])
        found.append(metrics.memorisation(fake, T, H)[0])
    found = tensor(found)
    if share == 1:
        assert (found == 1).all()
    else:
        within_4_errors(found, (1 + share) / 2, power=0.04)
