"""The loss terms, each against the equation written out, an independent implementation, and its derivatives."""

import itertools
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, distributions
from torch.testing import assert_close

from imagegen.data import fashion_mnist
from imagegen.images import to_float, to_unit
from imagegen.objectives import (
    bernoulli_entropy,
    bernoulli_nll,
    bits_per_dim,
    categorical_nll,
    code_nll,
    codebook_loss,
    commitment_loss,
    discretised_logistic_nll,
    free_bits,
    gaussian_kl,
    gaussian_kl_per_dim,
    gaussian_log_density,
    gaussian_nll,
    implied_likelihood,
    importance_weighted_bound,
    kl_weight,
    log_importance_weight,
    normalised_importance_weights,
)

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- Bernoulli -------------------------------------------------------------------------------------------------


@pytest.mark.equation("vae-bernoulli", tolerance="1e-10")
def test_bernoulli_nll_is_the_equation_written_out():
    """Add up the cross-entropy pixel by pixel, from probabilities, and compare."""
    logits, target = normal(3, 2, 4, 5), uniform(3, 2, 4, 5)
    for b in range(3):
        total = 0.0
        for i in itertools.product(range(2), range(4), range(5)):
            p, x = 1 / (1 + math.exp(-logits[b][i])), target[b][i].item()
            total -= x * math.log(p) + (1 - x) * math.log(1 - p)
        assert_close(bernoulli_nll(logits, target)[b].item(), total, **EXACT)


@pytest.mark.equation("vae-bernoulli", tolerance="1e-10")
def test_bernoulli_nll_of_binary_images_is_a_log_probability():
    """Compare with torch.distributions on black and white images, and add the probabilities of all of them to 1."""
    logits, target = normal(6, 7), (uniform(6, 7) > 0.5).double()
    expected = -distributions.Bernoulli(logits=logits).log_prob(target).sum(1)
    assert_close(bernoulli_nll(logits, target), expected, **EXACT)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=7)), dtype=torch.float64)
    assert_close(
        bernoulli_nll(logits[:1].expand(len(every), -1), every).neg().exp().sum().item(), 1.0, **EXACT
    )


def test_bernoulli_nll_stays_finite_at_extreme_logits():
    logits = torch.tensor([[1e4], [-1e4], [1e4], [-1e4]])
    target = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    assert bernoulli_nll(logits, target).tolist() == [1e4, 1e4, 0.0, 0.0]


def test_the_gradient_of_bernoulli_nll_is_probability_less_target():
    logits, target = normal(3, 4).requires_grad_(), uniform(3, 4)
    (gradient,) = torch.autograd.grad(bernoulli_nll(logits, target).sum(), logits)
    assert_close(gradient, torch.sigmoid(logits) - target, **EXACT)
    assert torch.autograd.gradcheck(lambda a: bernoulli_nll(a, target), logits)


@pytest.mark.equation("vae-bernoulli-floor", tolerance="1e-10")
def test_the_floor_of_the_cross_entropy_is_the_entropy_of_the_target():
    """At p = x the gradient is 0 and the curvature positive everywhere, and the value there is the entropy."""
    target = uniform(4, 6) * 0.98 + 0.01
    logits = torch.logit(target).requires_grad_()
    value = bernoulli_nll(logits, target)
    (gradient,) = torch.autograd.grad(value.sum(), logits, create_graph=True)
    assert_close(gradient, torch.zeros_like(target), **EXACT)
    assert_close(value, bernoulli_entropy(target), **EXACT)
    elsewhere = (3 * normal(4, 6)).requires_grad_()  # the loss is convex, so no other minimum hides
    (slope,) = torch.autograd.grad(bernoulli_nll(elsewhere, target).sum(), elsewhere, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), elsewhere)
    assert curvature.min() > 0
    assert (bernoulli_nll(elsewhere, target) > bernoulli_entropy(target) + 0.01).all()


@pytest.mark.equation("vae-bernoulli-floor", tolerance="0.01 nats")
def test_the_floor_on_fashion_mnist_is_far_from_zero():
    """Average the floor over the 10,000 test images of Fashion-MNIST: 189.86 nats an image."""
    floors = [bernoulli_entropy(to_unit(to_float(part))) for part in fashion_mnist("test").images.split(1000)]
    assert abs(torch.cat(floors).double().mean().item() - 189.86) < 0.01


def test_bernoulli_entropy_agrees_with_scipy_and_vanishes_only_at_the_ends():
    target = uniform(3, 2, 5)
    expected = torch.as_tensor(scipy.stats.bernoulli.entropy(target.numpy())).flatten(1).sum(1)
    assert_close(bernoulli_entropy(target), expected, **EXACT)
    assert bernoulli_entropy(torch.tensor([[0.0, 1.0], [1.0, 1.0]])).tolist() == [0.0, 0.0]
    assert_close(bernoulli_entropy(torch.full((1, 9), 0.5)).item(), 9 * math.log(2), rtol=1e-6, atol=0)


# ---- Gaussian --------------------------------------------------------------------------------------------------


@pytest.mark.equation("vae-gaussian", tolerance="1e-10")
@pytest.mark.parametrize("std", [0.3, 1.0, 2.5])
def test_gaussian_nll_is_the_equation_written_out(std):
    """Compare with ||x - mu||^2 / (2 s^2) + P/2 log(2 pi s^2), and with SciPy's density."""
    mean, target = normal(3, 2, 4), normal(3, 2, 4, seed=1)
    n_pixels = 8
    found = gaussian_nll(mean, target, 2 * math.log(std))
    squared = (target - mean).square().sum((1, 2))
    book = squared / (2 * std**2) + n_pixels / 2 * math.log(2 * math.pi * std**2)
    assert_close(found, book, **EXACT)
    scipys = -scipy.stats.norm.logpdf(target.numpy(), mean.numpy(), std).sum((1, 2))
    assert_close(found, torch.as_tensor(scipys), **EXACT)


