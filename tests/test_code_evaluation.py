"""What is measured of codes: each figure against its definition, and code lengths against an exact likelihood."""

import itertools
import math

import pytest
import torch
from torch import nn

from imagegen import data, evaluation, metrics, pretrained, recipes
from imagegen.classifier import Classifier, ClassifierConfig
from imagegen.evaluation import Protocol
from imagegen.evaluation.code_length import BATCH
from imagegen.images import from_unit, to_float, to_uint8, to_unit
from imagegen.objectives import gaussian_kl
from imagegen.prior import Prior, PriorConfig
from imagegen.training import seed_of
from imagegen.vae import VAE, Autoencoder, VAEConfig
from imagegen.vq import VQVAE, VQVAEConfig

SHAPE = (1, 12, 12)  # the smallest that the structural similarity takes is 11 x 11
SMALL = VQVAEConfig(image_shape=SHAPE, codes=6, code_dim=2, widths=(4, 4), blocks=0)
OVER = PriorConfig(codes=6, grid=(3, 3), attributes=(2,), width=8, depth=1, heads=2)
BITS = 1 / math.log(2)


def made_up(split: str, shape: tuple[int, ...] = SHAPE) -> data.ImageSet:
    """Return blurred noise, 300 training and 260 test images; the label says whether the left half is brighter."""
    n, seed = (300, 0) if split == "train" else (260, 1)
    noise = torch.rand(n, shape[0], shape[1] + 2, shape[2] + 2, generator=torch.Generator().manual_seed(seed))
    images = (nn.functional.avg_pool2d(noise, 3, stride=1) * 255).round().to(torch.uint8)
    left, right = images.double().mean((1, 2)).chunk(2, dim=1)
    return data.ImageSet(images, (left.mean(1) > right.mean(1)).long(), ("right", "left"))


def tokeniser(config: VQVAEConfig = SMALL, seed: int = 0) -> VQVAE:
    """Return a VQ-VAE with random networks, whose codebook lies on what its encoder gives."""
    torch.manual_seed(seed)
    model = VQVAE(config)
    with torch.no_grad():
        for parameter in model.decoder.parameters():  # so that different codes are shown as different images
            parameter.mul_(3)
    model.train()(
        to_float(made_up("train", config.image_shape).images), generator=torch.Generator().manual_seed(1)
    )
    return model.eval()


