"""The derivation of the VAE, step by step, on models whose log p(x) and posterior are known in closed form."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, distributions
from torch.testing import assert_close

from imagegen.data import LinearGaussian
from imagegen.objectives import (
    bits_per_dim,
    gaussian_kl,
    gaussian_log_density,
    gaussian_nll,
    importance_weighted_bound,
    kl_weight,
    log_importance_weight,
)
from imagegen.vae import LinearVAE, reparameterise

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Columns that are not orthogonal, so the posterior of z is correlated ...
SKEW = LinearGaussian(tensor([[1.0, 0.5], [-0.3, 1.2], [0.8, 0.4]]), tensor([0.5, -1.0, 0.2]), 0.7)
# ... and columns that are, so that a diagonal q can be the posterior itself.
STRAIGHT = LinearGaussian(tensor([[1.0, 0.6], [2.0, -0.3], [0.0, 0.9]]), tensor([0.1, 0.0, -0.4]), 0.5)
X = tensor([[0.3, -0.8, 1.1], [2.0, 1.0, -0.5]])


def nll_of(model: LinearGaussian, z: Tensor, x: Tensor) -> Tensor:
    """Return -log p(x | z) of z (..., D) for one x (P,), as (...) nats."""
    mean = z @ model.weight.T + model.bias
    flat = mean.reshape(-1, len(x))
    return gaussian_nll(flat, x.expand_as(flat), 2 * math.log(model.noise_std)).reshape(mean.shape[:-1])


def elbo(model: LinearGaussian, x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Return the ELBO (B,) of a diagonal Gaussian q, its expectation taken by hand: E|x - Wz - b|^2 is known."""
    residual = (x - mean @ model.weight.T - model.bias).square().sum(1)
    spread = (log_var.exp() * model.weight.square().sum(0)).sum(1)
    variance = model.noise_std**2
    distortion = 0.5 * (residual + spread) / variance + 0.5 * x.shape[1] * math.log(2 * math.pi * variance)
    return -distortion - gaussian_kl(mean, log_var)


def gauss_hermite(n: int, dims: int) -> tuple[Tensor, Tensor]:
    """Return nodes (n^dims, dims) and weights of the expectation under N(0, I): exact up to degree 2n - 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    grid = torch.cartesian_prod(*[tensor(nodes)] * dims).reshape(-1, dims)
    product = torch.cartesian_prod(*[tensor(weights / weights.sum())] * dims).reshape(-1, dims).prod(1)
    return grid, product


def within_4_errors(draws: Tensor, value: float) -> None:
    """The mean of the draws is the value, judged by its standard error, which must be below 1 % of the value."""
    error = (draws.std() / math.sqrt(len(draws))).item()
    assert error < 0.01 * abs(value), "too few draws to tell"
    assert abs(draws.mean().item() - value) < 4 * error


# ---- the model, and why its likelihood is hard -----------------------------------------------------------------


@pytest.mark.equation("vae-joint", tolerance="1e-10")
def test_the_joint_density_is_the_same_read_from_either_side():
    """Check log p(x|z) + log p(z) = log p(z|x) + log p(x) at arbitrary pairs, with SciPy's densities on the right."""
    mean, covariance = SKEW.posterior(X)
    for x, centre in zip(X, mean):
        z = 2 * normal(20, 2)
        zero = torch.zeros(2, dtype=torch.float64)
        left = -nll_of(SKEW, z, x) + gaussian_log_density(z, zero, zero)
        right = scipy.stats.multivariate_normal(centre.numpy(), covariance.numpy()).logpdf(z.numpy())
        assert_close(left, tensor(right) + SKEW.log_marginal(x[None]), **EXACT)


@pytest.mark.equation("vae-joint", "vae-linear-marginal", tolerance="4 standard errors, below 1 %")
def test_ancestral_samples_have_the_covariance_of_the_marginal():
    """Draw z, then x given z; compare each element of the covariance with W W^T + s^2 I, and the mean with b."""
    model = LinearGaussian(tensor([[1.0, 0.5], [0.9, -0.4]]), tensor([2.0, -1.5]), 0.6)
    x = model.sample(200_000, generator=torch.Generator().manual_seed(3))
    covariance = model.weight @ model.weight.T + 0.36 * torch.eye(2, dtype=torch.float64)
    for i, j in ((0, 0), (0, 1), (1, 1)):
        within_4_errors((x[:, i] - model.bias[i]) * (x[:, j] - model.bias[j]), covariance[i, j].item())
    for i in range(2):
        within_4_errors(x[:, i], model.bias[i].item())


