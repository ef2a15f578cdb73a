"""A restorer's training: its terms by hand, the adversarial step by hand, and who is moved by what."""

import copy
import dataclasses
import functools

import pytest
import tiny_gan
import torch
from torch import nn
from torch.nn.functional import softplus
from torch.testing import assert_close

from imagegen import pretrained, recipes
from imagegen.classifier import Classifier, ClassifierConfig
from imagegen.data import Batch, Batches
from imagegen.degrade import Degradation, Mixture
from imagegen.pair import PairConfig
from imagegen.recipes import RestorationObjective
from imagegen.recipes.restoration import maps, told
from imagegen.restore import Restorer, RestorerConfig
from imagegen.training import EMA, learning_rate, load_checkpoint, seed_of

MIXTURE = Mixture(masks=("none", "box"), shares=(0.1, 0.3), sigmas=(0.1, 0.4))
CONFIG = RestorerConfig(image_shape=(1, 16, 16), width=6, levels=1, mask=True, noise=True)
PLAYED = dataclasses.replace(CONFIG, critic_width=4)
GAME = {"adversarial": 0.3, "weight": 2.0, "penalty_every": 3, "critic_lr": 2.0}


def recipe_of(config=CONFIG, **objective) -> recipes.Recipe:
    made = RestorationObjective(**{"degradation": MIXTURE} | objective)
    return dataclasses.replace(
        tiny_gan.TINY_GAN, name="tiny-restorer", model=config, objective=made, clip=1.0
    )


def judge() -> Classifier:
    torch.manual_seed(7)
    config = ClassifierConfig(image_shape=(1, 16, 16), classes=(2,), widths=(3, 5), features=4)
    model = Classifier(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.0, 0.3)
    return model.requires_grad_(False)


@pytest.fixture
def fabric():
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1)


def set_up(recipe, n_steps, fabric, **models):
    torch.manual_seed(recipe.seed)
    bare = recipe.build()
    with torch.no_grad():  # so that the estimate hangs on all that is told, from the first step
        for parameter in bare.estimator.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    ema = EMA(bare, recipe.ema)
    return bare, ema, recipes.set_up(recipe, n_steps, bare, ema, fabric, models=models)[1]


def batch_at(recipe, index: int) -> Batch:
    return Batches(tiny_gan.images("train").images, batch_size=recipe.batch_size, seed=recipe.seed).at(index)


# ---- the terms -------------------------------------------------------------------------------------------------------


def stirred(config=CONFIG) -> Restorer:
    torch.manual_seed(1)
    model = Restorer(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.0, 0.2)
    return model


@pytest.mark.parametrize("pixel_loss", ["mse", "l1"])
def test_the_loss_is_the_weighted_sum_of_both_distances(pixel_loss):
    objective = RestorationObjective(MIXTURE, pixel=0.7, pixel_loss=pixel_loss, feature=0.2, judge="judge")
    model, network, batch = stirred(), judge(), batch_at(recipe_of(), 0)
    options = {"step": 0, "n_steps": 9, "judge": network}
    terms = objective.terms(model, batch, generator=torch.Generator().manual_seed(5), **options)
    y, known, sigma = MIXTURE(batch.x, generator=torch.Generator().manual_seed(5))
    estimate = model(y, known, sigma)
    error = estimate - batch.x
    pixel = (error**2 if pixel_loss == "mse" else error.abs()).mean((1, 2, 3))
    layers = list(network.trunk)
    a, b, feature = estimate, batch.x, 0.0
    for layer in layers[: layers.index(next(part for part in layers if isinstance(part, nn.Flatten)))]:
        a, b = layer(a), layer(b)
        if isinstance(layer, nn.SiLU):
            feature = feature + ((a - b) ** 2).mean((1, 2, 3))
    assert_close(terms["pixel"], pixel)
    assert_close(terms["feature"], feature)
    assert_close(terms["loss"], 0.7 * pixel + 0.2 * feature)
    assert feature.min() > 0.01 and all(value.shape == (8,) for value in terms.values())
    terms["loss"].mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_the_maps_are_those_behind_each_activation_and_come_before_the_features():
    network, x = judge(), batch_at(recipe_of(), 0).x
    found = maps(network, x)
    assert [tuple(part.shape) for part in found] == [(8, 3, 8, 8), (8, 5, 4, 4)]
    first = network.trunk[2](network.trunk[1](network.trunk[0](x)))
    assert_close(found[0], first)
    assert_close(network.trunk[-1](found[1].flatten(1)), network.features(x))


