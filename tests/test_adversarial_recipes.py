"""A GAN's step against the same step written by hand: who is moved by what, and each term's place and weight."""

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch
from tiny_gan import CONFIG, TINY_GAN, images, set_up
from torch import nn
from torch.nn.functional import relu, softplus
from torch.testing import assert_close

from imagegen import recipes, training
from imagegen.data import Batches
from imagegen.recipes import AdversarialObjective
from imagegen.training import seed_of

ROOT = Path(__file__).resolve().parents[1]


def recipe_of(norm: str = "spectral", **objective) -> recipes.Recipe:
    config = dataclasses.replace(CONFIG, normalise_critic=norm)
    return dataclasses.replace(TINY_GAN, model=config, objective=AdversarialObjective(**objective))


@pytest.fixture
def fabric():
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1)


def batches(recipe, rank: int = 0, world_size: int = 1) -> Batches:
    share = {"batch_size": recipe.batch_size, "seed": recipe.seed, "rank": rank, "world_size": world_size}
    return Batches(images("train").images, **share)


# ---- the step, by hand -----------------------------------------------------------------------------------------

DISCRIMINATES = {
    "non-saturating": lambda r, f: softplus(-r) + softplus(f),
    "hinge": lambda r, f: relu(1 - r) + relu(1 + f),
    "wasserstein": lambda r, f: f - r,
}
GENERATES = {
    "non-saturating": lambda f: softplus(-f),
    "hinge": lambda f: -f,
    "wasserstein": lambda f: -f,
}


def gradient_norms(critic, x):
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return gradient.flatten(1).norm(dim=1)


def by_hand(recipe, n_steps: int, world_size: int = 1):
    """Take n_steps with the mean of the gradients of as many shards; return the first shard's model.

    Each shard has its own copy of the networks, as each process has: BatchNorm sees one shard, and the power method of
    spectral normalisation goes on at each pass.
    """
    objective = recipe.objective
    torch.manual_seed(recipe.seed)
    models = [recipe.build()]
    models += [copy.deepcopy(models[0]) for _ in range(world_size - 1)]
    adams = [
        [
            torch.optim.AdamW(player.parameters(), betas=recipe.betas, weight_decay=recipe.weight_decay)
            for player in (model.generator, model.discriminator)
        ]
        for model in models
    ]

    def move(which: int, gradients, rate: float) -> None:
        means = [torch.stack(each).mean(0) for each in zip(*gradients, strict=True)]
        for model, pair in zip(models, adams, strict=True):
            player = (model.generator, model.discriminator)[which]
            for parameter, mean in zip(player.parameters(), means, strict=True):
                parameter.grad = mean.clone()
            nn.utils.clip_grad_norm_(player.parameters(), recipe.clip)
            pair[which].param_groups[0]["lr"] = rate
            pair[which].step()

    for index in range(n_steps):
        rate = training.learning_rate(index, n_steps, peak=recipe.lr, warmup=0, final=recipe.lr_final)
        std = objective.noise * max(0.0, 1 - 2 * index / n_steps)
        shown, gradients = [], []
        for rank, model in enumerate(models):
            x = batches(recipe, rank, world_size).at(index).x
            random = torch.Generator().manual_seed(seed_of(recipe.seed, index, rank))
            fake = model.generator(torch.randn(len(x), recipe.model.latent_dim, generator=random))
            if std:
                fake = fake + std * torch.randn(fake.shape, generator=random)
                x = x + std * torch.randn(x.shape, generator=random)
            critic, apart = model.discriminator, fake.detach()
            loss = DISCRIMINATES[objective.loss](critic(x), critic(apart)).mean()
            if objective.penalty != "none" and index % objective.penalty_every == 0:
                if objective.penalty == "gradient":
                    alpha = torch.rand(len(x), 1, 1, 1, generator=random)
                    norms = gradient_norms(critic, apart + alpha * (x - apart))
                    penalty = objective.weight * ((norms - 1) ** 2).mean()
                else:
                    at = x if objective.penalty == "r1" else apart
                    penalty = objective.weight / 2 * (gradient_norms(critic, at) ** 2).mean()
                loss = loss + objective.penalty_every * penalty
            shown.append(fake)
            gradients.append(torch.autograd.grad(loss, list(critic.parameters())))
        move(1, gradients, rate * objective.critic_lr)
        if objective.bound:
            with torch.no_grad():
                for model in models:
                    for layer in model.discriminator.modules():
                        if isinstance(layer, nn.Conv2d | nn.Linear):
                            layer.weight.clamp_(-objective.bound, objective.bound)
                            layer.bias.clamp_(-objective.bound, objective.bound)
        if (index + 1) % objective.critic_steps == 0:
            losses = (
                GENERATES[objective.loss](m.discriminator(f)).mean()
                for m, f in zip(models, shown, strict=True)
            )
            gradients = [
                torch.autograd.grad(loss, list(m.generator.parameters()))
                for m, loss in zip(models, losses, strict=True)
            ]
            move(0, gradients, rate)
    return models[0]