def prior_over(config: PriorConfig = OVER, seed: int = 0) -> Prior:
    """Return a random prior whose codes are far from equally likely, and whose labels matter."""
    torch.manual_seed(seed)
    model = Prior(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embedding" in name:
                parameter.mul_(50)
    return model.eval()


def every_grid(codes: int, grid: tuple[int, int]) -> torch.Tensor:
    """Return all grids of codes there are, (codes^(h w), h, w)."""
    return torch.tensor(list(itertools.product(range(codes), repeat=math.prod(grid)))).unflatten(1, grid)


# ---- given images ----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_figures_of_a_vqvae_are_their_definitions():
    model, images = tokeniser(), made_up("train").images
    found = evaluation.measure_vqvae(model, images)
    x = to_float(images)
    codes = model.encode(x)
    shown, target = torch.sigmoid(model.decode(codes)), to_unit(x)
    squared = (shown - target).square().flatten(1).mean(1).double()
    assert found["mse"]["value"] == pytest.approx(squared.mean().item(), rel=1e-5)
    assert found["mse"]["stderr"] == pytest.approx((squared.std() / 300**0.5).item(), rel=1e-4)
    assert found["psnr"]["value"] == pytest.approx((-10 * squared.log10()).mean().item(), rel=1e-5)
    alike = metrics.ssim(shown, target, span=1.0).mean().item()
    assert found["ssim"]["value"] == pytest.approx(alike, rel=1e-5)

    def spread(some):
        shares = some.flatten().bincount(minlength=6).double() / some.numel()
        return math.exp(-sum(p * math.log(p) for p in shares.tolist() if p))

    used = len(codes.unique())
    assert found["codes_used"]["value"] == used > 2
    assert found["perplexity"]["value"] == pytest.approx(spread(codes), rel=1e-9)
    in_batches = (spread(codes[:250]) + spread(codes[250:])) / 2
    assert found["perplexity_batch"]["value"] == pytest.approx(in_batches, rel=1e-9)
    assert abs(in_batches - spread(codes)) > 1e-3  # so that one would not pass for the other
    assert found["bits_per_image"]["value"] == pytest.approx(9 * math.log2(6))
    assert {entry["n"] for entry in found.values()} == {300}
    assert all(entry["detail"] and "unit" in entry for entry in found.values())


@torch.no_grad()
@pytest.mark.parametrize("network", ["transformer", "pixelcnn"])
def test_the_figures_of_a_prior_are_its_code_lengths(network):
    config = PriorConfig(network=network, codes=6, grid=(3, 3), attributes=(2,), width=8, depth=1, heads=2)
    model, prior = tokeniser(), prior_over(config)
    images, labels, _ = made_up("train")
    found = evaluation.measure_prior(prior.train(), model.train(), images, labels)
    codes = model.eval().encode(to_float(images))
    prior.eval()
    unknown, told = -prior.log_prob(codes).double(), -prior.log_prob(codes, labels=labels).double()
    expected = {
        "nll": unknown, "nll_told": told, "bits_per_image": unknown * BITS, "bits_per_code": unknown * BITS / 9
    }  # fmt: skip
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name]["value"] == pytest.approx(values.mean().item(), rel=1e-5), name
        assert found[name]["stderr"] == pytest.approx((values.std() / 300**0.5).item(), rel=1e-4), name
        assert found[name]["n"] == 300
    assert found["nll"]["value"] != pytest.approx(found["nll_told"]["value"], rel=1e-3)


def test_several_labels_are_told_as_a_table():
    config = PriorConfig(codes=6, grid=(3, 3), attributes=(2, 3), width=8, depth=1, heads=2)
    model, prior, images = tokeniser(), prior_over(config), made_up("test").images
    labels = torch.stack([torch.arange(260) % 2, torch.arange(260) % 3], dim=1)
    found = evaluation.measure_prior(prior, model, images, labels)
    with torch.no_grad():
        told = -prior.log_prob(model.encode(to_float(images)), labels=labels)
    assert found["nll_told"]["value"] == pytest.approx(told.mean().item(), rel=1e-5)


# ---- code length -----------------------------------------------------------------------------------------------

TINY = VQVAEConfig(image_shape=(1, 8, 8), codes=3, code_dim=2, widths=(4, 4), blocks=0)
N = 120  # images described, more than a batch
OVER_TINY = PriorConfig(codes=3, grid=(2, 2), attributes=(2,), width=8, depth=1, heads=2)


def table_of(shown, train: torch.Tensor) -> torch.Tensor:
    """Return the table counted on training images in one go, from shown (N, C, H, W)."""
    return metrics.level_table(metrics.level_counts(shown, train))


@torch.no_grad()
def exact_bits(model, prior, table, images):
    """Return -log2 p(x) of each image: the sum over every grid of codes there is, written out."""
    grids = every_grid(model.config.codes, model.config.grid)
    pixels = torch.sigmoid(model.decode(grids))
    if prior is None:
        log_prior = torch.full((len(grids),), -math.log(len(grids)))
    else:
        log_prior = prior.log_prob(grids)
        assert log_prior.exp().sum().item() == pytest.approx(1, abs=1e-4)
    rows = [
        torch.logsumexp(log_prior.double() - metrics.level_nll(table, pixels, image.expand_as(pixels)), dim=0)
        for image in images
    ]
    return -BITS * torch.stack(rows)


