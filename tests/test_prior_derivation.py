"""The derivation of a prior over codes, step by step, on grids so small that every probability can be counted."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributions, nn
from torch.testing import assert_close

from imagegen.data import Batch
from imagegen.evaluation.code_length import measure_code_length
from imagegen.metrics import level_counts, level_nll, level_table
from imagegen.objectives import bits_per_dim, code_nll
from imagegen.prior import (
    WITHHELD,
    CausalSelfAttention,
    MaskedConv2d,
    PixelCNN,
    Prior,
    PriorConfig,
    draw,
    top_p_filter,
)
from imagegen.recipes import PriorObjective
from imagegen.recipes.code_terms import partly_told

EXACT = {"rtol": 1e-10, "atol": 1e-10}
NETWORKS = ("transformer", "pixelcnn")
GRIDS = torch.cartesian_prod(*[torch.arange(3)] * 4).view(81, 2, 2)
PLACES = torch.tensor([27, 9, 3, 1])  # the number of a grid among the 81


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def known(seed: int = 0) -> Tensor:
    """Return the probabilities of the 81 grids."""
    return torch.softmax(1.5 * normal(81, seed=seed), 0)


def entropy(p: Tensor) -> float:
    return torch.special.entr(p.double()).sum().item()


def marginal(p: Tensor, places: list[int]) -> Tensor:
    """Return the joint distribution of some of the four places, as a flat table."""
    rest = [i for i in range(4) if i not in places]
    table = p.view(3, 3, 3, 3)
    return (table.sum(rest) if rest else table).flatten()


def tiny(network: str, *, seed: int = 0, gain: float = 3.0, **changes) -> Prior:
    """Return a prior over the 81 grids in float64, with weights large enough for it to be decided."""
    torch.manual_seed(seed)
    fields = {
        "codes": 3,
        "grid": (2, 2),
        "attributes": (),
        "width": 8,
        "depth": 2,
        "heads": 2,
        "dropout": 0.0,
    }
    model = Prior(PriorConfig(network=network, **fields | changes)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(gain)
    return model


# ---- what a prior saves ----------------------------------------------------------------------------------------


@pytest.mark.equation("prior-rate", tolerance="1e-10")
def test_the_mean_rate_of_one_hot_posteriors_is_the_cross_entropy_of_the_aggregate():
    """Take the divergence of each of 500 one-hot posteriors from a prior; their mean is -sum q log p, counted."""
    chosen = torch.multinomial(known(), 500, replacement=True, generator=seeded(1))  # k(x) of 500 images
    p = known(seed=2)
    posteriors = F.one_hot(chosen, 81).double()
    each = (torch.special.xlogy(posteriors, posteriors) - posteriors * p.log()).sum(1)
    assert_close(each, -p[chosen].log(), **EXACT)
    aggregate = torch.bincount(chosen, minlength=81) / 500
    assert_close(each.mean(), -(aggregate.double() * p.log()).sum(), rtol=1e-7, atol=1e-7)
    uniform = torch.full((81,), 1 / 81, dtype=torch.float64)
    rates = (posteriors * (posteriors.clamp(min=1e-300).log() - uniform.log())).sum(1)
    assert_close(rates, torch.full_like(rates, 4 * math.log(3)), **EXACT)


@pytest.mark.equation("prior-gap", tolerance="1e-10")
def test_the_cross_entropy_is_the_entropy_and_the_divergence_and_least_at_the_aggregate():
    """Compare both sides for 20 priors, with torch.distributions; only the data themselves reach the entropy."""
    q = known()
    for seed in range(20):
        p = known(seed)
        cross = -(q * p.log()).sum()
        kl = distributions.kl_divergence(distributions.Categorical(q), distributions.Categorical(p))
        assert_close(cross.item(), entropy(q) + kl.item(), **EXACT)
        assert cross >= entropy(q) - 1e-12 and (seed == 0) == (cross < entropy(q) + 1e-9)
    logits = torch.zeros(81, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -(q * torch.log_softmax(logits, 0)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert_close(torch.softmax(logits.detach(), 0), q, rtol=1e-3, atol=1e-5)


@pytest.mark.equation("prior-gap", tolerance="0.02 nats; the transformer 0.3, for its training is cut short")
@pytest.mark.parametrize(
    ("network", "rate", "left"), [("pixelcnn", 1e-2, 0.02), ("transformer", 5e-3, 0.3)], ids=NETWORKS[::-1]
)
def test_training_on_a_known_distribution_ends_at_its_entropy_and_never_below(network, rate, left):
    """Train on all 81 grids, weighted by their probabilities, so that the loss is exact at every step."""
    q = known().float()
    model = tiny(network, gain=1.0, width=32).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    losses = []
    for _ in range(200):
        loss = (q * code_nll(model(GRIDS), GRIDS)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert abs(losses[0] - 4 * math.log(3)) < 0.5
    assert min(losses) > entropy(q) - 1e-5 and losses[-1] < entropy(q) + left


# ---- the product rule ------------------------------------------------------------------------------------------


@pytest.mark.equation("prior-chain", tolerance="1e-10")
def test_every_joint_is_the_product_of_its_conditionals():
    """Cut a random table of 81 into conditionals, each from marginals, and multiply them up again."""
    q, product = known().view(3, 3, 3, 3), torch.ones(3, 3, 3, 3, dtype=torch.float64)
    for i in range(4):
        upto = q.sum(list(range(i + 1, 4)), keepdim=True) if i < 3 else q
        before = upto.sum(i, keepdim=True)
        assert_close((upto / before).sum(i), torch.ones_like(before.squeeze(i)), **EXACT)
        product = product * upto / before
    assert_close(product, q, **EXACT)


@pytest.mark.equation("prior-chain", tolerance="1e-10")
@pytest.mark.parametrize("network", NETWORKS)
def test_the_softmax_at_a_place_is_the_conditional_of_the_networks_own_joint(network):
    """Sum the network's 81 probabilities, get 1, and recover each softmax by marginalising them."""
    model = tiny(network)
    with torch.no_grad():
        joint = model.log_prob(GRIDS).exp()
        softmax = torch.softmax(model(GRIDS), 1).flatten(2)  # (81, K, places)
    assert_close(joint.sum().item(), 1.0, rtol=1e-6, atol=1e-6)
    assert joint.std() > 0.01  # it is not the uniform one
    flat = GRIDS.flatten(1)
    for i in range(4):
        for n, grid in enumerate(flat):
            prefix = (flat[:, :i] == grid[:i]).all(1)
            for j in range(3):
                conditional = joint[prefix & (flat[:, i] == j)].sum() / joint[prefix].sum()
                assert_close(softmax[n, j, i].item(), conditional.item(), rtol=1e-5, atol=1e-6)


