"""The chapter on the Wasserstein distance, equation by equation, against linear programmes and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import linprog
from scipy.stats import norm as normal_law
from scipy.stats import wasserstein_distance
from torch import Tensor, nn
from torch.testing import assert_close

from imagegen.gan import Discriminator, GANConfig, clip_weights
from imagegen.objectives import discriminator_loss, gradient_penalty, zero_centred_penalty

f64 = torch.float64
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


def weights(n: int, seed: int) -> Tensor:
    return torch.softmax(normal(n, seed=seed), 0)


def programme(cost: Tensor, p: Tensor, q: Tensor) -> tuple[float, Tensor]:
    """Return the least cost and the plan (n, m), by SciPy's solver, from the equation's own rows and columns."""
    n, m = cost.shape
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    found = linprog(cost.flatten().numpy(), A_eq=np.vstack([rows, columns]), b_eq=torch.cat([p, q]).numpy())
    assert found.status == 0
    return found.fun, torch.from_numpy(found.x).view(n, m)


def priced(cost: Tensor, p: Tensor, q: Tensor) -> tuple[float, Tensor, Tensor]:
    """Return the best value of the dual and its prices f (n,) and g (m,), a linear programme of its own."""
    n, m = cost.shape
    pairs = np.hstack([np.kron(np.eye(n), np.ones((m, 1))), np.kron(np.ones((n, 1)), np.eye(m))])
    found = linprog(
        -torch.cat([p, q]).numpy(), A_ub=pairs, b_ub=cost.flatten().numpy(), bounds=[(None, None)] * (n + m)
    )
    assert found.status == 0
    f, g = torch.from_numpy(found.x).split([n, m])
    return -found.fun, f, g


def case(seed: int, n: int = 5, m: int = 4, dims: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return points x (n, dims), y (m, dims), their distances, and weights p, q."""
    x, y = normal(n, dims, seed=seed), normal(m, dims, seed=seed + 100) + 0.7
    return x, y, torch.cdist(x, y), weights(n, seed + 200), weights(m, seed + 300)


def wasserstein(x: Tensor, y: Tensor, p: Tensor | None = None, q: Tensor | None = None) -> float:
    p = torch.full((len(x),), 1 / len(x), dtype=f64) if p is None else p
    q = torch.full((len(y),), 1 / len(y), dtype=f64) if q is None else q
    return programme(torch.cdist(x, y), p, q)[0]


# ---- the distance and its dual ---------------------------------------------------------------------------------


@pytest.mark.equation("wasserstein-two-points", tolerance="1e-12")
@pytest.mark.parametrize("theta", [-3.0, -1e-3, 0.0, 0.5, 40.0])
def test_two_points_are_log_2_apart_for_one_distance_and_theta_for_the_other(theta):
    """Take both divergences by their definitions over the two atoms, and the cost of the only plan there is."""
    points = sorted({0.0, theta})
    p = torch.tensor([float(a == 0.0) for a in points], dtype=f64)
    q = torch.tensor([float(a == theta) for a in points], dtype=f64)

    def kl(a: Tensor, b: Tensor) -> float:
        there = a > 0
        return (a[there] * (a[there] / b[there]).log()).sum().item()

    middle = (p + q) / 2
    jsd = (kl(p, middle) + kl(q, middle)) / 2
    cost, plan = programme(
        torch.tensor([[abs(theta)]], dtype=f64), torch.ones(1, dtype=f64), torch.ones(1, dtype=f64)
    )
    assert plan.item() == pytest.approx(1)
    assert cost == pytest.approx(abs(theta), abs=1e-12)
    assert jsd == pytest.approx(math.log(2) if theta else 0.0, abs=1e-12)
    assert kl(p, q) == (math.inf if theta else 0.0)


