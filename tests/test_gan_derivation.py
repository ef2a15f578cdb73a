"""The derivation of the GAN, step by step, where densities are known (quadrature) and where the game is a plane."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.nn.functional import softplus
from torch.testing import assert_close

from imagegen.gan import GAN, GANConfig
from imagegen.objectives import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    instance_noise,
    zero_centred_penalty,
)

EXACT = {"rtol": 1e-10, "atol": 1e-10}
X = torch.linspace(-14, 14, 8001, dtype=torch.float64)
DX = (X[1] - X[0]).item()
LOG2 = math.log(2)


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def integral(values: Tensor) -> Tensor:
    """Return the integral over X of a smooth function that is 0 at its ends: the sum is exact to rounding."""
    return values.sum(-1) * DX


def normal(mean: float | Tensor, std: float | Tensor) -> Tensor:
    """Return the density of N(mean, std^2) at X."""
    return Normal(torch.as_tensor(mean, dtype=torch.float64), std).log_prob(X).exp()


MIXTURE = MixtureSameFamily(Categorical(tensor([0.3, 0.7])), Normal(tensor([-2.0, 1.0]), tensor([0.5, 0.9])))
PAIRS = {  # p_data and p_G; in the last pair a mode of the data is missed
    "apart": (normal(0.0, 1.0), normal(1.5, 1.0)),
    "narrow": (normal(0.0, 1.0), normal(0.3, 0.5)),
    "a mode missed": (MIXTURE.log_prob(X).exp(), normal(1.0, 0.9)),
}
pairs = pytest.mark.parametrize(("p", "q"), PAIRS.values(), ids=PAIRS.keys())


def value(d: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """Return V(D, G) as the equation reads, from D (..., points of X) and the densities of data and generator."""
    d = d.clamp(1e-300, 1 - 1e-16)  # 0 log 0 is 0: where D rounds to 1, q is nothing beside p
    return integral(p * d.log() + q * torch.log1p(-d))


def kl(p: Tensor, q: Tensor) -> Tensor:
    return integral(torch.xlogy(p, p) - p * q.log())


def jsd(p: Tensor, q: Tensor) -> Tensor:
    m = (p + q) / 2
    return (kl(p, m) + kl(q, m)) / 2


# ---- the game --------------------------------------------------------------------------------------------------


@pytest.mark.equation("gan-pushforward", tolerance="4 standard errors, below 1 %")
def test_a_mean_over_latents_is_a_mean_under_the_density_of_the_samples():
    """Push N(0, 1) through G(z) = exp(z), whose density is known: means of h(G(z)) against integrals over x."""
    z = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.linspace(1e-4, 60, 600_001, dtype=torch.float64)
    density = torch.distributions.LogNormal(tensor(0.0), tensor(1.0)).log_prob(x).exp()
    for h in (torch.sigmoid, torch.sqrt, lambda v: v / (1 + v.square())):
        draws, expected = h(z.exp()), (h(x) * density).sum() * (x[1] - x[0])
        error = draws.std() / math.sqrt(len(draws))
        assert error < 0.01 * expected and abs(draws.mean() - expected) < 4 * error


@pytest.mark.equation("gan-pushforward", tolerance="exact")
def test_the_package_draws_by_pushing_latents_through_the_generator():
    """Compare sample(n) with the generator's answer to draw(n) of the same seed: the same points."""
    gan = GAN(GANConfig(network="mlp", image_shape=(2,), latent_dim=3, width=8, critic_width=8))
    first, second = (torch.Generator().manual_seed(4) for _ in range(2))
    assert gan.sample(5, generator=first).equal(gan.generator(gan.draw(5, generator=second)))


