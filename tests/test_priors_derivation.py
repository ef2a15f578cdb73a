"""The derivation of generators as priors: the energy, its law, draws by steps and by weights, what they say."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.testing import assert_close

from imagegen import degrade
from imagegen.degrade import Blur, Downsample, Identity, Mask
from imagegen.inverse import LatentPosterior, effective_size, fill, langevin, linearised, search
from imagegen.prior import Prior, PriorConfig

EXACT = {"rtol": 1e-9, "atol": 1e-9}
SIDE, DIM = 6, 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def covariance(dim: int, seed: int = 0) -> Tensor:
    a = normal(dim, dim, seed=seed)
    return a @ a.T / dim + 0.05 * torch.eye(dim).double()


W, b = 0.3 * normal(SIDE * SIDE, DIM, seed=1), normal(SIDE * SIDE, seed=2)


def linear(z: Tensor) -> Tensor:
    return (z @ W.T + b).view(-1, 1, SIDE, SIDE)


def bent(z: Tensor) -> Tensor:
    """A generator of 36 pixels with a curvature, of two latents."""
    return torch.tanh(z @ normal(2, SIDE * SIDE, seed=3)).view(-1, 1, SIDE, SIDE)


def operators() -> list:
    kernel = torch.tensor([[0.0, 0.1, 0.0], [0.2, 0.3, 0.4], [0.0, 0.0, 0.0]], dtype=torch.float64)
    return [
        Identity(),
        Mask(degrade.box((1, 1, SIDE, SIDE), (2, 3), generator=seeded())),
        Downsample(3),
        Blur(kernel),
    ]


def matrix(operator) -> Tensor:
    """Return A (M, 36), without the rows of hidden pixels, which are 0 and say nothing."""
    units = torch.eye(SIDE * SIDE, dtype=torch.float64).view(-1, 1, SIDE, SIDE)
    return operator(units).flatten(1).T


def of_linear(operator, sigma: float = 0.4) -> LatentPosterior:
    x = linear(normal(1, DIM, seed=4))
    y = operator(x + sigma * normal(1, 1, SIDE, SIDE, seed=5))
    return LatentPosterior(linear, operator, y, sigma)


# ---- the posterior ---------------------------------------------------------------------------------------------


@pytest.mark.equation("priors-posterior", tolerance="1e-9")
@pytest.mark.parametrize("which", range(4))
def test_the_energy_is_minus_the_log_of_likelihood_times_prior(which):
    """Beside torch's densities, for every kind of operator and a generator that is not linear: one constant apart."""
    operator, sigma = operators()[which], 0.3
    y = operator(bent(normal(1, 2, seed=6)) + sigma * normal(1, 1, SIDE, SIDE, seed=7))
    z = normal(5, 1, 2)
    found = LatentPosterior(bent, operator, y, sigma).energy(z)[:, 0]
    likelihood = Independent(Normal(operator(bent(z[:, 0])), sigma), 3).log_prob(y)
    log_p = likelihood + Normal(0.0, 1.0).log_prob(z[:, 0]).sum(1)
    gap = found + log_p
    assert_close(gap, gap[:1].expand(5), **EXACT)
    assert found.std() > 1


@pytest.mark.equation("priors-sigma", tolerance="4 standard errors")
def test_noise_and_the_generators_own_error_add_in_squares():
    """x = G(z) + e: the mean squared misfit of the true latents is sigma^2 + s^2, and neither of both alone."""
    sigma, own, n = 0.3, 0.4, 4000
    z = normal(n, DIM)
    x = linear(z) + own * normal(n, 1, SIDE, SIDE, seed=1)
    operator = operators()[1]
    see = operator.known[0, 0]
    y = operator(x + sigma * normal(n, 1, SIDE, SIDE, seed=2))
    misfit = (y - operator(linear(z)))[:, 0][:, see].square().mean(1)
    stderr = misfit.std() / n**0.5
    assert stderr < 0.01 * misfit.mean()
    assert (misfit.mean() - sigma**2 - own**2).abs() < 4 * stderr
    assert misfit.mean() - max(sigma, own) ** 2 > 10 * stderr