@pytest.mark.equation("wasserstein-primal", "wasserstein-lp", tolerance="1e-9")
@pytest.mark.parametrize("seed", range(3))
def test_equal_points_are_matched_best_by_one_of_their_permutations(seed):
    """For five equal points each the cheapest plan costs what the best of all 120 matchings costs."""
    x, y = normal(5, 2, seed=seed), normal(5, 2, seed=seed + 9)
    cost = torch.cdist(x, y)
    best = min(sum(cost[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(5))) / 5
    assert wasserstein(x, y) == pytest.approx(best.item(), rel=1e-9)
    at_random = cost.mean().item()  # the independent plan is allowed, and dearer
    assert wasserstein(x, y) < at_random


@pytest.mark.equation("wasserstein-primal", tolerance="1e-9")
def test_it_is_a_distance():
    """Zero only for equal distributions, symmetric, and no way round is shorter."""
    x, y, z = normal(4, 2), normal(5, 2, seed=1) + 1, normal(3, 2, seed=2) - 1
    assert wasserstein(x, x.flip(0)) == pytest.approx(0, abs=1e-9)
    assert wasserstein(x, y) == pytest.approx(wasserstein(y, x), rel=1e-9)
    assert 0.1 < wasserstein(x, y) < wasserstein(x, z) + wasserstein(z, y)


@pytest.mark.equation("wasserstein-lagrangian", tolerance="1e-9")
def test_at_the_best_plan_and_prices_the_lagrangian_is_the_cost_and_a_saddle():
    """No other plan lowers it and no other price raises it, and sorted by the plan it is the same number."""
    _, _, cost, p, q = case(0)
    value, plan = programme(cost, p, q)
    _, f, g = priced(cost, p, q)

    def lagrangian(plan: Tensor, f: Tensor, g: Tensor) -> Tensor:
        return (cost * plan).sum() + f @ (p - plan.sum(1)) + g @ (q - plan.sum(0))

    assert lagrangian(plan, f, g).item() == pytest.approx(value, rel=1e-9)
    for seed in range(20):
        other = normal(5, 4, seed=seed).square() / 10
        f2, g2 = f + normal(5, seed=seed), g + normal(4, seed=seed + 50)
        assert lagrangian(other, f, g) >= value - 1e-9
        assert lagrangian(plan, f2, g2).item() == pytest.approx(value, rel=1e-8)  # no violation to price
        by_plan = p @ f2 + q @ g2 + (other * (cost - f2[:, None] - g2)).sum()
        assert_close(lagrangian(other, f2, g2), by_plan, **EXACT)
        missing = p - other.sum(1)  # a price that grows along the violation punishes it without bound
        punished = [lagrangian(other, f + t * missing, g).item() for t in (0.0, 1e6)]
        assert punished[1] - punished[0] == pytest.approx(1e6 * missing.square().sum().item(), rel=1e-6)
        assert missing.norm() > 1e-2


@pytest.mark.equation("wasserstein-dual", tolerance="1e-9")
@pytest.mark.parametrize("seed", range(5))
def test_the_dual_has_the_value_of_the_primal(seed):
    """Solve both programmes of a random case apart, and compare."""
    _, _, cost, p, q = case(seed, n=4 + seed, m=6)
    value, plan = programme(cost, p, q)
    best, f, g = priced(cost, p, q)
    assert best == pytest.approx(value, rel=1e-9)
    assert_close(plan.sum(1), p, **EXACT)
    assert_close(plan.sum(0), q, **EXACT)
    assert (f[:, None] + g <= cost + 1e-9).all()


@pytest.mark.equation("wasserstein-weak", tolerance="1e-9")
def test_allowed_prices_never_exceed_the_cost_of_any_plan():
    """Check both sides for arbitrary prices and plans that are not the best ones."""
    _, _, cost, p, q = case(3)
    _, best = programme(cost, p, q)
    for seed in range(20):
        f = normal(5, seed=seed)
        g = (cost - f[:, None]).min(0).values - normal(4, seed=seed + 50).abs()
        share = torch.rand((), generator=torch.Generator().manual_seed(seed), dtype=f64)
        plan = share * torch.outer(p, q) + (1 - share) * best
        prices = p @ f + q @ g
        assert_close(prices, (plan * (f[:, None] + g)).sum(), **EXACT)
        assert prices < (plan * cost).sum() - 1e-3


@pytest.mark.equation("wasserstein-slackness", tolerance="1e-9")
@pytest.mark.parametrize("seed", range(5))
def test_mass_moves_only_where_the_prices_equal_the_cost(seed):
    """At the solutions of both programmes: no slack where the plan is positive; some routes have slack and no mass."""
    _, _, cost, p, q = case(seed)
    _, plan = programme(cost, p, q)
    _, f, g = priced(cost, p, q)
    slack = cost - f[:, None] - g
    assert slack[plan > 1e-9].abs().max() < 1e-9
    assert plan[slack > 1e-6].abs().max() < 1e-9
    assert (slack > 1e-2).sum() >= 3


@pytest.mark.equation("wasserstein-transform", tolerance="1e-9")
@pytest.mark.parametrize("seed", range(3))
def test_the_transform_is_a_critic_that_loses_nothing(seed):
    """From any allowed prices: at least f at x, at most -g at y, 1-Lipschitz everywhere, and no lower a value."""
    x, y, cost, p, q = case(seed)
    g = normal(4, seed=seed)
    f = (cost - g).min(1).values - normal(5, seed=seed + 7).abs()

    def critic(points: Tensor) -> Tensor:
        return (torch.cdist(points, y) - g).min(1).values

    assert (critic(x) >= f - 1e-12).all() and (critic(y) <= -g + 1e-12).all()
    a, b = 3 * normal(500, 2, seed=1), 3 * normal(500, 2, seed=2)
    slope = (critic(a) - critic(b)).abs() / (a - b).norm(dim=1)
    assert 0.9 < slope.max() <= 1 + 1e-9
    assert p @ critic(x) - q @ critic(y) >= p @ f + q @ g - 1e-12


@pytest.mark.equation("wasserstein-kr", tolerance="1e-9")
@pytest.mark.parametrize("seed", range(5))
def test_one_lipschitz_function_reaches_the_cost_of_the_plan(seed):
    """Maximise over the scores at all points, held pairwise to the distances, and compare with the primal."""
    x, y, cost, p, q = case(seed)
    points, gain = torch.cat([x, y]), torch.cat([p, -q])
    n = len(points)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    held = np.zeros((len(pairs), n))
    for row, (i, j) in enumerate(pairs):
        held[row, i], held[row, j] = 1, -1
    limit = [(points[i] - points[j]).norm().item() for i, j in pairs]
    found = linprog(-gain.numpy(), A_ub=held, b_ub=limit, bounds=[(0, 0)] + [(None, None)] * (n - 1))
    assert -found.fun == pytest.approx(programme(cost, p, q)[0], rel=1e-9)


@pytest.mark.equation("wasserstein-generator", tolerance="1e-6")
def test_the_generator_follows_the_slope_of_the_best_critic():
    """Change a generator's four weights: the cost changes as minus the mean score of a best critic that is held."""
    x, z = normal(6, 2), normal(6, 2, seed=1)
    theta = torch.tensor([[1.0, 0.3], [-0.2, 0.8]], dtype=f64, requires_grad=True)

    def draw(theta: Tensor) -> Tensor:
        return z @ theta + 1.5

    cost = torch.cdist(x, draw(theta).detach())
    mass = torch.full((6,), 1 / 6, dtype=f64)
    value, plan = programme(cost, mass, mass)
    # Of all best prices those with the most slack off the routes, so that the critic has no corner at a point.
    slack = (plan < 1e-9).double().view(-1, 1).numpy()
    pairs = np.hstack([np.kron(np.eye(6), np.ones((6, 1))), np.kron(np.ones((6, 1)), np.eye(6)), slack])
    best = {"A_eq": [[1 / 6] * 12 + [0.0]], "b_eq": [value], "bounds": [(None, None)] * 13}
    found = linprog([0.0] * 12 + [-1.0], A_ub=pairs, b_ub=cost.flatten().numpy(), **best)
    f = torch.from_numpy(found.x[:6])
    assert found.x[12] > 1e-3 and found.status == 0

    def critic(points: Tensor) -> Tensor:
        return (f[:, None] - torch.cdist(x, points)).max(0).values

    assert (critic(x).mean() - critic(draw(theta)).mean()).item() == pytest.approx(value, rel=1e-9)
    (slope,) = torch.autograd.grad(-critic(draw(theta)).mean(), theta)
    small = 1e-6
    for j, k in itertools.product(range(2), range(2)):
        step = torch.zeros_like(slope)
        step[j, k] = small
        ends = [wasserstein(x, draw((theta + way * step).detach())) for way in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * small) == pytest.approx(slope[j, k].item(), abs=1e-6)
    assert slope.norm() > 0.1


@pytest.mark.equation("wasserstein-1d", tolerance="1e-9")
@pytest.mark.parametrize("seed", range(4))
def test_in_one_dimension_it_is_the_area_between_the_distribution_functions(seed):
    """Sum the area between two step functions, and compare with the programme and with SciPy's own."""
    x, y, cost, p, q = case(seed, n=6, m=5, dims=1)
    points = torch.cat([x, y])[:, 0].sort().values
    below = [(w[:, None] * (z <= points)).sum(0) for z, w in ((x, p), (y, q))]
    area = ((below[0] - below[1]).abs()[:-1] * points.diff()).sum().item()
    assert area == pytest.approx(programme(cost, p, q)[0], rel=1e-9)
    assert area == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0], p, q), rel=1e-9)


