"""The derivation of the W space: a triangle that z must bend into, truncation, directions, paths, projection."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats
import torch
from tiny_stylegan import made, normal, seeded
from torch import Tensor
from torch.testing import assert_close

from imagegen.evaluation.directions import _deviation_along, _fit
from imagegen.metrics import gaussian_frechet, path_speeds
from imagegen.objectives import path_lengths
from imagegen.stylegan import Search, project

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=seeded(seed), dtype=torch.float64)


def spread(dim: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Return a matrix (D, D) and the covariance A A^T of A times a standard normal."""
    a = torch.eye(dim).double() + 0.4 * normal(dim, dim, seed=seed)
    return a, a @ a.T


def within_4_errors(draws: Tensor, value: float) -> None:
    """The mean of the draws is the value, judged by its standard error, which must be below 1 % of the value."""
    error = (draws.std() / math.sqrt(len(draws))).item()
    assert error < 0.01 * abs(value), "too few draws to tell"
    assert abs(draws.mean().item() - value) < 4 * error


# ---- why z must bend -------------------------------------------------------------------------------------------


def warp(u: Tensor) -> Tensor:
    """Return the features (2,) that a latent (2,) of the unit square stands for."""
    side = (1 - u[0]).sqrt()
    return torch.stack([1 - 2 * side, -1 + 2 * u[1] * side])


@pytest.mark.equation("w-warp", tolerance="1e-9; Kolmogorov and Smirnov, p > 0.001")
def test_the_warp_spreads_the_square_evenly_over_the_triangle():
    """Its Jacobian's determinant is 2 everywhere, the ratio of the areas; the triangle's marginals come out."""
    for u in 0.98 * uniform(20, 2):
        jacobian = torch.autograd.functional.jacobian(warp, u)
        assert_close(torch.linalg.det(jacobian), torch.tensor(2.0).double(), **EXACT)
    f = torch.stack([warp(u) for u in uniform(4000, 2, seed=1)])
    assert (f.sum(1) <= 1e-12).all() and f.min() >= -1
    for column in f.unbind(1):  # of a uniform triangle each feature has the density (1 - f) / 2
        assert scipy.stats.kstest(column.numpy(), lambda x: 1 - (1 - x) ** 2 / 4).pvalue > 0.001


@pytest.mark.equation("w-tilt", tolerance="1e-9")
def test_the_second_feature_has_another_gradient_at_each_latent():
    """Beside autograd; the angle to the second axis covers more than 60 degrees."""
    angles = []
    for u in 0.98 * uniform(50, 2, seed=2):
        found = torch.autograd.functional.jacobian(warp, u)[1]
        side = (1 - u[0]).sqrt()
        assert_close(found, torch.stack([-u[1] / side, 2 * side]), **EXACT)
        angles.append(math.degrees(math.atan2(found[0].item(), found[1].item())))
    assert max(angles) - min(angles) > 60


@pytest.mark.equation("w-toy-fit", tolerance="1e-8")
def test_a_plane_explains_68_of_75_parts_in_the_square():
    """Solve the least-squares problem by quadrature; in the triangle's own coordinates a plane explains all."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    # u_1 = 1 - s^2 makes all integrands polynomials in s
    s, v = (torch.tensor(nodes) + 1) / 2, (torch.tensor(nodes) + 1) / 2
    w = torch.tensor(weights) / 2
    u = torch.stack(torch.meshgrid(1 - s**2, v, indexing="ij"), -1).reshape(-1, 2)
    mass = torch.outer(2 * s * w, w).reshape(-1)
    f = -1 + 2 * u[:, 1] * (1 - u[:, 0]).sqrt()
    root = mass.sqrt()[:, None]
    design = torch.cat([torch.ones(len(u), 1).double(), u], 1)
    solved = torch.linalg.lstsq(design * root, f[:, None] * root).solution
    errors = (mass * (design @ solved)[:, 0].sub(f).square()).sum()
    variance = (mass * f**2).sum() - (mass * f).sum() ** 2
    assert math.isclose(1 - (errors / variance).item(), 68 / 75, rel_tol=1e-8)


# ---- truncation ------------------------------------------------------------------------------------------------


@pytest.mark.equation("w-truncate", tolerance="1e-9")
def test_the_package_truncates_towards_the_mean_of_w():
    """Of the package's generator, image by image and layer by layer; psi = 0 leaves the mean alone."""
    generator, z = made().generator.eval(), normal(4, 6)
    with torch.no_grad():
        generator.w_mean.copy_(normal(6, seed=3))
    w = generator.mapping(z)
    for psi in (0.0, 0.4, 1.0, 1.5):
        expected = torch.stack([generator.w_mean + psi * (row - generator.w_mean) for row in w])
        found = generator.styles(z, truncation=psi)
        for layer in range(generator.config.layers):
            assert_close(found[:, layer], expected, **EXACT)


