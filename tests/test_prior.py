"""The priors over codes: nothing leaks from the future, the probabilities sum to 1, and samples follow them."""

import dataclasses
import itertools
import json
import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chisquare
from torch import nn
from torch.testing import assert_close

from imagegen.prior import (
    WITHHELD,
    CausalSelfAttention,
    GatedLayer,
    MaskedConv2d,
    Prior,
    PriorConfig,
    TransformerLayer,
    draw,
    gate,
    top_p_filter,
)

NETWORKS = ("transformer", "pixelcnn")
DECIDED = {
    "transformer": 1.5,
    "pixelcnn": 3.25,
}  # gains at which fresh weights are neither sure nor at a loss
SMALL = PriorConfig(codes=11, grid=(4, 5), attributes=(3, 2), width=16, depth=3, heads=2)
WITH_CONTEXT = dataclasses.replace(SMALL, context_codes=4, context_grid=(2, 1))
TINY = PriorConfig(codes=3, grid=(2, 2), attributes=(2,), width=8, depth=1, heads=2)


@pytest.fixture(params=NETWORKS)
def network(request) -> str:
    return request.param


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(config: PriorConfig, *, gain: float = 1.0, **changes) -> Prior:
    """Return a prior with fresh weights, in evaluation mode; a gain above 1 makes it decided about its codes."""
    torch.manual_seed(0)
    model = Prior(dataclasses.replace(config, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(gain)
    return model


def grids(config: PriorConfig, n: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.randint(config.codes, (n, *config.grid), generator=seeded(seed))


def all_grids(config: PriorConfig) -> torch.Tensor:
    """Return every grid there is, (K^N, h, w)."""
    codes = torch.tensor(list(itertools.product(range(config.codes), repeat=math.prod(config.grid))))
    return codes.unflatten(1, config.grid)


def sees(model: Prior) -> torch.Tensor:
    """Return, for each position, the largest gradient of its logits on each embedded code, (N, N)."""
    n = math.prod(model.config.grid)
    embedded = model.embedding(grids(model.config, 1).flatten(1)).detach().requires_grad_()
    logits = model.network(embedded, model.conditions(1))[0]
    weights = torch.randn(model.config.codes, generator=seeded(2))
    rows = [torch.autograd.grad(logits[i] @ weights, embedded, retain_graph=True)[0][0] for i in range(n)]
    return torch.stack(rows).abs().amax(dim=2)


# ---- nothing leaks, nothing is missed --------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(4, 5), (5, 3), (1, 6), (6, 1), (1, 1)])
def test_no_logit_has_a_gradient_on_its_own_or_a_later_code_and_each_has_one_on_every_earlier(network, grid):
    seen = sees(build(SMALL, network=network, grid=grid))
    earlier = torch.ones_like(seen).tril(-1).bool()
    assert (seen[~earlier] == 0).all()
    assert (seen[earlier] > 0).all()


def test_at_its_default_depth_the_pixelcnn_sees_all_of_a_grid_of_seven_by_seven():
    seen = sees(build(PriorConfig(network="pixelcnn", codes=5, attributes=(), width=6)))
    assert torch.equal(seen > 0, torch.ones(49, 49).tril(-1).bool())


@pytest.mark.parametrize("bf16", [False, True])
def test_logits_do_not_change_by_a_bit_when_later_codes_do(network, bf16):
    model = build(SMALL, network=network)
    before, other = grids(SMALL, seed=1), grids(SMALL, seed=2)
    other = torch.where(other == before, (other + 1) % SMALL.codes, other)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        expected = model(before).flatten(2)
        for i in range(20):
            changed = torch.where(torch.arange(20).view(4, 5) < i, before, other)
            found = model(changed).flatten(2)
            assert torch.equal(found[:, :, : i + 1], expected[:, :, : i + 1])
            assert i == 19 or not torch.equal(found[:, :, i + 1], expected[:, :, i + 1])


@pytest.mark.parametrize(
    ("kind", "seen", "kernel", "mask"),
    [
        ("A", "raster", (3, 3), [[1, 1, 1], [1, 0, 0]]),
        ("B", "raster", (3, 3), [[1, 1, 1], [1, 1, 0]]),
        ("A", "rows", (3, 3), [[1, 1, 1], [0, 0, 0]]),
        ("B", "rows", (3, 3), [[1, 1, 1], [1, 1, 1]]),
        ("A", "raster", (1, 5), [[1, 1, 0, 0, 0]]),
        ("B", "raster", (1, 5), [[1, 1, 1, 0, 0]]),
        ("B", "raster", (5, 1), [[1], [1], [1]]),
    ],
)
def test_a_masked_convolution_is_a_whole_kernel_with_zeros(kind, seen, kernel, mask):
    torch.manual_seed(0)
    layer = MaskedConv2d(kind, 2, 3, kernel, seen=seen)
    assert layer.mask.tolist() == mask
    whole = torch.zeros(3, 2, *kernel)
    whole[:, :, : len(mask)] = layer.weight * torch.tensor(mask)
    x = torch.randn(2, 2, 6, 7, generator=seeded())
    expected = F.conv2d(x, whole, layer.bias, padding=(kernel[0] // 2, kernel[1] // 2))
    assert_close(layer(x), expected)
    assert list(layer.state_dict()) == ["weight", "bias"]  # the mask is no weight


def test_one_stack_of_masked_convolutions_has_a_blind_spot_and_two_have_none():
    """Of the row above, 3 x 3 layers never see what is two and more to the right, however many there are."""
    torch.manual_seed(0)
    x = torch.randn(1, 2, 5, 9, generator=seeded(), requires_grad=True)
    stack = nn.Sequential(
        MaskedConv2d("A", 2, 2, (3, 3)), *[MaskedConv2d("B", 2, 2, (3, 3)) for _ in range(6)]
    )
    seen = torch.autograd.grad(stack(x)[0, :, 4, 2].sum(), x)[0].abs().amax(dim=(0, 1)) > 0
    assert seen[3].tolist() == [True] * 4 + [False] * 5
    assert seen[2].tolist() == [True] * 5 + [False] * 4
    rows = nn.Sequential(
        MaskedConv2d("A", 2, 2, (3, 3), seen="rows"),
        *[MaskedConv2d("B", 2, 2, (3, 3), seen="rows") for _ in range(6)],
    )
    seen = torch.autograd.grad(rows(x)[0, :, 4, 2].sum(), x)[0].abs().amax(dim=(0, 1)) > 0
    assert seen[:4].all() and not seen[4].any()


def test_a_gate_multiplies_tanh_by_sigmoid():
    x = torch.randn(2, 6, 1, 2, generator=seeded())
    found = gate(x)
    for b, c, w in itertools.product(range(2), range(3), range(2)):
        a, opening = x[b, c, 0, w].item(), x[b, c + 3, 0, w].item()
        assert found[b, c, 0, w].item() == pytest.approx(math.tanh(a) / (1 + math.exp(-opening)), abs=1e-6)


def test_the_vertical_stack_is_told_nothing_by_the_horizontal_one():
    torch.manual_seed(0)
    layer = GatedLayer(4)
    vertical, horizontal = torch.randn(2, 1, 4, 3, 5, generator=seeded()).requires_grad_()
    up, along = layer(vertical, horizontal)
    assert torch.autograd.grad(up.sum(), horizontal, retain_graph=True, allow_unused=True)[0] is None
    to_vertical, to_horizontal = torch.autograd.grad(along[0, :, 1, 2].sum(), (vertical, horizontal))
    assert (to_vertical[0].abs().amax(0) > 0).int().tolist() == [[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0] * 5]
    assert (to_horizontal[0].abs().amax(0) > 0).int().tolist() == [[0] * 5, [0, 1, 1, 0, 0], [0] * 5]


# ---- attention, against PyTorch's own --------------------------------------------------------------------------


def test_attention_is_that_of_torch_with_a_causal_mask():
    torch.manual_seed(0)
    ours, theirs = CausalSelfAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 7, 12, generator=seeded())
    future = torch.ones(7, 7, dtype=torch.bool).triu(1)
    assert_close(ours(x), theirs(x, x, x, attn_mask=future, need_weights=False)[0], atol=1e-5, rtol=1e-5)


def test_a_layer_is_the_pre_norm_layer_of_torch():
    torch.manual_seed(0)
    ours = TransformerLayer(8, 2)
    theirs = nn.TransformerEncoderLayer(
        8, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(ours.attention.qkv.weight)
        theirs.self_attn.in_proj_bias.copy_(ours.attention.qkv.bias)
    theirs.self_attn.out_proj.load_state_dict(ours.attention.out.state_dict())
    theirs.linear1.load_state_dict(ours.dense[0].state_dict())
    theirs.linear2.load_state_dict(ours.dense[2].state_dict())
    x = torch.randn(2, 5, 8, generator=seeded())
    expected = theirs(x, src_mask=nn.Transformer.generate_square_subsequent_mask(5))
    assert_close(ours(x), expected, atol=1e-5, rtol=1e-5)


def test_positions_are_told_apart():
    """All codes are equal and nothing else is told: without positions, all logits but the first would be the same."""
    model = build(SMALL)
    logits = model(torch.zeros(1, 4, 5, dtype=torch.int64)).flatten(2)[0].T
    assert (torch.cdist(logits, logits) + torch.eye(20)).min() > 1e-3


# ---- the cache -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1, 7])
def test_logits_with_the_cache_are_those_without(first):
    model = build(SMALL, gain=2.0)
    embedded = model.embedding(grids(SMALL).flatten(1))
    conditions = model.conditions(4, torch.tensor([[0, 1], [1, 0], [2, -1], [-1, -1]]))
    with torch.no_grad():
        expected = model.network(embedded, conditions)
        cache = model.network.new_cache(4)
        parts = [model.network(embedded[:, :first], conditions[:, :first], cache=cache)]
        for end in range(first + 1, 21):
            parts.append(model.network(embedded[:, :end], conditions[:, :end], cache=cache))
            assert cache.length == end and parts[-1].shape == (4, 1, SMALL.codes)
    assert_close(torch.cat(parts, dim=1), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [SMALL, WITH_CONTEXT], ids=["labels", "context"])
@pytest.mark.parametrize("n_given", [None, 0, 8])
def test_with_and_without_a_cache_the_same_codes_are_drawn(network, config, n_given):
    model = build(config, network=network, gain=DECIDED[network])
    options = {"labels": torch.tensor([[0, 1], [1, 0], [2, -1], [-1, -1]]), "temperature": 0.9, "top_p": 0.9}
    options["given"] = None if n_given is None else grids(config).flatten(1)[:, :n_given]
    if config.context_codes:
        options["context"] = torch.randint(4, (4, 2, 1), generator=seeded(3))
    with_cache = model.sample(4, **options, generator=seeded(), cached=True)
    assert torch.equal(with_cache, model.sample(4, **options, generator=seeded(), cached=False))
    assert with_cache.shape == (4, 4, 5) and with_cache.dtype == torch.int64
    assert not torch.equal(with_cache, model.sample(4, **options, generator=seeded(5)))


def test_a_longer_piece_than_one_position_must_come_first():
    attention = CausalSelfAttention(4, 2)
    with pytest.raises(ValueError, match="2 positions from 3 on, expected 1 and a cache"):
        attention(torch.zeros(1, 2, 4), cache=torch.zeros(2, 1, 2, 9, 2), start=3)
    with pytest.raises(ValueError, match="1 positions from 3 on, expected 1 and a cache"):
        attention(torch.zeros(1, 1, 4), start=3)


# ---- the chain rule, and samples that follow it ----------------------------------------------------------------


def test_the_probabilities_of_all_grids_sum_to_one(network):
    config = dataclasses.replace(TINY, context_codes=2, context_grid=(1, 2))
    model, every = build(config, network=network, gain=DECIDED[network]).double(), all_grids(TINY)
    seen = []
    for label, context in itertools.product((WITHHELD, 0, 1), ([[0, 0]], [[0, 1]], [[1, 0]])):
        told = {"labels": torch.full((81,), label), "context": torch.tensor([context]).expand(81, -1, -1)}
        log_p = model.log_prob(every, **told)
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-6)
        seen.append(log_p)
    assert (torch.cdist(torch.stack(seen), torch.stack(seen)) + torch.eye(9)).min() > 0.1


def test_log_prob_sums_what_a_categorical_gives_each_position(network):
    model, codes = build(SMALL, network=network), grids(SMALL)
    labels = torch.tensor([[0, 1], [1, 0], [2, -1], [-1, -1]])
    logits = model(codes, labels=labels)
    expected = torch.zeros(4)
    for row, column in itertools.product(range(4), range(5)):
        at = torch.distributions.Categorical(logits=logits[:, :, row, column])
        expected += at.log_prob(codes[:, row, column])
    assert_close(model.log_prob(codes, labels=labels), expected)


def exact(model: Prior, label: int, temperature: float, top_p: float) -> torch.Tensor:
    """Return the probability of each grid under sampling, (K^N,): by enumeration, and apart from `draw`."""
    every = all_grids(model.config)
    logits = model(every, labels=torch.full((len(every),), label)).flatten(2).double()
    total = torch.ones(len(every), dtype=torch.float64)
    for i, row in itertools.product(range(logits.shape[2]), range(len(every))):
        weights = [math.exp(value / temperature) for value in logits[row, :, i].tolist()]
        shares = [weight / sum(weights) for weight in weights]
        kept, mass = [], 0.0
        for code in sorted(range(len(shares)), key=lambda code: -shares[code]):
            if mass < top_p:
                kept.append(code)
                mass += shares[code]
        code = every[row].flatten()[i].item()
        total[row] *= shares[code] / mass if code in kept else 0
    return total


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.7), (0.6, 0.8)]
)
def test_samples_are_as_frequent_as_they_are_probable(network, temperature, top_p):
    model, n = build(TINY, network=network, gain=DECIDED[network]), 20_000
    with torch.no_grad():
        expected = exact(model, 1, temperature, top_p)
        if (temperature, top_p) == (1.0, 1.0):
            assert_close(
                model.log_prob(all_grids(TINY), labels=torch.ones(81).long()).exp().double(), expected
            )
        other = exact(model, 0, temperature, top_p)
    options = {"temperature": temperature, "top_p": top_p, "generator": seeded()}
    drawn = model.sample(n, labels=torch.ones(n, dtype=torch.int64), **options).flatten(1)
    counts = torch.bincount(drawn @ torch.tensor([27, 9, 3, 1]), minlength=81).double()
    assert expected.sum().item() == pytest.approx(1, abs=1e-5)
    assert counts[expected == 0].sum() == 0 and (expected == 0).any() == (top_p < 1)

    def chance(
        probabilities,
    ):  # of counts at least as far off; cells of fewer than 10 expected are put together
        often = probabilities * n >= 10
        pair = [
            torch.cat([x[often], x[~often].sum()[None]])
            for x in (counts, probabilities / probabilities.sum() * n)
        ]
        observed, wanted = (x[pair[1] > 0].numpy() for x in pair)
        return chisquare(observed, wanted / wanted.sum() * observed.sum()).pvalue

    assert chance(expected) > 1e-3
    assert chance(other) < 1e-9  # the test has the power to tell another label's distribution


def test_given_codes_are_kept_and_steer_the_rest(network):
    model = build(TINY, network=network, gain=DECIDED[network])
    every, n = all_grids(TINY), 4000
    p = model.log_prob(every).exp()
    for start in ((0, 1), (2, 0)):
        given = torch.tensor([start]).expand(n, -1)
        drawn = model.sample(n, given=given, generator=seeded()).flatten(1)
        assert (drawn[:, :2] == given).all()
        fits = (every.flatten(1)[:, :2] == torch.tensor(start)).all(dim=1)
        wanted = (p[fits] / p[fits].sum()).detach()  # of the 9 ways to go on
        found = torch.bincount(drawn[:, 2:] @ torch.tensor([3, 1]), minlength=9) / n
        assert ((found - wanted).abs() < 4.5 * (wanted * (1 - wanted) / n).sqrt() + 1e-4).all()
    whole = grids(TINY).flatten(1)
    assert torch.equal(model.sample(4, given=whole).flatten(1), whole)


# ---- temperature and top-p -------------------------------------------------------------------------------------


def test_top_p_keeps_the_smallest_set_that_is_probable_enough():
    """Against all 63 sets of six codes: the fewest whose mass is p or more and, among those, the likeliest."""
    logits = 1.5 * torch.randn(40, 6, generator=seeded(), dtype=torch.float64)
    sets = [set(s) for size in range(1, 7) for s in itertools.combinations(range(6), size)]
    for p in (0.05, 0.3, 0.5, 0.8, 0.95, 0.999):
        filtered = top_p_filter(logits, p)
        for row, shares in enumerate(torch.softmax(logits, dim=1).tolist()):
            enough = [s for s in sets if sum(shares[code] for code in s) >= p]
            best = min(enough, key=lambda s: (len(s), -sum(shares[code] for code in s)))
            assert set(filtered[row].isfinite().nonzero().flatten().tolist()) == best
        kept = filtered.isfinite()
        assert torch.equal(filtered[kept], logits[kept]) and (filtered[~kept] == -math.inf).all()


def test_top_p_at_its_limits():
    logits = torch.tensor([[0.0, 40.0, -60.0], [1.0, 1.0, 1.0]])
    assert torch.equal(top_p_filter(logits, 1.0), logits)  # though the sum rounds to 1 after the first
    assert top_p_filter(logits, 1e-12).isfinite().tolist() == [[False, True, False], [True, False, False]]
    quarters = torch.tensor([0.25, 0.5, 0.25]).log()
    assert top_p_filter(quarters, 0.75).isfinite().tolist() == [True, True, False]  # of equals, the first
    stacked = torch.randn(2, 3, 4, 5, generator=seeded())
    assert torch.equal(top_p_filter(stacked, 0.6)[1, 2, 3], top_p_filter(stacked[1, 2, 3], 0.6))


def test_temperature_goes_from_the_likeliest_to_uniform():
    logits = torch.tensor([0.3, 2.0, -1.0, 1.9]).expand(20_000, -1)
    assert (draw(logits, temperature=0) == 1).all() and (draw(logits, temperature=1e-4) == 1).all()
    for temperature in (0.5, 1.0, 3.0, 1e6):
        shares = torch.softmax(logits[0] / temperature, dim=0)
        found = (
            torch.bincount(draw(logits, temperature=temperature, generator=seeded()), minlength=4) / 20_000
        )
        assert ((found - shares).abs() < 4.5 * (shares * (1 - shares) / 20_000).sqrt()).all()


def test_temperature_is_applied_before_top_p():
    """At temperature 4 the first code has less than half of the mass, at 1 more: only then does it stand alone."""
    logits = torch.tensor([2.0, 0.0, 0.0]).expand(500, -1)
    assert draw(logits, top_p=0.5, generator=seeded()).unique().tolist() == [0]
    assert draw(logits, top_p=0.5, temperature=4.0, generator=seeded()).unique().tolist() == [0, 1]


def test_draws_repeat_with_their_generator_and_differ_without():
    logits = torch.zeros(50, 9)
    assert torch.equal(draw(logits, generator=seeded()), draw(logits, generator=seeded()))
    assert not torch.equal(draw(logits), draw(logits))
    torch.manual_seed(3)
    first = draw(logits)
    torch.manual_seed(3)
    assert torch.equal(draw(logits), first)


# ---- labels and context ----------------------------------------------------------------------------------------


def test_every_description_changes_already_the_first_position(network):
    model = build(SMALL, network=network)
    labels = torch.tensor(list(itertools.product((-1, 0, 1, 2), (-1, 0, 1))))
    codes = grids(SMALL, 1).expand(12, -1, -1)
    logits = model(codes, labels=labels)
    for place in (logits[:, :, 0, 0], logits[:, :, 3, 4]):
        assert (torch.cdist(place, place) + torch.eye(12)).min() > 1e-4
    assert torch.equal(model(codes), model(codes, labels=torch.full((12, 2), WITHHELD)))


def test_one_label_may_come_without_its_axis_and_none_at_all():
    model, codes = build(TINY), grids(TINY)
    labels = torch.tensor([0, 1, -1, 1])
    assert torch.equal(model(codes, labels=labels), model(codes, labels=labels[:, None]))
    untold = build(TINY, attributes=())
    assert torch.equal(untold(codes), untold(codes, labels=torch.empty(4, 0, dtype=torch.int64)))


def test_context_is_told_where_it_lies_and_to_the_position_it_is_predicted_at(network):
    config = dataclasses.replace(SMALL, grid=(12, 4), context_codes=5, context_grid=(6, 2))
    model = build(config, network=network)
    one = torch.randint(5, (1, 6, 2), generator=seeded(4))
    other = one.clone()
    other[0, 5, 1] = (one[0, 5, 1] + 1) % 5  # covers rows 10 and 11, columns 2 and 3
    changed = (model.conditions(1, None, one) - model.conditions(1, None, other))[0].abs().amax(1).view(12, 4)
    assert (changed[:6] == 0).all()  # two 3 x 3 convolutions reach two coarse cells, that is four rows up
    assert (changed[10:, 2:] > 0).all()
    assert changed[10, 2] == changed[11, 3]  # the nearest coarse cell, not one in between
    codes = grids(config, 1)
    first = model(codes, context=one)[0, :, 0, 0], model(codes, context=(one + 1) % 5)[0, :, 0, 0]
    assert (first[0] - first[1]).abs().max() > 1e-5


@pytest.mark.parametrize("told", ["labels", "context"])
def test_it_learns_eight_grids_by_heart(network, told):
    torch.manual_seed(0)
    config = PriorConfig(
        network=network, codes=16, grid=(4, 4), attributes=(8,) if told == "labels" else (), width=32, depth=2,
        dropout=0.0, context_codes=8 if told == "context" else 0, context_grid=(2, 2) if told == "context" else (0, 0),
    )  # fmt: skip
    model, codes, numbers = Prior(config), grids(config, 8), torch.arange(8)
    options = {told: numbers if told == "labels" else numbers.view(8, 1, 1).expand(-1, 2, 2)}
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        loss = F.cross_entropy(model(codes, **options), codes)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss < 0.05
    assert torch.equal(model.sample(8, temperature=0, **options), codes)


# ---- modes -----------------------------------------------------------------------------------------------------


def test_dropout_is_for_training_and_never_for_samples(network):
    model, codes = build(SMALL, network=network, dropout=0.5, gain=DECIDED[network]), grids(SMALL)
    assert torch.equal(model(codes), model(codes))
    expected = model.sample(4, generator=seeded())
    model.train()
    model.network.layers[1].eval()
    assert not torch.equal(model(codes), model(codes))
    assert torch.equal(model.sample(4, generator=seeded()), expected)
    modes = {name: module.training for name, module in model.named_modules()}
    assert {name for name, training in modes.items() if not training} == {
        name for name in modes if name.startswith("network.layers.1")
    }
    with pytest.raises(ValueError, match="top_p is 2"):
        model.sample(4, top_p=2)
    assert model.training


def test_samples_carry_no_graph_and_log_prob_does(network):
    model = build(SMALL, network=network)
    model.log_prob(grids(SMALL)).sum().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == [] and not model.embedding.weight.grad.isnan().any()
    with torch.inference_mode():
        assert_close(
            model.log_prob(grids(SMALL)), build(SMALL, network=network).log_prob(grids(SMALL)).detach()
        )
        inferred = model.sample(3, generator=seeded())
    assert torch.equal(inferred, model.sample(3, generator=seeded()))


def test_under_autocast_logits_are_float32_and_nearly_the_same(network):
    model, codes = build(WITH_CONTEXT, network=network), grids(SMALL)
    context = torch.randint(4, (4, 2, 1), generator=seeded())
    expected = model(codes, context=context)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(codes, context=context)
        model.log_prob(codes, context=context).sum().backward()
        drawn = [model.sample(4, context=context, generator=seeded(), cached=c) for c in (True, False)]
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    assert_close(found, expected, atol=0.03, rtol=0)
    assert (drawn[0] == drawn[1]).float().mean() > 0.5  # rounding may tip a draw, and those after it


def test_forward_can_be_exported_for_any_batch(network):
    model, codes = build(WITH_CONTEXT, network=network), grids(SMALL, 5)
    labels, context = (
        torch.randint(2, (5, 2), generator=seeded()),
        torch.randint(4, (5, 2, 1), generator=seeded()),
    )
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(
        model, (codes[:2],), {"labels": labels[:2], "context": context[:2]},
        dynamic_shapes={"indices": {0: batch}, "labels": {0: batch}, "context": {0: batch}},
    )  # fmt: skip
    found = program.module()(codes, labels=labels, context=context)
    assert_close(found, model(codes, labels=labels, context=context))


# ---- sizes and errors ------------------------------------------------------------------------------------------


def test_the_default_is_small():
    assert sum(p.numel() for p in Prior(PriorConfig()).parameters()) < 1_000_000


def test_a_config_is_frozen_and_survives_json():
    for config in (SMALL, WITH_CONTEXT, TINY):
        assert PriorConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.width = 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": "lstm"}, "network is 'lstm'"),
        ({"grid": (7,)}, r"grid is \(7,\), expected \(h, w\)"),
        ({"grid": (0, 7)}, r"grid is \(0, 7\)"),
        ({"attributes": (10, 1)}, r"attributes is \(10, 1\)"),
        ({"codes": 1}, "codes is 1, expected at least 2"),
        ({"width": 0}, "width is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"heads": 0}, "heads is 0"),
        ({"heads": 3}, "width is 128, expected a multiple of heads, 3"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"context_codes": -1}, "context_codes is -1"),
        ({"context_grid": (7, 7)}, r"context_grid is \(7, 7\), expected \(0, 0\)"),
        ({"context_codes": 8}, r"context_grid is \(0, 0\), expected divisors of grid, \(7, 7\)"),
        ({"context_codes": 8, "context_grid": (7, 2)}, r"context_grid is \(7, 2\)"),
        ({"context_codes": 8, "context_grid": (7,)}, r"context_grid is \(7,\)"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PriorConfig(**fields)


def test_the_heads_are_the_transformers_alone():
    PriorConfig(network="pixelcnn", width=10, heads=4)
    with pytest.raises(ValueError, match="width is 10, expected a multiple of heads, 4"):
        CausalSelfAttention(10, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("C", 1, 1, (3, 3), "raster"), "kind is 'C' and seen 'raster'"),
        (("A", 1, 1, (3, 3), "columns"), "kind is 'A' and seen 'columns'"),
        (("A", 1, 1, (3, 2), "raster"), r"kernel is \(3, 2\), expected two odd numbers"),
        (("A", 1, 1, (-1, 3), "raster"), r"kernel is \(-1, 3\)"),
        (("A", 1, 1, (1, 1), "raster"), r"kernel is \(1, 1\): kind 'A' of it sees nothing"),
        (("A", 1, 1, (1, 3), "rows"), r"kernel is \(1, 3\): kind 'A' of it sees nothing"),
    ],
)
def test_masks_that_make_no_sense_are_refused(arguments, message):
    *positional, seen = arguments
    with pytest.raises(ValueError, match=message):
        MaskedConv2d(*positional, seen=seen)