@pytest.mark.equation("wasserstein-scale", tolerance="1e-9")
def test_a_critic_of_slope_k_gains_at_most_k_times_the_distance():
    """Random networks, whose slope is bounded by their weights, stay below; a straight function reaches the bound."""
    x = normal(7, 2)
    shifted = x + torch.tensor([1.5, 0.0], dtype=f64)
    distance = wasserstein(x, shifted)
    for seed in range(10):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)).double()
        k = math.prod(torch.linalg.matrix_norm(layer.weight, 2).item() for layer in (net[0], net[2]))
        assert (net(x).mean() - net(shifted).mean()).abs() <= k * distance + 1e-12
    assert (-3 * x[:, 0]).mean() + (3 * shifted[:, 0]).mean() == pytest.approx(3 * distance, rel=1e-9)


@pytest.mark.equation("wasserstein-bias", tolerance="4 standard errors")
def test_batches_are_farther_apart_than_their_distributions():
    """Draw batches of two distributions at a known distance, and of one and the same: the mean cost lies above."""
    g = torch.Generator().manual_seed(0)
    for shift in (0.0, 0.5):
        means = []
        for n in (16, 64):
            draws = torch.randn(2000, 2, n, generator=g, dtype=f64).sort(2).values
            costs = (draws[:, 0] - draws[:, 1] - shift).abs().mean(1)  # in 1-D: sorted against sorted
            error = costs.std().item() / math.sqrt(len(costs))
            assert costs.mean() > shift + 4 * error
            means.append(costs.mean().item())
        if not shift:
            assert means[0] / means[1] == pytest.approx(2, rel=0.1)  # 1 / sqrt(n)


# ---- clipping --------------------------------------------------------------------------------------------------


def relu_network(*sizes: int) -> nn.Sequential:
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def steepest(net: nn.Module, points: Tensor) -> float:
    points = points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(points).sum(), points)
    return slope.norm(dim=1).max().item()