@pytest.mark.equation("priors-density", tolerance="1e-6")
def test_the_density_of_an_image_is_that_of_its_latent_divided_by_the_slope():
    """Beside the share of latents whose image falls near x, for an increasing generator."""
    g = lambda z: z + 0.5 * math.sin(z)  # noqa: E731
    for z in (-1.3, 0.2, 2.1):
        width = 1e-4
        share = scipy.stats.norm.cdf(z + width) - scipy.stats.norm.cdf(z - width)
        counted = share / (g(z + width) - g(z - width))
        assert math.isclose(counted, scipy.stats.norm.pdf(z) / abs(1 + 0.5 * math.cos(z)), rel_tol=1e-6)


@pytest.mark.equation("priors-lognormal", tolerance="1e-3, on a grid")
def test_the_mode_of_the_latents_the_mode_of_the_images_and_the_mean_are_three():
    """G = exp: image of the latents' mode 1, most probable image 1 / e, mean sqrt e; by grid and quadrature."""
    x = torch.linspace(0.01, 6, 600_000, dtype=torch.float64)
    density = scipy.stats.lognorm(s=1).pdf(x.numpy())
    assert abs(x[density.argmax()].item() - math.exp(-1)) < 1e-3
    z = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    assert abs(z[Normal(0.0, 1.0).log_prob(z).argmax()].exp().item() - 1) < 1e-3
    mean, _ = scipy.integrate.quad(lambda z: math.exp(z) * scipy.stats.norm.pdf(z), -12, 12)
    assert abs(mean - math.exp(0.5)) < 1e-6


@pytest.mark.equation("priors-linear", tolerance="1e-9")
@pytest.mark.parametrize("which", range(4))
def test_the_latents_of_a_linear_generator_are_normal_given_y(which):
    """The energy less half the square about the mean is constant; the package's search and tangent agree with it."""
    posterior, a = of_linear(operators()[which]), matrix(operators()[which])
    aw = a @ W
    precision = torch.eye(DIM).double() + aw.T @ aw / 0.4**2
    mean = torch.linalg.solve(precision, aw.T @ (posterior.y.flatten() - a @ b)) / 0.4**2
    law = MultivariateNormal(mean, precision_matrix=precision)
    z = normal(6, 1, DIM, seed=8)
    gap = posterior.energy(z)[:, 0] + law.log_prob(z[:, 0])
    assert_close(gap, gap[:1].expand(6), **EXACT)
    found = search(posterior, normal(2, 1, DIM), n_steps=400, lr=0.2)
    assert_close(found.z, mean.expand(2, 1, DIM), rtol=0, atol=1e-4)
    factor = linearised(posterior, normal(1, DIM))[0]
    assert_close(factor @ factor.T @ precision, torch.eye(DIM).double(), **EXACT)


@pytest.mark.equation("priors-ppca", tolerance="1e-9")
@pytest.mark.parametrize("which", range(4))
def test_the_image_of_that_law_is_the_gaussian_restorer_with_covariance_w_wt(which):
    """Mean and covariance of W z + b given y, beside the two lines of limits-gaussian with Sigma = W W^T."""
    posterior, a = of_linear(operators()[which]), matrix(operators()[which])
    y, sigma, cov = posterior.y.flatten(), 0.4, W @ W.T
    aw = a @ W
    precision = torch.eye(DIM).double() + aw.T @ aw / sigma**2
    mean = b + W @ torch.linalg.solve(precision, aw.T @ (y - a @ b)) / sigma**2
    gain = cov @ a.T @ torch.linalg.inv(a @ cov @ a.T + sigma**2 * torch.eye(len(a)).double())
    assert_close(mean, b + gain @ (y - a @ b), **EXACT)
    assert_close(W @ torch.linalg.inv(precision) @ W.T, cov - gain @ a @ cov, **EXACT)


