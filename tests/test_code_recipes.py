"""The trainings of discrete codes: their terms are their definitions, and a prior keeps to the codes it stands on."""

import dataclasses
import math

import numpy as np
import pytest
import tiny_recipe
import torch
from tiny_recipe import TINY
from torch import nn
from torch.testing import assert_close

from imagegen import cli, evaluation, pretrained, recipes
from imagegen.data import Batch, Batches
from imagegen.decoder import WITHHELD
from imagegen.hierarchy import HierarchicalVQVAE, HierarchyConfig, HierarchyOutput
from imagegen.images import from_unit, to_float, to_uint8, to_unit
from imagegen.prior import Prior, PriorConfig
from imagegen.recipes import RecipeError
from imagegen.recipes.code_terms import partly_told
from imagegen.training import EMA, CheckpointError, load_checkpoint, seed_of
from imagegen.vq import VQVAE, VQVAEConfig

SHAPE = (1, 8, 8)
VQ = VQVAEConfig(image_shape=SHAPE, codes=8, code_dim=3, widths=(4,), blocks=1, hidden=4)
PAIR = HierarchyConfig(image_shape=SHAPE, codes=(4, 6), code_dim=3, widths=(4,), blocks=0, hidden=4)
OVER = PriorConfig(codes=8, grid=(4, 4), attributes=(3,), width=8, depth=1, heads=2)
TOP = PriorConfig(codes=4, grid=(2, 2), attributes=(3,), width=8, depth=1, heads=2)
BOTTOM = PriorConfig(
    codes=6, grid=(4, 4), attributes=(3,), width=8, depth=1, heads=2, context_codes=4, context_grid=(2, 2)
)


def recipe(name, model, objective, value=1.0, **changes):
    shared = {"n_steps": 20, "quick_steps": 2, "value": value, "cpu_minutes": 0.01, "gpu_minutes": 0.01}
    return dataclasses.replace(TINY, name=name, model=model, objective=objective, **shared | changes)


MADE = {
    made.name: made
    for made in (
        recipe("prior", OVER, recipes.PriorObjective(tokeniser="vq"), 1.0),
        recipe("vq", VQ, recipes.VQObjective(), 3.0),
        recipe("pair", PAIR, recipes.HierarchyObjective(), 2.5),
        recipe("top", TOP, recipes.LevelPriorObjective(tokeniser="pair", level="top"), 1.5),
        recipe("bottom", BOTTOM, recipes.LevelPriorObjective(tokeniser="pair", level="bottom"), 1.4),
    )
}


@pytest.fixture(autouse=True)
def made(tmp_path, monkeypatch):
    """The recipes are these alone; nothing here reads or writes the package's weights or the repository."""
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("IMAGEGEN_BUDGET", raising=False)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "package")
    monkeypatch.setattr(cli, "REPOSITORY", tmp_path / "repository")
    monkeypatch.setattr(recipes, "RECIPES", dict(MADE))


def images(n: int = 6) -> torch.Tensor:
    """Return images in [-1, 1], no two alike."""
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def labels(n: int = 6) -> torch.Tensor:
    return torch.arange(n) % 3


def network(kind, config, seed: int = 0):
    """Return a random network, in evaluation mode, whose outputs differ from image to image."""
    torch.manual_seed(seed)
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3 if kind is not Prior else 8)
    if kind is not Prior:  # the codebook starts on the data
        model.train()(images(40), generator=torch.Generator().manual_seed(1))
    return model.eval()


def terms_of(objective, model, batch, seed: int = 1):
    return objective.terms(model, batch, step=0, n_steps=10, generator=torch.Generator().manual_seed(seed))


