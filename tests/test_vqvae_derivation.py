"""The derivation of the VQ-VAE, step by step, on cases whose answer is known by enumeration, integration or k-means."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.testing import assert_close

from imagegen import metrics, recipes
from imagegen.images import to_unit
from imagegen.objectives import codebook_loss, commitment_loss, gaussian_nll, implied_likelihood
from imagegen.vq import VQVAE, Quantiser, VQVAEConfig, VQVAEOutput, nearest_code, straight_through

EXACT = {"rtol": 1e-10, "atol": 1e-10}
CONFIG = VQVAEConfig(
    image_shape=(1, 8, 12), codes=12, code_dim=5, widths=(6, 8), blocks=1, hidden=6, update="gradient"
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_images(n: int = 4, seed: int = 0) -> Tensor:
    return 2 * torch.rand(n, 1, 8, 12, generator=torch.Generator().manual_seed(seed)) - 1


def model(**changes) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(dataclasses.replace(CONFIG, **changes))


# ---- a code that is chosen ---------------------------------------------------------------------------------------


@pytest.mark.equation("vq-nearest", tolerance="exact")
@pytest.mark.parametrize(("n", "codes", "dim"), [(50, 2, 1), (300, 40, 7)])
def test_both_forms_of_the_nearest_code_are_the_package_s(n, codes, dim):
    """Find the nearest code by loops over squared distances, and by |e|^2 / 2 - z e: the indices of the package."""
    z, codebook = normal(n, dim), 1.5 * normal(codes, dim, seed=1) + 0.2
    by_distance = [min(range(codes), key=lambda k: ((row - codebook[k]) ** 2).sum().item()) for row in z]
    by_product = (0.5 * codebook.square().sum(1) - z @ codebook.T).argmin(1)
    found = nearest_code(z, codebook)
    assert found.tolist() == by_distance == by_product.tolist()
    assert len(set(by_distance)) > codes // 2  # else a constant would pass


@pytest.mark.equation("vq-kl", tolerance="1e-10")
@pytest.mark.parametrize(("codes", "places"), [(2, 1), (3, 2), (4, 3)])
def test_a_one_hot_posterior_costs_log_k_a_place_whatever_it_chooses(codes, places):
    """Sum q log(q / p) over all K^hw codes, for each one-hot q there is: hw log K every time."""
    n = codes**places
    prior = torch.full((n,), float(codes), dtype=torch.float64) ** -places
    for chosen in range(n):
        q = torch.zeros(n, dtype=torch.float64)
        q[chosen] = 1.0
        kl = torch.special.xlogy(q, q / prior).sum().item()
        assert_close(kl, places * math.log(codes), **EXACT)


def tiny_likelihood() -> tuple[VQVAE, Tensor, Tensor]:
    """Return a model with 3^4 codes in float64, an image, and log p(x | k) of each of its codes, in raster order."""
    torch.manual_seed(1)
    config = VQVAEConfig(image_shape=(1, 4, 4), codes=3, code_dim=2, widths=(4,), blocks=0, hidden=4)
    net = VQVAE(config).double().eval()
    x = 2 * torch.rand(1, 1, 4, 4, dtype=torch.float64) - 1
    every = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, 2, 2)
    with torch.no_grad():
        shown = torch.sigmoid(net.decode(every))
    return net, x, -gaussian_nll(shown, to_unit(x).expand_as(shown), 2 * math.log(0.5))


@pytest.mark.equation("vq-elbo", "vq-kl", tolerance="1e-10")
def test_the_bound_falls_short_by_the_posterior_s_doubt():
    """Sum the likelihood over all 81 codes; bound - log p(k(x) | x) is log p(x), for the encoder's code and others."""
    net, x, log_likelihood = tiny_likelihood()
    log_p = torch.logsumexp(log_likelihood - 4 * math.log(3), 0)
    posterior = torch.softmax(log_likelihood, 0)  # the prior is uniform
    chosen = net.encode(x).flatten()
    number = int(sum(k * 3 ** (3 - i) for i, k in enumerate(chosen.tolist())))
    for k in (number, 0, 40, 80):
        bound = log_likelihood[k] - 4 * math.log(3)
        assert bound < log_p - 1e-3
        assert_close(bound - posterior[k].log(), log_p, **EXACT)