@pytest.mark.equation("prior-chain", tolerance="1e-6")
def test_a_network_that_sees_its_own_place_is_no_distribution():
    """With mask B in the first layer the 81 numbers do not sum to 1, and training drives them far above it."""
    model = tiny("pixelcnn", width=16).float()
    model.network.left = MaskedConv2d("B", 16, 16, (1, 5))
    q, optimizer = known().float(), torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(80):
        loss = (q * code_nll(model(GRIDS), GRIDS)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < entropy(q) - 1  # below what any distribution can reach
    assert model.log_prob(GRIDS).exp().sum() > 20


@pytest.mark.equation("prior-loss", tolerance="1e-10")
@pytest.mark.parametrize("network", NETWORKS)
def test_one_pass_over_true_codes_sums_what_a_pass_for_each_place_gives(network):
    """Predict each place in a pass of its own, all later codes wrong; sum torch's classification losses."""
    model, total = tiny(network, grid=(3, 4), codes=5), 0.0
    k = torch.randint(5, (6, 3, 4), generator=seeded(1))
    place = torch.arange(12).view(3, 4)
    with torch.no_grad():
        for i in range(12):
            logits = model(torch.where(place < i, k, (k + 1) % 5)).flatten(2)[:, :, i]
            total = total - distributions.Categorical(logits=logits).log_prob(k.flatten(1)[:, i])
        at_once = code_nll(model(k), k)
        assert_close(at_once, total, rtol=1e-5, atol=1e-5)
        assert_close(model.log_prob(k), -at_once, rtol=1e-5, atol=1e-5)


@pytest.mark.equation("prior-saved", tolerance="1e-10")
def test_each_place_saves_by_its_shares_and_by_its_past_and_the_rest_is_the_entropy():
    """Take both savings from marginals of a known joint: none is negative, and uniform less all is the entropy."""
    q, saved = known(), 0.0
    for i in range(4):
        own, past = entropy(marginal(q, [i])), list(range(i))
        before = entropy(marginal(q, past)) if past else 0.0
        conditional = entropy(marginal(q, [*past, i])) - before
        shares = distributions.kl_divergence(
            distributions.Categorical(marginal(q, [i])), distributions.Categorical(torch.ones(3).double() / 3)
        ).item()
        if past:
            joint = marginal(q, [*past, i]).view(-1, 3)
            apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
            information = (joint * (joint / apart).log()).sum().item()
        else:
            information = 0.0
        assert shares >= 0 and information >= 0
        assert_close(math.log(3) - own, shares, **EXACT)
        assert_close(math.log(3) - conditional, shares + information, **EXACT)
        saved += shares + information
    assert_close(4 * math.log(3) - saved, entropy(q), **EXACT)


# ---- masks and attention ---------------------------------------------------------------------------------------


@pytest.mark.equation("prior-mask", tolerance="1e-10")
@pytest.mark.parametrize("kind", ["A", "B"])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 3), (1, 5)])
def test_a_masked_convolution_is_the_sum_over_earlier_offsets(kind, kernel):
    """Sum over the offsets that the mask allows, by loops; no input at or after the place has a gradient."""
    torch.manual_seed(0)
    layer, x = MaskedConv2d(kind, 2, 3, kernel).double(), normal(2, 5, 6).requires_grad_()
    above, beside = kernel[0] // 2, kernel[1] // 2
    y = layer(x[None])[0]
    for r, s in itertools.product(range(5), range(6)):
        total = layer.bias.clone()
        for a, b in itertools.product(range(-above, 1), range(-beside, beside + 1)):
            allowed = a < 0 or b < 0 or (b == 0 and kind == "B")
            if allowed and 0 <= r + a and 0 <= s + b < 6:
                total = total + layer.weight[:, :, a + above, b + beside] @ x[:, r + a, s + b]
        assert_close(y[:, r, s], total, **EXACT)
        (gradient,) = torch.autograd.grad(y[:, r, s].sum(), x, retain_graph=True)
        reached = (gradient != 0).any(0).flatten()
        assert not reached[r * 6 + s + (kind == "B") :].any()