# ---- what is minimised -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_the_terms_of_a_vqvae_are_its_loss_written_by_hand(update):
    model = network(VQVAE, dataclasses.replace(VQ, update=update))
    x, beta, noise = images(), 0.4, 0.2
    terms = terms_of(recipes.VQObjective(beta=beta, noise=noise), model, Batch(x, None))
    with torch.no_grad():
        z = model.encoder(x)
        distances = (z[:, None] - model.quantiser.codebook[None, :, :, None, None]).square().sum(2)
        squared, codes = distances.min(1)  # (B, h, w)
        pixels, target = torch.sigmoid(model.decode(codes)), (x + 1) / 2
    assert len(codes.unique()) > 2
    error = (pixels - target).square()
    nats = (error / (2 * noise**2) + math.log(noise) + math.log(2 * math.pi) / 2).sum((1, 2, 3))
    commitment = squared.sum((1, 2))
    assert_close(terms["distortion"], nats, rtol=1e-4, atol=1e-4)
    assert_close(terms["commitment"], commitment, rtol=1e-4, atol=1e-4)
    assert_close(terms["mse"], error.mean((1, 2, 3)))
    weight = beta + (
        update == "gradient"
    )  # the codebook loss has the commitment's value, and other gradients
    assert_close(terms["loss"], nats + weight * commitment, rtol=1e-4, atol=1e-4)
    assert all(value.shape == (6,) for value in terms.values())


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_a_codebook_gets_a_gradient_only_where_it_learns_by_one(update):
    model = network(VQVAE, dataclasses.replace(VQ, update=update))
    terms_of(recipes.VQObjective(), model, Batch(images(), None))["loss"].mean().backward()
    assert next(model.encoder.parameters()).grad.any()
    codebook = model.quantiser.codebook
    assert (codebook.grad is not None and codebook.grad.any().item()) == (update == "gradient")


def test_the_terms_of_two_levels_are_those_of_what_each_image_is_told():
    model, x = network(HierarchicalVQVAE, PAIR), images(24)
    objective = recipes.HierarchyObjective(beta=0.4, noise=0.2, withhold=0.5)
    terms = terms_of(objective, model, Batch(x, None))
    withheld = torch.rand(24, generator=torch.Generator().manual_seed(1)) < 0.5
    assert 4 < withheld.sum() < 20
    with torch.no_grad():
        top, bottom = model.encode(x)
        alone, whole = model.decode(top), model.decode(top, bottom)
        logits = torch.where(withheld[:, None, None, None], alone, whole)
        out = model(x)
    assert (alone - whole).abs().amax((1, 2, 3)).min() > 1e-3  # one would not pass for the other
    error = (torch.sigmoid(logits) - (x + 1) / 2).square()
    nats = (error / (2 * 0.2**2) + math.log(0.2) + math.log(2 * math.pi) / 2).sum((1, 2, 3))
    commitment = sum((z - e).square().sum((1, 2, 3)) for z, e in zip(out.z, out.nearest))
    assert_close(terms["distortion"], nats, rtol=1e-4, atol=1e-4)
    assert_close(terms["commitment"], commitment, rtol=1e-4, atol=1e-4)
    assert_close(terms["loss"], nats + 0.4 * commitment, rtol=1e-4, atol=1e-4)
    assert_close(terms["mse"], error.mean((1, 2, 3)))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_bottom_level_is_withheld_from_the_share_that_was_asked_for(share):
    asked = []

    class Watches(nn.Module):
        def forward(self, x, *, withheld, generator):
            asked.append(withheld)
            return HierarchyOutput(x, (x, x), (x, x), (None, None))

    n = 20_000
    terms_of(recipes.HierarchyObjective(withhold=share), Watches(), Batch(torch.zeros(n, 1, 1, 1), None))
    found = asked[0].double().mean().item()
    assert abs(found - share) <= 5 * (share * (1 - share) / n) ** 0.5


@pytest.mark.parametrize(
    "config", [OVER, dataclasses.replace(OVER, network="pixelcnn")], ids=["transformer", "pixelcnn"]
)
def test_a_priors_loss_is_the_code_length_given_what_it_is_told(config):
    model, codes = network(Prior, config), network(VQVAE, VQ).encode(images())
    told = partly_told(labels()[:, None], unconditional=0.5, generator=torch.Generator().manual_seed(1))
    assert 0 < (told == WITHHELD).sum() < 6
    terms = terms_of(recipes.PriorObjective(unconditional=0.5), model, Batch(codes, labels()))
    with torch.no_grad():
        expected = -model.log_prob(codes, labels=told)
        assert_close(terms["loss"], expected)
        assert not torch.allclose(expected, -model.log_prob(codes, labels=labels()))
    assert terms["nll"] is terms["loss"]


