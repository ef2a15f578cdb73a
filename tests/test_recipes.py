"""The named trainings: their step is the negative ELBO, they learn, resume, and know when they are stale."""

import dataclasses
import json
import sys
import types

import pytest
import tiny_recipe
import torch
from tiny_recipe import N_STEPS, TINY

from imagegen import pretrained, recipes
from imagegen.data import Batches
from imagegen.images import to_unit
from imagegen.objectives import bernoulli_nll, gaussian_kl
from imagegen.recipes import RecipeError
from imagegen.training import EMA, CheckpointError, NonFiniteLoss, load_checkpoint, run, seed_of
from imagegen.vae import VAE, VAEConfig


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


def fabric_step(recipe, n_steps):
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    torch.manual_seed(recipe.seed)
    model = VAE(recipe.model)
    adam = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    wrapped, optimizer = fabric.setup(model, adam)
    return model, recipes.vae_step(recipe, n_steps, wrapped, optimizer, EMA(model, recipe.ema), fabric)


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
    terms = recipes.vae_terms

    def broken(model, x, **options):
        out = terms(model, x, **options)
        calls.append(1)
        return out | {"rate": out["rate"] * float("nan")} if len(calls) == 26 else out

    calls = []
    monkeypatch.setattr(recipes, "vae_terms", broken)
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
        if field.name in ("model", "objective"):
            inner = dataclasses.fields(value)[1].name
            other = dataclasses.replace(value, **{inner: getattr(value, inner) + 1})
        else:
            other = (
                value + "x"
                if isinstance(value, str)
                else (0.1, 0.2)
                if isinstance(value, tuple)
                else value + 1
            )
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