@pytest.mark.equation("vae-gaussian", tolerance="1e-10")
def test_the_gaussian_density_integrates_to_one():
    """Integrate exp(-NLL) over a plane by the trapezoid rule, with another variance in each direction."""
    axis = torch.linspace(-12, 12, 481, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    mean = torch.tensor([0.4, -0.7], dtype=torch.float64).expand_as(points)
    log_var = torch.tensor([0.5, -1.0], dtype=torch.float64).expand_as(points)
    step = (axis[1] - axis[0]).item()
    assert_close(gaussian_nll(mean, points, log_var).neg().exp().sum().item() * step**2, 1.0, **EXACT)


def test_gaussian_nll_takes_a_number_a_scalar_or_a_tensor_as_log_var():
    mean, target, log_var = normal(3, 4), normal(3, 4, seed=1), normal(3, 4, seed=2)
    expected = -distributions.Normal(mean, torch.exp(log_var / 2)).log_prob(target).sum(1)
    assert_close(gaussian_nll(mean, target, log_var), expected, **EXACT)
    scalar = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert_close(gaussian_nll(mean, target, scalar), gaussian_nll(mean, target, 0.7), **EXACT)
    assert_close(gaussian_nll(mean, target), gaussian_nll(mean, target, 0.0), **EXACT)
    assert gaussian_nll(mean.float(), target.float(), 0.7).dtype == torch.float32
    assert torch.autograd.gradcheck(gaussian_nll, (mean.requires_grad_(), target, scalar))
    assert torch.autograd.gradcheck(gaussian_nll, (mean, target, log_var.requires_grad_()))


def test_the_summed_squared_error_is_the_gaussian_nll_of_variance_one_half_without_its_constant():
    mean, target = normal(3, 10), normal(3, 10, seed=1)
    squared = (mean - target).square().sum(1)
    assert_close(gaussian_nll(mean, target, math.log(0.5)) - 5 * math.log(math.pi), squared, **EXACT)
    assert_close(2 * gaussian_nll(mean, target) - 10 * math.log(2 * math.pi), squared, **EXACT)


@pytest.mark.equation("vae-optimal-variance", tolerance="1e-10")
def test_the_best_shared_variance_is_the_mean_squared_error():
    """At s^2 = mean squared error the derivative of the mean NLL is 0, and the NLL is P/2 (log(2 pi s^2) + 1)."""
    mean, target = normal(50, 6), 3 * normal(50, 6, seed=1)
    best = (target - mean).square().sum(1).mean().item() / 6
    log_var = torch.tensor(math.log(best), dtype=torch.float64, requires_grad=True)
    value = gaussian_nll(mean, target, log_var).mean()
    slope = torch.autograd.grad(value, log_var, create_graph=True)[0]
    curvature = torch.autograd.grad(slope, log_var)[0]
    assert_close(slope.item(), 0.0, **EXACT)
    assert curvature > 0
    assert_close(value.item(), 6 / 2 * (math.log(2 * math.pi * best) + 1), **EXACT)


# ---- levels: the discretised logistic and the categorical -----------------------------------------------------------

EVERY_LEVEL = torch.arange(256, dtype=torch.uint8)


def levels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def logistic_masses(mean: float, log_scale: float, dtype=torch.float64) -> Tensor:
    """Return the 256 probabilities of one value."""
    means = torch.full((256, 1), mean, dtype=dtype)
    return discretised_logistic_nll(means, EVERY_LEVEL[:, None], log_scale).neg().exp()


@pytest.mark.equation("images-logistic", tolerance="1e-10")
@pytest.mark.parametrize("log_scale", [-6.0, -4.0, -2.0, 0.5])
@pytest.mark.parametrize("mean", [-1.3, -1.0, -0.2, 0.5 / 127.5, 0.97, 1.6])
def test_the_discretised_logistic_is_scipys_distribution_cut_at_the_edges_of_the_cells(mean, log_scale):
    """Subtract SciPy's distribution function at both edges of each cell; those of 0 and 255 have one edge."""
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 127.5 - 1, [np.inf]])
    cut = scipy.stats.logistic(mean, math.exp(log_scale))
    # from the nearer tail, where no digits are lost
    expected = np.where(edges[1:] < mean, np.diff(cut.cdf(edges)), -np.diff(cut.sf(edges)))
    assert_close(logistic_masses(mean, log_scale), torch.as_tensor(expected), rtol=1e-10, atol=1e-300)


@pytest.mark.equation("images-logistic", tolerance="1e-10")
def test_the_256_probabilities_of_a_discretised_logistic_sum_to_one():
    """Add them up for means inside and outside the range and scales from a hundredth of a level to ten times it."""
    for mean, log_scale in itertools.product((-3.0, -1.0, -0.4, 0.1, 1.0, 2.0), (-9.0, -6.0, -3.0, 0.0, 3.0)):
        assert_close(logistic_masses(mean, log_scale).sum().item(), 1.0, **EXACT)