@pytest.mark.equation("w-variance", tolerance="1e-9")
def test_truncation_keeps_the_mean_and_takes_the_square_of_psi_of_the_covariance():
    """Of a sample of w and its own mean, which need not be normal."""
    w = normal(300, 5).abs() @ normal(5, 5, seed=2)
    mean = w.mean(0)
    for psi in (0.0, 0.3, 0.7):
        truncated = mean + psi * (w - mean)
        assert_close(truncated.mean(0), mean, **EXACT)
        assert_close(torch.cov(truncated.T), psi**2 * torch.cov(w.T), **EXACT)


@pytest.mark.equation("w-price", tolerance="1e-8; 4 standard errors, below 1 %")
def test_truncation_of_a_perfect_linear_generator_costs_known_divergences():
    """Beside the package's Frechet distance, torch's KL, and the mean log-density of truncated samples by draws."""
    a, cov = spread(4)
    mean = normal(4, seed=5)
    p = torch.distributions.MultivariateNormal(mean, cov)
    for psi in (0.5, 0.9):
        found = gaussian_frechet(mean, psi**2 * cov, mean, cov)
        assert math.isclose(found, (1 - psi) ** 2 * cov.trace().item(), rel_tol=1e-8)
        q = torch.distributions.MultivariateNormal(mean, psi**2 * cov)
        kl = torch.distributions.kl_divergence(q, p).item()
        assert math.isclose(kl, 4 * ((psi**2 - 1) / 2 - math.log(psi)), rel_tol=1e-8)
    samples = mean + 0.5 * normal(200_000, 4, seed=6) @ a.T
    within_4_errors(p.log_prob(mean) - p.log_prob(samples), 0.5**2 * 4 / 2)


@pytest.mark.equation("w-scaled-z", tolerance="1e-6")
def test_a_latent_scaled_in_z_gives_the_same_w():
    """The package's mapping, at psi from 0.01 to 3; only 0 itself loses the direction."""
    mapping, z = made().generator.mapping, normal(5, 6)
    for psi in (0.01, 0.5, 3.0):
        assert_close(mapping(psi * z), mapping(z), rtol=1e-4, atol=1e-4)
    assert (mapping(0 * z) - mapping(z)).abs().max() > 0.1


# ---- the running mean ------------------------------------------------------------------------------------------


def running(values: Tensor, decay: float) -> Tensor:
    """Return the running mean after each of the values (T,), from 0."""
    found, mean = [], torch.zeros((), dtype=torch.float64)
    for value in values:
        mean = decay * mean + (1 - decay) * value
        found.append(mean)
    return torch.stack(found)


@pytest.mark.equation("w-mean-sum", tolerance="1e-9")
def test_the_running_mean_is_a_weighted_sum_of_all_that_was_seen():
    """Unroll 40 steps, and the package's own buffer over three batches in training."""
    values, decay = normal(40), 0.9
    weights = torch.tensor([(1 - decay) * decay ** (39 - i) for i in range(40)], dtype=torch.float64)
    assert_close(running(values, decay)[-1], (weights * values).sum(), **EXACT)
    ages = torch.arange(400).double()  # the chance in it: that of (1 + lambda) / (1 - lambda) values
    assert math.isclose(
        ((1 - decay) * decay**ages).square().sum().item(), (1 - decay) / (1 + decay), rel_tol=1e-9
    )
    generator = made(mixing=0.0, w_decay=decay).generator.train()
    means = []
    for seed in range(3):
        generator.styles(normal(5, 6, seed=seed))
        means.append(generator.mapping(normal(5, 6, seed=seed)).mean(0).detach())
    expected = (1 - decay) * (decay**2 * means[0] + decay * means[1] + means[2])
    assert_close(generator.w_mean, expected, **EXACT)