SETTINGS = {
    "plain": ("none", {}),
    "batchnorm in both": ("batch", {"loss": "hinge"}),
    "spectral, two rates": ("spectral", {"loss": "hinge", "critic_lr": 3.0}),
    "lazy r1 and noise": ("none", {"penalty": "r1", "weight": 2.0, "penalty_every": 3, "noise": 0.3}),
    "r2": ("none", {"penalty": "r2", "weight": 0.5}),
    "clipped": ("batch", {"loss": "wasserstein", "bound": 0.05, "critic_steps": 2}),
    "gradient penalty": (
        "none",
        {"loss": "wasserstein", "penalty": "gradient", "weight": 10.0, "critic_steps": 3},
    ),
}


def settled(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters, but for biases that a BatchNorm cancels: Adam moves these by rounding errors alone."""
    cancelled = set()
    for layers in (model.generator.body, model.discriminator.body):
        for layer, behind in zip(layers, layers[1:], strict=False):
            if isinstance(behind, nn.BatchNorm2d):
                cancelled.add(id(layer.bias)) if hasattr(layer, "bias") else None
    return {name: p.detach() for name, p in model.named_parameters() if id(p) not in cancelled}


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_recipes_step_is_the_step_written_by_hand(fabric, setting):
    recipe = recipe_of(SETTINGS[setting][0], **SETTINGS[setting][1])
    model, _, _, step = set_up(recipe, 6, fabric)
    start = copy.deepcopy(model)
    for index in range(6):
        step((index, batches(recipe).at(index)))
    found, before = settled(model), settled(start)
    assert len(found) >= 12
    for name, expected in settled(by_hand(recipe, 6)).items():
        assert_close(found[name], expected, rtol=1e-4, atol=1e-5, msg=name)
    still = [name for name, value in found.items() if torch.equal(value, before[name])]
    assert set(still) <= {"discriminator.head.bias"}  # a constant cancels in the Wasserstein loss


def test_buffers_are_not_sent_round_between_the_discriminators_two_passes(fabric):
    """On a GPU they would overwrite the statistics that BatchNorm's backward of the first pass still needs."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        model = recipe_of("batch").build()
        players = [nn.parallel.DistributedDataParallel(p) for p in (model.generator, model.discriminator)]
        assert players[1].will_sync_module_buffers()
        recipes.alternating_step(
            TINY_GAN, 4, model, tuple(players), recipes.optimisers(TINY_GAN, model), None, fabric
        )
        assert not players[1].will_sync_module_buffers()
    finally:
        torch.distributed.destroy_process_group()


# ---- who is moved by what --------------------------------------------------------------------------------------


def weights(module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def same(module, before) -> bool:
    return all(torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


def test_the_generator_moves_on_every_kth_step_and_the_discriminator_on_all(fabric):
    recipe = recipe_of("none", critic_steps=3)
    model, _, _, step = set_up(recipe, 9, fabric)
    moved = []
    for index in range(9):
        mine, theirs = weights(model.generator), weights(model.discriminator)
        step((index, batches(recipe).at(index)))
        moved.append((not same(model.generator, mine), not same(model.discriminator, theirs)))
        if index < 2:  # not so much as a gradient
            assert all(p.grad is None for p in model.generator.parameters())
    assert [pair[0] for pair in moved] == 3 * [False, False, True]
    assert all(pair[1] for pair in moved)


def test_the_generators_step_leaves_nothing_behind_in_the_discriminator(fabric):
    """D's gradients after a whole step are those of D's own loss, and its parameters can be trained as before."""
    recipe = recipe_of("none")
    model, _, _, step = set_up(recipe, 5, fabric)
    twin = copy.deepcopy(model)
    batch = batches(recipe).at(0)
    step((0, batch))
    random = torch.Generator().manual_seed(seed_of(recipe.seed, 0, 0))
    fake = twin.generator(torch.randn(8, 3, generator=random)).detach()
    loss = (softplus(-twin.discriminator(batch.x)) + softplus(twin.discriminator(fake))).mean()
    gradients = torch.autograd.grad(loss, list(twin.discriminator.parameters()))
    for parameter, expected in zip(model.discriminator.parameters(), gradients, strict=True):
        assert_close(parameter.grad, expected)
        assert parameter.requires_grad
    before = weights(model.discriminator)
    step((1, batches(recipe).at(1)))
    assert not same(model.discriminator, before)


def test_both_players_stay_in_training_mode_and_the_average_in_evaluation(fabric):
    recipe = recipe_of("batch")
    model, ema, _, step = set_up(recipe, 4, fabric)
    for index in range(4):
        step((index, batches(recipe).at(index)))
        assert all(module.training for module in model.modules())
    assert not any(module.training for module in ema.module.modules())
    statistics = model.discriminator.body[3]
    assert (
        isinstance(statistics, nn.BatchNorm2d) and statistics.num_batches_tracked == 12
    )  # three passes a step


def test_the_average_follows_both_players(fabric):
    recipe = dataclasses.replace(recipe_of("batch", critic_steps=2), ema=0.9)
    model, ema, _, step = set_up(recipe, 5, fabric)
    expected = weights(model)
    for index in range(5):
        step((index, batches(recipe).at(index)))
        decay = min(0.9, (1 + index) / (10 + index))
        expected = [decay * a + (1 - decay) * b for a, b in zip(expected, weights(model), strict=True)]
    for mine, value in zip(ema.module.parameters(), expected, strict=True):
        assert_close(mine, value)
    for mine, theirs in zip(ema.module.buffers(), model.buffers(), strict=True):
        assert torch.equal(mine, theirs)


def test_weights_are_clipped_after_every_step_of_the_critic(fabric):
    recipe = recipe_of("batch", loss="wasserstein", bound=0.01, critic_steps=5)
    model, _, _, step = set_up(recipe, 4, fabric)
    for index in range(4):
        step((index, batches(recipe).at(index)))
        layers = [m for m in model.discriminator.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert all(p.abs().max() <= 0.01 for layer in layers for p in layer.parameters())
        assert any((p.abs() == 0.01).any() for layer in layers for p in layer.parameters())
    assert model.discriminator.body[3].weight.min() > 0.5  # BatchNorm's scale
    assert max(p.abs().max() for p in model.generator.parameters()) > 0.02


def test_the_step_depends_on_its_number_alone(fabric):
    """Latents, noise and alpha are a pure function of (seed, step), whatever was drawn before."""
    recipe = recipe_of("none", penalty="gradient", weight=1.0, noise=0.2)
    found = []
    for drawn in (0, 7):
        model, _, _, step = set_up(recipe, 100, fabric)
        torch.randn(drawn)
        found.append((step((5, batches(recipe).at(5)))["loss"], weights(model)))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))


def test_a_penalty_is_taken_in_full_precision_where_the_rest_is_in_half():
    """R1 of the first step in bfloat16 is that in float32; fabric refuses a gradient through its own wrapping."""
    from lightning_fabric import Fabric

    found = {}
    for precision in ("32-true", "bf16-mixed"):
        for setting, weight in (
            ("r1", 1e5),
            ("r2", 1e5),
            ("gradient", 10.0),
        ):  # so that it is not lost in the sum
            recipe = recipe_of("none", penalty=setting, weight=weight)
            model, _, _, step = set_up(recipe, 6, Fabric(accelerator="cpu", devices=1, precision=precision))
            start = weights(model.discriminator)
            terms = step((0, batches(recipe).at(0)))
            assert not same(model.discriminator, start) and all(
                v.dtype == torch.float32 for v in terms.values()
            )
            found.setdefault(setting, []).append((terms["loss"] - terms["discriminator"]).item())
    for setting, (full, half) in found.items():
        assert full > 0 and half == pytest.approx(full, rel=1e-4 if setting == "r1" else 0.02), setting


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_gradient_that_is_not_finite_is_told_in_the_step_that_took_it(fabric, player):
    """Else a checkpoint could be written with broken weights: no loss shows them before the next step."""
    recipe = recipe_of("none")
    model, _, _, step = set_up(recipe, 4, fabric)
    terms = step((0, batches(recipe).at(0)))
    assert terms["gradient_norm"] > 0 and terms["gradient_norm"].isfinite()
    next(getattr(model, player).parameters()).register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(training.NonFiniteLoss, match="gradient_norm"):
        training.run(step, [(1, batches(recipe).at(1))], 2, first_step=1, progress=False)


@pytest.mark.parametrize(
    ("norm", "objective", "message"),
    [
        ("batch", {"penalty": "r1", "weight": 1.0}, "penalty is 'r1', .* BatchNorm mixes images"),
        ("batch", {"penalty": "gradient", "weight": 1.0}, "penalty is 'gradient'"),
        ("spectral", {"bound": 0.1}, "bound is 0.1 and normalise_critic 'spectral': clip or normalise"),
    ],
)
def test_a_discriminator_that_the_objective_does_not_fit_is_refused(fabric, norm, objective, message):
    with pytest.raises(ValueError, match=message):
        set_up(recipe_of(norm, **objective), 4, fabric)


def test_the_rates_of_the_two_optimisers():
    recipe = dataclasses.replace(
        recipe_of("none", critic_lr=4.0), lr=0.01, betas=(0.3, 0.7), weight_decay=0.02
    )
    model = recipe.build()
    generator, critic = recipes.optimisers(recipe, model)
    for adam, player, rate in ((generator, model.generator, 0.01), (critic, model.discriminator, 0.04)):
        (group,) = adam.param_groups
        assert {id(p) for p in group["params"]} == {id(p) for p in player.parameters()}
        assert (group["lr"], group["betas"], group["weight_decay"]) == (rate, (0.3, 0.7), 0.02)


# ---- the terms -------------------------------------------------------------------------------------------------


def half_square(x):
    """A discriminator whose gradient at x is x itself."""
    return 0.5 * x.square().flatten(1).sum(1)


REAL = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
FAKE = 2 * torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("penalty", ["none", "r1", "r2", "gradient"])
def test_the_discriminators_terms_and_where_each_penalty_looks(penalty):
    objective = AdversarialObjective(penalty=penalty, weight=0.0 if penalty == "none" else 3.0)
    terms = objective.critic_terms(half_square, REAL, FAKE, generator=torch.Generator().manual_seed(4))
    assert all(value.shape == (5,) for value in terms.values())
    assert_close(terms["real_logit"], half_square(REAL))
    assert_close(terms["fake_logit"], half_square(FAKE))
    assert_close(terms["discriminator"], softplus(-half_square(REAL)) + softplus(half_square(FAKE)))
    assert_close(terms["generator"], softplus(-half_square(FAKE)))
    alpha = torch.rand(5, 1, 1, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    between = (FAKE + alpha * (REAL - FAKE)).flatten(1).norm(dim=1)
    added = {
        "none": torch.zeros(5).double(), "r1": 1.5 * REAL.square().sum((1, 2, 3)),
        "r2": 1.5 * FAKE.square().sum((1, 2, 3)), "gradient": 3.0 * (between - 1).square(),
    }  # fmt: skip
    assert_close(terms["loss"] - terms["discriminator"], added[penalty], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("penalty", ["none", "r1", "r2", "gradient"])
def test_no_gradient_of_the_discriminators_terms_reaches_the_generator(penalty):
    objective = AdversarialObjective(penalty=penalty, weight=0.0 if penalty == "none" else 3.0)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    fake = FAKE.clone().requires_grad_()
    terms = objective.critic_terms(lambda x: scale * half_square(x), REAL, fake)
    to_fake, to_d = torch.autograd.grad(terms["loss"].sum(), (fake, scale), allow_unused=True)
    assert to_fake is None and to_d.abs() > 0
    assert not terms["generator"].requires_grad


@pytest.mark.parametrize("loss", ["minimax", "non-saturating", "least-squares", "hinge", "wasserstein"])
def test_the_generators_gradient_reaches_its_images_and_raises_their_logits(loss):
    fake = (0.01 * FAKE).requires_grad_()
    terms = AdversarialObjective(loss=loss).generator_terms(half_square, fake)
    assert set(terms) == {"loss"} and terms["loss"].shape == (5,)
    (gradient,) = torch.autograd.grad(terms["loss"].sum(), fake)
    cosine = torch.cosine_similarity(
        -gradient.flatten(1), fake.flatten(1)
    )  # the logit's gradient is the image
    assert_close(cosine, torch.ones(5).double())


@pytest.mark.parametrize("penalty", ["r1", "r2"])
def test_lazy_regularisation_is_the_every_step_form_in_the_mean(penalty):
    """Over k steps on one batch the losses have the same sum, and so have their gradients: k gamma / 2 once."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0)).double()

    def mean(k):
        objective = AdversarialObjective(penalty=penalty, weight=2.0, penalty_every=k)
        losses = [objective.critic_terms(critic, REAL, FAKE, step=step)["loss"] for step in range(8, 16)]
        total = torch.stack(losses).mean()
        found = torch.autograd.grad(total, list(critic.parameters()), allow_unused=True)
        return [total.detach(), *(torch.zeros(()) if g is None else g for g in found)], losses

    (every, _), (lazy, losses) = mean(1), mean(4)
    for a, b in zip(every, lazy, strict=True):
        assert_close(a, b)
    base = AdversarialObjective().critic_terms(critic, REAL, FAKE)["loss"]
    assert [bool(torch.equal(loss, base)) for loss in losses] == 2 * [False, True, True, True]


def test_instance_noise_falls_to_nothing_half_way():
    objective = AdversarialObjective(noise=0.4)
    assert [objective.noise_at(step, 8) for step in range(9)] == pytest.approx(
        [0.4, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0]
    )
    assert AdversarialObjective().noise_at(0, 8) == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "vanilla"}, "loss is 'vanilla', expected one of minimax"),
        ({"penalty": "r3"}, "penalty is 'r3', expected one of none, r1, r2, gradient"),
        ({"penalty": "r1", "weight": -1.0}, "weight is -1.0"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"bound": -0.1}, "bound is -0.1"),
        ({"penalty_every": 0}, "penalty_every is 0"),
        ({"critic_steps": 0}, "critic_steps is 0"),
        ({"critic_lr": 0.0}, "critic_lr is 0.0"),
        ({"penalty": "r1"}, "penalty is 'r1' and its weight 0.0: name both or neither"),
        ({"weight": 1.0}, "penalty is 'none' and its weight 1.0"),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AdversarialObjective(**settings)
