"""A StyleGAN's training: what each of its four updates minimises, when it is taken, and by which Adam."""

import copy
import dataclasses
import functools

import pytest
import torch
from lightning_fabric import Fabric
from tiny_gan import images, save_steps, set_up
from torch.nn.functional import softplus

from imagegen import data, recipes
from imagegen.objectives import path_lengths
from imagegen.recipes.style import StyleObjective, corrected, settings, style_optimisers
from imagegen.stylegan import StyleGANConfig
from imagegen.training import seed_of

CONFIG = StyleGANConfig((1, 8, 8), latent_dim=3, width=4, critic_width=4, max_width=4, mapping_depth=2)
TINY = recipes.Recipe(
    "tiny-style", CONFIG, StyleObjective(weight=0.5, penalty_every=2, path_every=3), data="tiny-style",
    batch_size=4, n_steps=8, quick_steps=2, lr=0.01, lr_warmup=0, lr_final=1.0, betas=(0.2, 0.9),
    weight_decay=0.0, ema=0.5, seed=3,
)  # fmt: skip


def recipe_of(**objective):
    return dataclasses.replace(TINY, objective=dataclasses.replace(TINY.objective, **objective))


@pytest.fixture(scope="module")
def fabric():
    return Fabric(accelerator="cpu", devices=1)


def batch(index):
    random = torch.Generator().manual_seed(index)
    images = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=random)
    return data.Batches(images, batch_size=4, seed=0).at(index)


def run(recipe, steps, fabric):
    """Return the model before and after so many steps, and the terms of each."""
    model, ema, _, step = set_up(recipe, recipe.n_steps, fabric)
    before = copy.deepcopy(model)
    return before, model, [step((index, batch(index))) for index in range(steps)], ema


def moved(before, after):
    """Return which parameters differ, by name."""
    rows = zip(before.named_parameters(), after.parameters(), strict=True)
    return {name for (name, was), now in rows if not torch.equal(was, now)}


# ---- the objective -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"penalty": "gradient", "weight": 1.0}, "penalty is 'gradient', expected 'none' or 'r1'"),
        ({"critic_steps": 2}, "critic_steps is 2, and a StyleGAN's step knows none but 1"),
        ({"noise": 0.1}, "noise is 0.1"),
        ({"bound": 0.1}, "bound is 0.1"),
        ({"path_weight": -1.0}, "path_weight is -1.0, expected at least 0"),
        ({"path_every": 0}, "path_every is 0, expected at least 1"),
        ({"path_share": 0.0}, "path_share is 0.0, expected more than 0"),
        ({"path_decay": 1.5}, "path_decay is 1.5"),
        ({"augment": 1.0}, "augment is 1.0, expected 0 to less than 1"),
        ({"weight": 0.0}, "name both or neither"),
    ],
)
def test_an_objective_that_no_training_can_use_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        StyleObjective(**setting)


# ---- the optimisers ----------------------------------------------------------------------------------------------


def test_with_lazy_regularisation_adam_forgets_as_much_over_k_steps_as_without():
    lr, (first, second) = corrected(0.002, (0.5, 0.99), 16)
    assert lr * 17 == pytest.approx(0.002 * 16)
    assert first**17 == pytest.approx(0.5**16) and second**17 == pytest.approx(0.99**16)
    assert corrected(0.002, (0.0, 0.99), 16)[1][0] == 0.0


def test_only_a_player_that_is_regularised_is_corrected():
    plain = recipe_of(penalty="none", weight=0.0, path_weight=0.0, critic_lr=2.0)
    assert settings(plain) == [(0.01, (0.2, 0.9)), (0.02, (0.2, 0.9))]
    both = settings(recipe_of(critic_lr=2.0))
    assert both == [corrected(0.01, (0.2, 0.9), 3), corrected(0.02, (0.2, 0.9), 2)]
    model = TINY.build()
    adams = style_optimisers(recipe_of(critic_lr=2.0), model)
    for adam, (lr, betas), player in zip(adams, both, (model.generator, model.discriminator), strict=True):
        (group,) = adam.param_groups
        assert group["lr"] == lr and group["betas"] == betas and group["weight_decay"] == 0.0
        assert {id(p) for p in group["params"]} == {id(p) for p in player.parameters()}