@torch.no_grad()
@pytest.mark.parametrize("told", [False, True], ids=["without a prior", "with a prior"])
def test_a_code_length_is_that_of_code_and_pixels_and_bounds_the_exact_one(told):
    """Of 81 grids of codes p(x) can be summed: no image is described in fewer bits than -log2 p(x)."""
    model, prior = tokeniser(TINY), prior_over(OVER_TINY) if told else None
    train, test = made_up("train", (1, 8, 8)).images, made_up("test", (1, 8, 8)).images[:N]
    described = evaluation.shown_by(model, *([prior] if told else []))
    found = evaluation.measure_code_length(described, train, test, what="codes")
    table = table_of(torch.sigmoid(model.decode(model.encode(to_float(train)))), train)
    codes = model.encode(to_float(test))
    given = metrics.level_nll(table, torch.sigmoid(model.decode(codes)), test)
    cost = -prior.log_prob(codes).double() if told else torch.full((N,), 4 * math.log(3))
    assert found["code_length_pixels"]["value"] == pytest.approx((given.mean() * BITS / 64).item(), rel=1e-5)
    total = (given + cost) * BITS / 64
    assert found["code_length"]["value"] == pytest.approx(total.mean().item(), rel=1e-5)
    assert found["code_length"]["stderr"] == pytest.approx((total.std() / N**0.5).item(), rel=1e-4)
    assert found["code_length"]["n"] == found["code_length_pixels"]["n"] == N
    assert found["code_length"]["unit"] == "bits/dim" and "codes" in found["code_length"]["detail"]
    exact = exact_bits(model, prior, table, test) / 64
    assert (total >= exact - 1e-6).all() and (total - exact).max() > 0.01  # a bound, and not the thing itself
    assert found["code_length"]["value"] > exact.mean().item()


class Paints(nn.Module):
    """A code an image, shown as one grey each, far from the others."""

    def __init__(self):
        super().__init__()
        self.config, self.unused = TINY, nn.Parameter(torch.zeros(1))

    def encode(self, x):
        return nn.functional.avg_pool2d(to_unit(x), 4)[:, 0].mul(3).long().clamp(max=2)

    def decode(self, codes):
        pixels = (codes[:, None].float() + 0.5) / 3
        return torch.logit(nn.functional.interpolate(pixels, scale_factor=4, mode="nearest"))


def test_where_one_code_alone_explains_an_image_the_bound_is_exact():
    codes = torch.randint(3, (N, 2, 2), generator=torch.Generator().manual_seed(0))
    images = to_uint8(from_unit((codes[:, None].float() + 0.5) / 3))
    images = images.repeat_interleave(4, 2).repeat_interleave(4, 3)
    model, prior = Paints(), prior_over(OVER_TINY)
    for over in (None, prior):
        described = evaluation.shown_by(model, *([over] if over else []))
        found = evaluation.measure_code_length(described, images, images, what="codes")
        table = table_of(torch.sigmoid(model.decode(codes)), images)
        exact = exact_bits(model, over, table, images).mean().item() / 64
        assert found["code_length"]["value"] == pytest.approx(exact, rel=1e-6)
        assert found["code_length_pixels"]["value"] < 0.01 < exact