@pytest.mark.equation("vq-elbo", "vq-loss", tolerance="1e-5")
def test_the_distortion_of_the_recipe_is_the_bound_without_its_constant():
    """Take -log N(x; decoded, s^2) by SciPy, pixel by pixel, and compare with the recipe's distortion."""
    net, x = model().eval(), some_images()
    terms = recipes.vq_terms(net, x, noise=0.1)
    with torch.no_grad():
        shown = torch.sigmoid(net.decode(net.encode(x))).double()
    expected = -scipy.stats.norm(shown.numpy(), 0.1).logpdf(to_unit(x).double().numpy()).sum((1, 2, 3))
    assert_close(terms["distortion"].double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-3)


# ---- the rate ----------------------------------------------------------------------------------------------------


@pytest.mark.equation("vq-rate", tolerance="exact")
@pytest.mark.parametrize(("name", "bits"), [("vqvae-fashion", 441), ("vqvae-avatars", 576)])
def test_the_code_of_an_image_costs_so_many_bits(name, bits):
    """Count the bits of the recipes: hw log2 K, and as many digits as it takes to number all K^hw codes."""
    config = recipes.RECIPES[name].model
    h, w = config.grid
    assert h * w * math.log2(config.codes) == bits
    assert (config.codes ** (h * w) - 1).bit_length() == bits


@pytest.mark.equation("vq-perplexity", tolerance="1e-10")
def test_the_perplexity_is_the_size_of_an_even_codebook_as_hard_to_guess():
    """Compare with SciPy's entropy, and with known cases: m codes alike give m, one code gives 1."""
    counts = torch.tensor([5, 0, 17, 1, 40, 3])
    assert_close(metrics.perplexity(counts), math.exp(scipy.stats.entropy(counts.numpy())), **EXACT)
    for m in (1, 2, 5):
        even = torch.tensor([7] * m + [0] * 3)
        assert_close(metrics.perplexity(even), float(m), **EXACT)
        assert metrics.codes_used(even) == m


@pytest.mark.equation("vq-surgery", "vq-perplexity", tolerance="1e-10")
def test_the_rate_of_a_place_is_what_codes_tell_and_what_the_prior_wastes():
    """Add log perplexity and KL(q || uniform), by SciPy: log K, for even, skewed and collapsed shares."""
    for counts in ([1, 1, 1, 1], [50, 3, 2, 0], [9, 0, 0, 0]):
        waste = scipy.stats.entropy(counts, np.full(4, 0.25))
        told = math.log(metrics.perplexity(torch.tensor(counts)))
        assert_close(told + waste, math.log(4), **EXACT)
        assert (waste < 1e-12) == (len(set(counts)) == 1)


@pytest.mark.equation("vq-batch", tolerance="4 standard errors, below 1 %")
def test_a_batch_s_perplexity_is_bounded_and_below_the_data_set_s():
    """Draw batches of n codes from known shares: never above min(K, n), and E[H] as the binomial has it."""
    shares = torch.softmax(1.5 * normal(64), 0)
    whole, generator = torch.special.entr(shares).sum().item(), torch.Generator().manual_seed(0)
    before = 0.0
    for n in (8, 49, 400):
        drawn = torch.multinomial(shares.expand(2000, -1), n, replacement=True, generator=generator)
        found = [metrics.perplexity(metrics.code_counts(row, 64)) for row in drawn]
        assert max(found) <= min(64, n) + 1e-9
        entropies = torch.tensor(found, dtype=torch.float64).log()
        count = np.arange(n + 1)
        chance = scipy.stats.binom.pmf(count[:, None], n, shares.numpy())
        expected = (chance * scipy.special.entr(count / n)[:, None]).sum()
        error = entropies.std().item() / math.sqrt(2000)
        assert error < 0.01 * expected and abs(entropies.mean().item() - expected) < 4 * error
        assert before < expected < whole - 10 * error
        before = expected


# ---- a gradient past a choice ------------------------------------------------------------------------------------