@pytest.mark.equation("priors-tangent", tolerance="1e-9")
def test_the_curvature_of_the_energy_is_the_tangents_and_a_term_of_the_misfit():
    """Beside autograd; `linearised` leaves the last term out, and it is not 0 for a generator that bends."""
    operator, sigma = operators()[1], 0.5
    y = operator(bent(normal(1, 2, seed=9)) + 0.5 * normal(1, 1, SIDE, SIDE, seed=10))
    posterior, z = LatentPosterior(bent, operator, y, sigma), normal(2, seed=11)
    hessian = torch.autograd.functional.hessian(lambda z: posterior.energy(z.view(1, 1, 2)).sum(), z)
    shown = lambda z: operator(bent(z.view(1, 2))).flatten()  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(shown, z)
    rest = shown(z) - y.flatten()
    bends = torch.autograd.functional.hessian(lambda z: (rest * shown(z)).sum(), z)
    tangent = torch.eye(2).double() + jacobian.T @ jacobian / sigma**2
    assert_close(hessian, tangent + bends / sigma**2, **EXACT)
    factor = linearised(posterior, z[None])[0]
    assert_close(torch.linalg.inv(factor @ factor.T), tangent, **EXACT)
    assert bends.abs().max() > 0.1


# ---- draws by steps --------------------------------------------------------------------------------------------


def bumpy(z: Tensor) -> Tensor:
    """An energy of two dimensions that is no square, (..., 2) -> (...)."""
    return 0.5 * z.square().sum(-1) + torch.sin(2 * z[..., 0]) * torch.cos(z[..., 1])