def test_a_vaes_code_length_is_its_pixels_and_its_kl_and_bounds_the_exact_one():
    """One latent, so that p(x) is an integral over a line; the mean over draws of z lies above it."""
    torch.manual_seed(0)
    model = VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=1, network="mlp", hidden=8))
    with torch.no_grad():
        model.encoder[-1].weight.mul_(8)
        for parameter in model.decoder.parameters():
            parameter.mul_(2)
    model.eval()
    train, test = made_up("train", (1, 8, 8)).images, made_up("test", (1, 8, 8)).images[:N]
    mine, lengths = [], []
    for seed in range(2):
        described = evaluation.shown_by(model, seed=seed)
        lengths.append(evaluation.measure_code_length(described, train, test, what="KL")["code_length"])
        shown, cost = [], []
        with torch.no_grad():
            for part in (train, test):
                for start in range(0, len(part), BATCH):
                    mean, log_var = model.encode(to_float(part[start : start + BATCH]))
                    generator = torch.Generator().manual_seed(seed_of(seed, start))
                    z = mean + torch.exp(log_var / 2) * torch.randn(mean.shape, generator=generator)
                    shown.append(torch.sigmoid(model.decode(z)))
                    cost.append(gaussian_kl(mean, log_var))
        shown, cost = torch.cat(shown), torch.cat(cost)
        table = table_of(shown[:300], train)
        mine.append((metrics.level_nll(table, shown[300:], test) + cost[300:]) * BITS / 64)
        assert lengths[-1]["value"] == pytest.approx(mine[-1].mean().item(), rel=1e-6)
    assert lengths[0]["value"] != lengths[1]["value"]
    z = torch.linspace(-7, 7, 701)[:, None]
    with torch.no_grad():
        pixels = torch.sigmoid(model.decode(z))
    log_prior = (-(z[:, 0].double() ** 2) / 2 - math.log(2 * math.pi) / 2) + math.log(0.02)
    exact = -BITS / 64 * torch.stack([
        torch.logsumexp(log_prior - metrics.level_nll(table, pixels, image.expand_as(pixels)), dim=0)
        for image in test
    ])  # fmt: skip
    gap = mine[-1] - exact
    assert gap.mean() > 5 * metrics.standard_error(gap) > 0


def test_the_table_is_counted_on_training_images_alone(monkeypatch):
    """And on no more of them than are fitted on: the images described must not shape their own likelihood."""
    model, seen = tokeniser(TINY), []
    train, test = (made_up(split, (1, 8, 8)).images for split in ("train", "test"))
    described, count = evaluation.shown_by(model), metrics.level_counts
    monkeypatch.setattr(metrics, "level_counts", lambda *pair: seen.extend(pair[1:]) or count(*pair))
    monkeypatch.setattr("imagegen.evaluation.code_length.FITTED_ON", 230)
    evaluation.measure_code_length(described, train, test, what="codes")
    assert torch.cat(seen).equal(train[:230])


# ---- how codes are sampled -------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_vqvae_without_a_prior_shows_codes_drawn_evenly():
    model = tokeniser()
    ((ending, (draw, how)),) = evaluation.drawers(model, made_up("train").images).items()
    images = draw(300, torch.Generator().manual_seed(4))
    codes = torch.randint(6, (300, 3, 3), generator=torch.Generator().manual_seed(4))
    assert codes.flatten().bincount(minlength=6).min() > 350  # of 450 expected of each
    pixels = torch.sigmoid(model.decode(codes)) * 255
    assert ending == "_uniform" and "uniform" in how
    assert images.dtype == torch.uint8 and (images - pixels).abs().max() < 0.501


@torch.no_grad()
def test_a_prior_is_sampled_with_no_label_and_with_as_many_of_each(monkeypatch):
    model, prior = tokeniser(), prior_over()
    ways = evaluation.drawers(model, made_up("train").images, prior)
    assert list(ways) == ["", "_told"]
    told, drawing = [], prior.sample
    monkeypatch.setattr(
        prior,
        "sample",
        lambda n, *, labels=None, **more: told.append(labels) or drawing(n, labels=labels, **more),
    )
    for ending, (draw, how) in ways.items():
        told.clear()
        images = draw(300, torch.Generator().manual_seed(4))
        labels = None if ending == "" else torch.arange(300) % 2
        generator, codes = torch.Generator().manual_seed(4), []
        for start, end in ((0, 250), (250, 300)):
            part = None if labels is None else labels[start:end]
            codes.append(drawing(end - start, labels=part, generator=generator))
        pixels = torch.sigmoid(model.decode(torch.cat(codes))) * 255
        assert (images - pixels).abs().max() < 0.501
        if ending == "":
            assert told == [None, None] and "withheld" in how
        else:
            assert torch.cat(told).flatten().bincount().tolist() == [150, 150] and "as many of each" in how
        assert not images.equal(draw(300, torch.Generator().manual_seed(5)))


