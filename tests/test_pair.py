"""The game of a generator, a restorer and one critic: what each is shown, what reaches each, and its training."""

import copy
import dataclasses
import json

import pytest
import tiny_gan
import torch
from torch import nn
from torch.nn.functional import softplus
from torch.testing import assert_close

from imagegen import pretrained, recipes
from imagegen.data import Batches
from imagegen.degrade import Mixture
from imagegen.gan import GANConfig
from imagegen.pair import Pair, PairConfig
from imagegen.recipes import PairObjective
from imagegen.restore import RestorerConfig
from imagegen.training import EMA, learning_rate, load_checkpoint, seed_of

MIXTURE = Mixture(masks=("none", "box"), shares=(0.1, 0.3), sigmas=(0.1, 0.4))
GAN = GANConfig(image_shape=(1, 16, 16), latent_dim=5, width=6, critic_width=4)
RESTORER = RestorerConfig(image_shape=(1, 16, 16), width=6, levels=1, mask=True, noise=True)
CONFIG = PairConfig(GAN, RESTORER)
GAME = {
    "adversarial": 0.3,
    "weight": 2.0,
    "penalty_every": 3,
    "critic_lr": 2.0,
    "imagined": 0.5,
    "pixel": 0.7,
}


def recipe_of(**objective) -> recipes.Recipe:
    made = PairObjective(**{"degradation": MIXTURE} | GAME | objective)
    return dataclasses.replace(
        tiny_gan.TINY_GAN, name="tiny-pair", model=CONFIG, objective=made, clip=1.0, betas=(0.5, 0.99)
    )


@pytest.fixture
def fabric():
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1)


def made(recipe, n_steps, fabric):
    torch.manual_seed(recipe.seed)
    bare = recipe.build()
    with torch.no_grad():  # so that the restorer hangs on all that it is told, from the first step
        for parameter in bare.estimator.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    ema = EMA(bare, recipe.ema)
    parts, step = recipes.set_up(recipe, n_steps, bare, ema, fabric)
    return bare, ema, parts, step


def batch_at(recipe, index):
    return Batches(tiny_gan.images("train").images, batch_size=recipe.batch_size, seed=recipe.seed).at(index)