@pytest.mark.equation("w-mean-bias", tolerance="1e-9")
def test_the_running_mean_starts_too_near_0_and_lags_behind_what_moves():
    """A constant: short by lambda^t. A drift of v a step: behind by v lambda / (1 - lambda), once the start is over."""
    decay = 0.8
    constant = running(torch.full((50,), 3.0).double(), decay)
    assert_close(constant, 3.0 * (1 - decay ** torch.arange(1, 51).double()), **EXACT)
    drifting = 0.1 * torch.arange(400).double()
    behind = drifting[-1] - running(drifting, decay)[-1]
    assert math.isclose(behind.item(), 0.1 * decay / (1 - decay), rel_tol=1e-9)


# ---- directions ------------------------------------------------------------------------------------------------


@pytest.mark.equation("w-slope", tolerance="1e-8")
def test_the_least_squares_slope_is_the_inverse_covariance_times_the_covariance_with_the_reading():
    """Beside lstsq with an intercept, for latents that are not normal."""
    w = normal(200, 4).abs() @ normal(4, 4, seed=2)
    a = torch.tanh(w[:, 0] - 0.5 * w[:, 2])
    design = torch.cat([w, torch.ones(200, 1).double()], 1)
    solved = torch.linalg.lstsq(design, a[:, None]).solution[:-1, 0]
    both = torch.cov(torch.cat([w, a[:, None]], 1).T)
    assert_close(solved, torch.linalg.solve(both[:4, :4], both[:4, 4]), rtol=1e-8, atol=1e-8)


@pytest.mark.equation("w-steps", tolerance="1e-6")
def test_the_shortest_step_is_along_the_slope_and_the_likeliest_along_the_covariance():
    """Minimise each length for a given rise numerically; the likeliest step is never the shorter one."""
    w = normal(400, 3).abs() @ normal(3, 3, seed=2)
    slope = torch.tensor([1.0, -2.0, 0.5]).double()
    cov = torch.cov(w.T)
    rise = math.sqrt(slope @ cov @ slope)
    steps = (rise * slope / (slope @ slope), rise * cov @ slope / (slope @ cov @ slope))
    for metric, expected in zip((np.eye(3), torch.linalg.inv(cov).numpy()), steps):
        done = scipy.optimize.minimize(
            lambda d, m: d @ m @ d, np.ones(3), args=(metric,), jac=lambda d, m: 2 * m @ d, method="SLSQP",
            constraints={"type": "eq", "fun": lambda d: d @ slope.numpy() - rise}, options={"ftol": 1e-14},
        )  # fmt: skip
        assert_close(torch.tensor(done.x), expected, rtol=1e-4, atol=1e-4)
    assert math.isclose(done.fun, 1.0, rel_tol=1e-6)  # the likeliest: one deviation of the score, one of w
    assert steps[0].norm() < 0.99 * steps[1].norm()
    vector = steps[0] / steps[0].norm()  # as the package has it: a step of one unit is the shortest
    assert_close(_deviation_along(w, vector) * vector, steps[0], **EXACT)
    both = torch.cov(torch.cat([w, (w @ slope)[:, None]], 1).T)
    assert_close(steps[1] / steps[1].norm(), both[:3, 3] / both[:3, 3].norm(), **EXACT)


@pytest.mark.equation("w-stein-kernel", tolerance="1e-6")
@pytest.mark.parametrize(
    ("law", "low", "high", "known"),
    [(scipy.stats.norm(0.5, 0.7), -8, 9, lambda w: 0.7**2), (scipy.stats.expon(), 0, 60, lambda w: w)],
    ids=["normal", "exponential"],
)
def test_the_covariance_weighs_gradients_by_the_kernel_of_the_density(law, low, high, known):
    """By quadrature, for a normal, whose kernel is its variance, and an exponential, whose kernel is w itself."""
    mean = law.mean()
    for w in (0.1, 0.8, 2.0):
        mass = scipy.integrate.quad(lambda y: (y - mean) * law.pdf(y), w, high)[0]
        assert math.isclose(mass / law.pdf(w), known(w), rel_tol=1e-5)

    def left(w):
        return (w - mean) * (math.tanh(w - 1) + 0.1 * w) * law.pdf(w)

    def right(w):
        return known(w) * (1 - math.tanh(w - 1) ** 2 + 0.1) * law.pdf(w)

    found = [scipy.integrate.quad(side, low, high, limit=200)[0] for side in (left, right)]
    assert math.isclose(*found, rel_tol=1e-6)