@pytest.mark.equation("gan-classifier", "gan-value", tolerance="1e-10")
@pairs
def test_the_value_is_twice_the_log_likelihood_of_the_classifier_per_image(p, q):
    """Sum log p(y|x) over both labels, each with its half of the images, and compare with V and with the loss."""
    s = 0.7 - 0.4 * X + 0.1 * X.square()
    d = torch.sigmoid(s)
    label = torch.distributions.Bernoulli(probs=d)
    joint = 0.5 * p, 0.5 * q  # of (x, y = 1) and (x, y = 0)
    likelihood = integral(joint[0] * label.log_prob(tensor(1.0)) + joint[1] * label.log_prob(tensor(0.0)))
    assert_close(2 * likelihood, value(d, p, q), **EXACT)
    loss = integral(p * discriminator_loss(s, torch.full_like(s, -1e4))) + integral(
        q * discriminator_loss(torch.full_like(s, 1e4), s)
    )  # a logit of 1e4 on the right side costs nothing, so that each call gives one of the two terms
    assert_close(loss, -value(d, p, q), **EXACT)


@pytest.mark.equation("gan-optimal", tolerance="1e-4 in D")
def test_no_other_number_between_0_and_1_is_better_at_any_point():
    """Search a fine grid of D for the largest a log D + b log(1 - D): it lies at a / (a + b), for many a and b."""
    grid = torch.linspace(0, 1, 100_001, dtype=torch.float64)[1:-1]
    for a in (0.01, 0.3, 1.0, 4.0):
        for b in (0.02, 0.5, 1.0, 3.0):
            best = grid[(a * grid.log() + b * (1 - grid).log()).argmax()].item()
            assert abs(best - a / (a + b)) < 1e-4