def by_hand(recipe, model: Pair, n_steps: int) -> Pair:
    """Play the game as the docstring says it: three Adams, one gradient at a time."""
    objective, model = recipe.objective, copy.deepcopy(model)
    g, d, r = model.gan.generator, model.gan.discriminator, model.estimator
    rates = recipe.lr, recipe.lr * objective.critic_lr, recipe.lr
    adams = [torch.optim.Adam(part.parameters(), betas=recipe.betas) for part in (g, d, r)]
    random = torch.Generator()

    def move(which: int, loss: torch.Tensor, index: int) -> None:
        part = (g, d, r)[which]
        gradients = torch.autograd.grad(loss, list(part.parameters()), retain_graph=True)
        for parameter, gradient in zip(part.parameters(), gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(part.parameters(), recipe.clip)
        peak = rates[which]
        adams[which].param_groups[0]["lr"] = learning_rate(
            index, n_steps, peak=peak, warmup=recipe.lr_warmup, final=recipe.lr_final
        )
        adams[which].step()

    for index in range(n_steps):
        random.manual_seed(seed_of(recipe.seed, index, 0))
        x = batch_at(recipe, index).x
        z = torch.randn(len(x), 5, generator=random)
        drawn = g(z)
        y, known, sigma = MIXTURE(x, generator=random)
        restored = r(y, known, sigma)
        inner = drawn.detach().clamp(-1, 1)
        again = r(*MIXTURE(inner, generator=random))
        total = softplus(-d(x)).mean()
        total = total + 0.5 * (softplus(d(drawn.detach())).mean() + softplus(d(restored.detach())).mean())
        if index % objective.penalty_every == 0:
            at = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(d(at).sum(), at, create_graph=True)
            penalty = gradient.square().flatten(1).sum(1).mean()
            total = total + 0.5 * objective.weight * objective.penalty_every * penalty
        move(1, total, index)
        loss = 0.7 * (restored - x).square().mean() + 0.5 * (again - inner).square().mean()
        move(2, loss + 0.3 * softplus(-d(restored)).mean(), index)
        move(0, softplus(-d(drawn)).mean(), index)
    return model


def test_the_game_is_the_game_written_by_hand(fabric):
    recipe = recipe_of()
    model, ema, parts, step = made(recipe, 5, fabric)
    before, expected = copy.deepcopy(model), by_hand(recipe, model, 5)
    for index in range(5):
        terms = step((index, batch_at(recipe, index)))
    for (name, mine), theirs in zip(model.named_parameters(), expected.parameters(), strict=True):
        assert_close(mine, theirs, rtol=1e-3, atol=2e-5, msg=name)
    for old, new in zip(before.parameters(), model.parameters(), strict=True):
        assert not old.equal(new)
    assert set(parts) == {"optimizer", "critic_optimizer", "restorer_optimizer"} and ema.updates == 5
    assert all(p.requires_grad for p in model.parameters())
    kept = {"pixel", "imagined", "discriminator", "generator", "verdict"}
    assert set(recipe.objective.reported) == kept <= set(terms)
    assert all(value.dim() == 0 and value.isfinite() for value in terms.values())


def test_the_generator_learns_nothing_from_the_restorer(fabric):
    """Two games that differ in what the restorer minimises: after one step the generators are the same to the bit."""
    found = []
    for imagined in (0.0, 5.0):
        recipe = recipe_of(imagined=imagined)
        model, _, _, step = made(recipe, 5, fabric)
        step((0, batch_at(recipe, 0)))
        found.append(model)
    first, second = found
    assert_close(first.gan.state_dict(), second.gan.state_dict(), rtol=0, atol=0)
    pairs = zip(first.estimator.parameters(), second.estimator.parameters(), strict=True)
    assert not all(a.equal(b) for a, b in pairs)


def test_a_pair_draws_and_restores():
    torch.manual_seed(0)
    model = Pair(CONFIG)
    for parameter in model.parameters():  # a new restorer returns its input, whatever it is told
        nn.init.normal_(parameter, 0.0, 0.2)
    generator = torch.Generator().manual_seed(3)
    assert model.sample(4, generator=generator).shape == (4, 1, 16, 16)
    y = torch.randn(2, 1, 16, 16)
    known = torch.rand(2, 1, 16, 16) < 0.5
    assert_close(model(y, known, 0.2), model.estimator(y, known, 0.2), rtol=0, atol=0)
    assert CONFIG.image_shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gan": GANConfig()}, r"the generator makes \(1, 28, 28\) and the restorer \(1, 16, 16\)"),
        ({"restorer": dataclasses.replace(RESTORER, critic_width=4)}, "critic_width is 4, expected 0"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imagined": -1.0}, "imagined is -1.0, expected at least 0"),
        ({"adversarial": 0.0}, "adversarial is 0.0, expected more than 0"),
        ({"feature": 0.1, "judge": "judge"}, "feature is 0.1"),
        ({"start": "first"}, "start 'first'"),
        ({"critic_lr": 0.0}, "critic_lr is 0.0"),
    ],
)
def test_an_objective_that_no_pair_can_have_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PairObjective(**change)


def test_a_training_that_was_cut_ends_with_the_same_bits_and_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("IMAGEGEN_BUDGET", raising=False)
    monkeypatch.setitem(recipes.RECIPES, "tiny-pair", recipe_of())

    def job(**options):
        return recipes.plan("tiny-pair", out=tmp_path, progress=False, log_every=10, steps=20, **options)

    assert recipes.train(job(deadline=0.0))["step"] == 10
    card = recipes.train(job())["card"]
    path = tmp_path / "runs/tiny-pair-custom/checkpoint.pt"
    resumed = load_checkpoint(path)
    recipes.train(job(), restart=True)
    whole = load_checkpoint(path)
    for part in ("model", "ema", "optimizer", "critic_optimizer", "restorer_optimizer"):
        assert_close(resumed[part], whole[part], rtol=0, atol=0)
    assert card["family"] == "pair" and set(card["training"]) == {
        *recipe_of().objective.reported,
        "fetch_share",
    }
    found = pretrained.load("tiny-pair", folder=tmp_path)
    assert type(found) is Pair and found.config == CONFIG
    assert PairConfig(**json.loads(json.dumps(dataclasses.asdict(CONFIG)))) == CONFIG
