"""The derivation of restorers that are trained: what their losses aim at, what they are told, what a critic adds."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal
from torch.nn.functional import conv2d, softplus
from torch.testing import assert_close

from imagegen import objectives as ob
from imagegen.degrade import Downsample, consistent
from imagegen.layers import ResidualBlock
from imagegen.pair import Pair, PairConfig
from imagegen.restore import Estimator, PatchDiscriminator, RestorerConfig

EXACT = {"rtol": 1e-9, "atol": 1e-9}
f64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=f64)


def covariance(dim: int, seed: int = 0) -> Tensor:
    a = normal(dim, dim, seed=seed)
    return a @ a.T / dim + 0.05 * torch.eye(dim, dtype=f64)


def table(n_x: int, n_t: int, n_y: int, dim: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return values x (n_x, dim) and a joint distribution (n_x, n_t, n_y) of x, damage and y, all at random."""
    joint = normal(n_x, n_t, n_y, seed=seed).exp()
    return normal(n_x, dim, seed=seed + 1), joint / joint.sum()


def jsd(p: Tensor, q: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of two distributions over the last dimension."""
    m = (p + q) / 2
    return 0.5 * (torch.xlogy(p, p / m) + torch.xlogy(q, q / m)).nan_to_num().sum(-1)


def best_value(p: Tensor, q: Tensor) -> float:
    """Return V of the best critic of two distributions over a few points, found by descent on its logits."""
    logits = torch.zeros_like(p, requires_grad=True)
    solver = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

    def loss() -> Tensor:
        solver.zero_grad()
        value = (p * softplus(-logits) + q * softplus(logits)).sum()
        value.backward()
        return value

    solver.step(loss)
    return -loss().item()


# ---- the floor -------------------------------------------------------------------------------------------------


@pytest.mark.equation("restorers-risk", tolerance="1e-9")
def test_the_risk_is_a_distance_to_the_mean_and_a_floor():
    """In a table of all cases, for a function at random: the two parts add up to the risk."""
    x, joint = table(5, 1, 4)
    joint, f = joint[:, 0], normal(4, 3, seed=7)
    p_y = joint.sum(0)
    means = joint.T @ x / p_y[:, None]  # (4, 3)
    risk = (joint * (x[:, None] - f).square().sum(-1)).sum()
    mmse = (joint * (x[:, None] - means).square().sum(-1)).sum()
    assert_close(risk, p_y @ (f - means).square().sum(1) + mmse, **EXACT)


@pytest.mark.equation("restorers-gap", tolerance="4 standard errors")
def test_training_stays_below_the_floor_and_new_images_above():
    """Least squares of a Gaussian pair: (1 - d / N) MMSE in the mean on its examples, as the theory of regression says.

    For new ones that are drawn anew it is (1 + d / (N - d - 1)) MMSE.
    """
    d, n, draws = 5, 30, 2000
    x = normal(draws, n, 1)
    y = x + normal(draws, n, d, seed=1)
    mmse = 1 / (1 + d)  # precisions add
    fit = torch.linalg.lstsq(y, x).solution
    shown = (y @ fit - x).square().mean((1, 2))
    best = torch.full((d,), 1 / (1 + d), dtype=f64)
    excess = fit[..., 0] - best
    law = torch.eye(d, dtype=f64) + 1  # covariance of y
    new = mmse + torch.einsum("bi,ij,bj->b", excess, law, excess)
    for value, factor in ((shown, 1 - d / n), (new, 1 + d / (n - d - 1))):
        error = value.std() / draws**0.5
        assert error < 0.02 * mmse and abs(value.mean() - factor * mmse) < 4 * error
    of_best = (y @ best[:, None] - x).square().mean((1, 2))
    assert (shown <= of_best + 1e-12).all()  # on each set of examples, not only in the mean


# ---- the residual and the start --------------------------------------------------------------------------------


@pytest.mark.equation("restorers-residual", tolerance="1e-9")
def test_what_is_taken_off_is_the_mean_of_the_noise_and_a_gradient():
    """For a mixture of three points, by Bayes' rule and by autograd through the log-density."""
    points, weights, sigma = normal(3, 2), torch.tensor([0.2, 0.5, 0.3], dtype=f64), 0.6
    y = normal(6, 2, seed=1).requires_grad_()
    score = weights.log() - torch.cdist(y, points).square() / (2 * sigma**2)
    posterior = torch.softmax(score, 1)
    noise = torch.einsum("bk,bkd->bd", posterior, y[:, None] - points)
    (slope,) = torch.autograd.grad(torch.logsumexp(score, 1).sum(), y)
    assert_close(noise, y - posterior @ points, **EXACT)
    assert_close(noise, -(sigma**2) * slope, **EXACT)


@pytest.mark.equation("restorers-start", tolerance="1e-9")
@pytest.mark.parametrize("network", ["denoiser", "unet"])
def test_a_new_restorer_does_nothing_and_moves_its_last_layer_first(network):
    """The loss is |n|^2, the last layer's gradient that of -2 n by its features, and all others have none."""
    net = Estimator(RestorerConfig(network=network, image_shape=(1, 8, 8), width=4, noise=True)).to(f64)
    x, n = normal(3, 1, 8, 8), 0.5 * normal(3, 1, 8, 8, seed=1)
    last, found = net.body.last if network == "unet" else net.body[-1], []
    last.register_forward_pre_hook(lambda _, given: found.append(given[0].detach()))
    loss = (net(x + n, sigma=0.5) - x).square().sum()
    loss.backward()
    assert_close(loss, n.square().sum(), **EXACT)
    weight = last.weight.detach().clone().requires_grad_()
    (by_hand,) = torch.autograd.grad((-2 * n * conv2d(found[0], weight, padding=1)).sum(), weight)
    assert_close(last.weight.grad, by_hand, **EXACT)
    others = [p for p in net.parameters() if p is not last.weight and p is not last.bias]
    assert all(p.grad is None or not p.grad.any() for p in others) and last.bias.grad.any()


@pytest.mark.equation("restorers-copy", tolerance="1e-6")
@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_copying_a_noisy_pixel_costs_the_fisher_information_more(sigma):
    """For two lumps, all three means by quadrature; and for a Gaussian by its closed form."""
    nodes = torch.linspace(-9, 9, 6001, dtype=f64)
    step = nodes[1] - nodes[0]

    def density(at: Tensor, mean: float, var: float) -> Tensor:
        return torch.exp(-((at - mean) ** 2) / (2 * var)) / math.sqrt(2 * math.pi * var)

    lumps = ((0.6, -1.0, 0.04), (0.4, 1.5, 0.25))  # share, mean, variance
    p_y = sum(a * density(nodes, m, v + sigma**2) for a, m, v in lumps)
    slope = sum(-a * (nodes - m) / (v + sigma**2) * density(nodes, m, v + sigma**2) for a, m, v in lumps)
    second = torch.zeros_like(nodes)
    first = torch.zeros_like(nodes)
    for a, m, v in lumps:  # the posterior of each lump is normal
        mean = m + v / (v + sigma**2) * (nodes - m)
        part = a * density(nodes, m, v + sigma**2) / p_y
        first += part * mean
        second += part * (mean**2 + v * sigma**2 / (v + sigma**2))
    variance = ((second - first**2) * p_y).sum() * step
    fisher = ((slope / p_y) ** 2 * p_y).sum() * step
    assert math.isclose(variance + sigma**4 * fisher, sigma**2, rel_tol=1e-6)
    assert sigma**4 * fisher > 0.01 * sigma**2
    lam = 0.7
    assert math.isclose(lam * sigma**2 / (lam + sigma**2) + sigma**4 / (lam + sigma**2), sigma**2)


# ---- what it is told -------------------------------------------------------------------------------------------


@pytest.mark.equation("restorers-untold", "restorers-price", tolerance="1e-9, by enumeration")
def test_an_untold_restorer_averages_the_told_ones_and_pays_their_spread():
    """In a table of x, damage and y: the untold mean is the mixture, and the difference of both risks the spread."""
    x, joint = table(5, 3, 4)
    p_ty = joint.sum(0)  # (3, 4)
    each = torch.einsum("xty,xd->tyd", joint, x) / p_ty[..., None]
    p_t_given_y = p_ty / p_ty.sum(0)
    direct = torch.einsum("xty,xd->yd", joint, x) / p_ty.sum(0)[:, None]
    prior, likelihood = p_ty.sum(1), p_ty / p_ty.sum(1, keepdim=True)
    bayes = prior[:, None] * likelihood / (prior[:, None] * likelihood).sum(0)
    assert_close(p_t_given_y, bayes, **EXACT)
    assert_close(direct, torch.einsum("ty,tyd->yd", bayes, each), **EXACT)
    told = (joint[..., None] * (x[:, None, None] - each).square()).sum()
    untold = (joint[..., None] * (x[:, None, None] - direct).square()).sum()
    spread = (p_ty[..., None] * (each - direct).square()).sum()
    assert_close(untold, told + spread, **EXACT)
    assert spread > 0.01 * told


@pytest.mark.equation("restorers-wrong", tolerance="1e-9")
def test_the_price_of_a_wrong_sigma_is_least_at_the_right_one():
    """Beside the risk of the gains as matrices, its slope by autograd, and both ends."""
    lam, sigma = covariance(6).diagonal() + 0.1, 0.5
    for tau in (0.05, 0.3, 0.5, 1.2):
        t2 = torch.tensor(tau**2, dtype=f64, requires_grad=True)
        gain = torch.diag(lam / (lam + t2))
        off = gain - torch.eye(6, dtype=f64)
        risk = (off @ torch.diag(lam) @ off.T).trace() + sigma**2 * (gain @ gain.T).trace()
        formula = ((lam * t2**2 + lam**2 * sigma**2) / (lam + t2) ** 2).sum()
        assert_close(risk, formula, **EXACT)
        (slope,) = torch.autograd.grad(risk, t2)
        assert_close(slope, (2 * lam**2 * (t2 - sigma**2) / (lam + t2) ** 3).sum(), **EXACT)
        assert (slope < -1e-3) == (tau < sigma) and (slope.abs() < 1e-9) == (tau == sigma)
    for tau, end in ((1e-4, 6 * sigma**2), (1e4, lam.sum().item())):
        assert math.isclose(
            ((lam * tau**4 + lam**2 * sigma**2) / (lam + tau**2) ** 2).sum(), end, rel_tol=1e-6
        )


# ---- where it is -----------------------------------------------------------------------------------------------


def ring(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of signals of six values on a ring that differ from place to place."""
    return normal(6, seed=seed), covariance(6, seed=seed + 1)


@pytest.mark.equation("restorers-shift", tolerance="1e-9; 4 standard errors")
def test_an_equivariant_restorer_does_as_well_on_images_that_were_moved():
    """A linear one exactly, a network of wrapped convolutions by Monte Carlo; and no such one beats the moved law's."""
    mean, cov = ring()
    kernel, sigma = normal(6, seed=5) / 3, 0.4
    F = torch.stack([kernel.roll(s) for s in range(6)])  # a circulant: equivariant

    def risk(mean: Tensor, cov: Tensor) -> Tensor:
        off = F - torch.eye(6, dtype=f64)
        return (off @ cov @ off.T).trace() + sigma**2 * F.square().sum() + (off @ mean).square().sum()

    moved = torch.stack([risk(mean.roll(s), cov.roll((s, s), (0, 1))) for s in range(6)])
    assert_close(moved, moved[:1].expand(6), **EXACT)
    second = cov + torch.outer(mean, mean)
    spread = torch.stack([second.roll((s, s), (0, 1)) for s in range(6)]).mean(0)
    least = (spread - spread @ torch.linalg.solve(spread + sigma**2 * torch.eye(6), spread)).trace()
    assert moved[0] > least  # even linear ones without an offset
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(1, 4, 3, padding=1, padding_mode="circular"), nn.SiLU(),
        nn.Conv1d(4, 1, 3, padding=1, padding_mode="circular"),
    ).to(f64)  # fmt: skip
    y = normal(2, 1, 6)
    assert_close(net(y.roll(2, -1)), net(y).roll(2, -1), **EXACT)
    x = MultivariateNormal(mean, cov).sample((39_996,))
    n = sigma * normal(39_996, 6, seed=8)
    with torch.no_grad():
        errors = [
            (net((part + n)[:, None])[:, 0] - part).square().sum(1)
            for part in (x, torch.cat([x[i::6].roll(i, 1) for i in range(6)]))
        ]
    gap = errors[0].mean() - errors[1].mean()
    error = (errors[0].var() + errors[1].var()).sqrt() / 200
    assert error < 0.02 * errors[0].mean() and gap.abs() < 4 * error


@pytest.mark.equation("restorers-places", tolerance="1e-6")
def test_a_map_of_places_is_a_bias_that_differs_from_place_to_place():
    """Beside a convolution in loops; at 0 the network is the one without maps, and elsewhere it is not equivariant."""
    x, w, b, m = normal(1, 2, 5, 5), normal(3, 2, 3, 3, seed=1), normal(3, seed=2), normal(3, 5, 5, seed=3)
    h = conv2d(x, w, b) + m[:, 1:-1, 1:-1]
    for c, i, j in itertools.product(range(3), range(1, 4), range(1, 4)):
        terms = [w[c, k, a + 1, e + 1] * x[0, k, i + a, j + e]
                 for k in range(2) for a in (-1, 0, 1) for e in (-1, 0, 1)]  # fmt: skip
        assert_close(h[0, c, i - 1, j - 1], sum(terms) + b[c] + m[c, i, j], rtol=1e-9, atol=1e-9)
    torch.manual_seed(0)
    net = Estimator(RestorerConfig(image_shape=(1, 16, 16), width=4, levels=1, places=True))
    bare = Estimator(RestorerConfig(image_shape=(1, 16, 16), width=4, levels=1))
    for module in net.modules():
        if isinstance(module, ResidualBlock):
            nn.init.normal_(module.inner[-1].weight, std=0.1)
    nn.init.normal_(net.body.last.weight, std=0.3)
    bare.load_state_dict({k: v for k, v in net.state_dict().items() if "places" not in k})
    y = torch.randn(1, 1, 16, 16, generator=seeded())
    assert_close(net(y), bare(y))
    first, seen = net.body.places[0], []
    nn.init.normal_(first)
    net.body.before[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    changed = net(y)
    assert_close(seen[0], net.body.first(y) + first)
    assert (changed - bare(y)).abs().max() > 1e-3


# ---- small images ----------------------------------------------------------------------------------------------


@pytest.mark.equation("restorers-consistent", tolerance="1e-9")
@pytest.mark.parametrize("kernel", ["average", "bicubic"])
def test_the_misfit_to_what_was_measured_bounds_the_distance_to_the_best_answer(kernel):
    """For a Gaussian whose best answer is known: it fits y, the bound holds for random answers, and so does the fix."""
    shrink = Downsample(2, kernel)
    units = torch.eye(16, dtype=f64).view(16, 1, 4, 4)
    A = shrink(units).flatten(1).T
    cov, x = covariance(16), normal(5, 16, seed=3)
    best = x @ A.T @ torch.linalg.solve(A @ cov @ A.T, A @ cov)
    best, y = best.view(5, 1, 4, 4), shrink(x.view(5, 1, 4, 4))
    assert_close(shrink(best), y, **EXACT)
    answer = normal(5, 1, 4, 4, seed=4)
    misfit = shrink.pinv(shrink(answer) - y)
    assert_close(misfit, shrink.pinv(shrink(answer - best)), **EXACT)
    assert (misfit.square().sum((1, 2, 3)) <= (answer - best).square().sum((1, 2, 3)) + 1e-9).all()
    fixed = consistent(answer, y, shrink)
    assert_close(fixed, answer + shrink.pinv(y - shrink(answer)), **EXACT)
    assert_close(shrink(fixed), y, **EXACT)


# ---- features --------------------------------------------------------------------------------------------------


def smooth_maps(x: Tensor) -> Tensor:
    """Return four smooth features of points (B, 3)."""
    w = normal(3, 4, seed=11)
    return torch.tanh(x @ w) + 0.3 * (x @ w).square()


@pytest.mark.equation("restorers-feature", tolerance="third order")
def test_the_feature_loss_is_a_metric_up_to_third_order():
    """Half the step leaves an eighth of the difference; a direction that no feature sees costs nothing at all."""
    x, step = normal(1, 3, seed=2), normal(1, 3, seed=3)
    J = torch.autograd.functional.jacobian(lambda t: smooth_maps(t)[0], x)[:, 0]
    rests = []
    for size in (2e-2, 1e-2):
        v = size * step
        loss = (smooth_maps(x + v) - smooth_maps(x)).square().sum()
        rests.append((loss - v[0] @ J.T @ J @ v[0]).abs())
        assert rests[-1] < 0.1 * loss
    assert 7 < rests[0] / rests[1] < 9
    image = normal(2, 1, 6, 6)
    blind = [image.diff(dim=-1)]  # maps that do not see brightness
    assert ob.feature_loss([(image + 0.3).diff(dim=-1)], blind).abs().max() < 1e-12
    assert ob.pixel_loss(image + 0.3, image).min() > 0.08


@pytest.mark.equation("restorers-metric", tolerance="1e-9")
def test_a_fixed_metric_has_the_same_best_answer_and_a_bent_one_has_not():
    """In a table, for answers at random; the slope at the mean is 0 for M, and not for smooth features."""
    x, w = normal(6, 3), torch.softmax(normal(6, seed=1), 0)
    mean = w @ x
    cov = (w[:, None, None] * (x - mean)[:, :, None] * (x - mean)[:, None]).sum(0)
    J = normal(2, 3, seed=4)  # two features of three: one direction is blind
    M = J.T @ J + 0.1 * torch.eye(3, dtype=f64)
    for f in normal(4, 3, seed=5):
        left = w @ torch.einsum("bi,ij,bj->b", x - f, M, x - f)
        assert_close(left, (f - mean) @ M @ (f - mean) + (M @ cov).trace(), **EXACT)
    f = mean.clone().requires_grad_()
    fixed = w @ torch.einsum("bi,ij,bj->b", x - f, M, x - f)
    bent = w @ (smooth_maps(x) - smooth_maps(f[None])).square().sum(1)
    (level,), (slope,) = (torch.autograd.grad(risk, f) for risk in (fixed, bent))
    assert level.norm() < 1e-9 and slope.norm() > 1e-2  # of the second the mean is not the best answer


# ---- the critic ------------------------------------------------------------------------------------------------


@pytest.mark.equation("restorers-game", tolerance="1e-8, the best critic by descent")
def test_the_best_critic_adds_a_divergence_of_laws_to_the_error():
    """Over few images and damages: the law of what comes out, the best critic found by descent, the divergence."""
    joint = normal(4, 3, seed=1).exp()
    joint = joint / joint.sum()
    p, dice = joint.sum(1), torch.softmax(normal(3, 4, seed=2), 1)  # how often each image answers each y
    p_f = joint.sum(0) @ dice
    assert math.isclose(best_value(p, p_f), (2 * jsd(p, p_f) - math.log(4)).item(), abs_tol=1e-8)
    errors = {}
    images = normal(4, 2, seed=3)
    for f in itertools.product(range(4), repeat=3):
        law = torch.zeros(4, dtype=f64).index_add(0, torch.tensor(f), joint.sum(0))
        error = (joint * (images[:, None] - images[list(f)]).square().sum(-1)).sum()
        errors[f] = (error.item(), jsd(p, law).item())
    best = [min(errors.values(), key=lambda e: e[0] + w * 2 * e[1]) for w in (0.0, 1.0, 10.0, 1e4)]
    assert all(a[0] <= b[0] and a[1] >= b[1] for a, b in itertools.pairwise(best))
    assert best[-1][1] < best[0][1] and best[-1][0] > best[0][0]


@pytest.mark.equation("restorers-lagrange", tolerance="1e-6")
@pytest.mark.parametrize("w", [0.1, 1.0, 5.0])
def test_the_least_of_error_and_distance_is_the_mix_of_mean_and_sharpest(w):
    """For a Gaussian, over all gains of its eigenvectors by descent; both parts as the formula says."""
    lam, sigma = torch.tensor([0.05, 0.4, 2.0], dtype=f64), 0.6
    mean = lam / (lam + sigma**2)
    gain = mean.clone().requires_grad_()
    solver = torch.optim.LBFGS([gain], max_iter=300, tolerance_grad=1e-13, tolerance_change=1e-16)

    def parts(gain: Tensor) -> tuple[Tensor, Tensor]:
        power = gain**2 * (lam + sigma**2)
        return (lam - 2 * gain * lam + power).sum(), (lam.sqrt() - power.sqrt()).square().sum()

    def loss() -> Tensor:
        solver.zero_grad()
        error, distance = parts(gain)
        value = error + w * distance
        value.backward()
        return value

    solver.step(loss)
    error, distance = parts(gain.detach())
    mmse, star = parts(mean)
    assert_close(gain.detach(), (w * mean.sqrt() + mean) / (1 + w), rtol=1e-6, atol=1e-6)
    assert_close(distance, star / (1 + w) ** 2, rtol=1e-6, atol=1e-9)
    assert_close(error, mmse + (w / (1 + w)) ** 2 * star, rtol=1e-6, atol=1e-9)


@pytest.mark.equation("restorers-stranger", tolerance="1e-9, by enumeration")
def test_a_stranger_has_the_right_law_and_twice_the_variance_for_error():
    """Over all pairs of a few images; the constant mean image errs by half as much."""
    x, p = normal(6, 3), torch.softmax(normal(6, seed=1), 0)
    cov = torch.cov(x.T, aweights=p, correction=0)
    error = torch.einsum("i,j,ij->", p, p, torch.cdist(x, x).square())
    assert_close(error, 2 * cov.trace(), **EXACT)
    assert_close(p @ (x - p @ x).square().sum(1), cov.trace(), **EXACT)
    assert jsd(p, p) < 1e-12


# ---- patches ---------------------------------------------------------------------------------------------------


@pytest.mark.equation("restorers-reach", tolerance="exact")
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_what_one_logit_sees_by_walking_backwards_and_by_autograd(layers):
    """The extent of the middle logit's gradient is what the recursion says, and what the config says."""
    config = RestorerConfig(image_shape=(1, 80, 80), critic_width=2, critic_layers=layers)
    critic = PatchDiscriminator(config).to(f64)
    x = normal(1, 1, 80, 80).requires_grad_()
    logits = critic(x)
    middle = logits.shape[-1] // 2
    (slope,) = torch.autograd.grad(logits[0, middle, middle], x)
    size = 1
    for kernel, stride in [(3, 1)] + [(4, 2)] * layers:
        size = (size - 1) * stride + kernel
    for axis in (0, 1):
        there = slope[0, 0].abs().sum(1 - axis).nonzero()
        assert there.max() - there.min() + 1 == size == config.patch
    assert size == {1: 8, 2: 18, 3: 38}[layers]


@pytest.mark.equation("restorers-patch", tolerance="1e-9")
@pytest.mark.parametrize("seed", range(5))
def test_a_critic_of_patches_asks_for_no_more_than_one_of_pictures(seed):
    """For laws of pictures of 3 values out of 3 and patches of 2: the three divergences in order, by enumeration."""
    p, q = (torch.softmax(2 * normal(27, seed=2 * seed + k), 0).view(3, 3, 3) for k in (0, 1))
    patches = [torch.stack([law.sum(2).flatten(), law.sum(0).flatten()]) for law in (p, q)]
    whole = jsd(p.flatten(), q.flatten())
    apart = jsd(*patches).mean()
    mixed = jsd(*(part.mean(0) for part in patches))
    assert mixed <= apart + 1e-12 <= whole + 2e-12
    assert whole > 1.01 * apart > 1.01 * mixed  # and neither is the other


@pytest.mark.equation("restorers-signs", tolerance="1e-9; 4 standard errors")
def test_random_signs_give_the_squared_gradient_of_every_logit():
    """All 16 patterns of four overlapping patches, exactly; the package's draws, by their own standard error."""
    torch.manual_seed(0)
    critic = PatchDiscriminator(RestorerConfig(image_shape=(1, 8, 8), critic_width=8)).to(f64)
    x = normal(1, 1, 8, 8).requires_grad_()
    logits = critic(x).flatten()
    slopes = torch.stack([torch.autograd.grad(s, x, retain_graph=True)[0].flatten() for s in logits])
    patterns = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4)), dtype=f64)
    wanted = slopes.square().sum()
    assert_close((patterns @ slopes).square().sum(1).mean(), wanted, **EXACT)
    assert abs(slopes.sum(0).square().sum() / wanted - 1) > 0.02  # the plain sum is another number
    draws = ob.patch_penalty(critic, x.detach().expand(1000, -1, -1, -1), generator=seeded())
    error = draws.std() / 1000**0.5
    assert error < 0.05 * wanted / 4 and (draws.mean() - wanted / 4).abs() < 4 * error