@pytest.mark.equation("gan-optimal", tolerance="1e-4 in each coefficient")
def test_a_trained_discriminator_converges_to_the_optimal_one():
    """Train a logit a + b x + c x^2 by the package's loss, by quadrature: the log-ratio of two Gaussians comes out."""
    mean, std = 0.8, 0.6
    p, q = normal(0.0, 1.0), normal(mean, std)
    weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    features = torch.stack([torch.ones_like(X), X, X.square()])
    lbfgs = torch.optim.LBFGS([weights], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14,
                              line_search_fn="strong_wolfe")  # fmt: skip

    def closure():
        lbfgs.zero_grad()
        s = weights @ features
        loss = integral(p * softplus(-s) + q * softplus(s))
        loss.backward()
        return loss

    lbfgs.step(closure)
    s = (weights @ features).detach()
    real, fake = (
        discriminator_loss(s, s.new_full(s.shape, -1e4)),
        discriminator_loss(s.new_full(s.shape, 1e4), s),
    )
    assert_close(integral(p * real + q * fake), closure().detach(), **EXACT)  # it was the package's loss
    expected = tensor([
        math.log(std) + mean**2 / (2 * std**2), -mean / std**2, 0.5 / std**2 - 0.5
    ])  # log p - log q, by its powers of x  # fmt: skip
    assert_close(weights.detach(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.equation("gan-regret", tolerance="1e-10")
@pairs
def test_a_discriminator_that_is_not_optimal_falls_short_by_a_mean_divergence(p, q):
    """Compare V(D*) - V(D) of several D with the divergence of two Bernoullis, averaged over all images."""
    best = p / (p + q)
    for s in (0 * X, 0.5 - X, 0.3 * X.square() - 1, 2 * torch.sin(X)):
        d = torch.sigmoid(s)
        a = (
            p.log() - q.log()
        )  # the best logit; coins in logits, where torch's own divergence is infinite at D = 1
        coins = best * (softplus(-s) - softplus(-a)) + (1 - best) * (softplus(s) - softplus(a))
        gap = integral((p + q) * coins)
        assert gap > 1e-2
        assert_close(value(best, p, q) - value(d, p, q), gap, rtol=1e-6, atol=1e-8)


@pytest.mark.equation("gan-jsd", tolerance="1e-10")
@pairs
def test_the_divergence_of_jensen_and_shannon_is_symmetric_and_between_0_and_log_2(p, q):
    """Compare with SciPy's, and try the two ends: equal densities, and densities that do not meet."""
    from scipy.spatial.distance import jensenshannon

    here = jsd(p, q)
    assert_close(here, jsd(q, p), **EXACT)
    assert_close(here, tensor(jensenshannon(p.numpy(), q.numpy()) ** 2), **EXACT)
    assert 0.01 < here < LOG2
    assert abs(jsd(p, p)) < 1e-12
    apart = 0.25 * ((X > -5) & (X < -1)).double(), 0.25 * ((X > 1) & (X < 5)).double()
    apart = tuple(a / integral(a) for a in apart)
    m = (apart[0] + apart[1]) / 2
    mixed = sum(integral(torch.xlogy(a, a) - torch.xlogy(a, m)) for a in apart) / 2
    assert_close(mixed, tensor(LOG2), **EXACT)


@pytest.mark.equation("gan-optimum", tolerance="1e-10")
@pairs
def test_against_the_best_discriminator_the_value_is_the_divergence(p, q):
    """Insert D* into V by quadrature: 2 JSD - log 4, and -log 4 where the generator has the data's distribution."""
    assert_close(value(p / (p + q), p, q), 2 * jsd(p, q) - 2 * LOG2, **EXACT)
    assert_close(value(p / (p + p), p, p), tensor(-2 * LOG2), **EXACT)


def moved(theta: Tensor) -> Tensor:
    """Return the density at X of a generator G(z) = theta_0 + exp(theta_1) z."""
    return Normal(theta[0], theta[1].exp()).log_prob(X).exp()


THETA = tensor([0.9, -0.4])


@pytest.mark.equation("gan-envelope", tolerance="1e-8")
def test_the_gradient_of_the_divergence_is_the_gradient_with_the_discriminator_held():
    """Differentiate 2 JSD by theta in full, and V with D* held, through samples (the pathwise form), by quadrature."""
    p = normal(0.0, 1.0)
    theta = THETA.clone().requires_grad_()
    (full,) = torch.autograd.grad(2 * jsd(p, moved(theta)), theta)
    (held,) = torch.autograd.grad(value(p / (p + moved(theta).detach()), p, moved(theta)), theta)
    assert_close(held, full, rtol=1e-8, atol=1e-8)
    (paths,) = torch.autograd.grad(through_samples("minimax", theta), theta)
    assert_close(paths, full, rtol=1e-6, atol=1e-8)
    assert full.abs().min() > 0.05


def through_samples(loss: str, theta: Tensor) -> Tensor:
    """Return E_z of the generator's loss on G(z) by Gauss-Hermite quadrature, the optimal logit held as a function."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    z, weights = tensor(nodes), tensor(weights / weights.sum())
    x = theta[0] + theta[1].exp() * z
    zero, one, fixed = tensor(0.0), tensor(1.0), theta.detach()
    s = Normal(zero, one).log_prob(x) - Normal(fixed[0], fixed[1].exp()).log_prob(x)
    return (weights * generator_loss(s, loss=loss)).sum()


@pytest.mark.equation("gan-non-saturating-divergence", tolerance="1e-6")
def test_the_gradient_of_the_non_saturating_loss_is_that_of_a_difference_of_divergences():
    """Differentiate E -log D*(G(z)) with D* held, and KL(p_G || p_data) - 2 JSD in full: the same gradient."""
    p = normal(0.0, 1.0)
    theta = THETA.clone().requires_grad_()
    (paths,) = torch.autograd.grad(through_samples("non-saturating", theta), theta)
    q = moved(theta)
    log_p = Normal(tensor(0.0), tensor(1.0)).log_prob(X)
    reverse = integral(q * (Normal(theta[0], theta[1].exp()).log_prob(X) - log_p))
    (full,) = torch.autograd.grad(reverse - 2 * jsd(p, q), theta)
    assert_close(paths, full, rtol=1e-6, atol=1e-8)
    assert full.abs().min() > 0.05


# ---- the two losses of the generator ---------------------------------------------------------------------------


@pytest.mark.equation("gan-losses", tolerance="1e-10")
def test_the_losses_in_logits_are_the_losses_in_probabilities():
    """Compare softplus forms, and the package, with the logarithms of D that they stand for."""
    s, other = torch.linspace(-8, 8, 33, dtype=torch.float64), torch.linspace(5, -7, 33, dtype=torch.float64)
    d, d_other = torch.sigmoid(s), torch.sigmoid(other)
    for loss in ("minimax", "non-saturating"):
        found = discriminator_loss(s, other, loss=loss)
        assert_close(found, -d.log() - (1 - d_other).log(), **EXACT)
        assert_close(found, softplus(-s) + softplus(other), **EXACT)
    assert_close(generator_loss(s, loss="minimax"), (1 - d).log(), **EXACT)
    assert_close(generator_loss(s, loss="minimax"), -softplus(s), **EXACT)
    assert_close(generator_loss(s, loss="non-saturating"), -d.log(), **EXACT)
    assert_close(generator_loss(s, loss="non-saturating"), softplus(-s), **EXACT)


@pytest.mark.equation("gan-slopes", tolerance="1e-10; landmarks to their last digit")
def test_the_slopes_by_the_logit_and_their_landmarks():
    """Differentiate both losses by autograd: -D and -(1 - D); at logit -5 they are -0.0067 and -0.993."""
    s = torch.linspace(-9, 9, 37, dtype=torch.float64, requires_grad=True)
    slopes = {
        loss: torch.autograd.grad(generator_loss(s, loss=loss).sum(), s)[0]
        for loss in ("minimax", "non-saturating")
    }
    d = torch.sigmoid(s.detach())
    assert_close(slopes["minimax"], -d, **EXACT)
    assert_close(slopes["non-saturating"], d - 1, **EXACT)
    at = s.detach().tolist().index(-5.0)
    assert round(slopes["minimax"][at].item(), 4) == -0.0067
    assert round(slopes["non-saturating"][at].item(), 3) == -0.993


# ---- other divergences -----------------------------------------------------------------------------------------

F = {  # f, its conjugate, f'; named as in the chapter's table
    "KL(p, q)": (lambda u: u * u.log(), lambda t: (t - 1).exp(), lambda u: 1 + u.log()),
    "KL(q, p)": (lambda u: -u.log(), lambda t: -1 - (-t).log(), lambda u: -1 / u),
    "Pearson": (lambda u: (u - 1).square(), lambda t: t.square() / 4 + t, lambda u: 2 * (u - 1)),
    "GAN": (
        lambda u: u * u.log() - (u + 1) * (u + 1).log(),
        lambda t: -torch.log1p(-t.exp()),
        lambda u: u.log() - (u + 1).log(),
    ),
}  # fmt: skip
divergences = pytest.mark.parametrize(("f", "conjugate", "slope"), F.values(), ids=F.keys())
# q has the heavier tails, so that every integral is finite, p / q among them
P, Q = normal(0.3, 0.8), normal(0.0, 1.0)


@pytest.mark.equation("gan-f-divergence", tolerance="1e-8")
def test_the_divergences_of_the_family_are_those_that_they_are_named_for():
    """Integrate q f(p/q) for each row of the table: the formula of that divergence, above f(1), its value at p = q."""
    found = {name: integral(Q * f(P / Q)) for name, (f, _, _) in F.items()}
    for name, (f, _, _) in F.items():
        least = f(tensor(1.0))
        assert found[name] > least + 0.01
        assert_close(integral(Q * f(Q / Q)), least, rtol=1e-8, atol=1e-10)
    assert_close(found["KL(p, q)"], kl(P, Q), rtol=1e-8, atol=1e-10)
    assert_close(found["KL(q, p)"], kl(Q, P), rtol=1e-8, atol=1e-10)
    assert_close(found["Pearson"], integral((P - Q).square() / Q), rtol=1e-8, atol=1e-10)
    assert_close(found["GAN"], 2 * jsd(P, Q) - 2 * LOG2, rtol=1e-8, atol=1e-10)


@pytest.mark.equation("gan-f-conjugate", tolerance="1e-6 on a grid")
@divergences
def test_the_conjugate_is_the_largest_gap_between_a_line_and_the_function(f, conjugate, slope):
    """Search u for the largest t u - f(u), for slopes t of the function: the table's conjugate; and back to f."""
    u = torch.logspace(-3, 3, 200_001, dtype=torch.float64)
    for at in (0.1, 0.7, 1.0, 2.5):
        t = slope(tensor(at))
        assert_close((t * u - f(u)).max(), conjugate(t), rtol=1e-6, atol=1e-8)
        assert_close(t * at - conjugate(t), f(tensor(at)), **EXACT)


@pytest.mark.equation("gan-f-bound", tolerance="1e-8")
@divergences
def test_any_function_bounds_the_divergence_and_the_slope_at_the_ratio_attains_it(f, conjugate, slope):
    """Insert T = f'(p/q) and others into E_p T - E_q f*(T): equality for the first, strictly below for the rest."""
    truth = integral(Q * f(P / Q))
    best = slope(P / Q)
    bound = [integral(P * t - Q * conjugate(t)) for t in (best, 0.8 * best - 0.3, slope((P / Q + 1) / 2))]
    assert_close(bound[0], truth, rtol=1e-8, atol=1e-8)
    assert all(below < truth - 1e-3 for below in bound[1:])


@pytest.mark.equation("gan-others", tolerance="1e-3 on a grid")
def test_what_the_best_discriminator_of_the_other_losses_says():
    """Search a grid of outputs at one point for the least loss: p/(p+q), the sign of p - q, and without end."""
    s = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    for p, q in ((0.3, 1.1), (2.0, 0.4), (1.0, 0.9)):

        def cost(loss, p=p, q=q):
            right = {"least-squares": (1.0, 0.0), "hinge": (1.0, -1.0), "wasserstein": (0.0, 0.0)}[loss]
            real = discriminator_loss(s, torch.full_like(s, right[1]), loss=loss)
            fake = discriminator_loss(torch.full_like(s, right[0]), s, loss=loss)
            return p * real + q * fake  # the other image of each pair costs nothing

        assert abs(s[cost("least-squares").argmin()].item() - p / (p + q)) < 1e-3
        assert abs(s[cost("hinge").argmin()].item() - math.copysign(1, p - q)) < 1e-3
        ends = cost("wasserstein")
        assert ends.argmin().item() == (len(s) - 1 if p > q else 0)  # the end of the grid, wherever that is


# ---- what the losses say ---------------------------------------------------------------------------------------


@pytest.mark.equation("gan-equilibrium", tolerance="1e-10")
def test_the_losses_of_a_discriminator_that_answers_one_half():
    """Take logit 0 everywhere: 2 log 2 and log 2, whatever the images; every other constant answer costs more."""
    zero = torch.zeros(6, dtype=torch.float64)
    assert_close(discriminator_loss(zero, zero), torch.full_like(zero, 2 * LOG2), **EXACT)
    assert_close(generator_loss(zero), torch.full_like(zero, LOG2), **EXACT)
    assert_close(generator_loss(zero, loss="minimax"), torch.full_like(zero, -LOG2), **EXACT)
    p, q = PAIRS["apart"]
    assert (
        value(p / (p + q), p, q) > -2 * LOG2 + 0.1
    )  # one that looks does better, where there is a difference
    for c in (-1.0, 0.3, 2.0):
        assert (discriminator_loss(zero + c, zero + c) > 2 * LOG2 + 0.01).all()


# ---- the smallest GAN ------------------------------------------------------------------------------------------


def critic(psi: Tensor):
    """Return the discriminator of the Dirac-GAN, x (B, 1) -> logits (B,)."""
    return lambda x: psi * x[:, 0]


def costs(state: Tensor, *, loss="non-saturating", gamma=0.0, noise: float | None = None, gp=0.0):
    """Return the two losses of the Dirac-GAN at state (theta, psi), through the package's functions.

    Nothing is detached: the field takes each player's own derivative, and its Jacobian needs the other one's.
    """
    theta, psi = state
    real, fake, weights = torch.zeros(1, 1).double(), theta.view(1, 1), torch.ones(1).double()
    if noise is not None:  # both expectations by Gauss-Hermite quadrature
        nodes, weights = (tensor(a) for a in np.polynomial.hermite_e.hermegauss(40))
        weights, spread = weights / weights.sum(), noise * nodes[:, None]
        real, fake = real + spread, fake + spread
    d = critic(psi)
    d_cost = (weights * discriminator_loss(d(real), d(fake), loss=loss)).sum()
    if gamma:
        d_cost = d_cost + 0.5 * gamma * zero_centred_penalty(d, real).sum()
    if gp:
        d_cost = d_cost + gp * gradient_penalty(d, real, fake).sum()
    return (weights * generator_loss(d(fake), loss=loss)).sum(), d_cost


def field(state: Tensor, **how) -> Tensor:
    """Return where gradient descent of both players moves the state: minus each one's gradient of its own loss."""
    state = state if state.requires_grad else state.clone().requires_grad_()
    g_cost, d_cost = costs(state, **how)
    (g,) = torch.autograd.grad(g_cost, state, create_graph=True)
    (d,) = torch.autograd.grad(d_cost, state, create_graph=True)
    return torch.stack([-g[0], -d[1]])


def jacobian(**how) -> Tensor:
    """Return the derivative of the field at the equilibrium, by autograd."""
    return torch.autograd.functional.jacobian(lambda s: field(s, **how), torch.zeros(2).double())


STATES = [tensor(s) for s in ([0.7, -1.2], [-0.3, 0.4], [2.0, 1.5])]


@pytest.mark.equation("gan-dirac", "gan-dirac-field", tolerance="1e-10")
def test_the_field_of_the_smallest_gan():
    """Differentiate the package's losses by autograd at several states, for both of the generator's losses."""
    for state in STATES:
        theta, psi = state
        d = torch.sigmoid(psi * theta)
        assert_close(costs(state)[1], LOG2 + softplus(psi * theta), **EXACT)
        assert_close(costs(state)[0], softplus(-psi * theta), **EXACT)
        assert_close(field(state), torch.stack([(1 - d) * psi, -d * theta]), **EXACT)
        assert_close(field(state, loss="minimax"), torch.stack([d * psi, -d * theta]), **EXACT)


@pytest.mark.equation("gan-dirac-circle", tolerance="1e-10; 1e-6 along a path")
def test_under_minimax_the_flow_runs_on_circles():
    """The field has no part along the radius at any state; a path of small Runge-Kutta steps keeps its distance."""
    for state in STATES:
        assert abs(field(state, loss="minimax") @ state) < 1e-10
    state = tensor([1.0, 0.0])
    turned = 0.0
    for _ in range(300):
        before, h = state, 0.05

        def slope(at):
            return field(at, loss="minimax").detach()

        k1 = slope(state)
        k2 = slope(state + h / 2 * k1)
        k3 = slope(state + h / 2 * k2)
        k4 = slope(state + h * k3)
        state = (state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)).detach()
        turned += math.acos(min(1.0, (state @ before / state.norm() / before.norm()).item()))
    assert turned > 2 * math.pi  # once round, at least
    assert abs(state.norm().item() - 1) < 1e-6


@pytest.mark.equation("gan-dirac-circle", tolerance="1e-10; the power of the distance to 1e-3")
def test_under_the_non_saturating_loss_the_pull_inwards_is_of_fourth_order():
    """The part of the field along the position is -a tanh(a / 2), a = psi theta; half as far out, a sixteenth of it."""
    for state in STATES:
        a = state.prod()
        assert a.abs() > 0.1
        assert_close(field(state).detach() @ state, -a * (a / 2).tanh(), **EXACT)
        near, nearer = 0.1 * state / state.norm(), 0.05 * state / state.norm()
        pulls = [field(at).detach() @ at for at in (near, nearer)]
        assert pulls[0] < 0 and abs(pulls[0] / pulls[1] - 16) < 1e-2


@pytest.mark.equation("gan-dirac-jacobian", tolerance="1e-10")
@pytest.mark.parametrize("loss", ["minimax", "non-saturating"])
def test_the_eigenvalues_at_the_equilibrium_are_imaginary(loss):
    """Differentiate the field by autograd at the equilibrium: plus and minus i / 2, no real part."""
    found = jacobian(loss=loss)
    assert_close(found, tensor([[0, 0.5], [-0.5, 0]]), **EXACT)
    assert_close(torch.linalg.eigvals(found).imag.sort().values, tensor([-0.5, 0.5]), **EXACT)
    assert torch.linalg.eigvals(found).real.abs().max() < 1e-12


def simultaneous(state: Tensor, h: float, **how) -> Tensor:
    return state + h * field(state, **how)


def alternating(state: Tensor, h: float, **how) -> Tensor:
    """The discriminator moves first; the generator answers to the new one."""
    psi = state[1] + h * field(state, **how)[1]
    half = torch.stack([state[0], psi])
    return torch.stack([half[0] + h * field(half, **how)[0], psi])


@pytest.mark.equation("gan-dirac-steps", tolerance="1e-10")
@pytest.mark.parametrize("h", [0.1, 0.5, 2.0])
def test_simultaneous_steps_drive_out_and_alternating_steps_go_round(h):
    """Differentiate one whole step by autograd at the equilibrium: the moduli of its eigenvalues."""
    zero = torch.zeros(2).double()
    for step, modulus in ((simultaneous, math.sqrt(1 + h * h / 4)), (alternating, 1.0)):
        matrix = torch.autograd.functional.jacobian(lambda s, step=step: step(s, h), zero)
        assert_close(torch.linalg.eigvals(matrix).abs(), tensor([modulus] * 2), **EXACT)


@pytest.mark.equation("gan-dirac-steps", tolerance="bounds")
def test_beyond_a_step_of_4_alternating_steps_leave_too():
    """Differentiate one whole step by autograd on both sides of h = 4: modulus 1 below, and one above 1 beyond."""
    zero = torch.zeros(2).double()
    for h, leaves in ((3.9, False), (4.1, True)):
        matrix = torch.autograd.functional.jacobian(lambda s, h=h: alternating(s, h), zero)
        assert (torch.linalg.eigvals(matrix).abs().max().item() > 1.01) is leaves


@pytest.mark.equation("gan-dirac-steps", tolerance="bounds")
def test_away_from_the_equilibrium_too_one_escapes_and_the_other_stays():
    """Run 300 steps of the whole game, not of its derivative: the distance grows in one form, stays bounded in one."""
    distances = {}
    for step in (simultaneous, alternating):
        state, path = tensor([0.5, 0.5]), []
        for _ in range(300):
            state = step(state, 0.3, loss="minimax").detach()
            path.append(state.norm().item())
        distances[step.__name__] = path
    assert distances["simultaneous"][-1] > 2 * distances["simultaneous"][0]
    assert 0.5 < min(distances["alternating"]) and max(distances["alternating"]) < 1.0


def with_momentum(state: Tensor, h: float, beta: float) -> Tensor:
    """Return (theta, psi) after an alternating step, and the pair before it, which the next step remembers."""
    theta, psi, before_theta, before_psi = state
    psi_new = psi + h * field(torch.stack([theta, psi]))[1] + beta * (psi - before_psi)
    theta_new = theta + h * field(torch.stack([theta, psi_new]))[0] + beta * (theta - before_theta)
    return torch.stack([theta_new, psi_new, theta, psi])


def multipliers(h: float, beta: float) -> Tensor:
    """Return the eigenvalues, complex (4,), of a step with momentum at the equilibrium, by autograd."""
    zero = torch.zeros(4).double()
    return torch.linalg.eigvals(torch.autograd.functional.jacobian(lambda s: with_momentum(s, h, beta), zero))


@pytest.mark.equation("gan-dirac-momentum", tolerance="1e-8")
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_the_eigenvalues_of_a_step_with_momentum(beta):
    """Differentiate a step with momentum by autograd: its eigenvalues solve the polynomial, and leave the circle."""
    h = 0.2
    found = multipliers(h, beta)
    assert_close((found - 1) ** 2 * (found - beta) ** 2, -(h * h) / 4 * found**3, rtol=1e-8, atol=1e-8)
    largest = found.abs().max().item()
    assert abs(largest - 1) < 1e-8 if beta == 0 else largest > 1 + 1e-3


@pytest.mark.equation("gan-dirac-growth", tolerance="1 %")
@pytest.mark.parametrize("beta", [0.2, 0.5, 0.9])
def test_momentum_drives_small_steps_out_by_beta_over_the_cube_of_its_rest(beta):
    """The largest modulus of a step of size h, by autograd: 1 + beta h^2 / (4 (1 - beta)^3), for three small h."""
    for h in (1e-4, 2e-4, 4e-4):
        growth = multipliers(h, beta).abs().max().item() - 1
        assert growth == pytest.approx(beta * h * h / 4 / (1 - beta) ** 3, rel=0.01)


@pytest.mark.equation("gan-dirac-r1", tolerance="1e-10")
@pytest.mark.parametrize("gamma", [0.1, 0.8, 1.0, 3.0])
@pytest.mark.parametrize("loss", ["minimax", "non-saturating"])
def test_r1_makes_the_equilibrium_attract(gamma, loss):
    """Differentiate the field with the package's penalty by autograd: the eigenvalues of the equation."""
    found = torch.linalg.eigvals(jacobian(loss=loss, gamma=gamma))
    root = np.emath.sqrt(gamma * gamma - 1)
    expected = torch.tensor([(-gamma - root) / 2, (-gamma + root) / 2], dtype=torch.complex128)
    assert_close(found.sum(), expected.sum(), **EXACT)
    assert_close(found.prod(), expected.prod(), **EXACT)
    assert (found.real < -0.01).all()


@pytest.mark.equation("gan-dirac-r1", tolerance="1e-6")
def test_with_r1_alternating_steps_arrive():
    """Run the whole game from far away with R1: it ends at the equilibrium, where without it it goes round."""
    state = tensor([1.5, -1.0])
    for _ in range(400):
        state = alternating(state, 0.1, gamma=1.0).detach()
    assert state.norm() < 1e-6


@pytest.mark.equation("gan-dirac-noise", tolerance="1e-10")
@pytest.mark.parametrize("std", [0.3, 1.0, 2.0])
def test_instance_noise_acts_as_a_penalty_of_half_its_variance(std):
    """Differentiate the field under noise, by quadrature and autograd: the Jacobian of R1 with gamma = s^2 / 2."""
    found = jacobian(noise=std)
    assert_close(found, tensor([[0, 0.5], [-0.5, -(std**2) / 2]]), **EXACT)
    assert_close(found, jacobian(gamma=std**2 / 2), **EXACT)


@pytest.mark.equation("gan-dirac-noise", tolerance="4 standard errors, below 1 %")
def test_the_packages_instance_noise_has_the_variance_that_the_equation_takes():
    """Draw noise for equal images: its variance is s^2, and nothing else of the image changes."""
    draws = instance_noise(
        torch.full((200_000, 1), 0.3).double(), 0.7, generator=torch.Generator().manual_seed(0)
    )
    squares = (draws - 0.3).square()
    error = squares.std() / math.sqrt(len(squares))
    assert error < 0.01 * 0.49 and abs(squares.mean() - 0.49) < 4 * error


@pytest.mark.equation("gan-dirac-gp", tolerance="1e-8")
@pytest.mark.parametrize("weight", [0.1, 1.0, 10.0])
def test_a_penalty_towards_norm_1_pushes_out_near_the_equilibrium(weight):
    """Compare the part of the field along the radius with 2 lambda |psi| (1 - |psi|): above 0 where |psi| < 1."""
    for theta in (-0.5, 0.0, 0.01):
        for psi in (-0.6, -0.01, 0.02, 0.9):
            state = tensor([theta, psi])
            speed = field(state, loss="wasserstein", gp=weight) @ state
            expected = 2 * weight * abs(psi) * (1 - abs(psi))
            assert expected > 0
            assert_close(speed.detach(), tensor(expected), rtol=1e-8, atol=1e-8)


@pytest.mark.equation("gan-dirac-gp", tolerance="bounds")
def test_a_run_with_the_penalty_towards_norm_1_does_not_arrive():
    """Run 1,200 alternating steps from near the equilibrium: it leaves, and of the last 400 most are far away."""
    state, path = tensor([0.01, 0.01]), []
    for _ in range(1200):
        state = alternating(state, 0.05, loss="wasserstein", gp=1.0).detach()
        path.append(state.norm().item())
    late = tensor(path[800:])
    assert late.max() > 0.5 and late.median() > 0.2