def logistic_nll_in_700_digits(mean: float, log_scale: float, level: int) -> float:
    """Return -log of the difference of two sigmoids, as the definition has it, with digits enough for a plain one."""
    with localcontext(prec=700):
        x, half, scale = Decimal(level) * 2 / 255 - 1, Decimal(1) / 255, Decimal(log_scale).exp()
        below = [1 / (1 + (-(x + side - Decimal(mean)) / scale).exp()) for side in (half, -half)]
        return float(-((below[0] if level < 255 else 1) - (below[1] if level > 0 else 0)).ln())


@pytest.mark.equation("images-logistic-stable", tolerance="1e-10; 1e-5 in float32")
def test_the_discretised_logistic_needs_no_difference_of_nearly_equal_numbers():
    """Far in the tails, where a plain difference is 0 in float32, compare with it in 700 digits; gradients live."""
    cases = [(0.9, -4.0, 3), (-0.9, -4.5, 250), (0.3, 2.0, 100), (0.0, -7.0, 255), (-1.0, -7.0, 1)]
    for mean, log_scale, level in cases:
        expected = logistic_nll_in_700_digits(mean, log_scale, level)
        for dtype, rtol in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
            mu = torch.full((1, 1), mean, dtype=dtype, requires_grad=True)
            found = discretised_logistic_nll(mu, torch.full((1, 1), level, dtype=torch.uint8), log_scale)
            assert_close(found.item(), expected, rtol=rtol, atol=0)
            (gradient,) = torch.autograd.grad(found.sum(), mu)
            assert gradient.isfinite().all() and gradient.abs() > 0


def test_the_discretised_logistic_is_finite_in_float32_over_its_whole_range():
    level = EVERY_LEVEL[:, None]
    for mean, log_scale in itertools.product(
        (-3.0, -1.0, 0.0, 1.0, 3.0), (-60.0, -20.0, -7.0, 0.0, 20.0, 60.0)
    ):
        mu = torch.full((256, 1), mean, requires_grad=True)
        log_s = torch.full((256, 1), log_scale, requires_grad=True)
        found = discretised_logistic_nll(mu, level, log_s)
        assert found.isfinite().all() and found.min() >= 0
        for gradient in torch.autograd.grad(found.sum(), (mu, log_s)):
            assert gradient.isfinite().all()


@pytest.mark.equation("images-logistic", tolerance="1e-3")
def test_a_wide_discretised_logistic_is_its_density_times_the_width_of_a_cell():
    """For a scale of many levels, inside the range, -log Pr tends to -log p(x) + log 127.5."""
    x = EVERY_LEVEL[1:255, None].double() / 127.5 - 1
    mean, log_scale = torch.full_like(x, 0.2), math.log(0.3)
    density = scipy.stats.logistic(0.2, 0.3).pdf(x[:, 0].numpy())
    expected = torch.as_tensor(-np.log(density) + math.log(127.5))
    assert_close(
        discretised_logistic_nll(mean, EVERY_LEVEL[1:255, None], log_scale), expected, rtol=0, atol=1e-4
    )


def test_the_gradients_of_the_discretised_logistic_pass_gradcheck():
    mean, log_scale = normal(3, 8).requires_grad_(), (normal(3, 8, seed=1) - 2).requires_grad_()
    target = levels(3, 8)
    target[0, :2] = torch.tensor([0, 255], dtype=torch.uint8)
    assert torch.autograd.gradcheck(lambda m, s: discretised_logistic_nll(m, target, s), (mean, log_scale))
    scalar = torch.tensor(-1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: discretised_logistic_nll(mean.detach(), target, s), scalar)


def test_the_log_scale_is_a_number_a_scalar_or_a_tensor_of_the_shape_of_mean():
    mean, target = normal(3, 2, 4), levels(3, 2, 4)
    found = discretised_logistic_nll(mean, target, -2.0)
    assert_close(found, discretised_logistic_nll(mean, target, torch.tensor(-2.0)), **EXACT)
    assert_close(found, discretised_logistic_nll(mean, target, torch.full_like(mean, -2.0)), **EXACT)
    assert discretised_logistic_nll(mean.float(), target, -2.0).dtype == torch.float32


@pytest.mark.equation("images-categorical", tolerance="1e-10")
def test_categorical_nll_is_the_softmax_written_out_and_added_up_over_the_image():
    """Take the softmax value by value with loops, in (B, 256, C, H, W), and compare; torch.distributions agrees."""
    logits, target = 3 * normal(2, 256, 3, 2, 2), levels(2, 3, 2, 2)
    found = categorical_nll(logits, target)
    for b in range(2):
        total = 0.0
        for c, i, j in itertools.product(range(3), range(2), range(2)):
            row = logits[b, :, c, i, j]
            total += math.log(sum(math.exp(v) for v in row)) - row[int(target[b, c, i, j])].item()
        assert_close(found[b].item(), total, **EXACT)
    independent = distributions.Categorical(logits=logits.movedim(1, -1)).log_prob(target.long())
    assert_close(found, -independent.flatten(1).sum(1), **EXACT)


@pytest.mark.equation("images-categorical", tolerance="1e-10")
def test_the_256_probabilities_of_a_categorical_sum_to_one():
    """Put each of the 256 levels in turn; and equal logits are 8 bits a dimension."""
    logits = 5 * normal(1, 256, 1).expand(256, -1, -1)
    assert_close(categorical_nll(logits, EVERY_LEVEL[:, None]).neg().exp().sum().item(), 1.0, **EXACT)
    assert_close(
        categorical_nll(torch.zeros(3, 256, 5).double(), levels(3, 5)),
        torch.full((3,), 5 * math.log(256)).double(),
    )


