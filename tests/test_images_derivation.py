"""The chapter "Images and likelihood", equation by equation, on distributions small enough to add up or integrate."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from torch import Tensor, distributions
from torch.nn.functional import mse_loss
from torch.testing import assert_close

from imagegen.data import gaussian_2d, ring_of_gaussians
from imagegen.images import dequantise, to_float
from imagegen.objectives import (
    bernoulli_entropy,
    bernoulli_nll,
    bits_per_dim,
    categorical_nll,
    discretised_logistic_nll,
    gaussian_nll,
)

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_distribution(*shape: int, seed: int = 0) -> Tensor:
    """Return probabilities that sum to 1 over all the entries of a table of this shape."""
    return torch.softmax(2 * normal(*shape, seed=seed).flatten(), 0).view(shape)


def entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum()


# ---- maximum likelihood ----------------------------------------------------------------------------------------


@pytest.mark.equation("images-cross-entropy", tolerance="1e-10")
def test_the_cross_entropy_is_the_entropy_plus_the_divergence():
    """Add up all three over a distribution of twelve outcomes; SciPy gives entropy and divergence."""
    p, q = some_distribution(12), some_distribution(12, seed=1)
    cross = -(p * q.log()).sum().item()
    assert_close(cross, scipy.stats.entropy(p.numpy()) + scipy.stats.entropy(p.numpy(), q.numpy()), **EXACT)
    assert cross > entropy(p).item() + 0.1


@pytest.mark.equation("images-cross-entropy", tolerance="4 standard errors, below 1 %")
def test_the_mean_nll_of_draws_tends_to_the_cross_entropy():
    """Average -log q over draws of p: Gaussians, whose entropy and divergence have closed forms."""
    p, q = distributions.Normal(0.3, 0.8), distributions.Normal(-0.5, 1.5)
    draws = 0.3 + 0.8 * normal(100_000, 1)
    nll = gaussian_nll(torch.full_like(draws, -0.5), draws, 2 * math.log(1.5))
    expected = (p.entropy() + distributions.kl_divergence(p, q)).item()
    error = (nll.std() / len(nll) ** 0.5).item()
    assert error < 0.01 * expected
    assert abs(nll.mean().item() - expected) < 4 * error


@pytest.mark.equation("images-gibbs", tolerance="1e-12")
def test_the_divergence_is_at_least_what_the_tangent_leaves_and_that_is_at_least_zero():
    """Compare the three members for many pairs, some with outcomes that p never has; equal only for p = q."""
    for seed in range(50):
        p, q = some_distribution(9, seed=seed), some_distribution(9, seed=seed + 100)
        p[seed % 9] = 0  # here q has mass that the tangent leaves over
        p = p / p.sum()
        seen = p > 0
        kl = (p[seen] * (p[seen] / q[seen]).log()).sum()
        tangent = -(p[seen] * (q[seen] / p[seen] - 1)).sum()
        assert_close(tangent, 1 - q[seen].sum(), rtol=0, atol=1e-12)
        assert kl > tangent > 0
        nearer = [((p * (p / m).log())[seen]).sum() for m in (0.5 * p + 0.5 * q, 0.99 * p + 0.01 * q)]
        assert kl > nearer[0] > nearer[1] > 0


def test_a_model_that_misses_what_occurs_pays_without_limit_and_one_that_covers_too_much_pays_little():
    p = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    misses = torch.tensor([1 - 2e-12, 1e-12, 1e-12], dtype=torch.float64)
    covers = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert scipy.stats.entropy(p, misses) > 10
    assert_close(float(scipy.stats.entropy(p, covers)), math.log(1.5), **EXACT)
    half_on_nonsense = torch.tensor(
        [0.25, 0.25, 0.5], dtype=torch.float64
    )  # right but for the half it wastes
    assert_close(float(scipy.stats.entropy(p, half_on_nonsense)), math.log(2), **EXACT)


@pytest.mark.equation("images-total-correlation", tolerance="1e-10")
def test_the_best_independent_model_is_the_marginals_and_misses_the_total_correlation():
    """Enumerate a joint table of three values; descend on the cross-entropy of a product, and compare the minimum."""
    joint = some_distribution(3, 4, 2)
    marginals = [joint.sum((1, 2)), joint.sum((0, 2)), joint.sum((0, 1))]
    product = torch.einsum("i,j,k->ijk", *marginals)
    least = sum(entropy(m) for m in marginals)
    assert_close(-(joint * product.log()).sum(), least, **EXACT)
    correlation = (joint * (joint / product).log()).sum()
    assert_close(least, entropy(joint) + correlation, **EXACT)
    assert correlation > 0.05
    logits = [torch.zeros(n, dtype=torch.float64, requires_grad=True) for n in joint.shape]
    optimizer = torch.optim.LBFGS(logits, max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

    def loss():
        optimizer.zero_grad()
        parts = [torch.log_softmax(v, 0) for v in logits]
        value = -(joint * (parts[0][:, None, None] + parts[1][:, None] + parts[2])).sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert_close(loss().detach(), least, **EXACT)


# ---- Bernoulli -------------------------------------------------------------------------------------------------


@pytest.mark.equation("images-bernoulli", tolerance="1e-10")
def test_the_binary_cross_entropy_is_a_log_probability_of_black_and_white_images():
    """Multiply pi^x (1 - pi)^(1 - x) over the values, for all 64 images of six values; the products sum to 1."""
    logits = normal(1, 6)
    pi = torch.sigmoid(logits)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6)), dtype=torch.float64)
    probability = (pi**every * (1 - pi) ** (1 - every)).prod(1)
    assert_close(probability.sum().item(), 1.0, **EXACT)
    assert_close(bernoulli_nll(logits.expand(64, -1), every), -probability.log(), **EXACT)


@pytest.mark.equation("images-bernoulli-mass", tolerance="1e-8")
@pytest.mark.parametrize("pi", [0.5, 0.5001, 0.2, 0.9, 0.999])
def test_on_grey_values_the_mass_is_at_most_one_half(pi):
    """Integrate exp(-loss) over [0, 1] by Gauss-Legendre, and compare with the closed form and its bound."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    grey = torch.as_tensor((nodes + 1) / 2).view(-1, 1)
    logit = math.log(pi / (1 - pi))
    density = bernoulli_nll(torch.full_like(grey, logit), grey).neg().exp()
    mass = (density * torch.as_tensor(weights / 2)).sum().item()
    assert mass < 0.5 if pi != 0.5 else abs(mass - 0.5) < 1e-12
    assert_close(
        mass, 0.5 if pi == 0.5 else (2 * pi - 1) / (math.log(pi) - math.log(1 - pi)), rtol=1e-8, atol=0
    )