def test_only_a_transformer_of_one_attribute_is_told_a_class():
    model, train = tokeniser(), made_up("train").images
    for change in ({"network": "pixelcnn"}, {"attributes": (2, 3)}, {"attributes": ()}):
        prior = Prior(
            PriorConfig(**{"codes": 6, "grid": (3, 3), "width": 8, "depth": 1, "heads": 2} | change)
        )
        assert list(evaluation.drawers(model, train, prior)) == [""], change


def test_codes_are_sampled_in_batches_from_one_generator_with_all_that_was_asked_for(monkeypatch):
    prior, asked = prior_over(), []
    drawing = prior.sample

    def sample(n, **options):
        asked.append((n, options))
        return drawing(n, **options)

    monkeypatch.setattr(prior, "sample", sample)
    labels = torch.arange(520)[:, None] % 2
    generator = torch.Generator().manual_seed(0)
    options = {"temperature": 0.7, "top_p": 0.9}
    codes = evaluation.sampled_codes(prior, 520, generator, labels=labels, **options)
    assert codes.shape == (520, 3, 3) and codes.dtype == torch.int64
    assert [n for n, _ in asked] == [250, 250, 20]
    assert torch.cat([given["labels"] for _, given in asked]).equal(labels)
    assert all(given["generator"] is generator for _, given in asked)
    assert all((given["temperature"], given["top_p"]) == (0.7, 0.9) for _, given in asked)
    assert not codes[:250].equal(codes[250:500])


# ---- a whole measurement ---------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Return a folder with a feature network, a VQ-VAE, a prior over its codes, a VAE and an autoencoder."""
    monkeypatch.setitem(recipes.DATA, "made-up", made_up)
    torch.manual_seed(0)
    card = {"recipe": {"data": "made-up"}, "metrics": {}}
    plain = VAEConfig(image_shape=SHAPE, latent_dim=2, network="mlp", hidden=8)
    judge = Classifier(ClassifierConfig(image_shape=SHAPE, classes=(2,), widths=(4,), features=6))
    sha256 = pretrained.save(tokeniser(), card | {"name": "vq"}, folder=tmp_path)["sha256"]
    for name, model in {"judge": judge, "vae": VAE(plain), "ae": Autoencoder(plain)}.items():
        pretrained.save(model, card | {"name": name}, folder=tmp_path)
    card["recipe"] = card["recipe"] | {"objective": {"tokeniser": "vq"}}
    pretrained.save(prior_over(), card | {"name": "prior", "requires": {"vq": sha256}}, folder=tmp_path)
    protocol = Protocol("small", "made-up", "judge", 60, folder=tmp_path)
    monkeypatch.setitem(evaluation.PROTOCOLS, "made-up", protocol)
    return tmp_path


SAMPLED = {"fd_small", "kid_small", "precision", "recall", "coverage", "memorisation"}
LENGTHS = {"code_length", "code_length_pixels"}