@pytest.mark.equation("vq-straight-through", tolerance="exact")
def test_straight_through_has_the_code_s_value_and_the_identity_s_jacobian():
    """Take both Jacobians by autograd: I for the output, 0 for the code; the value is the code to the last bit."""
    z, e = normal(3, 4), 5 + normal(3, 4, seed=1)
    assert torch.equal(straight_through(z, e), e)
    by_z, by_e = torch.autograd.functional.jacobian(straight_through, (z, e))
    assert torch.equal(by_z.reshape(12, 12), torch.eye(12, dtype=torch.float64))
    assert not by_e.any()
    upstream = normal(3, 4, seed=2)
    z.requires_grad_()
    (written,) = torch.autograd.grad(z + (e - z).detach(), z, upstream)
    (ours,) = torch.autograd.grad(straight_through(z, e), z, upstream)
    assert torch.equal(written, ours) and torch.equal(ours, upstream)


def test_through_the_choice_itself_there_is_no_gradient():
    """The chosen vectors do not change with a small step of z, and autograd knows no path from them to z."""
    z, codebook = normal(40, 3), normal(9, 3, seed=1)
    chosen = nearest_code(z, codebook)
    assert torch.equal(nearest_code(z + 1e-6 * normal(40, 3, seed=2), codebook), chosen)
    assert not codebook[nearest_code(z.requires_grad_(), codebook)].requires_grad


CODES = torch.tensor([[-1.5], [-0.2], [0.4], [2.0]], dtype=torch.float64)


def curve(e: Tensor) -> Tensor:
    return torch.sin(1.3 * e) + 0.4 * e.square()


