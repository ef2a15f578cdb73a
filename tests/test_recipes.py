"""The named trainings: their step is the negative ELBO, they learn, resume, and know when they are stale."""

import dataclasses
import json
import sys
import types

import pytest
import tiny_recipe
import torch
from tiny_recipe import N_STEPS, TINY

from imagegen import data, pretrained, recipes
from imagegen.classifier import Classifier, ClassifierConfig
from imagegen.data import Batch, Batches
from imagegen.decoder import WITHHELD, AttributeDecoder, AttributeDecoderConfig
from imagegen.images import to_unit
from imagegen.objectives import bernoulli_nll, gaussian_kl
from imagegen.recipes import RecipeError
from imagegen.recipes.terms import moved, withheld
from imagegen.training import EMA, CheckpointError, NonFiniteLoss, load_checkpoint, run, seed_of
from imagegen.vae import VAE, Autoencoder, VAEConfig


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("IMAGEGEN_BUDGET", raising=False)
    return tmp_path / "runs"


def job(tmp_path, **options):
    return recipes.plan(
        "tiny", **{"speed": "full", "out": tmp_path, "progress": False, "log_every": 10} | options
    )


def use(monkeypatch, **changes):
    """Change the recipe `tiny` for one test."""
    monkeypatch.setitem(recipes.RECIPES, "tiny", dataclasses.replace(TINY, **changes))


def test_vae_terms_are_the_negative_elbo_written_by_hand():
    torch.manual_seed(0)
    model = VAE(TINY.model).eval()
    x = torch.rand(6, 1, 8, 8) * 2 - 1
    terms = recipes.vae_terms(model, x, beta=0.7, generator=torch.Generator().manual_seed(1))

    mean, log_var = model.encode(x)
    eps = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    logits = model.decode(mean + torch.exp(log_var / 2) * eps)
    distortion = bernoulli_nll(logits, to_unit(x))
    torch.testing.assert_close(terms["distortion"], distortion)
    torch.testing.assert_close(terms["rate"], gaussian_kl(mean, log_var))
    torch.testing.assert_close(terms["loss"], distortion + 0.7 * gaussian_kl(mean, log_var))
    assert all(value.shape == (6,) for value in terms.values())


def test_free_bits_hold_the_loss_and_not_the_rate():
    torch.manual_seed(0)
    model = VAE(TINY.model).eval()
    x = torch.rand(6, 1, 8, 8) * 2 - 1

    def terms(floor):
        return recipes.vae_terms(model, x, floor=floor, generator=torch.Generator().manual_seed(1))

    free, held = terms(0.0), terms(5.0)
    assert torch.equal(free["rate"], held["rate"]) and (free["rate"] < 10).all()
    torch.testing.assert_close(held["loss"], held["distortion"] + 2 * 5.0)


def fabric_step(recipe, n_steps, **options):
    from lightning_fabric import Fabric

    torch.manual_seed(recipe.seed)
    model = recipe.build()
    fabric = Fabric(accelerator="cpu", devices=1)
    return model, recipes.set_up(recipe, n_steps, model, EMA(model, recipe.ema), fabric, **options)[1]


def test_a_compiled_step_is_the_plain_step():
    from torch._dynamo.utils import counters

    recipe = dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, dropout=0.0))
    batches = Batches(tiny_recipe.images("train").images, batch_size=8, seed=0)
    ended = []
    for compiler in (None, "aot_eager"):
        counters.clear()
        model, step = fabric_step(recipe, 100, compiler=compiler)
        for index in range(3):
            step((index, batches.at(index)))
        assert (counters["stats"]["unique_graphs"] > 0) == (compiler is not None)
        ended.append(dict(model.state_dict()))
    assert ended[0].keys() == ended[1].keys()  # no prefix: a checkpoint of one serves the other
    torch.testing.assert_close(ended[1], ended[0])