@pytest.mark.equation("priors-step", tolerance="1e-9")
def test_the_packages_plain_step_is_the_slope_and_noise_of_root_two_steps():
    """One step of `langevin` without a factor and with nothing refused, with the same noise, for a bent generator."""
    operator = operators()[1]
    posterior, z, h = (
        LatentPosterior(bent, operator, operator(bent(normal(1, 2))), 0.5),
        normal(4, 1, 2),
        0.03,
    )
    found = langevin(posterior, z, step=h, n_steps=1, adjusted=False, generator=seeded()).z[0]
    eps = torch.randn(z.shape, generator=seeded(), dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(lambda z: posterior.energy(z).sum(), z)
    assert_close(found, z - h * slope + math.sqrt(2 * h) * eps, **EXACT)


@pytest.mark.equation("priors-euler", tolerance="1 % of the change")
def test_a_small_step_changes_a_mean_by_the_laplacian_less_the_slopes():
    """E f(z') - f(z) over the step, by Gauss-Hermite quadrature in two dimensions, tends to Lap f - grad U . grad f."""
    nodes, weights = (torch.from_numpy(t) for t in np.polynomial.hermite_e.hermegauss(12))
    eps = torch.cartesian_prod(nodes, nodes)
    mass = torch.cartesian_prod(weights, weights).prod(1) / (2 * math.pi)
    f = lambda z: torch.sin(z[..., 0] + 2 * z[..., 1]) + z[..., 0] ** 3  # noqa: E731
    z, h = torch.tensor([0.4, -0.7]).double(), 1e-5
    slope = torch.autograd.functional.jacobian(bumpy, z)
    new = z - h * slope + math.sqrt(2 * h) * eps
    rate = ((mass @ f(new)) - f(z)) / h
    laplacian = torch.autograd.functional.hessian(f, z).trace()
    expected = laplacian - slope @ torch.autograd.functional.jacobian(f, z)
    assert abs(rate / expected - 1) < 0.01 and abs(expected) > 1


@pytest.mark.equation("priors-stationary", tolerance="1e-9")
def test_the_flow_of_probability_vanishes_for_the_law_of_the_energy_and_for_no_other():
    """p grad U + grad p for p = exp(-U), by autograd; with half the noise it is exp(-2 U) that stays."""
    for z in normal(5, 2):
        slope = torch.autograd.functional.jacobian(bumpy, z)

        def flow(power: float, noise: float, z: Tensor = z, slope: Tensor = slope) -> Tensor:
            density = lambda z: torch.exp(-power * bumpy(z))  # noqa: E731
            return density(z) * slope + noise * torch.autograd.functional.jacobian(density, z)

        assert flow(1.0, 1.0).abs().max() < 1e-9
        assert flow(2.0, 1.0).abs().max() > 1e-4 and flow(2.0, 0.5).abs().max() < 1e-9


@pytest.mark.equation("priors-bias", tolerance="1e-9")
def test_the_steps_own_law_for_a_gaussian_is_too_wide_and_ends_at_two_over_the_curvature():
    """Beside the recursion of the covariance, run until it stands; just above 2 / lambda it runs away."""
    precision = torch.linalg.inv(covariance(DIM))
    most = torch.linalg.eigvalsh(precision).max()
    for share in (0.3, 0.9):
        h = share * 2 / most
        shrink, law = torch.eye(DIM).double() - h * precision, torch.zeros(DIM, DIM).double()
        for _ in range(4000):
            law = shrink @ law @ shrink + 2 * h * torch.eye(DIM).double()
        assert_close(law, torch.linalg.inv(precision - 0.5 * h * precision @ precision), rtol=1e-7, atol=1e-7)
        assert (torch.linalg.eigvalsh(law - torch.linalg.inv(precision)) > 0).all()
    h, law = 1.01 * 2 / most, torch.zeros(DIM, DIM).double()
    for _ in range(1000):
        shrink = torch.eye(DIM).double() - h * precision
        law = shrink @ law @ shrink + 2 * h * torch.eye(DIM).double()
    assert law.trace() > 1e6


@pytest.mark.equation("priors-accept", tolerance="1e-12, by enumeration")
def test_refusing_some_proposals_balances_every_pair_of_states():
    """Five states, proposals at random: p_i K_ij is symmetric, so p K = p; with every proposal taken it is not."""
    p, q = (
        torch.softmax(normal(5), 0),
        torch.softmax(normal(5, 5, seed=1), 1),
    )
    taken = torch.minimum(torch.ones(5, 5).double(), p[None] * q.T / (p[:, None] * q))
    kernel = q * taken
    kernel = kernel - torch.diag(kernel.diagonal())
    kernel = kernel + torch.diag(1 - kernel.sum(1))
    flow = p[:, None] * kernel
    assert_close(flow, flow.T, rtol=0, atol=1e-12)
    assert_close(p @ kernel, p, rtol=0, atol=1e-12)
    assert (p @ q - p).abs().max() > 0.01


@pytest.mark.equation("priors-odds", tolerance="1e-9")
@pytest.mark.parametrize("stretched", [False, True])
def test_the_odds_of_a_step_need_no_density_but_the_noises_there_and_back(stretched):
    """Beside torch's normal densities of the proposal and of its way back, with and without a factor L."""
    h = 0.2
    factor = torch.linalg.cholesky(covariance(2)) if stretched else torch.eye(2).double()
    slope = lambda z: torch.autograd.functional.jacobian(bumpy, z)  # noqa: E731
    proposal = lambda z: MultivariateNormal(  # noqa: E731
        z - h * factor @ factor.T @ slope(z), 2 * h * factor @ factor.T
    )
    for seed in range(4):
        z, eps = normal(2, seed=seed), normal(2, seed=seed + 10)
        new = z + factor @ (math.sqrt(2 * h) * eps - h * factor.T @ slope(z))
        back = math.sqrt(h / 2) * factor.T @ (slope(z) + slope(new)) - eps
        odds = bumpy(z) - bumpy(new) + 0.5 * (eps.square().sum() - back.square().sum())
        ways = proposal(new).log_prob(z) - proposal(z).log_prob(new)
        assert_close(odds, bumpy(z) - bumpy(new) + ways, **EXACT)


@pytest.mark.equation("priors-precondition", tolerance="1e-9")
def test_a_factor_is_a_change_of_the_latents_units():
    """One step of the package with L beside a plain step in u = L^-1 z, with the same noise."""
    posterior, z = of_linear(operators()[1]), normal(4, 1, DIM)
    factor = torch.linalg.cholesky(covariance(DIM))[None]
    found = langevin(posterior, z, step=0.1, n_steps=1, factor=factor, adjusted=False, generator=seeded()).z[
        0
    ]
    eps = torch.randn(z.shape, generator=seeded(), dtype=torch.float64)
    u = torch.linalg.solve(factor[0], z[..., None])[..., 0].requires_grad_()
    (slope,) = torch.autograd.grad(posterior.energy(u @ factor[0].T).sum(), u)
    expected = (u - 0.1 * slope + math.sqrt(0.2) * eps).detach() @ factor[0].T
    assert_close(found, expected, **EXACT)


# ---- what draws are for ----------------------------------------------------------------------------------------


def table(n_x: int = 4, n_y: int = 3, dim: int = 2) -> tuple[Tensor, Tensor]:
    """Return values x (n_x, dim) and p(x | y), (n_y, n_x), with the law of y, (n_y,)."""
    joint = normal(n_y, n_x, seed=21).exp()
    return normal(n_x, dim, seed=20), joint / joint.sum()


@pytest.mark.equation("priors-draws", tolerance="1e-9, by enumeration")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_mean_of_some_draws_errs_by_one_part_more_than_the_best(n):
    """All truths, all y and all tuples of draws: (1 + 1 / S) MMSE; 2 MMSE for one draw."""
    x, joint = table()
    error = least = 0.0
    for y in range(len(joint)):
        posterior = joint[y] / joint[y].sum()
        best = posterior @ x
        least = least + joint[y] @ (x - best).square().sum(1)
        for draws in itertools.product(range(len(x)), repeat=n):
            mean = x[list(draws)].mean(0)
            chance = posterior[list(draws)].prod()
            error = error + chance * (joint[y] @ (x - mean).square().sum(1))
    assert_close(error, (1 + 1 / n) * least, **EXACT)


@pytest.mark.equation("priors-variance", tolerance="1e-9")
def test_a_pixels_variance_is_that_of_the_draws_and_the_decoders_own():
    """A mixture of normals, its second moment by quadrature: variance of the means plus mean of the variances."""
    means, own, share = [-1.0, 0.3, 1.4], [0.2, 0.5, 0.1], [0.5, 0.3, 0.2]
    density = lambda x: sum(  # noqa: E731
        p * scipy.stats.norm.pdf(x, m, s) for p, m, s in zip(share, means, own)
    )
    points = {"points": means, "limit": 400}
    mean = scipy.integrate.quad(lambda x: x * density(x), -6, 6, **points)[0]
    variance = scipy.integrate.quad(lambda x: (x - mean) ** 2 * density(x), -6, 6, **points)[0]
    of_means = sum(p * (m - mean) ** 2 for p, m in zip(share, means))
    of_own = sum(p * s**2 for p, s in zip(share, own))
    assert math.isclose(variance, of_means + of_own, rel_tol=1e-8)
    assert of_own > 0.05 * variance


@pytest.mark.equation("priors-project", tolerance="1e-9")
@pytest.mark.parametrize("which", [0, 1, 2])
def test_putting_back_what_was_seen_brings_the_answer_nearer_to_every_image_that_fits(which):
    """For images x' with A x' = y, whatever they hold where A is blind: Pythagoras, so never farther."""
    operator = operators()[which]
    x, answer = normal(8, 1, SIDE, SIDE), normal(1, 1, SIDE, SIDE, seed=1).expand(8, -1, -1, -1)
    y = operator(x[:1])
    fits = operator.pinv(y) + x - operator.pinv(operator(x))
    assert_close(operator(fits), y.expand_as(operator(fits)), **EXACT)
    kept = degrade.consistent(answer, y.expand_as(operator(answer)), operator)
    square = lambda t: t.square().sum((1, 2, 3))  # noqa: E731
    assert_close(square(fits - kept), square(fits - answer) - square(kept - answer), **EXACT)
    assert (square(fits - kept) < square(fits - answer)).all()


# ---- draws by weights ------------------------------------------------------------------------------------------


def tiny_prior() -> Prior:
    torch.manual_seed(3)
    model = Prior(PriorConfig(codes=3, grid=(2, 2), width=8, depth=1, heads=1))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(30.0 if "embedding" in name else 1.5).add_(0.1 * torch.randn(weight.shape))
    return model.eval()


KNOWN = torch.tensor([[True, False], [False, True]])
GIVEN = torch.tensor([[2, 0], [0, 1]])


def all_grids() -> tuple[Tensor, Tensor, Tensor]:
    """Return the nine grids with the known codes, log p of each, and log p(c_i | c_<i) at each place (9, 2, 2)."""
    grids = torch.tensor([[[2, i], [j, 1]] for i in range(3) for j in range(3)])
    prior = tiny_prior()
    with torch.no_grad():
        each = prior(grids).log_softmax(1).gather(1, grids[:, None])[:, 0].double()
        return grids, prior.log_prob(grids).double(), each


@pytest.mark.equation("priors-weights", tolerance="1e-4")
def test_the_priors_probability_is_that_of_the_draw_times_the_weight():
    """All nine grids of a tiny prior; the package's weights are the known codes' probabilities; draws sum to 1."""
    grids, log_p, each = all_grids()
    draw, weight = each[:, ~KNOWN].sum(1), each[:, KNOWN].sum(1)
    assert_close(draw + weight, log_p, rtol=1e-5, atol=1e-5)
    assert abs(draw.exp().sum().item() - 1) < 1e-5
    filled = fill(tiny_prior(), GIVEN, KNOWN, 60, generator=seeded())
    place = filled.codes[:, 0, 1] * 3 + filled.codes[:, 1, 0]
    assert_close(filled.log_weights.double(), weight[place], rtol=1e-4, atol=1e-4)
    assert grids[place].equal(filled.codes)


@pytest.mark.equation("priors-known", tolerance="1e-5; 4 standard errors")
def test_weighted_means_are_means_under_the_prior_given_the_known_codes():
    """By enumeration, and by the package's draws of a grid's missing code; unweighted ones tend to something else."""
    grids, log_p, each = all_grids()
    draw, weight = each[:, ~KNOWN].sum(1).exp(), each[:, KNOWN].sum(1).exp()
    f = (grids[:, 0, 1] == 1).double()
    expected = (torch.softmax(log_p, 0) * f).sum()
    assert_close((draw * weight * f).sum() / (draw * weight).sum(), expected, rtol=1e-5, atol=1e-6)
    assert_close((draw * weight).sum(), log_p.exp().sum(), rtol=1e-5, atol=1e-9)
    filled = fill(tiny_prior(), GIVEN, KNOWN, 20_000, generator=seeded(1))
    own, hit = torch.softmax(filled.log_weights.double(), 0), (filled.codes[:, 0, 1] == 1).double()
    stderr = (own.square() * (hit - expected).square()).sum().sqrt()
    assert stderr < 0.01 and abs((own * hit).sum() - expected) < 4 * stderr
    assert abs(hit.mean() - expected) > 10 * stderr


@pytest.mark.equation("priors-effective", tolerance="1e-9")
def test_so_many_equal_draws_would_err_as_much():
    """The variance of a weighted mean of independent values over that of one value, and n / (1 + spread^2)."""
    log_w = normal(7)
    w = log_w.exp()
    own = w / w.sum()
    values = torch.tensor([-1.0, 1.0]).double()  # of variance 1
    second = sum((own * torch.stack(v)).sum() ** 2 for v in itertools.product(values, repeat=7)) / 2**7
    assert_close(1 / second, torch.tensor(effective_size(log_w), dtype=torch.float64), **EXACT)
    spread = w.var(correction=0) / w.mean() ** 2
    assert math.isclose(effective_size(log_w), 7 / (1 + spread.item()), rel_tol=1e-9)


@pytest.mark.equation("priors-copies", tolerance="1e-9, by enumeration")
def test_copies_drawn_by_weight_keep_every_mean_and_add_to_its_error():
    """All 3^3 ways to draw three of three grids: the mean over copies has the weighted mean, and a variance besides."""
    own, f = torch.softmax(normal(3), 0), normal(3, seed=1)
    mean = second = 0.0
    for chosen in itertools.product(range(3), repeat=3):
        chance, found = own[list(chosen)].prod(), f[list(chosen)].mean()
        mean, second = mean + chance * found, second + chance * found**2
    weighted = own @ f
    assert_close(mean, weighted, **EXACT)
    assert_close(second - mean**2, (own @ (f - weighted).square()) / 3, **EXACT)


# ---- generators without a density ------------------------------------------------------------------------------


@pytest.mark.equation("priors-range", tolerance="1e-9")
def test_no_answer_is_nearer_than_the_range_and_the_best_plane_leaves_the_small_eigenvalues():
    """Least squares onto the first D directions of 500 points; onto any other plane more is left."""
    x = normal(500, 8) @ covariance(8, seed=1)
    centred = x - x.mean(0)
    lam, basis = torch.linalg.eigh(centred.T @ centred / 500)

    def left(plane: Tensor) -> Tensor:
        z = torch.linalg.lstsq(plane, centred.T).solution
        return (centred - (plane @ z).T).square().sum(1)

    best = left(basis[:, -DIM:])
    assert_close(best.mean(), lam[:-DIM].sum(), **EXACT)
    for seed in range(5):
        assert left(normal(8, DIM, seed=seed)).mean() > best.mean()
        z = normal(500, DIM, seed=seed)
        assert ((centred - z @ basis[:, -DIM:].T).square().sum(1) >= best - 1e-12).all()


@pytest.mark.equation("priors-w", tolerance="1e-9")
def test_the_square_of_u_is_the_distance_of_w_in_its_own_deviations():
    """The log-density of N(mean, C) at w = mean + R u is -|u|^2 / 2 and a constant, whatever root R of C is taken."""
    cov, mean = covariance(5), normal(5, seed=1)
    values, vectors = torch.linalg.eigh(cov)
    u = normal(6, 5, seed=2)
    for root in (torch.linalg.cholesky(cov), vectors * values.sqrt()):
        assert_close(root @ root.T, cov, **EXACT)
        gap = MultivariateNormal(mean, cov).log_prob(mean + u @ root.T) + 0.5 * u.square().sum(1)
        assert_close(gap, gap[:1].expand(6), **EXACT)


# ---- what several answers say ----------------------------------------------------------------------------------


@pytest.mark.equation("priors-agree", tolerance="1e-12, by enumeration")
def test_a_posteriors_draw_is_right_as_often_as_two_of_its_draws_are_alike():
    """All y, truths and pairs of draws; of a posterior that is too sure the draws are alike more often than right."""
    joint = normal(3, 4).exp()
    joint = joint / joint.sum()
    said = joint / joint.sum(1, keepdim=True)
    for sharpened in (False, True):
        q = said**4 / (said**4).sum(1, keepdim=True) if sharpened else said
        right = (joint * q).sum()
        alike = (joint.sum(1, keepdim=True) * q * q).sum()
        assert alike > right + 0.05 if sharpened else abs(alike - right) < 1e-12


@pytest.mark.equation("priors-any", tolerance="1e-12, by enumeration")
def test_one_of_several_answers_is_right_more_often():
    """All truths and all tuples of draws of four values."""
    p = torch.softmax(normal(4), 0)
    for n in (1, 2, 4):
        hit = sum(
            p[true] * p[list(draws)].prod()
            for true in range(4)
            for draws in itertools.product(range(4), repeat=n)
            if true in draws
        )
        assert_close(hit, 1 - (p * (1 - p) ** n).sum(), rtol=0, atol=1e-12)


@pytest.mark.equation("priors-rank", tolerance="exact, by enumeration")
def test_the_truth_takes_every_place_among_its_draws_equally_often():
    """All orders of the truth and S draws: the share between the r-th least and the r-th largest draw."""
    for s, r in ((3, 1), (5, 2), (6, 1)):
        inside = 0
        for order in itertools.permutations(range(s + 1)):
            draws = sorted(order[1:])
            inside += draws[r - 1] < order[0] < draws[-r]
        assert inside * (s + 1) == (s + 1 - 2 * r) * math.factorial(s + 1)


@pytest.mark.equation("priors-coverage", tolerance="1e-6")
def test_a_deviation_that_is_too_small_covers_too_little():
    """The mass of a normal within the interval said, by quadrature; 90 % where the deviation is right."""
    for ratio in (0.25, 0.5, 1.0, 2.0):
        width = scipy.stats.norm.ppf(0.95) * ratio
        mass, _ = scipy.integrate.quad(scipy.stats.norm.pdf, -width, width)
        assert math.isclose(mass, 2 * scipy.stats.norm.cdf(width) - 1, rel_tol=1e-6)
        assert (abs(mass - 0.9) < 1e-6) == (ratio == 1.0)
