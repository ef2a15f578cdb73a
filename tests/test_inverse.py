"""A generator as a prior: modes, chains and codes beside the cases whose answer is known exactly."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.testing import assert_close

from imagegen import degrade
from imagegen.degrade import Blur, Downsample, Identity, Mask
from imagegen.inverse import Filled, LatentPosterior, effective_size, fill, langevin, linearised, search
from imagegen.prior import Prior, PriorConfig

EXACT = {"rtol": 1e-9, "atol": 1e-9}
SIDE, DIM = 6, 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def linear(z: Tensor) -> Tensor:
    """W z + b as images of one channel, W of unlike columns."""
    w = normal(DIM, SIDE * SIDE, seed=1) * torch.tensor([[0.3], [0.1], [0.03]], dtype=torch.float64)
    return (z @ w + normal(SIDE * SIDE, seed=2)).view(-1, 1, SIDE, SIDE)


def bent(z: Tensor) -> Tensor:
    """No linear generator: one pixel of one latent."""
    return (z + torch.sin(2 * z)).view(-1, 1, 1, 1)


def masks() -> Mask:
    """Another hole in each of two images."""
    return Mask(degrade.box((2, 1, SIDE, SIDE), (3, 4), generator=seeded(5)))


OPERATORS = {
    "noise": Identity(),
    "hole": masks(),
    "small": Downsample(3),
    "blur": Blur(degrade.gaussian_kernel(0.7, radius=2)),
}


def problem(name: str = "hole", sigma: float | Tensor = 0.3) -> LatentPosterior:
    operator = OPERATORS[name]
    x = linear(normal(2, DIM, seed=3))
    y = operator(x + 0.3 * normal(2, 1, SIDE, SIDE, seed=4))
    return LatentPosterior(linear, operator, y, sigma)


def exact(posterior: LatentPosterior) -> tuple[Tensor, Tensor]:
    """Return mean (B, D) and covariance (B, D, D) by the formula that inverts a matrix of the size of y."""
    zero = linear(torch.zeros(1, DIM, dtype=torch.float64))
    columns = linear(torch.eye(DIM, dtype=torch.float64)) - zero
    means, covs = [], []
    for b in range(2):
        operator = posterior.operator
        if isinstance(operator, Mask):
            operator = Mask(operator.known[b : b + 1])
        a = operator(columns).flatten(1).T  # (M, D)
        gain = a.T @ torch.linalg.inv(a @ a.T + posterior.sigma**2 * torch.eye(len(a)).double())
        means.append(gain @ (posterior.y[b : b + 1] - operator(zero)).flatten())
        covs.append(torch.eye(DIM).double() - gain @ a)
    return torch.stack(means), torch.stack(covs)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_energy_is_minus_the_log_of_likelihood_and_prior(name):
    """Beside torch's densities, up to one constant for all latents; what a mask hides says nothing."""
    posterior, z = problem(name), normal(4, 2, DIM, seed=6)
    for s, b in itertools.product(range(4), range(2)):
        operator = posterior.operator
        if isinstance(operator, Mask):
            operator = Mask(operator.known[b : b + 1])
        law = Independent(Normal(operator(linear(z[s, b : b + 1])), 0.3), 3)
        log_p = law.log_prob(posterior.y[b : b + 1])[0] + Normal(0.0, 1.0).log_prob(z[s, b]).sum()
        constant = posterior.y[0].numel() * math.log(0.3 * math.sqrt(2 * math.pi)) + DIM * math.log(
            math.sqrt(2 * math.pi)
        )
        assert_close(posterior.energy(z)[s, b], -log_p - constant, **EXACT)


def test_sigma_may_be_another_one_for_each_value():
    sigma = 0.2 + normal(1, SIDE, SIDE, seed=7).abs()
    posterior, z = problem("noise", sigma), normal(1, 2, DIM)
    misfit = (linear(z[0]) - posterior.y) / sigma
    expected = 0.5 * misfit.square().sum((1, 2, 3)) + 0.5 * z[0].square().sum(1)
    assert_close(posterior.energy(z)[0], expected, **EXACT)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_gradient_is_that_of_the_adjoint(name):
    """z + W^T A^T (A G(z) - y) / sigma^2, and no graph or weight's gradient is left behind."""
    posterior, z = problem(name), normal(1, 2, DIM, seed=6)
    columns = linear(torch.eye(DIM, dtype=torch.float64)) - linear(torch.zeros(1, DIM, dtype=torch.float64))
    back = posterior.operator.adjoint(posterior.operator(linear(z[0])) - posterior.y) / 0.3**2
    energy, gradient = posterior.with_gradient(z)
    assert_close(gradient[0], z[0] + back.flatten(1) @ columns.flatten(1).T, **EXACT)
    assert not (energy.requires_grad or gradient.requires_grad or z.requires_grad)