def test_the_schedule_keeps_the_corrected_rate(fabric):
    model, _, parts, step = set_up(recipe_of(), 8, fabric)
    step((0, batch(0)))
    for name, (lr, _) in zip(("optimizer", "critic_optimizer"), settings(recipe_of()), strict=True):
        assert parts[name].param_groups[0]["lr"] == pytest.approx(lr), name


# ---- the step ----------------------------------------------------------------------------------------------------


def by_hand(recipe, model, index, x, adams):
    """Take one step in plain PyTorch: the losses' updates and, where it is their turn, the regularisers'."""
    objective = recipe.objective
    random = torch.Generator().manual_seed(seed_of(recipe.seed, index, 0))
    g, d = model.generator, model.discriminator
    softplus = torch.nn.functional.softplus
    fake = g(torch.randn(4, 3, generator=random), generator=random)

    def take(adam, loss):
        model.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()

    take(adams[1], (softplus(-d(x)) + softplus(d(fake.detach()))).mean())
    if index % objective.penalty_every == 0:
        real = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(d(real).sum(), real, create_graph=True)
        r1 = slope.square().sum((1, 2, 3)).mean()
        take(adams[1], objective.weight / 2 * objective.penalty_every * r1)
    take(adams[0], softplus(-d(fake)).mean())
    if index % objective.path_every == 0:
        ws = g.styles(torch.randn(2, 3, generator=random), generator=random)
        lengths = path_lengths(g.synthesis(ws, generator=random), ws, generator=random)
        with torch.no_grad():
            model.path_mean += objective.path_decay * (lengths.mean() - model.path_mean)
        deviation = (lengths - model.path_mean.clone()).square().mean()
        take(adams[0], objective.path_weight * objective.path_every * deviation)


def test_the_step_is_the_one_written_out_by_hand(fabric):
    recipe = recipe_of()
    own, model, terms, ema = run(recipe, 4, fabric)
    adams = [
        torch.optim.Adam(player.parameters(), lr=lr, betas=betas)
        for player, (lr, betas) in zip((own.generator, own.discriminator), settings(recipe), strict=True)
    ]
    average = {name: value.clone() for name, value in own.named_parameters()}
    for index in range(4):
        by_hand(recipe, own, index, batch(index).x, adams)
        assert terms[index]["path_length"] == pytest.approx(own.path_mean.item(), rel=1e-4)
    assert moved(own, own) == set() and own.path_mean > 0
    for (name, mine), theirs in zip(own.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6, msg=name)
    assert torch.allclose(own.generator.w_mean, model.generator.w_mean, atol=1e-6)
    assert any(not torch.equal(average[name], value) for name, value in ema.module.named_parameters())


def test_each_regulariser_takes_its_turn_and_moves_its_player_alone(fabric, monkeypatch):
    taken = []
    for name in ("zero_centred_penalty", "path_lengths"):
        inner = getattr(recipes.style, name)

        def counted(*args, inner=inner, name=name, **options):
            taken.append((name, index))
            return inner(*args, **options)

        monkeypatch.setattr(recipes.style, name, counted)
    _, _, _, step = set_up(recipe_of(), 8, fabric)
    for index in range(7):
        step((index, batch(index)))
    assert [at for name, at in taken if name == "zero_centred_penalty"] == [0, 2, 4, 6]
    assert [at for name, at in taken if name == "path_lengths"] == [0, 3, 6]