def test_the_recipes_step_is_the_chapters_step():
    """The step that the chapter writes in full and the recipe's: the same losses and weights, step by step."""
    recipe = dataclasses.replace(
        TINY, model=dataclasses.replace(TINY.model, dropout=0.0), objective=recipes.VAEObjective()
    )
    model, step = fabric_step(recipe, 100)
    torch.manual_seed(recipe.seed)
    by_hand = VAE(recipe.model)
    adam = torch.optim.AdamW(
        by_hand.parameters(), lr=1.0, betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    batches = Batches(tiny_recipe.images("train").images, batch_size=8, seed=0)
    for index in range(3):
        x = batches.at(index).x
        generator = torch.Generator().manual_seed(seed_of(recipe.seed, index, 0))
        adam.param_groups[0]["lr"] = recipe.lr * (index + 1) / 10  # the warm-up: a tenth of 100 steps
        out = by_hand(x, generator=generator)
        loss = (bernoulli_nll(out.params, to_unit(x)) + gaussian_kl(out.mean, out.log_var)).mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), recipe.clip)
        adam.step()
        terms = step((index, batches.at(index)))
        torch.testing.assert_close(terms["loss"], loss)
        torch.testing.assert_close(terms["negative_elbo"], loss)
    for theirs, mine in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(theirs, mine)


def test_the_step_depends_on_its_number_alone():
    """Dropout and noise are a pure function of (seed, step), whatever was drawn before."""
    losses = []
    for drawn in (0, 7):
        _, step = fabric_step(TINY, 100)
        torch.randn(drawn)
        batch = Batches(tiny_recipe.images("train").images, batch_size=8, seed=0).at(5)
        losses.append(step((5, batch))["loss"])
    assert torch.equal(*losses)