def test_no_gradient_reaches_the_generator():
    layer = torch.nn.Linear(DIM, SIDE * SIDE)
    posterior = LatentPosterior(
        lambda z: layer(z).view(-1, 1, SIDE, SIDE), Identity(), torch.zeros(1, 1, SIDE, SIDE), 1.0
    )
    with torch.no_grad():  # even where the caller has switched gradients off
        search(posterior, torch.ones(1, 1, DIM), n_steps=2)
    assert all(weight.grad is None for weight in layer.parameters())


@pytest.mark.parametrize("name", OPERATORS)
def test_the_search_ends_at_the_posterior_mean_where_the_generator_is_linear(name):
    """Mode and mean are one there, from every start; each energy is that of the latents before its step."""
    posterior, starts = problem(name), 2 * normal(3, 2, DIM, seed=8)
    found = search(posterior, starts, n_steps=400, lr=0.2)
    assert_close(found.z, exact(posterior)[0].expand(3, -1, -1), rtol=0, atol=1e-4)
    assert found.energies.shape == (401, 3, 2)
    assert_close(found.energies[0], posterior.energy(starts))
    assert_close(found.energies[-1], posterior.energy(found.z))
    assert starts.equal(2 * normal(3, 2, DIM, seed=8))


def test_the_rate_falls_along_half_a_cosine():
    """Where the slope hardly changes Adam moves by its rate: by lr, and of two steps by lr / 2 in the second."""
    posterior, starts = problem(), 50 + normal(2, 2, DIM)
    for n_steps, way in ((1, 1.0), (2, 1.5), (4, 2.5)):
        found = search(posterior, starts, n_steps=n_steps, lr=0.01)
        assert_close((starts - found.z).abs(), torch.full_like(starts, 0.01 * way), rtol=1e-3, atol=0)


def test_the_best_start_is_chosen_for_each_image():
    """A bent generator has several modes; starts that are stuck in a higher one are told by their energy."""
    y = torch.tensor([2.0, -2.0]).double().view(2, 1, 1, 1)
    posterior = LatentPosterior(bent, Identity(), y, 0.1)
    starts = torch.tensor([-3.0, -1.0, 1.0, 3.0]).double().view(4, 1, 1).expand(4, 2, 1)
    found = search(posterior, starts, n_steps=300, lr=0.05)
    grid = torch.linspace(-6, 6, 12001, dtype=torch.float64)
    energies = posterior.energy(grid.view(-1, 1, 1).expand(-1, 2, 1))
    assert_close(found.best[:, 0], grid[energies.argmin(0)], rtol=0, atol=2e-3)
    assert (found.energies[-1].amax(0) > found.energies[-1].amin(0) + 1).all()  # one is stuck
    again = search(posterior, starts, n_steps=300, lr=0.05)
    assert again.z.equal(found.z)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_tangents_covariance_is_the_posteriors_where_the_generator_is_linear(name):
    posterior = problem(name)
    factor = linearised(posterior, normal(2, DIM, seed=9))
    assert_close(factor @ factor.mT, exact(posterior)[1], **EXACT)
    assert factor.equal(factor.tril())


def test_the_tangents_covariance_of_a_bent_generator_is_that_of_its_slope():
    y, z = torch.zeros(2, 1, 1, 1).double(), torch.tensor([[0.3], [1.2]]).double()
    factor = linearised(LatentPosterior(bent, Identity(), y, 0.5), z)
    slope = 1 + 2 * torch.cos(2 * z)
    assert_close(factor[:, :, 0] ** 2, 1 / (1 + slope**2 / 0.5**2), **EXACT)


def moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (B, D) and covariance (B, D, D) over chains (S, B, D)."""
    mean = z.mean(0)
    gap = z - mean
    return mean, torch.einsum("sbi,sbj->bij", gap, gap) / (len(z) - 1)


def off(cov: Tensor, expected: Tensor, n: int) -> float:
    """Return the largest gap of a covariance of n draws of a Gaussian to the expected, in standard errors."""
    d = expected.diagonal(dim1=1, dim2=2)
    stderr = ((expected**2 + d[:, :, None] * d[:, None]) / n).sqrt()
    return ((cov - expected).abs() / stderr).max().item()


CHAINS = 20_000


@pytest.mark.parametrize("with_factor", [False, True])
def test_unadjusted_chains_settle_at_the_law_that_the_step_gives(with_factor):
    """Exact for a Gaussian: mean right, covariance (M - step M P M / 2)^-1, and far from the true one."""
    posterior = problem()
    mean, cov = exact(posterior)
    precision = torch.linalg.inv(cov)
    factor = linearised(posterior, mean) if with_factor else None
    stretch = cov if with_factor else torch.eye(DIM).double().expand(2, -1, -1)
    step = 0.5 if with_factor else (1 / torch.linalg.eigvalsh(precision).max()).item()
    law = torch.linalg.inv(precision - 0.5 * step * precision @ stretch @ precision)
    starts = mean + normal(CHAINS, 2, DIM, seed=10) @ torch.linalg.cholesky(law).mT[0]
    chains = langevin(
        posterior, starts, step=step, n_steps=40, burn_in=39, factor=factor, adjusted=False,
        generator=seeded(11),
    )  # fmt: skip
    found_mean, found = moments(chains.z[0])
    assert off(found, law, CHAINS) < 4.5 and off(found, cov, CHAINS) > 20
    assert ((found_mean - mean) / (law.diagonal(dim1=1, dim2=2) / CHAINS).sqrt()).abs().max() < 4.5
    assert chains.accepted.eq(1).all()


def test_unadjusted_chains_go_to_their_law_at_the_rate_of_the_step():
    """After k steps from one point: mean m + (I - step M)^k (z - m), covariance law - (I - step M)^k law (...)^k."""
    posterior = problem()
    mean, cov = exact(posterior)
    precision = torch.linalg.inv(cov)
    step, k = 0.5 / torch.linalg.eigvalsh(precision).max().item(), 3
    shrink = torch.linalg.matrix_power(torch.eye(DIM).double() - step * precision, k)
    law = torch.linalg.inv(precision - 0.5 * step * precision @ precision)
    starts = torch.ones(CHAINS, 2, DIM).double()
    chains = langevin(posterior, starts, step=step, n_steps=k, adjusted=False, generator=seeded(12))
    found_mean, found = moments(chains.z[-1])
    spread = law - shrink @ law @ shrink
    expected = mean + (shrink @ (1 - mean)[:, :, None])[:, :, 0]
    assert off(found, spread, CHAINS) < 4.5
    assert ((found_mean - expected) / (spread.diagonal(dim1=1, dim2=2) / CHAINS).sqrt()).abs().max() < 4.5


def test_unadjusted_chains_run_away_from_a_step_that_is_too_large():
    posterior = problem()
    most = torch.linalg.eigvalsh(torch.linalg.inv(exact(posterior)[1])).amax().item()
    ends = {}
    for share in (0.95, 1.05):
        chains = langevin(posterior, torch.zeros(50, 2, DIM).double(), step=2 * share / most, n_steps=200,
                          adjusted=False, generator=seeded())  # fmt: skip
        ends[share] = chains.z[-1].square().mean().item()
    assert ends[0.95] < 100 and ends[1.05] > 1e4


@pytest.mark.parametrize("with_factor", [False, True])
def test_adjusted_chains_have_the_posteriors_law_whatever_the_step(with_factor):
    """At a step at which the unadjusted ones are far off; started in the law, they have to stay in it."""
    posterior = problem()
    mean, cov = exact(posterior)
    factor = linearised(posterior, mean) if with_factor else None
    step = 0.9 if with_factor else 0.9 * torch.linalg.eigvalsh(cov).min().item()
    starts = mean + torch.einsum("bij,sbj->sbi", torch.linalg.cholesky(cov), normal(CHAINS, 2, DIM, seed=13))
    chains = langevin(
        posterior, starts, step=step, n_steps=15, burn_in=14, factor=factor, generator=seeded(14)
    )
    found_mean, found = moments(chains.z[0])
    assert off(found, cov, CHAINS) < 4.5
    assert ((found_mean - mean) / (cov.diagonal(dim1=1, dim2=2) / CHAINS).sqrt()).abs().max() < 4.5
    assert 0.5 < chains.accepted.mean() < 0.95 and chains.accepted.amax() <= 1
    assert (chains.z[0] != starts).any(2).double().mean() > 0.9


def test_adjusted_chains_find_the_law_of_a_bent_generator():
    """Beside quadrature, from starts that are not in the law: the shares of six intervals."""
    y = torch.tensor([0.5]).double().view(1, 1, 1, 1)
    posterior = LatentPosterior(bent, Identity(), y, 0.8)
    grid = torch.linspace(-5, 5, 4001, dtype=torch.float64)
    mass = torch.softmax(-posterior.energy(grid.view(-1, 1, 1))[:, 0], 0)
    edges = torch.tensor([-5, -0.8, -0.3, 0.1, 0.5, 1.2, 5]).double()
    expected = torch.stack([mass[(grid >= a) & (grid < b)].sum() for a, b in itertools.pairwise(edges)])
    chains = langevin(
        posterior, normal(CHAINS, 1, 1), step=0.15, n_steps=150, burn_in=149, generator=seeded(1)
    )
    found = torch.histogram(chains.z[0, :, 0, 0], edges).hist / CHAINS
    assert expected.min() > 0.01
    assert ((found - expected) / (expected * (1 - expected) / CHAINS).sqrt()).abs().max() < 4.5
    assert_close(chains.energies[0], posterior.energy(chains.z[0]))


def test_draws_are_kept_after_the_burn_in_and_every_so_often():
    """The same seed gives the same chains: with 5 of 9 burned and every second kept, those after steps 7 and 9."""
    posterior, starts = problem(), normal(3, 2, DIM)
    every = langevin(posterior, starts, step=0.01, n_steps=9, generator=seeded())
    some = langevin(posterior, starts, step=0.01, n_steps=9, burn_in=5, thin=2, generator=seeded())
    assert some.z.equal(every.z[[6, 8]]) and some.energies.equal(every.energies[[6, 8]])
    assert some.accepted.equal(every.accepted) and every.accepted.shape == (3, 2)


def tiny_prior(network: str, attributes: tuple[int, ...] = ()) -> Prior:
    """Return a prior over 2 x 2 codes of three kinds, whose codes depend on one another and on the labels."""
    scale, shift, seed = {"transformer": (1.5, 0.1, 3), "pixelcnn": (3.0, 0.2, 0)}[network]
    torch.manual_seed(seed)
    model = Prior(
        PriorConfig(network=network, codes=3, grid=(2, 2), attributes=attributes, width=8, depth=1, heads=1)
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            larger = 20 * scale if "embedding" in name else scale
            weight.mul_(larger).add_(shift * torch.randn(weight.shape))
    return model


KNOWN = torch.tensor([[True, False], [False, True]])
GIVEN = torch.tensor([[2, 7], [7, 1]])  # where a code is not known, no code


def conditional(prior: Prior, **told) -> Tensor:
    """Return p(second, third | first = 2, last = 1), (3, 3), from all nine grids."""
    grids = torch.tensor([[[2, a], [b, 1]] for a in range(3) for b in range(3)])
    told = {name: value.expand(9, -1) for name, value in told.items()}
    prior.eval()
    with torch.no_grad():
        return torch.softmax(prior.log_prob(grids, **told), 0).view(3, 3).double()


@pytest.mark.parametrize("network", ["transformer", "pixelcnn"])
@pytest.mark.parametrize("copies_below", [0.0, 1.0])
def test_filled_codes_have_the_priors_law_given_the_known_ones(network, copies_below):
    """Beside enumeration. The law of the proposals alone, which cannot see the last code, is another."""
    prior, n = tiny_prior(network), 40_000
    expected = conditional(prior)
    filled = fill(prior, GIVEN, KNOWN, n, copies_below=copies_below, generator=seeded(1))
    assert filled.codes[:, KNOWN].eq(GIVEN[KNOWN]).all()
    weights = torch.softmax(filled.log_weights.double(), 0)
    found = torch.zeros(9).double().index_add_(0, filled.codes[:, 0, 1] * 3 + filled.codes[:, 1, 0], weights)
    stderr = (expected * (1 - expected)).sqrt().flatten() / min(filled.effective, n / 4) ** 0.5
    assert ((found - expected.flatten()).abs() / stderr).max() < 4.5
    unweighted = torch.zeros(9).double()
    proposals = fill(prior, GIVEN, KNOWN & (torch.arange(4).view(2, 2) < 3), n, generator=seeded(2)).codes
    unweighted.index_add_(0, proposals[:, 0, 1] * 3 + proposals[:, 1, 0], torch.ones(n).double() / n)
    assert ((unweighted - expected.flatten()).abs() / stderr).max() > 10
    drawn = filled.drawn(20_000, seeded(3))
    shares = torch.bincount(drawn[:, 0, 1] * 3 + drawn[:, 1, 0], minlength=9) / 20_000
    assert_close(shares.double(), found, rtol=0, atol=0.02)


@pytest.mark.parametrize("network", ["transformer", "pixelcnn"])
@pytest.mark.parametrize("copies_below", [0.0, 1.0])
def test_copied_grids_go_on_with_their_own_past(network, copies_below):
    """The first code is missing, the second known, the others missing: after the copies, each from its grid's codes."""
    prior, n = tiny_prior(network).eval(), 40_000
    grids = torch.cartesian_prod(torch.arange(3), torch.tensor([1]), torch.arange(3), torch.arange(3))
    with torch.no_grad():
        expected = torch.softmax(prior.log_prob(grids.view(-1, 2, 2)), 0).double()
    known = torch.tensor([[False, True], [False, False]])
    filled = fill(prior, torch.ones(2, 2).long(), known, n, copies_below=copies_below, generator=seeded(4))
    weights = torch.softmax(filled.log_weights.double(), 0)
    place = (filled.codes.flatten(1) * torch.tensor([9, 0, 3, 1])).sum(1)
    found = torch.zeros(27).double().index_add_(0, place, weights)
    stderr = (expected * (1 - expected)).sqrt() / (n / 4) ** 0.5
    assert ((found - expected).abs() / stderr).max() < 4.5
    assert expected.amax() < 0.7


