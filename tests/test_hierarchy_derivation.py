"""The derivation of the hierarchy, step by step, in worlds small enough to be enumerated."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from imagegen.data import Batch
from imagegen.hierarchy import HierarchicalVQVAE, HierarchyConfig
from imagegen.images import to_unit
from imagegen.objectives import commitment_loss, gaussian_nll
from imagegen.recipes import RECIPES, HierarchyObjective

EXACT = {"rtol": 1e-10, "atol": 1e-10}
CONFIG = HierarchyConfig((1, 8, 8), codes=(8, 16), code_dim=4, widths=(6,), blocks=1, hidden=6)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shares(*shape: int, seed: int) -> Tensor:
    """Return a distribution over all entries, far from even."""
    drawn = random(*shape, seed=seed) ** 3
    return drawn / drawn.sum()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def model() -> HierarchicalVQVAE:
    """In evaluation mode, its codebooks on the data."""
    torch.manual_seed(0)
    model = HierarchicalVQVAE(CONFIG)
    model(pictures(40))
    return model.eval()


def pictures(n: int) -> Tensor:
    return torch.rand(n, *CONFIG.image_shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


# ---- two levels in the bound -----------------------------------------------------------------------------------

# Two top codes, three bottom codes, an image of four values: six pairs, and every sum can be taken.
P_TOP, P_BOTTOM = shares(2, seed=1), torch.stack([shares(3, seed=seed) for seed in (2, 3)])
MEANS = normal(2, 3, 4, seed=4)


def log_likelihood(x: Tensor) -> Tensor:
    """Return log p(x | t, b) of one image (4,) under each pair: (2, 3)."""
    return -gaussian_nll(MEANS.flatten(0, 1), x.expand(6, 4)).view(2, 3)


@pytest.mark.equation("hierarchy-posterior", tolerance="exact")
def test_the_posterior_of_the_package_is_one_hot_and_the_bottom_knows_the_top(model):
    """Find each image's pair of grids from distances to all codes, the top first; the package chooses the same."""
    x = pictures(12)
    features = model.encoder(x)
    z_top = model.to_top(features).permute(0, 2, 3, 1)
    top = (z_top[..., None, :] - model.top.codebook).square().sum(-1).argmin(-1)
    coarse = model.from_top(model.top.codebook[top].permute(0, 3, 1, 2))
    z_bottom = model.to_bottom(torch.cat([features, coarse], 1)).permute(0, 2, 3, 1)
    bottom = (z_bottom[..., None, :] - model.bottom.codebook).square().sum(-1).argmin(-1)
    found = model.encode(x)
    assert found[0].equal(top) and found[1].equal(bottom)
    without = model.to_bottom(torch.cat([features, 0 * coarse], 1)).permute(0, 2, 3, 1)
    unaware = (without[..., None, :] - model.bottom.codebook).square().sum(-1).argmin(-1)
    assert not unaware.equal(bottom)  # b(x, t) does depend on t


@pytest.mark.equation("hierarchy-elbo", tolerance="1e-10")
@pytest.mark.parametrize("seed", range(5))
def test_every_pair_gives_a_lower_bound_and_the_gap_is_the_posterior(seed):
    """Sum out all six pairs; for each, bound - log p(t, b | x) is log p(x), with the posterior by Bayes' rule."""
    x = normal(4, seed=10 + seed)
    joint = log_likelihood(x).exp() * P_TOP[:, None] * P_BOTTOM
    evidence = joint.sum()
    for t, b in itertools.product(range(2), range(3)):
        bound = log_likelihood(x)[t, b] + P_TOP[t].log() + P_BOTTOM[t, b].log()
        posterior = joint[t, b] / evidence
        assert bound < evidence.log()
        assert_close(bound - posterior.log(), evidence.log(), **EXACT)


@pytest.mark.equation("hierarchy-bits", tolerance="exact")
def test_bits_count_the_pairs_of_grids_that_there_are():
    """Enumerate all pairs of grids of a tiny hierarchy, and take the shipped recipe's figure by logarithms."""
    n_top, k_top, n_bottom, k_bottom = 1, 4, 4, 2
    tops = itertools.product(range(k_top), repeat=n_top)
    pairs = list(itertools.product(tops, itertools.product(range(k_bottom), repeat=n_bottom)))
    assert len(set(pairs)) == 2 ** (n_top * math.log2(k_top) + n_bottom * math.log2(k_bottom)) == 64
    config = RECIPES["hierarchy-avatars"].model
    sizes = zip(config.grids, config.codes, strict=True)
    assert sum(h * w * math.log2(k) for (h, w), k in sizes) == 16 * 4 + 64 * 9