@pytest.mark.parametrize(("level", "config"), [("top", TOP), ("bottom", BOTTOM)])
def test_the_prior_of_a_level_is_given_the_level_above_and_nothing_else(level, config):
    pair, model = network(HierarchicalVQVAE, PAIR), network(Prior, config)
    objective = recipes.LevelPriorObjective(tokeniser="pair", level=level, unconditional=0.0)
    raw = to_uint8(images())
    prepared = objective.prepared(raw, {"pair": pair})
    top, bottom = pair.encode(to_float(raw))
    assert prepared.dtype == torch.int64 and prepared.shape == (6, 4 + 16)
    assert prepared[:, :4].equal(top.flatten(1)) and prepared[:, 4:].equal(bottom.flatten(1))
    assert len(top.unique()) > 1 and len(bottom.unique()) > 1
    terms = terms_of(objective, model, Batch(prepared, labels()))
    with torch.no_grad():
        if level == "top":
            expected = -model.log_prob(top, labels=labels())
        else:
            expected = -model.log_prob(bottom, labels=labels(), context=top)
            assert not torch.allclose(
                expected, -model.log_prob(bottom, labels=labels(), context=(top + 1) % 4)
            )
    assert_close(terms["loss"], expected)


def test_codes_come_in_the_images_order_whatever_the_batch():
    raw, vq, pair = to_uint8(images(11)), network(VQVAE, VQ), network(HierarchicalVQVAE, PAIR)
    whole = vq.encode(to_float(raw))
    for batch in (1, 4, 250):
        assert recipes.codes_of(vq, raw, batch=batch).equal(whole)
        for found, expected in zip(recipes.levels_of(pair, raw, batch=batch), pair.encode(to_float(raw))):
            assert found.equal(expected) and found.dtype == torch.int64
    prepared = recipes.PriorObjective(tokeniser="vq").prepared(raw, {"vq": vq, "pair": pair})
    assert prepared.equal(whole) and len({tuple(row) for row in whole.flatten(1).tolist()}) > 5


def test_batches_of_codes_are_the_codes_themselves():
    codes = torch.arange(10 * 4).reshape(10, 2, 2)
    batch = Batches(codes, torch.arange(10), batch_size=5, seed=0).at(1)
    assert batch.x.dtype == torch.int64
    assert batch.x.equal(codes[batch.labels])  # each row with its own label, no value changed


N = 20_000


def test_labels_are_withheld_all_at_once_or_at_most_all_but_one():
    table = torch.arange(6).repeat(N, 1)
    out = partly_told(table, unconditional=0.3, generator=torch.Generator().manual_seed(0))
    gone = out == WITHHELD
    assert out[~gone].equal(table[~gone])  # what is told keeps its place and value
    how_many = gone.sum(1)
    nothing = (how_many == 6).float().mean().item()
    error = (0.3 * 0.7 / N) ** 0.5
    assert abs(nothing - 0.3) < 5 * error and error < 0.02 * 0.3
    counts = how_many[how_many < 6].bincount(minlength=6).double()
    expected = counts.sum() / 6  # uniform from 0 to 5
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all() and 5 * expected.sqrt() < 0.2 * expected
    each = gone[how_many < 6].double().mean(0)  # 2.5 of 6, none more often than another
    spread = (2.5 / 6 * 3.5 / 6 / counts.sum()) ** 0.5
    assert ((each - 2.5 / 6).abs() < 5 * spread).all() and spread < 0.02
    pairs = (gone[:, 0] & gone[:, 1])[how_many == 2].double().mean().item()
    assert (
        abs(pairs - 1 / 15) < 5 * (14 / 225 / counts[2].item()) ** 0.5
    )  # which ones: drawn anew for each image


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_single_label_is_told_or_not(share):
    out = partly_told(labels(N)[:, None], unconditional=share, generator=torch.Generator().manual_seed(0))
    gone = (out == WITHHELD).double().mean().item()
    assert abs(gone - share) <= 5 * (share * (1 - share) / N) ** 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: recipes.VQObjective(beta=-1.0), "beta is -1.0"),
        (lambda: recipes.VQObjective(noise=0.0), "noise is 0.0"),
        (lambda: recipes.HierarchyObjective(beta=math.nan), "beta is nan"),
        (lambda: recipes.HierarchyObjective(noise=-0.1), "noise is -0.1"),
        (lambda: recipes.HierarchyObjective(withhold=1.1), "withhold is 1.1"),
        (lambda: recipes.PriorObjective(unconditional=-0.5), "unconditional is -0.5"),
        (lambda: recipes.LevelPriorObjective(unconditional=2.0), "unconditional is 2.0"),
        (lambda: recipes.LevelPriorObjective(level="middle"), "level is 'middle'"),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- the step --------------------------------------------------------------------------------------------------