@pytest.mark.equation("wasserstein-product", tolerance="1e-9")
def test_the_slope_is_at_most_the_product_of_the_spectral_norms():
    """Gradients of random networks stay below the product; layers whose singular vectors fit reach it."""
    for seed in range(10):
        torch.manual_seed(seed)
        net = relu_network(3, 8, 8, 1)
        product = math.prod(torch.linalg.matrix_norm(net[i].weight, 2).item() for i in (0, 2, 4))
        assert 0.01 * product < steepest(net, 3 * normal(500, 3)) <= product + 1e-12
    net = relu_network(1, 1, 1)
    with torch.no_grad():
        for layer, weight in ((net[0], 2.0), (net[2], 3.0)):
            layer.weight.fill_(weight)
            layer.bias.zero_()
    assert steepest(net, torch.ones(1, 1, dtype=f64)) == pytest.approx(6, rel=1e-12)


@pytest.mark.equation("wasserstein-clipping", tolerance="1e-9")
@pytest.mark.parametrize("bound", [0.01, 0.1])
def test_clipped_weights_allow_the_slope_of_equal_weights_and_no_more(bound):
    """Clip large random networks: all below the bound. With every weight at the bound, the bound is reached."""
    sizes = (2, 16, 16, 1)
    most = math.prod(bound * math.sqrt(a * b) for a, b in itertools.pairwise(sizes))
    points = normal(500, 2).abs()
    for seed in range(10):
        torch.manual_seed(seed)
        net = relu_network(*sizes)
        clip_weights(net, bound)
        assert max(p.abs().max() for p in net.parameters()) <= bound
        assert steepest(net, points) < most
    for parameter in net.parameters():
        nn.init.constant_(parameter, 5.0)
    clip_weights(net, bound)
    assert steepest(net, points) == pytest.approx(most, rel=1e-9)


# ---- the gradient penalty --------------------------------------------------------------------------------------


@pytest.mark.equation("wasserstein-slope", tolerance="1e-6")
def test_along_a_route_the_best_critic_is_straight_with_slope_one():
    """Extend the dual's prices to a critic of the plane, and walk the routes of the plan with autograd."""
    x, y, cost, p, q = case(1)
    _, plan = programme(cost, p, q)
    _, _, g = priced(cost, p, q)

    def critic(points: Tensor) -> Tensor:
        return (torch.cdist(points, y) - g).min(1).values

    routes = (plan > 1e-9).nonzero().tolist()
    assert len(routes) >= 5
    off = []
    for i, j in routes:
        length = (x[i] - y[j]).norm()
        for t in (0.1, 0.35, 0.8):
            point = (t * x[i] + (1 - t) * y[j])[None].requires_grad_()
            value = critic(point)
            (slope,) = torch.autograd.grad(value.sum(), point)
            assert_close(value[0].detach(), critic(y[j : j + 1])[0] + t * length, rtol=1e-6, atol=1e-6)
            assert_close(slope[0], (x[i] - y[j]) / length, rtol=1e-6, atol=1e-6)
        k = (j + 1) % len(y)  # a segment that is no route: the critic rises less along it
        if plan[i, k] < 1e-9:
            off.append(((critic(x[i : i + 1]) - critic(y[k : k + 1])) / (x[i] - y[k]).norm()).item())
    assert min(off) < 0.9


@pytest.mark.equation("wasserstein-gp", tolerance="1e-9")
def test_the_penalty_is_taken_at_one_uniform_point_of_each_segment():
    """Record where the critic is asked: on the segment, one alpha an image; uniform by Kolmogorov and Smirnov."""
    real, fake = normal(4000, 1, 2, 3), normal(4000, 1, 2, 3, seed=1)
    asked = []

    def critic(points: Tensor) -> Tensor:
        asked.append(points.detach())
        return 2.5 * points[:, 0, 0, 0] + 0.0 * points.sum((1, 2, 3))

    value = gradient_penalty(critic, real, fake, generator=torch.Generator().manual_seed(0))
    assert_close(value, torch.full((4000,), 1.5**2, dtype=f64), rtol=1e-9, atol=1e-9)
    alphas = ((asked[0] - fake) / (real - fake)).flatten(1)
    assert (alphas - alphas[:, :1]).abs().max() < 1e-6  # the pixels of an image share it
    alpha = alphas[:, 0].sort().values
    assert 0 <= alpha[0] < 0.01 and 0.99 < alpha[-1] <= 1
    expected = (torch.arange(4000, dtype=f64) + 0.5) / 4000
    assert (alpha - expected).abs().max() < 1.95 / math.sqrt(4000)  # 0.1 % of uniform samples fail
    loss = discriminator_loss(critic(real), critic(fake), loss="wasserstein")
    assert_close(loss, critic(fake) - critic(real), **EXACT)