@pytest.mark.parametrize("network", ["transformer", "pixelcnn"])
def test_a_grids_weight_is_the_probability_of_its_known_codes(network):
    """log p(all) less the log-probabilities with which the missing codes were drawn, grid by grid."""
    prior = tiny_prior(network).eval()
    filled = fill(prior, GIVEN, KNOWN, 50, generator=seeded())
    with torch.no_grad():
        log_p = prior(filled.codes).log_softmax(1).gather(1, filled.codes[:, None])[:, 0]
    assert_close(filled.log_weights, log_p[:, KNOWN].sum(1))
    assert_close(filled.log_weights, prior.log_prob(filled.codes).detach() - log_p[:, ~KNOWN].sum(1))


def test_labels_are_told_to_the_prior_and_its_mode_is_given_back():
    prior = tiny_prior("transformer", attributes=(2,))
    expected = [conditional(prior, labels=torch.tensor([[label]])) for label in (0, 1)]
    assert (expected[0] - expected[1]).abs().max() > 0.1
    prior.train()
    for label in (0, 1):
        filled = fill(prior, GIVEN, KNOWN, 5000, labels=torch.tensor([[label]]), generator=seeded())
        weights = torch.softmax(filled.log_weights.double(), 0)
        found = (
            torch.zeros(9).double().index_add_(0, filled.codes[:, 0, 1] * 3 + filled.codes[:, 1, 0], weights)
        )
        assert_close(found.view(3, 3), expected[label], rtol=0, atol=0.04)
    assert prior.training and all(module.training for module in prior.modules())