def plain_stack(layers: int, kernel: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *[MaskedConv2d("A" if i == 0 else "B", 4, 4, (kernel, kernel)) for i in range(layers)]
    ).double()


def reach(network, x: Tensor, place: tuple[int, int]) -> Tensor:
    """Return which inputs (h, w) have a gradient to the output at a place."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[0, :, place[0], place[1]].sum(), x)
    return (gradient != 0).any(1)[0]


@pytest.mark.equation("prior-blind", tolerance="exact")
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("place", [(5, 0), (4, 2), (3, 8)])
def test_a_plain_stack_sees_all_but_a_wedge_and_two_stacks_and_attention_see_all(kernel, place):
    """Compare a deep stack's gradients with the wedge, code by code; then both cures' with the whole past."""
    x, (row, column) = normal(1, 4, 6, 9), place
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(9), indexing="ij")
    past = (rows < row) | ((rows == row) & (columns < column))
    inside = past & (columns - column <= (kernel // 2) * (row - rows))
    for depth in (14, 20):
        assert torch.equal(reach(plain_stack(depth, kernel), x, place), inside)
    assert inside.sum() < past.sum() or column == 8
    torch.manual_seed(0)
    config = PriorConfig(codes=5, grid=(6, 9), attributes=(), width=4, depth=2, heads=2)
    for network in (PixelCNN(5, 9, 4, 8).double(), Prior(config).network.double().eval()):

        def whole(x: Tensor, network: nn.Module = network) -> Tensor:
            flat = x.flatten(2).mT
            return network(flat, torch.zeros_like(flat)).mT.unflatten(2, (6, 9))

        assert torch.equal(reach(whole, x, place), past)


@pytest.mark.equation("prior-attention", tolerance="1e-10")
@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_the_mean_of_earlier_values_and_no_later_place_has_a_gradient(heads):
    """Loop over places, each with a softmax up to itself; differentiate every output by every input."""
    torch.manual_seed(0)
    layer, x = CausalSelfAttention(8, heads).double(), normal(6, 8).requires_grad_()
    found = layer(x[None])[0]
    rows = []
    for i in range(6):
        parts = []
        for head in range(heads):
            a, b, v = (t.unflatten(1, (heads, -1))[:, head] for t in layer.qkv(x).chunk(3, dim=1))
            scores = [(a[i] @ b[j] / math.sqrt(8 / heads)).exp() for j in range(i + 1)]
            parts.append(sum(score * v[j] for j, score in enumerate(scores)) / sum(scores))
        rows.append(layer.out(torch.cat(parts)))
    assert_close(found, torch.stack(rows), **EXACT)
    for i in range(6):
        (gradient,) = torch.autograd.grad(found[i].sum(), x, retain_graph=True)
        assert (gradient != 0).any(1).tolist() == [j <= i for j in range(6)]


@pytest.mark.equation("prior-cache", tolerance="exact")
@pytest.mark.parametrize("cached", [True, False])
def test_the_multiplications_of_a_sample_are_those_counted(cached, monkeypatch):
    """Count rows times weights of every dense layer, and the pairs of every attention, while the package samples."""
    places, width, depth = 9, 8, 3
    config = PriorConfig(
        codes=5, grid=(places, 1), attributes=(), width=width, depth=depth, heads=2, dropout=0.0
    )
    torch.manual_seed(0)
    model, counted = Prior(config).eval(), {"dense": 0, "pairs": 0}

    def dense(layer: nn.Linear, inputs: tuple[Tensor], _: Tensor) -> None:
        counted["dense"] += inputs[0].numel() * layer.out_features

    plain = F.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, **options) -> Tensor:
        counted["pairs"] += 2 * query.numel() * key.shape[2]  # scores, and the mean of the values
        return plain(query, key, value, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    for module in model.network.layers.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(dense)
    model.sample(1, cached=cached, generator=seeded())
    if cached:
        expected = (12 * width**2 * places, width * places * (places + 1))
    else:
        expected = (
            6 * width**2 * places * (places + 1),
            width * places * (places + 1) * (2 * places + 1) // 3,
        )
    assert (counted["dense"], counted["pairs"]) == (depth * expected[0], depth * expected[1])


# ---- temperature and top-p -------------------------------------------------------------------------------------


@pytest.mark.equation("prior-temperature", tolerance="1e-8")
def test_the_entropy_rises_with_temperature_at_the_rate_of_a_variance():
    """Differentiate the entropy by the temperature for five distributions; compare with the variance and limits."""
    for seed in range(5):
        logits = 2 * normal(7, seed=seed)
        p = torch.softmax(logits, 0)
        entropies = []
        for value in (0.2, 0.5, 1.0, 2.0, 5.0):
            tau = torch.tensor(value, dtype=torch.float64, requires_grad=True)
            tempered = torch.softmax(logits / tau, 0)
            assert_close(tempered.detach(), p ** (1 / value) / (p ** (1 / value)).sum(), **EXACT)
            h = -(tempered * tempered.log()).sum()
            (slope,) = torch.autograd.grad(h, tau)
            mean = (tempered * p.log()).sum()
            variance = (tempered * (p.log() - mean) ** 2).sum()
            assert_close(slope.item(), (variance / value**3).item(), rtol=1e-8, atol=1e-8)
            assert slope > 0
            entropies.append(h.item())
        assert entropies == sorted(entropies)
        assert torch.softmax(logits / 0.01, 0).max() > 0.99
        assert_close(torch.softmax(logits / 1e6, 0), torch.full_like(p, 1 / 7), rtol=1e-4, atol=1e-4)


@pytest.mark.equation("prior-temperature", tolerance="4 standard errors")
def test_draws_follow_the_tempered_distribution():
    """Draw 40,000 codes at two temperatures and compare each share with its probability and its standard error."""
    logits = normal(5).float()
    for tau in (0.5, 2.0):
        p = torch.softmax(logits, 0) ** (1 / tau)
        p = p / p.sum()
        shares = torch.bincount(draw(logits.expand(40_000, 5), temperature=tau, generator=seeded(1))) / 40_000
        assert ((shares - p).abs() < 4 * (p * (1 - p) / 40_000).sqrt()).all()


@pytest.mark.equation("prior-top-p", tolerance="1e-6")
def test_top_p_keeps_the_smallest_set_at_the_price_of_what_is_cut():
    """Try all subsets: none is smaller and probable enough; total variation from p is the probability left out."""
    for seed, p_top in itertools.product(range(5), (0.2, 0.5, 0.8, 0.95)):
        p = torch.softmax(2 * normal(6, seed=seed), 0)
        filtered = top_p_filter(p.log(), p_top)
        kept = filtered > -math.inf
        enough = [
            size
            for size in range(1, 7)
            if any(sum(chosen) >= p_top for chosen in itertools.combinations(p.tolist(), size))
        ]
        assert kept.sum() == min(enough)
        assert p[kept].min() >= (p[~kept].max() if (~kept).any() else 0)
        rest = torch.softmax(filtered, 0)
        assert_close(rest[kept], p[kept] / p[kept].sum(), **EXACT)
        assert_close(0.5 * (rest - p).abs().sum(), 1 - p[kept].sum(), **EXACT)


# ---- labels ----------------------------------------------------------------------------------------------------


@pytest.mark.equation("prior-told", tolerance="1e-8")
def test_told_or_not_each_ends_at_its_own_distribution_and_the_difference_is_the_information():
    """For 4 classes and 81 grids: at q(k) and q(k | c) the mixed loss has no gradient; the saving is I <= H(c)."""
    joint = torch.softmax(2 * normal(4, 81), 1) * torch.tensor([0.4, 0.3, 0.2, 0.1]).double()[:, None]
    classes, grids = joint.sum(1), joint.sum(0)
    told = joint / classes[:, None]
    logits = torch.cat([grids[None], told]).log().requires_grad_()  # row 0: withheld
    log_p = torch.log_softmax(logits, 1)
    loss = -0.5 * (grids * log_p[0]).sum() - 0.5 * (joint * log_p[1:]).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().max() < 1e-12
    conditional = -(joint * told.log()).sum().item()
    information = (joint * (joint / (classes[:, None] * grids)).log()).sum().item()
    assert_close(entropy(grids) - conditional, information, rtol=1e-8, atol=1e-8)
    assert 0.1 < information < entropy(classes) < math.log(4)


@pytest.mark.equation("prior-told", tolerance="4 standard errors")
def test_the_recipe_withholds_the_class_of_the_share_that_it_states():
    """Withhold the classes of 20,000 images; the share is a half, whatever the class, and the others keep theirs."""
    labels = torch.randint(10, (20_000, 1), generator=seeded(1))
    told = partly_told(labels, unconditional=0.5, generator=seeded(2))
    assert ((told == labels) | (told == WITHHELD)).all()
    for c in (None, 0, 9):
        chosen = told if c is None else told[labels == c]
        share = (chosen == WITHHELD).double().mean().item()
        assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(chosen.numel())


# ---- bits a dimension ------------------------------------------------------------------------------------------


@pytest.mark.equation("prior-levels", tolerance="1e-8")
def test_the_shares_of_the_levels_are_the_most_likely_table():
    """Split the likelihood of counts under 20 tables; none is above the shares, which the package's table holds."""
    counts = torch.randint(1, 50, (256,), generator=seeded(0)).double()
    shares, total = counts / counts.sum(), counts.sum()
    for seed in range(20):
        other = torch.softmax(normal(256, seed=seed), 0)
        kl = distributions.kl_divergence(
            distributions.Categorical(shares), distributions.Categorical(other)
        ).item()
        found = -(counts * other.log()).sum().item()
        assert_close(found, total.item() * (entropy(shares) + kl), rtol=1e-8, atol=1e-8)
        assert found > -(counts * shares.log()).sum().item()
    pixels = torch.rand(3, 1, 20, 20, generator=seeded(1))
    levels = torch.randint(256, (3, 1, 20, 20), generator=seeded(2), dtype=torch.uint8)
    table = level_table(level_counts(pixels, levels), smoothing=1e-9)
    assert_close(table.exp().sum(1), torch.ones(256, dtype=torch.float64), **EXACT)
    cells = (pixels.double() * 256).long().clamp(max=255).flatten()
    for v in cells.unique()[:20]:
        here = levels.flatten()[cells == v].long()
        assert_close(
            table[v].exp(), torch.bincount(here, minlength=256).double() / len(here), rtol=1e-6, atol=1e-6
        )
    by_hand = -table[cells, levels.flatten().long()].view(3, -1).sum(1)
    assert_close(level_nll(table, pixels, levels), by_hand, **EXACT)