@pytest.mark.equation("images-binarised", tolerance="1e-10")
def test_the_cross_entropy_of_a_grey_image_is_the_mean_nll_of_its_dots():
    """Add up probability times NLL over all 32 black and white images that a grey one of five values may become."""
    grey, logits = uniform(1, 5), normal(1, 5)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=5)), dtype=torch.float64)
    chance = (grey**every * (1 - grey) ** (1 - every)).prod(1)
    expected = (chance * bernoulli_nll(logits.expand(32, -1), every)).sum()
    assert_close(bernoulli_nll(logits, grey).sum(), expected, **EXACT)


@pytest.mark.equation("images-bernoulli-floor", tolerance="1e-10")
def test_the_floor_of_the_binary_cross_entropy_is_reached_at_the_target_and_is_its_entropy():
    """Descend on the logits from elsewhere: they end at the target, and the loss at the entropy of the dots."""
    grey = 0.05 + 0.9 * uniform(1, 8)
    logits = normal(1, 8).requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

    def loss():
        optimizer.zero_grad()
        value = bernoulli_nll(logits, grey).sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert_close(torch.sigmoid(logits.detach()), grey, rtol=1e-5, atol=0)
    expected = scipy.stats.bernoulli.entropy(grey.numpy()).sum()
    assert_close(loss().item(), float(expected), **EXACT)
    assert_close(bernoulli_entropy(grey).item(), float(expected), **EXACT)
    assert expected > 1


# ---- Gaussian --------------------------------------------------------------------------------------------------