# ---- three players ---------------------------------------------------------------------------------------------


@pytest.mark.equation("restorers-pair", tolerance="exact zeros")
def test_each_of_three_players_is_moved_by_its_own_loss():
    """The losses as written, through the pair: no gradient of the restorer's reaches the generator, though it could."""
    torch.manual_seed(0)
    pair = Pair(PairConfig())
    generator, critic, restorer = pair.gan.generator, pair.gan.discriminator, pair.estimator
    nn.init.normal_(restorer.body.last.weight, std=0.1)
    x = torch.rand(2, *pair.config.image_shape, generator=seeded()) * 2 - 1
    known, sigma = torch.ones(1, 1, *x.shape[2:], dtype=torch.bool), 0.4
    n = sigma * torch.randn(x.shape, generator=seeded(1))
    drawn = generator(pair.gan.draw(2, generator=seeded(2)))
    still = drawn.detach()
    answer = restorer(x + n, known, sigma)

    def reached(loss: Tensor) -> list[bool]:
        found = []
        for player in (generator, critic, restorer):
            grads = torch.autograd.grad(loss, list(player.parameters()), retain_graph=True, allow_unused=True)
            found.append(any(g is not None and bool(g.any()) for g in grads))
        return found

    halves = [ob.discriminator_loss(critic(x), critic(t.detach())) for t in (drawn, answer)]
    distances = [ob.pixel_loss(answer, x), ob.pixel_loss(restorer(still + n, known, sigma), still)]
    assert reached((sum(halves) / 2).mean()) == [False, True, False]
    assert reached(sum(distances).mean()) == [False, False, True]
    leaky = ob.pixel_loss(restorer(drawn + n, known, sigma), drawn).mean()
    assert reached(leaky)[0]  # what the detach prevents
    assert reached(ob.generator_loss(critic(answer)).mean()) == [False, True, True]
    assert reached(ob.generator_loss(critic(drawn)).mean()) == [True, True, False]


@pytest.mark.equation("restorers-pair-optimal", tolerance="1e-6, the best critic by descent")
def test_a_shared_critic_judges_the_mixture_of_both_makers():
    """Over few images; two laws that are not the images' may have it for their mixture, and then V is the least."""
    p, g, r = (torch.softmax(normal(5, seed=s), 0) for s in range(3))
    mixture = (g + r) / 2
    best = p / (p + mixture)
    value = (p * best.log()).sum() + 0.5 * (g * (1 - best).log()).sum() + 0.5 * (r * (1 - best).log()).sum()
    assert_close(value, 2 * jsd(p, mixture) - math.log(4), **EXACT)
    assert math.isclose(best_value(p, mixture), value.item(), abs_tol=1e-6)
    shift = 0.5 * p.min() * torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0], dtype=f64)
    other_g, other_r = p + shift, p - shift
    assert min(other_g.min(), other_r.min()) > 0 and jsd(other_g, p) > 1e-4
    assert math.isclose(best_value(p, (other_g + other_r) / 2), -math.log(4), abs_tol=1e-9)