def mean_loss(mu: Tensor, f, codes: Tensor, u: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of f at the straight-through code of mu + u."""
    z = (mu + u)[:, None]
    return weights @ f(straight_through(z, codes[nearest_code(z.detach(), codes)]))[:, 0]


@pytest.mark.equation("vq-border", tolerance="1e-8")
@pytest.mark.parametrize("mu", [-0.8, 0.1, 1.3])
def test_the_true_gradient_of_the_mean_loss_comes_from_the_borders(mu):
    """Differentiate sum f(e_k) P(k) with normal noise, P by its distribution function: the sum over the borders."""
    borders = (CODES[1:, 0] + CODES[:-1, 0]) / 2
    at = torch.tensor(mu, dtype=torch.float64, requires_grad=True)
    below = torch.cat([torch.zeros(1), torch.special.ndtr((borders - at) / 0.7), torch.ones(1)])
    mean = (below.diff() * curve(CODES[:, 0])).sum()
    (expected,) = torch.autograd.grad(mean, at)
    density = torch.from_numpy(scipy.stats.norm(0, 0.7).pdf((borders - mu).numpy()))
    assert_close(density @ curve(CODES[:, 0]).diff(), expected, rtol=1e-8, atol=1e-8)
    u = torch.linspace(
        -6, 6, 400_001, dtype=torch.float64
    )  # and these P are how often the package chooses each
    weights = torch.from_numpy(scipy.stats.norm(0, 0.7).pdf(u.numpy())) * (u[1] - u[0])
    assert_close(mean_loss(at.detach(), curve, CODES, u, weights), mean.detach(), rtol=1e-4, atol=1e-4)
    # the straight-through gradient is another number: the mean slope at the codes
    (through,) = torch.autograd.grad(mean_loss(at, curve, CODES, u, weights), at)
    slope = 1.3 * torch.cos(1.3 * CODES[:, 0]) + 0.8 * CODES[:, 0]
    assert_close(through, (below.diff() * slope).sum().detach(), rtol=1e-3, atol=1e-3)
    assert abs(through - expected) > 0.02


@pytest.mark.equation("vq-dither", tolerance="1e-6")
@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("bend", [0.0, 1.0, -3.0])
def test_the_bias_of_straight_through_is_curvature_times_distance_from_the_middle(spacing, bend):
    """Average over uniform noise of one spacing: straight-through less the border's difference quotient, by place a."""
    codes = spacing * torch.arange(-3.0, 4.0, dtype=torch.float64)[:, None]
    n = 100_000
    u = spacing * ((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5)
    weights = torch.full((n,), 1 / n, dtype=torch.float64)

    def loss(e: Tensor) -> Tensor:
        return -0.7 * e + 0.5 * bend * (e - 0.3) ** 2

    for a in (0.05, 0.3, 0.5, 0.95):
        mu = torch.tensor(a * spacing, dtype=torch.float64, requires_grad=True)
        (through,) = torch.autograd.grad(mean_loss(mu, loss, codes, u, weights), mu)
        true = (
            (loss(codes[4]) - loss(codes[3])) / spacing
        ).item()  # the one border within reach, by vq-border
        step = 0.01 * spacing
        ends = [mean_loss(mu.detach() + d, loss, codes, u, weights) for d in (step, -step)]
        assert_close((ends[0] - ends[1]).item() / (2 * step), true, rtol=1e-6, atol=1e-6)
        assert_close(through.item() - true, bend * spacing * (a - 0.5), rtol=1e-6, atol=1e-6)


# ---- three terms -------------------------------------------------------------------------------------------------


def terms_of(net: VQVAE, x: Tensor) -> dict[str, Tensor]:
    out = net(x, generator=torch.Generator().manual_seed(0))
    return {
        "distortion": gaussian_nll(torch.sigmoid(out.params), to_unit(x), 2 * math.log(0.1)),
        "codebook": codebook_loss(out.z, out.nearest),
        "commitment": commitment_loss(out.z, out.nearest),
    }


REACHED = {
    ("gradient", "distortion"): ("encoder", "decoder"),
    ("gradient", "codebook"): ("quantiser",),
    ("gradient", "commitment"): ("encoder",),
    ("ema", "distortion"): ("encoder", "decoder"),
    ("ema", "codebook"): (),
    ("ema", "commitment"): ("encoder",),
}


@pytest.mark.equation("vq-loss", tolerance="exact zeros")
@pytest.mark.parametrize("part", ["encoder", "quantiser", "decoder"])
@pytest.mark.parametrize(("update", "term"), list(REACHED))
def test_each_term_reaches_the_parameters_that_the_table_says(update, term, part):
    """Take the gradient of one term: in the parts it reaches some is not 0, in the others all of it is 0 or none."""
    net = model(update=update)
    value = terms_of(net, some_images())[term].mean()
    if value.requires_grad:
        value.backward()
    gradients = [p.grad for p in getattr(net, part).parameters()]
    found = any(g is not None and bool(g.any()) for g in gradients)
    assert found == (part in REACHED[update, term])
    if part == "quantiser":
        assert len(gradients) == (update == "gradient")  # a moving average is no parameter


@pytest.mark.equation("vq-loss", tolerance="1e-6")
@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_the_recipe_s_loss_is_the_sum_of_the_terms(update):
    """Write the loss with sg as it reads, the patch included: value and all gradients are the recipe's."""
    by_gradient = update == "gradient"
    nets = model(update=update), model(update=update)
    x, beta, grads = some_images(), 0.4, []
    nets[1](x, generator=torch.Generator().manual_seed(0))  # both codebooks start from the data
    nets[0].load_state_dict(nets[1].state_dict())
    written = nets[0].encoder(x)
    rows = written.detach().permute(0, 2, 3, 1).reshape(-1, 5)
    e = nets[0].quantiser.codebook[nearest_code(rows, nets[0].quantiser.codebook)]
    e = e.view(4, 2, 3, 5).permute(0, 3, 1, 2)
    patched = written + (e - written).detach()
    distortion = gaussian_nll(torch.sigmoid(nets[0].decoder(patched)), to_unit(x), 2 * math.log(0.1))
    loss = distortion + beta * (written - e.detach()).square().sum((1, 2, 3))
    if by_gradient:
        loss = loss + (written.detach() - e).square().sum((1, 2, 3))
    theirs = recipes.vq_terms(nets[1].eval(), x, beta=beta, by_gradient=by_gradient)["loss"]
    assert_close(loss, theirs, rtol=1e-6, atol=1e-4)
    for net, value in zip(nets, (loss, theirs)):
        value.mean().backward()
        grads.append([p.grad for p in net.parameters()])
    assert len(grads[0]) > 4
    for a, b in zip(*grads, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_decoder_s_gradient_of_the_distortion_is_exact():
    """Shift one of the decoder's weights by a little: the loss at fixed codes changes as its gradient says."""
    net, x = model().double().eval(), some_images().double()
    codes, weight = net.encode(x), net.decoder[0].weight

    def distortion() -> Tensor:
        return gaussian_nll(torch.sigmoid(net.decode(codes)), to_unit(x), 2 * math.log(0.1)).mean()

    (slope,) = torch.autograd.grad(distortion(), weight)
    direction = normal(*weight.shape, seed=3)
    values = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            weight.add_(step * direction)
            values.append(distortion().item())
            weight.sub_(step * direction)
    assert_close((values[0] - values[1]) / 2e-5, (slope * direction).sum().item(), rtol=1e-6, atol=1e-6)


@pytest.mark.equation("vq-leash", tolerance="1e-12")
def test_the_copied_gradient_is_near_the_decoder_s_own_as_long_as_the_leash_is_short():
    """For a quadratic of known curvature, |grad f(e) - grad f(z)| <= L |z - e|, and equal along its steepest axis."""
    root = normal(4, 4)
    curvature = root @ root.T
    values, axes = torch.linalg.eigh(curvature)
    codebook, z = normal(6, 4, seed=2), normal(50, 4, seed=1).requires_grad_()

    def f(v: Tensor) -> Tensor:
        return 0.5 * ((v @ curvature) * v).sum()

    def apart(z: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        (copied,) = torch.autograd.grad(f(straight_through(z, e)), z)
        (own,) = torch.autograd.grad(f(z), z)
        return (copied - own).norm(dim=1), values[-1] * (z - e).norm(dim=1)

    difference, bound = apart(z, codebook[nearest_code(z, codebook)])
    assert (difference <= bound + 1e-12).all() and (difference < 0.9 * bound).any()
    steepest = (z + 0.3 * axes[:, -1]).detach()
    assert_close(*apart(z, steepest), rtol=1e-12, atol=1e-12)


@pytest.mark.equation("vq-meeting", tolerance="1e-8")
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.25), (0.25, 1.0), (1.0, 2.0)])
def test_output_and_code_meet_where_the_weights_say(alpha, beta):
    """Descend alpha codebook loss + beta commitment loss from both ends: the weighted mean of the two starts."""
    z, e = normal(2, 3, 1, 1).requires_grad_(), (4 + normal(2, 3, 1, 1, seed=1)).requires_grad_()
    kept = (alpha * z + beta * e).detach()
    for _ in range(400):
        loss = alpha * codebook_loss(z, e) + beta * commitment_loss(z, e)
        by_z, by_e = torch.autograd.grad(loss.sum(), (z, e))
        with torch.no_grad():
            z -= 0.05 * by_z
            e -= 0.05 * by_e
        assert_close(alpha * z + beta * e, kept, **EXACT)
    meeting = kept / (alpha + beta)
    assert_close(z.detach(), meeting, rtol=1e-8, atol=1e-8)
    assert_close(e.detach(), meeting, rtol=1e-8, atol=1e-8)


def test_beta_stands_before_the_commitment_and_not_before_the_codebook_loss():
    """In the recipe's loss, beta scales the pull on the outputs and leaves that on the codebook as it is (BUGS 10)."""
    pulls = []
    for beta in (0.25, 1.0):
        torch.manual_seed(0)
        z = torch.randn(2, 5, 2, 3, requires_grad=True)
        e = torch.randn(2, 5, 2, 3, requires_grad=True)

        net = torch.nn.Module()
        net.forward = lambda x, *, generator, z=z, e=e: VQVAEOutput(torch.zeros_like(x), z, e, z[:, 0].long())
        terms = recipes.vq_terms(net, some_images(2), beta=beta, by_gradient=True)
        pulls.append(torch.autograd.grad(terms["loss"].sum(), (z, e)))
    (z_weak, e_weak), (z_strong, e_strong) = pulls
    assert_close(4 * z_weak, z_strong)
    assert_close(e_weak, e_strong)
    assert e_weak.abs().max() > 0.1 and z_weak.abs().max() > 0.1


@pytest.mark.equation("vq-ledger", tolerance="1e-10")
def test_a_loss_of_means_is_the_loss_of_sums_with_another_beta():
    """Write the loss with means over pixels and grid, divide by 2 s^2 / P: distortion + beta commitment."""
    x, shown, z, e = normal(3, 784), normal(3, 784, seed=1), normal(3, 64, 7, 7, seed=2), normal(3, 64, 7, 7)
    s2, beta_0 = 0.01, 0.25
    circulating = (x - shown).square().mean(1) + beta_0 * (z - e).square().flatten(1).mean(1)
    beta = beta_0 * 784 / (2 * s2 * 49 * 64)
    assert beta == pytest.approx(3.125)
    distortion = gaussian_nll(shown, x, math.log(s2)) - 784 / 2 * math.log(2 * math.pi * s2)
    ours = distortion + beta * commitment_loss(z, e)
    assert_close(circulating / (2 * s2 / 784), ours, **EXACT)
    # and it is the VAE chapter's ledger, with the commitment in the place of the rate
    read = implied_likelihood("squared error", n_pixels=784, n_latents=49 * 64, reconstruction="mean",
                              kl="mean", kl_weight=beta_0, variance=s2)  # fmt: skip
    assert read.beta == pytest.approx(beta)


# ---- the codebook ------------------------------------------------------------------------------------------------


def counted(rows: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Return n (K,) and s (K, D) by loops."""
    n, s = torch.zeros(len(codebook)), torch.zeros_like(codebook)
    for row, k in zip(rows, nearest_code(rows, codebook).tolist(), strict=True):
        n[k] += 1
        s[k] += row
    return n, s


def started(codes: int, dim: int, *, decay: float, update: str = "ema", counts: float = 4.0) -> Quantiser:
    """Return a quantiser that will neither start from the data nor restart; its last code is far from all data."""
    torch.manual_seed(0)
    made = Quantiser(codes, dim, update=update, decay=decay, restart=0.0)
    with torch.no_grad():
        made.counts.fill_(counts)
        made.codebook[-1] = 50.0
    return made


def rows_of(z: Tensor) -> Tensor:
    return torch.stack(
        [z[b, :, i, j] for b in range(len(z)) for i in range(z.shape[2]) for j in range(z.shape[3])]
    )


@pytest.mark.equation("vq-codebook-gradient", tolerance="1e-5")
def test_the_codebook_s_gradient_is_counts_times_code_less_sum():
    """Differentiate the summed codebook loss by autograd: 2 (n e - s), by loops; it vanishes at the means."""
    quantiser, z = started(6, 3, decay=0.9, update="gradient"), torch.randn(4, 3, 5, 2)
    found = quantiser(z)
    (slope,) = torch.autograd.grad(codebook_loss(z, found.nearest).sum(), quantiser.codebook)
    n, s = counted(rows_of(z), quantiser.codebook.detach())
    assert_close(slope, 2 * (n[:, None] * quantiser.codebook.detach() - s), rtol=1e-5, atol=1e-5)
    assert slope[:-1].abs().max() > 1 and not slope[-1].any()
    at_mean = (
        torch.where(n[:, None] > 0, s / n[:, None].clamp(min=1), quantiser.codebook).detach().requires_grad_()
    )
    nearest = at_mean[found.indices].permute(0, 3, 1, 2)
    (slope,) = torch.autograd.grad(codebook_loss(z, nearest).sum(), at_mean)
    assert slope.abs().max() < 1e-4


@pytest.mark.equation("vq-ema", "vq-ema-step", tolerance="1e-5")
@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_one_buffer_gives_the_pair_of_averages(decay):
    """Run the pair of averages by loops beside the package, over 20 batches: the same codebook, the same counts."""
    quantiser = started(6, 3, decay=decay)
    c, m = quantiser.counts.clone(), quantiser.counts[:, None] * quantiser.codebook
    for t in range(20):
        z = normal(4, 3, 5, 2, seed=t).float()
        n, s = counted(rows_of(z), quantiser.codebook)
        c = decay * c + (1 - decay) * n
        m = decay * m + (1 - decay) * s
        quantiser(z)
        assert_close(quantiser.counts, c, rtol=1e-5, atol=1e-5)
        assert_close(quantiser.codebook, m / c[:, None], rtol=1e-5, atol=1e-5)
    assert n[-1] == 0 and (n[:-1] > 0).all()


@pytest.mark.equation("vq-ema-step", tolerance="1e-5")
@pytest.mark.parametrize("counts", [0.0, 1.0, 30.0])
def test_a_code_moves_towards_the_mean_of_its_outputs_and_never_past_it(counts):
    """Compare one step with (1 - w) e + w s / n, w in [0, 1], and with a gradient step; an unused code stays."""
    quantiser, z = started(6, 3, decay=0.8, counts=counts), torch.randn(4, 3, 5, 2)
    before = quantiser.codebook.clone()
    n, s = counted(rows_of(z), before)
    quantiser(z)
    used = n > 0
    w = 0.2 * n / (0.8 * counts + 0.2 * n)
    assert (w[used] > 0).all() and (w[used] <= 1).all() and used.sum() == 5
    expected = (1 - w[used])[:, None] * before[used] + (w / n)[used][:, None] * s[used]
    assert_close(quantiser.codebook[used], expected, rtol=1e-5, atol=1e-5)
    gradient = 2 * (n[:, None] * before - s)[used]
    step = 0.2 / (2 * quantiser.counts[used])[:, None]
    assert_close(quantiser.codebook[used], before[used] - step * gradient, rtol=1e-5, atol=1e-5)
    assert torch.equal(quantiser.codebook[~used], before[~used])  # finite also with a count of 0 (BUGS 13)


@pytest.mark.equation("vq-ema-step", "vq-codebook-gradient", tolerance="1e-5")
@pytest.mark.parametrize("seed", range(3))
def test_at_decay_0_a_step_is_lloyd_s(seed):
    """Compare with SciPy's k-means after one and after four steps from the same start."""
    torch.manual_seed(seed)
    points = torch.randn(300, 2) + 3 * torch.randint(3, (300, 1))
    quantiser = Quantiser(7, 2, decay=0.0, restart=0.0)
    quantiser.counts.fill_(1.0)
    start = points[:7].clone()
    quantiser.codebook.copy_(start)
    for step in range(1, 5):
        quantiser(points.T.reshape(1, 2, 15, 20))
        expected = kmeans2(points.double().numpy(), start.double().numpy(), iter=step, minit="matrix")[0]
        assert_close(quantiser.codebook.double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-5)
    assert (quantiser.codebook - start).abs().max() > 0.05


# ---- the bugs that circulate -------------------------------------------------------------------------------------


def test_the_terms_are_no_distance_of_the_outputs_to_themselves():
    """On outputs away from their codes both terms are the true distance, each with its own gradient (BUGS 11, 12)."""
    net, x = model(), some_images()
    out = net(x)
    distance = sum(((out.z - out.nearest) ** 2)[i].sum().item() for i in range(4))
    assert distance > 1e-4
    for loss in (codebook_loss, commitment_loss):
        assert_close(loss(out.z, out.nearest).sum().item(), distance, rtol=1e-5, atol=1e-6)
    z, e = normal(2, 3, 2, 2).requires_grad_(), normal(2, 3, 2, 2, seed=1).requires_grad_()
    (by_e,) = torch.autograd.grad(codebook_loss(z, e).sum(), e)
    (by_z,) = torch.autograd.grad(commitment_loss(z, e).sum(), z)
    assert_close(by_e, 2 * (e - z).detach(), **EXACT)
    assert_close(by_z, 2 * (z - e).detach(), **EXACT)


def test_codes_are_decoded_in_the_order_they_were_encoded():
    """Let the outputs be codebook vectors on a grid that is not square: the indices come back (BUGS 15)."""
    quantiser = started(12, 5, decay=0.9).eval()
    indices = torch.arange(12).view(1, 3, 4).repeat(2, 1, 1)
    indices[1] = indices[1].flip(1)
    grid = torch.stack([torch.stack([torch.stack([quantiser.codebook[k] for k in row], 1) for row in one], 1)
                        for one in indices])  # fmt: skip
    assert grid.shape == (2, 5, 3, 4)
    found = quantiser(grid)
    assert torch.equal(found.indices, indices)
    assert torch.equal(quantiser.embed(indices), grid) and torch.equal(found.quantised, grid)