@pytest.mark.equation("wasserstein-gp-excess", tolerance="1e-6")
@pytest.mark.parametrize(("theta", "weight"), [(-0.5, 10.0), (-2.0, 1.0), (-3.0, 0.1)])
def test_the_penalised_critic_is_steeper_than_one(theta, weight):
    """Minimise the loss over critics made of 20 straight pieces by Newton's method, and compare slope and gap."""
    slopes = torch.zeros(20, dtype=f64)
    width = abs(theta) / 20

    def loss(s: Tensor) -> Tensor:
        return -(s * width).sum() + weight * (s - 1).square().mean()

    slope = torch.autograd.functional.jacobian(loss, slopes)
    curvature = torch.autograd.functional.hessian(loss, slopes)
    best = slopes - torch.linalg.solve(curvature, slope)
    assert_close(best, torch.full((20,), 1 + abs(theta) / (2 * weight), dtype=f64), rtol=1e-6, atol=1e-6)
    assert best.sum().item() * width == pytest.approx(abs(theta) + theta**2 / (2 * weight), rel=1e-6)
    # The same optimum by the package's penalty: no small change of a linear critic's slope lowers its loss.
    w = best[:1].clone().requires_grad_()
    real, fake = torch.zeros(8, 1, dtype=f64), torch.full((8, 1), theta, dtype=f64)
    critic = lambda x: (w * x).sum(1)  # noqa: E731
    total = discriminator_loss(critic(real), critic(fake), loss="wasserstein").mean()
    total = total + weight * gradient_penalty(critic, real, fake).mean()
    assert torch.autograd.grad(total, w)[0].abs().item() < 1e-6


@pytest.mark.equation("wasserstein-alpha", tolerance="4 standard errors")
def test_a_normal_alpha_leaves_the_segment_two_times_of_three():
    """Count, and compare with the distribution function; a uniform one never leaves."""
    exact = 1 - normal_law.cdf(1) + normal_law.cdf(0)
    assert exact == pytest.approx(0.6587, abs=5e-5)
    alpha = normal(200_000)
    outside = ((alpha < 0) | (alpha > 1)).double().mean().item()
    assert abs(outside - exact) < 4 * math.sqrt(exact * (1 - exact) / 200_000)


@pytest.mark.equation("wasserstein-pixel", tolerance="4 standard errors, below 1 %")
@pytest.mark.parametrize("size", [3, 20])
def test_an_alpha_for_each_pixel_takes_the_point_off_the_line(size):
    """Draw points with one alpha a pixel, project them on the line, and compare both second moments."""
    d = normal(size) + 0.3
    alpha = torch.rand(100_000, size, generator=torch.Generator().manual_seed(0), dtype=f64)
    offset = alpha * d - d / 2
    along = offset @ d / d.norm()
    beside = offset.square().sum(1) - along.square()
    concentration = (d**4).sum() / d.norm() ** 4
    for draws, value in (
        (beside, d.norm() ** 2 / 12 * (1 - concentration)),
        (along.square(), d.norm() ** 2 / 12 * concentration),
    ):
        error = draws.std().item() / math.sqrt(len(draws))
        assert error < 0.01 * value
        assert abs(draws.mean() - value) < 4 * error


@pytest.mark.equation("wasserstein-batch-norm", tolerance="1e-9")
@pytest.mark.parametrize("size", [4, 100])
def test_a_norm_over_the_batch_asks_for_a_slope_that_depends_on_its_size(size):
    """The slope of a linear critic at which the norm over the batch is 1; the package's norm is 1 at slope 1."""
    points = normal(size, 3).requires_grad_()
    direction = torch.tensor([0.6, 0.0, 0.8], dtype=f64)
    (slope,) = torch.autograd.grad((points @ direction / math.sqrt(size)).sum(), points)
    assert slope.norm().item() == pytest.approx(1, rel=1e-9)
    assert_close(slope.norm(dim=1), torch.full((size,), 1 / math.sqrt(size), dtype=f64), **EXACT)
    penalty = gradient_penalty(lambda x: x @ direction, normal(size, 3), normal(size, 3, seed=1))
    assert_close(penalty, torch.zeros(size, dtype=f64), **EXACT)


# ---- spectral normalisation ------------------------------------------------------------------------------------


def iterate(weight: Tensor, u: Tensor, rounds: int) -> tuple[float, Tensor, Tensor]:
    """Return sigma's estimate after `rounds` rounds and one more half, with its u and v."""
    for _ in range(rounds):
        v = weight.T @ u
        u = weight @ (v / v.norm())
        u = u / u.norm()
    v = weight.T @ u
    v = v / v.norm()
    return (u @ weight @ v).item(), u, v


@pytest.mark.equation("wasserstein-power", "wasserstein-power-error", tolerance="1e-9")
def test_power_iteration_finds_the_largest_singular_value_at_the_rate_of_the_equation():
    """Follow the estimate round by round against the weighted mean of squares, and against SVD in the end."""
    weight, u = normal(6, 9), normal(6, seed=1)
    u = u / u.norm()
    left, sigma, _ = torch.linalg.svd(weight)
    a = left.T @ u
    errors = []
    for rounds in range(8):
        mean = (a**2 * sigma ** (4 * rounds + 2)).sum() / (a**2 * sigma ** (4 * rounds)).sum()
        estimate = iterate(weight, u, rounds)[0]
        assert estimate**2 == pytest.approx(mean.item(), rel=1e-9)
        assert estimate <= sigma[0] + 1e-12
        errors.append(1 - (estimate / sigma[0].item()) ** 2)
    ratio = (sigma[1] / sigma[0]).item() ** 4
    late = [iterate(weight, u, r)[0] for r in (20, 21)]
    shrink = (sigma[0] ** 2 - late[1] ** 2) / (sigma[0] ** 2 - late[0] ** 2)
    assert shrink.item() == pytest.approx(ratio, rel=0.02)
    assert errors == sorted(errors, reverse=True)
    assert iterate(weight, u, 200)[0] == pytest.approx(sigma[0].item(), rel=1e-9)