def fabric_step(made, n_steps):
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    torch.manual_seed(made.seed)
    model = made.build()
    adam = torch.optim.AdamW(model.parameters(), lr=made.lr, betas=made.betas, weight_decay=made.weight_decay)
    wrapped, optimizer = fabric.setup(model, adam)
    return model, recipes.recipe_step(made, n_steps, wrapped, optimizer, EMA(model, made.ema), fabric)


def by_vq(model, batch, generator):
    out = model(batch.x, generator=generator)
    error = (torch.sigmoid(out.params) - to_unit(batch.x)).square().sum((1, 2, 3))
    nats = error / (2 * 0.1**2) + 64 * (math.log(0.1) + math.log(2 * math.pi) / 2)
    return nats + 0.25 * (out.z - out.nearest.detach()).square().sum((1, 2, 3))


def by_prior(model, batch, generator):
    told = partly_told(batch.labels[:, None], unconditional=0.5, generator=generator)
    logits = model(batch.x, labels=told)
    return nn.functional.cross_entropy(logits, batch.x, reduction="none").sum((1, 2))


@pytest.mark.parametrize(
    ("made", "loss_of"),
    [
        (MADE["vq"], by_vq),
        (recipe("p", dataclasses.replace(OVER, dropout=0.0), MADE["prior"].objective), by_prior),
    ],
    ids=["vq", "prior"],
)
def test_the_recipes_step_is_the_one_written_out(made, loss_of):
    """The same losses, weights and codebook, step by step; the restarts of codes draw from the step's generator."""
    model, step = fabric_step(made, 100)
    torch.manual_seed(made.seed)
    by_hand = made.build()
    adam = torch.optim.AdamW(by_hand.parameters(), lr=1.0, betas=made.betas, weight_decay=made.weight_decay)
    train = tiny_recipe.images("train")
    items = made.objective.prepared(train.images, {"vq": network(VQVAE, VQ)})
    batches = Batches(items, train.labels, batch_size=8, seed=0)
    for index in range(3):
        batch = batches.at(index)
        generator = torch.Generator().manual_seed(seed_of(made.seed, index, 0))
        adam.param_groups[0]["lr"] = made.lr * (index + 1) / 10  # the warm-up: a tenth of 100 steps
        loss = loss_of(by_hand, batch, generator).mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), made.clip)
        adam.step()
        torch.randn(index)  # what was drawn elsewhere changes nothing
        assert_close(step((index, batch))["loss"], loss, rtol=1e-5, atol=1e-4)
    for theirs, mine in zip(model.state_dict().values(), by_hand.state_dict().values(), strict=True):
        assert_close(theirs, mine)


@pytest.mark.parametrize(("kind", "config", "objective"), [
    (VQVAE, VQ, recipes.VQObjective()), (HierarchicalVQVAE, PAIR, recipes.HierarchyObjective(withhold=0.0))
], ids=["vq", "pair"])  # fmt: skip
def test_restarted_codes_lie_where_the_steps_generator_puts_them(kind, config, objective):
    def codebooks(seed, drawn):
        torch.manual_seed(0)
        model = kind(config).train()
        torch.randn(drawn)
        terms_of(objective, model, Batch(images(40), None), seed=seed)
        return torch.cat(
            [value.flatten() for name, value in model.state_dict().items() if "codebook" in name]
        )

    assert codebooks(1, 0).equal(codebooks(1, 7))
    assert not codebooks(1, 0).equal(codebooks(2, 0))