def test_a_vqvae_and_a_prior_are_measured_on_images_codes_and_samples(shelf):
    found, complete = evaluation.evaluate("vq", folder=shelf)
    uniform = {f"{name}_uniform" for name in SAMPLED}
    of_codes = {"mse", "psnr", "ssim", "codes_used", "perplexity", "perplexity_batch", "bits_per_image"}
    assert set(found["metrics"]) == of_codes | LENGTHS | uniform | {"fd_small_reconstructions"}
    assert complete and found["family"] == "vqvae" and found["protocol"]["n"] == 60
    measured, complete = evaluation.evaluate("prior", folder=shelf)
    told = {f"{name}_told" for name in SAMPLED}
    of_prior = {"nll", "nll_told", "bits_per_code", "bits_per_image"}
    assert set(measured["metrics"]) == of_prior | LENGTHS | SAMPLED | told
    of_given = of_codes | of_prior | LENGTHS
    assert complete and measured["family"] == "prior" and measured["protocol"]["n"] == 60
    for result in (found, measured):
        assert {entry["n"] for name, entry in result["metrics"].items() if name in of_given} == {260}
        assert {entry["n"] for name, entry in result["metrics"].items() if name not in of_given} == {60}
        assert all(entry["detail"] and "unit" in entry for entry in result["metrics"].values())
    # the pixels cost the same, whoever foretells the codes; the codes cost what each says they do
    pixels = [result["metrics"]["code_length_pixels"]["value"] for result in (found, measured)]
    assert pixels[0] == pytest.approx(pixels[1], rel=1e-9)
    for result in (found, measured):
        codes = result["metrics"]["bits_per_image"]["value"] / 144
        rest = result["metrics"]["code_length"]["value"] - result["metrics"]["code_length_pixels"]["value"]
        assert rest == pytest.approx(codes, rel=1e-4)


def test_a_result_names_the_weights_that_it_stands_on(shelf):
    sha256 = pretrained.card("vq", folder=shelf)["sha256"]
    assert evaluation.evaluate("prior", folder=shelf, limit=10)[0]["requires"] == {"vq": sha256}
    assert evaluation.evaluate("vq", folder=shelf, limit=10)[0]["requires"] == {}


def test_a_vaes_code_length_stands_beside_and_an_autoencoder_has_none(shelf):
    found = {
        name: evaluation.evaluate(name, folder=shelf, limit=20, n_samples=2)[0] for name in ("vae", "ae")
    }
    assert set(found["vae"]["metrics"]) > LENGTHS
    detail = found["vae"]["metrics"]["code_length"]["detail"]
    assert "KL(q(z | x) || p(z)) as bits-back coding pays it" in detail
    assert pretrained.card("vae-fashion")["metrics"]["code_length"]["detail"] == detail
    assert not LENGTHS & set(found["ae"]["metrics"])


def test_a_priors_tokeniser_is_the_one_its_card_names(shelf, monkeypatch):
    model = evaluation.tokeniser_of("prior", folder=shelf)
    stored = pretrained.load("vq", folder=shelf)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), stored.state_dict().values()))
    card = pretrained.card("vq", folder=shelf)
    pretrained.save(tokeniser(seed=5), card, folder=shelf)
    for use in (evaluation.tokeniser_of, evaluation.evaluate):
        with pytest.raises(
            pretrained.PretrainedError, match="prior was trained on the codes of other weights of vq"
        ):
            use("prior", folder=shelf)


def test_a_priors_tokeniser_is_looked_for_beside_it_and_then_in_the_package(shelf, tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(pretrained, "FOLDER", package)
    for file in ("vq.json", "vq.safetensors"):
        (shelf / file).rename(package / file)
    assert evaluation.tokeniser_of("prior", folder=shelf).config == SMALL
    (package / "vq.json").unlink()
    with pytest.raises(pretrained.PretrainedError, match="no model 'vq'"):
        evaluation.tokeniser_of("prior", folder=shelf)


def test_reconstructions_belong_to_the_tokeniser_and_not_to_the_prior(shelf):
    protocol = evaluation.PROTOCOLS["made-up"]
    model = pretrained.load("vq", folder=shelf)
    found = evaluation.measure_generator(model, protocol)["fd_small_reconstructions"]
    ruler, _, test = evaluation.reference(protocol)
    with torch.no_grad():
        shown = torch.sigmoid(model.decode(model.encode(to_float(made_up("test").images[:60]))))
    by_hand = metrics.frechet_distance(ruler.features(to_uint8(from_unit(shown))), test)
    assert found["value"] == pytest.approx(by_hand, rel=1e-3)
    assert found["n"] == 60