@pytest.mark.equation("prior-bound", tolerance="1e-8")
def test_codes_and_pixels_bound_the_images_probability_by_its_doubt_about_the_codes():
    """Sum over all codes and all images of two pixels: one in all; the bound exceeds -log2 p(x) by -log2 p(k | x)."""
    prior = known()[:9] / known()[:9].sum()  # of nine codes
    shown = torch.rand(9, 2, generator=seeded(3))  # what the decoder shows for each
    pixels = shown.repeat_interleave(200, 0).view(-1, 1, 1, 2)
    noisy = (pixels * 255 + 20 * torch.randn(pixels.shape, generator=seeded(4))).clamp(0, 255).to(torch.uint8)
    table = level_table(level_counts(pixels, noisy))
    cells = (shown.double() * 256).long().clamp(max=255)
    log_given = table[cells[:, 0]][:, :, None] + table[cells[:, 1]][:, None, :]  # (codes, level, level)
    joint = log_given + prior.log()[:, None, None]
    log_p = torch.logsumexp(joint, 0)
    assert_close(log_p.exp().sum().item(), 1.0, **EXACT)
    for k in range(9):
        bound = -(prior[k].log() + log_given[k]) / math.log(2)
        doubt = -(joint[k] - log_p) / math.log(2)
        assert_close(bound - doubt, -log_p / math.log(2), rtol=1e-8, atol=1e-8)
        assert (doubt >= -1e-9).all()
    # the package, on images of known codes: the same bound, in bits a dimension
    codes = torch.arange(9).repeat(30)
    images = noisy.view(9, 200, 1, 1, 2)[:, :30].transpose(0, 1).reshape(-1, 1, 1, 2)
    found = measure_code_length(
        lambda part, start: (
            shown[codes[start : start + len(part)]].view(-1, 1, 1, 2),
            -prior.log()[codes[start : start + len(part)]],
        ),
        images, images, what="nine codes",
    )  # fmt: skip
    fitted = level_table(level_counts(shown[codes].view(-1, 1, 1, 2), images))
    nats = level_nll(fitted, shown[codes].view(-1, 1, 1, 2), images) - prior.log()[codes]
    assert_close(found["code_length"]["value"], bits_per_dim(nats.mean().item(), 2), rtol=1e-8, atol=1e-8)


# ---- the chapter's loss is the recipe's ------------------------------------------------------------------------


@pytest.mark.equation("prior-loss", tolerance="1e-6")
def test_the_loss_in_the_chapter_is_the_recipes_on_the_same_draw():
    """Withhold half of the classes and take the package's loss; the recipe's terms are the same numbers."""
    model = tiny("transformer", attributes=(10,), codes=5, grid=(3, 3)).float()
    k, labels = torch.randint(5, (40, 3, 3), generator=seeded(1)), torch.arange(40) % 10
    told = partly_told(labels[:, None], unconditional=0.5, generator=seeded(2))
    assert 8 <= (told == WITHHELD).sum() <= 32
    terms = PriorObjective().terms(model, Batch(k, labels), step=0, n_steps=1, generator=seeded(2))
    assert_close(code_nll(model(k, labels=told), k), terms["loss"])
    assert not torch.allclose(code_nll(model(k), k), terms["loss"])