def test_copies_make_the_weights_even_and_grids_alike():
    prior = tiny_prior("transformer")
    without = fill(prior, GIVEN, KNOWN, 400, generator=seeded())
    copied = fill(prior, GIVEN, KNOWN, 400, copies_below=1.0, generator=seeded())
    assert copied.effective == pytest.approx(400) and without.effective < 390
    assert 1 < copied.distinct <= 9 and without.distinct <= 9
    whole = fill(
        prior, torch.tensor([[2, 0], [1, 1]]), torch.ones(2, 2, dtype=torch.bool), 5, generator=seeded()
    )
    assert whole.distinct == 1 and whole.effective == pytest.approx(5)


def test_the_effective_size_counts_weights():
    assert effective_size(torch.full((8,), -3000.0)) == pytest.approx(8)
    assert effective_size(torch.tensor([0.0, -math.inf, -math.inf])) == pytest.approx(1)
    assert effective_size(torch.tensor([math.log(2.0), 0.0])) == pytest.approx(9 / 5)
    filled = Filled(torch.zeros(2, 1, 1, dtype=torch.int64), torch.tensor([math.log(2.0), 0.0]))
    assert filled.effective == pytest.approx(9 / 5) and filled.distinct == 1


def test_the_tests_normal_posterior_is_a_normal():
    """The formula that the chains are judged by, beside torch's density on a line through its mean."""
    posterior = problem()
    mean, cov = exact(posterior)
    line = mean + torch.linspace(-2, 2, 9).double()[:, None, None] * normal(2, DIM, seed=20)
    law = MultivariateNormal(mean, cov)
    gap = posterior.energy(line) + law.log_prob(line)
    assert_close(gap, gap[:1].expand_as(gap), **EXACT)