def test_a_recipes_step_overfits_8_images():
    recipe = dataclasses.replace(
        TINY, model=VAEConfig(image_shape=(1, 8, 8), latent_dim=8, network="mlp", hidden=64),
        objective=recipes.VAEObjective(beta=0.0), lr=1e-2, weight_decay=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    images = (torch.rand(8, 1, 8, 8) > 0.5).to(
        torch.uint8
    ) * 255  # black and white: the floor of the NLL is 0
    batches = Batches(images, batch_size=8, seed=0)
    _, step = fabric_step(recipe, 300)
    numbered = ((index, batches.at(index)) for index in range(300))
    history = run(step, numbered, 300, log_every=10, progress=False)
    assert history[0]["distortion"] > 30  # 64 pixels of log 2 are 44.4 nats
    assert history[-1]["distortion"] < 1.0


def test_training_lowers_the_loss_and_writes_verified_weights(tmp_path):
    done = recipes.train(job(tmp_path))
    assert done["finished"] and done["step"] == N_STEPS
    state = load_checkpoint(tmp_path / "runs/tiny/checkpoint.pt")
    losses = [entry["negative_elbo"] for entry in state["history"]]
    assert losses[-1] < losses[0] - 1.0
    model = pretrained.load("tiny", folder=tmp_path)
    for key, value in model.state_dict().items():
        assert torch.equal(
            value, state["ema"]["module"][key].half().float()
        )  # the average is what is shipped
    card = pretrained.card("tiny", folder=tmp_path)
    assert card["images_seen"] == N_STEPS * TINY.batch_size and card["budget"] == "full"
    assert card["seconds"] > 0 and card["cpu_seconds"] > 0 and card["precision"] == "32-true"
    assert card["images_a_second"] == pytest.approx(card["images_seen"] / card["seconds"], rel=0.1)
    assert card["memory_mib"] > 100  # PyTorch alone takes that
    assert list((tmp_path / "runs/tiny/logs").glob("events.out.tfevents*"))


def test_a_run_of_reduced_length_does_not_touch_the_package(runs):
    planned = recipes.plan("tiny", steps=7)
    assert planned.out == planned.session.folder == (runs / "tiny-custom").absolute()
    assert recipes.plan("tiny", speed="quick").out == (runs / "tiny-quick").absolute()
    assert recipes.plan("tiny", speed="full").out == pretrained.FOLDER.absolute()


def test_a_deadline_stops_with_a_checkpoint_and_the_next_call_ends_it(tmp_path):
    cut = recipes.train(job(tmp_path / "cut", deadline=0.0))
    assert not cut["finished"] and cut["step"] == 10 and cut["card"] is None
    whole = recipes.train(job(tmp_path / "cut"))
    reference = recipes.train(job(tmp_path / "whole"), restart=True)
    assert whole["finished"] and whole["card"]["sha256"] == reference["card"]["sha256"]


def test_weights_can_be_written_while_it_is_unfinished_but_never_over_finished_ones(tmp_path):
    recipes.train(job(tmp_path, deadline=0.0))
    card = recipes.write_weights(job(tmp_path))
    assert (card["budget"], card["steps"]) == ("partial", 10)
    assert f"10 of {N_STEPS} steps" in recipes.why_stale(TINY, folder=tmp_path)
    finished = recipes.train(job(tmp_path))["card"]
    assert recipes.why_stale(TINY, folder=tmp_path) is None
    recipes.train(job(tmp_path, deadline=0.0), restart=True)
    with pytest.raises(RecipeError, match="holds finished weights"):
        recipes.write_weights(job(tmp_path))
    assert pretrained.card("tiny", folder=tmp_path) == finished


def test_a_checkpoint_of_another_config_refuses_and_names_the_fields(tmp_path, monkeypatch):
    recipes.train(job(tmp_path, deadline=0.0))
    with pytest.raises(CheckpointError, match=r"seed \(checkpoint: 3, now: 4\)"):
        recipes.train(job(tmp_path, seed=4))
    use(monkeypatch, model=dataclasses.replace(TINY.model, latent_dim=3), lr=0.002)
    with pytest.raises(
        CheckpointError, match=r"model\.latent_dim \(checkpoint: 2, now: 3\).*lr \(checkpoint"
    ):
        recipes.train(job(tmp_path))
    assert recipes.train(job(tmp_path), restart=True)["finished"]


def test_a_broken_loss_stops_the_training_before_a_checkpoint(tmp_path, monkeypatch):
    terms = recipes.VAEObjective.terms

    def broken(self, model, batch, **options):
        out = terms(self, model, batch, **options)
        calls.append(1)
        return out | {"rate": out["rate"] * float("nan")} if len(calls) == 26 else out

    calls = []
    monkeypatch.setattr(recipes.VAEObjective, "terms", broken)
    with pytest.raises(NonFiniteLoss, match="step 25: the term 'rate'"):
        recipes.train(job(tmp_path, save_seconds=0.0))
    state = load_checkpoint(tmp_path / "runs/tiny/checkpoint.pt")
    assert state["step"] == 20
    assert not (tmp_path / "tiny.json").exists()


def test_what_makes_weights_stale(tmp_path, monkeypatch):
    assert "tiny.json is missing" in recipes.why_stale(TINY, folder=tmp_path)
    recipes.train(job(tmp_path))
    assert recipes.why_stale(TINY, folder=tmp_path) is None
    unimportant = {
        "value": 9.0,
        "cpu_minutes": 1.0,
        "gpu_minutes": 1.0,
        "quick_steps": 5,
        "precision": "16-mixed",
    }
    assert recipes.why_stale(dataclasses.replace(TINY, **unimportant), folder=tmp_path) is None
    for field in dataclasses.fields(TINY):  # every other field shapes the weights
        if field.name in unimportant or field.name == "name":
            continue
        value = getattr(TINY, field.name)
        if field.name == "betas":
            other = (0.1, 0.2)
        elif field.name in ("model", "objective"):
            inner = dataclasses.fields(value)[1].name
            other = dataclasses.replace(value, **{inner: getattr(value, inner) + 1})
        else:
            other = value + "x" if isinstance(value, str) else value + 1
        changed = dataclasses.replace(TINY, **{field.name: other})
        assert f"differs in {field.name}" in recipes.why_stale(changed, folder=tmp_path)
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert "is altered" in recipes.why_stale(TINY, folder=tmp_path)


def test_stale_trains_the_most_valuable_first_and_leaves_what_does_not_fit(tmp_path, monkeypatch):
    made = {
        "small": dataclasses.replace(
            TINY, name="small", n_steps=20, value=1.0, cpu_minutes=0.01, gpu_minutes=0.01
        ),
        "best": dataclasses.replace(
            TINY, name="best", n_steps=20, value=3.0, cpu_minutes=0.01, gpu_minutes=0.01
        ),
        "long": dataclasses.replace(
            TINY, name="long", n_steps=20, value=2.0, cpu_minutes=900.0, gpu_minutes=900.0
        ),
    }
    monkeypatch.setattr(recipes, "RECIPES", made)
    said = []
    options = {"out": tmp_path, "progress": False, "say": said.append}
    assert recipes.train_stale(minutes=5.0, **options) == ["long"]
    assert [line.split(":")[0] for line in said if "done" in line or "left" in line] == [
        "best",
        "long",
        "small",
    ]
    assert pretrained.names(folder=tmp_path) == ["best", "small"]

    said.clear()
    assert recipes.train_stale(**options) == []  # without a limit the long one is trained, and nothing twice
    assert [line for line in said if "up to date" in line] == ["best: up to date", "small: up to date"]
    assert recipes.why_stale(made["long"], folder=tmp_path) is None


def test_stale_sets_aside_the_checkpoint_of_an_older_config(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "RECIPES", {"tiny": TINY})
    recipes.train(job(tmp_path, deadline=0.0))
    monkeypatch.setattr(recipes, "RECIPES", {"tiny": dataclasses.replace(TINY, lr=2e-3)})
    assert recipes.train_stale(out=tmp_path, progress=False, say=lambda line: None) == []
    assert (tmp_path / "runs/tiny/checkpoint.old.pt").exists()
    assert pretrained.card("tiny", folder=tmp_path)["recipe"]["lr"] == 2e-3


def test_the_budget_is_the_environments_else_the_machines(monkeypatch):
    assert recipes.budget() == ("full" if torch.cuda.is_available() else "quick")
    monkeypatch.setenv("IMAGEGEN_BUDGET", "full")
    assert recipes.budget() == "full" and recipes.plan("tiny").session.n_steps == N_STEPS
    monkeypatch.setenv("IMAGEGEN_BUDGET", "quick")
    assert recipes.plan("tiny").session.n_steps == TINY.quick_steps
    monkeypatch.setenv("IMAGEGEN_BUDGET", "fast")
    with pytest.raises(RecipeError, match="'fast'; expected 'quick' or 'full'"):
        recipes.plan("tiny")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"devices": 0}, "devices is 0"),
        ({"devices": 3}, "cannot share a batch of 8"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        recipes.plan("tiny", **options)
    with pytest.raises(RecipeError, match="no recipe 'tinny'; recipes: .*tiny"):
        recipes.plan("tinny")


def test_without_the_extra_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", types.ModuleType("lightning_fabric"))
    with pytest.raises(RecipeError, match=r'pip install "imagegen\[train\]"'):
        recipes.train(job(tmp_path))


@pytest.mark.parametrize("name", ["vae-fashion", "vae-fashion-2d"])
def test_the_shipped_recipes_are_what_the_book_says(name):
    recipe = recipes.RECIPES[name]
    assert recipe.name == name and recipe.data == "fashion-mnist"
    assert (recipe.model.latent_dim == 2) == name.endswith("2d")
    assert recipe.objective == recipes.VAEObjective(), "the shipped models maximise the plain ELBO"
    assert json.loads(json.dumps(recipe.config())) == recipe.config()


# --- what the other families minimise ------------------------------------------------------------------------------


def terms_of(objective, model, batch, seed: int = 1):
    return objective.terms(model, batch, step=0, n_steps=10, generator=torch.Generator().manual_seed(seed))


def test_the_autoencoders_loss_is_its_cross_entropy():
    torch.manual_seed(0)
    model = Autoencoder(TINY.model).eval()
    x = torch.rand(6, 1, 8, 8) * 2 - 1
    terms = terms_of(recipes.AutoencoderObjective(), model, Batch(x, None))
    torch.testing.assert_close(terms["loss"], bernoulli_nll(model.decode(model.encode(x)), (x + 1) / 2))


def test_the_classifiers_loss_sums_the_cross_entropies_of_its_attributes():
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig(image_shape=(1, 8, 8), classes=(2, 4), widths=(4,))).eval()
    batch = Batch(torch.rand(6, 1, 8, 8) * 2 - 1, torch.tensor([[i % 2, i % 4] for i in range(6)]))
    terms = terms_of(recipes.ClassifierObjective(), model, batch)
    first, second = (logits.log_softmax(1) for logits in model(batch.x))
    for i, (a, b) in enumerate(batch.labels.tolist()):
        torch.testing.assert_close(terms["loss"][i], -(first[i, a] + second[i, b]))
        right = (first[i].argmax() == a).float() + (second[i].argmax() == b).float()
        assert terms["accuracy"][i] == right / 2


