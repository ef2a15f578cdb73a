"""The protocol: each figure against its definition on models whose answer is known, and what is compared with what."""

import dataclasses
import json
import math
import statistics

import pytest
import torch
from torch import nn

from imagegen import data, evaluation, metrics, pretrained, recipes
from imagegen.classifier import Classifier, ClassifierConfig
from imagegen.decoder import AttributeDecoder, AttributeDecoderConfig
from imagegen.evaluation import Protocol, samples
from imagegen.images import to_float, to_unit
from imagegen.objectives import bernoulli_nll
from imagegen.training import seed_of
from imagegen.vae import VAE, Autoencoder, VAEConfig

SHAPE = (1, 8, 8)
SMALL = VAEConfig(image_shape=SHAPE, latent_dim=3, network="mlp", hidden=16)


def made_up(split):
    """Return blurred noise, 300 training and 60 test images; the label says which half is brighter."""
    n, seed = (300, 0) if split == "train" else (60, 1)
    noise = torch.rand(n, 1, 10, 10, generator=torch.Generator().manual_seed(seed))
    images = (nn.functional.avg_pool2d(noise, 3, stride=1) * 255).round().to(torch.uint8)
    labels = (images[..., :4].double().mean((1, 2, 3)) > images[..., 4:].double().mean((1, 2, 3))).long()
    return data.ImageSet(images, labels, ("right", "left"))


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Return a folder with a feature network, a VAE and an autoencoder; the protocol of `made-up` uses it."""
    monkeypatch.setitem(recipes.DATA, "made-up", made_up)
    torch.manual_seed(0)
    card = {"recipe": {"data": "made-up"}, "metrics": {}}
    config = ClassifierConfig(image_shape=SHAPE, classes=(2,), widths=(4,), features=6)
    for name, model in (
        ("judge", Classifier(config)), ("vae-small", VAE(SMALL)), ("ae-small", Autoencoder(SMALL)),
    ):  # fmt: skip
        pretrained.save(model, card | {"name": name}, folder=tmp_path)
    protocol = Protocol("small", "made-up", "judge", 60, folder=tmp_path)
    monkeypatch.setitem(evaluation.PROTOCOLS, "made-up", protocol)
    return tmp_path


# ---- given images ----------------------------------------------------------------------------------------------


def test_the_figures_of_an_autoencoder_are_their_definitions():
    torch.manual_seed(1)
    model, images = Autoencoder(SMALL).eval(), made_up("test").images
    found = evaluation.measure_autoencoder(model, images)
    with torch.no_grad():
        x = to_float(images)
        z = model.encode(x)
        logits, target = model.decode(z), to_unit(x)
        squared = (torch.sigmoid(logits) - target).square().flatten(1).mean(1).double()
        nats = bernoulli_nll(logits, target).double()
    assert found["distortion"]["value"] == pytest.approx(nats.mean().item(), rel=1e-6)
    assert found["distortion"]["stderr"] == pytest.approx((nats.std() / 60**0.5).item(), rel=1e-5)
    assert found["mse"]["value"] == pytest.approx(squared.mean().item(), rel=1e-5)
    assert found["psnr"]["value"] == pytest.approx((-10 * squared.log10()).mean().item(), rel=1e-5)
    spread = torch.linalg.vector_norm(z.double() - z.double().mean(0), dim=1).square().sum() / (59 * 3)
    assert found["code_std"]["value"] == pytest.approx(spread.sqrt().item(), rel=1e-5)
    assert {entry["n"] for entry in found.values()} == {60}


class Reads(nn.Module):
    """Gives the logits that were put into it, in order."""

    def __init__(self, *logits):
        super().__init__()
        self.logits, self.at = logits, 0

    def forward(self, x):
        self.at += len(x)
        return tuple(row[self.at - len(x) : self.at] for row in self.logits)


def test_accuracy_and_cross_entropy_are_counted_over_images_and_attributes():
    n = 300  # more than a batch
    labels = torch.stack([torch.arange(n) % 3, torch.arange(n) % 2], dim=1)
    hair, eyes = torch.zeros(n, 3), torch.zeros(n, 2)
    hair[torch.arange(n), labels[:, 0]] = 4.0
    eyes[torch.arange(n), labels[:, 1]] = 2.0
    eyes[:60] = eyes[:60].flip(1)  # 60 of 300 misread
    images = torch.zeros(n, 1, 4, 4, dtype=torch.uint8)
    found = evaluation.measure_classifier(Reads(hair, eyes), images, labels, names=("hair", "eyes"))
    assert found["accuracy_hair"]["value"] == 1 and found["accuracy_eyes"]["value"] == pytest.approx(0.8)
    assert found["accuracy"]["value"] == pytest.approx(0.9)
    each = nn.functional.cross_entropy(hair, labels[:, 0]) + nn.functional.cross_entropy(eyes, labels[:, 1])
    assert found["cross_entropy"]["value"] == pytest.approx(each.item(), rel=1e-6)
    with pytest.raises(ValueError, match="1 names of 2 attributes"):
        evaluation.measure_classifier(Reads(hair, eyes), images, labels, names=("hair",))
    single = evaluation.measure_classifier(Reads(eyes), images, labels[:, 1])
    assert set(single) == {"accuracy", "cross_entropy"} and single["accuracy"]["value"] == pytest.approx(0.8)
    assert single["accuracy"]["stderr"] == pytest.approx((0.8 * 0.2 / 299) ** 0.5, rel=1e-5)


class Averages(AttributeDecoder):
    """The best that can be drawn: the mean of all images given that have the values told; `other` is added to it."""

    def __init__(self, images, labels, sizes, other=0.0):
        super().__init__(AttributeDecoderConfig(image_shape=(1, 12, 12), attributes=sizes, widths=(2, 2)))
        self.images, self.labels, self.other = images.double() / 255, labels, other

    def conditions(self, labels):
        super().conditions(labels)
        return labels

    def forward(self, labels):
        fits = ((labels[:, None] == self.labels) | (labels[:, None] == -1)).all(2).double()  # (B, N)
        mean = (fits @ self.images.flatten(1)) / fits.sum(1, keepdim=True)
        return torch.logit((mean + self.other).reshape(-1, 1, 12, 12)).float()


@pytest.fixture(scope="module")
def faces():
    """Return 120 images with two attributes of 2 and 3 values, 20 of each combination."""
    labels = torch.cartesian_prod(torch.arange(2), torch.arange(3)).repeat(20, 1)
    noise = torch.rand(120, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    bright = 0.2 + 0.3 * labels[:, 0] + 0.1 * labels[:, 1]
    return ((bright[:, None, None, None] + 0.2 * noise) * 255).round().to(torch.uint8), labels


def test_a_decoder_that_draws_the_conditional_mean_has_no_error_but_the_spread(faces):
    images, labels = faces
    found = evaluation.measure_decoder(Averages(images, labels, (2, 3)), faces, faces, fewest=5)
    unit = images.double() / 255
    groups = {0: [[()]], 1: [[0, 1], [0, 1, 2]], 2: [[(a, b) for a in range(2) for b in range(3)]]}
    columns = {0: [[]], 1: [[0], [1]], 2: [[0, 1]]}
    for k in (0, 1, 2):
        spread, steps, drawn = [], [], []
        for column, values in zip(columns[k], groups[k], strict=True):
            for value in values:
                wanted = torch.tensor(value if isinstance(value, tuple) else (value,), dtype=torch.int64)
                fit = unit[(labels[:, column] == wanted).all(1)]
                mean = fit.mean(0)
                spread += [(fit - mean).square().mean()] * len(fit)
                drawn += [mean] * len(fit)
                steps += list(fit)
        rough = [
            sum((x.diff(dim=2).square().mean() + x.diff(dim=1).square().mean()) for x in some)
            for some in (drawn, steps)
        ]
        assert found[f"conditional_error_{k}"]["value"] < 1e-12
        assert found[f"conditional_spread_{k}"]["value"] == pytest.approx(statistics.fmean(spread), rel=1e-5)
        assert found[f"sharpness_{k}"]["value"] == pytest.approx((rough[0] / rough[1]).item(), rel=1e-4)
        assert found[f"conditional_error_{k}"]["n"] == 120
    assert found["conditional_spread_0"]["value"] > 2 * found["conditional_spread_2"]["value"]
    assert found["mse"]["value"] == pytest.approx(found["conditional_spread_2"]["value"], rel=1e-5)
    off = evaluation.measure_decoder(Averages(images, labels, (2, 3), other=0.03), faces, faces, fewest=5)
    assert off["conditional_error_1"]["value"] == pytest.approx(0.03**2, rel=1e-4)
    assert off["conditional_spread_1"] == found["conditional_spread_1"]


def test_only_sets_of_values_that_enough_images_fit_are_asked_for(faces):
    images, labels = faces
    found = evaluation.measure_decoder(Averages(images, labels, (2, 3)), faces, faces, fewest=50)
    assert (
        "2 in all" in found["conditional_error_1"]["detail"]
    )  # 60 fit each of the two values, 40 of the three
    assert "conditional_error_2" not in found


def test_an_exact_drawing_is_sharp_and_alike(faces):
    images, _ = faces
    labels = torch.arange(120).reshape(-1, 1)  # each image an attribute of its own: its mean is itself
    own = (images, labels)
    found = evaluation.measure_decoder(Averages(images, labels, (120,)), own, own, fewest=1)
    assert found["sharpness"]["value"] == pytest.approx(1, rel=1e-5)
    assert found["ssim"]["value"] == pytest.approx(1, abs=1e-5) and found["mse"]["value"] < 1e-12


# ---- samples ---------------------------------------------------------------------------------------------------


def test_samples_are_measured_for_each_seed_against_the_test_images(shelf):
    protocol = evaluation.PROTOCOLS["made-up"]
    judge = pretrained.load("judge", folder=shelf)
    train, test = made_up("train").images, made_up("test").images
    asked = []

    def draw(n, generator):
        asked.append(n)
        return torch.randint(256, (n, *SHAPE), generator=generator, dtype=torch.uint8)

    found = evaluation.measure_samples(draw, protocol)
    assert asked == [60, 60, 60]
    with torch.no_grad():
        real, seen = judge.features(to_float(test)), judge.features(to_float(train))
        fakes = [judge.features(to_float(draw(60, torch.Generator().manual_seed(s)))) for s in (0, 1, 2)]
    centre, unit = seen.mean(0), seen.var(0).mean().sqrt()  # the training images' zero and unit
    real, seen, fakes = (real - centre) / unit, (seen - centre) / unit, [(f - centre) / unit for f in fakes]
    by_hand = {
        "fd_small": [metrics.frechet_distance(fake, real) for fake in fakes],
        "kid_small": [metrics.kernel_distance(fake, real) for fake in fakes],
        "precision": [metrics.precision_recall(real, fake)[0] for fake in fakes],
        "recall": [metrics.precision_recall(real, fake)[1] for fake in fakes],
        "coverage": [metrics.coverage(real, fake) for fake in fakes],
        "memorisation": [metrics.memorisation(fake, seen, real)[0] for fake in fakes],
    }
    assert list(found) == list(by_hand)
    for name, values in by_hand.items():
        entry = found[name]
        assert entry["values"] == pytest.approx(values, rel=1e-3, abs=1e-6), name
        assert entry["value"] == pytest.approx(statistics.fmean(entry["values"]))
        assert entry["std"] == pytest.approx(statistics.stdev(entry["values"]))
        assert entry["n"] == 60 and entry["detail"] and "unit" in entry
    assert found["fd_small"]["std"] > 0
    chance = statistics.fmean(metrics.memorisation(fake, seen, real)[1] for fake in fakes)
    assert found["memorisation"]["stderr"] == pytest.approx(chance, rel=1e-3)
    floor = evaluation.floor(protocol)
    assert {name: (entry["floor"], entry["floor_std"]) for name, entry in found.items()} == {
        name.removesuffix("_floor"): (entry["value"], entry["std"]) for name, entry in floor.items()
    }


def test_the_floor_is_training_images_measured_as_samples(shelf):
    protocol = evaluation.PROTOCOLS["made-up"]
    train = made_up("train").images
    floor = evaluation.floor(protocol)

    def draw(n, generator):  # training images, as the floor takes them
        return train[torch.randperm(300, generator=generator)[:n]]

    found = evaluation.measure_samples(draw, protocol)
    for name in ("fd_small", "kid_small", "precision", "recall", "coverage"):
        assert floor[f"{name}_floor"]["values"] == pytest.approx(found[name]["values"], rel=1e-3, abs=1e-9)
    assert found["memorisation"]["value"] > 0.9  # copies, all of them
    assert abs(floor["memorisation_floor"]["value"] - 0.5) < 0.2  # and the held-out half of test is not
    assert floor["memorisation_floor"]["n"] == 30
    assert floor["fd_small_floor"]["std"] > 0  # another draw for each seed


def test_what_samples_are_compared_with_is_computed_once_and_again_for_other_weights(shelf, monkeypatch):
    protocol, seen = evaluation.PROTOCOLS["made-up"], []
    features = samples.raw_features
    monkeypatch.setattr(
        samples, "raw_features", lambda net, images: seen.append(len(images)) or features(net, images)
    )
    before = evaluation.reference(protocol)
    assert evaluation.reference(protocol) is before and seen == [300, 60]
    torch.manual_seed(5)
    card = pretrained.card("judge", folder=shelf)
    pretrained.save(Classifier(before.ruler.network.config), card, folder=shelf)
    assert not torch.equal(evaluation.reference(protocol).test, before.test)


def test_the_ruler_has_variance_1_on_the_training_images_and_turns_nothing(shelf):
    """One number scales all features: the distances between images keep their ratios."""
    protocol = evaluation.PROTOCOLS["made-up"]
    ruler, train, test = evaluation.reference(protocol)
    torch.testing.assert_close(train.mean(0), torch.zeros(train.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(train.var(0).mean(), torch.tensor(1.0))
    raw = samples.raw_features(ruler.network, made_up("test").images)
    torch.testing.assert_close(torch.pdist(test) * ruler.scale, torch.pdist(raw))


def test_a_vae_is_sampled_from_its_prior_and_rounded_to_8_bits(shelf):
    model = pretrained.load("vae-small", folder=shelf)
    ((draw, how),) = evaluation.drawers(model, made_up("train").images).values()
    images = draw(300, torch.Generator().manual_seed(4))
    z = torch.randn(300, 3, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        pixels = torch.sigmoid(model.decode(z)) * 255
    assert images.dtype == torch.uint8 and (images - pixels).abs().max() < 0.501
    assert "prior N(0, I)" in how


def test_an_autoencoder_is_sampled_in_two_ways_that_are_named(shelf, monkeypatch):
    model = pretrained.load("ae-small", folder=shelf)
    drawn = {}
    monkeypatch.setattr(samples, "_decoded", lambda _, z: drawn.setdefault("z", z))
    ways = evaluation.drawers(model, made_up("train").images)
    assert list(ways) == ["_normal", "_fitted"]
    generator = torch.Generator().manual_seed(0)
    z = ways["_normal"][0](20_000, generator)
    assert z.mean(0).abs().max() < 0.03 and (torch.cov(z.T) - torch.eye(3)).abs().max() < 0.05
    drawn.clear()
    z = ways["_fitted"][0](200_000, generator).double()
    with torch.no_grad():
        codes = model.encode(to_float(made_up("train").images)).double()
    cov = torch.cov(codes.T)
    scale = cov.diagonal().sqrt()
    assert ((z.mean(0) - codes.mean(0)) / scale).abs().max() < 0.02
    assert ((torch.cov(z.T) - cov) / scale[:, None] / scale).abs().max() < 0.02
    off_diagonal = (cov / scale[:, None] / scale - torch.eye(3)).abs().max()
    assert off_diagonal > 0.1  # so that a diagonal Gaussian would have failed


# ---- a whole measurement ---------------------------------------------------------------------------------------


def test_every_family_is_measured_by_the_protocol_of_its_data(shelf):
    measured = {
        n: evaluation.evaluate(n, folder=shelf, n_samples=2)[0] for n in pretrained.names(folder=shelf)
    }
    sampled = {"fd_small", "kid_small", "precision", "recall", "coverage", "memorisation"}
    assert sampled < set(measured["vae-small"]["metrics"])
    for ending in ("_normal", "_fitted"):
        assert {name + ending for name in sampled} < set(measured["ae-small"]["metrics"])
    assert {f"{name}_floor" for name in sampled} < set(measured["judge"]["metrics"])
    assert "negative_elbo" in measured["vae-small"]["metrics"] and "mse" in measured["ae-small"]["metrics"]
    assert "fd_small_reconstructions" in measured["vae-small"]["metrics"]
    sha256 = pretrained.card("judge", folder=shelf)["sha256"]
    for name, result in measured.items():
        protocol = result["protocol"]
        assert (protocol["features"], protocol["features_sha256"]) == ("judge", sha256), name
        assert protocol["seeds"] == [0, 1, 2] and protocol["n"] == 60
        assert "60 samples against the 60 test images" in protocol["text"] and "8 bits" in protocol["text"]
        assert result["weights_sha256"] == pretrained.card(name, folder=shelf)["sha256"]
        assert json.loads(json.dumps(result)) == result
        for entry in result["metrics"].values():
            assert {"value", "unit", "n", "detail"} <= set(entry)


def test_reconstructions_are_nearer_than_samples_for_a_network_that_has_learnt_to_reconstruct(shelf):
    torch.manual_seed(0)
    model, x = Autoencoder(SMALL), to_float(made_up("train").images)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = bernoulli_nll(model(x).params, to_unit(x)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = evaluation.measure_generator(model, evaluation.PROTOCOLS["made-up"])
    reconstructed = found["fd_small_reconstructions"]["value"]
    assert reconstructed < found["fd_small_normal"]["value"]


def test_a_limit_makes_another_protocol_and_no_complete_result(shelf):
    result, complete = evaluation.evaluate("vae-small", folder=shelf, limit=20, n_samples=100)
    assert not complete and result["protocol"]["n"] == 20
    assert result["metrics"]["fd_small"]["n"] == result["metrics"]["nll"]["n"] == 20
    assert not evaluation.evaluate("vae-small", folder=shelf, n_samples=99)[1]
    assert evaluation.evaluate("vae-small", folder=shelf, limit=60, n_samples=100)[1]
    with pytest.raises(recipes.RecipeError, match="--limit is 9"):
        evaluation.evaluate("vae-small", folder=shelf, limit=9)


def test_a_network_that_changes_while_it_is_used_is_found(shelf, monkeypatch):
    change = {"name": "vae-small"}
    measure = evaluation.measure_generator

    def meanwhile(*args, **options):
        found = measure(*args, **options)
        card = pretrained.card(change["name"], folder=shelf)
        pretrained.save(pretrained.FAMILIES[card["family"]][1](change["config"]), card, folder=shelf)
        return found

    monkeypatch.setattr(evaluation, "measure_generator", meanwhile)
    change["config"] = SMALL
    with pytest.raises(pretrained.PretrainedError, match="weights of vae-small changed"):
        evaluation.evaluate("vae-small", folder=shelf, n_samples=1)
    change |= {"name": "judge", "config": pretrained.load("judge", folder=shelf).config}
    with pytest.raises(pretrained.PretrainedError, match="judge changed while vae-small"):
        evaluation.evaluate("vae-small", folder=shelf, n_samples=1)


def test_a_feature_network_is_measured_by_itself_and_not_by_the_one_in_use(shelf, tmp_path):
    torch.manual_seed(7)
    new = Classifier(pretrained.load("judge", folder=shelf).config)
    card = pretrained.card("judge", folder=shelf)
    sha256 = pretrained.save(new, card, folder=tmp_path / "new")["sha256"]
    result, _ = evaluation.evaluate("judge", folder=tmp_path / "new")
    assert result["weights_sha256"] == result["protocol"]["features_sha256"] == sha256 != card["sha256"]
    used = evaluation.PROTOCOLS["made-up"]
    own = dataclasses.replace(used, folder=tmp_path / "new")
    found = result["metrics"]["fd_small_floor"]
    assert found == evaluation.floor(own)["fd_small_floor"] != evaluation.floor(used)["fd_small_floor"]


def test_the_figures_of_a_vae_are_their_definitions_for_the_draws_of_a_seed():
    """Of 130 images in batches of 100, whose draws are seeded by the seed and the number of the batch's first image."""
    torch.manual_seed(1)
    model, images = VAE(SMALL).eval(), made_up("train").images[:130]
    with torch.no_grad():  # posteriors that differ from the prior and from one another
        model.encoder[-1].weight.mul_(10)
    found = evaluation.measure_vae(model, images, n_samples=7, seed=3)
    nats, weights, rates = [], [], []
    with torch.no_grad():
        for start in (0, 100):
            x = to_float(images[start : start + 100])
            mean, log_var = model.encode(x)
            generator = torch.Generator().manual_seed(seed_of(3, start))
            eps = torch.cat([torch.randn(k, *mean.shape, generator=generator) for k in (5, 2)])
            z = mean + torch.exp(log_var / 2) * eps
            nll = torch.stack([bernoulli_nll(model.decode(some), to_unit(x)) for some in z]).double()
            q = torch.distributions.Normal(mean, torch.exp(log_var / 2))
            log_ratio = torch.distributions.Normal(0, 1).log_prob(z) - q.log_prob(z)
            nats.append(nll.mean(0))
            weights.append(log_ratio.sum(2).double() - nll)
            rates.append(
                torch.distributions.kl_divergence(q, torch.distributions.Normal(0, 1)).sum(1).double()
            )
    distortion, rate, weight = torch.cat(nats), torch.cat(rates), torch.cat(weights, dim=1)
    iwae = math.log(7) - torch.logsumexp(weight, dim=0)
    for name, values in {
        "distortion": distortion, "rate": rate, "nll": iwae, "negative_elbo": distortion + rate,
        "bits_per_dim": iwae / 64 / math.log(2),
    }.items():  # fmt: skip
        assert found[name]["value"] == pytest.approx(values.mean().item(), rel=1e-5), name
        assert found[name]["stderr"] == pytest.approx((values.std() / 130**0.5).item(), rel=1e-4), name
    assert rate.mean() > 0.5 and (distortion + rate - iwae).mean() > 0.1  # the terms are told apart


def test_without_its_feature_network_nothing_is_measured(shelf):
    (shelf / "judge.json").unlink()
    with pytest.raises(pretrained.PretrainedError, match="no model 'judge'"):
        evaluation.evaluate("vae-small", folder=shelf)


@pytest.mark.parametrize("change", [{"n": 5}, {"seeds": (0,)}])
def test_a_protocol_that_allows_no_measurement_is_refused(change):
    with pytest.raises(ValueError, match="expected at least"):
        Protocol(**({"suffix": "x", "data": "made-up", "network": "judge", "n": 50} | change))


def test_the_protocols_use_every_test_image():
    for protocol in evaluation.PROTOCOLS.values():
        assert protocol.n == len(recipes.DATA[protocol.data]("test").images)
        assert len(set(protocol.seeds)) >= 3
        assert protocol.folder == pretrained.FOLDER
        assert recipes.RECIPES[protocol.network].data == protocol.data