def test_without_its_regularisers_a_training_takes_the_losses_steps_alone(fabric, monkeypatch):
    for name in ("zero_centred_penalty", "path_lengths", "augment"):
        monkeypatch.setattr(recipes.style, name, None)  # a call would fail
    before, after, terms, _ = run(recipe_of(penalty="none", weight=0.0, path_weight=0.0), 2, fabric)
    assert {name.split(".")[0] for name in moved(before, after)} == {"generator", "discriminator"}
    assert after.path_mean == 0 and terms[1]["path_length"] == 0
    assert terms[0]["loss"] == terms[0]["discriminator"] and terms[0]["gradient_norm"] > 0


def test_what_the_discriminator_sees_is_augmented_for_both_players(fabric, monkeypatch):
    seen = []

    def augment(x, p, *, generator):
        seen.append((tuple(x.shape), p, x.requires_grad))
        return x.flip(3)

    monkeypatch.setattr(recipes.style, "augment", augment)
    run(recipe_of(augment=0.4, path_weight=0.0, penalty_every=5), 1, fabric)
    # real, generated (cut off), real again for R1, generated for the generator's update
    assert seen == [((4, 1, 8, 8), 0.4, wanted) for wanted in (False, False, True, True)]


def test_a_regulariser_is_taken_in_full_precision_where_the_rest_is_in_half(monkeypatch):
    """A gradient's gradient in bfloat16 is off by percents."""
    model, _, _, step = set_up(recipe_of(), 8, Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
    found, inside = {"loss": set(), "penalty": set(), "path": set()}, ["loss"]

    def within(name, kind):
        whole = getattr(recipes.style, name)

        def wrapped(*given, **more):
            inside.append(kind)
            try:
                return whole(*given, **more)
            finally:
                inside.pop()

        monkeypatch.setattr(recipes.style, name, wrapped)

    within("zero_centred_penalty", "penalty")
    within("path_lengths", "path")
    record = lambda _, given, out: found[inside[-1]].add(out.dtype)  # noqa: E731
    model.discriminator.head.register_forward_hook(record)
    monkeypatch.setattr(
        recipes.style,
        "path_penalty",
        lambda lengths, mean: found["path"].add(lengths.dtype) or (lengths - mean).square(),
    )
    step((0, batch(0)))
    assert found == {"loss": {torch.bfloat16}, "penalty": {torch.float32}, "path": {torch.float32}}


def test_a_gradient_that_is_not_finite_is_told(fabric):
    model, _, _, step = set_up(recipe_of(), 8, fabric)
    assert step((1, batch(1)))["gradient_norm"].isfinite()
    model.generator.synthesis.constant.register_hook(lambda gradient: gradient * float("nan"))
    assert not step((2, batch(2)))["gradient_norm"].isfinite()


def test_a_training_learns_and_its_state_is_saved_whole(fabric):
    """The mean of the path lengths is part of the model, so that a resumed training goes on with it."""
    _, model, terms, _ = run(recipe_of(path_decay=0.5), 4, fabric)
    assert "path_mean" in model.state_dict() and model.path_mean == terms[-1]["path_length"]
    assert all(value.isfinite() and not value.requires_grad for row in terms for value in row.values())


# ---- two processes -----------------------------------------------------------------------------------------------

LARGER = dataclasses.replace(CONFIG, image_shape=(1, 16, 16), group=2)
TOGETHER = {  # eight images a step, four a process
    "all of it": dataclasses.replace(TINY, model=LARGER, batch_size=8),
    "apart": dataclasses.replace(TINY, model=dataclasses.replace(LARGER, group=1), batch_size=8),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Return what two processes ended with, after four steps of each recipe of TOGETHER."""
    path = tmp_path_factory.mktemp("two")
    work = functools.partial(save_steps, asked=TOGETHER, n_steps=4, path=path)
    Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn").launch(work)
    return [torch.load(path / f"{rank}.pt") for rank in (0, 1)]


def two_by_hand(recipe, *, joined, n_steps=4):
    """Take steps on the shards of two processes; return the weights, and both players' last gradients of step 0.

    joined: the discriminator sees the eight images as one batch, else four at a time, as a process does.
    """
    objective = recipe.objective
    torch.manual_seed(recipe.seed)
    model = recipe.build()
    g, d = model.generator, model.discriminator
    adams = [
        torch.optim.Adam(player.parameters(), lr=lr, betas=betas)
        for player, (lr, betas) in zip((g, d), settings(recipe), strict=True)
    ]
    batches = [
        data.Batches(images("train").images, batch_size=8, seed=recipe.seed, rank=rank, world_size=2)
        for rank in (0, 1)
    ]

    def judged(parts):
        return d(torch.cat(parts)) if joined else torch.cat([d(part) for part in parts])

    def take(adam, loss):
        model.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        return [None if p.grad is None else p.grad.clone() for p in adam.param_groups[0]["params"]]

    for index in range(n_steps):
        randoms = [torch.Generator().manual_seed(seed_of(recipe.seed, index, rank)) for rank in (0, 1)]
        real = [batch.at(index).x for batch in batches]
        fake = [g(torch.randn(4, 3, generator=random), generator=random) for random in randoms]
        loss = softplus(-judged(real)) + softplus(judged([part.detach() for part in fake]))
        gradients = {"d": take(adams[1], loss.mean())}
        if index % objective.penalty_every == 0:
            real = [part.clone().requires_grad_() for part in real]
            slopes = torch.autograd.grad(judged(real).sum(), real, create_graph=True)
            r1 = torch.cat(slopes).square().sum((1, 2, 3)).mean()
            gradients["d"] = take(adams[1], objective.weight / 2 * objective.penalty_every * r1)
        gradients["g"] = take(adams[0], softplus(-judged(fake)).mean())
        if index % objective.path_every == 0:
            lengths = []
            for random in randoms:
                ws = g.styles(torch.randn(2, 3, generator=random), generator=random)
                lengths.append(path_lengths(g.synthesis(ws, generator=random), ws, generator=random))
            lengths = torch.cat(lengths)
            with torch.no_grad():
                model.path_mean += objective.path_decay * (lengths.mean() - model.path_mean)
            deviation = (lengths - model.path_mean.clone()).square().mean()
            gradients["g"] = take(adams[0], objective.path_weight * objective.path_every * deviation)
        if index == 0:
            first = gradients["g"] + gradients["d"]
    return dict(model.named_parameters()), first


def apart_by(kept, weights):
    """Return the largest difference between the weights that a process kept and others."""
    return max((kept["weights"][name] - value).abs().max().item() for name, value in weights.items())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("setting", TOGETHER)
def test_two_processes_take_one_step_together(two, setting):
    """Losses, R1 and path length, whose mean is shared: the same weights in both, those of both shards' gradients."""
    recipe, (first, second) = TOGETHER[setting], (kept[setting] for kept in two)
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
        assert torch.equal(first["average"][name], second["average"][name]), name
    weights, _ = two_by_hand(recipe, joined=False)
    for name, value in weights.items():
        torch.testing.assert_close(first["weights"][name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.timeout(900)
def test_the_gradients_of_two_processes_are_those_of_one_with_the_joined_batch(two):
    """R1's and the path length's, after the losses' updates, where images are compared with no others; else not."""
    weights, expected = two_by_hand(TOGETHER["apart"], joined=True)
    found = [kept["apart"]["gradients"] for kept in two]
    largest = max(gradient.abs().max().item() for gradient in expected if gradient is not None)
    for mine, *theirs in zip(expected, *found, strict=True):
        if mine is None:  # a bias that no gradient of an image hangs on
            assert theirs == [None, None]
            continue
        assert torch.equal(*theirs)
        torch.testing.assert_close(theirs[0], mine, rtol=0, atol=1e-5 * largest)
    assert apart_by(two[0]["apart"], weights) < 1e-4
    grouped, _ = two_by_hand(TOGETHER["all of it"], joined=True)
    assert apart_by(two[0]["all of it"], grouped) > 1e-3  # the groups of eight images are not those of four