@pytest.mark.parametrize("n_labels", [1, 3])
def test_labels_without_a_head_are_not_left_out_in_silence(n_labels):
    model = Classifier(ClassifierConfig(image_shape=(1, 8, 8), classes=(2, 4), widths=(4,)))
    batch = Batch(torch.zeros(6, 1, 8, 8), torch.zeros(6, n_labels, dtype=torch.int64))
    with pytest.raises(ValueError, match=f"reads 2 attributes, the data have {n_labels}"):
        terms_of(recipes.ClassifierObjective(), model, batch)


def test_moved_images_are_shifts_and_mirrors_of_themselves():
    """Every result is one of the 2 x 25 that a flip and a shift of up to 2 can give, and all of them occur."""
    image = torch.rand(1, 2, 7, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wide = torch.nn.functional.pad(image, (2, 2, 2, 2), mode="replicate")
    possible = {}
    for flipped in (False, True):
        for down in range(5):
            for right in range(5):
                source = wide.flip(3) if flipped else wide
                cut = source[..., down : down + 7, right : right + 5]
                possible[tuple(cut.flatten().tolist())] = (flipped, down - 2, right - 2)
    generator = torch.Generator().manual_seed(1)
    out = moved(image.expand(4000, -1, -1, -1), flip=True, shift=2, generator=generator)
    counts = {}
    for row in out.flatten(1).tolist():
        case = possible[tuple(row)]
        counts[case] = counts.get(case, 0) + 1
    assert len(counts) == 50
    assert max(abs(n - 80) for n in counts.values()) < 5 * 80**0.5  # 5 standard deviations of a count
    assert abs(sum(case[1] * n for case, n in counts.items())) / 4000 < 5 * (2 / 4000) ** 0.5  # no drift
    assert torch.equal(moved(image, flip=False, shift=0), image)


def test_withheld_labels_keep_their_place_and_the_share_is_kept():
    labels = torch.arange(12).reshape(1, 12).repeat(20_000, 1)
    out = withheld(labels, share=0.3, generator=torch.Generator().manual_seed(0))
    gone = out == WITHHELD
    assert torch.equal(out[~gone], labels[~gone])
    touched = gone.any(1).float().mean().item()
    assert abs(touched - 0.3) < 5 * (0.3 * 0.7 / 20_000) ** 0.5
    how_many = gone.sum(1)[gone.any(1)].bincount(minlength=13)[1:].float()
    expected = how_many.sum() / 12  # uniform from 1 to 12
    assert ((how_many - expected).abs() < 5 * expected.sqrt()).all()
    each = gone.float().mean(0)  # no attribute more often than another
    assert (each - each.mean()).abs().max() < 5 * (each.mean() * (1 - each.mean()) / 20_000).sqrt()


@pytest.mark.parametrize("likelihood", ["bernoulli", "mse"])
def test_the_attribute_decoders_loss_is_that_of_what_it_is_told(likelihood):
    torch.manual_seed(0)
    config = AttributeDecoderConfig(image_shape=(1, 8, 8), attributes=(2, 3), widths=(4,), neck=2, hidden=8)
    model = AttributeDecoder(config).eval()
    batch = Batch(torch.rand(6, 1, 8, 8) * 2 - 1, torch.tensor([[i % 2, i % 3] for i in range(6)]))
    objective = recipes.AttributeObjective(likelihood=likelihood, withhold=1.0)
    terms = terms_of(objective, model, batch)
    told = withheld(batch.labels, share=1.0, generator=torch.Generator().manual_seed(1))
    logits, target = model(model.conditions(told)), to_unit(batch.x)
    torch.testing.assert_close(terms["cross_entropy"], bernoulli_nll(logits, target))
    torch.testing.assert_close(terms["mse"], (torch.sigmoid(logits) - target).square().mean(dim=(1, 2, 3)))
    torch.testing.assert_close(
        terms["loss"], terms["cross_entropy" if likelihood == "bernoulli" else "mse"]
    )  # fmt: skip


OTHERS = {
    "autoencoder": (VAEConfig(image_shape=(1, 8, 8), latent_dim=2, network="mlp", hidden=16),
                    recipes.AutoencoderObjective()),
    "classifier": (ClassifierConfig(image_shape=(1, 8, 8), classes=(3,), widths=(4,), features=4),
                   recipes.ClassifierObjective(flip=True, shift=1)),
    "decoder": (AttributeDecoderConfig(image_shape=(1, 8, 8), attributes=(3,), widths=(4,), neck=2, hidden=8),
                recipes.AttributeObjective()),
}  # fmt: skip


@pytest.mark.parametrize("family", OTHERS)
def test_every_family_trains_resumes_and_ships(tmp_path, monkeypatch, family):
    """Cut and gone on with, a training ends with the weights of one that was not, and they load by their card."""
    model, objective = OTHERS[family]
    if family == "decoder":  # its labels are a table, one column an attribute
        monkeypatch.setitem(recipes.DATA, "tiny", lambda split: as_attributes(tiny_recipe.images(split)))
    use(monkeypatch, model=model, objective=objective, n_steps=40)
    cut = recipes.train(job(tmp_path / "cut", deadline=0.0))
    assert not cut["finished"]
    card = recipes.train(job(tmp_path / "cut"))["card"]
    whole = recipes.train(job(tmp_path / "whole"), restart=True)["card"]
    assert card["sha256"] == whole["sha256"] and card["family"] == family
    assert set(card["training"]) == {*objective.reported, "fetch_share"}
    assert type(pretrained.load("tiny", folder=tmp_path / "cut")) is objective.network
    assert recipes.why_stale(recipes.RECIPES["tiny"], folder=tmp_path / "cut") is None


def as_attributes(images):
    return images._replace(labels=images.labels[:, None])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: recipes.VAEObjective(beta=-1.0), "beta is -1.0"),
        (lambda: recipes.ClassifierObjective(shift=-1), "shift is -1"),
        (lambda: recipes.AttributeObjective(likelihood="l1"), "likelihood is 'l1'"),
        (lambda: recipes.AttributeObjective(withhold=1.5), "withhold is 1.5"),
        (lambda: dataclasses.replace(TINY, batch_size=0), "batch_size is 0"),
        (lambda: dataclasses.replace(TINY, lr=0.0), "lr is 0.0"),
        (lambda: dataclasses.replace(TINY, lr_final=-0.1), "lr_final is -0.1"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_avatars_recipes_know_the_data():
    sizes = tuple(len(values) for values in data.avatars("test").attributes.values())
    assert recipes.RECIPES["classifier-avatars"].model.classes == sizes
    assert recipes.RECIPES["decoder-avatars"].model.attributes == sizes
    twin = recipes.RECIPES["vae-fashion"].model
    assert recipes.RECIPES["autoencoder-fashion"].model == twin, "only the objective differs from the VAE's"