@pytest.mark.parametrize("method", ["forward", "log_prob"])
def test_grids_labels_and_context_that_do_not_fit_are_refused(method):
    model, codes = build(WITH_CONTEXT), grids(SMALL)
    call, context = getattr(model, method), torch.zeros(4, 2, 1, dtype=torch.int64)
    cases = [
        (TypeError, "expected int64 indices, got torch.float32", codes.float(), {}),
        (ValueError, r"indices of shape \(4, 20\), expected \(B, 4, 5\)", codes.flatten(1), {}),
        (ValueError, r"indices of shape \(4, 5, 4\)", codes.mT, {}),
        (TypeError, "expected int64 labels, got torch.int32", codes, {"labels": torch.zeros(4, 2).int()}),
        (ValueError, r"labels of shape \(4,\), expected \(4, 2\)", codes, {"labels": torch.zeros(4).long()}),
        (
            ValueError,
            r"labels of shape \(3, 2\), expected \(4, 2\)",
            codes,
            {"labels": torch.zeros(3, 2).long()},
        ),
        (ValueError, "context is missing, but context_codes is 4", codes, {"context": None}),
        (ValueError, r"context of shape \(4, 1, 2\), expected \(B, 2, 1\)", codes, {"context": context.mT}),
        (TypeError, "expected int64 context, got torch.float32", codes, {"context": context.float()}),
        (ValueError, "context of 1 grids, expected 4", codes, {"context": context[:1]}),
    ]
    for error, message, indices, options in cases:
        with pytest.raises(error, match=message):
            call(indices, **({"context": context} | options))
    with pytest.raises(ValueError, match="context is given, but context_codes is 0"):
        getattr(build(SMALL), method)(codes, context=context)