# ---- trainings that stand on others ----------------------------------------------------------------------------


def job(name, out, **options):
    return recipes.plan(name, **{"speed": "full", "out": out, "progress": False, "log_every": 10} | options)


@pytest.fixture
def shelf(tmp_path):
    """Return a folder with finished tokenisers: no training was needed."""
    for name, kind in (("vq", VQVAE), ("pair", HierarchicalVQVAE)):
        put(tmp_path, name, network(kind, MADE[name].model))
    return tmp_path


def put(folder, name, model):
    made = MADE[name]
    card = {"name": name, "recipe": made.config(), "config_hash": made.config_hash(), "requires": {}}
    return pretrained.save(model, card | {"budget": "full", "steps": made.n_steps}, folder=folder)["sha256"]


def restarted(folder, name):
    """Put other weights in the place of a tokeniser's; return their hash."""
    return put(
        folder, name, network({"vq": VQVAE, "pair": HierarchicalVQVAE}[name], MADE[name].model, seed=9)
    )


@pytest.mark.parametrize("name", MADE)
def test_a_training_that_was_cut_ends_with_the_same_weights_and_ships(shelf, name):
    family = {"vq": "vqvae", "pair": "hierarchy"}.get(name, "prior")
    cut = recipes.train(job(name, shelf, deadline=0.0))
    assert not cut["finished"] and cut["step"] == 10
    card = recipes.train(job(name, shelf))["card"]
    assert (card["family"], card["steps"], card["budget"]) == (family, 20, "full")
    assert recipes.why_stale(MADE[name], folder=shelf) is None
    whole = recipes.train(job(name, shelf), restart=True)["card"]
    assert card["sha256"] == whole["sha256"]
    assert set(card["training"]) == {*MADE[name].objective.reported, "fetch_share"}
    model = pretrained.load(name, folder=shelf)
    assert type(model) is MADE[name].objective.network
    state = load_checkpoint(shelf / "runs" / name / "checkpoint.pt")["ema"]["module"]
    for key, value in model.state_dict().items():
        assert value.equal(state[key].half().float() if state[key].is_floating_point() else state[key]), key


def test_a_prior_knows_the_weights_that_it_stands_on(shelf):
    sha256 = pretrained.card("vq", folder=shelf)["sha256"]
    assert recipes.required(MADE["prior"], folder=shelf) == {"vq": sha256}
    assert recipes.required(MADE["vq"], folder=shelf) == {}
    assert recipes.required(MADE["prior"], folder=shelf / "elsewhere") == {"vq": None}
    assert job("prior", shelf).session.identity["weights of vq"] == sha256
    assert recipes.train(job("prior", shelf))["card"]["requires"] == {"vq": sha256}


def test_required_weights_are_looked_for_beside_the_prior_and_then_in_the_package(shelf):
    package = put(pretrained.FOLDER, "vq", network(VQVAE, VQ, seed=4))
    own = pretrained.card("vq", folder=shelf)["sha256"]
    assert package != own
    assert recipes.required(MADE["prior"], folder=shelf) == {"vq": own}
    assert recipes.required(MADE["prior"], folder=shelf / "elsewhere") == {"vq": package}
    quick = recipes.plan("prior", speed="quick")
    assert quick.session.identity["weights of vq"] == package


def test_without_its_tokeniser_a_prior_is_refused_before_anything_starts(tmp_path):
    for name, needed in (("prior", "vq"), ("top", "pair"), ("bottom", "pair")):
        with pytest.raises(
            RecipeError, match=f"{name} stands on the weights of {needed}: train that one first"
        ):
            recipes.train(job(name, tmp_path))
        assert not (tmp_path / "runs" / name / "checkpoint.pt").exists()