def test_the_gradient_of_categorical_nll_is_probability_less_indicator():
    logits, target = normal(2, 256, 3).requires_grad_(), levels(2, 3)
    (gradient,) = torch.autograd.grad(categorical_nll(logits, target).sum(), logits)
    indicator = torch.nn.functional.one_hot(target.long(), 256).movedim(-1, 1)
    assert_close(gradient, torch.softmax(logits, 1) - indicator, **EXACT)
    huge = torch.full((1, 256, 1), -1e4).index_fill(1, torch.tensor([7]), 1e4)
    assert categorical_nll(huge, torch.tensor([[7]], dtype=torch.uint8)).item() == 0.0
    assert categorical_nll(huge, torch.tensor([[8]], dtype=torch.uint8)).item() == 2e4


# ---- the KL ----------------------------------------------------------------------------------------------------


@pytest.mark.equation("vae-kl", tolerance="1e-10")
def test_gaussian_kl_is_the_equation_written_out():
    """Loop over the latents with sigma itself, and compare with torch.distributions as well."""
    mean, log_var = normal(4, 5), normal(4, 5, seed=1)
    found = gaussian_kl(mean, log_var)
    for b in range(4):
        total = 0.0
        for j in range(5):
            mu, sigma = mean[b, j].item(), math.exp(log_var[b, j].item() / 2)
            total += 0.5 * (mu**2 + sigma**2 - 1 - math.log(sigma**2))
        assert_close(found[b].item(), total, **EXACT)
    q = distributions.Normal(mean, torch.exp(log_var / 2))
    expected = distributions.kl_divergence(q, distributions.Normal(0.0, 1.0))
    assert_close(gaussian_kl_per_dim(mean, log_var), expected, **EXACT)


@pytest.mark.equation("vae-kl", tolerance="1e-10")
@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (1.5, 0.4), (-0.6, 2.0)])
def test_gaussian_kl_is_the_integral_that_defines_it(mu, sigma):
    """Integrate q log(q / p) over a fine grid."""
    z = torch.linspace(mu - 12 * sigma, mu + 12 * sigma, 4001, dtype=torch.float64)
    mean, std = torch.tensor([[mu], [sigma]], dtype=torch.float64)
    q, p = distributions.Normal(mean, std), distributions.Normal(0 * mean, 1.0)
    integral = torch.trapezoid(q.log_prob(z).exp() * (q.log_prob(z) - p.log_prob(z)), z)
    assert_close(gaussian_kl(mean[None], 2 * std[None].log()), integral[None], **EXACT)


@pytest.mark.equation("vae-kl", tolerance="4 standard errors, below 1 %")
def test_gaussian_kl_is_the_mean_log_ratio_of_its_samples():
    """Average log q(z) - log p(z) over draws from q."""
    mean, log_var = torch.tensor([[1.0, -2.0, 0.0]]).double(), torch.tensor([[-1.0, 0.5, 1.0]]).double()
    q = distributions.Normal(mean, torch.exp(log_var / 2))
    z = mean + torch.exp(log_var / 2) * normal(100_000, 3)
    ratio = (q.log_prob(z) - distributions.Normal(0.0, 1.0).log_prob(z)).sum(1)
    value, error = gaussian_kl(mean, log_var).item(), (ratio.std() / len(ratio) ** 0.5).item()
    assert error < 0.01 * value
    assert abs(ratio.mean().item() - value) < 4 * error


def test_gaussian_kl_is_never_negative_and_zero_at_the_prior():
    tiny = torch.linspace(-1e-3, 1e-3, 2001)[:, None]  # float32, where exp(a) - 1 - a is all rounding
    assert gaussian_kl(torch.zeros_like(tiny), tiny).min() >= 0
    assert gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0.0, 0.0]
    assert (gaussian_kl(0.1 * normal(50, 3), 0.1 * normal(50, 3, seed=1)) > 0).all()


def test_the_gradients_of_the_kl_are_mean_and_half_of_variance_less_one():
    mean, log_var = normal(3, 4).requires_grad_(), normal(3, 4, seed=1).requires_grad_()
    to_mean, to_log_var = torch.autograd.grad(gaussian_kl(mean, log_var).sum(), (mean, log_var))
    assert_close(to_mean, mean.detach(), **EXACT)
    assert_close(to_log_var, (log_var.detach().exp() - 1) / 2, **EXACT)
    assert torch.autograd.gradcheck(gaussian_kl, (mean, log_var))


def test_the_kl_sums_over_all_latent_dimensions_of_an_image():
    mean, log_var = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    per_dim = gaussian_kl_per_dim(mean, log_var)
    assert per_dim.shape == (3, 2, 4, 5)
    assert_close(gaussian_kl(mean, log_var), per_dim.sum((1, 2, 3)), **EXACT)
    assert_close(gaussian_kl(mean, log_var), gaussian_kl(mean.flatten(1), log_var.flatten(1)), **EXACT)


# ---- discrete codes --------------------------------------------------------------------------------------------

SIDES = {"codebook_loss": (codebook_loss, 1), "commitment_loss": (commitment_loss, 0)}


@pytest.mark.parametrize(("term", "side"), SIDES.values(), ids=list(SIDES))
def test_both_distances_to_the_codebook_are_the_squared_error_added_up_over_the_image(term, side):
    z, nearest = normal(3, 4, 2, 5), normal(3, 4, 2, 5, seed=1)
    for b in range(3):
        total = sum((z[b, :, i, j] - nearest[b, :, i, j]).norm() ** 2 for i in range(2) for j in range(5))
        assert_close(term(z, nearest)[b], total, **EXACT)
    gaussian = gaussian_nll(z, nearest, math.log(0.5))  # the NLL of variance 1/2, but for its constant
    assert_close(
        gaussian - term(z, nearest), torch.full((3,), 20 * math.log(math.pi), dtype=z.dtype), **EXACT
    )


