"""The derivation of what a restorer can know: posteriors, their means and costs, and the price of looking real."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.testing import assert_close

from imagegen import degrade, metrics
from imagegen.degrade import Blur, Composed, Downsample, Mask

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def covariance(dim: int, seed: int = 0) -> Tensor:
    a = normal(dim, dim, seed=seed)
    return a @ a.T / dim + 0.05 * torch.eye(dim).double()


def matrix(operator, side: int) -> Tensor:
    """Return A (h w, side^2) of an operator on one-channel images, column by column."""
    units = torch.eye(side * side, dtype=torch.float64).view(-1, 1, side, side)
    return operator(units).flatten(1).T


def operators() -> list:
    """One of each kind, on images of 6 x 6; the blur's kernel is not symmetric."""
    kernel = torch.tensor([[0.0, 0.1, 0.0], [0.2, 0.3, 0.4], [0.0, 0.0, 0.0]], dtype=torch.float64)
    known = degrade.box((1, 1, 6, 6), (2, 3), generator=seeded())
    return [
        Blur(kernel),
        Mask(known),
        Downsample(3),
        Downsample(2, "bicubic"),
        Composed((Blur(kernel), Mask(known))),
    ]


def table(n_x: int = 5, n_y: int = 4, dim: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return values x (n_x, dim) and a joint distribution (n_x, n_y) of x and y, all at random."""
    joint = normal(n_x, n_y, seed=seed).exp()
    return normal(n_x, dim, seed=seed + 1), joint / joint.sum()


def standard(n: int = 2001) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of a mean over a standard normal; even steps are exact for what is smooth."""
    nodes = torch.linspace(-9, 9, n, dtype=torch.float64)
    density = Normal(0.0, 1.0).log_prob(nodes).exp()
    return nodes, density / density.sum()


# ---- the posterior ---------------------------------------------------------------------------------------------


@pytest.mark.equation("limits-likelihood", tolerance="1e-9")
@pytest.mark.parametrize("which", range(5))
def test_the_log_likelihood_is_a_squared_error_and_a_constant(which):
    """Beside torch's density of y given A x, for every kind of operator."""
    operator, sigma = operators()[which], 0.3
    x = normal(4, 1, 6, 6)
    y = operator(x) + sigma * normal(*operator(x).shape, seed=1)
    law = Independent(Normal(operator(x), sigma), 3)
    squared = (y - operator(x)).square().sum((1, 2, 3)) / (2 * sigma**2)
    constant = y[0].numel() / 2 * math.log(2 * math.pi * sigma**2)
    assert_close(law.log_prob(y), -squared - constant, **EXACT)


@pytest.mark.equation("limits-bayes", tolerance="1e-6")
def test_bayes_rule_is_the_share_of_each_x_among_what_fell_near_y():
    """Count by probability: the mass of each of three x in a narrow interval of y, over that of all of them."""
    x, prior = np.array([-0.8, 0.1, 0.9]), np.array([0.5, 0.3, 0.2])
    for y in (-1.0, 0.2, 0.7):
        near = scipy.stats.norm.cdf(y + 1e-4, x, 0.4) - scipy.stats.norm.cdf(y - 1e-4, x, 0.4)
        counted = prior * near / (prior * near).sum()
        density = scipy.stats.norm.pdf(y, x, 0.4)
        assert np.allclose(prior * density / (prior * density).sum(), counted, rtol=1e-6)


@pytest.mark.equation("limits-finite", tolerance="1e-9")
@pytest.mark.parametrize("which", range(5))
def test_a_finite_prior_gives_a_softmax_of_squared_errors(which):
    """Beside Bayes' rule with torch's densities, for every kind of operator."""
    operator, sigma, x = operators()[which], 0.5, normal(7, 1, 6, 6)
    y = operator(x[:1]) + sigma * normal(*operator(x[:1]).shape, seed=1)
    joint = Independent(Normal(operator(x), sigma), 3).log_prob(y).exp() / 7
    weights = torch.softmax(-(y - operator(x)).square().sum((1, 2, 3)) / (2 * sigma**2), 0)
    assert_close(weights, joint / joint.sum(), **EXACT)


# ---- which restorer is best ------------------------------------------------------------------------------------


@pytest.mark.equation("limits-risk", tolerance="1e-12, by enumeration")
@pytest.mark.parametrize(
    "loss", [lambda a, b: (a - b) ** 2, lambda a, b: abs(a - b)], ids=["squared", "absolute"]
)
def test_the_best_function_is_the_best_answer_for_every_y(loss):
    """Try all 9^3 functions from three y to nine answers; the least risk is that of the best answer to each y."""
    x, joint = table(n_x=4, n_y=3, dim=1)
    answers = torch.linspace(-2, 2, 9, dtype=torch.float64)
    cost = torch.stack([(joint * loss(x, answer)).sum(0) for answer in answers])  # (9, 3)
    risks = [sum(cost[i, y].item() for y, i in enumerate(f)) for f in itertools.product(range(9), repeat=3)]
    assert math.isclose(min(risks), cost.amin(0).sum().item(), rel_tol=1e-12)


@pytest.mark.equation("limits-mean", tolerance="1e-9")
def test_the_squared_error_splits_into_a_distance_to_the_mean_and_a_variance():
    """In a table of all cases, for answers at random."""
    x, joint = table()
    for y, f in enumerate(normal(4, 3, seed=9)):
        posterior = joint[:, y] / joint[:, y].sum()
        mean = posterior @ x
        cov = (posterior[:, None, None] * (x - mean)[:, :, None] * (x - mean)[:, None]).sum(0)
        left = posterior @ (x - f).square().sum(1)
        assert_close(left, (f - mean).square().sum() + cov.trace(), **EXACT)


@pytest.mark.equation("limits-median", tolerance="1e-6")
def test_the_slope_of_the_absolute_error_is_the_difference_of_two_probabilities():
    """By finite differences of a quadrature, for a posterior of two lumps; the least is at the median, not the mean."""
    grid = np.linspace(-6, 8, 400_001)
    density = 0.7 * scipy.stats.norm.pdf(grid, -1, 0.3) + 0.3 * scipy.stats.norm.pdf(grid, 2, 0.5)
    density /= density.sum()
    below = np.cumsum(density)

    def risk(f):
        return (density * np.abs(grid - f)).sum()

    for f in (-1.3, -0.8, 0.4, 2.2):
        slope = (risk(f + 1e-3) - risk(f - 1e-3)) / 2e-3
        share = np.interp(f, grid, below)
        assert math.isclose(slope, share - (1 - share), abs_tol=1e-4)
    median = np.interp(0.5, below, grid)
    best = scipy.optimize.minimize_scalar(risk, bounds=(-3, 3), method="bounded", options={"xatol": 1e-7}).x
    assert math.isclose(best, median, abs_tol=1e-3) and abs(best - (density * grid).sum()) > 0.5


@pytest.mark.equation("limits-mode", tolerance="1e-4")
def test_the_answer_that_is_most_often_nearly_right_is_the_densest_one():
    """Largest mass of a narrow interval, beside the largest prior density less squared error, for a prior of lumps."""
    y, sigma = 0.35, 0.5
    grid = np.linspace(-3, 3, 60_001)
    prior = 0.5 * scipy.stats.norm.pdf(grid, -1, 0.2) + 0.5 * scipy.stats.norm.pdf(grid, 1, 0.4)
    posterior = prior * scipy.stats.norm.pdf(y, grid, sigma)
    mass = np.cumsum(posterior / posterior.sum())
    hit = mass[100:] - mass[:-100]  # within 0.005 of the middle
    score = (y - grid) ** 2 / (2 * sigma**2) - np.log(prior)
    assert math.isclose(grid[50:-50][hit.argmax()], grid[score.argmin()], abs_tol=1.5e-4)


@pytest.mark.equation("limits-two-point", tolerance="1e-9")
def test_the_mean_of_two_points_is_a_hyperbolic_tangent_and_so_is_its_error():
    """Beside Bayes' rule, and the mean squared error over x and y by quadrature."""
    nodes, weights = standard()
    for a, sigma in ((1.0, 0.5), (0.7, 1.2)):
        x = torch.tensor([-a, a], dtype=torch.float64)
        y = torch.linspace(-3, 3, 41, dtype=torch.float64)
        density = Normal(x, sigma).log_prob(y[:, None]).exp()
        assert_close((density * x).sum(1) / density.sum(1), a * torch.tanh(a * y / sigma**2), **EXACT)
        seen = x[:, None] + sigma * nodes  # each x with each noise
        error = (x[:, None] - a * torch.tanh(a * seen / sigma**2)).square()
        mmse = 0.5 * (error @ weights).sum()
        shrunk = 0.5 * (torch.tanh(a * seen / sigma**2).square() @ weights).sum()
        assert_close(mmse, a**2 * (1 - shrunk), **EXACT)


# ---- Gaussians -------------------------------------------------------------------------------------------------


@pytest.mark.equation("limits-square", "limits-gaussian", tolerance="1e-8")
@pytest.mark.parametrize("which", range(5))
def test_the_posterior_of_a_gaussian_is_the_conditional_of_the_joint_one(which):
    """Derivatives of the log joint density by autograd; and the Schur complement of the joint covariance."""
    a, sigma = matrix(operators()[which], 6), 0.4
    prior, mean = covariance(36), normal(36)
    y = a @ normal(36, seed=3) + sigma * normal(len(a), seed=4)
    precision = torch.linalg.inv(prior) + a.T @ a / sigma**2
    first = mean + torch.linalg.solve(precision, a.T @ (y - a @ mean) / sigma**2)

    def log_joint(x):
        noise = Independent(Normal(a @ x, sigma), 1)
        return MultivariateNormal(mean, prior).log_prob(x) + noise.log_prob(y)

    slope = torch.autograd.functional.jacobian(log_joint, first)
    bend = torch.autograd.functional.hessian(log_joint, first)
    assert_close(slope, torch.zeros(36).double(), rtol=0, atol=1e-7)
    assert_close(bend, -precision, rtol=1e-8, atol=1e-7)
    gain = prior @ a.T @ torch.linalg.inv(a @ prior @ a.T + sigma**2 * torch.eye(len(a)).double())
    assert_close(mean + gain @ (y - a @ mean), first, rtol=1e-8, atol=1e-8)
    assert_close(prior - gain @ a @ prior, torch.linalg.inv(precision), rtol=1e-8, atol=1e-8)


@pytest.mark.equation("limits-shrink", "limits-mmse", tolerance="1e-9")
def test_each_direction_is_shrunk_by_its_own_share_of_signal():
    """Beside the general form with A the identity, and the trace of its covariance."""
    cov, sigma, y = covariance(12), 0.3, normal(12, seed=5)
    values, vectors = torch.linalg.eigh(cov)
    gain = cov @ torch.linalg.inv(cov + sigma**2 * torch.eye(12).double())
    assert_close(vectors @ (values / (values + sigma**2) * (vectors.T @ y)), gain @ y, **EXACT)
    assert_close((values * sigma**2 / (values + sigma**2)).sum(), (cov - gain @ cov).trace(), **EXACT)


@pytest.mark.equation("limits-wiener", tolerance="1e-9")
def test_the_wiener_filter_is_the_general_form_where_all_is_circular():
    """Beside the dense matrices of the package's circular blur and of a covariance that depends on the offset alone."""
    side, sigma = 6, 0.2
    kernel = torch.tensor([[0.0, 0.1, 0.0], [0.2, 0.3, 0.4], [0.0, 0.0, 0.0]], dtype=torch.float64)
    spectrum = torch.fft.fft2(normal(side, side)).abs() + 0.1  # of a real image: symmetric, as a spectrum is
    fourier = torch.fft.fft2(torch.eye(side**2).view(-1, side, side).to(torch.complex128)).flatten(1).T
    cov = (fourier.conj().T @ (spectrum.flatten()[:, None] * fourier)).real / side**2
    blur = Blur(kernel, "circular")
    a = matrix(blur, side)
    h = torch.fft.fft2(blur(torch.eye(side**2).double()[:1].view(1, 1, side, side)))[0, 0]
    y = normal(1, 1, side, side, seed=2)
    gain = cov @ a.T @ torch.linalg.inv(a @ cov @ a.T + sigma**2 * torch.eye(side**2).double())
    factor = h.conj() * spectrum / (h.abs() ** 2 * spectrum + sigma**2)
    assert_close(torch.fft.ifft2(factor * torch.fft.fft2(y)).real.flatten(), gain @ y.flatten(), **EXACT)


@pytest.mark.equation("limits-total", tolerance="1e-9")
def test_what_the_mean_varies_and_what_is_left_open_add_up():
    """The law of total covariance in a table of all cases."""
    x, joint = table()
    p_y, posterior = joint.sum(0), joint / joint.sum(0)
    means = posterior.T @ x
    inner = sum(p_y[y] * torch.cov(x.T, aweights=posterior[:, y], correction=0) for y in range(4))
    outer = torch.cov(means.T, aweights=p_y, correction=0)
    assert_close(inner + outer, torch.cov(x.T, aweights=joint.sum(1), correction=0), **EXACT)


# ---- the score -------------------------------------------------------------------------------------------------


@pytest.mark.equation("limits-tweedie", "limits-tweedie-cov", tolerance="1e-8")
def test_the_posterior_mean_and_covariance_are_derivatives_of_the_log_density_of_y():
    """Gradient and Hessian by autograd of the density of y, for a prior of six points, beside Bayes' rule."""
    x, sigma, prior = normal(6, 3), 0.6, torch.softmax(normal(6, seed=2), 0)

    def log_density(y):
        return torch.logsumexp(prior.log() - (y - x).square().sum(1) / (2 * sigma**2), 0)

    def given(y):
        return torch.softmax(prior.log() - (y - x).square().sum(1) / (2 * sigma**2), 0)

    for y in normal(5, 3, seed=1):
        posterior = given(y)
        score = torch.autograd.functional.jacobian(log_density, y)
        bend = torch.autograd.functional.hessian(log_density, y)
        assert_close(y + sigma**2 * score, posterior @ x, rtol=1e-8, atol=1e-8)
        expected = torch.cov(x.T, aweights=posterior, correction=0)
        assert_close(sigma**2 * (torch.eye(3) + sigma**2 * bend), expected, rtol=1e-8, atol=1e-8)
        slope = torch.autograd.functional.jacobian(lambda y: given(y) @ x, y)
        assert_close(sigma**2 * slope, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.equation("limits-noise2noise", tolerance="1e-9, by enumeration")
def test_a_noisy_target_adds_a_constant_to_the_risk_of_every_restorer():
    """Over all cases of x, y and an independent second noise of mean 0; with a mean, the best answer moves by it."""
    x, joint = table()
    noise = normal(6, 3, seed=5)
    noise = noise - noise.mean(0)

    def risk(f, targets):  # targets (n_x, M, 3)
        squared = (f[None, :, None] - targets[:, None]).square().sum(-1).mean(-1)
        return (joint * squared).sum()

    for seed in range(3):
        f = normal(4, 3, seed=20 + seed)
        left, right = risk(f, x[:, None] + noise), risk(f, x[:, None])
        assert_close(left, right + noise.square().sum(1).mean(), **EXACT)
    best = (joint / joint.sum(0)).T @ x
    shifted = x[:, None] + noise + 0.5
    assert risk(best + 0.5, shifted) < risk(best, shifted)


def product_rule(n: int = 121) -> tuple[Tensor, Tensor]:
    """Return the nodes (M, 2) and weights of a mean over a standard normal in the plane."""
    nodes, weights = standard(n)
    return torch.cartesian_prod(nodes, nodes), torch.outer(weights, weights).flatten()


def bent(y: Tensor) -> Tensor:
    """A smooth restorer of the plane that mixes its two values."""
    return torch.stack(
        [torch.tanh(y[..., 0] + 0.3 * y[..., 1]), 0.5 * y[..., 1] * torch.sigmoid(y[..., 0])], -1
    )


def divergence(y: Tensor) -> Tensor:
    jacobian = torch.func.vmap(torch.func.jacrev(bent))(y)
    return jacobian.diagonal(dim1=-2, dim2=-1).sum(-1)


@pytest.mark.equation("limits-stein", "limits-sure", tolerance="1e-6")
def test_the_risk_is_an_average_over_what_can_be_seen():
    """Both sides by quadrature over the noise, for a restorer that is not linear."""
    nodes, weights = product_rule()
    x, sigma = torch.tensor([0.4, -0.7]).double(), 0.5
    noise, f = sigma * nodes, bent(x + sigma * nodes)
    assert_close(
        weights @ (noise * f).sum(1), sigma**2 * (weights @ divergence(x + noise)), rtol=1e-6, atol=1e-6
    )
    seen = (f - x - noise).square().sum(1) + 2 * sigma**2 * divergence(x + noise) - 2 * sigma**2
    assert_close(weights @ seen, weights @ (f - x).square().sum(1), rtol=1e-6, atol=1e-6)


# ---- range and null space --------------------------------------------------------------------------------------


@pytest.mark.equation("limits-split", "limits-project", tolerance="1e-9")
@pytest.mark.parametrize("operator", operators()[1:4], ids=["mask", "average", "bicubic"])
def test_a_projection_on_what_was_measured_never_hurts(operator):
    """A of the second part is 0, the parts are orthogonal, and the error falls by the square of what was corrected."""
    x, estimate = normal(3, 1, 6, 6), normal(3, 1, 6, 6, seed=1)
    seen = operator.pinv(operator(x))
    assert_close(operator(x - seen), torch.zeros_like(operator(x)), **EXACT)
    assert_close((seen * (x - seen)).sum(), torch.zeros(()).double(), **EXACT)
    projected = degrade.consistent(estimate, operator(x), operator)
    before, after = ((x - e).square().sum() for e in (estimate, projected))
    corrected = operator.pinv(operator(x - estimate)).square().sum()
    assert_close(after, before - corrected, **EXACT)
    assert corrected > 0.1


# ---- the price of looking real ---------------------------------------------------------------------------------


@pytest.mark.equation("limits-excess", "limits-sample", tolerance="1e-9, by enumeration")
def test_a_sample_of_the_posterior_costs_twice_what_its_mean_does():
    """Over all x, y and answers: any restorer pays its distance to the mean on top, and a sample pays it all."""
    x, joint = table()
    p_y, posterior = joint.sum(0), joint / joint.sum(0)
    means = posterior.T @ x
    mmse = (joint * (x[:, None] - means).square().sum(-1)).sum()

    def costs(answers, chances):  # (M, 3), and of each given y (M, 4)
        pairs = (x[:, None] - answers).square().sum(-1)
        to_mean = (answers[:, None] - means).square().sum(-1)
        error = torch.einsum("xy,ay,xa->", joint, chances, pairs)
        return error, torch.einsum("y,ay,ay->", p_y, chances, to_mean)

    answers, chances = normal(7, 3, seed=8), torch.softmax(normal(7, 4, seed=9), 0)
    error, excess = costs(answers, chances)
    assert_close(error, mmse + excess, **EXACT)
    assert_close(costs(x, posterior)[0], 2 * mmse, **EXACT)


@pytest.mark.equation("limits-tradeoff", tolerance="1e-4; 1e-6")
def test_no_gaussian_restorer_is_below_the_curve_and_one_is_on_it():
    """Minimise the error over gains and added noise at a given distance to the images' law; and two points at 0."""
    lam, var = np.array([1.0, 0.3]), 0.5**2
    mean_gain = lam / (lam + var)
    best = (lam * var / (lam + var)).sum()
    star = math.sqrt(((np.sqrt(lam) - mean_gain * np.sqrt(lam + var)) ** 2).sum())

    def error(p):  # gains, and deviations of the noise that is added
        return (lam - 2 * p[:2] * lam + p[:2] ** 2 * (lam + var) + p[2:] ** 2).sum()

    def distance(p):
        return ((np.sqrt(lam) - np.sqrt(p[:2] ** 2 * (lam + var) + p[2:] ** 2)) ** 2).sum()

    for delta in (0.3 * star, 0.8 * star):
        found = min(
            scipy.optimize.minimize(
                error, np.array([g, g, s, s]), method="SLSQP", options={"ftol": 1e-12, "maxiter": 500},
                constraints={"type": "ineq", "fun": lambda p, delta=delta: delta**2 - distance(p)},
            ).fun
            for g, s in ((1.0, 0.0), (0.8, 0.3), (0.5, 0.5))
        )  # fmt: skip
        assert math.isclose(found, best + (star - delta) ** 2, rel_tol=1e-4)
    # two points: at distance 0 the sign is the answer, which errs with the tail's probability
    a, sigma = 1.0, 0.8
    grid = torch.linspace(-9, 9, 200_001, dtype=torch.float64)
    density = 0.5 * sum(Normal(s * a, sigma).log_prob(grid).exp() for s in (-1, 1)) * (grid[1] - grid[0])
    star = (density * (a * grid.sign() - a * torch.tanh(a * grid / sigma**2)).square()).sum()
    mmse = a**2 - (density * (a * torch.tanh(a * grid / sigma**2)).square()).sum()
    wrong = scipy.stats.norm.cdf(-a / sigma)
    assert math.isclose((mmse + star).item(), 4 * a**2 * wrong, rel_tol=1e-6)


@pytest.mark.equation("limits-gaussian-curve", tolerance="1e-8")
def test_the_distance_of_the_mean_and_the_price_of_none_are_known_for_a_gaussian():
    """Beside the package's Frechet distance, and the covariances of the sharp restorer and of the mix of both."""
    cov, sigma = covariance(8), 0.4
    values, vectors = torch.linalg.eigh(cov)
    total, zero = values + sigma**2, torch.zeros(8).double()
    of_mean = vectors @ torch.diag(values**2 / total) @ vectors.T
    star2 = (values.sqrt() - values / total.sqrt()).square().sum()
    assert math.isclose(star2.item(), metrics.gaussian_frechet(zero, cov, zero, of_mean), rel_tol=1e-8)
    mmse = (values * sigma**2 / total).sum()
    for kept in (0.0, 0.3, 1.0):  # delta / delta*, the share of the mean in the mix
        gain = (1 - kept) * (values / total).sqrt() + kept * values / total
        error = (values - 2 * gain * values + gain**2 * total).sum()
        law = vectors @ torch.diag(gain**2 * total) @ vectors.T
        assert_close(error, mmse + ((1 - kept) ** 2) * star2, **EXACT)
        found = metrics.gaussian_frechet(zero, cov, zero, law)
        assert math.isclose(found, kept**2 * star2.item(), rel_tol=1e-7, abs_tol=1e-9)
    assert mmse + star2 < 2 * mmse


# ---- classical methods -----------------------------------------------------------------------------------------


@pytest.mark.equation("limits-tikhonov", tolerance="1e-8")
@pytest.mark.parametrize("which", [0, 2])
def test_a_gaussian_prior_on_slopes_is_regularised_least_squares(which):
    """Beside lstsq of both residuals stacked, and the gradient of the log posterior by autograd."""
    a, sigma, alpha, side = matrix(operators()[which], 6), 0.3, 2.0, 6
    d = torch.diff(torch.eye(side).double(), dim=0)
    eye = torch.eye(side).double()
    slopes = torch.cat([torch.kron(eye, d), torch.kron(d, eye)])
    y = normal(len(a))
    stacked = torch.cat([a / sigma, math.sqrt(alpha) * slopes])
    expected = torch.linalg.lstsq(stacked, torch.cat([y / sigma, torch.zeros(len(slopes)).double()])).solution
    found = torch.linalg.solve(a.T @ a + alpha * sigma**2 * slopes.T @ slopes, a.T @ y)
    assert_close(found, expected, rtol=1e-8, atol=1e-8)

    def cost(x):
        return (y - a @ x).square().sum() / (2 * sigma**2) + alpha / 2 * (slopes @ x).square().sum()

    assert_close(torch.autograd.functional.jacobian(cost, found), torch.zeros(36).double(), rtol=0, atol=1e-7)


@pytest.mark.equation("limits-tv", tolerance="1e-3 of the cost")
def test_scikit_images_total_variation_is_the_mode_under_a_prior_on_slopes():
    """Its result costs less than 300 others near it, and than another weight's; the weight is alpha sigma^2."""
    y = normal(12, 12).numpy()

    def cost(x, weight):
        down, across = np.diff(x, axis=0, append=x[-1:]), np.diff(x, axis=1, append=x[:, -1:])
        return 0.5 * ((x - y) ** 2).sum() + weight * np.sqrt(down**2 + across**2).sum()

    best = denoise_tv_chambolle(y, weight=0.5, eps=1e-10, max_num_iter=5000)
    for seed in range(300):
        other = best + 0.03 * normal(12, 12, seed=seed).numpy()
        assert cost(best, 0.5) < cost(other, 0.5)
    smoother, rougher = (denoise_tv_chambolle(y, weight=w, eps=1e-10, max_num_iter=5000) for w in (0.6, 0.4))
    assert cost(best, 0.5) < min(cost(smoother, 0.5), cost(rougher, 0.5)) * (1 - 1e-3)


# ---- measures --------------------------------------------------------------------------------------------------


@pytest.mark.equation("limits-psnr", tolerance="1e-9; 4 standard errors, below 0.1 %")
def test_the_psnr_of_noise_alone_is_known_and_does_not_depend_on_the_unit():
    """The package's noise and PSNR on 64 images; in units of [0, 1] both numbers halve and the figure stays."""
    sigma = 0.1
    x = torch.rand(64, 1, 64, 64, generator=seeded(), dtype=torch.float64) - 0.5
    y = degrade.add_gaussian(x, sigma, generator=seeded(1))  # within [-1, 1]
    found, expected = metrics.psnr(x, y, span=2), 20 * math.log10(2 / sigma)
    error = (found.std() / 8).item()
    assert error < 1e-3 * expected and abs(found.mean().item() - expected) < 4 * error + 1e-3
    assert_close(metrics.psnr((x + 1) / 2, (y + 1) / 2, span=1), found, **EXACT)


@pytest.mark.equation("limits-psnr-mean", tolerance="1e-9")
def test_the_mean_of_decibels_is_not_the_decibels_of_the_mean():
    """It is at least as large, and equal only for equal errors; beside the package's PSNR of four images."""
    x = torch.zeros(4, 1, 8, 8, dtype=torch.float64)
    y = x + torch.tensor([0.1, 0.2, 0.4, 0.9], dtype=torch.float64)[:, None, None, None]
    mean, errors = metrics.psnr(x, y, span=2).mean(), metrics.mse(x, y)
    pooled = 10 * torch.log10(4 / errors.mean())
    gap = 10 * (errors.mean().log10() - errors.log10().mean())
    assert_close(mean, pooled + gap, **EXACT)
    assert gap > 1
    same = metrics.psnr(x, x + 0.3, span=2)
    assert_close(same.mean(), 10 * torch.log10(4 / metrics.mse(x, x + 0.3).mean()), **EXACT)


@pytest.mark.equation("limits-clip", tolerance="1e-7")
def test_clamped_noise_has_a_mean_which_is_known():
    """By quadrature over a fine grid of the noise, from black to white, and at black alone."""
    sigma = 0.4
    n = np.linspace(-10 * sigma, 10 * sigma, 2_000_001)
    mass = scipy.stats.norm.pdf(n, 0, sigma) * (n[1] - n[0])
    for x in (-1.0, -0.6, 0.0, 0.3, 1.0):
        low, high = (-1 - x) / sigma, (1 - x) / sigma
        cdf, pdf = scipy.stats.norm.cdf, scipy.stats.norm.pdf
        expected = x * (cdf(high) - cdf(low)) - cdf(low) + cdf(-high) + sigma * (pdf(low) - pdf(high))
        assert math.isclose((mass * np.clip(x + n, -1, 1)).sum(), expected, abs_tol=1e-7)
    assert math.isclose((mass * np.maximum(n, 0)).sum(), sigma / math.sqrt(2 * math.pi), abs_tol=1e-7)
