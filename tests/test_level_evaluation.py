"""What is measured of a hierarchy of codes: each figure against its definition, on tiny untrained models."""

import math

import pytest
import torch

from imagegen import data, evaluation, metrics, pretrained, recipes
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
    with torch.no_grad():  # what the top says decides which bottom codes are likely
        bottom.context_embedding.weight.mul_(50)
        bottom.context_network[-1].weight.mul_(20)
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
    each = [squared(model, target[i : i + 1], top[i : i + 1], bottom[i : i + 1]) for i in range(21)]
    ratio = sum(-10 * math.log10(error) for error in each) / 21
    assert found["psnr"]["value"] == pytest.approx(ratio, rel=1e-5)
    for name in ("mse", "psnr"):
        assert "in 256 levels" in found[name]["detail"]
        assert found[name]["detail"] == pretrained.card("hierarchy-avatars")["metrics"][name]["detail"]


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


def test_what_is_held_is_the_image_s_own_and_what_is_drawn_is_drawn_given_it(parts, monkeypatch):
    """What is shown: the codes of both levels, or one of them and the other drawn, from one generator in this order."""
    model, priors, images, labels = parts
    displayed, show = [], levels.shown
    monkeypatch.setattr(levels, "shown", lambda *codes: displayed.append(codes[1:]) or show(*codes))
    judge = Classifier(ClassifierConfig(image_shape=(1, 8, 8), classes=(2, 3), widths=(4,), features=6))
    evaluation.measure_kept(model, priors, judge, images, labels, ("side", "kind"), seed=5)
    top, bottom = recipes.levels_of(model, images)
    generator = torch.Generator().manual_seed(5)
    other = priors[0].sample(21, generator=generator)
    given_top = priors[1].sample(21, context=top, generator=generator)
    given_other = priors[1].sample(21, context=other, generator=generator)
    expected = [(top, bottom), (top, given_top), (other, bottom), (other, given_other)]
    assert all(
        torch.equal(a, b)
        for pair, wanted in zip(displayed, expected, strict=True)
        for a, b in zip(pair, wanted, strict=True)
    )
    # another context would have been seen: with the same random numbers it gives other codes
    again, neighbour = (
        priors[1].sample(21, context=context, generator=torch.Generator().manual_seed(0))
        for context in (top, top.roll(1, 0))
    )
    assert not torch.equal(top, other) and not torch.equal(again, neighbour)


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


# ---- a whole measurement ---------------------------------------------------------------------------------------


def faces(split):
    """Return noise, 300 training and 60 test images with two attributes."""
    n, seed = (300, 0) if split == "train" else (60, 1)
    images = torch.randint(
        256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    labels = torch.stack([torch.arange(n) % 2, torch.arange(n) % 3], dim=1)
    return data.AvatarSet(images, labels, {"side": ("left", "right"), "kind": ("a", "b", "c")})


@pytest.fixture
def shelf(parts, tmp_path, monkeypatch):
    """Return a folder with a feature network, a hierarchy, and priors of its two levels."""
    model, priors, _, _ = parts
    monkeypatch.setitem(recipes.DATA, "made-up", faces)
    torch.manual_seed(1)
    card = {"recipe": {"data": "made-up"}, "metrics": {}}
    judge = Classifier(ClassifierConfig(image_shape=(1, 8, 8), classes=(2, 3), widths=(4,), features=6))
    pretrained.save(judge, card | {"name": "judge"}, folder=tmp_path)
    sha256 = pretrained.save(model, card | {"name": "pair"}, folder=tmp_path)["sha256"]
    for level, prior in zip(("top", "bottom"), priors, strict=True):
        objective = {"objective": {"tokeniser": "pair", "level": level}}
        about = {
            "name": f"pair-{level}",
            "recipe": card["recipe"] | objective,
            "requires": {"pair": sha256},
        }
        pretrained.save(prior, card | about, folder=tmp_path)
    protocol = evaluation.Protocol("small", "made-up", "judge", 60, folder=tmp_path)
    monkeypatch.setitem(evaluation.PROTOCOLS, "made-up", protocol)
    return tmp_path


SAMPLED = {"fd_small", "kid_small", "precision", "recall", "coverage", "memorisation"}
PREDICTED = {"nll", "nll_told", "bits_per_code", "bits_per_image"}
LENGTHS = {"code_length", "code_length_pixels"}


def test_a_hierarchy_is_measured_alone_and_with_the_priors_of_both_levels(shelf):
    found = {name: evaluation.evaluate(name, folder=shelf)[0] for name in ("pair", "pair-top", "pair-bottom")}
    sha256 = {name: pretrained.card(name, folder=shelf)["sha256"] for name in found}
    given = {"fd_small_reconstructions", "fd_small_top_alone"}
    assert LENGTHS | given | {"mse_top_alone", "psnr"} < set(found["pair"]["metrics"])
    # half a model has no samples and describes no image
    assert set(found["pair-top"]["metrics"]) == PREDICTED and "protocol" not in found["pair-top"]
    detail = {f"{name}_detail" for name in SAMPLED}
    kept = {f"kept_{way}{e}" for way in ("both", "top", "bottom", "none") for e in ("", "_side", "_kind")}
    assert set(found["pair-bottom"]["metrics"]) == PREDICTED | LENGTHS | SAMPLED | detail | kept
    requires = {name: result["requires"] for name, result in found.items()}
    assert requires["pair"] == {} and requires["pair-top"] == {"pair": sha256["pair"]}
    assert requires["pair-bottom"] == {name: sha256[name] for name in ("pair", "pair-top")}
    # both levels' codes are paid for, and the pixels cost the same whoever foretells the codes
    lengths = {name: {m: e["value"] for m, e in result["metrics"].items()} for name, result in found.items()}
    codes = sum(lengths[f"pair-{level}"]["bits_per_image"] for level in ("top", "bottom")) / 64
    rest = {n: lengths[n]["code_length"] - lengths[n]["code_length_pixels"] for n in ("pair", "pair-bottom")}
    assert rest["pair-bottom"] == pytest.approx(codes, rel=1e-4)
    assert rest["pair"] == pytest.approx((2 + 4 * 3) / 64, rel=1e-6)
    pixels = [lengths[n]["code_length_pixels"] for n in ("pair", "pair-bottom")]
    assert pixels[0] == pytest.approx(pixels[1], rel=1e-9)


@pytest.mark.parametrize("requires", ["other weights", "another model", "nothing"])
def test_a_top_prior_on_another_tokeniser_is_refused_before_anything_is_measured(
    shelf, monkeypatch, requires
):
    card = pretrained.card("pair-top", folder=shelf)
    other = {
        "other weights": {"requires": {"pair": "0" * 64}},
        "another model": {"requires": {"judge": card["requires"]["pair"]}},
        "nothing": {"requires": {}},
    }
    pretrained.write_card(card | other[requires], folder=shelf)
    measured = []
    for name in ("measure_level_prior", "measure_code_length", "measure_levels", "measure_kept"):
        monkeypatch.setattr(evaluation, name, lambda *_, **__: measured.append(1) or {})
    with pytest.raises(pretrained.PretrainedError, match=r"pair-top was trained .*, pair-bottom on those"):
        evaluation.evaluate("pair-bottom", folder=shelf)
    (shelf / "pair-top.json").unlink()
    with pytest.raises(pretrained.PretrainedError, match="no model 'pair-top'"):
        evaluation.evaluate("pair-bottom", folder=shelf)
    assert measured == []