@pytest.mark.parametrize(("term", "side"), SIDES.values(), ids=list(SIDES))
def test_each_distance_to_the_codebook_moves_one_side_and_holds_the_other(term, side):
    """The codebook loss sends its gradient to the codes alone, the commitment loss to the encoder alone."""
    pair = [normal(3, 4, 2, 5).requires_grad_(), normal(3, 4, 2, 5, seed=1).requires_grad_()]
    found = torch.autograd.grad(term(*pair).sum(), pair, allow_unused=True)
    assert found[1 - side] is None
    assert_close(found[side], 2 * (pair[side] - pair[1 - side]).detach(), **EXACT)


def test_code_nll_is_the_softmax_written_out_and_added_up_over_the_grid():
    logits = 3 * normal(2, 7, 3, 4)
    indices = torch.randint(7, (2, 3, 4), generator=torch.Generator().manual_seed(0))
    for b in range(2):
        total = 0.0
        for i, j in itertools.product(range(3), range(4)):
            weights = [math.exp(value) for value in logits[b, :, i, j]]
            total -= math.log(weights[indices[b, i, j]] / sum(weights))
        assert_close(code_nll(logits, indices)[b].item(), total, **EXACT)
    expected = -distributions.Categorical(logits=logits.movedim(1, -1)).log_prob(indices).sum((1, 2))
    assert_close(code_nll(logits, indices), expected, **EXACT)


def test_code_nll_of_an_even_prior_is_the_log_of_the_number_of_codes():
    logits, indices = torch.zeros(3, 512, 7, 7, dtype=torch.float64), torch.full((3, 7, 7), 511)
    assert_close(
        code_nll(logits, indices), torch.full((3,), 49 * math.log(512), dtype=torch.float64), **EXACT
    )


def test_the_gradient_of_code_nll_is_probability_less_indicator():
    logits, indices = normal(2, 5, 3).requires_grad_(), torch.tensor([[0, 4, 2], [1, 1, 3]])
    (gradient,) = torch.autograd.grad(code_nll(logits, indices).sum(), logits)
    hits = torch.nn.functional.one_hot(indices, 5).movedim(-1, 1)
    assert_close(gradient, torch.softmax(logits, 1).detach() - hits, **EXACT)


@pytest.mark.parametrize("indices", [torch.zeros(8, 2), torch.zeros(8, 2, dtype=torch.uint8)])
def test_indices_that_are_not_int64_are_refused(indices):
    with pytest.raises(TypeError, match=r"indices are torch\.\w+, expected int64"):
        code_nll(torch.zeros(8, 5, 2), indices)


# ---- what holds for all of them --------------------------------------------------------------------------------

TERMS = {
    "bernoulli_nll": (bernoulli_nll, lambda s: (normal(*s), uniform(*s))),
    "bernoulli_entropy": (bernoulli_entropy, lambda s: (uniform(*s),)),
    "gaussian_nll": (gaussian_nll, lambda s: (normal(*s), normal(*s, seed=1), normal(*s, seed=2))),
    "gaussian_kl": (gaussian_kl, lambda s: (normal(*s), normal(*s, seed=1))),
    "discretised_logistic_nll": (
        discretised_logistic_nll, lambda s: (normal(*s), levels(*s), normal(*s, seed=1) - 2)
    ),
    "categorical_nll": (categorical_nll, lambda s: (normal(s[0], 256, *s[1:]), levels(*s))),
    "codebook_loss": (codebook_loss, lambda s: (normal(*s), normal(*s, seed=1))),
    "commitment_loss": (commitment_loss, lambda s: (normal(*s), normal(*s, seed=1))),
    "code_nll": (code_nll, lambda s: (normal(s[0], 256, *s[1:]), levels(*s).long())),
}  # fmt: skip


@pytest.mark.parametrize(("term", "inputs"), TERMS.values(), ids=list(TERMS))
def test_a_term_is_one_value_an_image_and_adds_up_over_pixels_and_batches(term, inputs):
    """Splitting the batch or the pixels changes nothing: sums over pixels, never means."""
    args = inputs((6, 2, 3, 4))
    whole = term(*args)
    assert whole.shape == (6,)
    parts = [term(*(a[i : i + 2] for a in args)) for i in (0, 2, 4)]
    assert_close(torch.cat(parts), whole, **EXACT)
    left, right = (term(*(a[..., s] for a in args)) for s in (slice(0, 1), slice(1, 4)))
    assert_close(left + right, whole, **EXACT)
    order = torch.tensor([5, 3, 1, 0, 2, 4])
    assert_close(term(*(a[order] for a in args)), whole[order], **EXACT)