@pytest.mark.equation("wasserstein-spectral-gradient", tolerance="1e-9")
def test_the_gradient_through_the_division_loses_the_part_along_the_weight():
    """Compare with torch's own spectral_norm, in evaluation mode so that its u and v stand still."""
    layer = nn.utils.parametrizations.spectral_norm(
        nn.Linear(5, 4, bias=False).double(), n_power_iterations=50
    )
    layer(normal(1, 5))
    layer.eval()
    parametrisation, original = layer.parametrizations.weight[0], layer.parametrizations.weight.original
    x, target = normal(10, 5), normal(10, 4, seed=1)
    (layer(x) - target).square().sum().backward()
    u, v = parametrisation._u, parametrisation._v
    weight = original.detach()
    sigma = u @ weight @ v
    assert sigma.item() == pytest.approx(torch.linalg.matrix_norm(weight, 2).item(), rel=1e-9)
    held = weight / sigma
    gradient = 2 * (x @ held.T - target).T @ x
    expected = (gradient - (gradient * held).sum() * torch.outer(u, v)) / sigma
    assert_close(original.grad, expected, **EXACT)


def matrix_of(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Return the matrix that a layer applies to an image, one column a pixel."""
    units = torch.eye(math.prod(shape), dtype=f64).view(-1, *shape)
    return layer(units).flatten(1).T.detach()


@pytest.mark.equation("wasserstein-conv-bounds", tolerance="1e-9")
@pytest.mark.parametrize(("k", "stride", "padding"), [(3, 1, 1), (4, 2, 1), (1, 1, 0), (5, 2, 2)])
def test_a_convolution_has_between_one_and_k_over_s_times_the_norm_of_its_kernel(k, stride, padding):
    """Write the matrices of random convolutions out and take their SVD; both ends are reached by special kernels."""
    ratios = []
    most = math.ceil(k / stride)
    for seed in range(4):
        torch.manual_seed(seed)
        conv = nn.Conv2d(2, 3, k, stride, padding, bias=False).double()
        reshaped = torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2)
        ratios.append((torch.linalg.matrix_norm(matrix_of(conv, (2, 8, 8)), 2) / reshaped).item())
    assert 1 - 1e-9 <= min(ratios) and max(ratios) <= most + 1e-9
    single = nn.Conv2d(1, 1, k, stride, padding, bias=False).double()
    nn.init.zeros_(single.weight)
    single.weight.data[0, 0, k // 2, k // 2] = 1.0
    assert torch.linalg.matrix_norm(matrix_of(single, (1, 8, 8)), 2).item() == pytest.approx(1, rel=1e-9)
    if padding and stride == 1:
        flat = nn.Conv2d(1, 1, k, 1, padding, bias=False, padding_mode="circular").double()
        nn.init.ones_(flat.weight)  # sigma(R) = k, sigma(A) = k^2, on the constant image
        assert torch.linalg.matrix_norm(matrix_of(flat, (1, 8, 8)), 2).item() == pytest.approx(
            k * k, rel=1e-9
        )


@pytest.mark.equation("wasserstein-conv-fourier", tolerance="1e-9")
def test_the_norm_of_a_periodic_convolution_is_that_of_its_largest_frequency():
    """Sum the kernel over offsets for each frequency of a 6x6 grid, and compare all singular values with the SVD."""
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, padding=1, bias=False, padding_mode="circular").double()
    frequencies = [2 * math.pi * a / 6 for a in range(6)]
    values = []
    for row, column in itertools.product(frequencies, repeat=2):
        symbol = sum(
            conv.weight.detach()[:, :, a, b] * np.exp(1j * (row * a + column * b))
            for a, b in itertools.product(range(3), repeat=2)
        )
        values.append(torch.linalg.svdvals(symbol))
    matrix = torch.linalg.svdvals(matrix_of(conv, (2, 6, 6)))
    assert_close(torch.cat(values).sort(descending=True).values, matrix, **EXACT)


def test_the_package_normalises_the_reshaped_kernel_as_the_chapter_says():
    """After many rounds each layer's reshaped weight has norm 1; the convolution itself may have up to 2."""
    torch.manual_seed(0)
    config = GANConfig("dcgan", (1, 8, 8), critic_width=4, max_width=4, normalise_critic="spectral")
    critic = Discriminator(config).double()
    for _ in range(200):
        critic(normal(2, 1, 8, 8))
    critic.eval()
    convolutions = [layer for layer in critic.modules() if isinstance(layer, nn.Conv2d)]
    assert convolutions
    for layer in convolutions:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-6)