def test_other_weights_of_the_tokeniser_make_a_prior_stale_and_its_checkpoint_useless(shelf):
    recipes.train(job("prior", shelf))
    old = pretrained.card("prior", folder=shelf)["requires"]["vq"]
    new = restarted(shelf, "vq")
    assert recipes.why_stale(MADE["prior"], folder=shelf) == (
        "it stands on other weights of vq than those that are there"
    )
    with pytest.raises(CheckpointError, match=rf"weights of vq \(checkpoint: {old}, now: {new}\)"):
        recipes.train(job("prior", shelf))
    with pytest.raises(CheckpointError, match="weights of vq"):
        recipes.write_weights(job("prior", shelf))
    assert recipes.train(job("prior", shelf), restart=True)["card"]["requires"] == {"vq": new}
    assert recipes.why_stale(MADE["prior"], folder=shelf) is None
    (shelf / "vq.json").unlink()
    assert "other weights of vq" in recipes.why_stale(MADE["prior"], folder=shelf)


def test_a_card_names_the_codes_trained_on_though_the_tokeniser_changes_meanwhile(shelf, monkeypatch):
    old, terms, called = pretrained.card("vq", folder=shelf)["sha256"], recipes.PriorObjective.terms, []

    def meanwhile(self, *args, **options):
        if not called:
            called.append(restarted(shelf, "vq"))
        return terms(self, *args, **options)

    monkeypatch.setattr(recipes.PriorObjective, "terms", meanwhile)
    assert recipes.train(job("prior", shelf))["card"]["requires"] == {"vq": old} != {"vq": called[0]}
    assert "other weights of vq" in recipes.why_stale(MADE["prior"], folder=shelf)


def test_what_makes_the_weights_of_codes_stale(shelf):
    recipes.train(job("prior", shelf))
    other = [
        (
            MADE["prior"],
            {"objective": dataclasses.replace(MADE["prior"].objective, unconditional=0.4)},
            "objective",
        ),
        (MADE["prior"], {"model": dataclasses.replace(OVER, depth=2)}, "model"),
        (MADE["vq"], {"objective": recipes.VQObjective(noise=0.2)}, "objective"),
        (MADE["vq"], {"model": dataclasses.replace(VQ, restart=0.2)}, "model"),
        (MADE["pair"], {"objective": recipes.HierarchyObjective(withhold=0.2)}, "objective"),
    ]
    for made, change, field in other:
        assert recipes.why_stale(made, folder=shelf) is None
        changed = dataclasses.replace(made, **change)
        assert f"differs in {field}" in recipes.why_stale(changed, folder=shelf)


def test_stale_trains_what_others_stand_on_first(tmp_path):
    said = []
    options = {"out": tmp_path, "progress": False, "say": said.append}
    assert recipes.train_stale(**options) == []
    done = [line.split(":")[0] for line in said if "done" in line]
    assert done == ["vq", "pair", "top", "bottom", "prior"]
    said.clear()
    assert (
        recipes.train_stale(**options) == [] and all("up to date" in line for line in said) and len(said) == 5
    )
    restarted(tmp_path, "pair")
    said.clear()
    assert recipes.train_stale(**options) == []
    assert [line.split(":")[0] for line in said if "done" in line] == ["top", "bottom"]
    assert sum("the old checkpoint is kept" in line for line in said) == 2


def test_stale_leaves_a_prior_whose_tokeniser_is_left_and_goes_on(tmp_path, monkeypatch):
    made = {
        "vq": dataclasses.replace(MADE["vq"], cpu_minutes=900.0, gpu_minutes=900.0),
        "prior": MADE["prior"], "pair": MADE["pair"], "top": MADE["top"],
    }  # fmt: skip
    monkeypatch.setattr(recipes, "RECIPES", made)
    said = []
    options = {"out": tmp_path, "progress": False, "say": said.append, "minutes": 5.0}
    assert recipes.train_stale(**options) == ["vq", "prior"]
    assert "prior: left, for it stands on vq, which must be trained first" in said
    assert pretrained.names(folder=tmp_path) == ["pair", "top"]
    # nor is it trained on weights that are to be replaced
    pretrained.save(network(VQVAE, VQ), {"name": "vq", "budget": "partial"}, folder=tmp_path)
    assert recipes.train_stale(**options) == ["vq", "prior"]
    # nor on a model that no recipe makes and that is not there
    monkeypatch.setattr(recipes, "RECIPES", {"prior": MADE["prior"]})
    (tmp_path / "vq.json").unlink()
    assert recipes.train_stale(**options) == ["prior"]