@pytest.mark.equation("w-ridge", tolerance="1e-6")
def test_the_slope_of_a_ridge_regression_is_the_best_step_for_both_lengths_together():
    """Minimise |d|^2 + lambda d^T C^-1 d numerically for a rise of one deviation; beside the package's fit."""
    w = normal(500, 3).abs() @ normal(3, 3, seed=2)
    a = torch.tanh(w @ torch.tensor([1.0, -2.0, 0.5]).double())
    mean, cov = w.mean(0), torch.cov(w.T, correction=0)
    to_a = ((a - a.mean())[:, None] * (w - mean)).mean(0)
    slope = torch.linalg.solve(cov, to_a)
    for ridge in (0.02, 0.5):
        lam = ridge * w.var(0).mean()
        metric = (torch.eye(3).double() + lam * torch.linalg.inv(cov)).numpy()
        done = scipy.optimize.minimize(
            lambda d, m: d @ m @ d, np.ones(3), args=(metric,), jac=lambda d, m: 2 * m @ d, method="SLSQP",
            constraints={"type": "eq", "fun": lambda d: d @ slope.numpy() - 1.0}, options={"ftol": 1e-15},
        )  # fmt: skip
        best = torch.tensor(done.x)
        ridged = torch.linalg.solve(cov + lam * torch.eye(3), to_a)
        assert_close(best / best.norm(), ridged / ridged.norm(), rtol=1e-4, atol=1e-4)
        fitted, _, _ = _fit(torch.cat([w, w[:9]]), torch.cat([a, a[:9]]), 500, "any", ridge=ridge)
        assert_close(fitted, ridged, rtol=1e-6, atol=1e-8)


# ---- paths -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("w-speed", tolerance="1e-3")
def test_a_small_steps_squared_distance_is_the_pulled_back_metric():
    """Of a tiny StyleGAN in w: v^T J^T J v with the whole Jacobian, beside the package's difference quotient."""
    generator = made().generator.eval()

    def describe(w: Tensor) -> Tensor:
        layered = w[:, None].expand(-1, generator.config.layers, -1)
        return generator.synthesis(layered, noise="fixed").flatten(1)

    first, second = generator.mapping(normal(2, 6)).detach(), generator.mapping(normal(2, 6, seed=1)).detach()
    found = path_speeds(describe, first, second, sampling="end", epsilon=1e-5)
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda w: describe(w[None])[0], first[i])
        v = second[i] - first[i]
        assert_close(found[i], v @ jacobian.T @ jacobian @ v, rtol=1e-3, atol=0)


@pytest.mark.equation("w-chord", tolerance="1e-6")
def test_no_way_is_shorter_than_the_straight_one():
    """The triangle's warp along lines, by quadrature; a linear generator's way is as short as its chord."""
    for a, b in zip(0.95 * uniform(10, 2, seed=4), 0.95 * uniform(10, 2, seed=5)):

        def speed(t, a=a, b=b):
            jacobian = torch.autograd.functional.jacobian(warp, a + t * (b - a))
            return (jacobian @ (b - a)).square().sum().item()

        energy = scipy.integrate.quad(speed, 0, 1)[0]
        length = scipy.integrate.quad(lambda t: math.sqrt(speed(t)), 0, 1)[0]
        chord = (warp(b) - warp(a)).norm().item()
        assert energy >= length**2 - 1e-6 and length >= chord - 1e-6 and energy > 1.0001 * chord**2
    m, ends = normal(3, 2), normal(2, 5, 2)
    straight = path_speeds(lambda w: w @ m.T, *ends, generator=seeded())
    assert_close(straight, ((ends[1] - ends[0]) @ m.T).square().sum(1), rtol=1e-6, atol=1e-6)