# ---- R1, hinge, sigmoid ----------------------------------------------------------------------------------------


@pytest.mark.equation("wasserstein-sobolev", tolerance="1e-3")
def test_a_zero_centred_penalty_gives_a_squared_distance():
    """Maximise over critics made of 400 straight pieces, two normals and a density of points: slope and value."""
    gamma, edge, pieces = 0.7, 9.0, 400
    p, q, m = normal_law(0.0, 1.0), normal_law(0.8, 1.3), normal_law(0.0, 2.0)
    edges = np.linspace(-edge, edge, pieces + 1)
    # On a piece with slope s: E_p f - E_q f gains -s * integral of (F_p - F_q), and pays gamma / 2 * m * s^2.
    gap = np.array([quad(lambda t: p.cdf(t) - q.cdf(t), a, b)[0] for a, b in itertools.pairwise(edges)])
    mass = np.diff(m.cdf(edges))
    slopes = -gap / (gamma * mass)  # the summit of each parabola
    value = (-slopes * gap - gamma / 2 * mass * slopes**2).sum()
    middle = (edges[:-1] + edges[1:]) / 2
    near = np.abs(middle) < 3
    by_equation = -(p.cdf(middle) - q.cdf(middle)) / (gamma * m.pdf(middle))
    np.testing.assert_allclose(slopes[near], by_equation[near], rtol=1e-2, atol=1e-3)
    exact = quad(lambda t: (p.cdf(t) - q.cdf(t)) ** 2 / m.pdf(t), -edge, edge)[0] / (2 * gamma)
    assert value == pytest.approx(exact, rel=1e-3)
    # and the gain of a critic is what its equation says: E_p f - E_q f of f = tanh, by both integrals
    direct = quad(lambda t: math.tanh(t) * (p.pdf(t) - q.pdf(t)), -40, 40)[0]
    parts = -quad(lambda t: (1 - math.tanh(t) ** 2) * (p.cdf(t) - q.cdf(t)), -40, 40)[0]
    assert direct == pytest.approx(parts, rel=1e-6)


@pytest.mark.equation("wasserstein-sobolev", tolerance="1e-9")
def test_the_package_s_penalty_is_the_one_of_the_equation():
    """A quadratic critic on known points: half of gamma times the mean squared slope."""
    points = normal(50, 1)
    value = zero_centred_penalty(lambda x: 1.5 * x.square().sum(1), points)
    assert_close(value, 9 * points[:, 0].square(), **EXACT)


@pytest.mark.equation("wasserstein-hinge", "wasserstein-sigmoid", tolerance="1e-9")
def test_hinge_and_a_sigmoid_measure_total_variation():
    """Search the best score at each of six points on a grid that holds the corners, with the package's hinge."""
    p, q = weights(6, 0), weights(6, 3)
    variation = 0.5 * (p - q).abs().sum()
    scores = torch.linspace(-3, 3, 121, dtype=f64)
    nothing = torch.full_like(scores, -1.0), torch.full_like(scores, 1.0)
    real = discriminator_loss(scores, nothing[0], loss="hinge")  # the other half is 0 there
    fake = discriminator_loss(nothing[1], scores, loss="hinge")
    best = (p[:, None] * real + q[:, None] * fake).min(1).values.sum()
    assert_close(best, 2 - 2 * variation, **EXACT)
    assert_close(best, 2 * torch.minimum(p, q).sum(), **EXACT)
    corners = itertools.product([0.0, 1.0], repeat=6)  # a linear gain over a box is largest at a corner
    most = max(((p - q) @ torch.tensor(f, dtype=f64)).item() for f in corners)
    assert most == pytest.approx(variation.item(), rel=1e-9)


@pytest.mark.equation("wasserstein-hinge-held", tolerance="1e-9")
@pytest.mark.parametrize("theta", [0.3, -1.2, 2.0, 7.0])
def test_a_held_hinge_counts_down_from_two_and_is_flat_beyond(theta):
    """Minimise over all pairs of scores that differ by at most theta, on a grid that holds the best."""
    scores = torch.linspace(-8, 8, 641, dtype=f64)
    real, fake = torch.meshgrid(scores, scores, indexing="ij")
    loss = discriminator_loss(real.flatten(), fake.flatten(), loss="hinge").view_as(real)
    allowed = (real - fake).abs() <= abs(theta) + 1e-9
    assert loss[allowed].min().item() == pytest.approx(max(0.0, 2 - abs(theta)), abs=0.026)
    middle = abs(theta) / 2  # the best two scores, put in by hand
    pair = torch.tensor([min(middle, 4.0)], dtype=f64)
    exact = discriminator_loss(pair, -pair, loss="hinge").item()
    assert exact == pytest.approx(max(0.0, 2 - abs(theta)), abs=1e-9)


# ---- two time scales -------------------------------------------------------------------------------------------


def game(a: float, b: float, gamma: float) -> Tensor:
    return torch.tensor([[1 - a * gamma, -a], [b, 1]], dtype=f64)