def test_a_restorer_is_told_what_its_config_asks_for():
    y, known = torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    plain = dataclasses.replace(CONFIG, mask=False, noise=False)
    assert told(plain, y, known, 0.3)[1:] == (None, None)
    _, given, sigma = told(CONFIG, y, None, 0.3)
    assert given.shape == (2, 1, 16, 16) and given.dtype == torch.bool and given.all() and sigma == 0.3
    assert told(CONFIG, y, known, 0.3)[1] is known


def test_a_single_degradation_is_told_too():
    x, random = batch_at(recipe_of(), 0).x, torch.Generator()
    noisy = RestorationObjective(Degradation(noise="gaussian", amount=0.4))
    y, known, sigma = noisy.observe(CONFIG, x, generator=random.manual_seed(2))
    assert known.all() and sigma == 0.4 and (y - x).std() == pytest.approx(0.4, rel=0.1)
    rough = RestorationObjective(Degradation(noise="salt-and-pepper", amount=0.4))
    assert rough.observe(CONFIG, x, generator=random)[2] == 0.0
    small = dataclasses.replace(CONFIG, mask=False, noise=False, factor=4)
    y, known, sigma = RestorationObjective(Degradation(factor=4)).observe(small, x, generator=random)
    assert y.shape == (8, 1, 4, 4) and known is None and sigma is None


# ---- the step --------------------------------------------------------------------------------------------------------


def test_without_a_critic_the_step_is_the_ordinary_one(fabric):
    recipe = recipe_of(feature=0.2, judge="judge")
    model, ema, step = set_up(recipe, 4, fabric, judge=judge())
    twin, network = copy.deepcopy(model), judge()
    adam = torch.optim.AdamW(twin.parameters(), betas=recipe.betas, weight_decay=0.0)
    for index in range(4):
        batch = batch_at(recipe, index)
        found = step((index, batch))
        random = torch.Generator().manual_seed(seed_of(recipe.seed, index, 0))
        estimate = twin(*MIXTURE(batch.x, generator=random))
        feature = sum(
            (a - b).square().mean() for a, b in zip(maps(network, estimate), maps(network, batch.x))
        )
        loss = (estimate - batch.x).square().mean() + 0.2 * feature
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        adam.param_groups[0]["lr"] = learning_rate(index, 4, peak=recipe.lr, warmup=0, final=recipe.lr_final)
        adam.step()
        assert_close(found["loss"], loss.detach(), rtol=1e-4, atol=1e-6)
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def critic_loss(objective, critic, x, estimate, random, *, penalised: bool):
    """Return what the critic minimises, as the two terms read."""
    real, fake = critic(x), critic(estimate.detach())
    loss = (softplus(-real) + softplus(fake)).mean()
    if not penalised:
        return loss
    seen = x.clone().requires_grad_()
    logits = critic(seen)
    signs = torch.randint(2, logits.shape, generator=random) * 2 - 1
    (gradient,) = torch.autograd.grad((signs * logits).sum(), seen, create_graph=True)
    r1 = gradient.square().sum((1, 2, 3)).mean() / logits[0].numel()
    return loss + objective.penalty_every * objective.weight / 2 * r1