@pytest.mark.equation("hierarchy-chain", tolerance="1e-10")
@pytest.mark.parametrize("seed", range(4))
def test_the_mean_rate_is_the_entropy_of_the_pair_and_what_the_priors_get_wrong(seed):
    """Take the mean of -log p(t) - log p(b | t) over a table of shares; both orders of the chain rule."""
    q = shares(4, 5, seed=20 + seed)
    p_top = shares(4, seed=30 + seed)
    p_bottom = torch.stack([shares(5, seed=40 + 10 * seed + t) for t in range(4)])
    mean_rate = sum(
        q[t, b] * -(p_top[t] * p_bottom[t, b]).log() for t in range(4) for b in range(5)
    )  # one pair after the other
    q_top = q.sum(1)
    wrong_top = sum(q_top[t] * (q_top[t] / p_top[t]).log() for t in range(4))
    wrong_bottom = sum(
        q_top[t] * torch.distributions.kl_divergence(
            torch.distributions.Categorical(q[t]), torch.distributions.Categorical(p_bottom[t])
        )
        for t in range(4)
    )  # fmt: skip
    entropy = torch.distributions.Categorical(q.flatten()).entropy()
    assert_close(mean_rate, entropy + wrong_top + wrong_bottom, **EXACT)
    for table in (q, q.T):  # either level first
        first = torch.distributions.Categorical(table.sum(1)).entropy()
        rest = (table.sum(1) * torch.distributions.Categorical(table).entropy()).sum()
        assert_close(first + rest, entropy, **EXACT)
    assert wrong_top > 1e-3 and wrong_bottom > 1e-3


# ---- why the top may stay empty --------------------------------------------------------------------------------


@pytest.mark.equation("hierarchy-relabel", tolerance="1e-10")
@pytest.mark.parametrize("name", ["shuffled", "exchanged", "emptied"])
def test_a_model_whose_pairs_are_renamed_has_the_same_bound_for_every_image(name):
    """Rename the six pairs in a model of 6 x 6 pairs: at random, with levels exchanged, into the bottom alone."""
    pairs = list(itertools.product(range(2), range(3)))
    renamed = {
        "shuffled": [divmod(i, 6) for i in torch.randperm(36, generator=torch.Generator().manual_seed(0))[:6].tolist()],
        "exchanged": [(b, t) for t, b in pairs],
        "emptied": [(0, i) for i in range(6)],
    }[name]  # fmt: skip
    assert len(set(renamed)) == 6
    joint, means = torch.zeros(6, 6, dtype=torch.float64), torch.zeros(6, 6, 4, dtype=torch.float64)
    for (t, b), (t2, b2) in zip(pairs, renamed, strict=True):
        joint[t2, b2] = P_TOP[t] * P_BOTTOM[t, b]
        means[t2, b2] = MEANS[t, b]
    p_top = joint.sum(1)
    p_bottom = joint / p_top[:, None]
    for seed in range(4):
        x = normal(4, seed=50 + seed)
        for (t, b), (t2, b2) in zip(pairs, renamed, strict=True):
            old = log_likelihood(x)[t, b] + P_TOP[t].log() + P_BOTTOM[t, b].log()
            new = -gaussian_nll(means[t2, b2][None], x[None])[0] + p_top[t2].log() + p_bottom[t2, b2].log()
            assert_close(new, old, **EXACT)
    if name == "emptied":
        assert p_top[0] == pytest.approx(1, abs=1e-12)  # the top always says the same: 0 nats


NUMBERS = torch.arange(8, dtype=torch.float64)
TOPS = torch.tensor(
    list(itertools.product((0, 1), repeat=8))
)  # every way to give 0 to 7 one of two top codes


def told_the_top(top: Tensor, values: Tensor = NUMBERS) -> Tensor:
    """Return E|x - mean(x | t)|^2 of equally likely values."""
    means = torch.stack([values[top == code].mean() for code in top])
    return (values - means).square().mean()