WRONG = {
    "y": (lambda: LatentPosterior(linear, Identity(), torch.zeros(3, 4), 1.0), "y has shape (3, 4)"),
    "sigma": (lambda: problem("noise", 0.0), "sigma reaches from 0 to 0"),
    "sigma's shape": (lambda: problem("noise", torch.ones(5, 5)), "sigma has shape (5, 5)"),
    "sigma larger than y": (
        lambda: problem("noise", torch.ones(3, 2, 1, SIDE, SIDE)),
        "sigma has shape (3, 2, 1, 6, 6)",
    ),
    "latents": (lambda: problem().energy(normal(2, DIM)), "latents have shape (2, 3), expected (S, 2, D)"),
    "images": (
        lambda: LatentPosterior(lambda z: z, Identity(), torch.zeros(2, 1, 1, 1), 1.0).energy(
            normal(1, 2, 3)
        ),
        "the generator made (2, 3) of 2 latents",
    ),
    "another size": (
        lambda: LatentPosterior(linear, Identity(), torch.zeros(2, 1, 1, 1), 1.0).energy(normal(1, 2, DIM)),
        "A G(z) has shape (2, 1, 6, 6), y (2, 1, 1, 1)",
    ),
    "steps": (lambda: search(problem(), normal(1, 2, DIM), n_steps=0), "n_steps is 0"),
    "rate": (lambda: search(problem(), normal(1, 2, DIM), lr=0.0), "lr 0.0"),
    "no draw": (
        lambda: langevin(problem(), normal(1, 2, DIM), step=1.0, n_steps=5, burn_in=5, generator=seeded()),
        "burn_in 5",
    ),
    "thin": (
        lambda: langevin(problem(), normal(1, 2, DIM), step=1.0, n_steps=5, thin=6, generator=seeded()),
        "thin 6",
    ),
    "step": (
        lambda: langevin(problem(), normal(1, 2, DIM), step=-1.0, n_steps=5, generator=seeded()),
        "step is -1.0",
    ),
    "factor": (
        lambda: langevin(
            problem(), normal(1, 2, DIM), step=1.0, n_steps=5, factor=torch.eye(2), generator=seeded()
        ),
        "factor has shape (2, 2), expected (2, 3, 3)",
    ),
    "grid": (
        lambda: fill(tiny_prior("transformer"), GIVEN[:1], KNOWN, 2, generator=seeded()),
        "codes have shape (1, 2)",
    ),
    "code": (
        lambda: fill(tiny_prior("transformer"), GIVEN + 1, KNOWN, 2, generator=seeded()),
        "a known code is 3, expected 0 to 2",
    ),
    "n": (lambda: fill(tiny_prior("transformer"), GIVEN, KNOWN, 0, generator=seeded()), "n is 0"),
    "share": (
        lambda: fill(tiny_prior("transformer"), GIVEN, KNOWN, 2, copies_below=1.5, generator=seeded()),
        "copies_below 1.5",
    ),
    "weights": (lambda: effective_size(torch.full((3,), -math.inf)), "one of them finite"),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=list(WRONG))
def test_bad_input_is_refused(wrong, message):
    with pytest.raises(ValueError) as error:
        wrong()
    assert message in str(error.value)


@pytest.mark.parametrize(("codes", "known"), [(GIVEN.float(), KNOWN), (GIVEN, KNOWN.long())])
def test_codes_and_masks_of_another_type_are_refused(codes, known):
    with pytest.raises(TypeError, match=r"expected torch.int64 and torch.bool"):
        fill(tiny_prior("transformer"), codes, known, 2, generator=seeded())