# ---- the catalogue ---------------------------------------------------------------------------------------------

SHIPPED = recipes.catalogue.RECIPES


@pytest.mark.parametrize(
    "name", [name for name, made in SHIPPED.items() if isinstance(made.model, PriorConfig)]
)
def test_a_shipped_prior_fits_the_codes_of_its_tokeniser_and_comes_after_it(name):
    made = SHIPPED[name]
    (needed,) = made.objective.requires
    tokeniser, config = SHIPPED[needed], made.model
    assert tokeniser.value > made.value and tokeniser.data == made.data
    if isinstance(tokeniser.model, VQVAEConfig):
        assert (config.codes, config.grid, config.context_codes) == (
            tokeniser.model.codes,
            tokeniser.model.grid,
            0,
        )
    else:
        level = ("top", "bottom").index(made.objective.level)
        assert (config.codes, config.grid) == (tokeniser.model.codes[level], tokeniser.model.grids[level])
        above = (tokeniser.model.codes[0], tokeniser.model.grids[0]) if level else (0, (0, 0))
        assert (config.context_codes, config.context_grid) == above
    attributes = recipes.DATA[made.data]("test")
    assert config.attributes == (
        tuple(len(values) for values in attributes.attributes.values()) if made.data == "avatars" else (10,)
    )


def test_the_shipped_tokenisers_are_what_the_book_says():
    fashion, faces, pair = (SHIPPED[name] for name in ("vqvae-fashion", "vqvae-avatars", "hierarchy-avatars"))
    assert (
        fashion.model.grid == (7, 7) and faces.model.grid == (8, 8) and pair.model.grids == ((4, 4), (8, 8))
    )
    assert fashion.model.codes == faces.model.codes == pair.model.codes[1] == 512
    assert fashion.objective == faces.objective == recipes.VQObjective()
    for made in (fashion, faces, pair):
        assert made.weight_decay == 0, "decay would pull the encoder's output towards 0, away from its codes"


# ---- the command line ------------------------------------------------------------------------------------------


def call(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_from_a_tokeniser_to_samples_of_a_prior(capsys, tmp_path):
    shelf = tmp_path / "shelf"
    train = ("--budget", "full", "--out", shelf, "--quiet")
    code, out, err = call(capsys, "train", "prior", *train)
    assert code == 2 and out == ""
    assert err == "imagegen: prior stands on the weights of vq: train that one first\n"
    code, out, _ = call(capsys, "train", "vq", *train)
    assert code == 0 and "vq: 20 steps done (distortion" in out
    code, out, _ = call(capsys, "train", "prior", *train)
    assert code == 0 and "prior: 20 steps done (nll" in out
    assert pretrained.names(folder=shelf) == ["prior", "vq"]
    options = ("--label", 1, "--temperature", 0.9, "--top-p", 0.95, "-n", 5, "--seed", 3)
    code, out, err = call(capsys, "sample", "prior", "--weights", shelf, "-o", tmp_path / "x.npz", *options)
    assert code == 0, err
    prior, vq = (pretrained.load(name, folder=shelf) for name in ("prior", "vq"))
    codes = evaluation.sampled_codes(
        prior, 5, torch.Generator().manual_seed(3), labels=torch.ones(5, 1, dtype=torch.int64),
        temperature=0.9, top_p=0.95,
    )  # fmt: skip
    with torch.no_grad():
        expected = to_uint8(from_unit(torch.sigmoid(vq.decode(codes))))
    with np.load(tmp_path / "x.npz") as file:
        assert (file["images"] == expected.numpy()).all() and file["images"].shape == (5, 1, 8, 8)


def test_stale_says_on_the_command_line_what_is_left(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "RECIPES", {"prior": MADE["prior"]})
    code, out, err = call(capsys, "train", "--stale", "--out", tmp_path / "out", "--quiet")
    assert code == 0 and err == ""
    assert "stands on vq, which must be trained first" in out and out.splitlines()[-1] == "left: prior"