@pytest.mark.equation("wasserstein-game", tolerance="1e-12")
def test_one_step_of_both_players_is_the_matrix():
    """Take gradients of both players' losses, with the package's losses and penalty, and step both at once."""
    a, b, gamma = 0.3, 0.05, 0.7
    w, theta = torch.tensor([0.4], dtype=f64), torch.tensor([-1.3], dtype=f64)
    w.requires_grad_(), theta.requires_grad_()
    real = torch.zeros(1, 1, dtype=f64)
    critic = lambda x: (w * x).sum(1)  # noqa: E731
    loss = discriminator_loss(critic(real), critic(theta[None].detach()), loss="wasserstein")
    loss = loss + gamma / 2 * zero_centred_penalty(critic, real)
    (step_w,) = torch.autograd.grad(loss.sum(), w)
    (step_theta,) = torch.autograd.grad(-critic(theta[None]).sum(), theta)
    after = torch.cat([w - a * step_w, theta - b * step_theta])
    assert_close(after, game(a, b, gamma) @ torch.cat([w, theta]), rtol=1e-12, atol=1e-12)


@pytest.mark.equation("wasserstein-ttur", tolerance="every case decided as the eigenvalues decide")
def test_the_condition_on_the_rates_is_that_of_the_eigenvalues():
    """Go through 2,700 settings; the condition holds exactly where the largest eigenvalue is below 1."""
    both = {True: 0, False: 0}
    for gamma in (0.1, 0.5, 2.0):
        for a, b in itertools.product(np.linspace(0.03, 45, 30), np.linspace(0.013, 2.9, 30)):
            largest = torch.linalg.eigvals(game(a, b, gamma)).abs().max().item()
            stable = b < gamma and a * (2 * gamma - b) < 4
            if abs(largest - 1) > 1e-9:
                assert stable == (largest < 1), (a, b, gamma)
                both[stable] += 1
    assert min(both.values()) > 50


def turns(a: float, b: float, gamma: float) -> Tensor:
    """Return the step of players that alternate: the critic's, then the generator's."""
    answer = torch.tensor([[1, 0], [b, 1]], dtype=f64)
    return answer @ torch.tensor([[1 - a * gamma, -a], [0, 1]], dtype=f64)


@pytest.mark.equation("wasserstein-alternating", tolerance="every case decided as the eigenvalues decide")
def test_players_that_alternate_converge_under_one_condition():
    """Play it with the new weight of the critic; the matrix does the same, and its eigenvalues obey the condition."""
    a, b, gamma, w, theta = 0.3, 0.9, 0.7, 0.4, -1.3
    new_w = w - a * (theta + gamma * w)
    expected = torch.tensor([new_w, theta + b * new_w], dtype=f64)
    assert_close(turns(a, b, gamma) @ torch.tensor([w, theta], dtype=f64), expected, **EXACT)
    both, freed = {True: 0, False: 0}, 0
    for gamma in (0.1, 0.5, 2.0):
        for a, b in itertools.product(np.linspace(0.03, 45, 30), np.linspace(0.013, 2.9, 30)):
            largest = torch.linalg.eigvals(turns(a, b, gamma)).abs().max().item()
            stable = a * (2 * gamma + b) < 4
            if abs(largest - 1) > 1e-9:
                assert stable == (largest < 1), (a, b, gamma)
                both[stable] += 1
                freed += stable and b > gamma
    assert min(both.values()) > 20 and freed > 5


@pytest.mark.equation("wasserstein-swing", tolerance="every case decided as the eigenvalues decide")
@pytest.mark.parametrize("gamma", [0.3, 1.0])
def test_there_are_no_swings_where_the_critic_is_fast_enough(gamma):
    """At once: the eigenvalues are real exactly under the condition. Alternating: real wherever it holds."""
    both = {True: 0, False: 0}
    for a, b in itertools.product(np.linspace(0.05, 1.9 / gamma, 40), np.linspace(0.001, gamma, 40)):
        calm = b <= gamma**2 * a / 4
        real = torch.linalg.eigvals(game(a, b, gamma)).imag.abs().max().item() < 1e-6
        assert calm == real, (a, b)
        both[calm] += 1
        if calm:
            assert torch.linalg.eigvals(turns(a, b, gamma)).imag.abs().max() < 1e-6
    assert min(both.values()) > 50


@pytest.mark.equation("wasserstein-slow", tolerance="b^2")
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_a_slow_generator_descends_what_the_best_critic_says(gamma):
    """The larger eigenvalue is 1 - b / gamma - b^2 / (a gamma^3) but for higher orders; a run goes as it says."""
    a = 0.4
    for b in (0.01, 0.005, 0.001):
        eigenvalues = torch.linalg.eigvals(game(a, b, gamma))
        assert eigenvalues.imag.abs().max() < 1e-12
        rest = eigenvalues.real.max().item() - (1 - b / gamma)
        second = -(b**2) / (a * gamma**3)
        assert rest == pytest.approx(second, rel=b * 5 / (a * gamma**2))
    state = torch.tensor([3.0, 1.0], dtype=f64)
    for _ in range(1000):
        state = game(a, 0.001, gamma) @ state
    assert state[1].abs() > 1e-3
    assert state[0].item() == pytest.approx(-state[1].item() / gamma, rel=0.02)  # the critic's best answer