def test_values_without_an_embedding_are_refused():
    model, codes = build(WITH_CONTEXT), grids(SMALL)
    context = torch.zeros(4, 2, 1, dtype=torch.int64)
    for message, options in [
        ("label of attribute 1 is 2, expected -1 to 1", {"labels": torch.tensor([[0, 0]] * 3 + [[0, 2]])}),
        ("label of attribute 0 is -2, expected -1 to 2", {"labels": torch.tensor([[0, 0]] * 3 + [[-2, 0]])}),
        ("context code is 4, expected 0 to 3", {"context": context + 4}),
        ("context code is -1, expected 0 to 3", {"context": context - 1}),
    ]:
        for call in (lambda **told: model.log_prob(codes, **told), lambda **told: model.sample(4, **told)):
            with pytest.raises(ValueError, match=message):
                call(**({"context": context} | options))
    for wrong in (-1, 11):
        with pytest.raises(ValueError, match=f"code is {wrong}, expected 0 to 10"):
            model.log_prob(codes.fill_(wrong), context=context)


@pytest.mark.parametrize(
    ("n", "options", "error", "message"),
    [
        (0, {}, ValueError, "n is 0, expected at least 1"),
        (2, {"temperature": -0.5}, ValueError, "temperature is -0.5"),
        (2, {"temperature": math.inf}, ValueError, "temperature is inf"),
        (2, {"temperature": math.nan}, ValueError, "temperature is nan"),
        (2, {"top_p": 0.0}, ValueError, "top_p is 0.0"),
        (2, {"top_p": 1.5}, ValueError, "top_p is 1.5"),
        (2, {"labels": torch.zeros(3).long()}, ValueError, r"labels of shape \(3,\), expected \(2, 1\)"),
        (
            2,
            {"given": torch.zeros(2, 5).long()},
            ValueError,
            r"given of shape \(2, 5\), expected \(2, m\) with m <= 4",
        ),
        (2, {"given": torch.zeros(1, 2).long()}, ValueError, r"given of shape \(1, 2\)"),
        (2, {"given": torch.zeros(2).long()}, ValueError, r"given of shape \(2,\)"),
        (2, {"given": torch.zeros(2, 1)}, TypeError, "expected int64 given, got torch.float32"),
        (2, {"given": torch.full((2, 1), 3)}, ValueError, "code is 3, expected 0 to 2"),
    ],
)
def test_samples_that_cannot_be_drawn_are_refused(n, options, error, message):
    model = build(TINY).train()
    with pytest.raises(error, match=message):
        model.sample(n, **options)
    assert model.training