@pytest.mark.equation("images-gaussian", tolerance="1e-10")
@pytest.mark.parametrize("variance", [0.09, 0.5, 1.0, 4.0])
def test_the_gaussian_nll_is_the_squared_error_over_two_variances_and_a_constant(variance):
    """Compare with the equation and with SciPy's multivariate normal; the density integrates to 1 over a plane."""
    x, m = normal(3, 6), normal(3, 6, seed=1)
    found = gaussian_nll(m, x, math.log(variance))
    book = (x - m).square().sum(1) / (2 * variance) + 6 / 2 * math.log(2 * math.pi * variance)
    assert_close(found, book, **EXACT)
    for i in range(3):
        scipys = scipy.stats.multivariate_normal(m[i].numpy(), variance * np.eye(6)).logpdf(x[i].numpy())
        assert_close(found[i].item(), -float(scipys), **EXACT)
    axis = torch.linspace(-20, 20, 401, dtype=torch.float64)
    plane = torch.cartesian_prod(axis, axis)
    density = gaussian_nll(torch.full_like(plane, 0.3), plane, math.log(variance)).neg().exp()
    assert_close(density.sum().item() * 0.1**2, 1.0, rtol=1e-8, atol=0)


@pytest.mark.equation("images-mean", tolerance="1e-10")
def test_the_expected_squared_error_is_the_variance_plus_the_squared_distance_to_the_mean():
    """Average over a finite population, where nothing is estimated, for many answers m; the mean wins."""
    x = normal(40, 7) * torch.arange(1, 8)
    mean, variance = x.mean(0), x.var(0, correction=0).sum()
    for seed in range(5):
        m = mean + normal(7, seed=seed)
        expected_error = (x - m).square().sum(1).mean()
        assert_close(expected_error, variance + (mean - m).square().sum(), **EXACT)
        assert expected_error > variance
    assert_close((x - mean).square().sum(1).mean(), variance, **EXACT)
    every_pair = (x[:, None] - x).square().sum(2).mean()  # a draw in the mean's place costs twice as much
    assert_close(every_pair, 2 * variance, **EXACT)


@pytest.mark.equation("images-variance", tolerance="1e-8")
def test_the_best_variance_is_the_mean_squared_error_and_the_nll_its_logarithm():
    """Minimise the mean NLL over log s^2 by golden section, and compare place and value."""
    x, m = 3 * normal(50, 6), normal(50, 6, seed=1)
    mse = mse_loss(m, x).item()
    found = scipy.optimize.minimize_scalar(
        lambda v: gaussian_nll(m, x, v).mean().item(), bracket=(-3, 5), tol=1e-12
    )
    assert_close(math.exp(found.x), mse, rtol=1e-5, atol=0)
    assert_close(float(found.fun), 6 / 2 * (math.log(2 * math.pi * mse) + 1), rtol=1e-8, atol=0)
    near = x + 1e-4 * (m - x)  # a model that is nearly right: the NLL has no floor at 0
    assert gaussian_nll(near, x, math.log(1e-8 * mse)).mean() < -30


# Loss lines as they circulate, and the factor a before the summed squared error.
LINES = {
    "half the sum": (lambda m, x: 0.5 * mse_loss(m, x, reduction="sum"), lambda n: 0.5),
    "sum": (lambda m, x: mse_loss(m, x, reduction="sum"), lambda n: 1.0),
    "mean": (mse_loss, lambda n: 1 / n),
    "500 times the mean": (lambda m, x: 500 * mse_loss(m, x), lambda n: 500 / n),
    "mean of bytes": (lambda m, x: mse_loss(255 * m, 255 * x), lambda n: 255**2 / n),
}


@pytest.mark.equation("images-ledger", tolerance="1e-10")
@pytest.mark.parametrize(("line", "factor"), LINES.values(), ids=list(LINES))
def test_a_factor_before_the_squared_error_is_a_variance(line, factor):
    """Take losses that circulate: each is the NLL of variance 1 / 2a less a constant, with the same gradient."""
    x, m = uniform(1, 3, 4, 5), uniform(1, 3, 4, 5, seed=1).requires_grad_()
    a = factor(60)
    nll = gaussian_nll(m, x, math.log(1 / (2 * a))).sum()
    assert_close(line(m, x), nll - 60 / 2 * math.log(math.pi / a), **EXACT)
    for_line, for_nll = (torch.autograd.grad(loss, m)[0] for loss in (line(m, x), nll))
    assert_close(for_line, for_nll, **EXACT)