def test_without_withholding_seventy_tops_tie_and_with_it_two_are_left():
    """Four bottom codes tell apart at most four numbers with one top code. The chapter prints these figures."""
    enough = [bool((top == 0).sum() == 4) for top in TOPS]
    errors = torch.stack([told_the_top(top) for top in TOPS])
    assert sum(enough) == math.comb(8, 4) == 70
    best = [top.tolist() for top, ok, e in zip(TOPS, enough, errors) if ok and e == errors.min()]
    assert best == [[0] * 4 + [1] * 4, [1] * 4 + [0] * 4]
    assert errors.min() == 1.25 and told_the_top(TOPS[0]) == 5.25 and told_the_top(NUMBERS % 2) == 5.0


# ---- what withholding asks for ---------------------------------------------------------------------------------


@pytest.mark.equation("hierarchy-withheld", tolerance="4 standard errors, below 1 %")
def test_the_recipes_mean_loss_is_the_mixture_of_two_distortions(model):
    """Average the recipe's distortion over draws of what is withheld; against both distortions, from stored codes."""
    x, share = pictures(50), 0.3
    target = to_unit(x)
    with torch.inference_mode():
        top, bottom = model.encode(x)
        told, alone = (
            gaussian_nll(torch.sigmoid(shown), target, 2 * math.log(0.1)).mean().item()
            for shown in (model.decode(top, bottom), model.decode(top))
        )
        objective, generator = HierarchyObjective(withhold=share), torch.Generator().manual_seed(0)
        draws = torch.stack([
            objective.terms(model, Batch(x, None), step=0, n_steps=1, generator=generator)["distortion"].mean()
            for _ in range(200)
        ])  # fmt: skip
    error = (draws.std() / math.sqrt(len(draws))).item()
    gap = abs(alone - told)
    assert error < 0.05 * gap and error < 0.01 * abs(told), "too few draws to tell"
    assert abs(draws.mean().item() - ((1 - share) * told + share * alone)) < 4 * error
    assert abs(draws.mean().item() - (share * told + (1 - share) * alone)) > 8 * error


@pytest.mark.equation("hierarchy-withheld", tolerance="1e-4 relative")
@pytest.mark.parametrize("withheld", [False, True])
def test_each_image_has_the_distortion_of_its_own_form(model, withheld):
    """At a share of 0 and of 1 the recipe's terms are the distortion of one form and the commitment of both levels."""
    x = pictures(6)
    with torch.inference_mode():
        terms = HierarchyObjective(withhold=float(withheld)).terms(model, Batch(x, None), step=0, n_steps=1)
        top, bottom = model.encode(x)
        shown = torch.sigmoid(model.decode(top) if withheld else model.decode(top, bottom))
        out = model(x)
        commitment = sum(commitment_loss(z, e) for z, e in zip(out.z, out.nearest, strict=True))
        distortion = gaussian_nll(shown, to_unit(x), 2 * math.log(0.1))
    assert_close(terms["distortion"], distortion, rtol=1e-4, atol=1e-3)
    assert_close(terms["loss"], distortion + 0.25 * commitment, rtol=1e-4, atol=1e-3)