ZERO = torch.zeros(8, 2)
REFUSED = {
    "bernoulli shapes": (lambda: bernoulli_nll(ZERO, torch.zeros(8, 3)), r"logits \(8, 2\) and target \(8, 3\)"),
    "bernoulli broadcast": (lambda: bernoulli_nll(ZERO, torch.zeros(8, 1)), r"target \(8, 1\)"),
    "target of -1": (lambda: bernoulli_nll(torch.zeros(1, 2), torch.tensor([[-1.0, 1.0]])), r"\[-1, 1\].*to_unit"),
    "target of 255": (lambda: bernoulli_nll(torch.zeros(1, 2), torch.tensor([[0.0, 255.0]])), r"spans \[0, 255\]"),
    "target of nan": (lambda: bernoulli_nll(torch.zeros(1, 2), torch.tensor([[0.0, math.nan]])), r"nan"),
    "no image axis": (lambda: bernoulli_nll(torch.zeros(8), torch.zeros(8)), r"shape \(8,\), expected \(B, \.\.\.\)"),
    "entropy of -1": (lambda: bernoulli_entropy(torch.tensor([[-1.0, 1.0]])), r"spans \[-1, 1\]"),
    "gaussian shapes": (lambda: gaussian_nll(ZERO, torch.zeros(8, 1)), r"mean \(8, 2\) and target \(8, 1\)"),
    "gaussian log_var": (
        lambda: gaussian_nll(ZERO, ZERO, torch.zeros(2)), r"log_var \(2,\).*\(8, 2\)"
    ),
    "logistic shapes": (
        lambda: discretised_logistic_nll(ZERO, levels(8, 1), 0.0), r"mean \(8, 2\) and target \(8, 1\)"
    ),
    "logistic log_scale": (
        lambda: discretised_logistic_nll(ZERO, levels(8, 2), torch.zeros(8)), r"log_scale \(8,\).*\(8, 2\)"
    ),
    "categorical shapes": (lambda: categorical_nll(torch.zeros(8, 256, 3), levels(8, 2)), r"\(8, 256, 3\).*\(8, 2\)"),
    "categorical last axis": (lambda: categorical_nll(torch.zeros(8, 2, 256), levels(8, 2)), r"\(B, 256, \.\.\.\)"),
    "categorical of 10 levels": (lambda: categorical_nll(torch.zeros(8, 10, 2), levels(8, 2)), r"\(8, 10, 2\)"),
    "categorical of a flat batch": (lambda: categorical_nll(torch.zeros(8, 256), levels(8)), r"target \(8,\)"),
    "codebook shapes": (lambda: codebook_loss(ZERO, torch.zeros(8, 1)), r"z \(8, 2\) and nearest \(8, 1\) differ"),
    "commitment shapes": (lambda: commitment_loss(ZERO, torch.zeros(8, 1)), r"z \(8, 2\) and nearest \(8, 1\) differ"),
    "codes of another grid": (lambda: code_nll(torch.zeros(8, 5, 3), ZERO.long()), r"\(8, 5, 3\).*\(8, 2\): expected"),
    "codes in the last axis": (lambda: code_nll(torch.zeros(8, 2, 5), ZERO.long()), r"\(B, K, \.\.\.\)"),
    "codes of a flat batch": (lambda: code_nll(torch.zeros(8, 5), torch.zeros(8).long()), r"do not fit indices \(8,\)"),
    "one logit a code": (lambda: code_nll(ZERO, ZERO.long()), r"logits \(8, 2\) do not fit"),
    "kl shapes": (lambda: gaussian_kl(ZERO, torch.zeros(8, 3)), r"mean \(8, 2\) and log_var \(8, 3\) differ"),
    "kl broadcast": (lambda: gaussian_kl(ZERO, torch.zeros(8, 1)), r"log_var \(8, 1\)"),
    "kl of one vector": (lambda: gaussian_kl(torch.zeros(8), torch.zeros(8)), r"mean has shape \(8,\)"),
    "negative floor": (lambda: free_bits(torch.zeros(2, 3), -0.5), r"floor is -0\.5"),
    "negative step": (lambda: kl_weight(-1, 10), r"step -1"),
    "negative length": (lambda: kl_weight(1, -10), r"n_steps -10"),
    "weights of one axis": (lambda: importance_weighted_bound(torch.zeros(3)), r"\(K, B\), got \(3,\)"),
    "normalised, three axes": (lambda: normalised_importance_weights(torch.zeros(3, 2, 1)), r"got \(3, 2, 1\)"),
    "nll of other draws": (
        lambda: log_importance_weight(torch.zeros(3), torch.zeros(4, 3, 2), torch.zeros(3, 2), torch.zeros(3, 2)),
        r"nll \(3,\) and z \(4, 3, 2\)",
    ),
    "no pixels": (lambda: bits_per_dim(1.0, 0), r"n_dims is 0"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=list(REFUSED))
def test_bad_input_raises_and_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("target", [torch.zeros(8, 2), torch.zeros(8, 2, dtype=torch.long)])
def test_a_target_that_is_not_levels_is_refused(target):
    for call in (lambda: discretised_logistic_nll(ZERO, target, 0.0),
                 lambda: categorical_nll(torch.zeros(8, 256, 2), target)):  # fmt: skip
        with pytest.raises(TypeError, match=r"target is torch\.\w+, expected uint8 levels 0 to 255"):
            call()


def test_off_the_cpu_no_value_is_waited_for():
    """On the device "meta" tensors have no values, so that a look at one raises: none of the terms takes one."""
    x, target = torch.zeros(3, 2, 4, device="meta"), torch.zeros(3, 2, 4, dtype=torch.uint8, device="meta")
    bins = torch.zeros(3, 256, 2, 4, device="meta")
    for found in (bernoulli_nll(x, x), bernoulli_entropy(x), gaussian_nll(x, x), gaussian_kl(x, x),
                  discretised_logistic_nll(x, target, -1.0), categorical_nll(bins, target),
                  codebook_loss(x, x), commitment_loss(x, x), code_nll(bins, target.long())):  # fmt: skip
        assert found.shape == (3,)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_off_the_cpu_a_target_out_of_range_makes_the_loss_and_its_gradients_nan(bad, monkeypatch):
    """Where raising would wait for the device, the mistake shows in the result, at which `training.run` stops."""

    class Elsewhere(Tensor):
        """A tensor on the CPU that says it is not."""

        device = torch.device("cuda")

    target = torch.tensor([[0.2, 1.0], [0.0, 0.5]])
    logits = torch.zeros(2, 2, requires_grad=True)
    good = target.as_subclass(Elsewhere)
    assert_close(bernoulli_nll(logits, good).as_subclass(Tensor), bernoulli_nll(logits, target))
    assert_close(bernoulli_entropy(good).as_subclass(Tensor), bernoulli_entropy(target))
    target[1, 1] = bad
    wrong = bernoulli_nll(logits, target.as_subclass(Elsewhere))
    assert wrong.isnan().all() and bernoulli_entropy(target.as_subclass(Elsewhere)).isnan().all()
    assert torch.autograd.grad(wrong.sum(), logits)[0].isnan().all()


# ---- schedules -------------------------------------------------------------------------------------------------


@pytest.mark.equation("vae-free-bits", tolerance="1e-10")
def test_free_bits_holds_the_batch_mean_of_each_dimension():
    """Write max(floor, mean over the batch) out for a batch in which clamping each image first differs."""
    per_dim = torch.tensor([[0.0, 3.0, 0.1], [4.0, 5.0, 0.2]], dtype=torch.float64)  # means 2, 4, 0.15
    found = free_bits(per_dim, 1.0)
    assert found.shape == (2,)
    assert_close(found, torch.full((2,), 2.0 + 4.0 + 1.0).double(), **EXACT)
    assert_close(free_bits(per_dim, 0.0).mean(), per_dim.sum(1).mean(), **EXACT)


@pytest.mark.equation("vae-free-bits", tolerance="1e-10")
def test_free_bits_sends_no_gradient_to_a_dimension_below_its_floor():
    """Differentiate the loss term: 0 below the floor, and above it what the plain mean KL gives."""
    per_dim = torch.tensor([[0.0, 3.0, 0.1], [4.0, 5.0, 0.2]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(free_bits(per_dim, 1.0).mean(), per_dim)
    assert_close(gradient, torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]).double(), **EXACT)


@pytest.mark.equation("vae-warm-up", tolerance="exact")
def test_the_weight_of_the_kl_rises_linearly_and_stays_at_one():
    """Compare with min(1, t / T) at the first, a middle, the last and later steps."""
    assert [kl_weight(t, 4) for t in range(7)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert kl_weight(0, 0) == kl_weight(5, 0) == 1.0


# ---- importance weights ----------------------------------------------------------------------------------------


def test_gaussian_log_density_agrees_with_independent_implementations():
    z, mean, log_var = normal(7, 4, 3), normal(4, 3, seed=1), normal(4, 3, seed=2)
    found = gaussian_log_density(z, mean, log_var)
    assert found.shape == (7, 4)
    expected = distributions.Normal(mean, torch.exp(log_var / 2)).log_prob(z).sum(-1)
    assert_close(found, expected, **EXACT)
    whole = scipy.stats.multivariate_normal(mean[1].numpy(), torch.diag(log_var[1].exp()).numpy())
    assert_close(found[:, 1], torch.as_tensor(whole.logpdf(z[:, 1].numpy())), **EXACT)
    inputs = tuple(a.clone().requires_grad_() for a in (z[0], mean, log_var))
    assert torch.autograd.gradcheck(gaussian_log_density, inputs)


def test_log_importance_weight_is_joint_over_posterior():
    nll, z, mean, log_var = normal(5, 4), normal(5, 4, 3), normal(4, 3, seed=1), normal(4, 3, seed=2)
    prior = distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    posterior = distributions.Normal(mean, torch.exp(log_var / 2)).log_prob(z).sum(-1)
    assert_close(log_importance_weight(nll, z, mean, log_var), -nll + prior - posterior, **EXACT)
    inputs = tuple(a.clone().requires_grad_() for a in (nll, z, mean, log_var))
    assert torch.autograd.gradcheck(log_importance_weight, inputs)


@pytest.mark.equation("vae-iwae", tolerance="1e-10")
def test_the_importance_weighted_bound_is_the_log_of_the_mean_weight():
    """Average the weights themselves, image by image, and take the logarithm."""
    log_weights = normal(5, 3)
    found = importance_weighted_bound(log_weights)
    for b in range(3):
        mean = sum(math.exp(w) for w in log_weights[:, b]) / 5
        assert_close(found[b].item(), math.log(mean), **EXACT)
    assert_close(importance_weighted_bound(log_weights[:1]), log_weights[0], **EXACT)
    assert_close(importance_weighted_bound(log_weights - 1000), found - 1000, **EXACT)  # no underflow


def test_the_gradient_of_the_bound_is_the_normalised_weights():
    log_weights = normal(5, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(importance_weighted_bound(log_weights).sum(), log_weights)
    weights = normalised_importance_weights(log_weights)
    assert_close(gradient, weights.detach(), **EXACT)
    assert_close(weights.sum(0), torch.ones(3).double(), **EXACT)
    assert torch.autograd.gradcheck(importance_weighted_bound, log_weights)


def test_the_sample_with_the_smallest_error_weighs_most():
    errors = torch.tensor([[1.0], [0.1]])
    weights = normalised_importance_weights(-errors).flatten()
    assert_close(weights, torch.tensor([0.289, 0.711]), rtol=0, atol=1e-3)


# ---- units and the ledger --------------------------------------------------------------------------------------


@pytest.mark.equation("vae-bits", tolerance="1e-12")
def test_a_uniform_code_of_256_levels_takes_8_bits_a_dimension():
    """Convert the nats of uniform bytes, P log 256, and check the rule itself on a tensor."""
    assert bits_per_dim(784 * math.log(256), 784) == pytest.approx(8.0, rel=1e-12)
    nats = 100 * uniform(5)
    assert_close(bits_per_dim(nats, 10), nats / (10 * math.log(2)), rtol=1e-12, atol=0)


REDUCE = {"sum": lambda t: t.sum(), "mean": lambda t: t.mean()}
KINDS = ("squared error", "half squared error", "bernoulli")


@pytest.mark.equation("vae-ledger", tolerance="1e-10")
@pytest.mark.parametrize(("over_pixels", "over_latents"), list(itertools.product(REDUCE, REDUCE)))
@pytest.mark.parametrize("kind", KINDS)
def test_the_implied_beta_gives_the_popular_loss_its_gradients(kind, over_pixels, over_latents):
    """Differentiate a popular loss and NLL + beta KL: the gradients differ by one common factor."""
    a, b, v = 3.0, 0.7, 0.4
    output, x = normal(1, 12).requires_grad_(), uniform(1, 12)
    mean, log_var = normal(1, 5).requires_grad_(), normal(1, 5, seed=1).requires_grad_()
    if kind == "bernoulli":
        p = torch.sigmoid(output)
        per_pixel, nll = -x * p.log() - (1 - x) * (1 - p).log(), bernoulli_nll(output, x)
    else:
        half = 0.5 if kind.startswith("half") else 1.0
        per_pixel, nll = half * (output - x).square(), gaussian_nll(output, x, math.log(v))
    kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var)
    popular = a * REDUCE[over_pixels](per_pixel) + b * REDUCE[over_latents](kl)
    implied = implied_likelihood(
        kind, n_pixels=12, n_latents=5, reconstruction_weight=a, reconstruction=over_pixels,
        kl_weight=b, kl=over_latents, variance=v,
    )  # fmt: skip
    assert implied.variance == (None if kind == "bernoulli" else v)
    true = nll.sum() + implied.beta * gaussian_kl(mean, log_var).sum()
    inputs = (output, mean, log_var)
    ratios = torch.cat(
        [
            (p / t).flatten()
            for p, t in zip(torch.autograd.grad(popular, inputs), torch.autograd.grad(true, inputs))
        ]
    )
    assert_close(ratios, ratios[0].expand_as(ratios), **EXACT)


@pytest.mark.equation("vae-ledger", tolerance="1e-3")
def test_the_ledger_reads_the_losses_that_circulate():
    """Put the reductions and weights of known losses in, and compare with the figures worked out by hand."""
    both_means = {"n_pixels": 784, "n_latents": 200, "reconstruction": "mean", "kl": "mean"}
    assert implied_likelihood("bernoulli", **both_means).beta == pytest.approx(3.92)
    assert implied_likelihood("half squared error", **both_means).beta == pytest.approx(3.92)
    assert implied_likelihood("squared error", **both_means).beta == pytest.approx(1.96)
    weighted = {"n_pixels": 1024, "n_latents": 64, "reconstruction": "mean", "reconstruction_weight": 500.0}
    assert implied_likelihood("half squared error", **weighted).beta == pytest.approx(2.048)
    assert implied_likelihood("squared error", **weighted).beta == pytest.approx(1.024)
    plain = implied_likelihood("squared error", n_pixels=784, n_latents=20)
    assert (plain.beta, plain.equivalent_variance) == (0.5, 0.5)
    assert implied_likelihood("half squared error", n_pixels=784, n_latents=20).beta == 1.0
    assert implied_likelihood("bernoulli", n_pixels=784, n_latents=20) == implied_likelihood(
        "bernoulli", n_pixels=1, n_latents=1
    )


def test_at_the_equivalent_variance_beta_is_one():
    options = {"n_pixels": 12, "n_latents": 5, "reconstruction": "mean", "kl_weight": 0.3}
    variance = implied_likelihood("squared error", **options).equivalent_variance
    assert implied_likelihood("squared error", **options, variance=variance).beta == pytest.approx(1.0)
    assert implied_likelihood("squared error", **options, variance=2 * variance).beta == pytest.approx(0.5)
    for v in (0.1, 1.0, 7.0):  # it belongs to the loss, in whatever variance beta is stated
        stated = implied_likelihood("squared error", **options, variance=v)
        assert stated.equivalent_variance == pytest.approx(variance) and stated.variance == v
    assert implied_likelihood("bernoulli", **options).equivalent_variance is None
    assert implied_likelihood("bernoulli", n_pixels=1, n_latents=1, kl_weight=0.0).beta == 0.0


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("mse", {}, "kind is 'mse'"),
        ("bernoulli", {"n_pixels": 0}, "n_pixels is 0"),
        ("bernoulli", {"n_latents": -1}, "n_latents is -1"),
        ("bernoulli", {"reconstruction_weight": 0.0}, "reconstruction_weight is 0.0"),
        ("squared error", {"variance": -2.0}, "variance is -2.0"),
        ("bernoulli", {"kl_weight": -1.0}, "kl_weight is -1.0"),
        ("bernoulli", {"reconstruction": "none"}, "reconstruction is reduced by 'none'"),
        ("bernoulli", {"kl": "batchmean"}, "kl is reduced by 'batchmean'"),
    ],
)
def test_the_ledger_refuses_what_it_cannot_read(kind, options, message):
    with pytest.raises(ValueError, match=message):
        implied_likelihood(kind, **{"n_pixels": 4, "n_latents": 2} | options)