def test_the_plain_sum_is_variance_one_half_and_the_mean_half_the_number_of_values():
    x, m = uniform(1, 784), uniform(1, 784, seed=1)
    assert_close(
        gaussian_nll(m, x, math.log(0.5))[0] - 392 * math.log(math.pi), (x - m).square().sum(), **EXACT
    )
    assert_close(
        gaussian_nll(m, x, math.log(392))[0] - 392 * math.log(784 * math.pi), (x - m).square().mean(), **EXACT
    )


@pytest.mark.equation("images-gaussian-fit", tolerance="1e-8")
def test_the_best_gaussian_has_the_moments_of_the_sample_and_scores_half_its_log_determinant():
    """Minimise the NLL over mean and triangular factor from a far start; the truth scores worse on these points."""
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.5]], dtype=torch.float64)
    x = gaussian_2d(300, covariance, generator=torch.Generator().manual_seed(1)) + torch.tensor([2.0, -1.0])
    sample = torch.cov(x.T, correction=0)
    least = 0.5 * torch.logdet(2 * math.pi * math.e * sample)
    params = torch.zeros(5, dtype=torch.float64, requires_grad=True)

    def model(p):
        row = torch.stack([p[4], p[3].exp()])
        factor = torch.stack([torch.stack([p[2].exp(), 0 * p[2]]), row])
        return distributions.MultivariateNormal(p[:2], scale_tril=factor)

    optimizer = torch.optim.LBFGS(
        [params], max_iter=500, tolerance_grad=1e-11, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss():
        optimizer.zero_grad()
        value = -model(params).log_prob(x).mean()
        value.backward()
        return value

    optimizer.step(loss)
    fitted = model(params.detach())
    assert_close(loss().detach(), least, rtol=1e-8, atol=0)
    assert_close(fitted.mean, x.mean(0), rtol=1e-5, atol=0)
    assert_close(fitted.covariance_matrix, sample, rtol=1e-5, atol=0)
    truth = distributions.MultivariateNormal(torch.tensor([2.0, -1.0]).double(), covariance)
    assert -truth.log_prob(x).mean() > least
    assert_close(truth.entropy(), 0.5 * torch.logdet(2 * math.pi * math.e * covariance), **EXACT)


def test_one_gaussian_on_a_ring_pays_what_the_chapter_says():
    """Take the entropy of the ring from its own density, not from the argument that its modes hardly overlap."""
    radius, std = 2.0, 0.1
    x, _ = ring_of_gaussians(20_000, radius=radius, std=std, generator=torch.Generator().manual_seed(0))
    angles = torch.arange(8) * (math.pi / 4)
    centres = radius * torch.stack([angles.cos(), angles.sin()], 1)
    modes = distributions.Independent(distributions.Normal(centres, std), 1)
    ring = distributions.MixtureSameFamily(distributions.Categorical(torch.ones(8)), modes)
    variance = radius**2 / 2 + std**2
    gap = gaussian_nll(torch.zeros_like(x), x, math.log(variance)) + ring.log_prob(x)
    error = (gap.std() / len(gap) ** 0.5).item()
    expected = math.log(variance / (8 * std**2))
    assert error < 0.01 * expected
    assert abs(gap.mean().item() - expected) < 4 * error


# ---- whole numbers ---------------------------------------------------------------------------------------------

LEVELS = torch.arange(256, dtype=torch.uint8)
CENTRES = LEVELS.double() / 127.5 - 1


def spikes(x: Tensor, log_var: float) -> Tensor:
    """Return -log density (N,) of x (N,) under equal narrow Gaussians on the 256 levels."""
    pairs = gaussian_nll(CENTRES.repeat(len(x), 1).view(-1, 1), x.repeat_interleave(256)[:, None], log_var)
    return -torch.logsumexp(-pairs.view(len(x), 256), 1) + math.log(256)


@pytest.mark.equation("images-spikes", tolerance="1e-10")
def test_spikes_on_the_levels_have_a_likelihood_without_limit():
    """The bound holds at every width, becomes an equality for narrow spikes, and falls by log 10 a tenth of width."""
    for std in (0.1, 0.01):
        assert (
            spikes(CENTRES, 2 * math.log(std)) < math.log(256) + 0.5 * math.log(2 * math.pi * std**2)
        ).all()
    narrow = [spikes(CENTRES, 2 * math.log(std)) for std in (1e-4, 1e-5, 1e-9)]
    for std, nll in zip((1e-4, 1e-5, 1e-9), narrow, strict=True):
        bound = math.log(256) + 0.5 * math.log(2 * math.pi * std**2)
        assert_close(nll, torch.full_like(nll, bound), **EXACT)
    assert narrow[-1].max() < -10


@pytest.mark.equation("images-dequantisation", tolerance="1e-8")
@pytest.mark.parametrize("std", [2.0, 0.1, 0.004, 0.0005])
def test_the_bound_of_dequantised_values_lies_above_the_code_length_and_is_tight_for_a_flat_density(std):
    """Integrate a Gaussian over each cell with SciPy, and its logarithm by Gauss-Legendre over the same cell."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    density = scipy.stats.norm(0.1003, std)
    centres = CENTRES[np.abs(CENTRES.numpy() - 0.1003) < 6 * std + 0.004].numpy()
    upper, lower = centres + 1 / 255, centres - 1 / 255
    mass = np.where(
        lower > 0.1003, density.sf(lower) - density.sf(upper), density.cdf(upper) - density.cdf(lower)
    )
    inside = torch.as_tensor(centres[:, None] + nodes / 255).reshape(-1, 1)
    nll = gaussian_nll(torch.full_like(inside, 0.1003), inside, 2 * math.log(std)).view(len(centres), -1)
    bound = (nll * torch.as_tensor(weights / 2)).sum(1).numpy() + math.log(127.5)
    gap = bound + np.log(mass)
    assert (gap > -1e-8).all()
    assert (
        gap.max() < 1e-4 if std > 1 else gap.max() > 1e-4
    )  # Jensen's price: what the density bends in a cell


@pytest.mark.equation("images-dequantisation", tolerance="5 standard errors")
def test_with_noise_no_density_beats_the_entropy_of_the_levels():
    """Uniform levels have an entropy of 8 bits: spikes of any width score more on them, once noise is added."""
    n = LEVELS.repeat(10)
    noisy = dequantise(n, generator=torch.Generator().manual_seed(0)).double()
    scores = []
    for std in (0.3, 0.01, 0.004, 0.002, 0.001, 0.0003):
        nll = spikes(noisy, 2 * math.log(std)) + math.log(127.5)
        error = (nll.std() / len(nll) ** 0.5).item()
        scores.append(nll.mean().item())
        assert scores[-1] > math.log(256) - 5 * error
    assert min(scores) < math.log(256) + 0.1  # within reach, by spikes about as wide as a cell
    assert scores[-1] > min(scores) + 1  # narrow ones now pay
    assert (spikes(to_float(n).double(), 2 * math.log(0.0003)) + math.log(127.5)).max() < math.log(256) - 1


@pytest.mark.equation("images-bits", tolerance="1e-10")
def test_bits_a_dimension_are_the_length_of_a_code_a_value():
    """Take images of values whose probabilities are powers of 2, and count the bits of their code by hand."""
    probabilities = torch.full((256,), 2.0**-9, dtype=torch.float64)
    probabilities[0], probabilities[1] = 2.0**-1, 2.0**-8  # so that all 256 sum to 1
    assert probabilities.sum() == 1
    target = torch.tensor([[[0, 0, 7], [0, 3, 255]]], dtype=torch.uint8)
    logits = probabilities.log().view(1, 256, 1, 1).expand(1, 256, 2, 3)
    counted = -probabilities.log2()[target.long()].mean().item()
    assert_close(bits_per_dim(categorical_nll(logits, target), 6).item(), counted, **EXACT)
    assert counted == (3 * 1 + 3 * 9) / 6
    assert_close(bits_per_dim(categorical_nll(torch.zeros_like(logits), target), 6).item(), 8.0, **EXACT)


@pytest.mark.equation("images-bits", tolerance="1e-10")
def test_the_bits_of_a_density_depend_on_the_range_by_the_logarithm_of_the_cells():
    """Score the same dequantised values in three ranges: the densities differ, with their cells they agree."""
    x = 2 * uniform(4, 30) - 1
    m = 0.3 * normal(4, 30)
    nats = gaussian_nll(m, x, math.log(0.2)) + 30 * math.log(127.5)
    for scale in (0.5, 127.5):
        there = gaussian_nll(scale * m, scale * x, math.log(0.2 * scale**2)) + 30 * math.log(127.5 / scale)
        assert_close(bits_per_dim(there, 30), bits_per_dim(nats, 30), **EXACT)
    flat = math.log(256 * 2 / 255)  # -log of the even density over all 256 cells
    assert_close(bits_per_dim(flat + math.log(127.5), 1), 8.0, **EXACT)


@pytest.mark.equation("images-categorical", tolerance="1e-10")
def test_the_gradient_of_the_categorical_is_probability_less_one_at_the_level():
    """Differentiate the NLL of one value by its 256 logits, and compare with softmax less one-hot."""
    logits = normal(1, 256, 1).requires_grad_()
    nll = categorical_nll(logits, torch.tensor([[17]], dtype=torch.uint8)).sum()
    assert_close(nll.item(), -torch.softmax(logits.detach(), 1)[0, 17, 0].log().item(), **EXACT)
    (gradient,) = torch.autograd.grad(nll, logits)
    is_the_level = (torch.arange(256) == 17).double().view(1, 256, 1)
    assert_close(gradient, torch.softmax(logits.detach(), 1) - is_the_level, **EXACT)


@pytest.mark.equation("images-categorical", tolerance="1e-6")
def test_maximum_likelihood_of_a_categorical_counts():
    """Descend on the mean NLL of 60 values: the probabilities of the levels seen are their shares."""
    n = torch.randint(0, 5, (60, 1), generator=torch.Generator().manual_seed(0)).to(torch.uint8) * 60
    share = torch.bincount(n.flatten().long(), minlength=256).double() / 60
    logits = torch.where(share > 0, share.log(), -40.0).view(1, 256, 1).requires_grad_()
    nll = categorical_nll(logits.expand(60, -1, -1), n).mean()
    (gradient,) = torch.autograd.grad(nll, logits)
    assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)
    assert_close(nll.item(), entropy(share).item(), rtol=1e-6, atol=0)
    for seed in range(5):  # by Gibbs' inequality, anything else is worse
        other = logits.detach() + 0.3 * normal(1, 256, 1, seed=seed)
        assert categorical_nll(other.expand(60, -1, -1), n).mean() > nll


@pytest.mark.equation("images-logistic", tolerance="1e-10")
def test_the_probabilities_of_two_values_multiply_and_sum_to_one_over_all_pairs():
    """Add the probabilities of all 65,536 images of two values, each with its own mean and scale."""
    n = torch.cartesian_prod(LEVELS, LEVELS)
    mean = torch.tensor([[-0.97, 0.4]], dtype=torch.float64).expand(len(n), -1)
    log_scale = torch.tensor([[-2.0, -5.0]], dtype=torch.float64).expand(len(n), -1)
    assert_close(discretised_logistic_nll(mean, n, log_scale).neg().exp().sum().item(), 1.0, **EXACT)


@pytest.mark.equation("images-logistic-stable", tolerance="1e-12")
def test_the_difference_of_two_sigmoids_is_a_product():
    """Compare both sides in float64 where no digits cancel."""
    upper, lower = 3 * normal(50), 3 * normal(50, seed=1)
    upper, lower = torch.maximum(upper, lower) + 0.5, torch.minimum(upper, lower)
    product = torch.sigmoid(upper) * torch.sigmoid(-lower) * -torch.expm1(lower - upper)
    assert_close(torch.sigmoid(upper) - torch.sigmoid(lower), product, rtol=1e-12, atol=0)