@pytest.mark.equation("w-linear-path", tolerance="4 standard errors, below 1 %")
def test_the_path_length_of_a_linear_generator_is_twice_a_trace():
    """Draw 60,000 pairs of w of a known covariance, and average the package's speeds."""
    a, cov = spread(4)
    m = normal(6, 4, seed=7)
    first, second = (2 + normal(60_000, 4, seed=s) @ a.T for s in (8, 9))
    speeds = path_speeds(lambda w: w @ m.T, first, second, generator=seeded())
    within_4_errors(speeds, 2 * (m @ cov @ m.T).trace().item())


@pytest.mark.equation("w-arc", tolerance="1e-6")
def test_an_arc_costs_more_than_its_chord_by_a_known_factor():
    """Perpendicular latents of one length, features the latents themselves: pi^2 / 8."""
    for angle in (0.3, math.pi / 2, 2.5):
        first = torch.tensor([[3.0, 0.0]]).double()
        second = 3 * torch.tensor([[math.cos(angle), math.sin(angle)]]).double()
        options = {"arc": True, "epsilon": 1e-6, "generator": seeded()}
        ratio = path_speeds(lambda z: z, first, second, **options) / (second - first).square().sum()
        assert math.isclose(ratio.item(), (angle / (2 * math.sin(angle / 2))) ** 2, rel_tol=1e-5)
        if angle == math.pi / 2:
            assert math.isclose(ratio.item(), math.pi**2 / 8, rel_tol=1e-5)


@pytest.mark.equation("w-trace", tolerance="4 standard errors, below 1 %; 1e-9")
def test_both_measures_of_a_jacobian_average_to_its_squares():
    """|J^T y|^2 over random y, as the package's path lengths, and |J v|^2 over random v: the trace of J^T J."""
    m = normal(5, 4, seed=7)
    total = m.square().sum().item()
    w = normal(100_000, 4, seed=1).requires_grad_()
    images = w @ m.T  # (B, C): no height and width to divide by
    within_4_errors(path_lengths(images, w, generator=seeded()).detach().square(), total)
    within_4_errors((normal(100_000, 4, seed=2) @ m.T).square().sum(1), total)
    even = 1.7 * torch.linalg.qr(normal(5, 5, seed=3)).Q
    w = normal(50, 5, seed=4).requires_grad_()
    y = torch.randn(50, 5, generator=seeded(), dtype=torch.float64)
    lengths = path_lengths(w @ even.T, w, generator=seeded())
    assert_close(lengths, 1.7 * y.norm(dim=1), rtol=1e-6, atol=1e-6)
    step = normal(50, 5, seed=5)
    assert_close((step @ even.T).norm(dim=1), 1.7 * step.norm(dim=1), **EXACT)


# ---- projection ------------------------------------------------------------------------------------------------


@pytest.mark.equation("w-project", tolerance="1e-3")
def test_a_w_for_each_layer_is_never_worse_and_both_are_least_squares_where_drawing_is_linear():
    """The package's search on a linear generator of two layers, beside the residuals that lstsq leaves."""
    matrices = 0.15 * normal(2, 8, 3, seed=5)
    generator = SimpleNamespace(
        config=SimpleNamespace(image_shape=(1, 2, 4), latent_dim=3, layers=2),
        w_mean=torch.zeros(3, dtype=torch.float64), mapping=lambda z: z,
        synthesis=lambda ws, noise: torch.einsum("lpd,bld->bp", matrices, ws).reshape(-1, 1, 2, 4),
    )  # fmt: skip
    images, left = 0.4 * normal(1, 1, 2, 4, seed=1).clamp(-2, 2), {}
    for per_layer, design in ((False, matrices.sum(0)), (True, torch.cat([*matrices], 1))):
        search = Search(n_steps=400, lr=0.4, per_layer=per_layer)
        found = project(generator, images, search=search, random=seeded()).errors[-1]
        solved = torch.linalg.lstsq(design, images.reshape(8, 1)).solution
        left[per_layer] = (design @ solved - images.reshape(8, 1)).square().mean().item()
        assert math.isclose(found.item(), left[per_layer], rel_tol=1e-3, abs_tol=1e-4)
    assert left[True] < 0.9 * left[False]
