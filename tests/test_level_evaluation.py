"""What is measured of a hierarchy of codes: each figure against its definition, on tiny untrained models."""

import math

import pytest
import torch

from imagegen import data, evaluation, metrics, recipes
from imagegen.classifier import Classifier, ClassifierConfig
from imagegen.evaluation import levels
from imagegen.hierarchy import HierarchicalVQVAE, HierarchyConfig
from imagegen.images import to_float, to_unit
from imagegen.prior import Prior, PriorConfig

CONFIG = HierarchyConfig(image_shape=(1, 8, 8), codes=(4, 8), code_dim=3, widths=(4, 4), blocks=0, hidden=4)
SIZES = {"attributes": (2, 3), "width": 8, "depth": 1, "heads": 2}


@pytest.fixture
def parts():
    torch.manual_seed(0)
    model = HierarchicalVQVAE(CONFIG).eval()
    top = Prior(PriorConfig(codes=4, grid=(1, 1), **SIZES)).eval()
    bottom = Prior(PriorConfig(codes=8, grid=(2, 2), context_codes=4, context_grid=(1, 1), **SIZES)).eval()
    for prior in (top, bottom):  # so that its probabilities are far from even
        with torch.no_grad():
            prior.network.head.weight.mul_(20)
            prior.embedding.weight.mul_(50)
            for embedding in prior.label_embeddings:
                embedding.weight.mul_(50)
    bottom.context_embedding.weight.data.mul_(50)
    images = torch.randint(256, (21, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():  # so that the codes are far apart, and the pictures far from grey
        model.to_top[-1].weight.mul_(1000)
        model.to_bottom[-1].weight.mul_(1000)
    model.train()(to_float(images))  # puts both codebooks on the data, so that several codes are in use
    model.eval()
    labels = torch.stack([torch.arange(21) % 2, torch.arange(21) % 3], dim=1)
    return model, (top, bottom), images, labels


def squared(model, target, top, bottom=None):
    with torch.no_grad():
        shown = torch.sigmoid(model.decode(top, bottom)).mul(255).round() / 255
    return (shown - target).square().mean().item()


def test_the_figures_of_a_hierarchy_are_their_definitions(parts):
    model, _, images, _ = parts
    found = evaluation.measure_hierarchy(model, images)
    top, bottom = recipes.levels_of(model, images)
    target, order = to_unit(to_float(images)), [20, *range(20)]
    expected = {
        "mse": squared(model, target, top, bottom),
        "mse_top_alone": squared(model, target, top),
        "mse_other_top": squared(model, target, top[order], bottom),
        "mse_other_bottom": squared(model, target, top, bottom[order]),
        "codes_used_top": len(top.unique()),
        "codes_used_bottom": len(bottom.unique()),
        "perplexity_bottom": metrics.perplexity(metrics.code_counts(bottom, 8)),
        "bits_per_image": 1 * 2 + 4 * 3,
    }
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, rel=1e-5), name
    assert len({round(found[m]["value"], 8) for m in list(expected)[:4]}) == 4  # four different quantities


def test_a_level_s_prior_is_measured_on_its_own_level_given_the_one_above(parts):
    model, (over_top, under_top), images, labels = parts
    top, bottom = recipes.levels_of(model, images)
    with torch.no_grad():
        expected = {
            "top": (-over_top.log_prob(top), -over_top.log_prob(top, labels=labels)),
            "bottom": (
                -under_top.log_prob(bottom, context=top),
                -under_top.log_prob(bottom, context=top, labels=labels),
            ),
        }
        wrong = -under_top.log_prob(bottom, context=(top + 1) % 4).mean().item()
    for prior, (unknown, told) in zip((over_top, under_top), expected.values(), strict=True):
        found = evaluation.measure_level_prior(prior, model, images, labels)
        assert found["nll"]["value"] == pytest.approx(unknown.mean().item(), rel=1e-5)
        assert found["nll_told"]["value"] == pytest.approx(told.mean().item(), rel=1e-5)
        n = math.prod(prior.config.grid)
        assert found["bits_per_code"]["value"] == pytest.approx(
            unknown.mean().item() / math.log(2) / n, rel=1e-5
        )
        assert found["nll"]["value"] != pytest.approx(found["nll_told"]["value"], rel=1e-3)
    assert found["nll"]["value"] != pytest.approx(wrong, rel=1e-3)


def test_the_code_length_of_a_hierarchy_counts_both_levels(parts):
    model, priors, images, _ = parts
    top, bottom = recipes.levels_of(model, images)
    with torch.no_grad():
        nats = -priors[0].log_prob(top) - priors[1].log_prob(bottom, context=top)
    _, found = evaluation.shown_by(model, *priors)(images, 0)
    torch.testing.assert_close(found, nats.double(), rtol=1e-5, atol=1e-6)
    _, even = evaluation.shown_by(model)(images, 0)
    torch.testing.assert_close(even, torch.full((21,), (2 + 4 * 3) * math.log(2)).double(), rtol=1e-6, atol=0)


def test_the_bottom_is_drawn_given_the_top(parts):
    """Frequencies of the first bottom code against its probability given the top code, within 5 standard errors."""
    _, (_, under_top), _, _ = parts
    n = 4000
    for code in (0, 3):
        top = torch.full((n, 1, 1), code)
        drawn = levels.sampled_bottom(under_top, top, torch.Generator().manual_seed(code))
        with torch.no_grad():
            zeros = torch.zeros(1, 2, 2, dtype=torch.int64)
            p = under_top(zeros, context=top[:1])[0, :, 0, 0].softmax(0)
        shares = torch.bincount(drawn[:, 0, 0], minlength=8) / n
        assert ((shares - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-9).all()
        assert p.max() > 0.2  # not the even distribution, which any drawing would pass


def test_what_is_kept_is_read_off_the_images_that_each_way_of_drawing_gives(parts):
    model, priors, images, labels = parts
    torch.manual_seed(1)
    judge = Classifier(
        ClassifierConfig(image_shape=(1, 8, 8), classes=(2, 3), widths=(4,), features=6)
    ).eval()
    found = evaluation.measure_kept(model, priors, judge, images, labels, ("side", "kind"))
    top, bottom = recipes.levels_of(model, images)
    with torch.no_grad():
        side, kind = judge(to_float(levels.shown(model, top, bottom)))
    right = (side.argmax(1) == labels[:, 0]).double().mean(), (kind.argmax(1) == labels[:, 1]).double().mean()
    assert found["kept_both_side"]["value"] == pytest.approx(right[0].item())
    assert found["kept_both"]["value"] == pytest.approx((sum(right) / 2).item())
    ways = ("kept_both", "kept_top", "kept_bottom", "kept_none")
    assert found.keys() == {w + e for w in ways for e in ("", "_side", "_kind")}
    again = evaluation.measure_kept(model, priors, judge, images, labels, ("side", "kind"))
    assert again == found  # the draws are seeded


def test_the_two_ways_of_sampling_a_hierarchy(parts, monkeypatch):
    """Both levels drawn, or the top taken from training images: each is what `measure_samples` is handed."""
    model, priors, images, labels = parts
    drawn = {}

    def kept(draw, protocol, *, ending, how, progress, device):
        drawn[ending] = (draw(5, torch.Generator().manual_seed(3)), how)
        return {}

    monkeypatch.setattr(evaluation.samples, "measure_samples", kept)
    monkeypatch.setitem(
        recipes.DATA, "made-up", lambda split: data.ImageSet(images, labels[:, 0], ("a", "b"))
    )
    protocol = evaluation.Protocol("small", "made-up", "judge", 21)
    evaluation.measure_levels(model, protocol, priors=priors)
    generator = torch.Generator().manual_seed(3)
    top = priors[0].sample(5, generator=generator)
    both = levels.shown(model, top, priors[1].sample(5, context=top, generator=generator))
    generator = torch.Generator().manual_seed(3)
    top, _ = recipes.levels_of(model, images[torch.randperm(21, generator=generator)[:5]])
    detail = levels.shown(model, top, priors[1].sample(5, context=top, generator=generator))
    assert torch.equal(drawn[""][0], both) and torch.equal(drawn["_detail"][0], detail)
    assert "training images" in drawn["_detail"][1]