@pytest.mark.equation("vae-marginal", tolerance="1e-10")
@pytest.mark.parametrize("model", [SKEW, STRAIGHT], ids=["skew", "straight"])
def test_integrating_the_latents_out_gives_the_marginal(model):
    """Integrate p(x|z) p(z) over a grid of z, and compare with the closed form of log p(x)."""
    axis = torch.linspace(-10, 10, 401, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    zero = torch.zeros(2, dtype=torch.float64)
    for x in X:
        log_joint = -nll_of(model, z, x) + gaussian_log_density(z, zero, zero)
        integral = torch.logsumexp(log_joint, 0) + 2 * math.log((axis[1] - axis[0]).item())
        assert_close(integral, model.log_marginal(x[None])[0], **EXACT)


@pytest.mark.equation("vae-linear-marginal", tolerance="1e-10")
def test_the_marginal_is_the_gaussian_that_the_equation_names():
    """Compare log p(x) with SciPy's density of N(b, W W^T + s^2 I)."""
    covariance = SKEW.weight @ SKEW.weight.T + 0.49 * torch.eye(3, dtype=torch.float64)
    expected = scipy.stats.multivariate_normal(SKEW.bias.numpy(), covariance.numpy()).logpdf(X.numpy())
    assert_close(SKEW.log_marginal(X), tensor(expected), **EXACT)


@pytest.mark.equation("vae-linear-posterior", tolerance="1e-10")
def test_the_posterior_is_the_conditional_of_the_joint_gaussian():
    """Condition the joint Gaussian of (z, x) by the textbook rule, which inverts the other matrix."""
    inverse = torch.linalg.inv(SKEW.weight @ SKEW.weight.T + 0.49 * torch.eye(3, dtype=torch.float64))
    mean, covariance = SKEW.posterior(X)
    assert_close(mean, (X - SKEW.bias) @ inverse @ SKEW.weight, **EXACT)
    expected = torch.eye(2, dtype=torch.float64) - SKEW.weight.T @ inverse @ SKEW.weight
    assert_close(covariance, expected, **EXACT)


@pytest.mark.equation("vae-linear-posterior", tolerance="1e-8")
def test_the_posterior_has_the_moments_of_the_normalised_joint():
    """Normalise p(x|z) p(z) on a grid, and compare its mean and covariance."""
    axis = torch.linspace(-10, 10, 401, dtype=torch.float64)
    z, zero = torch.cartesian_prod(axis, axis), torch.zeros(2, dtype=torch.float64)
    density = torch.softmax(-nll_of(SKEW, z, X[0]) + gaussian_log_density(z, zero, zero), 0)
    mean, covariance = SKEW.posterior(X[:1])
    centred = z - density @ z
    assert_close(density @ z, mean[0], rtol=1e-8, atol=1e-8)
    assert_close(centred.T @ (centred * density[:, None]), covariance, rtol=1e-8, atol=1e-8)


# ---- the bound -------------------------------------------------------------------------------------------------


def some_posteriors(model: LinearGaussian) -> list[tuple[Tensor, Tensor]]:
    """Return a few wrong diagonal Gaussians q for both images."""
    mean, covariance = model.posterior(X)
    log_var = covariance.diagonal().log().expand_as(mean)
    return [
        (torch.zeros_like(mean), torch.zeros_like(mean)),
        (mean + 0.3, log_var),
        (mean, log_var + 0.5),
        (-mean, log_var - 1.0),
    ]


@pytest.mark.equation("vae-importance", tolerance="4 standard errors, below 1 %")
@pytest.mark.parametrize(("shift", "widen"), [(0.0, 0.4), (0.2, 0.7)])
def test_importance_weights_average_to_the_marginal(shift, widen):
    """Draw from a q that is not the posterior, and average p(x, z) / q(z|x)."""
    mean, covariance = SKEW.posterior(X)
    mean, log_var = mean[:1] + shift, covariance.diagonal()[None].log() + widen
    many = (a.expand(100_000, -1) for a in (mean, log_var))
    z = reparameterise(*many, generator=torch.Generator().manual_seed(0))
    weights = log_importance_weight(nll_of(SKEW, z, X[0]), z, mean, log_var).exp()
    within_4_errors(weights, SKEW.log_marginal(X[:1]).exp().item())


@pytest.mark.equation("vae-jensen", tolerance="1e-10")
def test_the_bound_lies_below_log_p_and_touches_it_only_at_the_posterior():
    """Compare the exact ELBO of several q with log p(x): strictly below, and equal for the true posterior."""
    truth = STRAIGHT.log_marginal(X)
    for mean, log_var in some_posteriors(STRAIGHT):
        assert (elbo(STRAIGHT, X, mean, log_var) < truth - 1e-2).all()
    mean, covariance = STRAIGHT.posterior(X)
    assert covariance[0, 1].abs() < 1e-12
    exact = elbo(STRAIGHT, X, mean, covariance.diagonal().log().expand_as(mean))
    assert_close(exact, truth, **EXACT)
    mean, covariance = SKEW.posterior(X)  # here no diagonal q is the posterior, so none touches
    best = -torch.linalg.inv(covariance).diagonal().log().expand_as(mean)
    assert (elbo(SKEW, X, mean, best) < SKEW.log_marginal(X) - 1e-2).all()


@pytest.mark.equation("vae-gap", tolerance="1e-10")
@pytest.mark.parametrize("model", [SKEW, STRAIGHT], ids=["skew", "straight"])
def test_the_gap_is_the_kl_to_the_true_posterior(model):
    """Add KL(q || p(z|x)), from torch.distributions, to the exact ELBO of several q: log p(x) each time."""
    true_mean, covariance = model.posterior(X)
    posterior = distributions.MultivariateNormal(true_mean, covariance)
    for mean, log_var in some_posteriors(model):
        q = distributions.MultivariateNormal(mean, torch.diag_embed(log_var.exp()))
        gap = distributions.kl_divergence(q, posterior)
        assert gap.min() > 1e-2
        assert_close(elbo(model, X, mean, log_var) + gap, model.log_marginal(X), **EXACT)


@pytest.mark.equation("vae-elbo", "vae-jensen", tolerance="1e-10")
def test_both_forms_of_the_elbo_agree():
    """Take E_q[log p(x,z) - log q(z|x)] by Gauss-Hermite quadrature, exact here, and E_q[log p(x|z)] - KL as well."""
    nodes, weights = gauss_hermite(3, 2)
    for model in (SKEW, STRAIGHT):
        for mean, log_var in some_posteriors(model):
            for i, x in enumerate(X):
                z = mean[i] + torch.exp(log_var[i] / 2) * nodes
                nll = nll_of(model, z, x)
                first = weights @ log_importance_weight(nll, z, mean[i], log_var[i])
                second = -weights @ nll - gaussian_kl(mean[i : i + 1], log_var[i : i + 1])[0]
                assert_close(first, second, **EXACT)
                assert_close(second, elbo(model, X, mean, log_var)[i], **EXACT)


@pytest.mark.equation("vae-elbo", tolerance="4 standard errors, below 1 %")
def test_one_sample_estimates_the_elbo_without_bias():
    """Average -NLL - KL over single draws of z, as a training step takes them."""
    mean, log_var = tensor([[0.4, -0.2]]), tensor([[-0.5, -1.0]])
    many = (a.expand(100_000, -1) for a in (mean, log_var))
    z = reparameterise(*many, generator=torch.Generator().manual_seed(1))
    draws = -nll_of(SKEW, z, X[0]) - gaussian_kl(mean, log_var)
    within_4_errors(draws, elbo(SKEW, X[:1], mean, log_var).item())


@pytest.mark.equation("vae-elbo", "vae-linear-posterior", tolerance="1e-10")
def test_a_linear_vae_set_to_the_exact_parameters_has_elbo_log_p():
    """Set encoder and decoder by the closed form: every draw of z has the weight p(x), so the ELBO is log p(x)."""
    vae = LinearVAE(3, 2).double()
    _, covariance = STRAIGHT.posterior(X)
    gain = covariance @ STRAIGHT.weight.T / STRAIGHT.noise_std**2
    with torch.no_grad():
        vae.encoder.weight.copy_(gain)
        vae.encoder.bias.copy_(-gain @ STRAIGHT.bias)
        vae.log_var.copy_(covariance.diagonal().log())
        vae.decoder.weight.copy_(STRAIGHT.weight)
        vae.decoder.bias.copy_(STRAIGHT.bias)
        vae.log_noise.fill_(2 * math.log(STRAIGHT.noise_std))
    mean, log_var = vae.encode(X)
    truth = STRAIGHT.log_marginal(X)
    nodes, weights = gauss_hermite(3, 2)
    bound = torch.zeros(2, dtype=torch.float64)
    for eps, weight in zip(nodes, weights):
        z = mean + torch.exp(log_var / 2) * eps
        p_mean, p_log_var = vae.decode(z)
        nll = gaussian_nll(p_mean, X, p_log_var)
        assert_close(log_importance_weight(nll, z, mean, log_var), truth, **EXACT)
        bound += weight * -nll
    assert_close(bound - gaussian_kl(mean, log_var), truth, **EXACT)


# ---- two estimators of the gradient ----------------------------------------------------------------------------

MU, LOG_VAR, N = 1.2, -0.4, 1_000_000
# E[z^2] = mu^2 + sigma^2 has the derivatives 2 mu, and sigma^2 with respect to log sigma^2
CLOSED_FORM = (2 * MU, math.exp(LOG_VAR))


def gradient_draws(estimator: str) -> tuple[Tensor, Tensor]:
    """Return N single-sample gradients of E[z^2] with respect to the mean and the log-variance."""
    mean, log_var = (torch.full((N, 1), a, dtype=torch.float64, requires_grad=True) for a in (MU, LOG_VAR))
    z = reparameterise(mean, log_var, generator=torch.Generator().manual_seed(7))
    if estimator == "pathwise":
        surrogate = z.square().sum()
    else:
        z = z.detach()
        surrogate = (z.square().squeeze(1) * gaussian_log_density(z, mean, log_var)).sum()
    return tuple(g.flatten() for g in torch.autograd.grad(surrogate, (mean, log_var)))


@pytest.mark.equation("vae-pathwise", tolerance="4 standard errors, below 1 %")
def test_the_pathwise_gradient_is_unbiased():
    """Average the gradient of f(mu + sigma eps), f = z^2, and compare with the derivative in closed form."""
    for draws, value in zip(gradient_draws("pathwise"), CLOSED_FORM):
        within_4_errors(draws, value)


@pytest.mark.equation("vae-score", tolerance="4 standard errors, below 1 %")
def test_the_score_function_gradient_is_unbiased():
    """Average f(z) grad log q(z), f = z^2, and compare with the derivative in closed form."""
    for draws, value in zip(gradient_draws("score"), CLOSED_FORM):
        within_4_errors(draws, value)


@pytest.mark.equation("vae-score", "vae-pathwise", tolerance="2 % of the variance")
def test_the_score_function_gradient_varies_more():
    """Measure the variance of both gradients of the mean: 4 sigma^2 by the path, and its closed form by the score."""
    (path, _), (score, _) = gradient_draws("pathwise"), gradient_draws("score")
    var = math.exp(LOG_VAR)
    # z^2 eps / sigma: E of its square is (mu^4 + 18 mu^2 sigma^2 + 15 sigma^4) / sigma^2
    expected = (MU**4 + 18 * MU**2 * var + 15 * var**2) / var - (2 * MU) ** 2
    assert path.var().item() == pytest.approx(4 * var, rel=0.02)
    assert score.var().item() == pytest.approx(expected, rel=0.02)
    assert expected > 5 * 4 * var


# ---- likelihoods -----------------------------------------------------------------------------------------------


@pytest.mark.equation("vae-dequantisation", tolerance="1e-10")
def test_a_density_on_dequantised_levels_bounds_the_discrete_likelihood():
    """Integrate a Gaussian over the cell of each level: P(k) by the integral, and above exp E_u log p(k + u)."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    u, weights = tensor((nodes + 1) / 2), tensor(weights / 2)
    total = 0.0
    for k in range(-12, 13):
        mean = torch.full((40, 1), 0.3, dtype=torch.float64)
        log_density = -gaussian_nll(mean, (k + u)[:, None], 2 * math.log(1.5))
        cell = (weights @ log_density.exp()).item()
        assert_close(cell, np.diff(scipy.stats.norm.cdf([k, k + 1], 0.3, 1.5)).item(), **EXACT)
        bound = (weights @ log_density).item()
        assert bound < math.log(cell) - 1e-4
        assert bits_per_dim(-bound, 1) > bits_per_dim(-math.log(cell), 1)
        total += cell
    assert_close(total, 1.0, rtol=0, atol=1e-10)


# ---- more samples ----------------------------------------------------------------------------------------------

LINE = LinearGaussian(tensor([[1.0], [-0.5]]), tensor([0.2, 0.1]), 0.6)
POINT = tensor([[1.3, 0.4]])


@pytest.mark.equation("vae-iwae", tolerance="1e-10 for K = 1")
def test_the_importance_weighted_bound_rises_from_the_elbo_towards_log_p():
    """Take the expectation over K draws by quadrature, K = 1, 2, 3: the ELBO, then higher, never above log p(x)."""
    mean, log_var = tensor([[0.3]]), tensor([[-0.2]])
    bounds = []
    for k, n in ((1, 40), (2, 40), (3, 40)):
        nodes, weights = gauss_hermite(n, k)
        z = mean + torch.exp(log_var / 2) * nodes.T[..., None]  # (K, nodes, 1)
        log_weights = log_importance_weight(nll_of(LINE, z, POINT[0]), z, mean, log_var)
        bounds.append((weights @ importance_weighted_bound(log_weights)).item())
    truth = LINE.log_marginal(POINT).item()
    assert_close(bounds[0], elbo(LINE, POINT, mean, log_var).item(), **EXACT)
    assert bounds[0] + 1e-2 < bounds[1] < bounds[2] - 1e-2 < truth - 2e-2


@pytest.mark.equation("vae-iwae", tolerance="4 standard errors, below 1 % of the bound")
def test_the_importance_weighted_bound_of_many_samples_reaches_log_p():
    """With K = 2000 draws the bound is log p(x) up to its own error; with the true posterior it is so for any K."""
    mean, log_var = tensor([[0.3]]), tensor([[-0.2]])
    z = mean + torch.exp(log_var / 2) * normal(2000, 200, 1)
    log_weights = log_importance_weight(nll_of(LINE, z, POINT[0]), z, mean, log_var)
    truth = LINE.log_marginal(POINT).item()
    relative_variance = log_weights.exp().var(0).mean().item() / math.exp(2 * truth)
    below = relative_variance / (2 * 2000)  # by how much the mean of log falls short, to first order in 1/K
    within_4_errors(importance_weighted_bound(log_weights), truth - below)
    mean, covariance = LINE.posterior(POINT)
    z = mean + covariance.sqrt() * normal(3, 5, 1)
    exact = log_importance_weight(nll_of(LINE, z, POINT[0]), z, mean, covariance.log())
    assert_close(importance_weighted_bound(exact), torch.full((5,), truth, dtype=torch.float64), **EXACT)


# ---- the rate, and collapse ------------------------------------------------------------------------------------


@pytest.mark.equation("vae-surgery", tolerance="1e-10")
def test_the_mean_rate_is_information_plus_the_gap_of_the_aggregate():
    """Integrate both parts on a grid, for five data points with a 1-D latent, and compare with the mean KL."""
    mean, log_var = (
        tensor([[-2.0], [-0.5], [0.0], [0.7], [1.5]]),
        tensor([[-2.0], [0.3], [-1.0], [0.0], [-3.0]]),
    )
    z = torch.linspace(-15, 15, 20_001, dtype=torch.float64)[:, None]
    zero = torch.zeros(1, dtype=torch.float64)
    log_q = torch.stack([gaussian_log_density(z, m, v) for m, v in zip(mean, log_var)])  # (5, grid)
    log_aggregate = torch.logsumexp(log_q, 0) - math.log(5)
    log_p = gaussian_log_density(z, zero, zero)
    information = torch.trapezoid(log_q.exp() * (log_q - log_aggregate), z[:, 0]).mean()
    marginal = torch.trapezoid(log_aggregate.exp() * (log_aggregate - log_p), z[:, 0])
    assert 0 < information < math.log(5) and marginal > 0.01
    assert_close(information + marginal, gaussian_kl(mean, log_var).mean(), **EXACT)


FULL, DIAGONAL = tensor([[13.0, 12.0], [12.0, 13.0]]), tensor([[13.0, 0.0], [0.0, 13.0]])


def rate_of_exact_model(covariance: Tensor, noise: Tensor) -> float:
    """Return the mean KL(q || p) of the model x = W z + N(0, diag noise) of N(0, covariance), q its true posterior."""
    values, vectors = torch.linalg.eigh(covariance - torch.diag(noise))
    weight = vectors * values.clamp_min(0).sqrt()
    inverse = torch.linalg.inv(covariance)
    posterior = torch.eye(2, dtype=torch.float64) - weight.T @ inverse @ weight
    rotate = torch.linalg.eigh(posterior)[1]  # a prior N(0, I) may be rotated until the posterior is diagonal
    posterior, weight = rotate.T @ posterior @ rotate, weight @ rotate
    assert posterior[0, 1].abs() < 1e-10
    nodes, weights = gauss_hermite(3, 2)  # exact, as the KL is quadratic in x
    x = nodes @ torch.linalg.cholesky(covariance).T
    mean = x @ inverse @ weight
    return (weights @ gaussian_kl(mean, posterior.diagonal().log().expand_as(mean))).item()


@pytest.mark.equation("vae-rate", tolerance="1e-9")
def test_an_exact_model_of_correlated_data_needs_a_rate():
    """Work the mean KL out for many decoder noises: 1/2 log(det Sigma / det D) each, at least 1.609 or 0 nats."""
    rates = []
    for a, b in itertools.product(np.linspace(0.2, 1.9, 12), repeat=2):
        noise = tensor([a, b])
        if torch.linalg.eigvalsh(FULL - torch.diag(noise)).min() < 1e-6:
            continue  # no such model: D alone would exceed the data's variance
        rates.append(rate_of_exact_model(FULL, noise))
        assert_close(rates[-1], 0.5 * math.log(25 / (a * b)), rtol=1e-9, atol=1e-9)
    assert len(rates) > 40
    least = rate_of_exact_model(FULL, tensor([1.0, 1.0]))
    assert_close(least, 0.5 * math.log(25), rtol=1e-7, atol=1e-7)
    assert min(rates) > least
    assert_close(rate_of_exact_model(DIAGONAL, tensor([13.0, 13.0])), 0.0, **EXACT)


@pytest.mark.equation("vae-collapse", tolerance="1e-10")
def test_a_decoder_that_ignores_z_leaves_the_posterior_at_the_prior():
    """With decoder weights 0, dL/dmu and dL/dlog_var are 0 at q = p for every x, and L falls in every direction."""
    vae = LinearVAE(2, 2).double()
    with torch.no_grad():
        vae.decoder.weight.zero_()
    x = 3 * normal(6, 2)

    def bound(mean: Tensor, log_var: Tensor) -> Tensor:
        z = reparameterise(mean, log_var, generator=torch.Generator().manual_seed(0))
        return -gaussian_nll(*_order(vae.decode(z), x)) - gaussian_kl(mean, log_var)

    mean, log_var = (torch.zeros(6, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    value = bound(mean, log_var)
    gradients = torch.autograd.grad(value.sum(), (mean, log_var))
    for gradient in gradients:
        assert_close(gradient, torch.zeros_like(gradient), **EXACT)
    for seed in range(5):
        moved = bound(normal(6, 2, seed=seed), normal(6, 2, seed=seed + 50))
        assert (moved < value - 1e-3).all()
    assert gaussian_kl(mean, log_var).abs().max() == 0


def _order(decoded: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return decoded[0], x, decoded[1]


@pytest.mark.equation("vae-collapse", tolerance="1e-10")
def test_a_decoder_that_sees_the_past_is_exact_without_z():
    """Set the autoregressive decoder to the chain rule of a correlated Gaussian: KL = 0, and the ELBO is log p(x)."""
    vae = LinearVAE(2, 1, autoregressive=True).double()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        vae.history[1, 0] = 12 / 13
        vae.log_noise.copy_(tensor([13.0, 13 - 144 / 13]).log())
    x = 3 * normal(6, 2)
    mean, log_var = vae.encode(x)
    z = reparameterise(mean, log_var, generator=torch.Generator().manual_seed(0))
    bound = -gaussian_nll(*_order(vae.decode(z, x), x)) - gaussian_kl(mean, log_var)
    truth = distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), FULL).log_prob(x)
    assert_close(bound, truth, **EXACT)
    assert gaussian_kl(mean, log_var).abs().max() == 0


@pytest.mark.equation("vae-warm-up", tolerance="1e-10")
def test_the_warmed_up_bound_goes_from_no_kl_to_the_elbo():
    """Without the KL the bound exceeds log p(x); it falls by an equal share of the KL each step, to the ELBO."""
    mean, covariance = STRAIGHT.posterior(X)
    log_var = covariance.diagonal().log().expand_as(mean)
    kl = gaussian_kl(mean, log_var)
    likelihood = elbo(STRAIGHT, X, mean, log_var) + kl
    bounds = [likelihood - kl_weight(t, 5) * kl for t in range(8)]
    assert (bounds[0] > STRAIGHT.log_marginal(X)).all()
    for before, after in itertools.pairwise(bounds[:6]):
        assert_close(before - after, kl / 5, **EXACT)
    for late in bounds[5:]:
        assert_close(late, STRAIGHT.log_marginal(X), **EXACT)