def by_hand(recipe, model: Restorer, network: Classifier, n_steps: int) -> Restorer:
    """Take the adversarial steps as the two losses read, and return the model."""
    model, objective = copy.deepcopy(model), recipe.objective
    estimator, critic = model.estimator, model.discriminator
    adams = [
        torch.optim.AdamW(player.parameters(), betas=recipe.betas, weight_decay=0.0)
        for player in (estimator, critic)
    ]

    def move(player, adam, loss, rate):
        gradients = torch.autograd.grad(loss, list(player.parameters()))
        for parameter, gradient in zip(player.parameters(), gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(player.parameters(), recipe.clip)
        adam.param_groups[0]["lr"] = rate
        adam.step()

    for index in range(n_steps):
        rate = learning_rate(index, n_steps, peak=recipe.lr, warmup=0, final=recipe.lr_final)
        x = batch_at(recipe, index).x
        random = torch.Generator().manual_seed(seed_of(recipe.seed, index, 0))
        estimate = estimator(*MIXTURE(x, generator=random))
        penalised = index % objective.penalty_every == 0
        loss = critic_loss(objective, critic, x, estimate, random, penalised=penalised)
        move(critic, adams[1], loss, rate * objective.critic_lr)
        feature = sum((a - b).square().mean() for a, b in zip(maps(network, estimate), maps(network, x)))
        loss = objective.pixel * (estimate - x).square().mean() + objective.feature * feature
        loss = loss + objective.adversarial * softplus(-critic(estimate)).mean()
        move(estimator, adams[0], loss, rate)
    return model


def test_the_adversarial_step_is_the_step_written_by_hand(fabric):
    recipe = recipe_of(PLAYED, feature=0.2, judge="judge", pixel=0.6, **GAME)
    model, ema, step = set_up(recipe, 5, fabric, judge=judge())
    start, expected = copy.deepcopy(model), by_hand(recipe, model, judge(), 5)
    average = EMA(start, recipe.ema)
    for index in range(5):
        found = step((index, batch_at(recipe, index)))
    for (name, mine), theirs in zip(model.named_parameters(), expected.parameters(), strict=True):
        assert_close(mine, theirs, rtol=1e-3, atol=2e-5, msg=name)
    for before, after in zip(start.parameters(), model.parameters(), strict=True):
        assert not before.equal(after)
    assert ema.updates == 5 and average.updates == 0
    assert all(p.requires_grad for p in model.discriminator.parameters())
    names = {"loss", "pixel", "feature", "generator", "discriminator", "real_logit", "fake_logit"}
    assert set(found) == names | {"gradient_norm"} and all(value.dim() == 0 for value in found.values())
    weighed = 0.6 * found["pixel"] + 0.2 * found["feature"] + 0.3 * found["generator"]
    assert_close(found["loss"], weighed)


def test_each_player_has_an_optimiser_of_its_own(fabric):
    recipe = recipe_of(PLAYED, adversarial=0.3, critic_lr=2.0)
    model, _, _ = set_up(recipe, 5, fabric)
    adams = recipes.optimisers(recipe, model)
    for adam, player in zip(adams, (model.estimator, model.discriminator), strict=True):
        assert [id(p) for p in adam.param_groups[0]["params"]] == [id(p) for p in player.parameters()]


def test_the_step_depends_on_its_number_alone(fabric):
    losses = []
    for drawn in (0, 7):
        recipe = recipe_of(PLAYED, **GAME)
        _, _, step = set_up(recipe, 9, fabric)
        torch.randn(drawn)
        losses.append(step((5, batch_at(recipe, 5)))["loss"])
    assert torch.equal(*losses)


def test_a_step_in_half_precision_is_nearly_the_same_and_leaves_whole_weights(fabric):
    from lightning_fabric import Fabric

    recipe, found = recipe_of(PLAYED, feature=0.2, judge="judge", **GAME), []
    for used in (fabric, Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")):
        model, ema, step = set_up(recipe, 4, used, judge=judge())
        found.append(step((0, batch_at(recipe, 0))))
        assert {p.dtype for module in (model, ema.module) for p in module.parameters()} == {torch.float32}
    for name, whole in found[0].items():
        assert found[1][name].dtype == torch.float32
        assert_close(found[1][name], whole, rtol=0.05, atol=0.02, msg=name)
    assert found[0]["pixel"] != found[1]["pixel"]


@pytest.mark.timeout(900)
def test_two_processes_take_one_step_together(tmp_path):
    """Both end with the same weights; the first gradients are the means of both shards', R1's among them."""
    from lightning_fabric import Fabric

    recipe = dataclasses.replace(recipe_of(PLAYED, **GAME), clip=1e6)
    work = functools.partial(tiny_gan.save_steps, asked={"r": recipe}, n_steps=2, path=tmp_path)
    Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn").launch(work)
    first, second = (torch.load(tmp_path / f"{rank}.pt")["r"] for rank in (0, 1))
    for name, value in first["weights"].items():
        assert value.equal(second["weights"][name]), name
        assert first["average"][name].equal(second["average"][name]), name
    torch.manual_seed(recipe.seed)
    model, shards = recipe.build(), []
    for rank, kept in enumerate((first, second)):
        x = kept["batches"][0]
        random = torch.Generator().manual_seed(seed_of(recipe.seed, 0, rank))
        estimate = model.estimator(*MIXTURE(x, generator=random))
        loss = critic_loss(recipe.objective, model.discriminator, x, estimate, random, penalised=True)
        shards.append(torch.autograd.grad(loss, list(model.discriminator.parameters())))
    found = first["gradients"][-len(shards[0]) :]
    for gradient, *parts in zip(found, *shards, strict=True):
        assert_close(gradient, torch.stack(parts).mean(0), rtol=1e-4, atol=1e-6)
        assert not torch.allclose(parts[0], parts[1], rtol=1e-2, atol=1e-6)


# ---- a whole training ------------------------------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("IMAGEGEN_BUDGET", raising=False)
    pretrained.save(judge(), {"name": "judge"}, folder=tmp_path)

    def planned(recipe, **options):
        monkeypatch.setitem(recipes.RECIPES, "tiny-restorer", recipe)
        options = {"out": tmp_path, "progress": False, "log_every": 10, "steps": 40} | options
        return recipes.plan("tiny-restorer", **options)

    return planned


@pytest.mark.parametrize("played", [False, True], ids=["alone", "against a critic"])
def test_a_training_that_was_cut_ends_with_the_same_bits_and_names_its_judge(job, tmp_path, played):
    game = GAME if played else {}
    recipe = recipe_of(PLAYED if played else CONFIG, feature=0.2, judge="judge", **game)
    cut = recipes.train(job(recipe, deadline=0.0))
    assert not cut["finished"] and cut["step"] == 10
    card = recipes.train(job(recipe))["card"]
    path = tmp_path / "runs/tiny-restorer-custom/checkpoint.pt"
    resumed = load_checkpoint(path)
    recipes.train(job(recipe), restart=True)
    whole = load_checkpoint(path)
    for part in ("model", "ema", "optimizer", *(["critic_optimizer"] if played else [])):
        assert_close(resumed[part], whole[part], rtol=0, atol=0)
    assert card["family"] == "restorer" and list(card["requires"]) == ["judge"]
    assert set(card["training"]) == {*recipe.objective.reported, "fetch_share"}
    assert ("discriminator" in card["training"]) == played
    assert card["recipe"]["objective"]["degradation"]["masks"] == ["none", "box"]
    assert recipes.why_stale(recipe, folder=tmp_path).startswith("trained for 40 of")
    assert type(pretrained.load("tiny-restorer", folder=tmp_path)) is Restorer


def test_a_training_starts_from_the_weights_of_another(job, tmp_path):
    first = stirred()
    pretrained.save(first, {"name": "first"}, folder=tmp_path)
    recipe = dataclasses.replace(recipe_of(PLAYED, start="first", **GAME), lr=1e-9)
    card = recipes.train(job(recipe, steps=1))["card"]
    assert list(card["requires"]) == ["first"]
    found = pretrained.load("tiny-restorer", folder=tmp_path)
    stored = pretrained.load("first", folder=tmp_path)
    for mine, theirs in zip(found.estimator.parameters(), stored.estimator.parameters(), strict=True):
        assert_close(mine, theirs, rtol=0, atol=1e-5)
    assert found.discriminator is not None


def test_a_training_does_not_start_from_a_network_of_other_sizes():
    larger = Restorer(dataclasses.replace(CONFIG, width=8))
    objective, model = RestorationObjective(start="larger"), Restorer(CONFIG)
    with pytest.raises(
        ValueError, match=r"start is 'larger', of RestorerConfig\(.*width=8.*expected the sizes of .*width=6"
    ):
        objective.begin(model, {"larger": larger})
    before = copy.deepcopy(model.state_dict())
    RestorationObjective().begin(model, {"larger": larger})
    assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_restorer_learns_to_take_noise_off_and_to_fill_holes(job, tmp_path):
    """Four images there are: after some hundred steps a hole is told from what surrounds it."""
    recipe = dataclasses.replace(recipe_of(), batch_size=32, lr=5e-3)
    recipes.train(job(recipe, steps=150))
    model = pretrained.load("tiny-restorer", folder=tmp_path)
    x = tiny_gan.images("test").images.float() / 127.5 - 1
    y, known, sigma = MIXTURE(x, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        error, before = ((z - x).square().mean((1, 2, 3)) for z in (model(y, known, sigma), y))
    for kind in (0, 1):
        assert error[kind::2].mean() < 0.2 * before[kind::2].mean()


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pixel_loss": "l2"}, "pixel_loss is 'l2', expected one of mse, l1"),
        ({"loss": "gan"}, "loss is 'gan', expected one of minimax"),
        ({"pixel": -1.0}, "pixel is -1.0, expected at least 0"),
        ({"adversarial": -1.0}, "adversarial is -1.0"),
        ({"pixel": 0.0}, "nothing would be minimised"),
        ({"feature": 0.1}, "feature is 0.1 and judge '': name both or neither"),
        ({"judge": "judge"}, "feature is 0.0 and judge 'judge'"),
        ({"penalty_every": 0}, "penalty_every is 0"),
        ({"critic_lr": 0.0}, "critic_lr is 0.0, expected more than 0"),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RestorationObjective(**settings)


def test_an_adversarial_training_without_a_critic_is_refused(fabric):
    with pytest.raises(ValueError, match="adversarial is 0.3, and critic_width is 0: there is no critic"):
        set_up(recipe_of(CONFIG, adversarial=0.3), 4, fabric)


def test_what_a_card_reports_hangs_on_the_terms_that_there_are():
    assert RestorationObjective().reported == ("pixel",) and RestorationObjective().requires == ()
    both = RestorationObjective(feature=0.1, judge="judge", adversarial=0.1)
    assert both.reported == ("pixel", "feature", "discriminator", "generator", "real_logit", "fake_logit")
    assert both.requires == ("judge",)
    assert RestorationObjective(feature=0.1, judge="judge", start="first").requires == ("judge", "first")


# ---- the catalogue ---------------------------------------------------------------------------------------------------

RESTORERS = {name: made for name, made in recipes.RECIPES.items() if isinstance(made.model, RestorerConfig)}


@pytest.mark.parametrize("name", RESTORERS)
def test_a_shipped_restorer_fits_its_data_its_judge_and_the_package(name):
    made = RESTORERS[name]
    judges = {"fashion-mnist": "classifier-fashion", "avatars": "classifier-avatars"}
    shape = recipes.RECIPES[judges[made.data]].model.image_shape
    assert made.model.image_shape == shape
    assert bool(made.model.critic_width) == (made.objective.adversarial > 0) == name.endswith("adversarial")
    assert sum(p.numel() for p in made.build().parameters()) * 2 <= 0.85 * 2**20  # bytes in fp16
    others = (r for r in recipes.RECIPES.values() if not isinstance(r.model, RestorerConfig | PairConfig))
    assert made.value < min(recipe.value for recipe in others)
    small = name.startswith("super")
    assert (made.model.factor, made.model.mask, made.model.noise) == (
        (4, False, False) if small else (1, True, True)
    )
    if name.endswith("adversarial"):  # the two differ in what is minimised and in nothing that restores
        alone = RESTORERS[name.removesuffix("-adversarial")]
        assert dataclasses.replace(made.model, critic_width=0) == alone.model
        assert made.objective.degradation == alone.objective.degradation and made.data == alone.data
        assert made.objective.requires == (judges[made.data], alone.name)
    else:
        assert made.objective.requires == ()