def world(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return 60 images of 5 values, their shares, and top and bottom codes of three and four kinds, tied to them."""
    x = normal(60, 5, seed=seed)
    top = (x[:, 0] > 0).long() + (x[:, 0] > 1).long()
    bottom = 2 * (x[:, 1] > 0).long() + (x[:, 2] + x[:, 0] > 0).long()
    return x, shares(60, seed=seed + 1), top, bottom


def conditional_mean(x: Tensor, weight: Tensor, code: Tensor) -> Tensor:
    """Return for each image the mean of all that share its code, weighed."""
    means = torch.empty_like(x)
    for value in code.unique():
        mine = code == value
        means[mine] = (weight[mine, None] * x[mine]).sum(0) / weight[mine].sum()
    return means


def mean_square(difference: Tensor, weight: Tensor) -> Tensor:
    return (weight * difference.square().sum(1)).sum()


@pytest.mark.equation("hierarchy-top", tolerance="1e-10")
@pytest.mark.parametrize("seed", range(3))
def test_the_least_error_told_the_top_is_the_variance_less_that_of_the_conditional_means(seed):
    """Find the least error by weighed least squares on one-hot tops, and compare with both forms of the equation."""
    x, weight, top, _ = world(seed)
    one_hot = torch.nn.functional.one_hot(top).double()
    root = weight.sqrt()[:, None]
    answer = one_hot @ torch.linalg.lstsq(root * one_hot, root * x).solution
    mean = (weight[:, None] * x).sum(0)
    of_top = conditional_mean(x, weight, top)
    assert_close(answer, of_top, **EXACT)
    least = mean_square(x - answer, weight)
    assert_close(least, mean_square(x - mean, weight) - mean_square(of_top - mean, weight), **EXACT)
    empty = conditional_mean(x, weight, torch.zeros_like(top))
    assert_close(mean_square(x - empty, weight), mean_square(x - mean, weight), **EXACT)
    assert least < 0.95 * mean_square(x - mean, weight)


@pytest.mark.equation("hierarchy-top", tolerance="1e-10")
@pytest.mark.parametrize("seed", range(3))
def test_names_can_be_exchanged_within_a_level_and_what_the_top_tells_cannot_be_moved_for_free(seed):
    """Rename the pairs. Told both, the error stays; told the top, it stays for names in a level, and rises if moved."""
    x, weight, top, bottom = world(seed)

    def error(code: Tensor) -> Tensor:
        return mean_square(x - conditional_mean(x, weight, code), weight)

    tops = {
        "in a level": torch.tensor([2, 0, 1])[top],
        "moved in part": torch.tensor([0, 0, 1])[top],
        "emptied": torch.zeros_like(top),
    }
    bottoms = {"in a level": (bottom + top) % 4}  # of each top other names; elsewhere the bottom takes all
    for name, new_top in tops.items():
        new_bottom = bottoms.get(name, 4 * top + bottom)
        assert_close(error(100 * new_top + new_bottom), error(4 * top + bottom), **EXACT)
        if name == "in a level":
            assert_close(error(new_top), error(top), **EXACT)
        else:
            assert error(new_top) > error(top) + 1e-3


# ---- from low resolution to high -------------------------------------------------------------------------------


@pytest.mark.equation("hierarchy-split", tolerance="1e-10")
@pytest.mark.parametrize("seed", range(3))
def test_the_error_of_the_blur_is_that_of_both_levels_and_what_the_bottom_adds(seed):
    """Enumerate a world of 60 images with codes of both levels."""
    x, weight, top, bottom = world(seed)
    of_top, of_both = conditional_mean(x, weight, top), conditional_mean(x, weight, 10 * top + bottom)
    blur = mean_square(x - of_top, weight)
    added = mean_square(of_both - of_top, weight)
    assert_close(blur, mean_square(x - of_both, weight) + added, **EXACT)
    assert added > 0.1 * blur


@pytest.mark.equation("hierarchy-twice", tolerance="1e-10")
@pytest.mark.parametrize("seed", range(3))
def test_a_guess_of_the_bottom_has_twice_the_error_of_the_blur_less_that_of_both(seed):
    """Sum over all images and, for each, over all bottoms that its top allows, with their exact chances."""
    x, weight, top, bottom = world(seed)
    of_top, of_both = conditional_mean(x, weight, top), conditional_mean(x, weight, 10 * top + bottom)
    guess = distance = 0.0
    for i in range(len(x)):
        fits = top == top[i]
        chance = weight[fits] / weight[fits].sum()  # of the images, and so of their bottoms
        guess += weight[i] * (chance * (x[i] - of_both[fits]).square().sum(1)).sum()
        distance += weight[i] * (chance * (of_top[i] - of_both[fits]).square().sum(1)).sum()
    blur, both = mean_square(x - of_top, weight), mean_square(x - of_both, weight)
    assert_close(guess, blur + distance, **EXACT)
    assert_close(guess, 2 * blur - both, **EXACT)
    assert 1.05 * blur < guess < 2 * blur


def test_where_the_codes_tell_all_a_guess_is_exactly_twice_as_wrong():
    """The numbers 0 to 7, lower and upper half on top."""
    half = TOPS[15]
    pairs = [(a, b) for a, b in itertools.product(NUMBERS, NUMBERS) if half[int(a)] == half[int(b)]]
    assert sum((a - b) ** 2 for a, b in pairs) / len(pairs) == 2 * told_the_top(half)
